//! `stethos run`: the sidecar.

mod operator;
mod telling;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde_json::Value;

use super::{
    args::RunArgs, capture_settings, diagnosis_config, learning, measured::Measured,
    recorder::Recorder, terminated::terminated,
};
use crate::{
    capture::{
        self,
        reader::monotonic_ns,
        reduction::{ContextTokens, NoRoom, SharedReducer},
    },
    config::{Config, upstream},
    control::Control,
    diagnosis::attention::{Familiar, Order},
    export::{self, ExportConfig, Exporter, OutboxConfig, PodInfo, TlsFiles},
    learning::Learning,
    models::Models,
    passthrough::{Passthrough, PassthroughConfig},
    pipeline::{Outcome, Pipeline},
    record::{OwnSpan, Record},
};

/// Time that the last diagnoses and learned models have to leave.
const GRACE: Duration = Duration::from_secs(5);

pub(super) fn run(config: &Config, args: &RunArgs) -> anyhow::Result<()> {
    let state_dir = &config.state_dir;
    std::fs::create_dir_all(state_dir)
        .with_context(|| format!("state_dir {} cannot be made", state_dir.display()))?;
    let capture = capture::prepare(
        &config.capture.node(),
        &config.target,
        capture_settings(&config.capture, &config.trace),
    )?;
    // Before any other thread, and before any plugin.
    capture.give_up_rights()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let result = runtime.block_on(sidecar(config, args, capture));
    // A plugin that is still compiled is not waited for.
    runtime.shutdown_background();
    result
}

async fn sidecar(
    config: &Config,
    args: &RunArgs,
    capture: capture::Prepared,
) -> anyhow::Result<()> {
    let mut models = Models::new(&config.plugins, config.state_dir.join("compiled"))?;
    let exporter = config.export.otlp.then(|| exporter(config)).transpose()?;
    let store = learning::store(config)?;
    let capture::Live {
        header,
        mut records,
        stop,
        reducer,
        ..
    } = capture.begin()?;
    let record = args.record.as_deref();
    let mut recorder = record
        .map(|path| Recorder::create(path, &header))
        .transpose()?;
    models.begin();
    let mut learning = Learning::new(learning::settings(config), &header)?;
    if let Some(store) = store {
        learning.share(store);
    }
    let diagnosis = config
        .diagnosis
        .enabled
        .then(|| diagnosis_config(&config.diagnosis));
    tracing::info!(
        target = header.target,
        mode = header.capture_mode,
        "capturing"
    );
    let offset = header.unix_offset_ns;
    let mut passthrough = match passthrough(config)? {
        Some(through) => Some(Passthrough::start(&through, monotonic_ns, offset).await?),
        None => None,
    };
    let mut pipeline = Pipeline::new(header, models, Some(learning), diagnosis);
    pipeline.set_pod(PodInfo::read(&config.export.pod_info));
    if config.capture.reduce {
        pipeline.reduce();
    }
    let mut sidecar = Sidecar {
        pipeline,
        exporter,
        reducer,
        json: config.json,
        told: Instant::now(),
        measured: Measured::default(),
    };

    let mut control = Control::listen(&config.state_dir)
        .inspect_err(|error| tracing::warn!(%error, "`stethos accept` and `mute` do not work"))
        .ok();
    let mut end = std::pin::pin!(terminated());
    let mut ending = false;
    loop {
        let batch = tokio::select! {
            () = &mut end, if !ending => {
                ending = true;
                stop.ask();
                continue;
            }
            Some(command) = operator::next(&mut control) => {
                sidecar.obey(command).await?;
                continue;
            }
            spans = own_spans(&mut passthrough), if !ending => {
                Some(spans.into_iter().map(Record::Span).collect())
            }
            batch = records.recv() => batch,
        };
        let Some(batch) = batch else { break };
        if let Some(open) = &mut recorder
            && let Err(error) = open.write(&batch)
        {
            tracing::error!("the recording ends here: {error:#}");
            recorder = None;
        }
        let outcome = sidecar.pipeline.on_batch(&batch).await;
        sidecar.tell(outcome)?;
    }
    if let Some(recorder) = recorder
        && let Err(error) = recorder.finish()
    {
        tracing::error!("the recording has no end: {error:#}");
    }
    let export = async {
        if let Some(exporter) = sidecar.exporter {
            let stats = exporter.shutdown(GRACE).await;
            tracing::info!(?stats, "exported");
        }
    };
    tokio::join!(export, sidecar.pipeline.settle(GRACE));
    if ending {
        Ok(())
    } else {
        anyhow::bail!("the capture ended by itself")
    }
}

/// Where it is on.
fn passthrough(config: &Config) -> anyhow::Result<Option<PassthroughConfig>> {
    let settings = &config.trace.passthrough;
    if settings.listen.is_empty() {
        return Ok(None);
    }
    let tls = TlsFiles::general(&|name| std::env::var(name).ok())?;
    Ok(Some(PassthroughConfig {
        listen: settings.listen.clone(),
        grpc: upstream(&settings.grpc),
        http: upstream(&settings.http),
        certificate: tls.certificate,
        client: tls.client_certificate.zip(tls.client_key),
    }))
}

/// The spans of the next request that applications send.
async fn own_spans(passthrough: &mut Option<Passthrough>) -> Vec<OwnSpan> {
    match passthrough {
        Some(passthrough) => passthrough.next().await,
        None => std::future::pending().await,
    }
}

fn exporter(config: &Config) -> anyhow::Result<Exporter> {
    let mut export = ExportConfig::from_environment()?;
    export.spans_per_minute = config.export.spans_per_minute;
    let bytes = config.export.outbox.bytes();
    export.outbox = (bytes > 0).then(|| OutboxConfig {
        folder: config.state_dir.join("outbox"),
        bytes,
    });
    Ok(Exporter::new(export)?)
}

struct Sidecar {
    pipeline: Pipeline,
    exporter: Option<Exporter>,
    reducer: SharedReducer,
    json: bool,
    told: Instant,
    measured: Measured,
}

impl Sidecar {
    /// Hands on what came of a batch: to the collector, to standard output, to the log.
    fn tell(&mut self, outcome: Outcome) -> anyhow::Result<()> {
        self.carry_out(&outcome.orders);
        if let Some(sockets) = &outcome.sockets {
            self.reducer.lock().look_at(sockets.clone());
        }
        for change in &outcome.changes {
            self.tell_change(change)?;
        }
        for published in &outcome.published {
            let Some(line) = export::to_json(published) else {
                continue;
            };
            let text = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or_default();
            tracing::info!(
                incident = text("stethos.incident.id"),
                state = text("stethos.incident.state"),
                class = text("error.type"),
                "{}",
                text("body")
            );
            self.print(&line)?;
        }
        if let Some(tick) = &outcome.tick {
            self.tell_progress(tick)?;
        }
        if let Some(exporter) = &mut self.exporter {
            self.measured
                .take(&outcome, &mut self.pipeline, exporter.meters());
            exporter.publish(&outcome.published);
            if let Some(tick) = &outcome.tick {
                exporter.tick(tick.at_ns);
            }
        }
        Ok(())
    }

    /// Steers what the kernel ships.
    fn carry_out(&mut self, orders: &[Order]) {
        if orders.is_empty() {
            return;
        }
        let now = monotonic_ns();
        let (mut learned, mut refused) = (0, 0);
        let mut without_row = BTreeSet::new();
        let mut reducer = self.reducer.lock();
        for order in orders {
            match order {
                Order::Learn {
                    container,
                    familiar,
                    ceiling,
                } => {
                    let Some(cgroup) = reducer.cgroup(*container) else {
                        continue;
                    };
                    let result = match familiar {
                        Familiar::Context(context) => {
                            reducer.learn(cgroup, ContextTokens(*context), *ceiling)
                        }
                        Familiar::Answers(peer) => reducer.learn_answers(cgroup, peer, *ceiling),
                        Familiar::Service => reducer.learn_service(cgroup, *ceiling),
                    };
                    match result {
                        Ok(()) => learned += 1,
                        Err(NoRoom::Rows) => {
                            without_row.insert(*container);
                        }
                        Err(NoRoom::Table) => refused += 1,
                    }
                }
                Order::Forget => reducer.forget(),
                Order::Count { sample } => {
                    reducer.start(*sample, now);
                    tracing::info!(sample, "familiar calls are only counted");
                }
                Order::Ship { reason } => {
                    reducer.stop(now);
                    tracing::info!(reason, "every call is shipped");
                }
            }
        }
        drop(reducer);
        for container in without_row {
            self.pipeline.no_rows(container, now);
        }
        if refused > 0 {
            self.pipeline.no_room(now);
        }
        tracing::debug!(learned, refused, "contexts became familiar");
    }
}
