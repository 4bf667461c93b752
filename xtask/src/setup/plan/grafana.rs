//! Packages that hold the dashboards of `examples/grafana` against what Grafana says they are.

use std::path::{Path, PathBuf};

use super::servers::TESTS;
use super::{Action, Planner};

/// Node as PyPI has it, where the machine has none that is new enough.
pub(crate) const NODE_VERSION: &str = "24.19.0";
/// What is installed from npm: Grafana's types, of the version that the example runs; grammars of
/// three query languages; the Compose Specification's schema, which `dclint` has; what reads them.
pub(crate) const GRAFANA_PACKAGES: [&str; 12] = [
    "@grafana/schema@12.4.0",
    "@grafana/lezer-logql@0.3.0",
    "@grafana/lezer-traceql@1.0.0",
    "@prometheus-io/lezer-promql@0.315.0",
    "@lezer/common@1.5.5",
    "@lezer/highlight@1.2.5",
    "@lezer/lr@1.4.10",
    "ajv@8.20.0",
    "dclint@3.1.0",
    "ts-json-schema-generator@2.4.0",
    "typescript@5.9.3",
    "yaml@2.9.1",
];
/// Another name where other packages are wanted.
const FOLDER: &str = "grafana-12.4.0";
/// What the packages run on, at least.
const LEAST_NODE: u32 = 20;

/// Where node comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Installed {
        node: PathBuf,
        npm: PathBuf,
    },
    /// From PyPI into its own environment, with this interpreter.
    FromPython(PathBuf),
}

impl Planner<'_> {
    /// A folder with the packages, and with a link to the `node` that runs them.
    pub(super) fn grafana(&mut self, tools: &Path) -> PathBuf {
        if let Some(folder) = self.machine.variable("STETHOS_GRAFANA") {
            return PathBuf::from(folder);
        }
        let folder = tools.join(FOLDER);
        let node = folder.join("node");
        if self.machine.output(&node, &["--version"]).is_some() {
            return folder;
        }
        let node = self.node();
        if let Some(node) = node.or_else(|| self.python(TESTS).map(Node::FromPython)) {
            self.actions.push(Action::Grafana {
                node,
                folder: folder.clone(),
            });
        }
        folder
    }

    /// Node of the machine's own, new enough and with npm.
    fn node(&self) -> Option<Node> {
        let node = self.machine.on_path("node")?;
        let npm = self.machine.on_path("npm")?;
        let version = self.machine.output(&node, &["--version"])?;
        (major(&version)? >= LEAST_NODE).then_some(Node::Installed { node, npm })
    }
}

/// `v20.1.2` is 20.
fn major(told: &str) -> Option<u32> {
    let version = told.trim().strip_prefix('v')?;
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::tests::MadeUp;
    use super::*;
    use crate::setup::Scope;

    fn nodes(machine: &MadeUp) -> Vec<Node> {
        let plan = machine.plan(Scope::Test);
        assert_eq!(plan.grafana, Some("/t/tools/grafana-12.4.0".into()));
        let actions = plan.actions.into_iter();
        let node = |action| match action {
            Action::Grafana { node, folder } => {
                assert_eq!(folder, Path::new("/t/tools/grafana-12.4.0"));
                Some(node)
            }
            _ => None,
        };
        actions.filter_map(node).collect()
    }

    #[test]
    fn the_machines_node_is_taken_where_it_is_new_enough() {
        let with = |version: &str| {
            MadeUp::debian12(true)
                .file("/usr/bin/node")
                .file("/usr/bin/npm")
                .answers("/usr/bin/node --version", version)
        };
        let installed = Node::Installed {
            node: "/usr/bin/node".into(),
            npm: "/usr/bin/npm".into(),
        };
        assert_eq!(nodes(&with("v20.20.2\n")), [installed]);
        let from_python = Node::FromPython("/usr/bin/python3".into());
        assert_eq!(nodes(&with("v18.19.0\n")), [from_python]);
        let ready = with("v20.20.2").answers("/t/tools/grafana-12.4.0/node --version", "v20.20.2");
        assert_eq!(nodes(&ready), []);
    }

    #[test]
    fn the_folder_is_named_by_the_version() {
        let version = FOLDER.trim_start_matches("grafana-");
        assert_eq!(GRAFANA_PACKAGES[0], format!("@grafana/schema@{version}"));
    }
}
