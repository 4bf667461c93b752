//! What a container's threads have been seen to do: contexts of four tokens.

use std::collections::{HashMap, VecDeque};

use stethos_events::{class_floor, duration_class, token};
use stethos_patterns::names::{CallKind, CallTable};
use stethos_patterns::{Role, Token};

use super::{Familiar, Order, SETTLES};
use crate::diagnosis::reference::{Limit, Reference};
use crate::record::{Call, CallWindow, ContainerIndex, Nanos};
use crate::sequential::ShareTest;

/// Contexts of one container that are followed; further ones stay unfamiliar.
const CONTEXTS: usize = 6144;
/// Seen so often in calm time, a context is familiar.
const TWICE: u32 = 2;
/// Durations up to twice the longest one are nothing new: classes are quarters of an octave.
const LONGER: u8 = 4;
/// The same where it is not a file that is waited for: a few ms are the scheduler's affair.
const SCHEDULING_NS: u64 = 10_000_000;
/// Seconds over which the share that would be shipped is taken.
const SECONDS: usize = 8;
/// Evidence at which the share of unfamiliar calls has risen, nats.
const RISEN: f64 = 4.0;
/// So few unfamiliar calls are never more than usual.
const FEW: f64 = 0.005;
/// No duration is too long.
const ANY: u8 = u8::MAX;

#[derive(Debug, Default)]
pub(super) struct Contexts {
    seen: HashMap<u64, Seen>,
    /// Calls for which there was no room in `seen`.
    left_over: u64,
    /// Something that is familiar cannot be counted.
    uncounted: bool,
    seconds: VecDeque<Second>,
    now: Second,
    test: Option<ShareTest>,
    /// Share of unfamiliar calls in calm time.
    usual: f64,
    /// What else was taught: ceilings of the answers of peers, and of the container's own.
    taught: HashMap<Option<String>, u8>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    times: u32,
    first_ns: Nanos,
    /// Longest duration class.
    longest: u8,
    roles: u8,
    /// What was taught.
    ceiling: Option<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    calls: u64,
    /// Calls that are not familiar, and those of their windows.
    strange: u64,
    shipped: u64,
}

impl Contexts {
    /// Takes a window. `slow` is told of calls on files that take longer than they may.
    pub(super) fn take(
        &mut self,
        window: &CallWindow,
        roles: &[Role],
        table: &CallTable,
        model: Option<&Reference>,
        mut slow: impl FnMut(Token, Limit),
    ) {
        let mut context = window.context;
        let mut strange = 0;
        for (call, role) in window.calls.iter().zip(roles) {
            context = context << 16 | u64::from(token(call.nr, call.ret));
            let class = duration_class(call.duration_ns);
            if !self.know(context, class, *role, call, table, model) {
                strange += 1;
            }
            if let Some(limit) = file_limit(call, *role, table, model)
                && call.duration_ns > limit.ceiling_ns
            {
                slow(Token::new(call.nr, call.ret), limit);
            }
        }
        self.now.calls += window.calls.len() as u64;
        self.now.strange += strange;
        if strange > 0 {
            self.now.shipped += window.calls.len() as u64;
        }
    }

    /// Takes one call; false when it is not familiar.
    fn know(
        &mut self,
        context: u64,
        class: u8,
        role: Role,
        call: &Call,
        table: &CallTable,
        model: Option<&Reference>,
    ) -> bool {
        let at_ns = call.enter_ns.saturating_add(call.duration_ns);
        let fresh = Seen {
            times: 0,
            first_ns: at_ns,
            longest: 0,
            roles: 0,
            ceiling: None,
        };
        if self.seen.len() >= CONTEXTS && !self.seen.contains_key(&context) {
            self.left_over += 1;
            return false;
        }
        let seen = self.seen.entry(context).or_insert(fresh);
        let ceiling = match (seen.ceiling, model) {
            (Some(ceiling), _) => Some(ceiling),
            (None, Some(model)) if seen.times >= TWICE => allowed(context, seen, table, model),
            _ => None,
        };
        seen.times = seen.times.saturating_add(1);
        seen.longest = seen.longest.max(class);
        seen.roles |= 1 << role as u8;
        ceiling.is_some_and(|ceiling| class <= ceiling)
    }

    /// A second is over, in which the container made `calls` calls. True when more of them were
    /// unfamiliar than usual.
    pub(super) fn second(&mut self, now: Nanos, calls: u64, counting: bool) -> bool {
        let mut second = std::mem::take(&mut self.now);
        if counting {
            second.calls = calls.max(second.calls);
        }
        if self.seconds.len() >= SECONDS {
            self.seconds.pop_front();
        }
        self.seconds.push_back(second);
        if !counting {
            self.test = None;
            let (calls, strange) = self.sums(|second| second.strange);
            self.usual = strange as f64 / calls.max(1) as f64;
            return false;
        }
        let strange = second.strange.min(second.calls);
        let p0 = (2.0 * self.usual).clamp(FEW, 0.05);
        let test = self.test.get_or_insert_with(ShareTest::new);
        let evidence = test.observe_many(
            now,
            strange,
            second.calls - strange,
            p0,
            (8.0 * p0).min(0.5),
        );
        evidence > RISEN
    }

    /// Share of the calls that would be shipped if what was seen twice were only counted.
    pub(super) fn would_ship(&self) -> f64 {
        if self.uncounted {
            return 1.0;
        }
        let (calls, shipped) = self.sums(|second| second.shipped);
        shipped as f64 / calls.max(1) as f64
    }

    fn sums(&self, of: impl Fn(&Second) -> u64) -> (u64, u64) {
        self.seconds.iter().fold((0, 0), |(calls, sum), second| {
            (calls + second.calls, sum + of(second))
        })
    }

    /// Orders what is familiar by now and was not ordered yet.
    pub(super) fn teach(
        &mut self,
        container: ContainerIndex,
        now: Nanos,
        table: &CallTable,
        model: &Reference,
        orders: &mut Vec<Order>,
    ) {
        let mut learn = |familiar, ceiling| {
            orders.push(Order::Learn {
                container,
                familiar,
                ceiling,
            });
        };
        for (context, seen) in &mut self.seen {
            let settled = seen.first_ns.saturating_add(SETTLES) <= now;
            if seen.times < TWICE || !settled {
                continue;
            }
            let Some(ceiling) = allowed(*context, seen, table, model) else {
                continue;
            };
            if seen.ceiling.is_none_or(|taught| taught < ceiling) {
                seen.ceiling = Some(ceiling);
                learn(Familiar::Context(*context), ceiling);
            }
        }
        let answers = model
            .answering()
            .map(|(peer, limit)| (Some(peer.to_owned()), limit));
        let service = model.service_limit().map(|limit| (None, limit));
        for (whose, limit) in answers.chain(service) {
            let ceiling = below(limit.ceiling_ns);
            if self.taught.insert(whose.clone(), ceiling) != Some(ceiling) {
                learn(whose.map_or(Familiar::Service, Familiar::Answers), ceiling);
            }
        }
    }

    /// Something that is familiar has no row to be counted in.
    pub(super) fn uncounted(&mut self) {
        self.uncounted = true;
    }

    /// More was seen than can be followed.
    pub(super) fn has_left_over(&self) -> bool {
        self.left_over > 0
    }

    /// Forgets what was seen and taught: it is seen anew.
    pub(super) fn forget(&mut self) {
        self.seen.clear();
        self.taught.clear();
        self.left_over = 0;
        self.uncounted = false;
    }
}

/// Highest duration class that is nothing new for a context; none where it never is.
fn allowed(context: u64, seen: &Seen, table: &CallTable, model: &Reference) -> Option<u8> {
    let last = context as u16;
    let (nr, errno) = (last >> 7, i64::from(last & 0x7f));
    let token = Token::new(nr, -errno);
    if token.outcome.is_error() && model.outcomes(token) == 0 {
        return None;
    }
    if table.is_wait(nr) {
        return Some(ANY);
    }
    let kind = table.kind(nr);
    let moves = matches!(kind, CallKind::Read | CallKind::Write);
    let file = 1 << Role::File as u8;
    if moves && seen.roles != file {
        // Others' time: exchanges are timed as such.
        return Some(ANY);
    }
    let longer = seen.longest.saturating_add(LONGER);
    let limit = model.call_limit(token, Role::File);
    Some(match limit.filter(|_| seen.roles & file != 0) {
        Some(limit) => below(limit.ceiling_ns),
        None => longer.max(duration_class(SCHEDULING_NS)),
    })
}

/// What a call on a file may take, where that was learned.
fn file_limit(
    call: &Call,
    role: Role,
    table: &CallTable,
    model: Option<&Reference>,
) -> Option<Limit> {
    let works = matches!(
        table.kind(call.nr),
        CallKind::Read | CallKind::Write | CallKind::Sync | CallKind::File | CallKind::Open
    );
    if role != Role::File || !works {
        return None;
    }
    model?.call_limit(Token::new(call.nr, call.ret), Role::File)
}

/// The highest class all of whose durations are at most `ns`.
fn below(ns: u64) -> u8 {
    let class = duration_class(ns);
    if class_floor(class.saturating_add(1)) <= ns.saturating_add(1) {
        class
    } else {
        class.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequential::SECOND;

    #[test]
    fn nothing_above_a_ceiling_is_in_a_familiar_class() {
        for ns in [0, 1, 1023, 1024, 1500, 10_000_000, SECOND] {
            let class = below(ns);
            assert!(class_floor(class + 1) <= ns + 1, "{ns}");
        }
    }
}
