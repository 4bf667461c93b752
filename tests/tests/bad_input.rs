//! What is wrong is named: file, place and reason; and nothing is changed by it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

use std::{fs, path::Path, process::Output};

use stethos_tests::{programs, simulated};

fn stethos(arguments: &[&str]) -> Output {
    programs::stethos().args(arguments).output().unwrap()
}

/// Runs and expects a failure; gives what it said.
fn refused(arguments: &[&str]) -> String {
    let output = stethos(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success(),
        "{arguments:?} was accepted: {said}"
    );
    assert!(!said.contains("panicked"), "{said}");
    said
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A minute of a server that answers requests.
fn recording(path: &Path) {
    fs::write(path, simulated::service(60..60)).unwrap();
}

#[test]
fn recordings_that_are_foreign_cut_or_damaged_are_refused_with_place_and_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.rec");
    let bundle = folder.path().join("a.bundle");
    recording(&path);
    let whole = fs::read(&path).unwrap();

    fs::write(&path, b"#!/bin/sh\n").unwrap();
    let said = refused(&["replay", text(&path)]);
    assert!(
        said.contains("a.rec: at byte 0: not a Stethos recording"),
        "{said}"
    );

    fs::write(&path, &whole[..whole.len() - 20]).unwrap();
    let said = refused(&["replay", text(&path)]);
    assert!(
        said.contains("a.rec: at byte") && said.contains("cut"),
        "{said}"
    );

    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let said = refused(&["train", text(&path), "-o", text(&bundle)]);
    assert!(said.contains("a.rec: at byte"), "{said}");
    assert!(!bundle.exists());

    let said = refused(&["replay", "/no/such/file.rec"]);
    assert!(said.contains("/no/such/file.rec"), "{said}");
}

#[test]
fn a_bundle_is_made_used_and_refused_when_it_is_not_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.rec");
    let bundle = folder.path().join("a.bundle");
    recording(&path);
    let output = stethos(&[
        "train",
        text(&path),
        "-o",
        text(&bundle),
        "--time-limit",
        "5s",
    ]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );

    // Without root, twice, the same.
    let replay = ["replay", text(&path), "--bundle", text(&bundle), "--json"];
    let (first, second) = (stethos(&replay), stethos(&replay));
    assert!(
        first.status.success(),
        "{}",
        String::from_utf8_lossy(&first.stderr)
    );
    assert_eq!(first.stdout, second.stdout);
    assert!(
        first.stdout.is_empty(),
        "{}",
        String::from_utf8_lossy(&first.stdout)
    );

    let output = stethos(&["score", "--bundle", text(&bundle), text(&path), "--json"]);
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    let line: serde_json::Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
    assert!(
        line["score"].as_f64().is_some_and(|score| score > 0.0),
        "{line}"
    );
    assert!(
        line["tokens"].as_u64().is_some_and(|tokens| tokens > 3000),
        "{line}"
    );

    let whole = fs::read(&bundle).unwrap();
    for bytes in [&whole[..whole.len() / 2], b"not a bundle"] {
        fs::write(&bundle, bytes).unwrap();
        let said = refused(&replay);
        assert!(said.contains("a.bundle"), "{said}");
    }
}

#[test]
fn configuration_mistakes_are_named_all_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stethos.yaml");
    fs::write(&path, "capture:\n  ring_szie: 8MiB\nlearnign: {}\n").unwrap();
    let said = refused(&["--config", text(&path), "run"]);
    assert!(
        said.contains("capture.ring_szie") && said.contains("capture.ring_size"),
        "{said}"
    );
    assert!(
        said.contains("learnign") && said.contains("stethos.yaml"),
        "{said}"
    );
    let said = refused(&["run", "--target", "pod"]);
    assert!(said.contains("self-pod"), "{said}");
}

#[test]
fn what_is_no_plugin_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.wasm");
    fs::write(&path, b"\0asm junk").unwrap();
    let said = refused(&["plugin", "inspect", text(&path)]);
    assert!(said.contains("plugin.wasm"), "{said}");
}

#[test]
fn without_rights_or_target_the_sidecar_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    // The highest pid that can be is not in use here.
    let said = refused(&[
        "run",
        "--target",
        "pid=4194303",
        "--state-dir",
        text(&state),
    ]);
    assert!(
        said.contains("4194303") || said.contains("stethos doctor"),
        "neither the process nor the missing right is named: {said}"
    );
}
