//! Prints a judgement.

use std::io::{self, Write};

use super::judge::{Judgement, State};

/// One line a check, what would help below it, and a conclusion.
pub(super) fn table(judgement: &Judgement, out: &mut dyn Write) -> io::Result<()> {
    let width = judgement
        .checks
        .iter()
        .map(|check| check.name.len())
        .max()
        .unwrap_or(0);
    for check in &judgement.checks {
        let state = match check.state {
            State::Works => "ok",
            State::Note => "note",
            State::Degraded => "less",
            State::Blocks => "FAIL",
        };
        writeln!(out, "{state:<4}  {:<width$}  {}", check.name, check.found)?;
        if let Some(remedy) = &check.remedy {
            writeln!(out, "{:<4}  {:<width$}  → {remedy}", "", "")?;
        }
    }
    let conclusion = match judgement.state {
        State::Works | State::Note => "Everything that Stethos needs is here.",
        State::Degraded => "Stethos runs here, with less than it could do (see `less`).",
        State::Blocks => "Stethos cannot capture here (see `FAIL`).",
    };
    writeln!(out, "\n{conclusion}")
}

/// One JSON object: `state`, `exit_code` and `checks`.
pub(super) fn json(judgement: &Judgement, out: &mut dyn Write) -> io::Result<()> {
    let object = serde_json::json!({
        "state": judgement.state,
        "exit_code": judgement.exit_code(),
        "checks": judgement.checks,
    });
    writeln!(out, "{object}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Check;

    fn judgement() -> Judgement {
        let check = |name, state, found: &str, remedy: Option<&str>| Check {
            name,
            state,
            found: found.into(),
            remedy: remedy.map(str::to_string),
        };
        Judgement {
            state: State::Blocks,
            checks: vec![
                check("kernel", State::Works, "6.12.0", None),
                check("cgroup v2", State::Blocks, "none", Some("mount it")),
            ],
        }
    }

    #[test]
    fn the_table_is_aligned_and_concludes() {
        let mut out = Vec::new();
        table(&judgement(), &mut out).unwrap();
        let expected = "ok    kernel     6.12.0\n\
            FAIL  cgroup v2  none\n                 → mount it\n\n\
            Stethos cannot capture here (see `FAIL`).\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn json_is_one_object_on_one_line() {
        let mut out = Vec::new();
        json(&judgement(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 1);
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["exit_code"], 2);
        assert_eq!(object["checks"][1]["state"], "blocks");
        assert_eq!(object["checks"][1]["remedy"], "mount it");
        assert!(object["checks"][0].get("remedy").is_none());
    }
}
