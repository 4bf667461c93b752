//! What says how much of the machine containers use.

use super::{Check, State};
use crate::doctor::probe::Probes;

pub(super) const NAME: &str = "resource use";

pub(super) fn check(probes: &Probes) -> Check {
    let sources = [
        (
            probes.run_delay,
            "no run-queue delay in the kernel: cpu.contention is not separable",
            "a kernel with CONFIG_SCHED_INFO",
        ),
        (
            probes.cpu_controller,
            "no cpu controller is mounted: cpu.throttled is not separable",
            "mount the cgroup tree that has the cpu controller",
        ),
        (
            probes.memory_controller || probes.first_pid_namespace,
            "neither a memory controller nor processes of containers: memory.leak is not separable",
            "mount the cgroup tree that has the memory controller, or hostPID: true",
        ),
    ];
    let missing: Vec<_> = sources.iter().filter(|(there, ..)| !there).collect();
    if missing.is_empty() {
        return Check::new(NAME, State::Works, "run-queue delay, limits and memory");
    }
    let texts: Vec<_> = missing.iter().map(|(_, text, _)| *text).collect();
    let remedies: Vec<_> = missing.iter().map(|(.., remedy)| *remedy).collect();
    Check::new(NAME, State::Degraded, texts.join("; ")).help(remedies.join("; "))
}
