#![forbid(unsafe_code)]
//! Rules on trial: they are in force for a time, and unless somebody confirms them the previous ones return.
//! That they do is the kernel's matter (`firewall::trial`), and hangs on no process. A watcher, a process of
//! its own, makes it sooner: when whoever asked for the trial turns the rules down, is killed, or loses the
//! terminal.

mod caller;
mod saved;
mod watcher;

use crate::firewall::loader as kernel;
use crate::sys::clock;
use crate::sys::dir::{Access, Dir, Lock};
use crate::sys::poll::{self};
use crate::sys::process::{self, Side};
use crate::sys::terminal::AnswersFrom;
use caller::{HINT, TrialCaller};
pub use saved::Saved;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use watcher::TrialWatcher;

/// The lock of whoever changes the rules; it holds a word while rules are pending confirmation.
const LOCK: &str = "load.lock";
/// Where `mef confirm` finds the watcher.
const SOCKET: &str = "load.sock";
/// Says whether there is to be a rule set.
const WANTED: &str = "rules.wanted";
/// How long a load waits for another one that is going on, and how often it looks, ms.
const LOCK_WAIT: u64 = 10_000;
const LOCK_STEP: u64 = 10;
/// How long `mef confirm` waits for the watcher's answer, s; then it does without.
const ANSWER: Duration = Duration::from_secs(5);

// What the loader tells its watcher; that it is gone is told by silence.
const KEEP: u8 = b'k';
const TURN_DOWN: u8 = b'n';
// What the watcher tells. Behind REFUSED and UNSURE follows why.
const LOADED: u8 = b'l';
const REFUSED: u8 = b'r';
const UNSURE: u8 = b'u';
const KEPT: u8 = b'k';
const BACK: u8 = b'b';
const TRYING: u8 = b't';
const STUCK: u8 = b's';
const NOT_KEPT: u8 = b'f';

const PENDING_CONFIRMATION: &str =
    "rules are pending confirmation: `mef confirm` keeps them, or wait until it runs out";

/// How a trial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrialEnd {
    /// The new rules stay.
    Kept,
    /// The previous rules are in force again.
    Back,
    /// Somebody has deleted the previous rules, and the kernel refuses to have them loaded again.
    Stuck,
}

/// What is done with the rules of a trial.
pub trait Rules {
    /// Puts the new rules in force for the time of the trial.
    ///
    /// # Errors
    /// Why not, and whether they may be in force nevertheless.
    fn begin(&mut self) -> Result<(), (String, bool)>;

    /// Makes them the only ones. `Ok(false)` if the trial is over.
    ///
    /// # Errors
    /// Why not; then they are pending confirmation as before.
    fn confirm(&mut self) -> Result<bool, String>;

    /// Loads the previous rules, since the kernel has them no more.
    ///
    /// # Errors
    /// Why not.
    fn reload(&mut self) -> Result<(), String>;
}

/// A trial that is to begin.
pub struct Trial<'a> {
    /// How long it is, s.
    pub seconds: u32,
    /// The rule set as a text.
    pub text: &'a str,
    /// The files that outlive it.
    pub saved: &'a Saved,
    /// Whether there were rules before.
    pub had_rules: bool,
    /// Where a yes may come from.
    pub answers: AnswersFrom,
}

/// Whether there is to be a rule set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// There is.
    Rules,
    /// There is none.
    None,
}

/// Notes whether there is to be a rule set: after it was loaded, and before it is taken out. A `run_dir` that
/// cannot be written is borne.
pub fn note(run_dir: &Path, noted: Noted) {
    let file = Dir::create(run_dir).and_then(|dir| dir.file(WANTED, Access::Write));
    let word: &[u8] = match noted {
        Noted::Rules => b"yes\n",
        Noted::None => b"no\n",
    };
    let _ = file.and_then(|mut file| file.set_len(0).and_then(|()| file.write_all(word)));
}

/// What was noted last, if anything was.
#[must_use]
pub fn noted(run_dir: &Path) -> Option<Noted> {
    let mut file = Dir::open(run_dir).and_then(|dir| dir.file(WANTED, Access::Read)).ok()?;
    match heard(&mut file)? {
        b'y' => Some(Noted::Rules),
        b'n' => Some(Noted::None),
        _ => None,
    }
}

/// Ends a trial whose time is over, and whose watcher did not live to see it.
pub fn tidy(run_dir: &Path) {
    if let Err(e) = kernel::tidy(&mut || note(run_dir, Noted::None)) {
        log::debug!("what is left of a trial: {e}");
    }
}

/// Whether somebody is changing the rules now, or has some on trial.
#[must_use]
pub fn is_loading(run_dir: &Path) -> bool {
    let file = Dir::open(run_dir).and_then(|dir| dir.file(LOCK, Access::Read));
    file.is_ok_and(|file| Lock::take(&file).is_err())
}

/// Whether the kernel has rules on trial.
fn goes_on() -> bool {
    kernel::pending().is_ok_and(|found| found.is_some_and(|trial| trial.left_ms > 0))
}

/// The right to change the rules. Ends with the process, or with the trial.
pub struct TrialTurn {
    dir: PathBuf,
    /// None where there is no place for a lock.
    file: Option<File>,
}

impl TrialTurn {
    /// Waits for other loads to end. A `run_dir` that cannot be written is borne: then only the lock is
    /// missing.
    ///
    /// # Errors
    /// Rules are pending confirmation, or a load does not end.
    pub fn take(run_dir: &Path) -> Result<TrialTurn, String> {
        let dir = run_dir.to_owned();
        let Ok(file) = Dir::create(run_dir).and_then(|dir| dir.file(LOCK, Access::Write)) else {
            return TrialTurn { dir, file: None }.unless_pending();
        };
        let end = clock::mono().after(LOCK_WAIT);
        loop {
            // The lock belongs to the open file, which this object keeps.
            if Lock::take(&file).map(Lock::keep).is_ok() {
                let _ = file.set_len(0);
                return TrialTurn { dir, file: Some(file) }.unless_pending();
            }
            // The watcher of one that has just ended is about to let go.
            let marked = file.read_at(&mut [0], 0).is_ok_and(|n| n > 0);
            if marked && goes_on() {
                return Err(PENDING_CONFIRMATION.into());
            }
            if clock::mono() > end {
                return Err(
                    ["another load is in progress (", LOCK, " in ", &run_dir.to_string_lossy(), ")"].concat()
                );
            }
            let step = clock::mono().after(LOCK_STEP);
            let _ = poll::wait(&[], &mut [], Some(step));
        }
    }

    /// Takes it if nobody has it. A `run_dir` that cannot be written is borne.
    #[must_use]
    pub fn take_free(run_dir: &Path) -> Option<TrialTurn> {
        let dir = run_dir.to_owned();
        let Ok(file) = Dir::create(run_dir).and_then(|dir| dir.file(LOCK, Access::Write)) else {
            return Some(TrialTurn { dir, file: None });
        };
        let is_taken = Lock::take(&file).map(Lock::keep).is_ok();
        is_taken.then_some(TrialTurn { dir, file: Some(file) })
    }

    /// The lock goes with the watcher and with `run_dir`; the kernel still knows of the trial.
    fn unless_pending(self) -> Result<TrialTurn, String> {
        if goes_on() { Err(PENDING_CONFIRMATION.into()) } else { Ok(self) }
    }

    /// Tells others why the lock is held.
    fn mark(&self) {
        if let Some(mut file) = self.file.as_ref() {
            let _ = file.write_all(b"trial\n");
        }
    }

    /// Gives the lock back, also that of a process that shares it.
    fn end(&self) {
        if let Some(file) = &self.file {
            let _ = file.set_len(0);
            // We have it: taking it once more is no more than that.
            drop(Lock::take(file));
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.join(SOCKET)
    }

    /// Puts unconfirmed rules in force; `tell` says things to whoever waits.
    ///
    /// # Errors
    /// Why the rules are the previous ones.
    pub fn trial(
        self,
        trial: &Trial<'_>,
        rules: &mut dyn Rules,
        tell: &mut dyn FnMut(&str),
    ) -> Result<TrialEnd, String> {
        let failed = |e: std::io::Error| ["no trial without a watcher: ", &e.to_string()].concat();
        if self.file.is_none() {
            return Err(["no trial without ", &self.dir.to_string_lossy(), ": it cannot be written"].concat());
        }
        // We have the lock: a socket that is there is nobody's.
        let _ = std::fs::remove_file(self.socket());
        let listener = UnixListener::bind(self.socket()).map_err(failed)?;
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        self.mark();
        match process::split().map_err(failed)? {
            Side::Child => {
                drop(ours);
                TrialWatcher { turn: self, listener, loader: theirs, trial, rules }.run()
            }
            Side::Parent => drop((theirs, listener)),
        }
        let loader = TrialCaller { watcher: ours, answers: trial.answers, terminal: None, hint: Some(HINT) };
        if let Some(end) = loader.wait(trial.seconds, tell)? {
            return Ok(end);
        }
        // Somebody killed the watcher: what it would have done is ours to do.
        let end = trial.back(&self.dir, rules);
        let _ = std::fs::remove_file(self.socket());
        self.end();
        end
    }
}

impl Trial<'_> {
    /// Has the previous rules in force at once.
    fn back(&self, run_dir: &Path, rules: &mut dyn Rules) -> Result<TrialEnd, String> {
        match kernel::withdraw(&mut || note(run_dir, Noted::None)) {
            Ok(true) => Ok(TrialEnd::Back),
            Ok(false) if self.is_kept() => Ok(TrialEnd::Kept),
            Ok(false) if !self.had_rules => Ok(TrialEnd::Back),
            // Somebody deleted the table with all that was in it.
            Ok(false) => match rules.reload() {
                Ok(()) => Ok(TrialEnd::Back),
                Err(why) => Err(["the kernel refuses the previous rules: ", &why].concat()),
            },
            Err(why) => Err([
                "not confirmed: the previous rules return when the time is over, since now ",
                &why.to_string(),
            ]
            .concat()),
        }
    }

    /// Whether another process has confirmed the rules.
    fn is_kept(&self) -> bool {
        self.saved.pending().is_none() && self.saved.is_confirmed(self.text)
    }
}

/// Keeps the rules that are pending confirmation. The watcher is asked first, since it tells who waits for
/// the end;
/// `rules` are those of the trial for the case that there is none, and `text` what is kept of them.
///
/// # Errors
/// There are none, or their time was up.
pub fn confirm(
    run_dir: &Path,
    saved: &Saved,
    rules: &mut dyn FnMut() -> Result<Option<(bool, String)>, String>,
) -> Result<(), String> {
    const LATE: &str = "too late: the previous rules are back";
    let path = run_dir.join(SOCKET);
    let mut answer = watcher_says(&path)?;
    if answer == Some(BACK) {
        return Err(LATE.into());
    }
    if answer != Some(KEPT) {
        match kernel::pending().map_err(|e| e.to_string())? {
            None => return Err("no rules are pending confirmation".into()),
            Some(pending) if pending.left_ms == 0 => {
                tidy(run_dir);
                return Err(LATE.into());
            }
            // It is there before its rules are: the trial may have begun since it was asked.
            Some(_) if answer.is_none() => answer = watcher_says(&path)?,
            Some(_) => {}
        }
    }
    match answer {
        Some(KEPT) => return Ok(()),
        Some(BACK) => return Err(LATE.into()),
        _ => {}
    }
    match rules()? {
        None => Err("the unconfirmed rules are no longer in any file: load them again".into()),
        Some((false, _)) => Err(LATE.into()),
        Some((true, text)) => saved.keep(&text).map_err(|e| not_saved(&e)),
    }
}

/// What the watcher answers to who confirms; nothing if there is none.
fn watcher_says(path: &Path) -> Result<Option<u8>, String> {
    match UnixStream::connect(path) {
        Ok(mut watcher) => {
            let _ = watcher.set_read_timeout(Some(ANSWER));
            Ok(heard(&mut watcher))
        }
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        Err(e) => Err([&path.to_string_lossy(), ": ", e.to_string().as_str()].concat()),
    }
}

/// The rules are confirmed, but not for the next boot.
fn not_saved(e: &std::io::Error) -> String {
    ["rules confirmed, but a reboot brings the previous ones back: they cannot be saved: ", &e.to_string()]
        .concat()
}

/// The next byte from the other side, or of a file; none if that has no more.
fn heard(from: &mut impl Read) -> Option<u8> {
    let mut byte = [0];
    from.read_exact(&mut byte).ok().map(|()| byte[0])
}
