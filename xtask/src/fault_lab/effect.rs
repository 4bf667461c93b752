//! What clients felt of a fault.

use serde::{Deserialize, Serialize};

/// A second of the load, as its client prints it. Times are seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(super) struct Second {
    /// Its end.
    pub(super) t: f64,
    pub(super) ok: u64,
    pub(super) failed: u64,
    /// Of answered requests.
    #[serde(default)]
    pub(super) p50_ms: Option<f64>,
    #[serde(default)]
    pub(super) p95_ms: Option<f64>,
    /// When the first of the failed ones was sent.
    #[serde(default)]
    pub(super) failed_since: Option<f64>,
}

/// Sums over a span of seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Served {
    pub(super) seconds: f64,
    pub(super) ok: u64,
    pub(super) failed: u64,
    /// Of the seconds' quantiles, what a quarter of the seconds stays below: other work of the
    /// machine makes the rest of them slow.
    pub(super) p50_ms: Option<f64>,
    pub(super) p95_ms: Option<f64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Effect {
    /// The fault did something to its application.
    pub(super) seen: bool,
    /// `errors`, `latency`, `throughput` of the clients, `script` for `effect.sh`, or nothing.
    pub(super) by: String,
    pub(super) before: Served,
    pub(super) during: Served,
    /// What `effect.sh` printed.
    pub(super) said: String,
}

/// Share of requests that fails beyond that of before.
const MORE_ERRORS: f64 = 0.02;
/// Times as slow.
const SLOWER: f64 = 1.7;
/// The same of so few requests that they do not say what is usual.
const SLOWER_THAN_FEW: f64 = 10.0;
/// And at least so many milliseconds more.
const LEAST_SLOWER: f64 = 2.0;
/// Times as few, or as many, requests.
const OTHER_RATE: f64 = 1.4;
/// Fewer requests say nothing of a rate.
const LEAST_REQUESTS: u64 = 30;

impl Served {
    pub(super) fn of(seconds: &[Second], from: f64, to: f64) -> Self {
        let within = || seconds.iter().filter(|one| one.t > from && one.t <= to);
        Self {
            seconds: to - from,
            ok: within().map(|one| one.ok).sum(),
            failed: within().map(|one| one.failed).sum(),
            p50_ms: quiet(within().filter_map(|one| one.p50_ms).collect()),
            p95_ms: quiet(within().filter_map(|one| one.p95_ms).collect()),
        }
    }

    fn failing(&self) -> f64 {
        let all = self.ok + self.failed;
        if all == 0 {
            0.0
        } else {
            self.failed as f64 / all as f64
        }
    }

    fn rate(&self) -> f64 {
        self.ok as f64 / self.seconds.max(1e-9)
    }
}

fn quiet(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 4).copied()
}

/// How clients felt it, if they did.
pub(super) fn felt(before: &Served, during: &Served) -> Option<&'static str> {
    let slower = |before: Option<f64>, during: Option<f64>| {
        let (before, during) = before.zip(during)?;
        Some(during > before * SLOWER && during > before + LEAST_SLOWER)
    };
    let enough = before.ok >= LEAST_REQUESTS;
    let (usual, now) = (before.rate(), during.rate());
    if during.failing() > before.failing() + MORE_ERRORS {
        Some("errors")
    } else if slower(before.p50_ms, during.p50_ms) == Some(true)
        || slower(before.p95_ms, during.p95_ms) == Some(true)
    {
        Some("latency")
    } else if enough && (now * OTHER_RATE < usual || now > usual * OTHER_RATE) {
        Some("throughput")
    } else {
        None
    }
}

/// When the first affected request was sent, after `injected_at`.
pub(super) fn affected_at(seconds: &[Second], injected_at: f64, before: &Served) -> Option<f64> {
    let failed = seconds
        .iter()
        .filter_map(|one| one.failed_since)
        .find(|at| *at >= injected_at - 0.05);
    let slower = match before.ok < LEAST_REQUESTS {
        true => SLOWER_THAN_FEW,
        false => SLOWER,
    };
    let slow = before.p95_ms.and_then(|usual| {
        let is_slow = |one: &&Second| {
            one.t > injected_at
                && one
                    .p95_ms
                    .is_some_and(|now| now > usual * slower + LEAST_SLOWER)
        };
        seconds.iter().find(is_slow).map(|one| one.t - 1.0)
    });
    let first = [failed, slow].into_iter().flatten().min_by(f64::total_cmp);
    first.map(|at| at.max(injected_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(t: f64, ok: u64, failed: u64, p50: f64) -> Second {
        Second {
            t,
            ok,
            failed,
            p50_ms: Some(p50),
            p95_ms: Some(p50 * 2.0),
            failed_since: (failed > 0).then_some(t - 0.5),
        }
    }

    /// Ten quiet seconds, then ten of `during`.
    fn seconds(during: impl Fn(f64) -> Second) -> Vec<Second> {
        let quiet = (1..=10).map(|t| second(f64::from(t), 40, 0, 2.0));
        quiet
            .chain((11..=20).map(|t| during(f64::from(t))))
            .collect()
    }

    fn felt_of(seconds: &[Second]) -> Option<&'static str> {
        let before = Served::of(seconds, 0.0, 10.0);
        felt(&before, &Served::of(seconds, 10.0, 20.0))
    }

    #[test]
    fn errors_slowness_and_fewer_answers_are_felt() {
        assert_eq!(felt_of(&seconds(|t| second(t, 40, 0, 2.1))), None);
        assert_eq!(
            felt_of(&seconds(|t| second(t, 30, 10, 2.0))),
            Some("errors")
        );
        assert_eq!(
            felt_of(&seconds(|t| second(t, 40, 0, 9.0))),
            Some("latency")
        );
        assert_eq!(
            felt_of(&seconds(|t| second(t, 10, 0, 2.0))),
            Some("throughput")
        );
    }

    #[test]
    fn the_first_affected_request_is_the_failed_or_the_slow_one() {
        let all = seconds(|t| second(t, 30, u64::from(t > 12.0), 2.0));
        let before = Served::of(&all, 0.0, 10.0);
        assert_eq!(affected_at(&all, 10.2, &before), Some(12.5));
        let slow = seconds(|t| second(t, 30, 0, 20.0));
        assert_eq!(affected_at(&slow, 10.2, &before), Some(10.2));
        assert_eq!(
            affected_at(&seconds(|t| second(t, 40, 0, 2.0)), 10.2, &before),
            None
        );
        // One request before, which was quick.
        let few = Served { ok: 1, ..before };
        let all = seconds(|t| second(t, 1, u64::from(t > 15.0), 20.0));
        assert_eq!(affected_at(&all, 10.2, &few), Some(15.5));
    }
}
