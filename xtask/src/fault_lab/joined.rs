//! Whether faults are put on the traces of the requests that they failed.
//!
//! Clients give every request a trace of its own and note what became of it. Requests that were under way during
//! a fault and failed, or took much longer than before, are the affected ones. A call that Stethos says the fault
//! affected stands under a right trace when that is one of an affected request; one that only took long, when that
//! request was under way all the while.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::ops::AddAssign;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use super::again;
use super::record::Record;

const NS: f64 = 1e9;
/// An answer is slow that took this many times the slowest hundredth of before, and a little more.
const SLOWER: f64 = 2.0;
const LEAST_SLOWER: f64 = 0.005;
/// Clients note times a little later than calls have them.
const CLOCKS: f64 = 0.002;
/// What was begun so shortly before the end of a fault may have met it or not.
const EDGE: f64 = 1.0;

/// A line of what clients note. Times are seconds, since 1970.
#[derive(Debug, Clone, Deserialize)]
struct Request {
    trace: String,
    span: String,
    ok: bool,
    sent: f64,
    took: f64,
}

/// A call that the fault affected, as Stethos says.
#[derive(Debug, Clone, Default)]
struct Call {
    from: f64,
    at: f64,
    /// It did not fail.
    slow: bool,
    source: String,
    /// Trace and span that it stands under.
    parent: Option<(String, String)>,
    /// Traces that it may belong to.
    links: Vec<String>,
}

/// How many calls and requests were put where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Joined {
    /// Under the client's span of an affected request.
    span: usize,
    /// Under another span of its trace.
    trace: usize,
    /// Under a request that was not affected.
    wrong: usize,
    /// Linked with several requests, an affected one among them.
    linked: usize,
    /// Linked with requests that were not affected alone.
    linked_wrong: usize,
    none: usize,
    requests: usize,
    /// Requests with a call under them.
    under: usize,
    /// Others that a call is linked with.
    only_linked: usize,
}

impl AddAssign for Joined {
    fn add_assign(&mut self, other: Self) {
        self.span += other.span;
        self.trace += other.trace;
        self.wrong += other.wrong;
        self.linked += other.linked;
        self.linked_wrong += other.linked_wrong;
        self.none += other.none;
        self.requests += other.requests;
        self.under += other.under;
        self.only_linked += other.only_linked;
    }
}

/// Prints the table of all trials with a right diagnosis that left a recording and their requests.
///
/// # Errors
/// When a file cannot be read, or a recording not be replayed.
pub(super) fn print(records: &[Record], binary: &Path) -> Result<()> {
    let mut rows: BTreeMap<(String, String), Joined> = BTreeMap::new();
    let mut rungs: BTreeMap<(String, String), Joined> = BTreeMap::new();
    let mut without = 0;
    for record in records {
        let kept = record.kept.as_ref();
        let requests = kept.and_then(|kept| kept.requests.as_ref());
        let (Some(kept), Some(requests), Some(from)) = (kept, requests, record.injected_at) else {
            without += 1;
            continue;
        };
        let to = record.undone_at.unwrap_or(record.ended_at);
        let requests = read(requests)?;
        let lines = again::replay(binary, kept, |command| {
            command.arg("--calls");
        })?;
        let calls = calls(&lines, &record.right_classes);
        let calls: Vec<Call> = calls
            .into_iter()
            .filter(|call| (from..to - EDGE).contains(&call.at))
            .collect();
        if calls.is_empty() {
            continue;
        }
        let requests = Requests::of(&requests, from, to);
        let row = (record.app.clone(), record.fault.clone());
        *rows.entry(row).or_default() += requests.hold(&calls);
        let mut by_rung: BTreeMap<String, Vec<Call>> = BTreeMap::new();
        for call in calls {
            by_rung.entry(call.source.clone()).or_default().push(call);
        }
        for (rung, calls) in by_rung {
            *rungs.entry((record.app.clone(), rung)).or_default() += requests.hold(&calls);
        }
    }
    if without > 0 {
        eprintln!("{without} trials left no recording with requests");
    }
    let mut out = std::io::stdout();
    out.write_all(table(&rows, &rungs).as_bytes())
        .context("standard output")
}

fn read(path: &Path) -> Result<Vec<Request>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let lines = text.lines().enumerate().map(|(number, line)| {
        serde_json::from_str(line).with_context(|| format!("{}:{}", path.display(), number + 1))
    });
    lines.collect()
}

/// The calls of incidents that are last said to be of one of these classes.
fn calls(lines: &[Value], right: &[String]) -> Vec<Call> {
    let word = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let mut classes: HashMap<String, String> = HashMap::new();
    for line in lines.iter().filter(|line| line["error.type"].is_string()) {
        classes.insert(word(line, "stethos.incident.id"), word(line, "error.type"));
    }
    let of_fault = |line: &&Value| {
        let class = classes.get(&word(line, "stethos.incident.id"));
        line["stethos.fault.call"].is_string()
            && line["error.type"].is_null()
            && class.is_some_and(|class| right.contains(class))
    };
    let at = |line: &Value, key: &str| line[key].as_u64().unwrap_or_default() as f64 / NS;
    let call = |line: &Value| Call {
        from: at(line, "timestamp"),
        at: at(line, "end_timestamp"),
        slow: [":ok", ":slow"]
            .iter()
            .any(|end| word(line, "stethos.fault.call").ends_with(end)),
        source: word(line, "stethos.trace.source"),
        parent: line["trace_id"]
            .as_str()
            .map(|trace| (trace.to_owned(), word(line, "span_id"))),
        links: line["links"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|link| Some(link[0].as_str()?.to_owned()))
            .collect(),
    };
    lines.iter().filter(of_fault).map(call).collect()
}

/// Requests by their traces.
struct Requests<'a> {
    all: HashMap<&'a str, &'a Request>,
    affected: HashSet<&'a str>,
    /// Of those, the ones that cannot have met the end of the fault.
    counted: HashSet<&'a str>,
}

impl<'a> Requests<'a> {
    /// Of a fault that lasted from `from` to `to`.
    fn of(requests: &'a [Request], from: f64, to: f64) -> Self {
        let answered = |one: &&Request| one.ok && one.sent + one.took < from;
        let mut usual: Vec<f64> = requests
            .iter()
            .filter(answered)
            .map(|one| one.took)
            .collect();
        usual.sort_by(f64::total_cmp);
        let slowest = usual.get(usual.len() * 99 / 100).copied();
        let slow = slowest.map_or(f64::INFINITY, |took| took * SLOWER + LEAST_SLOWER);
        let is_affected = |one: &&Request| {
            one.sent + one.took >= from && one.sent <= to && (!one.ok || one.took > slow)
        };
        let affected: Vec<&Request> = requests.iter().filter(is_affected).collect();
        let counted = affected
            .iter()
            .filter(|one| one.sent >= from && one.sent < to - EDGE);
        Self {
            all: requests
                .iter()
                .map(|one| (one.trace.as_str(), one))
                .collect(),
            counted: counted.map(|one| one.trace.as_str()).collect(),
            affected: affected.iter().map(|one| one.trace.as_str()).collect(),
        }
    }

    /// The request of this trace, where the call may be one of its.
    fn of_call(&self, call: &Call, trace: &str) -> Option<&'a Request> {
        let request = self.all.get(trace).copied()?;
        let around =
            request.sent <= call.from + CLOCKS && request.sent + request.took >= call.at - CLOCKS;
        let right = self.affected.contains(trace) || call.slow && around;
        right.then_some(request)
    }

    fn hold(&self, calls: &[Call]) -> Joined {
        let mut joined = Joined::default();
        let (mut under, mut linked) = (HashSet::new(), HashSet::new());
        for call in calls {
            let mut links = call.links.iter();
            let place = match &call.parent {
                Some((trace, span)) => match self.of_call(call, trace) {
                    Some(request) if request.span == *span => &mut joined.span,
                    Some(_) => &mut joined.trace,
                    None => &mut joined.wrong,
                },
                None if call.links.is_empty() => &mut joined.none,
                None if links.any(|link| self.of_call(call, link).is_some()) => &mut joined.linked,
                None => &mut joined.linked_wrong,
            };
            *place += 1;
            under.extend(call.parent.iter().map(|(trace, _)| trace.as_str()));
            linked.extend(call.links.iter().map(String::as_str));
        }
        joined.requests = self.counted.len();
        joined.under = self.counted.intersection(&under).count();
        let only_linked = self.counted.intersection(&linked);
        joined.only_linked = only_linked.filter(|trace| !under.contains(*trace)).count();
        joined
    }
}

fn table(
    rows: &BTreeMap<(String, String), Joined>,
    rungs: &BTreeMap<(String, String), Joined>,
) -> String {
    let mut text = format!(
        "{:<12} {:<22} {:>8} {:>7} {:>7}  {:>7} {:>7} {:>6} {:>6} {:>7} {:>7} {:>6}\n",
        "application",
        "fault",
        "requests",
        "under",
        "linked",
        "calls",
        "span",
        "trace",
        "wrong",
        "linked",
        "without",
        "none",
    );
    for ((app, fault), one) in rows {
        row(&mut text, (app, fault), one, true);
    }
    let mut all = Joined::default();
    rows.values().for_each(|one| all += *one);
    row(&mut text, ("all", ""), &all, true);
    text.push_str("\nby rung\n");
    for ((app, rung), one) in rungs {
        row(&mut text, (app, rung), one, false);
    }
    text
}

fn row(text: &mut String, (first, second): (&str, &str), one: &Joined, with_requests: bool) {
    let share = |part: usize, whole: usize| match whole {
        0 => "–".to_owned(),
        _ => format!("{:.1} %", 100.0 * part as f64 / whole as f64),
    };
    let calls = one.span + one.trace + one.wrong + one.linked + one.linked_wrong + one.none;
    let (requests, under, linked) = match with_requests {
        true => (
            one.requests.to_string(),
            share(one.under, one.requests),
            share(one.only_linked, one.requests),
        ),
        false => Default::default(),
    };
    // Writing to a text does not fail.
    let _ = writeln!(
        text,
        "{first:<12} {second:<22} {requests:>8} {under:>7} {linked:>7}  {calls:>7} {:>7} {:>6} {:>6} {:>7} {:>7} {:>6}",
        share(one.span, calls),
        share(one.trace, calls),
        one.wrong,
        share(one.linked, calls),
        share(one.linked_wrong, calls),
        share(one.none, calls),
    );
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(trace: &str, ok: bool, sent: f64, took: f64) -> Request {
        Request {
            trace: trace.into(),
            span: format!("{trace}-span"),
            ok,
            sent,
            took,
        }
    }

    fn call(parent: Option<(&str, &str)>, links: &[&str]) -> Call {
        Call {
            parent: parent.map(|(trace, span)| (trace.into(), span.into())),
            links: links.iter().map(|&link| link.into()).collect(),
            ..Call::default()
        }
    }

    /// Quick before 100; from 100 to 120 some fail and some are slow.
    fn requests() -> Vec<Request> {
        let mut all: Vec<Request> = (0..100)
            .map(|n| request(&format!("q{n}"), true, f64::from(n), 0.001))
            .collect();
        all.push(request("failed", false, 105.0, 0.01));
        all.push(request("slow", true, 106.0, 0.5));
        all.push(request("well", true, 107.0, 0.001));
        all.push(request("late", false, 119.5, 0.01));
        all
    }

    #[test]
    fn calls_are_held_against_requests_that_failed_or_were_slow() {
        let all = requests();
        let requests = Requests::of(&all, 100.0, 120.0);
        let joined = requests.hold(&[
            call(Some(("failed", "failed-span")), &[]),
            call(Some(("slow", "elsewhere")), &[]),
            call(Some(("well", "well-span")), &[]),
            call(Some(("late", "late-span")), &[]),
            call(None, &["well", "failed"]),
            call(None, &["well"]),
            call(None, &[]),
            Call {
                slow: true,
                from: 107.0005,
                at: 107.001,
                ..call(Some(("well", "well-span")), &[])
            },
        ]);
        let expected = Joined {
            span: 3,
            trace: 1,
            wrong: 1,
            linked: 1,
            linked_wrong: 1,
            none: 1,
            requests: 2,
            under: 2,
            only_linked: 0,
        };
        assert_eq!(joined, expected);
    }

    #[test]
    fn a_request_that_is_only_linked_is_counted_apart() {
        let all = requests();
        let requests = Requests::of(&all, 100.0, 120.0);
        let joined = requests.hold(&[call(None, &["slow", "q1"])]);
        assert_eq!((joined.under, joined.only_linked), (0, 1));
    }

    #[test]
    fn calls_of_incidents_that_come_out_right_are_taken() {
        let lines = [
            json!({"stethos.incident.id": "a", "error.type": "unknown"}),
            json!({"stethos.incident.id": "a", "stethos.fault.call": "read:EIO",
                "end_timestamp": 2_000_000_000_u64, "trace_id": "t", "span_id": "s", "links": [["l", "m"]]}),
            json!({"stethos.incident.id": "b", "stethos.fault.call": "read:EIO"}),
            json!({"stethos.incident.id": "a", "error.type": "disk.io_error"}),
            json!({"stethos.incident.id": "b", "error.type": "unknown"}),
        ];
        let calls = calls(&lines, &["disk.io_error".to_owned()]);
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].at, 2.0);
        assert_eq!(calls[0].parent, Some(("t".into(), "s".into())));
        assert_eq!(calls[0].links, ["l"]);
    }
}
