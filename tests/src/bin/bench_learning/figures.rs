//! Figures that are measured several times, on other splits or from other seeds.

use serde_json::{Value, json};

/// In the order in which each was first measured.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    figures: Vec<Figure>,
}

#[derive(Debug)]
struct Figure {
    name: String,
    unit: &'static str,
    values: Vec<f64>,
    spread: bool,
}

impl Figures {
    /// One more measurement; without a value, nothing could be measured.
    pub(crate) fn add(&mut self, name: &str, value: impl Into<Option<f64>>, unit: &'static str) {
        self.push(name, value.into(), unit, false);
    }

    /// The same for a figure whose lowest and highest measurement are printed beside the mean.
    pub(crate) fn add_with_spread(&mut self, name: &str, value: Option<f64>, unit: &'static str) {
        self.push(name, value, unit, true);
    }

    fn push(&mut self, name: &str, value: Option<f64>, unit: &'static str, spread: bool) {
        let Some(value) = value else { return };
        match self.figures.iter_mut().find(|figure| figure.name == name) {
            Some(figure) => figure.values.push(value),
            None => self.figures.push(Figure {
                name: name.to_owned(),
                unit,
                values: vec![value],
                spread,
            }),
        }
    }

    /// The mean of every figure's measurements, one object each.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Value> + '_ {
        self.figures.iter().flat_map(Figure::lines)
    }
}

impl Figure {
    fn lines(&self) -> Vec<Value> {
        let line =
            |name: &str, value: f64| json!({"name": name, "value": value, "unit": self.unit});
        let mean = self.values.iter().sum::<f64>() / self.values.len() as f64;
        let mut lines = vec![line(&self.name, mean)];
        if self.spread {
            let lowest = self.values.iter().copied().fold(f64::INFINITY, f64::min);
            let highest = self
                .values
                .iter()
                .copied()
                .fold(f64::NEG_INFINITY, f64::max);
            lines.push(line(&format!("{}.lowest", self.name), lowest));
            lines.push(line(&format!("{}.highest", self.name), highest));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_measurements_make_one_figure() {
        let mut figures = Figures::default();
        figures.add_with_spread("auc", Some(0.5), "AUC");
        figures.add("runs", 3.0, "runs");
        figures.add("nothing", None, "AUC");
        figures.add_with_spread("auc", Some(1.0), "AUC");
        let lines: Vec<Value> = figures.lines().collect();
        assert_eq!(
            lines[0],
            json!({"name": "auc", "value": 0.75, "unit": "AUC"})
        );
        assert_eq!(lines[1]["value"], 0.5);
        assert_eq!(lines[2]["value"], 1.0);
        assert_eq!(
            lines[3],
            json!({"name": "runs", "value": 3.0, "unit": "runs"})
        );
        assert_eq!(lines.len(), 4);
    }
}
