//! What `cargo xtask lab` starts, and what it breaks it with.

use std::path::Path;

use super::{Planner, System};

const APPLICATIONS: &str = "applications of the fault lab";
const FAULTS: &str = "faults of the fault lab";
/// Debian's Python finds it here.
const FUSE: &str = "/usr/lib/python3/dist-packages/fusepy.py";

impl Planner<'_> {
    /// One that cannot be brought is named before a trial that needs it.
    pub(super) fn lab_programs(&mut self) {
        if self.system != System::Debian12 || !self.machine.is_root() {
            return;
        }
        for (program, package) in [
            ("nginx", "nginx"),
            ("memcached", "memcached"),
            ("haproxy", "haproxy"),
            ("psql", "postgresql"),
            ("node", "nodejs"),
            ("/usr/bin/python3", "python3-minimal"),
        ] {
            self.program(program, package, package, APPLICATIONS);
        }
        for (program, package) in [
            ("nft", "nftables"),
            ("ip", "iproute2"),
            ("fusermount3", "fuse3"),
            ("redis-cli", "redis-tools"),
        ] {
            self.program(program, package, package, FAULTS);
        }
        if !self.machine.exists(Path::new(FUSE)) {
            let command = self.install_elsewhere("python3-fusepy");
            self.need("fusepy", FAULTS, &["python3-fusepy"], &command);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::MadeUp;
    use super::super::{Action, Scope};

    #[test]
    fn the_lab_brings_its_applications_and_nothing_else_does() {
        let machine = MadeUp::debian12(true).file("/usr/sbin/nginx");
        let packages = |scope| {
            let actions = machine.plan(scope).actions;
            actions.into_iter().find_map(|action| match action {
                Action::Packages(packages) => Some(packages),
                _ => None,
            })
        };
        let lab = packages(Scope::Lab).unwrap();
        for package in ["haproxy", "nftables", "python3-fusepy"] {
            assert!(lab.contains(&package), "{lab:?}");
        }
        assert!(!lab.contains(&"nginx"));
        let demo = packages(Scope::Demo).unwrap_or_default();
        assert!(!demo.contains(&"nftables"), "{demo:?}");
    }
}
