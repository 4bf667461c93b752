//! A pod of three containers whose calls are made up, but whose windows, exchanges and baseline
//! come from the real parts. The models are stood in for by pairs of calls seen in learning.

use std::collections::{BTreeMap, BTreeSet};

use stethos_bundle::Thresholds;
use stethos_patterns::baseline::BaselineBuilder;
use stethos_patterns::descriptors::{DescriptorTable, ObservedCall};
use stethos_patterns::{Token, Vocabulary, Window, WindowCall};

use crate::diagnosis::report::Report;
use crate::diagnosis::{ContainerModel, DiagnosisConfig, Engine, JudgedWindow};
use crate::record::*;

pub(super) use super::calls::{Calls, nr};
use super::machine::Machine;

pub(super) const MS: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1_000 * MS;
pub(super) const API: u16 = 0;
pub(super) const CATALOG: u16 = 1;
pub(super) const REDIS: u16 = 2;
pub(super) const CATALOG_AT: &str = "127.0.0.1:8081";
pub(super) const REDIS_AT: &str = "127.0.0.1:6379";
const NAMES: [&str; 3] = ["api", "catalog", "redis"];

pub(super) fn pid(container: u16) -> u32 {
    100 * (u32::from(container) + 1)
}

pub(super) struct Shop {
    pub(super) engine: Engine,
    pub(super) now: Nanos,
    pub(super) reports: Vec<Report>,
    /// Containers that stand still: no calls, and interrupted in the last one.
    pub(super) frozen: BTreeSet<u16>,
    /// Processes that are not in the snapshots of threads.
    pub(super) gone: BTreeSet<u16>,
    /// What the catalog does in every request beside the rest.
    pub(super) habit: fn(&mut Calls),
    /// Descriptors that the catalog has open beside the usual ones.
    pub(super) open: i32,
    /// A process that runs in every snapshot.
    pub(super) computes: Option<(u16, u32)>,
    /// Threads that stand in a call: container, thread, call, since when.
    pub(super) stands: Vec<(u16, u32, &'static str, Nanos)>,
    /// Latencies with a heavy tail: every second one half as long again, and so on.
    pub(super) heavy_tail: bool,
    /// Where the api asks for what the catalog has.
    pub(super) catalog_at: &'static str,
    /// What each container uses in a second.
    pub(super) machine: Machine,
    table: DescriptorTable,
    pub(super) learning: Option<[BaselineBuilder; 3]>,
    pub(super) pairs: BTreeMap<(u16, Option<Token>), BTreeSet<Token>>,
    pub(super) tokens: [BTreeSet<Token>; 3],
    pub(super) vocabularies: Vec<Vocabulary>,
    last: [Option<Call>; 3],
    sequence: u64,
    seen: [u64; 3],
    lost: u64,
    jitter: u64,
}

impl Shop {
    /// Nothing learnt.
    pub(super) fn new() -> Self {
        let header = Header {
            arch: "x86_64".into(),
            kernel: "6.1".into(),
            unix_offset_ns: 1_700_000_000_000_000_000,
            capture_mode: "self-contained".into(),
            target: "test".into(),
        };
        let mut shop = Shop {
            engine: Engine::new(DiagnosisConfig::default(), &header),
            now: 1000 * SECOND,
            reports: Vec::new(),
            frozen: BTreeSet::new(),
            gone: BTreeSet::new(),
            habit: |_| {},
            open: 0,
            computes: None,
            stands: Vec::new(),
            heavy_tail: false,
            catalog_at: CATALOG_AT,
            machine: Machine::default(),
            table: DescriptorTable::new("x86_64"),
            learning: None,
            pairs: BTreeMap::new(),
            tokens: Default::default(),
            vocabularies: Vec::new(),
            last: [None; 3],
            sequence: 0,
            seen: [0; 3],
            lost: 0,
            jitter: 1,
        };
        for container in [API, CATALOG, REDIS] {
            shop.introduce(container);
        }
        shop
    }

    fn connect_all(&mut self) {
        self.connect(API, 6, self.catalog_at, 0);
        self.connect(CATALOG, 7, REDIS_AT, 0);
    }

    /// A minute of normal work learnt, and a few seconds watched.
    pub(super) fn learnt() -> Self {
        Shop::learnt_as(Shop::new())
    }

    /// The same of a catalog that does something more in every request.
    pub(super) fn learnt_with(habit: fn(&mut Calls)) -> Self {
        let mut shop = Shop::new();
        shop.habit = habit;
        Shop::learnt_as(shop)
    }

    pub(super) fn learnt_as(mut shop: Shop) -> Self {
        shop.learning = Some(Default::default());
        shop.connect_all();
        shop.work(60, 20);
        shop.connect_all();
        shop.watch();
        shop.work(10, 20);
        assert_eq!(shop.reports, [], "normal work raises nothing");
        shop
    }

    fn introduce(&mut self, container: u16) {
        let name = NAMES[usize::from(container)];
        self.engine.on_record(&Record::Container(ContainerInfo {
            at_ns: self.now,
            container,
            name: name.into(),
            id: None,
            cgroup_path: format!("/pod/{name}"),
            image: None,
            image_digest: None,
        }));
        let listens = match container {
            CATALOG => vec![CATALOG_AT.to_owned()],
            REDIS => vec!["0.0.0.0:6379".to_owned()],
            _ => vec!["0.0.0.0:8080".to_owned()],
        };
        self.engine.on_record(&Record::Process(ProcessInfo {
            at_ns: self.now,
            container,
            pid: pid(container),
            executable: executable(container),
            command_line: Vec::new(),
            environment: Vec::new(),
            listens,
        }));
        self.table
            .set(pid(container), 5, stethos_patterns::Role::Server, None);
        self.table
            .set(pid(container), 4, stethos_patterns::Role::File, None);
    }

    /// Ends learning.
    pub(super) fn watch(&mut self) {
        for (container, mut builder) in (0..).zip(self.learning.take().into_iter().flatten()) {
            builder.observed_time(60 * SECOND);
            builder.executable(&executable(container));
            builder.executable("/bin/health");
            let tokens = self.tokens[usize::from(container)].iter().copied();
            let model = ContainerModel {
                arch: "x86_64".into(),
                vocabulary: Vocabulary::new(tokens.clone()),
                patterns: Vec::new(),
                thresholds: Thresholds {
                    false_alarm_rate: 0.001,
                    patterns: vec![2.0],
                    reconstruction_median: 1.0,
                    reconstruction_limit: 2.0,
                },
                baseline: builder.finish(),
            };
            self.vocabularies.push(Vocabulary::new(tokens));
            self.engine.watch(container, model);
        }
    }

    /// Seconds of normal work at `rate` requests a second.
    pub(super) fn work(&mut self, seconds: u64, rate: u64) {
        self.each_second(seconds, |shop| shop.requests(rate, Shop::request));
    }

    /// `rate` times `request`, spread over a second.
    pub(super) fn requests(&mut self, rate: u64, mut request: impl FnMut(&mut Shop)) {
        let start = self.now;
        for i in 0..rate {
            self.now = start + i * SECOND / rate;
            request(self);
        }
        self.now = start;
    }

    /// `work` is called at the start of each second; snapshots and ticks come beside it.
    pub(super) fn each_second(&mut self, seconds: u64, mut work: impl FnMut(&mut Shop)) {
        for _ in 0..seconds {
            work(self);
            for half in [500, 1000] {
                let at_ns = self.now + half * MS;
                self.snapshot(at_ns);
            }
            self.now += SECOND;
            self.look();
            self.tick();
        }
    }

    fn snapshot(&mut self, at_ns: Nanos) {
        let mut threads = Vec::new();
        for container in [API, CATALOG, REDIS] {
            if self.gone.contains(&container) {
                continue;
            }
            let frozen = self.frozen.contains(&container);
            let inside = InsideCall {
                nr: nr("epoll_wait"),
                fd: 3,
                enter_ns: at_ns - 100 * MS,
            };
            threads.push(ThreadState {
                container,
                pid: pid(container),
                tid: pid(container),
                state: if frozen {
                    RunState::Stopped
                } else {
                    RunState::Sleeping
                },
                inside: (!frozen).then_some(inside),
                last: self.last[usize::from(container)],
            });
        }
        for (container, thread, call, enter_ns) in &self.stands {
            threads.push(ThreadState {
                container: *container,
                pid: pid(*container),
                tid: pid(*container) + thread,
                state: RunState::Sleeping,
                inside: Some(InsideCall {
                    nr: nr(call),
                    fd: -1,
                    enter_ns: *enter_ns,
                }),
                last: None,
            });
        }
        threads.extend(self.computes.map(|(container, pid)| ThreadState {
            container,
            pid,
            tid: pid,
            state: RunState::Running,
            inside: None,
            last: None,
        }));
        self.engine
            .on_record(&Record::Threads(ThreadsSnapshot { at_ns, threads }));
    }

    fn tick(&mut self) {
        let (seen, lost) = (self.seen, self.lost);
        let account = |container: u16| Account {
            seen: seen[usize::from(container)],
            delivered: seen[usize::from(container)] - lost,
            lost_ring_full: lost,
            ..Account::default()
        };
        let accounts = [API, CATALOG, REDIS].map(|c| (c, account(c))).to_vec();
        self.engine.on_record(&Record::Tick(Tick {
            at_ns: self.now,
            accounts,
            skipped_recursion: 0,
        }));
        let pending = self.table.pending(self.now);
        for container in [API, CATALOG, REDIS] {
            let own: Vec<_> = pending
                .iter()
                .filter(|e| e.pid == pid(container))
                .cloned()
                .collect();
            self.engine.on_pending(container, &own);
        }
        self.reports.extend(self.engine.drain());
    }

    pub(super) fn lose(&mut self, calls: u64) {
        self.seen.iter_mut().for_each(|seen| *seen += calls);
        self.lost += calls;
    }

    /// A call of a stopped thread that was cut short at `self.now`.
    pub(super) fn freeze(&mut self, container: u16) {
        self.frozen.insert(container);
        self.last[usize::from(container)] = Some(Call {
            nr: nr("epoll_wait"),
            fd: 3,
            ret: -4,
            enter_ns: self.now,
            duration_ns: MS,
            no_return: false,
            counted: false,
        });
    }

    /// A process that was stopped before anything was seen of it.
    pub(super) fn freeze_unseen(&mut self, container: u16) {
        self.frozen.insert(container);
        self.last[usize::from(container)] = None;
    }

    pub(super) fn jitter(&mut self, up_to: u64) -> u64 {
        self.jitter = self
            .jitter
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        if up_to == 0 {
            0
        } else {
            (self.jitter >> 33) % up_to
        }
    }

    /// Calls of a thread of a container's process, starting now.
    pub(super) fn calls(&self, container: u16, thread: u32) -> Calls {
        let pid = pid(container);
        Calls {
            container,
            pid,
            tid: pid + thread,
            at: self.now,
            calls: Vec::new(),
            details: Vec::new(),
        }
    }

    pub(super) fn connect(&mut self, container: u16, fd: i32, peer: &str, ret: i64) {
        let mut calls = self.calls(container, 1);
        calls
            .call("socket", -1, i64::from(fd), 5)
            .connect(peer, fd, ret);
        self.run(calls);
    }

    /// Hands a window over, as the pipeline does.
    pub(super) fn run(&mut self, calls: Calls) {
        let mut window = Window {
            container: calls.container,
            pid: calls.pid,
            tid: calls.tid,
            sequence: self.sequence,
            weight: 1,
            whole: true,
            calls: Vec::new(),
        };
        self.sequence += 1;
        self.seen[usize::from(calls.container)] += calls.calls.len() as u64;
        for detail in &calls.details {
            if let Subject::Peer(peer) = &detail.subject {
                self.table
                    .connected(detail.pid, detail.fd, detail.at_ns, peer);
            }
            self.engine.on_record(&Record::Detail(detail.clone()));
        }
        let mut exchanges = Vec::new();
        for call in &calls.calls {
            let observed = self.table.observe(&ObservedCall {
                pid: calls.pid,
                tid: calls.tid,
                nr: call.nr,
                fd: call.fd,
                ret: call.ret,
                enter_ns: call.enter_ns,
                duration_ns: call.duration_ns,
                no_return: false,
            });
            exchanges.extend(observed.exchange);
            window.calls.push(WindowCall {
                token: Token::new(call.nr, call.ret),
                role: observed.role,
                fd: call.fd,
                ret: call.ret,
                enter_ns: call.enter_ns,
                duration_ns: call.duration_ns,
            });
        }
        self.last[usize::from(calls.container)] = calls.calls.last().copied();
        if let Some(learning) = &mut self.learning {
            let builder = &mut learning[usize::from(calls.container)];
            builder.window(&window);
            exchanges
                .iter()
                .for_each(|exchange| builder.exchange(exchange));
            for detail in &calls.details {
                let (Subject::Path(subject) | Subject::Peer(subject)) = &detail.subject;
                if matches!(detail.subject, Subject::Peer(_)) {
                    builder.connect(subject, detail.ret);
                }
                if detail.ret < 0 {
                    builder.failure(Token::new(detail.nr, detail.ret), subject);
                } else if matches!(detail.subject, Subject::Path(_)) {
                    builder.opened(subject);
                }
            }
            self.learn_pairs(&window);
            return;
        }
        let verdict = self.verdict(&window);
        let container = calls.container;
        self.engine.on_window(&JudgedWindow {
            window,
            pattern: None,
            verdict,
        });
        for exchange in exchanges {
            self.engine.on_exchange(container, &exchange);
        }
        self.reports.extend(self.engine.drain());
    }

    pub(super) fn lifecycle(&mut self, container: u16, pid: u32, event: LifecycleEvent) {
        let record = Lifecycle {
            at_ns: self.now,
            container,
            pid,
            tid: pid,
            event,
        };
        self.engine.on_record(&Record::Lifecycle(record));
    }

    /// The container's own program starts.
    pub(super) fn starts(&mut self, container: u16, pid: u32) {
        let executable = executable(container);
        self.lifecycle(container, pid, LifecycleEvent::Exec { executable });
    }

    /// The whole process ends, with this code of `wait(2)`.
    pub(super) fn ends(&mut self, container: u16, pid: u32, code: i32) {
        let event = LifecycleEvent::Exit {
            code,
            group_dead: true,
        };
        self.lifecycle(container, pid, event);
    }
}

pub(super) fn executable(container: u16) -> String {
    format!("/usr/bin/{}", NAMES[usize::from(container)])
}
