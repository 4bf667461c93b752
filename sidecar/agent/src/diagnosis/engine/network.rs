//! What the network between the pod and its peers does.

use super::Engine;
use crate::diagnosis::reference::Reference;
use crate::diagnosis::signal::Place;
use crate::diagnosis::signals::network::{Around, Waiting};
use crate::record::{ContainerIndex, NetworkState, ThreadsSnapshot};

impl Engine {
    /// The sockets that the capture is to look at from now on, process and descriptor, where others
    /// were before.
    pub fn sockets(&mut self) -> Option<Vec<(u32, i32)>> {
        self.network.wanted(self.now)
    }

    pub(super) fn on_network(&mut self, state: &NetworkState) {
        self.advance(state.at_ns);
        if self.now < self.stalled_until {
            return;
        }
        let models = &self.models;
        let exchanges = &self.exchanges;
        let around = Around {
            model: &|container: ContainerIndex| models.get(&container),
            last_answer: &|container, peer: &str| exchanges.surely_answered(container, peer),
            learned: models
                .values()
                .filter_map(Reference::sent_again)
                .reduce(f64::max),
            limit: self.limit,
        };
        let signals = self.network.judge(state, &around);
        signals.into_iter().for_each(|signal| self.take(signal));
        self.step();
    }

    /// Connections that are asked for at the moment, with and without waiting.
    pub(super) fn connecting(&mut self, snapshot: &ThreadsSnapshot) {
        let inside = snapshot.threads.iter().filter_map(|thread| {
            let call = thread.inside?;
            let model = self.models.get(&thread.container)?;
            if !model.table.is_connect(call.nr) {
                return None;
            }
            let place = Place {
                container: thread.container,
                pid: thread.pid,
                tid: thread.tid,
                fd: call.fd,
                start_ns: call.enter_ns,
                end_ns: snapshot.at_ns,
            };
            Some((self.pod.peer(thread.pid, call.fd)?, place))
        });
        let asked_for = inside.chain(self.connections.asked_for());
        for (peer, place) in asked_for {
            if let Some(model) = self.models.get(&place.container) {
                let waiting = Waiting {
                    place,
                    peer: peer.to_owned(),
                    told_ns: snapshot.at_ns,
                    in_vain: false,
                };
                self.network.waits(waiting, model);
            }
        }
    }
}
