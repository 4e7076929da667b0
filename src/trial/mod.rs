#![forbid(unsafe_code)]
//! Rules on trial: they are in force, and unless somebody confirms them, a watcher puts the former ones back.
//! The watcher is a process of its own, which also puts the new rules in force, so that nothing that happens to who
//! asked for them (a terminal that hangs up, a connection that the rules cut, a kill) leaves the host locked.

mod watcher;

use crate::firewall::nft::TxnError;
use crate::firewall::rules;
use crate::firewall::snapshot::Snapshot;
use crate::sys::clock;
use crate::sys::dir::{Access, Dir, Lock};
use crate::sys::poll::{self, Ready};
use crate::sys::process::{self, Side};
use crate::sys::terminal::{Terminal, Typed};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use watcher::Watcher;

/// The lock of whoever changes the rules; it holds a word while rules are on trial.
const LOCK: &str = "load.lock";
/// Where `mef confirm` finds the watcher.
const SOCKET: &str = "load.sock";
/// Says whether there is to be a rule set.
const WANTED: &str = "rules.wanted";
/// How long a load waits for another one that is going on, and how often it looks, ms.
const LOCK_WAIT: u64 = 10_000;
const LOCK_STEP: u64 = 10;
/// How long `mef confirm` waits for its answer, s.
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

/// How a trial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The new rules stay.
    Kept,
    /// The former rules are in force again.
    Back,
    /// The kernel refuses the former rules; the new ones are in force.
    Stuck,
}

/// Puts the new rules in force. An error says why not, and whether they may be in force nevertheless.
pub type Load<'a> = &'a mut dyn FnMut() -> Result<(), (String, bool)>;

/// Notes whether there is to be a rule set: after it was loaded, and before it is taken out. A `run_dir` that cannot be
/// written is borne.
pub fn note(run_dir: &Path, wanted: bool) {
    let file = Dir::create(run_dir).and_then(|dir| dir.file(WANTED, Access::Write));
    let word: &[u8] = if wanted { b"yes\n" } else { b"no\n" };
    let _ = file.and_then(|mut file| file.set_len(0).and_then(|()| file.write_all(word)));
}

/// What was noted last, if anything was.
#[must_use]
pub fn noted(run_dir: &Path) -> Option<bool> {
    let mut file = Dir::open(run_dir).and_then(|dir| dir.file(WANTED, Access::Read)).ok()?;
    match heard(&mut file)? {
        b'y' => Some(true),
        b'n' => Some(false),
        _ => None,
    }
}

/// The right to change the rules. Ends with the process, or with the trial.
pub struct Turn {
    dir: PathBuf,
    /// None where there is no place for a lock.
    file: Option<File>,
}

impl Turn {
    /// Waits for other loads to end. A `run_dir` that cannot be written is borne: then only the lock is missing.
    ///
    /// # Errors
    /// Rules are on trial, or a load does not end.
    pub fn take(run_dir: &Path) -> Result<Turn, String> {
        let dir = run_dir.to_owned();
        let Ok(mut file) = Dir::create(run_dir).and_then(|dir| dir.file(LOCK, Access::Write)) else {
            return Ok(Turn { dir, file: None });
        };
        let end = clock::mono().after(LOCK_WAIT);
        loop {
            // The lock belongs to the open file, which this object keeps.
            if Lock::take(&file).map(std::mem::forget).is_ok() {
                let _ = file.set_len(0);
                return Ok(Turn { dir, file: Some(file) });
            }
            if file.read(&mut [0]).is_ok_and(|n| n > 0) {
                return Err(
                    "rules are on trial: `mef confirm` keeps them, or wait until their time is up".into()
                );
            }
            if clock::mono() > end {
                return Err(
                    ["another load is going on (", LOCK, " in ", &run_dir.to_string_lossy(), ")"].concat()
                );
            }
            let step = clock::mono().after(LOCK_STEP);
            let _ = poll::wait(&[], &mut [], Some(step));
        }
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

    /// Puts the former rules back, or that there were none.
    fn restore(&self, former: &mut Snapshot) -> Result<(), TxnError> {
        if former.is_nothing() {
            note(&self.dir, false);
        }
        former.restore()
    }

    fn socket(&self) -> PathBuf {
        self.dir.join(SOCKET)
    }

    /// Puts rules on trial for `seconds`, from when `load` has put them in force; `tell` says things to whoever waits.
    ///
    /// # Errors
    /// Why the rules are the former ones.
    pub fn trial(self, seconds: u32, load: Load<'_>, tell: &mut dyn FnMut(&str)) -> Result<End, String> {
        let failed = |e: std::io::Error| ["no trial without a watcher: ", &e.to_string()].concat();
        let mut former = Snapshot::take(rules::TABLE).map_err(|e| {
            [NOT_BACK, &e.to_string(), "; `mef load` without --confirm replaces them for good"].concat()
        })?;
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
                Watcher { turn: self, former, listener, loader: theirs }.run(seconds, load)
            }
            Side::Parent => drop((theirs, listener)),
        }
        let loader = Loader { watcher: ours, terminal: None };
        if let Some(end) = loader.wait(seconds, tell)? {
            return Ok(end);
        }
        // Somebody killed the watcher: what it would have done is ours to do.
        let result = self.restore(&mut former);
        let _ = std::fs::remove_file(self.socket());
        self.end();
        if let Err(refusal) = &result {
            tell(&refusal.to_string());
        }
        Ok(if result.is_ok() { End::Back } else { End::Stuck })
    }
}

const NOT_BACK: &str = "no trial, since the rules that are there could not be put back: ";

/// Keeps the rules that are on trial.
///
/// # Errors
/// There are none, or their time was up.
pub fn confirm(run_dir: &Path) -> Result<(), String> {
    let path = run_dir.join(SOCKET);
    let mut watcher = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return Err("no rules are on trial".into());
        }
        Err(e) => return Err([&path.to_string_lossy(), ": ", e.to_string().as_str()].concat()),
    };
    let _ = watcher.set_read_timeout(Some(ANSWER));
    match heard(&mut watcher) {
        Some(KEPT) => Ok(()),
        Some(BACK) => Err("too late: the former rules are back".into()),
        _ => Err("the watcher does not answer; `mef diff` tells which rules are in force".into()),
    }
}

/// The next byte from the other side, or of a file; none if that has no more.
fn heard(from: &mut impl Read) -> Option<u8> {
    let mut byte = [0];
    from.read_exact(&mut byte).ok().map(|()| byte[0])
}

/// The process that was asked for the trial, and waits for its end.
struct Loader {
    watcher: UnixStream,
    terminal: Option<Terminal>,
}

impl Loader {
    /// How the trial ended; `None` if the watcher is gone.
    fn wait(mut self, seconds: u32, tell: &mut dyn FnMut(&str)) -> Result<Option<End>, String> {
        loop {
            let mut ready = [Ready::No; 2];
            let fds: [Option<BorrowedFd<'_>>; 2] =
                [Some(self.watcher.as_fd()), self.terminal.as_ref().map(Terminal::as_fd)];
            if poll::wait(&fds, &mut ready, None).is_err() {
                return Ok(None);
            }
            if ready[0] == Ready::No {
                if ready[1] != Ready::No {
                    self.typed(tell);
                }
                continue;
            }
            let end = match heard(&mut self.watcher) {
                None => None,
                Some(LOADED) => {
                    self.ask(seconds, tell);
                    continue;
                }
                Some(TRYING) => {
                    tell(
                        "the kernel refuses the former rules; trying again, unless the new ones are confirmed",
                    );
                    continue;
                }
                Some(KEPT) => Some(End::Kept),
                Some(BACK) => Some(End::Back),
                Some(STUCK) => Some(End::Stuck),
                Some(_) => {
                    let mut why = String::new();
                    let _ = self.watcher.read_to_string(&mut why);
                    return Err(why);
                }
            };
            // What was typed for us is not for the shell.
            if let Some(terminal) = &self.terminal {
                terminal.forget();
            }
            return Ok(end);
        }
    }

    fn ask(&mut self, seconds: u32, tell: &mut dyn FnMut(&str)) {
        self.terminal = Terminal::open();
        tell(
            &["the new rules are in force, for ", &seconds.to_string(), " s unless they are confirmed"]
                .concat(),
        );
        tell(match self.terminal {
            Some(_) => "see whether a new connection works; then type yes to keep them, or no to go back now",
            None => ELSEWHERE,
        });
    }

    fn typed(&mut self, tell: &mut dyn FnMut(&str)) {
        let Some(terminal) = &mut self.terminal else { return };
        match terminal.read() {
            Typed::Nothing => {}
            Typed::Line(line) => match line.as_slice() {
                b"yes" => drop(self.watcher.write_all(&[KEEP])),
                b"no" => drop(self.watcher.write_all(&[TURN_DOWN])),
                b"" => {}
                _ => tell("type yes to keep the rules, no to go back now"),
            },
            Typed::Elsewhere { gone } => {
                self.terminal = None;
                if gone {
                    // The watcher sees the same as if we had gone with it.
                    let _ = self.watcher.shutdown(std::net::Shutdown::Write);
                } else {
                    tell(ELSEWHERE);
                }
            }
        }
    }
}

const ELSEWHERE: &str = "see whether a new connection works; then `mef confirm` keeps them";
