//! `stethos record`: what capture sees, into a file.

use std::{
    fs::File,
    io::BufWriter,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{args::RecordArgs, capture_settings, terminated::terminated};
use crate::{
    capture::{
        self,
        recording::{RecordingWriter, WriteError},
    },
    config::Config,
    record::Record,
};

/// A line of progress is logged this often.
const REPORT: Duration = Duration::from_secs(10);

pub(super) fn run(config: &Config, args: &RecordArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(record(config, args))
}

async fn record(config: &Config, args: &RecordArgs) -> anyhow::Result<()> {
    let path = args.output.display();
    let mut live = capture::start_with(
        &config.capture.node(),
        &config.target,
        capture_settings(&config.capture, &config.trace),
    )?;
    let file = File::create(&args.output).with_context(|| format!("cannot write {path}"))?;
    let mut writer = RecordingWriter::new(BufWriter::new(file), &live.header)
        .with_context(|| format!("cannot write {path}"))?;
    tracing::info!(%path, "recording");

    let mut stop = std::pin::pin!(async {
        match args.duration {
            Some(duration) => tokio::select! {
                () = tokio::time::sleep(duration) => {}
                () = terminated() => {}
            },
            None => terminated().await,
        }
    });
    let mut stopping = false;
    let mut report = Instant::now() + REPORT;
    let mut accounts = Vec::new();
    let mut left_out = 0u64;
    loop {
        let batch = tokio::select! {
            () = &mut stop, if !stopping => {
                stopping = true;
                live.stop.ask();
                continue;
            }
            batch = live.records.recv() => batch,
        };
        let Some(batch) = batch else { break };
        for record in &batch {
            match writer.write(record) {
                Err(error @ WriteError::RecordTooLarge { .. }) => {
                    left_out += 1;
                    tracing::warn!(%error, "a record is left out");
                }
                written => written.with_context(|| format!("cannot write {path}"))?,
            }
            if let Record::Tick(tick) = record {
                accounts.clone_from(&tick.accounts);
            }
        }
        if Instant::now() >= report {
            report += REPORT;
            tracing::info!(written = %writer.written(), "recording");
        }
    }
    let (file, counts) = writer
        .finish()
        .with_context(|| format!("cannot write {path}"))?;
    file.into_inner()
        .map_err(|error| error.into_error())
        .and_then(|file| file.sync_all())
        .with_context(|| format!("cannot write {path}"))?;
    let lost: u64 = accounts
        .iter()
        .map(|(_, account)| account.lost_ring_full + account.lost_no_slot + account.lost_decode)
        .sum();
    tracing::info!(%counts, lost, left_out, "recorded");
    Ok(())
}
