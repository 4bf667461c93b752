//! How many windows of real servers the plugin need not score, because it has scored them before.
//!
//! A bundle is trained on a product's run `train`, and its run `normal` goes through the stages of the
//! sidecar: records become windows, those that begin within one poll of the capture are judged at once,
//! and the plugin's own counters say what came from its cache. Every call was recorded; a sidecar that
//! has learned ships what is familiar only as samples.

use std::{collections::BTreeSet, path::Path};

use anyhow::Context as _;
use stethos::{config::PluginsConfig, models::Models, plugin::PluginSnapshot};
use stethos_bundle::Bundle;
use stethos_patterns::{Vocabulary, Window};

use crate::{corpus::labels, figures::Figures, training::train};

/// How often the capture is polled.
const POLL_NS: u64 = 25_000_000;

struct Judged {
    plugin: PluginSnapshot,
    /// Distinct windows as the plugin sees them: pattern and tokens.
    distinct: usize,
    seconds: f64,
}

pub(crate) fn run(folder: &Path) -> anyhow::Result<Figures> {
    let labels = labels(folder)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut figures = Figures::default();
    for label in labels.iter().filter(|label| label.run == "train") {
        let product = &label.product;
        let of_product = labels.iter().filter(|other| other.product == *product);
        let Some(normal) = { of_product }.find(|other| other.run == "normal") else {
            continue;
        };
        eprintln!("hits of the cache for {product}");
        // Vocabulary and patterns decide what hits; weights do not.
        let (bundle, _) = train(&label.file, &["--time-limit", "10s"]).context(product.clone())?;
        let windows = normal.read()?.windows;
        let judged = runtime
            .block_on(judge(&bundle, windows))
            .context(product.clone())?;
        for (name, value, unit) in judged.figures() {
            figures.add(&format!("plugin.cache.{product}.{name}"), value, unit);
        }
    }
    Ok(figures)
}

async fn judge(bundle: &Bundle, windows: Vec<Window>) -> anyhow::Result<Judged> {
    let mut models = Models::for_replay(&PluginsConfig::default(), None)?;
    models.begin();
    models
        .watch(0, &bundle.card.container, None, bundle, &bundle.id())
        .await?;
    let first_ns = windows.first().map_or(0, Window::start_ns);
    let last_ns = windows.last().map_or(0, Window::start_ns);
    let vocabulary = Vocabulary::new(bundle.vocabulary.iter().copied());
    let mut distinct = BTreeSet::new();
    let same_time = |a: &Window, b: &Window| {
        let part = |window: &Window| (window.start_ns() - first_ns) / POLL_NS;
        part(a) == part(b)
    };
    for gathered in windows.chunk_by(same_time) {
        for judged in models.judge(gathered.to_vec()).await {
            judged.verdict.context("a window was not judged")?;
            let calls = judged.window.calls.iter();
            let tokens: Vec<u16> = calls.map(|call| vocabulary.id(&call.token)).collect();
            distinct.insert((judged.pattern, tokens));
        }
    }
    let plugin = models.plugins().next().context("no plugin has started")?;
    Ok(Judged {
        plugin: plugin.metrics(),
        distinct: distinct.len(),
        seconds: last_ns.saturating_sub(first_ns) as f64 / 1e9,
    })
}

impl Judged {
    fn figures(&self) -> [(&'static str, Option<f64>, &'static str); 5] {
        let PluginSnapshot {
            windows,
            cache_hits,
            guest_time,
            ..
        } = self.plugin;
        let share = |part: f64, whole: f64| (whole > 0.0).then(|| 100.0 * part / whole);
        [
            ("windows", Some(windows as f64), "windows"),
            ("distinct", Some(self.distinct as f64), "windows"),
            ("hits", share(cache_hits as f64, windows as f64), "%"),
            (
                "hits_at_most",
                share(
                    windows.saturating_sub(self.distinct as u64) as f64,
                    windows as f64,
                ),
                "%",
            ),
            (
                "guest",
                share(guest_time.as_secs_f64(), self.seconds),
                "% of a core",
            ),
        ]
    }
}
