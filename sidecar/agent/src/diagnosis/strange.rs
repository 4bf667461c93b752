//! The run of calls around the strangest place of a window, beside what was expected there.

use stethos_patterns::names::CallTable;

use crate::diagnosis::incident::StrangeRun;
use crate::diagnosis::observation::JudgedWindow;
use crate::diagnosis::reference::Reference;

const BEFORE: usize = 2;
const AFTER: usize = 6;
/// Windows with an error that counts show more than others.
const ERROR: f64 = 1000.0;

/// How well a window shows what is wrong: by its highest surprise, those with an error (at
/// index `worst`) first.
pub(crate) fn rank(judged: &JudgedWindow, worst: Option<usize>) -> f64 {
    let surprise = judged.verdict.iter().flat_map(|v| v.surprise.iter());
    let highest = surprise
        .copied()
        .filter(|s| s.is_finite())
        .fold(0.0, f32::max);
    f64::from(highest) + if worst.is_some() { ERROR } else { 0.0 }
}

pub(crate) fn run(
    judged: &JudgedWindow,
    worst: Option<usize>,
    rank: f64,
    model: Option<&Reference>,
    table: &'static CallTable,
) -> StrangeRun {
    let calls = &judged.window.calls;
    let place = worst.unwrap_or_else(|| strangest(judged));
    let from = place.saturating_sub(BEFORE).min(calls.len());
    let to = place.saturating_add(AFTER).min(calls.len());
    let actual = calls[from..to]
        .iter()
        .map(|call| table.token_name(&call.token))
        .collect();
    let expected = match (&judged.verdict, model) {
        (Some(verdict), Some(model)) => (from..to)
            .map(|index| match verdict.expected.get(index) {
                Some(id) if index >= place => match model.vocabulary.token(*id) {
                    Some(token) => table.token_name(&token),
                    None => "unknown".to_owned(),
                },
                _ => table.token_name(&calls[index].token),
            })
            .collect(),
        _ => Vec::new(),
    };
    StrangeRun {
        rank,
        expected,
        actual,
        pattern: judged.pattern,
    }
}

fn strangest(judged: &JudgedWindow) -> usize {
    let surprise = judged
        .verdict
        .iter()
        .flat_map(|v| v.surprise.iter().enumerate());
    surprise
        .filter(|(_, s)| s.is_finite())
        .max_by(|a, b| a.1.total_cmp(b.1))
        .map_or(0, |(index, _)| index)
}
