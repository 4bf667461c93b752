//! `stethos import`: what other tools recorded, as a recording.

mod pieces;

use std::{
    collections::HashMap,
    fs::File,
    io::{BufReader, Read as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use self::pieces::Pieces;
use super::args::ImportArgs;
use crate::{
    capture::recording::RecordingWriter,
    import::{
        Arch, Counts, Format, ImportError, LineError, MAX_CALLS, MAX_LINE, Parser, Trace,
        assembly::Assembly, guess,
    },
    learning::store,
};

/// What the format is guessed from.
const SAMPLE: u64 = 64 << 10;
/// Lines left out that are named, of one input and of all.
const NAMED_OF_ONE: u64 = 3;
const NAMED: u64 = 20;

pub(super) fn run(args: &ImportArgs) -> anyhow::Result<()> {
    let mut import = Import {
        format: args.format,
        guessed_from: None,
        arch: args.arch,
        skipped: 0,
        named: 0,
        counts: Counts::default(),
    };
    let names = names(&args.inputs);
    let mut assembly = None;
    for (path, name) in args.inputs.iter().zip(&names) {
        let (format, trace) = import.read(path, assembly.as_ref().map_or(0, Assembly::calls))?;
        let arch = args.arch.unwrap_or(format.usual_arch());
        assembly
            .get_or_insert_with(|| Assembly::new(format, arch, &args.container))
            .add(name, trace);
    }
    let (header, records) = assembly.context("nothing to import")?.finish();
    let mut writer = RecordingWriter::new(Vec::new(), &header)?;
    for record in &records {
        writer.write(record)?;
    }
    let (bytes, written) = writer.finish()?;
    store::write_whole(&args.output, &bytes)?;
    let Counts {
        unknown,
        unfinished,
        lost,
        ..
    } = import.counts;
    tracing::info!(
        recording = %args.output.display(),
        inputs = names.len(),
        arch = header.arch,
        calls = written.calls,
        skipped = import.skipped,
        unknown,
        unfinished,
        lost,
        "imported"
    );
    Ok(())
}

/// One import on its way.
struct Import {
    format: Option<Format>,
    /// The input that the format was guessed from.
    guessed_from: Option<String>,
    arch: Option<Arch>,
    skipped: u64,
    named: u64,
    counts: Counts,
}

impl Import {
    /// Reads one input. `before`: calls of those before it.
    fn read(&mut self, path: &Path, before: usize) -> Result<(Format, Trace), ImportError> {
        let file = path.display().to_string();
        let failed = |source| ImportError::Read {
            file: file.clone(),
            source,
        };
        let mut input = File::open(path).map_err(failed)?;
        let mut sample = Vec::new();
        let mut start = input.by_ref().take(SAMPLE);
        start.read_to_end(&mut sample).map_err(failed)?;
        if sample.is_empty() {
            return Err(ImportError::Empty { file });
        }
        let format = self.format(&file, &sample)?;
        let arch = self.arch.unwrap_or(format.usual_arch());
        let ends: fn(u8) -> bool = match format.is_in_lines() {
            true => |byte| byte == b'\n',
            false => |byte| byte.is_ascii_whitespace(),
        };
        let text = BufReader::new(sample.as_slice().chain(input));
        let mut pieces = Pieces::new(text, ends, MAX_LINE);
        let mut parser = Parser::new(format, arch);
        let (mut skipped, mut first) = (0, None);
        while let Some(piece) = pieces.next().map_err(failed)? {
            let line = piece.line;
            let taken = match piece.bytes {
                Some(bytes) => parser.take(bytes),
                None => Err(LineError::TooLong),
            };
            if let Err(reason) = taken {
                skipped += 1;
                self.tell(&file, line, &reason, skipped);
                first.get_or_insert((line, reason));
            }
            if before + parser.held() > MAX_CALLS {
                return Err(ImportError::TooMany { file, line });
            }
        }
        let trace = parser.finish();
        if trace.counts.calls == 0 {
            return Err(match first {
                Some((line, reason)) => ImportError::Nothing {
                    file,
                    line,
                    reason,
                    format,
                },
                None => ImportError::NoCalls { file, format },
            });
        }
        self.count(&file, skipped, &trace.counts);
        Ok((format, trace))
    }

    /// The format that was asked for, or the one of the first input; all have the same.
    fn format(&mut self, file: &str, sample: &[u8]) -> Result<Format, ImportError> {
        let asked = self.format.filter(|_| self.guessed_from.is_none());
        if let Some(format) = asked {
            return Ok(format);
        }
        let Some(format) = guess(sample) else {
            let file = file.to_owned();
            return Err(ImportError::Unrecognised { file });
        };
        match (&self.guessed_from, self.format) {
            (Some(first), Some(first_format)) if first_format != format => {
                return Err(ImportError::Mixed {
                    file: file.to_owned(),
                    format,
                    first: first.clone(),
                    first_format,
                });
            }
            (Some(_), _) => {}
            (None, _) => {
                let arch = self.arch.unwrap_or(format.usual_arch()).name();
                let format = format.name();
                tracing::info!(
                    "{file} is read as {format} of {arch}; --format and --arch change it"
                );
                self.guessed_from = Some(file.to_owned());
            }
        }
        self.format = Some(format);
        Ok(format)
    }

    /// Names one of the first lines that are left out.
    fn tell(&mut self, file: &str, line: u64, reason: &LineError, of_this: u64) {
        if of_this <= NAMED_OF_ONE && self.named < NAMED {
            self.named += 1;
            tracing::warn!("{file}: at line {line}: {reason}; left out");
        }
    }

    fn count(&mut self, file: &str, skipped: u64, counts: &Counts) {
        if skipped > 0 {
            tracing::warn!(skipped, calls = counts.calls, "{file} is not read whole");
        }
        if counts.unknown > 0 && self.counts.unknown == 0 {
            let first = counts.first_unknown.join(", ");
            tracing::warn!(
                calls = counts.unknown,
                "{file} has calls that are not known by name or number on this architecture: {first}"
            );
        }
        self.skipped += skipped;
        self.counts.unknown += counts.unknown;
        self.counts.unfinished += counts.unfinished;
        self.counts.lost += counts.lost;
    }
}

/// What the inputs are called: by their file names, by their paths where those are the same.
fn names(paths: &[PathBuf]) -> Vec<String> {
    let short = |path: &Path| {
        let name = path.file_name().unwrap_or(path.as_os_str());
        name.to_string_lossy().into_owned()
    };
    let mut times: HashMap<String, u32> = HashMap::new();
    for path in paths {
        *times.entry(short(path)).or_default() += 1;
    }
    let name = |path: &PathBuf| match short(path) {
        name if times.get(&name) == Some(&1) => name,
        _ => path.display().to_string(),
    };
    paths.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_called_by_as_little_as_tells_them_apart() {
        let names = names(&["a/1.txt", "b/1.txt", "b/2.txt", "3.txt"].map(PathBuf::from));
        assert_eq!(names, ["a/1.txt", "b/1.txt", "2.txt", "3.txt"]);
    }
}
