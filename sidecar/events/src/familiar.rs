//! What is familiar in a pod and only counted.

#[cfg(feature = "user")]
use bytemuck::{Pod, Zeroable};

use crate::COUNT_CLASSES;

/// A call and its outcome in 16 bits: 9 bits of number, 7 of outcome. Outcomes are 0 for success, the
/// errno up to 123, 124 for the kernel's restart codes, and 125 for any other error.
#[inline(always)]
pub const fn token(nr: u16, ret: i64) -> u16 {
    let outcome = if ret >= 0 || ret < -4095 {
        0
    } else if ret >= -123 {
        -ret as u16
    } else if ret <= -512 && ret >= -516 {
        124
    } else {
        125
    };
    (nr & 0x1ff) << 7 | outcome
}

/// The key of a context in a container: never 0.
#[inline(always)]
pub const fn context_key(context: u64, container: u64) -> u64 {
    // Odd multipliers (splitmix64): distinct contexts of one container have distinct keys.
    let mixed = (context ^ container.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_mul(0xbf58_476d_1ce4_e5b9);
    // The highest bits alone depend on the token that came first.
    let key = mixed ^ (mixed >> 51);
    if key == 0 { 1 } else { key }
}

/// One familiar context, in its pod's table. A sidecar writes its pod's, key last.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct FamiliarEntry {
    /// `context_key`; 0 in a free entry.
    pub key: u64,
    /// Row that the call is counted in.
    pub row: u32,
    /// Highest `duration_class` that is familiar.
    pub ceiling: u32,
}

/// Stands in the place of a context for the exchanges with a peer: `context_key` of it is the key
/// of their entry in the table of familiar contexts.
#[inline(always)]
pub const fn exchange_context(peer: u64) -> u64 {
    peer.wrapping_mul(0x94d0_49bb_1331_11eb) ^ 0x5851_f42d_4c95_7f2d
}

/// The same for a container's own answers.
pub const SERVICE_CONTEXT: u64 = 0xd134_2543_de82_ef95;

/// What a sidecar asks for, in the one entry of its pod's `REDUCTION`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct Reduction {
    /// Of so many familiar windows of a thread one is shipped on average, with the number that it
    /// stands for as its weight; 0: every window is shipped and nothing is counted.
    pub sample: u32,
    /// Changes before each change of `sample`.
    pub epoch: u32,
    /// HTTP heads kept so far: the next one stands at this number modulo `HEADS`.
    pub heads: u64,
}

/// Counts of one kind of call on one processor since the pod's start. All wrap.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct CountRow {
    pub calls: u64,
    pub waited_ns: u64,
    /// Calls by `duration_class`.
    pub classes: [u32; COUNT_CLASSES],
}

#[cfg(all(test, feature = "user"))]
mod tests {
    use super::*;
    use crate::{FAMILIAR_ENTRIES, FAMILIAR_PROBES};

    /// How many of the contexts find no entry in an empty table.
    fn refused(contexts: impl Iterator<Item = u64>) -> usize {
        let mut table = [0; FAMILIAR_ENTRIES];
        let mut refused = 0;
        for context in contexts {
            let key = context_key(context, 61_832);
            let mut entries = (0..FAMILIAR_PROBES as u64)
                .map(|probe| key.wrapping_add(probe) as usize & (FAMILIAR_ENTRIES - 1));
            match entries.find(|at| table[*at] == 0) {
                Some(at) => table[at] = key,
                None => refused += 1,
            }
        }
        refused
    }

    fn context(calls: [u16; 4]) -> u64 {
        let tokens = calls.into_iter().map(|nr| u64::from(token(nr, 0)));
        tokens.fold(0, |context, token| context << 16 | token)
    }

    #[test]
    fn contexts_that_differ_in_one_token_have_room() {
        for place in 0..4 {
            let contexts = (0..300).map(|nr| {
                let mut calls = [44; 4];
                calls[place] = nr;
                context(calls)
            });
            assert_eq!(refused(contexts), 0, "token {place}");
        }
        let few = [0, 1, 3, 44, 45, 232];
        let all = (0..few.len().pow(4)).map(|number| {
            let digit = |place: u32| few[number / few.len().pow(place) % few.len()];
            context([digit(3), digit(2), digit(1), digit(0)])
        });
        assert!(refused(all) <= 5);
    }
}
