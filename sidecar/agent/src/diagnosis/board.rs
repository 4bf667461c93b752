//! The open incidents: where signals go, and what is said about them.

pub(crate) mod operator;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::accepted::Accepted;
use crate::diagnosis::classify::{Classified, classify};
use crate::diagnosis::engine::operator::OpenIncident;
use crate::diagnosis::evidence::{Evidence, Good};
use crate::diagnosis::incident::{Incident, StrangeRun};
use crate::diagnosis::muted::Mute;
use crate::diagnosis::pod::Pod;
use crate::diagnosis::report::{Diagnosis, FaultClass, Hypothesis, IncidentState, Report};
use crate::diagnosis::signal::{Kind, Signal, Standing};
use crate::diagnosis::wording;
use crate::record::{ContainerIndex, Nanos};
use crate::sequential::SECOND;

const MAX_INCIDENTS: usize = 32;
/// Incidents that are over and still known by their id.
const MAX_PAST: usize = 32;
const MAX_LOOSE: usize = 512;
const MAX_REPORTS: usize = 16_384;
/// The same hard error within this is no other one.
const AGAIN: Nanos = 60 * SECOND;
/// Signals that opened nothing are kept this long for an incident that they may belong to.
const LOOSE_FOR: Nanos = 15 * SECOND;

#[derive(Debug, Default)]
pub(crate) struct Board {
    incidents: Vec<Incident>,
    past: VecDeque<Incident>,
    mutes: Vec<Mute>,
    loose: VecDeque<Signal>,
    reports: VecDeque<Report>,
    opened: u64,
    /// Makes ids differ between runs.
    seed: u64,
}

impl Board {
    pub(crate) fn new(seed: u64) -> Self {
        Board {
            seed,
            ..Board::default()
        }
    }

    pub(crate) fn take(&mut self, signal: Signal, now: Nanos, pod: &Pod) {
        let open = self
            .incidents
            .iter()
            .position(|i| i.is_open() && i.has_cause(&signal) && i.relates(&signal, pod))
            .or_else(|| {
                self.incidents
                    .iter()
                    .position(|i| i.is_open() && i.relates(&signal, pod))
            });
        if let Some(incident) = open.and_then(|index| self.incidents.get_mut(index)) {
            incident.take(&signal);
            return;
        }
        let past = self
            .incidents
            .iter_mut()
            .find(|i| !i.is_open() && i.relates(&signal, pod));
        if let Some(incident) = past {
            let after = signal.start_ns > incident.last_ns();
            if signal.standing >= Standing::Opens && after && incident.has_cause(&signal) {
                incident.reopen();
                incident.take(&signal);
                return;
            }
            // What a fault leaves behind is not another one.
            if !after || signal.standing < Standing::Hard {
                return;
            }
        }
        if signal.standing >= Standing::Opens && self.incidents.len() < MAX_INCIDENTS {
            self.open(&signal, now, pod);
            return;
        }
        if self.loose.len() >= MAX_LOOSE {
            self.loose.pop_front();
        }
        self.loose.push_back(signal);
    }

    fn open(&mut self, signal: &Signal, now: Nanos, pod: &Pod) {
        self.opened += 1;
        let id = mix(self.seed ^ mix(signal.start_ns) ^ self.opened);
        let mut incident = Incident::open(format!("{id:016x}"), signal, now);
        let mut kept = VecDeque::new();
        for loose in self.loose.drain(..) {
            let belongs = match loose.standing {
                Standing::Hit => incident.has_kind(&loose),
                _ => incident.relates(&loose, pod),
            };
            if belongs {
                incident.take(&loose)
            } else {
                kept.push_back(loose)
            }
        }
        // What few calls show, they show far apart.
        let lately = |past: &&Incident| {
            let since = signal.start_ns.saturating_sub(past.last_ns());
            since < AGAIN && past.has_cause(signal) && past.relates(signal, pod)
        };
        if let Some(past) = self.past.iter().rev().find(lately) {
            incident.go_on_from(past);
        }
        incident.count_first(signal);
        self.loose = kept;
        self.incidents.push(incident);
    }

    pub(crate) fn relieve(&mut self, container: ContainerIndex, good: Good<'_>, at_ns: Nanos) {
        for incident in self.incidents.iter_mut().filter(|i| i.is_open()) {
            incident.relieve(container, good, at_ns);
        }
    }

    pub(crate) fn runs(&mut self, pid: u32, at_ns: Nanos) {
        self.incidents
            .iter_mut()
            .for_each(|incident| incident.runs(pid, at_ns));
    }

    pub(crate) fn ended(&mut self, pid: u32, at_ns: Nanos) {
        self.incidents
            .iter_mut()
            .for_each(|incident| incident.ended(pid, at_ns));
    }

    /// True while an incident is open.
    pub(crate) fn is_busy(&self) -> bool {
        self.incidents.iter().any(Incident::is_open)
    }

    /// True when a signal of this container could belong to an open incident.
    pub(crate) fn concerns(&self, container: ContainerIndex) -> bool {
        self.incidents
            .iter()
            .any(|i| i.is_open() && i.involves(container))
    }

    /// `make` is asked for the run only when its rank is the highest so far.
    pub(crate) fn offer_run(
        &mut self,
        container: ContainerIndex,
        rank: f64,
        make: impl Fn() -> StrangeRun,
    ) {
        for incident in &mut self.incidents {
            let better = incident
                .strange
                .get(&container)
                .is_none_or(|known| rank > known.rank);
            if incident.is_open() && incident.involves(container) && better {
                incident.offer_run(container, make());
            }
        }
    }

    pub(crate) fn open_incidents(&self) -> impl Iterator<Item = OpenIncident> {
        let open = self.incidents.iter().filter(|i| i.is_open());
        open.map(|incident| OpenIncident {
            containers: incident.containers(),
            onset_ns: incident.onset_ns(),
            confirmed: incident.state() == Some(IncidentState::Confirmed),
            vague: incident.is_vague(),
        })
    }

    /// Moves on to `now`; gives the containers whose incidents ended.
    pub(crate) fn step(
        &mut self,
        now: Nanos,
        pod: &Pod,
        accepted: &BTreeMap<ContainerIndex, Accepted>,
        affected_per_minute: u32,
        stability: impl Fn(ContainerIndex) -> Option<f64>,
    ) -> BTreeSet<ContainerIndex> {
        while self
            .loose
            .front()
            .is_some_and(|s| s.end_ns.saturating_add(LOOSE_FOR) < now)
        {
            self.loose.pop_front();
        }
        self.end_mutes(now, pod, &stability);
        let open = self.incidents.iter_mut().filter(|i| i.is_open());
        open.for_each(|incident| incident.enrich(pod));
        self.drop_accepted(accepted);
        let mut over = BTreeSet::new();
        let mut reports = Vec::new();
        for incident in self.incidents.iter_mut().filter(|i| i.is_open()) {
            look_at_processes(incident, now, pod);
            let mut said = affected(incident, now, affected_per_minute);
            let Some(Classified { hypotheses, .. }) = classify(incident, pod) else {
                continue;
            };
            let Some(leading) = hypotheses.first().copied() else {
                continue;
            };
            let state = incident.step(now, leading.class, leading.confidence);
            if let Some(state) = state {
                let diagnosis = described(incident, state, now, &stability, pod);
                said.extend(diagnosis.map(Report::Diagnosis));
                if state == IncidentState::Resolved {
                    over.extend(incident.containers());
                }
                said.extend(affected(incident, now, affected_per_minute));
            }
            let mute = self.mutes.iter_mut().find(|mute| mute.covers(incident));
            match mute {
                Some(mute) => said.into_iter().for_each(|report| match report {
                    Report::Diagnosis(diagnosis) => mute.withhold(diagnosis, incident.told),
                    Report::Affected(_) => mute.withheld += 1,
                }),
                None => {
                    incident.told |= !said.is_empty();
                    reports.extend(said);
                }
            }
        }
        self.retire(now);
        self.push(reports);
        over
    }

    /// Incidents of which nothing more can come are known by their id for a while.
    fn retire(&mut self, now: Nanos) {
        let (past, on) = std::mem::take(&mut self.incidents)
            .into_iter()
            .partition(|incident: &Incident| incident.is_past(now));
        self.incidents = on;
        self.past.extend(past);
        let surplus = self.past.len().saturating_sub(MAX_PAST);
        self.past.drain(..surplus);
    }

    fn push(&mut self, reports: Vec<Report>) {
        for report in reports {
            if self.reports.len() >= MAX_REPORTS {
                self.reports.pop_front();
            }
            self.reports.push_back(report);
        }
    }

    pub(crate) fn drain(&mut self) -> Vec<Report> {
        self.reports.drain(..).collect()
    }
}

fn affected(incident: &mut Incident, now: Nanos, per_minute: u32) -> Vec<Report> {
    incident
        .drain_affected(now, per_minute)
        .into_iter()
        .map(Report::Affected)
        .collect()
}

/// What goes on, or has come up again, beside the calls.
fn look_at_processes(incident: &mut Incident, now: Nanos, pod: &Pod) {
    for (executable, container) in ended(incident) {
        if pod.has_settled(&executable, None, now) {
            let good = Good::Settled {
                executable: &executable,
            };
            incident.relieve(container, good, now);
        }
    }
    incident.still_runs(now, pod);
}

/// None for an incident without evidence.
fn described(
    incident: &Incident,
    state: IncidentState,
    now: Nanos,
    stability: &impl Fn(ContainerIndex) -> Option<f64>,
    pod: &Pod,
) -> Option<Diagnosis> {
    let Classified { hypotheses, root } = classify(incident, pod)?;
    let root = incident.evidence.get(&root)?;
    let stability = stability(root.container);
    Some(describe(
        incident, root, hypotheses, state, now, stability, pod,
    ))
}

/// Executables whose processes ended, and where.
fn ended(incident: &Incident) -> Vec<(String, ContainerIndex)> {
    let ended = incident.evidence.values().filter_map(|e| match &e.kind {
        Kind::CrashLoop { executable } | Kind::ProcessEnded { executable } => {
            Some((executable.clone(), e.container))
        }
        _ => None,
    });
    ended.collect()
}

fn describe(
    incident: &Incident,
    root: &Evidence,
    hypotheses: Vec<Hypothesis>,
    state: IncidentState,
    now: Nanos,
    stability: Option<f64>,
    pod: &Pod,
) -> Diagnosis {
    let (class, confidence) = hypotheses
        .first()
        .map_or((FaultClass::Unknown, 0.0), |h| (h.class, h.confidence));
    let (onset_ns, last_ns) = (incident.onset_ns(), incident.last_ns());
    let culprit = wording::culprit(class, root, pod);
    let lasted = last_ns.saturating_sub(onset_ns);
    let message = wording::message(state, class, &culprit, root, pod, incident.affected, lasted);
    let strange = incident.strange.get(&root.container);
    let whole = matches!(root.kind, Kind::OutOfMemory | Kind::CrashLoop { .. });
    let resolved = state == IncidentState::Resolved;
    Diagnosis {
        incident_id: incident.id.clone(),
        state,
        class,
        confidence,
        hypotheses,
        container: root.container,
        container_name: pod.container_name(root.container),
        pid: root.pid,
        tid: root.tid,
        executable: wording::executable(root),
        suggestion: wording::suggestion(class, &culprit),
        culprit,
        onset_ns,
        observed_ns: now,
        ended_ns: resolved.then_some(last_ns),
        affected_calls: incident.affected,
        message,
        evidence: wording::evidence_lines(root, incident.evidence.values(), pod),
        expected: strange.map(|run| run.expected.clone()).unwrap_or_default(),
        actual: strange.map(|run| run.actual.clone()).unwrap_or_default(),
        local: wording::is_local(class, root),
        pattern_id: strange.and_then(|run| run.pattern),
        stability,
        dying: incident.dying || whole,
        loss_ratio: pod.loss_ratio(&incident.containers(), onset_ns, last_ns),
    }
}

/// A well mixed number (the finaliser of SplitMix64).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
