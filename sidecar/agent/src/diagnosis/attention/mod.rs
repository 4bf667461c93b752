//! Whether everything a pod does has to be shipped, or what is unfamiliar is enough.
//!
//! While nothing is out of the ordinary, the kernel only counts what is familiar. Tests that compare
//! shares would be misled by what is left, so they rest then, and this module watches the counts
//! in their place, with far less patience: what looks different, even if it turns out to be nothing, has
//! everything shipped again, and diagnosis looks at it call by call. After [`CALM`] in which nothing
//! more was found, calls are only counted again.
//!
//! What is familiar is no statement about what is normal: a context that was seen twice in calm time is
//! familiar, whatever it does to the profile, which is made from counts and samples all the same.

mod contexts;
mod watchers;

use std::collections::BTreeMap;

use stethos_patterns::Role;
use stethos_patterns::names::{self, CallTable};

use crate::diagnosis::reference::Reference;
use crate::record::{
    CallCounts, CallWindow, ContainerIndex, LifecycleEvent, Nanos, Record, Tick, TimedExchange,
};
use crate::sequential::SECOND;
use contexts::Contexts;
use watchers::Watchers;

/// Nothing was found for this long.
const CALM: Nanos = 10 * SECOND;
/// Each time that calm did not last doubles it, up to this many times.
const DOUBLINGS: u32 = 3;
/// Calm that lasted this long makes up for one time that it did not.
const FORGIVEN: Nanos = 120 * SECOND;
/// Calls a second from which on it is worth counting, and below which it is not any more.
const WORTH: (f64, f64) = (500.0, 150.0);
/// Calls would be shipped for their own sake, or beside those, up to this share.
const SHIPPED: f64 = 0.1;
/// Of so many familiar windows one is shipped.
const SAMPLE: u32 = 160;
/// Time for new contexts to show what they belong to.
const SETTLES: Nanos = 5 * SECOND;
/// Room is made for what is familiar once in this time at most.
const ROOM_AGAIN: Nanos = 600 * SECOND;
/// Profiles from samples in a row that say something, at first and at most.
const PATIENCE: u32 = 3;
const MOST_PATIENCE: u32 = 48;
/// A profile this far from what was learned always says something.
const FARTHEST: f64 = 64.0;
/// Why everything is shipped though nothing was found.
const STARTED: &str = "the capture has just begun";
const LITTLE: &str = "there is little to ship";
const UNLEARNED: &str = "no container is learned";
const UNFAMILIAR: &str = "too many calls are not familiar";
/// Containers whose contexts are followed.
const CONTAINERS: usize = 64;

/// What the capture is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// From now on this is only counted, up to durations of class `ceiling`.
    Learn {
        container: ContainerIndex,
        familiar: Familiar,
        ceiling: u8,
    },
    /// Nothing is familiar any more.
    Forget,
    /// Count what is familiar, and ship one of `sample` windows of it.
    Count { sample: u32 },
    /// Ship everything.
    Ship { reason: &'static str },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Familiar {
    /// The last four tokens of a thread.
    Context(u64),
    Answers(String),
    Service,
}

/// How the profiles of a container were while calls were only counted.
#[derive(Debug)]
struct Profile {
    /// In a row, and the distance of the last one from what was learned: binary logarithm of
    /// 1 / stability, which is 1 at the calibrated limit.
    unstable: u32,
    distance: f64,
    /// Up to this distance it says nothing.
    tolerated: f64,
    /// Of the last interval, whole or from a sample.
    stability: f64,
}

impl Default for Profile {
    fn default() -> Self {
        Profile {
            unstable: 0,
            distance: 0.0,
            tolerated: 1.0,
            stability: 1.0,
        }
    }
}

/// Distance of a profile of which one value is far off.
const ASTRAY: f64 = 1.5;

/// Decides what is shipped of one pod.
#[derive(Debug)]
pub struct Attention {
    table: &'static CallTable,
    containers: BTreeMap<ContainerIndex, Contexts>,
    watchers: Watchers,
    /// Since when calls are only counted.
    counting_ns: Option<Nanos>,
    /// When something was found that had everything shipped.
    found_ns: Nanos,
    started_ns: Option<Nanos>,
    trips: u32,
    forgiven_ns: Nanos,
    /// When all that was familiar was last forgotten.
    forgotten_ns: Option<Nanos>,
    tick: Option<Tick>,
    /// Calls a second of the whole pod, over the last seconds.
    rate: f64,
    orders: Vec<Order>,
    profiles: BTreeMap<ContainerIndex, Profile>,
    /// Unstable profiles in a row that say something.
    patience: u32,
    /// Why everything is shipped, while it is.
    reason: &'static str,
}

impl Attention {
    /// `arch` as in [`crate::record::Header`].
    pub fn new(arch: &str) -> Self {
        Attention {
            table: names::table(arch),
            containers: BTreeMap::new(),
            watchers: Watchers::default(),
            counting_ns: None,
            found_ns: 0,
            started_ns: None,
            trips: 0,
            forgiven_ns: 0,
            forgotten_ns: None,
            tick: None,
            rate: 0.0,
            orders: Vec::new(),
            profiles: BTreeMap::new(),
            patience: PATIENCE,
            reason: STARTED,
        }
    }

    /// Why everything is shipped; none while calls are only counted.
    pub fn reason(&self) -> Option<&'static str> {
        self.counting_ns.is_none().then_some(self.reason)
    }

    /// Stability of a container's last interval, once there was one.
    pub fn stability(&self, container: ContainerIndex) -> Option<f64> {
        let profile = self.profiles.get(&container)?;
        Some(profile.stability)
    }

    /// True while calls are only counted.
    pub fn is_counting(&self) -> bool {
        self.counting_ns.is_some()
    }

    /// Takes a window with the roles of its calls' descriptors. `model`: the container's normal,
    /// once it is learned.
    pub(crate) fn on_window(
        &mut self,
        window: &CallWindow,
        roles: &[Role],
        model: Option<&Reference>,
    ) {
        let full = self.containers.len() >= CONTAINERS;
        if full && !self.containers.contains_key(&window.container) {
            return;
        }
        let contexts = self.containers.entry(window.container).or_default();
        contexts.take(window, roles, self.table, model, |token, normal| {
            self.watchers.slow(window.container, token, normal);
        });
    }

    /// Takes any other record.
    pub(crate) fn on_record(&mut self, record: &Record, model: Option<&Reference>) {
        match record {
            Record::Counts(counts) => self.on_counts(counts, model),
            Record::Exchange(timed) => self.on_exchange(timed, model),
            Record::Lifecycle(lifecycle) => match lifecycle.event {
                // Of a container without a normal nothing can be said yet.
                LifecycleEvent::Exec { ref executable }
                    if model.is_some_and(|model| {
                        !model.knows_command(executable) && !model.accepts_command(executable)
                    }) =>
                {
                    self.find(lifecycle.at_ns, "an unknown program was started");
                }
                LifecycleEvent::OomKill => self.find(lifecycle.at_ns, "out of memory"),
                LifecycleEvent::Exit {
                    code,
                    group_dead: true,
                } => {
                    self.watchers.ended(lifecycle.container);
                    if code != 0 {
                        self.find(lifecycle.at_ns, "a process failed");
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }

    /// Something else is out of the ordinary.
    pub(crate) fn disturbed(&mut self, at_ns: Nanos, reason: &'static str) {
        if at_ns > self.found_ns {
            self.find(at_ns, reason);
        }
    }

    /// Stability of a container's last interval. One from a sample strays more than whole ones do, on
    /// which the limit was calibrated, and where capture costs the application much, it does something
    /// else once it costs little. Several unstable ones in a row say something; when the profile then
    /// turns out as learned, it takes more of them, and twice the distance.
    /// `astray`: one of its values is far off, which may mean much where all others are as learned.
    pub(crate) fn on_stability(
        &mut self,
        container: ContainerIndex,
        at_ns: Nanos,
        stability: f64,
        astray: bool,
    ) {
        let profile = self.profiles.entry(container).or_default();
        let distance = (-stability.log2()).max(if astray { ASTRAY } else { 0.0 });
        profile.stability = stability;
        if self.counting_ns.is_some() {
            if distance <= profile.tolerated {
                profile.unstable = 0;
                return;
            }
            profile.unstable += 1;
            profile.distance = distance;
            if profile.unstable >= self.patience {
                self.find(at_ns, "the profile has changed");
            }
            return;
        }
        let suspected = std::mem::take(&mut profile.unstable) >= self.patience;
        if distance > Profile::default().tolerated {
            self.find(at_ns, "the profile has changed");
        } else if suspected {
            let tolerated = (2.0 * profile.distance).min(FARTHEST);
            profile.tolerated = profile.tolerated.max(tolerated);
            self.patience = (self.patience * 2).min(MOST_PATIENCE);
        }
    }

    /// Once a second. `model` gives the normal of a container, once it is learned.
    pub(crate) fn on_tick<'a>(
        &mut self,
        tick: &Tick,
        model: impl Fn(ContainerIndex) -> Option<&'a Reference>,
    ) {
        let now = tick.at_ns;
        self.started_ns.get_or_insert(now);
        let seen = self.pass(tick);
        self.watchers.second();
        for (container, contexts) in &mut self.containers {
            let calls = seen.get(container).copied().unwrap_or(0);
            let stranger = contexts.second(now, calls, self.counting_ns.is_some());
            if stranger {
                self.watchers.found = Some("calls are less familiar than before");
            }
        }
        if let Some(reason) = self.watchers.found.take() {
            self.find(now, reason);
        }
        if self.containers.values().any(Contexts::has_left_over) {
            self.no_room(now);
        }
        self.decide(now, &model);
        if now.saturating_sub(self.found_ns) >= SETTLES {
            for (container, contexts) in &mut self.containers {
                if let Some(model) = model(*container) {
                    contexts.teach(*container, now, self.table, model, &mut self.orders);
                }
            }
        }
    }

    /// What the capture is asked to do since the last call.
    pub fn drain(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    /// There was no room for something that was to be learned. What the threads do now may be
    /// something else than what fills the room: all of it is learned anew, though not often.
    pub fn no_room(&mut self, now: Nanos) {
        let again = self.forgotten_ns.map(|at_ns| at_ns + ROOM_AGAIN);
        if again.is_some_and(|again| now < again) {
            return;
        }
        self.forgotten_ns = Some(now);
        self.containers.values_mut().for_each(Contexts::forget);
        self.orders.push(Order::Forget);
        self.find(now, "there is no room for more that is familiar");
    }

    /// A container is learned anew, from whole streams: what was familiar is learned again where there
    /// is a normal.
    pub fn learned_anew(&mut self) {
        let now = self.tick.as_ref().map_or(0, |tick| tick.at_ns);
        self.containers.values_mut().for_each(Contexts::forget);
        self.orders.push(Order::Forget);
        self.find(now, "a container is learned anew");
    }

    /// Something of a container was to be learned for whose kind there is no row: it could not be
    /// watched by its counts, so all is shipped until what fills the rows was learned anew.
    pub fn no_rows(&mut self, container: ContainerIndex, now: Nanos) {
        if let Some(contexts) = self.containers.get_mut(&container) {
            contexts.uncounted();
        }
        self.find(now, "there are more kinds of calls than can be counted");
        self.no_room(now);
    }

    fn on_counts(&mut self, counts: &CallCounts, model: Option<&Reference>) {
        let Some(model) = model else { return };
        if self.counting_ns.is_none() {
            return;
        }
        self.watchers.counts(counts, model);
        if let Some(reason) = self.watchers.found.take() {
            self.find(counts.at_ns, reason);
        }
    }

    fn on_exchange(&mut self, timed: &TimedExchange, model: Option<&Reference>) {
        let Some(model) = model else { return };
        self.watchers.exchange(timed, model);
        if let Some(reason) = self.watchers.found.take() {
            self.find(timed.at_ns, reason);
        }
    }

    /// Calls of each container since the last tick.
    fn pass(&mut self, tick: &Tick) -> BTreeMap<ContainerIndex, u64> {
        let mut seen = BTreeMap::new();
        if let Some(last) = &self.tick {
            let seconds = tick.at_ns.saturating_sub(last.at_ns) as f64 / SECOND as f64;
            for (container, account) in &tick.accounts {
                let before = last.accounts.iter().find(|(c, _)| c == container);
                let calls = account.seen - before.map_or(0, |(_, a)| a.seen).min(account.seen);
                seen.insert(*container, calls);
            }
            if seconds > 0.1 {
                let rate = seen.values().sum::<u64>() as f64 / seconds;
                self.rate += (rate - self.rate) * 0.5;
            }
        }
        self.tick = Some(tick.clone());
        seen
    }

    fn find(&mut self, at_ns: Nanos, reason: &'static str) {
        self.found_ns = self.found_ns.max(at_ns);
        self.reason = reason;
        if self.counting_ns.take().is_some() {
            self.trips = (self.trips + 1).min(DOUBLINGS);
            self.orders.push(Order::Ship { reason });
        }
    }

    fn decide<'a>(&mut self, now: Nanos, model: &impl Fn(ContainerIndex) -> Option<&'a Reference>) {
        if now.saturating_sub(self.forgiven_ns.max(self.found_ns)) >= FORGIVEN {
            self.trips = self.trips.saturating_sub(1);
            self.forgiven_ns = now;
        }
        if self.counting_ns.is_some() {
            if self.rate < WORTH.1 {
                self.counting_ns = None;
                self.reason = LITTLE;
                self.orders.push(Order::Ship { reason: LITTLE });
            }
            return;
        }
        let since = self.found_ns.max(self.started_ns.unwrap_or(now));
        let calm = now.saturating_sub(since) >= CALM << self.trips;
        if !calm {
            return;
        }
        if self.rate < WORTH.0 {
            self.reason = LITTLE;
            return;
        }
        let mut watched = self
            .containers
            .iter()
            .filter(|(container, _)| model(**container).is_some())
            .peekable();
        if watched.peek().is_none() {
            self.reason = UNLEARNED;
            return;
        }
        if watched.any(|(_, contexts)| contexts.would_ship() > SHIPPED) {
            self.reason = UNFAMILIAR;
            return;
        }
        for (container, contexts) in &mut self.containers {
            if let Some(model) = model(*container) {
                contexts.teach(*container, now, self.table, model, &mut self.orders);
            }
        }
        self.watchers.begin();
        self.counting_ns = Some(now);
        self.orders.push(Order::Count { sample: SAMPLE });
    }
}

#[cfg(test)]
mod tests;
