#![forbid(unsafe_code)]
//! The lock of state_dir: the kernel's sets and the ban journal change under it, in one order for all
//! processes.
//!
//! It is a file that is never renamed, each byte of which is a lock of its own. A process that dies gives its
//! locks back. Who stands still with one is not waited for longer than the caller's patience. The daemon has
//! no time to queue with many commands: they let it go first.

use super::StateError;
use crate::sys::dir::{Access, ByteLock, Dir};
use crate::sys::relay;
use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::time::Duration;

const NAME: &str = "lock";
/// The time between two tries of somebody who must not wait.
const RETRY_PAUSE: Duration = Duration::from_micros(500);

/// What is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockPart {
    /// Bans: the kernel's sets and the journal.
    Bans = 0,
    /// The compaction of the journal.
    Compaction = 1,
    /// The daemon: one for each state_dir.
    Daemon = 2,
    /// Held by the daemon while it waits for `Bans`.
    First = 3,
    /// The rules of a backend of which programs make them.
    Rules = 4,
}

/// The lock file of a directory.
pub struct StateLock {
    dir: Dir,
    path: PathBuf,
    file: Rc<File>,
    /// The lock on the bans while this process has it: whoever asks again shares it.
    bans: RefCell<Weak<ByteLock>>,
    /// Others wait while this process does.
    first: bool,
}

/// A lock, given back when the last copy is dropped.
pub struct HeldLock(#[expect(dead_code, reason = "held for its end")] Rc<ByteLock>);

impl StateLock {
    /// Opens the lock file in a directory (both are made if missing).
    ///
    /// # Errors
    /// What the system says.
    pub fn open(dir: &Path) -> io::Result<StateLock> {
        let path = dir.join(NAME);
        let dir = Dir::create(dir)?;
        let file = Rc::new(dir.file(NAME, Access::Write)?);
        Ok(StateLock { dir, path, file, bans: RefCell::default(), first: false })
    }

    /// Goes first from now on, whoever else waits.
    pub fn go_first(&mut self) {
        self.first = true;
    }

    /// Takes a lock; waits for another process at most so long.
    ///
    /// # Errors
    /// `Busy`, or what the system says.
    pub fn hold(&mut self, part: LockPart, patience: Duration) -> Result<HeldLock, StateError> {
        if part == LockPart::Bans
            && let Some(held) = self.bans.borrow().upgrade()
        {
            return Ok(HeldLock(held));
        }
        // Who has the lock may wait for this process.
        relay::turn();
        let mut waited = Duration::ZERO;
        let mut ahead = None;
        loop {
            match self.take(part) {
                Ok(lock) if self.is_current()? => {
                    let lock = Rc::new(lock);
                    if part == LockPart::Bans {
                        self.bans.replace(Rc::downgrade(&lock));
                    }
                    return Ok(HeldLock(lock));
                }
                // The directory was removed, and perhaps made anew: others lock another file.
                Ok(lock) => {
                    drop(lock);
                    self.reopen()?;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(self.system(e)),
                Err(_) if waited >= patience => return Err(StateError::Busy(self.path.clone())),
                Err(_) => {
                    if self.first && part == LockPart::Bans && ahead.is_none() {
                        ahead = ByteLock::take(&self.file, LockPart::First as i64).ok();
                    }
                    let pause = if self.first { RETRY_PAUSE } else { pause(waited) };
                    relay::pause(pause);
                    waited += pause;
                }
            }
        }
    }

    fn take(&self, part: LockPart) -> io::Result<ByteLock> {
        if part == LockPart::Bans && !self.first && ByteLock::is_taken(&self.file, LockPart::First as i64) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        ByteLock::take(&self.file, part as i64)
    }

    fn is_current(&self) -> Result<bool, StateError> {
        self.dir.holds(NAME, &self.file).map_err(|e| self.system(e))
    }

    fn reopen(&mut self) -> Result<(), StateError> {
        let open = |dir: &Dir| dir.file(NAME, Access::Write).map(Rc::new);
        let file = match open(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let parent = self.path.parent().unwrap_or(Path::new("/"));
                self.dir = Dir::create(parent).map_err(|e| self.system(e))?;
                open(&self.dir)
            }
            file => file,
        };
        self.file = file.map_err(|e| self.system(e))?;
        Ok(())
    }

    fn system(&self, error: io::Error) -> StateError {
        StateError::System { call: "lock", path: self.path.clone(), error }
    }
}

/// How long to wait before asking again, after so long in vain: of many who wait, those ask most often who
/// have waited longest, so that nobody waits for ever.
fn pause(waited: Duration) -> Duration {
    const SOON: Duration = Duration::from_millis(4);
    const LONG: Duration = Duration::from_secs(4);
    match waited {
        _ if waited < SOON => RETRY_PAUSE,
        _ => (LONG.saturating_sub(waited) / 256).max(RETRY_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::dir::testing::ScratchDir;

    #[test]
    fn each_part_has_one_holder_who_may_ask_again() {
        let scratch = ScratchDir::new();
        let open = || StateLock::open(scratch.path()).unwrap();
        let (mut one, mut other) = (open(), open());
        let busy =
            |lock: &mut StateLock, part| matches!(lock.hold(part, Duration::ZERO), Err(StateError::Busy(_)));
        let first = one.hold(LockPart::Bans, Duration::ZERO).unwrap();
        let again = one.hold(LockPart::Bans, Duration::ZERO).unwrap();
        assert!(busy(&mut other, LockPart::Bans));
        drop(first);
        assert!(busy(&mut other, LockPart::Bans), "the inner one gave back the outer one's lock");
        let _daemon = other.hold(LockPart::Daemon, Duration::ZERO).unwrap();
        assert!(busy(&mut one, LockPart::Daemon));
        drop(again);
        assert!(!busy(&mut other, LockPart::Bans));
        // Who goes first is let through by all others while it waits, and by nobody else's fault longer.
        let ahead = ByteLock::take(&other.file, LockPart::First as i64).unwrap();
        assert!(busy(&mut one, LockPart::Bans));
        other.go_first();
        drop(other.hold(LockPart::Bans, Duration::ZERO).unwrap());
        drop(ahead);
        let held = one.hold(LockPart::Bans, Duration::ZERO).unwrap();
        assert!(busy(&mut other, LockPart::Bans));
        assert!(!ByteLock::is_taken(&one.file, LockPart::First as i64));
        drop(held);
        std::fs::remove_dir_all(scratch.path()).unwrap();
        let _held = one.hold(LockPart::Bans, Duration::ZERO).unwrap();
        assert!(busy(&mut other, LockPart::Bans), "a directory that was removed has one lock again");
    }
}
