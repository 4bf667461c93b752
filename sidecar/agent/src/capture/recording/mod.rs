//! Recordings: a stream of [`Record`](crate::record::Record)s in a file, so that everything after
//! capture runs again later, elsewhere and without rights, with the same result each time.
//!
//! The format is described in `docs/recording-format.md`. In short: a signature and a version,
//! then blocks, each compressed and checked on its own; the first holds the
//! [`Header`](crate::record::Header), the last the counts. A file that was cut off is readable up
//! to its last whole block, and reading it ends with an error that says so.

mod block;
mod entry;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::io;

pub use reader::RecordingReader;
pub use writer::RecordingWriter;

/// First bytes of every recording.
pub const SIGNATURE: [u8; 8] = *b"\x89STETHOS";

/// The version written, and the only one read.
pub const VERSION: u16 = 3;

/// Most bytes a block holds before compression, and so most bytes of one encoded record.
pub const MAX_BLOCK: usize = 1 << 20;

/// What a recording holds: in its end mark, in a writer so far, and in what was read of a
/// recording so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Blocks of records; the header and the end mark are not counted.
    pub blocks: u64,
    pub records: u64,
    /// Calls inside window records.
    pub calls: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            blocks,
            records,
            calls,
        } = self;
        write!(f, "{records} records with {calls} calls in {blocks} blocks")
    }
}

/// Why a recording cannot be read, or not any further.
#[derive(Debug, thiserror::Error)]
#[error("{file}: at byte {offset}: {reason}")]
pub struct RecordingError {
    /// The name that the reader was given.
    pub file: String,
    /// Where in the file: the start of the block that is at fault.
    pub offset: u64,
    pub reason: Reason,
}

impl RecordingError {
    /// True when the file is sound as far as it goes and was cut off, as by a kill of the
    /// recording process: the records before the cut are good.
    pub fn is_truncated(&self) -> bool {
        matches!(self.reason, Reason::Truncated { .. })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Reason {
    #[error("not a Stethos recording")]
    NotARecording,
    #[error("recording of format version {found}; this program reads version {VERSION}")]
    OtherVersion { found: u16 },
    #[error("the recording was cut off here, without an end mark; {whole} before this are whole")]
    Truncated { whole: Counts },
    #[error("damaged: {what}")]
    Damaged { what: &'static str },
    #[error("record of unknown kind {kind}")]
    UnknownRecord { kind: u8 },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why a record was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The record is left out; the writer goes on.
    #[error("a record takes {size} bytes; a recording holds at most {MAX_BLOCK} for one")]
    RecordTooLarge { size: usize },
    #[error("cannot encode a record: {0}")]
    Encoding(#[from] postcard::Error),
    #[error("cannot write the recording: {0}")]
    Io(#[from] io::Error),
}
