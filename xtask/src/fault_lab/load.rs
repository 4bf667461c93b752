//! Clients of an application: a program that prints what became of its requests.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};

use super::effect::Second;
use crate::lab::{Inside, Lab};

pub(super) struct Load {
    process: Child,
    seconds: Arc<Mutex<Vec<Second>>>,
}

impl Load {
    pub(super) fn start(lab: &Lab, inside: &Inside, command: &mut Command) -> Result<Self> {
        let mut process = lab.spawn_inside("load", inside, command.stdout(Stdio::piped()))?;
        let output = process.stdout.take().context("no standard output")?;
        let seconds = Arc::new(Mutex::new(Vec::new()));
        let counted = Arc::clone(&seconds);
        thread::Builder::new()
            .name("load-lines".into())
            .spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if let Ok(second) = serde_json::from_str(&line) {
                        counted
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(second);
                    }
                }
            })?;
        Ok(Self { process, seconds })
    }

    pub(super) fn check(&mut self) -> Result<()> {
        let ended = self.process.try_wait()?;
        ensure!(ended.is_none(), "the clients ended by themselves");
        Ok(())
    }

    /// All so far.
    pub(super) fn seconds(&self) -> Vec<Second> {
        self.seconds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
