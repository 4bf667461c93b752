//! `stethos score`: how strange each sequence of a recording is to a bundle.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Write as _},
    path::Path,
};

use anyhow::{Context as _, bail};
use serde_json::json;
use stethos_bundle::Bundle;
use stethos_patterns::score::window_score;

use super::{args::ScoreArgs, compiled_cache};
use crate::{
    capture::recording::RecordingReader,
    config::PluginsConfig,
    import::sequences::SequenceNames,
    models::Models,
    windows::{Piece, Windows},
};

/// One thread's score so far.
#[derive(Default)]
struct Sequence {
    score: f64,
    tokens: usize,
}

pub(super) fn run(args: &ScoreArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let bytes = std::fs::read(&args.bundle)
            .with_context(|| format!("cannot read {}", args.bundle.display()))?;
        let bundle = Bundle::read(&bytes, &args.bundle.display().to_string())?;
        for path in &args.recordings {
            score(&bundle, path, args.json).await?;
        }
        Ok(())
    })
}

/// A sequence is the stream of one thread; its score is that of its strangest window.
async fn score(bundle: &Bundle, path: &Path, as_json: bool) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let reader = RecordingReader::new(BufReader::new(file), path.display().to_string())?;
    let arch = &reader.header().arch;
    if *arch != bundle.card.arch {
        bail!(
            "{} was recorded on {arch}, the bundle is for {}",
            path.display(),
            bundle.card.arch
        );
    }
    let mut windows = Windows::new(arch);
    let mut names = SequenceNames::new(reader.header());
    let mut models = Models::for_replay(&PluginsConfig::default(), compiled_cache())?;
    models.begin();
    let mut sequences: BTreeMap<(u32, u32), Sequence> = BTreeMap::new();
    let mut pieces = Vec::new();
    for record in reader {
        let record = record?;
        names.on_record(&record);
        windows.on_record(&record, &mut pieces);
    }
    windows.finish(&mut pieces);
    let all: Vec<_> = pieces
        .into_iter()
        .filter_map(|piece| match piece {
            Piece::Window(mut window) => {
                window.container = 0;
                Some(window)
            }
            _ => None,
        })
        .collect();
    models
        .watch(0, &bundle.card.container, None, bundle, &bundle.id())
        .await?;
    for judged in models.judge(all).await {
        let verdict = judged.verdict.context("a window could not be scored")?;
        let sequence = sequences
            .entry((judged.window.pid, judged.window.tid))
            .or_default();
        sequence.tokens += judged.window.calls.len();
        sequence.score = sequence.score.max(window_score(&verdict.surprise));
    }
    let mut out = io::stdout().lock();
    for ((pid, tid), Sequence { score, tokens }) in sequences {
        let name = names.name(pid, tid);
        let name = name.unwrap_or_else(|| format!("{}:{pid}/{tid}", path.display()));
        if as_json {
            writeln!(
                out,
                "{}",
                json!({ "sequence": name, "score": score, "tokens": tokens })
            )?;
        } else {
            writeln!(out, "{score:8.3} {tokens:8} {name}")?;
        }
    }
    Ok(())
}
