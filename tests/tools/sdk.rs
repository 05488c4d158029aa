//! The client packages of `sdk/`: nothing acknowledged is lost, duplicated or reordered, and every change is received
//! once in order of seq, whatever lies between client and server.
//!
//! How: sdk/scenarios/run.py plays scenario.json with clients of one package, each a process behind a proxy that cuts,
//! delays and repeats, and compares what they report with the logs of the server. The server is killed and stopped
//! here. The seed is printed; `CHAT_TEST_SEED` repeats a run. The other tests hold the generated types to the documents
//! and let type checkers read both packages.

use crate::programs::{installed, program, project};
use crate::support::{Random, Server};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PYTHON: &str = "target/test-clients/python/bin/python";
/// Folders with code, and the length of their files.
const FOLDERS: &[&str] = &["sdk/js/", "sdk/js/node/", "sdk/python/tests/", "sdk/python/veza_client/", "sdk/scenarios/"];
const GENERATED: &[&str] = &["types.d.ts", "types.py"];
const LINES_MAX: usize = 600;

fn node() -> PathBuf {
    program(&["node", "nodejs"])
}

#[track_caller]
fn succeeds(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {out}\n{err}");
}

#[test]
fn the_generated_types_are_those_of_the_documents() {
    succeeds(Command::new(installed(PYTHON)).arg(project("sdk/generate.py")).arg("--check"));
}

#[test]
fn the_types_of_the_javascript_package_fit_an_application() {
    let compiler = installed("target/test-clients/typescript/node_modules/typescript/bin/tsc");
    succeeds(Command::new(node()).arg(compiler).arg("--project").arg(project("sdk/js")));
}

#[test]
fn the_python_package_passes_its_type_checker() {
    let mut command = Command::new(installed(PYTHON));
    command.args(["-m", "mypy", "--cache-dir"]).arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("mypy"));
    succeeds(command.current_dir(project("sdk/python")));
}

#[test]
fn the_python_files_are_formatted_and_free_of_lints() {
    let files = ["sdk/generate.py", "sdk/python/tests", "sdk/python/veza_client", "sdk/scenarios"].map(project);
    let files = files.into_iter().chain([project("examples/echo_bot.py")]).collect::<Vec<_>>();
    for arguments in [&["check"][..], &["format", "--check"]] {
        let mut command = Command::new(installed(PYTHON));
        command.args(["-m", "ruff"]).args(arguments).arg("--no-cache").arg("--config");
        succeeds(command.arg(project("sdk/python/pyproject.toml")).args(&files));
    }
}

#[test]
fn the_parts_of_the_python_package_pass_their_tests() {
    let mut command = Command::new(installed(PYTHON));
    command.args(["-m", "unittest", "discover", "tests"]).env("PYTHONPATH", ".").env("PYTHONDONTWRITEBYTECODE", "1");
    succeeds(command.current_dir(project("sdk/python")));
}

#[test]
fn every_file_of_the_packages_is_short_and_says_what_it_is() {
    for folder in FOLDERS {
        for entry in std::fs::read_dir(project(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let code = [".js", ".mjs", ".ts", ".py"].iter().any(|end| name.ends_with(end));
            if !code || GENERATED.contains(&name) {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(["// ", "\"\"\"", "/** "].iter().any(|head| text.starts_with(head)), "{}", path.display());
            assert!(text.lines().count() <= LINES_MAX, "{} is too long", path.display());
            let wide = text.lines().find(|line| line.chars().count() > 120);
            assert_eq!(wide, None, "{}", path.display());
        }
    }
}

#[tokio::test]
async fn the_example_of_a_bot_answers_its_command() {
    let server = Server::start(1, &[]);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let request = async |method: &str, path: &str, body: Value| {
        let (status, answer) = server.request(method.parse().unwrap(), path, Some(&ann.token), Some(&body)).await;
        assert!((200..300).contains(&status), "{path}: {answer}");
        answer
    };
    let bot = request("POST", "/bots", json!({"username": "echo-bot", "display_name": "Echo"})).await;
    let path = |rest: &str| format!("/bots/{}/{rest}", bot["user_id"]);
    request("POST", &path("conversations"), json!({"conversation_id": room})).await;
    let commands = json!({"commands": [{"name": "echo", "description": "Repeat a text.", "usage": "TEXT"}]});
    request("PUT", &path("commands"), commands).await;
    let token = request("POST", &path("tokens"), json!({"name": "example", "scopes": ["read", "write"]})).await;
    let mut command = Command::new(installed(PYTHON));
    command.arg(project("examples/echo_bot.py")).args([&server.base_url, token["token"].as_str().unwrap()]);
    command.env("PYTHONPATH", project("sdk/python")).env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
    let mut running = command.spawn().unwrap();
    let run = json!({"conversation_id": room, "command": "echo", "text": "Hello?"});
    let answer = loop {
        match server.call(&ann, "run_command", run.clone()).await {
            Ok(answer) => break answer,
            Err(problem) => assert_eq!(problem["code"], "not_found", "it is not connected yet: {problem}"),
        }
        assert!(running.try_wait().unwrap().is_none(), "the example has ended");
    };
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!((&answer["visibility"], &answer["content"]), (&json!("private"), &json!("Hello?")));
}

/// Plays the scenario with clients of one package.
fn play(sdk: &str) {
    let server = Server::start(
        2,
        &[
            ("security.jwt_access_duration", "3s"),
            ("limits.max_outbound_queue_bytes", "131072"),
            ("server.shutdown_timeout", "3s"),
        ],
    );
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sdk-{sdk}.log"));
    let seed = Random::new().below(1 << 32).to_string();
    let mut command = Command::new(installed(PYTHON));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.arg(project("sdk/scenarios/run.py")).args(["--server", &server.address.to_string(), "--sdk", sdk]);
    command.args(["--seed", &seed]).arg("--node").arg(node()).arg("--modules");
    command.arg(installed("target/test-clients/node/node_modules").parent().unwrap());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(std::fs::File::create(&log).unwrap());
    let mut runner = command.spawn().unwrap();
    let mut answers = runner.stdin.take().unwrap();
    for order in BufReader::new(runner.stdout.take().unwrap()).lines() {
        match order.unwrap().as_str() {
            "kill" => server.kill9(),
            "stop" => {
                server.sigterm();
                server.wait();
            }
            "start" => drop(server.start_again()),
            other => panic!("the runner asks for {other}"),
        }
        writeln!(answers, "done").unwrap();
    }
    let status = runner.wait().unwrap();
    let report = std::fs::read_to_string(&log).unwrap();
    assert!(status.success(), "{report}");
    println!("{report}");
    server.must_run();
}

#[test]
fn the_javascript_client_loses_repeats_and_reorders_nothing() {
    play("js");
}

#[test]
fn the_python_client_loses_repeats_and_reorders_nothing() {
    play("python");
}
