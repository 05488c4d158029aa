//! How long PostgreSQL takes for a row of a large statement, as far as the last ones show. Pure.
//!
//! It predicts how long what waits will take. A small statement counts only if its rows were cheaper than that, because
//! a row of a larger one costs much less. One slow statement may have waited for a lock. So the median of the last ones
//! counts.

use std::time::Duration;

/// Rows from which on a statement shows what a row costs.
const ROWS_MIN: usize = 128;
/// So many of the last statements count.
const REMEMBERED: usize = 5;
/// Until most of them are known, a row counts as this. It is less than any store needs, so nothing is refused for it.
const UNKNOWN: Duration = Duration::from_micros(5);

/// The cost of the rows of one kind of statement.
#[derive(Debug)]
pub struct RowCost {
    last: [Duration; REMEMBERED],
    next: usize,
    median: Duration,
}

impl Default for RowCost {
    fn default() -> Self {
        Self { last: [UNKNOWN; REMEMBERED], next: 0, median: UNKNOWN }
    }
}

impl RowCost {
    /// A statement with so many rows took so long.
    pub fn record(&mut self, rows: usize, took: Duration) {
        let cost = took / rows.max(1) as u32;
        // A small one shows that a row costs no more than this.
        if rows >= ROWS_MIN || cost < self.median {
            self.last[self.next] = cost;
            self.next = (self.next + 1) % REMEMBERED;
            let mut sorted = self.last;
            sorted.sort_unstable();
            self.median = sorted[REMEMBERED / 2];
        }
    }

    /// The time for so many rows.
    #[must_use]
    pub fn of(&self, rows: usize) -> Duration {
        self.median * rows as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_small_statements_nor_a_few_slow_ones_count() {
        let mut cost = RowCost::default();
        let ms = Duration::from_millis;
        for _ in 0..2 * REMEMBERED {
            cost.record(1, ms(5));
        }
        assert_eq!(cost.of(1_000), ms(5), "unknown");
        for _ in 0..REMEMBERED {
            cost.record(1_000, ms(20));
        }
        assert_eq!(cost.of(4_000), ms(80));
        for _ in 0..REMEMBERED / 2 {
            cost.record(1_000, ms(3_000));
        }
        assert_eq!(cost.of(4_000), ms(80), "they may have waited for something");
        for _ in 0..REMEMBERED {
            cost.record(1_000, ms(50));
        }
        assert_eq!(cost.of(4_000), ms(200), "the store has become slower");
        for _ in 0..REMEMBERED {
            cost.record(100, ms(4));
        }
        assert_eq!(cost.of(4_000), ms(160), "and faster, which small statements show too");
    }
}
