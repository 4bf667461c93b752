//! A test that cannot run here says so in the file that `STETHOS_SKIP_LOG` names; `cargo xtask
//! test` counts it as skipped.

use std::io::Write as _;

/// What a test needs that is not here.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// Root and eBPF.
    Kernel,
    /// A program that is not installed.
    Tool,
}

/// Says that `test` is skipped, and why.
pub fn skip(need: Need, test: &str, reason: &str) {
    let need = match need {
        Need::Kernel => "kernel",
        Need::Tool => "tool",
    };
    let line = format!("{need}\t{test}\t{reason}\n");
    eprint!("SKIPPED: {line}");
    if let Some(path) = std::env::var_os("STETHOS_SKIP_LOG") {
        let file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path);
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        assert!(
            written.is_ok(),
            "the skip log cannot be written: {written:?}"
        );
    }
}

/// True when tests of the kernel programs can run; otherwise `test` is skipped.
pub fn kernel_or_skip(test: &str) -> bool {
    if left_out_by_fast(test) {
        return false;
    }
    // SAFETY: no arguments, cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        skip(Need::Kernel, test, "needs root");
    }
    root
}

/// True when `--fast` leaves tests of kernels out; `test` is skipped then.
pub fn left_out_by_fast(test: &str) -> bool {
    let fast = std::env::var("STETHOS_TEST_FAST").is_ok_and(|fast| fast == "1");
    if fast {
        skip(Need::Kernel, test, "left out by --fast");
    }
    fast
}
