//! What is refused before it runs, and the folder of compiled components.

use std::fs;

use stethos::plugin::{HostConfig, PluginError, PluginHost};

use super::{component, component_of, config};

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
    let reason = refused(&different);
    assert!(reason.contains("with other functions or types"), "{reason}");
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
