//! One sidecar's connection, from the greeting to its end.

use std::{
    os::fd::AsRawFd as _,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};
use stethos_events::{NO_POD, RECORD_VERSION};

use super::{
    end::End,
    identity::{self, IdentityError, Peer, PodCgroup},
    pace::Pace,
    protocol::{
        ANSWER_MAX, Agreed, Answer, CONTAINERS_MAX, Greeting, Hello, Join, PUBLISHED_MAX,
        REQUEST_MAX, Request, TARGETS_MAX, VERSIONS, Welcome, cut_target, decode, encode, fitting,
    },
    refusals::Cause,
    seats::Taken,
    server::Shared,
    socket::Socket,
};
use crate::capture::{
    kernel::{Capacity, Found, PID_TARGET, Place},
    lookup::Lookup,
    node::{GoneContainers, PodView, RESOURCES_MAX, SOCKETS_MAX, THREAD_FACTS_MAX, THREADS_MAX},
    pod::PodMaps,
    targets::Target,
};

/// Until a sidecar is served, each of its messages comes within this time.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// A sidecar that asks nothing for this long is gone: it asks a few times a second.
const SILENCE: Duration = Duration::from_secs(60);
/// An answer is taken off within this time.
const SEND: Duration = Duration::from_secs(1);
/// Threads are looked at again after this time at the soonest.
const POLL_AGAIN: Duration = Duration::from_millis(5);

/// Talks with a sidecar to the end. `assigned` is the pod that the socket belongs to.
pub(super) fn run(
    shared: &Shared,
    socket: &Socket,
    pid: u32,
    assigned: Option<PodCgroup>,
) -> Result<(), End> {
    let peer = greet(socket, pid)?;
    match receive(socket)? {
        Request::Status => send(socket, &Answer::Status(shared.status())),
        Request::Join(join) => {
            let refusing = |end| match end {
                End::Refused(cause, reason) => {
                    // It may have gone; what counts is why.
                    let _ = send(socket, &Answer::Refused(reason.clone()));
                    End::Refused(cause, reason)
                }
                End::Closed => End::Closed,
            };
            let mut served = Served::join(shared, &peer, assigned, &join).map_err(refusing)?;
            served.welcome(socket)?;
            socket.limit(SILENCE, SEND)?;
            served.answer_all(socket)
        }
        _ => Err(End::Refused(
            Cause::Protocol,
            "a question before it joined".to_owned(),
        )),
    }
}

/// Agrees on a version, and makes sure that the process that connected is the one that speaks.
fn greet(socket: &Socket, pid: u32) -> Result<Peer, End> {
    socket.limit(HANDSHAKE, SEND)?;
    socket.pass_credentials()?;
    let peer = Peer::open(pid).map_err(|error| {
        let _ = send(socket, &Greeting::refusing(error.to_string()));
        End::from(error)
    })?;
    let nonce = identity::nonce()?;
    send(socket, &Greeting::new(nonce))?;
    let message = socket.receive(REQUEST_MAX, false)?.ok_or(End::Closed)?;
    let hello: Hello = decode(&message.bytes)?;
    if !hello.is_of_sidecar() || hello.nonce != nonce {
        return Err(End::Refused(
            Cause::Protocol,
            "it does not greet back".to_owned(),
        ));
    }
    let refuse = |cause, reason: String| {
        let _ = send(socket, &Agreed::Refused(reason.clone()));
        End::Refused(cause, reason)
    };
    // The nonce was not known before `peer` was opened: who speaks now and has its id is it.
    let speaks = message.sender.map_or(0, |sender| sender.pid);
    if speaks != pid {
        let error = IdentityError::OtherSpeaker {
            connected: pid,
            speaks,
        };
        return Err(refuse(Cause::Identity, error.to_string()));
    }
    let Some(version) = VERSIONS.agree(hello.versions) else {
        let reason = format!(
            "this broker speaks protocol {VERSIONS}, the sidecar {}: upgrade the older one",
            hello.versions
        );
        return Err(refuse(Cause::Version, reason));
    };
    send(socket, &Agreed::Version(version))?;
    Ok(peer)
}

fn receive<T: DeserializeOwned>(socket: &Socket) -> Result<T, End> {
    let message = socket.receive(REQUEST_MAX, false)?.ok_or(End::Closed)?;
    Ok(decode(&message.bytes)?)
}

fn send<T: Serialize>(socket: &Socket, message: &T) -> Result<(), End> {
    Ok(socket.send(&encode(message, ANSWER_MAX)?)?)
}

/// A pod that is served as long as this lives.
struct Served<'a> {
    shared: &'a Shared,
    key: u64,
    place: Option<Place>,
    /// Maps to hand over; none when the sidecar has them.
    maps: Option<PodMaps>,
    lookup: Lookup,
    gone: GoneContainers,
    polled: Option<Instant>,
    /// It was told what it has, and counts as served.
    joined: bool,
}

impl<'a> Served<'a> {
    fn join(
        shared: &'a Shared,
        peer: &Peer,
        assigned: Option<PodCgroup>,
        join: &Join,
    ) -> Result<Self, End> {
        if join.record_version != RECORD_VERSION {
            let reason = format!(
                "the kernel programs of this broker write records of version {RECORD_VERSION}, \
                 the sidecar reads version {}: upgrade the older one",
                join.record_version
            );
            return Err(End::Refused(Cause::Version, reason));
        }
        if join.targets.is_empty() || join.targets.len() > TARGETS_MAX {
            let reason = format!(
                "{} targets; 1 to {TARGETS_MAX} are taken",
                join.targets.len()
            );
            return Err(End::Refused(Cause::Target, reason));
        }
        let free = shared.settings.allow_any_target && !join.targets.contains(&Target::SelfPod);
        let pod = match assigned {
            _ if free => None,
            Some(pod) => Some(pod),
            None => Some(peer.pod(&shared.mount, &shared.settings.below)?),
        };
        let targets = identity::targets(&join.targets, pod.as_ref(), &shared.mount)?;
        let key = match &pod {
            Some(pod) => pod.cgroup.id,
            None => PID_TARGET | u64::from(peer.pid),
        };
        let lookup = Lookup::new(&targets, Some(shared.mount.clone()), true)
            .with_node_root(shared.node_root.clone());
        let left = shared.seats().take(key, peer.pid).map_err(|Taken(pid)| {
            let reason =
                format!("the pod is served already: process {pid} has its sidecar's place");
            End::Refused(Cause::Seat, reason)
        })?;
        // From here on the seat is given back when `served` goes.
        let mut served = Self {
            shared,
            key,
            place: left,
            maps: None,
            lookup: match pod {
                Some(pod) => lookup.within(pod.path),
                None => lookup,
            },
            gone: GoneContainers::default(),
            polled: None,
            joined: false,
        };
        served.make_room(peer.pid, &targets, join)?;
        if let Some(place) = &served.place {
            shared.kernel.exclude(peer.pid, place.index)?;
        }
        Ok(served)
    }

    /// Keeps the maps that the sidecar has already, or makes new ones.
    fn make_room(&mut self, pid: u32, targets: &[Found], join: &Join) -> Result<(), End> {
        let mut wanted: Vec<u64> = targets
            .iter()
            .filter_map(|target| match target {
                Found::Cgroup(cgroup) => Some(cgroup.id),
                Found::Pid { .. } => None,
            })
            .collect();
        wanted.sort_unstable();
        if let Some(left) = &self.place {
            let mut watched = left.cgroups.clone();
            watched.sort_unstable();
            let same = watched == wanted && !left.processes && wanted.len() == targets.len();
            if join.has == Some(left.id) && same {
                return Ok(());
            }
            self.shared.kernel.remove_pod(left.index)?;
            self.place = None;
        }
        if !self.shared.seats().may_have_maps(self.key, Instant::now()) {
            let reason = "the pod was given new maps too often; it may try again in a minute";
            return Err(End::Refused(Cause::TooOften, reason.to_owned()));
        }
        let most = self.shared.settings.most;
        let ring = |asked: u32, most: u32| {
            let bytes = asked.clamp(64 << 10, most.max(64 << 10));
            // A power of two of at least a page of any machine.
            1 << bytes.ilog2()
        };
        let capacity = Capacity {
            window_ring_bytes: ring(join.window_ring_bytes, most.window_ring_bytes),
            event_ring_bytes: ring(join.event_ring_bytes, most.event_ring_bytes),
            threads: join.threads.clamp(1, most.threads.max(1)),
        };
        // Before anything is captured, so that no call of the sidecar is.
        self.shared.kernel.exclude(pid, NO_POD)?;
        let added = self.shared.kernel.add_pod(self.key, targets, capacity);
        if added.is_err() {
            self.shared.kernel.include(pid)?;
        }
        let (place, maps) = added?;
        self.place = Some(place);
        self.maps = Some(maps);
        Ok(())
    }

    fn welcome(&mut self, socket: &Socket) -> Result<(), End> {
        let Some(place) = &self.place else {
            return Err(End::Closed);
        };
        self.joined = true;
        self.shared.served.fetch_add(1, Ordering::Relaxed);
        let Some(maps) = self.maps.take() else {
            tracing::info!(pod = place.index, "a sidecar came back");
            return send(socket, &Answer::WelcomeBack);
        };
        let welcome = Welcome {
            id: place.id,
            window_ring_bytes: maps.window_ring_bytes,
            event_ring_bytes: maps.event_ring_bytes,
            banks: place.banks,
            processors: maps.processors,
        };
        let descriptors: Vec<_> = maps.descriptors().map(|fd| fd.as_raw_fd()).collect();
        let bytes = encode(&Answer::Welcome(welcome), ANSWER_MAX)?;
        socket.send_with(&bytes, &descriptors)?;
        tracing::info!(
            pod = place.index,
            cgroups = ?place.cgroups,
            threads = place.banks * stethos_events::BANK_SLOTS as u32,
            "serving a sidecar"
        );
        Ok(())
    }

    fn answer_all(&mut self, socket: &Socket) -> Result<(), End> {
        let mut pace = Pace::new();
        loop {
            let request = match receive(socket) {
                Err(End::Closed) => return Ok(()),
                request => request?,
            };
            let began = Instant::now();
            let answer = self.answer(request)?;
            send(socket, &answer)?;
            pace.spent(began);
        }
    }

    fn answer(&mut self, request: Request) -> Result<Answer, End> {
        let Some(place) = &self.place else {
            return Err(End::Closed);
        };
        Ok(match request {
            Request::PollThreads => {
                let fresh = self.polled.is_some_and(|at| at.elapsed() < POLL_AGAIN);
                match fresh {
                    true => Answer::Done,
                    false => {
                        let polled = self.shared.kernel.poll_threads(place);
                        self.polled = Some(Instant::now());
                        polled.map_or_else(
                            |error| Answer::Failed(error.to_string()),
                            |()| Answer::Done,
                        )
                    }
                }
            }
            Request::Counters { containers } => {
                if containers.len() > CONTAINERS_MAX {
                    let reason = format!("{} containers at once", containers.len());
                    return Err(End::Refused(Cause::Protocol, reason));
                }
                let view = PodView {
                    kernel: &self.shared.kernel,
                    place,
                };
                match view.counters(&containers, &self.lookup, &mut self.gone) {
                    Ok(counters) => Answer::Counters(counters),
                    Err(error) => Answer::Failed(error.to_string()),
                }
            }
            Request::Container(cgroup) => {
                let mut facts = self.lookup.container(cgroup);
                facts.name.truncate(facts.name.floor_char_boundary(1024));
                Answer::Container(facts)
            }
            Request::Process(pid) => Answer::Process(fitting(self.lookup.process(pid))),
            Request::Published(pid) => {
                let view = PodView {
                    kernel: &self.shared.kernel,
                    place,
                };
                let mut resource = view.published(pid, &mut self.lookup);
                resource.truncate(PUBLISHED_MAX);
                Answer::Published(resource)
            }
            Request::Descriptor { pid, fd } => {
                let mut target = self.lookup.descriptor(pid, fd);
                target.iter_mut().for_each(cut_target);
                Answer::Descriptor(target)
            }
            Request::Threads { after } => {
                let without = self.shared.kernel.excluded();
                Answer::Threads(self.lookup.threads(after, THREADS_MAX, &without))
            }
            Request::ThreadFacts(tids) => {
                if tids.len() > THREAD_FACTS_MAX {
                    let reason = format!("{} threads at once", tids.len());
                    return Err(End::Refused(Cause::Protocol, reason));
                }
                let facts = tids.iter().filter_map(|tid| self.lookup.thread(*tid));
                Answer::ThreadFacts(facts.collect())
            }
            Request::Network { pid, sockets } => {
                if sockets.len() > SOCKETS_MAX {
                    let reason = format!("{} sockets at once", sockets.len());
                    return Err(End::Refused(Cause::Protocol, reason));
                }
                Answer::Network(self.lookup.network(pid, &sockets))
            }
            Request::Resources(containers) => {
                if containers.len() > RESOURCES_MAX {
                    let reason = format!("resources of {} containers at once", containers.len());
                    return Err(End::Refused(Cause::Protocol, reason));
                }
                let view = PodView {
                    kernel: &self.shared.kernel,
                    place,
                };
                Answer::Resources(view.resources(&containers, &mut self.lookup))
            }
            Request::Status => Answer::Status(self.shared.status()),
            Request::Join(_) => {
                return Err(End::Refused(Cause::Protocol, "it joined twice".to_owned()));
            }
        })
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            match self.shared.kernel.remove_pod(place.index) {
                Ok(()) => tracing::info!(pod = place.index, "a sidecar has gone"),
                Err(error) => tracing::error!(%error, "the room of a pod could not be given back"),
            }
        }
        self.shared.seats().leave(self.key);
        if self.joined {
            self.shared.served.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
