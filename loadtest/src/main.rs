//! Load test for Veza Chat Server and for others to compare with.
//!
//! Many connections in many rooms send on a clock. Every acknowledgement and every delivery is checked against the
//! promises of the protocol (order, no gap, no duplicate, nothing lost). Latencies count from the planned send time.
//!
//! The modules, from the inside out:
//! - pure, no clock and no I/O: [`violations`], [`check`] (the promises), [`payload`] (contents), [`plan`] (when to
//!   send), [`scenario`] (what to run);
//! - the generator: [`engine`] (threads, sockets, frames, figures) and [`protocol`] (the meaning of the bytes);
//! - measuring and showing: [`measure`] (processes, the machine, the server's own metrics), [`result`] (the shape that
//!   files and reports share), [`report`] (for people and for tools);
//! - the physical limit for the same shape of work: [`floor`]; the project's own bars: [`bars`] and
//!   [`headline`]; pages over a large
//!   history: [`pages`]; changes of presence: [`presence`]; ordinary users beside floods: [`crowding`]; files:
//!   [`uploads`]. These four use a small [`client`]. Webhooks: [`hooks`]. One server and a cluster in turn: [`nodes`];
//! - a run: [`setup`] (server, users, rooms), [`run`] (from set-up to result), [`progress`], [`options`], [`cli`].
//!
//! Invariant: a pure module never names one that does I/O. Otherwise a test could not play any history.
//!
//! Exit status: 0 no violation, 1 violations or, of `run uploads` and `run nodes`, a missed bar, 2 wrong usage or no
//! connection.

mod bars;
mod check;
mod cli;
mod client;
mod compare;
mod crowding;
mod engine;
mod floor;
mod headline;
mod hooks;
mod measure;
mod nodes;
mod options;
mod pages;
mod payload;
mod plan;
mod presence;
mod progress;
mod protocol;
mod report;
mod result;
mod run;
mod scenario;
mod setup;
mod uploads;
mod violations;

use cli::Command;
use options::RunOptions;
use report::files::write_json;
use report::hlog::{self, HlogInterval};
use report::html::Page;
use report::terminal::Summary;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

const VIOLATIONS: u8 = 1;
const FAILED: u8 = 2;

fn main() -> ExitCode {
    // clap ends the process with 2 on wrong usage.
    let command = cli::arguments().command;
    let outcome = run::follow_parent().and_then(|()| execute(command));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(VIOLATIONS),
        Err(reason) => {
            eprintln!("loadtest: {reason}");
            ExitCode::from(FAILED)
        }
    }
}

/// Executes the command; true when there was no violation.
fn execute(command: Command) -> Result<bool, String> {
    match command {
        Command::Run(options) => run_scenario(&options),
        Command::List => {
            list();
            Ok(true)
        }
        Command::Compare(options) => compare::compare(&options),
        Command::PeerTungstenite(options) => compare::insert_server::serve(&options).map(|()| true),
        Command::Report(options) => report::command::report(&options).map(|()| true),
        Command::Floor(options) => floor::cli::run(&options).map(|()| true),
        Command::Bars(options) => bars::run(&options).map(|()| true),
        Command::Headline(options) => headline::run(&options).map(|broken| !broken),
        Command::Pages(options) => pages::run(&options).map(|()| true),
        Command::Presence(options) => presence::run(&options).map(|()| true),
        Command::Hooks(options) => hooks::run(&options).map(|()| true),
        Command::FloorServer(options) => floor::sockets::run_server(&options).map(|()| true),
    }
}

/// Runs a scenario and shows its result; true when it is clean.
fn run_scenario(options: &RunOptions) -> Result<bool, String> {
    if options.scenario == crowding::NAME {
        return crowding::run(options); // phases beside each other instead of one load
    }
    if !options.flood.is_empty() {
        return Err(format!("--flood is for the scenario {} only", crowding::NAME));
    }
    let (_, scenario) = options.scenario()?;
    if let Some(plan) = &scenario.uploads {
        return uploads::run(options, &scenario, plan);
    }
    if let Some(plan) = &scenario.nodes {
        return nodes::run(options, &scenario, plan);
    }
    let outcome = run::run(options)?;
    let run::Outcome { result, seconds, began } = outcome;
    print!("{}", Summary(&result));
    let fault = |path: &Path, reason: String| format!("cannot write {}: {reason}", path.display());
    if let Some(path) = &options.output.json {
        write_json(path, &result)?;
    }
    if let Some(path) = &options.output.hlog {
        let file = File::create(path).map_err(|error| fault(path, error.to_string()))?;
        let intervals = seconds.iter().map(|second| HlogInterval {
            start: Duration::from_secs(u64::from(second.at_s)),
            length: Duration::from_secs(1),
            ack: &second.ack,
            delivery: &second.delivery,
        });
        hlog::write(BufWriter::new(file), began, &result.label, intervals)
            .map_err(|error| fault(path, error.to_string()))?;
    }
    let clean = result.violations.total() == 0;
    if let Some(path) = &options.output.html {
        let page = Page::of_runs(&[result]).map_err(|error| fault(path, error.to_string()))?;
        report::command::write_page(path, page)?;
    }
    Ok(clean)
}

/// Prints the built-in scenarios.
fn list() {
    for builtin in scenario::BUILTIN {
        let described = scenario::Layers::open(builtin.name).and_then(scenario::Layers::scenario);
        let description = described.map_or_else(|error| error, |scenario| scenario.description);
        println!("{:<20} {description}", builtin.name);
    }
}
