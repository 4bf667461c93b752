//! Application types, told by the built-in plugins and by hostile ones.

use std::{fs, path::Path};

use serde::Deserialize;
use stethos::plugin::{HostConfig, Plugin, PluginError, PluginHost, TYPE_COMPONENTS};
use stethos_patterns::usage::Usage;

use super::{component_of, config, run};

/// What a real server did while it was recorded, in normal times.
#[derive(Deserialize)]
struct Known {
    #[serde(rename = "type")]
    kind: String,
    usage: Usage,
}

fn known() -> Vec<(String, Known)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/usages");
    let mut known: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(path).unwrap();
            (name, serde_json::from_str(&text).unwrap())
        })
        .collect();
    known.sort_by(|(a, _), (b, _)| a.cmp(b));
    known
}

#[test]
fn real_servers_are_told_apart_and_strangers_are_claimed_by_none() {
    let host = PluginHost::new(HostConfig::default()).unwrap();
    let plugins: Vec<Plugin> = TYPE_COMPONENTS
        .into_iter()
        .map(|(name, bytes)| host.load(name, bytes).unwrap())
        .collect();
    for plugin in &plugins {
        let about = plugin.description();
        assert!(!about.models);
        assert_eq!(about.application_type, plugin.name());
    }
    let known = known();
    assert!(known.len() >= 20);
    for (product, Known { kind, usage }) in &known {
        let fits = plugins.iter().map(|plugin| {
            let fit = run(plugin.fit(usage)).unwrap();
            (plugin.name(), fit)
        });
        let (best, fit) = fits.max_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap();
        let said = if fit >= 0.5 { best } else { "generic" };
        assert_eq!(said, kind, "{product}: {best} {fit}");
    }
}

#[test]
fn of_what_made_no_calls_nothing_is_said() {
    let host = PluginHost::new(HostConfig::default()).unwrap();
    for (name, bytes) in TYPE_COMPONENTS {
        let plugin = host.load(name, bytes).unwrap();
        assert_eq!(run(plugin.fit(&Usage::default())), Ok(0.0), "{name}");
    }
}

#[test]
fn a_fit_that_is_none_is_a_failure() {
    let usage = &known()[0].1.usage;
    let fit = |answer: &str| {
        let wrong = |text: String| text.replace("    (f32.const 0))", &format!("    {answer})"));
        let bytes = component_of("good", wrong);
        let plugin = PluginHost::new(config())
            .unwrap()
            .load("good", &bytes)
            .unwrap();
        (run(plugin.fit(usage)), plugin.metrics().invalid_answers)
    };
    assert_eq!(fit("(f32.const 0)"), (Ok(0.0), 0));
    for answer in ["(f32.const nan)", "(f32.const -0.1)", "(f32.const 1.5)"] {
        let (result, counted) = fit(answer);
        assert!(
            matches!(result, Err(PluginError::Invalid { .. })),
            "{result:?}"
        );
        assert_eq!(counted, 1);
    }
}

#[test]
fn an_application_type_is_a_short_plain_word() {
    let strange = |text: String| text.replace(r#""generic""#, r#""gen ric""#);
    let error = PluginHost::new(config())
        .unwrap()
        .load("good", &component_of("good", strange))
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("application type \"gen ric\""),
        "{error}"
    );
}
