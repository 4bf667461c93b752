use crate::doctor::probe::StateDir;

use super::*;

/// A machine on which everything works.
fn sound() -> Probes {
    Probes {
        kernel: "6.12.0".into(),
        arch: "x86_64",
        gvisor: false,
        btf: Ok(()),
        cgroup2: Some("/sys/fs/cgroup".into()),
        cgroup1: false,
        capabilities: Some(vec![
            "CAP_BPF",
            "CAP_PERFMON",
            "CAP_SYS_PTRACE",
            "CAP_DAC_READ_SEARCH",
        ]),
        bpf_map: Answer::Granted,
        bpf_ring: Answer::Granted,
        bpf_program: Answer::Granted,
        unprivileged_bpf_disabled: Some(2),
        lockdown: Some("integrity".into()),
        pressure: true,
        run_delay: true,
        cpu_controller: true,
        memory_controller: true,
        bpffs: Some("/sys/fs/bpf".into()),
        first_pid_namespace: true,
        io_uring_disabled: Some(0),
        kernel_programs: 50_000,
        generic_plugin: 5_000_000,
        broker: Broker::Absent {
            socket: "/run/stethos/node.sock".into(),
        },
        state_dir: StateDir {
            path: "/var/lib/stethos".into(),
            exists: true,
            failure: None,
        },
        export: Export::To(vec![("logs".into(), "http://localhost:4317".into())]),
        endpoints: vec![Endpoint {
            signals: "logs".into(),
            url: "http://localhost:4317".into(),
            failure: None,
        }],
    }
}

/// What is wrong with a machine.
type Change = fn(&mut Probes);

/// The judgement on a sound machine changed by `change`.
fn judged(change: impl FnOnce(&mut Probes)) -> Judgement {
    let mut probes = sound();
    change(&mut probes);
    judge(&probes)
}

fn check<'a>(judgement: &'a Judgement, name: &str) -> &'a Check {
    judgement
        .checks
        .iter()
        .find(|check| check.name == name)
        .unwrap()
}

/// The only check that is worse than a note, with the exit code.
fn fault(change: impl FnOnce(&mut Probes)) -> (u8, Check) {
    let judgement = judged(change);
    let mut worse = judgement
        .checks
        .iter()
        .filter(|check| check.state > State::Note);
    let check = worse.next().unwrap().clone();
    assert_eq!(worse.next(), None);
    (judgement.exit_code(), check)
}

#[test]
fn a_sound_machine_works_and_blind_spots_are_named() {
    let judgement = judged(|_| {});
    assert_eq!(judgement.exit_code(), 0);
    let blind: Vec<_> = judgement
        .checks
        .iter()
        .filter(|c| c.name == "blind spot")
        .collect();
    for word in ["io_uring", "vDSO", "gVisor", "Kata"] {
        assert!(
            blind.iter().any(|check| check.found.contains(word)),
            "{word}"
        );
    }
    let without = judged(|p| p.io_uring_disabled = Some(2));
    assert!(
        !without
            .checks
            .iter()
            .any(|check| check.found.contains("io_uring"))
    );
}

#[test]
fn classes_without_a_source_are_named() {
    let cases: [(&str, Change); 3] = [
        ("cpu.contention", |p| p.run_delay = false),
        ("cpu.throttled", |p| p.cpu_controller = false),
        ("memory.leak", |p| {
            (p.memory_controller, p.first_pid_namespace) = (false, false)
        }),
    ];
    for (class, change) in cases {
        let judgement = judged(change);
        assert_eq!(judgement.exit_code(), 1);
        let found = &check(&judgement, "resource use").found;
        assert!(
            found.contains(&format!("{class} is not separable")),
            "{found}"
        );
    }
    let processes = judged(|p| p.memory_controller = false);
    assert_eq!(check(&processes, "resource use").state, State::Works);
}

#[test]
fn what_capture_needs_blocks() {
    let cases: [(&str, Change); 8] = [
        ("kernel", |p| p.kernel = "5.4.0-generic".into()),
        ("kernel", |p| p.gvisor = true),
        ("kernel", |p| p.arch = "riscv64"),
        ("kernel types", |p| {
            p.btf = Err("No such file or directory".into())
        }),
        ("cgroup v2", |p| (p.cgroup2, p.cgroup1) = (None, true)),
        ("cgroup v2", |p| p.cgroup2 = None),
        ("kernel programs", |p| p.kernel_programs = 0),
        ("eBPF", |p| {
            p.bpf_ring = Answer::Failed("Invalid argument".into())
        }),
    ];
    for (name, change) in cases {
        let (code, check) = fault(change);
        assert_eq!((code, check.name, check.state), (2, name, State::Blocks));
    }
}

#[test]
fn what_stethos_can_do_without_degrades() {
    let cases: [(&str, Change); 7] = [
        ("lockdown", |p| p.lockdown = Some("confidentiality".into())),
        ("process details", |p| p.first_pid_namespace = false),
        ("process details", |p| {
            p.capabilities = Some(vec!["CAP_BPF", "CAP_PERFMON"])
        }),
        ("process details", |p| {
            p.capabilities = Some(vec!["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"])
        }),
        ("generic plugin", |p| p.generic_plugin = 0),
        ("state", |p| {
            p.state_dir.failure = Some("Read-only file system".into())
        }),
        ("collector", |p| {
            p.endpoints[0].failure = Some("Connection refused".into())
        }),
    ];
    for (name, change) in cases {
        let (code, check) = fault(change);
        assert_eq!((code, check.name, check.state), (1, name, State::Degraded));
        assert!(check.remedy.is_some(), "{name}");
    }
}

#[test]
fn export_settings_that_cannot_be_followed_degrade() {
    let (code, check) = fault(|p| p.export = Export::Unclear("OTEL_X: not a URL".into()));
    assert_eq!((code, check.found.as_str()), (1, "OTEL_X: not a URL"));
}

#[test]
fn what_nothing_depends_on_is_a_note() {
    let judgement = judged(|p| {
        (p.pressure, p.bpffs, p.lockdown) = (false, None, None);
        p.export = Export::Off("OTEL_SDK_DISABLED".into());
        p.kernel = "5.15.0".into();
    });
    assert_eq!(judgement.exit_code(), 0);
    assert_eq!(
        check(&judgement, "collector").found,
        "off by OTEL_SDK_DISABLED"
    );
}

#[test]
fn a_refusal_names_the_missing_capabilities() {
    let (_, check) = fault(|p| {
        (p.bpf_map, p.bpf_program) = (Answer::Refused, Answer::Refused);
        p.capabilities = Some(vec!["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]);
    });
    assert!(check.found.contains("EPERM"), "{}", check.found);
    assert!(
        check.found.contains("unprivileged_bpf_disabled = 2"),
        "{}",
        check.found
    );
    assert!(
        check
            .remedy
            .unwrap()
            .starts_with("add CAP_BPF and CAP_PERFMON;")
    );
    let (_, check) = fault(|p| {
        p.bpf_program = Answer::Refused;
        p.capabilities = Some(vec!["CAP_BPF", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]);
    });
    assert!(
        check.found.starts_with("a tracepoint program is refused"),
        "{}",
        check.found
    );
    assert!(check.remedy.unwrap().starts_with("add CAP_PERFMON;"));
}

#[test]
fn a_refusal_with_all_capabilities_points_at_filters() {
    for names in [
        vec![
            "CAP_BPF",
            "CAP_PERFMON",
            "CAP_SYS_PTRACE",
            "CAP_DAC_READ_SEARCH",
        ],
        vec!["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"],
    ] {
        let (_, check) = fault(|p| {
            (p.bpf_map, p.capabilities) = (Answer::Refused, Some(names));
        });
        assert!(check.remedy.unwrap().contains("seccomp"));
    }
}

#[test]
fn a_kernel_without_the_call_is_told_from_a_refusal() {
    let (_, check) = fault(|p| p.bpf_map = Answer::NoSuchCall);
    assert!(check.found.contains("ENOSYS") && !check.found.contains("EPERM"));
}

#[test]
fn the_worst_check_decides() {
    let judgement = judged(|p| (p.btf, p.generic_plugin) = (Err("x".into()), 0));
    assert_eq!(judgement.exit_code(), 2);
}

#[test]
fn with_a_broker_no_right_is_needed() {
    let answers = Broker::Answers {
        socket: "/run/s.sock".into(),
        speaks: "1 to 2".into(),
        record_version: 3,
        pinned: true,
        pods_served: 5,
    };
    let without_rights = |probes: &mut Probes| {
        probes.capabilities = Some(Vec::new());
        probes.bpf_map = Answer::Refused;
        probes.bpf_ring = Answer::Refused;
        probes.bpf_program = Answer::Refused;
        probes.first_pid_namespace = false;
    };
    assert_eq!(judged(without_rights).exit_code(), 2);
    let judgement = judged(|probes| {
        without_rights(probes);
        probes.broker = answers;
    });
    assert_eq!(judgement.exit_code(), 0, "{judgement:?}");
    let found = &check(&judgement, "node broker").found;
    assert!(
        found.contains("protocol 1 to 2") && found.contains("version 3"),
        "{found}"
    );
    let (code, refused) = fault(|probes| {
        probes.broker = Broker::Refuses {
            socket: "/run/s.sock".into(),
            reason: "no".into(),
        };
    });
    assert_eq!((code, refused.name), (1, "node broker"));
}
