use super::*;

fn plain(ret: i64) -> Returned {
    Returned {
        ret,
        no_return: false,
    }
}

const NO_RETURN: Returned = Returned {
    ret: 0,
    no_return: true,
};

fn head(text: &str) -> (Option<u32>, Option<Stamp>, Option<Nanos>) {
    let line = parse(text).unwrap();
    (line.tid, line.stamp, line.duration)
}

#[test]
fn threads_and_times_come_in_many_forms() {
    let unix = Some(Stamp::Unix(1_700_000_000_000_001_000));
    let day = Some(Stamp::OfDay(((10 * 60 + 20) * 60 + 30) * SECOND));
    for (text, expected) in [
        ("getpid() = 7", (None, None, None)),
        ("7 getpid() = 7 <0.5>", (Some(7), None, Some(SECOND / 2))),
        ("7  1700000000.000001 getpid() = 7", (Some(7), unix, None)),
        (
            "[pid   7] 1700000000.000001 getpid() = 7 <0.000002>",
            (Some(7), unix, Some(2000)),
        ),
        (
            "7<a b> 1700000000.000001 getpid() = 7",
            (Some(7), unix, None),
        ),
        ("[pid 7<sh>] 10:20:30 getpid() = 7", (Some(7), day, None)),
        (
            "     0.000020 getpid() = 7",
            (None, Some(Stamp::Since(20_000)), None),
        ),
        (
            "1700000000.000001 (+     0.000020) getpid() = 7",
            (None, unix, None),
        ),
    ] {
        assert_eq!(head(text), expected, "{text}");
    }
}

#[test]
fn results_come_in_many_forms() {
    for (text, expected) in [
        ("0", plain(0)),
        ("-1 ENOENT (No such file or directory)", plain(-2)),
        ("-1 EAGAIN (Resource temporarily unavailable)", plain(-11)),
        ("-1 (errno 530)", plain(-530)),
        ("0x7f0000001000", plain(0x7f00_0000_1000)),
        ("022", plain(18)),
        ("3</dev/pts/0<char 136:0>>", plain(3)),
        ("5<TCP:[127.0.0.1:1->127.0.0.1:2]>", plain(5)),
        ("1 ([{fd=3, revents=POLLIN}])", plain(1)),
        ("0x2 (flags O_RDWR)", plain(2)),
        (
            "? ERESTARTSYS (To be restarted if SA_RESTART is set)",
            plain(-512),
        ),
        (
            "? ERESTART_RESTARTBLOCK (Interrupted by signal)",
            plain(-516),
        ),
        ("?", NO_RETURN),
        ("? <unavailable>", NO_RETURN),
    ] {
        assert_eq!(returned(text), Ok(expected), "{text}");
    }
    for text in ["", "-", "0xzz", "-1 ENONE (?)", "seven"] {
        assert_eq!(returned(text), Err(LineError::Result(text.to_owned())));
    }
}

#[test]
fn a_result_is_found_behind_arguments_that_look_like_one() {
    let text = r#"write(1, "f() = 3 <0.1>\n"..., 14)    = -1 EPIPE (Broken pipe) <0.000010>"#;
    let Said::Call {
        name,
        arguments,
        returned,
        ..
    } = parse(text).unwrap().said
    else {
        panic!("no call");
    };
    assert_eq!((name, returned), ("write", plain(-32)));
    assert!(arguments.ends_with("..., 14"), "{arguments}");
}

#[test]
fn calls_may_be_told_in_two_lines() {
    let said = |text| parse(text).unwrap().said;
    assert_eq!(
        said("7 read(3,  <unfinished ...>"),
        Said::Unfinished {
            name: "read",
            arguments: "3,  "
        }
    );
    let resumed = Said::Resumed {
        name: "read",
        returned: plain(4),
    };
    assert_eq!(
        said(r#"7 <... read resumed>"abc\n", 64) = 4 <0.1>"#),
        resumed
    );
    assert_eq!(said(r#"7 <... read resumed> "abc\n", 64) = 4"#), resumed);
    assert_eq!(
        said("7 <... futex resumed> <unfinished ...>) = ?"),
        Said::Resumed {
            name: "futex",
            returned: NO_RETURN
        }
    );
}

#[test]
fn what_is_no_call_is_known() {
    let said = |text| parse(text).unwrap().said;
    assert_eq!(said("7 +++ exited with 3 +++"), Said::Ended(3 << 8));
    assert_eq!(said("+++ killed by SIGKILL +++"), Said::Ended(9));
    assert_eq!(
        said("+++ killed by SIGSEGV (core dumped) +++"),
        Said::Ended(11 | 0x80)
    );
    assert_eq!(said("+++ killed by SIGRT_9 +++"), Said::Ended(-1));
    assert_eq!(said("7 +++ superseded by execve in pid 9 +++"), Said::Note);
    assert_eq!(
        said("7 1700000000.5 --- SIGCHLD {si_pid=9} ---"),
        Said::Signal
    );
    assert_eq!(said("strace: Process 9 attached"), Said::Note);
    assert_eq!(said("[pid 7] pause( <detached ...>"), Said::Note);
}

#[test]
fn what_is_wrong_is_named() {
    for (text, error) in [
        ("some words", LineError::NoCall),
        ("a b(1) = 2", LineError::NoCall),
        ("read(3, \"abc", LineError::NoResult),
        ("<... read resumed>\"abc", LineError::NoResult),
        (
            "99999999999 getpid() = 1",
            LineError::Thread("99999999999".into()),
        ),
        (
            "7 25:00:99 getpid() = 1",
            LineError::Time("25:00:99".into()),
        ),
        ("7 17.0.0 getpid() = 1", LineError::Time("17.0.0".into())),
    ] {
        assert_eq!(parse(text).unwrap_err(), error, "{text}");
    }
}
