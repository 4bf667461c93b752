//! What the kernel's text files say.

use std::path::PathBuf;

/// Bits of `CapEff`.
pub(super) const CAPABILITIES: [(u32, &str); 5] = [
    (39, "CAP_BPF"),
    (38, "CAP_PERFMON"),
    (19, "CAP_SYS_PTRACE"),
    (2, "CAP_DAC_READ_SEARCH"),
    (21, "CAP_SYS_ADMIN"),
];

/// Names among [`CAPABILITIES`] that are effective, from `/proc/self/status`.
pub(super) fn capabilities(status: &str) -> Option<Vec<&'static str>> {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
    let effective = CAPABILITIES.iter().filter(|(bit, _)| mask >> bit & 1 == 1);
    Some(effective.map(|(_, name)| *name).collect())
}

/// Where the first file system of `kind` is mounted, from `/proc/self/mounts`.
pub(super) fn mount(mounts: &str, kind: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let path = fields.next()?;
        (fields.next()? == kind).then(|| path.replace("\\040", " ").into())
    })
}

/// Whether a file system of `kind` is mounted with this option.
pub(super) fn has_option(mounts: &str, kind: &str, option: &str) -> bool {
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(2);
        let of_kind = fields.next() == Some(kind);
        let mut options = fields.next().unwrap_or_default().split(',');
        of_kind && options.any(|one| one == option)
    })
}

/// Major and minor of `uname -r`.
pub(super) fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// True for gVisor, which answers system calls itself.
pub(super) fn is_gvisor(release: &str, version: &str) -> bool {
    // The build date that gVisor reports in every release.
    release.contains("gvisor") || version.contains("Sun Jan 10 15:06:54 PST 2016")
}

/// The mode in brackets: `none [integrity] confidentiality`.
pub(super) fn lockdown(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(mode, _)| mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_effective_set() {
        let status = "Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t000000c000080000\n";
        assert_eq!(
            capabilities(status),
            Some(vec!["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"])
        );
        assert_eq!(capabilities("CapEff:\t0\n"), Some(vec![]));
        assert_eq!(capabilities("Name:\tx\n"), None);
    }

    #[test]
    fn mounts_are_found_by_kind() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
            cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
            cgroup2 /sys/fs/cgroup/uni\\040fied cgroup2 rw 0 0\n";
        assert_eq!(
            mount(mounts, "cgroup2"),
            Some("/sys/fs/cgroup/uni fied".into())
        );
        assert_eq!(mount(mounts, "cgroup"), Some("/sys/fs/cgroup/cpu".into()));
        assert_eq!(mount(mounts, "bpf"), None);
        assert!(has_option(mounts, "cgroup", "cpu"));
        assert!(!has_option(mounts, "cgroup", "memory"));
        assert!(!has_option(mounts, "cgroup2", "cpu"));
    }

    #[test]
    fn kernels_are_recognised() {
        assert_eq!(kernel_version("6.18.44-fc"), Some((6, 18)));
        assert_eq!(kernel_version("6.1"), Some((6, 1)));
        assert_eq!(kernel_version("six"), None);
        assert!(is_gvisor(
            "4.4.0",
            "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016"
        ));
        assert!(is_gvisor("4.19.0-gvisor", ""));
        assert!(!is_gvisor(
            "4.4.0",
            "Linux version 4.4.0 #1 SMP Mon Jan 11 15:06:54 UTC 2016"
        ));
        assert_eq!(
            lockdown("none [integrity] confidentiality\n"),
            Some("integrity")
        );
        assert_eq!(lockdown(""), None);
    }
}
