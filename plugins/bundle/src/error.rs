//! Why a bundle was refused.

/// Positions are byte offsets in the file.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BundleError {
    #[error("{name}: not a Stethos bundle, at byte {position}: {reason}")]
    Foreign {
        name: String,
        position: usize,
        reason: String,
    },
    #[error("{name}: truncated at byte {position}: {reason}")]
    Truncated {
        name: String,
        position: usize,
        reason: String,
    },
    #[error("{name}: damaged at byte {position}: {reason}")]
    Damaged {
        name: String,
        position: usize,
        reason: String,
    },
    #[error(
        "{name}: bundle format version {found} at byte {position}: this build reads version {supported}"
    )]
    Version {
        name: String,
        position: usize,
        found: String,
        supported: u32,
    },
    /// Undamaged, but its parts do not fit each other.
    #[error("{name}: inconsistent bundle, {part} at byte {position}: {reason}")]
    Inconsistent {
        name: String,
        part: String,
        position: usize,
        reason: String,
    },
}
