//! What each call number means for the table.

use crate::names::{CallKind, CallTable};
use crate::window::Role;

/// What a call does to the table of descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Nothing,
    /// The returned descriptor has this role.
    Make(Role),
    Accept,
    Listen,
    Connect,
    Duplicate,
    /// `fcntl`, whose command is not captured: a result of 3…1023 that is not in use is taken
    /// for a duplicate (`F_GETFD` gives 0 or 1, `F_GETFL` gives 0…2 or 1024 and more).
    Control,
    Close,
    Read,
    Write,
    /// Succeeds on files only.
    FileWork,
}

#[derive(Debug)]
pub(super) struct Actions(Vec<Action>);

impl Actions {
    pub(super) fn new(table: &CallTable) -> Self {
        let mut actions = Vec::new();
        for nr in table.numbers() {
            let index = usize::from(nr);
            actions.resize(index + 1, Action::Nothing);
            actions[index] = action(table, nr);
        }
        Actions(actions)
    }

    pub(super) fn of(&self, nr: u16) -> Action {
        self.0
            .get(usize::from(nr))
            .copied()
            .unwrap_or(Action::Nothing)
    }
}

/// What the call with this number does.
pub fn action(table: &CallTable, nr: u16) -> Action {
    action_of(table.name(nr), table.kind(nr))
}

fn action_of(name: &str, kind: CallKind) -> Action {
    match name {
        "pread64" | "preadv" | "preadv2" | "pwrite64" | "pwritev" | "pwritev2" | "fsync"
        | "fdatasync" | "getdents" | "getdents64" | "ftruncate" | "fallocate" | "lseek"
        | "_llseek" => return Action::FileWork,
        "memfd_create" => return Action::Make(Role::File),
        "socket" | "eventfd" | "eventfd2" | "timerfd_create" | "epoll_create" | "epoll_create1"
        | "signalfd" | "signalfd4" | "inotify_init" | "inotify_init1" | "pidfd_open"
        | "pidfd_getfd" | "io_uring_setup" | "fanotify_init" | "userfaultfd"
        | "perf_event_open" | "bpf" => return Action::Make(Role::Other),
        "listen" => return Action::Listen,
        "dup" | "dup2" | "dup3" => return Action::Duplicate,
        "fcntl" | "fcntl64" => return Action::Control,
        _ => {}
    }
    match kind {
        CallKind::Open => Action::Make(Role::File),
        CallKind::Connect => Action::Connect,
        CallKind::Accept => Action::Accept,
        CallKind::Close => Action::Close,
        CallKind::Read => Action::Read,
        CallKind::Write => Action::Write,
        _ => Action::Nothing,
    }
}
