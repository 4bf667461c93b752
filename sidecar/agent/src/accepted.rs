//! What an operator has said is normal in one container, beside what was learned of it.
//!
//! Diagnosis asks it; learning keeps it on disk.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stethos_patterns::Token;
use thiserror::Error;

/// Most things that can be accepted in one container.
pub const MOST: usize = 256;

/// One thing that is normal. What is about a path or a peer is about this one alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Thing {
    /// A call that fails so. `subject`: path or peer; none where none was known.
    Error {
        token: Token,
        subject: Option<String>,
    },
    ConnectFailed {
        peer: String,
        quick: bool,
    },
    ClosedEarly {
        peer: String,
    },
    NoAnswer {
        peer: String,
    },
    SlowExchange {
        peer: String,
    },
    SlowService,
    SlowCall {
        token: Token,
        path: Option<String>,
    },
    DescriptorLeak {
        executable: String,
    },
    HeldUp,
    Deadlock {
        executable: String,
    },
    Frozen {
        executable: String,
    },
    OutOfMemory,
    MemoryClimbs,
    Throttled,
    Contended,
    Flood,
    Mines {
        executable: String,
    },
    CrashLoop {
        executable: String,
    },
    UnexpectedExec {
        executable: String,
    },
    ProcessEnded {
        executable: String,
    },
    Lossy {
        peer: String,
    },
    Narrow {
        peer: String,
    },
}

/// How long something slow took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Took {
    pub median_ns: u64,
    /// 95th percentile.
    pub tail_ns: u64,
}

/// What is accepted in one container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Accepted {
    /// `Took` of what is slow.
    things: BTreeMap<Thing, Took>,
    /// The container is learned anew: until that is done, what its models say of it as a whole
    /// (surprise, stability) says nothing.
    pub relearning: bool,
}

/// There is no room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no more than {MOST} things can be accepted in one container")]
pub struct Full;

impl Accepted {
    /// Nothing but a learning.
    pub fn relearning() -> Self {
        Self {
            relearning: true,
            ..Self::default()
        }
    }

    pub fn has(&self, thing: &Thing) -> bool {
        self.things.contains_key(thing)
    }

    /// How long what is accepted as slow may take.
    pub fn took(&self, thing: &Thing) -> Option<Took> {
        self.things.get(thing).copied()
    }

    pub fn things(&self) -> impl Iterator<Item = (&Thing, Took)> {
        self.things.iter().map(|(thing, took)| (thing, *took))
    }

    pub fn is_empty(&self) -> bool {
        self.things.is_empty() && !self.relearning
    }

    pub fn add(&mut self, thing: Thing, took: Took) {
        let known = self.things.entry(thing).or_default();
        known.median_ns = known.median_ns.max(took.median_ns);
        known.tail_ns = known.tail_ns.max(took.tail_ns);
    }

    /// Both. An error leaves `self` as it was.
    pub fn merged(&self, more: &Accepted) -> Result<Accepted, Full> {
        let mut all = self.clone();
        for (thing, took) in more.things() {
            all.add(thing.clone(), took);
        }
        all.relearning |= more.relearning;
        (all.things.len() <= MOST).then_some(all).ok_or(Full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow(peer: &str) -> Thing {
        Thing::SlowExchange {
            peer: peer.to_owned(),
        }
    }

    #[test]
    fn what_is_accepted_twice_may_take_the_longer_time() {
        let took = |median_ns, tail_ns| Took { median_ns, tail_ns };
        let mut accepted = Accepted::default();
        accepted.add(slow("a"), took(5, 9));
        accepted.add(slow("a"), took(3, 20));
        assert_eq!(accepted.took(&slow("a")), Some(took(5, 20)));
        assert_eq!(accepted.took(&slow("b")), None);
    }

    #[test]
    fn there_is_a_bound() {
        let mut full = Accepted::default();
        (0..MOST).for_each(|n| full.add(slow(&n.to_string()), Took::default()));
        let mut more = Accepted::default();
        more.add(slow("0"), Took::default());
        assert!(full.merged(&more).is_ok());
        more.add(slow("one more"), Took::default());
        assert_eq!(full.merged(&more), Err(Full));
    }
}
