//! A set of positions as ranges. Erasures name long runs, so it stays small.

use std::collections::BTreeMap;

/// Positions, as first → last of each run.
#[derive(Default, Debug)]
pub(super) struct Ranges(BTreeMap<i64, i64>);

impl Ranges {
    /// Adds a position above all others.
    pub(super) fn push(&mut self, position: i64) {
        match self.0.last_entry() {
            Some(mut last) if *last.get() + 1 == position => drop(last.insert(position)),
            _ => drop(self.0.insert(position, position)),
        }
    }

    /// Removes the positions from `first` to `last`.
    pub(super) fn remove(&mut self, first: i64, last: i64) {
        while let Some((&from, &to)) = self.0.range(..=last).next_back().filter(|(_, to)| **to >= first) {
            self.0.remove(&from);
            if to > last {
                self.0.insert(last + 1, to);
            }
            if from < first {
                self.0.insert(from, first - 1);
            }
        }
    }

    /// The runs, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, i64)> {
        self.0.iter().map(|(from, to)| (*from, *to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_parts_of_runs() {
        let mut ranges = Ranges::default();
        for position in [1, 2, 3, 4, 5, 8, 9, 12] {
            ranges.push(position);
        }
        ranges.remove(3, 3);
        ranges.remove(5, 8);
        ranges.remove(20, 30);
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(1, 2), (4, 4), (9, 9), (12, 12)]);
        ranges.remove(1, 100);
        assert_eq!(ranges.iter().count(), 0);
    }
}
