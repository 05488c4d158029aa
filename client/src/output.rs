//! Prints results to standard output, and everything else to standard error.
//!
//! Invariants: with `--json`, standard output has one JSON object per line and nothing else. Without it, the callers
//! have sanitized other people's text with `text`.

use crate::failure::Failure;
use crate::paint::{Choice, Paint};
use crate::text;
use serde_json::Value;
use std::io::{ErrorKind, IsTerminal, Write};

/// The two streams.
#[derive(Clone, Copy)]
pub struct Output {
    json: bool,
    paint: Paint,
    aside: Paint,
}

impl Output {
    /// From the options `--json` and `--color`.
    pub fn new(json: bool, colours: Choice) -> Self {
        let (paint, aside) = (Paint::new(colours, &std::io::stdout()), Paint::new(colours, &std::io::stderr()));
        Self { json, paint, aside }
    }

    /// Whether the output is JSON.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Colours of standard output.
    pub fn paint(self) -> Paint {
        self.paint
    }

    /// Prints one result: the object as JSON, or the text for people.
    pub fn result(self, value: &Value, text: impl FnOnce() -> String) -> Result<(), Failure> {
        print(&if self.json { text::json(value) } else { text() })
    }

    /// Prints a note for the user.
    pub fn note(self, note: &str) {
        // A closed standard error leaves no way to report that.
        let _ = writeln!(std::io::stderr(), "{}", self.aside.dim(&text::line(note)));
    }

    /// Shows how far something is, over what was shown before; only on a terminal. An empty text ends it.
    pub fn progress(self, text: &str) {
        let mut stderr = std::io::stderr();
        if !self.json && stderr.is_terminal() {
            // As for notes: there is no other place.
            let _ = write!(stderr, "\r\x1b[K{}", self.aside.dim(&text::line(text))).and_then(|()| stderr.flush());
        }
    }

    /// Prints a failure.
    pub fn failure(self, failure: &Failure) {
        if matches!(failure, Failure::OutputGone) {
            return;
        }
        let line =
            if self.json { text::json(&failure.to_json()) } else { format!("{} {failure}", self.aside.red("veza:")) };
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// Prints a line and flushes: a program that reads `veza follow` from a pipe gets it at once.
pub fn print(line: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::OutputGone,
        _ => Failure::Usage(format!("standard output: {error}")),
    })
}
