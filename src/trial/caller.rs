#![forbid(unsafe_code)]
//! The process that was asked for a trial: it says how the trial goes, and passes on what is typed.

use super::{BACK, KEEP, KEPT, LOADED, NOT_KEPT, STUCK, TRYING, TURN_DOWN, TrialEnd, heard};
use crate::sys::poll::{self, Ready};
use crate::sys::terminal::{AnswersFrom, Terminal, Typed};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// The process that was asked for the trial, and waits for its end.
pub(super) struct TrialCaller {
    pub(super) watcher: UnixStream,
    pub(super) answers: AnswersFrom,
    pub(super) terminal: Option<Terminal>,
    /// What an answer may be; a pipe is told once.
    pub(super) hint: Option<&'static str>,
}

impl TrialCaller {
    /// How the trial ended; `None` if the watcher is gone.
    pub(super) fn wait(
        mut self,
        seconds: u32,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Option<TrialEnd>, String> {
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
                    tell("the kernel refuses the previous rules; trying again");
                    continue;
                }
                Some(NOT_KEPT) => {
                    tell("the rules cannot be confirmed (see the system log): they are still unconfirmed");
                    continue;
                }
                Some(KEPT) => Some(TrialEnd::Kept),
                Some(BACK) => Some(TrialEnd::Back),
                Some(STUCK) => Some(TrialEnd::Stuck),
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
        let text = ["the new rules are in force, for ", &seconds.to_string(), " s unless they are confirmed"]
            .concat();
        tell(&text);
        self.listen(self.answers, tell);
    }

    /// Waits for answers from there, and says how to give one.
    fn listen(&mut self, from: AnswersFrom, tell: &mut dyn FnMut(&str)) {
        self.terminal = Terminal::open(from);
        tell(match self.terminal {
            Some(_) => "see whether a new connection works; then type yes to keep them, or no to go back now",
            None => ELSEWHERE,
        });
    }

    /// Passes an answer on.
    fn answer(&mut self, word: u8) {
        let _ = self.watcher.write_all(&[word]);
        if self.terminal.as_ref().is_some_and(Terminal::is_piped) {
            self.terminal = None;
        }
    }

    /// Says what an answer may be: to a person each time, to a program, which does not read it, once.
    fn hint(&mut self, tell: &mut dyn FnMut(&str)) {
        let is_piped = self.terminal.as_ref().is_some_and(Terminal::is_piped);
        if let Some(hint) = if is_piped { self.hint.take() } else { Some(HINT) } {
            tell(hint);
        }
    }

    fn typed(&mut self, tell: &mut dyn FnMut(&str)) {
        let Some(terminal) = &mut self.terminal else { return };
        match terminal.read() {
            Typed::Nothing => {}
            Typed::Line(line) => match line.as_slice() {
                b"yes" => self.answer(KEEP),
                b"no" => self.answer(TURN_DOWN),
                b"" => {}
                _ => self.hint(tell),
            },
            Typed::LongLine => self.hint(tell),
            // The end of a pipe, or one without end, says nothing about the terminal.
            Typed::Elsewhere { gone: false } if self.answers == AnswersFrom::StandardInput => {
                self.answers = AnswersFrom::Terminal;
                self.listen(self.answers, tell);
            }
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

pub(super) const HINT: &str = "type yes to keep the rules, no to go back now";

pub(super) const ELSEWHERE: &str = "see whether a new connection works; then `mef confirm` keeps them";
