#![forbid(unsafe_code)]
//! How much of the list may hang on one member: the heaviest entries that do come first. What others would
//! list as well is not counted against anybody.

use super::weigh::{Candidate, LEVELS};
use super::{Aggregate, Outcome, Spill, Why, part};
use std::io;

/// Times that the share is made smaller by just what it must be.
const PASSES: u32 = 8;

impl Aggregate<'_> {
    /// Decides who of the candidates is listed.
    pub(super) fn share(&mut self, candidates: &Spill, outcomes: &mut Spill) -> io::Result<()> {
        let (floor, percent) = (self.terms.share_floor, u64::from(self.terms.max_share));
        let share = |listed: u64| u32::try_from(listed * percent / 100).unwrap_or(u32::MAX).max(floor);
        let mut limit = u32::MAX;
        // With a smaller list the share is smaller, too, until both fit.
        for passes in 0.. {
            let next = share(self.pass(candidates, limit, &mut |_, _| Ok(()))?);
            if next >= limit || limit <= floor {
                break;
            }
            // Where that goes in small steps, by larger ones.
            limit = if passes < PASSES { next } else { next.min(limit - limit / 4).max(floor) };
        }
        let (mut listed, mut over) = (0, 0);
        let key = self.room.key;
        let mut bytes = Vec::new();
        self.pass(candidates, limit, &mut |one, carrier| {
            let outcome = match carrier {
                None => Outcome::Listed(one.listing),
                Some(member) => Outcome::Not(Why::Share(member)),
            };
            (listed, over) = (listed + u64::from(carrier.is_none()), over + u64::from(carrier.is_some()));
            outcome.pack(one.who, &mut bytes);
            outcomes.put(part(key, one.who), &bytes)
        })?;
        (self.summary.listed, self.summary.share, self.summary.share_limit) = (listed, over, limit);
        Ok(())
    }

    /// Goes through the candidates, the heaviest first: how many are listed if so many may hang on one
    /// member.
    /// `each` hears of the member on which one hangs that is not.
    fn pass(
        &self,
        candidates: &Spill,
        limit: u32,
        each: &mut dyn FnMut(&Candidate, Option<u16>) -> io::Result<()>,
    ) -> io::Result<u64> {
        let mut carried = vec![0u32; self.members.len()];
        let (mut listed, mut one, mut result) = (0, Candidate::blank(), Ok(()));
        for level in 0..LEVELS {
            candidates.read(level, &mut |bytes| {
                if one.unpack(bytes).is_none() || result.is_err() {
                    return;
                }
                let count = |member: u16| carried.get(usize::from(member)).copied().unwrap_or(0);
                let full = one.carriers.iter().copied().find(|member| count(*member) >= limit);
                if full.is_none() {
                    listed += 1;
                    for member in &one.carriers {
                        carried.get_mut(usize::from(*member)).into_iter().for_each(|count| *count += 1);
                    }
                }
                result = each(&one, full);
            })?;
        }
        result.map(|()| listed)
    }
}
