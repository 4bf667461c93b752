//! Which type of application a container is: every plugin says how well its own fits.

use std::sync::Arc;

use stethos_patterns::usage::Usage;

use crate::plugin::{Plugin, PluginHost, TYPE_COMPONENTS};

/// The type of what no plugin claims.
pub const GENERIC: &str = "generic";
/// From this fit on a plugin claims a container.
const CLAIMS: f32 = 0.5;

/// How well an application type fits a container, 0…1.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    pub application_type: String,
    pub fit: f32,
}

/// The plugins that are asked.
pub(super) struct Asked {
    host: Arc<PluginHost>,
}

impl Asked {
    pub(super) fn new(host: Arc<PluginHost>) -> Self {
        Self { host }
    }

    /// Best first: what the built-in plugins and `configured` ones say of a container. A plugin that
    /// fails says nothing.
    pub(super) async fn fits(
        &self,
        usage: &Usage,
        configured: impl Iterator<Item = &Plugin>,
    ) -> Vec<Fit> {
        if usage.rows.is_empty() {
            return Vec::new();
        }
        let host = self.host.clone();
        let started = tokio::task::spawn_blocking(move || start(&host));
        let builtin = started.await.unwrap_or_default();
        let mut fits = Vec::new();
        // Of equal ones the configured comes first.
        for plugin in configured.cloned().chain(builtin) {
            match plugin.fit(usage).await {
                Ok(fit) => fits.push(Fit {
                    application_type: plugin.description().application_type.clone(),
                    fit,
                }),
                Err(error) => tracing::warn!(%error, "a plugin does not say how well it fits"),
            }
        }
        fits.sort_by(|a, b| b.fit.total_cmp(&a.fit));
        fits
    }
}

/// The built-in plugins that tell types; they are small, and end when they have been asked.
fn start(host: &PluginHost) -> Vec<Plugin> {
    let mut plugins = Vec::new();
    for (name, component) in TYPE_COMPONENTS
        .into_iter()
        .filter(|(_, bytes)| !bytes.is_empty())
    {
        match host.load(name, component) {
            Ok(plugin) => plugins.push(plugin),
            Err(error) => tracing::error!(%error, "a built-in plugin does not start"),
        }
    }
    plugins
}

/// The type that fits best, where one fits.
pub fn best(fits: &[Fit]) -> &str {
    let claimed = fits.first().filter(|best| best.fit >= CLAIMS);
    claimed.map_or(GENERIC, |best| &best.application_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_fit_names_the_type_and_a_stranger_has_none() {
        let fit = |application_type: &str, fit| Fit {
            application_type: application_type.to_owned(),
            fit,
        };
        assert_eq!(best(&[]), GENERIC);
        assert_eq!(best(&[fit("jvm", 0.49), fit("node", 0.2)]), GENERIC);
        assert_eq!(best(&[fit("jvm", 0.5), fit("node", 0.2)]), "jvm");
    }
}
