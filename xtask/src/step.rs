//! One line a step, with its duration; the full output is kept in a log and shown on failure.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, PipeReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// How much of a failed step's log is repeated on standard error.
const SHOWN_LINES: usize = 60;
/// How often a long step says that it is alive where there is no terminal.
const ALIVE_EVERY: Duration = Duration::from_secs(60);

/// Runs `command` as the step `title`.
///
/// # Errors
/// The command cannot be started or ends unsuccessfully; the end of its output has been shown.
pub(crate) fn run(workspace: &Workspace, title: &str, command: &mut Command) -> Result<()> {
    captured(workspace, title, command).map(drop)
}

/// Like [`run`], and gives the lines of standard output and standard error as they came.
pub(crate) fn captured(
    workspace: &Workspace,
    title: &str,
    command: &mut Command,
) -> Result<Vec<String>> {
    let started = Instant::now();
    let log_path = workspace.logs().join(format!("{}.log", slug(title)));
    std::fs::create_dir_all(workspace.logs())
        .with_context(|| format!("cannot create {}", workspace.logs().display()))?;
    let mut log =
        File::create(&log_path).with_context(|| format!("cannot create {}", log_path.display()))?;
    writeln!(log, "$ {command:?}")?;

    let (reader, writer) = std::io::pipe()?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = command
        .spawn()
        .with_context(|| format!("{title}: cannot start {:?}", command.get_program()))?;
    // The command holds the pipe's other end; without letting go there is no end of file.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let lines = follow(title, reader, &mut log, started)?;
    let status = child.wait()?;
    let seconds = started.elapsed().as_secs_f64();
    if status.success() {
        eprintln!("{title:<44} {seconds:>7.1} s");
        return Ok(lines);
    }
    eprintln!("{title:<44} {seconds:>7.1} s  FAILED");
    let readable: Vec<&String> = lines.iter().filter(|line| !is_message(line)).collect();
    for line in &readable[readable.len().saturating_sub(SHOWN_LINES)..] {
        eprintln!("    {line}");
    }
    bail!("{title}: {status}; full output in {}", log_path.display());
}

fn follow(
    title: &str,
    reader: PipeReader,
    log: &mut File,
    started: Instant,
) -> Result<Vec<String>> {
    let terminal = std::io::stderr().is_terminal();
    let mut said = started;
    let mut lines = Vec::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        writeln!(log, "{line}")?;
        let now: String = line.trim().chars().take(60).collect();
        if is_message(&line) {
            lines.push(line);
            continue;
        }
        if terminal {
            eprint!("\r\x1b[K{title} … {now}");
            std::io::stderr().flush()?;
        } else if said.elapsed() >= ALIVE_EVERY {
            said = Instant::now();
            eprintln!("{title} … {} s  {now}", started.elapsed().as_secs());
        }
        lines.push(line);
    }
    if terminal {
        eprint!("\r\x1b[K");
    }
    Ok(lines)
}

/// One of cargo's messages for programs (`--message-format=json…`).
fn is_message(line: &str) -> bool {
    line.starts_with("{\"reason\"")
}

fn slug(title: &str) -> String {
    title
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(folder: &std::path::Path) -> Workspace {
        Workspace {
            root: folder.to_owned(),
            target: folder.to_owned(),
        }
    }

    #[test]
    fn both_streams_are_captured_and_logged() {
        let folder = tempfile::tempdir().unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo one; echo two >&2"]);
        let lines = captured(&workspace(folder.path()), "two lines", &mut shell).unwrap();
        assert_eq!(lines, ["one", "two"]);
        let log = std::fs::read_to_string(folder.path().join("xtask-logs/two-lines.log")).unwrap();
        assert!(log.ends_with("one\ntwo\n"), "{log}");
    }

    #[test]
    fn a_failed_step_names_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", "exit 3"]);
        let error = run(&workspace(folder.path()), "broken", &mut shell).unwrap_err();
        assert!(error.to_string().contains("broken.log"), "{error}");
    }
}
