//! Signals that belong together, and how an incident lives: suspected, confirmed, resolved.

mod confirmation;
mod relations;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use confirmation::{is_asked_to_end, is_blip, persists};

use crate::diagnosis::evidence::{Evidence, Good};
use crate::diagnosis::pod::Pod;
use crate::diagnosis::report::{AffectedCall, FaultClass, IncidentState};
use crate::diagnosis::signal::{Cause, Kind, Signal, Standing};
use crate::diagnosis::signals::RESTART;
use crate::record::{ContainerIndex, Nanos};
use crate::sequential::SECOND;

const MAX_EVIDENCE: usize = 48;
const MAX_WAITING: usize = 256;
const MINUTE: Nanos = 60 * SECOND;
/// Signals of one cause come in from several threads and containers: this long is waited
/// before the first word.
const SETTLE: Nanos = SECOND / 4;
/// Descriptors are looked up after their first error: a culprit without a name waits this long.
const NAME_SETTLE: Nanos = SECOND;
/// No affected call for this long, at least, before an incident is over.
const QUIET: Nanos = 2 * SECOND;
/// The usual time between affected calls is taken as no more than this.
const MAX_GAP: Nanos = 20 * SECOND;
/// Over even when no normal work was seen.
const SILENCE: Nanos = 30 * SECOND;
/// One event without an end (an exec, an OOM kill) is over after this.
const EVENT: Nanos = 10 * SECOND;
/// A resolved incident that comes back within this time is the same one.
pub(crate) const GRACE: Nanos = 10 * SECOND;
/// Further reports of one incident because its class changed.
const MAX_UPDATES: u8 = 3;
/// How much surer the new class has to be.
const SURER: f64 = 0.1;

/// The strangest run of calls of one container: rank, what was expected there, what came.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StrangeRun {
    pub(crate) rank: f64,
    pub(crate) expected: Vec<String>,
    pub(crate) actual: Vec<String>,
    pub(crate) pattern: Option<u32>,
}

#[derive(Clone, Debug)]
pub(crate) struct Incident {
    pub(crate) id: String,
    pub(crate) evidence: BTreeMap<(ContainerIndex, Kind), Evidence>,
    pub(crate) strange: BTreeMap<ContainerIndex, StrangeRun>,
    pub(crate) affected: u64,
    pub(crate) dying: bool,
    pub(crate) resolved_ns: Option<Nanos>,
    /// Something of it has been handed out.
    pub(crate) told: bool,
    opened_ns: Nanos,
    announced: Option<(IncidentState, FaultClass, f64)>,
    updates: u8,
    /// Affected calls that wait for the first word.
    waiting: VecDeque<AffectedCall>,
    minute: u64,
    in_minute: u32,
}

impl Incident {
    pub(crate) fn open(id: String, signal: &Signal, now: Nanos) -> Self {
        Incident {
            id,
            evidence: BTreeMap::from([(
                (signal.container, signal.kind.clone()),
                Evidence::new(signal),
            )]),
            strange: BTreeMap::new(),
            affected: 0,
            dying: false,
            resolved_ns: None,
            told: false,
            opened_ns: now,
            announced: None,
            updates: 0,
            waiting: VecDeque::new(),
            minute: 0,
            in_minute: 0,
        }
    }

    /// Counts the hard errors of an incident that is over, too.
    pub(crate) fn go_on_from(&mut self, past: &Incident) {
        for (key, evidence) in &mut self.evidence {
            let before = past.evidence.get(key);
            let hard = before.filter(|before| before.standing >= Standing::Hard);
            evidence.count += hard.map_or(0, |before| before.count);
        }
    }

    /// Takes a signal of this incident.
    pub(crate) fn take(&mut self, signal: &Signal) {
        let key = (signal.container, signal.kind.clone());
        let room = self.evidence.len() < MAX_EVIDENCE;
        let new = match self.evidence.get_mut(&key) {
            Some(evidence) if evidence.count > 0 && signal.standing == Standing::Hit => {
                // What is not significant by itself does not keep an incident open.
                let last = evidence.last_ns;
                let new = evidence.add(signal);
                evidence.last_ns = last;
                new
            }
            Some(evidence) => evidence.add(signal),
            None if room => {
                self.evidence.insert(key, Evidence::new(signal));
                true
            }
            None => false,
        };
        if signal.kind.affects_calls() {
            self.affected += u64::from(new);
            if new {
                self.queue(signal);
            }
        }
    }

    /// Counts the first signal, which [`Incident::open`] took as evidence.
    pub(crate) fn count_first(&mut self, signal: &Signal) {
        if signal.kind.affects_calls() {
            self.affected += 1;
            self.queue(signal);
        }
    }

    fn queue(&mut self, signal: &Signal) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(AffectedCall {
                incident_id: self.id.clone(),
                container: signal.container,
                pid: signal.pid,
                tid: signal.tid,
                fd: signal.fd,
                start_ns: signal.start_ns,
                end_ns: signal.end_ns,
                token: signal.token.clone(),
            });
        }
    }

    /// Affected calls that may be reported now.
    pub(crate) fn drain_affected(&mut self, now: Nanos, per_minute: u32) -> Vec<AffectedCall> {
        if !matches!(self.announced, Some((state, ..)) if state != IncidentState::Resolved) {
            return Vec::new();
        }
        let minute = now / MINUTE;
        if minute != self.minute {
            self.minute = minute;
            self.in_minute = 0;
        }
        let room = per_minute.saturating_sub(self.in_minute) as usize;
        let calls: Vec<_> = self.waiting.drain(..).take(room).collect();
        self.in_minute += calls.len() as u32;
        calls
    }

    /// Looks up what has become known since: the paths and peers behind descriptors, the
    /// executables of processes.
    pub(crate) fn enrich(&mut self, pod: &Pod) {
        for evidence in self.evidence.values_mut() {
            if evidence.executable.is_empty()
                && let Some(process) = pod.process(evidence.pid)
            {
                evidence.executable = process.executable.clone();
                evidence.title = process.title.clone();
            }
            if evidence.subjects.is_empty() && evidence.fd >= 0 {
                let (pid, fd) = (evidence.pid, evidence.fd);
                let target = match evidence.kind.cause() {
                    Cause::Peer(_) => pod.peer(pid, fd),
                    Cause::Disk | Cause::Files => pod.file(pid, fd),
                    Cause::Ports => pod.listener(pid, fd),
                    _ => None,
                };
                target.into_iter().for_each(|target| evidence.name(target));
            }
        }
    }

    /// A process ended.
    pub(crate) fn ended(&mut self, pid: u32, at_ns: Nanos) {
        if self.is_open()
            && self
                .evidence
                .values()
                .any(|e| e.pid == pid && !e.is_vague())
        {
            self.dying = true;
            self.runs(pid, at_ns);
        }
    }

    /// A process that may have stood still does not any more.
    pub(crate) fn runs(&mut self, pid: u32, at_ns: Nanos) {
        for evidence in self.evidence.values_mut() {
            evidence.relieve(Good::Runs { pid }, at_ns);
        }
    }

    /// True when the same cause has been at work in this incident.
    pub(crate) fn has_cause(&self, signal: &Signal) -> bool {
        let cause = signal.kind.cause();
        self.evidence.values().any(|e| e.kind.cause() == cause)
    }

    pub(crate) fn has_kind(&self, signal: &Signal) -> bool {
        self.evidence
            .contains_key(&(signal.container, signal.kind.clone()))
    }

    pub(crate) fn involves(&self, container: ContainerIndex) -> bool {
        self.evidence.keys().any(|(c, _)| *c == container)
    }

    pub(crate) fn containers(&self) -> BTreeSet<ContainerIndex> {
        self.evidence.keys().map(|(c, _)| *c).collect()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.resolved_ns.is_none()
    }

    /// As it was last announced.
    pub(crate) fn class(&self) -> Option<FaultClass> {
        self.announced.map(|(_, class, _)| class)
    }

    pub(crate) fn state(&self) -> Option<IncidentState> {
        self.announced.map(|(state, ..)| state)
    }

    /// The causes of what drives it.
    pub(crate) fn causes(&self) -> BTreeSet<(ContainerIndex, Cause)> {
        self.drivers()
            .map(|evidence| (evidence.container, evidence.kind.cause()))
            .collect()
    }

    /// Nothing but a different behaviour.
    pub(crate) fn is_vague(&self) -> bool {
        let mut significant = self.evidence.values().filter(|e| e.is_significant());
        significant.all(Evidence::is_vague)
    }

    /// A program that was not expected is there as long as it runs.
    pub(crate) fn still_runs(&mut self, now: Nanos, pod: &Pod) {
        for evidence in self.evidence.values_mut() {
            if let Kind::UnexpectedExec { executable } = &evidence.kind
                && pod.runs(evidence.container, &[executable, &evidence.executable])
            {
                evidence.last_ns = evidence.last_ns.max(now);
            }
        }
    }

    pub(crate) fn relieve(&mut self, container: ContainerIndex, good: Good<'_>, at_ns: Nanos) {
        for ((c, _), evidence) in &mut self.evidence {
            if *c == container {
                evidence.relieve(good, at_ns);
            }
        }
    }

    pub(crate) fn offer_run(&mut self, container: ContainerIndex, run: StrangeRun) {
        let better = self
            .strange
            .get(&container)
            .is_none_or(|known| run.rank > known.rank);
        if better && self.strange.len() < MAX_EVIDENCE {
            self.strange.insert(container, run);
        }
    }

    /// First affected call (or first sign).
    pub(crate) fn onset_ns(&self) -> Nanos {
        let drivers = self.drivers().map(|e| e.first_ns).min();
        drivers.unwrap_or(self.opened_ns)
    }

    pub(crate) fn last_ns(&self) -> Nanos {
        self.drivers()
            .map(|e| e.last_ns)
            .max()
            .unwrap_or(self.opened_ns)
    }

    /// The evidence that opened the incident or could have: a driver's last call is the end.
    fn drivers(&self) -> impl Iterator<Item = &Evidence> {
        let specific = self
            .evidence
            .values()
            .any(|e| e.standing >= Standing::Opens && !e.is_vague());
        self.evidence
            .values()
            .filter(move |e| e.standing >= Standing::Opens && (!specific || !e.is_vague()))
    }

    fn is_confirmed(&self) -> bool {
        let significant: Vec<_> = self
            .evidence
            .values()
            .filter(|e| e.is_significant())
            .collect();
        if is_blip(&significant) || self.is_unfelt() {
            return false;
        }
        // One crash may be a consequence as well.
        let ended = |e: &Evidence| matches!(e.kind, Kind::ProcessEnded { .. });
        let opened = { significant.iter() }.any(|e| e.standing >= Standing::Opens && !ended(e));
        // Who waits for slow answers is slow itself, or gives up.
        let felt = |e: &&&Evidence| {
            matches!(
                e.kind,
                Kind::SlowExchange { .. } | Kind::SlowService | Kind::Failing
            )
        };
        let felt = significant.iter().filter(felt).count();
        let asked = significant.iter().filter(|e| is_asked_to_end(e)).count();
        let others = significant.len() - felt - asked;
        (opened && others + usize::from(felt > 0) >= 2) || significant.iter().any(|e| persists(e))
    }

    /// Neighbours take the processor, and nothing is slow by that: another behaviour is not what tells.
    fn is_unfelt(&self) -> bool {
        let contended = |e: &Evidence| e.kind == Kind::Contended && e.standing < Standing::Certain;
        let otherwise = |e: &Evidence| {
            matches!(
                e.kind,
                Kind::Unstable | Kind::Astray | Kind::Surprise | Kind::ProcessEnded { .. }
            )
        };
        let significant = || self.evidence.values().filter(|e| e.is_significant());
        significant().any(contended) && significant().all(|e| contended(e) || otherwise(e))
    }

    /// A container of the pod was asked to end, and others missed it for no longer than a restart
    /// takes.
    fn is_restart(&self) -> bool {
        let missed_ns = self.last_ns();
        let ended =
            |e: &Evidence| is_asked_to_end(e) && missed_ns < e.last_ns.saturating_add(RESTART);
        let mut opening = self
            .evidence
            .values()
            .filter(|e| e.standing >= Standing::Opens);
        self.evidence.values().any(ended)
            && opening.all(|e| matches!(e.kind.cause(), Cause::Peer(_)) || e.kind == Kind::Failing)
    }

    fn is_over(&self, now: Nanos) -> bool {
        let quiet = now.saturating_sub(self.last_ns());
        let gap = self
            .drivers()
            .map(Evidence::gap_ns)
            .max()
            .unwrap_or(0)
            .min(MAX_GAP);
        let event = self
            .drivers()
            .all(|e| matches!(e.kind, Kind::UnexpectedExec { .. } | Kind::OutOfMemory));
        if event {
            return quiet >= EVENT;
        }
        let good = self.drivers().all(|e| e.good_ns > e.last_ns);
        (good && quiet >= QUIET.max(3 * gap)) || quiet >= SILENCE.max(3 * gap)
    }

    /// Moves on to `now` and gives the state to report, if there is something to say. `class`
    /// and `confidence` are the leading hypothesis.
    pub(crate) fn step(
        &mut self,
        now: Nanos,
        class: FaultClass,
        confidence: f64,
    ) -> Option<IncidentState> {
        let nameless = self.drivers().any(Evidence::is_nameless);
        let settle = if nameless { NAME_SETTLE } else { SETTLE };
        let settled = self.announced.is_some() || now >= self.opened_ns.saturating_add(settle);
        if !self.is_open() || !settled {
            return None;
        }
        if self.announced.is_none() && (self.is_unfelt() || self.is_restart()) {
            if self.is_over(now) {
                self.resolved_ns = Some(now);
            }
            return None;
        }
        let confirmed = self.is_confirmed();
        let state = match self.announced {
            Some(_) if self.is_over(now) => {
                self.resolved_ns = Some(now);
                IncidentState::Resolved
            }
            None | Some((IncidentState::Resolved, ..)) if confirmed => IncidentState::Confirmed,
            None | Some((IncidentState::Resolved, ..)) => IncidentState::Suspected,
            Some((IncidentState::Suspected, ..)) if confirmed => IncidentState::Confirmed,
            Some((state, said, sure)) => {
                let surer = class != said && confidence >= sure.min(1.0 - 2.0 * SURER) + SURER;
                if !surer || self.updates >= MAX_UPDATES {
                    return None;
                }
                self.updates += 1;
                state
            }
        };
        self.announced = Some((state, class, confidence));
        Some(state)
    }

    /// The same fault is back.
    pub(crate) fn reopen(&mut self) {
        self.resolved_ns = None;
    }

    /// True when nothing more can come of it.
    pub(crate) fn is_past(&self, now: Nanos) -> bool {
        self.resolved_ns
            .is_some_and(|at| now.saturating_sub(at) >= GRACE)
    }
}
