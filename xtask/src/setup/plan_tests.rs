use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// A machine of files, command outputs and variables.
#[derive(Default)]
pub(super) struct MadeUp {
    files: BTreeSet<PathBuf>,
    texts: BTreeMap<PathBuf, String>,
    outputs: BTreeMap<String, String>,
    pub(super) variables: BTreeMap<String, String>,
    root: bool,
    other_processor: bool,
}

impl Machine for MadeUp {
    fn exists(&self, path: &Path) -> bool {
        self.files.iter().any(|file| file.starts_with(path))
    }
    fn list(&self, folder: &Path) -> Vec<String> {
        let names: BTreeSet<String> = self
            .files
            .iter()
            .filter_map(|file| file.strip_prefix(folder).ok()?.iter().next())
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.into_iter().collect()
    }
    fn read(&self, path: &Path) -> Option<String> {
        self.texts.get(path).cloned()
    }
    fn output(&self, program: &Path, arguments: &[&str]) -> Option<String> {
        let line = format!("{} {}", program.display(), arguments.join(" "));
        self.outputs.get(&line).cloned()
    }
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
    fn is_root(&self) -> bool {
        self.root
    }
    fn is_x86_64(&self) -> bool {
        !self.other_processor
    }
}

impl MadeUp {
    pub(super) fn debian12(root: bool) -> Self {
        Self::with_release("ID=debian\nVERSION_ID=\"12\"\n", root)
            .file("/home/dev/.cargo/bin/cargo")
            .answers(
                "rustc --print sysroot",
                "/home/dev/.rustup/toolchains/stable\n",
            )
    }
    fn with_release(release: &str, root: bool) -> Self {
        let mut machine = Self {
            root,
            ..Self::default()
        };
        machine
            .texts
            .insert("/etc/os-release".into(), release.to_owned());
        machine
            .variables
            .insert("PATH".into(), "/home/dev/.cargo/bin:/usr/bin".into());
        machine.variables.insert("HOME".into(), "/home/dev".into());
        machine
    }
    pub(super) fn file(mut self, path: &str) -> Self {
        self.files.insert(path.into());
        self
    }
    pub(super) fn answers(mut self, command: &str, output: &str) -> Self {
        self.outputs.insert(command.into(), output.into());
        self
    }
    fn debian_rust(self) -> Self {
        self.file("/usr/bin/cargo")
            .file("/usr/bin/rustc")
            .file("/usr/lib/rustlib/bpfel-unknown-none/lib/libcore-1.rlib")
            .file("/usr/lib/rustlib/src/rust/library/std/Cargo.toml")
    }
    fn llvm(self) -> Self {
        self.file("/usr/lib/llvm-22/bin/llvm-config")
            .file("/usr/lib/llvm-22/bin/wasm-ld")
    }
    fn linker(self) -> Self {
        self.file("/home/dev/.cargo/bin/bpf-linker").answers(
            "/home/dev/.cargo/bin/bpf-linker --version",
            "bpf-linker 0.13.0",
        )
    }
    pub(super) fn plan(&self, scope: Scope) -> Plan {
        plan(self, scope, Path::new("/t/tools"))
    }
}

const NIGHTLY: &str =
    "/home/dev/.rustup/toolchains/nightly-x86_64/lib/rustlib/src/rust/library/core/Cargo.toml";
const WASM_STD: &str =
    "/home/dev/.rustup/toolchains/stable/lib/rustlib/wasm32-unknown-unknown/lib/libstd.rlib";

#[test]
fn a_bare_debian_gets_everything_once() {
    let plan = MadeUp::debian12(true)
        .file(&format!(
            "/usr/lib/{}-linux-gnu/libpython3.11.so.1.0",
            std::env::consts::ARCH
        ))
        .answers("/usr/bin/python3 -c import venv, ensurepip", "")
        .plan(Scope::Test);
    assert_eq!(plan.missing, []);
    assert_eq!(
        plan.actions,
        [
            Action::Packages(vec![
                "rustc-web",
                "cargo-web",
                "libstd-rust-web-dev-bpf",
                "llvm-22-dev",
                "clang-22",
                "rust-web-src",
                "lld-22",
                "redis-server",
                "nginx",
                "strace",
                "qemu-system-x86",
                "busybox-static",
            ]),
            Action::BpfLinker,
            Action::Rotel {
                python: "/usr/bin/python3".into()
            },
            Action::S3Server(Go::FromPython("/usr/bin/python3".into())),
            Action::Jaeger(Go::FromPython("/usr/bin/python3".into())),
            Action::Grafana {
                node: Node::FromPython("/usr/bin/python3".into()),
                folder: "/t/tools/grafana-12.4.0".into(),
            },
            Action::Tracer {
                python: "/usr/bin/python3".into(),
                environment: "/t/tools/ddtrace-4.16.0".into(),
            },
            Action::Kernel("6.1"),
            Action::Kernel("6.12"),
        ]
    );
    assert_eq!(plan.kernel, KernelCompiler::Debian);
    assert_eq!(plan.wasm, WasmCompiler::Debian);
}

#[test]
fn python_comes_from_debian_where_it_cannot_make_environments() {
    let plan = MadeUp::debian12(true).plan(Scope::Test);
    let Some(Action::Packages(packages)) = plan.actions.first() else {
        panic!("{:?}", plan.actions);
    };
    let python = ["python3", "python3-venv", "libpython3.11"];
    let together = packages.windows(python.len()).any(|run| run == python);
    assert!(together, "{packages:?}");
    assert!(plan.actions.contains(&Action::Rotel {
        python: "/usr/bin/python3".into()
    }));
}

#[test]
fn a_ready_machine_needs_nothing_and_no_root() {
    let plan = MadeUp::debian12(false)
        .debian_rust()
        .llvm()
        .linker()
        .file("/usr/bin/redis-server")
        .file("/usr/sbin/nginx")
        .file("/usr/bin/strace")
        .file("/usr/bin/qemu-system-x86_64")
        .file("/usr/bin/busybox")
        .file("/t/tools/kernels/6.1/vmlinuz")
        .file("/t/tools/kernels/6.12/vmlinuz")
        .answers(
            "/t/tools/rotel-0.0.1a15/bin/rotel-agent --version",
            "rotel-agent",
        )
        .answers("/t/tools/versitygw-1.8.0/bin/versitygw --version", "1.8.0")
        .answers("/t/tools/grafana-12.4.0/node --version", "v24.19.0")
        .answers("/t/tools/jaeger-2.13.0/bin/jaeger version", "{}")
        .answers("/t/tools/ddtrace-4.16.0/bin/python3 -c import ddtrace", "")
        .plan(Scope::Test);
    assert_eq!((plan.actions, plan.missing), (vec![], vec![]));
}

#[test]
fn the_demo_needs_neither_nginx_nor_a_collector() {
    let plan = MadeUp::debian12(true)
        .debian_rust()
        .llvm()
        .linker()
        .plan(Scope::Demo);
    assert_eq!(plan.actions, [Action::Packages(vec!["redis-server"])]);
    assert_eq!(
        (plan.rotel, plan.s3_server, plan.jaeger),
        (None, None, None)
    );
}

#[test]
fn benches_of_servers_need_loads_and_peers_and_no_collector() {
    let machine = MadeUp::debian12(true)
        .debian_rust()
        .llvm()
        .linker()
        .file("/usr/bin/redis-server");
    let plan = machine.plan(Scope::Bench);
    let packages = vec![
        "redis-tools",
        "nodejs",
        "nginx",
        "wrk",
        "haproxy",
        "memcached",
        "linux-perf",
        "bpftrace",
        "strace",
    ];
    assert_eq!(plan.actions, [Action::Packages(packages)]);
    assert_eq!((plan.rotel, plan.kernels), (None, None));
}

#[test]
fn a_peer_that_cannot_be_installed_stops_no_bench() {
    let plan = MadeUp::debian12(false)
        .debian_rust()
        .llvm()
        .linker()
        .plan(Scope::Bench);
    let missing = plan.missing.iter();
    let commands: Vec<&str> = missing.map(|one| one.command.as_str()).collect();
    assert!(commands.iter().any(|command| command.ends_with(" wrk")));
    let peer = |command: &&str| command.contains("bpftrace") || command.contains("perf");
    assert!(!commands.iter().any(peer), "{commands:?}");
}

#[test]
fn without_root_nothing_is_installed_and_every_gap_has_its_command() {
    let plan = MadeUp::debian12(false).plan(Scope::Demo);
    assert_eq!(plan.actions, []);
    let commands: Vec<&str> = plan
        .missing
        .iter()
        .map(|one| one.command.as_str())
        .collect();
    assert_eq!(
        commands,
        [
            "sudo apt-get install --no-install-recommends rustc-web cargo-web libstd-rust-web-dev-bpf",
            "sudo apt-get install --no-install-recommends llvm-22-dev clang-22",
            "sudo apt-get install --no-install-recommends rustc-web cargo-web rust-web-src lld-22",
            "sudo apt-get install --no-install-recommends redis-server",
        ]
    );
}

#[test]
fn bpf_linker_needs_no_root_where_llvm_is() {
    let plan = MadeUp::debian12(false)
        .debian_rust()
        .llvm()
        .plan(Scope::Build);
    assert_eq!(plan.actions, [Action::BpfLinker]);
    assert_eq!(plan.missing, []);
}

#[test]
fn rustup_serves_where_it_has_all_targets() {
    let plan = MadeUp::debian12(false)
        .linker()
        .file(NIGHTLY)
        .file(WASM_STD)
        .plan(Scope::Build);
    assert_eq!((plan.actions, plan.missing), (vec![], vec![]));
    assert_eq!(
        plan.kernel,
        KernelCompiler::Nightly {
            toolchain: "nightly-x86_64".into()
        }
    );
    assert_eq!(plan.wasm, WasmCompiler::Installed);
}

#[test]
fn another_distribution_is_told_its_own_commands() {
    let plan = MadeUp::with_release("ID=fedora\nVERSION_ID=44\n", true).plan(Scope::Demo);
    assert_eq!(plan.actions, []);
    let commands: Vec<&str> = plan
        .missing
        .iter()
        .map(|one| one.command.as_str())
        .collect();
    assert_eq!(
        commands[0],
        "rustup toolchain install nightly --profile minimal --component rust-src"
    );
    assert!(
        commands[1].starts_with("cargo install bpf-linker"),
        "{commands:?}"
    );
    assert_eq!(commands[2], "rustup target add wasm32-unknown-unknown");
    assert_eq!(commands[3], "sudo dnf install redis");
}

#[test]
fn ubuntu_is_not_debian() {
    let plan = MadeUp::with_release("ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\n", true)
        .linker()
        .file(NIGHTLY)
        .answers(
            "rustc --print sysroot",
            "/home/dev/.rustup/toolchains/stable",
        )
        .file(WASM_STD)
        .plan(Scope::Demo);
    assert_eq!(plan.missing.len(), 1);
    assert_eq!(plan.missing[0].command, "sudo apt-get install redis-server");
}

#[test]
fn a_linker_that_does_not_run_is_built_again() {
    let plan = MadeUp::debian12(true)
        .debian_rust()
        .llvm()
        .file("/home/dev/.cargo/bin/bpf-linker")
        .plan(Scope::Build);
    assert_eq!(plan.actions, [Action::BpfLinker]);
}

#[test]
fn a_collector_of_the_users_is_taken() {
    let mut machine = MadeUp::debian12(true).debian_rust().llvm().linker();
    machine
        .variables
        .insert("STETHOS_ROTEL".into(), "/opt/rotel".into());
    let plan = machine.plan(Scope::Test);
    assert_eq!(plan.rotel, Some("/opt/rotel".into()));
    assert!(
        !plan
            .actions
            .iter()
            .any(|action| matches!(action, Action::Rotel { .. }))
    );
}

#[test]
fn a_kernel_that_could_not_be_had_is_tried_again() {
    let plan = MadeUp::debian12(true)
        .file("/t/tools/kernels/6.1/missing")
        .file("/t/tools/kernels/6.12/vmlinuz")
        .plan(Scope::Test);
    assert_eq!(kernels_of(&plan), [Action::Kernel("6.1")]);
    assert_eq!(plan.kernels, Some("/t/tools/kernels".into()));
}

#[test]
fn kernels_of_the_users_are_taken() {
    let mut machine = MadeUp::debian12(true);
    machine
        .variables
        .insert("STETHOS_KERNELS".into(), "/opt/kernels".into());
    let plan = machine.plan(Scope::Test);
    assert_eq!(kernels_of(&plan), []);
    assert_eq!(plan.kernels, Some("/opt/kernels".into()));
}

#[test]
fn kernels_are_fetched_only_from_debian_and_for_its_processor() {
    let ubuntu = MadeUp::with_release("ID=ubuntu\nID_LIKE=debian\n", true).plan(Scope::Test);
    assert_eq!(kernels_of(&ubuntu), []);
    let mut other = MadeUp::debian12(true);
    other.other_processor = true;
    let plan = other.plan(Scope::Test);
    assert_eq!(kernels_of(&plan), []);
    let Some(Action::Packages(packages)) = plan.actions.first() else {
        panic!("{:?}", plan.actions);
    };
    assert!(!packages.contains(&"qemu-system-x86"), "{packages:?}");
}

fn kernels_of(plan: &Plan) -> Vec<Action> {
    let actions = plan.actions.iter();
    actions
        .filter(|action| matches!(action, Action::Kernel(_)))
        .cloned()
        .collect()
}
