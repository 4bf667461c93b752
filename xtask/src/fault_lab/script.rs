//! Scripts of applications and faults, and what they ask the lab for.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::variables::{Variables, WORK};
use crate::lab::{Inside, Lab, RelaySettings, RelayState, wait_for_end};

/// A script takes no longer.
const LIMIT: Duration = Duration::from_secs(60);
/// Where scripts and what they leave running are.
const GROUP: &str = "scripts";

pub(super) struct Script {
    title: String,
    /// `sh`'s arguments.
    arguments: Vec<PathBuf>,
}

impl Script {
    pub(super) fn file(path: &Path) -> Self {
        let title = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned());
        Self {
            title: title.unwrap_or_default(),
            arguments: vec![path.to_owned()],
        }
    }

    pub(super) fn text(title: &str, text: &str) -> Self {
        Self {
            title: title.to_owned(),
            arguments: vec!["-c".into(), text.into()],
        }
    }

    /// Gives what it printed.
    ///
    /// # Errors
    /// When it ends with another code than 0, or not at all, with the end of what it printed.
    pub(super) fn run(
        &self,
        lab: &Lab,
        inside: &Inside,
        variables: &Variables,
        work: &Path,
    ) -> Result<String> {
        let path = work.join("logs").join(format!("{}.script.log", self.title));
        let log = File::create(&path).with_context(|| path.display().to_string())?;
        let mut command = Command::new("sh");
        command.args(&self.arguments).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        // Nothing of who runs the lab: what scripts start inside of containers would show it.
        variables.give_to(command.env_clear());
        let mut inside = inside.try_clone()?;
        inside.folder = Some(WORK.into());
        if self.title == "network" {
            // The folder is not there yet.
            inside.folder = None;
        }
        let mut child = lab.spawn_inside(GROUP, &inside, &mut command)?;
        let ended = wait_for_end(&mut child, LIMIT);
        let said = fs::read_to_string(&path).unwrap_or_default();
        let place = || {
            let script = self.arguments.last().filter(|path| path.is_absolute());
            script.map_or_else(|| self.title.clone(), |path| path.display().to_string())
        };
        let status = ended.with_context(|| format!("{}: {}", place(), said.trim()))?;
        ensure!(status.success(), "{}: {status}: {}", place(), said.trim());
        Ok(said)
    }
}

/// Reads `KEY=VALUE` lines: `delay_ms`, `bytes_per_second`, `state` (`pass`, `hold`, `reset`).
pub(super) fn relay_settings(text: &str) -> Result<RelaySettings> {
    let mut settings = RelaySettings::default();
    for word in text.split_whitespace() {
        let (key, value) = word
            .split_once('=')
            .with_context(|| format!("{word:?}: no ="))?;
        let number = || {
            value
                .parse::<u32>()
                .with_context(|| format!("{word:?}: no number"))
        };
        match key {
            "delay_ms" => settings.delay = Duration::from_millis(number()?.into()),
            "bytes_per_second" => settings.bytes_per_second = number()?,
            "state" => {
                settings.state = match value {
                    "pass" => RelayState::Pass,
                    "hold" => RelayState::Hold,
                    "reset" => RelayState::Reset,
                    _ => bail!("{word:?}: none of pass, hold, reset"),
                }
            }
            _ => bail!("{word:?}: none of delay_ms, bytes_per_second, state"),
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_a_relay_are_words() {
        let settings = relay_settings("delay_ms=40 state=hold\n").unwrap();
        assert_eq!(settings.delay, Duration::from_millis(40));
        assert_eq!(settings.state, RelayState::Hold);
        assert_eq!(relay_settings("").unwrap(), RelaySettings::default());
        for bad in ["delay=4", "delay_ms=x", "state=odd", "hold"] {
            let said = relay_settings(bad).unwrap_err().to_string();
            assert!(said.contains(bad), "{said}");
        }
    }
}
