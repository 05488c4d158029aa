//! CPU of the calling thread; that of processes comes from [`crate::measure::process`].

/// CPU that the calling thread has used so far, nanoseconds.
///
/// # Errors
/// When the kernel keeps no `schedstat`.
pub fn of_this_thread() -> Result<u64, String> {
    let path = "/proc/thread-self/schedstat";
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let first = text.split_whitespace().next().and_then(|number| number.parse().ok());
    first.ok_or_else(|| format!("{path} does not start with a number: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_counts_for_the_thread_that_does_it() {
        let work = || (0..20_000_000_u64).fold(0, |sum, n| std::hint::black_box(sum ^ n));
        let before = of_this_thread().unwrap();
        std::hint::black_box(work());
        assert!(of_this_thread().unwrap() > before);
    }
}
