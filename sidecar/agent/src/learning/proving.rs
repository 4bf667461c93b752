//! New versions of an image: what a replica has learned of one becomes normal once enough replicas have
//! seen it healthy.

use stethos_bundle::Bundle;

use super::{Change, Learning, container::Phase, held::Held, resuming::Earlier};
use crate::record::ContainerIndex;

impl Learning {
    /// Whether what a container has learned takes the place of an older version's models only later.
    pub(super) fn has_to_be_proven(&self, index: ContainerIndex) -> bool {
        let older = self.containers.get(&index).is_some_and(|c| c.older);
        older && self.shared().is_some_and(|store| store.replicas() > 1)
    }

    /// Offers what was learned of a new version and says that it was seen healthy. After a confirmed
    /// fault it is learned again.
    pub(super) fn prove(&mut self, index: ContainerIndex, mut bundle: Bundle) -> Option<Change> {
        let container = self.containers.get_mut(&index)?;
        if std::mem::take(&mut container.spoilt) {
            let name = &container.info.name;
            tracing::info!(
                container = name,
                "a fault was confirmed meanwhile; learning again"
            );
            container.phase = Phase::learning(&self.settings);
            container.held = Held::before(self.now_ns);
            container.earlier = Earlier::default();
            return Some(Change::Learning {
                container: index,
                meanwhile: None,
            });
        }
        container.phase = Phase::Proving;
        container.held = Held::default();
        container.earlier = Earlier::default();
        if let Some(place) = &container.place {
            place.stamp(&mut bundle.card);
        }
        let file = bundle.write();
        self.settle_in();
        match file {
            Ok(file) => self.propose(index, file),
            Err(error) => tracing::warn!(%error, "learned models cannot be shared"),
        }
        Some(Change::Proving { container: index })
    }
}
