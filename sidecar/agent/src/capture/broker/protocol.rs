//! What broker and sidecar say to each other: one message a frame, in postcard's encoding.
//!
//! ```text
//! broker  ─► Greeting   versions it speaks, a nonce (or why it refuses)
//! sidecar ─► Hello      versions it speaks, the nonce; the kernel adds who sent it
//! broker  ─► Agreed     the version from here on (or why it refuses)
//! sidecar ─► Request    one at a time, each answered by
//! broker  ─► Answer
//! ```
//!
//! `Greeting`, `Hello` and `Agreed` are the same in all versions.

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::{
    capture::{
        node::{
            ContainerFacts, Counters, NetworkFacts, ProcessFacts, ResourceFacts, ThreadFacts,
            ThreadPlace,
        },
        targets::Target,
    },
    record::DescriptorTarget,
};

/// Versions that this build speaks.
pub const VERSIONS: Versions = Versions {
    lowest: 4,
    highest: 4,
};
/// Bytes of a message to the broker at most.
pub const REQUEST_MAX: usize = 16 << 10;
/// Bytes of a message to a sidecar at most.
pub const ANSWER_MAX: usize = 96 << 10;
/// Containers in one question for counters at most.
pub const CONTAINERS_MAX: usize = 1024;
/// Attributes of a resource in one answer at most, each of up to 2 KiB.
pub const PUBLISHED_MAX: usize = 32;
/// Targets of one sidecar at most.
pub const TARGETS_MAX: usize = 32;

const MAGIC: [u8; 8] = *b"stethos\n";

/// Lowest and highest version that one side speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    pub lowest: u16,
    pub highest: u16,
}

impl Versions {
    /// The highest version that both speak.
    pub fn agree(self, other: Versions) -> Option<u16> {
        let highest = self.highest.min(other.highest);
        (highest >= self.lowest.max(other.lowest)).then_some(highest)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lowest == self.highest {
            true => write!(out, "{}", self.lowest),
            false => write!(out, "{} to {}", self.lowest, self.highest),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    magic: [u8; 8],
    pub versions: Versions,
    pub nonce: u64,
    /// Why the broker hangs up at once.
    pub refused: Option<String>,
}

impl Greeting {
    pub fn new(nonce: u64) -> Self {
        Self {
            magic: MAGIC,
            versions: VERSIONS,
            nonce,
            refused: None,
        }
    }

    pub fn refusing(reason: String) -> Self {
        Self {
            refused: Some(reason),
            ..Self::new(0)
        }
    }

    pub fn is_of_broker(&self) -> bool {
        self.magic == MAGIC
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    magic: [u8; 8],
    pub versions: Versions,
    pub nonce: u64,
}

impl Hello {
    pub fn new(versions: Versions, nonce: u64) -> Self {
        Self {
            magic: MAGIC,
            versions,
            nonce,
        }
    }

    pub fn is_of_sidecar(&self) -> bool {
        self.magic == MAGIC
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Agreed {
    Version(u16),
    Refused(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// How the broker is; ends the conversation.
    Status,
    /// Serve this sidecar's pod; comes first of all others.
    Join(Join),
    PollThreads,
    Counters {
        containers: Vec<u64>,
    },
    Container(u64),
    Process(u32),
    Published(u32),
    Descriptor {
        pid: u32,
        fd: i32,
    },
    Threads {
        after: u32,
    },
    ThreadFacts(Vec<u32>),
    Network {
        pid: u32,
        sockets: Vec<(u32, i32)>,
    },
    Resources(Vec<u64>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Join {
    /// Of `stethos_events`: what the sidecar reads in the maps.
    pub record_version: u32,
    pub targets: Vec<Target>,
    pub window_ring_bytes: u32,
    pub event_ring_bytes: u32,
    pub threads: u32,
    /// Id of the maps that the sidecar has from before.
    pub has: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    Refused(String),
    Status(Status),
    /// New maps; their descriptors come with the message, in the order of `PodMaps::descriptors`.
    Welcome(Welcome),
    /// The maps that the sidecar has are still its pod's.
    WelcomeBack,
    Done,
    /// The question has no answer for a reason that is not the sidecar's.
    Failed(String),
    Counters(Counters),
    Container(ContainerFacts),
    Process(ProcessFacts),
    Published(Vec<(String, String)>),
    Descriptor(Option<DescriptorTarget>),
    Threads(Vec<ThreadPlace>),
    ThreadFacts(Vec<ThreadFacts>),
    Network(Option<NetworkFacts>),
    Resources(Vec<ResourceFacts>),
}

/// What the broker grants; less than was asked for where its own bounds are lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    pub id: u32,
    pub window_ring_bytes: u32,
    pub event_ring_bytes: u32,
    pub banks: u32,
    pub processors: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub record_version: u32,
    /// Whether capture outlives the broker.
    pub pinned: bool,
    pub pods_served: u32,
    /// Pods whose sidecar has not come back since the broker started.
    pub pods_waiting: u32,
    pub connections: u32,
    /// What was refused since the start, by cause.
    pub refused: Vec<(String, u64)>,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    #[error("a message of {bytes} bytes; at most {most} are allowed")]
    TooLong { bytes: usize, most: usize },
    #[error("not a message: {0}")]
    Malformed(String),
}

pub fn encode<T: Serialize>(message: &T, most: usize) -> Result<Vec<u8>, FrameError> {
    let bytes = postcard::to_stdvec(message).map_err(malformed)?;
    match bytes.len() > most {
        true => Err(FrameError::TooLong {
            bytes: bytes.len(),
            most,
        }),
        false => Ok(bytes),
    }
}

/// The whole of `bytes` is the message.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
    let (message, rest) = postcard::take_from_bytes(bytes).map_err(malformed)?;
    match rest.len() {
        0 => Ok(message),
        extra => Err(FrameError::Malformed(format!("{extra} bytes too many"))),
    }
}

fn malformed(error: postcard::Error) -> FrameError {
    FrameError::Malformed(error.to_string())
}

/// Cuts what a process says of itself so that it fits into an answer.
pub fn fitting(mut facts: ProcessFacts) -> ProcessFacts {
    const WORD: usize = 1024;
    const WORDS: usize = 32;
    const VALUE: usize = 4096;
    facts.command_line.truncate(WORDS);
    for word in &mut facts.command_line {
        cut(word, WORD);
    }
    for (_, value) in &mut facts.environment {
        cut(value, VALUE);
    }
    cut(&mut facts.executable, WORD);
    for (_, target) in &mut facts.descriptors {
        cut_target(target);
    }
    // Well over the encoding's overhead for one descriptor.
    const EACH: usize = 16;
    let words = facts.command_line.iter().map(|word| EACH + word.len());
    let values = facts.environment.iter();
    let values = values.map(|(name, value)| 2 * EACH + name.len() + value.len());
    let rest = words.sum::<usize>() + values.sum::<usize>() + facts.executable.len();
    let mut left = ANSWER_MAX.saturating_sub(rest + 1024);
    let fit = facts.descriptors.iter().take_while(|(_, target)| {
        let needed = EACH + target_len(target);
        let fits = needed <= left;
        left = left.saturating_sub(needed);
        fits
    });
    let fit = fit.count();
    facts.descriptors.truncate(fit);
    facts
}

pub fn cut_target(target: &mut DescriptorTarget) {
    const PATH: usize = 4096;
    match target {
        DescriptorTarget::File(text)
        | DescriptorTarget::Listener(text)
        | DescriptorTarget::Other(text) => cut(text, PATH),
        DescriptorTarget::Tcp { local, peer } => {
            cut(local, PATH);
            cut(peer, PATH);
        }
    }
}

fn target_len(target: &DescriptorTarget) -> usize {
    match target {
        DescriptorTarget::File(text)
        | DescriptorTarget::Listener(text)
        | DescriptorTarget::Other(text) => text.len(),
        DescriptorTarget::Tcp { local, peer } => local.len() + peer.len(),
    }
}

fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let end = (0..=most)
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or(0);
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        capture::node::{SOCKETS_MAX, THREAD_FACTS_MAX, THREADS_MAX},
        record::{NetworkCounters, RunState, SocketState},
    };

    #[test]
    fn the_highest_common_version_is_agreed_on() {
        let range = |lowest, highest| Versions { lowest, highest };
        assert_eq!(range(1, 3).agree(range(2, 5)), Some(3));
        assert_eq!(range(2, 2).agree(range(1, 9)), Some(2));
        assert_eq!(range(1, 1).agree(range(2, 3)), None);
        assert_eq!(range(4, 6).agree(range(2, 3)), None);
    }

    #[test]
    fn the_frames_of_all_versions_stay_as_they_are() {
        let greeting = encode(&Greeting::new(300), 64).unwrap();
        assert_eq!(greeting, b"stethos\n\x04\x04\xac\x02\x00");
        let hello = encode(&Hello::new(VERSIONS, 1), 64).unwrap();
        assert_eq!(hello, b"stethos\n\x04\x04\x01");
        let refused = encode(&Agreed::Refused("no".to_owned()), 64).unwrap();
        assert_eq!(refused, b"\x01\x02no");
    }

    #[test]
    fn what_is_cut_or_has_more_is_not_a_message() {
        let whole = encode(
            &Request::Counters {
                containers: vec![1, 2],
            },
            64,
        )
        .unwrap();
        for length in 0..whole.len() {
            assert!(decode::<Request>(&whole[..length]).is_err(), "{length}");
        }
        let mut more = whole.clone();
        more.push(0);
        assert!(decode::<Request>(&more).is_err());
        assert!(decode::<Request>(&whole).is_ok());
    }

    #[test]
    fn as_many_sockets_as_are_asked_for_fit() {
        let sockets = vec![(u32::MAX, i32::MAX); SOCKETS_MAX];
        let asked = Request::Network {
            pid: u32::MAX,
            sockets,
        };
        assert!(encode(&asked, REQUEST_MAX).is_ok());
        let socket = SocketState {
            peer: Some("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".to_owned()),
            received_bytes: u64::MAX,
            busy_us: u64::MAX,
            window_limited_us: u64::MAX,
            ..SocketState::default()
        };
        let facts = NetworkFacts {
            counters: Some(NetworkCounters::default()),
            sockets: vec![socket; SOCKETS_MAX],
        };
        assert!(encode(&Answer::Network(Some(facts)), ANSWER_MAX).is_ok());
    }

    #[test]
    fn as_many_threads_as_are_asked_for_fit() {
        let facts = ThreadFacts {
            tid: u32::MAX,
            pid: u32::MAX,
            state: RunState::Frozen,
            call: Some((u16::MAX, u64::MAX)),
        };
        let place = ThreadPlace {
            tid: u32::MAX,
            container: u64::MAX,
        };
        let asked = Request::ThreadFacts(vec![u32::MAX; THREAD_FACTS_MAX]);
        assert!(encode(&asked, REQUEST_MAX).is_ok());
        let answer = Answer::ThreadFacts(vec![facts; THREAD_FACTS_MAX]);
        assert!(encode(&answer, ANSWER_MAX).is_ok());
        let answer = Answer::Threads(vec![place; THREADS_MAX]);
        assert!(encode(&answer, ANSWER_MAX).is_ok());
    }

    #[test]
    fn a_process_that_says_too_much_fits() {
        let long = "é".repeat(70_000);
        for length in [1, 100, 1000, 2040, 4000, 4080, 4096, 140_000] {
            let facts = ProcessFacts {
                executable: long.clone(),
                command_line: vec![long.clone(); 3000],
                environment: vec![("OTEL_SERVICE_NAME".to_owned(), long.clone()); 3],
                descriptors: vec![(i32::MAX, DescriptorTarget::File("x".repeat(length))); 1024],
            };
            let answer = Answer::Process(fitting(facts));
            assert!(encode(&answer, ANSWER_MAX).is_ok(), "{length}");
        }
        let small = ProcessFacts {
            executable: "api".to_owned(),
            descriptors: vec![(3, DescriptorTarget::Other("pipe".to_owned())); 1024],
            ..ProcessFacts::default()
        };
        assert_eq!(fitting(small.clone()), small);
    }
}
