//! Says how many nanoseconds a call takes, at every line: `bench-calls getppid|write`. It publishes nothing.

use std::{fs::OpenOptions, hint::black_box, io::Write as _};

use anyhow::bail;
use stethos_tests::timed::{answer, parent};

fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("getppid") => answer(|_| parent())?,
        Some("write") => {
            let null = OpenOptions::new().write(true).open("/dev/null")?;
            answer(|_| drop(black_box((&null).write(&[b'x'; 64]))))?;
        }
        _ => bail!("bench-calls getppid|write"),
    }
    Ok(())
}
