//! A set of sequence numbers, kept as disjoint ranges.
//!
//! Invariant: ranges do not overlap and are not empty. A server that skips from 1 to 2^50 costs one entry here. A set
//! of single numbers would exhaust the memory of the harness before it could report the fault.

use std::collections::BTreeMap;

/// Sequence numbers as inclusive ranges, first → last.
#[derive(Default, Debug)]
pub struct RangeSet {
    ranges: BTreeMap<u64, u64>,
}

impl RangeSet {
    /// Adds `first..=last`. The caller only adds numbers above all those present, as a cursor does.
    pub fn push(&mut self, first: u64, last: u64) {
        if first <= last {
            debug_assert!(self.ranges.last_key_value().is_none_or(|(_, end)| *end < first));
            self.ranges.insert(first, last);
        }
    }

    /// Takes one number out; false when it was not in the set.
    pub fn remove(&mut self, number: u64) -> bool {
        let Some((first, last)) = self.ranges.range(..=number).next_back().map(|(first, last)| (*first, *last)) else {
            return false;
        };
        if number > last {
            return false;
        }
        self.ranges.remove(&first);
        if first < number {
            self.ranges.insert(first, number - 1);
        }
        if number < last {
            self.ranges.insert(number + 1, last);
        }
        true
    }

    /// The ranges in ascending order, both ends inclusive.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().map(|(first, last)| (*first, *last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(set: &RangeSet) -> Vec<(u64, u64)> {
        set.iter().collect()
    }

    #[test]
    fn removing_splits_shrinks_and_empties() {
        let mut set = RangeSet::default();
        set.push(3, 7);
        set.push(10, 10);
        set.push(12, 11);
        assert_eq!(ranges(&set), [(3, 7), (10, 10)]);
        assert!(set.remove(5));
        assert_eq!(ranges(&set), [(3, 4), (6, 7), (10, 10)]);
        assert!(set.remove(3) && set.remove(7) && set.remove(10));
        assert_eq!(ranges(&set), [(4, 4), (6, 6)]);
        assert!(!set.remove(3) && !set.remove(5) && !set.remove(11) && !set.remove(1));
        assert!(set.remove(4) && set.remove(6));
        assert!(ranges(&set).is_empty());
    }

    #[test]
    fn a_huge_range_costs_one_entry() {
        let mut set = RangeSet::default();
        set.push(2, 1 << 50);
        assert!(set.remove(1 << 40));
        assert_eq!(ranges(&set).len(), 2);
    }
}
