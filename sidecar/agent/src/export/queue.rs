//! One bounded queue per signal: gathers records, sends them grouped by resource, tries again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::config::{BatchConfig, ExportConfig};
use super::exporters::{Exporters, Record, requests};
use super::transport::{Courier, Outcome};

const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What became of the records of one signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalStats {
    pub accepted: u64,
    /// Refused by the collector within an otherwise accepted request (partial success).
    pub rejected: u64,
    /// Did not fit the queue.
    pub dropped_full: u64,
    /// Given up: refused for good, or not accepted in time.
    pub dropped_unsent: u64,
    /// Attempts after the first.
    pub retries: u64,
}

#[derive(Debug, Default)]
struct Counters {
    queued: AtomicU64,
    accepted: AtomicU64,
    rejected: AtomicU64,
    dropped_full: AtomicU64,
    dropped_unsent: AtomicU64,
    retries: AtomicU64,
}

impl Counters {
    fn read(&self) -> SignalStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SignalStats {
            accepted: get(&self.accepted),
            rejected: get(&self.rejected),
            dropped_full: get(&self.dropped_full),
            dropped_unsent: get(&self.dropped_unsent),
            retries: get(&self.retries),
        }
    }
}

/// Reads a queue's counters from elsewhere.
#[derive(Clone, Debug)]
pub(super) struct StatsReader(Arc<Counters>);

impl StatsReader {
    pub(super) fn read(&self) -> SignalStats {
        self.0.read()
    }
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// The queue's end that never blocks.
#[derive(Debug)]
pub(super) struct Queue<T> {
    sender: mpsc::Sender<T>,
    counters: Arc<Counters>,
    task: JoinHandle<()>,
}

impl<T: Record> Queue<T> {
    pub(super) fn start(courier: Courier, batch: BatchConfig, config: &ExportConfig) -> Self {
        let (sender, receiver) = mpsc::channel(batch.max_queue.max(1));
        let counters = Arc::new(Counters::default());
        let give_up = batch.export_timeout.unwrap_or(config.retry_for);
        let sending = Sending {
            exporters: Exporters::new(courier),
            batch,
            give_up,
            counters: Arc::clone(&counters),
        };
        Queue {
            sender,
            counters,
            task: tokio::spawn(sending.run(receiver)),
        }
    }

    pub(super) fn push(&self, record: T) {
        match self.sender.try_send(record) {
            Ok(()) => add(&self.counters.queued, 1),
            Err(_) => add(&self.counters.dropped_full, 1),
        }
    }

    pub(super) fn stats(&self) -> SignalStats {
        self.counters.read()
    }

    pub(super) fn stats_reader(&self) -> StatsReader {
        StatsReader(Arc::clone(&self.counters))
    }

    /// Sends what is queued until the deadline; counts the rest as dropped.
    pub(super) async fn close(self, until: Instant) -> SignalStats {
        let Queue {
            sender,
            counters,
            mut task,
        } = self;
        drop(sender);
        if timeout_at(until, &mut task).await.is_err() {
            task.abort();
            let stats = counters.read();
            let done = stats.accepted + stats.rejected + stats.dropped_unsent;
            let left = counters.queued.load(Ordering::Relaxed).saturating_sub(done);
            add(&counters.dropped_unsent, left);
        }
        counters.read()
    }
}

struct Sending<T: Record> {
    exporters: Exporters<T>,
    batch: BatchConfig,
    give_up: Duration,
    counters: Arc<Counters>,
}

impl<T: Record> Sending<T> {
    async fn run(mut self, mut receiver: mpsc::Receiver<T>) {
        while let Some(first) = receiver.recv().await {
            let mut batch = vec![first];
            let until = Instant::now() + self.batch.delay;
            while batch.len() < self.batch.max_batch {
                match timeout_at(until, receiver.recv()).await {
                    Ok(Some(record)) => batch.push(record),
                    Ok(None) | Err(_) => break,
                }
            }
            self.deliver_all(batch).await;
        }
    }

    /// The requests of one batch share its time; each is tried once even when it is over.
    async fn deliver_all(&mut self, batch: Vec<T>) {
        let give_up = Instant::now() + self.give_up;
        for request in requests(batch) {
            self.deliver(&request, give_up).await;
        }
    }

    /// One request until it is accepted, refused for good, or given up. A disk queue takes its
    /// place where this counts `dropped_unsent`.
    async fn deliver(&mut self, request: &[T], give_up: Instant) {
        let records = request.len() as u64;
        let backoff = ExponentialBuilder::default()
            .with_min_delay(RETRY_FIRST)
            .with_max_delay(RETRY_MAX)
            .with_jitter()
            .without_max_times();
        let mut delays = backoff.build();
        loop {
            let reason = match self.exporters.send(request).await {
                Outcome::Accepted { rejected, message } => {
                    let rejected = rejected.min(records);
                    add(&self.counters.accepted, records - rejected);
                    add(&self.counters.rejected, rejected);
                    if rejected > 0 || !message.is_empty() {
                        tracing::warn!(rejected, message, "collector accepted in part");
                    }
                    return;
                }
                Outcome::Refused { reason } => reason,
                Outcome::Retry { after, reason } => {
                    let delay = delays
                        .next()
                        .unwrap_or(RETRY_MAX)
                        .max(after.unwrap_or_default());
                    if Instant::now() + delay < give_up {
                        tracing::debug!(reason, ?delay, "export is tried again");
                        tokio::time::sleep(delay).await;
                        add(&self.counters.retries, 1);
                        continue;
                    }
                    reason
                }
            };
            tracing::warn!(records, reason, "export given up");
            add(&self.counters.dropped_unsent, records);
            return;
        }
    }
}
