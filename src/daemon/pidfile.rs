#![forbid(unsafe_code)]
//! The pid file, locked: two daemons would ban twice and lose each other's positions.

use crate::state::StateError;
use crate::state::lock::{HeldLock, LockPart, StateLock};
use crate::sys::dir::{Access, Dir, Lock};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

const NAME: &str = "mef.pid";
/// How often the lock is tried, and the time between: a second in all.
const LOCK_TRIES_MAX: u32 = 50;
const BETWEEN: Duration = Duration::from_millis(20);

/// Held for the daemon's life; the locks end with the process, whatever ends it.
pub(super) struct PidFile {
    file: Option<File>,
    _state: Option<HeldLock>,
}

impl PidFile {
    /// Takes the locks of both directories: two daemons must share neither. One that cannot be written is
    /// borne: then only its lock is missing.
    pub(super) fn take(run_dir: &Path, state_dir: &Path) -> Result<PidFile, String> {
        let file = match Dir::create(run_dir).and_then(|dir| dir.file(NAME, Access::Write)) {
            Ok(file) => Some(file),
            Err(e) => {
                log::warn!("{}/{NAME}: {e}; continuing without it", run_dir.to_string_lossy());
                None
            }
        };
        if file.as_ref().is_some_and(|file| !lock(file)) {
            return Err(format!(
                "{}/{NAME} is locked: a daemon is running already",
                run_dir.to_string_lossy()
            ));
        }
        // A state_dir that cannot be written is reported with the journal.
        let state = StateLock::open(state_dir)
            .ok()
            .map(|mut lock| lock.hold(LockPart::Daemon, BETWEEN * LOCK_TRIES_MAX));
        match state.transpose() {
            Err(StateError::Busy(path)) => {
                let path = path.to_string_lossy();
                Err(format!("{path} is locked: a daemon that uses this state_dir is running already"))
            }
            state => Ok(PidFile { file, _state: state.ok().flatten() }),
        }
    }

    /// Writes the process's number, after it has gone into the background.
    pub(super) fn write(&self) {
        if let Some(mut file) = self.file.as_ref() {
            let pid = format!("{}\n", std::process::id());
            let _ = file.set_len(0).and_then(|()| file.write_all(pid.as_bytes()));
        }
    }
}

/// Locks the file for as long as it is open. What a daemon had started a moment before it was killed ends a
/// moment after it, and until then has the lock, too: that is no daemon that runs.
fn lock(file: &File) -> bool {
    (0..LOCK_TRIES_MAX).any(|n| {
        if n > 0 {
            std::thread::sleep(BETWEEN);
        }
        Lock::take(file).map(Lock::keep).is_ok()
    })
}
