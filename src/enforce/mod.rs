#![forbid(unsafe_code)]
//! A ban from end to end: first the kernel, then, when it has acknowledged, the journal and the connections
//! that are there. The daemon and the commands go the same way, and under one lock, so that kernel and
//! journal change in one order. Knows no log and no rule file.

mod options;
mod restore;
mod save;
mod settle;
mod unban;
mod unfound;

pub use options::{Outside, all_options, journal, options, scope};
pub use save::{Memory, SavedUntil};
pub use unban::Lifted;

use crate::ban::{Ban, BanOutcome, BanReport, Repeat, Scope};
use crate::base::clock::{Span, Wall};
use crate::base::range::{Range, split};
use crate::firewall::backend::Backend;
use crate::firewall::end_connections;
use crate::state::StateError;
use crate::state::journal::{BanJournal, Compaction, PastEvents};
use crate::state::lock::{HeldLock, LockPart, StateLock};
use crate::state::record::{BanRecord, JournalRecord};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

/// Longest wait for the lock where there is no journal.
const LOCK_WAIT_MAX: Duration = Duration::from_millis(250);
/// The same while bans are put back.
const LONG: Duration = Duration::from_secs(10);
/// Events that are kept where nothing else is said.
const HISTORY: u32 = 10_000;

/// Where bans are made and remembered.
pub struct Enforcer {
    guard: Box<dyn Backend>,
    /// What else has bans in force, which end there, too.
    beside: Option<Box<dyn Backend>>,
    journal: Option<BanJournal>,
    /// The lock where state_dir has none.
    spare: Option<StateLock>,
    compaction: Option<Compaction>,
    /// When a compaction that failed may be tried again.
    retry: Wall,
    /// Hand each batch of bans to the system at once.
    prompt: bool,
    kill: bool,
    /// Events that the journal keeps.
    history: u32,
    /// Whose connections stay, whatever is banned around them; sorted and merged.
    passing: Vec<Range>,
    /// The journal holds records back that were not written together with the change that they tell of.
    late: bool,
    /// Bans that it had no room for: they are in the kernel alone.
    missed: bool,
    /// A ban that is there already may be one that a previous daemon, which was killed, did not write down.
    doubts: bool,
    /// Those that were found to be so, until their lines are read again.
    unreported: Vec<(Range, String)>,
}

/// What went wrong beside the kernel; the bans are in force nonetheless.
pub type WarnFn<'n> = &'n mut dyn FnMut(&dyn std::fmt::Display);

impl Enforcer {
    /// Bans through `guard`; without a journal they last until the kernel forgets them.
    #[must_use]
    pub fn new(guard: Box<dyn Backend>, journal: Option<BanJournal>) -> Enforcer {
        let (spare, compaction, retry) = (None, None, Wall(0));
        let (prompt, late, missed, doubts) = (true, false, false, false);
        let (passing, unreported) = (Vec::new(), Vec::new());
        Enforcer {
            guard,
            beside: None,
            journal,
            spare,
            compaction,
            retry,
            prompt,
            kill: false,
            history: HISTORY,
            passing,
            late,
            missed,
            doubts,
            unreported,
        }
    }

    /// Orders changes by a lock in `run_dir` where there is none in state_dir.
    pub fn lock_beside(&mut self, run_dir: &Path) {
        if !self.journal.as_ref().is_some_and(BanJournal::has_lock) {
            self.spare = StateLock::open(run_dir).ok();
        }
    }

    /// The table.
    pub fn guard(&mut self) -> &mut dyn Backend {
        &mut *self.guard
    }

    /// Bans in another backend from now on, which is in force already; what the former one has is left alone.
    pub fn set_guard(&mut self, guard: Box<dyn Backend>) {
        self.guard = guard;
    }

    /// Has bans end in this backend, too, where they could not move away from.
    pub fn unban_beside(&mut self, beside: Option<Box<dyn Backend>>) {
        self.beside = beside;
    }

    /// For polling: who sends through the socket that owns the table.
    #[must_use]
    pub fn relay_fd(&self) -> Option<BorrowedFd<'_>> {
        self.guard.relay_fd()
    }

    /// Whether bans are handed to the system at once, or only when much has come together.
    pub fn set_prompt(&mut self, prompt: bool) {
        self.prompt = prompt;
    }

    /// A ban that is there already may be one that a previous process made, and was killed before it wrote it
    /// down: whoever goes on where that one was reads the same lines again. Such a ban is taken into the
    /// journal and reported as one that is made now.
    pub fn doubt_repeats(&mut self) {
        self.doubts = true;
    }

    /// The setting `kill_connections`: whether a ban ends the connections of whom is banned. It does not
    /// unless this says so.
    pub fn set_kill(&mut self, kill: bool) {
        self.kill = kill;
    }

    /// The setting `history_max`: how many of the last events the journal keeps.
    pub fn set_history(&mut self, events: u32) {
        self.history = events;
    }

    /// The events that the journal has, none where there is no journal.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn events(&mut self) -> Result<Option<PastEvents>, StateError> {
        self.journal.as_mut().map(BanJournal::events).transpose()
    }

    /// Has the connections stay of who is allowed, beside those of the list that was last written; sorted and
    /// merged.
    pub fn set_passing(&mut self, passing: Vec<Range>) {
        self.passing = passing;
    }

    /// Takes the lock. Without it bans go on: whoever has it may stand still.
    fn hold(&mut self, note: WarnFn<'_>) -> Option<HeldLock> {
        self.hold_by(note, BanJournal::hold)
    }

    /// Takes it, however long others need who do not stand still.
    fn hold_long(&mut self, note: WarnFn<'_>) -> Option<HeldLock> {
        self.hold_by(note, |journal| journal.hold_for(LONG))
    }

    fn hold_by(
        &mut self,
        note: WarnFn<'_>,
        of_journal: fn(&mut BanJournal) -> Result<Option<HeldLock>, StateError>,
    ) -> Option<HeldLock> {
        let held = match (&mut self.journal, &mut self.spare) {
            (Some(journal), _) if journal.has_lock() => of_journal(journal),
            (_, Some(spare)) => spare.hold(LockPart::Bans, LOCK_WAIT_MAX).map(Some),
            _ => Ok(None),
        };
        held.unwrap_or_else(|e| {
            note(&e);
            None
        })
    }

    /// Bans each; `report` hears of each once the kernel has answered, and of those that are made not before
    /// the journal has handed them to the system: who is told of a ban finds it again whatever happens to
    /// this process.
    pub fn ban(
        &mut self,
        now: Wall,
        bans: &[Ban<'_>],
        repeat: Repeat,
        report: BanReport<'_>,
        note: WarnFn<'_>,
    ) {
        let mut outcomes: Vec<Option<BanOutcome>> = vec![None; bans.len()];
        let held = self.hold(note);
        self.guard.ban(bans, repeat, &mut |at, result| match (result, outcomes.get_mut(at)) {
            (Ok(outcome), Some(place)) => *place = Some(outcome),
            (result, _) => report(at, result),
        });
        // What the journal cannot take is told by whoever saves next.
        let quiet: WarnFn<'_> = &mut |_| ();
        for (ban, outcome) in bans.iter().zip(&mut outcomes) {
            if let Some(BanOutcome::InForce(standing)) = outcome
                && (self.doubts || !self.unreported.is_empty())
                && self.is_unreported(now, ban, standing)
            {
                *outcome = Some(BanOutcome::Extended(std::mem::take(standing)));
            }
            match outcome {
                Some(BanOutcome::Banned) => self.remember_ban(now, ban, ban, quiet),
                Some(BanOutcome::Extended(after)) => {
                    self.remember_ban(now, &after.ban(ban.addr, ban.scope), ban, quiet);
                }
                Some(BanOutcome::InForce(_)) | None => {}
            }
        }
        if self.prompt {
            let _ = self.write();
        }
        self.late |= self.pending() > 0;
        drop(held);
        if self.kill {
            let changed = |outcome: &Option<BanOutcome>| {
                matches!(outcome, Some(BanOutcome::Banned | BanOutcome::Extended(_)))
            };
            let made = bans.iter().zip(&outcomes).filter(|(_, outcome)| changed(outcome));
            self.end_connections(now, made.map(|(ban, _)| ban).collect(), note);
        }
        for (at, outcome) in outcomes.into_iter().enumerate() {
            outcome.into_iter().for_each(|outcome| report(at, Ok(outcome)));
        }
    }

    /// Ends the connections of who is banned now, but for those who pass in spite of it.
    fn end_connections(&self, now: Wall, mut rest: Vec<&Ban<'_>>, note: WarnFn<'_>) {
        while let Some(scope) = rest.first().map(|ban| ban.scope) {
            let banned =
                rest.iter().filter(|ban| ban.scope == scope).flat_map(|ban| split(&ban.addr, &self.passing));
            let targets: Vec<Range> = banned.flat_map(|range| self.guard.not_allowed(&range, now)).collect();
            if let Err(e) = end_connections(&targets, scope) {
                note(&e);
            }
            rest.retain(|ban| ban.scope != scope);
        }
    }

    /// Has the journal take in a ban as it stands now; `made` is what led to it.
    fn remember_ban(&mut self, now: Wall, stands: &Ban<'_>, made: &Ban<'_>, note: WarnFn<'_>) {
        let (since, until) = (Wall(now.0.saturating_sub(stands.age)), until(now, stands.time));
        let scope = scope_text(stands.scope);
        let (Ban { rule, reason, hits, .. }, Ban { bans, starts, line, .. }) = (*stands, *made);
        for addr in stands.addr.nets() {
            // A ban that began before was made longer now.
            let line = if since < now {
                self.remember(&JournalRecord::Note(addr, now, line), note);
                ""
            } else {
                line
            };
            let entry =
                BanRecord { addr, scope: &scope, rule, reason, since, until, hits, bans, starts, line };
            self.remember(&JournalRecord::Ban(entry), note);
        }
    }

    /// Has the history tell of a ban that the kernel made by itself: the journal never puts it back.
    pub fn tell_history(&mut self, now: Wall, ban: &Ban<'_>) {
        let (journal, history) = (self.journal.as_mut(), self.history);
        let Some(journal) = journal.filter(|_| history > 0) else { return };
        let Ban { rule, reason, hits, bans, line, .. } = *ban;
        for addr in ban.addr.nets() {
            let until = until(now, ban.time);
            let (scope, starts, since) = ("", [].as_slice(), now);
            let entry = BanRecord { addr, scope, rule, reason, since, until, hits, bans, starts, line };
            // It is news alone: what there is no room for is in the log.
            let _ = journal.put_past(&entry);
        }
        if self.prompt {
            let _ = self.write();
        }
    }

    fn each_live(&mut self, now: Wall, each: &mut dyn FnMut(&BanRecord<'_>)) {
        if let Some(journal) = &mut self.journal {
            // What cannot be read is told when the bans are put back.
            let _ = journal.live(now, 0, &mut |entry| each(&entry));
        }
    }

    /// Tells `each` every ban of the journal that is in force or ended less than `keep` seconds ago.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn past(
        &mut self,
        now: Wall,
        keep: u64,
        each: &mut dyn FnMut(&BanRecord<'_>),
    ) -> Result<(), StateError> {
        match &mut self.journal {
            Some(journal) => journal.live(now, keep, &mut |entry| each(&entry)).map(drop),
            None => Ok(()),
        }
    }

    fn remember(&mut self, record: &JournalRecord<'_>, note: WarnFn<'_>) {
        if let Some(journal) = &mut self.journal
            && let Err(e) = journal.put(record)
        {
            self.missed = true;
            note(&e);
        }
    }
}

/// When a ban ends that has so much time left.
fn until(now: Wall, time: Span) -> Option<Wall> {
    match time {
        Span::Secs(s) => Some(Wall(now.0.saturating_add(s))),
        Span::Permanent => None,
    }
}

/// A scope in the journal: nothing stands for everything.
#[must_use]
pub fn scope_text(scope: &Scope) -> String {
    if scope.is_all() { String::new() } else { scope.to_string() }
}

fn read_scope(text: &str) -> Option<Scope> {
    if text.is_empty() { Some(Scope::ALL) } else { Scope::read(text) }
}
