//! Clocks. Lifetimes of tokens, codes of authenticator apps and the times of messages depend on them.

use super::diagnosis::Diagnosis;
use super::report::{DoctorReport, TIME_MAX, in_time};
use crate::storage::examine::clock_ahead_s;
use std::process::Stdio;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_postgres::Client;

/// PostgreSQL's clock may differ by so many seconds.
const DIFFERENCE_MAX_S: f64 = 2.0;
const SYNCHRONISE: &str = "synchronise the clocks of both machines (NTP)";

pub(super) async fn examine(client: Option<&Client>, report: &mut DoctorReport) {
    if let Some(client) = client {
        let examined = async {
            match clock_ahead_s(client).await {
                Ok(ahead_s) => difference(ahead_s),
                Err(error) => Diagnosis::error("clock", &error),
            }
        };
        report.add(&in_time("clock", SYNCHRONISE, examined).await);
    }
    report.add(&ntp(asked().await.as_deref()));
}

fn difference(ahead_s: f64) -> Diagnosis {
    let words = if ahead_s < 0.0 { "behind" } else { "ahead of" };
    let found = format!("PostgreSQL's clock is {:.3} s {words} this machine's", ahead_s.abs());
    if ahead_s.abs() > DIFFERENCE_MAX_S {
        return Diagnosis::warning("clock", found, SYNCHRONISE);
    }
    Diagnosis::ok("clock", found)
}

/// What systemd knows; `None` without it.
async fn asked() -> Option<String> {
    let mut command = Command::new("timedatectl");
    command.args(["show", "--property=NTPSynchronized", "--value"]).kill_on_drop(true);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let output = timeout(TIME_MAX, command.output()).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn ntp(answer: Option<&str>) -> Diagnosis {
    match answer {
        Some("yes") => Diagnosis::ok("ntp", "this machine's clock is synchronised"),
        Some("no") => Diagnosis::warning(
            "ntp",
            "this machine's clock is not synchronised",
            "timedatectl set-ntp true; in a container, synchronise the clock of the host",
        ),
        _ => Diagnosis::ok("ntp", "not known: timedatectl does not answer here"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::diagnosis::Grade;
    use super::*;

    #[test]
    fn warns_of_clocks_that_are_more_than_two_seconds_apart() {
        assert_eq!(difference(1.9).severity, Grade::Ok);
        assert_eq!(difference(2.1).severity, Grade::Warning);
        let behind = difference(-3.0);
        assert!(behind.severity == Grade::Warning && behind.found.contains("3.000 s behind"), "{behind}");
    }

    #[test]
    fn a_machine_without_timedatectl_is_no_fault() {
        assert_eq!(ntp(Some("yes")).severity, Grade::Ok);
        assert_eq!(ntp(Some("no")).severity, Grade::Warning);
        assert_eq!(ntp(None).severity, Grade::Ok);
    }
}
