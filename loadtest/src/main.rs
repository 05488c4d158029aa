//! Load test for Veza Chat Server.
//!
//! Many users in many rooms send on a clock; every acknowledgement and every delivery is held to the protocol's promises
//! (order, no gap, no duplicate, nothing lost), and latencies are counted from the planned send time.
//!
//! The modules, from the inside out:
//! - pure, no clock and no I/O: [`range_set`], [`violations`], [`checker`] (the promises), [`payload`] (contents),
//!   [`plan`] (when to send), [`wire`] (frames);
//! - what is measured: [`stats`], [`report`];
//! - the outside world: [`api`] (HTTP), [`socket`] (WebSocket), [`progress`];
//! - the scenario: [`account`], [`setup`], [`client`], [`run`], [`options`].
//!
//! Invariant: a pure module never names one of the outside world; otherwise a test could no longer play any history.
//!
//! Exit status: 0 no violation, 1 violations, 2 wrong usage or no connection.

mod account;
mod api;
mod checker;
mod client;
mod compare;
mod options;
mod payload;
mod plan;
mod progress;
mod range_set;
mod report;
mod run;
mod setup;
mod socket;
mod stats;
mod violations;
mod wire;

use clap::Parser;
use options::Options;
use std::process::ExitCode;

const VIOLATIONS: u8 = 1;
const FAILED: u8 = 2;

fn main() -> ExitCode {
    // clap ends the process with 2 on wrong usage.
    if let Some(outcome) = compare::try_command() {
        return outcome;
    }
    let options = Options::parse();
    match execute(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(VIOLATIONS),
        Err(reason) => {
            eprintln!("loadtest: {reason}");
            ExitCode::from(FAILED)
        }
    }
}

/// Runs the scenario and prints its result; true when it is clean.
fn execute(options: &Options) -> Result<bool, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))?;
    let report = runtime.block_on(run::run(options))?;
    print!("{report}");
    if let Some(path) = &options.json {
        std::fs::write(path, report.to_json()?).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(report.is_clean())
}
