//! What is there, what is missing, and what brings it: decided without touching the machine.

mod grafana;
mod lab;
mod onnx;
mod servers;
mod tracer;

use std::path::{Path, PathBuf};

use super::machine::Machine;
use crate::compiler::{KernelCompiler, WasmCompiler};

pub(crate) use grafana::{GRAFANA_PACKAGES, NODE_VERSION, Node};
pub(crate) use onnx::ONNX_PACKAGES;
pub(crate) use servers::{
    GO_VERSION, Go, JAEGER_MODULE, JAEGER_VERSION, ROTEL_VERSION, VERSITYGW_VERSION,
};
pub(crate) use tracer::TRACER_PACKAGES;

pub(crate) const LLVM: &str = "/usr/lib/llvm-22/bin";
pub(crate) const BPF_LINKER_VERSION: &str = "0.13.0";

const DEBIAN_CORE_FOR_BPF: &str = "/usr/lib/rustlib/bpfel-unknown-none/lib";
const DEBIAN_STD_SOURCE: &str = "/usr/lib/rustlib/src/rust/library/std/Cargo.toml";

/// How much of the machine a task needs; each scope holds the ones before it, but that nothing else
/// needs what `Scoring` and `Lab` do, and tests need nothing of `Bench` and `Corpus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    Build,
    Demo,
    /// Applications of the fault lab, and what breaks them.
    Lab,
    /// ONNX Runtime, which the plugin is compared with.
    Scoring,
    /// Servers, their loads, and the tools that Stethos is compared with.
    Bench,
    /// Servers of every application type.
    Corpus,
    Test,
}

/// The compilers and tools that the tasks use; valid once `actions` ran and nothing is `missing`.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) kernel: KernelCompiler,
    pub(crate) wasm: WasmCompiler,
    pub(crate) bpf_linker: PathBuf,
    /// The collector's binary, below the tools folder unless `STETHOS_ROTEL` names another.
    pub(crate) rotel: Option<PathBuf>,
    /// The S3 server's binary, below the tools folder unless `STETHOS_S3_SERVER` names another.
    pub(crate) s3_server: Option<PathBuf>,
    /// The folder with Grafana's packages, below the tools folder unless `STETHOS_GRAFANA` names
    /// another.
    pub(crate) grafana: Option<PathBuf>,
    /// Jaeger's binary, below the tools folder unless `STETHOS_JAEGER` names another.
    pub(crate) jaeger: Option<PathBuf>,
    /// An interpreter that has the tracer, below the tools folder unless `STETHOS_TRACER` names another.
    pub(crate) tracer: Option<PathBuf>,
    /// Where `VERSION/vmlinuz` lie, below the tools folder unless `STETHOS_KERNELS` names another.
    pub(crate) kernels: Option<PathBuf>,
    /// An interpreter that has ONNX Runtime, below the tools folder.
    pub(crate) onnx: Option<PathBuf>,
    pub(crate) actions: Vec<Action>,
    pub(crate) missing: Vec<Missing>,
}

/// Something that set-up does by itself. The order of the variants is the order of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Install Debian packages; needs root.
    Packages(Vec<&'static str>),
    /// Build bpf-linker with cargo against Debian's LLVM 22.
    BpfLinker,
    /// Install the Rotel collector from PyPI into its own environment with this interpreter.
    Rotel { python: PathBuf },
    /// Build the versitygw S3 server with Go.
    S3Server(Go),
    /// Install Grafana's packages from npm into this folder.
    Grafana { node: Node, folder: PathBuf },
    /// Build Jaeger with Go.
    Jaeger(Go),
    /// Install the tracer from PyPI into this environment with this interpreter.
    Tracer {
        python: PathBuf,
        environment: PathBuf,
    },
    /// Install ONNX Runtime from PyPI into this environment with this interpreter.
    Onnx {
        python: PathBuf,
        environment: PathBuf,
    },
    /// Fetch Debian's kernel of this version, and note why when it cannot be had.
    Kernel(&'static str),
}

/// Something that set-up cannot bring here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) what: &'static str,
    pub(crate) why: &'static str,
    pub(crate) command: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum System {
    /// Debian 12, whose packages are known to work.
    Debian12,
    /// Another one, with its package manager's install command if known.
    Other(Option<&'static str>),
}

/// Looks at `machine` and decides. `tools` is the folder that set-up owns.
pub(crate) fn plan(machine: &dyn Machine, scope: Scope, tools: &Path) -> Plan {
    let mut planner = Planner {
        machine,
        system: system(machine),
        packages: Vec::new(),
        actions: Vec::new(),
        missing: Vec::new(),
    };
    let bpf_linker = bpf_linker_path(machine);
    let has_linker = machine.output(&bpf_linker, &["--version"]).is_some();
    let kernel = planner.kernel_compiler(has_linker);
    if !has_linker {
        planner.bpf_linker();
    }
    let wasm = planner.wasm_compiler();
    if scope >= Scope::Demo {
        planner.program("redis-server", "redis-server", "redis", "the demo's shop");
    }
    if scope == Scope::Lab {
        planner.lab_programs();
    }
    if matches!(scope, Scope::Bench | Scope::Corpus) {
        planner.bench_programs();
    }
    if scope == Scope::Corpus {
        planner.corpus_programs();
    }
    if scope >= Scope::Test {
        planner.program("nginx", "nginx", "nginx", "tests against a real server");
        planner.program("strace", "strace", "strace", "tests of call sequences");
    }
    let (mut rotel, mut s3_server, mut kernels) = (None, None, None);
    let (mut jaeger, mut grafana, mut tracer) = (None, None, None);
    if scope >= Scope::Test {
        rotel = Some(planner.rotel(tools));
        s3_server = Some(planner.s3_server(tools));
        jaeger = Some(planner.jaeger(tools));
        grafana = Some(planner.grafana(tools));
        tracer = Some(planner.tracer(tools));
        kernels = Some(planner.kernels(tools));
    }
    let onnx = (scope == Scope::Scoring).then(|| planner.onnx(tools));
    let (actions, missing) = planner.finish();
    Plan {
        kernel,
        wasm,
        bpf_linker,
        rotel,
        s3_server,
        grafana,
        jaeger,
        tracer,
        kernels,
        onnx,
        actions,
        missing,
    }
}

struct Planner<'a> {
    machine: &'a dyn Machine,
    system: System,
    packages: Vec<&'static str>,
    actions: Vec<Action>,
    missing: Vec<Missing>,
}

impl Planner<'_> {
    /// Debian's compiler where its BPF core library is, else a rustup nightly that can build
    /// one, else what is missing for either.
    fn kernel_compiler(&mut self, has_linker: bool) -> KernelCompiler {
        let debian = !self.machine.list(Path::new(DEBIAN_CORE_FOR_BPF)).is_empty()
            && self.machine.exists(Path::new("/usr/bin/cargo"))
            && self.machine.exists(Path::new("/usr/bin/rustc"));
        if debian {
            return KernelCompiler::Debian;
        }
        let nightly = nightly_with_source(self.machine);
        match (nightly, self.system) {
            (Some(toolchain), System::Other(_)) => KernelCompiler::Nightly { toolchain },
            (Some(toolchain), System::Debian12) if has_linker => {
                KernelCompiler::Nightly { toolchain }
            }
            _ => {
                self.need(
                    "a Rust compiler for BPF",
                    "kernel programs",
                    &["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"],
                    "rustup toolchain install nightly --profile minimal --component rust-src",
                );
                KernelCompiler::Debian
            }
        }
    }

    fn bpf_linker(&mut self) {
        if self.machine.exists(&Path::new(LLVM).join("llvm-config")) {
            self.actions.push(Action::BpfLinker);
            return;
        }
        let command = format!(
            "cargo install bpf-linker --version {BPF_LINKER_VERSION} --locked \
             --no-default-features --features llvm-22   (LLVM 22 with headers, its llvm-config on PATH)"
        );
        if self.need(
            "bpf-linker",
            "kernel programs",
            &["llvm-22-dev", "clang-22"],
            &command,
        ) {
            self.actions.push(Action::BpfLinker);
        }
    }

    /// The running toolchain where it has the target, else Debian's with its library source.
    fn wasm_compiler(&mut self) -> WasmCompiler {
        let rustc = self
            .machine
            .variable("RUSTC")
            .unwrap_or_else(|| "rustc".to_owned());
        let installed = self
            .machine
            .output(Path::new(&rustc), &["--print", "sysroot"])
            .map(|sysroot| Path::new(sysroot.trim()).join("lib/rustlib/wasm32-unknown-unknown/lib"))
            .is_some_and(|library| !self.machine.list(&library).is_empty());
        if installed {
            return WasmCompiler::Installed;
        }
        let wasm_ld = Path::new(LLVM).join("wasm-ld");
        let debian = [
            Path::new("/usr/bin/cargo"),
            Path::new("/usr/bin/rustc"),
            Path::new(DEBIAN_STD_SOURCE),
            &wasm_ld,
        ];
        if debian.iter().any(|file| !self.machine.exists(file)) {
            self.need(
                "a Rust compiler for wasm32-unknown-unknown",
                "plugins",
                &["rustc-web", "cargo-web", "rust-web-src", "lld-22"],
                "rustup target add wasm32-unknown-unknown",
            );
        }
        WasmCompiler::Debian
    }

    fn program(
        &mut self,
        program: &'static str,
        debian: &'static str,
        elsewhere: &str,
        why: &'static str,
    ) {
        let system = ["/usr/sbin", "/usr/bin", "/usr/local/bin"];
        let there = self.machine.on_path(program).is_some()
            || system
                .iter()
                .any(|folder| self.machine.exists(&Path::new(folder).join(program)));
        if !there {
            let command = self.install_elsewhere(elsewhere);
            self.need(program, why, &[debian], &command);
        }
    }

    /// What loads and peers of the benches are. A peer that cannot be brought is named by the bench
    /// as not measured.
    fn bench_programs(&mut self) {
        let why = "benches of real servers";
        self.program("redis-benchmark", "redis-tools", "redis", why);
        self.program("node", "nodejs", "nodejs", why);
        for program in ["nginx", "wrk", "haproxy", "memcached"] {
            self.program(program, program, program, why);
        }
        if self.system == System::Debian12 && self.machine.is_root() {
            self.program("perf", "linux-perf", "perf", why);
            for peer in ["bpftrace", "strace"] {
                self.program(peer, peer, peer, why);
            }
        }
    }

    /// Servers of the corpus. One that cannot be brought is left out of it, by name.
    fn corpus_programs(&mut self) {
        if self.system != System::Debian12 || !self.machine.is_root() {
            return;
        }
        let why = "recordings of real servers";
        for (program, package) in [
            ("apache2", "apache2-bin"),
            ("lighttpd", "lighttpd"),
            ("psql", "postgresql"),
            ("mariadbd", "mariadb-server"),
            ("mosquitto", "mosquitto"),
            ("rabbitmq-server", "rabbitmq-server"),
            ("nats-server", "nats-server"),
            ("javac", "default-jdk-headless"),
            ("go", "golang-go"),
        ] {
            self.program(program, package, package, why);
        }
    }

    /// Notes `packages` for installation where that is possible, else what is missing.
    fn need(
        &mut self,
        what: &'static str,
        why: &'static str,
        packages: &[&'static str],
        elsewhere: &str,
    ) -> bool {
        let command = match self.system {
            System::Debian12 if self.machine.is_root() => {
                for package in packages {
                    if !self.packages.contains(package) {
                        self.packages.push(package);
                    }
                }
                return true;
            }
            System::Debian12 => format!(
                "sudo apt-get install --no-install-recommends {}",
                packages.join(" ")
            ),
            System::Other(_) => elsewhere.to_owned(),
        };
        let missing = Missing { what, why, command };
        if !self.missing.contains(&missing) {
            self.missing.push(missing);
        }
        false
    }

    fn install_elsewhere(&self, package: &str) -> String {
        match self.system {
            System::Other(Some("sudo apt-get install")) if package == "redis" => {
                "sudo apt-get install redis-server".to_owned()
            }
            System::Other(Some("sudo apt-get install")) if package == "python3" => {
                "sudo apt-get install python3-venv".to_owned()
            }
            System::Other(Some(install)) => format!("{install} {package}"),
            _ => format!("install {package} with your package manager"),
        }
    }

    /// What is to be done, packages first, and what is missing.
    fn finish(mut self) -> (Vec<Action>, Vec<Missing>) {
        if !self.packages.is_empty() {
            self.actions.insert(0, Action::Packages(self.packages));
        }
        (self.actions, self.missing)
    }
}

fn system(machine: &dyn Machine) -> System {
    let release = machine
        .read(Path::new("/etc/os-release"))
        .unwrap_or_default();
    let field = |name: &str| {
        release
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(|value| value.trim_matches('"').to_owned())
            .unwrap_or_default()
    };
    if field("ID") == "debian" && field("VERSION_ID") == "12" {
        return System::Debian12;
    }
    let family = format!("{} {}", field("ID"), field("ID_LIKE"));
    let install = family.split_whitespace().find_map(|id| match id {
        "debian" | "ubuntu" => Some("sudo apt-get install"),
        "fedora" | "rhel" => Some("sudo dnf install"),
        "arch" => Some("sudo pacman -S"),
        "suse" | "opensuse" => Some("sudo zypper install"),
        "alpine" => Some("sudo apk add"),
        _ => None,
    });
    System::Other(install)
}

/// Where bpf-linker is or will be: on `PATH`, else where cargo installs to.
fn bpf_linker_path(machine: &dyn Machine) -> PathBuf {
    machine
        .on_path("bpf-linker")
        .unwrap_or_else(|| machine.cargo_home().join("bin/bpf-linker"))
}

fn nightly_with_source(machine: &dyn Machine) -> Option<String> {
    let toolchains = machine.rustup_home().join("toolchains");
    machine.list(&toolchains).into_iter().find(|name| {
        let core = "lib/rustlib/src/rust/library/core/Cargo.toml";
        name.starts_with("nightly") && machine.exists(&toolchains.join(name).join(core))
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
