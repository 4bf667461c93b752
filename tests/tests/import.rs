//! What other tools recorded becomes a recording, is learned from and scored, all without root.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

use std::{fs, path::Path, process::Output};

use serde_json::Value;
use stethos_tests::programs;

fn stethos(arguments: &[&str]) -> Output {
    programs::stethos().args(arguments).output().unwrap()
}

/// Runs and expects success; gives standard output and standard error.
fn done(arguments: &[&str]) -> (String, String) {
    let output = stethos(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    (String::from_utf8_lossy(&output.stdout).into_owned(), said)
}

/// Runs and expects a failure; gives what it said.
fn refused(arguments: &[&str]) -> String {
    let output = stethos(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{arguments:?}: {said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Learns from `normal`, and scores both: name, score and tokens of every sequence.
fn scored(folder: &Path, normal: &Path, other: &Path) -> Vec<(String, f64, u64)> {
    let bundle = folder.join("a.bundle");
    let bundle = text(&bundle);
    done(&["train", text(normal), "-o", bundle, "--time-limit", "5s"]);
    let recordings = [text(normal), text(other)];
    let (lines, _) = done(&[&["score", "--json", "--bundle", bundle], &recordings[..]].concat());
    let parse = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let name = line["sequence"].as_str().unwrap().to_owned();
        let (score, tokens) = (line["score"].as_f64(), line["tokens"].as_u64());
        (name, score.unwrap(), tokens.unwrap())
    };
    lines.lines().map(parse).collect()
}

/// The highest score of sequences whose name starts so.
fn highest(scored: &[(String, f64, u64)], start: &str) -> f64 {
    let scores = scored.iter().filter(|(name, ..)| name.starts_with(start));
    scores.map(|(_, score, _)| *score).fold(0.0, f64::max)
}

/// Calls of a worker that opens, reads and answers; every seventh round it logs.
fn rounds(count: u64, mut write: impl FnMut(u64, &str)) {
    for round in 0..count {
        for call in ["poll", "recvfrom", "openat", "fstat", "read", "close"] {
            write(round, call);
        }
        if round % 7 == 0 {
            write(round, "write");
        }
        write(round, "sendto");
    }
}

#[test]
fn plain_numbers_are_learned_from_and_scored_by_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // poll 168, socketcall 102, open 5, fstat 108, read 3, close 6 of i386.
    let normal = |length: usize| -> String {
        let round = ["168", "102", "5", "108", "3", "6", "102", "4"];
        let words: Vec<&str> = round.iter().copied().cycle().take(length).collect();
        words.join(" ")
    };
    let mut inputs = Vec::new();
    for number in 0..12 {
        let input = path(&format!("normal-{number}.txt"));
        fs::write(&input, normal(300 + number)).unwrap();
        inputs.push(text(&input).to_owned());
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let strange = path("strange.txt");
    fs::write(&strange, normal(100) + " 11 11 300 175 11 2 2 ").unwrap();
    let (recording, other) = (path("normal.rec"), path("strange.rec"));
    let (_, said) = done(&[&["import", "-o", text(&recording)], &inputs[..]].concat());
    assert!(
        said.contains("normal-0.txt is read as numbers of i386"),
        "{said}"
    );
    done(&["import", text(&strange), "-o", text(&other)]);

    let scored = scored(folder.path(), &recording, &other);
    assert_eq!(scored.len(), 13);
    assert_eq!((scored[3].0.as_str(), scored[3].2), ("normal-3.txt", 303));
    let strange = highest(&scored, "strange.txt");
    assert!(strange > 2.0 * highest(&scored, "normal"), "{scored:?}");
}

#[test]
fn strace_output_is_learned_from_and_scored_by_thread() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut lines = String::from("strace: Process 41 attached\n");
    let mut now = 1_700_000_000_000_000u64;
    let mut add = |lines: &mut String, tid: u32, call: &str| {
        now += 200;
        let (seconds, micros) = (now / 1_000_000, now % 1_000_000);
        let time = format!("{tid} {seconds}.{micros:06}");
        let line = match call {
            "openat" => format!("{time} openat(AT_FDCWD, \"/etc/a\", O_RDONLY) = 5 <0.000020>\n"),
            "poll" => format!(
                "{time} poll([{{fd=4}}], 1, -1 <unfinished ...>\n\
                 {time} <... poll resumed>) = 1 ([{{fd=4, revents=POLLIN}}]) <0.000150>\n"
            ),
            "refused" => format!(
                "{time} connect(5, {{sa_family=AF_INET, sin_port=htons(80), \
                 sin_addr=inet_addr(\"10.0.0.2\")}}, 16) = -1 ECONNREFUSED (Connection refused) \
                 <0.000090>\n"
            ),
            call => format!("{time} {call}(4<TCP:[10.0.0.1:80]>, \"x\"..., 64) = 64 <0.000010>\n"),
        };
        lines.push_str(&line);
    };
    rounds(300, |round, call| {
        add(&mut lines, 41 + (round % 2) as u32, call)
    });
    fs::write(path("normal.strace"), &lines).unwrap();
    let mut broken = String::new();
    rounds(20, |_, call| add(&mut broken, 41, call));
    (0..4).for_each(|_| add(&mut broken, 41, "refused"));
    fs::write(path("broken.strace"), broken).unwrap();

    let (normal, other) = (path("normal.rec"), path("broken.rec"));
    done(&["import", text(&path("normal.strace")), "-o", text(&normal)]);
    done(&["import", text(&path("broken.strace")), "-o", text(&other)]);
    let scored = scored(folder.path(), &normal, &other);
    let names: Vec<&str> = scored.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(
        names,
        ["normal.strace:41", "normal.strace:42", "broken.strace:41"]
    );
    assert!(
        highest(&scored, "broken") > 2.0 * highest(&scored, "normal"),
        "{scored:?}"
    );
    let said = refused(&["replay", text(&other), "--bundle", text(&normal)]);
    assert!(said.contains("normal.rec"), "{said}");
    // No diagnosis of what was learned.
    let bundle = path("a.bundle");
    let (diagnoses, _) = done(&["replay", text(&normal), "--bundle", text(&bundle), "--json"]);
    assert_eq!(diagnoses, "");
}

#[test]
fn lid_ds_lines_that_run_backwards_are_learned_from_and_scored_by_thread() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut now = 1_700_000_000_000_000_000u64;
    let mut lines = Vec::new();
    let mut add = |lines: &mut Vec<String>, call: &str| {
        lines.push(format!("{now} | 0 | 9 | > | {call} | size=64 | 1"));
        now += 4000;
        lines.push(format!("{now} | 4000 | 9 | < | {call} | data=x | y | 1"));
        now += 90_000;
    };
    rounds(300, |_, call| add(&mut lines, call));
    let mut strange = Vec::new();
    rounds(20, |_, call| add(&mut strange, call));
    for call in ["execve", "<unknown>", "setuid", "ptrace", "execve"] {
        add(&mut strange, call);
    }
    lines.reverse();
    strange.reverse();
    fs::write(path("normal.sc"), lines.join("\n")).unwrap();
    fs::write(path("strange.sc"), strange.join("\r\n")).unwrap();
    let (normal, other) = (path("normal.rec"), path("strange.rec"));
    done(&["import", text(&path("normal.sc")), "-o", text(&normal)]);
    let (_, said) = done(&["import", text(&path("strange.sc")), "-o", text(&other)]);
    assert!(said.contains("<unknown>"), "{said}");
    let scored = scored(folder.path(), &normal, &other);
    let names: Vec<&str> = scored.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["normal.sc:9", "strange.sc:9"]);
    assert!(scored[1].1 > 2.0 * scored[0].1, "{scored:?}");
}

#[test]
fn dirty_lines_are_left_out_and_the_first_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (input, recording) = (folder.path().join("a.strace"), folder.path().join("a.rec"));
    let mut dirty = b"7 1700000000.000001 getpid() = 7 <0.000001>\r\n\r\n".to_vec();
    dirty.extend(b"\0\xff\xfe nonsense\n7 read(3, \"cut off\n");
    dirty.extend(vec![b'x'; (1 << 20) + 1]);
    dirty.extend(b"\n7 99:99:99 getpid() = 7\n7 1700000000.000009 frobnicate() = ?\n");
    fs::write(&input, dirty).unwrap();
    let (_, said) = done(&["import", text(&input), "-o", text(&recording)]);
    for place in [
        "a.strace: at line 3: no call",
        "a.strace: at line 4: the call has no result",
        "a.strace: at line 5: longer than",
        "skipped=4",
        "calls=2",
        "frobnicate",
    ] {
        assert!(said.contains(place), "{place} is missing: {said}");
    }
    assert!(!said.contains("at line 6"), "{said}");
}

#[test]
fn what_cannot_be_read_is_refused_with_place_and_reason_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (good, bad, recording) = (path("good.txt"), path("bad.txt"), path("a.rec"));
    fs::write(&good, "3 4 5 6\n").unwrap();
    let import = |more: &[&str]| {
        let inputs = ["import", text(&good), text(&bad), "-o", text(&recording)];
        let said = refused(&[&inputs[..], more].concat());
        assert!(!recording.exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        said
    };
    for (content, options, reason) in [
        ("", &[][..], "bad.txt: at line 1: nothing in it"),
        (
            "#!/bin/sh\n",
            &[],
            "bad.txt: at line 1: neither strace output",
        ),
        (
            "\nget\n",
            &["--format", "numbers"],
            "bad.txt: at line 2: \"get\" is no call number",
        ),
        ("\n\r\n", &["--format", "numbers"], "bad.txt: no call in it"),
        ("7 getpid() = 7\n", &[], "looks like strace"),
    ] {
        fs::write(&bad, content).unwrap();
        let said = import(options);
        assert!(said.contains(reason), "{reason} is missing: {said}");
    }
    fs::remove_file(&bad).unwrap();
    fs::create_dir(&bad).unwrap();
    assert!(import(&[]).contains("cannot read"));
    let nowhere = path("no/such/a.rec");
    let said = refused(&["import", text(&good), "-o", text(&nowhere)]);
    assert!(said.contains("no/such"), "{said}");
}
