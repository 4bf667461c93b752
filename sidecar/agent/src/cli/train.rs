//! `stethos train`: recordings into a model bundle.

use std::{
    io::{self, Write as _},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use stethos_trainer::{Progress, TrainConfig, TrainingInput};

use super::args::TrainArgs;
use crate::learning::{
    progress, store,
    training_set::{self, Selection},
};

pub(super) fn run(args: &TrainArgs) -> anyhow::Result<()> {
    let started = Instant::now();
    let selection = Selection {
        max_calls: training_set::calls_in(memory()),
        left_out: &args.left_out,
    };
    let set = training_set::read_selected(&args.recordings, args.container.as_deref(), selection)?;
    let unseen_mass = args
        .unseen_mass
        .unwrap_or_else(|| progress::unseen_mass_of(&set.windows));
    tracing::info!(
        container = set.container,
        windows = set.windows.len(),
        unseen_mass,
        "training"
    );
    let input = TrainingInput {
        arch: set.arch,
        container: set.container,
        windows: set.windows,
        baseline: set.baseline,
        usage: set.usage,
        unseen_mass,
        widened: args.widened,
        created_unix: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs()),
    };
    let config = TrainConfig {
        seed: args.seed,
        time_limit: args.time_limit,
        ..TrainConfig::default()
    };
    let bundle = stethos_trainer::train(input, &config, &mut report)?;
    let bytes = bundle.write().context("the trained bundle is not sound")?;
    if args.output.as_os_str() == "-" {
        io::stdout()
            .write_all(&bytes)
            .context("cannot write to standard output")?;
    } else {
        store::write_whole(&args.output, &bytes)?;
    }
    let card = &bundle.card;
    tracing::info!(
        bundle = %args.output.display(),
        id = bundle.id(),
        bytes = bytes.len(),
        patterns = card.patterns,
        coverage = card.coverage,
        silhouette = card.silhouette,
        vocabulary = card.vocabulary,
        loss = card.loss,
        markov8_loss = card.markov8_loss,
        seconds = started.elapsed().as_secs_f64(),
        "trained"
    );
    Ok(())
}

/// Bytes that this process may take.
fn memory() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the struct is this function's, and the kernel writes no more than it.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_DATA, &raw mut limit) };
    if known == 0 { limit.rlim_cur } else { u64::MAX }
}

fn report(progress: Progress) {
    tracing::debug!(?progress, "training");
}
