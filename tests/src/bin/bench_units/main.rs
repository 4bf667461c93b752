//! Cuts the calls of real servers into units of work in several ways, for `cargo xtask bench
//! units`.
//!
//! `bench-units record APP FILE SECONDS` starts the server in a cgroup of its own, puts load on it
//! and records all of its calls; `bench-units cut FILE` prints one JSON object for each way of
//! cutting; `bench-units serve PORT` is the asynchronous server.

#![allow(clippy::print_stdout, reason = "its standard output is read by xtask")]

mod changes;
mod measure;
mod recut;
mod serve;
mod servers;

use std::{
    env,
    fs::File,
    io::{BufReader, BufWriter},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, bail};
use stethos::{
    capture::recording::{RecordingReader, RecordingWriter},
    record::Record,
    windows::{Piece, Windows},
};
use stethos_patterns::{Window, names};
use stethos_tests::{cgroup::Cgroup, live, load::Load};

use servers::Server;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["record", app, file, seconds] => {
            let span = Duration::from_secs(seconds.parse().context("SECONDS")?);
            record(app, Path::new(file), span)
        }
        ["cut", file] => cut(Path::new(file)),
        ["serve", port] => serve::run(port.parse().context("PORT")?),
        _ => bail!("bench-units record APP FILE SECONDS | cut FILE | serve PORT"),
    }
}

fn record(app: &str, file: &Path, span: Duration) -> anyhow::Result<()> {
    let cgroup = Cgroup::new(&format!("units-{app}"))?;
    let server = Server::start(app, &cgroup)?;
    // Before the load: connections are then known from their first call.
    let mut live = live::start(&cgroup, live::settings(64 << 20, 1024, 25));
    let out = BufWriter::new(File::create(file)?);
    let mut writer = RecordingWriter::new(out, &live.header)?;
    let load = Load::start(server.protocol, server.port, 1.0);
    let (records, kept) = std::sync::mpsc::channel::<Vec<Record>>();
    let stop = live.stop;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while let Some(batch) = live.records.blocking_recv() {
                if records.send(batch).is_err() {
                    return;
                }
            }
        });
        std::thread::sleep(span);
        let answered = load.finish();
        std::thread::sleep(Duration::from_millis(400));
        stop.ask();
        eprintln!("{app}: {answered} requests answered");
    });
    let mut account = None;
    for record in kept.into_iter().flatten() {
        if let Record::Tick(tick) = &record {
            account = tick.accounts.first().copied().or(account);
        }
        writer.write(&record)?;
    }
    let (_, counts) = writer.finish()?;
    eprintln!("{app}: {account:?}, {counts:?}");
    drop(server);
    Ok(())
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
