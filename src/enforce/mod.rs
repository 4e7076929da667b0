#![forbid(unsafe_code)]
//! A ban from end to end: first the kernel, then, when it has acknowledged, the journal and the connections
//! that are there. The daemon and the commands go the same way. Knows no log and no rule file.

mod options;

pub use options::{journal, options, scope};

use crate::base::clock::{Span, Wall};
use crate::base::range::Range;
use crate::firewall::conntrack;
use crate::firewall::guard::{Ban, Failure, Guard, Report, Scope};
use crate::state::StateError;
use crate::state::journal::Journal;
use crate::state::record::{Entry, Record};
use ipnet::IpNet;

/// Bans that are put back at once when the journal is read: what fits one transaction.
const RESTORE: usize = 256;

/// Where bans are made and remembered.
pub struct Enforcer {
    guard: Guard,
    journal: Option<Journal>,
    kill: bool,
}

/// What went wrong beside the kernel; the bans are in force nonetheless.
pub type Note<'n> = &'n mut dyn FnMut(&dyn std::fmt::Display);

impl Enforcer {
    /// Bans through `guard`; without a journal they last until the kernel forgets them. `kill` ends the
    /// connections of whom is banned.
    #[must_use]
    pub fn new(guard: Guard, journal: Option<Journal>, kill: bool) -> Enforcer {
        Enforcer { guard, journal, kill }
    }

    /// The table.
    pub fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// Takes another setting of `kill_connections`.
    pub fn set_kill(&mut self, kill: bool) {
        self.kill = kill;
    }

    /// Bans each; `report` hears of each once the kernel has answered.
    pub fn ban(&mut self, now: Wall, bans: &[Ban<'_>], report: Report<'_>, note: Note<'_>) {
        let mut made = vec![false; bans.len()];
        self.guard.ban(bans, &mut |at, result| {
            if let Some(flag) = made.get_mut(at) {
                *flag = result.is_ok();
            }
            report(at, result);
        });
        let made = || bans.iter().zip(&made).filter(|(_, made)| **made).map(|(ban, _)| ban);
        self.remember_cuts(now, note);
        for ban in made() {
            let until = until(now, ban.time);
            for who in ban.who.nets() {
                let scope = scope_text(ban.scope);
                let Ban { rule, reason, hits, bans, .. } = *ban;
                let entry = Entry { who, scope: &scope, rule, reason, since: now, until, hits, bans };
                self.remember(&Record::Ban(entry), note);
            }
        }
        if self.kill {
            kill(made(), note);
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
                let entry = Entry { who, scope: &scope, rule, reason, since: now, until, hits, bans: 1 };
                put(journal, &Record::Ban(entry), note);
            }
        })
    }

    /// Puts back every ban of the journal with the time that it has left; how many.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn restore(&mut self, now: Wall, note: Note<'_>) -> Result<usize, StateError> {
        let Some(journal) = &mut self.journal else { return Ok(0) };
        let guard = &mut self.guard;
        let mut batch: Vec<Restored> = Vec::new();
        let mut count = 0;
        let damaged = journal.live(now, 0, &mut |entry| {
            let Some(time) = entry.left(now) else { return };
            let Some(scope) = read_scope(entry.scope) else { return };
            let (rule, reason) = (entry.rule.to_owned(), entry.reason.to_owned());
            batch.push(Restored {
                who: entry.who,
                scope,
                time,
                rule,
                hits: entry.hits,
                reason,
                bans: entry.bans,
            });
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

    /// Bytes that the journal has taken in and not yet written.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.journal.as_ref().map_or(0, Journal::pending)
    }

    /// Writes what the journal has taken in, and (`sync`) waits for the disk. Compacts it when that is worth it.
    ///
    /// # Errors
    /// What cannot be written is kept for the next try.
    pub fn save(&mut self, now: Wall, sync: bool) -> Result<(), StateError> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        journal.flush()?;
        if journal.wants_compaction() {
            let mut step = Some(journal.compact(now, 0)?);
            while let Some(compaction) = step {
                step = journal.compact_step(compaction)?;
            }
        }
        if sync { journal.sync() } else { Ok(()) }
    }

    /// The journal follows bans of networks that were cut.
    fn remember_cuts(&mut self, now: Wall, note: Note<'_>) {
        for cut in self.guard.take_cuts() {
            cut.was.nets().for_each(|net| self.remember(&Record::Unban(net), note));
            let (scope, until) = (scope_text(&cut.scope), until(now, cut.time));
            for who in cut.kept.iter().flat_map(|range| range.nets()) {
                let (rule, reason) = (&cut.rule, &cut.reason);
                let entry = Entry { who, scope: &scope, rule, reason, since: now, until, hits: 0, bans: 1 };
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
    bans: u32,
}

fn put_back(guard: &mut Guard, batch: &[Restored], note: Note<'_>) -> usize {
    let mut bans: Vec<Ban<'_>> = batch
        .iter()
        .map(|r| {
            let Restored { who, ref scope, time, ref rule, hits, ref reason, bans } = *r;
            Ban { who: Range::from(who), scope, time, rule, hits, reason, bans }
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
fn scope_text(scope: &Scope) -> String {
    if scope.is_all() { String::new() } else { scope.to_string() }
}

fn read_scope(text: &str) -> Option<Scope> {
    if text.is_empty() { Some(Scope::ALL) } else { Scope::read(text) }
}
