#![forbid(unsafe_code)]
//! The parts of a range that something holds for, however many there are, in little memory: of too many the
//! lowest. Knows no kernel and no file.

use super::verdict::NAMED;
use crate::base::range::{Range, merge};

/// Parts that are kept.
const MOST: usize = 4096;
/// With so many parts the gaps between them are too many to be named, and whatever holds does so in part.
const MANY: usize = 2 * NAMED + 2;

/// Parts of one range. Those that are kept are exact up to where they are cut.
pub(super) struct Parts {
    most: usize,
    /// Sorted and merged up to the last time that they were too many.
    ranges: Vec<Range>,
    /// The first of those that are not kept.
    cut: Option<Range>,
}

impl Default for Parts {
    fn default() -> Parts {
        Parts::of(MOST)
    }
}

impl Parts {
    /// Keeps so many.
    fn of(most: usize) -> Parts {
        Parts { most: most.max(MANY), ranges: Vec::new(), cut: None }
    }

    /// Whether a part is of no interest, since more of what is before it is known than can be said.
    pub(super) fn is_beyond(&self, part: &Range) -> bool {
        self.cut.is_some_and(|cut| part.first() >= cut.first())
    }

    /// Takes a part.
    pub(super) fn push(&mut self, part: Range) {
        let [before, _] = match self.cut {
            Some(_) if self.is_beyond(&part) => return,
            Some(cut) if part.last() >= cut.first() => part.without(&cut),
            _ => [Some(part), None],
        };
        self.ranges.extend(before);
        if self.ranges.len() >= 2 * self.most {
            self.settle();
        }
    }

    fn settle(&mut self) {
        merge(&mut self.ranges);
        if let Some(cut) = self.ranges.get(self.most) {
            self.cut = Some(*cut);
            self.ranges.truncate(self.most);
        }
    }

    /// Whether there are more than are kept. Then those that are kept have many gaps, unless these were
    /// filled later: see `resume`.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.is_some()
    }

    /// If what is kept is one piece by now, so that what was not kept decides: from where on all must be told
    /// again.
    pub(super) fn resume(&mut self) -> Option<Range> {
        self.settle();
        if self.ranges.len() < MANY { self.cut.take() } else { None }
    }

    /// Those that are kept, sorted and merged.
    pub(super) fn ranges(&mut self) -> &[Range] {
        self.settle();
        &self.ranges
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// Tells some parts as often as it takes, while no more than a few of them are kept.
    pub fn of_few(parts: &[Range], rng: &mut fastrand::Rng) -> Parts {
        let mut kept = Parts::of(0);
        let mut from = parts.iter().map(|part| part.first()).min();
        while let Some(first) = from {
            let mut told: Vec<&Range> = parts.iter().filter(|part| part.last() >= first).collect();
            rng.shuffle(&mut told);
            told.into_iter().for_each(|part| kept.push(*part));
            from = kept.resume().map(|cut| cut.first());
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::testing::of_few;
    use super::*;
    use crate::base::range::Family;

    fn range(first: u128, last: u128) -> Range {
        Range::of_numbers(Family::V4, (first, last)).unwrap()
    }

    /// What is kept is what there is up to the cut, in whatever order it came; and without a cut all of it.
    #[test]
    fn the_lowest_parts_are_kept_exactly() {
        let mut rng = fastrand::Rng::with_seed(26);
        let mut seen = [0; 2];
        for _ in 0..4000 {
            let most = rng.u128(1..80);
            let part = |first: u128, rng: &mut fastrand::Rng| range(first, first + u128::from(rng.u8(..3)));
            let mut all: Vec<Range> = Vec::new();
            for _ in 0..rng.u8(..60) {
                all.push(part(rng.u128(..most), &mut rng));
            }
            let mut kept = of_few(&all, &mut rng);
            merge(&mut all);
            let is_cut = kept.is_cut();
            seen[usize::from(is_cut)] += 1;
            let ranges = kept.ranges().to_vec();
            if is_cut {
                assert!((MANY..=all.len()).contains(&ranges.len()), "{ranges:?} of {all:?}");
                // The last one may go on behind the cut.
                let (last, before) = ranges.split_last().unwrap();
                assert_eq!(before, &all[..before.len()]);
                assert!(all[before.len()].covers(last) && all[before.len()].first() == last.first());
            } else {
                assert_eq!(ranges, all);
            }
        }
        assert!(seen.iter().all(|count| *count > 500), "{seen:?}");
    }

    #[test]
    fn gaps_that_are_filled_later_are_none() {
        let mut kept = Parts::of(8);
        let told = |kept: &mut Parts, first: u128| {
            for odd in [0, 1] {
                (first..200).filter(|n| n % 2 == odd).for_each(|n| kept.push(range(n, n)));
            }
        };
        let (mut first, mut times) = (0, 0);
        told(&mut kept, first);
        assert!(kept.is_cut());
        while let Some(cut) = kept.resume() {
            (first, times) = (cut.numbers().0, times + 1);
            told(&mut kept, first);
        }
        assert!(!kept.is_cut() && times > 5);
        assert_eq!(kept.ranges(), [range(0, 199)]);
        assert!(!kept.is_beyond(&range(500, 500)));
    }
}
