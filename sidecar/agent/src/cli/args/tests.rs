use clap::CommandFactory;

use super::*;
use crate::config::{Config, Variables};

fn parse(line: &str) -> Result<Cli, String> {
    Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string())
}

#[test]
fn the_definitions_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_documented_command_is_understood() {
    for line in [
        "stethos run",
        "stethos run --target self-pod --target cgroup=/shop --target pid=7 --json",
        "stethos --config s.yaml run --state-dir /state",
        "stethos run --config s.yaml --log-level debug",
        "stethos node --socket /run/s.sock --socket-dir /run/pods --allow-any-target",
        "stethos node --unload",
        "stethos doctor --json",
        "stethos record -o a.rec --target pid=7 --duration 30s",
        "stethos replay a.rec b.rec --bundle a.bundle --json",
        "stethos import a.strace -o a.rec",
        "stethos import a.txt b.txt --output a.rec --format numbers --arch i386 --container a",
        "stethos import a.sc -o a.rec --format lid-ds --arch aarch64",
        "stethos train a.rec b.rec -o a.bundle",
        "stethos train a.rec --container api --unseen-mass 0.0015 --time-limit 60s --widened \
         --output a.bundle",
        "stethos train a.rec -o a.bundle --leave-out 5..9 --leave-out 20..30",
        "stethos accept 7f3a --state-dir /state",
        "stethos mute 7f3a --for 30m",
        "stethos score --bundle a.bundle a.rec --json",
        "stethos plugin inspect generic.wasm",
        "stethos config reference",
        "stethos config check --config s.yaml",
    ] {
        parse(line).unwrap();
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (line, text) in [
        (
            "stethos run --target pod",
            "target \"pod\" is none of self-pod",
        ),
        ("stethos record --target pid=7", "--output"),
        ("stethos record -o a.rec --duration soon", "--duration"),
        ("stethos import a.txt", "--output"),
        (
            "stethos import a.txt -o a.rec --format json",
            "possible values: strace, lid-ds, numbers",
        ),
        (
            "stethos import a.txt -o a.rec --arch mips",
            "possible values: i386, x86_64, aarch64",
        ),
        ("stethos train -o a.bundle", "RECORDING"),
        (
            "stethos train a.rec -o b --unseen-mass 2",
            "not a number from 0 to 1",
        ),
        ("stethos train a.rec -o b --leave-out 9..5", "not FROM..TO"),
        ("stethos accept", "<ID>"),
        ("stethos mute 7f3a", "--for <TIME>"),
        ("stethos mute 7f3a --for 30days", "allowed is 1s to 7days"),
        (
            "stethos node --target pid=7",
            "unexpected argument '--target'",
        ),
        (
            "stethos run --log-level loud",
            "possible values: error, warn, info, debug, trace",
        ),
    ] {
        let message = parse(line).unwrap_err();
        assert!(message.contains(text), "{line}: {message}");
    }
}

#[test]
fn flags_reach_the_configuration() {
    let line = "stethos run --target cgroup=/a,b --target pid=7 --state-dir /s --json \
        --log-level warn";
    let flags = parse(line).unwrap().flags();
    let config = Config::load(None, &Variables::new(), &flags).unwrap();
    assert_eq!(
        config.target,
        [Target::Cgroup("/a,b".into()), Target::Pid(7)]
    );
    assert_eq!(config.state_dir, PathBuf::from("/s"));
    assert!(config.json);
    assert_eq!(config.log.level, LogLevel::Warn);
    assert!(parse("stethos run").unwrap().flags().is_empty());
    let flags = parse("stethos doctor --json --state-dir /s")
        .unwrap()
        .flags();
    assert_eq!(flags.len(), 1, "--json of doctor is about its own output");
}
