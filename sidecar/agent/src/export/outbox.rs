//! What waits for the collector: encoded requests, in their order.
//!
//! With a folder each is a file, `NUMBER-RECORDS.otlp`, from before its first attempt until the
//! collector has answered for good: neither an outage nor the end of the process costs a record. One
//! that was answered just before a kill is sent once more. What the disk does not take waits in
//! memory. Over the bound, the oldest go; who asks is told how many records that were.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use opentelemetry_http::Bytes;
use tokio::time::{Instant, timeout};

const EXTENSION: &str = "otlp";
/// A disk that takes longer is taken for full.
const PATIENCE: Duration = Duration::from_secs(2);
/// Of what waits in memory.
const MEMORY: u64 = 4 << 20;

/// Where, and how many bytes at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxConfig {
    pub folder: PathBuf,
    pub bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    disk: Option<OutboxConfig>,
    waiting: VecDeque<Waiting>,
    next: u64,
    /// The disk refused the last request.
    refused: bool,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    records: u64,
    bytes: u64,
    /// None: it is on disk.
    body: Option<Bytes>,
    /// When it is given up; on disk, never.
    give_up: Option<Instant>,
}

/// The oldest request.
#[derive(Debug, PartialEq)]
pub(super) struct First {
    pub(super) body: Bytes,
    pub(super) records: u64,
    pub(super) give_up: Option<Instant>,
}

impl Outbox {
    /// With what an earlier process left in the folder, which is made. Where that cannot be, requests
    /// wait in memory.
    pub(super) async fn open(disk: Option<OutboxConfig>) -> Self {
        let Some(disk) = disk else {
            return Self::default();
        };
        match found(&disk.folder).await {
            Ok(waiting) => Self {
                next: waiting.back().map_or(0, |last| last.number + 1),
                disk: Some(disk),
                waiting,
                refused: false,
            },
            Err(error) => {
                let folder = disk.folder.display();
                tracing::warn!(%folder, %error, "what the collector does not take waits in memory");
                Self::default()
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether requests that come now would wait in memory, beside others.
    pub(super) fn is_full(&self) -> bool {
        let in_memory = self.disk.is_none() || self.refused;
        in_memory && !self.waiting.is_empty()
    }

    pub(super) fn records(&self) -> u64 {
        self.waiting.iter().map(|one| one.records).sum()
    }

    /// Those that outlive the process.
    pub(super) fn records_on_disk(&self) -> u64 {
        let on_disk = self.waiting.iter().filter(|one| one.body.is_none());
        on_disk.map(|one| one.records).sum()
    }

    /// Takes a request in; says how many records went to make room. `give_up` holds where it has to
    /// wait in memory.
    pub(super) async fn push(&mut self, body: Bytes, records: u64, give_up: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        let mut waiting = Waiting {
            number,
            records,
            bytes: body.len() as u64,
            body: Some(body),
            give_up: Some(give_up),
        };
        if let (Some(disk), Some(body)) = (&self.disk, &waiting.body) {
            let written = write(&disk.folder, &waiting.name(), body).await;
            self.report(written.as_ref().err());
            if written.is_ok() {
                (waiting.body, waiting.give_up) = (None, None);
            }
        }
        self.waiting.push_back(waiting);
        self.make_room().await
    }

    fn report(&mut self, error: Option<&io::Error>) {
        if let (Some(error), false) = (error, self.refused) {
            tracing::warn!(%error, "the disk takes no more; what the collector does not take waits in memory");
        }
        self.refused = error.is_some();
    }

    /// At least the newest stays.
    async fn make_room(&mut self) -> u64 {
        let disk = self.disk.as_ref().map_or(0, |disk| disk.bytes);
        let mut dropped = 0;
        while self.waiting.len() > 1 {
            let (mut on_disk, mut in_memory) = (0, 0);
            for one in &self.waiting {
                match one.body {
                    None => on_disk += one.bytes,
                    Some(_) => in_memory += one.bytes,
                }
            }
            let is_over = |one: &Waiting| match one.body {
                None => on_disk > disk,
                Some(_) => in_memory > MEMORY,
            };
            let oldest = self.waiting.iter().position(is_over);
            let Some(oldest) = oldest.and_then(|at| self.waiting.remove(at)) else {
                break;
            };
            dropped += oldest.records;
            self.remove(&oldest).await;
        }
        dropped
    }

    /// The oldest request, and how many records of unreadable ones went before it.
    pub(super) async fn first(&mut self) -> (Option<First>, u64) {
        let mut lost = 0;
        while let Some(one) = self.waiting.front() {
            let body = match (&one.body, &self.disk) {
                (Some(body), _) => Ok(body.clone()),
                (None, Some(disk)) => read(&disk.folder, &one.name()).await,
                (None, None) => Err(io::ErrorKind::NotFound.into()),
            };
            match body {
                Ok(body) => {
                    let first = First {
                        body,
                        records: one.records,
                        give_up: one.give_up,
                    };
                    return (Some(first), lost);
                }
                Err(error) => {
                    let file = one.name();
                    tracing::warn!(%error, file, "what waited for the collector cannot be read");
                    lost += one.records;
                    self.done().await;
                }
            }
        }
        (None, lost)
    }

    /// The oldest request needs no further attempt.
    pub(super) async fn done(&mut self) {
        if let Some(one) = self.waiting.pop_front() {
            self.remove(&one).await;
        }
    }

    async fn remove(&self, one: &Waiting) {
        if let (None, Some(disk)) = (&one.body, &self.disk) {
            let path = disk.folder.join(one.name());
            if let Err(error) = in_time(tokio::fs::remove_file(&path)).await {
                let file = path.display();
                tracing::warn!(%file, %error, "what the collector has cannot be removed");
            }
        }
    }
}

impl Waiting {
    fn name(&self) -> String {
        format!("{:020}-{}.{EXTENSION}", self.number, self.records)
    }

    fn of_name(name: &str, bytes: u64) -> Option<Self> {
        let (number, records) = name
            .strip_suffix(EXTENSION)?
            .strip_suffix('.')?
            .split_once('-')?;
        Some(Self {
            number: number.parse().ok()?,
            records: records.parse().ok()?,
            bytes,
            body: None,
            give_up: None,
        })
    }
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| Err(io::ErrorKind::TimedOut.into());
    timeout(PATIENCE, work).await.unwrap_or_else(late)
}

/// Makes the folder; what stands in it, oldest first.
async fn found(folder: &Path) -> io::Result<VecDeque<Waiting>> {
    in_time(async {
        tokio::fs::create_dir_all(folder).await?;
        let mut entries = tokio::fs::read_dir(folder).await?;
        let mut found = Vec::new();
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name();
            let bytes = entry.metadata().await?.len();
            found.extend(name.to_str().and_then(|name| Waiting::of_name(name, bytes)));
        }
        found.sort_by_key(|one| one.number);
        Ok(found.into())
    })
    .await
}

/// A whole file or none.
async fn write(folder: &Path, name: &str, body: &Bytes) -> io::Result<()> {
    let (path, part) = (folder.join(name), folder.join(format!("{name}.part")));
    let written = in_time(async {
        tokio::fs::write(&part, body).await?;
        tokio::fs::rename(&part, &path).await
    });
    let written = written.await;
    if written.is_err() {
        // Nothing more can be done about a part that stays.
        let _ = in_time(tokio::fs::remove_file(&part)).await;
    }
    written
}

async fn read(folder: &Path, name: &str) -> io::Result<Bytes> {
    let body = in_time(tokio::fs::read(folder.join(name))).await?;
    Ok(body.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(folder: &Path, bytes: u64) -> Option<OutboxConfig> {
        let folder = folder.join("logs");
        Some(OutboxConfig { folder, bytes })
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    async fn all(outbox: &mut Outbox) -> Vec<(Bytes, u64)> {
        let mut all = Vec::new();
        while let (Some(first), _) = outbox.first().await {
            all.push((first.body, first.records));
            outbox.done().await;
        }
        all
    }

    fn files(folder: &Path) -> usize {
        std::fs::read_dir(folder.join("logs")).unwrap().count()
    }

    #[tokio::test]
    async fn what_a_process_left_is_there_for_the_next_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(disk(folder.path(), 1000)).await;
        for (body, records) in [("a", 1), ("b", 20), ("c", 3)] {
            let dropped = outbox.push(Bytes::from(body), records, later()).await;
            assert_eq!(dropped, 0);
        }
        drop(outbox);
        // What is none of them, or was not finished.
        std::fs::write(
            folder.path().join("logs/00000000000000000009-1.otlp.part"),
            "x",
        )
        .unwrap();
        std::fs::write(folder.path().join("logs/readme"), "x").unwrap();

        let mut outbox = Outbox::open(disk(folder.path(), 1000)).await;
        assert_eq!((outbox.records(), outbox.records_on_disk()), (24, 24));
        outbox.push(Bytes::from("d"), 4, later()).await;
        let expected = [("a", 1), ("b", 20), ("c", 3), ("d", 4)];
        let expected = expected.map(|(body, records)| (Bytes::from(body), records));
        assert_eq!(all(&mut outbox).await, expected);
        assert_eq!(files(folder.path()), 2, "delivered ones are removed");
    }

    #[tokio::test]
    async fn over_the_bound_the_oldest_go_and_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(disk(folder.path(), 25)).await;
        let mut dropped = Vec::new();
        for records in 1..=4 {
            let body = Bytes::from_static(&[7; 10]);
            dropped.push(outbox.push(body, records, later()).await);
        }
        assert_eq!(dropped, [0, 0, 1, 2]);
        assert_eq!((outbox.records(), files(folder.path())), (7, 2));
        // One that is larger than the bound by itself is sent all the same.
        let large = Bytes::from_static(&[7; 100]);
        assert_eq!(outbox.push(large, 1, later()).await, 7);
        assert_eq!(outbox.records(), 1);
    }

    #[tokio::test]
    async fn without_a_disk_requests_wait_in_memory_until_their_time_is_over() {
        let mut outbox = Outbox::open(None).await;
        assert!(!outbox.is_full());
        let give_up = later();
        outbox.push(Bytes::from("a"), 1, give_up).await;
        assert!(outbox.is_full());
        let (first, _) = outbox.first().await;
        assert_eq!(first.unwrap().give_up, Some(give_up));
        assert_eq!((outbox.records(), outbox.records_on_disk()), (1, 0));
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_to_costs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(disk(folder.path(), 1000)).await;
        outbox.push(Bytes::from("a"), 1, later()).await;
        std::fs::remove_dir_all(folder.path()).unwrap();
        outbox.push(Bytes::from("b"), 2, later()).await;
        assert_eq!(outbox.records_on_disk(), 1);
        let (first, lost) = outbox.first().await;
        assert_eq!((first.unwrap().body, lost), (Bytes::from("b"), 1));

        std::fs::write(folder.path().with_extension("file"), "x").unwrap();
        let file = folder.path().with_extension("file");
        let outbox = Outbox::open(disk(&file, 1000)).await;
        assert!(outbox.disk.is_none());
        std::fs::remove_file(file).unwrap();
    }
}
