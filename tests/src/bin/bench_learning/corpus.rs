//! The recordings of the corpus, and what was done in each.

use std::{
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::Deserialize;
use stethos::{
    capture::recording::RecordingReader,
    windows::{Piece, Windows},
};
use stethos_patterns::Window;

/// What `cargo xtask bench learning` writes beside a recording.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Label {
    pub(crate) product: String,
    pub(crate) run: String,
    /// Application type; `stranger` for what is none of them.
    #[serde(rename = "type")]
    kind: String,
    pub(crate) fault_onset_unix_ns: Option<u64>,
    end_unix_ns: u64,
    /// Of the recording.
    #[serde(skip)]
    pub(crate) file: PathBuf,
}

/// The windows of one run, in order of time.
pub(crate) struct Recorded {
    pub(crate) windows: Vec<Window>,
    /// Since when the fault was there, in the recording's time.
    pub(crate) onset_ns: Option<u64>,
}

/// All that is there, by product and run.
pub(crate) fn labels(folder: &Path) -> anyhow::Result<Vec<Label>> {
    let mut labels = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let label: Label =
            serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        let file = path.with_extension("rec");
        labels.push(Label { file, ..label });
    }
    labels.sort_by(|a, b| (&a.product, &a.run).cmp(&(&b.product, &b.run)));
    Ok(labels)
}

impl Label {
    /// Application type; `generic` for a stranger.
    pub(crate) fn kind(&self) -> &str {
        match self.kind.as_str() {
            "stranger" => "generic",
            kind => kind,
        }
    }

    pub(crate) fn read(&self) -> anyhow::Result<Recorded> {
        let name = self.file.display().to_string();
        let file = File::open(&self.file).with_context(|| name.clone())?;
        let reader = RecordingReader::new(BufReader::new(file), name)?;
        let header = reader.header().clone();
        let monotonic = |unix: u64| unix.saturating_add_signed(-header.unix_offset_ns);
        let mut cut = Windows::new(&header.arch);
        let mut pieces = Vec::new();
        for record in reader {
            cut.on_record(&record?, &mut pieces);
        }
        cut.finish(&mut pieces);
        let end_ns = monotonic(self.end_unix_ns);
        let mut windows: Vec<Window> = pieces
            .into_iter()
            .filter_map(|piece| match piece {
                Piece::Window(window) if window.start_ns() < end_ns => Some(window),
                _ => None,
            })
            .map(|window| Window {
                container: 0,
                ..window
            })
            .collect();
        windows.sort_by_key(|window| (window.start_ns(), window.stream(), window.sequence));
        Ok(Recorded {
            windows,
            onset_ns: self.fault_onset_unix_ns.map(monotonic),
        })
    }
}

impl Recorded {
    /// Windows from the onset on.
    pub(crate) fn faulty(&self) -> impl Iterator<Item = &Window> {
        let onset_ns = self.onset_ns.unwrap_or(u64::MAX);
        let windows = self.windows.iter();
        windows.filter(move |window| window.end_ns() >= onset_ns)
    }
}
