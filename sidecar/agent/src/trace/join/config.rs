//! Bounds of the join, and the calls that it looks at.

use stethos_patterns::names;

use crate::record::Nanos;

use super::SECOND;
use super::births::Turning;

#[derive(Clone, Debug)]
pub struct JoinConfig {
    /// Threads with a timeline at one time.
    pub max_threads: usize,
    /// Requests kept per thread and direction.
    pub max_requests: usize,
    /// Requests kept in all.
    pub max_total: usize,
    /// A request opened longer than this before a call is not its context.
    pub max_age_ns: Nanos,
    /// Numbers of the calls that event loops wait in.
    pub event_loop: Vec<u16>,
    /// Numbers of the calls that say what threads turn to.
    pub turning: Turning,
}

impl JoinConfig {
    /// With the calls of an architecture.
    pub fn of_arch(arch: &str) -> Self {
        let table = names::table(arch);
        let numbers = |names: &[&str]| {
            let numbers = names.iter().filter_map(|name| table.number(name));
            numbers.collect()
        };
        JoinConfig {
            event_loop: numbers(&["epoll_wait", "epoll_pwait", "epoll_pwait2"]),
            turning: Turning::new(numbers),
            ..JoinConfig::default()
        }
    }
}

impl Default for JoinConfig {
    fn default() -> Self {
        JoinConfig {
            max_threads: 4096,
            max_requests: 4096,
            max_total: 65_536,
            max_age_ns: 60 * SECOND,
            event_loop: Vec::new(),
            turning: Turning::default(),
        }
    }
}
