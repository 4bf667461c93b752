//! `stethos doctor`: what works here, what does not, and why.
//!
//! `probe` looks at the machine and judges nothing; `judge` turns what was found into checks and
//! touches nothing; `report` prints them.

mod bpf;
mod broker;
mod collector;
mod judge;
mod parse;
mod probe;
mod report;

use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

pub use broker::Broker;
pub use collector::Endpoint;
pub use judge::{Check, Judgement, State, judge};
pub use probe::{Probes, probe};

/// What the doctor is told about the sidecar that would run here.
#[derive(Clone, Debug)]
pub struct Setup {
    pub state_dir: PathBuf,
    pub export: Export,
    /// Where a node broker would listen; none when the sidecar would use none.
    pub node_socket: Option<PathBuf>,
    /// Sizes in bytes of what this binary carries; 0 when it was built without.
    pub kernel_programs: usize,
    pub generic_plugin: usize,
}

/// Where diagnoses would be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Export {
    /// Nowhere, by the key or variable named here.
    Off(String),
    /// The settings cannot be followed, for this reason.
    Unclear(String),
    /// Signal (`logs`, `traces`) and URL.
    To(Vec<(String, String)>),
}

/// Probes, judges and prints. Gives the exit code: 0 when all works, 1 when something is missing
/// that Stethos can do without, 2 when it cannot capture here.
pub fn run(setup: &Setup, json: bool, out: &mut dyn Write) -> io::Result<u8> {
    let judgement = judge(&probe(setup));
    if json {
        report::json(&judgement, out)?;
    } else {
        report::table(&judgement, out)?;
    }
    Ok(judgement.exit_code())
}
