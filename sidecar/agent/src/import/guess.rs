//! Which format a text is in.

use super::{Format, lid_ds, numbers, strace};

/// Lines that are looked at.
const LINES: usize = 64;

/// The format that most of the first lines of `sample` are in; none where none is.
pub fn guess(sample: &[u8]) -> Option<Format> {
    let text = String::from_utf8_lossy(sample);
    let lines: Vec<&str> = text
        .trim_start_matches('\u{feff}')
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .take(LINES)
        .collect();
    let count = |is: fn(&str) -> bool| lines.iter().filter(|line| is(line)).count();
    let counted = [
        (Format::Strace, count(strace::looks_like)),
        (Format::LidDs, count(lid_ds::looks_like)),
        (Format::Numbers, count(numbers::looks_like)),
    ];
    let most = counted.iter().map(|(_, count)| *count).max()?;
    let found = counted.iter().find(|(_, count)| *count == most)?;
    (most > 0).then_some(found.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_from_each_other() {
        for (text, format) in [
            (
                "12 1700000000.000001 getpid() = 12 <0.000004>\n",
                Format::Strace,
            ),
            (
                "strace: Process 9 attached\n[pid 9] read(3,  <unfinished ...>\n",
                Format::Strace,
            ),
            ("getpid() = 12\r\n", Format::Strace),
            (
                "1700000000000000009 | 0 | 7 | > | read |  | 2\n",
                Format::LidDs,
            ),
            (
                "1700000000000000009 33 7 worker 7 read < res=4 data=\n",
                Format::LidDs,
            ),
            (
                "19 10:00:00.000000009 1 33 worker 7 > read fd=4\n",
                Format::LidDs,
            ),
            ("\n\n6 6 63\n42 120 6", Format::Numbers),
        ] {
            assert_eq!(guess(text.as_bytes()), Some(format), "{text}");
        }
    }

    #[test]
    fn what_is_none_of_them_is_not_guessed() {
        for text in [
            "",
            "\n \n",
            "#!/bin/sh\necho 1 2 3\n",
            "a | b | c\n",
            "\0\u{1}\u{2}",
        ] {
            assert_eq!(guess(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(guess(&[0xff, 0xfe, 0, 0x80, b'\n', 0xc3]), None);
    }
}
