use std::io;

use super::{Format, MAX_CALLS, MAX_LINE};

/// Why a line (or a word of plain numbers) is left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    #[error("longer than {MAX_LINE} bytes")]
    TooLong,
    #[error("no call, signal or end of a thread")]
    NoCall,
    #[error("the call has no result")]
    NoResult,
    #[error("{0:?} is no result of a call")]
    Result(String),
    #[error("{0:?} is no time")]
    Time(String),
    #[error("{0:?} is no thread number")]
    Thread(String),
    #[error("no > or < where the direction of a call stands")]
    NoDirection,
    #[error("{0:?} is no call number")]
    Number(String),
}

/// As much of `text` as a message has room for.
pub(super) fn short(text: &str) -> String {
    const ROOM: usize = 40;
    let mut shown: String = text.chars().take(ROOM).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// Why inputs do not become a recording.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("cannot read {file}: {source}")]
    Read { file: String, source: io::Error },
    #[error("{file}: at line 1: nothing in it")]
    Empty { file: String },
    #[error(
        "{file}: at line 1: neither strace output nor LID-DS lines nor call numbers; --format \
         says what it is"
    )]
    Unrecognised { file: String },
    #[error("{file}: at line {line}: {reason}; no call in it can be read as {}", .format.name())]
    Nothing {
        file: String,
        line: u64,
        reason: LineError,
        format: Format,
    },
    #[error("{file}: no call in it; it was read as {}", .format.name())]
    NoCalls { file: String, format: Format },
    #[error(
        "{file} looks like {}, {first} like {}: import them one after the other, or say --format",
        .format.name(), .first_format.name()
    )]
    Mixed {
        file: String,
        format: Format,
        first: String,
        first_format: Format,
    },
    #[error("{file}: at line {line}: more than {MAX_CALLS} calls; import in parts")]
    TooMany { file: String, line: u64 },
}
