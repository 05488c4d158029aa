//! `loadtest run uploads` from the outside, with small files: every part is measured and reported, nothing is left of
//! the files, and a missing nginx is an error that names the command which installs it.
//!
//! No test looks at a time or at whether a bar is met: exit status 1 means that one is missed.
#![cfg(feature = "test-db")]

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

/// Uploads beside messages.
const AT_ONCE: u64 = 2;

fn uploads(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(["run", "uploads", "--quiet", "--users=4", "--rate=20", "--duration=1s"]);
    command.args(["--set", "uploads.size_bytes=300000", "--set", "uploads.rounds=1"]);
    command.arg("--set").arg(format!("uploads.at_once={AT_ONCE}")).args(arguments);
    command.arg("--data-dir").arg(directory.join("server"));
    command.arg("--json").arg(directory.join("uploads.json")).arg("--html").arg(directory.join("uploads.html"));
    command
}

fn words(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Files below a folder.
fn files_below(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.map(|path| if path.is_dir() { files_below(&path) } else { 1 }).sum()
}

#[test]
fn measures_memory_messages_and_downloads_and_leaves_no_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let nginx = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-clients/nginx");
    assert!(nginx.join("nginx").is_file(), "nginx is missing: scripts/install-test-clients.sh extracts it");
    let mut path = nginx.into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let output = uploads(directory.path(), &[]).env("PATH", path).output().expect("the program runs");
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", words(&output));

    let text = std::fs::read_to_string(directory.path().join("uploads.json")).expect("written");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let list = |key: &str| report[key].as_array().unwrap_or_else(|| panic!("{key}: {report}")).clone();
    let memory = list("memory");
    let ways: Vec<&str> = memory.iter().filter_map(|upload| upload["way"].as_str()).collect();
    assert_eq!(ways, ["chunks", "one_body", "simple"]);
    for upload in &memory {
        let resident = |key: &str| upload["memory"][key].as_u64().expect("bytes");
        assert!(resident("before") > 0 && resident("peak") >= resident("before"), "{upload}");
    }
    let phases = list("messages");
    let loaded: Vec<bool> = phases.iter().map(|phase| phase["uploaded"].is_object()).collect();
    assert_eq!(loaded, [false, true, false]);
    for phase in &phases {
        let count = |kind: &str| phase[kind]["count"].as_u64().expect("a count");
        // The uploaders are members of the room, but have no connection: each of the four users receives all messages.
        assert_eq!((count("ack"), count("delivery")), (20, 80), "{phase}");
        assert_eq!(phase["refused"], serde_json::json!([]));
    }
    let uploaded = phases[1]["uploaded"]["files"].as_u64().expect("a count");
    assert!(uploaded >= AT_ONCE, "repeated until the phase ends: {uploaded}");
    let connections: Vec<u64> = list("downloads").iter().filter_map(|round| round["connections"].as_u64()).collect();
    assert_eq!(connections, [1, 4]);
    for round in list("downloads") {
        for server in ["server", "nginx", "bare"] {
            assert!(round[server].as_f64() > Some(0.0), "{server}: {round}");
        }
    }
    assert!(report["nginx"].as_str().is_some_and(|version| version.contains('.')), "{report}");
    let bars = list("bars");
    assert!(bars.iter().all(|bar| bar["measured"].is_number()), "{bars:?}");
    let all_met = bars.iter().all(|bar| bar["met"] == true);
    assert_eq!(output.status.code(), Some(i32::from(!all_met)), "{}", words(&output));
    let page = std::fs::read_to_string(directory.path().join("uploads.html")).expect("written");
    assert!(page.contains("Memory of the server") && page.contains("/files/simple"));
    let files = directory.path().join("server/data/files");
    assert!(files.is_dir());
    assert_eq!(files_below(&files), 0, "bytes of files are left");
}

#[test]
fn names_a_missing_nginx_and_measures_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = uploads(directory.path(), &[]).env("PATH", "").output().expect("the program runs");
    assert_eq!(output.status.code(), Some(2), "{}", words(&output));
    assert!(words(&output).contains("apt-get install nginx-light"), "{}", words(&output));
    assert!(!directory.path().join("uploads.json").exists());
}
