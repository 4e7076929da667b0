//! Locks on files against other processes.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::rc::Rc;

/// An exclusive lock on a file against other processes (`flock`); given back when dropped.
pub struct Lock<'a> {
    file: &'a File,
}

impl Lock<'_> {
    /// Takes the lock if nobody has it.
    ///
    /// # Errors
    /// `WouldBlock` if somebody has it, else what the system says.
    pub fn take(file: &File) -> io::Result<Lock<'_>> {
        // SAFETY: the descriptor is open for as long as `file` is borrowed; flock touches no memory of ours.
        let result = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
        if result == 0 { Ok(Lock { file }) } else { Err(io::Error::last_os_error()) }
    }

    /// Takes the lock, and waits for whoever has it. Only for files that nobody else but root can open.
    ///
    /// # Errors
    /// What the system says.
    pub fn wait(file: &File) -> io::Result<Lock<'_>> {
        loop {
            // SAFETY: as above.
            let result = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) };
            match io::Error::last_os_error() {
                _ if result == 0 => return Ok(Lock { file }),
                e if e.kind() == io::ErrorKind::Interrupted => {}
                e => return Err(e),
            }
        }
    }

    /// Keeps the lock until the file is closed.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // SAFETY: as above. The result is of no use: a lock that is held can be given back, and ends with the
        // process in any case.
        unsafe { libc::flock(self.file.as_raw_fd(), libc::LOCK_UN) };
    }
}

/// An exclusive lock on one byte of a file, which belongs to the open file and not to the process
/// (`F_OFD_SETLK`, Linux 3.15); given back when dropped, and when the file is closed.
pub struct ByteLock {
    file: Rc<File>,
    byte: i64,
}

impl ByteLock {
    /// Takes the lock if nobody has it. The file must be open for writing.
    ///
    /// # Errors
    /// `WouldBlock` if somebody has it, else what the system says.
    pub fn take(file: &Rc<File>, byte: i64) -> io::Result<ByteLock> {
        match fcntl(&**file, FcntlArg::F_OFD_SETLK(&lock_of(libc::F_WRLCK, byte))) {
            Err(Errno::EAGAIN | Errno::EACCES) => Err(io::ErrorKind::WouldBlock.into()),
            Err(e) => Err(e.into()),
            Ok(_) => Ok(ByteLock { file: Rc::clone(file), byte }),
        }
    }

    /// Whether somebody else has the lock; not, if the system cannot tell.
    pub fn is_taken(file: &File, byte: i64) -> bool {
        let mut lock = lock_of(libc::F_WRLCK, byte);
        fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)).is_ok() && i32::from(lock.l_type) != libc::F_UNLCK
    }
}

impl Drop for ByteLock {
    fn drop(&mut self) {
        // Of no use: a lock that is held can be given back, and ends with the process in any case.
        let _ = fcntl(&*self.file, FcntlArg::F_OFD_SETLK(&lock_of(libc::F_UNLCK, self.byte)));
    }
}

fn lock_of(kind: i32, byte: i64) -> libc::flock {
    // SAFETY: a plain C structure of numbers, for which all zeros are a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = i16::try_from(kind).unwrap_or(0);
    lock.l_whence = i16::try_from(libc::SEEK_SET).unwrap_or(0);
    lock.l_start = byte;
    lock.l_len = 1;
    lock
}
