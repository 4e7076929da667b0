//! Processes of our own program: forks that keep nothing but what they are for.

use super::child::{Child, own};
use crate::sys::fs::null;
use crate::sys::process::{self, fork};
use crate::sys::runner;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{Pid, getpid, getppid, setpgid};
use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// Descriptors that are closed one by one at most, where the system cannot close them all.
const CLOSED_FDS_MAX: c_int = 1 << 16;

/// Does `work` in a second process that does not end with this one but has its end of `fd`: whatever else it
/// has open but the standard streams is closed there.
///
/// # Errors
/// No room for another process.
pub(super) fn fork_server(fd: OwnedFd, work: &mut dyn FnMut(OwnedFd)) -> io::Result<()> {
    const KEPT: c_int = 3;
    if fork()?.is_some() {
        return Ok(());
    }
    crate::sys::syslog::forget();
    crate::sys::relay::forget();
    // SAFETY: no memory is involved; what has the number is closed with all others.
    let kept = unsafe { libc::dup2(fd.as_raw_fd(), KEPT) } == KEPT;
    if kept && setpgid(Pid::from_raw(0), Pid::from_raw(0)).is_ok() {
        // It is the number itself, or closed now.
        std::mem::forget(fd);
        // SAFETY: as in `close_all`.
        unsafe { close_from(KEPT + 1) };
        // SAFETY: it was made here, for nobody else.
        work(unsafe { OwnedFd::from_raw_fd(KEPT) });
    }
    process::end()
}

/// Does `work` in a second process, so that this one does not wait for it and needs no memory for it; it ends
/// with the status that `work` returns. Whatever it has open but the standard streams is closed there; it
/// hears signals as any program, and is killed when we die.
///
/// # Errors
/// When the system has no room for another process.
pub fn fork_worker(work: &mut dyn FnMut() -> u8) -> io::Result<Child> {
    let parent = getpid();
    if let Some(child) = fork()? {
        let _ = setpgid(child, child);
        return Ok(own(child));
    }
    let own_group = setpgid(Pid::from_raw(0), Pid::from_raw(0))
        .and_then(|()| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL))
        .and_then(|()| sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None));
    let mut status = 0;
    if own_group.is_ok() && getppid() == parent {
        close_all();
        status = work();
    }
    process::end_with(status)
}

/// Does `work` in a second process that has these two descriptors and nothing on the standard streams, and is
/// killed when we die. Signals stay blocked there: they are for this process.
///
/// # Errors
/// No room for another process, no descriptor left.
pub fn fork_apart(kept: [OwnedFd; 2], work: &mut dyn FnMut([OwnedFd; 2])) -> io::Result<Child> {
    // Above where they are put, so that neither is put on the other.
    const ABOVE: c_int = 8;
    use nix::fcntl::{FcntlArg, fcntl};
    let parent = getpid();
    let mut high = [0; 2];
    for (to, fd) in high.iter_mut().zip(&kept) {
        *to = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(ABOVE))?;
    }
    // SAFETY: they were made here, for nobody else.
    let high = high.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    // Where there is no /dev, an end of a pipe that nobody writes to does as well.
    let null = null().or_else(|_| nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map(|(read, _)| read))?;
    if let Some(child) = fork()? {
        let _ = setpgid(child, child);
        return Ok(own(child));
    }
    forget_all();
    let places = [3, 4];
    // The streams of the daemon may be the system's log. First of all: what is nothing may be at 3 or 4.
    let nothing = (0..3).zip([&null; 3]);
    let put = nothing.chain(places.into_iter().zip(&high)).all(|(to, fd)| {
        // SAFETY: no memory is involved; what has the number is closed with all others.
        unsafe { libc::dup2(fd.as_raw_fd(), to) == to }
    });
    let ready = setpgid(Pid::from_raw(0), Pid::from_raw(0))
        .and_then(|()| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL));
    std::mem::forget((high, kept, null));
    if put && ready.is_ok() && getppid() == parent {
        // SAFETY: as in `close_all`.
        unsafe { close_from(5) };
        // SAFETY: they were made here, for nobody else.
        work(places.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
    }
    process::end()
}

/// What has descriptors of its own lets go of them.
fn forget_all() {
    crate::sys::syslog::forget();
    crate::sys::relay::forget();
    runner::forget();
}

/// Closes everything but the standard streams: locks and sockets belong to the parent. What had them open is
/// never used again, and never dropped.
fn close_all() {
    forget_all();
    // SAFETY: the log and the relay have let go of their sockets, and nothing else that has a descriptor is
    // used in this process.
    unsafe { close_from(3) };
}

/// Closes all descriptors from `first` on. Async-signal-safe.
///
/// # Safety
/// Nothing that has one of them is used in this process any more.
pub(super) unsafe fn close_from(first: c_int) {
    // SAFETY: no memory is involved; the descriptors are nobody's, says the caller.
    if unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) } == 0 {
        return;
    }
    // Linux before 5.9. None has a number beyond the limit, unless the limit was lowered since.
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the system call fills what it is given, which has the right type.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    let end = if known { c_int::try_from(limit.rlim_max).unwrap_or(CLOSED_FDS_MAX) } else { CLOSED_FDS_MAX };
    for fd in first..end.min(CLOSED_FDS_MAX) {
        // SAFETY: as above.
        unsafe { libc::close(fd) };
    }
}
