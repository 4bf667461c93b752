//! Reads rings, slots and counters into batches of records.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use stethos_events::{CallRecord, ThreadSlot, kind, lost};
use stethos_patterns::names;

use super::{Settings, decode, facts::Facts, kernel::Kernel, targets};
use crate::record::{Account, ContainerIndex, Nanos, Record, ThreadsSnapshot, Tick, WindowEnd};

/// Calls that stand in a slot this long are handed on without waiting for the window's end.
const PEEK_AFTER_NS: u64 = 100_000_000;
/// A call that lasts this long has its descriptor looked up.
const LONG_CALL_NS: u64 = 1_000_000_000;
const TICK: Duration = Duration::from_secs(1);
/// Threads in one snapshot at most.
const SNAPSHOT_THREADS: usize = 8192;

/// How much of a thread's unfinished window was handed on.
struct Peeked {
    sequence: u64,
    calls: usize,
    /// The last snapshot did not find the thread: its last window may still be in the ring.
    gone: bool,
}

pub struct Reader {
    kernel: Kernel,
    settings: Settings,
    facts: Facts,
    peeked: HashMap<u32, Peeked>,
    delivered: HashMap<ContainerIndex, u64>,
    decode_failed: u64,
    lost_told: [u64; lost::COUNT as usize],
    next_snapshot: Instant,
    next_tick: Instant,
    listen_call: Option<u16>,
}

impl Reader {
    pub fn new(kernel: Kernel, settings: Settings) -> Self {
        let visible = kernel.own_pid == std::process::id();
        if !visible {
            tracing::warn!(
                "the sidecar does not see the host's process ids: names of processes, files and \
                 peers behind descriptors cannot be looked up"
            );
        }
        let facts = Facts::new(&kernel.targets, targets::cgroup_mount().ok(), visible);
        let now = Instant::now();
        let listen_call = names::table(std::env::consts::ARCH).number("listen");
        Self {
            kernel,
            settings,
            facts,
            peeked: HashMap::new(),
            delivered: HashMap::new(),
            decode_failed: 0,
            lost_told: [0; lost::COUNT as usize],
            next_snapshot: now,
            next_tick: now + TICK,
            listen_call,
        }
    }

    /// Waits for the next poll and reads everything that is there. The kernel programs never
    /// wake the reader: a wake-up costs the application more than all else they do.
    pub fn read(&mut self) -> Vec<Record> {
        std::thread::sleep(self.settings.poll_interval);
        let mut out = Vec::new();
        self.drain(&mut out);
        let now = Instant::now();
        if now >= self.next_snapshot {
            self.next_snapshot = now + self.settings.snapshot_interval;
            self.snapshot(&mut out);
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
        self.drain(&mut out);
        self.snapshot(&mut out);
        self.tick(&mut out);
        out
    }

    fn drain(&mut self, out: &mut Vec<Record>) {
        while let Some(bytes) = self.kernel.events.next().map(|item| item.to_vec()) {
            if let Err(error) = self.event(&bytes, out) {
                self.decode_failed += 1;
                tracing::error!(%error, "an event of the kernel programs could not be read");
            }
        }
        while let Some(bytes) = self.kernel.windows.next().map(|item| item.to_vec()) {
            match decode::window(&bytes) {
                Ok(window) => self.window(&window.header, &window.calls, out),
                Err(error) => {
                    self.decode_failed += 1;
                    tracing::error!(%error, "a window of the kernel programs could not be read");
                }
            }
        }
    }

    fn event(&mut self, bytes: &[u8], out: &mut Vec<Record>) -> Result<(), decode::DecodeError> {
        let (event, payload) = decode::event(bytes)?;
        let container = self.facts.container(event.cgroup, event.at_ns, out);
        self.facts.process(event.pid, container, event.at_ns, out);
        let mut ended = None;
        match event.kind {
            kind::PATH if event.ret >= 0 && !self.facts.newly_opened(container, payload) => {
                return Ok(());
            }
            kind::FORK => self.facts.thread_started(event.extra[0], event.extra[1]),
            kind::EXIT => {
                let asked = (event.extra[1] == 1).then_some((event.extra[0] as i32) << 8);
                ended = self.facts.thread_ended(event.pid, event.tid, asked);
            }
            kind::EXEC => self.facts.describe(event.pid, container, event.at_ns, out),
            _ => {}
        }
        out.extend(decode::record(container, &event, payload, ended)?);
        Ok(())
    }

    fn window(
        &mut self,
        header: &stethos_events::WindowHeader,
        calls: &[CallRecord],
        out: &mut Vec<Record>,
    ) {
        let at_ns = calls
            .last()
            .map_or(0, |call| call.enter_ns + call.duration_ns);
        let skip = match self.peeked.get_mut(&header.tid) {
            Some(peeked) if peeked.sequence == header.sequence => {
                let skip = peeked.calls;
                peeked.calls = calls.len();
                skip
            }
            _ if header.end == 0 => {
                self.peeked.insert(
                    header.tid,
                    Peeked {
                        sequence: header.sequence,
                        calls: calls.len(),
                        gone: false,
                    },
                );
                0
            }
            _ => 0,
        };
        if header.end != 0 {
            self.peeked.remove(&header.tid);
        }
        let container = self.facts.container(header.cgroup, at_ns, out);
        self.facts.process(header.pid, container, at_ns, out);
        let window = decode::call_window(container, header, calls, skip);
        *self.delivered.entry(container).or_default() += window.calls.len() as u64;
        for call in &window.calls {
            let hard = (-4095..0).contains(&call.ret) && ![-4, -11, -115, -114].contains(&call.ret);
            if hard || call.duration_ns > LONG_CALL_NS {
                self.facts.descriptor(header.pid, call.fd, at_ns, out);
            }
            if Some(call.nr) == self.listen_call {
                self.facts.describe(header.pid, container, at_ns, out);
            }
        }
        if !window.calls.is_empty() || window.end == WindowEnd::ThreadExit {
            out.push(Record::Window(window));
        }
    }

    /// Reads every slot: what threads are inside, and calls that stand there for long.
    fn snapshot(&mut self, out: &mut Vec<Record>) {
        let now = monotonic_ns();
        let mut threads = Vec::new();
        let tids: HashSet<u32> = self
            .kernel
            .threads
            .keys()
            .flatten()
            .take(SNAPSHOT_THREADS)
            .collect();
        self.peeked.retain(|tid, peeked| {
            let was_gone = peeked.gone;
            peeked.gone = !tids.contains(tid);
            !(was_gone && peeked.gone)
        });
        for tid in tids {
            let Ok(slot) = self.kernel.threads.get(&tid, 0) else {
                continue;
            };
            let container = self.facts.container(slot.window.header.cgroup, now, out);
            let state = decode::thread(container, &slot);
            if let Some(inside) = state.inside
                && now.saturating_sub(inside.enter_ns) > LONG_CALL_NS
            {
                self.facts.descriptor(state.pid, inside.fd, now, out);
            }
            threads.push(state);
            self.peek(&slot, now, out);
        }
        out.push(Record::Threads(ThreadsSnapshot {
            at_ns: now,
            threads,
        }));
    }

    /// Hands on the calls of an unfinished window once they have stood there for a while. The
    /// slot is read twice: only if no window ended between the reads are the calls of the first
    /// one whole.
    fn peek(&mut self, slot: &ThreadSlot, now: Nanos, out: &mut Vec<Record>) {
        let header = slot.window.header;
        let count = header.count as usize;
        let old = slot.last.enter_ns + slot.last.duration_ns + PEEK_AFTER_NS < now;
        let told = self
            .peeked
            .get(&header.tid)
            .is_some_and(|peeked| peeked.sequence == header.sequence && peeked.calls >= count);
        if count == 0 || !old || told || count > slot.window.calls.len() {
            return;
        }
        let Ok(again) = self.kernel.threads.get(&header.tid, 0) else {
            return;
        };
        if again.window.header.sequence == header.sequence
            && again.window.header.count >= header.count
            && header.end == 0
        {
            self.window(&header, &slot.window.calls[..count], out);
        }
    }

    fn tick(&mut self, out: &mut Vec<Record>) {
        let mut accounts: HashMap<ContainerIndex, Account> = HashMap::new();
        for (tid, slot) in self.kernel.threads.iter().flatten() {
            let header = slot.window.header;
            let Some((_, container)) = self
                .facts
                .containers()
                .find(|(cgroup, _)| *cgroup == header.cgroup)
            else {
                continue;
            };
            let handed_on = self
                .peeked
                .get(&tid)
                .filter(|peeked| peeked.sequence == header.sequence)
                .map_or(0, |peeked| peeked.calls as u64);
            let account = accounts.entry(container).or_default();
            account.seen += slot.seen;
            account.lost_ring_full += slot.lost;
            account.held += u64::from(header.count).saturating_sub(handed_on);
        }
        for (cgroup, container) in self.facts.containers() {
            let account = accounts.entry(container).or_default();
            if let Ok(ended) = self.kernel.ended.get(&cgroup, 0) {
                account.seen += ended.iter().map(|part| part.seen).sum::<u64>();
                account.lost_ring_full += ended.iter().map(|part| part.lost).sum::<u64>();
            }
            account.delivered = self.delivered.get(&container).copied().unwrap_or(0);
            account.lost_decode = self.decode_failed;
        }
        self.count_lost(&mut accounts);
        let mut accounts: Vec<_> = accounts.into_iter().collect();
        accounts.sort_by_key(|(container, _)| *container);
        out.push(Record::Tick(Tick {
            at_ns: monotonic_ns(),
            accounts,
        }));
    }

    fn count_lost(&mut self, accounts: &mut HashMap<ContainerIndex, Account>) {
        let sums = match self.kernel.lost() {
            Ok(sums) => sums,
            Err(error) => {
                tracing::error!(%error, "the loss counters could not be read");
                return;
            }
        };
        // Threads without a slot have no container of their own: theirs is the first one's.
        if let Some(account) = accounts.get_mut(&0) {
            account.seen += sums[lost::NO_SLOT as usize];
            account.lost_no_slot = sums[lost::NO_SLOT as usize];
        }
        for (cause, name) in [
            (lost::EVENT_RING_FULL, "event ring full"),
            (lost::NO_SCOPE_SLOT, "no room in the scope"),
            (lost::NO_ACCOUNT, "no room for accounts"),
        ] {
            let (sum, told) = (sums[cause as usize], &mut self.lost_told[cause as usize]);
            if sum > *told {
                tracing::warn!(cause = name, events = sum - *told, "events were lost");
                *told = sum;
            }
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
