//! The process that runs programs for the daemon, and does nothing else.

use super::run_question::{CONFIGURE, FORGET, KILL, OPEN, RunRequest, START, answer, take_question};
use super::runner::{RESOLV_CONF, RUNNING_MAX, ReadPrograms, RunProgram};
use crate::sys::child::{kill_group, start_for};
use crate::sys::fs::{self, Links};
use crate::sys::seqpacket::PacketWait;
use crate::sys::trim;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, kill};
use nix::unistd::{Pid, getppid};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::path::Path;

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
pub(super) struct RunnerServer {
    fd: OwnedFd,
    /// The daemon.
    parent: Pid,
    programs: Vec<RunProgram>,
    running: Vec<RunningProgram>,
}

impl RunnerServer {
    /// For these programs, and the daemon at the other end of `fd`.
    pub(super) fn new(fd: OwnedFd, programs: Vec<RunProgram>) -> RunnerServer {
        RunnerServer { fd, parent: getppid(), programs, running: Vec::new() }
    }

    /// Until the daemon has ended; then all that runs is killed.
    pub(super) fn run(mut self, conf: &Path, read: ReadPrograms) {
        // The daemon is who is told to end, and ends this one.
        if SigSet::all().thread_set_mask().is_err() {
            return;
        }
        trim::drop_code_pages();
        trim::stack();
        while let Ok(question) = take_question(self.fd.as_fd(), PacketWait::Waits) {
            let mut opened = None;
            let done = match question {
                Some(RunRequest { kind: OPEN, pid, .. }) => {
                    fs::open_regular(Path::new(RESOLV_CONF), Links::Follow).map(|file| {
                        opened = Some(file);
                        pid
                    })
                }
                Some(question) => self.answer(question, conf, read),
                None => Err(Errno::EINVAL.into()),
            };
            let given: Vec<BorrowedFd<'_>> = opened.iter().map(|file| file.as_fd()).collect();
            if answer(self.fd.as_fd(), &done, &given, PacketWait::Waits).is_err() {
                break;
            }
        }
        self.running.iter().for_each(RunningProgram::kill);
    }

    fn answer(&mut self, question: RunRequest, conf: &Path, read: ReadPrograms) -> io::Result<Pid> {
        let pid = question.pid;
        match question.kind {
            START => return self.start(question),
            CONFIGURE => {
                let before = std::mem::take(&mut self.programs);
                self.programs = read(conf).unwrap_or(before);
                trim::drop_code_pages();
                trim::stack();
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
