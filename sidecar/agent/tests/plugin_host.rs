//! The plugin host against guests that misbehave, and with the built-in plugin.

use std::sync::Arc;
use std::time::Duration;
use std::{fs, thread};

use stethos::plugin::{
    GENERIC_COMPONENT, HostConfig, LoadedModel, Plugin, PluginError, PluginHost, TokenWindow,
};
use stethos_plugin_sdk::sample::{SampleRandom, SampleSize};
use stethos_plugin_sdk::{Model, Window};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const WIT: &str = include_str!("../../../wit/stethos-plugin-0.1/plugin.wit");

/// Makes a component of a guest of `tests/guests`, with `change` made to its WIT and its text.
fn component_of(name: &str, change: impl Fn(String) -> String) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/guests");
    let part = |name: &str| fs::read_to_string(format!("{folder}/{name}.wat")).unwrap();
    let text = format!("(module\n{}\n{})", part(name), part("common"));
    let mut module = wat::parse_str(change(text)).unwrap();
    let mut resolve = Resolve::default();
    let package = resolve.push_str("plugin.wit", &change(WIT.into())).unwrap();
    let world = resolve
        .select_world(&[package], Some("pattern-plugin"))
        .unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default()
        .module(&module)
        .unwrap()
        .validate(true)
        .encode()
        .unwrap()
}

fn component(name: &str) -> Vec<u8> {
    component_of(name, |text| text)
}

fn config() -> HostConfig {
    HostConfig {
        backoff: Duration::from_millis(50),
        ..HostConfig::default()
    }
}

fn run<R>(future: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// A guest of `tests/guests` with a model loaded.
fn started(name: &str, config: HostConfig) -> (Plugin, LoadedModel) {
    let plugin = PluginHost::new(config)
        .unwrap()
        .load(name, &component(name))
        .unwrap();
    let model = run(plugin.load_model(Arc::new([]))).unwrap();
    (plugin, model)
}

fn window(tokens: &[u16]) -> TokenWindow {
    TokenWindow {
        pattern: None,
        tokens: tokens.to_vec(),
    }
}

/// What the guests misbehave on.
fn bad() -> Vec<TokenWindow> {
    vec![window(&[13])]
}

/// The error of a guest on its bad window, after which it must answer the next good one.
fn survived(name: &str) -> (PluginError, Plugin) {
    let (plugin, model) = started(name, config());
    let verdicts = run(plugin.score(model.id, vec![window(&[2, 3])])).unwrap();
    assert_eq!(verdicts[0].surprise, [0.0, 0.0]);
    let error = run(plugin.score(model.id, bad())).unwrap_err();
    let verdicts = run(plugin.score(model.id, vec![window(&[4]), window(&[5, 6, 7])])).unwrap();
    assert_eq!(verdicts[1].expected, [0, 0, 0]);
    assert!(!plugin.metrics().quarantined);
    (error, plugin)
}

#[test]
fn a_trap_costs_its_batch_only() {
    let (error, plugin) = survived("traps");
    assert!(matches!(error, PluginError::Trap { .. }), "{error}");
    assert!(
        error.to_string().starts_with("plugin `traps`: trapped: "),
        "{error}"
    );
    let metrics = plugin.metrics();
    assert_eq!(
        (metrics.traps, metrics.restarts, metrics.batches),
        (1, 1, 3)
    );

    let (error, _) = survived("recurses");
    assert!(matches!(error, PluginError::Trap { .. }), "{error}");
    let (error, _) = survived("points-outside");
    assert!(matches!(error, PluginError::Trap { .. }), "{error}");
}

#[test]
fn a_guest_that_never_returns_is_stopped_at_its_deadline() {
    let (error, plugin) = survived("loops");
    let limit = config().deadline;
    assert_eq!(
        error,
        PluginError::Timeout {
            name: "loops".into(),
            limit
        }
    );
    let metrics = plugin.metrics();
    assert_eq!((metrics.timeouts, metrics.restarts), (1, 1));
    assert!(metrics.guest_time >= limit);
}

#[test]
fn a_guest_that_never_starts_is_refused() {
    let host = PluginHost::new(config()).unwrap();
    let error = host
        .load("never-starts", &component("never-starts"))
        .err()
        .unwrap();
    assert!(matches!(error, PluginError::Timeout { .. }), "{error}");
    assert!(host.load("good", &component("good")).is_ok());
}

#[test]
fn a_guest_gets_no_more_memory_than_its_limit() {
    let (error, plugin) = survived("grows");
    assert_eq!(
        error,
        PluginError::Memory {
            name: "grows".into(),
            limit: 64 << 20
        }
    );
    let metrics = plugin.metrics();
    assert_eq!((metrics.memory_refusals, metrics.traps), (1, 0));
    assert_eq!(
        metrics.memory_bytes,
        2 << 16,
        "the memory of the failed guest is given back"
    );
}

#[test]
fn an_answer_that_would_fill_the_host_is_a_trap() {
    let (error, _) = survived("repeats");
    assert!(matches!(error, PluginError::Trap { .. }), "{error}");
}

#[test]
fn a_verdict_that_is_not_one_is_an_error_of_the_plugin() {
    for (name, reason) in [
        ("short", "0 verdicts for windows, expected 1"),
        ("short-verdict", "0 surprises for tokens, expected 1"),
        ("not-a-number", "surprise NaN"),
        ("strange-id", "expected id 64 in a vocabulary of 64"),
    ] {
        let (error, plugin) = survived(name);
        assert_eq!(
            error,
            PluginError::Invalid {
                name: name.into(),
                reason: reason.into()
            }
        );
        assert_eq!(plugin.metrics().invalid_answers, 1);
    }
    let (plugin, model) = started("good", config());
    let one = run(plugin.assess(model.id, vec![vec![0.0; 4]])).unwrap();
    assert_eq!(one[0].latent, [0.0, 0.0]);
    let error = run(plugin.assess(model.id, vec![vec![0.0; 4]; 2])).unwrap_err();
    let reason = "1 assessments for profiles, expected 2".into();
    assert_eq!(
        error,
        PluginError::Invalid {
            name: "good".into(),
            reason
        }
    );
}

#[test]
fn an_error_of_the_guest_itself_does_not_restart_it() {
    let (error, plugin) = survived("refuses");
    assert_eq!(error.to_string(), "plugin `refuses`: never");
    let metrics = plugin.metrics();
    assert_eq!((metrics.refusals, metrics.restarts), (1, 0));
}

#[test]
fn failures_in_a_row_are_backed_off_and_then_quarantined() {
    let (plugin, model) = started("traps", config());
    let score = |windows| run(plugin.score(model.id, windows));
    assert!(matches!(score(bad()), Err(PluginError::Trap { .. })));
    assert!(matches!(score(bad()), Err(PluginError::Trap { .. })));
    assert!(matches!(
        score(bad()),
        Err(PluginError::BackingOff { failures: 2, .. })
    ));
    assert_eq!(plugin.metrics().traps, 2);
    loop {
        match score(bad()) {
            Err(PluginError::Trap { .. } | PluginError::BackingOff { .. }) => {
                thread::sleep(Duration::from_millis(20));
            }
            other => {
                let quarantined = PluginError::Quarantined {
                    name: "traps".into(),
                    failures: 5,
                };
                assert_eq!(other, Err(quarantined.clone()));
                assert_eq!(score(vec![window(&[2])]), Err(quarantined.clone()));
                assert_eq!(
                    run(plugin.load_model(Arc::new([]))).err(),
                    Some(quarantined)
                );
                break;
            }
        }
    }
    let metrics = plugin.metrics();
    assert_eq!((metrics.traps, metrics.quarantined), (5, true));
}

#[test]
fn a_success_between_failures_keeps_a_plugin_out_of_quarantine() {
    let (plugin, model) = started("traps", config());
    for token in 20..30 {
        assert!(matches!(
            run(plugin.score(model.id, bad())),
            Err(PluginError::Trap { .. })
        ));
        assert!(run(plugin.score(model.id, vec![window(&[token])])).is_ok());
    }
    let metrics = plugin.metrics();
    assert_eq!((metrics.traps, metrics.quarantined), (10, false));
}

#[test]
fn a_component_that_does_not_fit_is_refused_before_it_runs() {
    let host = PluginHost::new(config()).unwrap();
    let refused = |component: &[u8]| host.load("other", component).err().unwrap().to_string();

    // Were it started, it would fail otherwise: its start function never returns.
    let newer = component_of("never-starts", |text| text.replace("@0.1.0", "@0.2.0"));
    assert_eq!(
        refused(&newer),
        "plugin `other`: made for contract stethos:plugin/plugin@0.2.0, \
         this sidecar speaks stethos:plugin/plugin@0.1.0"
    );
    let importing = component_of("imports", |text| {
        text.replace(
            "interface plugin {",
            "interface clock { now: func() -> u64; } interface plugin {",
        )
        .replace("export plugin;", "import clock; export plugin;")
    });
    assert_eq!(
        refused(&importing),
        "plugin `other`: imports stethos:plugin/clock@0.1.0; a plugin gets nothing from outside"
    );
    let different = component_of("good", |text| text.replace("latent: u32,", "latent: s32,"));
    assert!(refused(&different).contains("with other functions or types"));
    let nothing = wat::parse_str("(component)").unwrap();
    assert!(refused(&nothing).contains("exports no contract"));
    let module = wat::parse_str("(module)").unwrap();
    for foreign in [
        &module[..],
        b"(component)",
        b"\x7fELF",
        &newer[..newer.len() / 2],
    ] {
        assert!(
            refused(foreign).contains("not a WebAssembly component"),
            "{}",
            refused(foreign)
        );
    }
    assert!(refused(b"").contains("empty"));
}

#[test]
fn windows_seen_before_are_answered_without_the_guest() {
    let (plugin, model) = started("good", config());
    let score = |windows: &[TokenWindow]| run(plugin.score(model.id, windows.to_vec())).unwrap();
    let some = TokenWindow {
        pattern: Some(0),
        tokens: vec![2, 3],
    };
    let windows = [window(&[2, 3]), window(&[4]), window(&[2, 3]), some];
    assert_eq!(
        score(&windows)
            .iter()
            .map(|v| v.surprise.len())
            .collect::<Vec<_>>(),
        [2, 1, 2, 2]
    );
    let metrics = plugin.metrics();
    assert_eq!(
        (metrics.cache_misses, metrics.cache_hits, metrics.batches),
        (3, 1, 1)
    );
    score(&windows);
    let metrics = plugin.metrics();
    assert_eq!(
        (metrics.cache_misses, metrics.cache_hits, metrics.batches),
        (3, 5, 1)
    );

    let other = run(plugin.load_model(Arc::new([]))).unwrap();
    run(plugin.score(other.id, windows.to_vec())).unwrap();
    assert_eq!(
        plugin.metrics().cache_misses,
        6,
        "another model has verdicts of its own"
    );

    run(plugin.unload_model(model.id)).unwrap();
    let gone = run(plugin.score(model.id, windows.to_vec()));
    assert!(matches!(gone, Err(PluginError::UnknownModel { .. })));
}

#[test]
fn kept_verdicts_and_batches_are_bounded() {
    let config = HostConfig {
        cached_verdicts: 2,
        batch: 3,
        ..config()
    };
    let (plugin, model) = started("good", config);
    let windows: Vec<_> = (20..30).map(|token| window(&[token])).collect();
    run(plugin.score(model.id, windows.clone())).unwrap();
    assert_eq!(plugin.metrics().batches, 4);
    run(plugin.score(model.id, windows[8..].to_vec())).unwrap();
    assert_eq!(plugin.metrics().cache_hits, 2);
    run(plugin.score(model.id, windows[..2].to_vec())).unwrap();
    assert_eq!(plugin.metrics().cache_misses, 12);
}

#[test]
fn compiled_components_are_kept_and_damaged_ones_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let kept = || -> Vec<_> {
        let files = fs::read_dir(folder.path()).unwrap();
        files.map(|file| file.unwrap().path()).collect()
    };
    let config = HostConfig {
        compiled: Some(folder.path().into()),
        ..config()
    };
    let load = || {
        let plugin = PluginHost::new(config.clone())
            .unwrap()
            .load("g", &component("good"));
        assert_eq!(plugin.unwrap().description().name, "test");
    };
    load();
    let [file] = &kept()[..] else {
        panic!("one file for one component: {:?}", kept())
    };
    let sound = fs::read(file).unwrap();
    let modified = fs::metadata(file).unwrap().modified().unwrap();
    load();
    assert_eq!(
        fs::metadata(file).unwrap().modified().unwrap(),
        modified,
        "taken, not made"
    );

    for damage in [&sound[..sound.len() - 1], &sound[..7], b""] {
        fs::write(file, damage).unwrap();
        load();
        assert_eq!(fs::read(file).unwrap().len(), sound.len());
    }
    let mut flipped = sound.clone();
    flipped[sound.len() / 2] ^= 1;
    fs::write(file, &flipped).unwrap();
    load();
    assert_ne!(fs::read(file).unwrap(), flipped);
    assert_eq!(kept().len(), 1);
}

#[test]
fn a_folder_that_others_can_write_to_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let config = HostConfig {
        compiled: Some(folder.path().into()),
        ..config()
    };
    PluginHost::new(config)
        .unwrap()
        .load("good", &component("good"))
        .unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_plugin_outlives_its_host_and_ends_with_its_last_handle() {
    let (plugin, model) = started("loops", config());
    let clone = plugin.clone();
    drop(plugin);
    let error = run(clone.score(model.id, bad())).unwrap_err();
    assert!(
        matches!(error, PluginError::Timeout { .. }),
        "the clock runs on: {error}"
    );
}

fn generic(config: HostConfig) -> Plugin {
    assert!(
        !GENERIC_COMPONENT.is_empty(),
        "`cargo xtask build` makes the generic plugin"
    );
    PluginHost::new(config)
        .unwrap()
        .load("generic", GENERIC_COMPONENT)
        .unwrap()
}

/// Windows of all lengths, for the guest and for the same code run natively.
fn mixed_windows(size: &SampleSize) -> (Vec<TokenWindow>, Vec<Window>) {
    let mut random = SampleRandom::new(5);
    (0..100u64)
        .flat_map(|seed| size.windows(1, 1 + random.below(64), seed))
        .map(|window| {
            let of_guest = TokenWindow {
                pattern: window.pattern,
                tokens: window.tokens.clone(),
            };
            (of_guest, window)
        })
        .unzip()
}

#[test]
fn the_generic_plugin_scores_as_native_code_does_and_purely() {
    let plugin = generic(HostConfig {
        cached_verdicts: 1,
        ..HostConfig::default()
    });
    assert_eq!(plugin.description().application_type, "generic");
    let size = SampleSize::default();
    let bytes = size.model(3).unwrap();
    let model = run(plugin.load_model(bytes.clone().into())).unwrap();
    let shape = (
        model.shape.vocabulary,
        model.shape.patterns,
        model.shape.profile,
    );
    assert_eq!(shape, (64, 8, 96));

    let (windows, native) = mixed_windows(&size);
    let expected = Model::read(&bytes).unwrap().score(&native).unwrap();
    let verdicts = run(plugin.score(model.id, windows.clone())).unwrap();
    for (verdict, expected) in verdicts.iter().zip(&expected) {
        for (surprise, expected) in verdict.surprise.iter().zip(&expected.surprise) {
            assert!(
                (surprise - expected).abs() < 1e-4,
                "{surprise} in the guest, {expected}"
            );
        }
    }
    let bits = |surprise: &[f32]| surprise.iter().map(|s| s.to_bits()).collect::<Vec<_>>();
    for (window, verdict) in windows.iter().zip(&verdicts).rev() {
        let alone = run(plugin.score(model.id, vec![window.clone()])).unwrap();
        assert_eq!(bits(&alone[0].surprise), bits(&verdict.surprise));
        assert_eq!(alone[0].expected, verdict.expected);
    }

    let profile = vec![0.5; 96];
    let assessed = run(plugin.assess(model.id, vec![profile.clone()])).unwrap();
    let expected = Model::read(&bytes).unwrap().assess(&[profile]).unwrap();
    let difference = assessed[0].reconstruction_error - expected[0].reconstruction_error;
    assert!(difference.abs() < 1e-4 * expected[0].reconstruction_error);
}

#[test]
fn the_generic_plugin_refuses_what_is_no_model_and_lives() {
    let plugin = generic(HostConfig::default());
    let refused = run(plugin.load_model(Arc::new(*b"no safetensors"))).unwrap_err();
    assert!(matches!(refused, PluginError::Refused { .. }), "{refused}");
    let size = SampleSize::default();
    let model = run(plugin.load_model(size.model(3).unwrap().into())).unwrap();
    let refused = run(plugin.score(model.id, vec![window(&[64])])).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "plugin `generic`: window 0 has token id 64, the vocabulary has 64"
    );
    assert!(run(plugin.score(model.id, vec![window(&[63])])).is_ok());
    assert_eq!(plugin.metrics().restarts, 0);
}
