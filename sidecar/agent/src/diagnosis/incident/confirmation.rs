//! What confirms an incident.

use crate::diagnosis::evidence::Evidence;
use crate::diagnosis::signal::{Kind, Standing};
use crate::sequential::SECOND;

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
        // Which may be the way to the peer: that is known after some seconds.
        (Kind::SlowExchange { .. }, Standing::Opens) => {
            let opens_ns = evidence.opens_ns.unwrap_or(evidence.last_ns);
            evidence.count >= 3 && evidence.last_ns >= opens_ns.saturating_add(3 * SECOND)
        }
        (_, Standing::Opens) => evidence.count >= 3 && lasted >= 3 * SECOND,
        _ => false,
    }
}
