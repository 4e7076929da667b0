#![forbid(unsafe_code)]
//! The ends of bans, in the kernel and then in the journal; and those that a command has brought about, which
//! the daemon takes in.

use super::unfound::Unfound;
use super::{Enforcer, WarnFn};
use crate::ban::Failure;
use crate::ban::WhichBans;
use crate::base::clock::Wall;
use crate::base::range::{Range, merge, split};
use crate::state::record::JournalRecord;
use crate::sys::clock;
use ipnet::{IpNet, Ipv4Net};

/// What became of liftings.
#[derive(Debug, PartialEq, Eq)]
pub struct Lifted {
    /// How many bans there were of each.
    pub counts: Vec<usize>,
    /// Whether the journal has them: if not, the bans come back when it is read.
    pub written: bool,
}

impl Enforcer {
    /// Ends the bans of ranges: those inside them are over, wider ones get a hole.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn unban(&mut self, now: Wall, ranges: &[Range], note: WarnFn<'_>) -> Result<Lifted, Failure> {
        let _held = self.hold(note);
        // A dump of the kernel's may leave out what lies inside a network: the journal does not.
        let is_wide = |range: &&Range| range.first() != range.last();
        let wide: Vec<Range> = ranges.iter().filter(is_wide).copied().collect();
        let mut remembered = Vec::new();
        if !wide.is_empty() {
            self.each_live(now, &mut |entry| {
                let addr = Range::from(entry.addr);
                remembered.extend(Some(addr).filter(|addr| wide.iter().any(|range| range.covers(addr))));
            });
        }
        let mut counts = self.guard.unban(ranges, &remembered)?;
        if let Some(beside) = &mut self.beside {
            let more = beside.unban(ranges, &remembered)?;
            counts.iter_mut().zip(more).for_each(|(count, more)| *count = (*count).max(more));
        }
        if counts.contains(&0) {
            // The kernel may have lost it, or not have been given it yet by whoever puts bans back.
            let unfound = Unfound::of(ranges, &counts);
            self.each_live(now, &mut |entry| {
                unfound.each(&Range::from(entry.addr), &mut |at| {
                    counts.get_mut(at).into_iter().for_each(|count| *count = 1);
                });
            });
        }
        Ok(self.lifted(now, ranges, counts, note))
    }

    /// Ends bans that were made since a command has ended those before them, of these or of all that `which`
    /// says. Those by hand stay: who unbans first and then bans means the ban.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn unban_again(
        &mut self,
        now: Wall,
        (addr, which): (Option<&Range>, WhichBans),
        note: WarnFn<'_>,
    ) -> Result<Lifted, Failure> {
        let _held = self.hold(note);
        let Some(ranges) = self.not_by_hand(now, (addr, which)) else {
            return Ok(Lifted { counts: Vec::new(), written: self.lift_all(which, note)? });
        };
        let counts = self.guard.unban(&ranges, &[])?;
        Ok(self.lifted(now, &ranges, counts, note))
    }

    /// What of a range, or of all bans, nobody has banned by hand since a command has ended its bans, and has
    /// written that into the journal; none if that is all bans.
    fn not_by_hand(&mut self, now: Wall, (addr, which): (Option<&Range>, WhichBans)) -> Option<Vec<Range>> {
        let (mut by_hand, mut bans) = (Vec::new(), Vec::new());
        self.each_live(now, &mut |entry| {
            if entry.rule.is_empty() {
                by_hand.push(Range::from(entry.addr));
            } else if addr.is_none() && (which == WhichBans::All || entry.until.is_some()) {
                bans.push(Range::from(entry.addr));
            }
        });
        merge(&mut by_hand);
        bans.extend(addr);
        let all = addr.is_none() && by_hand.is_empty();
        (!all).then(|| bans.iter().flat_map(|range| split(range, &by_hand)).collect())
    }

    /// The journal hears of ends in the kernel. Who had no ban is no news, and nothing of him is to be put
    /// back.
    fn lifted(&mut self, now: Wall, ranges: &[Range], counts: Vec<usize>, note: WarnFn<'_>) -> Lifted {
        let had = counts.iter().zip(ranges).filter(|(count, _)| **count > 0);
        had.for_each(|(_, range)| self.remember_lifting(range, now, note));
        Lifted { counts, written: self.write_lifting(note) }
    }

    fn remember_lifting(&mut self, range: &Range, now: Wall, note: WarnFn<'_>) {
        for net in range.nets() {
            self.remember(&JournalRecord::Note(net, now, ""), note);
            self.remember(&JournalRecord::Unban(net), note);
        }
    }

    /// Ends all bans, or those that have an end. Returns whether the journal has it.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn unban_all(&mut self, which: WhichBans, note: WarnFn<'_>) -> Result<bool, Failure> {
        let _held = self.hold(note);
        self.lift_all(which, note)
    }

    fn lift_all(&mut self, which: WhichBans, note: WarnFn<'_>) -> Result<bool, Failure> {
        self.guard.unban_all(which)?;
        self.beside.as_mut().map_or(Ok(()), |beside| beside.unban_all(which))?;
        self.remember_end(which, note);
        Ok(self.write_lifting(note))
    }

    fn remember_end(&mut self, which: WhichBans, note: WarnFn<'_>) {
        self.remember(&JournalRecord::Note(everybody(), clock::wall(), ""), note);
        self.remember(cleared(which), note);
    }

    /// The journal takes in a lifting by a command, if that could not write it, or if bans that it has ended
    /// may still be waiting here. Without an address it is all bans that `which` says.
    pub fn remember_unban(
        &mut self,
        now: Wall,
        (addr, which): (Option<&Range>, WhichBans),
        written: bool,
        note: WarnFn<'_>,
    ) {
        if written && self.pending() == 0 {
            return;
        }
        let ranges = match addr {
            // What the journal has by hand may be what was to end.
            _ if !written => addr.map(|addr| vec![*addr]),
            _ => self.not_by_hand(now, (addr, which)),
        };
        match ranges {
            Some(ranges) => ranges.iter().for_each(|range| self.remember_lifting(range, now, note)),
            None => self.remember_end(which, note),
        }
        self.late = true;
    }

    /// Hands liftings to the system at once; whether that could be done.
    fn write_lifting(&mut self, note: WarnFn<'_>) -> bool {
        let written = self.write();
        self.late |= self.pending() > 0;
        match written {
            Ok(()) => self.may_write(),
            Err(e) => {
                note(&e);
                false
            }
        }
    }
}

/// The end of all bans, or of those that have one.
fn cleared(which: WhichBans) -> &'static JournalRecord<'static> {
    match which {
        WhichBans::All => &JournalRecord::Clear,
        WhichBans::Timed | WhichBans::ButThrottled => &JournalRecord::ClearTimed,
    }
}

/// Whom a note about the end of all bans names.
fn everybody() -> IpNet {
    IpNet::from(Ipv4Net::default())
}
