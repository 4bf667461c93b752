//! `cargo xtask demo`: the shop under load with Stethos beside it, real faults, and what Stethos
//! said about each.

mod faults;
mod judge;
mod shipped;
mod shop;
mod timeline;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::lab::{
    Inside, Lab, Line, Sidecar, SidecarOptions, Usage, is_interrupted, listen_for_interrupts,
    not_interrupted,
};
use crate::workspace::Workspace;
use faults::Fault;
use judge::{Judge, Verdict};
use shipped::Shipped;
use shop::{CONTAINERS, Shop};
use timeline::Timeline;

/// Requests per second.
const RATE: u32 = 40;
/// Learning must end within this.
const LEARNING_LIMIT: Duration = Duration::from_secs(240);
/// Undisturbed time before each fault.
const NORMAL: Duration = Duration::from_secs(20);
/// Undisturbed time from a restore on; Stethos may still confirm what it saw.
pub(crate) const GRACE: Duration = Duration::from_secs(10);
/// How long the demo may stay deaf to Ctrl-C.
const STEP: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DemoOptions {
    /// Inject these, in this order [default: all but keep-alive-off and price-list-folder]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "FAULTS")]
    pub(crate) faults: Vec<Fault>,
    /// Inject three faults whose errors show at once
    #[arg(long, conflicts_with = "faults")]
    pub(crate) quick: bool,
    /// Keep running until Ctrl-C, for faults by hand; injects only what --faults names
    #[arg(long)]
    pub(crate) keep: bool,
    /// Requests per second
    #[arg(long, default_value_t = RATE)]
    pub(crate) rate: u32,
    /// A collector that takes OTLP over HTTP, for the shop's spans and Stethos's diagnoses
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub(crate) otlp_endpoint: Option<String>,
    /// Folder of the binaries [default: the release folder of this workspace]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) binaries: Option<PathBuf>,
}

impl DemoOptions {
    fn faults(&self) -> Vec<Fault> {
        match () {
            () if !self.faults.is_empty() => self.faults.clone(),
            () if self.quick => Fault::QUICK.to_vec(),
            () if self.keep => Vec::new(),
            () => Fault::DEFAULT.to_vec(),
        }
    }
}

/// Runs the demo and prints its timeline.
///
/// # Errors
/// When a part cannot be started or dies, or when a fault was injected and not diagnosed.
pub(crate) fn run(options: DemoOptions) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the demo makes cgroups, mounts a small disk and loads kernel programs: run it as root"
    );
    listen_for_interrupts()?;
    let workspace = Workspace::find()?;
    let binaries = match &options.binaries {
        Some(folder) => folder.clone(),
        None => workspace.target.join("release"),
    };
    let logs = workspace.logs().join("demo");
    std::fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;

    let lab = Lab::new("stethos-demo")?;
    let timeline = Timeline::new();
    let started = Demo::start(&lab, &options, &binaries, &logs, timeline);
    let missed = started.and_then(|mut demo| {
        let played = demo.play(&options);
        played.map_err(|error| anyhow!("{error:#}\n{}", demo.sidecar.last_words()))
    });
    let missed =
        missed.with_context(|| format!("the demo ended early; logs: {}", logs.display()))?;
    ensure!(
        missed == 0,
        "{missed} faults were missed (logs: {})",
        logs.display()
    );
    Ok(())
}

/// What Stethos uses while it watches the undisturbed shop for `span`, once it has learned it.
/// The timeline goes to standard error.
///
/// # Errors
/// When a part cannot be started or dies, or Stethos does not get to watching.
pub(crate) fn under_load(workspace: &Workspace, span: Duration) -> Result<Usage> {
    listen_for_interrupts()?;
    let options = DemoOptions {
        faults: Vec::new(),
        quick: false,
        keep: false,
        rate: RATE,
        otlp_endpoint: None,
        binaries: None,
    };
    let logs = workspace.logs().join("bench");
    std::fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
    let lab = Lab::new("stethos-bench")?;
    let binaries = workspace.target.join("release");
    let mut demo = Demo::start(
        &lab,
        &options,
        &binaries,
        &logs,
        Timeline::on_standard_error(),
    )?;
    demo.learn()?;
    demo.sidecar.measure_from_now()?;
    demo.follow(span)?;
    demo.sidecar.usage()
}

struct Demo<'a> {
    shop: Shop<'a>,
    sidecar: Sidecar,
    judge: Judge,
    /// Whether the demo alone breaks things, so that anything else is a false alarm.
    judging: bool,
    timeline: Timeline,
    shipped: Shipped,
    started: Instant,
}

impl<'a> Demo<'a> {
    fn start(
        lab: &'a Lab,
        options: &DemoOptions,
        binaries: &Path,
        logs: &Path,
        mut timeline: Timeline,
    ) -> Result<Self> {
        let endpoint = options.otlp_endpoint.as_deref();
        let shop = Shop::start(lab, binaries, logs, options.rate, endpoint)?;
        let pod = lab.cgroup("pod");
        timeline.text(&format!(
            "shop: {} in cgroup {} · {} requests/s",
            CONTAINERS.join(", "),
            pod.display(),
            options.rate
        ))?;
        let sidecar = Sidecar::start(
            lab,
            SidecarOptions {
                binary: &binaries.join("stethos"),
                pod: &pod,
                state: &lab.folder("state")?,
                logs,
                endpoint,
                recording: None,
                settings: &[],
                inside: &Inside::default(),
            },
        )?;
        Ok(Self {
            shop,
            sidecar,
            judge: Judge::default(),
            judging: true,
            timeline,
            shipped: Shipped::default(),
            started: Instant::now(),
        })
    }

    /// The number of faults that were missed.
    fn play(&mut self, options: &DemoOptions) -> Result<usize> {
        self.learn()?;
        let missed = match options.faults().as_slice() {
            [] => 0,
            faults => self.try_out(faults)?,
        };
        if options.keep {
            self.by_hand()?;
        }
        self.sidecar.stop()?;
        Ok(missed)
    }

    /// Injects `faults` with normal times between them, and sums up. The number that was missed.
    fn try_out(&mut self, faults: &[Fault]) -> Result<usize> {
        self.sidecar.measure_from_now()?;
        let watching = Instant::now();
        for &fault in faults {
            self.follow(NORMAL)?;
            self.disturb(fault)?;
        }
        self.follow(NORMAL)?;
        let summary = self.judge.summary(watching.elapsed());
        let usage = self.sidecar.usage()?;
        self.timeline.text(&format!("{summary}\n{usage}"))?;
        Ok(summary.missed())
    }

    /// Follows Stethos until it watches every container of the shop.
    fn learn(&mut self) -> Result<()> {
        let mut watched = BTreeSet::new();
        let end = Instant::now() + LEARNING_LIMIT;
        while watched.len() < CONTAINERS.len() {
            ensure!(
                Instant::now() < end,
                "after {} s Stethos watches only {watched:?} of {CONTAINERS:?}",
                LEARNING_LIMIT.as_secs()
            );
            if let Some(Line::Phase(phase)) = self.next_line(end)?
                && phase.is_watching()
            {
                watched.insert(phase.container);
            }
            not_interrupted()?;
        }
        Ok(())
    }

    fn disturb(&mut self, fault: Fault) -> Result<()> {
        self.shop.check()?;
        let before = self.shop.take_tally();
        self.shop.inject(fault)?;
        self.judge.inject(self.started.elapsed(), fault);
        self.event("inject", &format!("{} · until now {before}", fault.told()))?;
        self.follow(fault.duration())?;

        let meanwhile = self.shop.take_tally();
        self.shop.restore(fault)?;
        self.judge.restore(self.started.elapsed());
        self.event("restore", &format!("meanwhile {meanwhile}"))?;
        self.follow(GRACE)?;
        if self.judge.missed_last() {
            self.event("MISSED", fault.told())?;
        }
        Ok(())
    }

    /// Shows what Stethos says until Ctrl-C, without judging it.
    fn by_hand(&mut self) -> Result<()> {
        self.timeline.text(&self.shop.by_hand())?;
        self.judging = false;
        while !is_interrupted() {
            self.next_line(Instant::now() + STEP)?;
        }
        Ok(())
    }

    fn event(&mut self, label: &str, text: &str) -> Result<()> {
        self.timeline.event(self.started.elapsed(), label, text)
    }

    /// Prints and judges what Stethos says for so long.
    fn follow(&mut self, duration: Duration) -> Result<()> {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.next_line(end)?;
            not_interrupted()?;
        }
        Ok(())
    }

    /// Waits a step, at most until `end`, for one line of Stethos; prints and judges it.
    fn next_line(&mut self, end: Instant) -> Result<Option<Line>> {
        let wait = end.saturating_duration_since(Instant::now()).min(STEP);
        let line = match self.sidecar.lines.recv_timeout(wait) {
            Ok(heard) => heard.line,
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("stethos ended by itself"),
        };
        let now = self.started.elapsed();
        match &line {
            Line::Phase(phase) => self.timeline.phase(now, phase)?,
            Line::Capturing(capturing) => {
                if let Some(shipped) = self.shipped.hear(capturing) {
                    self.event("shipping", &shipped)?;
                }
            }
            Line::Diagnosis(diagnosis) => {
                self.timeline.diagnosis(now, diagnosis)?;
                if self.judging && self.judge.hear(now, diagnosis) == Verdict::FalseAlarm {
                    self.event("FALSE ALARM", "nothing is broken now")?;
                }
            }
        }
        Ok(Some(line))
    }
}
