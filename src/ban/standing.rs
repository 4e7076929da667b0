#![forbid(unsafe_code)]
//! A ban, and what becomes of one that meets another.

use super::{Failure, Scope};
use crate::base::clock::Span;
use crate::base::range::Range;

/// A ban as the kernel is to hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ban<'a> {
    /// Whom.
    pub addr: Range,
    /// Which ports.
    pub scope: &'a Scope,
    /// For how long from now.
    pub time: Span,
    /// Seconds since it began: 0 for one that begins now.
    pub age: u64,
    /// The service rule, or empty for a ban by hand.
    pub rule: &'a str,
    /// Hits that led to it.
    pub hits: u32,
    /// Free text, or empty.
    pub reason: &'a str,
    /// Bans of it so far that count; only remembered, the kernel does not hold it.
    pub bans: u32,
    /// When these began, as the journal keeps it; only remembered, too.
    pub starts: &'a [u8],
    /// The line that decided, safe to show; only remembered, too.
    pub line: &'a str,
}

impl<'a> Ban<'a> {
    /// One for what bare packets did, which begins now: of all ports, and nothing is remembered of it.
    #[must_use]
    pub fn for_packets(addr: Range, time: Span, rule: &'a str, hits: u32) -> Ban<'a> {
        let scope = const { &Scope::ALL };
        Ban { addr, scope, time, age: 0, rule, hits, reason: "", bans: 0, starts: &[], line: "" }
    }
}

/// What a ban does where one is in force already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Nothing: it is the same offence, read again.
    Keeps,
    /// The later end counts.
    Prolongs,
}

/// A ban in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Seconds since it began; 0 if that is not known.
    pub age: u64,
    /// Seconds it has left, `None` for a permanent one.
    pub left: Option<u64>,
    /// The service rule, empty for a ban by hand.
    pub rule: String,
    /// Hits that led to it.
    pub hits: u32,
    /// Free text, or empty.
    pub reason: String,
}

/// What became of a ban.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BanOutcome {
    /// Nobody of these was banned, or not everybody.
    Banned,
    /// They were banned already, and now are until later, or for a reason that was not known before: the ban
    /// as it stands now.
    Extended(Standing),
    /// They are banned for at least as long already: nothing was changed.
    InForce(Standing),
}

/// Hears what became of each ban: its index, and what was done or why nothing could be.
pub type BanReport<'r> = &'r mut dyn FnMut(usize, Result<BanOutcome, &Failure>);

impl Ban<'_> {
    /// The same with the beginning and, if it has none itself, the reason of what was there before.
    fn after<'b>(&'b self, before: &'b Standing) -> Ban<'b> {
        let reason = if self.reason.is_empty() { &before.reason } else { self.reason };
        Ban { age: before.age.max(self.age), reason, ..*self }
    }
}

impl Standing {
    /// The one that a ban becomes.
    #[must_use]
    pub fn of(ban: &Ban<'_>) -> Standing {
        let left = match ban.time {
            Span::Permanent => None,
            Span::Secs(s) => Some(s.max(1)),
        };
        let (rule, reason) = (ban.rule.to_owned(), ban.reason.to_owned());
        Standing { age: ban.age, left, rule, hits: ban.hits, reason }
    }

    /// The ban that it is.
    #[must_use]
    pub fn ban<'a>(&'a self, addr: Range, scope: &'a Scope) -> Ban<'a> {
        let time = self.left.map_or(Span::Permanent, Span::Secs);
        let Standing { age, ref rule, hits, ref reason, .. } = *self;
        Ban { addr, scope, time, age, rule, hits, reason, bans: 0, starts: &[], line: "" }
    }

    /// What it becomes by a ban of the same addresses, if that changes it.
    #[must_use]
    pub fn with(&self, ban: &Ban<'_>) -> Option<Standing> {
        let later = match (self.left, ban.time) {
            (None, _) => false,
            (_, Span::Permanent) => true,
            (Some(left), Span::Secs(secs)) => secs > left,
        };
        let explained = self.reason.is_empty() && !ban.reason.is_empty();
        if later {
            Some(Standing::of(&ban.after(self)))
        } else {
            explained.then(|| Standing { reason: ban.reason.to_owned(), ..self.clone() })
        }
    }
}

/// What becomes of a ban where that one stands before.
#[must_use]
pub fn meet(before: Option<Standing>, ban: &Ban<'_>, repeat: Repeat) -> BanOutcome {
    let Some(before) = before else { return BanOutcome::Banned };
    match before.with(ban).filter(|_| repeat == Repeat::Prolongs) {
        Some(after) => BanOutcome::Extended(after),
        None => BanOutcome::InForce(before),
    }
}
