#![forbid(unsafe_code)]
//! What of the kernel bans are kept in may change: they move from one backend to the other.

use super::Judge;
use crate::ban::{Allowed, Failure, Options};
use crate::config::Settings;
use crate::firewall::{open, take_over};
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
        log_moved(take_over(&mut *guard));
        guard.lacking(state).iter().for_each(|what| log::warn!("this kernel {what}"));
        self.enforcer.set_guard(guard);
        Ok(())
    }
}

/// Tells what became of moving bans.
pub(in crate::daemon) fn log_moved(result: Result<Option<usize>, Failure>) {
    match result {
        Ok(None) => {}
        Ok(Some(n)) => log::info!("another backend had bans in force: {n} moved, and nothing is left there"),
        Err(e) => log::error!("bans of another backend stay in force there: {e}"),
    }
}
