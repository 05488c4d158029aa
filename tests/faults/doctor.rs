//! `chat-server doctor` finds what is wrong, says what to do, and changes nothing.
//!
//! How: real servers, PostgreSQL, Redis, clamd and an S3 server, as they should be and not. Limits of the process come
//! from `ulimit`; a filter of system calls comes from a script.

use super::antivirus::{Clamd, shipped_limits};
use super::file_buckets::Moto;
use super::starting::{database_url, free_address};
use crate::support::Server;
use crate::support::redis::Redis;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const OK: i32 = 0;
const FAULT: i32 = 1;

/// Forbids `io_uring_setup`, which is 425 on every architecture, with the error in the first argument. Then it runs the
/// rest. The filter has four instructions: load the number, compare, return the error, allow.
const WITHOUT_RING: &str = r"
import ctypes, os, struct, sys
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 425), (6, 0, 0, 0x50000 | int(sys.argv[1])), (6, 0, 0, 0x7fff0000)]
program = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *line) for line in code))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
filter = ctypes.create_string_buffer(struct.pack('HxxxxxxP', len(code), ctypes.addressof(program)))
assert libc.prctl(22, 2, filter, 0, 0) == 0
os.execv(sys.argv[2], sys.argv[2:])
";

/// What doctor has printed.
struct Findings {
    code: i32,
    text: String,
    all: Vec<Finding>,
}

struct Finding {
    check: String,
    severity: String,
    /// What was found, and the advice.
    words: String,
}

impl Findings {
    #[track_caller]
    fn of(output: &Output) -> Self {
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let code = output.status.code().expect("doctor ends by itself");
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let finding = |line: &str| {
            let finding: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let field = |name: &str| finding[name].as_str().unwrap_or_else(|| panic!("{name}: {line}")).to_owned();
            let words = format!("{}: {}", field("found"), field("advice"));
            Finding { check: field("check"), severity: field("severity"), words }
        };
        let all = text.lines().map(finding).collect();
        Self { code, text, all }
    }

    /// Several servers can have findings of one check.
    #[track_caller]
    fn has(&self, check: &str, severity: &str, text: &str) {
        let is_wanted = |found: &&Finding| found.check == check && found.severity == severity;
        let is_there = self.all.iter().filter(is_wanted).any(|found| found.words.contains(text));
        assert!(is_there, "no {check} is {severity} with {text:?}: {}", self.text);
    }

    fn faults(&self) -> Vec<&str> {
        self.all.iter().filter(|found| found.severity == "fault").map(|found| found.check.as_str()).collect()
    }
}

/// A configuration of this test, for doctor alone.
struct Patient {
    folder: tempfile::TempDir,
    settings: Vec<(String, String)>,
}

impl Patient {
    fn new(settings: &[(&str, &str)]) -> Self {
        let mut settings: Vec<_> =
            settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        if settings.iter().all(|(key, _)| key != "server.bind_addr") {
            settings.push(("server.bind_addr".to_owned(), free_address().to_string()));
        }
        settings.push(("files.keep_free".to_owned(), "0".to_owned()));
        Self { folder: tempfile::tempdir().unwrap(), settings }
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CHAT_SERVER__")) {
            command.env_remove(name);
        }
        for (key, value) in &self.settings {
            command.env(format!("CHAT_SERVER__{}", key.to_uppercase().replace('.', "__")), value);
        }
        command.env("CHAT_SERVER__DATA_DIR", self.data_dir()).current_dir(self.folder.path());
        command
    }

    #[track_caller]
    fn examine(&self) -> Findings {
        Findings::of(&self.command(env!("CARGO_BIN_EXE_chat-server")).args(["doctor", "--json"]).output().unwrap())
    }

    /// After a shell command such as `ulimit`.
    #[track_caller]
    fn examine_after(&self, shell: &str) -> Findings {
        let script = format!("{shell}; exec \"$0\" doctor --json");
        let mut command = self.command("/bin/sh");
        Findings::of(&command.args(["-c", &script, env!("CARGO_BIN_EXE_chat-server")]).output().unwrap())
    }
}

/// Every file below a folder, with its size and the time of its last change.
fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let about = path.symlink_metadata().unwrap();
        // PostgreSQL writes its own files all the time.
        if path.ends_with("postgres.log") {
            continue;
        }
        if about.is_dir() && !path.ends_with("postgres") {
            found.extend(files_below(&path));
        }
        found.push(format!(
            "{} {} {:?}",
            path.display(),
            about.len(),
            about.is_file().then(|| about.modified().unwrap())
        ));
    }
    found.sort();
    found
}

#[tokio::test]
async fn finds_no_fault_beside_a_good_server_and_changes_nothing() {
    let server = Server::start(1, &[("files.keep_free", "0")]);
    let used = "SELECT max(last_used_at)::text FROM public.rule_sets";
    let database = server.database().await;
    let touched = database.query_one(used, &[]).await.unwrap().get::<_, String>(0);
    let before = files_below(&server.data_dir);
    let findings = Findings::of(&server.run(&["doctor", "--json"]));
    assert_eq!((findings.code, findings.faults()), (OK, vec![]), "{}", findings.text);
    findings.has("address", "warning", &format!("chat-server (process {})", server.pid()));
    findings.has("postgresql", "ok", "10 round trips, median ");
    for check in ["kernel", "io_uring", "locked_memory", "data_dir", "version", "durability", "logins", "migrations"] {
        findings.has(check, "ok", "");
    }
    findings.has("clock", "ok", " s ");
    assert_eq!(files_below(&server.data_dir), before);
    assert_eq!(database.query_one(used, &[]).await.unwrap().get::<_, String>(0), touched, "the rule set's row");
    server.must_run();
}

#[test]
fn does_not_start_the_private_postgresql_of_a_server_that_does_not_run() {
    let server = Server::start(1, &[("files.keep_free", "0")]);
    server.sigterm();
    server.wait();
    let findings = Findings::of(&server.run(&["doctor", "--json"]));
    assert_eq!(findings.code, OK, "{}", findings.text);
    findings.has("postgresql", "ok", "does not run; the server starts it");
    findings.has("address", "ok", "is free");
    assert_eq!(server.postmaster(), None);
}

#[test]
fn makes_nothing_for_a_server_that_was_never_started() {
    let patient =
        Patient::new(&[("database.url", "postgresql://chat@127.0.0.1:1/veza"), ("logging.file", "log/chat.log")]);
    patient.examine().has("data_dir", "ok", "does not exist yet");
    assert_eq!(std::fs::read_dir(patient.folder.path()).unwrap().count(), 0);
}

#[test]
fn text_and_json_have_the_same_checks_in_the_same_order() {
    let patient = Patient::new(&[("database.url", "postgresql://chat@127.0.0.1:1/veza")]);
    let json = patient.examine();
    let checks: Vec<String> = json
        .text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["check"].as_str().unwrap().to_owned())
        .collect();
    let output = patient.command(env!("CARGO_BIN_EXE_chat-server")).arg("doctor").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let sum = lines.pop().unwrap();
    assert!(sum.contains(" ok, ") && sum.ends_with(" 1 fault"), "{sum}");
    let shown: Vec<&str> = lines.iter().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(shown, checks);
    let expected = ["kernel", "io_uring", "locked_memory", "open_files", "address", "data_dir", "disk", "postgresql"];
    assert_eq!(shown[..expected.len()], expected, "{text}");
}

#[test]
fn says_that_postgresql_cannot_be_reached_without_its_password() {
    let patient = Patient::new(&[("database.url", "postgresql://chat:s3cret@127.0.0.1:1/veza")]);
    let findings = patient.examine();
    assert_eq!((findings.code, findings.faults()), (FAULT, vec!["postgresql"]), "{}", findings.text);
    findings.has("postgresql", "fault", "127.0.0.1:1");
    findings.has("postgresql", "fault", "correct database.url");
    findings.has("configuration", "ok", ""); // the checks after it ran
    assert!(!findings.text.contains("s3cret"), "{}", findings.text);
}

#[test]
fn does_not_wait_for_a_postgresql_that_accepts_and_stays_silent() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgresql://chat@{}/veza", silent.local_addr().unwrap());
    let findings = Patient::new(&[("database.url", &url)]).examine();
    assert_eq!(findings.code, FAULT);
    findings.has("postgresql", "fault", "no answer within 5 s");
}

#[tokio::test]
async fn tells_missing_migrations_and_installs_none() {
    let server = Server::start(1, &[]);
    server.database().await.batch_execute("CREATE DATABASE empty").await.unwrap();
    let url = database_url(&server).replace("/veza_chat", "/empty");
    let with = |migrate: &str| {
        Patient::new(&[("database.url", &url), ("database.auto_migrate", migrate), ("features.file_uploads", "false")])
            .examine()
    };
    let waiting = with("true");
    assert_eq!(waiting.code, OK, "{}", waiting.text);
    waiting.has("migrations", "ok", "the server installs them at its start");
    let refused = with("false");
    assert_eq!(refused.faults(), ["migrations"], "{}", refused.text);
    refused.has("migrations", "fault", "run `chat-server migrate`");
}

#[tokio::test]
async fn names_a_login_with_too_many_rights() {
    let server = Server::start(1, &[]);
    server.database().await.batch_execute("ALTER ROLE chat_app CREATEDB").await.unwrap();
    let findings = Findings::of(&server.run(&["doctor", "--json"]));
    assert_eq!(findings.code, FAULT);
    findings.has("logins", "fault", "ALTER ROLE chat_app NOCREATEDB");
}

#[test]
fn names_the_process_that_has_the_address() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let findings = Patient::new(&[("server.bind_addr", &address)]).examine();
    assert_eq!((findings.code, findings.faults()), (FAULT, vec!["address"]), "{}", findings.text);
    findings.has("address", "fault", &format!("(process {}) listens there already", std::process::id()));
}

#[test]
fn compares_the_limits_of_the_process() {
    let patient = Patient::new(&[("limits.max_connections", "5000"), ("server.workers", "1")]);
    let few = patient.examine_after("ulimit -n 256");
    assert_eq!((few.code, few.faults()), (FAULT, vec!["open_files"]), "{}", few.text);
    few.has("open_files", "fault", "LimitNOFILE=");
    let less = patient.examine_after("ulimit -n 3000");
    assert_eq!(less.code, OK, "{}", less.text);
    less.has("open_files", "warning", "limits.max_connections is 5000, but this process may open 3000 files");
    let locked = patient.examine_after("ulimit -l 64");
    assert_eq!((locked.code, locked.faults()), (FAULT, vec!["locked_memory"]), "{}", locked.text);
}

#[test]
fn tells_apart_how_io_uring_is_refused() {
    let patient = Patient::new(&[]);
    for (errno, name) in [(1, "EPERM"), (38, "ENOSYS")] {
        let mut command = patient.command("python3");
        command.args(["-c", WITHOUT_RING, &errno.to_string(), env!("CARGO_BIN_EXE_chat-server"), "doctor", "--json"]);
        let findings = Findings::of(&command.output().unwrap());
        assert_eq!((findings.code, findings.faults()), (FAULT, vec!["io_uring"]), "{}", findings.text);
        findings.has("io_uring", "fault", name);
        findings.has("io_uring", "fault", "seccomp profile");
    }
}

#[test]
fn distrusts_a_clamd_that_is_away_or_does_not_look_at_large_files() {
    let size = ("limits.max_file_size", "12582912");
    let away = [("files.clamd", "unix:/nonexistent/clamd.ctl"), size];
    let findings = Patient::new(&away).examine();
    assert_eq!((findings.code, findings.faults()), (FAULT, vec!["clamd"]), "{}", findings.text);
    findings.has("clamd", "fault", "correct files.clamd");
    let optional = Patient::new(&[away[0], size, ("files.scan", "when_available")]).examine();
    assert_eq!(optional.code, OK, "{}", optional.text);
    optional.has("clamd", "warning", "without a virus scan");

    for (limits, severity, text) in [
        (shipped_limits().as_str(), "ok", "finds viruses in files of 12582912 bytes"),
        ("StreamMaxLength 32M\nMaxFileSize 2M\nMaxScanSize 2M", "fault", "deploy/clamd.conf"),
    ] {
        let mut clamd = Clamd::new(limits);
        clamd.start();
        let address = format!("unix:{}", clamd.socket().display());
        Patient::new(&[("files.clamd", &address), size]).examine().has("clamd", severity, text);
    }
}

#[tokio::test]
async fn examines_redis_and_its_buffers() {
    let server = Server::start(1, &[]);
    let database = database_url(&server);
    let mut redis = Redis::start();
    let url = redis.url().replace("redis://", "redis://:s3cret@");
    assert!(redis.ask(&["CONFIG", "SET", "requirepass", "s3cret"]).status.success());
    let patient = Patient::new(&[("database.url", &database), ("cluster.redis_url", &url)]);
    let good = patient.examine();
    assert_eq!(good.code, OK, "{}", good.text);
    good.has("redis", "ok", "10 PINGs, median ");
    good.has("redis_buffers", "ok", "pubsub 33554432 8388608 60");
    let small = ["-a", "s3cret", "CONFIG", "SET", "client-output-buffer-limit", "pubsub 1048576 524288 10"];
    assert!(redis.ask(&small).status.success());
    patient.examine().has("redis_buffers", "warning", "pubsub 1048576 524288 10");
    redis.signal(Signal::SIGSTOP);
    let suspended = patient.examine();
    redis.signal(Signal::SIGCONT);
    suspended.has("redis", "fault", "no answer within 5 s");
    redis.kill();
    let away = patient.examine();
    assert_eq!((away.code, away.faults()), (FAULT, vec!["redis"]), "{}", away.text);
    assert!(!(away.text + &good.text + &suspended.text).contains("s3cret"));
}

/// A server of a Redis Cluster, which has no slots yet.
fn cluster_member(folder: &Path) -> Redis {
    let state = folder.join("member.conf");
    let port = free_address().port().to_string();
    let options = [
        ["--cluster-enabled", "yes"],
        ["--cluster-config-file", state.to_str().unwrap()],
        ["--cluster-port", port.as_str()],
    ];
    Redis::start_on(IpAddr::V4(Ipv4Addr::LOCALHOST), options.as_flattened())
}

#[tokio::test]
async fn tells_apart_a_redis_cluster_and_a_server_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (alone, member) = (Redis::start(), cluster_member(folder.path()));
    let [alone_at, member_at] = [&alone, &member].map(|redis| redis.address().to_string());
    // Without PostgreSQL, which is the first fault of each examination.
    let examine = |url: &str, seeds: &str| {
        let database = ("database.url", "postgresql://chat@127.0.0.1:1/veza");
        let patient = Patient::new(&[database, ("cluster.redis_url", url), ("cluster.redis_seeds", seeds)]);
        let findings = patient.examine();
        assert_eq!((findings.code, findings.faults()[0]), (FAULT, "postgresql"), "{}", findings.text);
        findings
    };

    let incomplete = examine(&member.url(), "");
    assert_eq!(incomplete.faults(), ["postgresql", "redis_cluster"], "{}", incomplete.text);
    incomplete.has("redis_cluster", "fault", &format!("of {member_at} does not serve every slot (cluster_state:fail)"));
    assert!(member.answer(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).starts_with("OK"));
    member.wait_for(&["CLUSTER", "INFO"], |answer| answer.contains("cluster_state:ok")).await;

    // A Redis Cluster needs no seeds, and a server of its own has none.
    for (url, text) in [
        (member.url(), format!("{member_at} is of a Redis Cluster, whose slots are all served")),
        (alone.url(), format!("{alone_at} is not of a Redis Cluster")),
    ] {
        let good = examine(&url, "");
        assert_eq!(good.faults(), ["postgresql"], "{}", good.text);
        good.has("redis_cluster", "ok", &text);
    }
    for (url, seeds) in [(alone.url(), &member_at), (member.url(), &alone_at)] {
        let mixed = examine(&url, seeds);
        assert_eq!(mixed.faults(), ["postgresql", "redis_cluster"], "{}", mixed.text);
        mixed.has("redis_cluster", "ok", &format!("{member_at} is of a Redis Cluster"));
        mixed.has("redis_cluster", "fault", &format!("{alone_at} is not of a Redis Cluster"));
        mixed.has("redis_cluster", "fault", "take it out of cluster.redis_seeds and cluster.redis_url");
    }
    let away = examine(&member.url(), &format!("127.0.0.1:1,{member_at}"));
    assert_eq!(away.faults(), ["postgresql", "redis"], "{}", away.text);
    away.has("redis", "fault", "127.0.0.1:1: ");
    away.has("redis", "fault", "correct cluster.redis_seeds");
    away.has("redis", "ok", &format!("{member_at}: 10 PINGs"));
}

#[tokio::test]
async fn examines_the_bucket_and_leaves_nothing_in_it() {
    let moto = Moto::start().await;
    let endpoint = format!("http://{}", moto.address);
    let settings = |name, endpoint| {
        [
            ("files.store", "s3"),
            ("files.s3_bucket", name),
            ("files.s3_endpoint", endpoint),
            ("files.s3_access_key_id", "key"),
            ("files.s3_secret_access_key", "s3cret"),
        ]
    };
    Patient::new(&settings(super::file_buckets::BUCKET, &endpoint)).examine().has("s3", "ok", "written, read, listed");
    assert_eq!(moto.listed("list-type=2", "Key").await, Vec::<String>::new());
    let missing = Patient::new(&settings("no-such-bucket", &endpoint)).examine();
    assert_eq!((missing.code, missing.faults()), (FAULT, vec!["s3"]), "{}", missing.text);
    let away = Patient::new(&settings("veza-files", "http://127.0.0.1:1")).examine();
    assert_eq!(away.faults(), ["s3"], "{}", away.text);
    assert!(!(missing.text + &away.text).contains("s3cret"));
}

#[test]
fn a_refused_configuration_is_another_exit_code() {
    let database = ("database.url", "postgresql://chat@127.0.0.1:1/veza");
    let redis = ("cluster.redis_url", "redis://127.0.0.1:1");
    let seeds = |seeds: &'static str| [database, redis, ("cluster.redis_seeds", seeds)];
    for (settings, reason) in [
        (&[("server.workers", "many")][..], "server.workers"),
        (&seeds("127.0.0.1:1,redis-2"), "cluster.redis_seeds: \"redis-2\" is not a host and a port"),
        (&seeds("redis-2:6379,redis://redis-3:6379"), "cluster.redis_seeds: \"redis://redis-3:6379\" is not a host"),
        (&[database, ("cluster.redis_seeds", "redis-2:6379")], "cluster.redis_seeds: needs cluster.redis_url"),
    ] {
        let patient = Patient::new(settings);
        let output = patient.command(env!("CARGO_BIN_EXE_chat-server")).args(["doctor", "--json"]).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(output.stdout.is_empty() && errors.contains(reason), "{errors}");
    }
}
