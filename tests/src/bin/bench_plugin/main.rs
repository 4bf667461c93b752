//! Windows a second through the next-token model, on one thread: `bench-plugin guest FOLDER` in the
//! built-in plugin's component as the sidecar runs it, `native` in the same code compiled for this
//! machine, `trainer` in the library that trains the models. The windows are random, all different and
//! 32 tokens long; the model is random, of the sizes that the trainer makes by default.
//!
//! Prints `windows_per_second VALUE`, of the fastest of several passes over all windows, and for the
//! guest what the component costs. What was found is written to FOLDER, for whoever compares: the
//! surprise of each token as `PART.surprise` (f32, little endian), the most likely ids as
//! `PART.expected` (u16; not of the trainer, which has none). `bench-plugin sample FOLDER` writes the
//! model and the windows as safetensors.

mod guest;
mod sample;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context, Result, bail};
use stethos_plugin_sdk::{Model, Verdict, Window};
use stethos_trainer::corpus::Sequence;
use stethos_trainer::gru::Gru;

use sample::Sample;

/// Passes over all windows that are timed.
const PASSES: usize = 5;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [part, folder] = &arguments[..] else {
        bail!("usage: bench-plugin sample | guest | native | trainer FOLDER");
    };
    let folder = PathBuf::from(folder);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let sample = Sample::new()?;
    let measured = match part.as_str() {
        "sample" => return sample.write(&folder),
        "guest" => guest::measure(&sample, &folder)?,
        "native" => native(&sample)?,
        "trainer" => trainer(&sample)?,
        _ => bail!("{part} is no part of bench-plugin"),
    };
    let windows = sample.windows().count() as f64;
    line("windows_per_second", windows / measured.fastest()?);
    measured.write(&folder, part)
}

/// How long each pass took, and what one of them found.
struct Measured {
    passes: Vec<Duration>,
    verdicts: Vec<Verdict>,
}

impl Measured {
    /// Seconds.
    fn fastest(&self) -> Result<f64> {
        let fastest = self.passes.iter().min().context("nothing was timed")?;
        Ok(fastest.as_secs_f64())
    }

    fn write(&self, folder: &Path, part: &str) -> Result<()> {
        let surprises = self.verdicts.iter().flat_map(|verdict| &verdict.surprise);
        let surprises: Vec<u8> = surprises.flat_map(|one| one.to_le_bytes()).collect();
        fs::write(folder.join(format!("{part}.surprise")), surprises)?;
        let expected = self.verdicts.iter().flat_map(|verdict| &verdict.expected);
        let expected: Vec<u8> = expected.flat_map(|one| one.to_le_bytes()).collect();
        if !expected.is_empty() {
            fs::write(folder.join(format!("{part}.expected")), expected)?;
        }
        Ok(())
    }
}

/// The first of the passes is not timed.
fn native(sample: &Sample) -> Result<Measured> {
    let mut model = Model::read(&sample.model)?;
    passes(|| {
        let mut verdicts = Vec::new();
        for batch in &sample.batches {
            verdicts.extend(model.score(batch)?);
        }
        Ok(verdicts)
    })
}

fn trainer(sample: &Sample) -> Result<Measured> {
    let model = Gru::read(&sample.model)?;
    let sequence = |window: &Window| Sequence {
        ids: window.tokens.clone(),
        pattern: window.pattern.map(|pattern| pattern as usize),
        count: 1,
    };
    let sequences: Vec<Sequence> = sample.windows().map(sequence).collect();
    passes(|| {
        let scores = model.score(&sequences)?.into_iter();
        let verdict = |surprise| Verdict {
            surprise,
            expected: Vec::new(),
        };
        Ok(scores.map(verdict).collect())
    })
}

fn passes(mut pass: impl FnMut() -> Result<Vec<Verdict>>) -> Result<Measured> {
    let verdicts = pass()?;
    let mut passes = Vec::new();
    for _ in 0..PASSES {
        let begin = Instant::now();
        pass()?;
        passes.push(begin.elapsed());
    }
    Ok(Measured { passes, verdicts })
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn line(name: &str, value: f64) {
    println!("{name} {value}");
}
