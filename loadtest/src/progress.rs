//! Progress bars on stderr, away from the summary on stdout. There are none if stderr is not a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `length` steps, invisible when `quiet`.
pub fn bar(quiet: bool, length: u64, what: &'static str) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length);
    // A bad template would only cost the looks.
    if let Ok(style) = ProgressStyle::with_template("{msg:24} [{bar:30}] {pos}/{len} {elapsed}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(what);
    bar
}

/// The bar of the run itself: time on the bar, counts in the message.
pub fn run_bar(quiet: bool, length_ms: u64) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length_ms);
    if let Ok(style) = ProgressStyle::with_template("sending [{bar:30}] {elapsed} {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}
