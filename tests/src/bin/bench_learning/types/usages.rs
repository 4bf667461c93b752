//! What the containers of the corpus do.

use std::{collections::BTreeMap, fs::File, io::BufReader};

use anyhow::Context as _;
use stethos::{
    capture::recording::RecordingReader,
    record::{Direction, HttpMessage, Record},
    windows::{Piece, Windows},
};
use stethos_patterns::{
    names,
    usage::{Usage, UsageBuilder},
};

use crate::corpus::Label;

/// Spans of a recording that are samples of their own.
const SPAN_NS: u64 = 3_000_000_000;

/// What the container of a recording does: as a whole (span 0), and in each of its spans.
pub(crate) fn usages(label: &Label) -> anyhow::Result<BTreeMap<u64, Usage>> {
    let name = label.file.display().to_string();
    let file = File::open(&label.file).with_context(|| name.clone())?;
    let reader = RecordingReader::new(BufReader::new(file), name)?;
    let arch = reader.header().arch.clone();
    let table = names::table(&arch);
    let mut cut = Windows::new(&arch);
    let mut builders: BTreeMap<u64, UsageBuilder> = BTreeMap::new();
    let mut take = |at_ns: u64, act: &dyn Fn(&mut UsageBuilder)| {
        for span in [0, 1 + at_ns / SPAN_NS] {
            act(builders
                .entry(span)
                .or_insert_with(|| UsageBuilder::new(table)));
        }
    };
    let mut pieces = Vec::new();
    let mut executables = Vec::new();
    for record in reader {
        let record = record?;
        match &record {
            Record::Process(process) => executables.push(process.executable.clone()),
            Record::Http(head) if matches!(head.message, HttpMessage::Request { .. }) => {
                let came_in = head.direction == Direction::Incoming;
                take(head.at_ns, &|builder| builder.http_request(came_in));
            }
            _ => {}
        }
        cut.on_record(&record, &mut pieces);
        for piece in pieces.drain(..) {
            if let Piece::Window(window) = piece {
                take(window.start_ns(), &|builder| builder.window(&window));
            }
        }
    }
    executables.sort();
    executables.dedup();
    let finish = |builder: UsageBuilder| builder.finish(executables.iter().map(String::as_str));
    Ok(builders
        .into_iter()
        .map(|(span, builder)| (span, finish(builder)))
        .collect())
}
