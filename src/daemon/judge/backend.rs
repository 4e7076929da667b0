#![forbid(unsafe_code)]
//! What of the kernel bans are kept in may change: they move from one backend to the other.

use super::Judge;
use crate::ban::{Allowed, Failure, Options};
use crate::base::clock::Mono;
use crate::config::Settings;
use crate::firewall::{Moved, open, remove_former, take_over};
use std::path::Path;

impl Judge {
    /// Opens the backend of these options, has everything in force there, and gives the former one up. With
    /// an error the former one stays.
    pub(super) fn change_backend(
        &mut self,
        options: Options,
        settings: &Settings,
        allowed: &Allowed,
    ) -> Result<(), Failure> {
        let mut guard = open(options, allowed.clone().into())?;
        guard.watch();
        guard.own_through(Path::new(&settings.run_dir));
        let state = guard.rebuild()?;
        guard.lacking(state).iter().for_each(|what| log::warn!("this kernel {what}"));
        self.enforcer.set_guard(guard);
        crate::firewall::choose(settings.firewall_backend.into());
        Ok(())
    }

    /// Has what another backend has in force move to this one. What cannot be now is tried again later.
    pub(in crate::daemon) fn take_over(&mut self, now: Mono) {
        if matches!(self.former, Former::Moved(_)) {
            return self.remove_former(now);
        }
        self.former = match take_over(self.enforcer.guard()) {
            Ok(None) => Former::Gone,
            Ok(Some(Moved { bans, left: None })) => {
                log::info!("another backend had bans in force: {bans} moved, and nothing is left there");
                Former::Gone
            }
            Ok(Some(Moved { left: Some(e), .. })) => {
                log::error!("bans of another backend stay in force there: {e}");
                Former::Moved(now)
            }
            Err(e) => {
                log::error!("bans of another backend stay in force there: {e}");
                Former::InForce(now)
            }
        };
    }

    /// Tries again to take out what another backend has in force, if so many seconds have passed.
    pub(in crate::daemon) fn retry_take_over(&mut self, now: Mono, interval: u32) {
        let is_due = |tried: Mono| now.since(tried) >= u64::from(interval) * 1000;
        match self.former {
            Former::InForce(tried) if is_due(tried) => self.take_over(now),
            Former::Moved(tried) if is_due(tried) => self.remove_former(now),
            _ => {}
        }
    }

    /// Takes out what has moved: of that, what was unbanned since then must not move again.
    fn remove_former(&mut self, now: Mono) {
        self.former = match remove_former(self.enforcer.guard().options()) {
            Ok(()) => {
                log::info!("nothing of another backend is in force any more");
                Former::Gone
            }
            Err(_) => Former::Moved(now),
        };
    }
}

/// What another backend has in force, as far as that is known, and when it was tried last to take it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Former {
    /// Nothing.
    #[default]
    Gone,
    /// All that it had: nothing could move.
    InForce(Mono),
    /// Likewise; but it is in force here, too.
    Moved(Mono),
}
