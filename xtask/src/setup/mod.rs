//! Set-up: says what is missing, installs it where it can, and names the compilers to use.

mod install;
mod kernel;
mod machine;
mod plan;

use anyhow::Result;

pub(crate) use plan::{LLVM, Missing, Plan, Scope};

use crate::workspace::Workspace;
use machine::ThisMachine;
use plan::Action;

/// Something is missing that set-up cannot bring on this machine.
#[derive(Debug, thiserror::Error)]
#[error("{}", listed(.0))]
pub(crate) struct NotReady(Vec<Missing>);

fn listed(missing: &[Missing]) -> String {
    let mut text = String::from("this machine lacks:");
    for one in missing {
        text += &format!("\n  {} (for {})\n      {}", one.what, one.why, one.command);
    }
    text += "\non Debian 12 as root, all of it is installed by this command itself";
    text
}

/// Makes the machine ready for `scope`. Looks at files only when all is there.
///
/// # Errors
/// [`NotReady`] when something cannot be brought here; nothing has been installed then. Any other
/// error is an installation that failed.
pub(crate) fn run(workspace: &Workspace, scope: Scope) -> Result<Plan> {
    let mut plan = plan::plan(&ThisMachine, scope, &workspace.tools());
    if !plan.missing.is_empty() {
        return Err(NotReady(plan.missing).into());
    }
    let (mut s3_server, mut jaeger) = (plan.s3_server.clone(), plan.jaeger.clone());
    let mut grafana = plan.grafana.clone();
    for action in &plan.actions {
        match (install::perform(workspace, &plan, action), action) {
            // Where a source cannot be had, a few tests are skipped, by name.
            (Err(error), Action::S3Server(_)) => {
                eprintln!("tests of shared models are skipped: {error:#}");
                s3_server = None;
            }
            (Err(error), Action::Jaeger(_)) => {
                eprintln!("tests with Jaeger are skipped: {error:#}");
                jaeger = None;
            }
            (Err(error), Action::Grafana { .. }) => {
                eprintln!("a check of dashboards is skipped: {error:#}");
                grafana = None;
            }
            (done, _) => done?,
        }
    }
    (plan.s3_server, plan.jaeger, plan.grafana) = (s3_server, jaeger, grafana);
    eprintln!("kernel programs: {} · plugins: {}", plan.kernel, plan.wasm);
    Ok(plan)
}
