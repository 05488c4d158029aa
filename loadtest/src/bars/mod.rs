//! `loadtest bars`: measures the figures that this project sets itself as bars.
//!
//! Every round runs all cases once, each in its own process (`loadtest run …`, `loadtest floor --beside …`). A slow
//! minute of a shared machine therefore affects all cases and not only one. The median of the rounds counts. A case
//! whose run has violations counts as not measured: speed without correctness is worth nothing.
//!
//! The latencies of the case `half` depend on the machine as much as on the server. On a shared machine, other programs
//! decide them.

mod list;

use crate::floor::beside;
use crate::floor::report::FloorReport;
use crate::floor::summary::median;
use crate::options::{Cores, GeneratorOptions, ServerOptions, of_child};
use crate::report::files::write_json;
use crate::result::RunResult;
use crate::run::{Interrupts, interruptible_runtime, subprocess};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use list::{BARS, CASES, Case, Figures, FloorOfCase, Limit, get};
use serde::Serialize;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  # five rounds of everything (some 30 minutes), figures also as JSON
  loadtest bars --json bars.json

  # a quick look
  loadtest bars --rounds 1 --seconds 4

Ctrl-C ends the current case and prints the rounds measured so far.

Exit status: 0 measured (even if a bar is not met), 2 wrong usage or nothing could be measured.";

/// Options of `loadtest bars`.
#[derive(Args, Debug, Clone)]
#[command(after_help = EXAMPLES)]
pub struct BarsOptions {
    /// Rounds; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds that each case sends; the case idle takes at least 75, three of the server's heartbeats
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=600))]
    seconds: u32,
    /// Only cases whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Also write all figures of all rounds to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// No progress bar
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    generator: GeneratorOptions,
    #[command(flatten)]
    server: ServerOptions,
}

#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    machine: crate::result::Machine,
    rounds: &'a [Figures],
    problems: &'a [String],
}

/// Measures all of them and prints the table.
///
/// # Errors
/// When nothing could be measured or written; a case that fails is named below the table.
pub fn run(options: &BarsOptions) -> Result<(), String> {
    let work = tempfile::tempdir().map_err(|error| format!("cannot make a temporary directory: {error}"))?;
    let data = options.server.data_dir.clone().unwrap_or_else(|| work.path().join("data"));
    let wanted = |case: &&Case| options.only.as_ref().is_none_or(|only| case.name.contains(only.as_str()));
    let cases: Vec<&Case> = CASES.iter().filter(wanted).collect();
    if cases.is_empty() {
        let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        return Err(format!("--only: no case has such a name; there are: {}", names.join(", ")));
    }
    let bar = if options.quiet {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(u64::from(options.rounds) * cases.len() as u64)
    };
    // The template is a constant that the test below has parsed.
    if let Ok(style) = ProgressStyle::with_template(PROGRESS) {
        bar.set_style(style);
    }
    let machine = crate::result::Machine::current();
    let (_runtime, interrupts) = interruptible_runtime(1)?;
    let (mut rounds, mut problems) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        let mut figures = Figures::new();
        for case in &cases {
            if interrupts.count() > 0 {
                break;
            }
            bar.set_message(format!("round {round}: {}", case.name));
            if let Err(problem) = measure(case, options, &data, work.path(), &mut figures, &interrupts) {
                problems.push(format!("round {round}, {}: {problem}", case.name));
            }
            bar.inc(1);
        }
        rounds.push(figures);
        if interrupts.count() > 0 {
            problems.push(format!("interrupted in round {round}"));
            break;
        }
    }
    bar.finish_and_clear();
    println!("{}\n{}", describe(&machine), table(&rounds));
    for problem in &problems {
        println!("not measured: {problem}");
    }
    if let Some(path) = &options.json {
        let report = Report { version: 1, machine, rounds: &rounds, problems: &problems };
        write_json(path, &report)?;
    }
    if rounds.iter().all(Figures::is_empty) { Err("nothing could be measured".to_owned()) } else { Ok(()) }
}

const PROGRESS: &str = "{bar:30} {pos}/{len} {msg} ({elapsed})";

fn describe(machine: &crate::result::Machine) -> String {
    format!("{}, {} cores, {}, load {:.1}", machine.cpu, machine.cores, machine.kernel, machine.load_1m)
}

/// Runs one case, and its floor, and takes the figures.
fn measure(
    case: &Case,
    options: &BarsOptions,
    data: &Path,
    work: &Path,
    figures: &mut Figures,
    interrupts: &Interrupts,
) -> Result<(), String> {
    let file = work.join("run.json");
    let mut arguments = run_arguments(case, options, data, &file);
    if let Some((figure, times)) = case.rate_of {
        let measured = get(figures, figure).ok_or_else(|| format!("there is no {figure}"))?;
        arguments.push(format!("--rate={:.0}", measured * times));
    }
    subprocess(&arguments, interrupts)?;
    let result = beside::read(&file)?;
    if result.violations.total() > 0 {
        return Err(format!("{} violations; see loadtest run {}", result.violations.total(), case.scenario));
    }
    // Growing rates end at the limit of the machine, and more is offered than it can send.
    if !result.generator_limits.is_empty() && !matches!(case.name, "growing" | "overload") {
        return Err(format!("the generator was the limit: {}", result.generator_limits.join("; ")));
    }
    take(case.name, &result, figures);
    let part: &[&str] = match case.floor {
        FloorOfCase::None => return Ok(()),
        FloorOfCase::All => &[],
        FloorOfCase::Loop => &["loop"],
    };
    let floor = work.join("floor.json");
    subprocess(&floor_arguments(part, options, data, &file, &floor), interrupts)?;
    let text = std::fs::read_to_string(&floor).map_err(|error| error.to_string())?;
    let report: FloorReport = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    for ratio in report.ratios.into_iter().flat_map(|ratios| ratios.ratios) {
        if let Some(name) = ratio_name(&ratio.what) {
            figures.insert(format!("{}/{name}", case.name), ratio.quotient);
        }
    }
    Ok(())
}

/// The figure that a ratio is kept as, if a bar needs it.
fn ratio_name(what: &str) -> Option<&'static str> {
    let names = [
        (beside::SOCKETS_ONE_WRITE, "floor sockets"),
        (beside::BOTH_FLOORS, "floor both"),
        (beside::DURABLE_BEST_BATCH, "floor best rows"),
        (beside::DURABLE_SAME_SHARE, "floor same share"),
        (beside::BARE_LOOP, "floor loop"),
    ];
    let exact = names.into_iter().find(|(label, _)| *label == what).map(|(_, name)| name);
    exact.or_else(|| what.starts_with(beside::DURABLE_SAME_BATCH).then_some("floor rows"))
}

fn run_arguments(case: &Case, options: &BarsOptions, data: &Path, result: &Path) -> Vec<String> {
    let mut arguments: Vec<String> = vec!["run".into(), case.scenario.into(), "--quiet".into()];
    arguments.extend(case.arguments.iter().map(|argument| (*argument).to_owned()));
    arguments.push(format!("--duration={}s", options.seconds.max(case.seconds_min)));
    arguments.extend(of_child(&options.generator, &options.server, data, result));
    arguments
}

/// The floor's PostgreSQL is on the disk of the server's. Its loop has the cores of the server, and its driver one of
/// the generator's.
fn floor_arguments(part: &[&str], options: &BarsOptions, data: &Path, result: &Path, report: &Path) -> Vec<String> {
    let seconds = (f64::from(options.seconds) / 2.0).max(2.0);
    let mut arguments: Vec<String> = std::iter::once(&"floor").chain(part).map(|&word| word.to_owned()).collect();
    arguments.extend(["--quiet".to_owned(), format!("--seconds={seconds}")]);
    arguments.push(format!("--beside={}", result.display()));
    arguments.push(format!("--data-dir={}", data.display()));
    arguments.push(format!("--json={}", report.display()));
    let cores = |cores: &Option<Cores>| cores.as_ref().map(|cores| cores.0.clone());
    if let (Some(mut cores), Some(driver)) = (cores(&options.server.server_cores), cores(&options.generator.cores)) {
        // The floor's driver has one thread.
        cores.extend(driver.first());
        let list: Vec<String> = cores.iter().map(usize::to_string).collect();
        arguments.push(format!("--cores={}", list.join(",")));
    }
    arguments
}

fn take(case: &str, result: &RunResult, figures: &mut Figures) {
    let mut put = |name: &str, value: Option<f64>| {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            figures.insert(format!("{case}/{name}"), value);
        }
    };
    let per_s = |count: u64| (result.seconds > 0.0).then(|| count as f64 / result.seconds);
    let server = result.usage.server.as_ref();
    let window = result.window();
    put("messages per s", per_s(window.acked));
    put("deliveries per s", per_s(window.delivered));
    if window.acked > 0 {
        put("us per message", server.map(|usage| usage.cpu_us_per_message));
        put("us per delivery", server.map(|usage| usage.cpu_us_per_delivery));
        put("ack p50 ms", Some(result.ack.p50_us as f64 / 1e3));
        put("ack p99 ms", Some(result.ack.p99_us as f64 / 1e3));
        put("delivery p99 ms", Some(result.delivery.p99_us as f64 / 1e3));
        put("delivery p99.9 ms", Some(result.delivery.p99_9_us as f64 / 1e3));
    }
    put("peak per s", result.saturation.as_ref().map(crate::result::Saturation::peak_per_s));
    put("encodings", result.server.as_ref().and_then(|server| server.encodes_per_event));
    put("bytes per connection", result.usage.server_bytes_per_connection);
    put("all bytes per connection", result.usage.all_bytes_per_connection());
    let connection_seconds = result.counts.connections as f64 * result.seconds;
    put("us per connection and s", server.map(|usage| usage.cpu_s * 1e6 / connection_seconds));
    for class in &result.classes {
        put(&format!("{} p99 ms", class.name), Some(class.delivery.p99_us as f64 / 1e3));
    }
}

fn table(rounds: &[Figures]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["figure", "median", "lowest", "highest", "bar", ""]);
    for column in 1..5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for bar in BARS {
        let values: Vec<f64> = rounds.iter().filter_map(bar.of).collect();
        let show = |value: f64| format!("{value:.digits$}", digits = bar.digits);
        let limit = match bar.limit {
            Limit::AtMost(limit) => format!("<= {}", show(limit)),
            Limit::AtLeast(limit) => format!(">= {}", show(limit)),
            Limit::Exactly(limit) => format!("= {}", show(limit)),
            Limit::None => String::new(),
        };
        let mut row = vec![bar.what.to_owned()];
        if values.is_empty() {
            row.extend(["-".to_owned(), "-".to_owned(), "-".to_owned(), limit, "not measured".to_owned()]);
        } else {
            let lowest = values.iter().copied().fold(f64::MAX, f64::min);
            let highest = values.iter().copied().fold(f64::MIN, f64::max);
            let middle = median(values);
            let met = match bar.limit {
                Limit::AtMost(limit) => Some(middle <= limit),
                Limit::AtLeast(limit) => Some(middle >= limit),
                Limit::Exactly(limit) => Some(show(middle) == show(limit)),
                Limit::None => None,
            };
            let verdict = met.map_or("", |met| if met { "met" } else { "NOT MET" });
            row.extend([show(middle), show(lowest), show(highest), limit, verdict.to_owned()]);
        }
        table.add_row(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::cli::FloorOptions;
    use crate::scenario::Layers;

    #[derive(clap::Parser)]
    struct BarLine {
        #[command(flatten)]
        bars: BarsOptions,
    }

    #[derive(clap::Parser)]
    struct FloorLine {
        #[command(flatten)]
        floor: FloorOptions,
    }

    #[test]
    fn passes_cores_threads_and_directory_to_runs_and_floors() {
        let line = ["bars", "--seconds=4", "--server-cores=0,2", "--generator-cores=1", "--threads=3"];
        let options = <BarLine as clap::Parser>::parse_from(line).bars;
        let (data, file) = (Path::new("/data"), Path::new("/run.json"));
        for (name, duration) in [("durable", "--duration=4s"), ("idle", "--duration=75s")] {
            let case = CASES.iter().find(|case| case.name == name).expect("a case");
            let arguments = run_arguments(case, &options, data, file);
            for wanted in [duration, "--server-cores=0,2", "--generator-cores=1", "--threads=3", "--data-dir=/data"] {
                assert!(arguments.iter().any(|argument| argument == wanted), "{wanted}: {arguments:?}");
            }
        }
        for part in [&[][..], &["loop"]] {
            let arguments = floor_arguments(part, &options, data, file, Path::new("/floor.json"));
            for wanted in ["--data-dir=/data", "--beside=/run.json", "--cores=0,2,1", "--seconds=2"] {
                assert!(arguments.iter().any(|argument| argument == wanted), "{wanted}: {arguments:?}");
            }
            // What is passed is what the command understands.
            assert_eq!(arguments[0], "floor");
            let parsed = <FloorLine as clap::Parser>::try_parse_from(&arguments).map_err(|error| error.to_string());
            assert!(parsed.is_ok_and(|line| format!("{:?}", line.floor).contains("/run.json")), "{arguments:?}");
        }
    }

    #[test]
    fn compares_exact_bars_in_the_shown_digits() {
        for (encodings, verdict) in [(0.98, "NOT MET"), (1.0, " met"), (1.02, "NOT MET")] {
            let figures = Figures::from([("durable/encodings".to_owned(), encodings)]);
            let text = table(&[figures]).to_string();
            let line = text.lines().find(|line| line.contains("serialisations")).expect("a line");
            assert!(line.contains(verdict), "{encodings}: {line}");
        }
    }

    #[test]
    fn keeps_the_ratios_that_bars_need() {
        let rows = format!("{} (31)", beside::DURABLE_SAME_BATCH);
        for (what, name) in [
            (beside::BARE_LOOP, Some("floor loop")),
            (beside::DURABLE_SAME_SHARE, Some("floor same share")),
            (rows.as_str(), Some("floor rows")),
            ("durable messages/s, floor with batches of 1000", None),
        ] {
            assert_eq!(ratio_name(what), name, "{what}");
        }
    }

    #[test]
    fn compares_closed_loops_only_with_the_bare_loop() {
        for case in CASES.iter().filter(|case| case.floor == FloorOfCase::Loop) {
            assert!(case.arguments.contains(&"--mode=closed"), "{}", case.name);
        }
        let of = |name| CASES.iter().find(|case| case.name == name).map(|case| case.floor);
        assert_eq!(of("headline closed"), Some(FloorOfCase::Loop));
        assert_eq!(of("durable"), Some(FloorOfCase::All));
    }

    #[test]
    fn every_case_is_a_scenario_and_every_bar_has_figures() {
        for case in CASES {
            assert!(Layers::open(case.scenario).is_ok(), "{}", case.scenario);
        }
        assert!(ProgressStyle::with_template(PROGRESS).is_ok());
        let mut figures = Figures::new();
        for case in CASES {
            for name in [
                "floor sockets",
                "floor both",
                "floor rows",
                "floor best rows",
                "floor same share",
                "floor loop",
                "messages per s",
                "deliveries per s",
                "us per message",
                "us per delivery",
                "ack p50 ms",
                "ack p99 ms",
                "encodings",
                "bytes per connection",
                "all bytes per connection",
                "us per connection and s",
                "small p99 ms",
                "delivery p99 ms",
                "delivery p99.9 ms",
                "peak per s",
            ] {
                figures.insert(format!("{}/{name}", case.name), 1.0);
            }
        }
        for bar in BARS {
            assert!((bar.of)(&figures).is_some(), "{}", bar.what);
        }
        let text = table(&[figures, Figures::new()]).to_string();
        assert!(text.contains("NOT MET") && text.contains(" met"), "{text}");
        assert!(table(&[Figures::new()]).to_string().contains("not measured"));
    }
}
