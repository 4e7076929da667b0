#![forbid(unsafe_code)]
//! A map from addresses to values as intervals that do not overlap: what several prefixes say of the same
//! address, with the largest value for each.

use super::range::Range;

/// Intervals in ascending order, none of which overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intervals<T> {
    parts: Vec<(Range, T)>,
}

impl<T> Default for Intervals<T> {
    fn default() -> Self {
        Intervals { parts: Vec::new() }
    }
}

impl<T: Copy + Ord> Intervals<T> {
    /// Gives each address of the range the value, unless it has a larger one.
    pub fn raise(&mut self, range: Range, value: T) {
        let at = self.meeting(&range);
        let mut fresh = Vec::with_capacity(2 * at.len() + 1);
        // What no part has covered yet; the parts come in ascending order.
        let mut rest = Some(range);
        for &(part, old) in self.parts.get(at.clone()).unwrap_or_default() {
            // Each part meets the range, and what is left of it.
            let [before, behind] = rest.map_or([None, None], |rest| rest.without(&part));
            fresh.extend(before.map(|gap| (gap, value)));
            if old >= value {
                fresh.push((part, old));
            } else {
                let [left, right] = part.without(&range);
                fresh.extend(left.map(|left| (left, old)));
                fresh.extend(part.common(&range).map(|both| (both, value)));
                fresh.extend(right.map(|right| (right, old)));
            }
            rest = behind;
        }
        fresh.extend(rest.map(|gap| (gap, value)));
        join(&mut fresh);
        self.parts.splice(at, fresh);
    }

    /// Takes the value of each address of the range away; whether any had one.
    pub fn cut(&mut self, range: &Range) -> bool {
        let at = self.meeting(range);
        let parts = self.parts.get(at.clone()).unwrap_or_default();
        let kept: Vec<(Range, T)> = parts
            .iter()
            .flat_map(|&(part, value)| part.without(range).into_iter().flatten().map(move |r| (r, value)))
            .collect();
        let any = !at.is_empty();
        self.parts.splice(at, kept);
        any
    }

    /// Forgets the intervals whose value is not wanted.
    pub fn retain(&mut self, wanted: impl Fn(&T) -> bool) {
        self.parts.retain(|(_, value)| wanted(value));
    }

    /// The intervals, in ascending order.
    #[must_use]
    pub fn parts(&self) -> &[(Range, T)] {
        &self.parts
    }

    /// Those that have an address in common with the range.
    #[must_use]
    pub fn within(&self, range: &Range) -> &[(Range, T)] {
        self.parts.get(self.meeting(range)).unwrap_or_default()
    }

    fn meeting(&self, range: &Range) -> std::ops::Range<usize> {
        let before = |part: &Range| {
            part.family() < range.family() || part.family() == range.family() && part.last() < range.first()
        };
        let until = |part: &Range| {
            part.family() < range.family() || part.family() == range.family() && part.first() <= range.last()
        };
        let from = self.parts.partition_point(|(part, _)| before(part));
        from..self.parts.partition_point(|(part, _)| until(part)).max(from)
    }
}

/// Joins neighbours of the same value.
fn join<T: Copy + Ord>(parts: &mut Vec<(Range, T)>) {
    parts.dedup_by(|next, kept| {
        let joined = kept.0.joined(&next.0).filter(|_| kept.1 == next.1);
        joined.into_iter().for_each(|joined| kept.0 = joined);
        joined.is_some()
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn range(a: u8, b: u8) -> Range {
        let address = |n| IpAddr::from([10, 0, 0, n]);
        Range::new(address(a.min(b)), address(a.max(b))).unwrap()
    }

    #[test]
    fn each_address_has_the_largest_value_that_was_said_of_it() {
        let mut rng = fastrand::Rng::with_seed(11);
        for round in 0..300 {
            let mut map = Intervals::default();
            let mut plain = [None::<u32>; 256];
            for step in 0..40 {
                let (a, b) = (rng.u8(..), rng.u8(..));
                let covered = usize::from(a.min(b))..=usize::from(a.max(b));
                if rng.u8(..4) == 0 {
                    let any = plain[covered.clone()].iter().any(Option::is_some);
                    assert_eq!(map.cut(&range(a, b)), any, "round {round}, step {step}");
                    plain[covered].fill(None);
                } else {
                    let value = rng.u32(..5);
                    map.raise(range(a, b), value);
                    plain[covered].iter_mut().for_each(|old| *old = (*old).max(Some(value)));
                }
                for n in 0..=255u8 {
                    let got = map.within(&range(n, n)).first().map(|part| part.1);
                    assert_eq!(got, plain[usize::from(n)], "round {round}, step {step}: {n} in {map:?}");
                }
                assert!(map.parts().windows(2).all(|w| w[0].0.last() < w[1].0.first()), "{map:?}");
            }
        }
    }
}
