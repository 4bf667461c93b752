//! Answers that do not come.

use stethos_patterns::Role;
use stethos_patterns::descriptors::Exchange;

use crate::diagnosis::reference::{Limit, Reference};
use crate::diagnosis::signal::{Kind, Signal, Standing};
use crate::diagnosis::signals::exchanges::{Exchanges, duration, place_of};
use crate::record::{ContainerIndex, Nanos};
use crate::sequential::SECOND;

/// Evidence of one exchange that is older than any before by the margin below, nats.
const STUCK: f64 = 10.0;

/// Age at which an exchange without an answer is stuck: three times the learned ceiling, and
/// at least two seconds above it.
pub(crate) fn stuck_after(normal: &Limit) -> Nanos {
    let ceiling = normal.ceiling_ns.max(normal.highest_ns);
    ceiling
        .saturating_mul(3)
        .max(ceiling.saturating_add(2 * SECOND))
}

/// Judges an exchange that has no answer at `now`. While the peer answers others, in the second half of
/// the wait, it is slow; when it is silent it hangs.
pub(crate) fn judge(
    container: ContainerIndex,
    pending: &Exchange,
    peer: &str,
    now: Nanos,
    model: &Reference,
    exchanges: &Exchanges,
) -> Option<Signal> {
    if pending.role != Role::Client {
        return None;
    }
    let normal = model.patience(peer)?;
    if now.saturating_sub(pending.sent_ns) < stuck_after(&normal) {
        return None;
    }
    let mut place = place_of(container, pending);
    place.end_ns = now;
    let half_ns = pending.sent_ns / 2 + now / 2;
    let kind = match exchanges.last_answer(container, peer) > half_ns {
        true => Kind::SlowExchange {
            peer: peer.to_owned(),
        },
        false => Kind::NoAnswer {
            peer: peer.to_owned(),
        },
    };
    Some(
        Signal::at(place, kind, "exchange:no_answer")
            .about(Some(peer.to_owned()))
            .against(duration(&normal))
            .standing(Standing::Opens, STUCK),
    )
}
