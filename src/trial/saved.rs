#![forbid(unsafe_code)]
//! Rule sets as files: the one that was confirmed last, for the next boot, and the one that is pending
//! confirmation, for whoever confirms it when its watcher is gone. Each is one text, with its includes in
//! their places. They are root's, as who would load others could have the rules that he likes; state_dir
//! belongs to the daemon's user, so that what is not root's there is none of them.

use crate::sys::dir::{Access, Dir};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// The rule set that was confirmed last, in `state_dir`.
const CONFIRMED: &str = "confirmed.rules";
/// The rule set of a trial that nobody has confirmed, in `state_dir`, or in `run_dir` where that cannot be
/// written.
const PENDING: &str = "pending.rules";

/// The two directories.
pub struct Saved {
    state: PathBuf,
    run: PathBuf,
}

impl Saved {
    /// What stays root's when the directories do not.
    pub const FILES: [&str; 2] = [CONFIRMED, PENDING];

    /// The files below these directories.
    #[must_use]
    pub fn new(state: &Path, run: &Path) -> Saved {
        Saved { state: state.to_owned(), run: run.to_owned() }
    }

    /// Where the rule set stands that was confirmed last, if there is one.
    #[must_use]
    pub fn confirmed(&self) -> Option<PathBuf> {
        there(&self.state, CONFIRMED)
    }

    /// Whether no rule set was ever confirmed or tried here.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.confirmed().is_none() && self.pending().is_none()
    }

    /// Where the rule set stands that nobody has confirmed, if there is one.
    #[must_use]
    pub fn pending(&self) -> Option<PathBuf> {
        there(&self.state, PENDING).or_else(|| there(&self.run, PENDING))
    }

    /// Before a trial: keeps its rules, and `previous` for the next boot where none were kept. Whether a
    /// reboot will know of the trial.
    ///
    /// # Errors
    /// There is no place for it.
    pub fn begin(&self, text: &str, previous: Option<&str>) -> io::Result<bool> {
        if let Some(previous) = previous.filter(|_| self.confirmed().is_none()) {
            let _ = replace(&self.state, CONFIRMED, previous);
        }
        match replace(&self.state, PENDING, text) {
            Ok(()) => Ok(true),
            Err(_) => replace(&self.run, PENDING, text).map(|()| false),
        }
    }

    /// The trial did not begin, though `begin` said that it would.
    pub fn cancel(&self) {
        remove(&self.state, PENDING);
        remove(&self.run, PENDING);
    }

    /// The rules are confirmed: they are what the next boot loads in place of some that are pending.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep(&self, text: &str) -> io::Result<()> {
        let kept = if self.is_confirmed(text) { Ok(()) } else { replace(&self.state, CONFIRMED, text) };
        if kept.is_ok() {
            self.cancel();
        }
        kept
    }

    /// Whether this text was confirmed last. A disk that wears out is not written for nothing.
    #[must_use]
    pub fn is_confirmed(&self, text: &str) -> bool {
        let read = || -> io::Result<String> {
            let mut file: File = Dir::open(&self.state)?.file(CONFIRMED, Access::Read)?;
            let mut found = String::with_capacity(text.len() + 1);
            file.read_to_string(&mut found)?;
            Ok(found)
        };
        read().is_ok_and(|found| found == text)
    }
}

fn there(dir: &Path, name: &str) -> Option<PathBuf> {
    Dir::open(dir).ok().filter(|dir| dir.is_trusted(name)).map(|_| dir.join(name))
}

fn replace(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    Dir::create(dir)?.keep_files().replace(name, &[name, ".new"].concat(), text.as_bytes())
}

fn remove(dir: &Path, name: &str) {
    if let Ok(dir) = Dir::open(dir)
        && dir.remove(name).is_ok()
    {
        let _ = dir.sync();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::dir::testing::ScratchDir;

    #[test]
    fn what_is_confirmed_and_what_is_pending() {
        let dir = ScratchDir::new();
        let (state, run) = (dir.path().join("state"), dir.path().join("run"));
        let saved = Saved::new(&state, &run);
        assert!(saved.confirmed().is_none() && saved.pending().is_none());
        // What was in force before is kept where nothing was.
        assert!(saved.begin("new\n", Some("old\n")).unwrap());
        let read = |path: Option<PathBuf>| std::fs::read_to_string(path.unwrap()).unwrap();
        assert_eq!((read(saved.confirmed()), read(saved.pending())), ("old\n".into(), "new\n".into()));
        saved.keep("new\n").unwrap();
        assert!(saved.pending().is_none() && saved.is_confirmed("new\n") && !saved.is_confirmed("new"));
        // From then on what was confirmed stays what it is.
        assert!(saved.begin("newer\n", Some("other\n")).unwrap());
        assert_eq!(read(saved.confirmed()), "new\n");
        saved.cancel();
        assert!(saved.pending().is_none());
    }

    #[test]
    fn without_a_place_for_the_state_the_trial_is_kept_beside_it() {
        let dir = ScratchDir::new();
        let (state, run) = (dir.path().join("state"), dir.path().join("run"));
        std::fs::write(&state, "no directory").unwrap();
        let saved = Saved::new(&state, &run);
        assert!(!saved.begin("new\n", None).unwrap());
        assert_eq!(saved.pending(), Some(run.join(PENDING)));
        assert!(saved.keep("new\n").is_err() && saved.pending().is_some());
        std::fs::remove_dir_all(&run).unwrap();
        std::fs::write(&run, "no directory either").unwrap();
        assert!(saved.begin("new\n", None).is_err());
    }
}
