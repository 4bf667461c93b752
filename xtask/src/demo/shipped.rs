//! What share of the calls the kernel ships to the sidecar, and when that changes.

use std::collections::BTreeMap;

use crate::lab::Capturing;

/// Follows what is captured of all containers of the pod.
#[derive(Debug, Default)]
pub(super) struct Shipped {
    /// Calls and shipped calls of each container, as last heard of.
    last: BTreeMap<String, (u64, u64)>,
    /// The same since the reduction began.
    since: (u64, u64),
    reduced: bool,
}

impl Shipped {
    /// Gives what there is to say, when it changes.
    pub(super) fn hear(&mut self, now: &Capturing) -> Option<String> {
        let totals = (now.seen, now.delivered);
        let before = self.last.insert(now.container.clone(), totals);
        if now.reduced != self.reduced {
            self.reduced = now.reduced;
            let (seen, delivered) = std::mem::take(&mut self.since);
            return Some(if now.reduced {
                "only what is unfamiliar".to_owned()
            } else {
                let share = delivered as f64 * 100.0 / seen.max(1) as f64;
                format!("everything again; until now {share:.1} % of {seen} calls")
            });
        }
        if let Some((seen, delivered)) = before.filter(|_| now.reduced) {
            self.since.0 += now.seen.saturating_sub(seen);
            self.since.1 += now.delivered.saturating_sub(delivered);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_share_was_shipped_when_it_is_over() {
        let mut shipped = Shipped::default();
        let mut hear = |seen, delivered, reduced| {
            shipped.hear(&Capturing {
                container: "api".into(),
                seen,
                delivered,
                reduced,
            })
        };
        assert_eq!(hear(1000, 1000, false), None);
        assert!(hear(2000, 2000, true).is_some_and(|text| text.contains("unfamiliar")));
        assert_eq!(hear(12_000, 2050, true), None);
        assert_eq!(
            hear(12_100, 2150, false).unwrap_or_default(),
            "everything again; until now 0.5 % of 10000 calls"
        );
    }
}
