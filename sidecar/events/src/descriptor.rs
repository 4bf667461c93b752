//! What descriptors stand for, and whose turn it is on them.

#[cfg(feature = "user")]
use bytemuck::{Pod, Zeroable};

use crate::{DESCRIPTORS, PEER_BYTES};

/// What a descriptor stands for: values of `DescriptorEntry::role`.
pub mod role {
    /// Not known, or closed.
    pub const NONE: u32 = 0;
    pub const FILE: u32 = 1;
    /// A socket that the process connected.
    pub const CLIENT: u32 = 2;
    /// A socket that the process accepted.
    pub const SERVER: u32 = 3;
    pub const LISTENER: u32 = 4;
    pub const OTHER: u32 = 5;
}

/// Low bits of `DescriptorEntry::turn`; the rest is the time, in steps of 8 ns.
pub mod turn {
    pub const MASK: u64 = 7;
    /// The last transfer was a send.
    pub const SENT: u64 = 1;
    /// The last transfer was a receipt.
    pub const RECEIVED: u64 = 2;
    /// It happened while the pod was reduced: the kernel times the exchange.
    pub const REDUCED: u64 = 4;
}

/// How an exchange ended: values of `Event::extra[1]` of an `EXCHANGE`.
pub mod ended {
    pub const ANSWERED: u32 = 0;
    /// The peer closed, or the receipt or the connect failed: the event's `ret` says which.
    pub const FAILED: u32 = 1;
    /// This side closed.
    pub const ABANDONED: u32 = 2;
}

/// What a descriptor stands for and whose turn it is on it, in its pod's table.
///
/// Written by the calls of the process, whose threads may race: an entry is an estimate. A sidecar
/// may write its pod's.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct DescriptorEntry {
    /// `descriptor_key`; 0 in a free entry.
    pub key: u64,
    /// When this life of the number began; 0: before it was followed.
    pub since_ns: u64,
    /// `peer_hash` of whom a client socket was connected to; 0 where not known.
    pub peer: u64,
    /// The last transfer: time and `turn` bits; 0: none in this life.
    pub turn: u64,
    /// A client's first send since the last answer; 0: none is open.
    pub asked_ns: u64,
    /// Thread of the last transfer.
    pub tid: u32,
    /// One of `role`.
    pub role: u32,
    /// Cgroup of the container.
    pub container: u64,
    /// When an HTTP head was last seen on it in this life; 0: never.
    pub spoke_ns: u64,
}

impl DescriptorEntry {
    pub const fn pid(&self) -> u32 {
        (self.key >> 32) as u32
    }

    pub const fn fd(&self) -> i32 {
        self.key as u32 as i32
    }
}

/// Key of a descriptor of a process: never 0, as no process has id 0.
#[inline(always)]
pub const fn descriptor_key(pid: u32, fd: i32) -> u64 {
    (pid as u64) << 32 | fd as u32 as u64
}

/// Where the entry of a descriptor is looked for first.
#[inline(always)]
pub const fn descriptor_place(key: u64) -> u64 {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) & (DESCRIPTORS as u64 - 1)
}

/// A socket address as eight bytes: never 0. Addresses are compared by this alone. `address` holds the
/// address and zeros after it, as a little-endian machine has them in memory.
#[inline(always)]
pub fn peer_hash(address: &[u64; PEER_BYTES / 8]) -> u64 {
    const INET: u64 = 2;
    const INET6: u64 = 10;
    const FAMILY_AND_PORT: u64 = 0xffff_ffff;
    let (words, first) = match address[0] & 0xffff {
        INET => (1, u64::MAX),
        // Without the flow label, and up to the end of the address.
        INET6 => (3, FAMILY_AND_PORT),
        _ => (PEER_BYTES / 8, u64::MAX),
    };
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for (index, word) in address.iter().enumerate() {
        if index >= words {
            break;
        }
        let word = if index == 0 { word & first } else { *word };
        hash = (hash ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash ^= hash >> 31;
    }
    if hash == 0 { 1 } else { hash }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_told_apart_by_family_port_and_address() {
        let hash = |bytes: &[u8]| {
            let mut all = [0; PEER_BYTES];
            all[..bytes.len()].copy_from_slice(bytes);
            let words = core::array::from_fn(|word| {
                u64::from_le_bytes(core::array::from_fn(|byte| all[word * 8 + byte]))
            });
            peer_hash(&words)
        };
        let inet = [2, 0, 0x18, 0xeb, 127, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9];
        assert_eq!(hash(&inet), hash(&inet[..8]));
        assert_ne!(hash(&inet), hash(&[2, 0, 0x18, 0xec, 127, 0, 0, 1]));
        let mut inet6 = [7; 28];
        inet6[..4].copy_from_slice(&[10, 0, 0, 80]);
        let mut other_flow = inet6;
        other_flow[5] = 1;
        assert_eq!(hash(&inet6), hash(&other_flow));
        let mut other_address = inet6;
        other_address[23] = 1;
        assert_ne!(hash(&inet6), hash(&other_address));
        assert_ne!(hash(b"\x01\0/run/a.sock"), hash(b"\x01\0/run/b.sock"));
    }
}
