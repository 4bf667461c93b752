//! What confirms an incident.

use crate::diagnosis::errno::*;
use crate::diagnosis::evidence::Evidence;
use crate::diagnosis::signal::{Cause, Kind, Standing};
use crate::diagnosis::signals::RESTART;
use crate::sequential::SECOND;

/// How containers end that are to be started again.
const ASKED_TO_END: [&str; 3] = ["exit:status_0", "exit:signal_2", "exit:signal_15"];

pub(super) fn is_asked_to_end(evidence: &Evidence) -> bool {
    let ended = matches!(evidence.kind, Kind::ProcessEnded { .. });
    ended && ASKED_TO_END.contains(&evidence.token.as_str())
}

/// A peer that starts again is away for a moment: it refuses, or breaks off what it had begun.
pub(super) fn is_blip(significant: &[&Evidence]) -> bool {
    let of_restart = |e: &&Evidence| match &e.kind {
        Kind::Error {
            cause: Cause::Peer(_),
            ..
        } => e
            .errno()
            .is_some_and(|errno| errno == ECONNREFUSED || is_broken_off(errno)),
        Kind::ClosedEarly { .. } | Kind::ConnectFailed { quick: true, .. } => true,
        Kind::ProcessEnded { .. } => is_asked_to_end(e),
        kind => kind.is_slow() || e.is_vague(),
    };
    let vague = significant.iter().all(|e| e.is_vague());
    let telling = || significant.iter().filter(|e| vague || !e.is_vague());
    let first_ns = telling().map(|e| e.first_ns).min();
    let last_ns = telling().map(|e| e.last_ns).max();
    let lasted = last_ns.unwrap_or(0).saturating_sub(first_ns.unwrap_or(0));
    let certain = significant.iter().any(|e| e.standing >= Standing::Certain);
    lasted < RESTART && !certain && significant.iter().all(of_restart)
}

/// Evidence that needs no other.
pub(super) fn persists(evidence: &Evidence) -> bool {
    let lasted = evidence.last_ns.saturating_sub(evidence.first_ns);
    match (&evidence.kind, evidence.standing) {
        (Kind::OutOfMemory | Kind::CrashLoop { .. } | Kind::UnexpectedExec { .. }, _) => true,
        (Kind::NoWay { .. }, Standing::Hard) => evidence.count >= 2 || lasted >= SECOND,
        (_, Standing::Certain) => true,
        (_, Standing::Hard) => evidence.count >= 2,
        // Found after seconds.
        (
            Kind::DescriptorLeak { .. }
            | Kind::MemoryClimbs
            | Kind::Throttled
            | Kind::Contended
            | Kind::HeldUp
            | Kind::Flood
            | Kind::Mines { .. }
            | Kind::Lossy { .. }
            | Kind::Narrow { .. }
            | Kind::Unkept { .. },
            Standing::Opens,
        ) => true,
        (Kind::Unheard { .. }, Standing::Opens) => evidence.count >= 3 || lasted >= 2 * SECOND,
        (Kind::Deadlock { .. }, Standing::Opens) => lasted >= 3 * SECOND,
        (Kind::Frozen { .. }, Standing::Opens) => lasted >= 3 * SECOND,
        (
            Kind::NoAnswer { .. } | Kind::ClosedEarly { .. } | Kind::ConnectFailed { .. },
            Standing::Opens,
        ) => evidence.count >= 3 || lasted >= 3 * SECOND,
        (Kind::Surprise, Standing::Opens) => lasted >= 15 * SECOND,
        (Kind::Astray, Standing::Opens) => lasted >= 14 * SECOND,
        (Kind::Unstable, _) => false,
        // What explains it may take longer to find.
        (Kind::Failing, Standing::Opens) => lasted >= 8 * SECOND,
        // Which may be the way to the peer: that is known after some seconds.
        (Kind::SlowExchange { .. }, Standing::Opens) => {
            let opens_ns = evidence.opens_ns.unwrap_or(evidence.last_ns);
            evidence.count >= 3 && evidence.last_ns >= opens_ns.saturating_add(3 * SECOND)
        }
        (_, Standing::Opens) => evidence.count >= 3 && lasted >= 3 * SECOND,
        _ => false,
    }
}
