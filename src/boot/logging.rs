//! The log: text or JSON, to standard error or to a file.
//!
//! Invariant: writing a log line never blocks a shard. Lines go through a bounded queue to a thread that writes them;
//! when a disk or a pipe does not keep up, lines are dropped and counted ([`LoggingGuard::dropped_lines`]), because a
//! server that waits for its log stops serving its clients.

use crate::config::{LogFormat, LogRotation, LoggingConfig};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::Subscriber;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// Most lines that wait for the writer; more are dropped.
const LINES_MAX: usize = 16 * 1024;

/// Keeps the log's writer alive; dropping it writes what still waits.
#[must_use = "the log ends when this is dropped"]
pub struct LoggingGuard {
    dropped: ErrorCounter,
    level: LevelHandle,
    _writer: WorkerGuard,
}

/// Changes the level of the log; cloning shares it.
#[derive(Clone)]
pub struct LevelHandle(Arc<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>);

impl LevelHandle {
    /// Sets `logging.level` to a value that was checked.
    pub(super) fn set(&self, level: &str) {
        let changed = EnvFilter::try_new(level).map_err(|error| error.to_string()).and_then(|filter| self.0(filter));
        if let Err(reason) = changed {
            tracing::error!("logging.level keeps its former value: {reason}");
        }
    }
}

impl LoggingGuard {
    /// Changes the level.
    #[must_use]
    pub fn level(&self) -> LevelHandle {
        self.level.clone()
    }

    /// Counts the lines that are lost because the writer does not keep up.
    #[must_use]
    pub fn dropped_lines(&self) -> ErrorCounter {
        self.dropped.clone()
    }
}

/// Why the log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// `logging.level` is not a valid filter.
    #[error("logging.level: {level:?} is not a valid filter: {reason}")]
    Level {
        /// As configured.
        level: String,
        /// The parser's error.
        reason: String,
    },
    /// The log file cannot be written.
    #[error(
        "logging.file: cannot write {}: {reason}; give the server's user the right to write there, or set another file \
         (an empty logging.file logs to standard error)",
        path.display()
    )]
    File {
        /// As configured.
        path: PathBuf,
        /// The system's error.
        reason: String,
    },
    /// The process has a log already.
    #[error("the log was set up twice in one process: {0}")]
    Twice(String),
}

/// Sets the process's log up. Call once, before anything logs.
///
/// # Errors
/// An invalid level, a file that cannot be written, or a second call.
pub fn init(config: &LoggingConfig) -> Result<LoggingGuard, LoggingError> {
    let (subscriber, guard) = build(config)?;
    subscriber.try_init().map_err(|error| LoggingError::Twice(error.to_string()))?;
    Ok(guard)
}

fn build(config: &LoggingConfig) -> Result<(Box<dyn Subscriber + Send + Sync>, LoggingGuard), LoggingError> {
    let filter = EnvFilter::try_new(&config.level)
        .map_err(|error| LoggingError::Level { level: config.level.clone(), reason: error.to_string() })?;
    let (sink, ansi): (Box<dyn Write + Send>, bool) = if let Some(path) = &config.file {
        (Box::new(open(path, config)?), false)
    } else {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        (Box::new(io::stderr()), io::stderr().is_terminal() && !plain)
    };
    let (writer, worker) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_MAX).thread_name("log").finish(sink);
    let dropped = writer.error_counter();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(ansi);
    let (subscriber, level): (Box<dyn Subscriber + Send + Sync>, LevelHandle) = match config.format {
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            let set = move |filter| handle.reload(filter).map_err(|error| error.to_string());
            (Box::new(builder.finish()), LevelHandle(Arc::new(set)))
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            let set = move |filter| handle.reload(filter).map_err(|error| error.to_string());
            (Box::new(builder.finish()), LevelHandle(Arc::new(set)))
        }
    };
    Ok((subscriber, LoggingGuard { dropped, level, _writer: worker }))
}

/// A rotated log is written to `FILE.DATE`. The appender deletes old files by a prefix of their names. The prefix is
/// the whole file name, because `app` would also match `app-audit.log`.
fn open(path: &Path, config: &LoggingConfig) -> Result<RollingFileAppender, LoggingError> {
    let failed = |reason: String| LoggingError::File { path: path.to_path_buf(), reason };
    let name =
        path.file_name().and_then(|name| name.to_str()).ok_or_else(|| failed("it does not name a file".to_owned()))?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Absolute, because the link to the newest file holds this path and is resolved from inside the folder.
    let folder = std::fs::create_dir_all(folder)
        .and_then(|()| folder.canonicalize())
        .map_err(|error| failed(error.to_string()))?;
    let builder = RollingFileAppender::builder().filename_prefix(name);
    let builder = match config.rotation {
        LogRotation::Never => builder.rotation(Rotation::NEVER),
        LogRotation::Daily => rotated(builder.rotation(Rotation::DAILY), path, name, config.keep_files),
        LogRotation::Hourly => rotated(builder.rotation(Rotation::HOURLY), path, name, config.keep_files),
    };
    builder.build(folder).map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        failed(cause.unwrap_or_else(|| error.to_string()))
    })
}

fn rotated(
    builder: tracing_appender::rolling::Builder,
    path: &Path,
    name: &str,
    keep_files: usize,
) -> tracing_appender::rolling::Builder {
    let builder = builder.max_log_files(keep_files);
    // A log from before rotation was switched on stays: the link would replace it.
    match path.symlink_metadata() {
        Ok(metadata) if !metadata.is_symlink() => builder,
        _ => builder.latest_symlink(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn logged(change: impl FnOnce(&mut LoggingConfig)) -> Result<(), LoggingError> {
        let mut config = Config::default().logging;
        change(&mut config);
        let (subscriber, guard) = build(&config)?;
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(answer = 42, "a line");
            tracing::debug!("below the level");
        });
        drop(guard);
        Ok(())
    }

    #[test]
    fn writes_json_lines_of_the_configured_level_to_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep/er/app.log");
        logged(|config| {
            config.format = LogFormat::Json;
            config.file = Some(file.clone());
            config.rotation = LogRotation::Never;
        })
        .unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 1, "{text}");
        assert_eq!((&lines[0]["message"], &lines[0]["answer"]), (&"a line".into(), &42.into()));
    }

    #[test]
    fn rotation_links_the_newest_file_and_deletes_only_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app.log");
        for (name, text) in [("app-audit.log", "keep"), ("app.log.2001-01-01", "old"), ("app.log.2001-01-02", "old")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        logged(|config| {
            config.file = Some(file.clone());
            config.rotation = LogRotation::Daily;
            config.keep_files = 2;
        })
        .unwrap();
        assert!(std::fs::read_to_string(&file).unwrap().contains("a line"));
        assert!(file.symlink_metadata().unwrap().is_symlink());
        assert!(folder.path().join("app-audit.log").exists());
        let dated = std::fs::read_dir(folder.path())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with("app.log."))
            .count();
        assert_eq!(dated, 2, "the newest and one older");
    }

    #[test]
    fn errors_name_the_file_or_the_level() {
        let error = logged(|config| config.file = Some("/proc/nowhere/app.log".into())).unwrap_err().to_string();
        assert!(error.contains("/proc/nowhere/app.log") && error.contains("No such file"), "{error}");
        let error = logged(|config| config.level = "chat_server=loud".to_owned()).unwrap_err().to_string();
        assert!(error.contains("logging.level") && error.contains("chat_server=loud"), "{error}");
    }
}
