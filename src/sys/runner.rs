//! The programs that a confined daemon has run: by a process that was forked before, which knows them all. It
//! is told which one, by number, and what is to stand in its environment, never a command line; and it has
//! read the configuration itself. Knows nothing of what they are for.
//!
//! A program becomes a child of the daemon, which is told of its end by the system; only this process may
//! kill it. Datagrams over a pair of sockets, a question and its answer in turn: a question is its kind, the
//! number of a program and its mark (so that both mean the same one), the number of a process, and the
//! environment, each word ended by NUL; an answer is an error number, and the number of a process.

use super::child::{Identity, kill_group, start_for};
use super::fs::invalid;
use crate::base::crc::crc32c;
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, kill};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv, recvmsg, send,
    sendmsg, socketpair,
};
use nix::unistd::{Pid, getppid};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of an environment, and of one word of it.
const ENVIRONMENT_MAX: usize = 4096;
const WORD_MAX: usize = 1024;
/// What every word of it begins with.
const PREFIX: &[u8] = b"MEF_";
/// Programs that run at a time.
const RUNNING_MAX: usize = 32;
/// Bytes in front of an environment; all of an answer.
const HEAD: usize = 12;
const ANSWER: usize = 8;

/// Kinds of questions: start one; kill it; the same, and it is over; it is over; read the configuration.
const START: u8 = 1;
const KILL: u8 = 2;
const FINISH: u8 = 3;
const FORGET: u8 = 4;
const CONFIGURE: u8 = 5;

/// A program that may be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunProgram {
    /// Its path or name, and its arguments.
    pub argv: Vec<String>,
    /// As whom.
    pub identity: Option<Identity>,
}

impl RunProgram {
    fn mark(&self) -> u32 {
        crc32c(&self.argv.iter().flat_map(|word| word.bytes().chain([0])).collect::<Vec<u8>>())
    }
}

/// This end of the pair.
struct RunnerClient {
    fd: OwnedFd,
    programs: Vec<RunProgram>,
    /// The other process is there.
    lives: bool,
}

static CLIENT: Mutex<Option<RunnerClient>> = Mutex::new(None);
/// No program can be started by this process itself any more.
static CONFINED: AtomicBool = AtomicBool::new(false);

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
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    super::child::fork_server(theirs, &mut |fd| {
        let (conf, server) = (conf.to_owned(), RunnerServer::new(fd, programs.clone()));
        // The configuration is the daemon's, and it is large.
        // SAFETY: what is used from here on was made here. The process ends without going back to who has the
        // rest.
        unsafe { super::alloc::abandon_arena() };
        server.run(&conf, read);
    })?;
    *client() = Some(RunnerClient { fd: ours, programs, lives: true });
    Ok(())
}

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

/// Starts one of the programs.
pub(super) fn start(
    argv: &[String],
    env: &[String],
    streams: [Option<BorrowedFd<'_>>; 3],
) -> io::Result<Pid> {
    const LATE: &str = "it can be started only after a restart (confine)";
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
        let given = (0..).zip(streams).filter(|(_, fd)| fd.is_some()).fold(0, |all, (at, _)| all | 1 << at);
        let head = [&[kind, program, given, 0][..], &mark.to_le_bytes(), &pid.to_le_bytes()].concat();
        let fds: Vec<RawFd> = streams.iter().flatten().map(|fd| fd.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let rights = if fds.is_empty() { &[][..] } else { &rights };
        let bytes = [IoSlice::new(&head), IoSlice::new(env)];
        let socket = self.fd.as_raw_fd();
        let mut answer = [0; ANSWER];
        let sent = again(|| sendmsg::<()>(socket, &bytes, rights, MsgFlags::MSG_NOSIGNAL, None));
        let heard = sent.and_then(|_| again(|| recv(socket, &mut answer, MsgFlags::empty())));
        match heard {
            Ok(ANSWER) => {}
            Err(e @ Errno::EMSGSIZE) => return Err(e.into()),
            _ => {
                if std::mem::replace(&mut self.lives, false) {
                    log::error!("the process that runs programs has ended: none is run until a restart");
                }
                return Err(Errno::ESRCH.into());
            }
        }
        let [e0, e1, e2, e3, p0, p1, p2, p3] = answer;
        // What the other process says in words of its own has no number.
        match Errno::from_raw(i32::from_le_bytes([e0, e1, e2, e3])) {
            Errno::UnknownErrno => Ok(i32::from_le_bytes([p0, p1, p2, p3])),
            Errno::ENOENT => Err(invalid("no such program")),
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

/// A program that was started, with what stays it when its number is somebody else's: the daemon says when it
/// is over, and who has his code run there could say so of a number that another process has by then.
struct RunningProgram {
    pid: Pid,
    /// `None`: Linux before 5.3.
    fd: Option<OwnedFd>,
}

impl RunningProgram {
    fn new(pid: Pid) -> RunningProgram {
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
        let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0);
        // SAFETY: the kernel has just made it, with FD_CLOEXEC, for nobody else.
        RunningProgram { pid, fd: fd.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }) }
    }

    /// Kills it with all that it has started. While any of that lives nobody else gets its number.
    fn kill(&self) {
        let is_gone = self.fd.as_ref().is_some_and(|fd| {
            let nothing = std::ptr::null::<libc::siginfo_t>();
            // SAFETY: no memory is involved: nothing is sent, and nothing told about it.
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), 0, nothing, 0) == -1 }
        });
        if !is_gone || kill(self.pid, None).is_err() {
            kill_group(self.pid);
        }
    }
}

/// The other process.
struct RunnerServer {
    fd: OwnedFd,
    /// The daemon.
    parent: Pid,
    programs: Vec<RunProgram>,
    running: Vec<RunningProgram>,
}

/// What was asked.
struct RunRequest {
    kind: u8,
    program: u8,
    mark: u32,
    pid: Pid,
    /// `None`: something in it is not ours.
    env: Option<Vec<String>>,
    streams: [Option<OwnedFd>; 3],
}

impl RunnerServer {
    fn new(fd: OwnedFd, programs: Vec<RunProgram>) -> RunnerServer {
        RunnerServer { fd, parent: getppid(), programs, running: Vec::new() }
    }

    /// Until the daemon has ended; then all that runs is killed.
    fn run(mut self, conf: &Path, read: ReadPrograms) {
        // The daemon is who is told to end, and ends this one.
        if SigSet::all().thread_set_mask().is_err() {
            return;
        }
        super::trim::drop_code_pages();
        super::trim::stack();
        while let Ok(question) = self.question() {
            let done = match question {
                Some(question) => self.answer(question, conf, read),
                None => Err(Errno::EINVAL.into()),
            };
            let errno = done.as_ref().err().map_or(0, |e| e.raw_os_error().unwrap_or(libc::ENOENT));
            let answer = [errno, done.map_or(0, Pid::as_raw)].map(i32::to_le_bytes).concat();
            let _ = send(self.fd.as_raw_fd(), &answer, MsgFlags::MSG_NOSIGNAL);
        }
        self.running.iter().for_each(RunningProgram::kill);
    }

    /// `None`: there is none, or it is none that is understood.
    fn question(&self) -> Result<Option<RunRequest>, Errno> {
        let mut bytes = [0; HEAD + ENVIRONMENT_MAX];
        let mut space = cmsg_space!([RawFd; 3]);
        let (len, fds) = {
            let mut room = [IoSliceMut::new(&mut bytes)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let got = recvmsg::<()>(self.fd.as_raw_fd(), &mut room, Some(&mut space), flags)?;
            (got.bytes, received(got.cmsgs()?))
        };
        // The daemon has ended.
        if len == 0 {
            return Err(Errno::ECONNRESET);
        }
        Ok(read_question(bytes.get(..len).unwrap_or_default(), fds))
    }

    fn answer(&mut self, question: RunRequest, conf: &Path, read: ReadPrograms) -> io::Result<Pid> {
        let pid = question.pid;
        match question.kind {
            START => return self.start(question),
            CONFIGURE => {
                let before = std::mem::take(&mut self.programs);
                self.programs = read(conf).unwrap_or(before);
                super::trim::drop_code_pages();
                super::trim::stack();
            }
            kind => {
                // Nobody else's.
                let mut running = self.running.iter();
                let at = running.position(|running| running.pid == pid).ok_or(Errno::ESRCH)?;
                if kind != FORGET {
                    self.running.get(at).iter().for_each(|running| running.kill());
                }
                if kind != KILL {
                    self.running.swap_remove(at);
                }
            }
        }
        Ok(pid)
    }

    fn start(&mut self, question: RunRequest) -> io::Result<Pid> {
        let program = self.programs.get(usize::from(question.program));
        // Both have read the same configuration, or the next reload will see to it.
        let program = program.filter(|program| program.mark() == question.mark).ok_or(Errno::ESTALE)?;
        if self.running.len() == RUNNING_MAX {
            return Err(Errno::EAGAIN.into());
        }
        let env = question.env.ok_or(Errno::EINVAL)?;
        let [input, out, err] = &question.streams;
        let streams = [input, out, err].map(|fd| fd.as_ref().map(|fd| fd.as_fd()));
        let pid = start_for(self.parent, program.identity, &program.argv, &env, streams)?;
        self.running.push(RunningProgram::new(pid));
        Ok(pid)
    }
}

fn received(messages: impl Iterator<Item = ControlMessageOwned>) -> Vec<OwnedFd> {
    let mut all = Vec::new();
    for message in messages {
        if let ControlMessageOwned::ScmRights(fds) = message {
            // SAFETY: the kernel has just made them, for nobody else.
            all.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    all
}

fn read_question(bytes: &[u8], fds: Vec<OwnedFd>) -> Option<RunRequest> {
    let (&[kind, program, given, _, m0, m1, m2, m3, p0, p1, p2, p3], env) =
        bytes.split_first_chunk::<HEAD>()?;
    let mut fds = fds.into_iter();
    let streams = [0, 1, 2].map(|at| if given >> at & 1 == 1 { fds.next() } else { None });
    Some(RunRequest {
        kind,
        program,
        mark: u32::from_le_bytes([m0, m1, m2, m3]),
        pid: Pid::from_raw(i32::from_le_bytes([p0, p1, p2, p3])),
        env: read_environment(env),
        streams,
    })
}

/// The words of an environment, if all of them are ours: no program is told where libraries are.
fn read_environment(bytes: &[u8]) -> Option<Vec<String>> {
    let mut words = Vec::new();
    for word in bytes.split_inclusive(|b| *b == 0) {
        let word = word.strip_suffix(&[0])?;
        let name = word.split(|b| *b == b'=').next().filter(|name| name.len() < word.len())?;
        let ours = name.starts_with(PREFIX) && name.iter().all(|b| b.is_ascii_uppercase() || *b == b'_');
        if !ours || word.len() > WORD_MAX {
            return None;
        }
        words.push(String::from_utf8(word.to_vec()).ok()?);
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
    use std::process::{Child, Command};

    fn sleeps() -> (Child, RunningProgram) {
        let child = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        (child, RunningProgram::new(pid))
    }

    #[test]
    fn whoever_has_the_number_of_a_program_that_is_over_is_not_killed() {
        let (mut one, mut running) = sleeps();
        let (mut other, others) = sleeps();
        running.kill();
        assert_eq!(one.wait().unwrap().signal(), Some(libc::SIGKILL));
        // As if the next process had got its number.
        running.pid = others.pid;
        running.kill();
        assert!(
            running.fd.is_none() || kill(others.pid, None).is_ok() && other.try_wait().unwrap().is_none()
        );
        others.kill();
        assert_eq!(other.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
}
