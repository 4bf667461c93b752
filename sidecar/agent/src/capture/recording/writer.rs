use std::io::Write;

use crate::record::{Header, Nanos, Record};

use super::entry::{self, BlockClock};
use super::{Counts, MAX_BLOCK, SIGNATURE, VERSION, WriteError, block};

/// Longest span of record time that a block gathers before it is written out: what a kill loses.
const MAX_BLOCK_SPAN_NS: u64 = 1_000_000_000;

/// Writes a recording. Without [`finish`](RecordingWriter::finish) it has no end mark and reads as
/// cut off, which is what it is.
#[derive(Debug)]
pub struct RecordingWriter<W: Write> {
    out: W,
    /// Encoded records of the block that is being gathered.
    pending: Vec<u8>,
    pending_counts: Counts,
    /// Time of the oldest record in `pending`.
    pending_since: Option<Nanos>,
    clock: BlockClock,
    written: Counts,
}

impl<W: Write> RecordingWriter<W> {
    /// Writes the signature and the header, and flushes: the file is a recording from here on.
    pub fn new(mut out: W, header: &Header) -> Result<Self, WriteError> {
        let fields = postcard::to_stdvec(header)?;
        if fields.len() > MAX_BLOCK {
            return Err(WriteError::RecordTooLarge { size: fields.len() });
        }
        out.write_all(&SIGNATURE)?;
        out.write_all(&VERSION.to_le_bytes())?;
        block::write(&mut out, block::Kind::Header, &fields)?;
        out.flush()?;
        Ok(Self {
            out,
            pending: Vec::new(),
            pending_counts: Counts::default(),
            pending_since: None,
            clock: BlockClock::default(),
            written: Counts::default(),
        })
    }

    /// Adds a record. Once the records gathered span a second, they are written out and flushed.
    ///
    /// A record that is too large is left out and reported; the writer stays usable. After an
    /// I/O error it is not: the file may end inside a block.
    pub fn write(&mut self, record: &Record) -> Result<(), WriteError> {
        let mut clock = self.clock;
        let mut bytes = entry::encode(record, &mut clock)?;
        if self.pending.len() + bytes.len() > MAX_BLOCK {
            self.flush()?;
            clock = BlockClock::default();
            bytes = entry::encode(record, &mut clock)?;
        }
        if bytes.len() > MAX_BLOCK {
            return Err(WriteError::RecordTooLarge { size: bytes.len() });
        }
        self.clock = clock;
        self.pending.extend(bytes);
        self.pending_counts.records += 1;
        if let Record::Window(window) = record {
            self.pending_counts.calls += window.calls.len() as u64;
        }
        let Some(now) = entry::time_of(record) else {
            return Ok(());
        };
        let since = *self.pending_since.get_or_insert(now);
        if now.abs_diff(since) >= MAX_BLOCK_SPAN_NS {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes out what was gathered, and flushes the output.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        if self.pending_counts.records > 0 {
            block::write(&mut self.out, block::Kind::Records, &self.pending)?;
            self.written.blocks += 1;
            self.written.records += self.pending_counts.records;
            self.written.calls += self.pending_counts.calls;
        }
        self.pending.clear();
        self.pending_counts = Counts::default();
        self.pending_since = None;
        self.clock = BlockClock::default();
        self.out.flush()?;
        Ok(())
    }

    /// What was written out; records still gathered are not in it.
    pub fn written(&self) -> Counts {
        self.written
    }

    /// Writes out what was gathered and the end mark.
    pub fn finish(mut self) -> Result<(W, Counts), WriteError> {
        self.flush()?;
        let fields = postcard::to_stdvec(&self.written)?;
        block::write(&mut self.out, block::Kind::End, &fields)?;
        self.out.flush()?;
        Ok((self.out, self.written))
    }
}
