//! A recording that is being written.

use std::{
    fs::File,
    io::BufWriter,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{
    capture::recording::{RecordingWriter, WriteError},
    record::{Account, ContainerIndex, Header, Record},
};

/// A line of progress is logged this often.
const REPORT: Duration = Duration::from_secs(10);

/// Writes what capture hands on.
pub(super) struct Recorder {
    path: PathBuf,
    writer: RecordingWriter<BufWriter<File>>,
    report: Instant,
    accounts: Vec<(ContainerIndex, Account)>,
    left_out: u64,
}

impl Recorder {
    pub(super) fn create(path: &Path, header: &Header) -> anyhow::Result<Self> {
        let context = || format!("cannot write {}", path.display());
        let file = File::create(path).with_context(context)?;
        let writer = RecordingWriter::new(BufWriter::new(file), header).with_context(context)?;
        tracing::info!(path = %path.display(), "recording");
        Ok(Self {
            path: path.to_owned(),
            writer,
            report: Instant::now() + REPORT,
            accounts: Vec::new(),
            left_out: 0,
        })
    }

    /// After an error it is of no use any more.
    pub(super) fn write(&mut self, batch: &[Record]) -> anyhow::Result<()> {
        for record in batch {
            match self.writer.write(record) {
                Err(error @ WriteError::RecordTooLarge { .. }) => {
                    self.left_out += 1;
                    tracing::warn!(%error, "a record is left out");
                }
                written => {
                    written.with_context(|| format!("cannot write {}", self.path.display()))?;
                }
            }
            if let Record::Tick(tick) = record {
                self.accounts.clone_from(&tick.accounts);
            }
        }
        if Instant::now() >= self.report {
            self.report += REPORT;
            tracing::info!(written = %self.writer.written(), "recording");
        }
        Ok(())
    }

    pub(super) fn finish(self) -> anyhow::Result<()> {
        let context = || format!("cannot write {}", self.path.display());
        let (file, counts) = self.writer.finish().with_context(context)?;
        file.into_inner()
            .map_err(|error| error.into_error())
            .and_then(|file| file.sync_all())
            .with_context(context)?;
        let lost: u64 = self.accounts.iter().map(|(_, one)| one.lost()).sum();
        tracing::info!(%counts, lost, left_out = self.left_out, "recorded");
        Ok(())
    }
}
