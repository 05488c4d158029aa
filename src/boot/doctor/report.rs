//! Prints what the checks find, and bounds their time.

use super::diagnosis::{Diagnosis, DiagnosisTally};
use std::io::{self, Write as _};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// The most time of one check.
pub(super) const TIME_MAX: Duration = Duration::from_secs(5);

/// Prints the findings, and counts them.
pub(super) struct DoctorReport {
    json: bool,
    tally: DiagnosisTally,
}

impl DoctorReport {
    /// `json`: one JSON object a line, instead of text.
    pub(super) fn new(json: bool) -> Self {
        Self { json, tally: DiagnosisTally::default() }
    }

    /// Prints the sum, for people. Returns whether there is no fault.
    pub(super) fn end(self) -> bool {
        if !self.json {
            print(&self.tally.to_string());
        }
        !self.tally.has_faults()
    }

    pub(super) fn add(&mut self, finding: &Diagnosis) {
        self.tally.add(finding.severity);
        print(&if self.json { finding.json() } else { finding.to_string() });
    }
}

fn print(line: &str) {
    // Not println!, which panics when the reader of a pipe closes it.
    let _ = writeln!(io::stdout(), "{line}");
}

/// Runs a check. A check that takes too long is a fault.
pub(super) async fn in_time(check: &'static str, advice: &str, examined: impl Future<Output = Diagnosis>) -> Diagnosis {
    timeout(TIME_MAX, examined).await.unwrap_or_else(|_| too_slow(check, advice))
}

pub(super) fn too_slow(check: &'static str, advice: &str) -> Diagnosis {
    Diagnosis::fault(check, no_answer(), advice)
}

/// What is found when something takes too long.
pub(super) fn no_answer() -> String {
    format!("no answer within {} s", TIME_MAX.as_secs())
}

/// The same for work that blocks: a disk may hang.
pub(super) async fn blocking(
    check: &'static str,
    advice: &str,
    work: impl FnOnce() -> Diagnosis + Send + 'static,
) -> Diagnosis {
    let worked = spawn_blocking(work);
    let joined = async { worked.await.unwrap_or_else(|error| Diagnosis::fault(check, error.to_string(), "")) };
    in_time(check, advice, joined).await
}
