//! Starts a process for each file that is examined, and reads its report (`chat-server examine-media`).
//!
//! Invariants:
//! - what a decoder does to its process reaches one file: it has limits of its own, and ends after [`TIME_MAX`];
//! - the process inherits nothing but the file: no environment and no arguments of the server. No shell is involved;
//! - what it writes is bounded here too, and its report is not trusted: the name of a file that no examination writes
//!   is a fault;
//! - a fault of the machine is never charged to the file ([`Unexaminable`]). A stop of the server, a full memory or an
//!   overload would otherwise fail files permanently. So the time that the process computes judges the file, and the
//!   time that passes judges the machine.
//!
//! A process may use 1 GiB. The caller decides how many run at the same time, and bounds the attempts.

use crate::files::media::MediaReport;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

/// How long an examination may take. Its process has 20 seconds of a core at the lowest priority.
pub const TIME_MAX: Duration = Duration::from_secs(30);
/// Bytes of a report. One has less than two thousand.
const REPORT_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of a reason.
const REASON_BYTES_MAX: u64 = 4 * 1024;
/// Exit code of an examination that refuses the file, and of a panic.
const FILE_FAULTS: [i32; 2] = [1, 101];
/// The running program, also after its file was replaced.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Why there is no report.
#[derive(Debug, Error)]
pub enum Unexaminable {
    /// The file is at fault. Another attempt has the same result.
    #[error("the media worker {ended}: {reason}")]
    File {
        /// How the process ended.
        ended: WorkerEnd,
        /// What it wrote about it, for logs.
        reason: String,
    },
    /// The machine is at fault. Another attempt may succeed.
    #[error("{0}")]
    Machine(String),
}

/// How the process of a faulty file ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WorkerEnd {
    /// By itself, with this exit code.
    Exited(i32),
    /// By a signal: it crashed, or it exceeded a limit.
    Signal(i32),
    /// Its report makes no sense.
    BadReport,
}

impl fmt::Display for WorkerEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with {code}"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}"),
            Self::BadReport => f.write_str("wrote an unusable report"),
        }
    }
}

/// What a process makes of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Examination {
    /// All that readers of a file need.
    File,
    /// The picture of a user.
    Avatar,
}

/// Examines a file of this type in a process of its own. `program` is [`std::env::current_exe`]; thumbnails are written
/// to the folder, which the caller makes and removes. Dropping the future ends the process.
///
/// # Errors
/// There is no report; [`Unexaminable`] says whether the file is at fault.
pub async fn examine(
    program: &Path,
    opened: std::fs::File,
    media_type: &str,
    out_dir: &Path,
    wanted: Examination,
) -> Result<MediaReport, Unexaminable> {
    examine_until(tokio::time::sleep(TIME_MAX), program, opened, (media_type, wanted), out_dir).await
}

async fn examine_until(
    time_out: impl Future<Output = ()>,
    program: &Path,
    opened: std::fs::File,
    (media_type, wanted): (&str, Examination),
    out_dir: &Path,
) -> Result<MediaReport, Unexaminable> {
    let mut folder = OsString::from("--out=");
    folder.push(out_dir);
    let mut child = Command::new(present(program))
        .arg("examine-media")
        .arg(format!("--type={media_type}"))
        .arg(folder)
        .args((wanted == Examination::Avatar).then_some("--avatar"))
        .env_clear()
        .stdin(opened)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Unexaminable::Machine(format!("the media worker cannot be started: {error}")))?;
    let result = tokio::select! {
        ended = ended(&mut child) => ended,
        () = time_out => {
            child.kill().await.map_err(|error| machine(&error))?;
            let reason = format!("the media worker was not ready after {} seconds", TIME_MAX.as_secs());
            return Err(Unexaminable::Machine(reason));
        }
    };
    let (status, report, reason) = result.map_err(|error| machine(&error))?;
    let reason = String::from_utf8_lossy(&reason).trim().to_owned();
    if !status.success() {
        return Err(refused(status, reason));
    }
    let bad = |reason: String| Unexaminable::File { ended: WorkerEnd::BadReport, reason };
    let report: MediaReport = serde_json::from_slice(&report).map_err(|error| bad(error.to_string()))?;
    if report.names_own_files() { Ok(report) } else { Err(bad("it names files of others".to_owned())) }
}

/// The program, or what runs if its file was replaced, as an update does.
fn present(program: &Path) -> PathBuf {
    let is_replaced = program.as_os_str().as_bytes().ends_with(b" (deleted)") && !program.exists();
    if is_replaced { OWN_PROGRAM.into() } else { program.to_owned() }
}

fn machine(error: &std::io::Error) -> Unexaminable {
    Unexaminable::Machine(format!("the media worker cannot be read: {error}"))
}

/// What the process wrote, and how it ended.
async fn ended(child: &mut Child) -> std::io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let (report, reason) = (child.stdout.take(), child.stderr.take());
    tokio::try_join!(child.wait(), beginning(report, REPORT_BYTES_MAX), beginning(reason, REASON_BYTES_MAX))
}

/// The first bytes of a pipe. It is closed then, so that a process that writes more ends.
async fn beginning(pipe: Option<impl AsyncRead + Unpin>, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(bytes_max).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// Who is at fault that a process did not succeed.
fn refused(status: ExitStatus, reason: String) -> Unexaminable {
    match (status.code(), status.signal()) {
        (Some(code), _) if FILE_FAULTS.contains(&code) => Unexaminable::File { ended: WorkerEnd::Exited(code), reason },
        // Sent from outside: a stop of the service, Ctrl-C, or the kernel, when the machine's memory is full.
        (_, Some(libc::SIGKILL | libc::SIGTERM | libc::SIGINT | libc::SIGHUP | libc::SIGQUIT)) | (Some(_), _) => {
            Unexaminable::Machine(format!("the media worker failed ({status}): {reason}"))
        }
        (None, signal) => Unexaminable::File { ended: WorkerEnd::Signal(signal.unwrap_or_default()), reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    /// A program that takes the place of the worker.
    fn program(folder: &Path, script: &str) -> PathBuf {
        let path = folder.join("worker");
        std::fs::write(&path, format!("#!/bin/sh\ncd {}\n{script}\n", folder.display())).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        path
    }

    /// While another test starts a process, that process may have our new program open for writing.
    fn is_busy(result: &Result<MediaReport, Unexaminable>) -> bool {
        matches!(result, Err(Unexaminable::Machine(reason)) if reason.contains("Text file busy"))
    }

    async fn run(script: &str) -> Result<MediaReport, Unexaminable> {
        let folder = tempfile::tempdir().unwrap();
        run_in(folder.path(), script).await
    }

    async fn run_in(folder: &Path, script: &str) -> Result<MediaReport, Unexaminable> {
        let program = program(folder, script);
        std::fs::write(folder.join("upload"), "content").unwrap();
        loop {
            let opened = File::open(folder.join("upload")).unwrap();
            let result = examine(&program, opened, "image/png", folder, Examination::File).await;
            if !is_busy(&result) {
                return result;
            }
        }
    }

    #[track_caller]
    fn charged_to_file(result: Result<MediaReport, Unexaminable>) -> (WorkerEnd, String) {
        match result.unwrap_err() {
            Unexaminable::File { ended, reason } => (ended, reason),
            Unexaminable::Machine(reason) => panic!("charged to the machine: {reason}"),
        }
    }

    #[track_caller]
    fn charged_to_machine(result: Result<MediaReport, Unexaminable>) -> String {
        match result.unwrap_err() {
            Unexaminable::Machine(reason) => reason,
            file @ Unexaminable::File { .. } => panic!("charged to the file: {file}"),
        }
    }

    #[tokio::test]
    async fn tells_a_fault_of_the_file_from_one_of_the_machine() {
        let refused = charged_to_file(run("echo 'a damaged picture' >&2; exit 1").await);
        assert_eq!(refused, (WorkerEnd::Exited(1), "a damaged picture".to_owned()));
        assert_eq!(charged_to_file(run("exit 101").await).0, WorkerEnd::Exited(101));
        for signal in [libc::SIGSEGV, libc::SIGABRT, libc::SIGXCPU, libc::SIGXFSZ] {
            assert_eq!(charged_to_file(run(&format!("kill -{signal} $$")).await).0, WorkerEnd::Signal(signal));
        }
        charged_to_machine(run("exit 3").await);
        charged_to_machine(run("exit 2").await);
        for signal in [libc::SIGKILL, libc::SIGTERM] {
            charged_to_machine(run(&format!("kill -{signal} $$")).await);
        }
        let null = File::open("/dev/null").unwrap();
        let (nowhere, tmp) = (Path::new("/nonexistent/chat-server"), Path::new("/tmp"));
        let absent = examine(nowhere, null, "image/png", tmp, Examination::File).await;
        assert!(charged_to_machine(absent).contains("cannot be started"));
    }

    #[tokio::test]
    async fn trusts_no_report_that_leaves_the_folder_or_never_ends() {
        assert_eq!(run("echo '{}'").await.unwrap(), MediaReport::default());
        for report in [
            "not json",
            r#"{"served":{"file":"../../secret","media_type":"image/png"}}"#,
            r#"{"variants":[{"kind":"thumb_small","media_type":"","width":1,"height":1,"file":"/etc/passwd"}]}"#,
        ] {
            assert_eq!(charged_to_file(run(&format!("echo '{report}'")).await).0, WorkerEnd::BadReport, "{report}");
        }
        let ended = charged_to_file(run("trap '' PIPE; while echo aaaaaaaaaaaaaaaa; do :; done; exit 1").await);
        assert_eq!(ended.0, WorkerEnd::Exited(1), "nobody reads more than the beginning");
    }

    #[tokio::test]
    async fn gives_the_process_its_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let script = r#"
            /bin/cat > seen
            echo "$@" >> seen
            /usr/bin/env | /bin/grep -v -E '^(PWD|OLDPWD|SHLVL|_)=' >> seen
            echo '{}'"#;
        run_in(folder.path(), script).await.unwrap();
        let seen = std::fs::read_to_string(folder.path().join("seen")).unwrap();
        let expected = format!("contentexamine-media --type=image/png --out={}\n", folder.path().display());
        assert_eq!(seen, expected);
    }

    #[tokio::test]
    async fn stops_a_process_that_hangs() {
        let folder = tempfile::tempdir().unwrap();
        let program = program(folder.path(), "echo $$ > starting && /bin/mv starting pid; exec /bin/sleep 3600");
        let pid_file = folder.path().join("pid");
        let result = loop {
            let hangs = async {
                while !pid_file.exists() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let null = File::open("/dev/null").unwrap();
            let result = examine_until(hangs, &program, null, ("image/png", Examination::File), folder.path()).await;
            if !is_busy(&result) {
                break result;
            }
        };
        assert!(charged_to_machine(result).contains("not ready after 30 seconds"));
        let pid = std::fs::read_to_string(pid_file).unwrap();
        assert!(!Path::new(&format!("/proc/{}", pid.trim())).exists(), "the process still runs");
    }

    #[test]
    fn runs_on_after_an_update_has_replaced_the_program() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat-server (deleted)");
        assert_eq!(present(&path), Path::new(OWN_PROGRAM));
        std::fs::write(&path, "").unwrap();
        assert_eq!(present(&path), path);
        assert_eq!(present(Path::new("/usr/bin/chat-server")), Path::new("/usr/bin/chat-server"));
    }
}
