//! Which models are in force, and what is accepted beside them.

use stethos_bundle::Bundle;

use super::Pipeline;
use crate::{
    diagnosis::observation::ContainerModel,
    learning::{Change, change::Meanwhile},
    record::ContainerIndex,
};

impl Pipeline {
    /// Puts a bundle in force for a container. An error means that no plugin takes its model: then
    /// the container is diagnosed by what else was learned of it.
    pub async fn watch(
        &mut self,
        container: ContainerIndex,
        bundle: &Bundle,
    ) -> anyhow::Result<()> {
        self.still_learning.remove(&container);
        self.put_in_force(container, bundle, &bundle.id()).await
    }

    async fn put_in_force(
        &mut self,
        container: ContainerIndex,
        bundle: &Bundle,
        id: &str,
    ) -> anyhow::Result<()> {
        let name = self.name(container);
        if let Some(engine) = &mut self.engine {
            engine.watch(container, ContainerModel::from(bundle));
        }
        let image = self.info(container).and_then(|info| info.image.clone());
        let models = &mut self.models;
        models
            .watch(container, &name, image.as_deref(), bundle, id)
            .await
    }

    pub(super) async fn apply(&mut self, change: &Change) {
        if let (Some(engine), Some(learning)) = (&mut self.engine, &self.learning) {
            let container = change.container();
            engine.set_accepted(container, learning.accepted(container));
        }
        let (container, bundle, id) = match change {
            Change::Watching {
                container,
                bundle,
                id,
                ..
            } => {
                self.still_learning.remove(container);
                (*container, bundle, id)
            }
            Change::Learning {
                container,
                meanwhile: Some(Meanwhile { bundle, id }),
            } => {
                self.still_learning.insert(*container);
                (*container, bundle, id)
            }
            Change::Relearning {
                container,
                id,
                bundle,
            } => {
                self.still_learning.insert(*container);
                match bundle {
                    Some(bundle) => (*container, bundle, id),
                    None => {
                        if let Some(attention) = &mut self.attention {
                            attention.learned_anew();
                        }
                        return;
                    }
                }
            }
            _ => return,
        };
        if let Err(error) = self.put_in_force(container, bundle, id).await {
            let container = self.name(container);
            tracing::error!(%error, container, "diagnosis goes on without models");
        }
    }
}
