//! Numbers as a person reads them.

use std::time::Duration;

/// `0`, `0.04`, `3.8`, `38`.
pub(crate) fn figure(number: f64) -> String {
    match number {
        0.0 => "0".to_owned(),
        small if small < 1.0 => format!("{small:.2}"),
        medium if medium < 10.0 => format!("{medium:.1}"),
        large => grouped(large.round() as u64),
    }
}

/// `1 request`, `2 requests`.
pub(crate) fn plural(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        count => format!("{} {noun}s", grouped(count)),
    }
}

pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent < 1.0 {
        format!("{percent:.2} %")
    } else if percent > 99.0 && percent < 100.0 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.0} %")
    }
}

/// `12 400`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<String> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|chunk| String::from_utf8_lossy(chunk).into_owned())
        .collect();
    groups.join(" ")
}

/// `400 KiB`, `31 MiB`, `1.3 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const KIB: f64 = 1024.0;
    let kib = bytes as f64 / KIB;
    if kib < KIB {
        format!("{kib:.0} KiB")
    } else if kib < KIB * KIB {
        format!("{:.0} MiB", kib / KIB)
    } else {
        format!("{:.1} GiB", kib / KIB / KIB)
    }
}

/// `210 ms`, `15.8 s`, `80 µs`.
pub(crate) fn time(ns: u64) -> String {
    let duration = Duration::from_nanos(ns);
    let seconds = duration.as_secs_f64();
    if ns < 1_000_000 {
        format!("{:.0} µs", seconds * 1e6)
    } else if ns < 10_000_000 {
        format!("{:.1} ms", seconds * 1e3)
    } else if ns < 1_000_000_000 {
        format!("{:.0} ms", seconds * 1e3)
    } else if ns < 120_000_000_000 {
        format!("{seconds:.1} s")
    } else {
        format!("{:.0} min", seconds / 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(12_400), "12 400");
        assert_eq!(
            [0.0, 0.042, 3.84, 1234.5].map(figure),
            ["0", "0.04", "3.8", "1 235"]
        );
        assert_eq!(
            [plural(1, "call"), plural(0, "call")],
            ["1 call", "0 calls"]
        );
        assert_eq!(time(80_000), "80 µs");
        assert_eq!(time(2_300_000), "2.3 ms");
        assert_eq!(time(210_000_000), "210 ms");
        assert_eq!(time(15_800_000_000), "15.8 s");
        assert_eq!(time(600_000_000_000), "10 min");
    }
}
