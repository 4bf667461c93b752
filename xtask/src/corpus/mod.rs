//! Recordings of real servers: in normal times, under more and under less load, and with faults that
//! have real causes. What models are measured on.
//!
//! | module | holds |
//! | --- | --- |
//! | [`product`] | the servers, and what they are |
//! | `start`, `configs` | how each of them is started |
//! | [`fault`] | what is done to them |
//! | [`run`] | one recording: server, load, fault, what Stethos records |

mod configs;
mod fault;
mod product;
mod run;
mod start;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::lab::Lab;
use crate::workspace::Workspace;
use fault::Fault;
use product::{PRODUCTS, Product};
use run::Run;

/// What is wanted of the corpus.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// Only these products; all when there are none.
    pub(crate) products: Vec<String>,
    /// Record again what is there.
    pub(crate) anew: bool,
    /// Of each product only what is learned from.
    pub(crate) train_only: bool,
}

/// Records what is missing into `folder`: `PRODUCT-RUN.rec`, and beside it `PRODUCT-RUN.json` with
/// what was done. Products that are not installed, or do not start, are named and left out.
pub(crate) fn record(workspace: &Workspace, folder: &Path, wanted: &Wanted) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for product in chosen(&wanted.products)? {
        if let Some(missing) = product.missing() {
            eprintln!("{} is left out: {missing} is not installed", product.name);
            continue;
        }
        let runs = if wanted.train_only {
            vec![Run::Train]
        } else {
            Run::all(product)
        };
        for run in runs {
            let file = recording(folder, product.name, run);
            if !wanted.anew && is_recorded(&file) {
                continue;
            }
            let lab = Lab::new("stethos-corpus")?;
            if let Err(error) = run::record(workspace, &lab, product, run, &file) {
                eprintln!("{}, {}: {error:#}", product.name, run.name());
                for part in [label(&file), file] {
                    // What there is of it is no recording.
                    let _ = fs::remove_file(part);
                }
                break;
            }
        }
    }
    Ok(())
}

fn chosen(names: &[String]) -> Result<Vec<&'static Product>> {
    if names.is_empty() {
        return Ok(PRODUCTS.iter().collect());
    }
    let find = |name: &String| {
        let product = PRODUCTS.iter().find(|product| product.name == *name);
        product.with_context(|| format!("{name} is no product of the corpus"))
    };
    names.iter().map(find).collect()
}

/// The recording of a product that is learned from.
pub(crate) fn training(folder: &Path, product: &str) -> PathBuf {
    recording(folder, product, Run::Train)
}

fn recording(folder: &Path, product: &str, run: Run) -> PathBuf {
    folder.join(format!("{product}-{}.rec", run.name()))
}

/// The file with what was done in the run that `recording` holds.
fn label(recording: &Path) -> PathBuf {
    recording.with_extension("json")
}

/// The label comes last.
fn is_recorded(recording: &Path) -> bool {
    recording.is_file() && label(recording).is_file()
}
