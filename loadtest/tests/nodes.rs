//! `loadtest run nodes` from the outside: both sides are measured at every rate, members of a room are on both nodes
//! and receive everything, and a missing Redis is an error that names the command which installs it.
//!
//! No test looks at a time or at whether a bar is met: exit status 1 means that one is missed.
#![cfg(feature = "test-db")]

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

const ROUNDS: usize = 2;
const RATES: [f64; 2] = [40.0, 80.0];

fn nodes(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(["run", "nodes", "--quiet", "--users=8", "--rooms=2", "--room-size=4", "--duration=2s"]);
    command.arg("--set").arg(format!("nodes.rounds={ROUNDS}")).args(arguments);
    command.arg("--data-dir").arg(directory);
    command.arg("--json").arg(directory.join("nodes.json")).arg("--html").arg(directory.join("nodes.html"));
    command
}

fn words(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn measures_one_server_and_two_nodes_in_turn() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = nodes(directory.path(), &["--set", "nodes.rates=[40, 80]"]).output().expect("the program runs");
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", words(&output));

    let text = std::fs::read_to_string(directory.path().join("nodes.json")).expect("written");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let list = |key: &str| report[key].as_array().unwrap_or_else(|| panic!("{key}: {report}")).clone();
    let phases = list("phases");
    let sides: Vec<u64> = phases.iter().filter_map(|phase| phase["nodes"].as_u64()).collect();
    assert_eq!(sides, [1, 2].repeat(ROUNDS * RATES.len()));
    for phase in &phases {
        let count = |key: &str| phase[key].as_u64().expect("a count");
        assert!(count("sent") > 0 && count("acked") == count("sent"), "{phase}");
        assert_eq!(count("delivered"), 4 * count("sent"), "each of the four members receives each message: {phase}");
        assert_eq!(phase["violations"], serde_json::json!({}), "{phase}");
        assert_eq!(phase["errors"], serde_json::json!({}), "{phase}");
        let middle = |key: &str| phase["middle"][key].as_f64();
        assert!(middle("messages") > Some(0.0) && middle("server_us") > Some(0.0), "{phase}");
        let through_redis = (middle("frames_received") > Some(0.0), middle("redis_us").is_some());
        let is_cluster = count("nodes") == 2;
        assert_eq!(through_redis, (is_cluster, is_cluster), "{phase}");
    }
    for (summary, rate) in list("rates").iter().zip(RATES) {
        assert_eq!(summary["rate"].as_f64(), Some(rate));
        assert_eq!(summary["cpu_ratio"]["rounds"].as_u64(), Some(ROUNDS as u64), "{summary}");
    }
    let bars = list("bars");
    assert!(bars.len() == 2 * RATES.len() + 1 && bars.iter().all(|bar| bar["measured"].is_number()), "{bars:?}");
    let all_met = bars.iter().all(|bar| bar["met"] == true);
    assert_eq!(output.status.code(), Some(i32::from(!all_met)), "{}", words(&output));
    assert!(words(&output).contains("2 nodes of one shard each"), "{}", words(&output));
    let page = std::fs::read_to_string(directory.path().join("nodes.html")).expect("written");
    assert!(page.contains("2 nodes") && page.contains("one server"));
}

#[test]
fn names_a_missing_redis_and_measures_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = nodes(directory.path(), &[]).env("PATH", "").output().expect("the program runs");
    assert_eq!(output.status.code(), Some(2), "{}", words(&output));
    assert!(words(&output).contains("apt-get install redis-tools"), "{}", words(&output));
    assert!(!directory.path().join("nodes.json").exists());
}

#[test]
fn refuses_a_server_that_runs_already() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = nodes(directory.path(), &["--url=http://127.0.0.1:9"]).output().expect("the program runs");
    assert_eq!(output.status.code(), Some(2), "{}", words(&output));
    assert!(words(&output).contains("leave --url out"), "{}", words(&output));
}
