//! The sidecar's side: joins a broker, asks it, and joins again when it was gone.

use std::{
    io,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, TryRecvError},
    time::{Duration, Instant},
};

use thiserror::Error;

use super::{
    again::join_again,
    protocol::{
        ANSWER_MAX, Agreed, Answer, CONTAINERS_MAX, FrameError, Greeting, Hello, Join, REQUEST_MAX,
        Request, Status, VERSIONS, Versions, Welcome, decode, encode,
    },
    socket::{Message, Socket},
};
use crate::{
    capture::{
        node::{
            ContainerFacts, Counters, NetworkFacts, Node, ProcessFacts, ResourceFacts, ThreadFacts,
            ThreadPlace, Unanswered,
        },
        pod::{MappingError, Pod, PodMaps},
    },
    record::DescriptorTarget,
};

/// A broker answers within this time, or counts as gone.
const LIMIT: Duration = Duration::from_secs(3);

#[derive(Debug, Error)]
pub enum BrokerError {
    #[error("node broker at {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("what answers at {0} is no node broker")]
    Stranger(PathBuf),
    #[error("the node broker refuses: {0}")]
    Refused(String),
    #[error("node broker at {path}: {source}")]
    Frame { path: PathBuf, source: FrameError },
    #[error("the node broker gave something else than was asked for")]
    OutOfTurn,
    #[error(transparent)]
    Mapping(#[from] MappingError),
}

impl BrokerError {
    /// True when nobody listens there (yet).
    pub fn is_absent(&self) -> bool {
        matches!(self, BrokerError::Io { source, .. } if matches!(
            source.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
        ))
    }
}

/// An open conversation with a broker.
struct Channel {
    socket: Socket,
    path: PathBuf,
    /// That the broker speaks.
    versions: Versions,
    /// That both speak.
    version: u16,
}

impl Channel {
    fn open(path: &Path) -> Result<Self, BrokerError> {
        let io = |source| BrokerError::Io {
            path: path.to_owned(),
            source,
        };
        let socket = Socket::connect(path, LIMIT).map_err(io)?;
        let mut channel = Self {
            socket,
            path: path.to_owned(),
            versions: VERSIONS,
            version: 0,
        };
        let greeting: Greeting = channel
            .receive(false)
            .and_then(|message| channel.read(&message))
            .map_err(|error| match error {
                BrokerError::Frame { .. } => BrokerError::Stranger(path.to_owned()),
                error => error,
            })?;
        if !greeting.is_of_broker() {
            return Err(BrokerError::Stranger(path.to_owned()));
        }
        channel.versions = greeting.versions;
        if let Some(reason) = greeting.refused {
            return Err(BrokerError::Refused(reason));
        }
        channel.send(&Hello::new(VERSIONS, greeting.nonce))?;
        match channel
            .receive(false)
            .and_then(|message| channel.read(&message))?
        {
            Agreed::Version(version) => {
                channel.version = version;
                Ok(channel)
            }
            Agreed::Refused(reason) => Err(BrokerError::Refused(reason)),
        }
    }

    fn ask(&self, request: &Request) -> Result<(Answer, Message), BrokerError> {
        self.send(request)?;
        let joins = matches!(request, Request::Join(_));
        let message = self.receive(joins)?;
        match self.read(&message)? {
            Answer::Refused(reason) => Err(BrokerError::Refused(reason)),
            answer => Ok((answer, message)),
        }
    }

    fn send<T: serde::Serialize>(&self, message: &T) -> Result<(), BrokerError> {
        let bytes = encode(message, REQUEST_MAX).map_err(|source| self.frame(source))?;
        self.socket.send(&bytes).map_err(|source| self.io(source))
    }

    fn receive(&self, descriptors: bool) -> Result<Message, BrokerError> {
        self.socket
            .receive(ANSWER_MAX, descriptors)
            .and_then(|message| message.ok_or(io::ErrorKind::UnexpectedEof.into()))
            .map_err(|source| self.io(source))
    }

    fn read<T: serde::de::DeserializeOwned>(&self, message: &Message) -> Result<T, BrokerError> {
        decode(&message.bytes).map_err(|source| self.frame(source))
    }

    fn io(&self, source: io::Error) -> BrokerError {
        BrokerError::Io {
            path: self.path.clone(),
            source,
        }
    }

    fn frame(&self, source: FrameError) -> BrokerError {
        BrokerError::Frame {
            path: self.path.clone(),
            source,
        }
    }
}

/// Which versions the broker at `path` speaks, and how it is.
pub fn status(path: &Path) -> Result<(Versions, Status), BrokerError> {
    let channel = Channel::open(path)?;
    match channel.ask(&Request::Status)?.0 {
        Answer::Status(status) => Ok((channel.versions, status)),
        _ => Err(BrokerError::OutOfTurn),
    }
}

/// A broker that serves this sidecar.
pub(super) struct Joined {
    channel: Channel,
    /// Id and maps, when they are not those from before.
    fresh: Option<(u32, PodMaps)>,
}

pub(super) fn join(path: &Path, wish: &Join) -> Result<Joined, BrokerError> {
    let channel = Channel::open(path)?;
    let (answer, message) = channel.ask(&Request::Join(wish.clone()))?;
    match answer {
        Answer::WelcomeBack if wish.has.is_some() => Ok(Joined {
            channel,
            fresh: None,
        }),
        Answer::Welcome(welcome) => {
            let maps = maps(welcome, message).ok_or(BrokerError::OutOfTurn)?;
            Ok(Joined {
                channel,
                fresh: Some((welcome.id, maps)),
            })
        }
        _ => Err(BrokerError::OutOfTurn),
    }
}

fn maps(welcome: Welcome, message: Message) -> Option<PodMaps> {
    let mut descriptors = message.descriptors.into_iter();
    let maps = PodMaps {
        windows: descriptors.next()?,
        window_ring_bytes: welcome.window_ring_bytes,
        events: descriptors.next()?,
        event_ring_bytes: welcome.event_ring_bytes,
        familiar: descriptors.next()?,
        reduction: descriptors.next()?,
        counts: descriptors.next()?,
        followed: descriptors.next()?,
        heads: descriptors.next()?,
        processors: welcome.processors,
        banks: descriptors.collect(),
    };
    (maps.banks.len() == welcome.banks as usize).then_some(maps)
}

enum State {
    Joined(Channel),
    /// Gone; what joins it again tells here.
    Gone {
        again: Receiver<Joined>,
        since: Instant,
    },
}

/// The node as a broker tells of it.
pub struct BrokerNode {
    path: PathBuf,
    wish: Join,
    state: State,
    renewed: Option<(Pod, PodMaps)>,
}

impl BrokerNode {
    /// Joins the broker at `path`; gives the node and the pod's maps.
    pub fn join(path: &Path, wish: Join) -> Result<(Self, PodMaps), BrokerError> {
        let joined = join(path, &wish)?;
        let (id, maps) = joined.fresh.ok_or(BrokerError::OutOfTurn)?;
        if maps.window_ring_bytes < wish.window_ring_bytes {
            tracing::info!(
                bytes = maps.window_ring_bytes,
                "the node broker grants a smaller ring"
            );
        }
        let node = Self {
            path: path.to_owned(),
            wish: Join {
                has: Some(id),
                ..wish
            },
            state: State::Joined(joined.channel),
            renewed: None,
        };
        Ok((node, maps))
    }

    fn ask(&mut self, request: &Request) -> Result<Answer, Unanswered> {
        self.come_back();
        let State::Joined(channel) = &self.state else {
            return Err(Unanswered("the node broker is gone".to_owned()));
        };
        match channel.ask(request) {
            Ok((Answer::Failed(reason), _)) => Err(Unanswered(reason)),
            Ok((answer, _)) => Ok(answer),
            Err(error) => {
                tracing::warn!(%error, "the node broker is lost; joining it again");
                self.state = State::Gone {
                    again: join_again(self.path.clone(), self.wish.clone()),
                    since: Instant::now(),
                };
                Err(Unanswered(error.to_string()))
            }
        }
    }

    /// Takes up the conversation when the broker is there again.
    fn come_back(&mut self) {
        let State::Gone { again, since } = &self.state else {
            return;
        };
        let away_ms = since.elapsed().as_millis() as u64;
        let joined = match again.try_recv() {
            Ok(joined) => joined,
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Disconnected) => {
                self.state = State::Gone {
                    again: join_again(self.path.clone(), self.wish.clone()),
                    since: *since,
                };
                return;
            }
        };
        if let Some((id, maps)) = joined.fresh {
            match Pod::map(&maps) {
                Ok(pod) => {
                    self.wish.has = Some(id);
                    self.renewed = Some((pod, maps));
                    tracing::warn!(away_ms, "joined the node broker again, with new maps");
                }
                Err(error) => {
                    tracing::error!(%error, "the node broker's maps cannot be used");
                    return;
                }
            }
        } else {
            tracing::info!(away_ms, "joined the node broker again; nothing was missed");
        }
        self.state = State::Joined(joined.channel);
    }
}

impl Node for BrokerNode {
    fn poll_threads(&mut self) -> Result<(), Unanswered> {
        match self.ask(&Request::PollThreads)? {
            Answer::Done => Ok(()),
            _ => Err(out_of_turn()),
        }
    }

    fn counters(&mut self, containers: &[u64]) -> Result<Counters, Unanswered> {
        let mut all = Counters::default();
        // An empty question has an answer, too.
        let parts = containers.chunks(CONTAINERS_MAX);
        for part in parts.chain(containers.is_empty().then_some(&[][..])) {
            let request = Request::Counters {
                containers: part.to_vec(),
            };
            match self.ask(&request)? {
                Answer::Counters(counters) => {
                    all.lost = counters.lost;
                    all.skipped_recursion = counters.skipped_recursion;
                    all.ended.extend(counters.ended);
                }
                _ => return Err(out_of_turn()),
            }
        }
        Ok(all)
    }

    fn container(&mut self, cgroup: u64) -> Option<ContainerFacts> {
        match self.ask(&Request::Container(cgroup)) {
            Ok(Answer::Container(facts)) => Some(facts),
            _ => None,
        }
    }

    fn process(&mut self, pid: u32) -> Option<ProcessFacts> {
        match self.ask(&Request::Process(pid)) {
            Ok(Answer::Process(facts)) => Some(facts),
            _ => None,
        }
    }

    fn published(&mut self, pid: u32) -> Option<Vec<(String, String)>> {
        match self.ask(&Request::Published(pid)) {
            Ok(Answer::Published(resource)) => Some(resource),
            _ => None,
        }
    }

    fn descriptor(&mut self, pid: u32, fd: i32) -> Option<DescriptorTarget> {
        match self.ask(&Request::Descriptor { pid, fd }) {
            Ok(Answer::Descriptor(target)) => target,
            _ => None,
        }
    }

    fn threads(&mut self, after: u32) -> Option<Vec<ThreadPlace>> {
        match self.ask(&Request::Threads { after }) {
            Ok(Answer::Threads(threads)) => Some(threads),
            _ => None,
        }
    }

    fn thread_facts(&mut self, tids: &[u32]) -> Option<Vec<ThreadFacts>> {
        match self.ask(&Request::ThreadFacts(tids.to_vec())) {
            Ok(Answer::ThreadFacts(facts)) => Some(facts),
            _ => None,
        }
    }

    fn network(&mut self, pid: u32, sockets: &[(u32, i32)]) -> Option<NetworkFacts> {
        let request = Request::Network {
            pid,
            sockets: sockets.to_vec(),
        };
        match self.ask(&request) {
            Ok(Answer::Network(facts)) => facts,
            _ => None,
        }
    }

    fn resources(&mut self, containers: &[u64]) -> Option<Vec<ResourceFacts>> {
        match self.ask(&Request::Resources(containers.to_vec())) {
            Ok(Answer::Resources(facts)) => Some(facts),
            _ => None,
        }
    }

    fn renewed(&mut self) -> Option<(Pod, PodMaps)> {
        self.renewed.take()
    }
}

fn out_of_turn() -> Unanswered {
    Unanswered(BrokerError::OutOfTurn.to_string())
}
