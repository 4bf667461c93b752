//! Whether applications of one type are told from those of others: by plugins that are learned from
//! some recordings and asked about others, of the same products or of one that was left out.

mod chosen;
mod logistic;
mod usages;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use anyhow::Context as _;
use stethos_plugin_sdk::{
    Usage,
    fit::{Figure, MIN_CALLS, Sums, Table},
};

use crate::{
    corpus::{self, Label},
    figures::Figures,
};
use chosen::{Sign, TYPES};
use logistic::Sample;

/// No type fits.
const GENERIC: &str = "generic";
/// The run that is learned from, where others are held out.
const TRAIN: &str = "train";

/// A container in a span of time.
struct Known {
    product: String,
    /// What it is; `generic` for a stranger.
    kind: String,
    run: String,
    /// The whole recording rather than a part of it.
    whole: bool,
    usage: Usage,
}

/// A learned type.
struct Learned {
    kind: &'static str,
    runtime: bool,
    table: Table,
}

pub(crate) fn run(folder: &Path) -> anyhow::Result<Figures> {
    let known = read(folder)?;
    let mut figures = Figures::default();
    for (programs, suffix) in [(true, ""), (false, ".calls_alone")] {
        let mut outcome = Outcome::default();
        let learned = learn(known.iter().filter(|one| one.run == TRAIN));
        for one in known.iter().filter(|one| one.run != TRAIN) {
            outcome.count(one, choose(&learned, one, programs));
        }
        outcome.tell(&mut figures, &format!("types.held_out{suffix}"));

        let mut outcome = Outcome::default();
        let products: BTreeSet<_> = known.iter().map(|one| &one.product).collect();
        for product in products {
            let (left_out, others): (Vec<_>, Vec<_>) =
                known.iter().partition(|one| one.product == *product);
            let learned = learn(others.into_iter());
            for one in left_out {
                outcome.count(one, choose(&learned, one, programs));
            }
        }
        outcome.tell(&mut figures, &format!("types.left_out{suffix}"));
    }
    Ok(figures)
}

/// Learns from everything there is and writes the plugins' tables, and what each product does in one
/// recording, into `root`, the repository.
pub(crate) fn write(folder: &Path, root: &Path) -> anyhow::Result<()> {
    let known = read(folder)?;
    for learned in learn(known.iter()) {
        let path = root.join(format!("plugins/types/{}/src/table.rs", learned.kind));
        fs::write(&path, source(&learned.table)?).with_context(|| path.display().to_string())?;
    }
    for label in labels(folder)?.iter().filter(|label| label.run == "normal") {
        let usages = usages::usages(label)?;
        let whole = usages.get(&0).context("no calls")?;
        let path = root.join(format!("tests/fixtures/usages/{}.json", label.product));
        let text = serde_json::json!({"type": label.kind(), "usage": whole});
        fs::write(&path, format!("{text}\n")).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn labels(folder: &Path) -> anyhow::Result<Vec<Label>> {
    let mut labels = corpus::labels(folder)?;
    labels.retain(|label| label.fault_onset_unix_ns.is_none());
    Ok(labels)
}

fn read(folder: &Path) -> anyhow::Result<Vec<Known>> {
    let mut known = Vec::new();
    for label in labels(folder)? {
        for (span, usage) in usages::usages(&label)? {
            let usage = guests_view(usage);
            let calls: u64 = usage.calls.iter().map(|one| one.calls).sum();
            if calls >= MIN_CALLS {
                known.push(Known {
                    product: label.product.clone(),
                    kind: label.kind().to_owned(),
                    run: label.run.clone(),
                    whole: span == 0,
                    usage,
                });
            }
        }
    }
    Ok(known)
}

fn learn<'a>(known: impl Iterator<Item = &'a Known>) -> Vec<Learned> {
    let known: Vec<&Known> = known.collect();
    let calls: BTreeSet<(&str, bool)> = known
        .iter()
        .flat_map(|one| &one.usage.calls)
        .map(|one| (one.call.as_str(), one.failed))
        .collect();
    let every_call = calls.iter().map(|(call, failed)| {
        let call: &'static str = Box::leak((*call).to_owned().into_boxed_str());
        let figure = if *failed {
            Figure::Failure(call)
        } else {
            Figure::Call(call)
        };
        (figure, Sign::Any)
    });
    let every_call: Vec<(Figure, Sign)> = every_call.collect();
    let type_of = |chosen: &chosen::Chosen| {
        let figures = chosen.figures.unwrap_or(&every_call);
        let samples = samples(&known, chosen.kind, figures);
        let signs: Vec<Sign> = figures.iter().map(|(_, sign)| *sign).collect();
        let (weights, bias) = logistic::learn(&samples, &signs);
        let weights = figures.iter().zip(weights);
        let weights: Vec<(Figure, f32)> = weights
            .map(|((figure, _), weight)| (*figure, weight as f32))
            .filter(|(_, weight)| *weight != 0.0)
            .collect();
        Learned {
            kind: chosen.kind,
            runtime: chosen.figures.is_none(),
            table: Table {
                bias: bias as f32,
                weights: Box::leak(weights.into_boxed_slice()),
            },
        }
    };
    TYPES.iter().map(type_of).collect()
}

/// Every product counts the same, and products of the type as much as all others together.
fn samples(known: &[&Known], kind: &str, figures: &[(Figure, Sign)]) -> Vec<Sample> {
    let mut of_product: BTreeMap<&str, f64> = BTreeMap::new();
    for one in known {
        *of_product.entry(&one.product).or_default() += 1.0;
    }
    let mut samples: Vec<Sample> = known
        .iter()
        .filter_map(|one| {
            let sums = Sums::new(&one.usage)?;
            Some(Sample {
                values: figures
                    .iter()
                    .map(|(figure, _)| sums.value(*figure))
                    .collect(),
                positive: one.kind == kind,
                weight: 1.0 / of_product[one.product.as_str()],
            })
        })
        .collect();
    let weight = |positive: bool| -> f64 {
        let of = samples.iter().filter(|sample| sample.positive == positive);
        of.map(|sample| sample.weight).sum()
    };
    let factor = weight(false) / weight(true).max(1e-9);
    for sample in samples.iter_mut().filter(|sample| sample.positive) {
        sample.weight *= factor;
    }
    samples
}

/// The type that fits best. `programs`: whether the names of programs are known.
fn choose(learned: &[Learned], one: &Known, programs: bool) -> &'static str {
    let mut usage = one.usage.clone();
    if !programs {
        usage.executables.clear();
    }
    let fits = learned.iter().map(|learned| {
        let fit = if learned.runtime {
            learned.table.fit_runtime(learned.kind, &usage)
        } else {
            learned.table.fit(&usage)
        };
        (learned.kind, fit)
    });
    let best = fits.max_by(|(_, a), (_, b)| a.total_cmp(b));
    best.filter(|(_, fit)| *fit >= 0.5)
        .map_or(GENERIC, |(kind, _)| kind)
}

/// What was said of what.
#[derive(Default)]
struct Outcome {
    /// By product: its type, and how often each type was said of whole recordings and of spans.
    said: BTreeMap<String, (String, BTreeMap<&'static str, [u32; 2]>)>,
}

impl Outcome {
    fn count(&mut self, one: &Known, said: &'static str) {
        let new = || (one.kind.clone(), BTreeMap::new());
        let (_, counts) = self.said.entry(one.product.clone()).or_insert_with(new);
        counts.entry(said).or_default()[usize::from(!one.whole)] += 1;
    }

    fn tell(&self, figures: &mut Figures, name: &str) {
        eprintln!("{name}: product, type, what was said of recordings and of spans of 3 s");
        let mut right = [0, 0];
        let mut wrong = [0, 0];
        let mut all = [0, 0];
        for (product, (kind, counts)) in &self.said {
            let mut line = format!("  {product:15}{kind:17}");
            for (said, counts) in counts {
                let _ = write!(line, " {said} {} {}", counts[0], counts[1]);
                for (at, count) in counts.iter().enumerate() {
                    all[at] += count;
                    if said == kind {
                        right[at] += count;
                    } else if *said != GENERIC {
                        wrong[at] += count;
                    }
                }
            }
            eprintln!("{line}");
        }
        for (at, of) in ["recordings", "spans"].into_iter().enumerate() {
            let share = |part: u32| 100.0 * f64::from(part) / f64::from(all[at].max(1));
            figures.add(&format!("{name}.{of}.right"), share(right[at]), "%");
            figures.add(&format!("{name}.{of}.wrong"), share(wrong[at]), "%");
        }
    }
}

/// A usage as a guest is told it.
fn guests_view(usage: stethos_patterns::usage::Usage) -> Usage {
    use stethos_patterns::{Role, usage};
    use stethos_plugin_sdk::usage as sdk;
    let turns = |turns: usage::Turns| sdk::Turns {
        reads: turns.reads,
        further_reads: turns.further_reads,
        returning_reads: turns.returning_reads,
        writes: turns.writes,
        further_writes: turns.further_writes,
        returning_writes: turns.returning_writes,
    };
    let role = |role| match role {
        Role::None => sdk::Role::None,
        Role::File => sdk::Role::File,
        Role::Client => sdk::Role::Client,
        Role::Server => sdk::Role::Server,
        Role::Listener => sdk::Role::Listener,
        Role::Other => sdk::Role::Other,
    };
    let calls = usage.rows.into_iter().map(|row| sdk::UsageCall {
        call: row.call,
        role: role(row.role),
        failed: row.failed,
        calls: row.calls,
        bytes: row.bytes,
    });
    Usage {
        processes: usage.processes,
        threads: usage.threads,
        calls: calls.collect(),
        served: turns(usage.served),
        used: turns(usage.used),
        http_served: usage.http_served,
        http_used: usage.http_used,
        executables: usage.executables,
    }
}

/// A table as Rust.
fn source(table: &Table) -> anyhow::Result<String> {
    let mut text = String::from(
        "//! Learned from recordings of real servers by `cargo xtask bench learning --write-types`.\n\n\
         use stethos_plugin_sdk::fit::{Figure, Table};\n\n",
    );
    writeln!(
        text,
        "#[rustfmt::skip]\npub(crate) const TABLE: Table = Table {{"
    )?;
    writeln!(text, "    bias: {:?},\n    weights: &[", round(table.bias))?;
    for (figure, weight) in table.weights {
        let figure = match figure {
            Figure::Calls(names) => format!("Calls(&{names:?})"),
            Figure::OnFiles(names) => format!("OnFiles(&{names:?})"),
            Figure::OnOthers(names) => format!("OnOthers(&{names:?})"),
            Figure::OnUnknown(names) => format!("OnUnknown(&{names:?})"),
            other => format!("{other:?}"),
        };
        let weight = round(*weight);
        if weight != 0.0 {
            writeln!(text, "        (Figure::{figure}, {weight:?}),")?;
        }
    }
    writeln!(text, "    ],\n}};")?;
    Ok(text)
}

fn round(value: f32) -> f32 {
    (value * 1000.0).round() / 1000.0
}
