#![forbid(unsafe_code)]
//! Rules on trial: they are in force, and unless somebody confirms them, a watcher puts the former ones back.
//! The watcher is a process of its own that is ready before the rules change, so that nothing that happens to who
//! loads them (a terminal that hangs up, a connection that the rules cut, a kill) leaves the host locked.

use crate::firewall::rules;
use crate::firewall::snapshot::Snapshot;
use crate::sys::dir::{Access, Dir, Lock};
use crate::sys::poll::{self, Ready};
use crate::sys::process::{self, Side};
use crate::sys::signal::{Signals, Wish};
use crate::sys::{clock, stdio, syslog};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The lock of whoever changes the rules; it holds a word while rules are on trial.
const LOCK: &str = "load.lock";
/// Where `mef confirm` finds the watcher.
const SOCKET: &str = "load.sock";
/// How long a load waits for another one that is going on, and how often it looks, ms.
const LOCK_WAIT: u64 = 10_000;
const LOCK_STEP: u64 = 10;
/// How long the kernel may go on refusing the former rules, and how often it is asked, s.
const REFUSED: u64 = 60;
/// How long `mef confirm` waits for its answer, s.
const ANSWER: Duration = Duration::from_secs(5);
/// Bytes that are read of a line from the terminal.
const LINE: usize = 64;

// What watcher and loader tell each other, a byte each.
const ARMED: u8 = b'a';
const KEEP: u8 = b'k';
const NOTHING_DONE: u8 = b'n';
const BACK: u8 = b'b';
const REFUSED_BACK: u8 = b'f';

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

/// The right to change the rules. Ends with the process, and with the watcher if it has one.
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
    fn mark(&self, text: &str) {
        if let Some(mut file) = self.file.as_ref() {
            let _ = file.set_len(0).and_then(|()| file.write_all(text.as_bytes()));
        }
    }

    /// Puts rules on trial for `seconds`: `load` changes them, `tell` says things to whoever waits at the terminal.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub fn trial(
        self,
        seconds: u32,
        load: &mut dyn FnMut() -> Result<(), String>,
        tell: &mut dyn FnMut(&str),
    ) -> Result<End, String> {
        let failed = |e: std::io::Error| ["no trial without a watcher: ", &e.to_string()].concat();
        let mut former = Snapshot::take(rules::TABLE).map_err(|e| {
            ["the rules that are there could not be put back, so there is no trial: ", &e.to_string()]
                .concat()
        })?;
        let path = self.dir.join(SOCKET);
        if self.file.is_none() {
            return Err(["no trial without ", &self.dir.to_string_lossy(), ": it cannot be written"].concat());
        }
        // We have the lock: a socket that is there is nobody's.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).map_err(failed)?;
        let (mut ours, theirs) = UnixStream::pair().map_err(failed)?;
        self.mark("trial\n");
        match process::split().map_err(failed)? {
            Side::Child => {
                drop(ours);
                Watcher { turn: self, former, listener, loader: theirs, seconds }.run();
            }
            Side::Parent => {}
        }
        drop((theirs, listener));
        if heard(&mut ours) != Some(ARMED) {
            return Err("no trial without a watcher: it ended at once".into());
        }
        if let Err(why) = load() {
            let _ = ours.write_all(&[NOTHING_DONE]);
            heard(&mut ours);
            return Err(why);
        }
        let end = ask(&mut ours, seconds, tell);
        Ok(end.unwrap_or_else(|| {
            // Somebody killed the watcher: what it would have done is ours to do.
            let _ = std::fs::remove_file(&path);
            self.mark("");
            if former.restore().is_ok() { End::Back } else { End::Stuck }
        }))
    }
}

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
        Some(KEEP) => Ok(()),
        _ => Err("too late: the former rules are back".into()),
    }
}

/// The next byte from the other side; none if it is gone.
fn heard(from: &mut UnixStream) -> Option<u8> {
    let mut byte = [0];
    from.read_exact(&mut byte).ok().map(|()| byte[0])
}

/// Waits for the end of the trial, and for `yes` on the terminal if there is one. `None` if the watcher is gone.
fn ask(watcher: &mut UnixStream, seconds: u32, tell: &mut dyn FnMut(&str)) -> Option<End> {
    let mut terminal = terminal();
    tell(
        &["the new rules are in force, for ", &seconds.to_string(), " s unless they are confirmed"].concat(),
    );
    tell(if terminal.is_some() { "type yes to keep them" } else { "`mef confirm` keeps them" });
    loop {
        let mut ready = [Ready::No; 2];
        let fds: [Option<BorrowedFd<'_>>; 2] = [Some(watcher.as_fd()), terminal.as_ref().map(File::as_fd)];
        poll::wait(&fds, &mut ready, None).ok()?;
        if ready[0] != Ready::No {
            return match heard(watcher)? {
                KEEP => Some(End::Kept),
                BACK => Some(End::Back),
                REFUSED_BACK => Some(End::Stuck),
                _ => continue,
            };
        }
        let Some(input) = terminal.as_mut().filter(|_| ready[1] != Ready::No) else { continue };
        let mut line = [0; LINE];
        match input.read(&mut line) {
            Ok(n) if n > 0 => match line.get(..n).unwrap_or_default().trim_ascii() {
                b"yes" => drop(watcher.write_all(&[KEEP])),
                b"no" => drop(watcher.shutdown(Shutdown::Write)),
                b"" => {}
                _ => tell("type yes to keep the rules, no to go back now"),
            },
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            // It hung up: the watcher sees the same as if we had gone with it.
            _ => {
                terminal = None;
                let _ = watcher.shutdown(Shutdown::Write);
            }
        }
    }
}

/// Where a person could type: standard input, or what controls this process.
fn terminal() -> Option<File> {
    let stdin = stdio::stdin().ok().filter(|input| nix::unistd::isatty(input).unwrap_or(false));
    stdin.or_else(|| File::open("/dev/tty").ok())
}

/// The process that waits for the end of the trial.
struct Watcher {
    turn: Turn,
    former: Snapshot,
    listener: UnixListener,
    loader: UnixStream,
    seconds: u32,
}

impl Watcher {
    fn run(mut self) -> ! {
        let end = self.watch();
        // Whoever hears of the end may load again at once.
        let _ = std::fs::remove_file(self.turn.dir.join(SOCKET));
        self.turn.mark("");
        self.turn.file = None;
        if let Some(byte) = end {
            let _ = self.loader.write_all(&[byte]);
        }
        process::end()
    }

    /// Waits and decides; what to tell the loader.
    fn watch(&mut self) -> Option<u8> {
        syslog::install(syslog::Target::Syslog, log::LevelFilter::Info);
        let mut signals = Signals::open().ok()?;
        self.listener.set_nonblocking(true).ok()?;
        self.loader.write_all(&[ARMED]).ok()?;
        let end = clock::mono().after(u64::from(self.seconds) * 1000);
        loop {
            let mut ready = [Ready::No; 3];
            let fds = [Some(self.listener.as_fd()), Some(self.loader.as_fd()), Some(signals.as_fd())];
            let broken = poll::wait(&fds, &mut ready, Some(end)).is_err();
            if ready[0] == Ready::Read && self.confirmed() {
                return Some(KEEP);
            }
            if ready[1] != Ready::No {
                match heard(&mut self.loader) {
                    Some(KEEP) => return Some(KEEP),
                    Some(NOTHING_DONE) => return Some(NOTHING_DONE),
                    _ => return self.back("who loaded them is gone"),
                }
            }
            if ready[2] != Ready::No && matches!(signals.take(), Ok(Some(Wish::Stop)) | Err(_)) {
                return self.back("the watcher was told to stop");
            }
            if broken || clock::mono() >= end {
                return self.back("nobody confirmed them");
            }
        }
    }

    /// Answers those who confirm; whether somebody who may did.
    fn confirmed(&self) -> bool {
        let mut confirmed = false;
        while let Ok((mut client, _)) = self.listener.accept() {
            let uid = nix::sys::socket::getsockopt(&client, nix::sys::socket::sockopt::PeerCredentials)
                .map(|peer| peer.uid());
            if uid.is_ok_and(|uid| uid == 0 || uid == nix::unistd::geteuid().as_raw()) {
                confirmed = true;
                let _ = client.write_all(&[KEEP]);
            }
        }
        confirmed
    }

    /// Puts the former rules back, for as long as it takes within reason. They can still be confirmed then.
    fn back(&mut self, why: &str) -> Option<u8> {
        let end = clock::mono().after(REFUSED * 1000);
        let mut told = false;
        loop {
            let refusal = match self.former.restore() {
                Ok(()) => {
                    log::warn!("the rules on trial are gone, the former ones are back: {why}");
                    return Some(BACK);
                }
                Err(refusal) => refusal,
            };
            if !told {
                log::error!("the former rules cannot be put back, trying again for {REFUSED} s: {refusal}");
                told = true;
            }
            if clock::mono() >= end {
                log::error!("the rules on trial stay: the former ones cannot be put back: {refusal}");
                return Some(REFUSED_BACK);
            }
            let mut ready = [Ready::No];
            let again = clock::mono().after(1000).min(end);
            let _ = poll::wait(&[Some(self.listener.as_fd())], &mut ready, Some(again));
            if ready[0] == Ready::Read && self.confirmed() {
                return Some(KEEP);
            }
        }
    }
}
