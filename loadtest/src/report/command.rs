//! `loadtest report`: prints and compares the results of earlier runs, and puts them on one page.

use crate::report::comparison::{Comparison, SystemRuns, by_system};
use crate::report::files::{self, FileContents};
use crate::report::html::Page;
use crate::report::side_by_side::SideBySide;
use crate::report::terminal::Summary;
use crate::result::RunResult;
use clap::Args;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Most runs on one page: a reader could not distinguish more.
const RUNS_MAX: usize = 64;

/// What to report on.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    loadtest report result.json                              one run's summary\n  \
    loadtest report before.json after.json                   each figure, and its ratio to the first\n  \
    loadtest report before.json after.json --html page.html  the same with curves, as a page for a browser\n  \
    loadtest report --by-system a1.json a2.json b1.json      medians of several runs for each tested system\n\n\
    Ends with 0 when the report was made, with 2 when a file could not be read or written.")]
pub struct ReportOptions {
    /// Results that --json wrote; ratios are to the first
    #[arg(required = true, value_name = "RESULT.json")]
    pub results: Vec<PathBuf>,
    /// Also write a self-contained HTML page with curves and tables
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Combine runs of the same system: median, lowest and highest
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
            FileContents::Run(run) => {
                runs.push(*run);
                stems.push(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
            }
            FileContents::Systems(found) => systems.extend(found),
        }
    }
    label_by_file(&mut runs, &stems);
    if !systems.is_empty() && !runs.is_empty() {
        return Err(
            "some of the files are comparisons and some are single runs; report on each kind separately".to_owned()
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

/// Runs of one scenario have the same label, so their files' names distinguish them.
fn label_by_file(runs: &mut [RunResult], stems: &[String]) {
    let labels: Vec<String> = runs.iter().map(|run| run.label.clone()).collect();
    for (run, stem) in runs.iter_mut().zip(stems) {
        if labels.iter().filter(|label| **label == run.label).count() > 1 || run.label.is_empty() {
            run.label.clone_from(stem);
        }
    }
}

/// Writes a page and prints its path.
pub fn write_page(path: &Path, page: Page) -> Result<(), String> {
    let html = page.into_html().map_err(|error| error.to_string())?;
    std::fs::write(path, html).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    print(&format_args!("Page written to {}\n", path.display()))
}

/// Prints. A reader that closes the pipe, such as `head`, is no failure.
fn print(text: &dyn std::fmt::Display) -> Result<(), String> {
    match write!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("cannot print: {error}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;
    use serde_json::json;

    fn options(results: Vec<PathBuf>) -> ReportOptions {
        ReportOptions { results, html: None, by_system: false }
    }

    #[test]
    fn labels_runs_of_one_scenario_by_their_files() {
        let mut runs = [fixtures::run("rooms-10", 1.0), fixtures::run("rooms-10", 1.0), fixtures::run("idle", 1.0)];
        label_by_file(&mut runs, &["before".to_owned(), "after".to_owned(), "other".to_owned()]);
        assert_eq!(runs.map(|run| run.label), ["before", "after", "idle"]);
    }

    #[test]
    fn writes_a_report_and_refuses_mixed_kinds_of_files() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: String| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let run = serde_json::to_value(fixtures::run("rooms-10", 1.0)).unwrap();
        let (first, second) = (file("a.json", run.to_string()), file("b.json", run.to_string()));
        let systems = file("c.json", json!({"systems": [{"system": "NATS", "runs": [run]}]}).to_string());

        let html = directory.path().join("page.html");
        report(&ReportOptions { html: Some(html.clone()), ..options(vec![first.clone(), second]) }).unwrap();
        assert!(std::fs::read_to_string(&html).unwrap().contains("<title>a · b"));
        report(&ReportOptions { by_system: true, html: Some(html.clone()), ..options(vec![first.clone()]) }).unwrap();
        assert!(std::fs::read_to_string(&html).unwrap().contains("1 systems compared"));

        let error = report(&options(vec![first.clone(), systems])).unwrap_err();
        assert!(error.contains("separately"), "{error}");
        let error = report(&options(vec![first.clone(); RUNS_MAX + 1])).unwrap_err();
        assert!(error.contains("at most 64"), "{error}");
        let nowhere = directory.path().join("missing").join("page.html");
        let error = report(&ReportOptions { html: Some(nowhere), ..options(vec![first]) }).unwrap_err();
        assert!(error.contains("cannot write") && error.contains("missing/page.html"), "{error}");
    }
}
