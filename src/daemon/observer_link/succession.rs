#![forbid(unsafe_code)]
//! An observer that has taken another configuration has memory of its own, which one that is forked now has
//! together with the enforcer: it hands over what it has counted, and ends.

use super::ObserverLink;
use crate::base::clock::Mono;

/// Milliseconds from a reload until that, and from one try to the next.
const REPLACE: u64 = 3_000;
const REPLACE_AGAIN: u64 = 600_000;
/// Logs that are worth opening anew for that.
const LOGS_MAX: usize = 500;

/// What is known of the one that comes next.
#[derive(Default)]
pub(super) struct Succession {
    /// When the one that runs is to hand over.
    due: Option<Mono>,
    /// What it has handed over: messages, as it said them.
    pub(super) handed: Option<Vec<Box<[u8]>>>,
    /// The one that runs no more has stopped where the next one goes on.
    pub(super) at_once: bool,
}

impl ObserverLink {
    /// It has taken another configuration. One that reads the output of programs stays: what they have said
    /// and nobody has read would be lost.
    pub(in crate::daemon) fn replace_soon(&mut self, now: Mono) {
        self.succession.due = self.wants.programs().is_empty().then(|| now.after(REPLACE));
    }

    /// It had too much for that.
    pub(in crate::daemon) fn replace_later(&mut self, now: Mono) {
        self.succession.due = Some(now.after(REPLACE_AGAIN));
    }

    /// When something of that is to be done.
    pub(super) fn succession_at(&self) -> Option<Mono> {
        if self.has_handed_over() { Some(Mono(0)) } else { self.succession.due }
    }

    /// Whether it is to hand over now.
    pub(in crate::daemon) fn hands_over_now(&mut self, now: Mono) -> bool {
        let is_due = self.succession.due.is_some_and(|due| due <= now) && self.is_idle();
        if is_due {
            self.succession.due = None;
        }
        is_due && self.places.len() <= LOGS_MAX
    }

    /// What it has counted, for the next one.
    pub(in crate::daemon) fn set_handed(&mut self, counted: Vec<Box<[u8]>>) {
        self.succession.handed = Some(counted);
    }

    /// Whether it waits for its end.
    pub(in crate::daemon) fn has_handed_over(&self) -> bool {
        self.is_idle() && self.succession.handed.is_some()
    }

    /// What another one has handed over.
    pub(in crate::daemon) fn take_handed(&mut self) -> Vec<Box<[u8]>> {
        std::mem::take(&mut self.succession.handed).unwrap_or_default()
    }

    fn is_idle(&self) -> bool {
        self.process.running().is_some() && !self.owes()
    }
}
