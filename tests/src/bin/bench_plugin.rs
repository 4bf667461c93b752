//! Windows a second through the next-token model: `bench-plugin guest` in the built-in plugin's
//! component as the sidecar runs it, `bench-plugin native` in the same code compiled for this
//! machine. The windows are random, all different and 32 tokens long; the model is random, of the
//! sizes that the trainer makes by default. Prints `windows_per_second VALUE` and, for the guest,
//! what the component costs.

use std::env;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use stethos::plugin::{GENERIC_COMPONENT, HostConfig, PluginHost, TokenWindow};
use stethos_plugin_sdk::sample::SampleSize;
use stethos_plugin_sdk::{Model, Window};

const LENGTH: usize = 32;
/// Windows in one call.
const BATCH: usize = 64;
const BATCHES: usize = 100;

fn main() -> Result<()> {
    let size = SampleSize::default();
    let model = size.model(1)?;
    let batches: Vec<Vec<Window>> = (0..BATCHES as u64)
        .map(|seed| size.windows(BATCH, LENGTH, seed))
        .collect();
    let taken = match env::args().nth(1).as_deref() {
        Some("guest") => guest(model, &batches)?,
        Some("native") => native(&model, &batches)?,
        _ => bail!("usage: bench-plugin guest | native"),
    };
    line(
        "windows_per_second",
        (BATCH * BATCHES) as f64 / taken.as_secs_f64(),
    );
    Ok(())
}

/// Time inside the guest; the first batch is not counted.
fn guest(model: Vec<u8>, batches: &[Vec<Window>]) -> Result<Duration> {
    ensure!(
        !GENERIC_COMPONENT.is_empty(),
        "built without the generic plugin: `cargo xtask build`"
    );
    let folder = tempfile::tempdir()?;
    let config = HostConfig {
        cached_verdicts: 1,
        compiled: Some(folder.path().into()),
        deadline: Duration::from_secs(10),
        ..HostConfig::default()
    };
    let load = || {
        let begin = Instant::now();
        let plugin = PluginHost::new(config.clone())?.load("generic", GENERIC_COMPONENT)?;
        anyhow::Ok((plugin, begin.elapsed().as_secs_f64() * 1000.0))
    };
    let (_, compiling) = load()?;
    let (plugin, ready) = load()?;
    line("component_bytes", GENERIC_COMPONENT.len() as f64);
    line("compiled_ms", compiling);
    line("ready_from_cache_ms", ready);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let begin = Instant::now();
        let model = plugin.load_model(model.into()).await?.id;
        line("model_loaded_ms", begin.elapsed().as_secs_f64() * 1000.0);
        let mut before = plugin.metrics();
        for (number, batch) in batches.iter().chain([&batches[0]]).enumerate() {
            let windows = batch.iter().map(|window| TokenWindow {
                pattern: window.pattern,
                tokens: window.tokens.clone(),
            });
            plugin.score(model, windows.collect()).await?;
            if number == 0 {
                before = plugin.metrics();
            }
        }
        let after = plugin.metrics();
        line("guest_memory_bytes", after.memory_bytes as f64);
        ensure!(
            after.cache_hits == 0,
            "{} windows came from the cache",
            after.cache_hits
        );
        Ok(after.guest_time - before.guest_time)
    })
}

fn native(model: &[u8], batches: &[Vec<Window>]) -> Result<Duration> {
    let mut model = Model::read(model)?;
    model.score(&batches[0])?;
    let begin = Instant::now();
    for batch in batches {
        model.score(batch)?;
    }
    Ok(begin.elapsed())
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn line(name: &str, value: f64) {
    println!("{name} {value}");
}
