use proptest::prelude::*;

use super::{assembly::Assembly, *};
use crate::{
    record::{CallWindow, Record},
    windows::Windows,
};

const FORMATS: [Format; 3] = [Format::Strace, Format::LidDs, Format::Numbers];

/// Everything that an import does with a text.
fn import(format: Format, arch: Arch, text: &[u8]) -> (Counts, Vec<Record>) {
    guess(text);
    let mut parser = Parser::new(format, arch);
    for line in text.split(|byte| *byte == b'\n') {
        let _ = parser.take(line);
    }
    let trace = parser.finish();
    let counts = trace.counts.clone();
    let mut assembly = Assembly::new(format, arch, "imported");
    assembly.add("a", trace);
    let mut windows = Windows::new(arch.name());
    let (_, records) = assembly.finish();
    let mut pieces = Vec::new();
    for record in &records {
        windows.on_record(record, &mut pieces);
    }
    windows.finish(&mut pieces);
    (counts, records)
}

fn windows(records: &[Record]) -> impl Iterator<Item = &CallWindow> {
    records.iter().filter_map(|record| match record {
        Record::Window(window) => Some(window),
        _ => None,
    })
}

/// Parts of lines of all formats, and what does not belong there.
fn part() -> impl Strategy<Value = String> {
    let parts = [
        "7",
        "[pid 8]",
        "7<a b>",
        "1700000000.000001",
        "10:20:30.5",
        "4294967295.9",
        "0.000001",
        "99999999999999999999",
        "read(",
        "3",
        "\"abc\\",
        "\"",
        "AT_FDCWD",
        "/tmp>",
        "{flags=",
        "(",
        ") = 0",
        ") = -1 ENOENT (x)",
        ") = ?",
        ") = ? ERESTARTSYS (x)",
        "<0.000009>",
        ") = 0x",
        "<unfinished ...>",
        "<... read resumed>",
        "<... resumed>",
        "+++ exited with 1 +++",
        "+++ killed by SIGKILL +++",
        "--- SIGCHLD {} ---",
        "clone(",
        "CLONE_THREAD",
        ") = 8",
        "execve(\"/bin/a\"",
        "connect(3, {sa_family=AF_INET, sin_port=htons(",
        "|",
        " | ",
        ">",
        "<",
        "1700000000000000009",
        "read",
        "exit_group",
        "procexit",
        "res=-11(EAGAIN)",
        "fd=3",
        "tuple=",
        "name=/a",
        "ID=1(",
        "-5",
        "65535",
        "é",
        "\0",
        "\r",
        "\u{feff}",
        "\t",
    ];
    let parts = prop::sample::select(parts.map(str::to_owned).to_vec());
    (parts, prop::sample::select(vec!["", " "])).prop_map(|(part, blank)| part + blank)
}

fn hostile_text() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::collection::vec(part(), 0..12).prop_map(|parts| parts.concat());
    let lines = prop::collection::vec(line, 0..24).prop_map(|lines| lines.join("\n").into_bytes());
    let noise = prop::collection::vec(any::<u8>(), 0..512);
    prop_oneof![4 => lines, 1 => noise]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_is_read_without_a_panic_and_each_call_comes_out_once(text in hostile_text()) {
        for format in FORMATS {
            let (counts, records) = import(format, format.usual_arch(), &text);
            let calls = windows(&records).map(|window| window.calls.len());
            prop_assert_eq!(calls.sum::<usize>() as u64, counts.calls);
            prop_assert!(windows(&records).all(|window| window.calls.len() <= 64));
        }
    }

    #[test]
    fn any_numbers_are_one_call_each(numbers in prop::collection::vec(0u16..400, 1..300)) {
        let text = numbers.iter().map(|nr| format!("{nr}\n")).collect::<String>();
        for arch in [Arch::I386, Arch::X86_64, Arch::Aarch64] {
            let (_, records) = import(Format::Numbers, arch, text.as_bytes());
            let calls = windows(&records).flat_map(|window| &window.calls);
            prop_assert_eq!(calls.map(|call| call.nr).collect::<Vec<_>>(), numbers.clone());
        }
    }
}
