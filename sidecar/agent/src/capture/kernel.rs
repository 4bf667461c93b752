//! The kernel programs: loaded and attached once, serving one or more pods.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use aya::{
    Btf, Ebpf, EbpfLoader, RawTracePointRunOptions, TestRun as _,
    maps::{Array, ArrayOfMaps, HashMap, MapData, MapError, PerCpuArray, PerCpuHashMap},
    programs::{BtfTracePoint, RawTracePoint},
};
use memmap2::{MmapOptions, MmapRaw};
use stethos_events::{
    BANK_SLOTS, BANKS, COUNT_ROWS, CountRow, DECISIONS, EndedAccount, FAMILIAR_ENTRIES,
    FamiliarEntry, Offsets, PODS, POLL_SLOTS, PidScope, PodEntry, Reduction, SelfFound, ThreadSlot,
    lost,
};
use thiserror::Error;

use super::{
    btf::{BtfError, KernelTypes},
    classes, inner_maps,
    pod::PodMaps,
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
    #[error(transparent)]
    Mapping(#[from] super::pod::MappingError),
    #[error("the discovery program did not see this process; is the kernel sandboxed (gVisor)?")]
    NotDiscovered,
    #[error("{what} could not be made: {reason}")]
    Create { what: &'static str, reason: String },
    #[error("no room for another pod: {0}")]
    Full(&'static str),
}

/// Capacities of one pod.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    pub window_ring_bytes: u32,
    pub event_ring_bytes: u32,
    /// Threads at a time; rounded up to a power of two of banks of `BANK_SLOTS`.
    pub threads: u32,
}

impl Capacity {
    fn banks(self) -> u32 {
        self.threads
            .div_ceil(BANK_SLOTS as u32)
            .max(1)
            .next_power_of_two()
    }
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

/// One pod that the programs serve.
struct Served {
    first_bank: u32,
    banks: u32,
    cgroups: Vec<u64>,
}

/// Loaded programs; they detach when this is dropped.
pub struct Kernel {
    ebpf: Ebpf,
    /// This process in the initial PID namespace.
    pub own_pid: u32,
    /// Ids of this process's cgroup and its ancestors.
    found: SelfFound,
    decisions: MmapRaw,
    ended: PerCpuHashMap<MapData, u64, EndedAccount>,
    lost: PerCpuArray<MapData, u64>,
    served: Vec<Option<Served>>,
    /// What could not be attached and is reported rather than fatal.
    pub missing: Vec<String>,
}

impl Kernel {
    /// Loads `object`; nothing is captured before [`Kernel::attach`].
    pub fn load(object: &[u8], http: bool) -> Result<Self, KernelError> {
        if object.is_empty() {
            return Err(KernelError::NoPrograms);
        }
        let btf = Btf::from_sys_fs().map_err(|error| KernelError::Load(chain(&error)))?;
        let offsets = offsets()?;
        let mut ebpf = EbpfLoader::new()
            .btf(Some(&btf))
            .override_global("OFFSETS", &offsets, true)
            .override_global("SHIP_HTTP", &u32::from(http), true)
            .load(object)
            .map_err(|error| load_error(chain(&error)))?;
        let found = discover(&mut ebpf)?;
        let own_pid = (found.pid_tgid >> 32) as u32;
        insert(&mut ebpf, "EXCLUDED", own_pid, 1u32)?;
        set_array(&mut ebpf, "CALL_CLASS", &classes::table())?;
        raw(&mut ebpf, "poll")?
            .load()
            .map_err(|error| attach_error("poll", &error))?;
        let decisions = map_decisions(&ebpf)?;
        Ok(Self {
            own_pid,
            found,
            decisions,
            ended: take(&mut ebpf, "ENDED")?,
            lost: take(&mut ebpf, "LOST")?,
            served: Vec::new(),
            missing: Vec::new(),
            ebpf,
        })
    }

    /// Starts to capture.
    pub fn attach(&mut self) -> Result<(), KernelError> {
        let btf = Btf::from_sys_fs().map_err(|error| KernelError::Load(chain(&error)))?;
        self.missing = attach(&mut self.ebpf, &btf)?;
        Ok(())
    }

    /// Targets as they stand on this machine.
    pub fn find(&self, wanted: &[Target]) -> Result<Vec<Found>, KernelError> {
        find(wanted, &self.found)
    }

    /// Makes room for a pod with these targets and begins to serve it. Gives its index and what
    /// its sidecar needs.
    pub fn add_pod(
        &mut self,
        targets: &[Found],
        capacity: Capacity,
    ) -> Result<(u32, PodMaps), KernelError> {
        let pod = self.free_index()?;
        let banks = capacity.banks();
        let processors = processors()?;
        let first_bank = self.free_banks(banks)?;
        let mut maps = PodMaps {
            windows: made(
                "window ring",
                inner_maps::ring("stethos_windows", capacity.window_ring_bytes),
            )?,
            window_ring_bytes: capacity.window_ring_bytes,
            events: made(
                "event ring",
                inner_maps::ring("stethos_events", capacity.event_ring_bytes),
            )?,
            event_ring_bytes: capacity.event_ring_bytes,
            banks: Vec::new(),
            familiar: made(
                "table of familiar contexts",
                inner_maps::array::<FamiliarEntry>("stethos_known", FAMILIAR_ENTRIES as u32, 0),
            )?,
            reduction: made(
                "reduction",
                inner_maps::array::<Reduction>("stethos_reduce", 1, 0),
            )?,
            counts: made(
                "counts",
                inner_maps::array::<CountRow>(
                    "stethos_counts",
                    processors * COUNT_ROWS as u32,
                    inner_maps::SIZED,
                ),
            )?,
            processors,
        };
        for (outer, inner) in [
            ("FAMILIAR", &maps.familiar),
            ("REDUCTION", &maps.reduction),
            ("COUNTS", &maps.counts),
        ] {
            set_inner(&mut self.ebpf, outer, pod, inner)?;
        }
        set_inner(&mut self.ebpf, "WINDOWS", pod, &maps.windows)?;
        set_inner(&mut self.ebpf, "EVENTS", pod, &maps.events)?;
        for bank in first_bank..first_bank + banks {
            let slots = made(
                "thread slots",
                inner_maps::array::<ThreadSlot>("stethos_slots", BANK_SLOTS as u32, 0),
            )?;
            set_inner(&mut self.ebpf, "SLOTS", bank, &slots)?;
            maps.banks.push(slots);
        }
        let entry = PodEntry {
            first_bank,
            slots: banks * BANK_SLOTS as u32,
        };
        set_entry(&mut self.ebpf, "POD_TABLE", pod, entry)?;
        let mut cgroups = Vec::new();
        for target in targets {
            match target {
                Found::Cgroup(cgroup) => {
                    insert(&mut self.ebpf, "SCOPE", cgroup.id, pod)?;
                    cgroups.push(cgroup.id);
                }
                Found::Pid { pid, id } => {
                    let scope = PidScope {
                        container: *id,
                        pod,
                        reserved: 0,
                    };
                    for pid in with_descendants(*pid) {
                        insert(&mut self.ebpf, "SCOPE_PIDS", pid, scope)?;
                    }
                }
            }
        }
        self.served[pod as usize] = Some(Served {
            first_bank,
            banks,
            cgroups,
        });
        self.decide_anew();
        Ok((pod, maps))
    }

    fn free_index(&mut self) -> Result<u32, KernelError> {
        if let Some(free) = self.served.iter().position(Option::is_none) {
            return Ok(free as u32);
        }
        if self.served.len() == PODS {
            return Err(KernelError::Full("pods"));
        }
        self.served.push(None);
        Ok(self.served.len() as u32 - 1)
    }

    fn free_banks(&self, wanted: u32) -> Result<u32, KernelError> {
        let mut taken: Vec<_> = self
            .served
            .iter()
            .flatten()
            .map(|served| served.first_bank..served.first_bank + served.banks)
            .collect();
        taken.sort_by_key(|range| range.start);
        let mut first = 0;
        for range in taken {
            if range.start - first >= wanted {
                break;
            }
            first = range.end;
        }
        if first + wanted <= BANKS as u32 {
            Ok(first)
        } else {
            Err(KernelError::Full("thread slots"))
        }
    }

    /// Has the kernel look at what the pod's threads are doing.
    pub fn poll_threads(&mut self, pod: u32) -> Result<(), KernelError> {
        let Some(Some(served)) = self.served.get(pod as usize) else {
            return Ok(());
        };
        let first = served.first_bank * BANK_SLOTS as u32;
        let last = first + served.banks * BANK_SLOTS as u32;
        let program = raw(&mut self.ebpf, "poll")?;
        for start in (first..last).step_by(POLL_SLOTS) {
            let mut options = RawTracePointRunOptions::new();
            options.args[0] = u64::from(start);
            program
                .test_run(options)
                .map_err(|error| attach_error("poll", &error))?;
        }
        Ok(())
    }

    /// Forgets what was decided about threads, so that each is decided about again at its next
    /// call: after the scope changed, and now and then, because a thread may have been moved.
    pub fn decide_anew(&self) {
        let first = self.decisions.as_mut_ptr().cast::<u64>();
        for index in 0..DECISIONS {
            // SAFETY: within the mapping; an aligned store, as the kernel's own are.
            unsafe { std::sync::atomic::AtomicU64::from_ptr(first.add(index)) }
                .store(0, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// What did not travel, by `lost` index.
    pub fn lost(&self, pod: u32) -> Result<[u64; lost::COUNT as usize], KernelError> {
        let mut sums = [0; lost::COUNT as usize];
        for (index, sum) in (pod * lost::COUNT..).zip(sums.iter_mut()) {
            let values = self
                .lost
                .get(&index, 0)
                .map_err(|source| map_error("LOST", source))?;
            *sum = values.iter().sum();
        }
        Ok(sums)
    }

    /// Account of the ended threads of a container; all 0 when none ended.
    pub fn ended(&self, cgroup: u64) -> EndedAccount {
        let mut sum = EndedAccount::default();
        for part in self.ended.get(&cgroup, 0).iter().flat_map(|all| all.iter()) {
            sum.seen += part.seen;
            sum.lost += part.lost;
            sum.counted += part.counted;
            sum.threads += part.threads;
        }
        sum
    }

    /// Runs of the programs that the kernel skipped because one was running on that processor
    /// already.
    pub fn skipped_recursion(&self) -> u64 {
        ATTACHED
            .iter()
            .filter_map(|name| self.ebpf.program(name)?.fd().ok())
            .map(|program| recursion_misses(program.as_fd()).unwrap_or(0))
            .sum()
    }

    /// Leaves a process (a child of the sidecar) out of the capture.
    pub fn exclude(&mut self, pid: u32) -> Result<(), KernelError> {
        insert(&mut self.ebpf, "EXCLUDED", pid, 1u32)?;
        self.decide_anew();
        Ok(())
    }

    /// Ends to serve a pod and gives its room back.
    pub fn remove_pod(&mut self, pod: u32) -> Result<(), KernelError> {
        let Some(served) = self.served.get_mut(pod as usize).and_then(Option::take) else {
            return Ok(());
        };
        for cgroup in served.cgroups {
            remove::<u64, u32>(&mut self.ebpf, "SCOPE", cgroup)?;
        }
        set_entry(&mut self.ebpf, "POD_TABLE", pod, PodEntry::default())?;
        self.decide_anew();
        clear_inner(&mut self.ebpf, "WINDOWS", pod)?;
        for outer in ["EVENTS", "FAMILIAR", "REDUCTION", "COUNTS"] {
            clear_inner(&mut self.ebpf, outer, pod)?;
        }
        for bank in served.first_bank..served.first_bank + served.banks {
            clear_inner(&mut self.ebpf, "SLOTS", bank)?;
            for slot in 0..BANK_SLOTS as u32 {
                remove::<u32, u32>(&mut self.ebpf, "CLAIMS", bank * BANK_SLOTS as u32 + slot)?;
            }
        }
        Ok(())
    }
}

/// Where the programs find members of kernel structures.
fn offsets() -> Result<Offsets, KernelError> {
    let types = KernelTypes::of_this_kernel()?;
    let [pid, tgid, state, jobctl, exit_code, signal, se] = types.offsets(
        "task_struct",
        [
            "pid",
            "tgid",
            "__state",
            "jobctl",
            "exit_code",
            "signal",
            "se",
        ],
    )?;
    let [exec_start, ran] = types.offsets("sched_entity", ["exec_start", "sum_exec_runtime"])?;
    let [live, flags, group_exit_code] =
        types.offsets("signal_struct", ["live", "flags", "group_exit_code"])?;
    let run_delay = types
        .offsets("task_struct", ["sched_info"])
        .and_then(|[info]| {
            let [delay] = types.offsets("sched_info", ["run_delay"])?;
            Ok(info + delay)
        });
    Ok(Offsets {
        task_pid: pid,
        task_tgid: tgid,
        task_state: state,
        task_jobctl: jobctl,
        task_exit_code: exit_code,
        task_signal: signal,
        task_exec_start: se + exec_start,
        task_ran: se + ran,
        task_run_delay: run_delay.unwrap_or(0),
        signal_live: live,
        signal_flags: flags,
        signal_exit_code: group_exit_code,
    })
}

fn map_decisions(ebpf: &Ebpf) -> Result<MmapRaw, KernelError> {
    const NAME: &str = "DECISIONS_BY_TID";
    let map = ebpf.map(NAME).ok_or(KernelError::NoMap(NAME))?;
    let aya::maps::Map::Array(data) = map else {
        return Err(KernelError::NoMap(NAME));
    };
    MmapOptions::new()
        .len(DECISIONS * size_of::<u64>())
        .map_raw(&data.fd().as_fd())
        .map_err(|error| KernelError::Create {
            what: "mapping of the decisions",
            reason: error.to_string(),
        })
}

fn made(what: &'static str, map: std::io::Result<OwnedFd>) -> Result<OwnedFd, KernelError> {
    map.map_err(|error| KernelError::Create {
        what,
        reason: error.to_string(),
    })
}

/// Processors that may run programs.
fn processors() -> Result<u32, KernelError> {
    aya::util::nr_cpus()
        .map(|processors| processors as u32)
        .map_err(|(what, error)| KernelError::Create {
            what: "counts of calls",
            reason: format!("{what}: {error}"),
        })
}

/// Asks the kernel who this process is, by a run of the discovery program in its own context.
fn discover(ebpf: &mut Ebpf) -> Result<SelfFound, KernelError> {
    const NAME: &str = "discover";
    let program = raw(ebpf, NAME)?;
    program.load().map_err(|error| attach_error(NAME, &error))?;
    program
        .test_run(RawTracePointRunOptions::new())
        .map_err(|error| attach_error(NAME, &error))?;
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
    let name = "sys_exit";
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
    Ok(missing)
}

/// Programs that run in others' context.
const ATTACHED: [&str; 4] = ["sys_exit", "process_fork", "process_exec", "process_exit"];

/// `recursion_misses` of a program; kernels that do not count them give 0.
fn recursion_misses(program: std::os::fd::BorrowedFd<'_>) -> std::io::Result<u64> {
    #[repr(C)]
    struct GetInfo {
        program: u32,
        length: u32,
        info: u64,
    }
    const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
    // SAFETY: plain integers, for which 0 is a value.
    let mut info: aya_obj::generated::bpf_prog_info = unsafe { std::mem::zeroed() };
    let attributes = GetInfo {
        program: program.as_raw_fd() as u32,
        length: size_of_val(&info) as u32,
        info: (&raw mut info) as u64,
    };
    // SAFETY: attributes of the size that is told, with room for the answer that outlives the call.
    let refused = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            OBJ_GET_INFO_BY_FD,
            &raw const attributes,
            size_of::<GetInfo>(),
        )
    };
    if refused == 0 {
        Ok(info.recursion_misses)
    } else {
        Err(std::io::Error::last_os_error())
    }
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

/// Removes an entry; one that is not there is no error.
fn remove<K: aya::Pod, V: aya::Pod>(
    ebpf: &mut Ebpf,
    map: &'static str,
    key: K,
) -> Result<(), KernelError> {
    let data = ebpf.map_mut(map).ok_or(KernelError::NoMap(map))?;
    let mut table: HashMap<_, K, V> = data.try_into().map_err(|source| map_error(map, source))?;
    match table.remove(&key) {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        Err(source) => Err(map_error(map, source)),
    }
}

fn set_entry<V: aya::Pod>(
    ebpf: &mut Ebpf,
    map: &'static str,
    index: u32,
    value: V,
) -> Result<(), KernelError> {
    let data = ebpf.map_mut(map).ok_or(KernelError::NoMap(map))?;
    let mut array: Array<_, V> = data.try_into().map_err(|source| map_error(map, source))?;
    array
        .set(index, value, 0)
        .map_err(|source| map_error(map, source))
}

fn set_inner(
    ebpf: &mut Ebpf,
    map: &'static str,
    index: u32,
    inner: &OwnedFd,
) -> Result<(), KernelError> {
    let data = ebpf.map_mut(map).ok_or(KernelError::NoMap(map))?;
    let mut outer: ArrayOfMaps<_, MapData> =
        data.try_into().map_err(|source| map_error(map, source))?;
    let inner = inner
        .try_clone()
        .map_err(|error| KernelError::Load(error.to_string()))
        .and_then(|fd| MapData::from_fd(fd).map_err(|source| map_error(map, source)))?;
    outer
        .set(index, &inner, 0)
        .map_err(|source| map_error(map, source))
}

/// Takes a map out of a map of maps. The kernel frees it when nobody holds it any more.
fn clear_inner(ebpf: &mut Ebpf, map: &'static str, index: u32) -> Result<(), KernelError> {
    #[repr(C)]
    struct DeleteElement {
        map: u32,
        reserved: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    const MAP_DELETE_ELEM: libc::c_int = 3;
    let data = match ebpf.map(map) {
        Some(aya::maps::Map::ArrayOfMaps(data)) => data,
        _ => return Err(KernelError::NoMap(map)),
    };
    let attributes = DeleteElement {
        map: data.fd().as_fd().as_raw_fd() as u32,
        reserved: 0,
        key: (&raw const index) as u64,
        value: 0,
        flags: 0,
    };
    // SAFETY: attributes of the size that is told, with a key that lives as long as the call.
    let refused = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            MAP_DELETE_ELEM,
            &raw const attributes,
            size_of::<DeleteElement>(),
        )
    };
    let error = std::io::Error::last_os_error();
    if refused == 0 || error.raw_os_error() == Some(libc::ENOENT) {
        Ok(())
    } else {
        Err(KernelError::Load(format!("map {map}: {error}")))
    }
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
