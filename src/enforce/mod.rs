#![forbid(unsafe_code)]
//! A ban from end to end: first the kernel, then, when it has acknowledged, the journal and the connections
//! that are there. The daemon and the commands go the same way. Knows no log and no rule file.

mod options;

pub use options::{Outside, all_options, journal, options, scope};

use crate::base::clock::{Span, Wall};
use crate::base::range::Range;
use crate::firewall::conntrack;
use crate::firewall::guard::{Ban, Failure, Guard, Report, Scope};
use crate::state::StateError;
use crate::state::journal::{Compaction, Journal};
use crate::state::record::{Entry, Record};
use ipnet::IpNet;

/// Bans that are put back at once when the journal is read: what fits one transaction.
const RESTORE: usize = 256;
/// Seconds between a compaction that failed and the next one.
const RETRY: u64 = 300;

/// Where bans are made and remembered.
pub struct Enforcer {
    guard: Guard,
    journal: Option<Journal>,
    compaction: Option<Compaction>,
    /// When a compaction that failed may be tried again.
    retry: Wall,
    /// Hand each batch of bans to the system at once.
    prompt: bool,
    kill: bool,
}

/// What the journal is to keep of bans that have ended.
#[derive(Clone, Copy)]
pub struct Memory<'m> {
    /// Seconds since their end at most.
    pub keep: u64,
    /// Which of them are of use.
    pub worth: &'m dyn Fn(&Entry<'_>) -> bool,
}

impl Memory<'static> {
    /// For who does not count bans: what others may want to count, for a year.
    pub const OF_OTHERS: Memory<'static> = Memory { keep: 366 * 86_400, worth: &|entry| entry.bans > 0 };
}

/// What went wrong beside the kernel; the bans are in force nonetheless.
pub type Note<'n> = &'n mut dyn FnMut(&dyn std::fmt::Display);

impl Enforcer {
    /// Bans through `guard`; without a journal they last until the kernel forgets them. `kill` ends the
    /// connections of whom is banned.
    #[must_use]
    pub fn new(guard: Guard, journal: Option<Journal>, kill: bool) -> Enforcer {
        Enforcer { guard, journal, compaction: None, retry: Wall(0), prompt: true, kill }
    }

    /// The table.
    pub fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// Whether bans are handed to the system at once, or only when much has come together.
    pub fn set_prompt(&mut self, prompt: bool) {
        self.prompt = prompt;
    }

    /// Takes another setting of `kill_connections`.
    pub fn set_kill(&mut self, kill: bool) {
        self.kill = kill;
    }

    /// Bans each; `report` hears of each once the kernel has answered, and of those that are made not before the journal has handed them to
    /// the system: who is told of a ban finds it again whatever happens to this process.
    pub fn ban(&mut self, now: Wall, bans: &[Ban<'_>], report: Report<'_>, note: Note<'_>) {
        let mut made = vec![false; bans.len()];
        self.guard.ban(bans, &mut |at, result| match (result, made.get_mut(at)) {
            (Ok(()), Some(flag)) => *flag = true,
            _ => report(at, result),
        });
        let made = || bans.iter().enumerate().zip(&made).filter(|(_, made)| **made).map(|(ban, _)| ban);
        // What the journal cannot take is told by whoever saves next.
        let quiet: Note<'_> = &mut |_| ();
        self.remember_cuts(now, quiet);
        for (_, ban) in made() {
            let until = until(now, ban.time);
            for who in ban.who.nets() {
                let scope = scope_text(ban.scope);
                let Ban { rule, reason, hits, bans, starts, .. } = *ban;
                let entry = Entry { who, scope: &scope, rule, reason, since: now, until, hits, bans, starts };
                self.remember(&Record::Ban(entry), quiet);
            }
        }
        if let Some(journal) = self.journal.as_mut().filter(|_| self.prompt) {
            let _ = journal.flush();
        }
        made().for_each(|(at, _)| report(at, Ok(())));
        if self.kill {
            kill(made().map(|(_, ban)| ban), note);
        }
    }

    /// Ends the bans of a range; how many there were.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn unban(&mut self, now: Wall, who: &Range, note: Note<'_>) -> Result<usize, Failure> {
        let Enforcer { guard, journal, .. } = self;
        let count = guard.unban(who, &mut |part| {
            part.nets().for_each(|net| put(journal, &Record::Unban(net), note));
        })?;
        // The whole, too: it may stand in the journal alone.
        who.nets().for_each(|net| self.remember(&Record::Unban(net), note));
        self.remember_cuts(now, note);
        Ok(count)
    }

    /// Ends all bans, the permanent ones only if `permanent`.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn unban_all(&mut self, now: Wall, permanent: bool, note: Note<'_>) -> Result<(), Failure> {
        self.guard.unban_all(permanent)?;
        self.remember(&Record::Clear, note);
        let Enforcer { guard, journal, .. } = self;
        guard.list(&mut |e| {
            for who in e.who.nets() {
                let (scope, until) = (scope_text(e.scope), e.left.map(|s| Wall(now.0.saturating_add(s))));
                let (rule, reason, hits) = (e.rule, e.reason, e.hits);
                let entry =
                    Entry { who, scope: &scope, rule, reason, since: now, until, hits, bans: 1, starts: &[] };
                put(journal, &Record::Ban(entry), note);
            }
        })
    }

    /// Puts back every ban of the journal with the time that it has left; how many.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn restore(&mut self, now: Wall, note: Note<'_>) -> Result<usize, StateError> {
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
        each: &mut dyn FnMut(&Entry<'_>),
        note: Note<'_>,
    ) -> Result<usize, StateError> {
        let Some(journal) = &mut self.journal else { return Ok(0) };
        let guard = &mut self.guard;
        let mut batch: Vec<Restored> = Vec::new();
        let mut count = 0;
        let damaged = journal.live(now, keep, &mut |entry| {
            each(&entry);
            let Some(time) = entry.left(now) else { return };
            let Some(scope) = read_scope(entry.scope) else { return };
            let (rule, reason) = (entry.rule.to_owned(), entry.reason.to_owned());
            batch.push(Restored { who: entry.who, scope, time, rule, hits: entry.hits, reason });
            if batch.len() == RESTORE {
                count += put_back(guard, &batch, note);
                batch.clear();
            }
        })?;
        count += put_back(guard, &batch, note);
        if damaged > 0 {
            note(&format_args!("{damaged} bytes of the ban journal are damaged and were passed over"));
        }
        Ok(count)
    }

    /// Tells `each` every ban of the journal that is in force or ended less than `keep` seconds ago.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn past(&mut self, now: Wall, keep: u64, each: &mut dyn FnMut(&Entry<'_>)) -> Result<(), StateError> {
        match &mut self.journal {
            Some(journal) => journal.live(now, keep, &mut |entry| each(&entry)).map(drop),
            None => Ok(()),
        }
    }

    /// Bytes that the journal has taken in and not yet written.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.journal.as_ref().map_or(0, Journal::pending)
    }

    /// Writes what the journal has taken in, and (`sync`) waits for the disk.
    ///
    /// # Errors
    /// What cannot be written is kept for the next try.
    pub fn save(&mut self, sync: bool) -> Result<(), StateError> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        journal.flush()?;
        if sync { journal.sync() } else { Ok(()) }
    }

    /// Begins a compaction of the journal if it is worth one.
    ///
    /// # Errors
    /// It cannot begin, and will be tried again later.
    pub fn begin_compaction(&mut self, now: Wall, memory: Memory<'_>) -> Result<(), StateError> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        if self.compaction.is_none() && now >= self.retry && journal.wants_compaction() {
            let begun = journal.compact(now, memory.keep).map(Some);
            self.compaction = self.failed(now, begun)?.flatten();
        }
        Ok(())
    }

    /// What became of a part of a compaction, `None` if it failed. That somebody else is at it is no error.
    fn failed<T>(&mut self, now: Wall, result: Result<T, StateError>) -> Result<Option<T>, StateError> {
        if result.is_err() {
            self.retry = Wall(now.0.saturating_add(RETRY));
        }
        match result {
            Ok(done) => Ok(Some(done)),
            Err(StateError::Busy(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether a compaction is under way.
    #[must_use]
    pub fn compacts(&self) -> bool {
        self.compaction.is_some()
    }

    /// Does the next part of a compaction, a fraction of a millisecond long.
    ///
    /// # Errors
    /// It failed: the journal is as it was, and will be compacted another time.
    pub fn compact(&mut self, now: Wall, memory: Memory<'_>) -> Result<(), StateError> {
        if let (Some(journal), Some(compaction)) = (&mut self.journal, self.compaction.take()) {
            let result = journal.compact_step(compaction, memory.worth);
            self.compaction = self.failed(now, result)?.flatten();
        }
        Ok(())
    }

    /// As [`Enforcer::save`], for commands: compacts the journal, too, if it is worth it.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn close(&mut self, now: Wall) -> Result<(), StateError> {
        self.save(false)?;
        self.begin_compaction(now, Memory::OF_OTHERS)?;
        while self.compacts() {
            self.compact(now, Memory::OF_OTHERS)?;
        }
        Ok(())
    }

    /// The journal follows bans of networks that were cut.
    fn remember_cuts(&mut self, now: Wall, note: Note<'_>) {
        for cut in self.guard.take_cuts() {
            cut.was.nets().for_each(|net| self.remember(&Record::Unban(net), note));
            let (scope, until) = (scope_text(&cut.scope), until(now, cut.time));
            for who in cut.kept.iter().flat_map(|range| range.nets()) {
                let (rule, reason) = (&cut.rule, &cut.reason);
                let entry = Entry {
                    who,
                    scope: &scope,
                    rule,
                    reason,
                    since: now,
                    until,
                    hits: 0,
                    bans: 0,
                    starts: &[],
                };
                self.remember(&Record::Ban(entry), note);
            }
        }
    }

    fn remember(&mut self, record: &Record<'_>, note: Note<'_>) {
        put(&mut self.journal, record, note);
    }
}

struct Restored {
    who: IpNet,
    scope: Scope,
    time: Span,
    rule: String,
    hits: u32,
    reason: String,
}

fn put_back(guard: &mut Guard, batch: &[Restored], note: Note<'_>) -> usize {
    let mut bans: Vec<Ban<'_>> = batch
        .iter()
        .map(|r| {
            let Restored { who, ref scope, time, ref rule, hits, ref reason } = *r;
            Ban { who: Range::from(who), scope, time, rule, hits, reason, bans: 0, starts: &[] }
        })
        .collect();
    // The journal gives them in no order; the narrower network is the later word.
    bans.sort_unstable_by_key(|ban| {
        std::cmp::Reverse(ban.who.nets().next().map(|n| n.max_prefix_len() - n.prefix_len()))
    });
    let mut count = 0;
    guard.ban(&bans, &mut |_, result| match result {
        Ok(()) => count += 1,
        Err(e) => note(e),
    });
    guard.take_cuts();
    count
}

fn put(journal: &mut Option<Journal>, record: &Record<'_>, note: Note<'_>) {
    if let Some(journal) = journal
        && let Err(e) = journal.put(record)
    {
        note(&e);
    }
}

fn kill<'a>(bans: impl Iterator<Item = &'a Ban<'a>>, note: Note<'_>) {
    let mut rest: Vec<&Ban<'_>> = bans.collect();
    while let Some(scope) = rest.first().map(|ban| ban.scope) {
        let targets: Vec<Range> = rest.iter().filter(|ban| ban.scope == scope).map(|ban| ban.who).collect();
        if let Err(e) = conntrack::kill(&targets, scope) {
            note(&e);
        }
        rest.retain(|ban| ban.scope != scope);
    }
}

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
