#![forbid(unsafe_code)]
//! State on the disk itself, by who has nothing else to do: a disk may take seconds for that. Opens what it
//! needs, so that a process of its own can do it.

use super::StateError;
use super::positions::Positions;
use crate::base::position::Position;
use crate::sys::dir::{Access, Dir};
use std::io;
use std::path::Path;

/// The ban journal's file.
pub(super) const BANS: &str = "bans";

/// What failed, of what may be done apart.
pub enum Failed {
    /// The ban journal.
    Journal(i32),
    /// The positions.
    Positions(i32),
}

impl Failed {
    /// As a number that a process can end with; 0 is not among them.
    #[must_use]
    pub fn status(&self) -> u8 {
        let (errno, flag) = match self {
            Failed::Journal(errno) => (errno, 0),
            Failed::Positions(errno) => (errno, 0x80),
        };
        u8::try_from(*errno).unwrap_or(5).clamp(1, 0x7f) | flag
    }

    /// Reads it back; `None` if nothing failed.
    #[must_use]
    pub fn read(status: u8) -> Option<Failed> {
        let errno = i32::from(status & 0x7f);
        match status {
            0 => None,
            0x80.. => Some(Failed::Positions(errno)),
            _ => Some(Failed::Journal(errno)),
        }
    }

    /// In words.
    #[must_use]
    pub fn error(&self, dir: &Path) -> StateError {
        let (call, name, errno) = match self {
            Failed::Journal(errno) => ("sync", BANS, errno),
            Failed::Positions(errno) => ("write", "positions", errno),
        };
        StateError::System { call, path: dir.join(name), error: io::Error::from_raw_os_error(*errno) }
    }
}

/// Puts the ban journal on the disk, and then how far each file was read, if that is known: in this order, so
/// that no line counts as read whose ban is lost.
///
/// # Errors
/// What could not be done. Without a journal there is nothing to lose.
pub fn save<'a>(dir: &Path, all: Option<impl Iterator<Item = (&'a [u8], Position)>>) -> Result<(), Failed> {
    let errno = |e: &io::Error| e.raw_os_error().unwrap_or(5);
    match Dir::open(dir).and_then(|dir| dir.file(BANS, Access::Read)?.sync_data()) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Failed::Journal(errno(&e))),
        _ => {}
    }
    let Some(all) = all else { return Ok(()) };
    let stored = Positions::open(dir).and_then(|mut file| {
        // What is the same already need not be written; what cannot be read is replaced.
        let _ = file.load(&mut |_, _| ());
        file.store(all)
    });
    stored.map_err(|e| match e {
        StateError::System { error, .. } => Failed::Positions(errno(&error)),
        _ => Failed::Positions(5),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::dir::testing::ScratchDir;

    #[test]
    fn failures_survive_the_end_of_a_process() {
        assert!(Failed::read(0).is_none());
        let said = |failed: &Failed| failed.error(Path::new("/x")).to_string();
        for errno in [1, 5, 28, 30, 122] {
            for failed in [Failed::Journal(errno), Failed::Positions(errno)] {
                let back = Failed::read(failed.status()).unwrap();
                assert_eq!(said(&back), said(&failed));
            }
        }
        assert!(Failed::read(Failed::Journal(0).status()).is_some());
        assert!(said(&Failed::Positions(28)).contains("/x/positions"));
    }

    #[test]
    fn positions_are_written_with_and_without_a_journal() {
        let scratch = ScratchDir::new();
        let position = Position { dev: 1, ino: 2, offset: 3, tail: 4 };
        for journal in [false, true] {
            if journal {
                std::fs::write(scratch.path().join(BANS), "x").unwrap();
            }
            assert!(save(scratch.path(), Some([(&b"/a"[..], position)].into_iter())).is_ok());
            let mut got = Vec::new();
            Positions::open(scratch.path())
                .unwrap()
                .load(&mut |path, p| got.push((path.to_vec(), p)))
                .unwrap();
            assert_eq!(got, [(b"/a".to_vec(), position)]);
            // Where it is not known how far, what was written stays.
            let before = std::fs::read(scratch.path().join("positions")).unwrap();
            assert!(save(scratch.path(), None::<std::iter::Empty<(&[u8], Position)>>).is_ok());
            assert_eq!(std::fs::read(scratch.path().join("positions")).unwrap(), before);
        }
        std::fs::create_dir(scratch.path().join("positions.tmp")).unwrap();
        let other = Position { offset: 5, ..position };
        assert!(matches!(
            save(scratch.path(), Some([(&b"/a"[..], other)].into_iter())),
            Err(Failed::Positions(_))
        ));
    }
}
