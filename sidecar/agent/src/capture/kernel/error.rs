use aya::maps::MapError;
use thiserror::Error;

use crate::capture::{btf::BtfError, pod::MappingError, targets::TargetError};

#[derive(Debug, Error)]
pub enum KernelError {
    #[error("this stethos was built without kernel programs; run `cargo xtask build`")]
    NoPrograms,
    #[error("kernel programs could not be loaded: {0}; `stethos doctor` says what is missing")]
    Load(String),
    #[error(
        "capture needs {missing}, which this process does not have: {reason}; `stethos doctor` says more"
    )]
    Rights { missing: String, reason: String },
    #[error(
        "program {program} could not be loaded or attached: {reason}; `stethos doctor` says what is missing"
    )]
    Attach {
        program: &'static str,
        reason: String,
    },
    #[error("map {map}: {source}")]
    Map { map: &'static str, source: MapError },
    #[error("map {0} is missing from the kernel programs")]
    NoMap(&'static str),
    #[error(transparent)]
    Btf(#[from] BtfError),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Mapping(#[from] MappingError),
    #[error("the discovery program did not see this process; is the kernel sandboxed (gVisor)?")]
    NotDiscovered,
    #[error("{what} could not be made: {reason}")]
    Create { what: &'static str, reason: String },
    #[error("no room for another pod: {0}")]
    Full(String),
    #[error("{0} is watched already")]
    Watched(String),
    #[error("pinned objects in {path}: {reason}")]
    Pins { path: String, reason: String },
}

pub(super) fn map_error(map: &'static str, source: MapError) -> KernelError {
    KernelError::Map { map, source }
}

pub(super) fn attach_error(program: &'static str, error: &dyn std::error::Error) -> KernelError {
    KernelError::Attach {
        program,
        reason: chain(error),
    }
}

/// A refusal for lack of rights is told from other failures, and the rights are named.
pub(super) fn load_error(reason: String) -> KernelError {
    lacking(&reason).unwrap_or(KernelError::Load(reason))
}

/// The same for one program.
pub(super) fn program_error(program: &'static str, error: &dyn std::error::Error) -> KernelError {
    lacking(&chain(error)).unwrap_or_else(|| attach_error(program, error))
}

fn lacking(reason: &str) -> Option<KernelError> {
    let missing = missing_rights();
    (!missing.is_empty()).then(|| KernelError::Rights {
        missing: missing.join(" and "),
        reason: reason.to_owned(),
    })
}

/// Capabilities that capture needs and this process does not have in effect.
fn missing_rights() -> Vec<&'static str> {
    const SYS_ADMIN: u64 = 1 << 21;
    const NEEDED: [(u64, &str); 2] = [(1 << 39, "CAP_BPF"), (1 << 38, "CAP_PERFMON")];
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    match effective {
        Some(has) if has & SYS_ADMIN == 0 => NEEDED
            .iter()
            .filter(|(bit, _)| has & bit == 0)
            .map(|(_, name)| *name)
            .collect(),
        _ => Vec::new(),
    }
}

/// An error and its causes on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
