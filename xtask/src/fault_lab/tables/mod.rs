//! What trials amount to: tables from their lines alone.

mod metrics;
mod print;

use std::io::Write;

use anyhow::{Context, Result};

use super::record::Record;

/// # Errors
/// When standard output is closed.
pub(super) fn print(records: &[Record]) -> Result<()> {
    let text = print::tables(records);
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes()).context("standard output")
}
