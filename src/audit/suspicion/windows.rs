//! Counts of different things per key and period, in bounded memory.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::time::Duration;

/// Keys that are counted at the same time.
const KEYS_MAX: usize = 16_384;

/// Finds keys that reach a number of different items within a period.
///
/// A period begins with a key's first item. A key that has reached the number is silent until its period has ended, so
/// an attack that goes on is found once in each period.
pub struct Windows<K> {
    period: Duration,
    threshold: usize,
    keys_max: usize,
    counted: HashMap<K, Window>,
}

struct Window {
    began: Duration,
    /// At most as many as the threshold.
    items: HashSet<u64>,
}

impl<K: Eq + Hash + Copy> Windows<K> {
    /// Nothing is counted yet. `threshold` is at least 1.
    #[must_use]
    pub fn new(threshold: usize, period: Duration) -> Self {
        Self { period, threshold: threshold.max(1), keys_max: KEYS_MAX, counted: HashMap::new() }
    }

    /// Counts `item` for `key` at the process time `now`. True for the item that reaches the threshold.
    ///
    /// When the memory is full, keys with one item are forgotten first: an attacker has more. If every key
    /// has more, a new one is not counted.
    pub fn add(&mut self, key: K, item: u64, now: Duration) -> bool {
        if self.counted.len() >= self.keys_max && !self.counted.contains_key(&key) {
            let period = self.period;
            self.counted.retain(|_, window| now < window.began + period);
            if self.counted.len() >= self.keys_max {
                self.counted.retain(|_, window| window.items.len() > 1);
            }
            if self.counted.len() >= self.keys_max {
                return false;
            }
        }
        let window = self.counted.entry(key).or_insert_with(|| Window { began: now, items: HashSet::new() });
        if now >= window.began + self.period {
            *window = Window { began: now, items: HashSet::new() };
        }
        window.items.len() < self.threshold && window.items.insert(item) && window.items.len() == self.threshold
    }

    /// How many keys are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counted.len()
    }

    /// Whether no key is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counted.is_empty()
    }
}

/// Finds keys whose sum reaches a number within a period; the periods are those of [`Windows`].
pub struct Sums<K> {
    period: Duration,
    threshold: u64,
    keys_max: usize,
    summed: HashMap<K, (Duration, u64)>,
}

impl<K: Eq + Hash + Copy> Sums<K> {
    /// Nothing is counted yet. `threshold` is at least 1.
    #[must_use]
    pub fn new(threshold: u64, period: Duration) -> Self {
        Self { period, threshold: threshold.max(1), keys_max: KEYS_MAX, summed: HashMap::new() }
    }

    /// Adds `amount` for `key` at the process time `now`. True when that reaches the threshold.
    ///
    /// When the memory is full, keys with the smallest sums are forgotten first: a hundredth of the threshold, then a
    /// tenth. If every key has more, a new one is not counted.
    pub fn add(&mut self, key: K, amount: u64, now: Duration) -> bool {
        if self.summed.len() >= self.keys_max && !self.summed.contains_key(&key) {
            let (period, threshold) = (self.period, self.threshold);
            self.summed.retain(|_, (began, _)| now < *began + period);
            for part in [100, 10] {
                if self.summed.len() >= self.keys_max {
                    self.summed.retain(|_, (_, sum)| *sum > threshold / part);
                }
            }
            if self.summed.len() >= self.keys_max {
                return false;
            }
        }
        let (began, sum) = self.summed.entry(key).or_insert((now, 0));
        if now >= *began + self.period {
            (*began, *sum) = (now, 0);
        }
        let before = *sum;
        *sum = sum.saturating_add(amount);
        before < self.threshold && *sum >= self.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn finds_a_key_once_per_period() {
        let mut windows = Windows::new(3, MINUTE);
        let at = Duration::from_secs;
        assert!(!windows.add(1, 10, at(0)) && !windows.add(1, 10, at(1)) && !windows.add(1, 11, at(2)));
        assert!(!windows.add(2, 12, at(3)), "another key");
        assert!(windows.add(1, 12, at(59)), "three different items within a minute");
        assert!(!windows.add(1, 13, at(59)), "found already");
        assert!(!windows.add(1, 10, at(60)) && !windows.add(1, 11, at(61)), "a new period");
        assert!(windows.add(1, 12, at(62)));
    }

    #[test]
    fn items_of_different_periods_do_not_add_up() {
        let mut windows = Windows::new(2, MINUTE);
        for minute in 0..10 {
            assert!(!windows.add(1, minute, MINUTE * minute as u32));
        }
    }

    #[test]
    fn forgets_keys_with_one_item_when_it_is_full() {
        let mut windows = Windows::new(2, MINUTE);
        windows.keys_max = 100;
        let mut attack = Windows::new(3, MINUTE);
        attack.keys_max = 100;
        assert!(!attack.add(0, 1, MINUTE) && !attack.add(0, 2, MINUTE));
        for key in 1..1_000 {
            attack.add(key, 1, MINUTE);
            windows.add(key, 1, MINUTE);
            assert!(attack.len() <= 100 && windows.len() <= 100);
        }
        assert!(attack.add(0, 3, MINUTE), "the one under suspicion is still known");
        // Every key has two items: a new one is not counted, and nothing grows.
        let mut full = Windows::new(9, MINUTE);
        full.keys_max = 10;
        for key in 0..20 {
            assert!(!full.add(key, 1, MINUTE) && !full.add(key, 2, MINUTE));
        }
        assert!(full.len() <= 10 && !full.is_empty());
    }

    #[test]
    fn finds_a_sum_once_per_period() {
        let mut sums = Sums::new(10, MINUTE);
        let at = Duration::from_secs;
        assert!(!sums.add(1, 9, at(0)) && !sums.add(2, 9, at(0)));
        assert!(sums.add(1, 5, at(59)), "fourteen within a minute");
        assert!(!sums.add(1, 100, at(59)), "found already");
        assert!(!sums.add(2, 9, at(60)), "the first nine are of another period");
        assert!(sums.add(1, 10, at(60)), "a new period");
        // A crowd of small sums pushes out no large one.
        let mut crowded = Sums::new(1_000, MINUTE);
        crowded.keys_max = 10;
        assert!(!crowded.add(0, 999, at(0)));
        for key in 1..100 {
            crowded.add(key, 1, at(1));
            assert!(crowded.summed.len() <= 10);
        }
        assert!(crowded.add(0, 1, at(2)), "the one under suspicion is still known");
    }
}
