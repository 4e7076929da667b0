#![forbid(unsafe_code)]
//! What the observer was told to do, and has not done yet; for how long that is waited for.

use super::{AnswerLimits, ObserverEnd, ObserverLink};
use crate::base::bytes::to_path;
use crate::base::clock::{Mono, Now};
use crate::base::position::{MOMENTS, Position};
use crate::daemon::wire::{HitReports, Observed, ObserverOrder, ObserverPart};
use crate::state::positions::line_max;
use crate::sys::clock;
use nix::errno::Errno;
use std::path::PathBuf;

/// Milliseconds, to forget: commands wait five seconds.
const FORGET: u64 = 4_000;

/// Milliseconds, for what may be late, however long others of the kind were waited for: who is well is not
/// late.
pub(super) const LATE_LEAST: u64 = 50;

/// What it was told to do, and has not done yet.
pub(in crate::daemon) struct PendingOrder {
    pub(in crate::daemon) order: ObserverOrder,
    /// When it was told.
    pub(in crate::daemon) at: Now,
    /// Bytes that the parts of its answer may have.
    pub(super) left: usize,
    /// Positions among them.
    pub(in crate::daemon) places: Vec<(PathBuf, Position)>,
    /// What it has counted of whom, each as it was said.
    pub(in crate::daemon) counted: Vec<Box<[u8]>>,
    /// It has said that it is done with what it could have refused.
    pub(in crate::daemon) is_taken: bool,
    /// It has not read everything yet that was there.
    pub(in crate::daemon) is_behind: bool,
}

/// What a part of an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::daemon) enum PartOf {
    /// What it was told last.
    Last,
    /// Something before that, which is late.
    Late,
}

impl ObserverLink {
    /// It was told to do something.
    pub(in crate::daemon) fn set_told(&mut self, at: Now, order: &ObserverOrder) {
        let left = self.limits.parts;
        if self.pending.is_empty() {
            // Until then it had nothing to say.
            self.heard.set(clock::mono());
        }
        // What it has handed over is what was so before.
        self.succession.handed = None;
        self.pending.push_back(PendingOrder {
            order: *order,
            at,
            left,
            places: Vec::new(),
            counted: Vec::new(),
            is_taken: false,
            is_behind: false,
        });
        if let ObserverOrder::Hits(HitReports::Wanted) = order {
            self.reports = HitReports::Wanted;
        }
    }

    /// Whether there is something that it has not done yet.
    pub(in crate::daemon) fn owes(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Until when it is waited for that.
    pub(in crate::daemon) fn answer_until(&mut self, now: Mono, order: &ObserverOrder) -> Mono {
        let AnswerLimits { needed, all_needed, least, other, all, .. } = self.limits;
        // Nothing else stands still for it.
        let least = if *order == ObserverOrder::Stop { needed } else { least };
        // What nobody has to wait for takes nothing from what somebody has.
        let (own, all, least) =
            if order.may_be_late() { (other, all, LATE_LEAST) } else { (needed, all_needed, least) };
        // One that still opens logs for another configuration than the next one would do so for long.
        let own = if self.reopens && *order == ObserverOrder::Pause { own.min(other) } else { own };
        // For that somebody waits who does not do so for long.
        let own = if matches!(order, ObserverOrder::Forget(_)) { own.min(FORGET) } else { own };
        let left = all.saturating_sub(self.waited.of(order).within(now));
        now.after(own.min(left.max(least)))
    }

    /// What it has come to that the order was not carried out.
    pub(in crate::daemon) fn end_by(&self, order: &ObserverOrder, e: Errno) -> ObserverEnd {
        match e {
            Errno::ETIMEDOUT if self.reopens && *order == ObserverOrder::Pause => ObserverEnd::NotBegun,
            e => e.into(),
        }
    }

    /// So many milliseconds it was.
    pub(in crate::daemon) fn add_wait(&mut self, now: Mono, order: &ObserverOrder, millis: u64) {
        let waited = self.waited.of(order);
        waited.millis = waited.within(now).saturating_add(millis);
    }

    /// Takes in a part of an answer, of so many bytes.
    ///
    /// # Errors
    /// It was told nothing, or the answer is too long.
    pub(in crate::daemon) fn add_part(
        &mut self,
        part: &ObserverPart<'_>,
        length: usize,
    ) -> Result<PartOf, Errno> {
        let of = if self.pending.len() > 1 { PartOf::Late } else { PartOf::Last };
        let pending = self.pending.front_mut().ok_or(Errno::EBADMSG)?;
        let bytes = if let ObserverPart::Place(path, _) = part { line_max(path) } else { length };
        pending.left = pending.left.checked_sub(bytes).ok_or(Errno::EBADMSG)?;
        if let ObserverPart::Place(path, position) = part {
            // Names of moments are ours.
            if MOMENTS.iter().any(|name| name.as_bytes() == *path) {
                return Err(Errno::EBADMSG);
            }
            pending.places.push((to_path(path), *position));
        }
        match part {
            ObserverPart::Counted(_) if pending.order == ObserverOrder::HandOver => {
                pending.counted.push(Observed::Part(*part).write().into_boxed_slice());
            }
            ObserverPart::Counted(_) => return Err(Errno::EBADMSG),
            ObserverPart::Taken => pending.is_taken = true,
            ObserverPart::Behind => pending.is_behind = true,
            _ => {}
        }
        Ok(of)
    }

    /// It has done the first thing of those that it has not done.
    ///
    /// # Errors
    /// There is none.
    pub(in crate::daemon) fn take_pending(&mut self) -> Result<PendingOrder, Errno> {
        let pending = self.pending.pop_front().ok_or(Errno::EBADMSG)?;
        self.process.set_answered(clock::mono());
        Ok(pending)
    }
}
