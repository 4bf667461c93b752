//! Builds everything from source: kernel programs, plugins, test guests, the workspace.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use wit_component::ComponentEncoder;

use crate::setup::{Plan, Scope};
use crate::step;
use crate::workspace::{Workspace, shown};

/// Kernel programs of the sidecar, and of the tests and benches.
pub(crate) const KERNEL_CRATES: [&str; 2] = ["sidecar/ebpf", "tests/kernel-programs"];
/// Plugins that the sidecar embeds: every plugin `NAME` of these workspaces becomes `NAME.wasm`.
const PLUGINS: [&str; 2] = ["plugins/generic", "plugins/types"];
const GUESTS: &str = "tests/guests";

/// Builds what `scope` runs. Cargo decides what is stale; an artefact that did not change keeps
/// its file untouched. Gives the integration-test binaries, of which only `Scope::Test` has any.
///
/// # Errors
/// A step failed; its output has been shown.
pub(crate) fn run(workspace: &Workspace, plan: &Plan, scope: Scope) -> Result<Vec<PathBuf>> {
    kernel_programs(workspace, plan, KERNEL_CRATES[0], &workspace.artifacts())?;
    for folder in PLUGINS {
        plugins(workspace, plan, folder)?;
    }
    if scope == Scope::Test {
        test_artifacts(workspace, plan)?;
    }
    let mut cargo = workspace.cargo();
    // Without this program itself: it runs already, and its dependencies' features would be mixed
    // with the others' and compile those anew.
    cargo.args([
        "build",
        "--release",
        "--workspace",
        "--exclude",
        "xtask",
        "--bins",
        "--message-format=json-render-diagnostics",
    ]);
    if scope == Scope::Test {
        // With the tests in the same call, both see the same features and compile once.
        cargo.args(["--lib", "--tests"]);
    }
    let lines = step::captured(workspace, "workspace", &mut cargo)?;
    Ok(test_binaries(&lines))
}

fn test_binaries(lines: &[String]) -> Vec<PathBuf> {
    let tests = artifacts(lines, |artifact| {
        let is_test = artifact["target"]["kind"]
            .as_array()
            .is_some_and(|kinds| kinds.iter().any(|kind| kind == "test"));
        let executable = artifact["executable"].as_str()?;
        is_test.then(|| PathBuf::from(executable))
    });
    tests.into_iter().map(|(_, binary)| binary).collect()
}

/// What tests and benches load beside the product.
pub(crate) fn test_artifacts(workspace: &Workspace, plan: &Plan) -> Result<()> {
    let folder = workspace.test_artifacts();
    if workspace
        .root
        .join(KERNEL_CRATES[1])
        .join("Cargo.toml")
        .exists()
    {
        kernel_programs(workspace, plan, KERNEL_CRATES[1], &folder)?;
    }
    for guest in guest_crates(workspace)? {
        for (name, core) in core_modules(workspace, plan, &guest)? {
            component(&core, &folder.join(format!("{name}.wasm")))?;
        }
    }
    Ok(())
}

/// The crates compiled to wasm: the plugins and the test guests.
pub(crate) fn wasm_crates(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let mut crates: Vec<PathBuf> = PLUGINS
        .iter()
        .map(|folder| workspace.root.join(folder))
        .collect();
    crates.extend(guest_crates(workspace)?);
    Ok(crates)
}

/// The guests' folder is one crate, or holds one crate a folder, or holds none.
fn guest_crates(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let folder = workspace.root.join(GUESTS);
    if folder.join("Cargo.toml").exists() {
        return Ok(vec![folder]);
    }
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut crates = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.join("Cargo.toml").exists() {
            crates.push(path);
        }
    }
    crates.sort();
    Ok(crates)
}

/// Every binary NAME of the crate becomes `NAME.bpf.o`.
fn kernel_programs(workspace: &Workspace, plan: &Plan, folder: &str, into: &Path) -> Result<()> {
    let mut cargo = plan.kernel.cargo("build", &plan.bpf_linker);
    cargo
        .arg("--message-format=json-render-diagnostics")
        .arg("--target-dir")
        .arg(workspace.target.join("ebpf"))
        .current_dir(workspace.root.join(folder));
    let lines = step::captured(
        workspace,
        &format!("kernel programs in {folder}"),
        &mut cargo,
    )?;
    let objects = artifacts(&lines, |artifact| {
        artifact["executable"].as_str().map(PathBuf::from)
    });
    if objects.is_empty() {
        bail!("{folder} made no kernel programs");
    }
    for (name, object) in objects {
        let bytes = read(&object)?;
        write_if_changed(&into.join(format!("{name}.bpf.o")), &bytes)?;
    }
    Ok(())
}

fn plugins(workspace: &Workspace, plan: &Plan, folder: &str) -> Result<()> {
    let modules = core_modules(workspace, plan, &workspace.root.join(folder))?;
    if modules.is_empty() {
        bail!("{folder} made no modules");
    }
    for (name, core) in modules {
        let name = name.trim_start_matches("stethos_plugin_").replace('_', "-");
        component(&core, &workspace.artifacts().join(format!("{name}.wasm")))?;
    }
    Ok(())
}

fn core_modules(
    workspace: &Workspace,
    plan: &Plan,
    folder: &Path,
) -> Result<Vec<(String, PathBuf)>> {
    let mut cargo = plan.wasm.cargo("build");
    cargo
        .arg("--message-format=json-render-diagnostics")
        .arg("--target-dir")
        .arg(workspace.target.join("wasm"))
        .current_dir(folder);
    let title = format!("guests in {}", shown(workspace, folder));
    let lines = step::captured(workspace, &title, &mut cargo)?;
    Ok(artifacts(&lines, |artifact| {
        let is_guest = artifact["target"]["crate_types"]
            .as_array()
            .is_some_and(|types| types.iter().any(|one| one == "cdylib"));
        let files = artifact["filenames"].as_array()?;
        files
            .iter()
            .filter_map(Value::as_str)
            .find(|file| is_guest && file.ends_with(".wasm"))
            .map(PathBuf::from)
    }))
}

/// Name and file of what cargo says that it made, where `file` finds one.
fn artifacts(lines: &[String], file: impl Fn(&Value) -> Option<PathBuf>) -> Vec<(String, PathBuf)> {
    lines
        .iter()
        .filter(|line| line.starts_with('{'))
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .filter_map(|message| {
            let name = message["target"]["name"].as_str()?.to_owned();
            Some((name, file(&message)?))
        })
        .collect()
}

/// Turns a core module with wit-bindgen's metadata into a component. A mark beside it names the
/// module that it was made from, so that an unchanged one is not encoded again.
fn component(core: &Path, component: &Path) -> Result<()> {
    let module = read(core)?;
    let mut hasher = DefaultHasher::new();
    module.hash(&mut hasher);
    let mark = format!("{:016x}\n", hasher.finish());
    let mark_path = component.with_extension("wasm.from");
    if component.exists() && fs::read_to_string(&mark_path).is_ok_and(|old| old == mark) {
        return Ok(());
    }
    let encoded = ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|encoder| encoder.encode())
        .with_context(|| format!("{} is no plugin of a known contract", core.display()))?;
    eprintln!(
        "  {}: {:.2} MiB",
        component.display(),
        encoded.len() as f64 / f64::from(1 << 20)
    );
    write_if_changed(component, &encoded)?;
    write_if_changed(&mark_path, mark.as_bytes())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Leaves an equal file alone: cargo compares times, and would rebuild what embeds it. A reader
/// never sees half of a new one.
fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let write = || -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        fs::write(&new, bytes)?;
        fs::rename(&new, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_artefact_keeps_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/a.bpf.o");
        write_if_changed(&path, b"one").unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000);
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(old).unwrap();
        write_if_changed(&path, b"one").unwrap();
        assert_eq!(path.metadata().unwrap().modified().unwrap(), old);
        write_if_changed(&path, b"two").unwrap();
        assert_ne!(path.metadata().unwrap().modified().unwrap(), old);
        assert_eq!(fs::read(&path).unwrap(), b"two");
    }

    #[test]
    fn cargos_messages_name_the_binaries() {
        let lines = [
            "   Compiling x v0.1.0".to_owned(),
            r#"{"reason":"compiler-artifact","target":{"name":"lib"},"executable":null}"#
                .to_owned(),
            r#"{"reason":"compiler-artifact","target":{"name":"pair"},"executable":"/t/pair"}"#
                .to_owned(),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let found = artifacts(&lines, |one| one["executable"].as_str().map(PathBuf::from));
        assert_eq!(found, [("pair".to_owned(), PathBuf::from("/t/pair"))]);
    }

    #[test]
    fn integration_tests_are_told_from_unit_tests_and_programs() {
        let artifact = |kind: &str, name: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","target":{{"name":"{name}","kind":["{kind}"]}},"executable":"/t/{name}-1"}}"#
            )
        };
        let lines = [
            artifact("lib", "unit"),
            artifact("test", "capture"),
            artifact("bin", "stethos"),
        ];
        assert_eq!(test_binaries(&lines), [PathBuf::from("/t/capture-1")]);
    }
}
