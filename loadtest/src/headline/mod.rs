//! `loadtest headline`: what the project promises, measured at the same time and for durable messages, in under three
//! minutes, with a page that can be shown.
//!
//! Four runs against one server's data: the headline, twice the headline, growing rates until one does not fit, and
//! five times the largest rate that was acknowledged. Each is a process of its own, as in `bars`.

use crate::options::{GeneratorOptions, ServerOptions, of_child};
use crate::report::command::write_page;
use crate::report::files::write_json;
use crate::report::held_bar::{HEADER, HeldBar};
use crate::report::html::Page;
use crate::report::terminal::table;
use crate::result::{Machine, RunResult, Saturation};
use crate::run::{interruptible_runtime, subprocess};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  # everything, and a page for a browser
  loadtest headline --html headline.html

  # a quick look
  loadtest headline --seconds 5

Exit status: 0 measured (even if a bar is not met), 1 a message was lost, doubled or reordered, 2 wrong usage or nothing
could be measured.";

/// Options of `loadtest headline`.
#[derive(Args, Debug, Clone)]
#[command(after_help = EXAMPLES)]
pub struct HeadlineOptions {
    /// Seconds of the headline itself; the other runs take a third of it, and at least five
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(2..=3600))]
    seconds: u32,
    /// Also write a self-contained HTML page with curves and tables
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Also write the results of all runs to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    generator: GeneratorOptions,
    #[command(flatten)]
    server: ServerOptions,
}

/// The most that the P99 of an ack and of a delivery may be at 5,000 messages a second, milliseconds.
pub const P99_MAX_MS: f64 = 10.0;
/// The same for the P99.9.
pub const P99_9_MAX_MS: f64 = 20.0;
/// The most memory of a connection, of server and kernel together.
pub const CONNECTION_BYTES_MAX: f64 = 8_192.0;
/// The most that the P99 of an ack and of a delivery may be at 10,000 messages a second, milliseconds.
pub const TWICE_P99_MAX_MS: f64 = 20.0;
/// The part of the most that must still be acknowledged under an overload.
pub const OVERLOAD_GOODPUT_MIN: f64 = 0.9;
/// The most that the P99 of an ack may be under an overload, milliseconds.
pub const OVERLOAD_P99_MAX_MS: f64 = 500.0;

/// An open loop in steps, until one is not sustained.
pub const GROWING: [&str; 4] = [
    "--mode=saturate",
    "--set=load.saturate.rate_start=6000.0",
    "--set=load.saturate.rate_factor=1.3",
    "--set=load.saturate.p99_limit_ms=500.0",
];

/// The offered load of the overload, as a multiple of what fits.
const OVERLOAD: f64 = 5.0;

#[derive(Serialize)]
struct HeadlineReport<'a> {
    version: u32,
    machine: &'a Machine,
    runs: &'a [RunResult],
    bars: &'a [HeldBar],
}

/// Measures, prints the table and writes the page. Returns whether a promise was broken.
///
/// # Errors
/// What failed, for people.
pub fn run(options: &HeadlineOptions) -> Result<bool, String> {
    let work = tempfile::tempdir().map_err(|error| format!("cannot make a temporary directory: {error}"))?;
    let data = options.server.data_dir.clone().unwrap_or_else(|| work.path().join("data"));
    let machine = Machine::current();
    let (_runtime, interrupts) = interruptible_runtime(1)?;
    let others = (options.seconds / 3).max(5);
    let measure = |label: &str, scenario: &str, seconds: u32, more: &[String]| {
        let file = work.path().join("run.json");
        eprintln!("{label}: {seconds} s");
        let mut arguments = vec!["run".to_owned(), scenario.to_owned()];
        arguments.extend(of_child(&options.generator, &options.server, &data, &file));
        arguments.extend([format!("--label={label}"), format!("--duration={seconds}s")]);
        arguments.extend_from_slice(more);
        subprocess(&arguments, &interrupts)?;
        crate::floor::beside::read(&file)
    };
    let headline = measure("headline", "headline", options.seconds, &[])?;
    let double = measure("twice", "headline", others, &["--rate=10000".to_owned()])?;
    let growing = GROWING.map(str::to_owned);
    let most = measure("as much as fits", "headline", others, &growing)?;
    let goodput = peak(&most);
    let rate = format!("--rate={:.0}", goodput * OVERLOAD);
    let overload = measure("five times that", "overload", others, &[rate])?;
    let bars = bars(&headline, &double, &most, &overload);
    let runs = [headline, double, most, overload];
    let mut shown = table(&HEADER);
    for bar in &bars {
        shown.add_row(bar.row());
    }
    println!("{}\n{shown}", crate::report::terminal::machine_line(&machine));
    println!("As much as fits: {goodput:.0} messages a second were acknowledged.");
    let broken = runs.iter().filter(|run| run.violations.total() > 0).count();
    if broken > 0 {
        println!("{broken} of the runs have violations; run their scenarios alone to see them");
    }
    if let Some(path) = &options.json {
        write_json(path, &HeadlineReport { version: 1, machine: &machine, runs: &runs, bars: &bars })?;
    }
    if let Some(path) = &options.html {
        write_page(path, Page::of_runs(&runs).map_err(|error| error.to_string())?)?;
    }
    Ok(broken > 0)
}

fn per_second(run: &RunResult) -> f64 {
    crate::report::figures::per_second(run, run.window().acked)
}

fn peak(run: &RunResult) -> f64 {
    run.saturation.as_ref().map_or(0.0, Saturation::peak_per_s)
}

fn bars(headline: &RunResult, double: &RunResult, most: &RunResult, overload: &RunResult) -> Vec<HeldBar> {
    let ms = |us: u64| Some(us as f64 / 1e3);
    let memory = headline.usage.all_bytes_per_connection();
    let goodput = peak(most);
    vec![
        HeldBar::at_least(
            "5,000 messages/s to 10,000 connections: acknowledged per second".into(),
            Some(per_second(headline)),
            4_950.0,
        ),
        HeldBar::at_most("  ack P99, ms".into(), ms(headline.ack.p99_us), P99_MAX_MS),
        HeldBar::at_most("  ack P99.9, ms".into(), ms(headline.ack.p99_9_us), P99_9_MAX_MS),
        HeldBar::at_most("  delivery P99, ms".into(), ms(headline.delivery.p99_us), P99_MAX_MS),
        HeldBar::at_most("  delivery P99.9, ms".into(), ms(headline.delivery.p99_9_us), P99_9_MAX_MS),
        HeldBar::at_most(
            "  memory per connection before it sends, server and kernel's sockets".into(),
            memory,
            CONNECTION_BYTES_MAX,
        )
        .of_bytes(),
        HeldBar::at_least("10,000 messages/s: acknowledged per second".into(), Some(per_second(double)), 9_900.0),
        HeldBar::at_most("  ack P99, ms".into(), ms(double.ack.p99_us), TWICE_P99_MAX_MS),
        HeldBar::at_most("  delivery P99, ms".into(), ms(double.delivery.p99_us), TWICE_P99_MAX_MS),
        HeldBar::at_least(
            "five times that: acknowledged, of what fits".into(),
            (goodput > 0.0).then(|| per_second(overload) / goodput),
            OVERLOAD_GOODPUT_MIN,
        ),
        HeldBar::at_most("  ack P99, ms".into(), ms(overload.ack.p99_us), OVERLOAD_P99_MAX_MS),
    ]
}
