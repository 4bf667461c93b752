//! The program that the benches start beside what they measure.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::lab::Lab;
use crate::workspace::Workspace;

const PROGRAM: &str = "bench-hook";
/// Makes calls of a kind and says how long they take; and one that says under which span it makes them.
pub(super) const CALLS: &str = "bench-calls";
pub(super) const PUBLISHER: &str = "bench-publisher";

/// A running program that has said `ready`; what it attached stays as long as this lives. It ends
/// when its standard input does, which comes too when this process is killed.
pub(super) struct Hook {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Hook {
    /// Starts a program made by [`hook`] or [`command`].
    pub(super) fn start(mut command: Command) -> Result<Self> {
        let process = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Self::ready(process)
    }

    /// Starts one in a cgroup of the lab.
    pub(super) fn start_in(lab: &Lab, group: &str, command: &mut Command) -> Result<Self> {
        Self::ready(lab.spawn(group, command)?)
    }

    fn ready(mut process: Child) -> Result<Self> {
        let output = process.stdout.take().context("no standard output")?;
        let mut hook = Self {
            process,
            output: BufReader::new(output),
        };
        let line = hook.line()?;
        ensure!(line == "ready", "it did not get ready: {line:?}");
        Ok(hook)
    }

    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// How long a call of `bench-calls` or `bench-publisher` takes.
    pub(super) fn nanoseconds(&mut self) -> Result<f64> {
        let answer = self.ask()?;
        answer
            .parse()
            .with_context(|| format!("no number: {answer:?}"))
    }

    /// One line to it, and its answer.
    pub(super) fn ask(&mut self) -> Result<String> {
        let input = self.process.stdin.as_mut().context("no standard input")?;
        input.write_all(b"go\n")?;
        self.line()
    }

    /// Ends its input, and gives what it says before it ends.
    pub(super) fn finish(mut self) -> Result<String> {
        drop(self.process.stdin.take());
        let mut rest = String::new();
        self.output.read_to_string(&mut rest)?;
        let status = self.process.wait()?;
        ensure!(status.success(), "it failed: {status}");
        Ok(rest)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("it ended early");
        }
        Ok(line.trim().to_owned())
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        if let Err(error) = self.process.wait() {
            eprintln!("a program of the bench cannot be waited for: {error}");
        }
    }
}

/// `bench-hook` with these arguments.
pub(super) fn hook(workspace: &Workspace, arguments: &[&str]) -> Command {
    command(workspace, PROGRAM, arguments)
}

/// A program that says how long its calls take, with this argument.
pub(super) fn calls(workspace: &Workspace, program: &str, of: &str) -> Command {
    command(workspace, program, &[of])
}

/// A program of the workspace that is spoken to by lines.
pub(super) fn command(workspace: &Workspace, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(workspace.binary(program));
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}
