//! What a process publishes about itself for others to read (OTEP 4719): the resource of its
//! telemetry.

use std::{fs::File, os::unix::fs::FileExt as _};

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
};
use prost::Message;

const SIGNATURE: &[u8; 8] = b"OTEL_CTX";
const VERSION: u32 = 2;
/// Bytes of what is published that are read.
const MOST: u32 = 64 << 10;
/// Attributes that are taken, and bytes of a value.
const ATTRIBUTES: usize = 64;
const VALUE: usize = 1024;
/// How often what changes while it is read is read again.
const TRIES: usize = 3;

/// Names that the mapping has: of a file in memory, or without one.
const NAMES: [&str; 3] = [
    "/memfd:OTEL_CTX",
    "[anon_shmem:OTEL_CTX]",
    "[anon:OTEL_CTX]",
];

/// `opentelemetry.proto.processcontext.v1development.ProcessContext`.
#[derive(Clone, PartialEq, Message)]
struct ProcessContext {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    attributes: Vec<KeyValue>,
}

/// The attributes of the resource that a process publishes, as text; `maps` and `memory` are its own.
/// Empty where it publishes nothing, or nothing that can be read.
pub fn resource(maps: &str, memory: &File) -> Vec<(String, String)> {
    let mut places = maps.lines().filter_map(address);
    let payload = places.find_map(|at| (0..TRIES).find_map(|_| payload(memory, at)));
    payload.map_or_else(Vec::new, |payload| attributes(&payload))
}

/// Where a mapping begins, if it is the one.
fn address(line: &str) -> Option<u64> {
    let mut fields = line.splitn(6, ' ');
    let begins = fields.next()?.split('-').next()?;
    let name = fields.nth(4)?.trim_start();
    let is_it = NAMES.iter().any(|known| name.starts_with(known));
    is_it.then(|| u64::from_str_radix(begins, 16).ok())?
}

/// None where it is no such mapping, or changes meanwhile.
fn payload(memory: &File, at: u64) -> Option<Vec<u8>> {
    let header = header(memory, at)?;
    let mut payload = vec![0; header.bytes as usize];
    memory.read_exact_at(&mut payload, header.payload).ok()?;
    (self::header(memory, at)? == header).then_some(payload)
}

#[derive(PartialEq, Eq)]
struct Header {
    bytes: u32,
    published_ns: u64,
    payload: u64,
}

fn header(memory: &File, at: u64) -> Option<Header> {
    let mut bytes = [0; 32];
    memory.read_exact_at(&mut bytes, at).ok()?;
    let word = |at: usize| Some(u32::from_ne_bytes(*bytes[at..].first_chunk()?));
    let long = |at: usize| Some(u64::from_ne_bytes(*bytes[at..].first_chunk()?));
    let header = Header {
        bytes: word(12)?,
        published_ns: long(16)?,
        payload: long(24)?,
    };
    let whole = bytes.starts_with(SIGNATURE)
        && word(8)? == VERSION
        && header.bytes <= MOST
        && header.published_ns != 0;
    whole.then_some(header)
}

fn attributes(payload: &[u8]) -> Vec<(String, String)> {
    let resource = ProcessContext::decode(payload)
        .ok()
        .and_then(|context| context.resource)
        .filter(|resource| resource.attributes.iter().all(is_attribute));
    // Before there were attributes beside the resource, it was published alone.
    let resource = resource.or_else(|| Resource::decode(payload).ok());
    let attributes = resource.into_iter().flat_map(|found| found.attributes);
    attributes
        .filter(is_attribute)
        .filter_map(|attribute| Some((attribute.key, text(attribute.value?)?)))
        .take(ATTRIBUTES)
        .collect()
}

fn is_attribute(attribute: &KeyValue) -> bool {
    let key = &attribute.key;
    !key.is_empty() && !key.chars().any(char::is_control) && attribute.value.is_some()
}

fn text(value: AnyValue) -> Option<String> {
    let text = match value.value? {
        Value::StringValue(text) => text,
        Value::BoolValue(value) => value.to_string(),
        Value::IntValue(value) => value.to_string(),
        Value::DoubleValue(value) => value.to_string(),
        _ => return None,
    };
    (text.len() <= VALUE).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn attribute(key: &str, value: Value) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        }
    }

    fn published() -> Resource {
        Resource {
            attributes: vec![
                attribute("service.name", Value::StringValue("shop".into())),
                attribute("service.instance.id", Value::IntValue(7)),
                attribute("odd", Value::BytesValue(vec![1])),
            ],
            ..Resource::default()
        }
    }

    fn memory(header: &[u8], payload: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(header).unwrap();
        file.write_all(payload).unwrap();
        file
    }

    fn header(version: u32, bytes: u32, published_ns: u64) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend(version.to_ne_bytes());
        header.extend(bytes.to_ne_bytes());
        header.extend(published_ns.to_ne_bytes());
        header.extend(32_u64.to_ne_bytes());
        header
    }

    const MAPS: &str = "55d0-55d1 r--p 00000000 08:01 7    /bin/a b\n\
        0-1000 rw-s 00000000 00:01 9                  /memfd:OTEL_CTX (deleted)\n";

    fn pairs() -> Vec<(String, String)> {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        vec![
            pair("service.name", "shop"),
            pair("service.instance.id", "7"),
        ]
    }

    #[test]
    fn a_resource_is_read_in_both_forms() {
        let context = ProcessContext {
            resource: Some(published()),
            attributes: vec![attribute("threadlocal.x", Value::IntValue(1))],
        };
        for payload in [context.encode_to_vec(), published().encode_to_vec()] {
            let header = header(2, payload.len() as u32, 1);
            assert_eq!(resource(MAPS, &memory(&header, &payload)), pairs());
        }
    }

    #[test]
    fn what_is_not_whole_is_not_read() {
        let payload = published().encode_to_vec();
        let bytes = payload.len() as u32;
        for header in [
            header(1, bytes, 1),
            header(2, bytes, 0),
            header(2, MOST + 1, 1),
            header(2, bytes + 1, 1),
            b"OTEL_CTX".to_vec(),
        ] {
            assert_eq!(resource(MAPS, &memory(&header, &payload)), []);
        }
        let whole = header(2, bytes, 1);
        let elsewhere = MAPS.replace("OTEL_CTX", "OTEL");
        assert_eq!(resource(&elsewhere, &memory(&whole, &payload)), []);
        for cut in 0..payload.len() {
            let header = header_of(cut);
            let _ = resource(MAPS, &memory(&header, &payload[..cut]));
        }
    }

    fn header_of(bytes: usize) -> Vec<u8> {
        header(2, bytes as u32, 1)
    }
}
