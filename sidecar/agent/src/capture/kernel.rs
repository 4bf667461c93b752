//! The kernel programs of one sidecar, loaded and attached (self-contained mode).

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapData, MapError, PerCpuArray, PerCpuHashMap, RingBuf},
    programs::{BtfTracePoint, RawTracePoint, links::Link as _},
};
use stethos_events::{
    DISCOVERY_OPTION, EndedAccount, SCOPE_LEVELS, SelfFound, Settings, ThreadSlot, lost,
};
use thiserror::Error;

use super::{
    btf::{BtfError, KernelTypes},
    classes,
    targets::{self, Cgroup, Target, TargetError},
};

#[derive(Debug, Error)]
pub enum KernelError {
    #[error("this stethos was built without kernel programs; run `cargo xtask build`")]
    NoPrograms,
    #[error("kernel programs could not be loaded: {0}; `stethos doctor` says what is missing")]
    Load(String),
    #[error(
        "capture needs {missing}, which this process does not have: {reason}; `stethos doctor` says more"
    )]
    Rights { missing: String, reason: String },
    #[error(
        "program {program} could not be loaded or attached: {reason}; `stethos doctor` says what is missing"
    )]
    Attach {
        program: &'static str,
        reason: String,
    },
    #[error("map {map}: {source}")]
    Map { map: &'static str, source: MapError },
    #[error("map {0} is missing from the kernel programs")]
    NoMap(&'static str),
    #[error(transparent)]
    Btf(#[from] BtfError),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("targets stand at more than {SCOPE_LEVELS} different cgroup depths")]
    TooManyLevels,
    #[error("the discovery program did not see this process; is the kernel sandboxed (gVisor)?")]
    NotDiscovered,
}

/// Capacities, fixed at load.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    pub window_ring_bytes: u32,
    pub event_ring_bytes: u32,
    pub threads: u32,
}

/// A target as found on this machine.
#[derive(Clone, Debug)]
pub enum Found {
    Cgroup(Cgroup),
    /// A process, with the made-up cgroup id that stands for it in records.
    Pid {
        pid: u32,
        id: u64,
    },
}

/// Marks the made-up ids of process targets; cgroup ids are inode numbers and never have it.
pub const PID_TARGET: u64 = 1 << 63;

/// Loaded programs; they detach when this is dropped.
pub struct Kernel {
    ebpf: Ebpf,
    pub targets: Vec<Found>,
    /// This process in the initial PID namespace.
    pub own_pid: u32,
    pub threads: HashMap<MapData, u32, ThreadSlot>,
    pub ended: PerCpuHashMap<MapData, u64, EndedAccount>,
    lost: PerCpuArray<MapData, u64>,
    pub windows: RingBuf<MapData>,
    pub events: RingBuf<MapData>,
    /// What could not be attached and is reported rather than fatal.
    pub missing: Vec<String>,
}

impl Kernel {
    /// Loads `object`, sets the scope, then attaches.
    pub fn start(
        object: &[u8],
        wanted: &[Target],
        capacity: Capacity,
        http: bool,
    ) -> Result<Self, KernelError> {
        if object.is_empty() {
            return Err(KernelError::NoPrograms);
        }
        let btf = Btf::from_sys_fs().map_err(|error| KernelError::Load(chain(&error)))?;
        let [task_pid_offset, task_tgid_offset] =
            KernelTypes::of_this_kernel()?.offsets("task_struct", ["pid", "tgid"])?;
        let mut ebpf = EbpfLoader::new()
            .btf(Some(&btf))
            .map_max_entries("WINDOWS", capacity.window_ring_bytes)
            .map_max_entries("EVENTS", capacity.event_ring_bytes)
            .map_max_entries("THREADS", capacity.threads)
            .load(object)
            .map_err(|error| load_error(chain(&error)))?;

        let found = discover(&mut ebpf)?;
        let own_pid = (found.pid_tgid >> 32) as u32;
        let targets = find(wanted, &found)?;
        let mut settings = Settings {
            task_pid_offset,
            task_tgid_offset,
            http: u32::from(http),
            ..Settings::default()
        };
        set_scope(&mut ebpf, &targets, &mut settings)?;
        insert(&mut ebpf, "EXCLUDED", own_pid, 1u32)?;
        set_array(&mut ebpf, "CALL_CLASS", &classes::table())?;
        set_array(&mut ebpf, "SETTINGS", &[settings])?;

        let missing = attach(&mut ebpf, &btf)?;
        Ok(Self {
            own_pid,
            targets,
            missing,
            threads: take(&mut ebpf, "THREADS")?,
            ended: take(&mut ebpf, "ENDED")?,
            lost: take(&mut ebpf, "LOST")?,
            windows: take(&mut ebpf, "WINDOWS")?,
            events: take(&mut ebpf, "EVENTS")?,
            ebpf,
        })
    }

    /// Events that did not travel, by `lost` index.
    pub fn lost(&self) -> Result<[u64; lost::COUNT as usize], KernelError> {
        let mut sums = [0; lost::COUNT as usize];
        for (index, sum) in (0..).zip(sums.iter_mut()) {
            let values = self
                .lost
                .get(&index, 0)
                .map_err(|source| map_error("LOST", source))?;
            *sum = values.iter().sum();
        }
        Ok(sums)
    }

    /// Adds a process to the scope as part of the target `id`.
    pub fn add_pid(&mut self, pid: u32, id: u64) -> Result<(), KernelError> {
        insert(&mut self.ebpf, "SCOPE_PIDS", pid, id)
    }

    /// Leaves a process (a child of the sidecar) out of the capture.
    pub fn exclude(&mut self, pid: u32) -> Result<(), KernelError> {
        insert(&mut self.ebpf, "EXCLUDED", pid, 1u32)
    }
}

/// Asks the kernel who this process is, by a `prctl` that the discovery program answers to.
fn discover(ebpf: &mut Ebpf) -> Result<SelfFound, KernelError> {
    const NAME: &str = "discover";
    let program = raw(ebpf, NAME)?;
    program.load().map_err(|error| attach_error(NAME, &error))?;
    let link = program
        .attach("sys_enter")
        .map_err(|error| attach_error(NAME, &error))?;
    let link = program
        .take_link(link)
        .map_err(|error| attach_error(NAME, &error))?;
    // SAFETY: an option that the kernel does not know; it answers EINVAL and changes nothing.
    let _ = unsafe { libc::prctl(DISCOVERY_OPTION as libc::c_int, 0, 0, 0, 0) };
    link.detach().map_err(|error| attach_error(NAME, &error))?;
    let answer: Array<MapData, SelfFound> = take(ebpf, "SELF")?;
    let found = answer
        .get(&0, 0)
        .map_err(|source| map_error("SELF", source))?;
    if found.pid_tgid == 0 {
        Err(KernelError::NotDiscovered)
    } else {
        Ok(found)
    }
}

fn find(wanted: &[Target], found: &SelfFound) -> Result<Vec<Found>, KernelError> {
    wanted
        .iter()
        .map(|target| match target {
            Target::SelfPod => Ok(Found::Cgroup(targets::pod_of(&found.ancestors)?)),
            Target::Cgroup(path) => Ok(Found::Cgroup(targets::cgroup_at(
                &targets::cgroup_mount()?,
                path,
            )?)),
            Target::Pid(pid) if std::path::Path::new(&format!("/proc/{pid}")).exists() => {
                Ok(Found::Pid {
                    pid: *pid,
                    id: PID_TARGET | u64::from(*pid),
                })
            }
            Target::Pid(pid) => Err(TargetError::NoProcess(*pid).into()),
        })
        .collect()
}

fn set_scope(
    ebpf: &mut Ebpf,
    targets: &[Found],
    settings: &mut Settings,
) -> Result<(), KernelError> {
    let mut levels: Vec<u32> = Vec::new();
    for target in targets {
        match target {
            Found::Cgroup(cgroup) => {
                insert(ebpf, "SCOPE", cgroup.id, 1u32)?;
                if !levels.contains(&cgroup.level) {
                    levels.push(cgroup.level);
                }
            }
            Found::Pid { pid, id } => {
                settings.by_pid = 1;
                for pid in with_descendants(*pid) {
                    insert(ebpf, "SCOPE_PIDS", pid, *id)?;
                }
            }
        }
    }
    if levels.len() > SCOPE_LEVELS {
        return Err(KernelError::TooManyLevels);
    }
    settings.level_count = levels.len() as u32;
    for (slot, level) in settings.levels.iter_mut().zip(levels) {
        *slot = level;
    }
    Ok(())
}

/// A process and its descendants as they stand.
pub fn with_descendants(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(parent) = all.get(next).copied() {
        next += 1;
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{parent}/task")) else {
            continue;
        };
        for task in tasks.flatten() {
            let children =
                std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children
                .split_whitespace()
                .filter_map(|child| child.parse().ok())
            {
                if all.len() < 4096 && !all.contains(&child) {
                    all.push(child);
                }
            }
        }
    }
    all
}

fn attach(ebpf: &mut Ebpf, btf: &Btf) -> Result<Vec<String>, KernelError> {
    // Ends first: a thread whose start was seen is never without its end.
    for (name, tracepoint) in [
        ("process_exit", "sched_process_exit"),
        ("process_fork", "sched_process_fork"),
        ("process_exec", "sched_process_exec"),
    ] {
        attach_raw(ebpf, name, tracepoint)?;
    }
    let mut missing = Vec::new();
    let oom = if kernel_at_least(6, 8) {
        "oom_victim_task"
    } else {
        "oom_victim_pid"
    };
    if let Err(error) = attach_raw(ebpf, oom, "mark_victim") {
        missing.push(error.to_string());
    }
    for name in ["sys_exit", "sys_enter"] {
        let program: &mut BtfTracePoint = ebpf
            .program_mut(name)
            .ok_or(KernelError::NoMap(name))?
            .try_into()
            .map_err(|error| attach_error(name, &error))?;
        program
            .load(name, btf)
            .map_err(|error| attach_error(name, &error))?;
        program
            .attach()
            .map_err(|error| attach_error(name, &error))?;
    }
    Ok(missing)
}

fn attach_raw(ebpf: &mut Ebpf, name: &'static str, tracepoint: &str) -> Result<(), KernelError> {
    let program = raw(ebpf, name)?;
    program.load().map_err(|error| attach_error(name, &error))?;
    program
        .attach(tracepoint)
        .map_err(|error| attach_error(name, &error))?;
    Ok(())
}

fn raw<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut RawTracePoint, KernelError> {
    ebpf.program_mut(name)
        .ok_or(KernelError::NoMap(name))?
        .try_into()
        .map_err(|error| attach_error(name, &error))
}

/// Whether the running kernel's release is at least `major.minor`; unreadable counts as new.
fn kernel_at_least(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.trim().parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(has_major), Some(has_minor)) => (has_major, has_minor) >= (major, minor),
        _ => true,
    }
}

fn insert<K: aya::Pod, V: aya::Pod>(
    ebpf: &mut Ebpf,
    map: &'static str,
    key: K,
    value: V,
) -> Result<(), KernelError> {
    let data = ebpf.map_mut(map).ok_or(KernelError::NoMap(map))?;
    let mut table: HashMap<_, K, V> = data.try_into().map_err(|source| map_error(map, source))?;
    table
        .insert(key, value, 0)
        .map_err(|source| map_error(map, source))
}

fn set_array<V: aya::Pod>(
    ebpf: &mut Ebpf,
    map: &'static str,
    values: &[V],
) -> Result<(), KernelError> {
    let data = ebpf.map_mut(map).ok_or(KernelError::NoMap(map))?;
    let mut array: Array<_, V> = data.try_into().map_err(|source| map_error(map, source))?;
    for (index, value) in (0..).zip(values) {
        array
            .set(index, *value, 0)
            .map_err(|source| map_error(map, source))?;
    }
    Ok(())
}

fn take<M: TryFrom<aya::maps::Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    map: &'static str,
) -> Result<M, KernelError> {
    ebpf.take_map(map)
        .ok_or(KernelError::NoMap(map))?
        .try_into()
        .map_err(|source| map_error(map, source))
}

fn map_error(map: &'static str, source: MapError) -> KernelError {
    KernelError::Map { map, source }
}

fn attach_error(program: &'static str, error: &dyn std::error::Error) -> KernelError {
    KernelError::Attach {
        program,
        reason: chain(error),
    }
}

/// A refusal for lack of rights is told from other failures, and the rights are named.
fn load_error(reason: String) -> KernelError {
    let missing = missing_rights();
    match missing.is_empty() {
        true => KernelError::Load(reason),
        false => KernelError::Rights {
            missing: missing.join(" and "),
            reason,
        },
    }
}

/// Capabilities that capture needs and this process does not have in effect.
fn missing_rights() -> Vec<&'static str> {
    const SYS_ADMIN: u64 = 1 << 21;
    const NEEDED: [(u64, &str); 2] = [(1 << 39, "CAP_BPF"), (1 << 38, "CAP_PERFMON")];
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    match effective {
        Some(has) if has & SYS_ADMIN == 0 => NEEDED
            .iter()
            .filter(|(bit, _)| has & bit == 0)
            .map(|(_, name)| *name)
            .collect(),
        _ => Vec::new(),
    }
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
