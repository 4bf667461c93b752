//! What containers use of the machine.

use super::Engine;
use crate::diagnosis::evidence::Good;
use crate::diagnosis::signals::resources::Judged;
use crate::record::{ContainerIndex, Nanos};

impl Engine {
    /// Judges the second that is over.
    pub(super) fn judge_resources(&mut self) {
        if self.now < self.stalled_until {
            return;
        }
        let mut resources = std::mem::take(&mut self.resources);
        let judged = resources.judge(
            |container| self.models.get(&container),
            |container| self.relative_load(container),
            self.limit,
        );
        self.resources = resources;
        for (container, judged) in judged {
            self.judged(container, judged, self.now);
        }
    }

    pub(super) fn judged(&mut self, container: ContainerIndex, judged: Judged, at_ns: Nanos) {
        match judged {
            Judged::Signal(signal) => self.take(signal),
            Judged::Normal(kind) => {
                let good = Good::Eased { kind: &kind };
                self.board.relieve(container, good, at_ns);
            }
            Judged::Unclear => {}
        }
    }
}
