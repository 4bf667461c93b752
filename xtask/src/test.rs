//! `cargo xtask test`: set-up, build, every test, and one line of counts.
//!
//! A test that cannot run here says so and returns; it never passes in silence. The convention:
//!
//! - `STETHOS_SKIP_LOG` names a file. A test that skips itself appends one line to it,
//!   `NEED<tab>TEST<tab>REASON`, where NEED is one word: `kernel` (eBPF or root), `tool` (a
//!   program that is not installed) or `hardware`. It is counted as skipped, not as passed.
//! - With `STETHOS_TEST_FAST=1` every test whose need is `kernel` skips itself.
//! - With `CI=true` a skipped `kernel` test is a failure, except under `--fast`.
//! - `STETHOS_ROTEL` names the collector's binary, `STETHOS_S3_SERVER` that of the S3 server
//!   (versitygw, or one that takes its arguments), `STETHOS_GRAFANA` the folder with packages of npm
//!   that dashboards are held against, `STETHOS_JAEGER` Jaeger 2, `STETHOS_TRACER` a Python that has
//!   ddtrace. What tests load lies in `artifacts` and `test-artifacts` below cargo's build folder.
//! - `STETHOS_KERNELS` names the folder with other kernels, `VERSION/vmlinuz` each; where one could
//!   not be fetched, `VERSION/missing` says why, and its tests skip themselves with the need
//!   `kernel`. `STETHOS_TEST_BINARIES` lists, like `PATH`, the integration-test binaries of this
//!   build, some of which run there too.
//!
//! A test binary that says nothing for [`SILENCE`] is ended and has failed; the others run.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, PipeReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::build;
use crate::setup::{self, Scope};
use crate::workspace::Workspace;

/// How long the longest test may take without a word.
const SILENCE: Duration = Duration::from_mins(15);

#[derive(Debug, clap::Args)]
pub(crate) struct TestOptions {
    /// Only what needs no root and no kernel programs.
    #[arg(long)]
    fast: bool,
    /// Only these packages of the workspace; may be repeated.
    #[arg(long, short)]
    package: Vec<String>,
    /// Handed to `cargo test`, such as a part of test names.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, options: &TestOptions) -> Result<()> {
    let plan = setup::run(workspace, Scope::Test)?;
    let test_binaries = build::run(workspace, &plan, Scope::Test)?;

    let skip_log = workspace.target.join("skipped-tests");
    fs::write(&skip_log, "").with_context(|| format!("cannot write {}", skip_log.display()))?;
    let mut parts = vec![("STETHOS_SKIP_LOG", skip_log.clone().into_os_string())];
    parts.extend(plan.rotel.map(|rotel| ("STETHOS_ROTEL", rotel.into())));
    parts.extend(
        plan.s3_server
            .map(|server| ("STETHOS_S3_SERVER", server.into())),
    );
    parts.extend(plan.jaeger.map(|jaeger| ("STETHOS_JAEGER", jaeger.into())));
    parts.extend(plan.tracer.map(|python| ("STETHOS_TRACER", python.into())));
    parts.extend(
        plan.grafana
            .map(|folder| ("STETHOS_GRAFANA", folder.into())),
    );
    parts.extend(
        plan.kernels
            .map(|folder| ("STETHOS_KERNELS", folder.into())),
    );
    let test_binaries = std::env::join_paths(test_binaries).context("a build folder with `:`")?;
    parts.push(("STETHOS_TEST_BINARIES", test_binaries));
    let (output, passed_all) = run_tests(workspace, options, &parts)?;
    let skips = Skip::read(&skip_log)?;
    let strict = std::env::var("CI").is_ok_and(|ci| ci == "true") && !options.fast;
    let counts = Counts::new(&output, passed_all, &skips, strict);

    for skip in &skips {
        let what = if strict && skip.is_kernel() {
            "FAILED"
        } else {
            "SKIPPED"
        };
        println!("{what}: {}: {} ({})", skip.test, skip.reason, skip.need);
    }
    println!("{counts}");
    if counts.failed > 0 {
        bail!("{} tests failed", counts.failed);
    }
    Ok(())
}

/// Runs the tests with `parts` as variables and their output passing through; gives what the counts are read from, and
/// whether every cargo ended well.
fn run_tests(
    workspace: &Workspace,
    options: &TestOptions,
    parts: &[(&str, OsString)],
) -> Result<(Tally, bool)> {
    let mut tally = Tally::default();
    let mut passed_all = true;
    for packages in selections(&options.package) {
        let mut cargo = workspace.cargo();
        cargo
            .args(["test", "--release", "--no-fail-fast"])
            .args(packages)
            .args(&options.arguments)
            .envs(parts.iter().map(|(name, value)| (name, value)));
        if options.fast {
            cargo.env("STETHOS_TEST_FAST", "1");
        }
        passed_all &= tally.follow(&mut cargo, SILENCE)?;
    }
    Ok((tally, passed_all))
}

/// The arguments of each cargo call. This program's own tests run apart, with the features that
/// it was compiled with.
fn selections(packages: &[String]) -> Vec<Vec<&str>> {
    if packages.is_empty() {
        return vec![
            vec!["--workspace", "--exclude", "xtask"],
            vec!["--package", "xtask"],
        ];
    }
    let named = packages.iter().flat_map(|name| ["--package", name]);
    vec![named.collect()]
}

/// What the test binaries said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    started: usize,
    finished: usize,
    passed: usize,
    failed: usize,
    ignored: usize,
}

impl Tally {
    /// Runs a command, shows its output and reads it; says whether the command ended well. What the
    /// command started last is ended when nothing is said for `silence`.
    fn follow(&mut self, command: &mut Command, silence: Duration) -> Result<bool> {
        let (reader, writer) = std::io::pipe()?;
        command
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer);
        let mut child = command.spawn().context("cannot start cargo test")?;
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let lines = lines(reader);
        loop {
            match lines.recv_timeout(silence) {
                Ok(line) => {
                    println!("{line}");
                    self.read(&line);
                }
                Err(RecvTimeoutError::Timeout) => end_children(child.id(), silence),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok(child.wait()?.success())
    }

    fn read(&mut self, line: &str) {
        let line = line.trim_start();
        if line.starts_with("Running unittests ")
            || line.starts_with("Running tests/")
            || line.starts_with("Doc-tests ")
        {
            self.started += 1;
        }
        // A test that writes without a line end can stand before the result.
        let Some((_, result)) = line.split_once("test result: ") else {
            return;
        };
        let Some((_, counts)) = result.split_once(". ") else {
            return;
        };
        self.finished += 1;
        for part in counts.split(';') {
            let mut words = part.split_whitespace();
            let number = words.next().and_then(|word| word.parse::<usize>().ok());
            match (number, words.next()) {
                (Some(number), Some("passed")) => self.passed += number,
                (Some(number), Some("failed")) => self.failed += number,
                (Some(number), Some("ignored")) => self.ignored += number,
                _ => {}
            }
        }
    }
}

/// The lines of a pipe, until its last writer is gone or it cannot be read.
fn lines(reader: PipeReader) -> mpsc::Receiver<String> {
    let (said, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            if said.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// Ends the processes that `parent` started.
fn end_children(parent: u32, silence: Duration) {
    let threads = fs::read_dir(format!("/proc/{parent}/task"));
    for thread in threads.into_iter().flatten().flatten() {
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        for child in children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
        {
            println!("FAILED: process {child} is ended: it said nothing for {silence:?}");
            if let Err(error) = kill(Pid::from_raw(child), Signal::SIGKILL) {
                println!("process {child} cannot be ended: {error}");
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Skip {
    need: String,
    test: String,
    reason: String,
}

impl Skip {
    fn read(log: &Path) -> Result<Vec<Self>> {
        let text =
            fs::read_to_string(log).with_context(|| format!("cannot read {}", log.display()))?;
        Ok(text.lines().map(Self::parse).collect())
    }

    fn parse(line: &str) -> Self {
        let mut parts = line.splitn(3, '\t').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Self {
            need: next(),
            test: next(),
            reason: next(),
        }
    }

    fn is_kernel(&self) -> bool {
        self.need == "kernel"
    }
}

/// The counts of a whole run: every test is in exactly one of them.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Counts {
    /// `strict`: a skipped kernel test has failed. A test binary that died without a result, and
    /// a cargo that failed for any other reason, count as one failure each.
    fn new(tally: &Tally, passed_all: bool, skips: &[Skip], strict: bool) -> Self {
        let refused = skips
            .iter()
            .filter(|skip| strict && skip.is_kernel())
            .count();
        let died = tally.started.saturating_sub(tally.finished);
        let mut failed = tally.failed + died + refused;
        if !passed_all && failed == 0 {
            failed = 1;
        }
        Self {
            passed: tally.passed.saturating_sub(skips.len()),
            failed,
            skipped: tally.ignored + skips.len() - refused,
        }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(text: &str) -> Tally {
        let mut tally = Tally::default();
        text.lines().for_each(|line| tally.read(line));
        tally
    }

    const TWO_BINARIES: &str = "\
     Running unittests src/lib.rs (target/release/deps/a-1)
running 3 tests
test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
     Running tests/b.rs (target/release/deps/b-1)
no newlinetest result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1.00s
   Doc-tests a
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    #[test]
    fn a_command_is_read_from_both_streams() {
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            "echo 'Running unittests x' >&2; echo 'test result: ok. 1 passed; 0 failed'; exit 1",
        ]);
        let mut tally = Tally::default();
        assert!(!tally.follow(&mut shell, SILENCE).unwrap());
        assert_eq!((tally.started, tally.finished, tally.passed), (1, 1, 1));
    }

    #[test]
    fn a_binary_that_hangs_is_ended_and_the_next_one_runs() {
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            "echo 'Running unittests x'; sleep 1000; \
             echo 'Running unittests y'; echo 'test result: ok. 2 passed; 0 failed'",
        ]);
        let mut tally = Tally::default();
        assert!(tally.follow(&mut shell, Duration::from_secs(1)).unwrap());
        let counts = Counts::new(&tally, true, &[], false);
        assert_eq!(counts.to_string(), "2 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn all_binaries_are_summed() {
        let tally = tally(TWO_BINARIES);
        let counts = Counts::new(&tally, false, &[], false);
        assert_eq!(counts.to_string(), "7 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn a_binary_that_died_is_a_failure() {
        let tally = tally("     Running unittests src/lib.rs (target/x)\nrunning 3 tests\n");
        let counts = Counts::new(&tally, false, &[], false);
        assert_eq!(counts.to_string(), "0 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn a_build_that_failed_is_a_failure() {
        let counts = Counts::new(&tally("error: could not compile"), false, &[], false);
        assert_eq!(counts.failed, 1);
    }

    #[test]
    fn a_skip_counts_once_and_kernel_skips_fail_in_ci() {
        let tally = tally("test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured");
        let skips = [
            Skip::parse("kernel\tcapture::order\tneeds root"),
            Skip::parse("tool\trotel\tSTETHOS_ROTEL is not set"),
        ];
        let lenient = Counts::new(&tally, true, &skips, false);
        assert_eq!(lenient.to_string(), "3 passed, 0 failed, 2 skipped");
        let strict = Counts::new(&tally, true, &skips, true);
        assert_eq!(strict.to_string(), "3 passed, 1 failed, 1 skipped");
    }
}
