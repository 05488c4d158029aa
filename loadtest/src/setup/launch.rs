//! The server that a run without `--url` starts: a child with its own data directory, stopped at the end.
//!
//! Invariant: dropping a [`Server`] stops it. It is in its own process group, so Ctrl-C reaches only the harness, which
//! then prints what it measured and stops the server in order. If the harness is killed with SIGKILL, the server keeps
//! running: asking the kernel to end it takes `pre_exec`, which is `unsafe`.

use super::api::{Api, Target};
use super::pin;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a server may take to be ready: the first start initialises a database.
const READY: Duration = Duration::from_mins(2);
/// How long it may take to stop.
const STOP: Duration = Duration::from_secs(40);
/// Interval of the checks whether it is ready.
const POLL: Duration = Duration::from_millis(50);
/// Lines of its log that an error shows when it does not start.
const LOG_LINES: usize = 20;

const SECRET: &str = "security.jwt_secret";

/// What to start.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program; without it the `chat-server` next to this one.
    pub binary: Option<PathBuf>,
    /// Its data directory; without it a temporary one.
    pub data_dir: Option<PathBuf>,
    /// Shards of the server.
    pub workers: u32,
    /// The cores it may use.
    pub cores: Option<Vec<usize>>,
    /// Configuration by key.
    pub settings: BTreeMap<String, toml::Value>,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    child: Child,
    target: Target,
    data_dir: PathBuf,
    secret: String,
    _temporary: Option<TempDir>,
}

impl Server {
    /// Starts a server, which may not be ready yet.
    pub fn start(launch: &Launch) -> Result<Self, String> {
        let binary = match &launch.binary {
            Some(binary) => binary.clone(),
            None => beside_this_program()?,
        };
        let (data_dir, temporary) = match &launch.data_dir {
            Some(directory) => (directory.clone(), None),
            None => {
                let made = tempfile::Builder::new().prefix("loadtest-").tempdir();
                let made = made.map_err(|error| format!("cannot make a temporary directory: {error}"))?;
                (made.path().to_owned(), Some(made))
            }
        };
        std::fs::create_dir_all(&data_dir).map_err(|error| format!("cannot make {}: {error}", data_dir.display()))?;
        let port = free_port()?;
        let log_path = data_dir.join("chat-server.log");
        let log = std::fs::File::create(&log_path)
            .map_err(|error| format!("cannot write {}: {error}", log_path.display()))?;
        let log_too = log.try_clone().map_err(|error| format!("cannot write {}: {error}", log_path.display()))?;
        let mut command = Command::new(&binary);
        command.arg("serve").current_dir(&data_dir).process_group(0);
        command.stdin(Stdio::null()).stdout(log_too).stderr(log);
        // The user's own settings must not affect the measurement.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CHAT_SERVER__")) {
            command.env_remove(name);
        }
        let settings = settings(launch);
        let secret = settings.get(SECRET).cloned().unwrap_or_default();
        for (key, value) in settings {
            command.env(format!("CHAT_SERVER__{}", key.to_uppercase().replace('.', "__")), value);
        }
        command.env("CHAT_SERVER__DATA_DIR", data_dir.join("data"));
        command.env("CHAT_SERVER__SERVER__BIND_ADDR", format!("127.0.0.1:{port}"));
        let before = pin::current()?;
        if let Some(cores) = &launch.cores {
            pin::pin(cores)?;
        }
        let spawned = command.spawn();
        if launch.cores.is_some() {
            pin::pin(&before)?;
        }
        let child = spawned.map_err(|error| {
            format!(
                "cannot start {}: {error}. Build it with cargo build --release, name it with --server-binary, or give \
                 a running server's --url",
                binary.display()
            )
        })?;
        let target = Target::parse(&format!("http://127.0.0.1:{port}"))?;
        Ok(Self { child, target, data_dir, secret, _temporary: temporary })
    }

    /// Waits until it reports that it is ready.
    pub async fn ready(&mut self, api: &Api) -> Result<(), String> {
        let deadline = Instant::now() + READY;
        loop {
            if api.get_text("/health/ready").await.is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the server ended with {status} before it was ready.{}", self.log_end()));
            }
            if Instant::now() > deadline {
                return Err(format!("the server was not ready within {} s.{}", READY.as_secs(), self.log_end()));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Where it listens.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The directory it keeps its data in.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.join("data")
    }

    /// The secret that it signs tokens with.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    fn log_end(&self) -> String {
        let path = self.data_dir.join("chat-server.log");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
        format!(" The end of its log:\n  {end}")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else { return };
        // It may have ended by itself; then there is no process to signal.
        let _ = kill_process(pid, Signal::TERM);
        let deadline = Instant::now() + STOP;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(POLL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Settings besides data directory and port; the scenario's own settings win.
fn settings(launch: &Launch) -> BTreeMap<String, String> {
    let mut settings: BTreeMap<String, String> = [
        ("limits.max_messages_per_minute", "100000000".to_owned()),
        ("limits.max_connections_per_user", "1000".to_owned()),
        ("limits.max_connections_per_network", "10000000".to_owned()),
        ("security.sign_ins_per_minute", "1000000".to_owned()),
        ("security.registrations_per_minute", "1000000".to_owned()),
        ("security.stranger_additions_per_hour", "1000000".to_owned()),
        ("server.workers", launch.workers.to_string()),
        ("security.jwt_access_duration", "12h".to_owned()),
        (SECRET, format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>())),
        ("logging.level", "warn".to_owned()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    for (key, value) in &launch.settings {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        settings.insert(key.clone(), text);
    }
    settings
}

fn beside_this_program() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program's own path: {error}"))?;
    let binary = program.with_file_name("chat-server");
    if Path::exists(&binary) {
        return Ok(binary);
    }
    Err(format!(
        "there is no server at {}. Build it with cargo build --release --workspace, name it with --server-binary, or \
         give a running server's --url",
        binary.display()
    ))
}

/// A port that is free now. No other program should take it before the server does.
fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| format!("no free port: {error}"))?;
    listener.local_addr().map(|address| address.port()).map_err(|error| format!("no free port: {error}"))
}
