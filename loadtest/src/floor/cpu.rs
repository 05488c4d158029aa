//! CPU time of processes, from `/proc`.
//!
//! `schedstat` counts nanoseconds; `stat` counts ticks of 10 ms, which is too coarse for a second of a cheap server. It
//! is used only for children that have ended, of which nothing else is left.

use std::fs;
use std::io;
use std::path::Path;

/// CPU used so far by all threads of a process that are alive.
///
/// # Errors
/// When the process is gone, or the kernel keeps no `schedstat`.
pub fn of_process(pid: u32) -> Result<u64, String> {
    let tasks = format!("/proc/{pid}/task");
    let mut total = 0;
    for task in fs::read_dir(&tasks).map_err(|error| format!("cannot read {tasks}: {error}"))?.flatten() {
        match running_ns(&task.path().join("schedstat")) {
            Ok(ns) => total += ns,
            // A thread may end between the listing and the look.
            Err(error) if error.kind() == io::ErrorKind::NotFound && task.path().exists() => {
                return Err("the kernel has no /proc/PID/schedstat (CONFIG_SCHED_INFO): CPU cannot be measured".into());
            }
            Err(_) => {}
        }
    }
    Ok(total)
}

/// CPU used so far by the calling thread.
///
/// # Errors
/// When the kernel keeps no `schedstat`.
pub fn of_this_thread() -> Result<u64, String> {
    running_ns(Path::new("/proc/thread-self/schedstat"))
        .map_err(|error| format!("cannot read /proc/thread-self/schedstat: {error}"))
}

/// CPU used so far by a process and all its children, living and ended: PostgreSQL's postmaster and its backends.
///
/// # Errors
/// When the process is gone, or the kernel keeps no `schedstat`.
pub fn of_family(pid: u32) -> Result<u64, String> {
    let tick_ns = match nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK) {
        Ok(Some(per_second)) if per_second > 0 => 1_000_000_000 / per_second as u64,
        _ => return Err("the kernel does not say how long a clock tick is".to_owned()),
    };
    let own = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|error| format!("process {pid}: {error}"))?;
    let mut total = of_process(pid)? + stat_number(&own, CHILDREN_USER)? * tick_ns;
    total += stat_number(&own, CHILDREN_SYSTEM)? * tick_ns;
    for entry in fs::read_dir("/proc").map_err(|error| format!("cannot read /proc: {error}"))?.flatten() {
        let Some(candidate) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // Processes come and go between the listing and the look.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if stat_number(&stat, PARENT) == Ok(u64::from(pid)) {
            total += of_process(candidate).unwrap_or(0);
        }
    }
    Ok(total)
}

/// Places in `/proc/PID/stat`, counted from the state, which follows the name in brackets.
const PARENT: usize = 1;
const CHILDREN_USER: usize = 13;
const CHILDREN_SYSTEM: usize = 14;

fn stat_number(stat: &str, place: usize) -> Result<u64, String> {
    // The name may hold spaces and brackets; the last bracket ends it.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let field = fields.split_whitespace().nth(place).and_then(|text| text.parse().ok());
    field.ok_or_else(|| format!("/proc/PID/stat has no number at place {place}: {stat}"))
}

fn running_ns(path: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    let first = text.split_whitespace().next().and_then(|number| number.parse().ok());
    first.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {text}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_to_the_thread_its_process_and_its_family() {
        let pid = std::process::id();
        let before = (of_this_thread().unwrap(), of_process(pid).unwrap(), of_family(pid).unwrap());
        let mut sum = 0_u64;
        for n in 0..20_000_000_u64 {
            sum = std::hint::black_box(sum.wrapping_add(n));
        }
        assert!(of_this_thread().unwrap() > before.0);
        assert!(of_process(pid).unwrap() > before.1);
        assert!(of_family(pid).unwrap() > before.2);
    }

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_move_the_fields() {
        let stat = "7 (a) b) c) S 42 7 7 0 -1 4194560 1 2 3 4 5 6 70 80 20 0";
        assert_eq!(stat_number(stat, PARENT), Ok(42));
        assert_eq!(stat_number(stat, CHILDREN_USER), Ok(70));
        assert_eq!(stat_number(stat, CHILDREN_SYSTEM), Ok(80));
        assert!(stat_number("7 (a) S 1", CHILDREN_USER).is_err());
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(of_process(u32::MAX).is_err());
        assert!(of_family(u32::MAX).is_err());
    }
}
