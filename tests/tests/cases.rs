//! Trials of the fault lab, recorded once, give the right diagnosis again: `tests/cases/CLASS-APP`, without
//! root. `cargo xtask lab --again FILES --cases tests/cases` writes them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use serde::Deserialize;
use serde_json::Value;
use stethos_tests::programs;

/// `case.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Which trial it was.
    trial: String,
    /// Right classes of the first confirmed diagnosis; none where Stethos has to be silent.
    classes: Vec<String>,
    /// Unix time in ns: nothing may be confirmed before, nor first after.
    from: u64,
    to: u64,
    /// Folder of bundles, from the case's own.
    models: PathBuf,
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let entries = fs::read_dir(&folder).unwrap_or_else(|_| panic!("{}", folder.display()));
    let folders = entries.map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> = folders
        .filter(|folder| folder.join("case.json").is_file())
        .collect();
    cases.sort();
    cases
}

fn replayed(folder: &Path, case: &Case) -> Vec<Value> {
    let mut command = programs::stethos();
    command.arg("replay").arg("--json");
    command.arg(folder.join("trial.rec"));
    let mut bundles: Vec<PathBuf> = fs::read_dir(folder.join(&case.models))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    bundles.sort();
    for bundle in bundles {
        command.arg("--bundle").arg(bundle);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", case.trial);
    let lines = String::from_utf8(output.stdout).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What is wrong with what Stethos says of a case.
fn wrong(case: &Case, lines: &[Value]) -> Option<String> {
    let confirmed = |line: &&Value| line["stethos.incident.state"] == "confirmed";
    let first = lines.iter().find(confirmed);
    let Some(first) = first else {
        return (!case.classes.is_empty()).then(|| "nothing is confirmed".to_owned());
    };
    let (class, at) = (&first["error.type"], first["observed_timestamp"].as_u64());
    let text = format!("{class} at {at:?}: {}", first["body"]);
    let known = case.classes.iter().any(|right| class == right.as_str());
    let in_time = at.is_some_and(|at| (case.from..=case.to).contains(&at));
    (!known || !in_time).then_some(text)
}

#[test]
fn recorded_trials_are_diagnosed_as_they_were() {
    let cases = cases();
    assert!(!cases.is_empty());
    // Each takes some seconds of a processor, most of which go into compiling the plugin.
    let failures: Vec<String> = thread::scope(|scope| {
        let halves = cases.chunks(cases.len().div_ceil(2));
        let judging: Vec<_> = halves
            .map(|half| scope.spawn(|| half.iter().filter_map(|case| failure(case)).collect()))
            .collect();
        let failures = judging.into_iter().map(|half| half.join().unwrap());
        failures.collect::<Vec<Vec<_>>>().concat()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn failure(folder: &Path) -> Option<String> {
    let path = folder.join("case.json");
    let text = fs::read_to_string(&path).unwrap();
    let case: Case =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let wrong = wrong(&case, &replayed(folder, &case))?;
    let (trial, classes) = (&case.trial, &case.classes);
    Some(format!("{trial} is {classes:?}, said is {wrong}"))
}
