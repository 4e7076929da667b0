#![forbid(unsafe_code)]
//! The process that puts rules on trial in force and waits for the end of it.

use super::{BACK, KEEP, KEPT, LOADED, Load, REFUSED, STUCK, TRYING, TURN_DOWN, Turn, UNSURE, heard};
use crate::base::clock::Mono;
use crate::firewall::snapshot::Snapshot;
use crate::sys::poll::{self, Ready};
use crate::sys::signal::{Signals, Wish};
use crate::sys::{clock, process, syslog};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};

/// How long the kernel is asked again that refuses the former rules, ms; and the longest pause.
const REFUSING: u64 = 3_600_000;
const PAUSE_MAX: u64 = 60_000;
/// Clients that are answered in one go.
const CLIENTS: usize = 16;

pub(super) struct Watcher {
    pub turn: Turn,
    pub former: Snapshot,
    pub listener: UnixListener,
    pub loader: UnixStream,
}

impl Watcher {
    /// The whole life of the process.
    pub(super) fn run(mut self, seconds: u32, load: Load<'_>) -> ! {
        syslog::install(syslog::Target::Syslog, log::LevelFilter::Info);
        let end = self.trial(seconds, load);
        let end =
            end.unwrap_or_else(|e| (REFUSED, ["no trial without a watcher: ", &e.to_string()].concat()));
        // Who comes now hears how it ended, and who hears of it may load again at once.
        let _ = std::fs::remove_file(self.turn.socket());
        self.answer(end.0);
        self.turn.end();
        let _ = self.loader.write_all(&[end.0]).and_then(|()| self.loader.write_all(end.1.as_bytes()));
        process::end()
    }

    /// What to tell the loader in the end. An error comes before anything was changed.
    fn trial(&mut self, seconds: u32, load: Load<'_>) -> std::io::Result<(u8, String)> {
        let mut signals = Signals::open()?;
        self.listener.set_nonblocking(true)?;
        if let Err((why, unsure)) = load() {
            // Whether they are in force or not, the former ones are certain.
            return Ok(match unsure.then(|| self.back("the kernel's answer was lost")) {
                Some(STUCK) => (STUCK, String::new()),
                Some(_) => (UNSURE, why),
                None => (REFUSED, why),
            });
        }
        let _ = self.loader.write_all(&[LOADED]);
        let end = self.watch(&mut signals, clock::mono().after(u64::from(seconds) * 1000));
        Ok((end, String::new()))
    }

    fn watch(&mut self, signals: &mut Signals, end: Mono) -> u8 {
        loop {
            let mut ready = [Ready::No; 3];
            let fds = [Some(self.listener.as_fd()), Some(self.loader.as_fd()), Some(signals.as_fd())];
            let broken = poll::wait(&fds, &mut ready, Some(end)).is_err();
            if ready[0] == Ready::Read && self.answer(KEPT) {
                return KEPT;
            }
            if ready[1] != Ready::No {
                match heard(&mut self.loader) {
                    Some(KEEP) => return KEPT,
                    Some(TURN_DOWN) => return self.back("they were turned down"),
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

    /// Answers those who confirm; whether one who may heard it.
    fn answer(&self, end: u8) -> bool {
        let mut heard = false;
        for _ in 0..CLIENTS {
            let Ok((mut client, _)) = self.listener.accept() else { break };
            let uid = getsockopt(&client, PeerCredentials).map(|peer| peer.uid());
            let may = uid.is_ok_and(|uid| uid == 0 || uid == nix::unistd::geteuid().as_raw());
            // One that gave up waiting has closed its end, and was told so.
            heard |= may && client.write_all(&[end]).is_ok();
        }
        heard
    }

    /// Puts the former rules back, for as long as it takes within reason. The new ones can still be confirmed then, by
    /// who waits at the terminal, too.
    fn back(&mut self, why: &str) -> u8 {
        let end = clock::mono().after(REFUSING);
        let (mut pause, mut waits) = (1000, true);
        loop {
            let refusal = match self.turn.restore(&mut self.former) {
                Ok(()) => {
                    log::warn!("the rules on trial are gone, the former ones are back: {why}");
                    return BACK;
                }
                Err(refusal) => refusal,
            };
            if clock::mono() >= end {
                log::error!("the rules on trial stay, since the former ones cannot be put back: {refusal}");
                return STUCK;
            }
            if pause == 1000 {
                log::error!("the former rules cannot be put back, trying again: {refusal}");
                let _ = self.loader.write_all(&[TRYING]);
            }
            let mut ready = [Ready::No; 2];
            let again = clock::mono().after(pause).min(end);
            let loader = Some(self.loader.as_fd()).filter(|_| waits);
            let _ = poll::wait(&[Some(self.listener.as_fd()), loader], &mut ready, Some(again));
            if ready[0] == Ready::Read && self.answer(KEPT) {
                return KEPT;
            }
            if ready[1] != Ready::No {
                match heard(&mut self.loader) {
                    Some(KEEP) => return KEPT,
                    word => waits = word.is_some(),
                }
            }
            pause = (pause + pause / 4).min(PAUSE_MAX);
        }
    }
}
