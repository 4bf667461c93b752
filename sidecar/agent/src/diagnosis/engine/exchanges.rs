//! Requests and answers.

use stethos_patterns::Role;
use stethos_patterns::descriptors::Exchange;

use super::Engine;
use crate::diagnosis::evidence::Good;
use crate::diagnosis::signal::Signal;
use crate::diagnosis::signals::exchanges::{Beside, place_of};
use crate::diagnosis::signals::network::Waiting;
use crate::diagnosis::signals::stuck;
use crate::record::{ContainerIndex, HttpHead};

impl Engine {
    /// A finished exchange of a container.
    pub fn on_exchange(&mut self, container: ContainerIndex, exchange: &Exchange) {
        let peer = self.peer_of(exchange);
        if exchange.role == Role::Client {
            self.pod.on_talk(container, &peer);
        } else if exchange.failed.is_none() && !self.reduced {
            self.flood.answered(container, Some(exchange.pid), 1);
        }
        let Some(model) = self.models.get(&container) else {
            return;
        };
        if self.reduced {
            self.errors.exchange_failed(exchange, &peer);
        }
        let in_vain =
            exchange.role == Role::Client && self.network.ended(container, exchange, &peer, model);
        let beside = Beside {
            model,
            pod: &self.pod,
            limit: (!self.reduced).then_some(self.limit),
            in_vain,
        };
        let judged = self.exchanges.judge(container, exchange, &peer, &beside);
        if !self.reduced {
            self.unkept.answered(container, exchange, &peer, model);
        }
        self.advance(exchange.received_ns);
        if judged.answered {
            let good = match exchange.role {
                Role::Server => Good::Served,
                _ => Good::Answer { peer: &peer },
            };
            self.board.relieve(container, good, exchange.received_ns);
        }
        judged
            .signal
            .into_iter()
            .for_each(|signal| self.take(signal));
        self.step();
    }

    pub(super) fn on_head(&mut self, head: &HttpHead) {
        self.advance(head.at_ns);
        if self.reduced || head.at_ns < self.stalled_until {
            return;
        }
        let judged = self.models.contains_key(&head.container);
        if let Some(judged) = self.failing.observe(head, judged, self.limit) {
            self.judged(head.container, judged, head.at_ns);
        }
    }

    /// Judges which connections were kept.
    pub(super) fn judge_kept(&mut self) {
        if self.now < self.stalled_until {
            return;
        }
        let models = &self.models;
        let judged = self
            .unkept
            .settle(self.now, |c| models.get(&c), &self.pod, self.limit);
        for (container, judged) in judged {
            self.judged(container, judged, self.now);
        }
    }

    /// The exchanges of a container that have no answer yet; at every tick.
    pub fn on_pending(&mut self, container: ContainerIndex, pending: &[Exchange]) {
        let Some(model) = self.models.get(&container) else {
            return;
        };
        if self.now < self.stalled_until {
            return;
        }
        for exchange in pending.iter().filter(|e| e.role == Role::Client) {
            let waiting = Waiting {
                place: place_of(container, exchange),
                peer: self.peer_of(exchange),
                told_ns: self.now,
                in_vain: false,
            };
            self.network.waits(waiting, model);
        }
        let signals: Vec<Signal> = pending
            .iter()
            .filter_map(|exchange| {
                let peer = self.peer_of(exchange);
                stuck::judge(container, exchange, &peer, self.now, model, &self.exchanges)
            })
            .collect();
        signals.into_iter().for_each(|signal| self.take(signal));
        self.step();
    }

    fn peer_of(&self, exchange: &Exchange) -> String {
        let known = exchange.peer.as_deref();
        known
            .or_else(|| self.pod.peer(exchange.pid, exchange.fd))
            .unwrap_or_default()
            .to_owned()
    }
}
