//! The unit of deploy/systemd is valid, keeps few rights, and gives the server what it needs.
//!
//! How: `systemd-analyze` reads a copy of the unit whose program is the one under test. It needs no running systemd. On
//! a machine without it, only the values are compared. A script gives a server the unit's filter of system calls, and
//! its ban on memory that is both writable and executable.

use crate::support::{PATIENCE, Server, signal};
use chat_server::config::{Config, Environment};
use nix::sys::signal::Signal;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const UNIT: &str = include_str!("../../deploy/systemd/chat-server.service");
const SOCKET: &str = include_str!("../../deploy/systemd/chat-server.socket");
const INSTALLED: &str = "/usr/local/bin/chat-server";
/// The greatest exposure that is accepted, in tenths; docs/operations.md states it.
const EXPOSURE_TENTHS_MAX: u32 = 12;

/// Allows the system calls whose numbers are in the first argument, refuses others with EPERM, and runs the rest.
const FILTERED: &str = r"
import ctypes, os, struct, sys
code = [(0x20, 0, 0, 0)]
for number in sys.argv[1].split(','):
    code += [(0x15, 0, 1, int(number)), (6, 0, 0, 0x7fff0000)]
code.append((6, 0, 0, 0x50001))
program = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *line) for line in code))
filter = ctypes.create_string_buffer(struct.pack('HxxxxxxP', len(code), ctypes.addressof(program)))
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(65, 1, 0, 0, 0) # PR_SET_MDWE, of Linux 6.3
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, filter, 0, 0) == 0
os.execv(sys.argv[2], sys.argv[2:])
";

/// The numbers of the system calls that a unit allows.
fn allowed_calls(unit: &str) -> Vec<String> {
    let printed = Command::new("systemd-analyze").args(["syscall-filter", "--no-pager"]).output().unwrap();
    let mut sets: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let printed = String::from_utf8(printed.stdout).unwrap();
    let mut set = "";
    for line in printed.lines().filter(|line| !line.trim_start().starts_with('#') && !line.is_empty()) {
        if line.starts_with('@') {
            set = line.trim();
        } else {
            sets.entry(set).or_default().push(line.trim());
        }
    }
    let mut allowed: BTreeSet<&str> = expanded(&sets, "@default");
    for line in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let names = line.trim_start_matches('~').split(' ').flat_map(|name| expanded(&sets, name));
        if line.starts_with('~') {
            let denied: BTreeSet<&str> = names.collect();
            allowed.retain(|name| !denied.contains(name));
        } else {
            allowed.extend(names);
        }
    }
    let compiler = Command::new("cc").args(["-E", "-dM", "-include", "asm/unistd.h", "-x", "c", "/dev/null"]).output();
    let numbers = String::from_utf8(compiler.expect("the C compiler that Rust links with").stdout).unwrap();
    let numbers = numbers.lines().filter_map(|line| line.strip_prefix("#define __NR_")?.split_once(' '));
    numbers.filter(|(name, _)| allowed.contains(name)).map(|(_, number)| number.to_owned()).collect()
}

fn expanded<'a>(sets: &BTreeMap<&str, Vec<&'a str>>, name: &'a str) -> BTreeSet<&'a str> {
    match sets.get(name) {
        Some(members) => members.iter().flat_map(|member| expanded(sets, member)).collect(),
        None => [name].into(),
    }
}

/// A server behind the filter. It stops at the end.
struct Filtered(Child);

impl Filtered {
    #[track_caller]
    fn exit_code(&mut self) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(started.elapsed() < PATIENCE, "it still runs");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Filtered {
    fn drop(&mut self) {
        signal(self.0.id().cast_signed(), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// Starts a server behind the filter of a unit, on the database of another server.
fn filtered(unit: &str, server: &Server, address: &str, folder: &Path) -> Filtered {
    let directory = server.data_dir.join("postgres").to_str().unwrap().replace('/', "%2F");
    let mut command = Command::new("python3");
    command.args(["-c", FILTERED, &allowed_calls(unit).join(","), env!("CARGO_BIN_EXE_chat-server"), "serve"]);
    for (key, value) in [
        ("SERVER__BIND_ADDR", address),
        ("DATABASE__URL", &format!("postgresql://veza@{directory}/veza_chat")),
        ("DATABASE__SHARED", "true"),
        ("SERVER__WORKERS", "1"),
        ("SECURITY__JWT_SECRET", "a signing key for tests, not a secret"),
    ] {
        command.env(format!("CHAT_SERVER__{key}"), value);
    }
    command.env("CHAT_SERVER__DATA_DIR", folder.join("data")).current_dir(folder);
    Filtered(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
}

#[tokio::test]
async fn a_server_runs_behind_the_filter_of_the_unit() {
    if !Path::new("/usr/bin/systemd-analyze").exists() {
        println!("systemd-analyze is not installed: the filter is not known");
        return;
    }
    let (server, folder) = (Server::start(1, &[("database.shared", "true")]), tempfile::tempdir().unwrap());
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut without_ring =
        filtered(&format!("{UNIT}SystemCallFilter=~io_uring_setup\n"), &server, &address, folder.path());
    assert_eq!(without_ring.exit_code(), Some(1), "the filter refuses what the unit does not allow");

    let mut behind = filtered(UNIT, &server, &address, folder.path());
    let started = Instant::now();
    while !reqwest::get(format!("http://{address}/health/ready")).await.is_ok_and(|answer| answer.status() == 200) {
        assert_eq!(behind.0.try_wait().unwrap(), None, "it has ended");
        assert!(started.elapsed() < PATIENCE, "it is not ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let account = json!({"username": "behind_filter", "email": "f@example.org", "password": "correct horse battery"});
    let registered = reqwest::Client::new().post(format!("http://{address}/auth/register")).json(&account);
    assert_eq!(registered.send().await.unwrap().status(), 201, "it commits");
    signal(behind.0.id().cast_signed(), Signal::SIGTERM);
    assert_eq!(behind.exit_code(), Some(0), "it stops by itself");
}

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
fn systemd_accepts_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let with = |socket: &str| {
        let unit = UNIT.replace(INSTALLED, env!("CARGO_BIN_EXE_chat-server"));
        std::fs::write(folder.path().join("chat-server.service"), unit).unwrap();
        let path = folder.path().join("chat-server.socket");
        std::fs::write(&path, socket).unwrap();
        let checked = Command::new("systemd-analyze").arg("verify").arg(&path).output().ok()?;
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        println!("{said}");
        Some(checked.status.success() && !said.contains("chat-server.socket"))
    };
    if Path::new("/usr/bin/systemd-analyze").exists() {
        assert_eq!(with(SOCKET), Some(true));
        assert_eq!(with(&SOCKET.replace("Backlog=4096", "Backlog=many")), Some(false), "the check finds mistakes");
    }
    let listens: Vec<&str> = SOCKET.lines().filter_map(|line| line.strip_prefix("ListenStream=")).collect();
    let production = include_str!("../../config/production.toml");
    assert!(listens.len() == 1 && production.contains(&format!("bind_addr = {:?}", listens[0])), "{listens:?}");
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
