//! A server process that this program starts on given cores, with its output in a file, and reliably stops.
//!
//! Invariant: the owner of a [`Child`] ends it, also by dropping it. A peer that keeps running would slow the next one
//! down. A child survives only if this program is killed with SIGKILL. Only the child itself could ask the kernel to
//! end it then, and making a foreign program do so takes `pre_exec`, which is `unsafe`.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::fs::{File, OpenOptions};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const STOP_TIMEOUT: Duration = Duration::from_secs(15);
const START_TIMEOUT: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(20);
/// Bytes of a log that an error quotes.
const LOG_TAIL_BYTES: usize = 1500;

/// A running process.
#[derive(Debug)]
pub struct Child {
    name: &'static str,
    process: std::process::Child,
    log: PathBuf,
    stop_with: Signal,
}

impl Child {
    /// Starts `command` on `cores` (empty: all that this program may use), its output appended to `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &'static str, mut command: Command, log: &Path, cores: &[usize]) -> Result<Self, String> {
        let cannot = |what: &str, error: io::Error| format!("{name}: cannot {what}: {error}");
        let output =
            OpenOptions::new().create(true).append(true).open(log).map_err(|error| cannot("open its log", error))?;
        let errors = output.try_clone().map_err(|error| cannot("open its log", error))?;
        // Its own process group: Ctrl-C must reach this program only, which then ends the others in order.
        command.process_group(0).stdin(Stdio::null()).stdout(output).stderr(errors);
        let program = command.get_program().display().to_string();
        let process = spawn_on(command, cores).map_err(|error| cannot(&format!("start {program}"), error))?;
        Ok(Self { name, process, log: log.to_owned(), stop_with: Signal::TERM })
    }

    /// Sets the signal that ends it, instead of SIGTERM.
    #[must_use]
    pub fn stopped_with(mut self, signal: Signal) -> Self {
        self.stop_with = signal;
        self
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits until `ready` returns true, while the process runs and at most a minute.
    ///
    /// # Errors
    /// When it ends or is not ready in time; with the end of its log.
    pub fn wait_until(&mut self, what: &str, mut ready: impl FnMut() -> bool) -> Result<(), String> {
        let deadline = Instant::now() + START_TIMEOUT;
        while !ready() {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(format!(
                    "{} ended before {what} ({status}); its log ends with\n{}",
                    self.name,
                    self.tail()
                ));
            }
            if Instant::now() > deadline {
                let seconds = START_TIMEOUT.as_secs();
                return Err(format!("{}: not {what} after {seconds} s; its log ends with\n{}", self.name, self.tail()));
            }
            sleep(POLL);
        }
        Ok(())
    }

    /// Waits until it accepts connections.
    ///
    /// # Errors
    /// See [`wait_until`](Self::wait_until).
    pub fn wait_until_listening(&mut self, address: SocketAddr) -> Result<(), String> {
        self.wait_until("listening", || TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
    }

    /// The end of its log.
    fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned()
    }

    fn stop(&mut self) {
        if !matches!(self.process.try_wait(), Ok(None)) {
            return;
        }
        let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) else { return };
        let _ = kill_process(pid, self.stop_with);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while matches!(self.process.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = kill_process_group(pid, Signal::KILL);
                let _ = self.process.wait();
                return;
            }
            sleep(POLL);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Spawns on some cores: a process inherits the affinity of the thread that spawns it.
fn spawn_on(mut command: Command, cores: &[usize]) -> io::Result<std::process::Child> {
    if cores.is_empty() {
        return command.spawn();
    }
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    std::thread::spawn(move || {
        sched_setaffinity(None, &set)?;
        command.spawn()
    })
    .join()
    .map_err(|_| io::Error::other("the thread that starts it has panicked"))?
}

/// Runs a program to its end and returns its output.
///
/// # Errors
/// When it fails; with its error output.
pub fn run(mut command: Command) -> Result<String, String> {
    let program = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("cannot run {program}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(format!("{program} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
}

/// Creates a directory that belongs to a user, for programs that refuse to run as root.
///
/// # Errors
/// When it cannot be created.
pub fn directory_for(path: &Path, owner: Option<(u32, u32)>) -> Result<(), String> {
    let cannot = |error: io::Error| format!("cannot prepare {}: {error}", path.display());
    std::fs::create_dir_all(path).map_err(cannot)?;
    if let Some((user, group)) = owner {
        std::os::unix::fs::chown(path, Some(user), Some(group)).map_err(cannot)?;
    }
    Ok(())
}

/// Writes a configuration file that all users may read.
///
/// # Errors
/// When it cannot be written.
pub fn write_file(path: &Path, text: &str) -> Result<(), String> {
    File::create(path)
        .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// The user that a daemon runs as when this program is root: the first of `names` that exists, as user and group.
/// `None` when this program is not root, and so runs it as itself.
///
/// # Errors
/// When this program is root and none of them exists.
pub fn unprivileged(names: &[&str]) -> Result<Option<(u32, u32)>, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = std::fs::read_to_string("/etc/passwd").map_err(|error| format!("cannot read /etc/passwd: {error}"))?;
    let find = |name: &str| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    names
        .iter()
        .find_map(|name| find(name))
        .map(Some)
        .ok_or_else(|| format!("it does not run as root, and there is no user {} to run it as", names.join(" or ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_a_process_that_ends_early_with_its_last_output() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such option >&2; exit 3"]);
        let mut child = Child::start("sh", command, &directory.path().join("log"), &[]).expect("started");
        let error = child.wait_until("ready", || false).expect_err("it ended");
        assert!(error.contains("no such option") && error.contains('3'), "{error}");
    }

    #[test]
    fn runs_a_child_on_its_cores_and_ends_it_when_dropped() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let log = directory.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "grep Cpus_allowed_list /proc/self/status; exec sleep 1000"]);
        // A core that this process may use: core 0 may not be one of them.
        let core = crate::setup::pin::current().expect("an affinity")[0];
        let mut child = Child::start("sh", command, &log, &[core]).expect("started");
        let text = || std::fs::read_to_string(&log).unwrap_or_default();
        child.wait_until("started", || text().ends_with('\n')).expect("it prints");
        assert_eq!(text().split_whitespace().last(), Some(core.to_string().as_str()));
        let stat = format!("/proc/{}/stat", child.pid());
        drop(child);
        assert!(!Path::new(&stat).exists());
    }
}
