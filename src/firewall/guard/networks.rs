#![forbid(unsafe_code)]
//! Bans of networks. Interval sets refuse what overlaps: they hold the pieces that bans cut each other into,
//! each until the latest end among those that cover it, so that nothing has to be done when one of them ends.

use super::ban::timeout;
use super::change::plain;
use super::scope::SetKind;
use super::{Guard, TABLE};
use crate::ban::{Ban, BanOutcome, Doing, Failure, Repeat, Standing, meet};
use crate::base::intervals::Intervals;
use crate::base::name::Name;
use crate::base::range::{AddrKey, Range};
use crate::firewall::nft::elem::{Elem, Timeout};
use crate::firewall::nft::{TxnError, query};
use crate::sys::netlink::{Lost, NlSocket};
use nix::errno::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// How often a change is worked out anew when the set changed between the question and the transaction.
/// Of those who meet there, one always gets through.
const RETRIES_MAX: u32 = 20;
/// Between these, longer and longer: two seconds in all.
const PAUSE: Duration = Duration::from_millis(10);

/// Intervals that one transaction takes away at most, each with two ends: see
/// [`BATCH`](super::change::BATCH).
const PIECES: usize = super::change::BATCH / 2;

/// An interval of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) range: Range,
    /// ms; 0 = it stays.
    pub(super) timeout_ms: u64,
    /// ms
    pub(super) left_ms: u64,
    pub(super) comment: String,
    pub(super) packets: Option<u64>,
}

impl Interval {
    /// Milliseconds left, `u64::MAX` if it stays.
    fn left(&self) -> u64 {
        if self.timeout_ms == 0 { u64::MAX } else { self.left_ms.max(1) }
    }

    fn standing(&self) -> Standing {
        Standing::read(&self.comment, self.timeout_ms, self.left_ms)
    }
}

/// All intervals of a set, in ascending order. A set that is not there is empty.
pub(super) fn read(socket: &mut NlSocket, set: &Name, each: &mut dyn FnMut(Interval)) -> Result<(), Lost> {
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
            each(Interval { range, timeout_ms, left_ms, comment, packets });
        }
    }
    Ok(())
}

impl Guard {
    /// Bans a network: whatever part of it is banned for longer stays so.
    pub(super) fn ban_network(&mut self, ban: &Ban<'_>, repeat: Repeat) -> Result<BanOutcome, Failure> {
        let set = ban.scope.set(SetKind::Networks, ban.addr.family());
        // The kernel refuses what overlaps; what shares only an end it would take for the same, were it not
        // told that both ends are new, and then a deletion of one would leave the other without an end.
        // A range up to the last address has no end that could tell.
        if ban.addr.end_key().is_some() {
            let comment = ban.comment();
            self.write_range(
                &set,
                &ban.addr,
                ban.timeout(),
                std::str::from_utf8(&comment).unwrap_or(ban.rule),
            );
            match self.txn.commit(&mut self.socket) {
                Err(TxnError::Refused(all)) if all.iter().all(|r| r.errno == Errno::EEXIST) => {}
                result => return Ok(result.map(|()| BanOutcome::Banned)?),
            }
        }
        self.retried(&set, &mut |guard| {
            let pieces = guard.pieces(&set, &ban.addr)?;
            guard.union(&set, ban, &pieces, repeat)
        })
    }

    /// Makes the set hold the ban beside the pieces that meet it, with as many transactions as that takes.
    fn union(
        &mut self,
        set: &Name,
        ban: &Ban<'_>,
        pieces: &[Interval],
        repeat: Repeat,
    ) -> Result<BanOutcome, Failure> {
        let (left, right) = pieces.split_at(pieces.len() / 2);
        if let Some(middle) = right.first().filter(|_| pieces.len() > PIECES)
            && let [Some(below), Some(above)] = split(&ban.addr, &middle.range)
        {
            let below = self.union(set, &Ban { addr: below, ..*ban }, left, repeat)?;
            let above = self.union(set, &Ban { addr: above, ..*ban }, right, repeat)?;
            return Ok(match (below, above) {
                (BanOutcome::InForce(_), other) | (other, BanOutcome::InForce(_)) => other,
                (BanOutcome::Extended(_), other) | (other, _) => other,
            });
        }
        let outcome = self.write_union(set, ban, pieces, repeat);
        self.txn.commit(&mut self.socket)?;
        Ok(outcome)
    }

    /// Writes what makes the set hold the ban beside the pieces that meet it; what becomes of it.
    fn write_union(&mut self, set: &Name, ban: &Ban<'_>, pieces: &[Interval], repeat: Repeat) -> BanOutcome {
        let outcome = meet(whole(pieces, &ban.addr), ban, repeat);
        let ban = match &outcome {
            BanOutcome::InForce(_) => return outcome,
            BanOutcome::Banned => *ban,
            BanOutcome::Extended(after) => after.ban(ban.addr, ban.scope),
        };
        let alone = matches!(pieces, [piece] if piece.range == ban.addr);
        // The number 0 is the new ban: of two that end together the one that is there stays.
        let mut parts = Intervals::default();
        for (number, piece) in (1u32..).zip(pieces) {
            parts.raise(piece.range, (piece.left(), number));
        }
        let new = if alone { (u64::MAX, u32::MAX) } else { (ban.left_ms(), 0) };
        parts.raise(ban.addr, new);
        let piece_of = |number: u32| pieces.get(usize::try_from(number).ok()?.checked_sub(1)?);
        let stays = |piece: &Interval, number| {
            parts.parts().iter().any(|(r, (_, n))| *r == piece.range && *n == number)
        };
        for (number, piece) in (1..).zip(pieces) {
            if !stays(piece, number) {
                self.delete_range(set, &piece.range);
            }
        }
        let comment = ban.comment();
        let comment = std::str::from_utf8(&comment).unwrap_or(ban.rule);
        for (range, (_, number)) in parts.parts() {
            match piece_of(*number) {
                None => self.write_range(set, range, ban.timeout(), comment),
                Some(piece) if piece.range == *range => {}
                Some(piece) => self.write_rest(set, range, piece),
            }
        }
        outcome
    }

    /// Takes a range out of an interval set, as often as it takes until nothing of it is found; how many
    /// intervals met it.
    pub(super) fn remove_range(&mut self, set: &Name, range: &Range) -> Result<usize, Failure> {
        let mut count = 0;
        self.retried(set, &mut |guard| {
            loop {
                let pieces = guard.pieces(set, range)?;
                if pieces.is_empty() {
                    return Ok(count);
                }
                for part in pieces.chunks(PIECES) {
                    part.iter().for_each(|piece| guard.delete_range(set, &piece.range));
                    for piece in part {
                        for rest in piece.range.without(range).into_iter().flatten() {
                            guard.write_rest(set, &rest, piece);
                        }
                    }
                    guard.txn.commit(&mut guard.socket)?;
                    count += part.len();
                }
            }
        })
    }

    /// Does something anew when what was read before is gone (an interval ended, or this very transaction was
    /// applied and its answer lost: ENOENT), or others have put something there (EEXIST).
    fn retried<T>(
        &mut self,
        set: &Name,
        work: &mut dyn FnMut(&mut Guard) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut tries = 0;
        loop {
            let result = work(self);
            tries += 1;
            match &result {
                Err(e)
                    if e.doing != Doing::Question
                        && tries < RETRIES_MAX
                        && matches!(e.errno(), Errno::ENOENT | Errno::EEXIST) => {}
                _ => return result,
            }
            if tries > 2 {
                self.sweep_out(set)?;
                std::thread::sleep(PAUSE * tries);
            }
        }
    }

    /// Has the kernel take away what has ended: it does so once a second, at the end of a transaction about
    /// the set, and until then the end of an interval that is over stands in the way of one that ends at the
    /// same address.
    fn sweep_out(&mut self, set: &Name) -> Result<(), Failure> {
        // Multicast, which is never the source of a packet.
        let nobody = match set.as_str().ends_with('4') {
            true => Range::from(IpAddr::V4(Ipv4Addr::new(239, 255, 255, 254))),
            false => Range::from(IpAddr::V6(Ipv6Addr::new(0xff0f, 0, 0, 0, 0, 0, 0, 1))),
        };
        self.write_range(set, &nobody, Timeout::Ms(60_000), "");
        self.delete_range(set, &nobody);
        match self.txn.commit(&mut self.socket) {
            // Somebody bans even those.
            Err(e) if e.errno() == Errno::EEXIST => Ok(()),
            result => Ok(result?),
        }
    }

    /// The intervals of a set that meet a range.
    pub(super) fn pieces(&mut self, set: &Name, range: &Range) -> Result<Vec<Interval>, Failure> {
        let mut pieces = Vec::new();
        read(&mut self.socket, set, &mut |piece| {
            if piece.range.meets(range) {
                pieces.push(piece);
            }
        })?;
        Ok(pieces)
    }

    /// Writes what is left of an interval, with the time that it has left.
    fn write_rest(&mut self, set: &Name, range: &Range, piece: &Interval) {
        let age = piece.timeout_ms.saturating_sub(piece.left_ms);
        self.write_range(set, range, timeout(age, piece.left()), &piece.comment);
    }

    pub(super) fn delete_range(&mut self, set: &Name, range: &Range) {
        let (key, end) = (range.key(), range.end_key());
        let end = end.as_ref().map(AddrKey::bytes);
        self.txn.delete_elem(set, &Elem { end, ..plain(key.bytes()) });
    }

    pub(super) fn write_range(&mut self, set: &Name, range: &Range, timeout: Timeout, comment: &str) {
        let (key, end) = (range.key(), range.end_key());
        let end = end.as_ref().map(AddrKey::bytes);
        self.txn.add_new_elem(set, &Elem { key: key.bytes(), end, timeout, comment });
    }
}

/// The ban of a range all of which is banned: it ends with the first of its pieces.
pub(super) fn whole(pieces: &[Interval], range: &Range) -> Option<Standing> {
    let mut rest = vec![*range];
    for piece in pieces {
        rest = rest.iter().flat_map(|r| r.without(&piece.range)).flatten().collect();
    }
    let first_end = pieces.iter().min_by_key(|piece| piece.left());
    first_end.filter(|_| rest.is_empty()).map(Interval::standing)
}

/// The parts of `range` before and from the beginning of `at`, which lies inside.
fn split(range: &Range, at: &Range) -> [Option<Range>; 2] {
    let above = Range::new(at.first(), range.last());
    let [below, _] = above.map_or([None, None], |above| range.without(&above));
    [below, above]
}
