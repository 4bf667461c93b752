//! What a container does, by names that mean the same in every vocabulary and on every architecture:
//! what applications are told apart by.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::names::{CallKind, CallTable};
use crate::token::{Outcome, Token};
use crate::window::{Role, Window, WindowCall};

/// Distinct rows; what further kinds of calls do is left out, and counted.
const MAX_ROWS: usize = 1024;
/// Threads that are told apart.
const MAX_THREADS: usize = 4096;
/// Programs that are told.
const MAX_EXECUTABLES: usize = 64;
/// Open connections that are followed.
const MAX_CONNECTIONS: usize = 65_536;

/// The calls of a span of time, summed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Processes that made calls.
    pub processes: u32,
    /// Threads that made calls.
    pub threads: u32,
    /// Calls of kinds that had no room.
    pub left_out: u64,
    /// In order of call, role and outcome.
    pub rows: Vec<UsageRow>,
    /// On connections that were accepted.
    pub served: Turns,
    /// On connections that were made.
    pub used: Turns,
    /// HTTP/1 requests that came in.
    pub http_served: u64,
    /// HTTP/1 requests that were made.
    pub http_used: u64,
    /// Paths of the programs that ran.
    pub executables: Vec<String>,
}

/// Reads and writes of connections by what came before them on the same connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turns {
    /// Reads that follow a write, or begin.
    pub reads: u64,
    /// Reads that follow a read, and of these the ones between which the thread turned to another
    /// connection.
    pub further_reads: u64,
    pub returning_reads: u64,
    /// Writes that follow a read, or begin.
    pub writes: u64,
    /// Writes that follow a write, and of these the ones between which the thread turned to another
    /// connection: what nobody asked for on this one.
    pub further_writes: u64,
    pub returning_writes: u64,
}

/// Calls of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageRow {
    /// Name of the call; `unknown` for a number without one.
    pub call: String,
    /// What the call worked on.
    pub role: Role,
    /// Whether it failed for good ([`Outcome::is_error`]).
    pub failed: bool,
    /// How often it was made.
    pub calls: u64,
    /// Bytes that reads and writes moved, 0 for other calls.
    pub bytes: u64,
}

impl Turns {
    fn add(&mut self, other: &Turns) {
        let sums = [
            (&mut self.reads, other.reads),
            (&mut self.further_reads, other.further_reads),
            (&mut self.returning_reads, other.returning_reads),
            (&mut self.writes, other.writes),
            (&mut self.further_writes, other.further_writes),
            (&mut self.returning_writes, other.returning_writes),
        ];
        for (mine, theirs) in sums {
            *mine = mine.saturating_add(theirs);
        }
    }
}

/// Sums up windows.
#[derive(Debug)]
pub struct UsageBuilder {
    table: &'static CallTable,
    processes: HashSet<u32>,
    threads: HashSet<u64>,
    left_out: u64,
    rows: BTreeMap<(&'static str, Role, bool), Sum>,
    connections: HashMap<(u32, i32), Connection>,
    /// The connection that a thread turned to last, and how often it has turned.
    turned: HashMap<u64, (i32, u64)>,
    served: Turns,
    used: Turns,
    http_served: u64,
    http_used: u64,
}

#[derive(Debug)]
struct Connection {
    wrote: bool,
    thread: u64,
    turn: u64,
}

#[derive(Debug, Default)]
struct Sum {
    calls: u64,
    bytes: u64,
}

impl UsageBuilder {
    /// `table` says what call numbers mean.
    pub fn new(table: &'static CallTable) -> Self {
        UsageBuilder {
            table,
            processes: HashSet::new(),
            threads: HashSet::new(),
            left_out: 0,
            rows: BTreeMap::new(),
            connections: HashMap::new(),
            turned: HashMap::new(),
            served: Turns::default(),
            used: Turns::default(),
            http_served: 0,
            http_used: 0,
        }
    }

    /// Takes one window, as often as its weight says.
    pub fn window(&mut self, window: &Window) {
        if self.threads.len() < MAX_THREADS {
            self.threads.insert(window.stream());
            self.processes.insert(window.pid);
        }
        let weight = u64::from(window.weight);
        for call in &window.calls {
            if call.token == Token::GAP {
                continue;
            }
            let nr = call.token.call;
            if matches!(call.role, Role::Server | Role::Client) {
                self.turn(window, call);
            }
            let key = (
                self.table.name(nr),
                call.role,
                call.token.outcome.is_error(),
            );
            let room = self.rows.len() < MAX_ROWS;
            let sum = match self.rows.get_mut(&key) {
                Some(sum) => sum,
                None if room => self.rows.entry(key).or_default(),
                None => {
                    self.left_out = self.left_out.saturating_add(weight);
                    continue;
                }
            };
            sum.calls = sum.calls.saturating_add(weight);
            let moves = self.table.is_read_like(nr) || self.table.is_write_like(nr);
            if moves && call.token.outcome == Outcome::Ok {
                let bytes = call.ret.unsigned_abs().saturating_mul(weight);
                sum.bytes = sum.bytes.saturating_add(bytes);
            }
        }
    }

    /// Takes an HTTP/1 request, one that came in or one that was made.
    pub fn http_request(&mut self, came_in: bool) {
        if came_in {
            self.http_served += 1;
        } else {
            self.http_used += 1;
        }
    }

    /// Adds what another took.
    pub fn merge(&mut self, other: UsageBuilder) {
        self.processes.extend(other.processes);
        self.threads.extend(other.threads);
        self.left_out = self.left_out.saturating_add(other.left_out);
        for (key, sum) in other.rows {
            if self.rows.len() < MAX_ROWS || self.rows.contains_key(&key) {
                let mine = self.rows.entry(key).or_default();
                mine.calls = mine.calls.saturating_add(sum.calls);
                mine.bytes = mine.bytes.saturating_add(sum.bytes);
            } else {
                self.left_out = self.left_out.saturating_add(sum.calls);
            }
        }
        self.served.add(&other.served);
        self.used.add(&other.used);
        self.http_served += other.http_served;
        self.http_used += other.http_used;
    }

    fn turn(&mut self, window: &Window, call: &WindowCall) {
        let nr = call.token.call;
        let connection = (window.pid, call.fd);
        let wrote = match self.table.kind(nr) {
            CallKind::Close => {
                self.connections.remove(&connection);
                return;
            }
            CallKind::Read if call.ret > 0 => false,
            CallKind::Write if call.ret > 0 => true,
            _ => return,
        };
        if self.connections.len() >= MAX_CONNECTIONS {
            self.connections.clear();
        }
        let thread = window.stream();
        let (at, turn) = self.turned.entry(thread).or_insert((call.fd, 0));
        if *at != call.fd {
            *at = call.fd;
            *turn += 1;
        }
        let turn = *turn;
        let now = Connection {
            wrote,
            thread,
            turn,
        };
        let before = self.connections.insert(connection, now);
        let turns = if call.role == Role::Server {
            &mut self.served
        } else {
            &mut self.used
        };
        let [first, further, returning] = if wrote {
            [
                &mut turns.writes,
                &mut turns.further_writes,
                &mut turns.returning_writes,
            ]
        } else {
            [
                &mut turns.reads,
                &mut turns.further_reads,
                &mut turns.returning_reads,
            ]
        };
        let weight = u64::from(window.weight);
        match before.filter(|before| before.wrote == wrote) {
            Some(before) => {
                *further += weight;
                if before.thread == thread && before.turn != turn {
                    *returning += weight;
                }
            }
            None => *first += weight,
        }
    }

    /// What was taken; `executables` are the programs that ran.
    pub fn finish<'a>(self, executables: impl Iterator<Item = &'a str>) -> Usage {
        let rows = self.rows.into_iter();
        Usage {
            processes: self.processes.len() as u32,
            threads: self.threads.len() as u32,
            left_out: self.left_out,
            served: self.served,
            used: self.used,
            http_served: self.http_served,
            http_used: self.http_used,
            executables: executables
                .take(MAX_EXECUTABLES)
                .map(str::to_owned)
                .collect(),
            rows: rows
                .map(|((call, role, failed), sum)| UsageRow {
                    call: call.to_owned(),
                    role,
                    failed,
                    calls: sum.calls,
                    bytes: sum.bytes,
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names;

    fn window(tid: u32, weight: u32, calls: &[(&str, i64, Role)]) -> Window {
        let table = names::table("x86_64");
        let call = |(name, ret, role): &(&str, i64, Role)| WindowCall {
            token: Token::new(table.number(name).unwrap(), *ret),
            role: *role,
            fd: 3,
            ret: *ret,
            enter_ns: 0,
            duration_ns: 0,
        };
        Window {
            container: 0,
            pid: 7,
            tid,
            sequence: 0,
            weight,
            whole: true,
            calls: calls.iter().map(call).chain([WindowCall::gap(0)]).collect(),
        }
    }

    #[test]
    fn calls_are_summed_by_name_role_and_outcome_with_the_weight_of_their_windows() {
        let mut builder = UsageBuilder::new(names::table("x86_64"));
        builder.window(&window(
            7,
            1,
            &[("read", 10, Role::Server), ("read", -11, Role::Server)],
        ));
        builder.window(&window(
            8,
            3,
            &[
                ("read", 5, Role::Server),
                ("openat", -2, Role::None),
                ("lseek", 900, Role::File),
            ],
        ));
        let usage = builder.finish(["/bin/a"].into_iter());
        assert_eq!((usage.processes, usage.threads, usage.left_out), (1, 2, 0));
        let rows: Vec<_> = usage
            .rows
            .iter()
            .map(|row| {
                (
                    row.call.as_str(),
                    row.role,
                    row.failed,
                    row.calls,
                    row.bytes,
                )
            })
            .collect();
        assert_eq!(
            rows,
            [
                ("lseek", Role::File, false, 3, 0),
                ("openat", Role::None, true, 3, 0),
                ("read", Role::Server, false, 5, 25),
            ]
        );
    }
}
