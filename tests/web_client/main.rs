//! The web client: its pure modules under Node.js, and the whole of it in Chromium, with two people and a server that is
//! killed in the middle of their talk.
//!
//! How: the pages are used by their buttons, fields and keys; what they show is read from their documents and compared
//! with what the server has stored. Pictures are left in target/artifacts/ for people to look at. Anything on a console
//! but a request that failed while the server was away is a failure.
#![cfg(feature = "test-db")]

mod people;
mod person;
mod rooms;
mod search;
#[path = "../support/mod.rs"]
mod support;
mod talk;
mod writing;

use std::path::Path;
use std::process::{Command, Stdio};
use support::browser::find;

#[test]
fn the_pure_modules_hold_what_they_promise() {
    let node = find(&["node", "nodejs"]).expect("no Node.js in PATH; type: scripts/install-test-clients.sh");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/web");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    let output = Command::new(node).arg("--test").args(files).stdin(Stdio::null()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
}
