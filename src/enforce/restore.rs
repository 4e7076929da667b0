#![forbid(unsafe_code)]
//! Puts the bans of the journal back into the kernel, while others make and lift bans.

use super::{Enforcer, WarnFn, read_scope};
use crate::ban::{Ban, BanOutcome, Repeat, Scope};
use crate::base::clock::{Span, Wall};
use crate::base::intervals::Intervals;
use crate::base::range::Range;
use crate::state::StateError;
use crate::state::journal::{BanJournal, JournalMark};
use crate::state::record::{BanRecord, JournalRecord};

/// Bans that are put back at once when the journal is read: what fits one transaction.
const BATCH: usize = 256;
/// How often everything is read again because another process has rewritten the journal meanwhile.
const REREADS_MAX: usize = 10;

/// A ban that is to be put back.
#[derive(Clone)]
struct Restored {
    addr: Range,
    scope: Scope,
    /// Seconds since it began.
    age: u64,
    time: Span,
    rule: String,
    hits: u32,
    reason: String,
}

/// Which bans are put back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    /// All.
    Every,
    /// Those of sets that were found to be empty.
    Lacking,
}

/// What becomes of it.
struct Restoring {
    which: Which,
    later: Later,
    /// Bans that were put back.
    count: usize,
}

/// What was lifted since the journal was read.
#[derive(Default)]
struct Later {
    /// All, or (`false`) all that have an end.
    all: Option<bool>,
    ranges: Intervals<()>,
}

impl Later {
    fn take(&mut self, record: &JournalRecord<'_>) {
        match record {
            JournalRecord::Unban(net) => self.ranges.raise(Range::from(*net), ()),
            JournalRecord::Clear => self.all = Some(true),
            JournalRecord::ClearTimed => self.all = self.all.or(Some(false)),
            JournalRecord::Ban(_) | JournalRecord::Note(..) | JournalRecord::Carried => {}
        }
    }

    /// What is left of a ban.
    fn rest(&self, ban: &Restored) -> Vec<Range> {
        match self.all {
            Some(true) => return Vec::new(),
            Some(false) if ban.time != Span::Permanent => return Vec::new(),
            _ => {}
        }
        let mut rest = vec![ban.addr];
        for (gone, ()) in self.ranges.within(&ban.addr) {
            rest = rest.iter().flat_map(|range| range.without(gone)).flatten().collect();
        }
        rest
    }
}

impl Enforcer {
    /// Puts back every ban of the journal with the time that it has left; how many.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn restore(&mut self, now: Wall, note: WarnFn<'_>) -> Result<usize, StateError> {
        self.restore_and(now, 0, &mut |_| (), note)
    }

    /// Likewise, and tells `each` every ban that is in force or ended less than `keep` seconds ago.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn restore_and(
        &mut self,
        now: Wall,
        keep: u64,
        each: &mut dyn FnMut(&BanRecord<'_>),
        note: WarnFn<'_>,
    ) -> Result<usize, StateError> {
        self.restore_which(Which::Every, (now, keep), each, note)
    }

    /// Puts those bans of the journal back whose sets were found to be empty; how many were missing.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn restore_lacking(&mut self, now: Wall, note: WarnFn<'_>) -> Result<usize, StateError> {
        let result = self.restore_which(Which::Lacking, (now, 0), &mut |_| (), note);
        self.guard.forget_lacks();
        result
    }

    fn restore_which(
        &mut self,
        which: Which,
        (now, keep): (Wall, u64),
        each: &mut dyn FnMut(&BanRecord<'_>),
        note: WarnFn<'_>,
    ) -> Result<usize, StateError> {
        for round in 1.. {
            let Some(journal) = &mut self.journal else { break };
            let mut reading = journal.reading(now, keep)?;
            let (mut state, mut batch) = (Restoring { which, later: Later::default(), count: 0 }, Vec::new());
            let (mut more, mut same) = (true, true);
            while more && same {
                let guard = &self.guard;
                more = reading.step(&mut |entry| {
                    if round == 1 {
                        each(&entry);
                    }
                    let wanted =
                        |ban: &Restored| which == Which::Every || guard.may_lack(&ban.addr, &ban.scope);
                    batch.extend(restored(&entry, now).filter(wanted));
                })?;
                // The last time nothing may be left out because of others.
                while same && (batch.len() >= BATCH || !more) {
                    let rest = batch.split_off(batch.len().min(BATCH));
                    same =
                        self.put_back(&batch, &mut reading.mark, &mut state, note)? || round == REREADS_MAX;
                    batch = rest;
                    self.guard.wait_for_listeners();
                    if batch.is_empty() {
                        break;
                    }
                }
            }
            if !same {
                continue;
            }
            if reading.damaged() > 0 {
                let damaged = reading.damaged();
                note(&format_args!("{damaged} bytes of the ban journal are damaged and were skipped"));
            }
            return Ok(state.count);
        }
        Ok(0)
    }

    /// Puts some bans back, without what was lifted meanwhile, and what others have banned meanwhile. Returns
    /// false if everything has to be read again.
    fn put_back(
        &mut self,
        batch: &[Restored],
        mark: &mut JournalMark,
        state: &mut Restoring,
        note: WarnFn<'_>,
    ) -> Result<bool, StateError> {
        let Restoring { which, later, count } = state;
        // Without it, what somebody lifts at this moment would be in force again: he is waited for longer.
        let _held = self.hold_long(note);
        let now = crate::sys::clock::wall();
        let mut fresh: Vec<Restored> = Vec::new();
        let since = |journal: &mut BanJournal| {
            journal.since(mark, &mut |record| {
                later.take(&record);
                if let JournalRecord::Ban(entry) = record {
                    fresh.extend(restored(&entry, now));
                } else {
                    let mut this = Later::default();
                    this.take(&record);
                    let rest = |ban: Restored| {
                        this.rest(&ban).into_iter().map(move |addr| Restored { addr, ..ban.clone() })
                    };
                    fresh = std::mem::take(&mut fresh).into_iter().flat_map(rest).collect();
                }
            })
        };
        if !self.journal.as_mut().map_or(Ok(true), since)? {
            return Ok(false);
        }
        let kept = batch.iter().flat_map(|ban| later.rest(ban).into_iter().map(move |addr| (addr, ban)));
        // Somebody may have lifted and banned it again: the kernel has that, or gets it now.
        let all = kept.chain(fresh.iter().map(|ban| (ban.addr, ban)));
        let bans: Vec<Ban<'_>> = all.map(|(addr, ban)| ban.of(addr)).collect();
        self.guard.ban(&bans, Repeat::Prolongs, &mut |_, result| match result {
            // What was there is there a second longer at most: the journal has no parts of them.
            Ok(BanOutcome::InForce(_) | BanOutcome::Extended(_)) if *which == Which::Lacking => {}
            Ok(_) => *count += 1,
            Err(e) => note(e),
        });
        Ok(true)
    }
}

impl Restored {
    fn of(&self, addr: Range) -> Ban<'_> {
        let Restored { ref scope, age, time, ref rule, hits, ref reason, .. } = *self;
        Ban { addr, scope, time, age, rule, hits, reason, bans: 0, starts: &[], line: "" }
    }
}

/// A ban as it is to be put back; none if it has ended.
fn restored(entry: &BanRecord<'_>, now: Wall) -> Option<Restored> {
    let (time, scope) = (entry.left(now)?, read_scope(entry.scope)?);
    let (rule, reason) = (entry.rule.to_owned(), entry.reason.to_owned());
    let age = now.0.saturating_sub(entry.since.0);
    Some(Restored { addr: Range::from(entry.addr), scope, age, time, rule, hits: entry.hits, reason })
}
