//! Which signals belong together.

use super::Incident;
use crate::diagnosis::evidence::Evidence;
use crate::diagnosis::pod::Pod;
use crate::diagnosis::signal::{Cause, Kind, Signal};
use crate::record::Nanos;
use crate::sequential::SECOND;

/// What is slow together is slow within this.
const TOGETHER: Nanos = 2 * SECOND;

impl Incident {
    /// True when the signal belongs to this incident.
    pub(crate) fn relates(&self, signal: &Signal, pod: &Pod) -> bool {
        let cause = signal.kind.cause();
        let only_vague = self.evidence.values().all(Evidence::is_vague);
        self.evidence.values().any(|evidence| {
            let other = evidence.kind.cause();
            if between_peers(signal, evidence, pod) || same_status(signal, evidence) {
                return true;
            }
            let (vague, same) = (
                cause == Cause::Vague || only_vague,
                evidence.container == signal.container,
            );
            let frozen = matches!(evidence.kind, Kind::Frozen { .. })
                && matches!(signal.kind, Kind::Frozen { .. });
            // A script starts many programs, and a shell what it was started for.
            let started =
                |kind: &Kind| matches!(kind, Kind::UnexpectedExec { .. } | Kind::Mines { .. });
            if same && started(&signal.kind) && started(&evidence.kind) {
                return true;
            }
            if same && slow_at_once(signal, evidence, pod) {
                return true;
            }
            let piles = matches!(signal.kind, Kind::DescriptorLeak { .. });
            if same && piles && evidence.kind.holds_up_requests() {
                return true;
            }
            // Neighbours take the processor from all containers alike.
            if evidence.kind == Kind::Contended && signal.kind == Kind::Contended {
                return true;
            }
            let flood = evidence.kind == Kind::Flood && signal.kind == Kind::Flood;
            match same {
                false if frozen || flood => pod.connected(evidence.container, signal.container),
                true => {
                    let processor =
                        slows(&signal.kind, &evidence.kind) || slows(&evidence.kind, &signal.kind);
                    vague || cause == other || is_whole(&cause) || is_whole(&other) || processor
                }
                false => vague && pod.connected(evidence.container, signal.container),
            }
        })
    }
}

/// Who asks for what fails passes the status on, also through a proxy that nothing is known about.
fn same_status(signal: &Signal, evidence: &Evidence) -> bool {
    signal.kind == Kind::Failing
        && evidence.kind == Kind::Failing
        && evidence.grave.contains(&signal.subject)
}

/// Several peers outside of the pod that become slow together have something in common.
fn slow_at_once(signal: &Signal, evidence: &Evidence, pod: &Pod) -> bool {
    let (Kind::SlowExchange { peer: one }, Kind::SlowExchange { peer: other }) =
        (&signal.kind, &evidence.kind)
    else {
        return false;
    };
    let outside = |peer: &str| !peer.is_empty() && pod.callee(peer).is_none();
    let together = signal.start_ns < evidence.last_ns.saturating_add(TOGETHER);
    outside(one) && outside(other) && together
}

/// Causes that make everything else in their container go wrong.
fn is_whole(cause: &Cause) -> bool {
    matches!(cause, Cause::Process | Cause::Memory | Cause::Load)
}

/// Who gets no processor is slow, and gives up; its errors have other causes.
fn slows(cause: &Kind, other: &Kind) -> bool {
    let gives_up = matches!(
        other,
        Kind::NoAnswer { .. }
            | Kind::ClosedEarly { .. }
            | Kind::ConnectFailed { .. }
            | Kind::Deadlock { .. }
    );
    matches!(cause, Kind::Throttled | Kind::Contended)
        && (gives_up || other.is_slow() || other.cause() == Cause::Processor)
}

/// Trouble with a peer belongs to the trouble in the peer's container, and to that of others
/// with the same peer.
fn between_peers(signal: &Signal, evidence: &Evidence, pod: &Pod) -> bool {
    let same_peer = match (signal.kind.cause(), evidence.kind.cause()) {
        (Cause::Peer(a), Cause::Peer(b)) => {
            let unknown = signal.container == evidence.container && (a.is_empty() || b.is_empty());
            let callee = pod.callee(&a);
            unknown || (!a.is_empty() && a == b) || (callee.is_some() && callee == pod.callee(&b))
        }
        _ => false,
    };
    same_peer
        || signal.kind.points_to(evidence.container, pod)
        || evidence.kind.points_to(signal.container, pod)
}
