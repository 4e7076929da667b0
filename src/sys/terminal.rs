#![forbid(unsafe_code)]
//! A person at the terminal: short answers, read without ever waiting for them.

use super::signal::Signals;
use super::stdio;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::sys::termios::{FlushArg, LocalFlags, SetArg, Termios, tcflush, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, isatty, tcgetpgrp};
use std::fs::File;
use std::io::{ErrorKind, Read, Write as _};
use std::os::fd::{AsFd, BorrowedFd};

/// Milliseconds within which the rest of a key comes that is more than one byte.
const ESCAPE: u16 = 20;

/// A key, by what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// The end.
    Quit,
    /// A line up.
    Up,
    /// A line down.
    Down,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// The next part of the screen.
    Next,
    /// Another order.
    Sort,
    /// Nothing.
    Other,
}

/// A terminal whose keys are read one by one, and on which the same place is written again and again.
pub struct Screen {
    input: File,
    /// What ends a program leaves the terminal as it was before.
    signals: Signals,
    previous: Termios,
}

impl Screen {
    /// Takes standard input; `None` if that is no terminal of ours.
    #[must_use]
    pub fn open() -> Option<Screen> {
        let input = stdio::stdin().ok()?;
        let previous = tcgetattr(&input).ok()?;
        let signals = Signals::open().ok()?;
        let mut keys = previous.clone();
        keys.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
        tcsetattr(&input, SetArg::TCSANOW, &keys).ok()?;
        // What stood there before comes back at the end.
        let _ = stdio::raw_stdout().write_all(b"\x1b[?1049h\x1b[?25l");
        Some(Screen { input, signals, previous })
    }

    /// Waits for a key, at most so long.
    pub fn typed(&mut self, ms: u16) -> Option<Key> {
        let key = match self.key(ms)? {
            // Ctrl-C, Ctrl-D, a signal, or no terminal any more.
            b'q' | b'Q' | 3 | 4 | 0 => Key::Quit,
            b'k' => Key::Up,
            b'j' => Key::Down,
            b'\t' => Key::Next,
            b's' => Key::Sort,
            0x1b if !matches!(self.key(ESCAPE), Some(b'[' | b'O')) => Key::Other,
            0x1b => match self.key(ESCAPE) {
                Some(b'A') => Key::Up,
                Some(b'B') => Key::Down,
                Some(digit @ b'0'..=b'9') => {
                    // To its end, whatever it is.
                    while self.key(ESCAPE).is_some_and(|more| !matches!(more, b'~' | 0)) {}
                    match digit {
                        b'5' => Key::PageUp,
                        b'6' => Key::PageDown,
                        _ => Key::Other,
                    }
                }
                _ => Key::Other,
            },
            _ => Key::Other,
        };
        Some(key)
    }

    /// Waits for a byte, at most so long; 0 when the terminal is gone, or somebody ends us.
    fn key(&mut self, ms: u16) -> Option<u8> {
        let both = [self.input.as_fd(), self.signals.as_fd()];
        let mut fds = both.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, PollTimeout::from(ms)) {
            Ok(0) | Err(nix::Error::EINTR) => return None,
            Ok(_) => {}
            Err(_) => return Some(0),
        }
        if fds.get(1).is_some_and(|signals| signals.any() == Some(true)) {
            return Some(0);
        }
        let mut key = [0];
        match self.input.read(&mut key) {
            Ok(1) => Some(key[0]),
            _ => Some(0),
        }
    }

    /// Lines of the terminal.
    #[must_use]
    pub fn lines(&self) -> usize {
        stdio::rows(&self.input).filter(|rows| *rows > 0).unwrap_or(24)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = stdio::raw_stdout().write_all(b"\x1b[?25h\x1b[?1049l");
        let _ = tcsetattr(&self.input, SetArg::TCSANOW, &self.previous);
    }
}

/// Bytes of a line that may be an answer.
const ANSWER_MAX: usize = 64;
/// Bytes of a line at a terminal, at most: it is read as a whole, so that its end is no line of its own.
const TERMINAL_LINE: usize = 4096;
/// Bytes that are read of a pipe: some programs write for ever, and nothing of it is an answer.
const PIPE_MAX: usize = 4096;

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// A line, without spaces around it.
    Line(Vec<u8>),
    /// A line that is too long for an answer.
    LongLine,
    /// Nothing, so far.
    Nothing,
    /// Who types is not talking to us: we are in the background, or the terminal hung up.
    Elsewhere {
        /// It hung up.
        gone: bool,
    },
}

impl Typed {
    /// A line, its end with it or not.
    fn of(line: &[u8]) -> Typed {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.len() > ANSWER_MAX { Typed::LongLine } else { Typed::Line(line.trim_ascii().to_vec()) }
    }
}

/// Where answers come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AnswersFrom {
    /// The terminal alone: what is piped to this process is none of ours.
    Terminal,
    /// Standard input, whatever it is; the terminal, if nothing comes from there.
    StandardInput,
}

/// Who answers: the terminal that controls this process, or what its standard input is.
pub struct Terminal {
    input: File,
    /// What was read of a pipe. A terminal gives whole lines.
    pipe: Option<PipeState>,
}

/// What was read of a pipe.
#[derive(Default)]
struct PipeState {
    /// Bytes, all in all.
    taken: usize,
    /// The line that has begun: one byte more than an answer may have, at most.
    line: Vec<u8>,
}

impl Terminal {
    /// Opens it, and throws away what was typed before; `None` if nobody can answer.
    #[must_use]
    pub fn open(from: AnswersFrom) -> Option<Terminal> {
        let piped = if from == AnswersFrom::StandardInput { Self::piped() } else { None };
        piped.or_else(Self::controlling)
    }

    /// Standard input, unless it is a terminal or has already ended.
    fn piped() -> Option<Terminal> {
        let input = stdio::stdin().ok().filter(|input| !isatty(input).unwrap_or(true))?;
        let (mut this, mut pipe) = (Terminal { input, pipe: None }, PipeState::default());
        if stdio::has_more(&this.input) && matches!(pipe.byte(&mut this.input), Typed::Elsewhere { .. }) {
            return None;
        }
        this.pipe = Some(pipe);
        Some(this)
    }

    fn controlling() -> Option<Terminal> {
        // Opened anew, since others share what standard input leads to, and may not want it to be
        // non-blocking.
        let anew = open("/dev/tty", OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty());
        let stdin = || stdio::stdin().ok().filter(|input| isatty(input).unwrap_or(false));
        let this = Terminal { input: anew.ok().map(File::from).or_else(stdin)?, pipe: None };
        if this.is_ours() {
            this.forget();
        }
        Some(this)
    }

    /// Throws away what was typed and not read.
    pub fn forget(&self) {
        let _ = tcflush(&self.input, FlushArg::TCIFLUSH);
    }

    /// Whether it is a pipe: whoever has answered has no more to say.
    #[must_use]
    pub fn is_piped(&self) -> bool {
        self.pipe.is_some()
    }

    /// Takes what is there.
    pub fn read(&mut self) -> Typed {
        if let Some(pipe) = &mut self.pipe {
            return pipe.byte(&mut self.input);
        }
        if !self.is_ours() {
            return Typed::Elsewhere { gone: false };
        }
        let mut line = [0; TERMINAL_LINE];
        match self.input.read(&mut line) {
            Ok(n) if n > 0 => Typed::of(line.get(..n).unwrap_or_default()),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Typed::Nothing,
            _ => Typed::Elsewhere { gone: true },
        }
    }

    /// Whether what is typed is for this process: reading in the background would stop it. A terminal that
    /// does not control us cannot tell.
    fn is_ours(&self) -> bool {
        tcgetpgrp(&self.input).is_ok_and(|group| group == getpgrp())
            || tcgetpgrp(&self.input) == Err(nix::Error::ENOTTY)
    }
}

impl PipeState {
    /// Takes one byte: what follows the line stays there, where it wakes who waits.
    fn byte(&mut self, input: &mut impl Read) -> Typed {
        if self.taken == PIPE_MAX {
            return Typed::Elsewhere { gone: false };
        }
        let mut byte = [0];
        match input.read(&mut byte) {
            Ok(1) => {
                self.taken += 1;
                if byte != *b"\n" {
                    // What is longer is no answer, and its end is none either.
                    if self.line.len() <= ANSWER_MAX {
                        self.line.push(byte[0]);
                    }
                    return Typed::Nothing;
                }
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Typed::Nothing;
            }
            // The last line may lack its end.
            Ok(_) if !self.line.is_empty() => {}
            _ => return Typed::Elsewhere { gone: false },
        }
        Typed::of(&std::mem::take(&mut self.line))
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.input.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a pipe says up to its end, or until nothing more is read of it.
    fn lines(mut input: &[u8]) -> Vec<Typed> {
        let (mut pipe, mut all) = (PipeState::default(), Vec::new());
        loop {
            match pipe.byte(&mut input) {
                Typed::Nothing => {}
                Typed::Elsewhere { .. } => return all,
                line => all.push(line),
            }
        }
    }

    #[test]
    fn a_long_line_is_no_answer_whatever_it_begins_with() {
        let yes = || Typed::Line(b"yes".to_vec());
        let padded = |blanks: usize, end: &str| ["yes", &" ".repeat(blanks), end].concat().into_bytes();
        assert_eq!(lines(b"yes"), [yes()]);
        assert_eq!(lines(b" yes \r\nno\n"), [yes(), Typed::Line(b"no".to_vec())]);
        assert_eq!(lines(&padded(61, "\n")), [yes()]);
        assert_eq!(lines(&padded(62, "\n")), [Typed::LongLine]);
        assert_eq!(lines(&padded(61, "no way")), [Typed::LongLine]);
        assert_eq!(lines(&padded(61, "no way\nyes\n")), [Typed::LongLine, yes()]);
        assert_eq!(Typed::of(&padded(61, "no way\n")), Typed::LongLine);
        assert_eq!(Typed::of(&padded(61, "\n")), yes());
    }

    #[test]
    fn a_pipe_without_end_has_one() {
        assert_eq!(lines(&b"y\n".repeat(PIPE_MAX)).len(), PIPE_MAX / 2);
        assert_eq!(lines(&b"\n".repeat(2 * PIPE_MAX)).len(), PIPE_MAX);
        assert_eq!(lines(&vec![b'y'; 2 * PIPE_MAX]), []);
    }
}
