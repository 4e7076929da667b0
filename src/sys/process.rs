//! A second process of this program, and its end.

use super::fs::null;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use std::io;
use std::ptr;

/// Which of the two processes goes on here.
pub enum Side {
    /// The one that was there before.
    Parent,
    /// The new one: of its own session, in `/`, with nothing on its standard streams, and nobody's child.
    Child,
}

/// How many descriptors this process may have at once: as many as it is allowed to allow itself.
#[must_use]
pub fn files_max() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the system call fills what it is given, which has the right type.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return 0;
    }
    if limit.rlim_cur < limit.rlim_max {
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        // SAFETY: the system call reads what it is given, which has the right type.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
            limit = raised;
        }
    }
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

/// Makes a second process that does not end with this one, its terminal or its session.
///
/// # Errors
/// When the system has no room for another process.
pub fn split() -> io::Result<Side> {
    if let Some(child) = fork()? {
        // It ends as soon as its own child has begun.
        while nix::sys::wait::waitpid(child, None) == Err(Errno::EINTR) {}
        return Ok(Side::Parent);
    }
    if background().is_err() {
        end();
    }
    Ok(Side::Child)
}

/// Goes on in a new process, as daemon(3) does: of its own session, in `/`, with nothing on its standard
/// streams. The previous process ends.
///
/// # Errors
/// When the system has no `/dev/null`, or no room for another process.
pub fn background() -> io::Result<()> {
    let null = null()?;
    if fork()?.is_some() {
        end();
    }
    setsid()?;
    // Who does not lead its session never gets a terminal again.
    if fork()?.is_some() {
        end();
    }
    chdir(c"/").and(dup2_stdin(&null)).and(dup2_stdout(&null)).and(dup2_stderr(&null))?;
    Ok(())
}

/// The child's number in the parent, nothing in the child.
pub(super) fn fork() -> nix::Result<Option<Pid>> {
    unsafe extern "C" {
        /// fork(2) without what the C library's `fork` does for threads and for handlers, of which mef has
        /// none.
        fn _Fork() -> libc::pid_t;
    }
    // SAFETY: it takes nothing. mef never starts a thread, so that the child finds memory and locks in a
    // state that is its own; where tests do, it calls only what may be called in a signal's handler.
    let child = Errno::result(unsafe { _Fork() })?;
    Ok((child > 0).then(|| Pid::from_raw(child)))
}

/// Likewise; the child is one of whose child this process is.
pub(super) fn fork_sibling() -> nix::Result<Option<Pid>> {
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    let none = ptr::null::<libc::c_void>();
    // SAFETY: as above: the copy has a stack of its own, at the same place, and calls only what may be called
    // in a signal's handler.
    let child = unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(flags), none, none, none, none) };
    let child = libc::pid_t::try_from(Errno::result(child)?).unwrap_or(0);
    Ok((child > 0).then(|| Pid::from_raw(child)))
}

/// Ends the process. Nothing that the other one has yet to write is written twice.
pub fn end() -> ! {
    end_with(0)
}

/// Likewise, with a status.
pub fn end_with(status: u8) -> ! {
    // SAFETY: takes a number.
    unsafe { libc::_exit(status.into()) }
}

/// Asks a process to end, as an init system does; that it is gone already is no error.
pub fn ask_to_end(pid: &str) {
    if let Some(pid) = pid.parse().ok().filter(|pid| *pid > 1) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
}

/// The name of a process, as far as a terminal can show it.
#[must_use]
pub fn name(pid: u32) -> Option<String> {
    let text = std::fs::read_to_string(["/proc/", &pid.to_string(), "/comm"].concat()).ok()?;
    Some(crate::base::line::shown(text.trim_end()).to_string())
}
