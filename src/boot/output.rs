//! What commands print: findings and results to the standard output, progress to a terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Between two lines of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Prints a finding.
pub(in crate::boot) fn found(sentence: &str) {
    print(&format!("{sentence}\n"));
}

/// Prints a text. Not print!, which panics when the reader of a pipe closes it.
pub(in crate::boot) fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

pub(in crate::boot) fn in_megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

/// A line on the terminal that shows how far a command is.
pub(in crate::boot) struct ProgressLine {
    shown: Option<Instant>,
    is_terminal: bool,
    is_visible: bool,
}

impl ProgressLine {
    pub(in crate::boot) fn new() -> Self {
        Self { shown: None, is_terminal: io::stderr().is_terminal(), is_visible: false }
    }

    pub(in crate::boot) fn show(&mut self, text: impl FnOnce() -> String) {
        if self.is_terminal && self.shown.is_none_or(|shown| shown.elapsed() >= PROGRESS_INTERVAL) {
            self.shown = Some(Instant::now());
            self.is_visible = true;
            let _ = write!(io::stderr(), "\r\x1b[K{}", text());
        }
    }

    pub(in crate::boot) fn clear(&mut self) {
        if std::mem::take(&mut self.is_visible) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
