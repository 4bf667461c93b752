//! Cuts the calls of real servers into units of work in several ways, for `cargo xtask bench
//! units`.
//!
//! `bench-units cut FILE` prints one JSON object for each way of cutting a recording of the corpus;
//! `bench-units serve PORT` is the asynchronous server, which also stands behind reverse proxies.

#![allow(clippy::print_stdout, reason = "its standard output is read by xtask")]

mod changes;
mod measure;
mod recut;
mod serve;

use std::{env, fs::File, io::BufReader, path::Path};

use anyhow::{Context as _, bail};
use stethos::{
    capture::recording::RecordingReader,
    record::Record,
    windows::{Piece, Windows},
};
use stethos_patterns::{Window, names};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["cut", file] => cut(Path::new(file)),
        ["serve", port] => serve::run(port.parse().context("PORT")?, None),
        ["serve", port, asked] => {
            let asked = asked.parse().context("ASKED")?;
            serve::run(port.parse().context("PORT")?, Some(asked))
        }
        _ => bail!("bench-units cut FILE | serve PORT [ASKED]"),
    }
}

fn cut(file: &Path) -> anyhow::Result<()> {
    let input = BufReader::new(File::open(file)?);
    let reader = RecordingReader::new(input, file.display().to_string())?;
    let table = names::table(&reader.header().arch);
    let mut windows = Windows::new(&reader.header().arch);
    let (mut pieces, mut today) = (Vec::new(), Vec::new());
    let mut lost = 0u64;
    let mut keep = |pieces: &mut Vec<Piece>| {
        today.extend(pieces.drain(..).filter_map(|piece| match piece {
            Piece::Window(window) => Some(window),
            _ => None,
        }));
    };
    for record in reader {
        let record = record?;
        if let Record::Window(window) = &record {
            lost += u64::from(window.lost_before);
        }
        windows.on_record(&record, &mut pieces);
        keep(&mut pieces);
    }
    windows.finish(&mut pieces);
    keep(&mut pieces);
    today.sort_by_key(|w: &Window| (w.stream(), w.sequence));
    if lost > 0 {
        eprintln!("{}: {lost} calls lost", file.display());
    }
    let start = |windows: &[Window]| windows.iter().map(Window::start_ns).min().unwrap_or(0);
    let last_ns = today.iter().map(Window::start_ns).max().unwrap_or(0);
    let middle_ns = start(&today).midpoint(last_ns);
    let changed = changes::changed(&today, middle_ns);
    for way in recut::WAYS {
        let normal = recut::cut(way, table, &today);
        let changed = recut::cut(way, table, &changed);
        println!("{}", measure::measure(way.name, &normal, &changed)?);
    }
    Ok(())
}
