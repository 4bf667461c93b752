//! A tracer that publishes what it knows of threads and processes, which tests read.

use std::path::{Path, PathBuf};

use super::servers::TESTS;
use super::{Action, Planner};

/// What is installed into its environment from PyPI.
pub(crate) const TRACER_PACKAGES: [&str; 1] = ["ddtrace==4.16.0"];
/// Another name where other packages are wanted.
const FOLDER: &str = "ddtrace-4.16.0";

impl Planner<'_> {
    /// An interpreter that has it.
    pub(super) fn tracer(&mut self, tools: &Path) -> PathBuf {
        if let Some(python) = self.machine.variable("STETHOS_TRACER") {
            return PathBuf::from(python);
        }
        let environment = tools.join(FOLDER);
        let python = environment.join("bin/python3");
        if self
            .machine
            .output(&python, &["-c", "import ddtrace"])
            .is_none()
            && let Some(interpreter) = self.python(TESTS)
        {
            self.actions.push(Action::Tracer {
                python: interpreter,
                environment,
            });
        }
        python
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::MadeUp;
    use super::*;
    use crate::setup::Scope;

    #[test]
    fn the_tracer_is_installed_for_tests_alone_and_once() {
        let machine = MadeUp::debian12(true);
        let installs = |machine: &MadeUp, scope| {
            let actions = machine.plan(scope).actions;
            let is_it = |action: &&Action| matches!(action, Action::Tracer { .. });
            actions.iter().filter(is_it).count()
        };
        assert_eq!(installs(&machine, Scope::Test), 1);
        assert_eq!(installs(&machine, Scope::Demo), 0);
        let python = "/t/tools/ddtrace-4.16.0/bin/python3";
        let again = machine.answers(&format!("{python} -c import ddtrace"), "");
        assert_eq!(again.plan(Scope::Test).tracer, Some(python.into()));
        assert_eq!(installs(&again, Scope::Test), 0);
    }

    #[test]
    fn the_folder_is_named_by_the_version() {
        let version = FOLDER.trim_start_matches("ddtrace-");
        assert_eq!(TRACER_PACKAGES[0], format!("ddtrace=={version}"));
    }
}
