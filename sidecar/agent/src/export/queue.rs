//! One bounded queue per signal: gathers records, makes requests of them grouped by resource, and
//! sends these from an [`Outbox`] in their order, again and again where that may help.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::config::{BatchConfig, ExportConfig};
use super::exporters::{Exporters, Record, requests};
use super::outbox::{First, Outbox, OutboxConfig};
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
    /// Wait on disk for the collector: not lost, also when the process ends.
    pub kept: u64,
}

#[derive(Debug, Default)]
struct Counters {
    queued: AtomicU64,
    accepted: AtomicU64,
    rejected: AtomicU64,
    dropped_full: AtomicU64,
    dropped_unsent: AtomicU64,
    retries: AtomicU64,
    kept: AtomicU64,
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
            kept: get(&self.kept),
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
    /// `disk`: where requests wait for the collector, else in memory.
    pub(super) fn start(
        courier: Courier,
        batch: BatchConfig,
        config: &ExportConfig,
        disk: Option<OutboxConfig>,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(batch.max_queue.max(1));
        let counters = Arc::new(Counters::default());
        let give_up = batch.export_timeout.unwrap_or(config.retry_for);
        let own = Arc::clone(&counters);
        let task = tokio::spawn(async move {
            let sending = Sending {
                exporters: Exporters::new(),
                courier,
                outbox: Outbox::open(disk).await,
                batch,
                give_up,
                counters: own,
                delays: delays(),
                due: Instant::now(),
            };
            sending.run(receiver).await;
        });
        Queue {
            sender,
            counters,
            task,
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

    /// Sends what is queued until the deadline; counts the rest as dropped, but for what waits on disk.
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
            let done = stats.accepted + stats.rejected + stats.dropped_unsent + stats.kept;
            let left = counters.queued.load(Ordering::Relaxed).saturating_sub(done);
            add(&counters.dropped_unsent, left);
        }
        counters.read()
    }
}

struct Sending<T: Record> {
    exporters: Exporters<T>,
    courier: Courier,
    outbox: Outbox,
    batch: BatchConfig,
    give_up: Duration,
    counters: Arc<Counters>,
    delays: ExponentialBackoff,
    /// When the oldest request is due.
    due: Instant,
}

impl<T: Record> Sending<T> {
    /// Until the queue is closed and nothing waits any more.
    async fn run(mut self, mut receiver: mpsc::Receiver<T>) {
        add(&self.counters.queued, self.outbox.records());
        self.tell_waiting();
        let mut open = true;
        while open || !self.outbox.is_empty() {
            // A full outbox leaves records to the queue, which has a bound of its own.
            let takes = open && !self.outbox.is_full();
            tokio::select! {
                first = receiver.recv(), if takes => match first {
                    Some(first) => self.take_in(first, &mut receiver).await,
                    None => open = false,
                },
                () = sleep_until(self.due), if !self.outbox.is_empty() => self.attempt().await,
            }
            self.tell_waiting();
        }
    }

    fn tell_waiting(&self) {
        let on_disk = self.outbox.records_on_disk();
        self.counters.kept.store(on_disk, Ordering::Relaxed);
    }

    /// Gathers a batch and puts its requests into the outbox.
    async fn take_in(&mut self, first: T, receiver: &mut mpsc::Receiver<T>) {
        let mut batch = vec![first];
        let until = Instant::now() + self.batch.delay;
        while batch.len() < self.batch.max_batch {
            match timeout_at(until, receiver.recv()).await {
                Ok(Some(record)) => batch.push(record),
                Ok(None) | Err(_) => break,
            }
        }
        let give_up = Instant::now() + self.give_up;
        for request in requests(batch) {
            let records = request.len() as u64;
            let dropped = match self.exporters.encode(&request).await {
                Ok(body) => self.outbox.push(body, records, give_up).await,
                Err(reason) => {
                    tracing::warn!(records, reason, "records cannot be encoded");
                    records
                }
            };
            self.lose(
                dropped,
                "no room is left for what the collector does not take",
            );
        }
    }

    /// Counts records that never arrive.
    fn lose(&self, records: u64, reason: &str) {
        if records > 0 {
            tracing::warn!(records, reason, "export given up");
            add(&self.counters.dropped_unsent, records);
        }
    }

    /// One attempt with the oldest request, which is accepted, refused for good, given up, or tried
    /// again later.
    async fn attempt(&mut self) {
        let (first, lost) = self.outbox.first().await;
        self.lose(lost, "it cannot be read");
        let Some(First {
            body,
            records,
            give_up,
        }) = first
        else {
            return;
        };
        match self.courier.send(body).await {
            Outcome::Accepted { rejected, message } => {
                let rejected = rejected.min(records);
                add(&self.counters.accepted, records - rejected);
                add(&self.counters.rejected, rejected);
                if rejected > 0 || !message.is_empty() {
                    tracing::warn!(rejected, message, "collector accepted in part");
                }
            }
            Outcome::Refused { reason } => self.lose(records, &reason),
            Outcome::Retry { after, reason } => {
                let delay = self
                    .delays
                    .next()
                    .unwrap_or(RETRY_MAX)
                    .max(after.unwrap_or_default());
                let due = Instant::now() + delay;
                if give_up.is_none_or(|give_up| due < give_up) {
                    tracing::debug!(reason, ?delay, "export is tried again");
                    add(&self.counters.retries, 1);
                    self.due = due;
                    return;
                }
                self.lose(records, &reason);
            }
        }
        self.outbox.done().await;
        (self.delays, self.due) = (delays(), Instant::now());
    }
}

fn delays() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(RETRY_FIRST)
        .with_max_delay(RETRY_MAX)
        .with_jitter()
        .without_max_times()
        .build()
}
