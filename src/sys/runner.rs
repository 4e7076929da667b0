//! The programs that a confined daemon has run: by a process that was forked before, which knows them all. It
//! is told which one, by number, and what is to stand in its environment, never a command line; and it has
//! read the configuration itself. Knows nothing of what they are for.
//!
//! A program becomes a child of the daemon, which is told of its end by the system; only this process may
//! kill it. Datagrams over a pair of sockets, a question and its answer in turn: a question is its kind, the
//! number of a program and its mark (so that both mean the same one), the number of a process, and the
//! environment, each word ended by NUL; an answer is an error number, and the number of a process.
//!
//! It also opens the one file that every host may replace where much else is that nobody has to read.

use super::child::{ChildExit, Identity};
use super::fs::invalid;
use super::run_question::{ANSWER, CONFIGURE, FINISH, FORGET, KILL, OPEN, START};
use super::run_server::RunnerServer;
use super::seqpacket::{self, PacketWait};
use crate::base::crc::crc32c;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Programs that run at a time.
pub(super) const RUNNING_MAX: usize = 32;
/// Where the name servers of this host are.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// A program that may be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunProgram {
    /// Its path or name, and its arguments.
    pub argv: Vec<String>,
    /// As whom.
    pub identity: Option<Identity>,
}

impl RunProgram {
    /// What stands for it.
    pub(super) fn mark(&self) -> u32 {
        crc32c(&self.argv.iter().flat_map(|word| word.bytes().chain([0])).collect::<Vec<u8>>())
    }
}

/// This end of the pair.
struct RunnerClient {
    fd: OwnedFd,
    programs: Vec<RunProgram>,
    /// The other process is there.
    lives: bool,
    way: RunnerWay,
}

/// Who starts programs for this process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RunnerWay {
    /// The process that does nothing else: they are children of this one.
    Runner,
    /// The one that this one was forked from has that done, and says how they ended.
    Parent,
}

/// Programs of [`RunnerWay::Parent`] that have ended.
static ENDS: Mutex<Vec<(Pid, ChildExit)>> = Mutex::new(Vec::new());

static CLIENT: Mutex<Option<RunnerClient>> = Mutex::new(None);
/// No program can be started by this process itself any more.
static CONFINED: AtomicBool = AtomicBool::new(false);
/// This is a second process, for one task: what it cannot have the first one can.
static IS_SECOND: AtomicBool = AtomicBool::new(false);

fn client() -> MutexGuard<'static, Option<RunnerClient>> {
    CLIENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the programs of a configuration again; `None`: it is wrong.
pub type ReadPrograms = fn(&Path) -> Option<Vec<RunProgram>>;

/// Forks the process that runs these programs. `read` reads them again, from `conf`, when it is told to.
///
/// # Errors
/// No room for another process, no descriptor left.
pub fn open(programs: Vec<RunProgram>, conf: &Path, read: ReadPrograms) -> io::Result<()> {
    let (ours, theirs) = seqpacket::pair()?;
    super::fork::fork_server(theirs, &mut |fd| {
        let (conf, server) = (conf.to_owned(), RunnerServer::new(fd, programs.clone()));
        // The configuration is the daemon's, and it is large.
        // SAFETY: what is used from here on was made here. The process ends without going back to who has the
        // rest.
        unsafe { super::alloc::abandon_arena() };
        server.run(&conf, read);
    })?;
    *client() = Some(RunnerClient { fd: ours, programs, lives: true, way: RunnerWay::Runner });
    Ok(())
}

/// In a process that was forked from one that has programs run: that one is asked for these, through `fd`,
/// whose other end is a [`super::desk::ProgramDesk`]'s.
pub fn ask_parent(fd: OwnedFd, programs: Vec<RunProgram>) {
    *client() = Some(RunnerClient { fd, programs, lives: true, way: RunnerWay::Parent });
}

/// Likewise, with other programs.
pub fn reconfigure(programs: Vec<RunProgram>) {
    client().iter_mut().for_each(|client| client.programs.clone_from(&programs));
}

/// The parent says that a program has ended.
pub fn set_end(pid: i32, end: ChildExit) {
    ENDS.lock().unwrap_or_else(PoisonError::into_inner).push((Pid::from_raw(pid), end));
}

/// Whether the end of programs is told by the parent.
pub(super) fn is_told() -> bool {
    client().as_ref().is_some_and(|client| client.way == RunnerWay::Parent)
}

/// How a program has ended, if that was told.
pub(super) fn told_end(pid: Pid) -> Option<ChildExit> {
    let mut ends = ENDS.lock().unwrap_or_else(PoisonError::into_inner);
    let at = ends.iter().position(|(ended, _)| *ended == pid)?;
    Some(ends.swap_remove(at).1)
}

const LATE: &str = "it can be started only after a restart (confine)";

/// From now on no program can be started but by that process.
pub fn confine() {
    CONFINED.store(true, Ordering::Relaxed);
}

/// Whether programs are started by another process, or not at all.
#[must_use]
pub fn is_confined() -> bool {
    CONFINED.load(Ordering::Relaxed)
}

/// In a second process, which has none of the descriptors.
pub(super) fn forget() {
    IS_SECOND.store(true, Ordering::Relaxed);
    // Closed with all others: a drop would close somebody else's.
    std::mem::forget(client().take());
}

/// Whether there is such a process.
#[must_use]
pub fn is_there() -> bool {
    client().is_some()
}

/// Has that process read its programs again; these are what this one has read.
pub fn configure(programs: Vec<RunProgram>) {
    if let Some(client) = client().as_mut() {
        let _ = client.ask((CONFIGURE, 0, 0), 0, &[], &[]);
        client.programs = programs;
    }
}

/// Whether this is a second process without a way to that one.
pub(super) fn is_second() -> bool {
    IS_SECOND.load(Ordering::Relaxed)
}

/// Opens resolv.conf, which may be another file than the one that this process may read.
pub(super) fn open_resolv_conf() -> Option<File> {
    let mut client = client();
    let client = client.as_mut().filter(|client| client.way == RunnerWay::Runner)?;
    let (_, fds) = client.ask_for((OPEN, 0, 0), 0, &[], &[]).ok()?;
    fds.into_iter().next().map(File::from)
}

/// Starts one of the programs.
pub(super) fn start(
    argv: &[String],
    env: &[String],
    streams: [Option<BorrowedFd<'_>>; 3],
) -> io::Result<Pid> {
    let mut client = client();
    let client = client.as_mut().ok_or_else(|| invalid(LATE))?;
    let at = client.programs.iter().position(|program| program.argv == argv).ok_or_else(|| invalid(LATE))?;
    let mark = client.programs.get(at).map_or(0, RunProgram::mark);
    let env = env.iter().flat_map(|word| word.bytes().chain([0])).collect::<Vec<u8>>();
    client.ask((START, u8::try_from(at).unwrap_or(u8::MAX), mark), 0, &env, &streams).map(Pid::from_raw)
}

/// What is to become of a program that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProgramEnd {
    /// It is killed, with all that it started.
    Kill,
    /// It has ended, and what it left behind is killed. It was not waited for yet.
    Finish,
    /// It has ended.
    Forget,
}

/// Has that done.
pub(super) fn end(pid: Pid, how: ProgramEnd) {
    let kind = match how {
        ProgramEnd::Kill => KILL,
        ProgramEnd::Finish => FINISH,
        ProgramEnd::Forget => FORGET,
    };
    if let Some(client) = client().as_mut() {
        let _ = client.ask((kind, 0, 0), pid.as_raw(), &[], &[]);
    }
}

impl RunnerClient {
    /// Asks, and waits for the answer: the number of a process.
    fn ask(
        &mut self,
        (kind, program, mark): (u8, u8, u32),
        pid: i32,
        env: &[u8],
        streams: &[Option<BorrowedFd<'_>>],
    ) -> io::Result<i32> {
        self.ask_for((kind, program, mark), pid, env, streams).map(|(pid, _)| pid)
    }

    /// Likewise, and what was given with it.
    fn ask_for(
        &mut self,
        (kind, program, mark): (u8, u8, u32),
        pid: i32,
        env: &[u8],
        streams: &[Option<BorrowedFd<'_>>],
    ) -> io::Result<(i32, Vec<OwnedFd>)> {
        let given = (0..).zip(streams).filter(|(_, fd)| fd.is_some()).fold(0, |all, (at, _)| all | 1 << at);
        let head = [&[kind, program, given, 0][..], &mark.to_le_bytes(), &pid.to_le_bytes()].concat();
        let fds: Vec<RawFd> = streams.iter().flatten().map(|fd| fd.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let rights = if fds.is_empty() { &[][..] } else { &rights };
        let bytes = [IoSlice::new(&head), IoSlice::new(env)];
        let socket = self.fd.as_raw_fd();
        let mut answer = [0; ANSWER];
        let sent = again(|| sendmsg::<()>(socket, &bytes, rights, MsgFlags::MSG_NOSIGNAL, None));
        let heard =
            sent.and_then(|_| seqpacket::receive_beside(self.fd.as_fd(), &mut answer, PacketWait::Waits));
        let given = match heard {
            Ok((ANSWER, given)) => given,
            Err(e @ Errno::EMSGSIZE) => return Err(e.into()),
            _ => {
                if std::mem::replace(&mut self.lives, false) {
                    log::error!("the process that runs programs has ended: none is run until a restart");
                }
                return Err(Errno::ESRCH.into());
            }
        };
        let [e0, e1, e2, e3, p0, p1, p2, p3] = answer;
        // What the other process says in words of its own has no number.
        match Errno::from_raw(i32::from_le_bytes([e0, e1, e2, e3])) {
            Errno::UnknownErrno => Ok((i32::from_le_bytes([p0, p1, p2, p3]), given)),
            Errno::ENOENT => Err(invalid("no such program")),
            Errno::ECHILD => Err(invalid(LATE)),
            Errno::ESTALE => Err(invalid("the configuration has changed: reload it")),
            errno => Err(errno.into()),
        }
    }
}

fn again<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}
