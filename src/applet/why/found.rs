#![forbid(unsafe_code)]
//! What is told of a range one by one.

use crate::ban::{FLOODS, SCANS};
use crate::base::clock::Wall;
use crate::base::range::Range;

/// A ban in force.
pub(super) struct BanFact {
    pub(super) addr: Range,
    /// Empty for all ports.
    pub(super) ports: String,
    pub(super) rule: String,
    /// Where the rule stands.
    pub(super) place: String,
    pub(super) since: Option<u64>,
    pub(super) left: Option<u64>,
    pub(super) hits: u32,
    pub(super) reason: String,
    pub(super) line: String,
    pub(super) packets: Option<u64>,
}

impl BanFact {
    /// Whether only what begins something is dropped: nobody has proven to be the sender of what was seen.
    pub(super) fn is_of_beginnings(&self) -> bool {
        [SCANS, FLOODS].contains(&self.rule.as_str())
    }
}

/// An entry of a list, and where it stands.
pub(super) struct ListFact {
    pub(super) entry: Range,
    pub(super) file: String,
    /// 0: not found in it.
    pub(super) line: u32,
    pub(super) until: Option<Wall>,
}

/// Something that is over.
pub(super) struct PastFact {
    pub(super) at: u64,
    pub(super) word: &'static str,
    pub(super) rule: String,
    pub(super) time: String,
    pub(super) why: String,
    pub(super) addr: Range,
    pub(super) ports: String,
    pub(super) since: u64,
    pub(super) line: String,
}

/// Somebody of whom a rule has counted hits.
pub(super) struct CountFact {
    pub(super) addr: String,
    pub(super) rule: String,
    pub(super) hits: u64,
    /// So many lead to a ban.
    pub(super) of: u64,
    /// Seconds since the last one.
    pub(super) age: u64,
}

/// Somebody who is never banned.
pub(super) struct ExemptFact {
    pub(super) addr: Range,
    pub(super) why: &'static str,
}

/// Findings of one kind.
pub(super) struct Found<T> {
    range: Range,
    most: usize,
    /// Of these so many, the first, are about all of the range.
    of_all: usize,
    pub(super) shown: Vec<T>,
    /// How many are not among these.
    pub(super) more: usize,
}

impl<T> Found<T> {
    pub(super) fn of(range: &Range, most: usize) -> Found<T> {
        Found { range: *range, most, of_all: 0, shown: Vec::new(), more: 0 }
    }

    /// Takes one that is about `addr`; it is not made if it is not to be shown.
    pub(super) fn push(&mut self, addr: &Range, fact: impl FnOnce() -> T) {
        let mut at = self.shown.len();
        if addr.covers(&self.range) {
            at = at.min(self.of_all);
            self.of_all += 1;
        }
        if at >= self.most {
            self.more += 1;
            return;
        }
        self.shown.insert(at, fact());
        if self.shown.len() > self.most {
            self.shown.pop();
            self.more += 1;
        }
    }

    /// Takes one that is the next in order.
    pub(super) fn add(&mut self, fact: T) {
        if self.shown.len() < self.most {
            self.shown.push(fact);
        } else {
            self.more += 1;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.shown.len() + self.more
    }
}
