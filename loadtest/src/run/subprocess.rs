//! Runs one command of this program in its own process.
//!
//! Invariants:
//! - signals reach the child only through this process, which counts them. The child is in its own process group and
//!   receives one SIGINT for each Ctrl-C. If it also received the terminal's, it would take that for the second Ctrl-C
//!   and not wait for what is in flight;
//! - a child does not outlive its parent, even one that was killed ([`follow_parent`]). It then ends as after Ctrl-C
//!   and stops the servers that it has started.
//!
//! Deliberately absent: the same for other programs (PostgreSQL, a server, the peers of a comparison). Only the process
//! itself can ask the kernel for it. For other programs that takes `pre_exec`, which is `unsafe`. They keep running if
//! this process is killed with SIGKILL.

use super::interrupts::Interrupts;
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Tells the child who its parent is. If another program starts this one, it removes the variable from the environment:
/// it is true of the child only, and not of what that starts.
pub const PARENT: &str = "LOADTEST_PARENT";
/// The interval between two checks of the child and of the signals.
const POLL: Duration = Duration::from_millis(20);

/// Runs this program with `arguments` and waits for its end, forwarding signals. Its stdout is dropped.
///
/// # Errors
/// When it cannot be started or waited for, when it was interrupted, and when it failed: what it said on stderr.
pub fn subprocess(arguments: &[String], interrupts: &Interrupts) -> Result<(), String> {
    let words = |what: &str, error: std::io::Error| format!("cannot {what} loadtest {}: {error}", arguments.join(" "));
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let mut child = Command::new(program)
        .args(arguments)
        .env(PARENT, std::process::id().to_string())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| words("start", error))?;
    let stderr = child.stderr.take();
    // Read all the time: a full pipe would stop the child.
    let said = std::thread::spawn(move || {
        let mut text = Vec::new();
        // What was read until an error is better than nothing.
        let _ = stderr.map(|mut stderr| stderr.read_to_end(&mut text));
        String::from_utf8_lossy(&text).trim().to_owned()
    });
    let mut forwarded = 0;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| words("wait for", error))? {
            break status;
        }
        if interrupts.count() > forwarded
            && let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
        {
            forwarded += 1;
            // It has not been waited for, so its number is still its own; if it has ended, it needs no signal.
            let _ = kill_process(pid, Signal::INT);
        }
        std::thread::sleep(POLL);
    };
    let said = said.join().unwrap_or_default();
    // What was cut short is no figure.
    interrupts.check()?;
    // 1 means violations; the result has been written and names them.
    match status.code() {
        Some(0 | 1) => Ok(()),
        Some(_) => Err(said),
        None => Err(format!("loadtest {} ended with {status}. {said}", arguments.join(" "))),
    }
}

/// Asks the kernel for SIGTERM at the parent's end, when this process was started by [`subprocess`].
///
/// # Errors
/// When the parent has already ended, or the kernel refuses.
pub fn follow_parent() -> Result<(), String> {
    let Some(parent) = std::env::var_os(PARENT) else { return Ok(()) };
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| format!("cannot ask for the parent's end: {error}"))?;
    let here = getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if here.as_deref() == parent.to_str() {
        return Ok(());
    }
    Err(format!("{PARENT} is set, but the process that it names is not this one's parent any more"))
}
