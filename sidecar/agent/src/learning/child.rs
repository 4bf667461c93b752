//! The process that trains: this binary again, at idle priority, bounded in time and memory,
//! killable at any moment.

use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use thiserror::Error;
use tokio::process::Command;

use crate::record::Nanos;

#[derive(Debug, Error)]
pub enum TrainingError {
    #[error("the training process could not be started: {0}")]
    Start(io::Error),
    #[error("the training process ended with {status}: {message}")]
    Failed {
        status: std::process::ExitStatus,
        message: String,
    },
    #[error("the training process took longer than {0:?} and was ended")]
    TooLong(Duration),
}

/// Bytes with which a training gets along, however much there is to learn from.
pub const LEAST_MEMORY: u64 = 96 << 20;

/// Bytes that a training may take, of which it is allowed `most` and the sidecar's cgroup has `left`;
/// none when that is too little.
pub fn memory(most: u64, left: Option<u64>) -> Option<u64> {
    // What is not its own data counts too: its program, pages of files, kernel memory.
    let memory = left.map_or(most, |left| most.min(left / 4 * 3));
    (memory >= LEAST_MEMORY.min(most)).then_some(memory)
}

/// One training.
#[derive(Clone, Debug)]
pub struct Training {
    /// In the order of their writing.
    pub recordings: Vec<PathBuf>,
    pub container: String,
    pub unseen_mass: f64,
    pub widened: bool,
    /// Times that are left out, in ns of the recording's clock.
    pub left_out: Vec<(Nanos, Nanos)>,
    /// Time for the training itself; the process gets half as much again before it is killed.
    pub time_limit: Duration,
    pub nice: u8,
    /// Bytes of memory (address space) that the process may take.
    pub memory: u64,
}

/// Runs `stethos train` and waits for its bundle, the bytes of a file. Dropping the future kills
/// the process.
pub async fn run(training: Training) -> Result<Vec<u8>, TrainingError> {
    let program = std::env::current_exe().map_err(TrainingError::Start)?;
    let mut command = command(&program, &training);
    let running = command.output();
    let limit = training.time_limit + training.time_limit / 2 + Duration::from_secs(30);
    let output = tokio::time::timeout(limit, running)
        .await
        .map_err(|_| TrainingError::TooLong(limit))?
        .map_err(TrainingError::Start)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let message = errors
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("no message");
    Err(TrainingError::Failed {
        status: output.status,
        message: message.to_owned(),
    })
}

fn command(program: &Path, training: &Training) -> Command {
    let mut command = Command::new(program);
    command
        .arg("train")
        .args(&training.recordings)
        .args(["--container", &training.container])
        .args(["--unseen-mass", &training.unseen_mass.to_string()])
        .arg("--time-limit")
        .arg(format!("{}s", training.time_limit.as_secs().max(1)))
        .args(["--output", "-"])
        // One thread: the application's processors are its own.
        .env("RAYON_NUM_THREADS", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if training.widened {
        command.arg("--widened");
    }
    for (from, to) in &training.left_out {
        command.arg("--leave-out").arg(format!("{from}..{to}"));
    }
    let (nice, memory) = (libc::c_int::from(training.nice), training.memory);
    // SAFETY: only async-signal-safe calls between fork and exec.
    unsafe {
        command.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::setpriority(libc::PRIO_PROCESS, 0, nice);
            die_first();
            let limit = libc::rlimit {
                rlim_cur: memory,
                rlim_max: memory,
            };
            if libc::setrlimit(libc::RLIMIT_DATA, &raw const limit) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        })
    };
    command
}

/// Has the kernel choose this process where memory runs out. Called between fork and exec.
fn die_first() {
    let (file, score) = (c"/proc/self/oom_score_adj", b"1000");
    // SAFETY: the path and the bytes live as long as the program; the descriptor is this function's.
    unsafe {
        let fd = libc::open(file.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd >= 0 {
            libc::write(fd, score.as_ptr().cast(), score.len());
            libc::close(fd);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_training_takes_no_more_than_three_quarters_of_what_is_left() {
        const MIB: u64 = 1 << 20;
        assert_eq!(memory(512 * MIB, None), Some(512 * MIB));
        assert_eq!(memory(512 * MIB, Some(400 * MIB)), Some(300 * MIB));
        assert_eq!(memory(512 * MIB, Some(100 * MIB)), None);
        assert_eq!(memory(64 * MIB, Some(400 * MIB)), Some(64 * MIB));
    }
}
