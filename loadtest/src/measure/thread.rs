//! CPU of the calling thread; that of processes comes from [`process`](super::process).

use rustix::time::{ClockId, clock_gettime};

/// CPU that the calling thread has used so far, nanoseconds.
pub fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_work_for_its_thread() {
        let work = || (0..20_000_000_u64).fold(0, |sum, n| std::hint::black_box(sum ^ n));
        let before = cpu_ns();
        std::hint::black_box(work());
        assert!(cpu_ns() > before);
    }
}
