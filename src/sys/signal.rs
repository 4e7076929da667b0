#![forbid(unsafe_code)]
//! Signals as something to read, so that no code ever runs in a handler.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGUSR1: tell how things are.
    Report,
    /// SIGCHLD: one or more children ended.
    Child,
}

/// The signals of the daemon, blocked and waiting in a descriptor.
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals for this thread (and the threads it will start) and opens the descriptor.
    /// Children started by `std::process::Command` get an empty mask again.
    ///
    /// # Errors
    /// When the kernel has no signalfd or no descriptor is left.
    pub fn open() -> io::Result<Signals> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1, Signal::SIGCHLD] {
            set.add(signal);
        }
        set.thread_block()?;
        Ok(Signals(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// The next signal that came, if any. Equal signals that came close together are one.
    ///
    /// # Errors
    /// When the descriptor cannot be read.
    pub fn take(&mut self) -> io::Result<Option<Wish>> {
        loop {
            let info = match self.0.read_signal() {
                Ok(Some(info)) => info,
                Ok(None) => return Ok(None),
                Err(Errno::EINTR) => continue,
                Err(e) => return Err(e.into()),
            };
            let signal = i32::try_from(info.ssi_signo).ok().and_then(|n| Signal::try_from(n).ok());
            match signal {
                Some(Signal::SIGHUP) => return Ok(Some(Wish::Reload)),
                Some(Signal::SIGTERM | Signal::SIGINT) => return Ok(Some(Wish::Stop)),
                Some(Signal::SIGUSR1) => return Ok(Some(Wish::Report)),
                Some(Signal::SIGCHLD) => return Ok(Some(Wish::Child)),
                _ => {}
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::raise;

    #[test]
    fn signals_wait_to_be_read() {
        // Sent to this thread only: the test runner's other threads do not block them.
        let mut signals = Signals::open().unwrap();
        assert_eq!(signals.take().unwrap(), None);
        let cases = [
            (Signal::SIGHUP, Wish::Reload),
            (Signal::SIGTERM, Wish::Stop),
            (Signal::SIGINT, Wish::Stop),
            (Signal::SIGUSR1, Wish::Report),
        ];
        for (signal, want) in cases {
            raise(signal).unwrap();
            raise(signal).unwrap();
            assert_eq!(signals.take().unwrap(), Some(want), "{signal}");
            assert_eq!(signals.take().unwrap(), None, "{signal}");
        }
    }
}
