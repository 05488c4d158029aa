//! `loadtest compare` from the outside: servers take turns and have figures, and one that is not installed is named
//! with the command that installs it.
//!
//! The INSERT server is part of the program and PostgreSQL is there (feature `test-db`); the other peers take part
//! where they are installed.
#![cfg(feature = "test-db")]

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

const PEERS: [(&str, &str); 5] = [
    ("uws", "uWebSockets.js"),
    ("mosquitto", "Mosquitto"),
    ("nats", "NATS JetStream"),
    ("ejabberd", "ejabberd"),
    ("tungstenite", "tungstenite+INSERT"),
];

fn compare(peers: &str, path: Option<&str>, directory: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command
        .args(["compare", "--quiet", "--rounds=2", "--peers", peers])
        .args(["--users=12", "--rooms=3", "--room-size=4", "--rate=40", "--duration=1s", "--drain=20s"])
        .arg("--json")
        .arg(directory.join("compare.json"))
        .arg("--html")
        .arg(directory.join("compare.html"));
    if let Some(path) = path {
        // Neither programs of the machine nor those that install.sh puts next to this program.
        command.env("PATH", path).arg("--peers-dir").arg(directory.join("nothing"));
    }
    command.output().expect("the program runs")
}

#[test]
fn measures_installed_servers_in_turns() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let names: Vec<&str> = PEERS.iter().map(|(name, _)| *name).collect();
    let output = compare(&names.join(","), None, directory.path());
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stdout}\n{stderr}");

    let text = std::fs::read_to_string(directory.path().join("compare.json")).expect("written");
    let comparison: Value = serde_json::from_str(&text).expect("JSON");
    let systems = comparison["systems"].as_array().expect("systems");
    let left_out = comparison["left_out"].as_array().expect("left_out");
    for (_, title) in PEERS {
        let Some(system) = systems.iter().find(|system| system["system"] == title) else {
            let left = left_out.iter().find(|left| left["system"] == title).expect("neither measured nor left out");
            assert!(left["reason"].as_str().is_some_and(|reason| reason.contains("install")), "{left}");
            assert!(stderr.contains(&format!("{title} is left out")), "{stderr}");
            continue;
        };
        let rounds = system["runs"].as_array().expect("runs");
        assert_eq!(rounds.len(), 2, "{title}");
        for run in rounds {
            let count = |key: &str| run["counts"][key].as_u64().expect("a count");
            assert!(count("acked") > 0, "{title}");
            // Four connections a room, the sender among them.
            assert_eq!(count("delivered"), 4 * count("acked"), "{title}");
            assert_eq!(run["violations"], serde_json::json!({}), "{title}");
            assert!(run["ack"]["p50_us"].as_u64() > Some(0) && run["delivery"]["p99_us"].as_u64() > Some(0), "{title}");
            assert!(run["usage"]["server"]["cpu_s"].as_f64() > Some(0.0), "{title}");
            assert!(run["system"]["version"].as_str().is_some_and(|version| !version.is_empty()), "{title}");
            let stores = ["ejabberd", "tungstenite+INSERT"].contains(&title);
            assert_eq!(run["usage"]["store"]["cpu_s"].as_f64() > Some(0.0), stores, "{title}");
        }
        assert!(stdout.contains(title), "{stdout}");
    }
    assert!(systems.iter().any(|system| system["system"] == "tungstenite+INSERT"), "PostgreSQL is here");
    let page = std::fs::read_to_string(directory.path().join("compare.html")).expect("written");
    assert!(page.contains("tungstenite+INSERT"));
}

#[test]
fn names_missing_programs_with_their_install_commands() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = compare("uws,mosquitto,nats,ejabberd,tungstenite", Some(""), directory.path());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "nothing was measured: {stderr}");
    for (_, title) in PEERS {
        let line = stderr.lines().find(|line| line.starts_with(title)).unwrap_or_else(|| panic!("{title}: {stderr}"));
        assert!(line.contains("install it: "), "{line}");
    }
    assert!(!directory.path().join("compare.json").exists());
}
