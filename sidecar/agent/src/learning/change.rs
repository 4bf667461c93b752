//! What learning says of a container.

use std::sync::Arc;

use stethos_bundle::Bundle;

use super::progress::Ready;
use crate::record::ContainerIndex;

/// What changed for a container.
#[derive(Clone, Debug)]
pub enum Change {
    /// `meanwhile`: models of another version of its image are in force until its own are learned.
    Learning {
        container: ContainerIndex,
        meanwhile: Option<Meanwhile>,
    },
    /// A learning that an operator asked for by accepting an incident. The present models stay in
    /// force until it is done; `bundle` holds them where they are not in force yet.
    Relearning {
        container: ContainerIndex,
        id: String,
        bundle: Option<Arc<Bundle>>,
    },
    /// A learning goes on that an earlier process began, which saw so many calls.
    Resumed {
        container: ContainerIndex,
        calls: u64,
    },
    Training {
        container: ContainerIndex,
        ready: Ready,
        calls: u64,
        windows: u64,
    },
    /// A new version of its image is learned. Models of the older one stay in force until more
    /// replicas have seen it healthy.
    Proving { container: ContainerIndex },
    /// A bundle is in force.
    Watching {
        container: ContainerIndex,
        bundle: Arc<Bundle>,
        id: String,
        source: Source,
    },
    Failed {
        container: ContainerIndex,
        reason: String,
    },
}

/// Where models in force come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Trained,
    StateDirectory,
    /// The store that replicas share.
    Store,
}

impl Source {
    pub fn name(self) -> &'static str {
        match self {
            Source::Trained => "trained",
            Source::StateDirectory => "state_dir",
            Source::Store => "store",
        }
    }
}

/// Models of another version of an image, with widened thresholds.
#[derive(Clone, Debug)]
pub struct Meanwhile {
    pub bundle: Arc<Bundle>,
    /// Of the bundle as it was learned.
    pub id: String,
}

impl Meanwhile {
    pub(super) fn new(mut bundle: Bundle, id: String) -> Self {
        if !bundle.card.widened {
            bundle.thresholds = bundle.thresholds.widened();
        }
        Self {
            bundle: Arc::new(bundle),
            id,
        }
    }
}

impl Change {
    pub fn container(&self) -> ContainerIndex {
        match self {
            Change::Learning { container, .. }
            | Change::Relearning { container, .. }
            | Change::Resumed { container, .. }
            | Change::Training { container, .. }
            | Change::Proving { container }
            | Change::Watching { container, .. }
            | Change::Failed { container, .. } => *container,
        }
    }

    pub(super) fn watching(
        container: ContainerIndex,
        bundle: Bundle,
        id: String,
        source: Source,
    ) -> Self {
        Change::Watching {
            container,
            id,
            bundle: Arc::new(bundle),
            source,
        }
    }
}
