//! The programs of others that scripts/install-test-clients.sh installs, and the files of the project that they read.

use crate::support::browser::find;
use std::path::{Path, PathBuf};

const INSTALL: &str = "type this and try again:\n\n    scripts/install-test-clients.sh\n";

/// A path of the project.
pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A file that the script installs.
#[track_caller]
pub fn installed(path: &str) -> PathBuf {
    let path = project(path);
    assert!(path.exists(), "{} is missing; {INSTALL}", path.display());
    path
}

/// The first of these programs that is in PATH.
#[track_caller]
pub fn program(names: &[&str]) -> PathBuf {
    find(names).unwrap_or_else(|| panic!("none of {names:?} is in PATH; {INSTALL}"))
}
