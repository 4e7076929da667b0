#![forbid(unsafe_code)]
//! Programs are run for a process that was forked from this one.

use super::run_question::{RunRequest, START, answer, take_question};
use super::runner::{RUNNING_MAX, RunProgram, is_there};
use crate::sys::child::{Child, ChildExit, start_with};
use crate::sys::seqpacket::PacketWait;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd::Pid;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// Has programs run for a process that was forked from this one, which knows them by number, too.
pub struct ProgramDesk {
    fd: OwnedFd,
    programs: Vec<RunProgram>,
    running: Vec<DeskProgram>,
}

/// One that was started.
struct DeskProgram {
    /// What stands for its words.
    mark: u32,
    child: Child,
    state: DeskState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DeskState {
    Runs,
    /// It was killed, and has not ended yet.
    Killed,
}

impl ProgramDesk {
    /// For these programs, and questions that come through `fd`.
    #[must_use]
    pub fn new(fd: OwnedFd, programs: Vec<RunProgram>) -> ProgramDesk {
        ProgramDesk { fd, programs, running: Vec::new() }
    }

    /// Takes other programs.
    pub fn configure(&mut self, programs: Vec<RunProgram>) {
        self.programs = programs;
    }

    /// For polling.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Answers one question, if there is one. Nobody is waited for.
    ///
    /// # Errors
    /// Who asks has ended; or asks on and takes no answers (EBADMSG).
    pub fn turn(&mut self) -> Result<(), Errno> {
        let question = match take_question(self.fd.as_fd(), PacketWait::None) {
            Err(Errno::EAGAIN) => return Ok(()),
            question => question?,
        };
        let done = question.ok_or(Errno::EINVAL.into()).and_then(|question| self.answer(&question));
        match answer(self.fd.as_fd(), &done, &[], PacketWait::None) {
            Err(Errno::EAGAIN) => Err(Errno::EBADMSG),
            sent => sent,
        }
    }

    fn answer(&mut self, question: &RunRequest) -> io::Result<Pid> {
        if question.kind != START {
            let mut running = self.running.iter_mut();
            let running = running.find(|one| one.child.pid() == question.pid).ok_or(Errno::ESRCH)?;
            running.child.kill();
            running.state = DeskState::Killed;
            return Ok(question.pid);
        }
        let program = self.programs.get(usize::from(question.program));
        let program = program.filter(|program| program.mark() == question.mark).ok_or(Errno::ESTALE)?;
        if !self.may_start(question.mark) {
            return Err(Errno::EAGAIN.into());
        }
        if !is_there() {
            return Err(Errno::ECHILD.into());
        }
        let child = start_with(&program.argv, &[], pipes(&question.streams)?)?;
        let pid = child.pid();
        self.running.push(DeskProgram { mark: question.mark, child, state: DeskState::Runs });
        Ok(pid)
    }

    /// Whether a program may run once more: once, and beside one that ends. Otherwise whoever asks would have
    /// as many run as there is room for.
    fn may_start(&self, mark: u32) -> bool {
        let all = || self.running.iter().filter(|one| one.mark == mark);
        self.running.len() < RUNNING_MAX
            && all().count() < 2
            && all().all(|one| one.state == DeskState::Killed)
    }

    /// None runs for nobody: kills them all, which have still to be waited for.
    #[must_use]
    pub fn stop(self) -> Vec<Child> {
        self.running.iter().for_each(|one| one.child.kill());
        self.running.into_iter().map(|one| one.child).collect()
    }

    /// A child has ended: calls `each` with those of ours that have.
    pub fn child_ended(&mut self, each: &mut dyn FnMut(i32, ChildExit)) {
        self.running.retain(|one| {
            let end = one.child.ended();
            end.into_iter().for_each(|end| each(one.child.pid().as_raw(), end));
            end.is_none()
        });
    }
}

/// What a program may have of who must not choose what root writes to: pipes to write to. It reads nothing.
fn pipes(streams: &[Option<OwnedFd>; 3]) -> io::Result<[Option<BorrowedFd<'_>>; 3]> {
    let [_, out, err] = streams.each_ref().map(|fd| fd.as_ref().map(|fd| fd.as_fd()));
    for fd in [out, err].into_iter().flatten() {
        // No other file answers that, and whatever it is nobody is waited for.
        fcntl(fd, FcntlArg::F_GETPIPE_SZ).map_err(|_| Errno::EINVAL)?;
    }
    Ok([None, out, err])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::run_question::{ANSWER, ENVIRONMENT_MAX, HEAD, KILL};
    use crate::sys::seqpacket;
    use std::fs::File;

    /// A question to kill a program that nobody has started.
    const ABOUT_NOBODY: [u8; HEAD] = [KILL, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];

    #[test]
    fn who_asks_and_takes_no_answers_stops_nobody() {
        let (ours, theirs) = seqpacket::pair().unwrap();
        let mut desk = ProgramDesk::new(ours, Vec::new());
        let mut ask = || {
            seqpacket::send(theirs.as_fd(), &ABOUT_NOBODY, &[], PacketWait::None).unwrap();
            desk.turn()
        };
        assert_eq!((0..100_000).find_map(|_| ask().err()), Some(Errno::EBADMSG));
        // Who takes them can ask for ever.
        let mut room = [0; ANSWER];
        while seqpacket::receive(theirs.as_fd(), &mut room, PacketWait::None).is_ok() {}
        for _ in 0..2000 {
            assert_eq!(ask(), Ok(()));
            assert_eq!(seqpacket::receive(theirs.as_fd(), &mut room, PacketWait::None), Ok(ANSWER));
            assert_eq!(room[..4], libc::ESRCH.to_le_bytes());
        }
        // What is none is answered, too; nobody asks any more.
        for bytes in [&b"x"[..], &[START; HEAD + ENVIRONMENT_MAX + 1]] {
            seqpacket::send(theirs.as_fd(), bytes, &[], PacketWait::None).unwrap();
            assert_eq!(desk.turn(), Ok(()));
            seqpacket::receive(theirs.as_fd(), &mut room, PacketWait::None).unwrap();
            assert_eq!(room[..4], libc::EINVAL.to_le_bytes());
        }
        assert_eq!(desk.turn(), Ok(()));
        drop(theirs);
        // A process that another test forks may have it for a moment yet.
        let end = std::iter::from_fn(|| Some(desk.turn())).find_map(Result::err);
        assert_eq!(end, Some(Errno::ECONNRESET));
    }

    #[test]
    fn a_program_runs_once_and_beside_one_that_ends() {
        let (ours, _theirs) = seqpacket::pair().unwrap();
        let mut desk = ProgramDesk::new(ours, Vec::new());
        let add = |desk: &mut ProgramDesk, mark, state| {
            let child = start_with(&["/bin/true".to_owned()], &[], [None, None, None]).unwrap();
            desk.running.push(DeskProgram { mark, child, state });
        };
        assert!(desk.may_start(1));
        add(&mut desk, 1, DeskState::Killed);
        assert!(desk.may_start(1), "one that ends");
        add(&mut desk, 1, DeskState::Runs);
        assert!(!desk.may_start(1) && desk.may_start(2));
        desk.running[1].state = DeskState::Killed;
        assert!(!desk.may_start(1), "two that end");
        // When they have ended it may run again.
        while !desk.running.is_empty() {
            desk.child_ended(&mut |_, _| ());
        }
        assert!(desk.may_start(1));
    }

    #[test]
    fn programs_write_to_pipes_and_read_nothing() {
        let pipe = || Some(nix::unistd::pipe().unwrap().1);
        let file = || Some(OwnedFd::from(File::open("/proc/self/stat").unwrap()));
        let socket = || Some(seqpacket::pair().unwrap().0);
        let which =
            |streams: &[Option<OwnedFd>; 3]| pipes(streams).ok().map(|all| all.map(|fd| fd.is_some()));
        assert_eq!(which(&[None, pipe(), pipe()]), Some([false, true, true]));
        assert_eq!(which(&[file(), pipe(), None]), Some([false, true, false]));
        for refused in [[None, file(), None], [None, pipe(), file()], [None, socket(), None]] {
            assert_eq!(which(&refused), None);
        }
    }
}
