//! Programs that run beside the daemon: started without a shell, in a process group of their own, and gone
//! when the daemon is. Must not know what they are for.

#[cfg(test)]
#[path = "child_tests.rs"]
mod tests;

use super::fork::close_from;
use super::fs::{c_path, invalid, null};
use super::process::{self, fork_sibling};
use super::runner::{self, ProgramEnd};
use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{AccessFlags, Pid, access, getpid, getppid, setgid, setgroups, setpgid, setuid};
use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::ptr;

/// Where a program is looked for whose name has no `/`.
const DIRS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// What every program finds in its environment.
const ENVIRONMENT: [&str; 2] =
    ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"];
/// Exit status of a child that could not become the program.
const NO_EXEC: c_int = 127;

/// A program that was started. It is not ended by dropping this.
pub struct Child {
    pid: Pid,
    /// Another process has started it for this one, and only that may kill it.
    by_runner: bool,
}

/// As whom a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The number of the user.
    pub user: u32,
    /// The number of its group. It is in no other one.
    pub group: u32,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildExit {
    /// It returned this status.
    Status(i32),
    /// It was killed by this signal.
    Signal(i32),
}

impl fmt::Display for ChildExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChildExit::Status(n) => write!(f, "status {n}"),
            ChildExit::Signal(n) => write!(f, "signal {n}"),
        }
    }
}

/// The path of a program: as given if it has a `/`, else where such programs are. `None`: there is none.
#[must_use]
pub fn find(program: &str) -> Option<CString> {
    let there = |path: &str| {
        let path = c_path(path).ok()?;
        let runs = access(&*path, AccessFlags::X_OK).is_ok() && !Path::new(program).is_dir();
        runs.then_some(path)
    };
    if program.contains('/') {
        return there(program);
    }
    DIRS.iter().find_map(|dir| there(&[dir, "/", program].concat()))
}

/// Starts a program that reads a file, and gives what it writes as another one, whose reads wait for it.
///
/// # Errors
/// As `start`.
pub fn reader(argv: &[String], input: &File) -> io::Result<(Child, File)> {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let child = start_with(argv, &[], [Some(input.as_fd()), Some(write.as_fd()), None])?;
    Ok((child, read.into()))
}

/// Runs a program that reads nothing to its end, and gives what it prints.
///
/// # Errors
/// As `start`, or it did not end with status 0.
pub fn output(argv: &[&str]) -> io::Result<String> {
    use std::io::Read as _;
    let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
    let (child, mut said) = reader(&argv, &File::open("/dev/null")?)?;
    let mut text = Vec::new();
    said.read_to_end(&mut text)?;
    match child.wait() {
        ChildExit::Status(0) => Ok(String::from_utf8_lossy(&text).into_owned()),
        end => Err(io::Error::other(end.to_string())),
    }
}

/// Starts the program `argv` names, with those arguments, no shell, `/` as its directory, nothing on standard
/// input, and in its environment PATH, LC_ALL and what `env` adds (`NAME=value` each). `out` and `err` become
/// its standard output and error; `None` = nowhere. Everything else that we have open is closed there, our
/// signals are as they were, and it is killed when we die.
///
/// # Errors
/// No such program, no room for another process, a NUL in an argument.
pub fn start(
    argv: &[String],
    env: &[String],
    out: Option<BorrowedFd<'_>>,
    err: Option<BorrowedFd<'_>>,
) -> io::Result<Child> {
    start_with(argv, env, [None, out, err])
}

/// Likewise, with its standard streams in their order.
///
/// # Errors
/// As `start`.
pub fn start_with(
    argv: &[String],
    env: &[String],
    streams: [Option<BorrowedFd<'_>>; 3],
) -> io::Result<Child> {
    start_as(None, argv, env, streams)
}

/// Likewise, as somebody else. Where another process runs programs for this one, that knows as whom.
///
/// # Errors
/// As `start`.
pub fn start_as(
    identity: Option<Identity>,
    argv: &[String],
    env: &[String],
    streams: [Option<BorrowedFd<'_>>; 3],
) -> io::Result<Child> {
    if runner::is_confined() {
        return runner::start(argv, env, streams).map(|pid| Child { pid, by_runner: true });
    }
    start_for(getpid(), identity, argv, env, streams).map(own)
}

/// Likewise, as a child of `parent`: of this process, or of the one whose child it is.
pub(super) fn start_for(
    parent: Pid,
    identity: Option<Identity>,
    argv: &[String],
    env: &[String],
    streams: [Option<BorrowedFd<'_>>; 3],
) -> io::Result<Pid> {
    let program = argv.first().and_then(|p| find(p)).ok_or_else(|| invalid("no such program"))?;
    // Everything is made before the fork: behind it nothing may be allocated.
    let words = |list: &mut dyn Iterator<Item = &str>| list.map(CString::new).collect::<Result<Vec<_>, _>>();
    let argv = words(&mut argv.iter().map(String::as_str))?;
    let env = words(&mut ENVIRONMENT.into_iter().chain(env.iter().map(String::as_str)))?;
    let null = null()?;
    let null = null.as_raw_fd();
    let streams = streams.map(|fd| fd.map_or(null, |fd| fd.as_raw_fd()));
    let plan = SpawnPlan {
        program: &program,
        argv: &pointers(&argv),
        env: &pointers(&env),
        streams,
        parent,
        identity,
    };
    // The child calls nothing that is not async-signal-safe and allocates nothing: see `SpawnPlan::go`.
    let forked = if parent == getpid() { process::fork() } else { fork_sibling() };
    let Some(child) = forked? else { plan.go() };
    // Also done by the child: whoever is first, the group is there when either goes on.
    let _ = setpgid(child, child);
    Ok(child)
}

/// A child of this process.
pub(super) fn own(pid: Pid) -> Child {
    Child { pid, by_runner: false }
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

/// What the child does between fork and exec.
struct SpawnPlan<'a> {
    program: &'a CStr,
    /// Each ends with a null pointer.
    argv: &'a [*const c_char],
    env: &'a [*const c_char],
    streams: [c_int; 3],
    parent: Pid,
    identity: Option<Identity>,
}

impl SpawnPlan<'_> {
    fn go(&self) -> ! {
        if self.prepare().is_ok() {
            // SAFETY: the strings and the lists of pointers, which end with null, were made before the fork
            // and live.
            unsafe { libc::execve(self.program.as_ptr(), self.argv.as_ptr(), self.env.as_ptr()) };
        }
        // SAFETY: async-signal-safe; nothing of the parent's is run or written.
        unsafe { libc::_exit(NO_EXEC) }
    }

    fn prepare(&self) -> Result<(), Errno> {
        setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
        if let Some(Identity { user, group }) = self.identity {
            setgroups(&[group.into()])?;
            setgid(group.into())?;
            setuid(user.into())?;
        }
        // Behind a change of the user, which takes this back.
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        if getppid() != self.parent {
            return Err(Errno::ESRCH);
        }
        for (to, from) in (0..).zip(self.streams) {
            // SAFETY: async-signal-safe, no memory is involved; ours are all above the three.
            Errno::result(unsafe { libc::dup2(from, to) })?;
        }
        // Ours end with the exec in any case; those that we were started with need not.
        // SAFETY: nothing but the standard streams is used between here and the exec.
        unsafe { close_from(3) };
        // SAFETY: no handler runs; what is ignored here would stay so in the program.
        unsafe { nix::sys::signal::signal(Signal::SIGPIPE, SigHandler::SigDfl) }?;
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        nix::unistd::chdir(c"/")
    }
}

impl Child {
    /// Its number.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Its number, for people.
    #[must_use]
    pub fn number(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Kills the program and all that it started, as far as that stayed in its group.
    pub fn kill(&self) {
        if self.by_runner { runner::end(self.pid, ProgramEnd::Kill) } else { kill_group(self.pid) }
    }

    /// Waits for its end. What it left behind runs on: a service that an init script has started.
    pub fn wait(&self) -> ChildExit {
        let end = loop {
            match waitid(Id::Pid(self.pid), WaitPidFlag::WEXITED) {
                Err(Errno::EINTR) => {}
                Ok(WaitStatus::Exited(_, status)) => break ChildExit::Status(status),
                Ok(WaitStatus::Signaled(_, signal, _)) => break ChildExit::Signal(signal as i32),
                _ => break ChildExit::Status(0),
            }
        };
        if self.by_runner {
            runner::end(self.pid, ProgramEnd::Forget);
        }
        end
    }

    /// How it ended, if it did; then what it left behind is killed. Must not be asked again after that.
    pub fn ended(&self) -> Option<ChildExit> {
        if self.by_runner && runner::is_told() {
            return runner::told_end(self.pid);
        }
        // Left unreaped for a moment, so that the number of the group cannot belong to somebody else.
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
        match waitid(Id::Pid(self.pid), look | WaitPidFlag::WNOWAIT) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => return None,
            // Somebody else has waited for it: it is gone.
            Err(_) => return Some(ChildExit::Status(0)),
            Ok(_) if self.by_runner => runner::end(self.pid, ProgramEnd::Finish),
            Ok(_) => kill_group(self.pid),
        }
        match waitid(Id::Pid(self.pid), look) {
            Ok(WaitStatus::Exited(_, status)) => Some(ChildExit::Status(status)),
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(ChildExit::Signal(signal as i32)),
            _ => Some(ChildExit::Status(0)),
        }
    }
}

pub(super) fn kill_group(leader: Pid) {
    // Also where it has not made its group yet.
    let _ = kill(leader, Signal::SIGKILL);
    let _ = kill(Pid::from_raw(-leader.as_raw()), Signal::SIGKILL);
}

/// What becomes of who writes to a full pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits.
    Wait,
    /// What does not fit is lost.
    Lose,
}

/// A pipe: its reading end never blocks, and both end with an exec.
///
/// # Errors
/// When no descriptor is left.
pub fn pipe(full: WhenFull) -> io::Result<(File, OwnedFd)> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    if full == WhenFull::Lose {
        fcntl(&write, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    Ok((read.into(), write))
}
