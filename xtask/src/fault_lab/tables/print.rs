//! The tables as text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::super::record::{Outcome, Record};
use super::super::spec::Bound;
use super::metrics::{Normal, Summary, confusion, is_fault, macro_f1, quantile, reliability};

const HEAD: &str = "trials effect detected  top-1  top-3 at-last in-time  p50 s  p95 s  more";

pub(super) fn tables(all_records: &[Record]) -> String {
    let mut text = String::new();
    let by_rules: Vec<&Record> = all_records
        .iter()
        .filter(|one| one.without_models)
        .collect();
    let records: Vec<Record> = match by_rules.len() == all_records.len() {
        true => all_records.to_vec(),
        false => all_records
            .iter()
            .filter(|one| !one.without_models)
            .cloned()
            .collect(),
    };
    let records = records.as_slice();
    let faults: Vec<&Record> = records.iter().filter(|record| is_fault(record)).collect();
    if !faults.is_empty() {
        all(&mut text, &faults);
        if !by_rules.is_empty() && by_rules.len() < all_records.len() {
            rules(&mut text, &faults, &by_rules);
        }
        grouped(&mut text, "class", &faults, |one| {
            one.class.clone().unwrap_or_default()
        });
        grouped(&mut text, "application", &faults, |one| one.app.clone());
        grouped(&mut text, "rate", &faults, |one| one.variant.clone());
        grouped(&mut text, "bound", &faults, |one| {
            bound(one.bound).to_owned()
        });
        words(&mut text, &faults);
        confusions(&mut text, &faults);
        calibration(&mut text, records);
    }
    normal(&mut text, records);
    sidecars(&mut text, records);
    not_run(&mut text, records);
    text
}

fn line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

fn share(part: usize, whole: usize) -> String {
    match whole {
        0 => "–".to_owned(),
        _ => format!("{:.0} %", 100.0 * part as f64 / whole as f64),
    }
}

fn seconds(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}"))
}

fn row(text: &mut String, name: &str, summary: &Summary) {
    let trials = summary.trials;
    line(
        text,
        &format!(
            "{name:<24} {trials:>6} {:>6} {:>8} {:>6} {:>6} {:>7} {:>7} {:>6} {:>6} {:>5}",
            share(summary.effective, trials),
            share(summary.detected, trials),
            share(summary.top1, trials),
            share(summary.top3, trials),
            share(summary.at_last, trials),
            share(summary.in_time, trials),
            seconds(summary.delay(0.5)),
            seconds(summary.delay(0.95)),
            summary.further,
        ),
    );
}

fn all(text: &mut String, faults: &[&Record]) {
    line(text, &format!("{:<24} {HEAD}", "faults"));
    let is_held_out = |one: &&&Record| one.app_held_out || one.setting_held_out;
    let of = |wanted: &dyn Fn(&&&Record) -> bool| -> Vec<&Record> {
        faults.iter().filter(|one| wanted(one)).copied().collect()
    };
    let has_effect = |one: &&&Record| one.effect.as_ref().is_some_and(|effect| effect.seen);
    let groups = [
        ("all", of(&|_| true)),
        ("with effect", of(&has_effect)),
        ("for tuning", of(&|one| !is_held_out(one))),
        ("held out", of(&is_held_out)),
        ("  applications", of(&|one| one.app_held_out)),
        ("  settings", of(&|one| one.setting_held_out)),
    ];
    for (name, group) in &groups {
        row(text, name, &Summary::of(group.iter().copied()));
    }
    for (name, group) in &groups[..4] {
        let score = macro_f1(&confusion(group.iter().copied()));
        let score = score.map_or_else(|| "–".to_owned(), |score| format!("{score:.3}"));
        line(text, &format!("macro-F1, {name:<14} {score}"));
    }
}

/// The same trials with models and by rules alone.
fn rules(text: &mut String, faults: &[&Record], by_rules: &[&Record]) {
    let tried: BTreeSet<&String> = faults.iter().map(|one| &one.trial).collect();
    let by_rules = by_rules.iter().filter(|one| tried.contains(&one.trial));
    let by_rules: Vec<&Record> = by_rules.copied().collect();
    let both: BTreeSet<&String> = by_rules.iter().map(|one| &one.trial).collect();
    let with = faults.iter().filter(|one| both.contains(&one.trial));
    let with: Vec<&Record> = with.copied().collect();
    line(text, &format!("\n{:<24} {HEAD}", "the same trials"));
    for (name, group) in [("with models", with), ("by rules alone", by_rules)] {
        row(text, name, &Summary::of(group.iter().copied()));
        if let Some(score) = macro_f1(&confusion(group)) {
            line(text, &format!("macro-F1, {name:<14} {score:.3}"));
        }
    }
}

fn grouped(text: &mut String, by: &str, faults: &[&Record], key: impl Fn(&Record) -> String) {
    line(text, &format!("\n{by:<24} {HEAD}"));
    for (name, summary) in summaries(faults, key) {
        row(text, &name, &summary);
    }
}

fn summaries(faults: &[&Record], key: impl Fn(&Record) -> String) -> Vec<(String, Summary)> {
    let keys: BTreeSet<String> = faults.iter().map(|one| key(one)).collect();
    let of = |name: &String| Summary::of(faults.iter().filter(|one| key(one) == *name).copied());
    let all = keys.into_iter().map(|name| {
        let summary = of(&name);
        (name, summary)
    });
    all.collect()
}

fn bound(bound: Option<Bound>) -> &'static str {
    match bound {
        Some(Bound::Immediate) => "immediate",
        Some(Bound::Timeout) => "time-out",
        Some(Bound::Before) => "before exhaustion",
        Some(Bound::Rate) => "rate",
        None => "",
    }
}

/// How long it takes to the first word and to the confirmation. Where requests are rare, what counts is how many
/// of their calls it took.
fn words(text: &mut String, faults: &[&Record]) {
    let head = "trials  first word p50 s  p95 s  confirmed p50 s  p95 s  after calls p50  p95";
    line(text, &format!("\n{:<29} {head}", "bound, rate"));
    let key = |one: &Record| format!("{}, {}", bound(one.bound), one.variant);
    for (name, summary) in summaries(faults, key) {
        let at = |values: &[f64], share| seconds(quantile(values, share));
        let calls = |share| {
            let calls = quantile(&summary.calls, share);
            calls.map_or_else(|| "–".to_owned(), |calls| format!("{calls:.0}"))
        };
        line(
            text,
            &format!(
                "{name:<29} {:>6}  {:>16}  {:>5}  {:>15}  {:>5}  {:>15}  {:>3}",
                summary.trials,
                at(&summary.first_words, 0.5),
                at(&summary.first_words, 0.95),
                at(&summary.delays, 0.5),
                at(&summary.delays, 0.95),
                calls(0.5),
                calls(0.95),
            ),
        );
    }
}

/// As lists: a matrix of thirty classes fits no page.
fn confusions(text: &mut String, faults: &[&Record]) {
    line(text, "\nconfusion: injected → said, trials");
    let mut rows: BTreeMap<String, Vec<(String, usize)>> = BTreeMap::new();
    for ((injected, said), count) in confusion(faults.iter().copied()) {
        rows.entry(injected).or_default().push((said, count));
    }
    for (injected, mut said) in rows {
        said.sort_by_key(|(class, count)| (*class != injected, usize::MAX - count));
        let said: Vec<String> = said
            .iter()
            .map(|(class, count)| format!("{class} {count}"))
            .collect();
        line(text, &format!("{injected:<24} {}", said.join(" · ")));
    }
}

fn calibration(text: &mut String, records: &[Record]) {
    line(text, "\nstated confidence          count   stated    right");
    for bin in reliability(records) {
        let stated = bin.stated / bin.count.max(1) as f64;
        let range = format!("{:.2} to {:.2}", bin.from, bin.to);
        let right = share(bin.right, bin.count);
        line(
            text,
            &format!("{range:<24} {:>7} {stated:>8.2} {right:>8}", bin.count),
        );
    }
}

fn normal(text: &mut String, records: &[Record]) {
    let row = |text: &mut String, name: &str, normal: Normal| {
        let (rate, most) = (normal.per_day(), normal.per_day_at_most());
        let hours = normal.hours;
        line(
            text,
            &format!(
                "{name:<24} {hours:>10.2} {:>7} {rate:>11.2} {most:>11.2} {:>11} {:>8.2} {:>10}",
                normal.alarms, normal.of_machine, normal.short_hours, normal.suspicions
            ),
        );
    };
    let head = "pod-hours  alarms  in 24 pod-h  95 % bound  of machine  short h  suspected";
    line(text, &format!("\n{:<25} {head}", "false alarms"));
    row(text, "all normal time", Normal::of(records));
    let by_app: BTreeSet<&String> = records.iter().map(|one| &one.app).collect();
    for app in by_app {
        row(
            text,
            app,
            Normal::of(records.iter().filter(|one| one.app == *app)),
        );
    }
    let changes = records
        .iter()
        .filter(|one| one.class.is_none() && one.error.is_none());
    let mut said: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for record in changes.filter(|one| !one.fault.is_empty()) {
        let counts = said.entry(&record.fault).or_default();
        counts.0 += 1;
        counts.1 += usize::from(record.judged.outcome == Outcome::Silent);
    }
    if !said.is_empty() {
        line(text, &format!("\n{:<24} trials  silent", "normal change"));
    }
    for (change, (trials, silent)) in said {
        line(text, &format!("{change:<24} {trials:>6} {silent:>7}"));
    }
}

fn sidecars(text: &mut String, records: &[Record]) {
    let whole: Vec<&Record> = records.iter().filter(|one| one.error.is_none()).collect();
    let watched: f64 = whole.iter().map(|one| one.sidecar.watched_seconds).sum();
    if watched <= 0.0 {
        return;
    }
    let cpu: f64 = whole.iter().map(|one| one.sidecar.cpu_seconds).sum();
    let peaks = whole.iter().map(|one| one.sidecar.resident_peak_bytes);
    let calls = |key: &str| -> u64 {
        let counts = whole.iter().filter_map(|one| one.sidecar.calls.get(key));
        counts.sum()
    };
    let mut summary = String::new();
    // Writing to a String does not fail.
    let _ = write!(
        summary,
        "\nsidecars: {:.2} % of a core while watching, at most {} MiB; {} calls, {} lost",
        100.0 * cpu / watched,
        peaks.max().unwrap_or_default() >> 20,
        calls("seen"),
        calls("lost"),
    );
    line(text, &summary);
}

fn not_run(text: &mut String, records: &[Record]) {
    let failed: Vec<&Record> = records.iter().filter(|one| one.error.is_some()).collect();
    if failed.is_empty() {
        return;
    }
    line(text, &format!("\nnot run to their end: {}", failed.len()));
    for record in failed {
        let error = record.error.clone().unwrap_or_default();
        let first = error.lines().next().unwrap_or_default();
        line(text, &format!("{}: {first}", record.trial));
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::record::Judged;
    use super::*;

    #[test]
    fn every_table_is_there() {
        let record = Record {
            trial: "web/usual/moved/a/1".into(),
            app: "web".into(),
            variant: "usual".into(),
            class: Some("file.missing".into()),
            right_classes: vec!["file.missing".into()],
            bound: Some(Bound::Immediate),
            bound_seconds: Some(5.0),
            setting_held_out: true,
            judged: Judged {
                outcome: Outcome::Wrong,
                class: Some("unknown".into()),
                confidence: Some(0.6),
                delay_seconds: Some(1.5),
                affected_calls: Some(2),
                normal_seconds: 36.0,
                ..Judged::default()
            },
            ..Record::default()
        };
        let text = tables(&[record]);
        for part in [
            "all                           1    0 %    100 %    0 %",
            "file.missing             unknown 1",
            "held out",
            "immediate, usual                   1                 –      –              1.5    1.5                2    2",
            "0.60 to 0.70",
            "all normal time                0.01       0",
        ] {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
    }

    #[test]
    fn trials_judged_by_rules_stand_beside_the_same_with_models() {
        let with = Record {
            trial: "web/usual/moved/a/1".into(),
            class: Some("file.missing".into()),
            ..Record::default()
        };
        let by_rules = Record {
            without_models: true,
            ..with.clone()
        };
        let text = tables(&[with, by_rules.clone()]);
        assert!(text.contains("\nby rules alone                1"), "{text}");
        let alone = tables(&[by_rules]);
        assert!(
            alone.contains("\nall                           1"),
            "{alone}"
        );
    }

    #[test]
    fn nothing_was_run_is_no_table_of_faults() {
        let text = tables(&[]);
        assert!(text.contains("all normal time") && !text.contains("macro-F1"));
    }
}
