//! The whole program against a fake server: a sound one must come out clean in both formats, and each fault must be
//! found under its name. Without the second half, a harness that checks nothing would pass.

mod support;

use serde_json::Value;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use support::{Fake, Fault, HELD_SENDS};

/// What a run gave.
struct Run {
    status: i32,
    stdout: String,
    stderr: String,
    json: Value,
}

impl Run {
    /// Violations of a kind.
    fn violations(&self, kind: &str) -> u64 {
        self.json["violations"][kind]["count"].as_u64().unwrap_or_default()
    }

    fn number(&self, key: &str) -> u64 {
        self.json["counts"][key].as_u64().expect("a number")
    }

    fn violations_total(&self) -> u64 {
        let kinds = self.json["violations"].as_object().expect("a map");
        kinds.values().map(|found| found["count"].as_u64().expect("a number")).sum()
    }
}

/// Runs the program: 12 users in 3 rooms, 200 messages a second for a second, unless `arguments` say otherwise.
async fn run(address: &str, arguments: &[&str]) -> Run {
    let file = std::env::temp_dir().join(format!("loadtest-{}-{:08x}.json", std::process::id(), rand::random::<u32>()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(["run", "--users=12", "--rooms=3", "--rate=200", "--duration=1s", "--drain=20s", "--quiet"]);
    command.arg(format!("--url=http://{address}")).arg("--json").arg(&file).args(arguments);
    let output: Output =
        tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it runs");
    let json = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let _ = std::fs::remove_file(&file);
    Run {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        json,
    }
}

async fn run_with(fault: Fault, arguments: &[&str]) -> Run {
    let fake = Fake::start(fault).await;
    run(&fake.address.to_string(), arguments).await
}

#[tokio::test(flavor = "multi_thread")]
async fn accepts_a_sound_server_in_both_formats_and_reuses_its_users() {
    let fake = Fake::start(Fault::None).await;
    for format in ["json", "msgpack", "both"] {
        let run = run(&fake.address.to_string(), &["--format", format, "--threads=2"]).await;
        assert_eq!(run.status, 0, "{}{}", run.stdout, run.stderr);
        let sent = run.number("sent");
        assert!((100..400).contains(&sent), "{sent} sent");
        assert_eq!(run.number("acked"), sent);
        assert_eq!(run.number("delivered"), 4 * sent, "4 users in each room");
        assert_eq!(run.json["ack"]["count"], sent);
        assert_eq!(run.json["delivery"]["count"], 4 * sent);
        assert!(run.stdout.contains("no violations"), "{}", run.stdout);
        assert_eq!(fake.population(), (12, 3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn computes_cpu_and_rates_over_the_time_of_sending() {
    // The answers come after the last planned send: nothing of them is in the window, all of them are in the totals.
    let run = run_with(Fault::Late, &["--duration=1500ms", "--spacing=even", "--drain=20s"]).await;
    assert_eq!(run.number("sent"), HELD_SENDS);
    assert_eq!(run.status, 0, "{}{}", run.stdout, run.stderr);
    let (window, timeline) = (&run.json["sending"], run.json["timeline"].as_array().expect("seconds"));
    let sum = |key: &str| timeline.iter().map(|second| second[key].as_u64().expect("a number")).sum::<u64>();
    assert_eq!((window["sent"].as_u64(), sum("sent")), (Some(HELD_SENDS), HELD_SENDS));
    assert_eq!((window["acked"].as_u64(), sum("acked")), (Some(0), 0));
    assert_eq!((window["delivered"].as_u64(), sum("delivered")), (Some(0), 0));
    assert_eq!(run.number("acked"), run.number("sent"));
    assert_eq!(run.json["ack"]["count"], run.number("acked"), "latencies count whenever they come");
    assert!(run.json["seconds"].as_f64().expect("a number") >= 1.5);
    let generator = &run.json["usage"]["generator"];
    assert!(generator["cpu_s"].as_f64().expect("a number") > 0.0);
    assert_eq!(generator["cpu_us_per_message"], 0.0, "CPU of sending is not divided by what came later");
}

#[tokio::test(flavor = "multi_thread")]
async fn divides_cpu_by_the_work_done_while_sending() {
    let run = run_with(Fault::None, &["--duration=1500ms"]).await;
    assert_eq!(run.status, 0, "{}{}", run.stdout, run.stderr);
    let generator = &run.json["usage"]["generator"];
    let number = |value: &Value| value.as_f64().expect("a number");
    for (share, count) in [("cpu_us_per_message", "acked"), ("cpu_us_per_delivery", "delivered")] {
        let whole = number(&generator[share]) * number(&run.json["sending"][count]);
        assert!(whole > 0.0 && (whole - number(&generator["cpu_s"]) * 1e6).abs() < 1.0, "{share}: {generator}");
    }
    assert_eq!(run.json["timeline"].as_array().map(Vec::len), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_other_shapes_of_membership_and_spacing() {
    let run = run_with(Fault::None, &["--room-size", "8"]).await;
    assert_eq!(run.status, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(run.number("delivered"), 8 * run.number("sent"));
    let run = run_with(Fault::None, &["--users=2", "--rooms=2", "--room-size=2"]).await;
    assert_eq!(run.status, 0, "{}{}", run.stdout, run.stderr);
    let fake = Fake::start(Fault::None).await;
    for _ in 0..2 {
        let run = self::run(&fake.address.to_string(), &["--prefix=few", "--spacing=even", "--in-flight-max=1"]).await;
        assert_eq!((run.status, run.number("sent")), (0, 200), "{}{}", run.stdout, run.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_faults_in_delivery() {
    for (fault, kinds) in [
        (Fault::Skip, &["gap", "undelivered"][..]),
        (Fault::Double, &["duplicate"]),
        (Fault::Swap, &["gap", "disorder"]),
        (Fault::Leak, &["leak"]),
        (Fault::NoAck, &["unanswered"]),
        (Fault::LateAck, &["event_before_ack"]),
        (Fault::Garble, &["corrupted"]),
    ] {
        // A short drain is enough for what never arrives.
        let missing = matches!(fault, Fault::Skip | Fault::NoAck);
        let run = run_with(fault, if missing { &["--drain=2s"] } else { &[] }).await;
        assert_eq!(run.status, 1, "{fault:?}: {}{}", run.stdout, run.stderr);
        if fault == Fault::Leak {
            assert_eq!(run.number("delivered"), 4 * run.number("sent"), "what was leaked is no delivery");
            assert_eq!(run.violations("leak"), run.violations_total(), "{}", run.stdout);
        }
        for kind in kinds {
            assert!(run.violations(kind) > 0, "{fault:?} without {kind}: {}", run.stdout);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_unanswered_commands_other_than_messages() {
    let options = ["--set=actions.mark_read=50", "--drain=2s"];
    let run = run_with(Fault::None, &options).await;
    assert_eq!(run.status, 0, "{}{}", run.stdout, run.stderr);
    let asked = run.number("other_commands");
    assert!(asked > 0, "{}", run.stdout);
    let run = run_with(Fault::NoReply, &options).await;
    assert_eq!((run.status, run.violations("unanswered")), (1, run.violations_total()), "{}", run.stdout);
    assert_eq!(run.violations_total(), asked, "the same plan, nothing of it answered: {}", run.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_failed_log_ins_as_violations() {
    let options = ["--set=logins.rate=30", "--set=logins.concurrency=4"];
    let run = run_with(Fault::None, &options).await;
    assert_eq!(run.status, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.number("other_commands") > 0, "{}", run.stdout);
    let run = run_with(Fault::NoLogin, &options).await;
    assert_eq!(run.status, 1, "{}{}", run.stdout, run.stderr);
    assert_eq!((run.number("other_commands"), run.violations("login_failed") > 0), (9, true), "{}", run.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_refusals_and_names_the_limit() {
    let run = run_with(Fault::RateLimit, &[]).await;
    assert_eq!(run.status, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(run.number("refused"), run.json["errors"]["rate_limited"].as_u64().expect("counted"));
    assert_eq!(run.number("acked") + run.number("refused"), run.number("sent"));
    assert!(run.stdout.contains("CHAT_SERVER__LIMITS__MAX_MESSAGES_PER_MINUTE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn survives_a_restart_that_loses_nothing() {
    for fault in [Fault::Restart, Fault::RestartReset, Fault::RestartExpiringTokens] {
        for format in ["json", "msgpack"] {
            let run = run_with(fault, &["--survive-restarts", "--format", format]).await;
            assert_eq!(run.status, 0, "{fault:?}: {}{}", run.stdout, run.stderr);
            assert_eq!(run.number("resets") > 0, fault == Fault::RestartReset);
            // More often than once each when the machine is so busy that the server is down for two attempts.
            assert!(run.number("lost") >= 12, "{}", run.stdout);
            assert_eq!(run.number("restored"), run.number("lost"), "{}", run.stdout);
            assert!(run.number("resent") >= 1);
            assert_eq!(run.number("acked"), run.number("sent"));
            assert_eq!(run.number("delivered"), 4 * run.number("sent"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_a_restart_that_loses_or_duplicates() {
    for (fault, kind) in [(Fault::RestartForgetful, "committed_twice"), (Fault::RestartLossy, "gap")] {
        let run = run_with(fault, &["--survive-restarts"]).await;
        assert_eq!(run.status, 1, "{fault:?}: {}{}", run.stdout, run.stderr);
        assert!(run.violations(kind) > 0, "{fault:?}: {}", run.stdout);
        assert_eq!(run.violations("connection_lost"), 0);
    }
    let run = run_with(Fault::Restart, &[]).await;
    assert_eq!(run.status, 1, "{}", run.stdout);
    assert!(run.violations("connection_lost") >= 1, "{}", run.stdout);
    assert_eq!(run.violations_total(), run.violations("connection_lost"), "{}", run.stdout);
    assert_eq!(run.number("restored"), run.number("lost"), "{}", run.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn exits_with_2_without_a_server_and_on_wrong_usage() {
    let run = run("127.0.0.1:1", &[]).await;
    assert_eq!(run.status, 2);
    assert!(run.stderr.contains("Is the server running"), "{}", run.stderr);
    let run = self::run("127.0.0.1:1", &["--spacing=odd"]).await;
    assert_eq!(run.status, 2);
    let fake = Fake::start(Fault::None).await;
    self::run(&fake.address.to_string(), &["--spacing=even"]).await;
    let run = self::run(&fake.address.to_string(), &["--password=wrong-password"]).await;
    assert_eq!(run.status, 2);
    assert!(run.stderr.contains("--password"), "{}", run.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_prints_what_was_measured() {
    let fake = Fake::start(Fault::None).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command
        .args(["run", "--users=4", "--rooms=2", "--duration=1h", "--quiet"])
        .arg(format!("--url=http://{}", fake.address));
    let child = command.stdout(Stdio::piped()).spawn().expect("it runs");
    let process = child.id().to_string();
    let deadline = Instant::now() + Duration::from_mins(2);
    while fake.sends() < 20 {
        assert!(Instant::now() < deadline, "nothing is sent");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(Command::new("kill").args(["-INT", &process]).status().expect("kill runs").success());
    let output =
        tokio::task::spawn_blocking(move || child.wait_with_output()).await.expect("no panic").expect("it ends");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    assert!(stdout.contains("interrupted") && stdout.contains("no violations"), "{stdout}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_windows_full_in_a_closed_loop_and_explains_its_latency() {
    let run = run_with(Fault::None, &["--mode=closed", "--in-flight=4", "--threads=2"]).await;
    assert_eq!(run.status, 0, "{}{}", run.stdout, run.stderr);
    // Far more than the 200 that an open loop would have planned.
    assert!(run.number("acked") > 400, "{}", run.stdout);
    assert_eq!(run.number("delivered"), 4 * run.number("acked"));
    assert!(run.stdout.contains("actual send"), "{}", run.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_the_search_at_the_first_step_that_is_not_sustained() {
    let options = ["--mode=saturate", "--set=load.saturate.rate_start=50", "--set=load.saturate.step_seconds=1"];
    // A window of one, and no answer to one send in ten: soon all windows are full.
    let run = run_with(Fault::NoAck, &[&options[..], &["--in-flight=1", "--drain=2s"]].concat()).await;
    let steps = run.json["saturation"]["steps"].as_array().expect("steps");
    let held: Vec<bool> = steps.iter().map(|step| step["held"].as_bool().expect("known")).collect();
    assert_eq!(held.iter().filter(|held| !**held).count(), 1, "{}", run.stdout);
    assert_eq!(held.last(), Some(&false), "{}", run.stdout);
    assert!(!run.json["saturation"]["broke"].as_str().expect("a reason").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn times_every_connection_of_a_storm_without_violations() {
    let options = ["--duration=2s", "--set=storm.at=500ms", "--set=storm.share=0.5"];
    for (fault, drain, status) in
        [(Fault::None, "--drain=20s", 0), (Fault::Skip, "--drain=2s", 1), (Fault::NoCaughtUp, "--drain=2s", 1)]
    {
        let run = run_with(fault, &[&options[..], &[drain]].concat()).await;
        assert_eq!(run.status, status, "{fault:?}: {}{}", run.stdout, run.stderr);
        assert_eq!(run.violations("not_restored"), if fault == Fault::NoCaughtUp { 6 } else { 0 }, "{}", run.stdout);
        assert_eq!((run.number("lost"), run.number("restored")), (6, 6));
        assert_eq!(run.violations("connection_lost"), 0);
        if fault == Fault::None {
            assert_eq!(run.json["operations"]["reconnected_and_caught_up"]["count"], 6);
            assert_eq!(run.number("delivered"), 4 * run.number("sent"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_slow_readers_as_their_own_class() {
    let options = [
        "--duration=2s",
        "--set=slow_readers.at=500ms",
        "--set=slow_readers.for=500ms",
        "--set=slow_readers.share=0.25",
    ];
    let run = run_with(Fault::None, &options).await;
    assert_eq!(run.status, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(run.number("delivered"), 4 * run.number("sent"));
    assert_eq!(run.json["operations"]["slow_reader_caught_up"]["count"], 3);
    let classes = run.json["classes"].as_array().expect("classes");
    let count = |class: usize| classes[class]["delivery"]["count"].as_u64().expect("a number");
    assert_eq!(count(0) + count(1), run.number("delivered"));
    assert!(count(1) > 0 && classes[1]["name"] == "slow readers", "{}", run.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_several_lengths_are_checked_to_the_last_byte() {
    let sizes = "--set=load.payload_bytes=[{ bytes = 64, weight = 1 }, { bytes = 3000, weight = 1 }]";
    let run = run_with(Fault::None, &[sizes, "--format=both"]).await;
    assert_eq!(run.status, 0, "{}{}", run.stdout, run.stderr);
    let run = run_with(Fault::Garble, &[sizes]).await;
    assert!(run.violations("corrupted") > 0, "{}", run.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_written_in_every_form() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    let (html, hlog) = (path("run.html"), path("run.hlog"));
    let run = run_with(Fault::None, &["--html", &html, "--hlog", &hlog, "--label", "a label of mine"]).await;
    assert_eq!(run.status, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(run.json["label"], "a label of mine");
    assert_eq!(run.json["scenario"]["name"], "default");
    assert!(std::fs::read_to_string(html).expect("a page").contains("a label of mine"));
    let hlog = std::fs::read_to_string(hlog).expect("a log");
    assert!(hlog.contains("Tag=ack") && hlog.contains("Tag=delivery"), "{hlog}");
    let timeline = run.json["timeline"].as_array().expect("seconds");
    let acked: u64 = timeline.iter().map(|second| second["acked"].as_u64().expect("a number")).sum();
    assert!(!timeline.is_empty() && acked <= run.number("acked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn exits_with_2_for_a_bad_scenario_or_server_program() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("mine.toml");
    std::fs::write(&file, "[load]\nrat = 5\n").expect("written");
    let program = |arguments: Vec<String>| {
        Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().expect("it runs")
    };
    let output = program(vec!["run".into(), file.to_string_lossy().into_owned()]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("mine.toml") && stderr.contains("rat"), "{stderr}");

    let output = program(vec!["run".into(), "--quiet".into(), "--server-binary=/bin/false".into()]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("before it was ready"), "{stderr}");
    let output = program(vec!["run".into(), "--server-binary=/nowhere/chat-server".into()]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--server-binary"));

    let output = program(vec!["list".into()]);
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("rooms-10"));
}
