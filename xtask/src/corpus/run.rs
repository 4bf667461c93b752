//! One recording.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::json;

use super::fault::Fault;
use super::product::Product;
use super::start::{POD, Running};
use crate::lab::{Lab, send_signal, wait_for_end};
use crate::workspace::Workspace;

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Load before anything is done to the server.
const BEFORE: Duration = Duration::from_secs(5);

/// What a recording is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Run {
    /// To learn from.
    Train,
    /// Normal time of another run, to measure on.
    Normal,
    /// Five times the load.
    Heavy,
    /// A fifth of the load.
    Light,
    Faulty(Fault),
}

impl Run {
    pub(crate) fn all(product: &Product) -> Vec<Self> {
        let faults = product.faults.iter().map(|fault| Self::Faulty(*fault));
        [Self::Train, Self::Normal, Self::Heavy, Self::Light]
            .into_iter()
            .chain(faults)
            .collect()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Normal => "normal",
            Self::Heavy => "heavy",
            Self::Light => "light",
            Self::Faulty(fault) => fault.name(),
        }
    }

    fn scale(self) -> f64 {
        match self {
            Self::Heavy => 5.0,
            Self::Light => 0.2,
            Self::Train | Self::Normal | Self::Faulty(_) => 1.0,
        }
    }

    /// Time under load, that before a fault not counted.
    fn span(self) -> Duration {
        Duration::from_secs(match self {
            Self::Train => 30,
            Self::Normal => 18,
            Self::Heavy | Self::Light => 12,
            Self::Faulty(_) => 8,
        })
    }
}

/// Records `run` of `product` into `file`, and what was done beside it.
pub(crate) fn record(
    workspace: &Workspace,
    lab: &Lab,
    product: &Product,
    run: Run,
    file: &Path,
) -> Result<()> {
    let began = Instant::now();
    let mut running = Running::start(workspace, lab, product)?;
    let recorder = Recorder::start(workspace, lab, file)?;
    let load = Load::start(workspace, lab, &running, product.protocol, run.scale())?;
    let mut onset = None;
    if let Run::Faulty(fault) = run {
        thread::sleep(BEFORE);
        running.check()?;
        onset = Some(unix_ns());
        fault.inject(lab, &mut running).context(fault.name())?;
    }
    thread::sleep(run.span());
    if onset.is_none() {
        running.check()?;
    }
    let end = unix_ns();
    let answered = load.finish()?;
    recorder.finish()?;
    let label = json!({
        "product": product.name,
        "type": product.kind,
        "run": run.name(),
        "load": run.scale(),
        "fault_onset_unix_ns": onset,
        "end_unix_ns": end,
        "answered": answered,
    });
    fs::write(super::label(file), format!("{label}\n"))?;
    eprintln!(
        "{:<15}{:<20}{answered:>9} answers {:>8} KiB {:>5.0} s",
        product.name,
        run.name(),
        fs::metadata(file)?.len() >> 10,
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

fn unix_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

/// `stethos record` of the pod.
struct Recorder(Child);

impl Recorder {
    fn start(workspace: &Workspace, lab: &Lab, file: &Path) -> Result<Self> {
        let log = lab.path("record.log");
        let mut command = workspace.stethos();
        command
            .args(["record", "--target"])
            .arg(format!("cgroup={}", lab.cgroup(POD).display()))
            .arg("--output")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).with_context(|| log.display().to_string())?);
        command
            .env("STETHOS_CAPTURE_NODE_SOCKET", "off")
            .env("STETHOS_CAPTURE_RING_SIZE", "64MiB")
            .env("STETHOS_CAPTURE_MAX_THREADS", "2048");
        let mut recorder = Self(lab.spawn("stethos", &mut command)?);
        let end = Instant::now() + START_LIMIT;
        while !fs::read_to_string(&log)?.contains("recording") {
            let ended = recorder.0.try_wait()?;
            let said = || fs::read_to_string(&log).unwrap_or_default();
            ensure!(ended.is_none(), "stethos record ended: {}", said());
            ensure!(Instant::now() < end, "stethos does not record: {}", said());
            thread::sleep(Duration::from_millis(20));
        }
        Ok(recorder)
    }

    fn finish(mut self) -> Result<()> {
        // The last windows stand for a moment before they are read.
        thread::sleep(Duration::from_millis(400));
        send_signal(&self.0, Signal::SIGTERM)?;
        let status = wait_for_end(&mut self.0, STOP_LIMIT).context("stethos record")?;
        ensure!(status.success(), "stethos record failed: {status}");
        Ok(())
    }
}

/// Clients, outside of the pod.
struct Load(Child);

impl Load {
    fn start(
        workspace: &Workspace,
        lab: &Lab,
        running: &Running,
        protocol: &str,
        scale: f64,
    ) -> Result<Self> {
        let mut command = Command::new(workspace.binary("load"));
        command
            .args([protocol, &running.port.to_string(), &scale.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        Ok(Self(lab.spawn("load", &mut command)?))
    }

    /// Ends it; gives how many requests were answered.
    fn finish(mut self) -> Result<u64> {
        if let Some(mut input) = self.0.stdin.take() {
            input.flush()?;
        }
        wait_for_end(&mut self.0, STOP_LIMIT).context("the load")?;
        let mut said = String::new();
        if let Some(mut output) = self.0.stdout.take() {
            std::io::Read::read_to_string(&mut output, &mut said)?;
        }
        said.trim().parse().context("the load said no number")
    }
}
