//! One measured figure and the goal that it is held against.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Value, json};

use super::interval::Interval;
use super::rounds::Spread;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figure {
    name: String,
    value: f64,
    unit: Cow<'static, str>,
    goal: Option<Goal>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Figure {
    pub(super) fn new(
        name: impl Into<String>,
        value: f64,
        unit: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            name: name.into(),
            value,
            unit: unit.into(),
            goal: None,
        }
    }

    pub(super) fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    /// The median, and its quartiles as figures of their own.
    pub(super) fn with_spread(self, spread: &Spread) -> [Self; 3] {
        let quartile = |which: &str, value| {
            Self::new(format!("{}.{which}", self.name), value, self.unit.clone())
        };
        let lower = quartile("lower_quartile", spread.lower);
        let upper = quartile("upper_quartile", spread.upper);
        [self, lower, upper]
    }

    /// The mean, and the ends of its 95 % interval as figures of their own.
    pub(super) fn with_interval(self, interval: &Interval) -> [Self; 3] {
        let end = |which: &str, value| {
            Self::new(format!("{}.{which}", self.name), value, self.unit.clone())
        };
        let low = end("low_95", interval.low);
        let high = end("high_95", interval.high);
        [self, low, high]
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "goal": self.goal.map(|goal| format!("{goal} {}", self.unit)),
            "met": self.goal.map(|goal| goal.met(self.value)),
        })
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            value,
            unit,
            goal,
        } = self;
        write!(f, "{name}: {} {unit}", three_digits(*value))?;
        if let Some(goal) = goal {
            let not = if goal.met(*value) { "met" } else { "not met" };
            write!(f, " (goal {goal} {unit}, {not})")?;
        }
        Ok(())
    }
}

impl Goal {
    fn met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "≤ {limit}"),
            Self::AtLeast(limit) => write!(f, "≥ {limit}"),
        }
    }
}

fn three_digits(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_reads_as_the_design_says() {
        let figure = Figure::new("capture.captured", 2.306, "×").goal(Goal::AtMost(1.8));
        assert_eq!(
            figure.to_string(),
            "capture.captured: 2.31 × (goal ≤ 1.8 ×, not met)"
        );
        assert_eq!(
            figure.json(),
            json!({"name": "capture.captured", "value": 2.306, "unit": "×",
                   "goal": "≤ 1.8 ×", "met": false})
        );
        let rate = Figure::new("rate", 2e6, "calls/s").goal(Goal::AtLeast(1e6));
        assert_eq!(
            rate.to_string(),
            "rate: 2000000 calls/s (goal ≥ 1000000 calls/s, met)"
        );
        let bare = Figure::new("plugin.windows", 2714.0, "windows/s");
        assert_eq!(bare.to_string(), "plugin.windows: 2714 windows/s");
        assert_eq!(bare.json()["met"], Value::Null);
    }
}
