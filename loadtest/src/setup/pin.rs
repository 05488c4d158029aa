//! The cores that a process may use. Server and generator need their own cores; otherwise every comparison measures the
//! scheduler.

use crate::measure::process::{Filter, all_relatives, members};
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

/// Reads a list of cores: `0`, `0,2`, `4-7`.
pub fn parse(text: &str) -> Result<Vec<usize>, String> {
    let hint = || format!("\"{text}\" is no list of cores; write for example 0 or 0,2 or 4-7");
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) =
            (first.trim().parse().map_err(|_| hint())?, last.trim().parse().map_err(|_| hint())?);
        if first > last || last >= CpuSet::MAX_CPU {
            return Err(hint());
        }
        cores.extend(first..=last);
    }
    Ok(cores)
}

/// Pins this thread, and everything it starts from now on, to the given cores.
pub fn pin(cores: &[usize]) -> Result<(), String> {
    sched_setaffinity(None, &set_of(cores))
        .map_err(|error| format!("cannot keep to the cores {cores:?}: {error}. Does this machine have them?"))
}

fn set_of(cores: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    set
}

/// The cores that this thread may use now.
pub fn current() -> Result<Vec<usize>, String> {
    let set = sched_getaffinity(None).map_err(|error| format!("cannot read the affinity: {error}"))?;
    Ok(cores(&set))
}

fn cores(set: &CpuSet) -> Vec<usize> {
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

/// A process and all its descendants, pinned until this is dropped.
pub struct PinnedFamily {
    root: i32,
    before: CpuSet,
}

impl PinnedFamily {
    /// Pins them, and what they start from now on, to the given cores.
    pub fn pin(root: i32, cores: &[usize]) -> Result<Self, String> {
        let failed = |error| format!("cannot keep process {root} to the cores {cores:?}: {error}");
        let before = sched_getaffinity(Pid::from_raw(root)).map_err(failed)?;
        let set = set_of(cores);
        sched_setaffinity(Pid::from_raw(root), &set).map_err(failed)?;
        let pinned = Self { root, before };
        pinned.set_all(&set);
        Ok(pinned)
    }

    /// The root starts the others, so it is first: what it starts meanwhile inherits its cores.
    fn set_all(&self, cores: &CpuSet) {
        for pid in std::iter::once(self.root).chain(members(&[self.root], &Filter::All, &all_relatives())) {
            // A process that has ended needs no cores.
            let _ = sched_setaffinity(Pid::from_raw(pid), cores);
        }
    }
}

impl Drop for PinnedFamily {
    fn drop(&mut self) {
        self.set_all(&self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal, kill_process};
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(parse("0"), Ok(vec![0]));
        assert_eq!(parse("0,2-4"), Ok(vec![0, 2, 3, 4]));
        for wrong in ["", "x", "3-1", "0,", "99999"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pins_a_process_and_its_children_until_it_is_dropped() {
        let all = current().expect("an affinity");
        // The shell starts sleep, and waits for it.
        let script = "sleep 60 & echo $!; wait";
        let mut shell = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().expect("a shell");
        let mut line = String::new();
        BufReader::new(shell.stdout.take().expect("stdout")).read_line(&mut line).expect("a line");
        let (root, child) = (shell.id() as i32, line.trim().parse::<i32>().expect("a process"));
        let cores_of = |pid| cores(&sched_getaffinity(Pid::from_raw(pid)).expect("an affinity"));
        let pinned = PinnedFamily::pin(root, &all[..1]).expect("a core of this process's");
        assert_eq!([root, child].map(cores_of), [&all[..1]; 2]);
        drop(pinned);
        assert_eq!([root, child].map(cores_of), [&all[..]; 2]);
        for pid in [child, root] {
            kill_process(Pid::from_raw(pid).expect("a process"), Signal::KILL).expect("running");
        }
        shell.wait().expect("the shell's end");
    }

    #[test]
    fn a_thread_keeps_to_its_cores() {
        let all = current().expect("an affinity");
        std::thread::spawn(move || {
            pin(&all[..1]).expect("a core of this thread's");
            assert_eq!(current().expect("an affinity"), all[..1]);
        })
        .join()
        .expect("no panic");
        assert!(pin(&[CpuSet::MAX_CPU - 1]).is_err_and(|why| why.contains("cores")));
    }
}
