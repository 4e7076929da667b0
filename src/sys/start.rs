//! What has to be done before a command begins, and the command's words. std's own start does this and
//! prepares for threads and for telling of a stack that overflows, 3 kB and a dozen system calls.

use super::fs::null;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{SigSet, Signal};
use std::ffi::{CStr, c_char, c_int};
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::slice;

/// The arguments, the program's name first; what is not UTF-8 in them is replaced by `U+FFFD`.
///
/// Opens /dev/null where one of the standard streams is missing: what we open must not take its place.
/// Writing into a closed pipe becomes an error that can be told, no end by SIGPIPE: it is blocked, and stays
/// so until the process ends.
///
/// # Safety
/// `count` and `words` are what the C library passed to `main`.
#[must_use]
pub unsafe fn begin(count: c_int, words: *const *const c_char) -> Vec<String> {
    for fd in 0..3 {
        // SAFETY: only asked about.
        let stream = unsafe { BorrowedFd::borrow_raw(fd) };
        if fcntl(stream, FcntlArg::F_GETFD) == Err(Errno::EBADF) {
            // Kept open. A program that is started opens streams of its own.
            let _ = null().map(IntoRawFd::into_raw_fd);
        }
    }
    let mut pipe = SigSet::empty();
    pipe.add(Signal::SIGPIPE);
    let _ = pipe.thread_block();

    let mut all = Vec::new();
    // SAFETY: `count` pointers stand there, as long as the process.
    let words = unsafe { slice::from_raw_parts(words, usize::try_from(count).unwrap_or(0)) };
    for &word in words {
        // SAFETY: each leads to a text that ends with NUL and stays as long as the process.
        let word = unsafe { CStr::from_ptr(word) };
        all.push(word.to_string_lossy().into_owned());
    }
    all
}
