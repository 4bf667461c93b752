//! What is said of each class.

use crate::diagnosis::evidence::Evidence;
use crate::diagnosis::report::FaultClass;
use crate::diagnosis::signal::Kind;

/// What is wrong, without a full stop.
pub(super) fn sentence(
    class: FaultClass,
    container: &str,
    culprit: &str,
    root: &Evidence,
) -> String {
    use FaultClass::*;
    let peer = culprit.rsplit("→ ").next().unwrap_or(culprit);
    match class {
        DependencyRefused => {
            format!("{container} is refused by {peer}: nothing accepts connections there")
        }
        DependencyReset => {
            format!("{peer} breaks off connections with {container} in the middle of an exchange")
        }
        DependencyBlackhole => format!("{container} gets no reply at all from {peer}"),
        DependencySlow => format!("{peer} answers {container} much later than usual"),
        DependencyHung => {
            format!("{peer} accepts requests of {container} but does not answer them")
        }
        NetworkUnreachable => format!("{container} has no route to {peer}"),
        NetworkLoss => format!("packets between {container} and {peer} get lost"),
        NetworkThrottled => {
            format!("the way between {container} and {peer} lets little through")
        }
        DnsFailure => format!("{container} gets no names resolved by {peer}"),
        DiskFull => format!("{container} cannot write to {culprit}: no space left"),
        DiskQuota => {
            format!("{container} cannot write to {culprit}: quota or file size limit reached")
        }
        DiskIoError => format!("{container} gets input/output errors on {culprit}"),
        DiskSlow => format!("{container}'s work on {culprit} takes much longer than usual"),
        DiskReadOnly => {
            format!("{container} cannot write to {culprit}: the file system is read-only")
        }
        PermissionDenied => format!("{container} is denied access to {culprit}"),
        FileMissing => format!("{container} cannot open {culprit}: it does not exist"),
        FdExhausted => format!("{culprit} in {container} has no file descriptors left"),
        FdLeak => {
            format!("{culprit} in {container} opens descriptors and does not close them")
        }
        LockContention => {
            format!("requests to {culprit} in {container} wait for locks much longer than usual")
        }
        Deadlock => format!("threads of {culprit} in {container} wait for each other"),
        ThreadLimit => format!("{culprit} in {container} cannot start another thread or process"),
        MemoryLimit => format!("{culprit} in {container} has reached its memory limit"),
        MemoryLeak => format!("{culprit} takes memory and does not give it back"),
        CpuThrottled => {
            format!("{container} stands still again and again: it has used up its processor limit")
        }
        CpuContention => {
            format!("{container} waits for a processor: others on this machine take the time")
        }
        ProcessFrozen => format!("{culprit} in {container} stands still: stopped or frozen"),
        ProcessCrashLoop if matches!(root.kind, Kind::ProcessEnded { .. }) => {
            format!("{culprit} in {container} crashed")
        }
        ProcessCrashLoop => {
            format!("{culprit} in {container} ends again and again soon after its start")
        }
        PortInUse => format!("{culprit} in {container} cannot listen: the address is in use"),
        PortExhausted => format!("{container} has no local ports left for new connections"),
        RequestFlood => format!("{container} gets many more requests than ever"),
        CpuMiner => format!(
            "{culprit} in {container} computes all the time and keeps a connection to {}",
            root.subject().unwrap_or("somebody")
        ),
        ExecUnexpected => format!("{container} runs {culprit}, which it never ran before"),
        ConfigRegression => {
            format!(
                "{culprit} in {container} works in another way than learned, and no call of it fails"
            )
        }
        Unknown => format!(
            "{container} behaves in another way than learned ({})",
            root.token
        ),
    }
}

/// One next check.
pub(crate) fn suggestion(class: FaultClass, culprit: &str) -> String {
    use FaultClass::*;
    let peer = culprit.rsplit("→ ").next().unwrap_or(culprit);
    let port = peer.rsplit(':').next().unwrap_or(peer);
    match class {
        DependencyRefused => format!("Is anything listening on {port}?"),
        DependencyReset => format!("Did the process behind {peer} crash or restart?"),
        DependencyBlackhole => format!("Does a firewall or network policy drop packets to {peer}?"),
        DependencySlow => format!("What keeps {peer} busy, or delays the way to it?"),
        DependencyHung => format!("Is the process behind {peer} stopped, or blocked on something?"),
        NetworkUnreachable => format!("Is there a route to {peer}?"),
        NetworkLoss => {
            format!("Where do packets to {peer} get lost (nstat -az TcpRetransSegs; mtr)?")
        }
        NetworkThrottled => {
            format!("What limits the bytes a second to {peer} (tc -s qdisc, a quota, a proxy)?")
        }
        DnsFailure => {
            let host = peer.strip_suffix(":53").unwrap_or(peer);
            format!(
                "Does the name server answer (dig @{host} NAME), or does a filter drop port 53?"
            )
        }
        DiskFull => format!("How much space is left where {culprit} is (df)?"),
        DiskQuota => format!("Which quota or ulimit -f applies to {culprit}?"),
        DiskIoError => "What does the kernel's log say about this device (dmesg)?".to_owned(),
        DiskSlow => "What else uses this device (iostat -x)?".to_owned(),
        DiskReadOnly => {
            "Was the file system remounted read-only after an error (dmesg)?".to_owned()
        }
        PermissionDenied => format!("Whose is {culprit}, and with which mode (ls -l)?"),
        FileMissing => format!("Was {culprit} moved, or its volume not mounted?"),
        FdExhausted => {
            "What does it hold open (ls /proc/PID/fd), and is the limit right (ulimit -n)?"
                .to_owned()
        }
        FdLeak => "What does it hold more and more of (ls -l /proc/PID/fd)?".to_owned(),
        LockContention => {
            "Which lock do its threads stand in, and what does its holder do meanwhile?".to_owned()
        }
        Deadlock => {
            "Which locks do its threads hold and wait for (a dump of all stacks)?".to_owned()
        }
        ThreadLimit => "How many threads are there against pids.max?".to_owned(),
        MemoryLeak => {
            "What do requests leave behind in memory (a heap profile says it)?".to_owned()
        }
        CpuThrottled => "How much processor time does it need against cpu.max?".to_owned(),
        CpuContention => {
            "What else runs on this machine (top), and what is requested for it?".to_owned()
        }
        MemoryLimit => "How much memory does it use against memory.max?".to_owned(),
        ProcessFrozen => "Is its state T, or its cgroup frozen (cgroup.freeze)?".to_owned(),
        ProcessCrashLoop => "What are its last log lines before the end?".to_owned(),
        PortInUse => "Which process listens there already (ss -ltnp)?".to_owned(),
        PortExhausted => "How many connections are in TIME-WAIT (ss -s)?".to_owned(),
        RequestFlood => "Who sends them (ss -tn), and should a limit hold them off?".to_owned(),
        CpuMiner => format!("Who started {culprit}, and how did it get in?"),
        ExecUnexpected => format!("Who started {culprit}, and what for?"),
        ConfigRegression => "Which configuration or version changed at that time?".to_owned(),
        Unknown => "What changed in this container at that time?".to_owned(),
    }
}
