//! `loadtest report`: results of earlier runs, printed, compared, and put on one page.

use crate::report::comparison::{Comparison, SystemRuns, by_system};
use crate::report::files::{self, Contents};
use crate::report::html::Page;
use crate::report::side_by_side::SideBySide;
use crate::report::terminal::Summary;
use crate::result::RunResult;
use clap::Args;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Most runs on one page: more can't be told apart.
const RUNS_MAX: usize = 64;

/// What to report on.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    loadtest report result.json                              one run's summary\n  \
    loadtest report before.json after.json                   each figure, and how many times the first it is\n  \
    loadtest report before.json after.json --html page.html  the same with curves, as a page for a browser\n  \
    loadtest report --by-system a1.json a2.json b1.json      medians of several runs for each tested system\n\n\
    Ends with 0 when the report was made, with 2 when a file could not be read or written.")]
pub struct ReportOptions {
    /// Results as written by --json; ratios are to the first
    #[arg(required = true, value_name = "RESULT.json")]
    pub results: Vec<PathBuf>,
    /// Also write a page with curves and tables, self-contained, to open in a browser
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Take runs of the same system together: median, lowest and highest
    #[arg(long)]
    pub by_system: bool,
}

/// Prints the report and writes the page. The error is for people.
pub fn report(options: &ReportOptions) -> Result<(), String> {
    let mut runs: Vec<RunResult> = Vec::new();
    let mut stems = Vec::new();
    let mut systems: Vec<SystemRuns> = Vec::new();
    for path in &options.results {
        match files::read(path).map_err(|error| error.to_string())? {
            Contents::Run(run) => {
                runs.push(*run);
                stems.push(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
            }
            Contents::Systems(found) => systems.extend(found),
        }
    }
    tell_apart(&mut runs, &stems);
    if !systems.is_empty() && !runs.is_empty() {
        return Err(
            "some of the files are comparisons and some are single runs: report on them one kind at a time".to_owned()
        );
    }
    if options.by_system && systems.is_empty() {
        systems = by_system(std::mem::take(&mut runs));
    }
    let all = runs.len() + systems.iter().map(|system| system.runs.len()).sum::<usize>();
    if all > RUNS_MAX {
        return Err(format!("{all} runs are too many for one report: give at most {RUNS_MAX}"));
    }
    let page = if systems.is_empty() {
        let printed = match runs.as_slice() {
            [run] => print(&Summary(run)),
            runs => print(&SideBySide(runs)),
        };
        printed?;
        Page::of_runs(&runs)
    } else {
        print(&Comparison::new(&systems))?;
        Page::of_systems(&systems)
    };
    match &options.html {
        Some(path) => write_page(path, page.map_err(|error| error.to_string())?),
        None => Ok(()),
    }
}

/// Runs of one scenario have one label; their files' names say which is which.
fn tell_apart(runs: &mut [RunResult], stems: &[String]) {
    let labels: Vec<String> = runs.iter().map(|run| run.label.clone()).collect();
    for (run, stem) in runs.iter_mut().zip(stems) {
        if labels.iter().filter(|label| **label == run.label).count() > 1 || run.label.is_empty() {
            run.label.clone_from(stem);
        }
    }
}

/// Writes a page and says where.
pub fn write_page(path: &Path, page: Page) -> Result<(), String> {
    let html = page.into_html().map_err(|error| error.to_string())?;
    std::fs::write(path, html).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    print(&format_args!("Page written to {}\n", path.display()))
}

/// Prints; a reader that has seen enough, as `head` has, is no failure.
fn print(text: &dyn std::fmt::Display) -> Result<(), String> {
    match write!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("cannot print: {error}")),
        _ => Ok(()),
    }
}
