//! A pod and what is around it: containers in namespaces and cgroups of their own, dependencies
//! and clients outside of them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::load::Load;
use super::namespaces::{listens_in, namespaces};
use super::script::Script;
use super::spec::{App, Process};
use super::variables::{
    APP, BINARIES, CLIENT_ADDRESS, DEPENDENCY_ADDRESS, LIBRARY, POD_ADDRESS, Variables, WORK,
};
use crate::lab::{Inside, Lab, Relay, User};

/// The cgroup whose children are the containers.
pub(super) const POD: &str = "pod";
const OUTSIDE: &str = "outside";
const START_LIMIT: Duration = Duration::from_secs(40);
const STEP: Duration = Duration::from_millis(20);
/// From the end of a container to its next start.
const RESTART: Duration = Duration::from_millis(500);
/// A relayed dependency listens so many ports above where it is asked.
const BEHIND_RELAY: u16 = 10_000;
/// Of containers and scripts, whoever runs the lab: recordings name the folders that are searched.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const NETWORK: &str = include_str!("network.sh");

pub(super) struct Pod<'a> {
    lab: &'a Lab,
    app: &'a App,
    /// As the lab sees it; `$LAB_WORK` in the pod.
    pub(super) work: PathBuf,
    pub(super) variables: Variables,
    /// Namespaces of the pod.
    pub(super) inside: Inside,
    /// The network outside of the pod, in its mount namespace.
    outside: Inside,
    processes: Vec<Running>,
    relays: BTreeMap<String, Relay>,
    pub(super) load: Option<Load>,
    /// Hold the namespaces: of the pod, and outside of it.
    pauses: [Child; 2],
}

/// A container or a dependency.
struct Running {
    spec: Process,
    is_container: bool,
    group: String,
    child: Option<Child>,
    ended_at: Option<Instant>,
}

impl<'a> Pod<'a> {
    /// Starts all of it but the load, and waits until it listens.
    pub(super) fn start(
        lab: &'a Lab,
        app: &'a App,
        library: &Path,
        cache: &Path,
        binaries: &Path,
        seed: u64,
    ) -> Result<Self> {
        let work = lab.folder("work")?;
        for folder in ["data", "control", "logs"] {
            fs::create_dir(work.join(folder))?;
        }
        let (pod_pause, inside) = namespaces(lab, &["--net", "--mount", "--propagation=private"])?;
        let (outside_pause, network) = namespaces(lab, &["--net"])?;
        let outside = Inside {
            network: network.network,
            mounts: inside.mounts.as_ref().map(File::try_clone).transpose()?,
            ..Inside::default()
        };
        let mut variables = Variables::default();
        for (name, value) in [
            ("LAB_WORK", WORK.to_owned()),
            ("LAB_DATA", format!("{WORK}/data")),
            ("LAB_CONTROL", format!("{WORK}/control")),
            ("LAB_LOGS", format!("{WORK}/logs")),
            ("LAB_APP", APP.to_owned()),
            ("LAB_LIB", LIBRARY.to_owned()),
            ("LAB_BIN", BINARIES.to_owned()),
            ("LAB_HOST_APP", app.folder.display().to_string()),
            ("LAB_HOST_LIB", library.display().to_string()),
            ("LAB_HOST_BIN", binaries.display().to_string()),
            ("LAB_CACHE", cache.display().to_string()),
            ("LAB_SEED", seed.to_string()),
            ("LAB_POD_ADDRESS", POD_ADDRESS.to_owned()),
            ("LAB_CLIENT_ADDRESS", CLIENT_ADDRESS.to_owned()),
            ("LAB_DEPENDENCY_ADDRESS", DEPENDENCY_ADDRESS.to_owned()),
            ("LAB_PORT", app.port.to_string()),
            ("LAB_TARGET", format!("{POD_ADDRESS}:{}", app.port)),
            ("LAB_POD_NET", format!("/proc/{}/ns/net", pod_pause.id())),
            (
                "LAB_OUTSIDE_NET",
                format!("/proc/{}/ns/net", outside_pause.id()),
            ),
            ("LAB_DISK", app.disk.unwrap_or_default().to_string()),
            ("LAB_HOST_WORK", work.display().to_string()),
            ("LAB_OUTSIDE_PID", outside_pause.id().to_string()),
            ("PATH", PATH.to_owned()),
            ("PYTHONUNBUFFERED", "1".to_owned()),
            ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
        ] {
            variables.set(name, value);
        }
        variables.set("LAB_LOAD", variables.fill_all(&app.load.command)?.join(" "));
        for dependency in &app.dependencies {
            let port = dependency.port.unwrap_or_default();
            variables.set_of("PORT_", &dependency.name, port);
            let at = format!("{DEPENDENCY_ADDRESS}:{port}");
            variables.set_of("ADDRESS_", &dependency.name, at);
        }
        let mut pod = Self {
            lab,
            app,
            work,
            variables,
            inside,
            outside,
            processes: Vec::new(),
            relays: BTreeMap::new(),
            load: None,
            pauses: [pod_pause, outside_pause],
        };
        pod.script(&Script::text("network", NETWORK))?;
        for one in app.dependencies.iter().map(|one| (one, false)) {
            pod.describe(one.0, one.1);
        }
        for one in &app.containers {
            pod.describe(one, true);
        }
        if let Some(prepare) = &app.prepare {
            pod.script(&Script::file(&app.folder.join(prepare)))?;
        }
        for (process, is_container) in app
            .dependencies
            .iter()
            .map(|one| (one, false))
            .chain(app.containers.iter().map(|one| (one, true)))
        {
            pod.add(process, is_container)?;
        }
        Ok(pod)
    }

    pub(super) fn app(&self) -> &App {
        self.app
    }

    /// Says where a container or dependency will be.
    fn describe(&mut self, process: &Process, is_container: bool) {
        let group = group_of(process, is_container);
        let name = &process.name;
        self.variables
            .set_of("CGROUP_", name, self.lab.cgroup(&group).display());
    }

    fn add(&mut self, process: &Process, is_container: bool) -> Result<()> {
        let mut running = Running {
            group: group_of(process, is_container),
            spec: process.clone(),
            is_container,
            child: None,
            ended_at: None,
        };
        self.start_process(&mut running)?;
        self.processes.push(running);
        if let Some(port) = process.port {
            let listens = if is_container {
                port
            } else {
                listen_port(process)
            };
            self.wait_for(is_container, listens, &process.name)?;
        }
        if process.relay {
            let at = |port: u16| SocketAddr::from(([10, 203, 1, 1], port));
            let relay = Relay::start_in(
                self.outside.network.as_ref(),
                at(process.port.unwrap_or_default()),
                at(listen_port(process)),
            )?;
            self.relays.insert(process.name.clone(), relay);
        }
        Ok(())
    }

    fn start_process(&self, running: &mut Running) -> Result<()> {
        let spec = &running.spec;
        let mut variables = self.variables.clone();
        if !running.is_container {
            variables.set("LAB_LISTEN", listen_port(spec));
        }
        let words = variables.fill_all(&spec.command)?;
        let mut command = self.command(&words, &format!("{}.log", spec.name))?;
        // A container is told what its file says, as it would be anywhere.
        command.env("PATH", PATH);
        for (name, value) in &spec.env {
            command.env(name, variables.fill(value)?);
        }
        let place = if running.is_container {
            &self.inside
        } else {
            &self.outside
        };
        let mut place = place.try_clone()?;
        place.limited = running.is_container;
        place.folder = Some(WORK.into());
        place.user = spec.user.as_deref().map(User::named).transpose()?;
        let child = self
            .lab
            .spawn_inside(&running.group, &place, &mut command)?;
        fs::write(self.control(&spec.name, "pid"), child.id().to_string())?;
        running.child = Some(child);
        running.ended_at = None;
        Ok(())
    }

    fn command(&self, words: &[String], log: &str) -> Result<Command> {
        let path = self.work.join("logs").join(log);
        let log = File::options().create(true).append(true).open(&path);
        let log = log.with_context(|| path.display().to_string())?;
        let (program, arguments) = words.split_first().context("an empty command")?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }

    fn control(&self, name: &str, what: &str) -> PathBuf {
        self.work.join("control").join(format!("{name}.{what}"))
    }

    /// Starts what ended again, unless a script keeps it down; passes settings on to relays.
    pub(super) fn supervise(&mut self) -> Result<()> {
        let mut processes = std::mem::take(&mut self.processes);
        let supervised = processes.iter_mut().try_for_each(|one| {
            if let Some(child) = &mut one.child
                && child.try_wait()?.is_some()
            {
                // A container ends with its main process.
                self.lab.kill(&one.group)?;
                one.child = None;
                one.ended_at = Some(Instant::now());
            }
            let kept_down = self.control(&one.spec.name, "down").exists();
            let rested = one.ended_at.is_none_or(|at| at.elapsed() >= RESTART);
            if one.child.is_none() && !kept_down && rested {
                self.start_process(one)?;
            }
            Ok(())
        });
        self.processes = processes;
        supervised.and_then(|()| self.set_relays())
    }

    fn set_relays(&self) -> Result<()> {
        for (name, relay) in &self.relays {
            let path = self.control(name, "relay");
            let text = fs::read_to_string(&path).unwrap_or_default();
            let settings = super::script::relay_settings(&text);
            relay.set(settings.with_context(|| path.display().to_string())?);
            let process = self.processes.iter().find(|one| one.spec.name == *name);
            if let Some(child) = process.and_then(|one| one.child.as_ref()) {
                relay.watch(child.id());
            }
        }
        Ok(())
    }

    /// Starts the clients.
    pub(super) fn start_load(&mut self, rate: f64, crowd: u32) -> Result<()> {
        let factor = self.work.join("control/load.factor");
        fs::write(&factor, "1")?;
        let mut variables = self.variables.clone();
        variables.set("LAB_RATE", rate);
        variables.set("LAB_CROWD", crowd);
        variables.set("LAB_FACTOR", format!("{WORK}/control/load.factor"));
        let words = variables.fill_all(&self.app.load.command)?;
        let mut command = self.command(&words, "load.log")?;
        variables.give_to(&mut command);
        let mut place = self.outside.try_clone()?;
        place.folder = Some(WORK.into());
        self.load = Some(Load::start(self.lab, &place, &mut command)?);
        Ok(())
    }

    /// Runs a script in the pod's namespaces, outside of its containers.
    pub(super) fn script(&mut self, script: &Script) -> Result<String> {
        script.run(self.lab, &self.inside, &self.variables, &self.work)
    }

    /// Whether the application is well.
    pub(super) fn is_well(&mut self) -> bool {
        match &self.app.probe {
            Some(probe) => {
                let script = Script::file(&self.app.folder.join(probe));
                self.script(&script).is_ok()
            }
            None => self.connects(true, self.app.port),
        }
    }

    /// Waits until it is well; restarts meanwhile what ended.
    pub(super) fn wait_well(&mut self, limit: Duration) -> Result<bool> {
        let end = Instant::now() + limit;
        loop {
            self.supervise()?;
            if self.is_well() {
                return Ok(true);
            }
            if Instant::now() > end {
                return Ok(false);
            }
            thread::sleep(5 * STEP);
        }
    }

    fn wait_for(&mut self, in_pod: bool, port: u16, name: &str) -> Result<()> {
        let end = Instant::now() + START_LIMIT;
        while !self.connects(in_pod, port) {
            let ended = self.processes.iter_mut().find_map(|one| {
                let status = one.child.as_mut()?.try_wait().ok()??;
                Some((one.spec.name.clone(), status))
            });
            if let Some((name, status)) = ended {
                bail!("{name} ended: {status}: {}", self.log(&name));
            }
            let waited = Instant::now() < end;
            ensure!(
                waited,
                "{name} does not listen at {port}: {}",
                self.log(name)
            );
            thread::sleep(STEP);
        }
        Ok(())
    }

    /// The end of what a process printed.
    fn log(&self, name: &str) -> String {
        let path = self.work.join("logs").join(format!("{name}.log"));
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }

    fn connects(&self, in_pod: bool, port: u16) -> bool {
        let [pod, outside] = &self.pauses;
        listens_in(if in_pod { pod } else { outside }, port)
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        let processes = self
            .processes
            .iter_mut()
            .filter_map(|one| one.child.as_mut());
        for child in processes.chain(&mut self.pauses) {
            // What they started goes with the lab.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn group_of(process: &Process, is_container: bool) -> String {
    let parent = if is_container { POD } else { OUTSIDE };
    format!("{parent}/{}", process.name)
}

fn listen_port(process: &Process) -> u16 {
    let port = process.port.unwrap_or_default();
    if process.relay {
        port + BEHIND_RELAY
    } else {
        port
    }
}
