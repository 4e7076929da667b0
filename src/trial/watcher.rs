#![forbid(unsafe_code)]
//! The process that puts unconfirmed rules in force and waits for the end of it.

use super::{
    BACK, KEEP, KEPT, LOADED, NOT_KEPT, Noted, REFUSED, Rules, STUCK, TRYING, TURN_DOWN, Trial, TrialTurn,
    UNSURE, heard, kernel, not_saved, note,
};
use crate::base::clock::Mono;
use crate::sys::poll::{self, Ready};
use crate::sys::signal::{Signals, Wish};
use crate::sys::{clock, process, syslog};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};

/// How long the kernel is asked again that refuses what it must do, ms; the first pause, and the longest.
const REFUSING: u64 = 3_600_000;
const PAUSE: u64 = 1000;
const PAUSE_MAX: u64 = 60_000;
/// How long after the end of a trial its absence can only mean that somebody deleted it, ms.
const GONE_AFTER: u64 = 2000;
/// Clients that are answered in one go.
const CLIENTS: usize = 16;

pub(super) struct TrialWatcher<'a> {
    pub turn: TrialTurn,
    pub listener: UnixListener,
    pub loader: UnixStream,
    pub trial: &'a Trial<'a>,
    pub rules: &'a mut dyn Rules,
}

impl TrialWatcher<'_> {
    /// The whole life of the process.
    pub(super) fn run(mut self) -> ! {
        syslog::install(syslog::LogTarget::Syslog, log::LevelFilter::Info);
        let end = self.trial();
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
    fn trial(&mut self) -> std::io::Result<(u8, String)> {
        let mut signals = Signals::open()?;
        self.listener.set_nonblocking(true)?;
        let end = clock::mono().after(u64::from(self.trial.seconds) * 1000);
        if let Err((why, unsure)) = self.rules.begin() {
            // Whether they are in force or not, the previous ones are certain.
            return Ok(match unsure.then(|| self.back("the kernel's answer was lost", end)) {
                Some(STUCK) => (STUCK, String::new()),
                Some(_) => (UNSURE, why),
                None => (REFUSED, why),
            });
        }
        let _ = self.loader.write_all(&[LOADED]);
        let end = self.watch(&mut signals, clock::mono().after(u64::from(self.trial.seconds) * 1000));
        Ok((end, String::new()))
    }

    fn watch(&mut self, signals: &mut Signals, end: Mono) -> u8 {
        loop {
            let mut ready = [Ready::No; 3];
            let fds = [Some(self.listener.as_fd()), Some(self.loader.as_fd()), Some(signals.as_fd())];
            let broken = poll::wait(&fds, &mut ready, Some(end)).is_err();
            let client = if ready[0] == Ready::Read { self.client() } else { None };
            if let Some(mut client) = client {
                let kept = self.keep(end);
                let _ = client.write_all(&[kept.unwrap_or(NOT_KEPT)]);
                if let Some(kept) = kept {
                    return kept;
                }
            }
            if ready[1] != Ready::No {
                match heard(&mut self.loader) {
                    Some(KEEP) => match self.keep(end) {
                        Some(kept) => return kept,
                        None => drop(self.loader.write_all(&[NOT_KEPT])),
                    },
                    Some(TURN_DOWN) => return self.back("they were rejected", end),
                    _ => return self.back("the process that loaded them is gone", end),
                }
            }
            if ready[2] != Ready::No && matches!(signals.take(), Ok(Some(Wish::Stop)) | Err(_)) {
                return self.back("the watcher was stopped", end);
            }
            if broken || clock::mono() >= end {
                return self.back("nobody confirmed them", end);
            }
        }
    }

    /// Confirms the rules: how the trial ended by that, nothing if it goes on.
    fn keep(&mut self, end: Mono) -> Option<u8> {
        match self.rules.confirm() {
            Ok(true) => {
                if let Err(e) = self.trial.saved.keep(self.trial.text) {
                    log::error!("{}", not_saved(&e));
                }
                Some(KEPT)
            }
            Ok(false) => Some(self.back("they were confirmed too late", end)),
            Err(why) => {
                log::error!("the unconfirmed rules cannot be confirmed: {why}");
                None
            }
        }
    }

    /// The next client that may confirm.
    fn client(&self) -> Option<UnixStream> {
        for _ in 0..CLIENTS {
            let Ok((client, _)) = self.listener.accept() else { break };
            let uid = getsockopt(&client, PeerCredentials).map(|peer| peer.uid());
            if uid.is_ok_and(|uid| uid == 0 || uid == nix::unistd::geteuid().as_raw()) {
                return Some(client);
            }
        }
        None
    }

    /// Tells those who came late how it ended.
    fn answer(&self, end: u8) {
        while let Some(mut client) = self.client() {
            let _ = client.write_all(&[end]);
        }
    }

    /// Has the previous rules in force, for as long as it takes within reason.
    fn back(&mut self, why: &str, end: Mono) -> u8 {
        let (limit, late, mut pause) = (clock::mono().after(REFUSING), end.after(GONE_AFTER), PAUSE);
        loop {
            let refusal = match kernel::withdraw(&mut || note(&self.turn.dir, Noted::None)) {
                Ok(true) => {
                    log::warn!("the unconfirmed rules are gone, the previous ones are back: {why}");
                    return BACK;
                }
                Ok(false) if self.trial.is_kept() => return KEPT,
                // Where none were, none are to be; and long after its end, another one has tidied up.
                Ok(false) if clock::mono() >= late || !self.trial.had_rules && !self.is_there() => {
                    log::warn!("the unconfirmed rules are gone, the previous ones are back: {why}");
                    return BACK;
                }
                Ok(false) if self.trial.saved.confirmed().is_none() => {
                    log::error!(
                        "somebody deleted the unconfirmed rules and the previous ones, which were not saved"
                    );
                    return STUCK;
                }
                // Somebody deleted the table with all that was in it.
                Ok(false) => match self.rules.reload() {
                    Ok(()) => {
                        log::warn!(
                            "the unconfirmed rules were deleted, the previous ones are loaded again: {why}"
                        );
                        return BACK;
                    }
                    Err(refusal) => refusal,
                },
                // What is left of the trial does no harm when its time is over.
                Err(_) if clock::mono() >= end => {
                    log::warn!("the unconfirmed rules are over, the previous ones are back: {why}");
                    return BACK;
                }
                Err(refusal) => refusal.to_string(),
            };
            if clock::mono() >= limit {
                log::error!("the previous rules cannot be restored: {refusal}");
                return STUCK;
            }
            if pause == PAUSE {
                log::error!("the previous rules cannot be restored, trying again: {refusal}");
                let _ = self.loader.write_all(&[TRYING]);
            }
            let _ = poll::wait(&[], &mut [], Some(clock::mono().after(pause).min(limit)));
            pause = (pause + pause / 4).min(PAUSE_MAX);
        }
    }

    fn is_there(&self) -> bool {
        kernel::is_loaded().unwrap_or(true)
    }
}
