//! The built-in plugin's component, loaded as the sidecar loads it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use stethos::plugin::{GENERIC_COMPONENT, HostConfig, PluginHost, TokenWindow};
use stethos_plugin_sdk::{Verdict, Window};

use crate::sample::Sample;
use crate::{Measured, PASSES, line};

/// Time inside the guest; the first pass is not counted. The compiled component is kept in `folder`,
/// and compiling it is timed where it does not lie there.
pub(crate) fn measure(sample: &Sample, folder: &Path) -> Result<Measured> {
    ensure!(
        !GENERIC_COMPONENT.is_empty(),
        "built without the generic plugin: `cargo xtask build`"
    );
    let config = HostConfig {
        cached_verdicts: 1,
        compiled: Some(folder.join("compiled")),
        deadline: Duration::from_secs(10),
        ..HostConfig::default()
    };
    let load = || {
        let begin = Instant::now();
        let host = PluginHost::new(config.clone())?;
        let compiles = host.must_compile(GENERIC_COMPONENT);
        let plugin = host.load("generic", GENERIC_COMPONENT)?;
        anyhow::Ok((compiles, plugin, begin.elapsed().as_secs_f64() * 1000.0))
    };
    let (compiles, first, compiling) = load()?;
    drop(first);
    if compiles {
        line("compiled_ms", compiling);
    }
    let (_, plugin, ready) = load()?;
    line("component_bytes", GENERIC_COMPONENT.len() as f64);
    line("ready_from_cache_ms", ready);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let begin = Instant::now();
        let model = plugin.load_model(sample.model.clone().into()).await?.id;
        line("model_loaded_ms", begin.elapsed().as_secs_f64() * 1000.0);
        let mut passes = Vec::new();
        let mut verdicts = Vec::new();
        for pass in 0..=PASSES {
            let before = plugin.metrics().guest_time;
            for batch in &sample.batches {
                let scored = plugin.score(model, given(batch)).await?;
                if pass == 0 {
                    verdicts.extend(scored.into_iter().map(|verdict| Verdict {
                        surprise: verdict.surprise,
                        expected: verdict.expected,
                    }));
                }
            }
            if pass > 0 {
                passes.push(plugin.metrics().guest_time - before);
            }
        }
        let metrics = plugin.metrics();
        line("guest_memory_bytes", metrics.memory_bytes as f64);
        ensure!(
            metrics.cache_hits == 0,
            "{} windows came from the cache",
            metrics.cache_hits
        );
        Ok(Measured { passes, verdicts })
    })
}

fn given(batch: &[Window]) -> Vec<TokenWindow> {
    let window = |window: &Window| TokenWindow {
        pattern: window.pattern,
        tokens: window.tokens.clone(),
    };
    batch.iter().map(window).collect()
}
