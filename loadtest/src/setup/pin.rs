//! The cores that a process may use. Server and generator need their own cores; otherwise every comparison measures the
//! scheduler.

use rustix::thread::{CpuSet, sched_setaffinity};

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
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    sched_setaffinity(None, &set)
        .map_err(|error| format!("cannot keep to the cores {cores:?}: {error}. Does this machine have them?"))
}

/// The cores that this thread may use now.
pub fn current() -> Result<Vec<usize>, String> {
    let set = rustix::thread::sched_getaffinity(None).map_err(|error| format!("cannot read the affinity: {error}"))?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(parse("0"), Ok(vec![0]));
        assert_eq!(parse("0,2-4"), Ok(vec![0, 2, 3, 4]));
        for wrong in ["", "x", "3-1", "0,", "99999"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
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
