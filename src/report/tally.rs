#![forbid(unsafe_code)]
//! Counts by name, in bounded memory: of more names than there is room for, those that came least often are
//! forgotten.

use crate::base::clock::Wall;
use std::cmp::Ordering;

/// Names that are kept; twice as many while they are counted.
const NAMES: usize = 16 * 1024;

/// How often a name came.
pub struct Tallied {
    /// The name.
    pub name: Box<str>,
    /// What was counted.
    pub count: u64,
    /// How many counts were added up.
    pub parts: u64,
    /// The latest of them.
    pub last: Wall,
}

/// The counts.
#[derive(Default)]
pub struct Tally {
    rows: Vec<Tallied>,
    is_cut: bool,
}

impl Tally {
    /// Counts a name.
    pub fn add(&mut self, name: &str, count: u64, last: Wall) {
        if self.rows.len() >= 2 * NAMES {
            self.bound();
        }
        self.rows.push(Tallied { name: name.into(), count, parts: 1, last });
    }

    /// Makes room.
    fn bound(&mut self) {
        self.by_name();
        if self.rows.len() > NAMES {
            sort(&mut self.rows, by_count);
            self.rows.truncate(NAMES / 2);
            self.is_cut = true;
        }
    }

    /// Whether names were forgotten: counts are the least that it can have been.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Each name once, in their order.
    pub fn by_name(&mut self) -> &[Tallied] {
        sort(&mut self.rows, |a, b| a.name.cmp(&b.name));
        self.rows.dedup_by(|next, row| {
            let same = next.name == row.name;
            if same {
                row.count += next.count;
                row.parts += next.parts;
                row.last = row.last.max(next.last);
            }
            same
        });
        &self.rows
    }

    /// Each name once, what came most often first.
    pub fn by_count(&mut self) -> &[Tallied] {
        self.by_name();
        sort(&mut self.rows, by_count);
        &self.rows
    }
}

fn by_count(a: &Tallied, b: &Tallied) -> Ordering {
    (b.count, b.last).cmp(&(a.count, a.last)).then_with(|| a.name.cmp(&b.name))
}

/// In one place: each sort of its own is kilobytes of code.
fn sort(rows: &mut [Tallied], order: fn(&Tallied, &Tallied) -> Ordering) {
    rows.sort_unstable_by(order);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(rows: &[Tallied]) -> Vec<(&str, u64, u64, u64)> {
        rows.iter().map(|row| (&*row.name, row.count, row.parts, row.last.0)).collect()
    }

    #[test]
    fn names_are_counted_once() {
        let mut tally = Tally::default();
        for (name, count, at) in [("b", 1, 5), ("a", 2, 3), ("b", 3, 4), ("c", 4, 1)] {
            tally.add(name, count, Wall(at));
        }
        assert_eq!(told(tally.by_name()), [("a", 2, 1, 3), ("b", 4, 2, 5), ("c", 4, 1, 1)]);
        assert_eq!(told(tally.by_count()), [("b", 4, 2, 5), ("c", 4, 1, 1), ("a", 2, 1, 3)]);
        assert!(!tally.is_cut() && Tally::default().by_count().is_empty());
    }

    #[test]
    fn of_too_many_the_frequent_ones_stay() {
        let mut tally = Tally::default();
        for n in 0..500_000_u64 {
            tally.add(&format!("seldom {n}"), 1, Wall(n));
            if n % 1000 == 0 {
                tally.add("often", 1, Wall(n));
            }
        }
        assert!(tally.is_cut() && tally.rows.capacity() <= 4 * NAMES);
        let top = &tally.by_count()[0];
        assert_eq!((&*top.name, top.count), ("often", 500));
    }
}
