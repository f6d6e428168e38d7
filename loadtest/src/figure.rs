//! One figure against what the project wants to reach, as a row of a table.

use serde_json::{Value, json};

pub(crate) struct Figure {
    pub(crate) what: &'static str,
    wanted: f64,
    unit: &'static str,
    /// At least as much, or at most.
    at_least: bool,
    /// `None`: not measured this time.
    pub(crate) got: Option<f64>,
}

impl Figure {
    pub(crate) const COLUMNS: [&str; 4] = ["figure", "wanted", "measured", "reached"];

    pub(crate) fn least(what: &'static str, wanted: f64, unit: &'static str, got: Option<f64>) -> Self {
        Self { what, wanted, unit, at_least: true, got }
    }

    pub(crate) fn most(what: &'static str, wanted: f64, unit: &'static str, got: Option<f64>) -> Self {
        Self { what, wanted, unit, at_least: false, got }
    }

    fn reached(&self) -> Option<bool> {
        self.got.map(|got| if self.at_least { got >= self.wanted } else { got <= self.wanted })
    }

    pub(crate) fn cells(&self) -> Vec<String> {
        let Self { what, wanted, unit, at_least, got } = self;
        vec![
            (*what).to_owned(),
            format!("{} {wanted}{unit}", if *at_least { "≥" } else { "≤" }),
            got.map_or("not measured".to_owned(), |got| format!("{got:.2}{unit}")),
            self.reached().map_or("", |reached| if reached { "yes" } else { "**no**" }).to_owned(),
        ]
    }

    pub(crate) fn json(&self) -> Value {
        json!({"figure": self.what, "wanted": self.wanted, "measured": self.got, "reached": self.reached()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_not_called_reached() {
        let unknown = Figure::most("x", 1.0, "", None);
        assert!(unknown.reached().is_none() && unknown.cells()[3].is_empty());
        assert_eq!(Figure::most("x", 1.0, "", Some(1.004)).reached(), Some(false));
        assert_eq!(Figure::least("x", 1.0, "", Some(1.004)).reached(), Some(true));
    }
}
