#![forbid(unsafe_code)]
//! Whose turn it is to read or change the lists of one kind: what is kept must not be written from a reading
//! that is older than a change. Knows no list.

use super::Paths;
use super::kept::lock_file;
use crate::config::ListKind;
use crate::sys::dir::Lock;
use crate::sys::{clock, relay};
use std::fs::File;
use std::time::Duration;

/// How often a lock is tried that somebody else has.
const STEP: Duration = Duration::from_millis(10);

/// Held until it is dropped.
pub struct ListTurn {
    _lock: Option<File>,
    own: bool,
}

impl ListTurn {
    /// For who reads and changes nothing.
    pub const NOBODYS: ListTurn = ListTurn { _lock: None, own: false };

    /// Waits for all others.
    #[must_use]
    pub fn wait(paths: &Paths, kind: ListKind) -> ListTurn {
        ListTurn::get(paths, kind, None)
    }

    /// Waits for others so long at most: one that was stopped must not stop us.
    #[must_use]
    pub fn within(paths: &Paths, kind: ListKind, patience: Duration) -> ListTurn {
        ListTurn::get(paths, kind, Some(patience))
    }

    fn get(paths: &Paths, kind: ListKind, patience: Option<Duration>) -> ListTurn {
        let name = if kind == ListKind::Allow { "allow.lock" } else { "deny.lock" };
        // Where no lock can be made, going on without is better than not at all.
        let Some(file) = lock_file(&paths.run, name) else { return ListTurn { _lock: None, own: true } };
        let Some(patience) = patience else {
            let own = Lock::wait(&file).map(Lock::keep).is_ok();
            return ListTurn { _lock: Some(file), own };
        };
        let end = clock::mono().after(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
        loop {
            if Lock::take(&file).map(Lock::keep).is_ok() {
                return ListTurn { _lock: Some(file), own: true };
            }
            if clock::mono() >= end {
                return ListTurn { _lock: None, own: false };
            }
            // Who has it may wait for this process.
            relay::pause(STEP);
        }
    }

    /// Whether nobody else has it: else nothing may be written.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.own
    }
}
