//! Says how many nanoseconds a `getppid` takes, at every line, of a thread that says for which span it works:
//! `bench-publisher same|changing`, for one span all the time, or for another one at each.

use anyhow::bail;
use stethos_tests::{
    published::Published,
    timed::{answer, parent},
};

fn main() -> anyhow::Result<()> {
    let mut spans = [1, 2].map(|id| Published::new([id; 16], [id; 8]));
    spans[0].attach();
    match std::env::args().nth(1).as_deref() {
        Some("same") => answer(|_| parent())?,
        Some("changing") => answer(|at| {
            spans[at as usize % 2].attach();
            parent();
        })?,
        _ => bail!("bench-publisher same|changing"),
    }
    Ok(())
}
