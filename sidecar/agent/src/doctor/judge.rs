//! What the findings mean. Pure: every case can be tested anywhere.

mod broker;
mod resources;

use serde::Serialize;

use super::Export;
use super::bpf::Answer;
use super::broker::Broker;
use super::collector::Endpoint;
use super::parse;
use super::probe::Probes;

/// Oldest kernel with ring buffers and `CAP_BPF`.
const OLDEST_KERNEL: (u32, u32) = (5, 8);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Works,
    /// Worth knowing; nothing is missing.
    Note,
    /// Stethos runs, with less.
    Degraded,
    /// Stethos cannot capture.
    Blocks,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub state: State,
    /// What was found, and what follows from it.
    pub found: String,
    /// What would help, where something can be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judgement {
    pub state: State,
    pub checks: Vec<Check>,
}

impl Judgement {
    /// 0 all works, 1 degraded, 2 cannot capture.
    pub fn exit_code(&self) -> u8 {
        match self.state {
            State::Works | State::Note => 0,
            State::Degraded => 1,
            State::Blocks => 2,
        }
    }
}

impl Check {
    fn new(name: &'static str, state: State, found: impl Into<String>) -> Self {
        Self {
            name,
            state,
            found: found.into(),
            remedy: None,
        }
    }

    /// True for something missing that a sidecar needs only when it captures by itself.
    fn is_of_broker(&self) -> bool {
        let own = [
            "kernel types",
            "kernel programs",
            "eBPF",
            "lockdown",
            "process details",
            resources::NAME,
        ];
        self.state > State::Note && own.contains(&self.name)
    }

    fn help(self, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..self
        }
    }
}

pub fn judge(probes: &Probes) -> Judgement {
    let mut checks = vec![
        kernel(probes),
        btf(probes),
        cgroup(probes),
        programs(probes),
        bpf(probes),
        lockdown(probes),
        processes(probes),
        resources::check(probes),
    ];
    // The broker has what the sidecar then needs no right for.
    if let Broker::Answers { .. } = probes.broker {
        for check in checks.iter_mut().filter(|check| check.is_of_broker()) {
            check.state = State::Note;
            check.found.push_str("; not needed with the node broker");
        }
    }
    checks.extend([broker::check(probes), plugin(probes), state_dir(probes)]);
    checks.extend(export(probes));
    checks.push(pressure(probes));
    checks.push(bpffs(probes));
    checks.extend(blind_spots(probes));
    let state = checks
        .iter()
        .map(|check| check.state)
        .max()
        .unwrap_or(State::Works);
    Judgement { state, checks }
}

fn kernel(probes: &Probes) -> Check {
    let found = format!("{} on {}", probes.kernel, probes.arch);
    if probes.gvisor {
        let found = format!("{found}: gVisor, which answers system calls itself and has no eBPF");
        return Check::new("kernel", State::Blocks, found)
            .help("run the pod with a runtime class that uses the node's kernel");
    }
    if !["x86_64", "aarch64"].contains(&probes.arch) {
        let found = format!("{found}: Stethos knows the calls of x86_64 and aarch64");
        return Check::new("kernel", State::Blocks, found);
    }
    match parse::kernel_version(&probes.kernel) {
        Some(version) if version < OLDEST_KERNEL => Check::new(
            "kernel",
            State::Blocks,
            format!("{found}: without eBPF ring buffers"),
        )
        .help("Linux 5.8 or newer; 6.1 and newer are tested"),
        Some(version) if version < (6, 1) => Check::new(
            "kernel",
            State::Note,
            format!("{found}: older than the tested 6.1"),
        ),
        Some(_) => Check::new("kernel", State::Works, found),
        None => Check::new(
            "kernel",
            State::Note,
            format!("{found}: version not understood"),
        ),
    }
}

fn btf(probes: &Probes) -> Check {
    match &probes.btf {
        Ok(()) => Check::new(
            "kernel types",
            State::Works,
            "BTF in /sys/kernel/btf/vmlinux",
        ),
        Err(reason) => {
            let found = format!("/sys/kernel/btf/vmlinux: {reason}");
            Check::new("kernel types", State::Blocks, found)
                .help("a kernel built with CONFIG_DEBUG_INFO_BTF, and /sys mounted")
        }
    }
}

fn cgroup(probes: &Probes) -> Check {
    match (&probes.cgroup2, probes.cgroup1) {
        (Some(path), false) => Check::new(
            "cgroup v2",
            State::Works,
            format!("alone, at {}", path.display()),
        ),
        (Some(path), true) => Check::new(
            "cgroup v2",
            State::Works,
            format!("beside v1, at {}", path.display()),
        ),
        (None, true) => Check::new("cgroup v2", State::Blocks, "only v1 is mounted")
            .help("mount -t cgroup2 none /sys/fs/cgroup/unified, or boot with v2"),
        (None, false) => Check::new(
            "cgroup v2",
            State::Blocks,
            "no cgroup file system is mounted",
        )
        .help("mount -t cgroup2 none /sys/fs/cgroup"),
    }
}

fn programs(probes: &Probes) -> Check {
    match probes.kernel_programs {
        0 => Check::new(
            "kernel programs",
            State::Blocks,
            "this binary was built without them",
        )
        .help("build it with `cargo xtask build`"),
        size => Check::new(
            "kernel programs",
            State::Works,
            format!("built in, {size} bytes"),
        ),
    }
}

/// Whether capture's uses of `bpf(2)` are granted, and by what right they would be.
fn bpf(probes: &Probes) -> Check {
    const NAME: &str = "eBPF";
    let uses = [
        ("a map", &probes.bpf_map),
        ("a ring buffer", &probes.bpf_ring),
        ("a tracepoint program", &probes.bpf_program),
    ];
    let rights = match &probes.capabilities {
        Some(names) if names.is_empty() => "no capability for it".to_string(),
        Some(names) => format!("with {}", names.join(", ")),
        None => "capabilities unknown".to_string(),
    };
    let wrong = uses.iter().find(|(_, answer)| **answer != Answer::Granted);
    let Some((what, answer)) = wrong else {
        return Check::new(
            NAME,
            State::Works,
            format!("maps and programs are granted, {rights}"),
        );
    };
    let check = |found: String| Check::new(NAME, State::Blocks, found);
    match answer {
        Answer::NoSuchCall => check("there is no bpf(2): ENOSYS".to_string()).help(
            "a kernel with CONFIG_BPF_SYSCALL, and no seccomp filter or sandbox that hides it",
        ),
        Answer::Refused => {
            let missing = missing_capabilities(probes);
            let found = format!("{what} is refused (EPERM), {rights}");
            if missing.is_empty() {
                check(format!(
                    "{found}: the capabilities are there, so a filter refuses it"
                ))
                .help("allow bpf(2) in the seccomp profile and in SELinux or AppArmor")
            } else {
                let setting = match probes.unprivileged_bpf_disabled {
                    Some(mode) => format!(" (kernel.unprivileged_bpf_disabled = {mode})"),
                    None => String::new(),
                };
                check(format!("{found}{setting}")).help(format!(
                    "add {}; a user other than root has them only when the file carries them",
                    missing.join(" and ")
                ))
            }
        }
        Answer::Failed(reason) => check(format!("{what}: {reason}, {rights}")),
        Answer::Granted => check(String::new()),
    }
}

/// Capabilities that capture needs and that are not in effect. `CAP_SYS_ADMIN` stands for both.
fn missing_capabilities(probes: &Probes) -> Vec<&'static str> {
    let names = probes.capabilities.as_deref().unwrap_or_default();
    let needed = ["CAP_BPF", "CAP_PERFMON"].into_iter();
    let has = |name: &str| names.contains(&name) || names.contains(&"CAP_SYS_ADMIN");
    needed.filter(|name| !has(name)).collect()
}

fn lockdown(probes: &Probes) -> Check {
    const NAME: &str = "lockdown";
    match probes.lockdown.as_deref() {
        Some("confidentiality") => {
            let found = "confidentiality: the kernel keeps its memory from eBPF programs";
            Check::new(NAME, State::Degraded, found).help("boot with lockdown=integrity or none")
        }
        Some(mode) => Check::new(NAME, State::Works, mode),
        None => Check::new(
            NAME,
            State::Note,
            "unknown: /sys/kernel/security shows no mode",
        ),
    }
}

/// What diagnoses need to name programs, files and peers.
fn processes(probes: &Probes) -> Check {
    const NAME: &str = "process details";
    if !probes.first_pid_namespace {
        let found = "/proc shows other process ids than the kernel programs see: diagnoses name \
            processes by id, without program, files behind descriptors and peers of old \
            connections";
        return Check::new(NAME, State::Degraded, found).help("hostPID: true");
    }
    let names = probes.capabilities.as_deref().unwrap_or_default();
    // One opens their folders in /proc, the other has the kernel show what is in them.
    let needed = ["CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE"].into_iter();
    let missing: Vec<_> = needed.filter(|name| !names.contains(name)).collect();
    if missing.is_empty() {
        let found = "/proc shows every process, and what it has open";
        return Check::new(NAME, State::Works, found);
    }
    let missing = missing.join(" and ");
    let found = format!(
        "without {missing} only processes of the same user show their descriptors and environment"
    );
    Check::new(NAME, State::Degraded, found).help(format!("add {missing}"))
}

fn plugin(probes: &Probes) -> Check {
    match probes.generic_plugin {
        0 => Check::new(
            "generic plugin",
            State::Degraded,
            "this binary was built without it",
        )
        .help("build it with `cargo xtask build`"),
        size => Check::new(
            "generic plugin",
            State::Works,
            format!("built in, {size} bytes"),
        ),
    }
}

fn state_dir(probes: &Probes) -> Check {
    let path = probes.state_dir.path.display();
    match &probes.state_dir.failure {
        Some(reason) => {
            let found = format!("{path}: {reason}; what is learned is lost at the end");
            Check::new("state", State::Degraded, found)
                .help("make it writable, or name another with --state-dir")
        }
        None if probes.state_dir.exists => {
            Check::new("state", State::Works, format!("{path} is writable"))
        }
        None => Check::new("state", State::Works, format!("{path} will be made")),
    }
}

fn export(probes: &Probes) -> Vec<Check> {
    const NAME: &str = "collector";
    match &probes.export {
        Export::Off(by) => return vec![Check::new(NAME, State::Note, format!("off by {by}"))],
        Export::Unclear(reason) => return vec![Check::new(NAME, State::Degraded, reason)],
        Export::To(_) => {}
    }
    let judged = |Endpoint {
                      signals,
                      url,
                      failure,
                  }: &Endpoint| match failure {
        None => Check::new(NAME, State::Works, format!("{signals} to {url}")),
        Some(reason) => Check::new(
            NAME,
            State::Degraded,
            format!("{signals} to {url}: {reason}"),
        )
        .help("start a collector there, or set OTEL_EXPORTER_OTLP_ENDPOINT"),
    };
    probes.endpoints.iter().map(judged).collect()
}

fn pressure(probes: &Probes) -> Check {
    if probes.pressure {
        Check::new("pressure figures", State::Works, "/proc/pressure")
    } else {
        Check::new(
            "pressure figures",
            State::Note,
            "none: /proc/pressure cannot be read",
        )
        .help("boot with psi=1")
    }
}

fn bpffs(probes: &Probes) -> Check {
    match &probes.bpffs {
        Some(path) => Check::new("bpffs", State::Works, format!("{}", path.display())),
        None => Check::new(
            "bpffs",
            State::Note,
            "not mounted; a node broker needs it to outlive its restarts",
        ),
    }
}

/// What no tracepoint on system calls shows.
fn blind_spots(probes: &Probes) -> Vec<Check> {
    let blind = |found: &str| Check::new("blind spot", State::Note, found);
    let io_uring = match probes.io_uring_disabled {
        Some(2) => None,
        _ => Some(blind(
            "io_uring: operations queued through it are not seen as calls",
        )),
    };
    let rest = [
        "vDSO: clock_gettime and gettimeofday enter no kernel and are not seen",
        "gVisor and Kata: containers under them call another kernel than this one",
    ];
    io_uring.into_iter().chain(rest.map(blind)).collect()
}

#[cfg(test)]
mod tests;
