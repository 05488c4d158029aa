//! A finding and how it is shown: a line of text, or a line of JSON.

use serde::Serialize;
use std::fmt;

/// How serious a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Grade {
    /// As it should be, or not used.
    Ok,
    /// The server starts, but something is not as recommended.
    Warning,
    /// The server does not start, or a part of it does not work.
    Fault,
}

impl Grade {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fault => "fault",
        }
    }
}

/// What one check has found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Diagnosis {
    /// The name of the check; scripts read it.
    pub(super) check: &'static str,
    pub(super) severity: Grade,
    /// What was found.
    pub(super) found: String,
    /// What to do; empty if nothing.
    pub(super) advice: String,
}

impl Diagnosis {
    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Grade::Ok, found, "")
    }

    pub(super) fn warning(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(check, Grade::Warning, found, advice)
    }

    pub(super) fn fault(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(check, Grade::Fault, found, advice)
    }

    /// A fault that an error describes. Its text ends with what to do, after a semicolon.
    pub(super) fn error(check: &'static str, error: &impl fmt::Display) -> Self {
        Self::of_text(check, Grade::Fault, &error.to_string())
    }

    /// The same for a text of any severity.
    pub(super) fn of_text(check: &'static str, severity: Grade, text: &str) -> Self {
        let (found, advice) = text.rsplit_once("; ").unwrap_or((text, ""));
        Self::new(check, severity, found, advice)
    }

    fn new(check: &'static str, severity: Grade, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, severity, found: one_line(found.into()), advice: one_line(advice.into()) }
    }

    /// One line of JSON.
    pub(super) fn json(&self) -> String {
        // PROOF: strings and an enum without data always serialise.
        serde_json::to_string(self).expect("plain fields")
    }
}

/// Texts of other programs may have several lines, and characters that control a terminal.
fn one_line(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8} {:<14} {}", self.severity.as_str(), self.check, self.found)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, ". To do: {}", self.advice) }
    }
}

/// How many findings there are of each severity.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct DiagnosisTally {
    ok: usize,
    warnings: usize,
    faults: usize,
}

impl DiagnosisTally {
    pub(super) fn add(&mut self, severity: Grade) {
        match severity {
            Grade::Ok => self.ok += 1,
            Grade::Warning => self.warnings += 1,
            Grade::Fault => self.faults += 1,
        }
    }

    pub(super) fn has_faults(self) -> bool {
        self.faults > 0
    }
}

impl fmt::Display for DiagnosisTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let Self { ok, warnings, faults } = self;
        write!(f, "{ok} ok, {warnings} warning{}, {faults} fault{}", plural(*warnings), plural(*faults))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_with_what_to_do() {
        let ok = Diagnosis::ok("kernel", "Linux 6.18.0");
        assert_eq!(ok.to_string(), "ok       kernel         Linux 6.18.0");
        let fault = Diagnosis::fault("redis", "Redis answered:\r\n\u{1b}[31mno", "start it");
        assert_eq!(fault.to_string(), "fault    redis          Redis answered: [31mno. To do: start it");
    }

    #[test]
    fn the_advice_of_an_error_is_what_follows_its_last_semicolon() {
        let finding = Diagnosis::error("address", &"cannot listen on a; b: x listens there; stop it, or set c");
        assert_eq!(
            (finding.found.as_str(), finding.severity),
            ("cannot listen on a; b: x listens there", Grade::Fault)
        );
        assert_eq!(finding.advice, "stop it, or set c");
        assert_eq!(Diagnosis::error("address", &"no advice").advice, "");
    }

    #[test]
    fn json_has_the_same_as_the_text() {
        let finding = Diagnosis::warning("clock", "it is \"late\"", "set it");
        let json: serde_json::Value = serde_json::from_str(&finding.json()).unwrap();
        let expected =
            serde_json::json!({"check": "clock", "severity": "warning", "found": "it is \"late\"", "advice": "set it"});
        assert_eq!(json, expected);
        assert!(!finding.json().contains('\n'));
    }

    #[test]
    fn only_faults_count_as_faults() {
        let mut tally = DiagnosisTally::default();
        tally.add(Grade::Ok);
        tally.add(Grade::Warning);
        assert!(!tally.has_faults());
        tally.add(Grade::Fault);
        assert!(tally.has_faults());
        assert_eq!(tally.to_string(), "1 ok, 1 warning, 1 fault");
    }
}
