#![forbid(unsafe_code)]
//! What was done goes to the disk in a second process, never more than one: a disk may take seconds for that,
//! and bans do not wait for it.

use crate::base::bytes::of_path;
use crate::base::position::Position;
use crate::state::disk::{self, Failed};
use crate::sys::child::{Child, ChildExit};
use crate::sys::fork;
use crate::sys::relay;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often it is looked at before the daemon ends, and the time between.
const WAITS: u32 = 1000;
const WAIT: Duration = Duration::from_millis(5);

/// What is to be written beside the journal.
#[derive(Default)]
pub(super) struct SaveWork {
    /// How far files were read, by their paths, if that is known.
    pub(super) places: Option<Vec<(PathBuf, Position)>>,
    /// Which ports had a listener, if it is time for that.
    pub(super) ports: Option<String>,
}

/// The process, if it runs.
pub(super) struct Saver {
    dir: PathBuf,
    child: Option<Child>,
    /// More has happened since it began.
    again: bool,
}

impl Saver {
    pub(super) fn new(dir: &Path) -> Saver {
        Saver { dir: dir.to_owned(), child: None, again: false }
    }

    /// Begins, unless it is at it: then it begins anew when that has ended.
    ///
    /// # Errors
    /// There is no room for another process.
    pub(super) fn begin(&mut self, work: &mut dyn FnMut() -> SaveWork) -> io::Result<()> {
        self.again = self.child.is_some();
        if !self.again {
            let (dir, work) = (&self.dir, work());
            self.child = Some(fork::fork_worker(&mut || {
                work.ports.iter().for_each(|text| super::ports::write(dir, text));
                let all = work.places.as_ref();
                let all = all.map(|all| all.iter().map(|(path, position)| (of_path(path), *position)));
                disk::save(dir, all).map_or_else(|failed| failed.status(), |()| 0)
            })?);
        }
        Ok(())
    }

    /// Whether it is at it.
    pub(super) fn is_busy(&self) -> bool {
        self.child.is_some()
    }

    /// A child has ended: how ours did, if it was that one.
    pub(super) fn ended(&mut self) -> Option<Result<(), Failed>> {
        let end = self.child.as_ref()?.ended()?;
        self.child = None;
        Some(match end {
            ChildExit::Status(status) => {
                Failed::read(u8::try_from(status).unwrap_or(u8::MAX)).map_or(Ok(()), Err)
            }
            ChildExit::Signal(_) => Err(Failed::Journal(libc::EINTR)),
        })
    }

    /// Waits until it has ended, for some seconds at most.
    pub(super) fn wait(&mut self) {
        for _ in 0..WAITS {
            if self.child.is_none() || self.ended().is_some() {
                break;
            }
            relay::pause(WAIT);
        }
    }

    /// Whether it is to begin anew.
    pub(super) fn again(&self) -> bool {
        self.again && self.child.is_none()
    }

    /// What to tell of a failure.
    pub(super) fn error(&self, failed: &Failed) -> crate::state::StateError {
        failed.error(&self.dir)
    }
}
