#![forbid(unsafe_code)]
//! Questions to who runs programs, and answers, as they are sent.

use crate::sys::seqpacket::{self, PacketWait};
use nix::errno::Errno;
use nix::unistd::Pid;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Bytes of an environment, and of one word of it.
pub(super) const ENVIRONMENT_MAX: usize = 4096;
const WORD_MAX: usize = 1024;
/// What every word of it begins with.
const PREFIX: &[u8] = b"MEF_";
/// Bytes in front of an environment; all of an answer.
pub(super) const HEAD: usize = 12;
pub(super) const ANSWER: usize = 8;

/// Kinds of questions: start one; kill it; the same, and it is over; it is over; read the configuration; open
/// resolv.conf.
pub(super) const START: u8 = 1;
pub(super) const KILL: u8 = 2;
pub(super) const FINISH: u8 = 3;
pub(super) const FORGET: u8 = 4;
pub(super) const CONFIGURE: u8 = 5;
pub(super) const OPEN: u8 = 6;

/// What was asked.
pub(super) struct RunRequest {
    pub(super) kind: u8,
    pub(super) program: u8,
    pub(super) mark: u32,
    pub(super) pid: Pid,
    /// `None`: something in it is not ours.
    pub(super) env: Option<Vec<String>>,
    pub(super) streams: [Option<OwnedFd>; 3],
}

/// `None`: it is none that is understood.
pub(super) fn take_question(from: BorrowedFd<'_>, patience: PacketWait) -> Result<Option<RunRequest>, Errno> {
    let mut bytes = [0; HEAD + ENVIRONMENT_MAX];
    match seqpacket::receive_beside(from, &mut bytes, patience) {
        Ok((len, fds)) => Ok(read_question(bytes.get(..len).unwrap_or_default(), fds)),
        Err(Errno::EMSGSIZE | Errno::EBADMSG) => Ok(None),
        Err(e) => Err(e),
    }
}

/// What became of it: an error, or the number of a process.
pub(super) fn answer(
    to: BorrowedFd<'_>,
    done: &io::Result<Pid>,
    beside: &[BorrowedFd<'_>],
    patience: PacketWait,
) -> Result<(), Errno> {
    let errno = done.as_ref().err().map_or(0, |e| e.raw_os_error().unwrap_or(libc::ENOENT));
    let pid = done.as_ref().map_or(0, |pid| pid.as_raw());
    seqpacket::send(to, &[errno, pid].map(i32::to_le_bytes).concat(), beside, patience)
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
