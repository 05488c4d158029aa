//! The unit of deploy/systemd is valid, keeps few rights, and gives the server what it needs.
//!
//! How: `systemd-analyze` reads a copy of the unit whose program is the one under test. It needs no running systemd. On
//! a machine without it, only the values are compared.

use chat_server::config::{Config, Environment};
use std::path::Path;
use std::process::{Command, Output};

const UNIT: &str = include_str!("../../deploy/systemd/chat-server.service");
const INSTALLED: &str = "/usr/local/bin/chat-server";
/// The greatest exposure that is accepted, in tenths; docs/operations.md states it.
const EXPOSURE_TENTHS_MAX: u32 = 12;

/// `systemd-analyze` with these arguments and a copy of a unit; `None` on a machine without it.
fn analyze(arguments: &[&str], unit: &str) -> Option<Output> {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("chat-server.service");
    std::fs::write(&copy, unit.replace(INSTALLED, env!("CARGO_BIN_EXE_chat-server"))).unwrap();
    match Command::new("systemd-analyze").args(arguments).arg(&copy).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("systemd-analyze is not installed: the unit is not checked");
            None
        }
        output => Some(output.unwrap()),
    }
}

#[track_caller]
fn passes(arguments: &[&str], unit: &str) -> bool {
    let Some(Output { status, stdout, stderr }) = analyze(arguments, unit) else { return true };
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    println!("systemd-analyze {arguments:?}: {status}\n{stdout}\n{stderr}");
    // Of some mistakes, such as an unknown key, `verify` only warns.
    status.success() && !stderr.contains("chat-server.service")
}

/// The value of a key that the unit has once.
#[track_caller]
fn value(key: &str) -> &'static str {
    let mut values = UNIT.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let value = values.next().unwrap_or_else(|| panic!("the unit has no {key}"));
    assert_eq!(values.next(), None, "the unit has {key} twice");
    value
}

#[test]
fn systemd_accepts_the_unit() {
    assert!(passes(&["verify"], UNIT));
    if Path::new("/usr/bin/systemd-analyze").exists() {
        assert!(
            !passes(&["verify"], &UNIT.replace("Restart=on-failure", "Restart=mostly")),
            "the check finds mistakes"
        );
    }
}

#[test]
fn keeps_the_exposure_that_the_documents_state() {
    let threshold = format!("--threshold={EXPOSURE_TENTHS_MAX}");
    assert!(passes(&["security", "--offline=true", "--no-pager", &threshold], UNIT));
    let stated = format!("an exposure of {}.{} ", EXPOSURE_TENTHS_MAX / 10, EXPOSURE_TENTHS_MAX % 10);
    assert!(include_str!("../../docs/operations.md").contains(&stated), "docs/operations.md must state it");
}

#[test]
fn stops_later_than_the_server_and_opens_enough_files() {
    let defaults = Config::default();
    assert_eq!(defaults.server.environment, Environment::Development);
    let seconds: u64 = value("TimeoutStopSec").strip_suffix('s').unwrap().parse().unwrap();
    // The private PostgreSQL has 15 s after the server.
    assert!(seconds >= defaults.server.shutdown_timeout.as_secs() + 15, "{:?}", defaults.server.shutdown_timeout);
    // One eighth is for HTTP, and a server with 64 shards needs some thousands for itself.
    let files: usize = value("LimitNOFILE").parse().unwrap();
    assert!(files * 3 / 4 > defaults.limits.max_connections, "{}", defaults.limits.max_connections);
    assert_eq!(value("KillMode"), "mixed", "SIGTERM for the private PostgreSQL would end the last commits");
    assert_eq!(value("RestartPreventExitStatus"), "2");
}

#[test]
fn allows_io_uring() {
    let lines: Vec<&str> = UNIT.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")).collect();
    for call in ["io_uring_setup", "io_uring_enter", "io_uring_register"] {
        assert!(lines[0].split(' ').any(|allowed| allowed == call), "{call}");
    }
    assert!(lines[1..].iter().all(|line| line.starts_with('~') && !line.contains("io_uring")));
}
