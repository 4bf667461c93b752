//! What a person reads.

mod classes;

use crate::diagnosis::evidence::Evidence;
use crate::diagnosis::figures::{bytes, figure, grouped, percent, plural, time};
use crate::diagnosis::pod::Pod;
use crate::diagnosis::report::{FaultClass, IncidentState};
use crate::diagnosis::signal::{Kind, Normal, Standing};
use classes::sentence;
pub(crate) use classes::suggestion;

const MAX_LINES: usize = 12;

/// True when the cause lies in the container itself.
pub(crate) fn is_local(class: FaultClass, root: &Evidence) -> bool {
    use FaultClass::*;
    match class {
        DependencyRefused | DependencyReset | DependencyBlackhole | DependencySlow
        | DependencyHung | NetworkUnreachable | NetworkLoss | NetworkThrottled | DnsFailure
        | RequestFlood | CpuContention => false,
        Unknown => root.peer().is_none(),
        _ => true,
    }
}

/// What is at fault: `api → 127.0.0.1:6379`, `/data/orders.log`, `redis-server (pid 71)`.
pub(crate) fn culprit(class: FaultClass, root: &Evidence, pod: &Pod) -> String {
    let container = pod.container_name(root.container);
    if let Some(peer) = root.peer() {
        return format!("{container} → {peer}");
    }
    use FaultClass::*;
    let about_file = matches!(
        class,
        DiskFull
            | DiskQuota
            | DiskIoError
            | DiskSlow
            | DiskReadOnly
            | PermissionDenied
            | FileMissing
            | ExecUnexpected
            | PortInUse
    );
    if class == CpuThrottled {
        return format!("processor limit of {container}");
    }
    match root.subject() {
        Some(target) if about_file => target.to_owned(),
        _ => process(root, pod),
    }
}

fn process(root: &Evidence, pod: &Pod) -> String {
    let title = match &root.kind {
        Kind::CrashLoop { executable } if root.title.is_empty() => {
            executable.rsplit('/').next().unwrap_or(executable)
        }
        _ => &root.title,
    };
    match (title, root.pid) {
        (_, 0) => pod.container_name(root.container),
        ("", pid) => format!("{} (pid {pid})", pod.container_name(root.container)),
        (title, pid) => format!("{title} (pid {pid})"),
    }
}

pub(crate) fn executable(root: &Evidence) -> String {
    if let Kind::CrashLoop { executable }
    | Kind::Mines { executable }
    | Kind::UnexpectedExec { executable } = &root.kind
    {
        return executable.clone();
    }
    root.executable.clone()
}

/// One sentence.
pub(crate) fn message(
    state: IncidentState,
    class: FaultClass,
    culprit: &str,
    root: &Evidence,
    pod: &Pod,
    affected: u64,
    lasted_ns: u64,
) -> String {
    let container = pod.container_name(root.container);
    let what = sentence(class, &container, culprit, root);
    match state {
        IncidentState::Suspected => format!("Possibly: {what}."),
        IncidentState::Confirmed => format!("{what}."),
        IncidentState::Resolved => format!(
            "Over after {}: {what} ({} affected).",
            time(lasted_ns),
            plural(affected, "call")
        ),
    }
}

/// What is said of an incident that is over because it was accepted. `over`: its last message.
pub(crate) fn accepted(over: &str) -> String {
    let rest = over.strip_prefix("Over after ").unwrap_or(over);
    format!("Accepted as normal after {rest}")
}

/// Lines that a person can check, the root's first.
pub(crate) fn evidence_lines<'a>(
    root: &Evidence,
    all: impl Iterator<Item = &'a Evidence>,
    pod: &Pod,
) -> Vec<String> {
    let mut rest: Vec<&Evidence> = all
        .filter(|e| !std::ptr::eq(*e, root) && e.standing >= Standing::Symptom)
        .collect();
    rest.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.kind.cmp(&b.kind)));
    std::iter::once(root)
        .chain(rest)
        .take(MAX_LINES)
        .map(|evidence| {
            let line = line(evidence, pod);
            match evidence.container == root.container {
                true => line,
                false => format!("{}: {line}", pod.container_name(evidence.container)),
            }
        })
        .collect()
}

fn line(evidence: &Evidence, pod: &Pod) -> String {
    let about = evidence
        .subject()
        .map(|s| format!(" {s}"))
        .unwrap_or_default();
    let count = evidence.count;
    let median = time(evidence.median_ns());
    match &evidence.kind {
        Kind::Error { .. } => {
            let token = evidence.token.replace(':', " ");
            let frequency = frequency(evidence);
            format!("{token} {frequency}{}", baseline(&evidence.normal))
        }
        Kind::ConnectFailed { quick, .. } => {
            let when = if *quick { "at once" } else { "after a wait" };
            format!("connections to{about} given up {when}, unused: {count}")
        }
        Kind::ClosedEarly { .. } => {
            format!("connections closed by{about} before the answer: {count}")
        }
        Kind::NoAnswer { .. } => {
            format!(
                "{}{about} without an answer, waiting {median}{}",
                if count == 1 {
                    "1 request to".to_owned()
                } else {
                    format!("{count} requests to")
                },
                baseline(&evidence.normal)
            )
        }
        Kind::SlowExchange { .. } => {
            format!(
                "{count} slow answers from{about}, median {median}{}",
                baseline(&evidence.normal)
            )
        }
        Kind::Heard { .. } => {
            format!("requests to{about} acknowledged by its kernel and not answered: {count}")
        }
        Kind::Unheard { connecting, .. } => {
            let what = if *connecting { "connects" } else { "requests" };
            format!("{what} to{about} sent again and again without an acknowledgement: {count}")
        }
        Kind::NoWay { .. } => {
            format!("messages that there is no way to{about}; requests stuck: {count}")
        }
        Kind::Lossy { .. } => format!(
            "TCP segments sent again, answers from{about} late{}",
            baseline(&evidence.normal)
        ),
        Kind::Narrow { .. } => format!(
            "what is sent to{about} queues on the way, for {}",
            time(evidence.last_ns.saturating_sub(evidence.first_ns))
        ),
        Kind::SlowService => {
            format!(
                "{count} own answers slow, median {median}{}",
                baseline(&evidence.normal)
            )
        }
        Kind::SlowCall { .. } => {
            let token = evidence.token.replace(":ok", "");
            format!(
                "{count} slow {token}{about}, median {median}{}",
                baseline(&evidence.normal)
            )
        }
        Kind::DescriptorLeak { .. } => {
            format!("numbers of descriptors{}", baseline(&evidence.normal))
        }
        Kind::HeldUp => format!(
            "{count} own answers spent most of their time in futex, median {median}{}",
            baseline(&evidence.normal)
        ),
        Kind::Deadlock { .. } => format!(
            "{} in futex in the middle of a request, for {}{}",
            plural(count, "thread"),
            time(evidence.last_ns.saturating_sub(evidence.first_ns)),
            baseline(&evidence.normal)
        ),
        Kind::Frozen { pid } => format!(
            "process {pid}: calls interrupted together and none entered for {}",
            time(evidence.last_ns.saturating_sub(evidence.first_ns))
        ),
        Kind::OutOfMemory => "the kernel killed a process for lack of memory".to_owned(),
        Kind::MemoryClimbs => format!("anonymous memory{}", baseline(&evidence.normal)),
        Kind::Throttled => format!("processor limit{}", baseline(&evidence.normal)),
        Kind::Contended => format!(
            "process ready but not running{}",
            baseline(&evidence.normal)
        ),
        Kind::CrashLoop { executable } => format!(
            "{executable} ended{} in {}, last with {}",
            baseline(&evidence.normal),
            time(evidence.last_ns.saturating_sub(evidence.first_ns)),
            ending(&evidence.token)
        ),
        Kind::Flood => format!("requests answered{}", baseline(&evidence.normal)),
        Kind::Mines { executable } => format!(
            "{executable} has computed for {} and moves next to nothing on its connection to{about} \
             (baseline: no such peer)",
            time(evidence.last_ns.saturating_sub(evidence.first_ns))
        ),
        Kind::UnexpectedExec { executable } => {
            format!("execve {executable}: not among the executables seen while learning")
        }
        Kind::ProcessEnded { executable } => {
            format!(
                "{executable} in {} ended with {}",
                pod.container_name(evidence.container),
                ending(&evidence.token)
            )
        }
        Kind::Surprise => format!(
            "sequences of calls the model did not expect{}",
            baseline(&evidence.normal)
        ),
        Kind::Astray => {
            let value = evidence.subject().unwrap_or("a value of the profile");
            format!("{value} is not as learned{}", baseline(&evidence.normal))
        }
        Kind::Failing => format!(
            "own answers with status{about}{}",
            baseline(&evidence.normal)
        ),
        Kind::Unkept { .. } => format!(
            "connections to{about} closed right after an answer{}",
            baseline(&evidence.normal)
        ),
        Kind::Unstable => {
            let most = evidence.subject().map(|most| format!(", most in {most}"));
            format!(
                "profile of calls differs from the learned one{}{}",
                most.unwrap_or_default(),
                baseline(&evidence.normal)
            )
        }
    }
}

fn ending(token: &str) -> String {
    token.trim_start_matches("exit:").replace('_', " ")
}

/// `0 → 38/s on 127.0.0.1:6379: 57 in 1.5 s`, or a count while there is no rate.
fn frequency(evidence: &Evidence) -> String {
    let lasted = evidence.last_ns.saturating_sub(evidence.first_ns);
    let on = evidence
        .subject()
        .map(|s| format!(" on {s}"))
        .unwrap_or_default();
    if evidence.count < 3 || lasted < 100_000_000 {
        return format!("{}{on}", plural(evidence.count, "time"));
    }
    let rate = evidence.count as f64 * 1e9 / lasted as f64;
    let before = match evidence.normal {
        Normal::Count { per_second, .. } => format!("{} → ", figure(per_second)),
        _ => String::new(),
    };
    format!(
        "{before}{}/s{on}: {} in {}",
        figure(rate),
        grouped(evidence.count),
        time(lasted)
    )
}

fn baseline(normal: &Normal) -> String {
    match normal {
        Normal::None => String::new(),
        Normal::Ends { now } => format!(" {now} times"),
        Normal::Count { of: 0, .. } => " (baseline: no such call)".to_owned(),
        Normal::Count { failed, of, .. } => {
            format!(" (baseline {} of {} calls)", grouped(*failed), grouped(*of))
        }
        Normal::Duration {
            median_ns,
            limit_ns,
        } => {
            format!(
                " (baseline median {}, limit {})",
                time(*median_ns),
                time(*limit_ns)
            )
        }
        Normal::Climb {
            learned,
            from,
            now,
            taken,
            given,
        } => format!(
            " climb from {} to {}: {} opened, {} closed (baseline at most {})",
            grouped(*from),
            grouped(*now),
            grouped(*taken),
            grouped(*given),
            grouped(*learned)
        ),
        Normal::Throttled {
            learned,
            now,
            still_ns,
            ran_ns,
            usual_ns,
        } => format!(
            " reached in {} of its periods, its processors held back for {} a second (baseline {} of \
             the periods); ran {} a second (baseline {})",
            percent(*now),
            time(*still_ns),
            percent(*learned),
            time(*ran_ns),
            time(*usual_ns)
        ),
        Normal::Ready { learned, most, now } => format!(
            " {} of the time (baseline {}, at most {}); no limit was reached",
            percent(*now),
            percent(*learned),
            percent(*most)
        ),
        Normal::Memory {
            learned,
            from,
            now,
            per_second,
            limit,
        } => {
            let left = limit.map(|(limit, left_ns)| {
                let (limit, left) = (bytes(limit), time(left_ns));
                format!("; at this rate the limit of {limit} is reached in {left}")
            });
            format!(
                " climbs from {} to {}, {} a second (baseline at most {}){}",
                bytes(*from),
                bytes(*now),
                bytes(*per_second),
                bytes(*learned),
                left.unwrap_or_default()
            )
        }
        Normal::Rate { usual, most, now } => format!(
            ": {}/s (baseline {}/s, at most {} in a second)",
            figure(*now),
            figure(*usual),
            figure(*most)
        ),
        Normal::Deviations(deviations) => {
            format!(": {deviations:+.1} standard deviations from its mean")
        }
        Normal::Share { calibrated, now } => {
            format!(": {} now (normal {})", percent(*now), percent(*calibrated))
        }
    }
}
