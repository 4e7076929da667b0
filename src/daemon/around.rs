#![forbid(unsafe_code)]
//! What stands around this host and changes while the daemon runs: default routes, its own addresses, the
//! networks that are connected. Rules with `auto`, the guard table, deny lists and whoever is never banned
//! follow. Asks the kernel only when that says that something has changed.

use super::follow::Follow;
use super::judge::Judge;
use super::lists::ListFollower;
use crate::config::Settings;
use crate::enforce::Outside;
use crate::sys::routes::OwnRoutes;
use std::os::fd::BorrowedFd;

/// What is listened to, and what is known of it.
pub(super) struct Around {
    outside: Outside,
    routes: Option<OwnRoutes>,
    follow: Follow,
}

impl Around {
    /// Listens from now on.
    pub(super) fn open(settings: &Settings) -> Around {
        Around { routes: listen(), outside: Outside::of(settings), follow: Follow::start(settings) }
    }

    /// Takes other settings.
    pub(super) fn configure(&mut self, settings: &Settings) {
        (self.outside, self.routes) = (Outside::of(settings), listen());
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.routes.as_ref().map(OwnRoutes::fd)
    }

    /// Has everything follow.
    #[inline(never)]
    pub(super) fn check_routes(&mut self, judge: &mut Judge, lists: &mut ListFollower) {
        if self.routes.as_mut().is_some_and(OwnRoutes::hear) {
            judge.follow_routes(&self.outside);
            self.follow.check_uplinks();
        }
        if lists.look_around() {
            judge.protect();
        }
    }
}

fn listen() -> Option<OwnRoutes> {
    // A rule set with `auto` or a deny list may be loaded at any time.
    let routes = OwnRoutes::open();
    routes.inspect_err(|e| log::warn!("routes of this host: {e}")).ok()
}
