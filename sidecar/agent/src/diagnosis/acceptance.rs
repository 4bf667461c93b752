//! From evidence to what is accepted with it: its kind, with the paths and peers that it was
//! significant with, and nothing wider.

use std::collections::BTreeMap;

use crate::accepted::{Accepted, Thing, Took};
use crate::diagnosis::evidence::Evidence;
use crate::diagnosis::incident::Incident;
use crate::diagnosis::report::FaultClass;
use crate::diagnosis::signal::{Cause, Kind};
use crate::record::ContainerIndex;

/// What accepting one incident makes normal.
#[derive(Clone, Debug, PartialEq)]
pub struct Acceptance {
    pub incident_id: String,
    pub class: FaultClass,
    /// Whether it was still going on.
    pub open: bool,
    /// To be added to what is accepted in these containers.
    pub containers: BTreeMap<ContainerIndex, Accepted>,
}

impl Acceptance {
    /// `class` and `root` as the incident was last told of.
    pub(crate) fn of(incident: &Incident, class: FaultClass, root: ContainerIndex) -> Self {
        let mut containers: BTreeMap<ContainerIndex, Accepted> = BTreeMap::new();
        for evidence in incident.evidence.values().filter(|e| e.is_significant()) {
            let accepted = containers.entry(evidence.container).or_default();
            accepted.relearning |= only_models_say(&evidence.kind);
            for thing in things(evidence) {
                accepted.add(thing, evidence.took());
            }
        }
        if matches!(class, FaultClass::ConfigRegression | FaultClass::Unknown) {
            containers.entry(root).or_default().relearning = true;
        }
        containers.retain(|_, accepted| !accepted.is_empty());
        Acceptance {
            incident_id: incident.id.clone(),
            class,
            open: incident.is_open(),
            containers,
        }
    }
}

/// What is about the container as a whole: only a new learning makes it normal.
pub(crate) fn only_models_say(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Surprise | Kind::Unstable | Kind::Astray | Kind::Failing | Kind::Unkept { .. }
    )
}

/// None for what cannot be named.
pub(crate) fn thing(kind: &Kind, subject: Option<&str>, executable: &str) -> Option<Thing> {
    let subject = subject.map(str::to_owned);
    Some(match kind.clone() {
        Kind::Error { token, cause } => Thing::Error {
            token,
            subject: subject.or(match cause {
                Cause::Peer(peer) => Some(peer).filter(|peer| !peer.is_empty()),
                _ => None,
            }),
        },
        Kind::ConnectFailed { peer, quick } => Thing::ConnectFailed { peer, quick },
        Kind::ClosedEarly { peer } => Thing::ClosedEarly { peer },
        Kind::NoAnswer { peer }
        | Kind::Heard { peer }
        | Kind::Unheard { peer, .. }
        | Kind::NoWay { peer } => Thing::NoAnswer { peer },
        Kind::Lossy { peer } => Thing::Lossy { peer },
        Kind::Narrow { peer } => Thing::Narrow { peer },
        Kind::SlowExchange { peer } => Thing::SlowExchange { peer },
        Kind::SlowService => Thing::SlowService,
        Kind::SlowCall { token } => Thing::SlowCall {
            token,
            path: subject,
        },
        Kind::Frozen { .. } | Kind::DescriptorLeak { .. } | Kind::Deadlock { .. }
            if executable.is_empty() =>
        {
            return None;
        }
        Kind::DescriptorLeak { .. } => Thing::DescriptorLeak {
            executable: executable.to_owned(),
        },
        Kind::HeldUp => Thing::HeldUp,
        Kind::Deadlock { .. } => Thing::Deadlock {
            executable: executable.to_owned(),
        },
        Kind::Frozen { .. } => Thing::Frozen {
            executable: executable.to_owned(),
        },
        Kind::OutOfMemory => Thing::OutOfMemory,
        Kind::MemoryClimbs => Thing::MemoryClimbs,
        Kind::Throttled => Thing::Throttled,
        Kind::Contended => Thing::Contended,
        Kind::Flood => Thing::Flood,
        Kind::Mines { executable } => Thing::Mines { executable },
        Kind::CrashLoop { executable } => Thing::CrashLoop { executable },
        Kind::UnexpectedExec { executable } => Thing::UnexpectedExec { executable },
        Kind::ProcessEnded { executable } => Thing::ProcessEnded { executable },
        Kind::Surprise | Kind::Unstable | Kind::Astray | Kind::Failing | Kind::Unkept { .. } => {
            return None;
        }
    })
}

fn things(evidence: &Evidence) -> impl Iterator<Item = Thing> + '_ {
    evidence
        .grave
        .iter()
        .filter_map(|subject| thing(&evidence.kind, subject.as_deref(), &evidence.executable))
}

/// Whether everything significant in an incident is accepted.
pub(crate) fn is_accepted(
    incident: &Incident,
    accepted: &BTreeMap<ContainerIndex, Accepted>,
) -> bool {
    let mut significant = incident.evidence.values().filter(|e| e.is_significant());
    significant.all(|evidence| {
        accepted.get(&evidence.container).is_some_and(|accepted| {
            if only_models_say(&evidence.kind) {
                return accepted.relearning;
            }
            !evidence.grave.is_empty()
                && things(evidence).count() == evidence.grave.len()
                && things(evidence).all(|thing| match accepted.took(&thing) {
                    Some(took) if evidence.kind.is_slow() => is_as_slow(evidence.took(), took),
                    took => took.is_some(),
                })
        })
    })
}

/// As [`Limit::raised`](crate::diagnosis::reference::Limit::raised) puts the ceiling.
fn is_as_slow(now: Took, accepted: Took) -> bool {
    now.median_ns <= accepted.median_ns.saturating_mul(3)
}
