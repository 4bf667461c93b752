//! How a sidecar looks for its broker when that was gone.

use std::{
    path::PathBuf,
    sync::mpsc::{self, Receiver},
    time::Duration,
};

use super::{
    client::{Joined, join},
    protocol::Join,
};

const BACK_OFF: Duration = Duration::from_millis(100);
const BACK_OFF_MOST: Duration = Duration::from_secs(5);

/// Joins in a thread of its own, so that windows are read meanwhile.
pub(super) fn join_again(path: PathBuf, wish: Join) -> Receiver<Joined> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name("broker".to_owned())
        .spawn(move || {
            let mut wait = BACK_OFF;
            loop {
                std::thread::sleep(wait);
                match join(&path, &wish) {
                    Ok(joined) => {
                        // Nobody listens when the capture has ended.
                        let _ = sender.send(joined);
                        return;
                    }
                    Err(error) => tracing::debug!(%error, "the node broker is not back"),
                }
                wait = (wait * 2)
                    .min(BACK_OFF_MOST)
                    .mul_f64(0.75 + fastrand::f64() / 2.0);
            }
        });
    if let Err(error) = thread {
        tracing::error!(%error, "no thread to join the node broker again");
    }
    receiver
}
