//! Why a sidecar's conversation with the broker ends.

use std::io;

use super::{identity::IdentityError, protocol::FrameError, refusals::Cause};
use crate::capture::kernel::KernelError;

/// Why a conversation ends.
pub(super) enum End {
    /// The sidecar hung up.
    Closed,
    Refused(Cause, String),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                End::Refused(Cause::Silence, "it neither asks nor reads".to_owned())
            }
            io::ErrorKind::InvalidData => {
                End::Refused(Cause::Protocol, "a message is too long".to_owned())
            }
            _ => End::Closed,
        }
    }
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> Self {
        End::Refused(Cause::Protocol, error.to_string())
    }
}

impl From<IdentityError> for End {
    fn from(error: IdentityError) -> Self {
        let cause = match error {
            IdentityError::OtherPod { .. } | IdentityError::Target(_) => Cause::Target,
            _ => Cause::Identity,
        };
        End::Refused(cause, error.to_string())
    }
}

impl From<KernelError> for End {
    fn from(error: KernelError) -> Self {
        let cause = match error {
            KernelError::Watched(_) => Cause::Target,
            _ => Cause::Room,
        };
        End::Refused(cause, error.to_string())
    }
}
