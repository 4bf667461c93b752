//! Reads rings, slots and counters into batches of records.

mod counting;
mod in_place;
mod network;
mod older;
mod published;
mod reduced;
mod renewal;
mod resources;
mod standing;

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use stethos_events::{CallRecord, WindowHeader, kind, lost};
use stethos_patterns::names;

use super::{
    Settings, decode,
    facts::Facts,
    node::{Node, Unanswered},
    pod::Pod,
    reduction::SharedReducer,
};
use crate::record::{ContainerIndex, Nanos, Record, ThreadsSnapshot, Tick, WindowEnd};

/// A call that lasts this long has its descriptor looked up.
const LONG_CALL_NS: u64 = 1_000_000_000;
const TICK: Duration = Duration::from_secs(1);
/// Threads in one snapshot at most.
const SNAPSHOT_THREADS: usize = 8192;

/// Less than it takes for a process's id to be another one's.
const AT_ONCE_NS: u64 = 1_000_000_000;

pub struct Reader {
    node: Box<dyn Node>,
    pod: Pod,
    settings: Settings,
    facts: Facts,
    in_place: in_place::InPlace,
    delivered: HashMap<ContainerIndex, u64>,
    /// Calls that were read in place out of windows that the ring then refused: the kernel counts
    /// them as lost, but they were not.
    rescued: HashMap<ContainerIndex, u64>,
    decode_failed: u64,
    lost_told: [u64; lost::COUNT as usize],
    /// Counters as last heard of.
    counters: counting::HeardCounters,
    /// What was counted in maps that were replaced.
    before: renewal::Before,
    reduced: reduced::ReducedPod,
    used: resources::UsedTimes,
    /// Threads without a slot.
    older: older::OlderThreads,
    published: published::PublishedFacts,
    /// Processes whose end was told of, and when they ended.
    ended: HashMap<u32, Nanos>,
    /// The node did not answer the last question.
    unanswered: bool,
    next_snapshot: Instant,
    next_tick: Instant,
    listen_call: Option<u16>,
    /// A process in the network namespace that is looked at; 0 for none yet.
    network_of: u32,
}

impl Reader {
    pub fn new(node: Box<dyn Node>, pod: Pod, settings: Settings, reducer: SharedReducer) -> Self {
        let now = Instant::now();
        let listen_call = names::table(std::env::consts::ARCH).number("listen");
        Self {
            node,
            pod,
            settings,
            facts: Facts::default(),
            in_place: in_place::InPlace::default(),
            delivered: HashMap::new(),
            rescued: HashMap::new(),
            decode_failed: 0,
            lost_told: [0; lost::COUNT as usize],
            counters: counting::HeardCounters::default(),
            before: renewal::Before::default(),
            reduced: reduced::ReducedPod::new(reducer),
            used: resources::UsedTimes::default(),
            older: older::OlderThreads::default(),
            published: published::PublishedFacts::default(),
            ended: HashMap::new(),
            unanswered: false,
            next_snapshot: now,
            next_tick: now + TICK,
            listen_call,
            network_of: 0,
        }
    }

    /// Waits for the next poll and reads everything that is there. The kernel programs never
    /// wake the reader: a wake-up costs the application more than all else they do.
    pub fn read(&mut self) -> Vec<Record> {
        std::thread::sleep(self.settings.poll_interval);
        let mut out = Vec::new();
        let before_ns = monotonic_ns();
        self.drain(&mut out);
        self.standing(before_ns, &mut out);
        self.lost_spans(before_ns, &mut out);
        self.look_at_published(before_ns, &mut out);
        if let Some((pod, maps)) = self.node.renewed() {
            self.renew(pod, &maps, &mut out);
        }
        self.tell_reduced(&mut out);
        let now = Instant::now();
        if now >= self.next_snapshot {
            self.next_snapshot = now + self.settings.snapshot_interval;
            self.snapshot(&mut out);
            self.network(now >= self.next_tick, &mut out);
        }
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.tick(&mut out);
        }
        out
    }

    /// What is left, with what the slots still hold, and the last account.
    pub fn finish(&mut self) -> Vec<Record> {
        let mut out = Vec::new();
        // A thread that the first pass does not find any more may have handed on its last window
        // just before.
        for _ in 0..2 {
            let before_ns = monotonic_ns();
            self.drain(&mut out);
            self.standing(before_ns, &mut out);
            self.snapshot(&mut out);
        }
        self.tick(&mut out);
        out
    }

    /// Reads what the rings hold now: what comes meanwhile is the next one's.
    fn drain(&mut self, out: &mut Vec<Record>) {
        let mut bytes = Vec::new();
        // The last windows of a process are in their ring before its end is in the other one.
        let mut ends: Vec<Vec<u8>> = Vec::new();
        let until = self.pod.events.end();
        while self.pod.events.next(until, |item| {
            bytes.clear();
            bytes.extend_from_slice(item);
        }) {
            if decode::event(&bytes).is_ok_and(|(event, _)| decode::ends_process(&event)) {
                ends.push(bytes.clone());
            } else {
                self.event_or_count(&bytes, out);
            }
        }
        let until = self.pod.windows.end();
        let mut window = None;
        while self
            .pod
            .windows
            .next(until, |item| window = Some(decode::window(item)))
        {
            match window.take() {
                Some(Ok(window)) => self.window(&window.header, &window.calls, out),
                Some(Err(error)) => {
                    self.decode_failed += 1;
                    tracing::error!(%error, "a window of the kernel programs could not be read");
                }
                None => {}
            }
        }
        if self.pod.windows.is_read(until) {
            self.in_place.emptied();
        }
        for end in ends {
            self.event_or_count(&end, out);
        }
    }

    fn event_or_count(&mut self, bytes: &[u8], out: &mut Vec<Record>) {
        if let Err(error) = self.event(bytes, out) {
            self.decode_failed += 1;
            tracing::error!(%error, "an event of the kernel programs could not be read");
        }
    }

    fn event(&mut self, bytes: &[u8], out: &mut Vec<Record>) -> Result<(), decode::DecodeError> {
        let (mut event, payload) = decode::event(bytes)?;
        if !self.settings.http
            && matches!(event.kind, kind::HTTP_IN | kind::HTTP_OUT | kind::CLOSED)
        {
            return Ok(());
        }
        let (facts, node) = (&mut self.facts, self.node.as_mut());
        let container = facts.container(node, event.cgroup, event.at_ns, out);
        let last_of_process = decode::ends_process(&event);
        if !last_of_process {
            self.process(event.pid, container, event.cgroup, event.at_ns, out);
        }
        let (facts, node) = (&mut self.facts, self.node.as_mut());
        match event.kind {
            kind::PATH if event.ret >= 0 && !facts.newly_opened(container, payload) => {
                return Ok(());
            }
            kind::EXIT if last_of_process => {
                facts.process_ended(event.pid);
                self.published.process_ended(event.pid);
            }
            kind::CONTEXT => self.published.spans = true,
            kind::EXEC => {
                facts.describe(node, event.pid, container, event.at_ns, out);
                self.published.look_at(event.pid, container);
            }
            _ => {}
        }
        if last_of_process && self.has_ended(event.pid, event.at_ns) {
            event.extra[1] = 0;
        }
        let record = decode::record(container, &event, payload)?;
        out.extend(record.map(|record| self.reduced.completed(&event, payload, record)));
        Ok(())
    }

    /// Whether the end of this process was told of just now: each of two threads that end at once
    /// may find itself to be the last one.
    fn has_ended(&mut self, pid: u32, at_ns: Nanos) -> bool {
        let before = self.ended.insert(pid, at_ns);
        before.is_some_and(|before| at_ns.abs_diff(before) < AT_ONCE_NS)
    }

    fn window(&mut self, header: &WindowHeader, calls: &[CallRecord], out: &mut Vec<Record>) {
        let at_ns = calls.last().map_or(0, |call| call.exit_ns);
        let (facts, node) = (&mut self.facts, self.node.as_mut());
        let container = facts.container(node, header.cgroup, at_ns, out);
        self.process(header.pid, container, header.cgroup, at_ns, out);
        let (skip, lost) = self.in_place.window(header, container, calls.len());
        let rescued = lost.as_ref().map_or(0, |lost| lost.calls);
        self.rescue(lost);
        let mut window = decode::call_window(container, header, calls, skip);
        let rescued = u32::try_from(rescued).unwrap_or(u32::MAX);
        window.lost_before = window.lost_before.saturating_sub(rescued);
        if self.before.cut(header.tid) {
            window.lost_before = window.lost_before.max(1);
        }
        *self.delivered.entry(container).or_default() += window.calls.len() as u64;
        self.lives(&window, out);
        let (facts, node) = (&mut self.facts, self.node.as_mut());
        for call in &window.calls {
            let hard = (-4095..0).contains(&call.ret) && ![-4, -11, -115, -114].contains(&call.ret);
            if hard || call.duration_ns > LONG_CALL_NS {
                facts.descriptor(node, header.pid, call.fd, at_ns, out);
            }
            if Some(call.nr) == self.listen_call {
                facts.describe(node, header.pid, container, at_ns, out);
                self.published.look_at(header.pid, container);
            }
        }
        if !window.calls.is_empty() || window.end == WindowEnd::ThreadExit {
            out.push(Record::Window(window));
        }
    }

    fn rescue(&mut self, lost: impl IntoIterator<Item = in_place::Rescued>) {
        for lost in lost {
            *self.rescued.entry(lost.container).or_default() += lost.calls;
        }
    }

    /// Announces a process that was not seen before, here and to the kernel. Of two threads that end at
    /// once, one may hand on its last window after the end of their process was told of.
    fn process(
        &mut self,
        pid: u32,
        container: ContainerIndex,
        cgroup: u64,
        at_ns: Nanos,
        out: &mut Vec<Record>,
    ) {
        let ended = self.ended.get(&pid);
        if ended.is_some_and(|ended| at_ns < ended.saturating_add(AT_ONCE_NS)) {
            return;
        }
        let from = out.len();
        let node = self.node.as_mut();
        if self.facts.process(node, pid, container, at_ns, out) {
            self.published.look_at(pid, container);
        }
        self.tell_kernel(&out[from..], cgroup);
    }

    /// Reads every slot: what threads are inside.
    fn snapshot(&mut self, out: &mut Vec<Record>) {
        let polled = self.node.poll_threads();
        self.answered(polled);
        let now = monotonic_ns();
        let mut threads = Vec::new();
        let mut tids = HashSet::new();
        let (facts, node) = (&mut self.facts, self.node.as_mut());
        for slot in self.pod.slots.taken() {
            let header = slot.header();
            tids.insert(header.tid);
            if threads.len() >= SNAPSHOT_THREADS {
                continue;
            }
            let container = facts.container(node, header.cgroup, now, out);
            let (last, polled) = (slot.last(), slot.polled());
            let Some(state) = decode::thread(container, &header, &last, slot.seen(), &polled)
            else {
                continue;
            };
            if let Some(inside) = state.inside
                && now.saturating_sub(inside.enter_ns) > LONG_CALL_NS
            {
                facts.descriptor(node, state.pid, inside.fd, now, out);
            }
            threads.push(state);
        }
        self.older_threads(now, &tids, &mut threads, out);
        let lost = self.in_place.present(&tids);
        self.rescue(lost);
        out.push(Record::Threads(ThreadsSnapshot {
            at_ns: now,
            threads,
        }));
    }

    fn tick(&mut self, out: &mut Vec<Record>) {
        let now = monotonic_ns();
        self.facts.catch_up(self.node.as_mut(), now, out);
        let cgroups: Vec<u64> = self.facts.containers().map(|(cgroup, _)| cgroup).collect();
        let counters = self.node.counters(&cgroups);
        let counters = counters.map(|counters| self.counters.hear(counters));
        self.answered(counters);
        let mut accounts = self.counted();
        for (container, account) in &mut accounts {
            account.delivered = self.delivered.get(container).copied().unwrap_or(0);
            let rescued = self.rescued.get(container).copied().unwrap_or(0);
            account.lost_ring_full = account.lost_ring_full.saturating_sub(rescued);
            account.lost_decode = self.decode_failed;
        }
        self.ended
            .retain(|_, at_ns| now.saturating_sub(*at_ns) < AT_ONCE_NS);
        self.tell_lost();
        self.tell_counts(now, out);
        self.tell_pending(now, out);
        self.tell_resources(now, out);
        let mut accounts: Vec<_> = accounts.into_iter().collect();
        accounts.sort_by_key(|(container, _)| *container);
        out.push(Record::Tick(Tick {
            at_ns: monotonic_ns(),
            accounts,
            skipped_recursion: self.counters.skipped_recursion,
        }));
    }

    /// Tells once that the node does not answer, and once that it does again.
    fn answered(&mut self, answer: Result<(), Unanswered>) {
        match answer {
            Err(error) if !self.unanswered => {
                self.unanswered = true;
                tracing::warn!(%error, "the node does not answer; windows are still read");
            }
            Ok(()) if self.unanswered => {
                self.unanswered = false;
                tracing::info!("the node answers again");
            }
            _ => {}
        }
    }
}

/// CLOCK_MONOTONIC, which `bpf_ktime_get_ns` reads too.
pub fn monotonic_ns() -> Nanos {
    clock(libc::CLOCK_MONOTONIC)
}

/// Unix time minus monotonic time.
pub fn unix_offset_ns() -> i64 {
    clock(libc::CLOCK_REALTIME) as i64 - monotonic_ns() as i64
}

fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid timespec to write to.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
