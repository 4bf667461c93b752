//! How well an application type fits what a container does: a logistic function of a few figures,
//! whose weights are learned from recordings of real servers, each with the sign that it can only have.
//!
//! Figures are taken per turn of a connection, not per second, so that load changes nothing. How often
//! something is done enters as `ln(1 + x / least) / ln(1 / least)`: 0 for never, 1 for once a turn.

use crate::usage::{Role, Usage};

/// The least frequency per turn, and per call, that is told from never.
const LEAST_PER_TURN: f32 = 1e-3;
const LEAST_PER_CALL: f32 = 1e-4;
/// A type fits no better than this where another runtime's program runs.
const OTHER_PROGRAM: f32 = 0.3;
/// Fewer calls say nothing.
pub const MIN_CALLS: u64 = 500;

/// Calls that read, and that write.
pub const READS: &[&str] = &[
    "read", "recvfrom", "readv", "recvmsg", "pread64", "preadv", "recvmmsg",
];
pub const WRITES: &[&str] = &[
    "write", "sendto", "writev", "sendmsg", "pwrite64", "pwritev", "sendfile", "sendmmsg", "splice",
];

/// Programs of runtimes, without the version that may follow the name, and the type that they stand for.
pub const RUNTIMES: [(&str, &str); 6] = [
    ("java", "jvm"),
    ("node", "node"),
    ("nodejs", "node"),
    ("python", "python"),
    ("gunicorn", "python"),
    ("uvicorn", "python"),
];

/// One figure of what a container does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Figure {
    /// HTTP/1 requests that came in, per turn of a served connection, at most 1.
    HttpServed,
    /// HTTP/1 requests that were made, per turn of a connection that was made, at most 1.
    HttpUsed,
    /// Share of the reads and writes of connections that were on those that were made.
    Used,
    /// Bytes read from connections that were made against bytes written to served ones, the less by the
    /// more: near 1 where what comes is passed on.
    PassedOn,
    /// Share of the writes to served connections that follow a write.
    FurtherWrites,
    /// Share of them that follow a write, after the thread turned to another connection: what came
    /// unasked.
    ReturningWrites,
    /// Share of the reads of served connections that follow a read.
    FurtherReads,
    /// Whether the program of a runtime runs ([`RUNTIMES`]).
    Runtime,
    /// Frequency per turn of calls with one of these names, whatever they work on and however they end.
    Calls(&'static [&'static str]),
    /// The same of those that worked on a file.
    OnFiles(&'static [&'static str]),
    /// The same of those that worked on pipes, event descriptors and the like.
    OnOthers(&'static [&'static str]),
    /// The same of those of which is not known what they worked on.
    OnUnknown(&'static [&'static str]),
    /// Frequency of one call, ended well, per call.
    Call(&'static str),
    /// Frequency of one call, failed, per call.
    Failure(&'static str),
}

/// What a type's fit is computed from.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    pub bias: f32,
    pub weights: &'static [(Figure, f32)],
}

/// Sums that figures are taken from.
#[derive(Clone, Debug)]
pub struct Sums<'a> {
    usage: &'a Usage,
    calls: f32,
    turns: f32,
}

impl<'a> Sums<'a> {
    /// None for too few calls.
    pub fn new(usage: &'a Usage) -> Option<Self> {
        let calls: u64 = usage.calls.iter().map(|one| one.calls).sum();
        (calls >= MIN_CALLS).then_some(Sums {
            usage,
            calls: calls as f32,
            turns: usage.served.reads.max(1) as f32,
        })
    }

    /// The value of a figure.
    pub fn value(&self, figure: Figure) -> f32 {
        let Usage { served, used, .. } = self.usage;
        let share = |part: u64, all: u64| part as f32 / all.max(1) as f32;
        let writes = served.writes.saturating_add(served.further_writes);
        let reads = served.reads.saturating_add(served.further_reads);
        match figure {
            Figure::HttpServed => share(self.usage.http_served, served.reads).min(1.0),
            Figure::HttpUsed => share(self.usage.http_used, used.reads).min(1.0),
            Figure::Used => share(used.all(), used.all().saturating_add(served.all())),
            Figure::PassedOn => {
                let came = self.bytes(READS, Role::Client);
                let went = self.bytes(WRITES, Role::Server);
                share(came.min(went), came.max(went))
            }
            Figure::FurtherWrites => share(served.further_writes, writes),
            Figure::ReturningWrites => share(served.returning_writes, writes),
            Figure::FurtherReads => share(served.further_reads, reads),
            Figure::Runtime => f32::from(u8::from(self.runtime().is_some())),
            Figure::Calls(names) => self.per_turn(names, None),
            Figure::OnFiles(names) => self.per_turn(names, Some(Role::File)),
            Figure::OnOthers(names) => self.per_turn(names, Some(Role::Other)),
            Figure::OnUnknown(names) => self.per_turn(names, Some(Role::None)),
            Figure::Call(name) => self.per_call(name, false),
            Figure::Failure(name) => self.per_call(name, true),
        }
    }

    /// The type of the runtime whose program runs.
    fn runtime(&self) -> Option<&'static str> {
        let mut programs = self.usage.executables.iter();
        programs.find_map(|path| {
            let name = path.rsplit('/').next().unwrap_or(path);
            let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
            let mut runtimes = RUNTIMES.iter();
            runtimes.find_map(|(program, kind)| (*program == name).then_some(*kind))
        })
    }

    fn bytes(&self, names: &[&str], role: Role) -> u64 {
        let calls = self.usage.calls.iter();
        let moved = calls.filter(|one| one.role == role && names.contains(&one.call.as_str()));
        moved.fold(0, |sum, one| sum.saturating_add(one.bytes))
    }

    fn per_turn(&self, names: &[&str], role: Option<Role>) -> f32 {
        let wanted = |role_of: Role| role.is_none_or(|role| role == role_of);
        let calls = self.usage.calls.iter();
        let made: u64 = calls
            .filter(|one| wanted(one.role) && names.contains(&one.call.as_str()))
            .map(|one| one.calls)
            .sum();
        frequency(made as f32 / self.turns, LEAST_PER_TURN)
    }

    fn per_call(&self, name: &str, failed: bool) -> f32 {
        let calls = self.usage.calls.iter();
        let made: u64 = calls
            .filter(|one| one.failed == failed && one.call == name)
            .map(|one| one.calls)
            .sum();
        frequency(made as f32 / self.calls, LEAST_PER_CALL)
    }
}

fn frequency(times: f32, least: f32) -> f32 {
    (times / least).ln_1p() / (1.0 / least).ln()
}

impl Table {
    /// How well the type fits, 0…1; 0 for too few calls.
    pub fn fit(&self, usage: &Usage) -> f32 {
        Sums::new(usage).map_or(0.0, |sums| {
            let weights = self.weights.iter();
            let sum: f32 = weights
                .map(|(figure, weight)| sums.value(*figure) * weight)
                .sum();
            1.0 / (1.0 + (-self.bias - sum).exp())
        })
    }

    /// How well a runtime of this type fits: its program says so, where programs are known.
    pub fn fit_runtime(&self, kind: &str, usage: &Usage) -> f32 {
        let Some(sums) = Sums::new(usage) else {
            return 0.0;
        };
        match sums.runtime() {
            Some(found) if found == kind => 1.0,
            _ if usage.executables.iter().all(String::is_empty) => self.fit(usage),
            _ => self.fit(usage).min(OTHER_PROGRAM),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{Turns, UsageCall};

    const NO_TURNS: Turns = Turns {
        reads: 0,
        further_reads: 0,
        returning_reads: 0,
        writes: 0,
        further_writes: 0,
        returning_writes: 0,
    };

    fn nothing() -> Usage {
        Usage {
            processes: 0,
            threads: 0,
            calls: Vec::new(),
            served: NO_TURNS,
            used: NO_TURNS,
            http_served: 0,
            http_used: 0,
            executables: Vec::new(),
        }
    }

    fn usage(executable: &str) -> Usage {
        let call = |call: &str, role, failed, calls| UsageCall {
            call: call.to_owned(),
            role,
            failed,
            calls,
            bytes: 0,
        };
        Usage {
            calls: vec![
                call("read", Role::Server, false, 500),
                call("openat", Role::File, false, 450),
                call("openat", Role::None, true, 50),
            ],
            served: Turns {
                reads: 500,
                writes: 300,
                further_writes: 100,
                returning_writes: 40,
                ..NO_TURNS
            },
            http_served: 700,
            executables: vec![executable.to_owned()],
            ..nothing()
        }
    }

    #[test]
    fn figures_are_shares_and_frequencies() {
        let usage = usage("/usr/bin/python3.11");
        let sums = Sums::new(&usage).unwrap();
        let value = |figure| (sums.value(figure) * 1000.0).round() / 1000.0;
        assert_eq!(value(Figure::HttpServed), 1.0);
        assert_eq!(value(Figure::FurtherWrites), 0.25);
        assert_eq!(value(Figure::ReturningWrites), 0.1);
        assert_eq!(value(Figure::Used), 0.0);
        assert_eq!(value(Figure::Runtime), 1.0);
        assert_eq!(value(Figure::PassedOn), 0.0);
        assert_eq!(value(Figure::Calls(&["openat"])), 1.0);
        assert_eq!(value(Figure::OnFiles(&["openat"])), 0.985);
        assert_eq!(value(Figure::Calls(&["stat"])), 0.0);
        assert!(value(Figure::Call("openat")) > value(Figure::Failure("openat")));
    }

    #[test]
    fn a_runtime_is_known_by_its_program_and_otherwise_by_its_calls() {
        let table = Table {
            bias: 2.0,
            weights: &[(Figure::Call("read"), 1.0)],
        };
        assert_eq!(
            table.fit_runtime("python", &usage("/usr/bin/python3.11")),
            1.0
        );
        assert_eq!(table.fit_runtime("jvm", &usage("/usr/bin/python3.11")), 0.3);
        assert_eq!(table.fit_runtime("jvm", &usage("/bin/server")), 0.3);
        assert!(table.fit_runtime("jvm", &usage("")) > 0.9);
    }

    #[test]
    fn few_calls_say_nothing() {
        let table = Table {
            bias: 9.0,
            weights: &[],
        };
        assert_eq!(table.fit(&nothing()), 0.0);
        assert!(table.fit(&usage("")) > 0.99);
    }
}
