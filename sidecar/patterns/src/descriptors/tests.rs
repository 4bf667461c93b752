use proptest::prelude::*;

use super::*;
use crate::token::Outcome;

const PID: u32 = 7;
const REDIS: &str = "127.0.0.1:6379";
const MS: u64 = 1_000_000;

/// One process on x86_64; times in ms.
struct Process {
    table: DescriptorTable,
    exchanges: Vec<Exchange>,
}

impl Process {
    fn new() -> Self {
        Process {
            table: DescriptorTable::new("x86_64"),
            exchanges: Vec::new(),
        }
    }

    fn call(&mut self, tid: u32, name: &str, fd: i32, ret: i64, from: u64, to: u64) -> Role {
        let nr = names::table("x86_64").number(name).unwrap();
        let observed = self.table.observe(&ObservedCall {
            pid: PID,
            tid,
            nr,
            fd,
            ret,
            enter_ns: from * MS,
            duration_ns: (to - from) * MS,
            no_return: false,
        });
        self.exchanges.extend(observed.exchange);
        observed.role
    }

    /// A client socket on descriptor 5, connected to redis from 1 to 2 ms.
    fn connected() -> Self {
        let mut process = Process::new();
        process.call(1, "socket", -1, 5, 0, 1);
        process.table.connected(PID, 5, 2 * MS, REDIS);
        process.call(1, "connect", 5, 0, 1, 2);
        process
    }

    fn only_exchange(&self) -> &Exchange {
        assert_eq!(self.exchanges.len(), 1, "{:?}", self.exchanges);
        &self.exchanges[0]
    }
}

fn times(exchange: &Exchange) -> (u64, u64, Option<Outcome>) {
    (
        exchange.sent_ns / MS,
        exchange.received_ns / MS,
        exchange.failed,
    )
}

#[test]
fn roles_are_learnt_from_calls() {
    let mut p = Process::new();
    assert_eq!(p.call(1, "openat", -1, 3, 0, 1), Role::File);
    assert_eq!(p.call(1, "openat", -1, -2, 0, 1), Role::File);
    assert_eq!(p.call(1, "write", 3, 10, 1, 2), Role::File);
    assert_eq!(p.call(1, "socket", -1, 4, 2, 3), Role::Other);
    assert_eq!(p.call(1, "bind", 4, 0, 3, 4), Role::Other);
    assert_eq!(p.call(1, "listen", 4, 0, 4, 5), Role::Listener);
    assert_eq!(p.call(1, "accept4", 4, 6, 5, 9), Role::Listener);
    assert_eq!(p.call(1, "accept4", 4, -24, 9, 9), Role::Listener);
    assert_eq!(p.call(1, "read", 6, 10, 9, 10), Role::Server);
    assert_eq!(p.call(1, "epoll_create1", -1, 7, 10, 11), Role::Other);
    assert_eq!(p.call(1, "read", 99, 1, 11, 12), Role::None);
    assert_eq!(p.call(1, "pread64", 99, 1, 11, 12), Role::File);
    assert_eq!(p.call(1, "futex", -1, 0, 11, 12), Role::None);
    // A duplicate is the same; a closed number is nothing.
    assert_eq!(p.call(1, "dup", 6, 8, 12, 13), Role::Server);
    assert_eq!(p.call(1, "fcntl", 6, 9, 13, 14), Role::Server);
    assert_eq!(p.call(1, "fcntl", 6, 2050, 14, 15), Role::Server);
    assert_eq!(
        [8, 9, 2050].map(|fd| p.table.role(PID, fd)),
        [Role::Server, Role::Server, Role::None]
    );
    assert_eq!(p.call(1, "close", 6, 0, 15, 16), Role::Server);
    assert_eq!(p.call(1, "read", 6, 10, 16, 17), Role::None);
}

#[test]
fn failed_connects_are_client_attempts() {
    for errno in [111, 115, 110] {
        let mut p = Process::new();
        p.call(1, "socket", -1, 5, 0, 1);
        assert_eq!(p.call(1, "connect", 5, -errno, 1, 2), Role::Client);
        p.table.connected(PID, 5, 2 * MS, REDIS);
        assert_eq!(p.table.role(PID, 5), Role::Client);
        assert_eq!(p.table.peer(PID, 5), Some(REDIS));
        // Asking again how an unfinished connect goes loses nothing.
        p.call(1, "connect", 5, -106, 3, 4);
        assert_eq!(p.table.peer(PID, 5), Some(REDIS));
    }
}

#[test]
fn blocking_read_and_event_loop_give_the_same_exchange() {
    let mut blocking = Process::connected();
    blocking.call(1, "sendto", 5, 100, 9, 10);
    blocking.call(1, "recvfrom", 5, 40, 10, 30);

    let mut event_loop = Process::connected();
    event_loop.call(1, "write", 5, 100, 9, 10);
    event_loop.call(1, "read", 5, -11, 10, 11);
    event_loop.call(1, "epoll_wait", 3, 1, 11, 29);
    event_loop.call(1, "read", 5, 40, 29, 30);
    event_loop.call(1, "read", 5, -11, 30, 31);

    let expected = Exchange {
        pid: PID,
        tid: 1,
        fd: 5,
        role: Role::Client,
        peer: Some(REDIS.to_owned()),
        sent_ns: 10 * MS,
        received_ns: 30 * MS,
        failed: None,
    };
    assert_eq!(blocking.only_exchange(), &expected);
    assert_eq!(event_loop.only_exchange(), &expected);
    assert_eq!(expected.duration_ns(), 20 * MS);
}

#[test]
fn the_last_write_counts_and_the_first_read() {
    let mut p = Process::connected();
    p.call(1, "write", 5, 100, 3, 4);
    p.call(1, "write", 5, -11, 4, 5);
    p.call(1, "writev", 5, 100, 6, 7);
    assert_eq!(p.table.pending(50 * MS)[0].sent_ns, 4 * MS);
    p.call(1, "read", 5, 40, 8, 9);
    p.call(1, "read", 5, 40, 10, 11);
    assert_eq!(times(p.only_exchange()), (7, 9, None));
    assert!(p.table.pending(50 * MS).is_empty());
}

#[test]
fn exchanges_end_without_an_answer() {
    let cases: [(&str, i64, Outcome); 4] = [
        ("read", 0, Outcome::Ok),
        ("read", -104, Outcome::Errno(104)),
        ("write", -32, Outcome::Errno(32)),
        ("close", 0, Outcome::NoReturn),
    ];
    for (name, ret, failed) in cases {
        let mut p = Process::connected();
        p.call(1, "write", 5, 100, 9, 10);
        p.call(1, name, 5, ret, 20, 20);
        assert_eq!(times(p.only_exchange()), (10, 20, Some(failed)), "{name}");
        assert!(p.table.pending(u64::MAX).is_empty());
    }
}

#[test]
fn an_idle_connection_that_closes_is_no_failure() {
    let mut p = Process::connected();
    p.call(1, "write", 5, 100, 3, 4);
    p.call(1, "read", 5, 40, 4, 5);
    p.call(1, "read", 5, 0, 5, 90);
    p.call(1, "close", 5, 0, 90, 91);
    assert_eq!(times(p.only_exchange()), (4, 5, None));
}

#[test]
fn unanswered_requests_are_pending() {
    let mut p = Process::connected();
    p.call(1, "write", 5, 100, 9, 10);
    p.call(1, "read", 5, -11, 10, 11);
    p.call(1, "read", 5, -512, 11, 12);
    assert!(p.table.pending(9 * MS).is_empty());
    let pending = p.table.pending(5000 * MS);
    assert_eq!(pending.len(), 1);
    assert_eq!(times(&pending[0]), (10, 0, None));
    assert_eq!(pending[0].peer.as_deref(), Some(REDIS));
    p.table.forget(PID);
    assert!(p.table.pending(5000 * MS).is_empty());
    assert!(p.table.is_empty());
}

#[test]
fn service_time_runs_from_read_to_write() {
    let mut p = Process::new();
    p.call(1, "accept4", 3, 8, 0, 1);
    p.call(1, "read", 8, 100, 1, 2);
    p.call(1, "read", 8, 100, 3, 4);
    p.call(2, "write", 8, 500, 9, 12);
    p.call(2, "write", 8, 500, 12, 13);
    let exchange = p.only_exchange();
    assert_eq!(
        (exchange.role, exchange.tid, times(exchange)),
        (Role::Server, 2, (4, 9, None))
    );
    // Clients that go away are normal.
    p.call(1, "read", 8, 0, 14, 15);
    p.call(1, "close", 8, 0, 15, 16);
    assert_eq!(p.exchanges.len(), 1);
    assert!(p.table.pending(u64::MAX).is_empty());
}

#[test]
fn late_windows_of_other_threads_find_their_exchange() {
    // The reader's window comes before the writer's.
    let mut p = Process::connected();
    p.call(2, "read", 5, 40, 3, 30);
    p.call(1, "write", 5, 100, 9, 10);
    assert_eq!(times(p.only_exchange()), (10, 30, None));
    assert!(p.table.pending(u64::MAX).is_empty());
}

#[test]
fn what_comes_late_about_an_earlier_life_changes_nothing() {
    let mut p = Process::connected();
    p.call(1, "close", 5, 0, 20, 20);
    p.call(2, "openat", -1, 5, 21, 22);
    // From the window of a slower thread:
    assert_eq!(p.call(3, "write", 5, 100, 9, 10), Role::None);
    assert_eq!(p.call(3, "close", 5, 0, 20, 20), Role::None);
    assert_eq!(p.call(3, "connect", 5, 0, 1, 2), Role::Client);
    assert_eq!(p.table.role(PID, 5), Role::File);
    assert!(p.table.pending(u64::MAX).is_empty());
    // A closed number does not come back to life either.
    p.call(1, "close", 5, 0, 30, 30);
    p.call(3, "socket", -1, 5, 0, 1);
    assert_eq!(p.table.role(PID, 5), Role::None);
}

#[test]
fn what_was_opened_before_the_close_is_closed() {
    let mut p = Process::connected();
    p.call(1, "close", 5, 0, 20, 20);
    p.call(3, "openat", -1, 5, 9, 10);
    assert_eq!(p.table.role(PID, 5), Role::None);
    p.call(3, "openat", -1, 5, 19, 21);
    assert_eq!(p.table.role(PID, 5), Role::File);
}

#[test]
fn another_connect_starts_anew() {
    let mut p = Process::connected();
    p.call(1, "write", 5, 100, 9, 10);
    p.table.connected(PID, 5, 12 * MS, "10.0.0.1:53");
    p.call(1, "connect", 5, 0, 11, 12);
    assert!(p.table.pending(u64::MAX).is_empty());
    assert_eq!(p.table.peer(PID, 5), Some("10.0.0.1:53"));
}

#[test]
fn a_peer_belongs_to_the_connect_of_its_time() {
    let mut p = Process::new();
    p.call(1, "socket", -1, 5, 0, 1);
    p.table.connected(PID, 5, 5000 * MS, "10.0.0.1:80");
    p.call(1, "connect", 5, -111, 1, 2);
    assert_eq!(p.table.peer(PID, 5), None);
    // A connect that took three minutes, its address after it.
    p.call(1, "connect", 5, -110, 6000, 186_000);
    p.table.connected(PID, 5, 186_000 * MS, REDIS);
    assert_eq!(p.table.peer(PID, 5), Some(REDIS));
}

#[test]
fn peers_follow_reused_numbers() {
    let mut p = Process::connected();
    // The details of the next connect come before the window that holds the end of this one.
    p.table.connected(PID, 5, 43 * MS, "10.0.0.1:80");
    p.call(1, "write", 5, 100, 9, 10);
    p.call(1, "read", 5, 40, 10, 30);
    p.call(1, "close", 5, 0, 40, 40);
    p.call(1, "socket", -1, 5, 41, 41);
    p.call(1, "connect", 5, 0, 42, 43);
    p.call(1, "write", 5, 100, 43, 44);
    p.call(1, "read", 5, 40, 44, 45);
    let peers: Vec<_> = p.exchanges.iter().map(|e| e.peer.as_deref()).collect();
    assert_eq!(peers, [Some(REDIS), Some("10.0.0.1:80")]);
}

#[test]
fn facts_from_outside_complete_what_is_known() {
    let mut p = Process::new();
    p.table.set(
        PID,
        9,
        tcp_role("127.0.0.1:8080", ["0.0.0.0:8080", "[::]:9090"]),
        None,
    );
    p.table.set(
        PID,
        10,
        tcp_role("127.0.0.1:45678", ["0.0.0.0:8080"]),
        Some(REDIS.to_owned()),
    );
    p.call(1, "openat", -1, 11, 0, 1);
    p.table.set(PID, 11, Role::Client, Some(REDIS.to_owned()));
    assert_eq!(
        [9, 10, 11].map(|fd| p.table.role(PID, fd)),
        [Role::Server, Role::Client, Role::File]
    );
    p.call(1, "write", 10, 100, 9, 10);
    p.call(1, "read", 10, 40, 10, 12);
    assert_eq!(p.only_exchange().peer.as_deref(), Some(REDIS));
    assert_eq!(tcp_role("[::1]:9090", ["[::]:9090"]), Role::Server);
    assert_eq!(tcp_role("unix", ["[::]:9090"]), Role::Client);
}

#[test]
fn a_call_that_never_returned_changes_nothing() {
    let mut p = Process::connected();
    let nr = names::table("x86_64").number("close").unwrap();
    let call = ObservedCall {
        pid: PID,
        tid: 1,
        nr,
        fd: 5,
        ret: 0,
        enter_ns: 50 * MS,
        duration_ns: 0,
        no_return: true,
    };
    assert_eq!(p.table.observe(&call).role, Role::Client);
    assert_eq!(p.table.role(PID, 5), Role::Client);
}

#[test]
fn late_calls_of_an_ended_process_leave_nothing_pending() {
    let mut p = Process::new();
    p.table.ended(PID, 100 * MS);
    p.call(1, "socket", -1, 5, 0, 1);
    p.call(1, "connect", 5, 0, 1, 2);
    p.call(1, "write", 5, 100, 9, 10);
    assert!(p.table.is_empty() && p.table.pending(u64::MAX).is_empty());
    // A new process of that number is another matter.
    p.call(1, "connect", 5, 0, 101, 102);
    p.call(1, "write", 5, 100, 109, 110);
    assert_eq!(p.table.pending(u64::MAX).len(), 1);
}

#[test]
fn the_table_is_bounded() {
    let mut table = DescriptorTable::with_capacity("x86_64", 100);
    let openat = names::table("x86_64").number("openat").unwrap();
    for n in 0..5000u32 {
        table.observe(&ObservedCall {
            pid: n / 10,
            tid: 1,
            nr: openat,
            fd: -1,
            ret: i64::from(n % 10 + 3),
            enter_ns: u64::from(n),
            duration_ns: 0,
            no_return: false,
        });
    }
    assert_eq!((table.len(), table.dropped()), (100, 4900));
    assert_eq!(table.role(499, 12), Role::File);
    assert_eq!(table.role(0, 3), Role::None);
}

proptest! {
    /// Whatever comes, in whatever order: exchanges never end before they begin, and nothing
    /// pending is younger than now.
    #[test]
    fn any_sequence_of_calls_is_survived(calls in prop::collection::vec(
        (0..400u16, -1..12i32, -130..40i64, 0..1000u64, 0..50u64, any::<bool>()), 0..300)
    ) {
        let mut table = DescriptorTable::with_capacity("x86_64", 8);
        for (index, (nr, fd, ret, enter, duration, no_return)) in calls.into_iter().enumerate() {
            if index % 7 == 0 {
                table.connected(1, fd, enter, "a:1");
            }
            let call = ObservedCall {
                pid: 1,
                tid: 1 + u32::from(nr % 3),
                // Mostly calls that the table cares about.
                nr: if nr < 100 { nr % 60 } else { [0, 1, 3, 41, 42, 43, 44, 45][usize::from(nr % 8)] },
                fd,
                ret,
                enter_ns: enter,
                duration_ns: duration,
                no_return,
            };
            if let Some(exchange) = table.observe(&call).exchange {
                prop_assert!(exchange.sent_ns <= exchange.received_ns);
                prop_assert!(matches!(exchange.role, Role::Client | Role::Server));
            }
            prop_assert!(table.len() <= 8);
            prop_assert!(table.pending(500).iter().all(|e| e.sent_ns <= 500 && e.received_ns == 0));
        }
    }
}

#[test]
fn a_shared_connection_whose_windows_come_late_has_no_long_exchanges() {
    let mut p = Process::connected();
    // Thread 2 used the connection after thread 3 did, but its window comes first; its answer
    // takes two reads.
    p.call(2, "sendto", 5, 10, 400, 401);
    p.call(2, "recvfrom", 5, 10, 402, 403);
    p.call(2, "recvfrom", 5, 10, 404, 405);
    p.call(3, "sendto", 5, 10, 10, 11);
    p.call(3, "recvfrom", 5, 10, 12, 13);
    let all: Vec<_> = p.exchanges.iter().map(times).collect();
    assert_eq!(all, [(401, 403, None), (11, 13, None)]);
    assert_eq!(p.table.pending(1000 * MS), []);
}
