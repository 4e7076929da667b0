//! Programs that run beside the daemon: started without a shell, in a process group of their own, and gone
//! when the daemon is. Must not know what they are for.

use super::fs::{c_path, invalid, null};
use super::process::{fork, fork_sibling};
use super::runner::{self, ProgramEnd};
use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{AccessFlags, Pid, access, getpid, getppid, setgid, setgroups, setpgid, setuid};
use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::path::Path;
use std::ptr;

/// Where a program is looked for whose name has no `/`.
const DIRS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// What every program finds in its environment.
const ENVIRONMENT: [&str; 2] =
    ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"];
/// Exit status of a child that could not become the program.
const NO_EXEC: c_int = 127;
/// Descriptors that are closed one by one at most, where the system cannot close them all.
const CLOSED_FDS_MAX: c_int = 1 << 16;

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
    let forked = if parent == getpid() { fork() } else { fork_sibling() };
    let Some(child) = forked? else { plan.go() };
    // Also done by the child: whoever is first, the group is there when either goes on.
    let _ = setpgid(child, child);
    Ok(child)
}

fn own(pid: Pid) -> Child {
    Child { pid, by_runner: false }
}

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
    super::syslog::forget();
    super::relay::forget();
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
    super::process::end()
}

/// Does `work` in a second process, so that this one does not wait for it and needs no memory for it.
/// Whatever it has open but the standard streams is closed there; it hears signals as any program, and is
/// killed when we die.
///
/// # Errors
/// When the system has no room for another process.
pub fn fork_worker(work: &mut dyn FnMut()) -> io::Result<Child> {
    fork_worker_with(&mut || {
        work();
        0
    })
}

/// Likewise; it ends with the status that `work` returns.
///
/// # Errors
/// As `beside`.
pub fn fork_worker_with(work: &mut dyn FnMut() -> u8) -> io::Result<Child> {
    let parent = getpid();
    if let Some(child) = fork()? {
        let _ = setpgid(child, child);
        return Ok(own(child));
    }
    let own = setpgid(Pid::from_raw(0), Pid::from_raw(0))
        .and_then(|()| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL))
        .and_then(|()| sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None));
    let mut status = 0;
    if own.is_ok() && getppid() == parent {
        close_all();
        status = work();
    }
    super::process::end_with(status)
}

/// Closes everything but the standard streams: locks and sockets belong to the parent. What had them open is
/// never used again, and never dropped.
fn close_all() {
    super::syslog::forget();
    super::relay::forget();
    runner::forget();
    // SAFETY: the log and the relay have let go of their sockets, and nothing else that has a descriptor is
    // used in this process.
    unsafe { close_from(3) };
}

/// Closes all descriptors from `first` on. Async-signal-safe.
///
/// # Safety
/// Nothing that has one of them is used in this process any more.
unsafe fn close_from(first: c_int) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::time::{Duration, Instant};

    fn sh(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(String::from).to_vec()
    }

    /// What the program writes, and how it ends.
    fn run(argv: &[String], env: &[String]) -> (String, ChildExit) {
        let (mut read, write) = pipe(WhenFull::Wait).unwrap();
        let child = start(argv, env, Some(write.as_fd()), None).unwrap();
        drop(write);
        let end = wait(&child);
        (String::from_utf8(all_of(&mut read)).unwrap(), end)
    }

    /// What stands in a pipe up to its end. That may come a moment after the program's: a process that
    /// another test starts has all that is open here until it becomes its program.
    fn all_of(read: &mut File) -> Vec<u8> {
        let late = Instant::now() + Duration::from_secs(20);
        let mut said = Vec::new();
        while let Err(e) = read.read_to_end(&mut said) {
            assert_eq!(e.kind(), io::ErrorKind::WouldBlock);
            assert!(Instant::now() < late, "somebody lives");
            std::thread::sleep(Duration::from_millis(1));
        }
        said
    }

    fn wait(child: &Child) -> ChildExit {
        let late = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(end) = child.ended() {
                return end;
            }
            assert!(Instant::now() < late, "it does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_program_has_what_it_needs_and_nothing_of_ours() {
        let ours = std::env::temp_dir().join(format!("mef-child-ours-{}", std::process::id()));
        let own = File::create(&ours).unwrap();
        let (said, end) = run(&sh("env | sort; pwd; readlink /proc/self/fd/0; cat"), &["A=b c".to_string()]);
        assert_eq!(end, ChildExit::Status(0));
        assert_eq!(said, format!("A=b c\nLC_ALL=C\n{}\nPWD=/\n/\n/dev/null\n", ENVIRONMENT[0]));
        let (said, _) = run(&sh("ls -l /proc/$$/fd"), &[]);
        assert!(said.contains("/dev/null") && !said.contains("mef-child-ours"), "{said}");
        std::fs::remove_file(&ours).unwrap();
        // One that would outlive an exec, as those may that the daemon was started with.
        let inherited = nix::unistd::dup(&own).unwrap();
        nix::fcntl::fcntl(&inherited, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
        for script in ["for fd in /proc/self/fd/*; do echo ${fd##*/}; done", "exec ls /proc/self/fd"] {
            // The last one is the directory itself.
            assert_eq!(run(&sh(script), &[]).0, "0\n1\n2\n3\n", "{script}");
        }
        let (said, _) = run(&sh("grep -E '^Sig(Blk|Ign)' /proc/self/status"), &[]);
        for line in said.lines() {
            let set = u64::from_str_radix(line.rsplit('\t').next().unwrap(), 16).unwrap();
            assert_eq!(set & 1 << (libc::SIGPIPE - 1), 0, "{said}");
            assert_eq!(set & 1 << (libc::SIGTERM - 1), 0, "{said}");
        }
    }

    #[test]
    fn ends_are_told() {
        assert_eq!(run(&sh("exit 3"), &[]).1, ChildExit::Status(3));
        assert_eq!(run(&sh("kill -9 $$"), &[]).1, ChildExit::Signal(9));
        // A file that may be run and is no program.
        let text = std::env::temp_dir().join(format!("mef-child-{}", std::process::id()));
        std::fs::write(&text, "\0text").unwrap();
        std::fs::set_permissions(&text, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(run(&[text.to_str().unwrap().into()], &[]).1, ChildExit::Status(NO_EXEC));
        std::fs::remove_file(&text).unwrap();
    }

    #[test]
    fn what_cannot_be_started_is_an_error() {
        for argv in
            [vec![], vec!["mef-no-such-program".into()], vec!["/".into()], vec!["sh".into(), "\0".into()]]
        {
            assert!(start(&argv, &[], None, None).is_err(), "{argv:?}");
        }
    }

    #[test]
    fn its_children_go_with_it() {
        let (mut read, write) = pipe(WhenFull::Wait).unwrap();
        let child = start(&sh("sleep 1000 & sleep 1000 & wait"), &[], Some(write.as_fd()), None).unwrap();
        drop(write);
        assert_eq!(child.ended(), None);
        assert_eq!(read.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        child.kill();
        assert_eq!(wait(&child), ChildExit::Signal(9));
        // Nobody has the other end any more.
        assert!(all_of(&mut read).is_empty());
    }

    #[test]
    fn a_pipe_that_drops_stops_nobody() {
        let (mut read, write) = pipe(WhenFull::Lose).unwrap();
        let child =
            start(&sh("yes 2>/dev/null | head -c 1000000 >&2"), &[], None, Some(write.as_fd())).unwrap();
        drop(write);
        wait(&child);
        let said = all_of(&mut read);
        assert!(!said.is_empty() && said.len() < 1_000_000, "{}", said.len());
    }
}
