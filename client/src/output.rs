//! Results on standard output, everything else on standard error.
//!
//! Invariants: with `--json`, each line of standard output is one object, and nothing else is ever there; without it,
//! text of other people has been through `text` before it comes here.

use crate::failure::Failure;
use crate::paint::{Choice, Paint};
use crate::text;
use serde_json::Value;
use std::io::{ErrorKind, Write};

/// Where results go.
#[derive(Clone, Copy)]
pub struct Output {
    json: bool,
    paint: Paint,
    aside: Paint,
}

impl Output {
    /// As the command line says.
    pub fn new(json: bool, colours: Choice) -> Self {
        let (paint, aside) = (Paint::new(colours, &std::io::stdout()), Paint::new(colours, &std::io::stderr()));
        Self { json, paint, aside }
    }

    /// Whether programs read it.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Colours of standard output.
    pub fn paint(self) -> Paint {
        self.paint
    }

    /// One result: the object for programs, or the words for people.
    pub fn result(self, value: &Value, words: impl FnOnce() -> String) -> Result<(), Failure> {
        print(&if self.json { text::json(value) } else { words() })
    }

    /// Something for the person at the terminal.
    pub fn note(self, words: &str) {
        // Nobody can be told that nobody can be told.
        let _ = writeln!(std::io::stderr(), "{}", self.aside.dim(&text::line(words)));
    }

    /// Why it did not work.
    pub fn failure(self, failure: &Failure) {
        if matches!(failure, Failure::OutputGone) {
            return;
        }
        let words =
            if self.json { text::json(&failure.to_json()) } else { format!("{} {failure}", self.aside.red("veza:")) };
        let _ = writeln!(std::io::stderr(), "{words}");
    }
}

/// A line, at once: whoever follows a conversation through a pipe wants it now.
pub fn print(line: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::OutputGone,
        _ => Failure::Usage(format!("standard output: {error}")),
    })
}
