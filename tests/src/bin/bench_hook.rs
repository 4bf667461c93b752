//! Attaches kernel programs for `cargo xtask bench capture`: `bench-hook pair | filtered |
//! captured | familiar --pid PID`. Says `ready` when they are attached; detaches and ends at end of input.

use std::{
    env, fs,
    io::{self, Read as _, Write as _},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, bail};
use aya::{Btf, Ebpf, programs::BtfTracePoint};
use stethos::capture::{
    self, Settings,
    kernel::{Capacity, PID_TARGET},
    reader::monotonic_ns,
    reduction::ContextTokens,
    targets::Target,
};
use stethos_events::CONTEXT_TOKENS;
use stethos_tests::cgroup::Cgroup;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let usage = "bench-hook pair | filtered | captured | familiar --pid PID";
    let [variant, option, pid] = arguments.as_slice() else {
        bail!(usage)
    };
    if option != "--pid" {
        bail!(usage);
    }
    match variant.as_str() {
        "pair" => {
            let _attached = pair()?;
            wait()
        }
        // The caller is not in this cgroup: every call of it is filtered out.
        "filtered" => {
            let cgroup = Cgroup::new("bench")?;
            watch(Target::Cgroup(cgroup.path().to_owned()), None)
        }
        "captured" => watch(Target::Pid(pid.parse().context(usage)?), None),
        "familiar" => {
            let pid = pid.parse().context(usage)?;
            watch(Target::Pid(pid), Some(PID_TARGET | u64::from(pid)))
        }
        _ => bail!(usage),
    }
}

/// Says that the programs are attached, and waits for the end of input.
fn wait() -> anyhow::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "ready")?;
    out.flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Watches `target`; with a container, `getppid` after `getppid` is familiar there.
fn watch(target: Target, container: Option<u64>) -> anyhow::Result<()> {
    let settings = Settings {
        capacity: Capacity {
            window_ring_bytes: 16 << 20,
            event_ring_bytes: 1 << 20,
            threads: 1024,
        },
        poll_interval: Duration::from_millis(25),
        snapshot_interval: Duration::from_millis(250),
        http: true,
    };
    let capture::Live {
        mut records,
        stop,
        reducer,
        ..
    } = capture::start(&[target], settings)?;
    if let Some(container) = container {
        let call = syscalls::Sysno::getppid.id() as u16;
        let context = (0..CONTEXT_TOKENS).fold(ContextTokens::default(), |c, _| c.after(call, 1));
        let mut reducer = reducer.lock();
        if let Err(full) = reducer.learn(container, context, u8::MAX) {
            bail!("no room for a context: {full:?}");
        }
        reducer.start(1024, monotonic_ns());
    }
    let reader = std::thread::spawn(move || while records.blocking_recv().is_some() {});
    wait()?;
    drop(stop);
    if reader.join().is_err() {
        bail!("the reader failed");
    }
    Ok(())
}

fn pair() -> anyhow::Result<Ebpf> {
    let path = artifacts()?.join("pair.bpf.o");
    let object = fs::read(&path).with_context(|| path.display().to_string())?;
    let btf = Btf::from_sys_fs()?;
    let mut ebpf = Ebpf::load(&object)?;
    for name in ["sys_exit", "sys_enter"] {
        let program: &mut BtfTracePoint = ebpf
            .program_mut(name)
            .context("a program is missing")?
            .try_into()?;
        program.load(name, &btf)?;
        program.attach()?;
    }
    Ok(ebpf)
}

/// `test-artifacts` beside the folder of this program.
fn artifacts() -> anyhow::Result<PathBuf> {
    let program = env::current_exe()?;
    let build_folder = program
        .ancestors()
        .nth(2)
        .context("this program lies in no build folder")?;
    Ok(build_folder.join("test-artifacts"))
}
