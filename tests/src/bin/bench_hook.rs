//! What `cargo xtask bench` starts beside what it measures: `bench-hook WHAT --NAME VALUE …`. Says
//! `ready` when it has attached its kernel programs; detaches and ends at end of input.
//!
//! - `pair`: two empty programs; `filtered`: Stethos watches a cgroup without processes
//! - `captured --pid PID | --cgroup PATH [--http off]`: Stethos captures that
//! - `familiar --pid PID`: the same, and knows `getppid` after `getppid`
//! - `served --socket SOCKET --sidecars N --pods FOLDER`: sidecars in this process, of pods that are
//!   cgroups below FOLDER, each served by the broker at SOCKET; the first pod is `pod-0`
//! - `self-contained --sidecars N --pods FOLDER`: the same with programs of their own
//! - `saturated --cgroup PATH --ring BYTES`: captures with a ring of this size; at the end one line
//!   with what became of the calls

use std::{
    env, fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, bail};
use aya::{Btf, Ebpf, programs::BtfTracePoint};
use stethos::{
    capture::{
        self, Live, NodeSocket, Settings, Stop,
        kernel::{Capacity, PID_TARGET},
        reader::monotonic_ns,
        reduction::ContextTokens,
        targets::Target,
    },
    record::{Account, Record},
};
use stethos_events::CONTEXT_TOKENS;
use stethos_tests::cgroup::Cgroup;
use tokio::sync::mpsc::Receiver;

const USAGE: &str = "bench-hook WHAT --NAME VALUE …; the source says which";
const RING: u32 = 16 << 20;
/// Of a sidecar whose pod makes no calls.
const QUIET_RING: u32 = 64 << 10;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (what, options) = arguments.split_first().context(USAGE)?;
    let options = Options(options);
    match what.as_str() {
        "pair" => {
            let _attached = pair()?;
            wait()
        }
        // The caller is not in this cgroup: every call of it is filtered out.
        "filtered" => {
            let cgroup = Cgroup::new("bench")?;
            watch(&[Target::Cgroup(cgroup.path().to_owned())], None)
        }
        "captured" => watch_with(&[options.target()?], None, options.value("--http").is_err()),
        "familiar" => {
            let pid: u32 = options.number("--pid")?;
            watch(&[Target::Pid(pid)], Some(PID_TARGET | u64::from(pid)))
        }
        "served" => {
            let socket = NodeSocket::At(options.value("--socket")?.into());
            sidecars(&socket, options.number("--sidecars")?, &options.folder()?)
        }
        "self-contained" => sidecars(
            &NodeSocket::Own,
            options.number("--sidecars")?,
            &options.folder()?,
        ),
        "saturated" => saturated(&options.target()?, options.number("--ring")?),
        _ => bail!(USAGE),
    }
}

/// `--NAME VALUE` pairs.
struct Options<'a>(&'a [String]);

impl Options<'_> {
    fn value(&self, name: &str) -> anyhow::Result<&str> {
        let mut pairs = self.0.chunks_exact(2);
        let found = pairs.find(|pair| pair[0] == name);
        Ok(&found.with_context(|| format!("{name} is missing: {USAGE}"))?[1])
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> anyhow::Result<T> {
        let value = self.value(name)?.parse().ok();
        value.with_context(|| format!("{name} is no number"))
    }

    fn folder(&self) -> anyhow::Result<PathBuf> {
        self.value("--pods").map(PathBuf::from)
    }

    fn target(&self) -> anyhow::Result<Target> {
        match self.value("--cgroup") {
            Ok(path) => Ok(Target::Cgroup(path.into())),
            Err(_) => Ok(Target::Pid(self.number("--pid")?)),
        }
    }
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Says that the programs are attached, and waits for the end of input.
fn wait() -> anyhow::Result<()> {
    say("ready")?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn settings(ring: u32, poll_interval: Duration) -> Settings {
    Settings {
        capacity: Capacity {
            window_ring_bytes: ring,
            event_ring_bytes: 1 << 20,
            threads: 512,
        },
        poll_interval,
        snapshot_interval: Duration::from_millis(250),
        http: true,
    }
}

const POLL: Duration = Duration::from_millis(25);

/// Watches `targets`; with a container, `getppid` after `getppid` is familiar there.
fn watch(targets: &[Target], container: Option<u64>) -> anyhow::Result<()> {
    watch_with(targets, container, true)
}

/// The same, with or without heads of requests.
fn watch_with(targets: &[Target], container: Option<u64>, http: bool) -> anyhow::Result<()> {
    let settings = Settings {
        http,
        ..settings(RING, POLL)
    };
    let Live {
        records,
        stop,
        reducer,
        ..
    } = capture::start(targets, settings)?;
    if let Some(container) = container {
        let call = syscalls::Sysno::getppid.id() as u16;
        let context = (0..CONTEXT_TOKENS).fold(ContextTokens::default(), |c, _| c.after(call, 1));
        let mut reducer = reducer.lock();
        if let Err(full) = reducer.learn(container, context, u8::MAX) {
            bail!("no room for a context: {full:?}");
        }
        reducer.start(1024, monotonic_ns());
    }
    let reading = Reading::start(records, stop);
    wait()?;
    reading.end().map(drop)
}

/// A capture whose records are read and dropped.
struct Reading {
    stop: Stop,
    reader: JoinHandle<(u64, Option<Account>)>,
}

impl Reading {
    fn start(mut records: Receiver<Vec<Record>>, stop: Stop) -> Self {
        let reader = std::thread::spawn(move || {
            let (mut calls, mut last) = (0, None);
            while let Some(batch) = records.blocking_recv() {
                let windows = batch.iter().map(|record| match record {
                    Record::Window(window) => window.calls.len() as u64,
                    _ => 0,
                });
                calls += windows.sum::<u64>();
                last = accounts(&batch).or(last);
            }
            (calls, last)
        });
        Self { stop, reader }
    }

    /// How many calls came, and the last account.
    fn end(self) -> anyhow::Result<(u64, Option<Account>)> {
        drop(self.stop);
        let Ok(read) = self.reader.join() else {
            bail!("the reader failed");
        };
        Ok(read)
    }
}

/// Sum over the containers in the last tick.
fn accounts(batch: &[Record]) -> Option<Account> {
    let tick = batch.iter().rev().find_map(|record| match record {
        Record::Tick(tick) => Some(tick),
        _ => None,
    })?;
    let sum = |mut sum: Account, (_, one): &(_, Account)| {
        sum.seen += one.seen;
        sum.delivered += one.delivered;
        sum.counted += one.counted;
        sum.held += one.held;
        sum.lost_ring_full += one.lost_ring_full;
        sum.lost_no_slot += one.lost_no_slot;
        sum.lost_decode += one.lost_decode;
        sum
    };
    Some(tick.accounts.iter().fold(Account::default(), sum))
}

/// Sidecars of as many pods. A sidecar's pod is the cgroup above its own, so this process goes into
/// each pod before it becomes that pod's sidecar.
fn sidecars(node: &NodeSocket, count: usize, pods: &Path) -> anyhow::Result<()> {
    let mut reading = Vec::new();
    for index in 0..count {
        let pod = pods.join(format!("pod-{index}"));
        let own = pod.join("sidecar");
        fs::create_dir_all(&own).with_context(|| own.display().to_string())?;
        let procs = own.join("cgroup.procs");
        fs::write(&procs, "0").with_context(|| procs.display().to_string())?;
        let ring = if index == 0 { RING } else { QUIET_RING };
        let live = capture::start_with(node, &[Target::Cgroup(pod)], settings(ring, POLL))
            .with_context(|| format!("sidecar {index}"))?;
        reading.push(Reading::start(live.records, live.stop));
    }
    wait()?;
    for one in reading {
        one.end()?;
    }
    Ok(())
}

fn saturated(target: &Target, ring: u32) -> anyhow::Result<()> {
    let live = capture::start(std::slice::from_ref(target), settings(ring, POLL))?;
    let reading = Reading::start(live.records, live.stop);
    wait()?;
    // Slots are read once they stood for 50 ms, in snapshots 250 ms apart.
    std::thread::sleep(Duration::from_secs(1));
    let (came, account) = reading.end()?;
    let account = account.context("no account was given")?;
    let lost = account.lost();
    say(&format!(
        "seen {} delivered {came} counted {} held {} lost {lost}",
        account.seen, account.counted, account.held
    ))?;
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
