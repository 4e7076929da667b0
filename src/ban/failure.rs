#![forbid(unsafe_code)]
//! Why the kernel did not do what was asked, without the words in which it was asked.

use nix::errno::Errno;
use std::fmt;

/// What could not be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// A change was refused.
    Change,
    /// A change could not be sent, or nobody knows what became of it.
    Exchange,
    /// A question was not answered.
    Question,
}

/// Why the kernel did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What could not be done.
    pub doing: Doing,
    errno: Errno,
    text: Box<str>,
}

impl Failure {
    /// With an error number of the system, and why, for people.
    #[must_use]
    pub fn new(doing: Doing, errno: Errno, text: String) -> Failure {
        Failure { doing, errno, text: text.into() }
    }

    /// The error number of the kernel, or of the system call.
    #[must_use]
    pub fn errno(&self) -> Errno {
        self.errno
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// There is not enough memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    /// Bytes that are needed.
    pub needed: u64,
    /// Bytes that there are for it.
    pub free: u64,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (needed, free) = (self.needed.div_ceil(1 << 20), self.free >> 20);
        write!(f, "the kernel needs {needed} MB of memory for that, and {free} MB are free")
    }
}
