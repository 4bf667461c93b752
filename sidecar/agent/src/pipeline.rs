//! Connects the stages: records become windows, windows get verdicts, verdicts and records become
//! diagnoses, diagnoses find their trace and leave.
//!
//! Everything here depends on the records alone, so that a replay gives the same result each time.

mod application;
mod commands;
mod in_force;
mod late;
mod outcome;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use self::application::Application;
use self::late::Late;
pub use self::{commands::CommandError, outcome::Outcome};
use crate::{
    diagnosis::{
        attention::Attention,
        engine::Engine,
        observation::{DiagnosisConfig, Stray},
        reference::Reference,
        report::{IncidentState, Report},
    },
    export::{Contexts, PodInfo, Published, Resource},
    learning::Learning,
    models::Models,
    record::{Account, ContainerIndex, ContainerInfo, Header, LifecycleEvent, Nanos, Record, Tick},
    trace::{Context, Join, JoinConfig},
    windows::{Piece, Windows},
};

pub struct Pipeline {
    header: Header,
    windows: Windows,
    learning: Option<Learning>,
    models: Models,
    engine: Option<Engine>,
    /// None where everything is shipped.
    attention: Option<Attention>,
    /// Containers that still learn while models of another version of their image are in force:
    /// whole streams are wanted of them.
    still_learning: BTreeSet<ContainerIndex>,
    join: Join,
    late: Late,
    contexts: Contexts,
    applications: BTreeMap<ContainerIndex, Application>,
    pod: PodInfo,
}

impl Pipeline {
    /// `learning`: none in a replay. `diagnosis`: none to capture and learn only.
    pub fn new(
        header: Header,
        models: Models,
        learning: Option<Learning>,
        diagnosis: Option<DiagnosisConfig>,
    ) -> Self {
        let engine = diagnosis.map(|config| Engine::new(config, &header));
        Self {
            windows: Windows::new(&header.arch),
            learning,
            models,
            engine,
            attention: None,
            still_learning: BTreeSet::new(),
            join: Join::new(JoinConfig::of_arch(&header.arch)),
            late: Late::default(),
            contexts: Contexts::default(),
            applications: BTreeMap::new(),
            pod: PodInfo::default(),
            header,
        }
    }

    /// Has what is familiar only counted, once everything is learned.
    pub fn reduce(&mut self) {
        if self.engine.is_some() {
            self.attention = Some(Attention::new(&self.header.arch));
        }
    }

    /// What the pod's manifest says of its applications.
    pub fn set_pod(&mut self, pod: PodInfo) {
        self.pod = pod;
    }

    /// What decides whether calls are only counted.
    pub fn attention(&self) -> Option<&Attention> {
        self.attention.as_ref()
    }

    /// There was no room for something that the capture was asked to learn.
    pub fn no_room(&mut self, now_ns: Nanos) {
        if let Some(attention) = &mut self.attention {
            attention.no_room(now_ns);
        }
    }

    /// More kinds of calls of a container were to be learned than can be counted.
    pub fn no_rows(&mut self, container: ContainerIndex, now_ns: Nanos) {
        if let Some(attention) = &mut self.attention {
            attention.no_rows(container, now_ns);
        }
    }

    /// Takes records in the order of capture.
    pub async fn on_batch(&mut self, batch: &[Record]) -> Outcome {
        let mut outcome = Outcome::default();
        let mut steps = Vec::with_capacity(batch.len());
        let mut pieces = Vec::new();
        for record in batch {
            outcome.count_errors(record);
            self.remember(record);
            if let Some(change) = self.learning.as_mut().and_then(|l| l.on_record(record)) {
                self.apply(&change).await;
                outcome.changes.push(change);
            }
            steps.push(Step::Record(record));
            self.windows.on_record(record, &mut pieces);
            self.models.on_record(record);
            self.attend(record);
            for piece in pieces.drain(..) {
                if let (Piece::Window(window), Some(learning)) = (&piece, &mut self.learning) {
                    learning.on_window(window);
                }
                steps.push(Step::Piece(piece));
            }
        }
        self.judge(steps, &mut outcome).await;
        let tick = batch.iter().rev().find_map(|record| match record {
            Record::Tick(tick) => Some(tick),
            _ => None,
        });
        if let Some(tick) = tick {
            self.on_tick(tick, &mut outcome).await;
        }
        self.direct(tick, &mut outcome);
        outcome.sockets = self.engine.as_mut().and_then(Engine::sockets);
        self.publish(&mut outcome);
        outcome
    }

    fn attend(&mut self, record: &Record) {
        let (Some(attention), Some(engine)) = (&mut self.attention, &self.engine) else {
            return;
        };
        let model = |container| learned(engine, &self.still_learning, container);
        match record {
            Record::Window(window) => {
                attention.on_window(window, self.windows.roles(), model(window.container));
            }
            Record::Counts(counts) => attention.on_record(record, model(counts.container)),
            Record::Exchange(timed) => attention.on_record(record, model(timed.container)),
            Record::Lifecycle(one) => attention.on_record(record, model(one.container)),
            _ => attention.on_record(record, None),
        }
    }

    /// Says what is to be shipped from now on.
    fn direct(&mut self, tick: Option<&Tick>, outcome: &mut Outcome) {
        let (Some(attention), Some(engine)) = (&mut self.attention, &self.engine) else {
            return;
        };
        attention.disturbed(engine.disturbed_ns(), "diagnosis found something");
        for stability in &outcome.stability {
            let astray = stability.strays.iter().any(Stray::is_far_off);
            attention.on_stability(
                stability.container,
                stability.at_ns,
                stability.stability,
                astray,
            );
        }
        if let Some(tick) = tick {
            attention.on_tick(tick, |container| {
                learned(engine, &self.still_learning, container)
            });
        }
        outcome.orders = attention.drain();
    }

    /// Name of a container, for people.
    pub fn name(&self, container: ContainerIndex) -> String {
        self.info(container).map_or_else(
            || format!("container-{container}"),
            |info| info.name.clone(),
        )
    }

    fn info(&self, container: ContainerIndex) -> Option<&ContainerInfo> {
        self.applications.get(&container)?.container.as_ref()
    }

    /// The resource of a container's application as far as it is known.
    pub fn resource(&mut self, container: ContainerIndex) -> Arc<Resource> {
        let application = self.applications.entry(container).or_default();
        application.resource(&self.pod)
    }

    pub fn models(&self) -> &Models {
        &self.models
    }

    pub fn learning(&self) -> Option<&Learning> {
        self.learning.as_ref()
    }

    /// Waits until learned models are stored for other replicas, at most for `limit`.
    pub async fn settle(&mut self, limit: Duration) {
        if let Some(learning) = &mut self.learning {
            learning.settle(limit).await;
        }
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    fn remember(&mut self, record: &Record) {
        self.join.on_record(record);
        match record {
            Record::Container(info) => {
                let application = self.applications.entry(info.container).or_default();
                application.container = Some(info.clone());
                application.resource = None;
            }
            Record::Process(process) => {
                let application = self.applications.entry(process.container).or_default();
                application.processes.insert(process.pid, process.clone());
                application.resource = None;
            }
            Record::Resource(published) => {
                let application = self.applications.entry(published.container).or_default();
                application
                    .published
                    .insert(published.pid, published.attributes.clone());
                application.resource = None;
            }
            Record::Threads(snapshot) => self.late.advance(snapshot.at_ns),
            Record::Tick(tick) => self.late.advance(tick.at_ns),
            Record::Lifecycle(lifecycle) => {
                if let LifecycleEvent::Exit {
                    group_dead: true, ..
                } = lifecycle.event
                    && let Some(application) = self.applications.get_mut(&lifecycle.container)
                    && application.processes.len() > 1
                {
                    // The last one is kept: an incident may outlive its process.
                    application.processes.remove(&lifecycle.pid);
                    application.published.remove(&lifecycle.pid);
                    application.resource = None;
                }
            }
            _ => {}
        }
    }

    /// Scores all windows of the batch at once, then lets diagnosis see everything in order.
    async fn judge(&mut self, steps: Vec<Step<'_>>, outcome: &mut Outcome) {
        let windows = steps.iter().filter_map(|step| match step {
            Step::Piece(Piece::Window(window)) => Some(window.clone()),
            _ => None,
        });
        let judged = self.models.judge(windows.collect()).await;
        judged.iter().for_each(|window| outcome.count(window));
        let mut judged = judged.into_iter();
        let Some(engine) = &mut self.engine else {
            return;
        };
        for step in steps {
            match step {
                Step::Record(record) => engine.on_record(record),
                Step::Piece(Piece::Window(_)) => {
                    if let Some(window) = judged.next() {
                        engine.on_window(&window);
                    }
                }
                Step::Piece(Piece::Exchange(container, exchange)) => {
                    engine.on_exchange(container, &exchange);
                }
                Step::Piece(Piece::Pending(container, pending)) => {
                    engine.on_pending(container, &pending);
                }
            }
        }
    }

    async fn on_tick(&mut self, tick: &Tick, outcome: &mut Outcome) {
        for stability in self.models.assess(tick.at_ns).await {
            if let Some(engine) = &mut self.engine {
                engine.on_stability(
                    stability.container,
                    stability.at_ns,
                    stability.stability,
                    &stability.strays,
                );
            }
            outcome.stability.push(stability);
        }
        self.set_aside();
        let changes = self
            .learning
            .as_mut()
            .map(Learning::on_tick)
            .unwrap_or_default();
        for change in changes {
            self.apply(&change).await;
            outcome.changes.push(change);
        }
        outcome.tick = Some(tick.clone());
    }

    fn publish(&mut self, outcome: &mut Outcome) {
        let reports = self.engine.as_mut().map(Engine::drain).unwrap_or_default();
        let mut ready = self.late.due(&self.join);
        for report in reports {
            match report {
                Report::Affected(call) => {
                    let context = self.join.resolve(&call);
                    self.contexts.remember(&call.incident_id, &context);
                    let call = self.late.keep(call, &context, &self.join);
                    ready.extend(call.map(|call| (Report::Affected(call), context)));
                }
                Report::Diagnosis(diagnosis) => {
                    if diagnosis.state == IncidentState::Resolved {
                        ready.extend(self.late.of_incident(&diagnosis.incident_id, &self.join));
                    }
                    let none = Context::none("no affected request was seen");
                    ready.push((Report::Diagnosis(diagnosis), none));
                }
            }
        }
        for (report, context) in ready {
            let published = self.published(report, context);
            outcome.published.push(published);
        }
        self.contexts.complete(&mut outcome.published);
    }

    fn published(&mut self, report: Report, context: Context) -> Published {
        let container = match &report {
            Report::Diagnosis(diagnosis) => diagnosis.container,
            Report::Affected(call) => call.container,
        };
        let identity = self.models.identity(container);
        let application_type = self.models.application_type(container);
        let application_type = application_type.map(str::to_owned);
        let resource = self.resource(container);
        Published {
            report,
            context,
            resource,
            plugin: identity.as_ref().map(|(plugin, _)| plugin.clone()),
            application_type,
            model_id: identity.map(|(_, id)| id),
            capture_mode: self.header.capture_mode.clone(),
            unix_offset_ns: self.header.unix_offset_ns,
        }
    }
}

/// The normal of a container, once its own is learned.
fn learned<'a>(
    engine: &'a Engine,
    still_learning: &BTreeSet<ContainerIndex>,
    container: ContainerIndex,
) -> Option<&'a Reference> {
    engine
        .model(container)
        .filter(|_| !still_learning.contains(&container))
}

/// One thing that diagnosis sees.
enum Step<'a> {
    Record(&'a Record),
    Piece(Piece),
}

/// Share of calls lost in an account, 0…1.
pub fn loss_ratio(account: &Account) -> f64 {
    if account.seen == 0 {
        0.0
    } else {
        account.lost() as f64 / account.seen as f64
    }
}

/// Time of the records, in Unix ns.
pub fn unix_ns(header: &Header, at_ns: Nanos) -> u64 {
    at_ns.saturating_add_signed(header.unix_offset_ns)
}
