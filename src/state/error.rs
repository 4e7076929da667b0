#![forbid(unsafe_code)]
//! What can go wrong with state on disk, in words. None of it stops bans: they are in the kernel.

use crate::base::count::count;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// A problem with the state directory or a file in it.
#[derive(Debug)]
pub enum StateError {
    /// The system refused: what was tried, on what, and its answer.
    System {
        /// What was tried, as a verb: `open`, `write`.
        call: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer.
        error: io::Error,
    },
    /// Another process has had the file locked for too long. What was to be written is kept for the next try.
    Busy(PathBuf),
    /// The journal has reached the largest size that is allowed.
    Full(PathBuf),
    /// The file was no state of this version; it was renamed and a new one begun.
    SetAside {
        /// The file.
        path: PathBuf,
        /// Its new name.
        to: PathBuf,
    },
    /// Lines of the file are damaged and were left out.
    Damaged {
        /// The file.
        path: PathBuf,
        /// How much.
        amount: u64,
    },
}

impl StateError {
    /// Whether every attempt to write will say it again.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, StateError::System { call: "write", .. })
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateError::System { call, path, error } => {
                write!(f, "cannot {call} {}: {error}", path.to_string_lossy())?;
                let hint = hint(error);
                if hint.is_empty() { Ok(()) } else { write!(f, " ({hint})") }
            }
            StateError::Busy(path) => {
                write!(f, "{} is locked by another process; trying again later", path.to_string_lossy())
            }
            StateError::Full(path) => {
                write!(
                    f,
                    "{} has reached its largest size; further bans are not remembered",
                    path.to_string_lossy()
                )
            }
            StateError::SetAside { path, to } => {
                let (path, to) = (path.to_string_lossy(), to.to_string_lossy());
                write!(f, "{path} is not a file of this version of mef; kept as {to}, starting over")
            }
            StateError::Damaged { path, amount } => {
                write!(f, "{}: {} skipped", path.to_string_lossy(), count(*amount, "damaged line"))
            }
        }
    }
}

/// What to do about it, if anything is known.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room; bans stay in force, but what is not on disk is forgotten at a reboot"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "set state_dir to a writable directory; until then bans are forgotten at a reboot"
        }
        io::ErrorKind::PermissionDenied => "run as root, or set state_dir to a directory that is writable",
        io::ErrorKind::NotADirectory => "state_dir must be a directory",
        io::ErrorKind::InvalidInput => "remove it",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_on_what_and_what_to_do() {
        let system = |errno| {
            let error = io::Error::from_raw_os_error(errno);
            StateError::System { call: "write", path: "/s/bans".into(), error }.to_string()
        };
        let rows = [
            (libc::ENOSPC, "cannot write /s/bans: No space left on device (os error 28) (make room;"),
            (libc::EROFS, "cannot write /s/bans: Read-only file system (os error 30) (set state_dir"),
            (libc::EDQUOT, "(make room"),
            (libc::EIO, "cannot write /s/bans: "),
        ];
        for (errno, want) in rows {
            assert!(system(errno).contains(want), "{}", system(errno));
        }
        let error = io::Error::new(io::ErrorKind::InvalidInput, "it is a link");
        let error = StateError::System { call: "open", path: "/s/bans".into(), error }.to_string();
        assert_eq!(error, "cannot open /s/bans: it is a link (remove it)");
    }
}
