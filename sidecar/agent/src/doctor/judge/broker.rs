use super::{Check, Probes, State};
use crate::doctor::broker::Broker;

/// Whether a node broker serves sidecars here.
pub(super) fn check(probes: &Probes) -> Check {
    const NAME: &str = "node broker";
    match &probes.broker {
        Broker::Off => Check::new(NAME, State::Note, "off by capture.node_socket"),
        Broker::Absent { socket } => {
            let found = format!("none at {socket}: the sidecar captures by itself");
            Check::new(NAME, State::Note, found)
        }
        Broker::Answers {
            socket,
            speaks,
            record_version,
            pinned,
            pods_served,
        } => {
            let lasts = match pinned {
                true => "capture outlives it",
                false => "capture ends with it",
            };
            let found = format!(
                "at {socket}: speaks protocol {speaks}, records of version {record_version}, \
                 serves {pods_served} pods; {lasts}"
            );
            Check::new(NAME, State::Works, found)
        }
        Broker::Refuses { socket, reason } => {
            Check::new(NAME, State::Degraded, format!("at {socket}: {reason}"))
                .help("the broker's own log says more; both sides are best of one version")
        }
    }
}
