//! The memory of a server during one upload, from `/proc/PID/status` every 20 ms.
//!
//! The kernel's own peak (`VmHWM`) is set back before the upload. A peak between two samples is in it too.

use procfs::process::Process;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two samples.
const EVERY: Duration = Duration::from_millis(20);

/// Memory of a process, bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Resident {
    /// `VmRSS`.
    pub(super) now: u64,
    /// `VmHWM`.
    pub(super) highest: u64,
}

impl Resident {
    /// Of a process, now.
    pub(super) fn of(pid: u32) -> Result<Self, String> {
        let process = i32::try_from(pid).map_err(|_| format!("{pid} is no process")).and_then(|pid| {
            Process::new(pid).and_then(|process| process.status()).map_err(|error| format!("process {pid}: {error}"))
        })?;
        let (Some(now), Some(highest)) = (process.vmrss, process.vmhwm) else {
            return Err(format!("process {pid} shows no memory; it has ended"));
        };
        Ok(Self { now: now * 1024, highest: highest * 1024 })
    }
}

/// Samples a process until it is stopped.
pub(super) struct MemorySampler {
    pid: u32,
    before: Resident,
    over: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

/// What was sampled, bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(super) struct SampledMemory {
    /// Resident before.
    pub(super) before: u64,
    /// The most that was resident meanwhile.
    pub(super) peak: u64,
    /// Resident after.
    pub(super) after: u64,
}

impl SampledMemory {
    /// From what was read before and after, and the highest of the samples in between.
    fn of(before: Resident, sampled: u64, after: Resident) -> Self {
        // If the kernel's peak has not risen, it may be of an earlier time: where it cannot be set back.
        let peak = if after.highest > before.highest { after.highest } else { sampled.max(before.now).max(after.now) };
        Self { before: before.now, peak, after: after.now }
    }

    pub(super) fn growth(self) -> u64 {
        self.peak - self.before
    }
}

impl MemorySampler {
    pub(super) fn start(pid: u32) -> Result<Self, String> {
        // Without the permission, the samples have to do.
        let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
        let before = Resident::of(pid)?;
        let over = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let over = Arc::clone(&over);
            move || {
                let mut highest = 0;
                while !over.load(Ordering::Relaxed) {
                    // A process that has ended is an error at the end.
                    highest = highest.max(Resident::of(pid).map_or(0, |resident| resident.now));
                    std::thread::sleep(EVERY);
                }
                highest
            }
        });
        Ok(Self { pid, before, over, thread })
    }

    pub(super) fn stop(self) -> Result<SampledMemory, String> {
        self.over.store(true, Ordering::Relaxed);
        let sampled = self.thread.join().map_err(|_| "the sampling of the memory panicked".to_owned())?;
        Ok(SampledMemory::of(self.before, sampled, Resident::of(self.pid)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_peak_counts_only_if_it_has_risen() {
        let resident = |now, highest| Resident { now, highest };
        let set_back = SampledMemory::of(resident(100, 100), 120, resident(110, 131));
        assert_eq!((set_back.peak, set_back.growth()), (131, 31), "higher than every sample");
        let old_peak = SampledMemory::of(resident(100, 500), 120, resident(110, 500));
        assert_eq!((old_peak.peak, old_peak.growth()), (120, 20));
        let shrunk = SampledMemory::of(resident(100, 100), 90, resident(80, 100));
        assert_eq!((shrunk.growth(), shrunk.after), (0, 80));
    }

    #[test]
    fn sees_memory_that_was_there_for_a_moment() {
        let running = MemorySampler::start(std::process::id()).unwrap();
        let block = vec![1_u8; 64 * 1024 * 1024];
        assert_eq!(block.iter().map(|byte| u64::from(*byte)).sum::<u64>(), block.len() as u64);
        drop(block);
        let sampled = running.stop().unwrap();
        assert!(sampled.growth() > 48 * 1024 * 1024, "{sampled:?}");
    }
}
