//! Writes results to files and reads them back. Each error names its file.

use crate::options::OutputOptions;
use crate::report::comparison::SystemRuns;
use crate::result::{RESULT_VERSION, RunResult};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Largest file that is read, bytes. A day's timeline has a tenth of it.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Why a file is not a result.
#[derive(Debug, Error)]
pub enum FileError {
    /// It can't be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: std::io::Error,
    },
    /// It is too long.
    #[error("{0} is larger than {FILE_BYTES_MAX} bytes, no result is")]
    TooLarge(PathBuf),
    /// It is truncated or not JSON.
    #[error("{path} is not JSON, or not all of it is there: {error}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// The position and the cause.
        error: serde_json::Error,
    },
    /// It is JSON of another program.
    #[error("{path} is not a result of `loadtest run --json`: {reason}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// A newer program wrote it.
    #[error(
        "{path} was written by a newer loadtest \
         (version {version} of the format, this one reads up to {RESULT_VERSION})"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u64,
    },
}

/// The contents of a file.
#[derive(Debug)]
pub enum FileContents {
    /// One run's result.
    Run(Box<RunResult>),
    /// A comparison: systems with their rounds.
    Systems(Vec<SystemRuns>),
}

/// Writes a result as JSON.
///
/// # Errors
/// When the file cannot be written; the error names it.
pub fn write_json(path: &Path, result: &impl Serialize) -> Result<(), String> {
    let text = serde_json::to_string_pretty(result).map_err(|error| error.to_string());
    text.and_then(|text| std::fs::write(path, text + "\n").map_err(|error| error.to_string()))
        .map_err(|reason| format!("cannot write {}: {reason}", path.display()))
}

/// Writes a report to the files that were asked for. `page` makes the HTML page with this label; without a label in the
/// options it is `name`.
///
/// # Errors
/// When a file cannot be written; the error names it.
pub fn write_report(
    output: &OutputOptions,
    name: &str,
    report: &impl Serialize,
    page: impl FnOnce(&str) -> String,
) -> Result<(), String> {
    if let Some(path) = &output.json {
        write_json(path, report)?;
    }
    if let Some(path) = &output.html {
        let html = page(output.label.as_deref().unwrap_or(name));
        std::fs::write(path, html).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

/// Reads a result or a comparison.
pub fn read(path: &Path) -> Result<FileContents, FileError> {
    let unreadable = |error| FileError::Read { path: path.to_owned(), error };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(FileError::TooLarge(path.to_owned()));
    }
    let mut value: serde_json::Value =
        serde_json::from_slice(&text).map_err(|error| FileError::Broken { path: path.to_owned(), error })?;
    if let Some(systems) = value.get_mut("systems").filter(|systems| systems.is_array()).map(serde_json::Value::take) {
        let entries: Vec<SystemEntry> = serde_json::from_value(systems).map_err(|error| foreign(path, &error))?;
        let mut systems = Vec::new();
        for entry in entries {
            let runs = entry.runs.into_iter().map(|run| checked(path, run)).collect::<Result<_, _>>()?;
            systems.push(SystemRuns { system: entry.system, runs });
        }
        return Ok(FileContents::Systems(systems));
    }
    Ok(FileContents::Run(Box::new(checked(path, value)?)))
}

#[derive(Deserialize)]
struct SystemEntry {
    system: String,
    runs: Vec<serde_json::Value>,
}

fn foreign(path: &Path, reason: &dyn std::fmt::Display) -> FileError {
    FileError::Foreign { path: path.to_owned(), reason: reason.to_string() }
}

/// A result, if it is one. Every key of a result may be absent in an older one, so any JSON object would pass for an
/// empty result without the looks at its version and its counts.
fn checked(path: &Path, value: serde_json::Value) -> Result<RunResult, FileError> {
    let version = value.get("version").and_then(serde_json::Value::as_u64);
    let version = version.ok_or_else(|| foreign(path, &"it has no `version`"))?;
    if version > u64::from(RESULT_VERSION) {
        return Err(FileError::Newer { path: path.to_owned(), version });
    }
    if !value.get("counts").is_some_and(serde_json::Value::is_object) {
        return Err(foreign(path, &"it has no `counts`"));
    }
    let run: RunResult = serde_json::from_value(value).map_err(|error| foreign(path, &error))?;
    let classes = run.classes.iter().flat_map(|class| [&class.ack, &class.delivery]);
    for latency in [&run.ack, &run.delivery, &run.send_lag].into_iter().chain(run.operations.values()).chain(classes) {
        latency.unpack().map_err(|error| foreign(path, &error))?;
    }
    Ok(run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;
    use serde_json::json;

    fn read_text(text: &str) -> Result<FileContents, FileError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("result.json");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn reads_back_a_written_result() {
        let run = fixtures::broken("b");
        let FileContents::Run(read) = read_text(&serde_json::to_string(&run).unwrap()).unwrap() else {
            panic!("a run is a run");
        };
        assert_eq!(read.ack.unpack().unwrap(), run.ack.unpack().unwrap());
        assert_eq!(read.scenario, run.scenario);
        assert_eq!((read.timeline.len(), read.counts.acked), (run.timeline.len(), run.counts.acked));
        assert_eq!(read.server.as_ref().unwrap().stages.len(), 4);
        assert_eq!(read.violations.total(), 3);
    }

    #[test]
    fn a_comparison_keeps_its_systems() {
        let systems = [SystemRuns { system: "NATS".to_owned(), runs: vec![fixtures::run("a", 1.0)] }];
        let text = serde_json::to_string(&json!({"systems": systems, "more": "of others"})).unwrap();
        let FileContents::Systems(read) = read_text(&text).unwrap() else { panic!("a comparison is a comparison") };
        assert_eq!((read[0].system.as_str(), read[0].runs.len()), ("NATS", 1));
    }

    #[test]
    fn names_the_file_and_the_fault_in_errors() {
        let missing = read(Path::new("/nowhere/a.json")).unwrap_err().to_string();
        assert!(missing.starts_with("cannot read /nowhere/a.json: "), "{missing}");

        let run = serde_json::to_value(fixtures::run("a", 1.0)).unwrap();
        let mut broken_histogram = run.clone();
        broken_histogram["ack"]["histogram"] = json!("aGVsbG8=");
        let mut newer = run.clone();
        newer["version"] = json!(99);
        let mut wrong_type = run.clone();
        wrong_type["seconds"] = json!("sixty");
        let cut: String = run.to_string().chars().take(500).collect();
        for (text, expected) in [
            (cut.as_str(), "not JSON, or not all of it"),
            ("{}", "it has no `version`"),
            ("[1, 2]", "it has no `version`"),
            (r#"{"version": 1, "name": "a package"}"#, "it has no `counts`"),
            (r#"{"systems": [{"name": "x"}]}"#, "missing field"),
            (&newer.to_string(), "newer loadtest (version 99"),
            (&wrong_type.to_string(), "invalid type"),
            (&broken_histogram.to_string(), "not HdrHistogram"),
        ] {
            let error = read_text(text).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("result.json"), "{error}");
        }
    }
}
