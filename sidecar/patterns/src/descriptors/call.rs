//! What goes into the table and what comes out.

use super::Exchange;
use crate::token::Outcome;
use crate::window::Role;

/// One finished call, as capture delivers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObservedCall {
    pub pid: u32,
    pub tid: u32,
    pub nr: u16,
    /// First argument of calls that take a descriptor there, -1 otherwise.
    pub fd: i32,
    /// Return value (-errno on error).
    pub ret: i64,
    pub enter_ns: u64,
    pub duration_ns: u64,
    /// Entered and never returned.
    pub no_return: bool,
}

impl ObservedCall {
    pub(super) fn end_ns(&self) -> u64 {
        self.enter_ns.saturating_add(self.duration_ns)
    }

    pub(super) fn outcome(&self) -> Outcome {
        if self.no_return {
            Outcome::NoReturn
        } else {
            Outcome::from_return(self.ret)
        }
    }

    /// The descriptor that the call returned.
    pub(super) fn returned_fd(&self) -> Option<i32> {
        i32::try_from(self.ret).ok().filter(|fd| *fd >= 0)
    }
}

/// What the table says about one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Of the descriptor the call works on; for calls that make one, of what they make.
    pub role: Role,
    /// The exchange that this call ended.
    pub exchange: Option<Exchange>,
}

impl Observed {
    pub(super) fn of(role: Role) -> Self {
        Observed {
            role,
            exchange: None,
        }
    }
}
