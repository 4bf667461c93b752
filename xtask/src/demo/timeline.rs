//! What the demo prints: one line an event, evidence below.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::{Diagnosis, Phase};

/// Evidence and call sequences stand under the text of their event.
const INDENT: &str = "                      ";
/// Calls shown of a sequence.
const CALLS: usize = 12;

pub(super) struct Timeline {
    out: Box<dyn Write>,
    colours: bool,
}

impl Timeline {
    pub(super) fn new() -> Self {
        let out = io::stdout();
        Self {
            colours: out.is_terminal(),
            out: Box::new(out),
        }
    }

    /// For a run whose standard output holds something else.
    pub(super) fn on_standard_error() -> Self {
        let out = io::stderr();
        Self {
            colours: out.is_terminal(),
            out: Box::new(out),
        }
    }

    pub(super) fn text(&mut self, text: &str) -> Result<()> {
        writeln!(self.out, "{text}").context("standard output")
    }

    pub(super) fn event(&mut self, at: Duration, label: &str, text: &str) -> Result<()> {
        let minutes = at.as_secs() / 60;
        let seconds = at.as_secs_f64() % 60.0;
        let label = format!("{label:<11}");
        let label = match label.trim_end() {
            "CONFIRMED" | "MISSED" | "FALSE ALARM" => self.coloured("1;31", &label),
            "suspected" => self.coloured("33", &label),
            "resolved" => self.coloured("32", &label),
            _ => label,
        };
        self.text(&format!("{minutes:02}:{seconds:04.1}  {label}  {text}"))
    }

    pub(super) fn phase(&mut self, at: Duration, phase: &Phase) -> Result<()> {
        let mut facts = vec![format!("{:<8}", phase.container)];
        facts.extend(phase.application_type.clone());
        facts.extend(phase.patterns.map(|count| format!("{count} patterns")));
        facts.extend(phase.tokens.map(|count| format!("{count} tokens")));
        facts.extend(
            phase
                .unseen
                .map(|share| format!("unseen {:.2} %", share * 100.0)),
        );
        self.event(at, &phase.name, &facts.join(" · "))
    }

    pub(super) fn diagnosis(&mut self, at: Duration, diagnosis: &Diagnosis) -> Result<()> {
        let label = match diagnosis.state.as_str() {
            "confirmed" => "CONFIRMED",
            state => state,
        };
        let confidence = diagnosis
            .confidence
            .map_or(String::new(), |share| format!(" {share:.2}"));
        let culprit = match diagnosis.culprit.as_str() {
            "" => &diagnosis.container,
            culprit => culprit,
        };
        let class = &diagnosis.class;
        self.event(at, label, &format!("{class}{confidence}   {culprit}"))?;
        if diagnosis.state == "suspected" {
            return Ok(());
        }
        self.detail(&diagnosis.message)?;
        if diagnosis.state == "resolved" {
            return Ok(());
        }
        for line in &diagnosis.evidence {
            self.detail(line)?;
        }
        self.calls("expected", &diagnosis.expected)?;
        self.calls("actual", &diagnosis.actual)?;
        self.detail(&match &diagnosis.trace {
            Some(trace) => format!("trace {trace}"),
            None => "no trace".to_owned(),
        })?;
        match diagnosis.suggestion.as_str() {
            "" => Ok(()),
            suggestion => self.detail(&format!("check: {suggestion}")),
        }
    }

    fn calls(&mut self, title: &str, calls: &[String]) -> Result<()> {
        if calls.is_empty() {
            return Ok(());
        }
        let shown = calls[..calls.len().min(CALLS)].join(" ");
        let more = if calls.len() > CALLS { " …" } else { "" };
        self.detail(&format!("{title:<9} {shown}{more}"))
    }

    fn detail(&mut self, text: &str) -> Result<()> {
        match text {
            "" => Ok(()),
            _ => self.text(&format!("{INDENT}{text}")),
        }
    }

    fn coloured(&self, code: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    #[derive(Clone, Default)]
    struct Paper(Rc<RefCell<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_confirmed_diagnosis_reads_well() {
        let paper = Paper::default();
        let mut timeline = Timeline {
            out: Box::new(paper.clone()),
            colours: false,
        };
        let diagnosis = Diagnosis {
            state: "confirmed".into(),
            class: "dependency.refused".into(),
            confidence: Some(0.97),
            culprit: "api → 127.0.0.1:6379".into(),
            evidence: vec!["connect ECONNREFUSED 0 → 38/s".into()],
            expected: vec!["connect:ok".into(), "sendto:ok".into()],
            actual: vec!["connect:ECONNREFUSED".into()],
            trace: Some("4bf92f35/00f067aa".into()),
            suggestion: "is anything listening on 6379?".into(),
            ..Diagnosis::default()
        };
        timeline
            .diagnosis(Duration::from_millis(40_900), &diagnosis)
            .unwrap();
        let printed = String::from_utf8(paper.0.borrow().clone()).unwrap();
        let expected = "\
00:40.9  CONFIRMED    dependency.refused 0.97   api → 127.0.0.1:6379
                      connect ECONNREFUSED 0 → 38/s
                      expected  connect:ok sendto:ok
                      actual    connect:ECONNREFUSED
                      trace 4bf92f35/00f067aa
                      check: is anything listening on 6379?
";
        assert_eq!(printed, expected);
    }
}
