//! ONNX Runtime, which `cargo xtask bench scoring` measures the plugin against.

use std::path::{Path, PathBuf};

use super::{Action, Planner};

pub(crate) const ONNXRUNTIME_VERSION: &str = "1.32.0";
/// What is installed into its environment from PyPI.
pub(crate) const ONNX_PACKAGES: [&str; 3] = ["onnxruntime==1.32.0", "onnx==1.23.2", "numpy==2.4.6"];

impl Planner<'_> {
    /// An interpreter that has it.
    pub(super) fn onnx(&mut self, tools: &Path) -> PathBuf {
        let environment = tools.join(format!("onnxruntime-{ONNXRUNTIME_VERSION}"));
        let python = environment.join("bin/python3");
        let modules = ["-c", "import numpy, onnx, onnxruntime"];
        if self.machine.output(&python, &modules).is_none()
            && let Some(interpreter) = self.python("the bench of scoring")
        {
            self.actions.push(Action::Onnx {
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

    const PYTHON: &str = "/t/tools/onnxruntime-1.32.0/bin/python3";

    fn with_redis() -> MadeUp {
        MadeUp::debian12(true).file("/usr/bin/redis-server")
    }

    #[test]
    fn onnx_runtime_is_installed_for_its_bench_alone_and_once() {
        let library = format!(
            "/usr/lib/{}-linux-gnu/libpython3.11.so.1.0",
            std::env::consts::ARCH
        );
        let machine = with_redis()
            .file(&library)
            .answers("/usr/bin/python3 -c import venv, ensurepip", "");
        let plan = machine.plan(Scope::Scoring);
        assert_eq!(plan.onnx, Some(PYTHON.into()));
        let install = Action::Onnx {
            python: "/usr/bin/python3".into(),
            environment: "/t/tools/onnxruntime-1.32.0".into(),
        };
        assert!(plan.actions.contains(&install), "{:?}", plan.actions);
        assert!(!machine.plan(Scope::Test).actions.contains(&install));

        let imports = format!("{PYTHON} -c import numpy, onnx, onnxruntime");
        let again = machine.answers(&imports, "").plan(Scope::Scoring);
        assert_eq!(again.onnx, Some(PYTHON.into()));
        assert!(!again.actions.contains(&install));
    }

    #[test]
    fn the_version_is_that_of_the_package() {
        assert_eq!(
            ONNX_PACKAGES[0],
            format!("onnxruntime=={ONNXRUNTIME_VERSION}")
        );
    }
}
