use std::time::Duration;

use super::*;

fn load(file: Option<&str>, variables: &[(&str, &str)]) -> Result<Config, String> {
    load_with(file, variables, &[])
}

fn load_with(
    file: Option<&str>,
    variables: &[(&str, &str)],
    flags: &[Flag],
) -> Result<Config, String> {
    let variables = variables
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect();
    let file = file.map(|text| ("stethos.yaml", text));
    layers::merge(file, &variables, flags).map_err(|error| error.to_string())
}

fn refusal(file: &str) -> String {
    load(Some(file), &[]).unwrap_err()
}

fn variable_refusal(name: &str, value: &str) -> String {
    load(None, &[(name, value)]).unwrap_err()
}

fn flag(name: &'static str, key: &'static str, word: &str) -> Flag {
    Flag {
        name,
        key,
        words: vec![word.to_string()],
    }
}

#[test]
fn nothing_given_means_the_defaults() {
    assert_eq!(load(None, &[]), Ok(Config::default()));
    assert_eq!(load(Some(""), &[]), Ok(Config::default()));
    assert_eq!(load(Some("# only a comment\n"), &[]), Ok(Config::default()));
    assert_eq!(
        load(Some("capture:\n  # all left out\n"), &[]),
        Ok(Config::default())
    );
}

#[test]
fn flags_win_over_variables_and_those_over_the_file() {
    let file = "
target: [cgroup=/file]
state_dir: /file
capture: { poll_interval: 10ms, max_threads: 100 }
";
    let variables = [
        ("STETHOS_STATE_DIR", "/variable"),
        ("STETHOS_TARGET", "pid=7, cgroup=/variable"),
        ("STETHOS_CAPTURE_MAX_THREADS", "200"),
        ("STETHOS_JSON", "true"),
        ("STETHOS_LOG_LEVEL", ""),
        ("HOME", "/root"),
    ];
    let flags = [flag("--state-dir", "state_dir", "/flag")];
    let config = load_with(Some(file), &variables, &flags).unwrap();
    assert_eq!(config.state_dir, Path::new("/flag"));
    assert_eq!(
        config.target,
        [Target::Pid(7), Target::Cgroup("/variable".into())]
    );
    assert_eq!(config.capture.max_threads, 200);
    assert_eq!(config.capture.poll_interval, Duration::from_millis(10));
    assert!(config.json);
    assert_eq!(config.capture.ring_size, Size::mib(2));
    assert_eq!(config.log.level, LogLevel::Info);
}

#[test]
fn plugins_are_a_list_of_sections_in_file_and_variable() {
    let file = "
plugins:
  load:
    - file: /plugins/nginx.wasm
      for: { image: nginx }
    - file: /plugins/rest.wasm
";
    let of_file = load(Some(file), &[]).unwrap();
    let text =
        r#"[{file: /plugins/nginx.wasm, for: {image: nginx}}, {"file": "/plugins/rest.wasm"}]"#;
    let of_variable = load(None, &[("STETHOS_PLUGINS_LOAD", text)]).unwrap();
    assert_eq!(of_file, of_variable);
    assert_eq!(
        of_file.plugins.load[0].serves.image.as_deref(),
        Some("nginx")
    );
    assert_eq!(of_file.plugins.load[1].serves, PluginSelector::default());
}

#[test]
fn an_unknown_key_is_named_with_its_file_and_a_suggestion() {
    assert_eq!(
        refusal("capture: { ring_szie: 4MiB }"),
        "stethos.yaml: unknown key `capture.ring_szie`; did you mean `capture.ring_size`?"
    );
    assert_eq!(
        refusal("ring_size: 4MiB"),
        "stethos.yaml: unknown key `ring_size`; did you mean `capture.ring_size`?"
    );
    assert_eq!(
        refusal("captur: { ring_size: 4MiB }"),
        "stethos.yaml: unknown key `captur`; did you mean `capture`?"
    );
    assert_eq!(refusal("colour: red"), "stethos.yaml: unknown key `colour`");
    assert_eq!(
        refusal("plugins: { load: [{ file: /a }, { fiel: /b }] }"),
        "stethos.yaml: unknown key `plugins.load[1].fiel`; did you mean `plugins.load[1].file`?"
    );
}

#[test]
fn an_unknown_variable_is_named_with_a_suggestion() {
    assert_eq!(
        variable_refusal("STETHOS_CAPTURE_RINGSIZE", "4MiB"),
        "unknown variable STETHOS_CAPTURE_RINGSIZE; did you mean `STETHOS_CAPTURE_RING_SIZE`?"
    );
    assert_eq!(
        variable_refusal("STETHOS_COLOUR", "red"),
        "unknown variable STETHOS_COLOUR"
    );
}

#[test]
fn variables_of_a_kubernetes_service_are_let_be() {
    let names = [
        "STETHOS_SERVICE_HOST",
        "STETHOS_SERVICE_PORT",
        "STETHOS_SERVICE_PORT_OTLP_GRPC",
        "STETHOS_PORT",
        "STETHOS_PORT_4317_TCP",
        "STETHOS_PORT_4317_TCP_ADDR",
        "STETHOS_WEBHOOK_SERVICE_HOST",
        "STETHOS_WEBHOOK_PORT_443_TCP_PROTO",
    ];
    let variables: Vec<_> = names.iter().map(|name| (*name, "10.0.0.1")).collect();
    assert_eq!(load(None, &variables), Ok(Config::default()));
    assert!(load(None, &[("STETHOS_PORT_OF_CALL", "x")]).is_err());
}

#[test]
fn a_value_of_the_wrong_type_is_named_with_key_and_place() {
    let cases = [
        (
            "capture: { poll_interval: soon }",
            "capture.poll_interval",
            "soon",
        ),
        (
            "capture: { poll_interval: 25 }",
            "capture.poll_interval",
            "25",
        ),
        (
            "capture: { ring_size: big }",
            "capture.ring_size",
            "\"big\" is not a size such as 4MiB",
        ),
        (
            "capture: { max_threads: many }",
            "capture.max_threads",
            "many",
        ),
        (
            "capture: { max_threads: 2.7 }",
            "capture.max_threads",
            "found 2.7, expected type integer",
        ),
        (
            "learning: { unseen_bound: true }",
            "learning.unseen_bound",
            "true",
        ),
        ("json: 5", "json", "found 5, expected type boolean"),
        ("capture: { max_threads: -1 }", "capture.max_threads", "-1"),
        ("json: perhaps", "json", "perhaps"),
        ("log: { level: loud }", "log.level", "loud"),
        (
            "target: [self-pod, somewhere]",
            "target[1]",
            "self-pod, cgroup=PATH, pid=NUMBER",
        ),
        (
            "target: [pid=0]",
            "target[0]",
            "self-pod, cgroup=PATH, pid=NUMBER",
        ),
        (
            "capture: 5",
            "capture",
            "ring_size, poll_interval, snapshot_interval, max_threads, reduce",
        ),
        (
            "plugins: { load: [{ for: { image: a } }] }",
            "plugins.load[0]",
            "`file` is missing",
        ),
        (
            "plugins: { load: [/a.wasm] }",
            "plugins.load[0]",
            "file, for",
        ),
    ];
    for (file, key, text) in cases {
        let message = refusal(file);
        assert!(
            message.starts_with(&format!("stethos.yaml: `{key}`: ")),
            "{file}: {message}"
        );
        assert!(message.contains(text), "{file}: {message}");
        assert!(!message.contains('\n'), "{file}: {message}");
    }
    assert_eq!(
        variable_refusal("STETHOS_CAPTURE_MAX_THREADS", "many"),
        "variable STETHOS_CAPTURE_MAX_THREADS: `capture.max_threads`: \
         found string \"many\", expected an integer"
    );
    let message = load_with(None, &[], &[flag("--target", "target", "pod")]).unwrap_err();
    assert!(
        message.starts_with("flag --target: `target[0]`: target \"pod\" is none of"),
        "{message}"
    );
    let message = variable_refusal("STETHOS_PLUGINS_LOAD", "[{file: ");
    assert!(message.starts_with("variable STETHOS_PLUGINS_LOAD: `plugins.load`: not a list"));
}

#[test]
fn a_value_out_of_range_is_named_with_what_is_allowed() {
    assert_eq!(
        refusal("capture: { poll_interval: 2s }"),
        "stethos.yaml: `capture.poll_interval` is 2s; allowed is 1ms to 1s"
    );
    assert_eq!(
        refusal("capture: { ring_size: 5MiB }"),
        "stethos.yaml: `capture.ring_size` is 5MiB; allowed is a power of two"
    );
    assert_eq!(
        variable_refusal("STETHOS_LEARNING_TRAINING_NICE", "20"),
        "variable STETHOS_LEARNING_TRAINING_NICE: `learning.training.nice` is 20; \
         allowed is 0 to 19"
    );
    assert!(refusal("learning: { unseen_bound: 0.9 }").contains("0.000001 to 0.5"));
    assert!(variable_refusal("STETHOS_LEARNING_UNSEEN_BOUND", "NaN").contains("0.000001 to 0.5"));
    assert_eq!(
        refusal("target: []"),
        "stethos.yaml: `target` is empty; allowed is a list of at least 1"
    );
    assert_eq!(
        load(
            Some("learning: { min_duration: 1h }"),
            &[("STETHOS_LEARNING_CEILING", "30m")]
        ),
        Err(
            "stethos.yaml: `learning.min_duration` is 1h; allowed is at most learning.ceiling"
                .to_string()
        )
    );
}

#[test]
fn a_model_store_is_one_of_four_kinds() {
    let url = |url: &str| load(None, &[("STETHOS_LEARNING_STORE_URL", url)]);
    assert!(url("s3://models/shop").is_ok());
    let message = url("https://models").unwrap_err();
    assert!(message.contains("`learning.store.url`"), "{message}");
}

#[test]
fn everything_wrong_is_said_at_once() {
    let message = load(
        Some("one: 1\ncapture: { two: 2 }"),
        &[("STETHOS_THREE", "3"), ("STETHOS_JSON", "perhaps")],
    )
    .unwrap_err();
    for text in [
        "`one`",
        "`capture.two`",
        "STETHOS_THREE",
        "variable STETHOS_JSON: `json`",
    ] {
        assert!(message.contains(text), "{text} in {message}");
    }
    assert_eq!(message.lines().count(), 4);
}

#[test]
fn what_is_not_yaml_is_refused_with_its_place() {
    let message = refusal("capture:\n  ring_size: [4MiB\njson: true\n");
    assert!(message.starts_with("stethos.yaml: not YAML: "), "{message}");
    assert!(message.contains("line 3"), "{message}");
    for text in ["- a\n- b\n", "just words", "a: 1\n---\nb: 2\n"] {
        assert!(
            refusal(text).starts_with("stethos.yaml: not YAML: "),
            "{text}"
        );
    }
}

#[test]
fn the_file_comes_from_the_flag_or_the_variable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.yaml");
    std::fs::write(&path, "json: true").unwrap();
    let named = |name: &str| Variables::from([(FILE_VARIABLE.to_string(), name.to_string())]);
    assert!(
        Config::load(Some(&path), &named("/absent"), &[])
            .unwrap()
            .json
    );
    assert!(
        Config::load(None, &named(path.to_str().unwrap()), &[])
            .unwrap()
            .json
    );
    assert!(!Config::load(None, &named(""), &[]).unwrap().json);
    let message = Config::load(None, &named("/absent/s.yaml"), &[])
        .unwrap_err()
        .to_string();
    assert!(
        message.starts_with("/absent/s.yaml: cannot be read: "),
        "{message}"
    );
}

#[test]
fn sizes_print_as_they_are_read() {
    for (text, bytes) in [
        ("0B", 0),
        ("1000B", 1000),
        ("4KiB", 4096),
        ("3MiB", 3 << 20),
    ] {
        assert_eq!(text.parse(), Ok(Size(bytes)));
        assert_eq!(Size(bytes).to_string(), text);
    }
    assert_eq!("512".parse(), Ok(Size(512)));
    assert!("-1".parse::<Size>().is_err() && "four".parse::<Size>().is_err());
}

#[test]
fn every_key_has_documentation_a_variable_of_its_own_and_a_readable_range() {
    let schema = keys::schema();
    let all = keys::all(keys::Node::root(&schema));
    let mut variables: Vec<String> = all.iter().map(|(key, _)| keys::variable(key)).collect();
    for (key, node) in &all {
        assert!(node.description().ends_with('.'), "{key}");
        if let Some((least, greatest)) = node.range() {
            let number = |text| check::magnitude(node.format(), text).unwrap();
            assert!(number(least) < number(greatest), "{key}");
        } else {
            assert!(
                !["duration", "size", "integer", "number"].contains(&node.format()),
                "{key}"
            );
        }
    }
    variables.push(FILE_VARIABLE.to_string());
    variables.sort();
    variables.dedup();
    assert_eq!(variables.len(), all.len() + 1);
}

#[test]
fn the_reference_file_is_current_and_holds_the_defaults() {
    let committed = include_str!("../../../../stethos.reference.yaml");
    assert_eq!(
        committed,
        reference(),
        "renew it with `stethos config reference`"
    );
    assert_eq!(load(Some(committed), &[]), Ok(Config::default()));
    let schema = keys::schema();
    for (key, _) in keys::all(keys::Node::root(&schema)) {
        let name = key.rsplit('.').next().unwrap();
        assert!(committed.contains(&format!("{name}:")), "{key}");
    }
}

/// Not only the defaults parse: a value changed in the text changes the configuration.
#[test]
fn the_reference_file_is_read_key_by_key() {
    let changed = reference().replace("spans_per_minute: 30", "spans_per_minute: 7");
    let mut expected = Config::default();
    expected.export.spans_per_minute = 7;
    assert_eq!(load(Some(&changed), &[]), Ok(expected));
}
