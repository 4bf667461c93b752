//! `stethos record`: what capture sees, into a file.

use super::{args::RecordArgs, capture_settings, recorder::Recorder, terminated::terminated};
use crate::{capture, config::Config};

pub(super) fn run(config: &Config, args: &RecordArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(record(config, args))
}

async fn record(config: &Config, args: &RecordArgs) -> anyhow::Result<()> {
    let mut live = capture::start_with(
        &config.capture.node(),
        &config.target,
        capture_settings(&config.capture, &config.trace),
    )?;
    let mut recorder = Recorder::create(&args.output, &live.header)?;
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
        recorder.write(&batch)?;
    }
    recorder.finish()
}
