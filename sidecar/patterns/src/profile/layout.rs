//! Which place of a profile means what.

use serde::{Deserialize, Serialize};

use crate::names::{self, CallKind};
use crate::token::Outcome;
use crate::vocabulary::Vocabulary;
use crate::window::Role;

/// Tokens with a place of their own; the rest share the last one.
const MAX_TOKEN_SLOTS: usize = 512;

pub(super) const DURATIONS: usize = 11;
pub(super) const SIZES: usize = 4;
/// What durations are measured in. Whether a call waited for some microseconds or not at all depends on
/// what else runs on the machine, and says nothing.
pub(super) const SHORT_WAIT_NS: f64 = 100_000.0;
/// For kinds of call whose typical duration is not known.
const TYPICAL_DURATION: f32 = 0.0;
/// ln(1 + 100 bytes).
const TYPICAL_SIZE: f32 = 4.62;

/// What a share's square root, a mean duration and a mean size may differ by in normal times, however
/// little they varied while they were learned: neighbours on the machine make calls slower, batches
/// grow with the load.
const LEAST_SHARE: f32 = 0.05;
const LEAST_DURATION: f32 = 0.5;
const LEAST_SIZE: f32 = 0.3;

const DURATION_NAMES: [&str; DURATIONS] = [
    "read file",
    "read client",
    "write file",
    "write socket",
    "write other",
    "open",
    "connect",
    "sync",
    "file",
    "memory",
    "other",
];
const SIZE_NAMES: [&str; SIZES] = ["read file", "read socket", "write file", "write socket"];

/// Place of a call's duration; none where the duration says how long others took to come.
pub(super) fn duration_slot(kind: CallKind, role: Role) -> Option<usize> {
    Some(match (kind, role) {
        (CallKind::Read, Role::File) => 0,
        (CallKind::Read, Role::Client) => 1,
        (CallKind::Read | CallKind::Wait | CallKind::Accept, _) => return None,
        (CallKind::Write, Role::File) => 2,
        (CallKind::Write, Role::Client | Role::Server) => 3,
        (CallKind::Write, _) => 4,
        (CallKind::Open, _) => 5,
        (CallKind::Connect, _) => 6,
        (CallKind::Sync, _) => 7,
        (CallKind::File, _) => 8,
        (CallKind::Memory, _) => 9,
        (CallKind::Close | CallKind::Socket | CallKind::Process | CallKind::Other, _) => 10,
    })
}

pub(super) fn size_slot(kind: CallKind, role: Role) -> Option<usize> {
    match (kind, role) {
        (CallKind::Read, Role::File) => Some(0),
        (CallKind::Read, Role::Client | Role::Server) => Some(1),
        (CallKind::Write, Role::File) => Some(2),
        (CallKind::Write, Role::Client | Role::Server) => Some(3),
        _ => None,
    }
}

/// Order and number of a profile's values: square roots of the shares of the vocabulary's ids
/// (`unknown` first, `gap` always 0), of the patterns, of no pattern and of errors; then means
/// of `ln(1 + ns / 100 000)` per kind of call and of `ln(1 + bytes)` per kind of transfer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProfileLayout {
    tokens: u16,
    patterns: u16,
    typical: [f32; DURATIONS + SIZES],
}

impl ProfileLayout {
    pub fn new(vocabulary: &Vocabulary, patterns: usize) -> Self {
        let mut typical = [TYPICAL_DURATION; DURATIONS + SIZES];
        typical[DURATIONS..].fill(TYPICAL_SIZE);
        ProfileLayout {
            tokens: vocabulary.len().min(MAX_TOKEN_SLOTS) as u16,
            patterns: u16::try_from(patterns).unwrap_or(u16::MAX),
            typical,
        }
    }

    /// Takes the durations and sizes that stand for kinds of call with few calls in an interval from
    /// the values of a long one, a profile of this layout.
    pub fn with_typical(mut self, long: &[f32]) -> Self {
        let means = long.len().saturating_sub(DURATIONS + SIZES);
        for (typical, mean) in self.typical.iter_mut().zip(&long[means..]) {
            *typical = *mean;
        }
        self
    }

    /// Length of a profile.
    pub fn dimension(&self) -> usize {
        self.token_slots() + self.patterns() + 2 + DURATIONS + SIZES
    }

    /// The least standard deviation that each value of a profile is taken to have.
    pub fn least_scales(&self) -> Vec<f32> {
        let mut least = vec![LEAST_SHARE; self.token_slots() + self.patterns() + 2];
        least.extend([LEAST_DURATION; DURATIONS]);
        least.extend([LEAST_SIZE; SIZES]);
        least
    }

    /// Number of patterns.
    pub fn patterns(&self) -> usize {
        usize::from(self.patterns)
    }

    pub(super) fn token_slots(&self) -> usize {
        usize::from(self.tokens).max(1)
    }

    pub(super) fn token_slot(&self, id: u16) -> usize {
        usize::from(id).min(self.token_slots() - 1)
    }

    pub(super) fn typical(&self) -> &[f32] {
        &self.typical
    }

    /// Whether a value is the share of one known call that went well. (What fails is a signal of its own,
    /// and may have been accepted.)
    pub fn is_success(&self, index: usize, vocabulary: &Vocabulary) -> bool {
        let rare = index + 1 == MAX_TOKEN_SLOTS;
        let id = u16::try_from(index).ok();
        let id = id.filter(|_| index < self.token_slots() && !rare);
        let token = id.and_then(|id| vocabulary.token(id));
        token.is_some_and(|token| token.outcome == Outcome::Ok)
    }

    /// What a value means, for a person: `share of connect:ECONNREFUSED`, `duration of sync`.
    pub fn name(&self, index: usize, arch: &str, vocabulary: &Vocabulary) -> String {
        let after_tokens = match index.checked_sub(self.token_slots()) {
            Some(rest) => rest,
            None if index + 1 == MAX_TOKEN_SLOTS => return "share of rare calls".to_owned(),
            None => {
                let token = u16::try_from(index)
                    .ok()
                    .and_then(|id| vocabulary.token(id));
                let name = token.map(|token| names::token_name(arch, &token));
                return format!("share of {}", name.as_deref().unwrap_or("unknown calls"));
            }
        };
        let Some(rest) = after_tokens.checked_sub(self.patterns()) else {
            return format!("share of pattern {after_tokens}");
        };
        match rest {
            0 => "share without pattern".to_owned(),
            1 => "share of errors".to_owned(),
            _ => match DURATION_NAMES.get(rest - 2) {
                Some(kind) => format!("duration of {kind}"),
                None => {
                    let kind = SIZE_NAMES.get(rest - 2 - DURATIONS).copied().unwrap_or("?");
                    format!("size of {kind}")
                }
            },
        }
    }
}
