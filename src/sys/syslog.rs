#![forbid(unsafe_code)]
//! Where the messages of mef go: the system's log, standard error, or both. Nothing here waits or
//! allocates, and nothing that a message quotes can garble a log or a terminal (`base::line`).

use super::{clock, stdio};
use crate::base::build_part::BuildPart;
use crate::base::clock::Wall;
use crate::base::line::Line;
use log::{Level, LevelFilter, Log, Metadata, Record};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

/// The local socket of every syslog daemon, journald's too.
const DEV_LOG: &str = "/dev/log";
/// LOG_DAEMON
const FACILITY: u8 = 3 << 3;

/// Where messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum LogTarget {
    /// The system's log; standard error as long as there is none.
    Syslog = 1,
    /// Standard error.
    Stderr = 2,
    /// Both.
    Both = 3,
    /// Another process of ours, which has them written: see [`give_to`].
    Process = 4,
}

/// Warnings and errors that are kept, and bytes of each.
const KEPT: usize = 4;
const KEPT_LEN: usize = 240;
/// So many of those that are kept can be of others.
const OTHERS_KEPT: usize = 2;

/// The target of messages that follow from what another process says. Of the problems that are kept they are
/// half, lest they take the places of all others.
pub const OF_OTHERS: &str = "others";

/// Whose a problem is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ProblemOf {
    Us,
    Others,
}

/// A warning or an error.
#[derive(Clone, Copy)]
struct LogProblem {
    of: ProblemOf,
    at: Wall,
    len: usize,
    text: [u8; KEPT_LEN],
}

impl LogProblem {
    const NONE: LogProblem = LogProblem { of: ProblemOf::Us, at: Wall(0), len: 0, text: [0; KEPT_LEN] };

    fn text(&self) -> &str {
        std::str::from_utf8(self.text.get(..self.len).unwrap_or_default()).unwrap_or_default()
    }
}

/// The last ones, the newest first.
struct LogProblems([LogProblem; KEPT]);

impl LogProblems {
    /// One that comes again takes the place of what it was before; a line of a file that is shown is none.
    fn keep(&mut self, of: ProblemOf, at: Wall, line: &str) {
        if line.contains(":  ") {
            return;
        }
        let end = (0..=line.len().min(KEPT_LEN)).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        let line = line.get(..end).unwrap_or_default();
        let same = self.0.iter().position(|known| known.of == of && known.text() == line);
        let is_other = |known: &LogProblem| known.of == ProblemOf::Others;
        let is_full = of == ProblemOf::Others && self.0.iter().filter(|p| is_other(p)).count() >= OTHERS_KEPT;
        let last = if is_full { self.0.iter().rposition(is_other) } else { None };
        let place = same.or(last).unwrap_or(KEPT - 1);
        self.0.copy_within(..place, 1);
        let [first, ..] = &mut self.0;
        (first.of, first.at, first.len) = (of, at, line.len());
        first.text.iter_mut().zip(line.bytes()).for_each(|(to, from)| *to = from);
    }
}

static PROBLEMS: Mutex<LogProblems> = Mutex::new(LogProblems([LogProblem::NONE; KEPT]));

/// Calls `each` with the last warnings and errors of this process, the newest first.
pub fn problems(each: &mut dyn FnMut(Wall, &str)) {
    // A copy: who hears of them may log something.
    let all = PROBLEMS.lock().unwrap_or_else(PoisonError::into_inner).0;
    all.iter().filter(|problem| problem.len > 0).for_each(|problem| each(problem.at, problem.text()));
}

/// Keeps a warning among these that was logged by another process of ours.
pub fn keep(text: &str) {
    let mut all = PROBLEMS.lock().unwrap_or_else(PoisonError::into_inner);
    all.keep(ProblemOf::Us, clock::wall(), text);
}

struct Logger {
    target: AtomicU8,
    socket: Mutex<Option<UnixDatagram>>,
    /// Messages that the system's log did not take since it last took one.
    lost: AtomicU32,
}

static LOGGER: Logger = Logger {
    target: AtomicU8::new(LogTarget::Stderr as u8),
    socket: Mutex::new(None),
    lost: AtomicU32::new(0),
};

/// Sends the messages of the `log` macros there from now on. May be called again, to change either.
pub fn install(target: LogTarget, level: LevelFilter) {
    LOGGER.target.store(target as u8, Ordering::Relaxed);
    // An error only means that it has been set before.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(level);
}

/// Sends the messages to another process of ours from now on, whole: `kind`, the number of the level as `of`
/// says, and the text. Who has no room for them is waited for.
pub fn give_to(socket: OwnedFd, kind: u8, of: fn(Level) -> u8) {
    LOGGER.target.store(LogTarget::Process as u8, Ordering::Relaxed);
    *LOGGER.socket.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket.into());
    *GIVES.lock().unwrap_or_else(PoisonError::into_inner) = Some((kind, of));
}

/// What the messages of [`give_to`] begin with.
static GIVES: Mutex<Option<MessageHead>> = Mutex::new(None);

/// A kind, and what stands for a level.
type MessageHead = (u8, fn(Level) -> u8);

/// Closes the socket; the next message opens another. For a process that begins as a copy of ours.
pub fn forget() {
    *LOGGER.socket.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// Logs a warning: for whoever takes a function to report to.
pub fn warn(text: &dyn std::fmt::Display) {
    log::warn!("{text}");
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if BuildPart::Observer.is_in() && self.target.load(Ordering::Relaxed) == LogTarget::Process as u8 {
            return self.give(record);
        }
        if record.level() <= Level::Warn {
            let mut line = Line::new();
            let _ = write!(line, "{}{}", prefix(record.level()), record.args());
            let text = std::str::from_utf8(line.bytes()).unwrap_or_default();
            let of = if record.target() == OF_OTHERS { ProblemOf::Others } else { ProblemOf::Us };
            PROBLEMS.lock().unwrap_or_else(PoisonError::into_inner).keep(of, clock::wall(), text);
        }
        let target = self.target.load(Ordering::Relaxed);
        let logged = target & LogTarget::Syslog as u8 != 0 && self.syslog(Path::new(DEV_LOG), record);
        if !logged || target & LogTarget::Stderr as u8 != 0 {
            to_stderr(record);
        }
    }

    fn flush(&self) {}
}

impl Logger {
    /// What the other process cannot take any more is lost: this one is killed with it.
    fn give(&self, record: &Record<'_>) {
        let Some((kind, of)) = *GIVES.lock().unwrap_or_else(PoisonError::into_inner) else { return };
        let mut line = Line::new();
        let _ = write!(line, "{}", record.args());
        let message = [&[kind, of(record.level())], line.bytes()].concat();
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.iter().for_each(|socket| drop(socket.send(&message)));
    }

    /// `false` if there is no system log. A log that is there but does not read has the message counted.
    fn syslog(&self, path: &Path, record: &Record<'_>) -> bool {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if self.lost.load(Ordering::Relaxed) > 0 {
            let lost = self.lost.load(Ordering::Relaxed);
            let note =
                line(Level::Warn, format_args!("{lost} messages lost: the system's log did not take them"));
            if send(&mut socket, path, note.bytes()).is_ok() {
                self.lost.store(0, Ordering::Relaxed);
            }
        }
        match send(&mut socket, path, line(record.level(), *record.args()).bytes()) {
            Ok(()) => true,
            Err(e)
                if matches!(e.kind(), ErrorKind::WouldBlock) || e.raw_os_error() == Some(libc::ENOBUFS) =>
            {
                self.lost.store(self.lost.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
                true
            }
            Err(_) => false,
        }
    }
}

/// Sends without waiting. A daemon that was started anew has a new socket, so a refusal is tried once again.
fn send(socket: &mut Option<UnixDatagram>, path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(old) = socket.as_ref() {
        match old.send(bytes) {
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Err(e),
            Err(_) => *socket = None,
        }
    }
    let new = UnixDatagram::unbound()?;
    new.set_nonblocking(true)?;
    new.connect(path)?;
    new.send(bytes)?;
    *socket = Some(new);
    Ok(())
}

/// RFC 3164 without the stamp: it would be in a zone that the receiver has to guess. Receivers put their own.
fn line(level: Level, text: std::fmt::Arguments<'_>) -> Line {
    let severity = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    let mut line = Line::new();
    let _ = write!(line, "<{}>mef[{}]: {}{text}", FACILITY | severity, std::process::id(), prefix(level));
    line
}

/// Said in the text, since few people look at severities.
fn prefix(level: Level) -> &'static str {
    match level {
        Level::Error => "error: ",
        Level::Warn => "warning: ",
        Level::Info | Level::Debug | Level::Trace => "",
    }
}

fn to_stderr(record: &Record<'_>) {
    let mut stderr = stdio::stderr();
    // A pipe that nobody reads must not stop the daemon: what is ready takes a line of this length.
    let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut fds, PollTimeout::ZERO) != Ok(1) {
        return;
    }
    let mut line = Line::new();
    let _ = write!(line, "mef: {}{}", prefix(record.level()), record.args());
    let _ = stderr.write_all(line.with_newline());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn logger() -> Logger {
        Logger { target: AtomicU8::new(1), socket: Mutex::new(None), lost: AtomicU32::new(0) }
    }

    fn say(logger: &Logger, path: &Path, level: Level, text: &str) -> bool {
        logger.syslog(path, &Record::builder().level(level).args(format_args!("{text}")).build())
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut buf = [0; 2048];
        socket.set_nonblocking(true).unwrap();
        let n = socket.recv(&mut buf).unwrap();
        String::from_utf8(buf[..n].to_vec()).unwrap()
    }

    fn socket_path(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("mef-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    #[test]
    fn the_last_problems_are_kept_and_none_twice() {
        let mut all = LogProblems([LogProblem::NONE; KEPT]);
        let seen =
            |all: &LogProblems| all.0.iter().map(|p| (p.at.0, p.text().to_owned())).collect::<Vec<_>>();
        for (at, text) in [(1, "a"), (2, "b"), (3, "a"), (4, "c"), (5, "d"), (6, "c")] {
            all.keep(ProblemOf::Us, Wall(at), text);
        }
        let want = [(6, "c"), (5, "d"), (3, "a"), (2, "b")].map(|(at, text)| (at, text.to_owned()));
        assert_eq!(seen(&all), want);
        all.keep(ProblemOf::Us, Wall(7), &"ü".repeat(KEPT_LEN));
        assert_eq!(seen(&all)[..2], [(7, "ü".repeat(KEPT_LEN / 2)), (6, "c".to_owned())]);
        all.keep(ProblemOf::Us, Wall(7), "error:     1 | nonsense=1");
        assert!(seen(&all)[0].1.starts_with('ü'));
        // A letter that does not fit whole is left out.
        all.keep(ProblemOf::Us, Wall(8), &["x", &"ü".repeat(KEPT_LEN)].concat());
        assert_eq!(seen(&all)[0].1.len(), KEPT_LEN - 1);
        // Of others only the last two are kept.
        for at in 10..20 {
            all.keep(ProblemOf::Others, Wall(at), &format!("{at}"));
        }
        all.keep(ProblemOf::Others, Wall(20), "18");
        all.keep(ProblemOf::Us, Wall(21), "z");
        let want = [(21, "z"), (20, "18"), (19, "19")].map(|(at, text)| (at, text.to_owned()));
        assert_eq!(seen(&all)[..3], want);
        assert!(seen(&all)[3..].iter().all(|(at, _)| *at < 10));
    }

    #[test]
    fn messages_arrive_and_a_new_daemon_is_found() {
        let (path, logger) = (socket_path("log"), logger());
        assert!(!say(&logger, &path, Level::Info, "nobody is there"), "left to standard error");
        let daemon = UnixDatagram::bind(&path).unwrap();
        assert!(say(&logger, &path, Level::Warn, "a\nforged \x1b[2Jline"));
        let pid = std::process::id();
        assert_eq!(heard(&daemon), format!("<28>mef[{pid}]: warning: a\\x0aforged \\x1b[2Jline"));
        drop(daemon);
        std::fs::remove_file(&path).unwrap();
        assert!(!say(&logger, &path, Level::Info, "restarting"));
        let daemon = UnixDatagram::bind(&path).unwrap();
        assert!(say(&logger, &path, Level::Info, "again"));
        assert_eq!(heard(&daemon), format!("<30>mef[{pid}]: again"));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_daemon_that_does_not_read_costs_messages_and_no_time() {
        let (path, logger) = (socket_path("full"), logger());
        let daemon = UnixDatagram::bind(&path).unwrap();
        for i in 0..5000 {
            assert!(say(&logger, &path, Level::Info, "x"), "{i}");
        }
        let lost = logger.lost.load(Ordering::Relaxed);
        assert!(lost > 0 && lost < 5000, "{lost}");
        for _ in lost..5000 {
            assert!(heard(&daemon).ends_with(": x"));
        }
        assert!(say(&logger, &path, Level::Error, "y"));
        assert!(
            heard(&daemon)
                .ends_with(&format!("warning: {lost} messages lost: the system's log did not take them"))
        );
        assert!(heard(&daemon).ends_with("error: y"));
        std::fs::remove_file(&path).unwrap();
    }
}
