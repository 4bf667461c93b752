//! Peers by the hash that the kernel programs know them by.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use stethos_events::{PEER_BYTES, peer_hash};

/// Peers that are remembered by name.
const PEERS: usize = 4096;

/// Names of peers, as [`super::decode`] writes them.
#[derive(Debug, Default)]
pub struct Peers(HashMap<u64, String>);

impl Peers {
    /// Remembers a peer; gives its hashes.
    pub fn know(&mut self, peer: &str) -> Vec<u64> {
        let hashes = hashes(peer);
        for hash in &hashes {
            if self.0.len() < PEERS {
                self.0.entry(*hash).or_insert_with(|| peer.to_owned());
            }
        }
        hashes
    }

    pub fn name(&self, hash: u64) -> Option<&str> {
        self.0.get(&hash).map(String::as_str)
    }
}

/// The hashes of a peer by name: an IPv4 peer may be connected to through an IPv6 socket, too.
pub fn hashes(peer: &str) -> Vec<u64> {
    if let Some(path) = peer.strip_prefix("unix:") {
        let mut bytes = vec![1, 0];
        match path.strip_prefix('@') {
            Some(name) => {
                bytes.push(0);
                bytes.extend(name.bytes());
            }
            None => bytes.extend(path.bytes()),
        }
        return vec![hash(&bytes)];
    }
    let Ok(address) = peer.parse::<SocketAddr>() else {
        return Vec::new();
    };
    match address.ip() {
        IpAddr::V4(ip) => {
            let mut bytes = head(2, address.port());
            bytes.extend(ip.octets());
            vec![hash(&bytes), inet6(ip.to_ipv6_mapped(), address.port())]
        }
        IpAddr::V6(ip) => vec![inet6(ip, address.port())],
    }
}

fn inet6(ip: Ipv6Addr, port: u16) -> u64 {
    let mut bytes = head(10, port);
    bytes.extend([0; 4]);
    bytes.extend(ip.octets());
    hash(&bytes)
}

fn head(family: u8, port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![family, 0, high, low]
}

fn hash(address: &[u8]) -> u64 {
    let mut all = [0; PEER_BYTES];
    let len = address.len().min(PEER_BYTES);
    all[..len].copy_from_slice(&address[..len]);
    let mut words = [0; PEER_BYTES / 8];
    for (word, bytes) in words.iter_mut().zip(all.chunks_exact(8)) {
        *word = bytes
            .iter()
            .rev()
            .fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    peer_hash(&words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_peer_is_known_by_both_families() {
        let mut peers = Peers::default();
        let hashes = peers.know("127.0.0.1:6379");
        assert_eq!(hashes.len(), 2);
        assert_eq!(hash(&[2, 0, 0x18, 0xeb, 127, 0, 0, 1]), hashes[0]);
        for hash in hashes {
            assert_eq!(peers.name(hash), Some("127.0.0.1:6379"));
        }
        assert_eq!(peers.name(7), None);
    }

    #[test]
    fn other_peers_have_one_hash_and_nonsense_has_none() {
        assert_eq!(hashes("[::1]:80").len(), 1);
        assert_ne!(hashes("unix:/run/a.sock"), hashes("unix:@/run/a.sock"));
        assert!(hashes("somewhere").is_empty());
    }
}
