//! What the sidecar says of itself: to standard output, and to the log.

use std::{
    io::{self, Write as _},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::Sidecar;
use crate::{
    diagnosis::{attention::Attention, observation::Stray},
    learning::Change,
    models::application::GENERIC,
    record::Tick,
};

/// Progress of learning is told this often.
const PROGRESS: Duration = Duration::from_secs(5);

impl Sidecar {
    pub(super) fn tell_change(&mut self, change: &Change) -> anyhow::Result<()> {
        let line = match change {
            Change::Learning {
                container,
                meanwhile: None,
            } => {
                let container = self.pipeline.name(*container);
                tracing::info!(container, "learning");
                json!({ "stethos.phase": "learning", "container": container })
            }
            Change::Learning {
                container,
                meanwhile: Some(older),
            } => {
                let container = self.pipeline.name(*container);
                let model = &older.id;
                let text = "learning; models of another version of the image are in force";
                tracing::info!(container, model, "{text}");
                json!({
                    "stethos.phase": "learning",
                    "container": container,
                    "stethos.model.id": model,
                    "model": "older",
                })
            }
            Change::Relearning { container, id, .. } => {
                let container = self.pipeline.name(*container);
                let text = "learning anew what was accepted; the present models are in force";
                tracing::info!(container, model = id, "{text}");
                json!({
                    "stethos.phase": "learning",
                    "container": container,
                    "stethos.model.id": id,
                    "model": "present",
                })
            }
            Change::Resumed { container, calls } => {
                let container = self.pipeline.name(*container);
                tracing::info!(container, calls, "learning goes on from an earlier run");
                json!({
                    "stethos.phase": "learning",
                    "container": container,
                    "resumed_calls": calls,
                })
            }
            Change::Training {
                container,
                ready,
                calls,
                windows,
            } => {
                let container = self.pipeline.name(*container);
                let unseen = ready.unseen_mass;
                tracing::info!(container, unseen, calls, windows, "training");
                json!({
                    "stethos.phase": "training",
                    "container": container,
                    "unseen": unseen,
                    "widened": ready.widened,
                    "calls": calls,
                    "windows": windows,
                })
            }
            Change::Proving { container } => {
                let container = self.pipeline.name(*container);
                let text = "learned; the older version's models stay in force until more replicas have \
                            seen this one healthy";
                tracing::info!(container, "{text}");
                json!({ "stethos.phase": "proving", "container": container })
            }
            Change::Watching {
                container,
                bundle,
                id,
                source,
            } => {
                let models = self.pipeline.models();
                let application_type = models.application_type(*container).unwrap_or(GENERIC);
                let container = self.pipeline.name(*container);
                let card = &bundle.card;
                let source = source.name();
                tracing::info!(
                    container,
                    r#type = application_type,
                    model = id,
                    patterns = card.patterns,
                    tokens = card.vocabulary,
                    source,
                    "watching"
                );
                json!({
                    "stethos.phase": "watching",
                    "container": container,
                    "stethos.application.type": application_type,
                    "stethos.model.id": id,
                    "patterns": card.patterns,
                    "coverage": card.coverage,
                    "silhouette": card.silhouette,
                    "tokens": card.vocabulary,
                    "unseen": card.unseen_mass,
                    "widened": card.widened,
                    "source": source,
                })
            }
            Change::Failed { container, reason } => {
                let container = self.pipeline.name(*container);
                tracing::error!(container, reason, "training failed; learning goes on");
                json!({ "stethos.phase": "failed", "container": container, "reason": reason })
            }
        };
        self.print(&line)
    }

    /// What is captured of one container: totals since the start.
    fn tell_capture(&mut self, tick: &Tick) -> anyhow::Result<()> {
        let reduced = self.reducer.lock().sample().0 != 0;
        let attention = self.pipeline.attention();
        let shipped_because = attention.and_then(Attention::reason);
        for (container, account) in &tick.accounts {
            self.print(&json!({
                "stethos.phase": "capturing",
                "container": self.pipeline.name(*container),
                "seen": account.seen,
                "delivered": account.delivered,
                "counted": account.counted,
                "held": account.held,
                "lost": account.lost(),
                "reduced": reduced,
                "shipped_because": shipped_because.filter(|_| !reduced),
                "strays": strays(self.pipeline.models().strays(*container)),
                "stability": attention.and_then(|attention| attention.stability(*container)),
            }))?;
        }
        Ok(())
    }

    pub(super) fn tell_progress(&mut self, tick: &Tick) -> anyhow::Result<()> {
        if self.told.elapsed() < PROGRESS {
            return Ok(());
        }
        self.told = Instant::now();
        self.tell_capture(tick)?;
        let Some(learning) = self.pipeline.learning() else {
            return Ok(());
        };
        let lines: Vec<Value> = learning
            .progress()
            .map(|(container, progress, model)| {
                tracing::info!(
                    container,
                    unseen = progress.unseen_mass(),
                    calls = progress.calls(),
                    model,
                    "learning"
                );
                json!({
                    "stethos.phase": "learning",
                    "container": container,
                    "unseen": progress.unseen_mass(),
                    "calls": progress.calls(),
                    "windows": progress.windows(),
                    "stethos.model.id": model,
                })
            })
            .collect();
        lines.iter().try_for_each(|line| self.print(line))
    }

    pub(super) fn print(&self, line: &Value) -> anyhow::Result<()> {
        if self.json {
            let mut out = io::stdout().lock();
            writeln!(out, "{line}")?;
            out.flush()?;
        }
        Ok(())
    }
}

/// The furthest, for people.
fn strays(all: &[Stray]) -> Vec<String> {
    all.iter().take(3).map(Stray::to_string).collect()
}
