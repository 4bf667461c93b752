//! What the calling thread may do, and what it starts: given up once capture is prepared.

use std::{collections::HashSet, io};

use caps::{CapSet, Capability, errors::CapsError};
use thiserror::Error;

/// With both, files and peers of other users' processes can be named: `/proc` of such a process is
/// opened by the first, and shown by the second.
pub(super) const TO_NAME_FILES: [Capability; 2] =
    [Capability::CAP_DAC_READ_SEARCH, Capability::CAP_SYS_PTRACE];

#[derive(Debug, Error)]
pub enum RightsError {
    #[error("capabilities cannot be given up: {0}")]
    Capabilities(#[from] CapsError),
    #[error("no_new_privs cannot be set: {0}")]
    NoNewPrivileges(io::Error),
}

/// Keeps only those of `kept` that are in effect; what the thread executes from then on has none.
/// Gives what is left.
///
/// Without `CAP_SETPCAP` the bounding set stays as it was: with `no_new_privs` it grants nothing.
pub(super) fn keep_only(kept: &[Capability]) -> Result<HashSet<Capability>, RightsError> {
    caps::clear(None, CapSet::Ambient)?;
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        caps::clear(None, CapSet::Bounding)?;
    }
    caps::clear(None, CapSet::Inheritable)?;
    let mut left = caps::read(None, CapSet::Effective)?;
    left.retain(|capability| kept.contains(capability));
    caps::set(None, CapSet::Effective, &left)?;
    caps::set(None, CapSet::Permitted, &left)?;
    // SAFETY: no memory arguments.
    match unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } {
        0 => Ok(left),
        _ => Err(RightsError::NoNewPrivileges(io::Error::last_os_error())),
    }
}
