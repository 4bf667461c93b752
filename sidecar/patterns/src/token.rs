//! One finished call as the models see it: call and outcome class.

use serde::{Deserialize, Serialize};

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Outcome {
    /// Returned zero or more.
    Ok,
    /// Returned `-errno`.
    Errno(u8),
    /// Cut short by a signal or a stop: `EINTR` or one of the kernel's restart codes (-512…-516).
    Interrupted,
    /// Entered and never returned: the thread ended inside it (`exit_group`, a kill).
    NoReturn,
}

impl Outcome {
    /// Classifies a raw return value.
    pub fn from_return(ret: i64) -> Self {
        match ret {
            -4 | -516..=-512 => Outcome::Interrupted,
            -133..=-1 => Outcome::Errno(ret.unsigned_abs() as u8),
            _ => Outcome::Ok,
        }
    }

    /// True for an error that is not a normal part of non-blocking work
    /// (`EAGAIN`, `EINPROGRESS`, `EALREADY`).
    pub fn is_error(self) -> bool {
        matches!(self, Outcome::Errno(e) if !matches!(e, 11 | 115 | 114))
    }
}

/// A call number and its outcome. `call` is the kernel's number on the recorded architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Token {
    pub call: u16,
    pub outcome: Outcome,
}

impl Token {
    /// Events of this stream were lost here.
    pub const GAP: Token = Token {
        call: u16::MAX,
        outcome: Outcome::NoReturn,
    };

    /// Stands for a call whose number is not known. No architecture has it.
    pub const UNKNOWN_CALL: u16 = u16::MAX - 1;

    pub fn new(call: u16, ret: i64) -> Self {
        Token {
            call,
            outcome: Outcome::from_return(ret),
        }
    }

    /// One integer per distinct token: what similarity and hashing work on.
    pub fn code(self) -> u32 {
        let outcome = match self.outcome {
            Outcome::Ok => 0,
            Outcome::Errno(e) => u32::from(e),
            Outcome::Interrupted => 254,
            Outcome::NoReturn => 255,
        };
        u32::from(self.call) << 8 | outcome
    }
}
