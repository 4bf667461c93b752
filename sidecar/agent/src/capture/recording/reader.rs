use std::collections::VecDeque;
use std::io::Read;

use crate::record::{Header, Record};

use super::block::{self, Input, Kind};
use super::entry::{self, BlockClock};
use super::{Counts, Reason, RecordingError, SIGNATURE, VERSION};

/// Reads a recording: an iterator over its records in order. The first error is the last item. A
/// block is handed out only when all of it is sound.
#[derive(Debug)]
pub struct RecordingReader<R: Read> {
    input: R,
    file: String,
    header: Header,
    /// Where the next block starts.
    offset: u64,
    /// Rest of the block that is being handed out.
    block: VecDeque<Record>,
    read: Counts,
    ended: bool,
}

impl<R: Read> RecordingReader<R> {
    /// Reads up to the header. `file` names the input in errors. Give a buffered `input`.
    pub fn new(mut input: R, file: impl Into<String>) -> Result<Self, RecordingError> {
        let file = file.into();
        match Self::read_start(&mut input) {
            Ok((header, offset)) => Ok(Self {
                input,
                file,
                header,
                offset,
                block: VecDeque::new(),
                read: Counts::default(),
                ended: false,
            }),
            Err((offset, reason)) => Err(RecordingError {
                file,
                offset,
                reason,
            }),
        }
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What was read so far, in whole blocks.
    pub fn read(&self) -> Counts {
        self.read
    }

    /// The header and where it ends, or where and why it cannot be read.
    fn read_start(input: &mut R) -> Result<(Header, u64), (u64, Reason)> {
        const START: usize = SIGNATURE.len() + 2;
        let mut start = Vec::with_capacity(START);
        input
            .by_ref()
            .take(START as u64)
            .read_to_end(&mut start)
            .map_err(|error| (0, error.into()))?;
        let signature = &start[..start.len().min(SIGNATURE.len())];
        if signature.is_empty() || !SIGNATURE.starts_with(signature) {
            return Err((0, Reason::NotARecording));
        }
        let cut = Reason::Truncated {
            whole: Counts::default(),
        };
        let Some(version) = start.get(SIGNATURE.len()..START) else {
            return Err((0, cut));
        };
        let version = u16::from_le_bytes([version[0], version[1]]);
        if version != VERSION {
            return Err((
                SIGNATURE.len() as u64,
                Reason::OtherVersion { found: version },
            ));
        }
        let offset = START as u64;
        match block::read(input).map_err(|reason| (offset, reason))? {
            Input::Cut => Err((offset, cut)),
            Input::Block {
                kind: Kind::Header,
                payload,
                stored,
            } => match postcard::take_from_bytes(&payload) {
                Ok((header, [])) => Ok((header, offset + stored)),
                _ => Err((
                    offset,
                    Reason::Damaged {
                        what: "the header does not decode",
                    },
                )),
            },
            Input::Block { .. } => Err((
                offset,
                Reason::Damaged {
                    what: "the first block is not the header",
                },
            )),
        }
    }

    /// Reads blocks until there is a record to hand out. False at a clean end.
    fn fill(&mut self) -> Result<bool, Reason> {
        while self.block.is_empty() {
            match block::read(&mut self.input)? {
                Input::Cut => return Err(Reason::Truncated { whole: self.read }),
                Input::Block {
                    kind: Kind::Header, ..
                } => {
                    return Err(Reason::Damaged {
                        what: "a second header",
                    });
                }
                Input::Block {
                    kind: Kind::End,
                    payload,
                    ..
                } => {
                    self.check_end(&payload)?;
                    return Ok(false);
                }
                Input::Block {
                    kind: Kind::Records,
                    payload,
                    stored,
                } => {
                    let (records, counts) = decode_block(&payload)?;
                    self.block = records;
                    self.offset += stored;
                    self.read.blocks += 1;
                    self.read.records += counts.records;
                    self.read.calls += counts.calls;
                }
            }
        }
        Ok(true)
    }

    fn check_end(&mut self, payload: &[u8]) -> Result<(), Reason> {
        match postcard::take_from_bytes::<Counts>(payload) {
            Ok((counts, [])) if counts == self.read => {}
            Ok((_, [])) => {
                return Err(Reason::Damaged {
                    what: "the end mark counts other records than these",
                });
            }
            _ => {
                return Err(Reason::Damaged {
                    what: "the end mark does not decode",
                });
            }
        }
        let mut after = Vec::new();
        self.input.by_ref().take(1).read_to_end(&mut after)?;
        if after.is_empty() {
            Ok(())
        } else {
            Err(Reason::Damaged {
                what: "bytes follow the end mark",
            })
        }
    }
}

fn decode_block(mut payload: &[u8]) -> Result<(VecDeque<Record>, Counts), Reason> {
    let mut records = VecDeque::new();
    let mut counts = Counts::default();
    let mut clock = BlockClock::default();
    while !payload.is_empty() {
        let record = entry::decode(&mut payload, &mut clock)?;
        counts.records += 1;
        if let Record::Window(window) = &record {
            counts.calls += window.calls.len() as u64;
        }
        records.push_back(record);
    }
    Ok((records, counts))
}

impl<R: Read> Iterator for RecordingReader<R> {
    type Item = Result<Record, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(record) = self.block.pop_front() {
            return Some(Ok(record));
        }
        if self.ended {
            return None;
        }
        match self.fill() {
            Ok(true) => self.block.pop_front().map(Ok),
            Ok(false) => {
                self.ended = true;
                None
            }
            Err(reason) => {
                self.ended = true;
                let file = self.file.clone();
                Some(Err(RecordingError {
                    file,
                    offset: self.offset,
                    reason,
                }))
            }
        }
    }
}
