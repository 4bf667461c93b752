//! What a call that failed is about.

use stethos_patterns::names::CallKind;
use stethos_patterns::{Role, WindowCall};

use crate::diagnosis::errno::*;
use crate::diagnosis::signal::{Cause, error_of};
use crate::diagnosis::signals::Scene;

const STANDARD_ERROR: i32 = 2;

/// A call that failed, and on what.
pub(super) struct Failure {
    pub(super) errno: u8,
    pub(super) cause: Cause,
    /// Path or peer, when known.
    pub(super) subject: Option<String>,
}

impl Failure {
    pub(super) fn errno(scene: &Scene<'_>, call: &WindowCall) -> Option<u8> {
        error_of(call.token, makes_threads(scene.table.name(call.token.call)))
    }

    /// `peer`: the call is known to be a client's, and whose.
    pub(super) fn of(scene: &Scene<'_>, call: &WindowCall, peer: Option<&str>) -> Option<Self> {
        let errno = Self::errno(scene, call)?;
        let name = scene.table.name(call.token.call);
        let cause = cause(scene, call, name, errno, peer)?;
        let subject = scene.subject(call).or_else(|| match &cause {
            Cause::Peer(peer) => Some(peer.clone()).filter(|peer| !peer.is_empty()),
            Cause::Disk => scene.pod.file(scene.pid, call.fd).map(str::to_owned),
            _ => None,
        });
        Some(Failure {
            errno,
            cause,
            subject,
        })
    }
}

/// What the failure is about; none for one that says nothing about the application.
fn cause(
    scene: &Scene<'_>,
    call: &WindowCall,
    name: &str,
    errno: u8,
    of_client: Option<&str>,
) -> Option<Cause> {
    let kind = scene.table.kind(call.token.call);
    let peer = || {
        let told = of_client.map(str::to_owned);
        told.or_else(|| scene.peer(call)).unwrap_or_default()
    };
    let role = of_client.map_or(call.role, |_| Role::Client);
    let served = matches!(role, Role::Server | Role::Listener);
    let path = matches!(
        kind,
        CallKind::Open | CallKind::Write | CallKind::Sync | CallKind::File
    );
    let moves = matches!(kind, CallKind::Read | CallKind::Write | CallKind::Connect)
        || name == "getsockopt";
    Some(match errno {
        ECONNREFUSED | EHOSTUNREACH | ENETUNREACH | ENETDOWN | EHOSTDOWN if !served => {
            Cause::Peer(peer())
        }
        ECONNRESET | EPIPE | ECONNABORTED if role == Role::Client => Cause::Peer(peer()),
        ECONNRESET | EPIPE | ECONNABORTED => return None,
        ETIMEDOUT if moves && !served => Cause::Peer(peer()),
        // A timed wait that ran out.
        ETIMEDOUT => return None,
        ENOSPC | EDQUOT | EFBIG if path && name != "inotify_add_watch" => Cause::Disk,
        EROFS => Cause::Disk,
        EIO if (path || kind == CallKind::Read) && is_file(call, kind) => Cause::Disk,
        EMFILE | ENFILE if name != "inotify_add_watch" => Cause::Descriptors,
        EAGAIN => Cause::Threads,
        ENOMEM => Cause::Memory,
        EADDRINUSE if matches!(name, "bind" | "listen") => Cause::Ports,
        EADDRNOTAVAIL if kind == CallKind::Connect => Cause::Ports,
        ENOENT if kind == CallKind::Open => Cause::Files,
        // A filter that drops what is sent.
        EPERM if kind == CallKind::Write && role == Role::Client => Cause::Peer(peer()),
        EACCES | EPERM if path || matches!(name, "bind" | "connect" | "execve") => Cause::Files,
        _ if served => return None,
        other => Cause::Other(other),
    })
}

fn makes_threads(name: &str) -> bool {
    matches!(name, "clone" | "clone3" | "fork" | "vfork")
}

/// `EIO` on a terminal is not a disk's. What another thread has just opened is not known to be a file
/// while its call is only counted; a terminal is where a process has it from its start.
fn is_file(call: &WindowCall, kind: CallKind) -> bool {
    match call.role {
        Role::File => true,
        Role::None if kind == CallKind::Write => call.fd > STANDARD_ERROR,
        _ => matches!(kind, CallKind::Open | CallKind::Sync),
    }
}
