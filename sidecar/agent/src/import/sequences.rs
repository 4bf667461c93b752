//! What a sequence of an imported recording is called.

use std::collections::HashMap;

use super::{CAPTURE_MODE, assembly::MAX_PID};
use crate::record::{Header, Record};

/// Names of the threads of a recording: the input that they come from, and their number there.
pub struct SequenceNames {
    imported: bool,
    inputs: HashMap<u32, String>,
}

impl SequenceNames {
    pub fn new(header: &Header) -> Self {
        SequenceNames {
            imported: header.capture_mode == CAPTURE_MODE,
            inputs: HashMap::new(),
        }
    }

    pub fn on_record(&mut self, record: &Record) {
        if let Record::Process(process) = record
            && self.imported
            && let [input] = &process.command_line[..]
        {
            self.inputs.insert(process.pid, input.clone());
        }
    }

    /// None for threads that were not imported.
    pub fn name(&self, pid: u32, tid: u32) -> Option<String> {
        let input = self.inputs.get(&pid)?;
        let numbered = tid != pid || pid <= MAX_PID;
        Some(match numbered {
            true => format!("{input}:{tid}"),
            false => input.clone(),
        })
    }
}
