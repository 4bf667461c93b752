//! What sockets and the counters of the network say of a peer, beside what its calls say.

use crate::diagnosis::evidence::Evidence;
use crate::diagnosis::report::FaultClass::{self, *};
use crate::diagnosis::signal::Kind;
use crate::record::Nanos;
use crate::sequential::SECOND;

/// Connects that are asked for in vain, and for each request that was acknowledged, which say that no queue is full.
const MANY: u64 = 8;

/// What stands between this container and a peer.
#[derive(Clone, Copy, Default)]
struct Way {
    /// A request was acknowledged and not answered.
    heard: bool,
    /// A request was not acknowledged.
    unheard: bool,
    /// A connect was not.
    unconnected: bool,
    none: bool,
    lossy: bool,
    narrow: bool,
}

impl Way {
    fn to(evidence: &Evidence, roots: &[&Evidence]) -> Self {
        let peer = evidence.peer();
        let mut way = Self::default();
        let (mut heard_ns, mut unconnected_ns) = (Nanos::MAX, Nanos::MAX);
        let (mut heard, mut unconnected) = (0_u64, 0_u64);
        let near = roots.iter().filter(|other| {
            other.container == evidence.container && (peer.is_none() || other.peer() == peer)
        });
        for other in near {
            match other.kind {
                Kind::Heard { .. } => {
                    heard_ns = heard_ns.min(other.first_ns);
                    heard += other.count;
                }
                Kind::Unheard { connecting, .. } if other.is_significant() => {
                    way.unheard |= !connecting;
                    if connecting {
                        unconnected_ns = unconnected_ns.min(other.first_ns);
                        unconnected += other.count;
                    }
                }
                Kind::NoWay { .. } => way.none = true,
                Kind::Lossy { .. } => way.lossy = true,
                Kind::Narrow { .. } => way.narrow = true,
                _ => {}
            }
        }
        way.unconnected = unconnected_ns < Nanos::MAX;
        // A queue of connections is full once those before were acknowledged.
        let before = heard_ns < unconnected_ns.saturating_add(SECOND);
        // And those fill it: few are what was under way when the peer went away.
        let few = unconnected >= MANY && unconnected / MANY >= heard;
        way.heard = heard_ns < Nanos::MAX && (before && !few || !way.unconnected);
        way
    }

    /// What keeps requests from being answered.
    fn stops(self) -> Option<FaultClass> {
        Some(match self {
            Way { none: true, .. } => NetworkUnreachable,
            Way { narrow: true, .. } => NetworkThrottled,
            Way { lossy: true, .. } => NetworkLoss,
            Way { unheard: true, .. } => DependencyBlackhole,
            // A full queue of connections takes no more of them; a black hole acknowledges nothing.
            Way { heard: true, .. } => DependencyHung,
            Way {
                unconnected: true, ..
            } => DependencyBlackhole,
            _ => return None,
        })
    }
}

/// None where the way to the peer says nothing about this evidence.
pub(super) fn supports(evidence: &Evidence, roots: &[&Evidence]) -> Option<Vec<(FaultClass, f64)>> {
    let way = Way::to(evidence, roots);
    let class = way.stops()?;
    let by_way = matches!(class, NetworkThrottled | NetworkLoss | NetworkUnreachable);
    let waits = |kind: &Kind| {
        matches!(
            kind,
            Kind::NoAnswer { .. } | Kind::ConnectFailed { quick: false, .. }
        ) || matches!(kind, Kind::ConnectFailed { .. } if class == NetworkUnreachable)
    };
    Some(match &evidence.kind {
        Kind::NoWay { .. } | Kind::Lossy { .. } | Kind::Narrow { .. } => vec![(class, 1.0)],
        Kind::Unheard { .. } => vec![(class, 0.95)],
        kind if waits(kind) => vec![(class, 0.9)],
        // A slow peer acknowledges as well.
        Kind::Heard { .. } => match roots.iter().any(|other| waits(&other.kind)) {
            true => vec![(class, 0.9)],
            false => vec![],
        },
        Kind::SlowExchange { .. } | Kind::ClosedEarly { .. } | Kind::SlowService if by_way => {
            vec![(class, 0.9)]
        }
        Kind::SlowExchange { .. } if way.unheard => vec![(class, 0.6), (DependencySlow, 0.3)],
        _ => return None,
    })
}
