//! A bundle in the built-in plugin, as the sidecar uses it.

use stethos::{config::PluginsConfig, models::Models, record::Nanos};
use stethos_bundle::Bundle;
use stethos_patterns::{Window, score::window_score};
use tokio::runtime::Runtime;

/// Windows in one call of the plugin.
const BATCH: usize = 512;

pub(crate) struct Judge {
    runtime: Runtime,
    models: Models,
}

impl Judge {
    pub(crate) fn new(bundle: &Bundle) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let models = runtime.block_on(async {
            let config = PluginsConfig {
                deadline: std::time::Duration::from_secs(60),
                ..PluginsConfig::default()
            };
            let mut models = Models::for_replay(&config, None)?;
            models.begin();
            models
                .watch(0, &bundle.card.container, None, bundle, &bundle.id())
                .await?;
            anyhow::Ok(models)
        })?;
        Ok(Self { runtime, models })
    }

    /// How strange each window is.
    pub(crate) fn scores(&mut self, windows: &[Window]) -> anyhow::Result<Vec<f64>> {
        let surprises = self.surprises(windows)?;
        Ok(surprises.iter().map(|one| window_score(one)).collect())
    }

    /// The surprise of each call of each window, nats.
    pub(crate) fn surprises(&mut self, windows: &[Window]) -> anyhow::Result<Vec<Vec<f32>>> {
        let mut scores = Vec::with_capacity(windows.len());
        for batch in windows.chunks(BATCH) {
            let judged = self.runtime.block_on(self.models.judge(batch.to_vec()));
            for window in judged {
                let verdict = window.verdict;
                let verdict = verdict.ok_or_else(|| anyhow::anyhow!("no verdict"))?;
                scores.push(verdict.surprise);
            }
        }
        Ok(scores)
    }

    /// Time and stability of each interval of windows that come in order.
    pub(crate) fn stability(&mut self, windows: &[Window]) -> Vec<(Nanos, f64)> {
        const STEP_NS: u64 = 250_000_000;
        let mut all = Vec::new();
        let mut next_ns = windows.first().map_or(0, Window::start_ns) + STEP_NS;
        let mut batch = Vec::new();
        for window in windows {
            if window.start_ns() >= next_ns {
                let taken = std::mem::take(&mut batch);
                self.runtime.block_on(self.models.judge(taken));
                let assessed = self.runtime.block_on(self.models.assess(next_ns));
                all.extend(assessed.iter().map(|one| (one.at_ns, one.stability)));
                next_ns = window.start_ns() + STEP_NS;
            }
            batch.push(window.clone());
        }
        all
    }
}
