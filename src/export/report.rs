//! What an export has, and what of the server it does not have.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The report of an export.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ExportReport {
    /// What was written, and how many.
    pub written: BTreeMap<&'static str, u64>,
    /// What was changed or left out, and how often.
    pub notes: BTreeMap<String, u64>,
}

impl ExportReport {
    pub(super) fn count(&mut self, what: &'static str) {
        *self.written.entry(what).or_default() += 1;
    }

    pub(super) fn note(&mut self, what: impl Into<String>) {
        *self.notes.entry(what.into()).or_default() += 1;
    }

    /// For a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (what, count) in &self.written {
            let _ = writeln!(text, "{what:<28} {count:>10}");
        }
        if !self.notes.is_empty() {
            let _ = writeln!(text, "\nChanged or left out:");
            for (what, count) in &self.notes {
                let _ = writeln!(text, "  {count:>8} × {what}");
            }
        }
        text
    }
}
