#![forbid(unsafe_code)]
//! Bans of networks: interval sets refuse what overlaps, so a new range is cut out of what is there.

use super::list::read_comment;
use super::{Failure, Guard, Scope, TABLE};
use crate::base::clock::Span;
use crate::base::name::Name;
use crate::base::range::{Key, Range};
use crate::firewall::nft::elem::{Elem, Timeout};
use crate::firewall::nft::{TxnError, query};
use crate::sys::netlink::{Lost, NlSocket};
use nix::errno::Errno;

/// How often a change is worked out anew when the set changed between the question and the transaction.
/// Of those who meet there, one always gets through.
const TRIES: u32 = 20;

/// A set, and the ports that it stands for.
type Place<'a> = (&'a Name, &'a Scope);

/// An interval of a set.
pub(super) struct Piece {
    pub(super) range: Range,
    /// ms; 0 = it stays.
    pub(super) timeout_ms: u64,
    /// ms
    pub(super) left_ms: u64,
    pub(super) comment: String,
    pub(super) packets: Option<u64>,
}

/// All intervals of a set, in ascending order. A set that is not there is empty.
pub(super) fn read(socket: &mut NlSocket, set: &Name, each: &mut dyn FnMut(Piece)) -> Result<(), Lost> {
    // The kernel tells the two ends of an interval separately, in an order of its own.
    let bounds = std::cell::RefCell::new(Vec::new());
    query::elements(socket, &TABLE, set, &mut || bounds.borrow_mut().clear(), &mut |e| {
        let piece = (e.timeout_ms, e.left_ms, e.comment.to_owned(), e.packets);
        bounds.borrow_mut().push((e.key.to_vec(), !e.is_end, piece));
    })?;
    let mut bounds = bounds.into_inner();
    bounds.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    let mut bounds = bounds.into_iter().peekable();
    while let Some((key, is_start, (timeout_ms, left_ms, comment, packets))) = bounds.next() {
        let end = bounds.peek().filter(|_| is_start).map(|(key, ..)| key.as_slice());
        if let Some(range) = Range::from_keys(&key, end).filter(|_| is_start) {
            each(Piece { range, timeout_ms, left_ms, comment, packets });
        }
    }
    Ok(())
}

/// What a change did to a network that was banned before: the journal has to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The ports that the ban was for.
    pub scope: Scope,
    /// What was banned.
    pub was: Range,
    /// What still is.
    pub kept: Vec<Range>,
    /// Seconds left of what is kept.
    pub time: Span,
    /// The service rule of the ban.
    pub rule: String,
    /// Its reason.
    pub reason: String,
}

impl Guard {
    /// The bans of networks that were cut since the last call.
    pub fn take_cuts(&mut self) -> Vec<Cut> {
        std::mem::take(&mut self.cuts)
    }

    /// Puts a range into an interval set, instead of whatever part of it is there.
    pub(super) fn add_range(
        &mut self,
        place: Place<'_>,
        range: &Range,
        ms: u64,
        comment: &str,
    ) -> Result<(), Failure> {
        // The kernel refuses what overlaps; what shares only an end it would take for the same, were it not
        // told that both ends are new, and then a deletion of one would leave the other without an end.
        // A range up to the last address has no end that could tell.
        if range.end_key().is_some() {
            self.write_range(place.0, range, Timeout::Ms(ms), comment);
            match self.txn.commit(&mut self.socket) {
                Err(TxnError::Refused(all)) if all.iter().all(|r| r.errno == Errno::EEXIST) => {}
                result => return Ok(result?),
            }
        }
        self.recut(place, range, &mut |guard| {
            guard.write_range(place.0, range, Timeout::Ms(ms), comment);
        })?;
        Ok(())
    }

    /// Takes a range out of an interval set; whether any part of it was there.
    pub(super) fn remove_range(&mut self, place: Place<'_>, range: &Range) -> Result<bool, Failure> {
        self.recut(place, range, &mut |_| ())
    }

    /// Cuts, writes `more` into the same transaction and commits it; whether any part of the range was there.
    ///
    /// What was read may be gone (an interval expired, or this very transaction was applied and its answer
    /// lost: ENOENT), or others may have put something there (EEXIST): then it is read again.
    fn recut(
        &mut self,
        place: Place<'_>,
        range: &Range,
        more: &mut dyn FnMut(&mut Guard),
    ) -> Result<bool, Failure> {
        let before = self.cuts.len();
        let (mut any, mut tries) = (false, 0);
        loop {
            any |= self.cut(place, range)?;
            more(self);
            tries += 1;
            match self.txn.commit(&mut self.socket) {
                Ok(()) => return Ok(any),
                // What did not happen must not reach the journal.
                Err(e) => {
                    self.cuts.truncate(before);
                    if tries == TRIES || !matches!(e.errno(), Errno::ENOENT | Errno::EEXIST) {
                        return Err(e.into());
                    }
                }
            }
        }
    }

    /// Writes into the transaction what takes `range` out of the set, and keeps the rest of what it cuts.
    fn cut(&mut self, (set, scope): Place<'_>, range: &Range) -> Result<bool, Failure> {
        let mut pieces = Vec::new();
        read(&mut self.socket, set, &mut |piece| {
            if piece.range.meets(range) {
                pieces.push(piece);
            }
        })?;
        for piece in &pieces {
            let (key, end) = (piece.range.key(), piece.range.end_key());
            let end = end.as_ref().map(Key::bytes);
            self.txn.delete_elem(set, &Elem { key: key.bytes(), end, timeout: Timeout::None, comment: "" });
        }
        for piece in &pieces {
            let left = if piece.timeout_ms == 0 { 0 } else { piece.left_ms.max(1) };
            let kept: Vec<Range> = piece.range.without(range).into_iter().flatten().collect();
            for rest in &kept {
                self.write_range(set, rest, Timeout::Ms(left), &piece.comment);
            }
            let (rule, _, reason) = read_comment(&piece.comment);
            let time = if left == 0 { Span::Permanent } else { Span::Secs(left.div_ceil(1000)) };
            let (rule, reason) = (rule.to_owned(), reason.to_owned());
            self.cuts.push(Cut { scope: scope.clone(), was: piece.range, kept, time, rule, reason });
        }
        Ok(!pieces.is_empty())
    }

    pub(super) fn write_range(&mut self, set: &Name, range: &Range, timeout: Timeout, comment: &str) {
        let (key, end) = (range.key(), range.end_key());
        let end = end.as_ref().map(Key::bytes);
        self.txn.add_new_elem(set, &Elem { key: key.bytes(), end, timeout, comment });
    }
}
