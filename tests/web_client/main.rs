//! The web client: its pure modules under Node.js, and the whole client in Chromium, with several people and a server
//! that is killed while they chat.
//!
//! How: the tests use buttons, fields and keys. They read the documents of the pages and compare them with the messages
//! that the server has stored. Screenshots go to target/artifacts/. A message on a console fails the test, except for
//! requests that failed while the server was down.
#![cfg(feature = "test-db")]

mod avatars;
mod bots;
mod captcha;
mod file_states;
mod files;
mod hostile_files;
mod integrations;
mod moderation;
mod people;
mod person;
mod rooms;
mod search;
#[path = "../support/mod.rs"]
mod support;
mod talk;
mod two_factor;
mod writing;

use std::path::Path;
use std::process::{Command, Stdio};
use support::browser::find;

#[test]
fn the_pure_modules_pass_their_tests() {
    let node = find(&["node", "nodejs"]).expect("no Node.js in PATH; type: scripts/install-test-clients.sh");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/web");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    let output = Command::new(node).arg("--test").args(files).stdin(Stdio::null()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
}
