//! Figures of one measurement next to the bars that they must meet.

use super::format::bytes;
use serde::Serialize;

/// The header of a table of bars.
pub const HEADER: [&str; 4] = ["figure", "measured", "bar", ""];

/// A figure and its bar.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeldBar {
    /// The figure's name.
    pub what: String,
    /// `None` if it was not measured.
    pub measured: Option<f64>,
    /// The bar.
    pub limit: f64,
    /// The figure must not be above the bar; otherwise not below it.
    pub is_at_most: bool,
    /// In bytes; otherwise a ratio, a count, or in the unit that the name has.
    pub is_bytes: bool,
    /// What was not measured is not met.
    pub met: bool,
}

impl HeldBar {
    /// A figure that must not be above its bar.
    pub fn at_most(what: String, measured: Option<f64>, limit: f64) -> Self {
        let met = measured.is_some_and(|measured| measured <= limit);
        Self { what, measured, limit, is_at_most: true, is_bytes: false, met }
    }

    /// A figure that must not be below its bar.
    pub fn at_least(what: String, measured: Option<f64>, limit: f64) -> Self {
        let met = measured.is_some_and(|measured| measured >= limit);
        Self { what, measured, limit, is_at_most: false, is_bytes: false, met }
    }

    /// The figure and its bar are bytes.
    #[must_use]
    pub fn of_bytes(self) -> Self {
        Self { is_bytes: true, ..self }
    }

    /// Its row in a table below [`HEADER`].
    pub fn row(&self) -> Vec<String> {
        let show = |value: f64| if self.is_bytes { bytes(value) } else { format!("{value:.2}") };
        let sign = if self.is_at_most { "≤" } else { "≥" };
        let verdict = match (self.measured, self.met) {
            (None, _) => "not measured",
            (_, true) => "met",
            (_, false) => "NOT MET",
        };
        let measured = self.measured.map_or_else(|| "–".to_owned(), show);
        vec![self.what.clone(), measured, format!("{sign} {}", show(self.limit)), verdict.to_owned()]
    }
}
