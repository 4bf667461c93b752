//! From evidence to the most likely class.
//!
//! Every piece of evidence has a weight *w* in nats (its log-likelihood ratio against "as
//! learned", bounded by [`MAX_WEIGHT`]) and supports some classes by a factor *s* from 0 to 1:
//! how typical it is for them. A class scores `L = Σ w·s`. `unknown` scores [`UNKNOWN`] plus what
//! no class explains. Confidence is `exp(L/T) / Σ exp(L/T)` over `unknown` and the classes with
//! any support, at most [`MOST`]; below [`LEAST`] the class is `unknown`.
//!
//! Evidence that another piece explains (trouble with a peer that is in trouble itself, anything
//! that a frozen process does) does not speak for a class of its own: it supports the class of
//! what explains it.

mod way;

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnosis::errno::*;
use crate::diagnosis::evidence::Evidence;
use crate::diagnosis::incident::Incident;
use crate::diagnosis::pod::Pod;
use crate::diagnosis::report::{FaultClass, Hypothesis};
use crate::diagnosis::signal::{Cause, Kind, Standing, is_resolver};
use crate::record::ContainerIndex;
use crate::sequential::SECOND;

const MAX_WEIGHT: f64 = 14.0;
const UNKNOWN: f64 = 4.0;
const TEMPERATURE: f64 = 3.0;
const MOST: f64 = 0.99;
const LEAST: f64 = 0.5;
/// How much a consequence supports the class of its cause.
const CONSEQUENCE: f64 = 0.4;
/// How much vague evidence supports the class of the specific evidence beside it.
const SYMPTOM: f64 = 0.4;
const MAX_HYPOTHESES: usize = 3;

pub(crate) struct Classified {
    /// Best first, at least one; the first is the class.
    pub(crate) hypotheses: Vec<Hypothesis>,
    /// The evidence that stands for the cause: its key in [`Incident::evidence`].
    pub(crate) root: (ContainerIndex, Kind),
}

/// None for an incident without evidence.
pub(crate) fn classify(incident: &Incident, pod: &Pod) -> Option<Classified> {
    let all: Vec<&Evidence> = incident.evidence.values().collect();
    let mut roots: Vec<&Evidence> = all
        .iter()
        .copied()
        .filter(|e| e.is_significant() && !is_explained(e, &all, pod))
        .collect();
    if roots.is_empty() {
        roots = all.iter().copied().filter(|e| e.is_significant()).collect();
    }
    let mut scores: BTreeMap<FaultClass, f64> = BTreeMap::new();
    let mut unexplained = 0.0;
    let mut best: Option<(f64, u8, &Evidence)> = None;
    for evidence in &roots {
        let weight = weight_of(evidence);
        let supports = supports(evidence, &roots);
        let most = supports.iter().map(|(_, s)| *s).fold(0.0, f64::max);
        unexplained += weight * (1.0 - most) * if evidence.is_vague() { 0.3 } else { 1.0 };
        for (class, support) in supports {
            *scores.entry(class).or_default() += weight * support;
        }
        let rank = (tier(evidence), weight * most.max(0.1));
        if best.is_none_or(|(w, t, _)| rank.0 < t || (rank.0 == t && rank.1 > w)) {
            best = Some((rank.1, rank.0, evidence));
        }
    }
    let root = best
        .map(|(_, _, evidence)| evidence)
        .or(all.first().copied())?;
    strengthen(&mut scores, root, &roots, &all);
    let root = (root.container, root.kind.clone());
    Some(Classified {
        hypotheses: rank(&scores, unexplained),
        root,
    })
}

/// Consequences and vague evidence make the cause beside them surer.
fn strengthen(
    scores: &mut BTreeMap<FaultClass, f64>,
    root: &Evidence,
    roots: &[&Evidence],
    all: &[&Evidence],
) {
    let main = supports(root, roots);
    let Some((class, _)) = main.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)) else {
        return;
    };
    for evidence in all.iter().filter(|e| e.is_significant()) {
        let is_root = roots.iter().any(|r| std::ptr::eq(*r, *evidence));
        let factor = match (is_root, evidence.is_vague()) {
            (false, _) => CONSEQUENCE,
            (true, true) if !root.is_vague() => SYMPTOM,
            _ => continue,
        };
        *scores.entry(class).or_default() += factor * weight_of(evidence).min(6.0);
    }
}

fn rank(scores: &BTreeMap<FaultClass, f64>, unexplained: f64) -> Vec<Hypothesis> {
    let unknown = UNKNOWN + unexplained.min(MAX_WEIGHT) * 0.5;
    let all: Vec<(FaultClass, f64)> = scores
        .iter()
        .map(|(class, score)| (*class, *score))
        .chain([(FaultClass::Unknown, unknown)])
        .collect();
    let top = all.iter().map(|(_, score)| *score).fold(f64::MIN, f64::max);
    let total: f64 = all
        .iter()
        .map(|(_, score)| ((score - top) / TEMPERATURE).exp())
        .sum();
    let mut hypotheses: Vec<Hypothesis> = all
        .iter()
        .map(|(class, score)| Hypothesis {
            class: *class,
            confidence: (((score - top) / TEMPERATURE).exp() / total).min(MOST),
        })
        .collect();
    hypotheses.sort_by(|a, b| {
        b.confidence
            .total_cmp(&a.confidence)
            .then(a.class.cmp(&b.class))
    });
    if hypotheses
        .first()
        .is_some_and(|h| h.confidence < LEAST && h.class != FaultClass::Unknown)
        && let Some(index) = hypotheses
            .iter()
            .position(|h| h.class == FaultClass::Unknown)
    {
        let unknown = hypotheses.remove(index);
        hypotheses.insert(0, unknown);
    }
    hypotheses.retain(|h| h.confidence >= 0.01);
    hypotheses.truncate(MAX_HYPOTHESES);
    hypotheses
}

fn weight_of(evidence: &Evidence) -> f64 {
    let repeated = if evidence.is_vague() {
        0.0
    } else {
        (evidence.count.max(1) as f64).ln()
    };
    (evidence.weight + repeated).min(MAX_WEIGHT)
}

/// The most specific cause comes first.
fn tier(evidence: &Evidence) -> u8 {
    match &evidence.kind {
        Kind::Frozen { .. } if evidence.standing >= Standing::Opens => 0,
        Kind::OutOfMemory | Kind::CrashLoop { .. } => 0,
        Kind::Error {
            cause: Cause::Other(_),
            ..
        } => 4,
        Kind::Error {
            cause: Cause::Peer(_),
            ..
        } => 2,
        Kind::DescriptorLeak { .. } | Kind::MemoryClimbs | Kind::Flood => 1,
        Kind::Throttled | Kind::Contended => 1,
        Kind::NoWay { .. } | Kind::Lossy { .. } | Kind::Narrow { .. } => 1,
        Kind::Error { .. } => 1,
        Kind::ConnectFailed { .. }
        | Kind::NoAnswer { .. }
        | Kind::ClosedEarly { .. }
        | Kind::Unheard { .. } => 2,
        Kind::Mines { .. } => 2,
        Kind::UnexpectedExec { .. } => 3,
        Kind::SlowExchange { .. } | Kind::SlowCall { .. } => 3,
        Kind::HeldUp | Kind::Deadlock { .. } => 4,
        _ => 5,
    }
}

/// True when the trouble that `evidence` shows comes from trouble that other evidence shows.
fn is_explained(evidence: &Evidence, all: &[&Evidence], pod: &Pod) -> bool {
    all.iter().any(|other| {
        if std::ptr::eq(*other, evidence) {
            return false;
        }
        if other.is_significant() && uses_up(evidence, other) {
            return true;
        }
        if other.standing < Standing::Opens || other.is_vague() {
            return false;
        }
        // A request fails because of what went wrong in it.
        if evidence.kind == Kind::Failing
            && (evidence.container == other.container
                || pod.depends(evidence.container, other.container))
        {
            return true;
        }
        if evidence.kind.points_to(other.container, pod) {
            // Two containers that wait for each other do not explain one another.
            let back = other.kind.points_to(evidence.container, pod);
            let started = matches!(other.kind, Kind::UnexpectedExec { .. });
            return evidence.container != other.container && !back && !started;
        }
        if other.kind == Kind::Flood && is_felt(evidence, other, pod) {
            return true;
        }
        if other.container != evidence.container {
            return false;
        }
        match (&evidence.kind, &other.kind) {
            // A process that ends because of an error: the error is what matters.
            (Kind::CrashLoop { .. }, kind) => {
                let unrelated = crashed(evidence) && of_files(kind);
                let loops = matches!(kind, Kind::CrashLoop { .. });
                other.standing >= Standing::Hard && !loops && !unrelated
            }
            // Who starts again looks for what it is about to make.
            (kind, Kind::CrashLoop { .. }) if crashed(other) && of_files(kind) => true,
            (_, Kind::CrashLoop { .. }) => evidence.standing < Standing::Hard,
            (Kind::HeldUp, Kind::Deadlock { .. }) => true,
            // The kernel ends what has taken too much.
            (Kind::MemoryClimbs, _) => false,
            // Connections of requests that are held up stay open.
            (Kind::DescriptorLeak { .. }, kind) if kind.holds_up_requests() => {
                other.first_ns <= evidence.first_ns.saturating_add(SECOND)
            }
            // Who has the lock waits for something else.
            (Kind::HeldUp | Kind::Deadlock { .. }, kind) => {
                tier(other) < tier(evidence) && !matches!(kind, Kind::DescriptorLeak { .. })
            }
            _ => tier(other) == 0 && tier(evidence) > 0,
        }
    })
}

/// True when what `other` says of its container's use of the machine, or of connections, makes what `evidence`
/// shows.
fn uses_up(evidence: &Evidence, other: &Evidence) -> bool {
    if other.container != evidence.container {
        return false;
    }
    let felt = evidence.kind.is_slow() || evidence.is_vague();
    match (&other.kind, &evidence.kind) {
        (Kind::Throttled, Kind::Contended) => true,
        (Kind::Throttled | Kind::Contended, Kind::NoAnswer { .. } | Kind::ClosedEarly { .. }) => {
            true
        }
        (Kind::Throttled | Kind::Contended, Kind::ConnectFailed { .. } | Kind::Deadlock { .. }) => {
            true
        }
        (Kind::Throttled | Kind::Contended, _) => felt,
        (Kind::MemoryClimbs, Kind::OutOfMemory) => true,
        (Kind::MemoryClimbs, Kind::Error { cause, .. }) => *cause == Cause::Memory,
        (Kind::MemoryClimbs, _) => felt,
        // What a connection is made for first takes longer.
        (Kind::Unkept { peer }, Kind::SlowExchange { peer: slow }) => peer == slow,
        (Kind::Unkept { .. }, Kind::SlowService) => true,
        _ => false,
    }
}

/// True when the flood of requests of `other` makes what `evidence` shows: what is slow or does not
/// answer meanwhile, and the requests that a flooded container makes itself.
fn is_felt(evidence: &Evidence, other: &Evidence, pod: &Pod) -> bool {
    let (here, there) = (evidence.container, other.container);
    match &evidence.kind {
        Kind::Flood => here != there && pod.depends(there, here) && !pod.depends(here, there),
        Kind::NoAnswer { .. } | Kind::ClosedEarly { .. } | Kind::ConnectFailed { .. } => {
            pod.connected(here, there)
        }
        kind => (kind.is_slow() || evidence.is_vague()) && pod.connected(here, there),
    }
}

/// How typical a piece of evidence is for which classes, beside the other roots.
fn supports(evidence: &Evidence, roots: &[&Evidence]) -> Vec<(FaultClass, f64)> {
    use FaultClass::*;
    let errors = |errno: u8| roots.iter().any(|e| e.errno() == Some(errno));
    let has = |test: fn(&Kind) -> bool| roots.iter().any(|e| test(&e.kind));
    let specific = roots.iter().any(|e| !e.is_vague());
    if evidence.peer().is_some_and(|peer| is_resolver(&peer)) {
        let no_way = matches!(evidence.errno(), Some(EHOSTUNREACH | ENETUNREACH));
        return match evidence.kind {
            Kind::SlowExchange { .. } if slow_peers(evidence, roots) > 1 => {
                vec![(NetworkThrottled, 0.9), (DependencySlow, 0.4)]
            }
            Kind::SlowExchange { .. } => vec![(DependencySlow, 0.9), (DnsFailure, 0.3)],
            _ if no_way => vec![(NetworkUnreachable, 0.95), (DnsFailure, 0.3)],
            _ => vec![(DnsFailure, 1.0)],
        };
    }
    if let Some(way) = way::supports(evidence, roots) {
        return way;
    }
    match &evidence.kind {
        Kind::Error { cause, .. } => error_supports(cause, evidence.errno().unwrap_or(0), roots),
        Kind::ConnectFailed { quick: true, .. } => {
            match errors(EHOSTUNREACH) || errors(ENETUNREACH) {
                true => vec![(NetworkUnreachable, 0.8), (DependencyRefused, 0.3)],
                false => vec![(DependencyRefused, 0.9), (NetworkUnreachable, 0.2)],
            }
        }
        Kind::ConnectFailed { quick: false, .. } => {
            vec![(DependencyBlackhole, 0.8), (DependencyHung, 0.3)]
        }
        Kind::ClosedEarly { .. } => match errors(ECONNREFUSED) {
            true => vec![(DependencyRefused, 0.6), (DependencyReset, 0.5)],
            false => vec![(DependencyReset, 0.9), (DependencyRefused, 0.3)],
        },
        Kind::NoAnswer { .. } => {
            let unreachable =
                errors(ETIMEDOUT) || has(|k| matches!(k, Kind::ConnectFailed { quick: false, .. }));
            match unreachable {
                true => vec![(DependencyBlackhole, 0.7), (DependencyHung, 0.4)],
                false if has(|k| matches!(k, Kind::SlowExchange { .. })) => {
                    vec![(DependencyHung, 0.7), (DependencySlow, 0.6)]
                }
                false => vec![(DependencyHung, 0.9), (DependencySlow, 0.2)],
            }
        }
        // What the ways to several peers have in common is narrow.
        Kind::SlowExchange { .. } if slow_peers(evidence, roots) > 1 => {
            vec![(NetworkThrottled, 0.9), (DependencySlow, 0.4)]
        }
        Kind::SlowExchange { .. } => vec![(DependencySlow, 0.95), (DependencyHung, 0.1)],
        Kind::Heard { .. }
        | Kind::Unheard { .. }
        | Kind::NoWay { .. }
        | Kind::Lossy { .. }
        | Kind::Narrow { .. } => vec![],
        Kind::SlowCall { .. } => vec![(DiskSlow, 0.9)],
        Kind::DescriptorLeak { .. } => vec![(FdLeak, 1.0)],
        Kind::HeldUp => vec![(LockContention, 0.95), (Deadlock, 0.1)],
        Kind::Deadlock { .. } => vec![(Deadlock, 0.95), (LockContention, 0.2)],
        Kind::Frozen { .. } => vec![(ProcessFrozen, 1.0)],
        Kind::OutOfMemory => vec![(MemoryLimit, 1.0)],
        Kind::MemoryClimbs => vec![(MemoryLeak, 1.0)],
        Kind::Throttled => vec![(CpuThrottled, 1.0)],
        Kind::Contended => vec![(CpuContention, 1.0)],
        Kind::CrashLoop { .. } => vec![(ProcessCrashLoop, 1.0)],
        Kind::Flood => vec![(RequestFlood, 1.0)],
        Kind::Mines { .. } => vec![(CpuMiner, 1.0)],
        Kind::UnexpectedExec { .. } if has(|k| matches!(k, Kind::Mines { .. })) => {
            vec![(CpuMiner, 0.9), (ExecUnexpected, 0.6)]
        }
        Kind::UnexpectedExec { .. } => vec![(ExecUnexpected, 0.95)],
        Kind::ProcessEnded { .. } if specific => vec![],
        // By a fault of its own.
        Kind::ProcessEnded { .. } if evidence.standing >= Standing::Opens => {
            vec![(ProcessCrashLoop, 0.9)]
        }
        Kind::ProcessEnded { .. } => vec![(ProcessCrashLoop, 0.3)],
        Kind::Surprise | Kind::Unstable | Kind::Astray | Kind::Unkept { .. } if specific => vec![],
        // Who works in another way without errors has another configuration.
        Kind::Surprise | Kind::Unstable | Kind::Astray if has(|k| *k == Kind::Failing) => vec![],
        Kind::Surprise | Kind::Astray | Kind::Unkept { .. } => vec![(ConfigRegression, 0.9)],
        Kind::Unstable => vec![(ConfigRegression, 0.5)],
        Kind::SlowService | Kind::Failing => vec![],
    }
}

/// Ended by a signal, and not for an error that it found: that is `abort`.
fn crashed(evidence: &Evidence) -> bool {
    evidence.token.starts_with("exit:signal_") && evidence.token != "exit:signal_6"
}

fn of_files(kind: &Kind) -> bool {
    kind.cause() == Cause::Files
}

/// How many peers of the evidence's container are slow.
fn slow_peers(evidence: &Evidence, roots: &[&Evidence]) -> usize {
    let slow = roots.iter().filter(|other| {
        let slow = matches!(other.kind, Kind::SlowExchange { .. });
        slow && other.container == evidence.container && other.is_significant()
    });
    let peers: BTreeSet<_> = slow.filter_map(|other| other.peer()).collect();
    peers.len()
}

fn leaks_descriptors(evidence: &Evidence) -> bool {
    matches!(evidence.kind, Kind::DescriptorLeak { .. })
}

fn error_supports(cause: &Cause, errno: u8, roots: &[&Evidence]) -> Vec<(FaultClass, f64)> {
    use FaultClass::*;
    let refused = roots.iter().any(|e| e.errno() == Some(ECONNREFUSED));
    match (cause, errno) {
        (Cause::Peer(_), ECONNREFUSED) => vec![(DependencyRefused, 1.0)],
        (Cause::Peer(_), ECONNRESET | EPIPE | ECONNABORTED) => match refused {
            true => vec![(DependencyRefused, 0.6), (DependencyReset, 0.5)],
            false => vec![(DependencyReset, 1.0), (DependencyRefused, 0.1)],
        },
        (Cause::Peer(_), ETIMEDOUT) => vec![(DependencyBlackhole, 1.0)],
        (Cause::Peer(_), _) => vec![(NetworkUnreachable, 1.0)],
        (Cause::Disk, ENOSPC) => vec![(DiskFull, 1.0)],
        (Cause::Disk, EDQUOT | EFBIG) => vec![(DiskQuota, 1.0)],
        (Cause::Disk, EROFS) => vec![(DiskReadOnly, 1.0)],
        (Cause::Disk, _) => vec![(DiskIoError, 1.0)],
        (Cause::Files, ENOENT) => vec![(FileMissing, 1.0)],
        (Cause::Files, _) => vec![(PermissionDenied, 1.0)],
        (Cause::Descriptors, _) => match roots.iter().any(|e| leaks_descriptors(e)) {
            true => vec![(FdLeak, 0.8), (FdExhausted, 0.3)],
            false => vec![(FdExhausted, 1.0)],
        },
        (Cause::Threads, _) => vec![(ThreadLimit, 1.0)],
        (Cause::Memory, _) => vec![(MemoryLimit, 1.0)],
        (Cause::Ports, EADDRINUSE) => vec![(PortInUse, 1.0)],
        (Cause::Ports, _) => vec![(PortExhausted, 1.0)],
        _ => vec![],
    }
}
