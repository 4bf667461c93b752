//! The plugin that is part of the sidecar, and compiling beside it.

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use tokio::task::JoinHandle;

use super::watched::Serving;
use crate::plugin::{GENERIC_COMPONENT, Plugin, PluginError, PluginHost};

/// The built-in plugin. Compiling it takes seconds where it was not compiled before; it is not
/// needed until something is watched.
pub(super) enum Builtin {
    Waiting(Arc<PluginHost>),
    Starting(JoinHandle<Result<Plugin, PluginError>>),
    Ready(Plugin),
    Failed(String),
}

impl Builtin {
    /// Begins to start it, on a tokio runtime. `cache`: where compiled plugins are kept.
    pub(super) fn begin(&mut self, cache: Option<PathBuf>) {
        let waiting = std::mem::replace(self, Builtin::Failed(String::new()));
        *self = match waiting {
            Builtin::Waiting(host) => Builtin::Starting(tokio::task::spawn_blocking(move || {
                compile_beside(&host, GENERIC_COMPONENT, None, cache.as_deref());
                host.load("generic", GENERIC_COMPONENT)
            })),
            begun => begun,
        };
    }

    /// Gives it a model; waits until it has started.
    pub(super) async fn serve(&mut self, model: Arc<[u8]>) -> anyhow::Result<Serving> {
        let plugin = self.plugin().await?;
        let model = plugin.load_model(model).await?.id;
        Ok(Serving {
            plugin,
            model,
            builtin: true,
        })
    }

    /// None while it has not started.
    pub(super) fn started(&self) -> Option<&Plugin> {
        match self {
            Builtin::Ready(plugin) => Some(plugin),
            Builtin::Waiting(_) | Builtin::Starting(_) | Builtin::Failed(_) => None,
        }
    }

    /// Waits until it has started, where that has begun.
    pub(super) async fn settle(&mut self) {
        if let Builtin::Starting(starting) = self {
            let started = starting.await.map_err(anyhow::Error::from);
            *self = match started.and_then(|result| result.map_err(anyhow::Error::from)) {
                Ok(plugin) => Builtin::Ready(plugin),
                Err(error) => Builtin::Failed(format!("{error:#}")),
            };
        }
    }

    async fn plugin(&mut self) -> anyhow::Result<Plugin> {
        self.settle().await;
        match self {
            Builtin::Ready(plugin) => Ok(plugin.clone()),
            Builtin::Failed(reason) => Err(anyhow::anyhow!("{reason}")),
            Builtin::Waiting(_) | Builtin::Starting(_) => {
                Err(anyhow::anyhow!("the built-in plugin was not started"))
            }
        }
    }
}

/// Has a component that was not compiled before compiled by a process of its own, so that the
/// sidecar stays small. Where that fails, loading compiles.
pub(super) fn compile_beside(
    host: &PluginHost,
    component: &[u8],
    file: Option<&Path>,
    cache: Option<&Path>,
) {
    let Some(cache) = cache.filter(|_| host.must_compile(component)) else {
        return;
    };
    let compiled = std::env::current_exe().and_then(|program| {
        let mut command = Command::new(program);
        command
            .args(["plugin", "compile", "--into"])
            .arg(cache)
            .args(file);
        // SAFETY: only an async-signal-safe call between fork and exec.
        unsafe {
            command.pre_exec(|| {
                // It ends with the sidecar.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            })
        };
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
    });
    match compiled {
        Ok(status) if status.success() => {}
        Ok(status) => tracing::debug!(%status, "a plugin was not compiled beside the sidecar"),
        Err(error) => tracing::debug!(%error, "a plugin was not compiled beside the sidecar"),
    }
}
