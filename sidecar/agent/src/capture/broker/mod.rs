//! The node broker: one privileged process per node loads the programs and hands each sidecar, over
//! a unix socket, only its own pod's maps, counters and facts. `docs/broker.md` has the protocol
//! and the rights as operators meet them.
//!
//! - `protocol`: frames and how versions are agreed on; `socket`: how frames and descriptors travel
//! - `client`: the sidecar's side, a [`Node`](super::node::Node); `again`: looks for a broker that was
//!   gone
//! - `server`: who may connect; `session`: one sidecar's connection; `end`: why it ends;
//!   `seats`: who is served
//! - `identity`: which pod a peer belongs to; `directory`: one socket per pod
//! - `refusals`: what was refused, counted and told; `pace`: how much of the broker one may use

mod again;
pub mod client;
mod directory;
mod end;
mod identity;
mod pace;
pub mod protocol;
mod refusals;
mod seats;
pub mod server;
mod session;
pub mod socket;

/// Where a broker listens unless it is told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/stethos/node.sock";
