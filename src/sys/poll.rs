#![forbid(unsafe_code)]
//! Sleeping until a file descriptor has something or a deadline comes. Knows no source.

use super::clock;
use crate::base::clock::Mono;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use smallvec::SmallVec;
use std::io;
use std::os::fd::BorrowedFd;

/// What [`wait`] found out about one descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ready {
    /// Nothing to do.
    #[default]
    No,
    /// A read will not block: there is data, an end of file or an error to collect. Whoever reads until
    /// "would block" needs to know no more; what is left unread makes the next [`wait`] return at once.
    Read,
    /// The other side is gone or the descriptor is broken, and nothing is left to read. It stays so: a caller
    /// that does not close it spins.
    Gone,
}

/// Sleeps until one of `fds` is ready or `deadline` has passed (`None`: for ever). Sets `ready[i]` for
/// `fds[i]`; an absent descriptor is never ready. A deadline that has passed still looks at the descriptors.
///
/// The sleep is measured on the clock that stands still in suspend: after a resume it may last as long as it
/// had still to go.
///
/// # Errors
/// When the kernel has no memory or refuses the number of descriptors. An interrupted sleep is no error.
pub fn wait(fds: &[Option<BorrowedFd<'_>>], ready: &mut [Ready], deadline: Option<Mono>) -> io::Result<()> {
    ready.fill(Ready::No);
    // On the stack: the allocator's code, untouched otherwise while nothing happens, would stay in memory.
    let mut slots: SmallVec<[PollFd<'_>; 16]> =
        fds.iter().flatten().map(|&fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    let sleep = deadline.map(|d| TimeSpec::from(std::time::Duration::from_millis(d.since(clock::mono()))));
    match ppoll(&mut slots, sleep, None) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok(()),
        Err(e) => return Err(e.into()),
    }
    let mut slots = slots.iter();
    for (fd, ready) in fds.iter().zip(ready) {
        if fd.is_some() {
            *ready = slots.next().map_or(Ready::No, judge);
        }
    }
    Ok(())
}

fn judge(slot: &PollFd<'_>) -> Ready {
    // A bit that nix does not name is trouble as well.
    let Some(found) = slot.revents() else { return Ready::Gone };
    if found.contains(PollFlags::POLLIN) {
        Ready::Read
    } else if found.is_empty() {
        Ready::No
    } else {
        Ready::Gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;

    #[test]
    fn data_hangup_and_absence_are_told_apart() {
        let (mut ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let (quiet, _keep) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut ready = [Ready::Gone; 3];
        let past = Some(Mono(0));
        wait(&[Some(ours.as_fd()), None, Some(quiet.as_fd())], &mut ready, past).unwrap();
        assert_eq!(ready, [Ready::No; 3]);
        theirs.write_all(b"x").unwrap();
        wait(&[Some(ours.as_fd()), None, Some(quiet.as_fd())], &mut ready, None).unwrap();
        assert_eq!(ready, [Ready::Read, Ready::No, Ready::No]);
        drop(theirs);
        ours.read_exact(&mut [0]).unwrap();
        wait(&[None, Some(ours.as_fd())], &mut ready[..2], None).unwrap();
        assert_eq!(ready[1], Ready::Read, "the end of a stream is something to read");
    }

    #[test]
    fn an_error_without_data_is_not_silent() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        drop(reader);
        let mut ready = [Ready::No];
        wait(&[Some(writer.as_fd())], &mut ready, None).unwrap();
        assert_eq!(ready, [Ready::Gone]);
    }

    #[test]
    fn a_deadline_ends_the_sleep() {
        let null = File::open("/dev/zero").unwrap();
        let mut ready = [Ready::No];
        wait(&[None], &mut ready, Some(clock::mono().after(1))).unwrap();
        wait(&[Some(null.as_fd())], &mut ready, None).unwrap();
        assert_eq!(ready, [Ready::Read]);
    }
}
