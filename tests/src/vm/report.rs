//! What the first process of a machine says:
//!
//! - `@kernel RELEASE UPTIME`, once, before the first job
//! - `@job INDEX OUTCOME START END` after each job, with its output as lines that begin with `| `
//! - `@broken REASON` when the machine cannot be made ready
//! - `@end` after the last job
//!
//! An outcome is `passed`, `skipped` or `failed:CODE`; times are seconds since the boot.

use std::{collections::BTreeMap, path::PathBuf};

/// How libtest begins the line that `cargo xtask test` counts. The counts of a machine are not
/// those of this machine's tests, so what is quoted says it otherwise.
const RESULT: &str = "test result: ";

/// One test of a test binary in one layout of cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub layout: Layout,
    pub binary: PathBuf,
    pub test: String,
}

/// How cgroups are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Version 2 alone.
    Unified,
    /// Version 2 beside a hierarchy of version 1.
    BesideV1,
}

impl Layout {
    pub fn name(self) -> &'static str {
        match self {
            Layout::Unified => "unified",
            Layout::BesideV1 => "beside-v1",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// `passed`, `skipped` or `failed:CODE`.
    pub word: String,
    pub seconds: f64,
    /// What the test wrote, when it did not pass.
    pub output: String,
}

#[derive(Debug, Default)]
pub struct Report {
    pub release: Option<String>,
    /// Seconds from the kernel's start to the first job.
    pub boot_seconds: f64,
    /// By index of the job.
    pub outcomes: BTreeMap<usize, Outcome>,
    pub broken: Option<String>,
    pub ended: bool,
}

impl Report {
    pub fn parse(text: &str) -> Self {
        let mut report = Self::default();
        let mut last = None;
        for line in text.lines() {
            let line = line.trim_end_matches('\r');
            if let Some(output) = line.strip_prefix("| ") {
                if let Some(outcome) = last.and_then(|index| report.outcomes.get_mut(&index)) {
                    outcome.output += &output.replace(RESULT, "result: ");
                    outcome.output.push('\n');
                }
            } else if let Some(reason) = line.strip_prefix("@broken ") {
                report.broken = Some(reason.to_owned());
            } else {
                last = report.read(line).or(last);
            }
        }
        report
    }

    /// Reads one marked line; gives the job's index when it is one of a job.
    fn read(&mut self, line: &str) -> Option<usize> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["@kernel", release, uptime] => {
                self.release = Some(release.to_owned());
                self.boot_seconds = uptime.parse().unwrap_or_default();
                None
            }
            ["@job", index, word, start, end] => {
                let index = index.parse().ok()?;
                let (start, end) = (start.parse::<f64>().ok()?, end.parse::<f64>().ok()?);
                let outcome = Outcome {
                    word: word.to_owned(),
                    seconds: end - start,
                    output: String::new(),
                };
                self.outcomes.insert(index, outcome);
                Some(index)
            }
            ["@end"] => {
                self.ended = true;
                None
            }
            _ => None,
        }
    }

    /// Everything that is not a passed job: one text for each, empty when all is well.
    pub fn complaints(&self, jobs: &[Job]) -> Vec<String> {
        let mut complaints = Vec::new();
        if let Some(reason) = &self.broken {
            complaints.push(format!("the machine could not be made ready: {reason}"));
        }
        for (index, job) in jobs.iter().enumerate() {
            let name = format!("{} ({})", job.test, job.layout.name());
            match self.outcomes.get(&index) {
                Some(outcome) if outcome.word == "passed" => {}
                Some(outcome) => {
                    let Outcome { word, output, .. } = outcome;
                    complaints.push(format!("{name}: {word}\n{output}"));
                }
                None => complaints.push(format!("{name}: no result")),
            }
        }
        if !self.ended {
            complaints.push("the machine did not come to its end".to_owned());
        }
        complaints
    }

    /// One line a job, with its seconds on that machine.
    pub fn summary(&self, jobs: &[Job]) -> String {
        let release = self.release.as_deref().unwrap_or("no kernel");
        let mut text = format!("{release}, ready after {:.1} s\n", self.boot_seconds);
        for (index, outcome) in &self.outcomes {
            let Some(job) = jobs.get(*index) else {
                continue;
            };
            let (layout, Outcome { word, seconds, .. }) = (job.layout.name(), outcome);
            text += &format!("  {word} {seconds:.1} s {} ({layout})\n", job.test);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(count: usize) -> Vec<Job> {
        let job = |index| Job {
            layout: Layout::Unified,
            binary: "/t/capture-1".into(),
            test: format!("test_{index}"),
        };
        (0..count).map(job).collect()
    }

    const GOOD: &str = "@kernel 6.1.0-56 1.35\r\n@job 0 passed 1.40 2.90\r\n@end\r\n";

    #[test]
    fn a_machine_on_which_all_passed_gives_no_complaint() {
        let report = Report::parse(GOOD);
        assert_eq!(report.release.as_deref(), Some("6.1.0-56"));
        assert_eq!(report.complaints(&jobs(1)), [] as [&str; 0]);
        let summary = report.summary(&jobs(1));
        assert!(
            summary.contains("passed 1.5 s test_0 (unified)"),
            "{summary}"
        );
    }

    #[test]
    fn a_job_that_failed_or_was_skipped_is_told_with_its_output() {
        let text = "@job 0 failed:101 1 2\n| refused\n| @job 1 passed 2 3\n\
                    @job 1 skipped 2 3\n| tool\tx\tnone\n@end\n";
        assert_eq!(
            Report::parse(text).complaints(&jobs(2)),
            [
                "test_0 (unified): failed:101\nrefused\n@job 1 passed 2 3\n",
                "test_1 (unified): skipped\ntool\tx\tnone\n"
            ]
        );
    }

    #[test]
    fn the_counts_of_a_machine_are_not_quoted_as_they_came() {
        let text = "@job 0 failed:101 1 2\n| no newlinetest result: FAILED. 1 failed\n@end\n";
        assert_eq!(
            Report::parse(text).complaints(&jobs(1)),
            ["test_0 (unified): failed:101\nno newlineresult: FAILED. 1 failed\n"]
        );
    }

    #[test]
    fn a_machine_that_stops_early_passes_nothing_that_it_did_not_tell() {
        let cut = GOOD.replace("@end", "");
        assert_eq!(
            Report::parse(&cut).complaints(&jobs(2)),
            [
                "test_1 (unified): no result",
                "the machine did not come to its end"
            ]
        );
        assert_eq!(Report::parse("").complaints(&jobs(0)).len(), 1);
    }

    #[test]
    fn a_machine_that_is_not_ready_says_why() {
        let complaints = Report::parse("@broken cgroup2\n").complaints(&[]);
        assert_eq!(
            complaints[0],
            "the machine could not be made ready: cgroup2"
        );
    }
}
