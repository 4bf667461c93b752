//! Loads and attaches the programs.

use std::{
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    path::Path,
};

use aya::{
    Btf, Ebpf, EbpfLoader, RawTracePointRunOptions, TestRun as _,
    maps::{Array, MapData},
    programs::{
        BtfTracePoint, ProgramError, ProgramFd, RawTracePoint,
        links::{FdLink, PinnedLink},
    },
};
use stethos_events::{Offsets, SelfFound};

use super::{
    KernelError,
    error::{attach_error, chain, load_error, map_error, program_error},
    pins::Pins,
    tables::Source,
};
use crate::capture::btf::KernelTypes;

/// Programs that are run on request, beside those that are attached.
const ON_REQUEST: [&str; 2] = ["discover", "poll"];
const EXIT: &str = "sys_exit";
/// Programs that run in others' context.
const ATTACHED: [&str; 4] = [EXIT, "process_fork", "process_exec", "process_exit"];
const LIFECYCLE: [(&str, &str); 3] = [
    // Ends first: a thread whose start was seen is never without its end.
    ("process_exit", "sched_process_exit"),
    ("process_fork", "sched_process_fork"),
    ("process_exec", "sched_process_exec"),
];

/// The programs as this process holds them.
pub(super) enum Programs {
    /// They detach when this is dropped.
    Loaded(Box<Ebpf>),
    /// They stay attached until the pins go.
    Pinned {
        poll: Box<RawTracePoint>,
        attached: Vec<ProgramFd>,
    },
}

impl Programs {
    pub(super) fn load(object: &[u8], http: bool) -> Result<Ebpf, KernelError> {
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
        for name in ON_REQUEST {
            raw(&mut ebpf, name)?
                .load()
                .map_err(|error| program_error(name, &error))?;
        }
        Ok(ebpf)
    }

    pub(super) fn pinned(pins: &Pins) -> Result<Self, KernelError> {
        let mut attached = Vec::new();
        for name in ATTACHED {
            PinnedLink::from_pin(pins.link(name)).map_err(|error| attach_error(name, &error))?;
            let path = pins.program(name);
            let program = match name {
                EXIT => BtfTracePoint::from_pin(path).and_then(|program| clone_of(program.fd()?)),
                _ => RawTracePoint::from_pin(path).and_then(|program| clone_of(program.fd()?)),
            };
            attached.push(program.map_err(|error| attach_error(name, &error))?);
        }
        Ok(Programs::Pinned {
            poll: Box::new(program(pins, "poll")?),
            attached,
        })
    }

    pub(super) fn skipped_recursion(&self) -> u64 {
        let of = |program: BorrowedFd<'_>| recursion_misses(program).unwrap_or(0);
        match self {
            Programs::Pinned { attached, .. } => {
                attached.iter().map(|program| of(program.as_fd())).sum()
            }
            Programs::Loaded(ebpf) => ATTACHED
                .iter()
                .filter_map(|name| ebpf.program(name)?.fd().ok())
                .map(|program| of(program.as_fd()))
                .sum(),
        }
    }

    /// Has the kernel look at `POLL_SLOTS` slots from number `first` on.
    pub(super) fn poll(&self, first: u32) -> Result<(), KernelError> {
        const NAME: &str = "poll";
        let mut options = RawTracePointRunOptions::new();
        options.args[0] = u64::from(first);
        let program: &RawTracePoint = match self {
            Programs::Pinned { poll, .. } => poll,
            Programs::Loaded(ebpf) => ebpf
                .program(NAME)
                .ok_or(KernelError::NoMap(NAME))?
                .try_into()
                .map_err(|error| attach_error(NAME, &error))?,
        };
        program
            .test_run(options)
            .map(drop)
            .map_err(|error| attach_error(NAME, &error))
    }
}

fn clone_of(program: &ProgramFd) -> Result<ProgramFd, ProgramError> {
    program.try_clone().map_err(ProgramError::IOError)
}

fn program(pins: &Pins, name: &'static str) -> Result<RawTracePoint, KernelError> {
    RawTracePoint::from_pin(pins.program(name)).map_err(|error| attach_error(name, &error))
}

/// Pins everything but the links, which [`attach`] pins.
pub(super) fn pin(ebpf: &mut Ebpf, pins: &Pins) -> Result<(), KernelError> {
    let failed = |path: &Path, error: &dyn std::error::Error| KernelError::Pins {
        path: path.display().to_string(),
        reason: chain(error),
    };
    // Read-only data has a name with a dot; the programs hold it.
    for (name, map) in ebpf.maps().filter(|(name, _)| !name.contains('.')) {
        let path = pins.map(name);
        map.pin(&path).map_err(|error| failed(&path, &error))?;
    }
    for name in ON_REQUEST {
        let path = pins.program(name);
        raw(ebpf, name)?
            .pin(&path)
            .map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}

/// Attaches the programs; with `pins` they stay attached when this process ends. Gives what could
/// not be attached and is reported rather than fatal.
pub(super) fn attach(ebpf: &mut Ebpf, pins: Option<&Pins>) -> Result<Vec<String>, KernelError> {
    let btf = Btf::from_sys_fs().map_err(|error| KernelError::Load(chain(&error)))?;
    for (name, tracepoint) in LIFECYCLE {
        attach_raw(ebpf, name, tracepoint, pins)?;
    }
    let mut missing = Vec::new();
    let oom = if gives_victim_as_task() {
        "oom_victim_task"
    } else {
        "oom_victim_pid"
    };
    if let Err(error) = attach_raw(ebpf, oom, "mark_victim", pins) {
        missing.push(error.to_string());
    }
    let failed = |error: &dyn std::error::Error| attach_error(EXIT, error);
    let program: &mut BtfTracePoint = ebpf
        .program_mut(EXIT)
        .ok_or(KernelError::NoMap(EXIT))?
        .try_into()
        .map_err(|error| failed(&error))?;
    program.load(EXIT, &btf).map_err(|error| failed(&error))?;
    let link = program.attach().map_err(|error| failed(&error))?;
    if let Some(pins) = pins {
        let link = program.take_link(link).map_err(|error| failed(&error))?;
        FdLink::from(link)
            .pin(pins.link(EXIT))
            .map_err(|error| failed(&error))?;
        program
            .pin(pins.program(EXIT))
            .map_err(|error| failed(&error))?;
    }
    Ok(missing)
}

fn attach_raw(
    ebpf: &mut Ebpf,
    name: &'static str,
    tracepoint: &str,
    pins: Option<&Pins>,
) -> Result<(), KernelError> {
    let failed = |error: &dyn std::error::Error| attach_error(name, error);
    let program = raw(ebpf, name)?;
    program.load().map_err(|error| failed(&error))?;
    let link = program.attach(tracepoint).map_err(|error| failed(&error))?;
    if let Some(pins) = pins {
        let link = program.take_link(link).map_err(|error| failed(&error))?;
        FdLink::from(link)
            .pin(pins.link(name))
            .map_err(|error| failed(&error))?;
        program
            .pin(pins.program(name))
            .map_err(|error| failed(&error))?;
    }
    Ok(())
}

fn raw<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut RawTracePoint, KernelError> {
    ebpf.program_mut(name)
        .ok_or(KernelError::NoMap(name))?
        .try_into()
        .map_err(|error| attach_error(name, &error))
}

/// Asks the kernel who this process is, by a run of the discovery program in its own context.
pub(super) fn discover(source: &mut Source<'_>) -> Result<SelfFound, KernelError> {
    const NAME: &str = "discover";
    let run = |program: &RawTracePoint| {
        program
            .test_run(RawTracePointRunOptions::new())
            .map(drop)
            .map_err(|error| attach_error(NAME, &error))
    };
    match source {
        Source::Loaded(ebpf) => run(raw(ebpf, NAME)?)?,
        Source::Pinned(pins) => run(&program(pins, NAME)?)?,
    }
    let answer: Array<MapData, SelfFound> = source.take("SELF")?;
    let found = answer
        .get(&0, 0)
        .map_err(|source| map_error("SELF", source))?;
    if found.pid_tgid == 0 {
        Err(KernelError::NotDiscovered)
    } else {
        Ok(found)
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
        task_thread_pointer: thread_pointer(&types),
    })
}

/// Where a task keeps the thread pointer of user space; 0 where that is not known how to be used.
fn thread_pointer(types: &KernelTypes) -> u32 {
    if !cfg!(target_arch = "x86_64") {
        return 0;
    }
    let thread = types.offsets("task_struct", ["thread"]);
    let base = types.offsets("thread_struct", ["fsbase"]);
    match (thread, base) {
        (Ok([thread]), Ok([base])) => thread + base,
        _ => 0,
    }
}

/// Whether `mark_victim` gives the victim as a task, and not only its pid: Linux from 6.9 on, and
/// later releases of older lines. Both record the pid; only those that get the task record its uid.
fn gives_victim_as_task() -> bool {
    KernelTypes::of_this_kernel()
        .and_then(|types| types.offsets("trace_event_raw_mark_victim", ["uid"]))
        .is_ok()
}

/// `recursion_misses` of a program; kernels that do not count them give 0.
fn recursion_misses(program: BorrowedFd<'_>) -> std::io::Result<u64> {
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
