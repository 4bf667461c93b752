//! What is accepted in a container, on disk: JSON beside its bundle.

use std::{fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::store::{Key, Store, StoreError, write_whole};
use crate::accepted::{Accepted, MOST, Thing, Took};

/// The format written, and the only one read.
const FORMAT: u32 = 1;
/// A longer file is refused.
const LONGEST: u64 = 4 << 20;

/// Why a file is not used.
#[derive(Debug, Error)]
pub(super) enum KeptError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: {reason}")]
    Damaged { path: PathBuf, reason: String },
}

/// What an operator's acceptances have left to do and to remember.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Kept {
    pub(super) accepted: Accepted,
    /// The model that what was learned anew replaces in the shared store, until it has.
    pub(super) supersedes: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    accepted: Vec<Entry>,
    relearning: bool,
    supersedes: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    thing: Thing,
    took: Took,
}

impl Store {
    pub(super) fn kept_path(&self, key: &Key) -> PathBuf {
        self.path(key).with_extension("accepted.json")
    }

    pub(super) fn keep_accepted(&self, key: &Key, kept: &Kept) -> Result<(), StoreError> {
        let entries = kept.accepted.things().map(|(thing, took)| Entry {
            thing: thing.clone(),
            took,
        });
        let file = File {
            format: FORMAT,
            accepted: entries.collect(),
            relearning: kept.accepted.relearning,
            supersedes: kept.supersedes.clone(),
        };
        let path = self.kept_path(key);
        let bytes = serde_json::to_vec_pretty(&file).map_err(|error| StoreError::Io {
            path: path.clone(),
            source: error.into(),
        })?;
        write_whole(&path, &bytes)
    }

    /// Nothing where there is no file.
    pub(super) fn kept(&self, key: &Key) -> Result<Kept, KeptError> {
        let path = self.kept_path(key);
        let bytes = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::default()),
            Ok(file) if file.len() > LONGEST => {
                let reason = format!("{} bytes; at most {LONGEST} are read", file.len());
                return Err(KeptError::Damaged { path, reason });
            }
            found => found.and_then(|_| fs::read(&path)),
        };
        let bytes = bytes.map_err(|source| KeptError::Io {
            path: path.clone(),
            source,
        })?;
        parse(&bytes).map_err(|reason| KeptError::Damaged { path, reason })
    }
}

fn parse(bytes: &[u8]) -> Result<Kept, String> {
    let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if file.format != FORMAT {
        return Err(format!(
            "format {}; this program reads format {FORMAT}",
            file.format
        ));
    }
    if file.accepted.len() > MOST {
        return Err(format!("more than {MOST} things are accepted"));
    }
    let mut accepted = match file.relearning {
        true => Accepted::relearning(),
        false => Accepted::default(),
    };
    for entry in file.accepted {
        accepted.add(entry.thing, entry.took);
    }
    Ok(Kept {
        accepted,
        supersedes: file.supersedes,
    })
}

#[cfg(test)]
mod tests {
    use stethos_patterns::Token;

    use super::*;

    fn kept() -> Kept {
        let mut accepted = Accepted::relearning();
        let took = Took {
            median_ns: 5,
            tail_ns: 7,
        };
        let peer = "10.0.0.7:80".to_owned();
        accepted.add(Thing::SlowExchange { peer }, took);
        accepted.add(Thing::OutOfMemory, Took::default());
        let error = Thing::Error {
            token: Token::new(42, -111),
            subject: Some("10.0.0.7:80".to_owned()),
        };
        accepted.add(error, Took::default());
        Kept {
            accepted,
            supersedes: Some("old".to_owned()),
        }
    }

    #[test]
    fn what_is_kept_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let key = Key::new("api", "x86_64", "api", &[]);
        assert_eq!(store.kept(&key).unwrap(), Kept::default());
        store.keep_accepted(&key, &kept()).unwrap();
        assert_eq!(store.kept(&key).unwrap(), kept());
        let other = Key::new("db", "x86_64", "api", &[]);
        assert_eq!(store.kept(&other).unwrap(), Kept::default());
    }

    #[test]
    fn a_damaged_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let key = Key::new("api", "x86_64", "api", &[]);
        store.keep_accepted(&key, &kept()).unwrap();
        let sound = fs::read_to_string(store.kept_path(&key)).unwrap();
        for damaged in [
            sound[..sound.len() / 2].to_owned(),
            sound.replace("\"format\": 1", "\"format\": 2"),
            sound.replace("\"relearning\"", "\"other\""),
            sound.replace("out_of_memory", "everything"),
        ] {
            assert_ne!(damaged, sound);
            fs::write(store.kept_path(&key), damaged).unwrap();
            let error = store.kept(&key).unwrap_err().to_string();
            assert!(
                error.contains("api-") && error.contains("accepted"),
                "{error}"
            );
        }
    }
}
