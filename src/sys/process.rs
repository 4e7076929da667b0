//! A second process of this program, and its end.

use nix::unistd::ForkResult;
use std::io;

/// Which of the two processes goes on here.
pub enum Side {
    /// The one that was there before.
    Parent,
    /// The new one: of its own session, in `/`, with nothing on its standard streams, and nobody's child.
    Child,
}

/// Makes a second process that does not end with this one, its terminal or its session.
///
/// # Errors
/// When the system has no room for another process.
pub fn split() -> io::Result<Side> {
    // SAFETY: mef never starts a thread, so that the child finds memory and locks in a state that is its own.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => {
            // It ends as soon as its own child has begun.
            while nix::sys::wait::waitpid(child, None) == Err(nix::Error::EINTR) {}
            Ok(Side::Parent)
        }
        ForkResult::Child => {
            if nix::unistd::daemon(false, false).is_err() {
                end();
            }
            Ok(Side::Child)
        }
    }
}

/// Ends the process. Nothing that the other one has yet to write is written twice.
#[allow(clippy::exit, reason = "a second process has no caller to return to")]
pub fn end() -> ! {
    std::process::exit(0)
}
