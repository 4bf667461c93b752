//! The frame around each block:
//!
//! | bytes | field |
//! | --- | --- |
//! | 1 | kind |
//! | 4 | stored length of the payload, little-endian |
//! | 4 | length of the payload after decompression, little-endian |
//! | 4 | CRC-32 (IEEE) of the nine bytes above and of the stored payload, little-endian |
//! | … | payload: one zstd frame |

use std::io::{self, Read, Write};

use super::{MAX_BLOCK, Reason};

const HEAD: usize = 13;
const COMPRESSION_LEVEL: i32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Header = 1,
    Records = 2,
    End = 3,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        [Kind::Header, Kind::Records, Kind::End]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// What reading a block gave. Nothing is allocated from a length before it is bounded.
pub(super) enum Input {
    Block {
        kind: Kind,
        payload: Vec<u8>,
        stored: u64,
    },
    /// The input ended inside this block, or where it should have begun.
    Cut,
}

/// Writes one block. `payload` is at most [`MAX_BLOCK`] long.
pub(super) fn write(out: &mut impl Write, kind: Kind, payload: &[u8]) -> io::Result<()> {
    let stored = zstd::bulk::compress(payload, COMPRESSION_LEVEL)?;
    let mut head = [0; HEAD];
    head[0] = kind as u8;
    head[1..5].copy_from_slice(&length(stored.len())?.to_le_bytes());
    head[5..9].copy_from_slice(&length(payload.len())?.to_le_bytes());
    let sum = checksum(&head[..9], &stored);
    head[9..].copy_from_slice(&sum.to_le_bytes());
    out.write_all(&head)?;
    out.write_all(&stored)
}

pub(super) fn read(input: &mut impl Read) -> Result<Input, Reason> {
    let mut head = Vec::with_capacity(HEAD);
    input.take(HEAD as u64).read_to_end(&mut head)?;
    let Ok(head) = <[u8; HEAD]>::try_from(head) else {
        return Ok(Input::Cut);
    };
    let kind = Kind::from_byte(head[0]).ok_or(Reason::Damaged {
        what: "unknown kind of block",
    })?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (stored_length, length, sum) = (word(1) as usize, word(5) as usize, word(9));
    if length > MAX_BLOCK || stored_length > zstd::zstd_safe::compress_bound(MAX_BLOCK) {
        return Err(Reason::Damaged {
            what: "impossible block length",
        });
    }
    let mut stored = Vec::new();
    input.take(stored_length as u64).read_to_end(&mut stored)?;
    if stored.len() < stored_length {
        return Ok(Input::Cut);
    }
    if checksum(&head[..9], &stored) != sum {
        return Err(Reason::Damaged {
            what: "checksum of a block does not match",
        });
    }
    let payload = zstd::bulk::decompress(&stored, length)
        .ok()
        .filter(|payload| payload.len() == length)
        .ok_or(Reason::Damaged {
            what: "a block does not decompress to its length",
        })?;
    Ok(Input::Block {
        kind,
        payload,
        stored: (HEAD + stored_length) as u64,
    })
}

fn checksum(head: &[u8], stored: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(stored);
    hasher.finalize()
}

fn length(length: usize) -> io::Result<u32> {
    u32::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}
