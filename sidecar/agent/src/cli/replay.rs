//! `stethos replay`: the diagnoses that recordings give.

use std::{
    fs::File,
    io::{self, BufReader, Write as _},
    path::Path,
};

use anyhow::{Context as _, bail};
use serde_json::Value;
use stethos_bundle::Bundle;

use super::{args::ReplayArgs, compiled_cache, diagnosis_config};
use crate::{
    capture::recording::RecordingReader, config::Config, export, models::Models,
    pipeline::Pipeline, record::Record,
};

pub(super) fn run(config: &Config, args: &ReplayArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let bundles = args
            .bundles
            .iter()
            .map(|path| {
                let bytes = std::fs::read(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                Ok(Bundle::read(&bytes, &path.display().to_string())?)
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        for path in &args.recordings {
            replay(config, args, &bundles, path).await?;
        }
        Ok(())
    })
}

async fn replay(
    config: &Config,
    args: &ReplayArgs,
    bundles: &[Bundle],
    path: &Path,
) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut reader = RecordingReader::new(BufReader::new(file), path.display().to_string())?;
    let header = reader.header().clone();
    if let Some(foreign) = bundles
        .iter()
        .find(|bundle| bundle.card.arch != header.arch)
    {
        bail!(
            "{} was recorded on {}, the bundle of {} is for {}",
            path.display(),
            header.arch,
            foreign.card.container,
            foreign.card.arch
        );
    }
    let mut models = Models::for_replay(&config.plugins, compiled_cache())?;
    models.begin();
    let mut diagnosis = diagnosis_config(&config.diagnosis);
    if args.calls {
        diagnosis.affected_per_minute = u32::MAX;
    }
    let mut pipeline = Pipeline::new(header, models, None, Some(diagnosis));
    let mut batch = Vec::new();
    let mut cut = None;
    loop {
        // A batch ends with a tick: the same boundaries at every replay.
        let record = match reader.next() {
            Some(Ok(record)) => record,
            Some(Err(error)) if error.is_truncated() => {
                cut = Some(error);
                break;
            }
            Some(Err(error)) => return Err(error.into()),
            None => break,
        };
        let named = match &record {
            Record::Container(info) => Some((info.container, info.name.clone())),
            _ => None,
        };
        let tick = matches!(record, Record::Tick(_));
        batch.push(record);
        if let Some((container, name)) = named {
            step(&mut pipeline, &mut batch, args).await?;
            let own = bundles.iter().find(|bundle| bundle.card.container == name);
            let only = (bundles.len() == 1).then(|| &bundles[0]);
            if let Some(bundle) = own.or(only) {
                pipeline.watch(container, bundle).await?;
            }
        } else if tick {
            step(&mut pipeline, &mut batch, args).await?;
        }
    }
    step(&mut pipeline, &mut batch, args).await?;
    match cut {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

async fn step(
    pipeline: &mut Pipeline,
    batch: &mut Vec<Record>,
    args: &ReplayArgs,
) -> anyhow::Result<()> {
    let outcome = pipeline.on_batch(batch).await;
    batch.clear();
    let mut out = io::stdout().lock();
    for published in &outcome.published {
        let call = args
            .calls
            .then(|| export::call_to_json(published))
            .flatten();
        let Some(line) = call.or_else(|| export::to_json(published)) else {
            continue;
        };
        if args.json {
            writeln!(out, "{line}")?;
        } else {
            let text = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or_default();
            writeln!(
                out,
                "{:9} {:22} {}",
                text("stethos.incident.state"),
                text("error.type"),
                text("body")
            )?;
        }
    }
    Ok(())
}
