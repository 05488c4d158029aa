//! The embedded default: a private PostgreSQL of the server's own, the same engine as in production.
//!
//! - Its files are in `<data_dir>/postgres`; it listens on a unix socket there (mode 0700) and nowhere else.
//! - PostgreSQL refuses to run as root: then it runs as `postgres` or `nobody`. The directory above it may be one that
//!   this user cannot enter, so the programs are given `/proc/self/fd/N`, which leads straight to the directory.
//! - One that a killed server left running is adopted; one that dies is started again (its own crash recovery does the
//!   rest), after longer and longer pauses while it keeps dying; on exit it is stopped.
//! - A lock in `data_dir` keeps two servers from sharing one.
//! - Each of the three roles logs in by itself, and PostgreSQL asks the kernel who is at the other end of its socket
//!   (`peer`): the user that runs the server, or the one that runs PostgreSQL. Nothing connects as the superuser. What
//!   only a superuser can make is made before PostgreSQL starts, in its single-user mode ([`logins::BOOTSTRAP`]).

use super::StorageError;
use super::connect::{Role, SUPERUSER, Target};
use super::sql::logins;
use crate::faults::error_limited;
use nix::fcntl::{FcntlArg, FdFlag, Flock, FlockArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, User};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A server that was killed holds its directory until the kernel has released it, which takes a moment.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const DATABASE: &str = "veza_chat";
/// The file in PostgreSQL's directory that says which [`logins::BOOTSTRAP`] has run there.
const BOOTSTRAPPED: &str = "veza-logins-1";
const START_TIMEOUT: Duration = Duration::from_mins(2);
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// One that ran for this long and ended is started again at once.
const RAN_WELL: Duration = Duration::from_secs(10);
const RESTART_PAUSE_MIN: Duration = Duration::from_millis(200);
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(10);

/// A running embedded PostgreSQL.
pub struct Embedded {
    cluster: Arc<Cluster>,
    stopping: Arc<AtomicBool>,
    supervisor: Option<JoinHandle<()>>,
    _lock: Flock<File>,
}

struct Cluster {
    /// Keeps the directory reachable as `/proc/self/fd/N`, here and in the programs.
    directory: File,
    path: PathBuf,
    programs: PathBuf,
    unprivileged: Option<(Uid, Gid)>,
}

fn fault(what: impl std::fmt::Display) -> StorageError {
    StorageError::Embedded(what.to_string())
}

impl Embedded {
    /// Finds, initialises, starts or adopts the private PostgreSQL under `data_dir`.
    ///
    /// # Errors
    /// [`StorageError::Embedded`] with what to do.
    pub fn start(data_dir: &Path) -> Result<Self, StorageError> {
        // First: a container without them often has no folder to write to either, and this is the better reason.
        let programs = find_programs()?;
        fs::create_dir_all(data_dir).map_err(|e| fault(format!("cannot create {}: {e}", data_dir.display())))?;
        let lock = lock(data_dir)?;
        let cluster = Arc::new(Cluster::open(data_dir, programs)?);
        if !cluster.path.join("PG_VERSION").exists() {
            tracing::info!("initialising a private PostgreSQL in {}", cluster.path.display());
            cluster.initialise()?;
        }
        if !cluster.path.join(BOOTSTRAPPED).exists() {
            cluster.stop(None); // an earlier version's, left running
            cluster.bootstrap()?;
        }
        cluster.write_access_rules()?;
        let mut child = None;
        match cluster.running_pid() {
            Some(pid) => tracing::info!("adopting the private PostgreSQL left running (process {pid})"),
            None => child = Some(cluster.spawn()?),
        }
        let stopping = Arc::new(AtomicBool::new(false));
        let mut restarter = Restarter::new();
        cluster.wait_until_ready(&mut child, &mut restarter)?;
        let supervisor = std::thread::Builder::new()
            .name("postgres-supervisor".to_owned())
            .spawn({
                let (cluster, stopping) = (Arc::clone(&cluster), Arc::clone(&stopping));
                move || supervise(&cluster, &stopping, child, restarter)
            })
            .map_err(fault)?;
        Ok(Self { cluster, stopping, supervisor: Some(supervisor), _lock: lock })
    }

    /// Where to connect.
    #[must_use]
    pub fn target(&self) -> Target {
        Target::embedded(&self.cluster.reach(), DATABASE)
    }

    /// The same for backups and for tools that measure it: its login is the superuser.
    #[must_use]
    pub fn superuser_target(&self) -> Target {
        Target::embedded_as_superuser(&self.cluster.reach(), DATABASE)
    }
}

/// The private PostgreSQL of a server that runs, for a command beside that server.
pub struct Running {
    directory: File,
}

impl Running {
    fn reach(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.directory.as_raw_fd()))
    }

    /// Where to connect.
    #[must_use]
    pub fn target(&self) -> Target {
        Target::embedded(&self.reach(), DATABASE)
    }

    /// The same for a backup, which reads every row: its login is the superuser.
    #[must_use]
    pub fn superuser_target(&self) -> Target {
        Target::embedded_as_superuser(&self.reach(), DATABASE)
    }
}

/// The private PostgreSQL under `data_dir`, if it runs.
#[must_use]
pub fn running(data_dir: &Path) -> Option<Running> {
    let path = data_dir.join("postgres");
    running_pid(&path)?;
    let directory = File::open(path).ok()?;
    // PostgreSQL's programs that the command starts reach it by the same name.
    fcntl(&directory, FcntlArg::F_SETFD(FdFlag::empty())).ok()?;
    Some(Running { directory })
}

/// Whether there is a private PostgreSQL under `data_dir`, running or not.
#[must_use]
pub fn is_initialised(data_dir: &Path) -> bool {
    data_dir.join("postgres/PG_VERSION").exists()
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(supervisor) = self.supervisor.take() {
            let _ = supervisor.join();
        }
    }
}

fn lock(data_dir: &Path) -> Result<Flock<File>, StorageError> {
    let path = data_dir.join("server.lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| fault(format!("cannot open {}: {e}", path.display())))?;
    let began = Instant::now();
    let mut attempt = Flock::lock(file, FlockArg::LockExclusiveNonblock);
    loop {
        match attempt {
            Ok(lock) => return Ok(lock),
            Err((file, _)) if began.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
                attempt = Flock::lock(file, FlockArg::LockExclusiveNonblock);
            }
            Err((_, error)) => {
                return Err(fault(format!(
                    "another server uses {} ({error}); stop it, or set data_dir to another directory",
                    data_dir.display()
                )));
            }
        }
    }
}

impl Cluster {
    fn open(data_dir: &Path, programs: PathBuf) -> Result<Self, StorageError> {
        let path = data_dir.join("postgres");
        let unprivileged = unprivileged_user()?;
        if !path.exists() {
            fs::DirBuilder::new()
                .mode(0o700)
                .create(&path)
                .map_err(|e| fault(format!("cannot create {}: {e}", path.display())))?;
        }
        if let Some((user, group)) = unprivileged {
            nix::unistd::chown(&path, Some(user), Some(group)).map_err(fault)?;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).map_err(fault)?;
        let directory = File::open(&path).map_err(fault)?;
        fcntl(&directory, FcntlArg::F_SETFD(FdFlag::empty())).map_err(fault)?;
        Ok(Self { directory, path, programs, unprivileged })
    }

    /// The directory by a name that works whatever the permissions above it, and is short enough for a socket.
    fn reach(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.directory.as_raw_fd()))
    }

    /// One of PostgreSQL's programs. `mode` comes before all other arguments.
    fn command(&self, program: &str, mode: Option<&str>) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.args(mode).arg("-D").arg(self.reach()).stdin(Stdio::null()).current_dir("/").process_group(0);
        command.env_remove("PGDATA").env("LC_ALL", "C");
        if let Some((user, group)) = self.unprivileged {
            command.uid(user.as_raw()).gid(group.as_raw());
        }
        command
    }

    fn initialise(&self) -> Result<(), StorageError> {
        let output = self
            .command("initdb", None)
            .args(["--username", SUPERUSER, "--auth-local=peer", "--auth-host=reject"])
            .args(["--encoding=UTF8", "--locale=C", "--data-checksums"])
            .output()
            .map_err(fault)?;
        if output.status.success() {
            return Ok(());
        }
        Err(fault(format!("initdb failed: {}", String::from_utf8_lossy(&output.stderr).trim())))
    }

    /// Makes roles and database, as the superuser, while nobody can connect.
    fn bootstrap(&self) -> Result<(), StorageError> {
        let mut child = self
            .command("postgres", Some("--single"))
            .arg("postgres")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| fault(format!("cannot start postgres --single: {e}")))?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(logins::BOOTSTRAP.as_bytes()).map_err(fault)?;
        }
        let output = child.wait_with_output().map_err(fault)?;
        if !output.status.success() {
            return Err(fault(format!("postgres --single failed: {}", String::from_utf8_lossy(&output.stderr).trim())));
        }
        tracing::debug!("postgres --single: {}", String::from_utf8_lossy(&output.stderr).trim());
        File::create(self.path.join(BOOTSTRAPPED)).and_then(|file| file.sync_all()).map_err(fault)
    }

    fn spawn(&self) -> Result<Child, StorageError> {
        let log_path = self.path.with_file_name("postgres.log");
        let log = OpenOptions::new().create(true).append(true).open(&log_path).map_err(fault)?;
        self.command("postgres", None)
            .args(["-c", "listen_addresses=", "-c", "unix_socket_directories=.", "-c", "unix_socket_permissions=0700"])
            .args(["-c", "max_connections=100", "-c", "fsync=on", "-c", "synchronous_commit=on"])
            .args(["-c", "full_page_writes=on", "-c", "max_wal_size=2GB", "-c", "log_min_messages=warning"])
            .stdout(log.try_clone().map_err(fault)?)
            .stderr(log)
            .spawn()
            .map_err(|e| fault(format!("cannot start postgres: {e}")))
    }

    /// Who may log in: the users of the operating system that run the server and PostgreSQL, as any of the roles. The
    /// rules are written at every start, because the server may run as another user than before.
    fn write_access_rules(&self) -> Result<(), StorageError> {
        let mut users = BTreeSet::new();
        for id in [Some(Uid::effective()), self.unprivileged.map(|(user, _)| user)].into_iter().flatten() {
            if let Some(user) = User::from_uid(id).map_err(fault)? {
                users.insert(user.name);
            }
        }
        let roles = Role::ALL.iter().map(|role| role.name()).chain([SUPERUSER]);
        let pairs = roles.flat_map(|role| users.iter().map(move |user| format!("veza \"{user}\" {role}\n")));
        let map: String = pairs.collect();
        let head = "# Written by Veza Chat Server at every start.\n";
        for (name, text) in [("pg_hba.conf", "local all all peer map=veza\n"), ("pg_ident.conf", map.as_str())] {
            let path = self.path.join(name);
            fs::write(&path, format!("{head}{text}"))
                .map_err(|e| fault(format!("cannot write {}: {e}", path.display())))?;
            if let Some((user, group)) = self.unprivileged {
                nix::unistd::chown(&path, Some(user), Some(group)).map_err(fault)?;
            }
        }
        Ok(())
    }

    fn running_pid(&self) -> Option<Pid> {
        running_pid(&self.path)
    }

    fn wait_until_ready(&self, child: &mut Option<Child>, restarter: &mut Restarter) -> Result<(), StorageError> {
        let started = Instant::now();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(fault)?;
        let target = Target::embedded(&self.reach(), DATABASE);
        loop {
            let attempt = runtime.block_on(target.connect_as_login());
            let Err(error) = attempt else { return Ok(()) };
            if started.elapsed() > START_TIMEOUT {
                return Err(fault(format!("does not answer: {error}; see postgres.log beside its directory")));
            }
            // After a kill it can take a moment until the old one's memory is free; then it exits and is tried again.
            restarter.tend(self, child);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn stop(&self, child: Option<Child>) {
        let Some(pid) = self.running_pid() else { return };
        let deadline = Instant::now() + STOP_TIMEOUT;
        let mut child = child;
        let _ = kill(pid, Signal::SIGINT); // fast shutdown: ends sessions, writes a checkpoint
        while self.is_alive(pid, &mut child) {
            if Instant::now() > deadline {
                tracing::warn!("the private PostgreSQL does not stop; it will recover at the next start");
                let _ = kill(pid, Signal::SIGQUIT);
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_alive(&self, pid: Pid, child: &mut Option<Child>) -> bool {
        if let Some(child) = child {
            let _ = child.try_wait(); // takes the exit status, or the process stays as a zombie
        }
        self.running_pid() == Some(pid)
    }
}

/// The process of a postmaster that runs on this directory.
fn running_pid(directory: &Path) -> Option<Pid> {
    let text = fs::read_to_string(directory.join("postmaster.pid")).ok()?;
    let pid: i32 = text.lines().next()?.trim().parse().ok()?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    // A process number may belong to another process since.
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let zombie = state.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'));
    (name.trim() == "postgres" && !zombie).then_some(Pid::from_raw(pid))
}

fn supervise(cluster: &Cluster, stopping: &AtomicBool, mut child: Option<Child>, mut restarter: Restarter) {
    while !stopping.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(100));
        restarter.tend(cluster, &mut child);
    }
    cluster.stop(child);
}

/// Starts a PostgreSQL that has ended again, after a pause that grows while it keeps ending.
struct Restarter {
    pauses: Restarts,
    started: Instant,
    /// When to start it, once it has ended.
    due: Option<Instant>,
}

impl Restarter {
    fn new() -> Self {
        Self { pauses: Restarts::default(), started: Instant::now(), due: None }
    }

    /// Call it often. It returns at once.
    fn tend(&mut self, cluster: &Cluster, child: &mut Option<Child>) {
        let ended = child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
        if !ended || cluster.running_pid().is_some() {
            self.due = None; // the next end has a pause of its own
            return;
        }
        let Some(due) = self.due else {
            let pause = self.pauses.pause_after(self.started.elapsed(), rand::random());
            error_limited!(
                "the private PostgreSQL has ended ({}); starting it again in {} ms, see postgres.log beside its \
                 directory for the reason",
                child.as_mut().map_or_else(|| "adopted".to_owned(), exit_status),
                pause.as_millis()
            );
            self.due = Some(Instant::now() + pause);
            return;
        };
        if Instant::now() < due {
            return;
        }
        (self.due, self.started) = (None, Instant::now());
        match cluster.spawn() {
            Ok(new) => *child = Some(new),
            Err(error) => error_limited!("{error}"),
        }
    }
}

fn exit_status(child: &mut Child) -> String {
    child.try_wait().ok().flatten().map_or_else(|| "unknown status".to_owned(), |status| status.to_string())
}

/// Pauses between restarts of a PostgreSQL that keeps ending: none at first, then twice as long each time.
#[derive(Default)]
struct Restarts {
    next: Duration,
}

impl Restarts {
    /// The pause after one that ran for `ran`. `random` of 0 to 1 spreads it over its upper half.
    fn pause_after(&mut self, ran: Duration, random: f64) -> Duration {
        if ran > RAN_WELL {
            self.next = Duration::ZERO;
        }
        let pause = self.next.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
        self.next = (self.next * 2).clamp(RESTART_PAUSE_MIN, RESTART_PAUSE_MAX);
        pause
    }
}

/// Whether a directory holds the programs that a private PostgreSQL needs: `initdb` and `postgres`.
#[must_use]
pub fn holds_programs(directory: &Path) -> bool {
    directory.join("initdb").is_file() && directory.join("postgres").is_file()
}

/// The newest of Debian's versioned directories that holds them.
#[must_use]
pub fn debians_programs() -> Option<PathBuf> {
    newest_of_debian(holds_programs)
}

/// The newest of Debian's versioned directories that holds what is wanted.
#[must_use]
pub fn newest_of_debian(holds: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, directory)| holds(directory))
        .collect();
    versions.sort();
    versions.pop().map(|(_, directory)| directory)
}

/// Where the programs are: PATH first, then Debian's directories.
///
/// # Errors
/// [`StorageError::Embedded`] with what to install.
pub fn find_programs() -> Result<PathBuf, StorageError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).find(|directory| holds_programs(directory));
    in_path.or_else(debians_programs).ok_or_else(|| {
        fault(
            "PostgreSQL's server programs (initdb, postgres) were not found in PATH or /usr/lib/postgresql: \
             `apt-get install postgresql`, or set database.url. The container image has none: set \
             CHAT_SERVER__DATABASE__URL there",
        )
    })
}

fn unprivileged_user() -> Result<Option<(Uid, Gid)>, StorageError> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Ok(Some(user)) = User::from_name(name) {
            return Ok(Some((user.uid, user.gid)));
        }
    }
    Err(fault("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_postgresql_that_keeps_ending_is_started_less_and_less_often() {
        let (soon, ms) = (Duration::from_millis(50), Duration::from_millis);
        let mut restarts = Restarts::default();
        let pauses: Vec<u128> = (0..9).map(|_| restarts.pause_after(soon, 1.0).as_millis()).collect();
        assert_eq!(pauses, [0, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        assert_eq!(restarts.pause_after(soon, 0.0), ms(5_000), "spread over the upper half");
        assert_eq!(restarts.pause_after(Duration::from_mins(1), 1.0), ms(0), "it had run well");
        assert_eq!(restarts.pause_after(soon, 1.0), ms(200));
    }
}
