//! The bundle file: a safetensors file, so that any safetensors reader shows the tensors and
//! the metadata.
//!
//! Layout: header length (8 bytes, little endian), header (JSON, padded with spaces to a
//! multiple of 8), tensor bytes. The tensors are the plugin's model. `__metadata__` holds,
//! each value a string:
//!
//! | key | value |
//! | --- | --- |
//! | `stethos.format` | `stethos-bundle` |
//! | `stethos.version` | [`VERSION`] |
//! | `stethos.digest` | SHA-256 of the whole file, in lower-case hexadecimal, computed with these 64 characters set to `0` |
//! | `stethos.card`, `.vocabulary`, `.patterns`, `.thresholds`, `.baseline`, `.usage`, `.profile_layout` | that part of the [`Bundle`] as JSON |
//!
//! Header keys are sorted, so equal bundles give equal bytes.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::check::check;
use crate::{Bundle, BundleError};

/// Version of the file format.
pub const VERSION: u32 = 4;

const FORMAT: &str = "stethos-bundle";
const METADATA: &str = "__metadata__";
const LENGTH_BYTES: usize = 8;
/// A longer header is taken for a foreign file.
const MAX_HEADER: usize = 100_000_000;
const DIGEST_LENGTH: usize = 64;

type Header = BTreeMap<String, Value>;

pub(crate) fn write(bundle: &Bundle) -> Result<Vec<u8>, BundleError> {
    encode(bundle).map(|(bytes, _)| bytes)
}

pub(crate) fn digest(bundle: &Bundle) -> Result<String, BundleError> {
    encode(bundle).map(|(_, digest)| digest)
}

/// File and digest.
fn encode(bundle: &Bundle) -> Result<(Vec<u8>, String), BundleError> {
    let file = Source {
        bytes: &bundle.model,
        name: "new bundle",
    };
    check(bundle).map_err(|misfit| file.inconsistent(misfit.part, misfit.reason))?;
    let (mut header, tensors) = file.split()?;
    let mut metadata = BTreeMap::from([
        ("stethos.format".to_owned(), FORMAT.to_owned()),
        ("stethos.version".to_owned(), VERSION.to_string()),
        ("stethos.digest".to_owned(), "0".repeat(DIGEST_LENGTH)),
    ]);
    let mut put = |part: &str, json: Result<String, serde_json::Error>| {
        let json = json.map_err(|e| file.inconsistent(part, e.to_string()))?;
        metadata.insert(key(part), json);
        Ok::<(), BundleError>(())
    };
    put("card", json(&bundle.card))?;
    put("vocabulary", json(&bundle.vocabulary))?;
    put("patterns", json(&bundle.patterns))?;
    put("thresholds", json(&bundle.thresholds))?;
    put("baseline", json(&bundle.baseline))?;
    put("usage", json(&bundle.usage))?;
    put("profile_layout", json(&bundle.profile_layout))?;
    let metadata = metadata
        .into_iter()
        .map(|(k, v)| (k, Value::String(v)))
        .collect();
    header.insert(METADATA.to_owned(), Value::Object(metadata));

    let mut bytes =
        join(&header, tensors).map_err(|e| file.inconsistent("model", e.to_string()))?;
    let at = digest_position(&bytes)
        .ok_or_else(|| file.inconsistent("digest", "its place is missing".to_owned()))?;
    let digest = hex(&Sha256::digest(&bytes));
    bytes[at..at + DIGEST_LENGTH].copy_from_slice(digest.as_bytes());
    Ok((bytes, digest))
}

pub(crate) fn read(bytes: &[u8], name: &str) -> Result<Bundle, BundleError> {
    let file = Source { bytes, name };
    let (mut header, tensors) = file.split()?;
    let metadata = match header.remove(METADATA) {
        Some(Value::Object(metadata)) => metadata,
        _ => return Err(file.foreign(LENGTH_BYTES, "no metadata in the safetensors header")),
    };
    let text = |part: &str| metadata.get(&key(part)).and_then(Value::as_str);
    if text("format") != Some(FORMAT) {
        return Err(file.foreign(LENGTH_BYTES, "the metadata does not name a Stethos bundle"));
    }
    if text("version") != Some(VERSION.to_string().as_str()) {
        return Err(BundleError::Version {
            name: name.to_owned(),
            position: file.position("version"),
            found: text("version").unwrap_or("none").to_owned(),
            supported: VERSION,
        });
    }
    file.check_digest()?;

    let section = |part: &str| text(part).ok_or_else(|| file.damaged(part, "part is missing"));
    let model = join(&header, tensors).map_err(|e| file.inconsistent("model", e.to_string()))?;
    let bundle = Bundle {
        card: file.parse("card", section("card")?)?,
        vocabulary: file.parse("vocabulary", section("vocabulary")?)?,
        patterns: file.parse("patterns", section("patterns")?)?,
        thresholds: file.parse("thresholds", section("thresholds")?)?,
        baseline: file.parse("baseline", section("baseline")?)?,
        usage: file.parse("usage", section("usage")?)?,
        profile_layout: file.parse("profile_layout", section("profile_layout")?)?,
        model,
    };
    check(&bundle).map_err(|misfit| file.inconsistent(misfit.part, misfit.reason))?;
    Ok(bundle)
}

/// A file and its name, for messages.
struct Source<'a> {
    bytes: &'a [u8],
    name: &'a str,
}

impl<'a> Source<'a> {
    /// Header and tensor bytes, whose length is what the header says.
    fn split(&self) -> Result<(Header, &'a [u8]), BundleError> {
        let length = self.bytes.len();
        let Some((prefix, rest)) = self.bytes.split_first_chunk::<LENGTH_BYTES>() else {
            return Err(self.truncated("the header's length takes 8 bytes".to_owned()));
        };
        let header_length = usize::try_from(u64::from_le_bytes(*prefix)).unwrap_or(usize::MAX);
        if header_length > MAX_HEADER || rest.first().is_some_and(|&byte| byte != b'{') {
            return Err(self.foreign(0, "no safetensors header"));
        }
        let Some((header, tensors)) = rest.split_at_checked(header_length) else {
            let reason = format!("the header ends at byte {}", LENGTH_BYTES + header_length);
            return Err(self.truncated(reason));
        };
        let header: Header = serde_json::from_slice(header).map_err(|e| BundleError::Damaged {
            name: self.name.to_owned(),
            position: LENGTH_BYTES + e.column(),
            reason: format!("header: {e}"),
        })?;
        let ends = header
            .iter()
            .filter(|(name, _)| *name != METADATA)
            .filter_map(|(_, tensor)| {
                tensor
                    .get("data_offsets")
                    .and_then(|range| range.get(1))
                    .and_then(Value::as_u64)
            });
        let start = LENGTH_BYTES + header_length;
        let tensor_bytes = usize::try_from(ends.max().unwrap_or(0)).unwrap_or(usize::MAX);
        let end = start.saturating_add(tensor_bytes);
        if length < end {
            return Err(self.truncated(format!("the tensors end at byte {end}")));
        }
        if length > end {
            return Err(BundleError::Damaged {
                name: self.name.to_owned(),
                position: end,
                reason: format!("{} bytes follow the tensors", length - end),
            });
        }
        Ok((header, tensors))
    }

    fn check_digest(&self) -> Result<(), BundleError> {
        let missing = || self.damaged("digest", "part is missing");
        let at = digest_position(self.bytes).ok_or_else(missing)?;
        let (before, rest) = self.bytes.split_at_checked(at).ok_or_else(missing)?;
        let (written, after) = rest.split_at_checked(DIGEST_LENGTH).ok_or_else(missing)?;
        let mut hash = Sha256::new();
        hash.update(before);
        hash.update([b'0'; DIGEST_LENGTH]);
        hash.update(after);
        if hex(&hash.finalize()).as_bytes() != written {
            return Err(self.damaged("digest", "the digest does not match the file"));
        }
        Ok(())
    }

    fn parse<T: DeserializeOwned>(&self, part: &str, text: &str) -> Result<T, BundleError> {
        serde_json::from_str(text).map_err(|e| self.inconsistent(part, e.to_string()))
    }

    /// Where a part's key starts; the header's start if it is not there.
    fn position(&self, part: &str) -> usize {
        let wanted = format!("\"{}\":", key(part));
        find(self.bytes, wanted.as_bytes()).unwrap_or(LENGTH_BYTES)
    }

    fn foreign(&self, position: usize, reason: &str) -> BundleError {
        BundleError::Foreign {
            name: self.name.to_owned(),
            position,
            reason: reason.to_owned(),
        }
    }

    fn truncated(&self, reason: String) -> BundleError {
        BundleError::Truncated {
            name: self.name.to_owned(),
            position: self.bytes.len(),
            reason,
        }
    }

    fn damaged(&self, part: &str, reason: &str) -> BundleError {
        BundleError::Damaged {
            name: self.name.to_owned(),
            position: self.position(part),
            reason: format!("{part}: {reason}"),
        }
    }

    fn inconsistent(&self, part: &str, reason: String) -> BundleError {
        BundleError::Inconsistent {
            name: self.name.to_owned(),
            part: part.to_owned(),
            position: self.position(part),
            reason,
        }
    }
}

fn key(part: &str) -> String {
    format!("stethos.{part}")
}

fn json<T: Serialize>(part: &T) -> Result<String, serde_json::Error> {
    serde_json::to_string(part)
}

fn join(header: &Header, tensors: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let mut header = serde_json::to_vec(header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = Vec::with_capacity(LENGTH_BYTES + header.len() + tensors.len());
    bytes.extend_from_slice(&(header.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(tensors);
    Ok(bytes)
}

/// Where the digest's characters start. The quotes of a key cannot occur unescaped inside a JSON
/// string, so the first match is the key itself.
fn digest_position(bytes: &[u8]) -> Option<usize> {
    let wanted = b"\"stethos.digest\":\"";
    find(bytes, wanted).map(|at| at + wanted.len())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
