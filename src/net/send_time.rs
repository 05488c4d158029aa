//! How long a send takes in the kernel now: it depends on the machine, its neighbours, and the size of what is sent.
//! Pure.

use std::time::Duration;

/// Before anything was measured.
const FIRST_NS: u32 = 7_000;
/// A turn with fewer sends is not measured: something else takes most of its time.
const SENDS_MIN: u32 = 16;

/// A moving average over the turns with many sends.
pub(super) struct SendTime {
    average_ns: u32,
    /// Sends of this turn.
    sends: u32,
}

impl SendTime {
    pub(super) fn new() -> Self {
        Self { average_ns: FIRST_NS, sends: 0 }
    }

    /// A send was submitted in this turn.
    pub(super) fn submitted(&mut self) {
        self.sends += 1;
    }

    /// The sends of this turn took so long together; none if the turn also slept.
    pub(super) fn end_turn(&mut self, took_us: Option<u32>) {
        let sends = std::mem::take(&mut self.sends);
        if let Some(took_us) = took_us.filter(|_| sends >= SENDS_MIN) {
            let send_ns = took_us.min(1_000_000) * 1_000 / sends;
            self.average_ns = self.average_ns - self.average_ns / 8 + send_ns / 8;
        }
    }

    /// The average.
    pub(super) fn average(&self) -> Duration {
        Duration::from_nanos(self.average_ns.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(time: &mut SendTime, sends: u32, took_us: Option<u32>) -> u128 {
        (0..sends).for_each(|_| time.submitted());
        time.end_turn(took_us);
        time.average().as_nanos()
    }

    #[test]
    fn follows_turns_with_many_sends_and_no_others() {
        let mut time = SendTime::new();
        assert_eq!(turn(&mut time, SENDS_MIN - 1, Some(1_000)), u128::from(FIRST_NS));
        assert_eq!(turn(&mut time, 100, None), u128::from(FIRST_NS), "it slept");
        for _ in 0..100 {
            turn(&mut time, 100, Some(2_000));
        }
        assert!(time.average().as_nanos().abs_diff(20_000) < 100, "{:?}", time.average());
        for _ in 0..100 {
            turn(&mut time, 50, Some(u32::MAX));
        }
        assert!(time.average() < Duration::from_millis(21), "a turn that was held up counts for a second at most");
    }
}
