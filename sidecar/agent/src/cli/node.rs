//! `stethos node`: the broker.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::args::NodeArgs;
use crate::{
    capture::{
        broker::server::{Bounds, Server, Settings},
        kernel::{self, Capacity},
    },
    config::Config,
};

/// How the broker is asked to end.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// SIGTERM: it is restarted or upgraded, and capture goes on.
    Restart,
    /// SIGINT: a person ends it.
    Unload,
}

pub(super) fn run(config: &Config, args: &NodeArgs) -> anyhow::Result<()> {
    let node = &config.node;
    if args.unload {
        let removed = kernel::unload(&node.pins)?;
        tracing::info!(removed, pins = %node.pins.display(), "unloaded");
        return Ok(());
    }
    let given = |path: &PathBuf| {
        let none = path.as_os_str().is_empty() || path.as_os_str() == "off";
        (!none).then(|| path.clone())
    };
    let pins = given(&node.pins);
    let server = Server::start(Settings {
        socket: given(&node.socket),
        directory: given(&node.socket_dir),
        pins: pins.clone(),
        http: config.trace.http,
        node_root: node.root.clone(),
        bounds: Bounds {
            allow_any_target: args.allow_any_target,
            below: node.below.clone(),
            most: Capacity {
                window_ring_bytes: u32::try_from(node.max_ring_size.bytes()).unwrap_or(1 << 26),
                event_ring_bytes: 1 << 20,
                threads: node.max_threads,
            },
        },
    })?;
    if args.allow_any_target {
        tracing::warn!("sidecars may watch any cgroup and process of this node");
    }
    tracing::info!(
        socket = %node.socket.display(),
        socket_dir = %node.socket_dir.display(),
        pins = %node.pins.display(),
        "the node broker listens"
    );
    let stop = Arc::new(AtomicBool::new(false));
    let serving = {
        let stop = stop.clone();
        std::thread::Builder::new()
            .name("accept".to_owned())
            .spawn(move || {
                let served = server.run(&stop);
                // However it ended, the process does.
                stop.store(true, Ordering::Relaxed);
                served
            })?
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let end = runtime.block_on(asked_to_end(&stop))?;
    stop.store(true, Ordering::Relaxed);
    serving
        .join()
        .map_err(|_| anyhow::anyhow!("the listening thread failed"))?
        .context("listening")?;
    match (end, pins) {
        (End::Unload, Some(pins)) => {
            kernel::unload(&pins)?;
            tracing::info!("unloaded");
        }
        (End::Restart, Some(_)) => {
            tracing::info!("capture goes on; `stethos node --unload` would end it");
        }
        (_, None) => {}
    }
    Ok(())
}

async fn asked_to_end(stop: &AtomicBool) -> anyhow::Result<End> {
    const LOOK: std::time::Duration = std::time::Duration::from_millis(500);
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            _ = term.recv() => return Ok(End::Restart),
            _ = interrupt.recv() => return Ok(End::Unload),
            () = tokio::time::sleep(LOOK) => {
                if stop.load(Ordering::Relaxed) {
                    return Ok(End::Restart);
                }
            }
        }
    }
}
