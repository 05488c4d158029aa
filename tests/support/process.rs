//! A server process with its own data directory.
//!
//! However the test process ends, the standard input of a watchdog process closes. The watchdog then stops the server
//! and the private PostgreSQL and removes the directory. Logs stay under `target/tmp`.

use super::{protocol, template, unique};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

const READY: &str = "/health/ready";
const READY_TIMEOUT: Duration = Duration::from_mins(1);
const EXIT_TIMEOUT: Duration = Duration::from_mins(1);

/// Hands the socket at its standard input over to a server. The shell's process becomes the server: `LISTEN_PID` is its
/// number, and the socket its descriptor 3.
pub const HANDS_OVER: &str = r#"exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@""#;

/// Settings for tests: the default limits would stop most of them.
const VARIABLES: &[(&str, &str)] = &[
    ("limits.max_messages_per_minute", "1000000"),
    ("limits.max_connections_per_user", "1000"),
    ("security.jwt_secret", "a signing key for tests, not a secret"),
    ("security.jwt_access_duration", "12h"),
    ("server.shutdown_timeout", "10s"),
];

/// Reads process ids of servers. At the end of its input it stops the last server and its PostgreSQL, and cleans up.
const WATCHDOG: &str = r#"
while read -r line; do server=$line; done
alive() { readlink "/proc/$1/exe" >/dev/null 2>&1; }
stop() {
    alive "$1" || return 0
    kill -s "$2" "$1" 2>/dev/null
    for _ in $(seq 300); do
        alive "$1" || return 0
        sleep 0.1
    done
    kill -s KILL "$1" 2>/dev/null
}
[ -n "$server" ] && stop "$server" TERM
postmaster=$(head -n 1 "$1/postgres/postmaster.pid" 2>/dev/null)
if [ -n "$postmaster" ] && [ "$(cat "/proc/$postmaster/comm" 2>/dev/null)" = postgres ]; then
    stop "$postmaster" INT
fi
rm -rf "$1"
"#;

/// Starts a watchdog: a shell that runs `script` with `folder`. Its standard input, which the script reads, closes
/// however the test process ends.
pub(super) fn watch(script: &str, folder: &Path) -> (Child, ChildStdin) {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, "watchdog"]).arg(folder).process_group(0);
    let mut watchdog = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let input = watchdog.stdin.take().unwrap();
    (watchdog, input)
}

/// The server that the tests of this binary share; `CHAT_TEST_WORKERS` sets its number of shards.
#[allow(clippy::unused_async)] // async, so that the start can become asynchronous without a change of every caller
pub async fn server() -> &'static Server {
    shards(super::from_env("CHAT_TEST_WORKERS", 2) as usize).await
}

/// The shared server with this number of shards.
#[allow(clippy::unused_async)]
pub async fn shards(workers: usize) -> &'static Server {
    static SERVERS: [OnceLock<Server>; 65] = [const { OnceLock::new() }; 65];
    SERVERS[workers].get_or_init(|| Server::start(workers, &[]))
}

/// A running server.
pub struct Server {
    /// The address where it listens.
    pub address: SocketAddr,
    /// `http://ADDRESS`, without a slash at the end.
    pub base_url: String,
    /// Its data directory.
    pub data_dir: PathBuf,
    launcher: Vec<String>,
    variables: Vec<(String, String)>,
    log: PathBuf,
    /// The socket of its public port, if it does not make one itself.
    handed: Option<TcpListener>,
    child: Mutex<Child>,
    watchdog: Mutex<(Child, Option<ChildStdin>)>,
}

impl Server {
    /// Starts a server with `workers` shards and these configuration keys (`section.key`), and waits until it is ready.
    #[track_caller]
    pub fn start(workers: usize, settings: &[(&str, &str)]) -> Self {
        Self::start_with(workers, settings, &[])
    }

    /// The same, with variables of the environment beside the configuration's.
    #[track_caller]
    pub fn start_with(workers: usize, settings: &[(&str, &str)], environment: &[(&str, &str)]) -> Self {
        Self::start_in(own_program(), kept, None, workers, settings, environment)
    }

    /// Starts a server for the first time: its data directory is empty.
    #[track_caller]
    pub fn start_first(workers: usize, settings: &[(&str, &str)], environment: &[(&str, &str)]) -> Self {
        Self::start_in(own_program(), |_, _| (), None, workers, settings, environment)
    }

    /// A server on what `chat-server` with these arguments has made of its empty data directory.
    #[track_caller]
    pub fn restored(workers: usize, settings: &[(&str, &str)], restore: &[&str]) -> Self {
        let restored = |_: &Path, variables: &[(String, String)]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_chat-server"));
            let output = command.args(restore).envs(variables.iter().cloned()).current_dir("/").output().unwrap();
            assert!(output.status.success(), "{restore:?}: {output:?}");
        };
        Self::start_in(own_program(), restored, None, workers, settings, &[])
    }

    /// Starts a server that is handed this socket, as by a service manager that keeps it.
    #[track_caller]
    pub fn start_on(socket: TcpListener, workers: usize, settings: &[(&str, &str)]) -> Self {
        Self::start_in(own_program(), kept, Some(socket), workers, settings, &[])
    }

    /// Starts a server by another program and its arguments, which run `chat-server` in its environment. One argument
    /// follows.
    #[track_caller]
    pub fn start_by(
        launcher: Vec<String>,
        workers: usize,
        settings: &[(&str, &str)],
        environment: &[(&str, &str)],
    ) -> Self {
        Self::start_in(launcher, |_, _| (), None, workers, settings, environment)
    }

    /// The same, and the server is handed this socket, and its data directory is that of a server that ran before.
    #[track_caller]
    pub fn start_by_on(launcher: &[String], socket: TcpListener, workers: usize, settings: &[(&str, &str)]) -> Self {
        let launcher = launcher.iter().cloned().chain(own_program()).collect();
        Self::start_in(launcher, kept, Some(socket), workers, settings, &[])
    }

    #[track_caller]
    fn start_in(
        launcher: Vec<String>,
        fill: impl FnOnce(&Path, &[(String, String)]),
        handed: Option<TcpListener>,
        workers: usize,
        settings: &[(&str, &str)],
        environment: &[(&str, &str)],
    ) -> Self {
        let name = unique(std::env::current_exe().unwrap().file_name().unwrap().to_str().unwrap());
        let data_dir = std::env::temp_dir().join(format!("chat-server-{name}"));
        std::fs::create_dir(&data_dir).unwrap();
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.log"));
        let address = handed.as_ref().map_or_else(free_address, |socket| socket.local_addr().unwrap());
        let mut variables: Vec<_> = VARIABLES.iter().chain(settings).map(|(k, v)| variable(k, v)).collect();
        variables.push(variable("server.bind_addr", &address.to_string()));
        variables.push(variable("server.workers", &workers.to_string()));
        variables.push(variable("data_dir", data_dir.to_str().unwrap()));
        variables.extend(environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));

        let (watchdog, reports) = watch(WATCHDOG, &data_dir);
        fill(&data_dir, &variables);
        let child = spawn(&launcher, &variables, &data_dir, &log, handed.as_ref());
        let server = Self {
            address,
            base_url: format!("http://{address}"),
            data_dir,
            launcher,
            variables,
            log,
            handed,
            child: Mutex::new(child),
            watchdog: Mutex::new((watchdog, Some(reports))),
        };
        server.report();
        server.wait_until_ready();
        server
    }

    /// A connection to its private PostgreSQL as the superuser, with the server's rule set.
    pub async fn database(&self) -> tokio_postgres::Client {
        self.target().connect_as_login().await.expect("its socket")
    }

    /// Its private PostgreSQL.
    pub fn target(&self) -> chat_server::storage::connect::Target {
        chat_server::storage::connect::Target::embedded_as_superuser(&self.data_dir.join("postgres"), "veza_chat")
    }

    /// Runs `chat-server` with these arguments and the configuration of this server, which may run or not.
    pub fn run(&self, arguments: &[&str]) -> std::process::Output {
        self.run_with(Path::new(env!("CARGO_BIN_EXE_chat-server")), arguments)
    }

    /// The command that [`Self::run`] runs.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chat-server"));
        command.args(arguments).envs(self.variables.iter().cloned()).current_dir(&self.data_dir);
        command
    }

    /// The same with another build of `chat-server`.
    pub fn run_with(&self, program: &Path, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(program);
        command.args(arguments).envs(self.variables.iter().cloned()).current_dir(&self.data_dir);
        command.output().unwrap()
    }

    /// Runs `chat-server` with these arguments, the configuration of this server, and these settings over it.
    pub fn run_over(&self, settings: &[(&str, &str)], arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chat-server"));
        command.args(arguments).envs(self.variables.iter().cloned()).current_dir("/");
        command.envs(settings.iter().map(|(key, value)| variable(key, value))).output().unwrap()
    }

    fn report(&self) {
        let pid = self.pid();
        let mut watchdog = self.watchdog.lock().unwrap();
        let reports = watchdog.1.as_mut().unwrap();
        writeln!(reports, "{pid}").unwrap();
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.child.lock().unwrap().id() as i32
    }

    /// Starts the server again with the same directory and port. Returns the time until it was ready.
    #[track_caller]
    pub fn start_again(&self) -> Duration {
        self.start_again_with(&[])
    }

    /// The same, with these settings over those of the first start.
    #[track_caller]
    pub fn start_again_with(&self, settings: &[(&str, &str)]) -> Duration {
        let started = Instant::now();
        assert!(!self.is_running(), "the server still runs");
        let changed = settings.iter().map(|(key, value)| variable(key, value));
        let variables: Vec<_> = self.variables.iter().cloned().chain(changed).collect();
        *self.child.lock().unwrap() =
            spawn(&self.launcher, &variables, &self.data_dir, &self.log, self.handed.as_ref());
        self.report();
        self.wait_until_ready();
        started.elapsed()
    }

    /// Runs `chat-server rotate-keys` for its database, with these settings over those of the server.
    pub fn rotate_keys(&self, settings: &[(&str, &str)]) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chat-server"));
        command.arg("rotate-keys").envs(self.variables.iter().cloned()).current_dir(&self.data_dir);
        command.envs(settings.iter().map(|(key, value)| variable(key, value))).output().unwrap()
    }

    /// Sends SIGKILL and waits for the end of the process.
    pub fn kill9(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends SIGTERM and does not wait.
    pub fn sigterm(&self) {
        signal(self.pid(), nix::sys::signal::Signal::SIGTERM);
    }

    /// Waits until the process has ended.
    #[track_caller]
    pub fn wait(&self) -> ExitStatus {
        let started = Instant::now();
        while started.elapsed() < EXIT_TIMEOUT {
            if let Some(status) = self.child.lock().unwrap().try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the server still runs after {EXIT_TIMEOUT:?}\n{}", self.log_tail());
    }

    /// Whether the process runs.
    pub fn is_running(&self) -> bool {
        self.child.lock().unwrap().try_wait().unwrap().is_none()
    }

    /// Fails with the end of the log unless the process runs.
    #[track_caller]
    pub fn must_run(&self) {
        let ended = self.child.lock().unwrap().try_wait().unwrap();
        if let Some(status) = ended {
            panic!("the server has ended ({status}, signal {:?})\n{}", status.signal(), self.log_tail());
        }
    }

    /// The process id of the private PostgreSQL, if it runs.
    pub fn postmaster(&self) -> Option<i32> {
        let text = std::fs::read_to_string(self.data_dir.join("postgres/postmaster.pid")).ok()?;
        let pid: i32 = text.lines().next()?.trim().parse().ok()?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (name.trim() == "postgres").then_some(pid)
    }

    /// All process ids of the private PostgreSQL, the main process first.
    pub fn postgres_processes(&self) -> Vec<i32> {
        let Some(main) = self.postmaster() else { return Vec::new() };
        let parent = |pid: i32| -> Option<i32> {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
        };
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        std::iter::once(main).chain(pids.filter(|pid| parent(*pid) == Some(main))).collect()
    }

    /// Resident memory of the server process, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// CPU time that all threads of the server process have used, in clock ticks of 10 ms.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        // utime and stime, fields 14 and 15 of proc(5).
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Everything that the server has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last 40 lines of the log.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(40)..].join("\n");
        format!("--- the end of {} ---\n{tail}\n---", self.log.display())
    }

    #[track_caller]
    fn wait_until_ready(&self) {
        let started = Instant::now();
        let mut last = String::from("no connection");
        while started.elapsed() < READY_TIMEOUT {
            self.must_run();
            let answer = readiness(self.address);
            if let Ok(answer) = &answer {
                protocol::assert_answer_bytes("GET", READY, answer.as_bytes());
            }
            match answer {
                Ok(answer) if answer.starts_with("HTTP/1.1 200") => return,
                Ok(answer) => last = answer,
                Err(error) => last = error.to_string(),
            }
            std::thread::sleep(Duration::from_millis(30));
        }
        panic!("the server is not ready within {READY_TIMEOUT:?}: {last}\n{}", self.log_tail());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.log_tail());
        }
        // To the watchdog a zombie has ended, so the exit status can be read afterwards.
        if let Ok(mut watchdog) = self.watchdog.lock() {
            watchdog.1 = None;
            let _ = watchdog.0.wait();
        }
        if let Ok(mut child) = self.child.lock() {
            let _ = child.wait();
        }
    }
}

/// Sends a signal to a process that this test started.
pub fn signal(pid: i32, signal: nix::sys::signal::Signal) {
    // The process may have ended already.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
}

fn variable(key: &str, value: &str) -> (String, String) {
    (format!("CHAT_SERVER__{}", key.to_uppercase().replace('.', "__")), value.to_owned())
}

/// Fills a data directory with what a first start makes.
fn kept(data_dir: &Path, _: &[(String, String)]) {
    template::copy_into(data_dir, |keep| {
        let server = Server::start_first(1, &[], &[]);
        server.sigterm();
        assert!(server.wait().success(), "{}", server.log_tail());
        keep(&server.data_dir);
    });
}

/// The server under test: this build's, or the one of `CHAT_TEST_SERVER`, for measurements of an optimised one.
fn own_program() -> Vec<String> {
    vec![std::env::var("CHAT_TEST_SERVER").unwrap_or_else(|_| env!("CARGO_BIN_EXE_chat-server").to_owned())]
}

fn spawn(
    launcher: &[String],
    variables: &[(String, String)],
    data_dir: &Path,
    log: &Path,
    handed: Option<&TcpListener>,
) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
    let shell = ["/bin/sh", "-c", HANDS_OVER];
    let shell = if handed.is_some() { &shell[..] } else { &[] };
    let mut words = shell.iter().copied().chain(launcher.iter().map(String::as_str));
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words);
    let stdin = handed.map_or(Stdio::null(), |socket| OwnedFd::from(socket.try_clone().unwrap()).into());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CHAT_SERVER__")) {
        command.env_remove(name);
    }
    // In this directory the server finds no configuration file of the developer.
    // Tests register many users from one address. Those of the limits themselves set them.
    for name in
        ["security.sign_ins_per_minute", "security.registrations_per_minute", "security.stranger_additions_per_hour"]
    {
        command.envs([variable(name, "1000000")]);
    }
    command.arg("serve").envs(variables.iter().cloned()).current_dir(data_dir).env("RUST_BACKTRACE", "1");
    command.stdin(stdin).stdout(log.try_clone().unwrap()).stderr(log).process_group(0).spawn().unwrap()
}

/// A free address. Its port is below the range of ephemeral ports: with a port in that range, a client could connect to
/// itself while the server is down. No address is returned twice, since it may be used later.
pub(super) fn free_address() -> SocketAddr {
    static START: OnceLock<u64> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = || std::time::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64;
    let start = *START.get_or_init(|| u64::from(std::process::id()) * 7 + now());
    let candidates = (0..1_000).map(|_| 20_000 + ((start + NEXT.fetch_add(1, Relaxed) * 13) % 12_000) as u16);
    let mut addresses = candidates.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    addresses.find(|address| TcpListener::bind(address).is_ok()).expect("a free port")
}

fn readiness(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {READY} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
