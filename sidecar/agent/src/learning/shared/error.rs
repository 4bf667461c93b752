//! Why a stored bundle is not used, and why a store does not serve.

use stethos_bundle::BundleError;
use thiserror::Error;

use super::seal::KeyError;

/// A larger object is not read.
pub const LARGEST: u64 = 64 << 20;

/// A stored bundle is not used.
#[derive(Debug, Error)]
pub enum Refusal {
    #[error("it has {0} bytes; at most {LARGEST} are read")]
    TooLarge(u64),
    #[error("it is not signed")]
    Unsigned,
    #[error("it is signed with a key that is not trusted")]
    Untrusted,
    #[error("its signature does not belong to it")]
    Signature,
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("its card does not say what it is for")]
    Nameless,
    #[error("its {what} is {found:?}, not {wanted:?}")]
    Foreign {
        what: &'static str,
        found: String,
        wanted: String,
    },
}

impl Refusal {
    pub(super) fn foreign(what: &'static str, found: &str, wanted: &str) -> Self {
        Refusal::Foreign {
            what,
            found: found.to_owned(),
            wanted: wanted.to_owned(),
        }
    }

    /// One word, for counting.
    pub(super) fn cause(&self) -> Cause {
        match self {
            Refusal::TooLarge(_) => Cause::TooLarge,
            Refusal::Unsigned | Refusal::Untrusted | Refusal::Signature => Cause::Signature,
            Refusal::Bundle(_) => Cause::Damaged,
            Refusal::Nameless | Refusal::Foreign { .. } => Cause::Foreign,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    TooLarge,
    Signature,
    Damaged,
    Foreign,
}

/// The store did not do what it was asked for.
#[derive(Debug, Error)]
pub enum Failure {
    #[error("no answer within {0:?}")]
    TooLate(std::time::Duration),
    #[error(transparent)]
    Store(#[from] object_store::Error),
    #[error("others replace the bundle all the time")]
    Contended,
    /// The process is ending.
    #[error("the bundle could not be checked: {0}")]
    Check(#[from] tokio::task::JoinError),
}

/// A configuration of a shared store that cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("learning.store.url {url:?}: {reason}")]
    Url { url: String, reason: String },
    #[error("learning.store: {0}")]
    Key(#[from] KeyError),
}
