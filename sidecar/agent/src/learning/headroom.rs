//! How much memory the sidecar's cgroup has left: what a training may take of it, so that it is never
//! the training for which the container is killed.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A limit from here on is none.
const NO_LIMIT: u64 = 1 << 60;

/// Where a version of the memory controller is mounted, and what its files are called.
struct Controller {
    roots: &'static [&'static str],
    limit: &'static str,
    usage: &'static str,
    /// In `memory.stat`.
    reclaimable: &'static str,
}

const V2: Controller = Controller {
    roots: &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"],
    limit: "memory.max",
    usage: "memory.current",
    reclaimable: "inactive_file",
};
const V1: Controller = Controller {
    roots: &["/sys/fs/cgroup/memory"],
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    reclaimable: "total_inactive_file",
};

/// Bytes that this process's cgroup and those above it may still take; none without a limit.
pub fn left() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let places = [(&V2, path(&own, "")), (&V1, path(&own, "memory"))];
    let lefts = places.into_iter().filter_map(|(controller, path)| {
        let path = path?.trim_start_matches('/');
        let mut roots = controller.roots.iter().map(Path::new);
        roots.find_map(|root| controller.left_at(root, path))
    });
    lefts.min()
}

/// The path of a line `ID:CONTROLLERS:PATH` of `/proc/PID/cgroup`.
fn path<'a>(own: &'a str, controller: &str) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let controllers = parts.nth(1)?;
        let path = parts.next()?;
        controllers
            .split(',')
            .any(|one| one == controller)
            .then_some(path)
    })
}

impl Controller {
    fn left_at(&self, root: &Path, path: &str) -> Option<u64> {
        let inside = root.join(path);
        // A container sees its own cgroup as the root of what is mounted.
        let folder = if inside.is_dir() {
            inside
        } else {
            PathBuf::from(root)
        };
        let above = folder
            .ancestors()
            .take_while(|folder| folder.starts_with(root));
        above.filter_map(|folder| self.left_in(folder)).min()
    }

    fn left_in(&self, folder: &Path) -> Option<u64> {
        let read = |file: &str| fs::read_to_string(folder.join(file)).ok();
        let limit = number(&read(self.limit)?)?;
        let usage = number(&read(self.usage)?)?;
        let stat = read("memory.stat").unwrap_or_default();
        (limit < NO_LIMIT).then(|| {
            let reclaimable = field(&stat, self.reclaimable).unwrap_or(0);
            limit.saturating_sub(usage.saturating_sub(reclaimable))
        })
    }
}

/// None for `max`.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// A line `NAME VALUE`.
fn field(stat: &str, name: &str) -> Option<u64> {
    let mut lines = stat.lines();
    lines.find_map(|line| number(line.strip_prefix(name)?.strip_prefix(' ')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_say_where_a_process_is() {
        let own = "4:cpu,memory:/pod/one\n1:name=systemd:/x:y\n0::/unified/one\n";
        assert_eq!(path(own, "memory"), Some("/pod/one"));
        assert_eq!(path(own, ""), Some("/unified/one"));
        assert_eq!(path(own, "name=systemd"), Some("/x:y"));
        assert_eq!(path(own, "pids"), None);
    }

    #[test]
    fn the_tightest_limit_on_the_way_up_counts_and_files_in_memory_do_not() {
        let root = tempfile::tempdir().unwrap();
        let write = |folder: &str, limit: &str, usage: u64, files: u64| {
            let folder = root.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("memory.max"), limit).unwrap();
            fs::write(folder.join("memory.current"), usage.to_string()).unwrap();
            let stat = format!("inactive_file_x 7\ninactive_file {files}\n");
            fs::write(folder.join("memory.stat"), stat).unwrap();
        };
        write("pod/one", "1000\n", 600, 100);
        write("pod", "max\n", 5000, 0);
        let left = |path| V2.left_at(root.path(), path);
        assert_eq!(left("pod/one"), Some(500));
        write("pod", "1200", 900, 0);
        assert_eq!(left("pod/one"), Some(300));
        assert_eq!(left("pod"), Some(300));
        // Not there: what is mounted is the container's own.
        assert_eq!(left("elsewhere"), None);
        write("pod", "9223372036854771712", 900, 0);
        assert_eq!(left("pod"), None);
    }
}
