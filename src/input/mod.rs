#![forbid(unsafe_code)]
//! Sources of lines for the poll loop. Knows no rule and no firewall.

pub mod command;
pub mod container;
pub mod glob;
pub mod journal;
pub mod kmsg;
pub mod lines;
pub mod syslog;
pub mod tail;
mod watch;

pub use crate::base::position::Position;

use crate::base::clock::{LineTime, Mono, Now, Wall};
use crate::base::rule_bits::RuleBits;
use lines::Splitter;
use std::fmt::{self, Write as _};
use std::io::{self, Read};
use std::os::fd::BorrowedFd;

/// Which rules want what a source reads: one bit per rule or group of rules, as the caller numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tags(pub RuleBits);

impl Tags {
    /// What both want.
    #[must_use]
    pub fn within(self, other: Tags) -> Tags {
        Tags(self.0 & other.0)
    }

    /// What this one wants and the other does not.
    #[must_use]
    pub fn without(self, other: Tags) -> Tags {
        Tags(self.0 & !other.0)
    }

    /// Whether nobody wants anything.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What either wants.
    #[must_use]
    pub fn and(self, other: Tags) -> Tags {
        Tags(self.0 | other.0)
    }
}

/// What a source lends to its reader; never kept.
#[derive(Debug, Clone, Copy)]
pub enum Item<'a> {
    /// One or more whole lines, each ended by `\n` and at most [`lines::MAX_LINE`] bytes long without it.
    Block {
        /// The lines.
        lines: &'a [u8],
        /// When they were written.
        time: LineTime,
        /// Only the service that the lines are about, and root, can have written them.
        attested: bool,
    },
    /// One message whose program the source knows for certain.
    Record(LogRecord<'a>),
}

/// A message and what the source knows about it.
#[derive(Debug, Clone, Copy)]
pub struct LogRecord<'a> {
    /// Who wrote it: by the sender's own account where `sender` is there, by the source's otherwise.
    pub program: &'a [u8],
    /// Its process.
    pub pid: Option<u32>,
    /// The text, at most [`lines::MAX_LINE`] bytes. A newline in it is a byte like any other.
    pub message: &'a [u8],
    /// What the kernel says about the sender. `None`: nobody but the program could have written this.
    pub sender: Option<Sender<'a>>,
    /// When it was written.
    pub written: Written,
}

/// What the kernel, not the sender, says about the sender of a message. Empty = not known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sender<'a> {
    /// Its user.
    pub uid: Option<u32>,
    /// The name of its process, of which the kernel keeps 15 bytes.
    pub comm: &'a [u8],
    /// The unit of the service manager that it runs in, such as `ssh.service`; [`NO_UNIT`] for who runs in
    /// none.
    pub unit: &'a [u8],
}

/// Where containers run whose groups are not those of units: no service of this host.
pub const NO_UNIT: &[u8] = b"?";

impl Sender<'_> {
    /// The unit of a sender of whom only the control group is known. In that of the root there may be a
    /// service of inetd; any other is a container's.
    #[must_use]
    pub fn unit_of_group(group: &[u8]) -> &'static [u8] {
        if matches!(group, b"" | b"/") { b"" } else { NO_UNIT }
    }
}

/// When a message was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Just now.
    Live,
    /// While nobody read.
    At(Wall),
}

/// Whether a source has more to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Everything was read: wait for the descriptor or the deadline.
    Idle,
    /// The budget was used up: come back without waiting.
    More,
}

/// One kind of input in the poll loop.
pub trait Source {
    /// What to wait for; `None` when only [`Source::deadline`] wakes it.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// When to call [`Source::drain`] even if nothing is readable. A moment that has passed means now; a
    /// source that was just opened may have something already.
    fn deadline(&self) -> Option<Mono>;

    /// Reads at most about `budget` bytes and lends them to `sink` in order. Trouble is logged, once per
    /// cause, and never ends a source.
    fn drain(&mut self, now: Now, budget: usize, sink: &mut dyn FnMut(Tags, Item<'_>)) -> Progress;

    /// How many lines were longer than [`lines::MAX_LINE`] and lost their middle.
    fn cut_lines(&self) -> u64;
}

/// Bytes read at once by [`blocks`].
const CHUNK: usize = 256 * 1024;

/// Reads a file or a stream to its end and hands out blocks of whole lines; the last line gets a newline if
/// it has none. Returns how many lines were cut.
///
/// # Errors
/// When reading fails; what came before was handed out.
pub fn blocks(mut reader: impl Read, each: &mut dyn FnMut(&[u8])) -> io::Result<u64> {
    let mut splitter = Splitter::new(CHUNK);
    loop {
        match reader.read(splitter.space()) {
            Ok(0) => break,
            Ok(n) => splitter.filled(n, each),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    splitter.finish(each);
    Ok(splitter.cut_lines())
}

/// Shows bytes that others chose (file names, for one) so that they cannot garble a terminal or a log.
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        for &b in self.0 {
            if matches!(b, b' '..=b'~') {
                f.write_char(char::from(b))?;
            } else {
                f.write_str("\\x")?;
                for digit in [b >> 4, b & 15] {
                    f.write_char(char::from(HEX[usize::from(digit)]))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_garble_a_terminal() {
        assert_eq!(Shown(b"/var/log/a b.log").to_string(), "/var/log/a b.log");
        assert_eq!(Shown(b"x\x1b[31m\n\xff").to_string(), "x\\x1b[31m\\x0a\\xff");
    }

    #[test]
    fn a_stream_is_cut_into_blocks_of_whole_lines() {
        let long = [vec![b'h'; 5000], vec![b't'; 5000]].concat();
        let text = [b"one\r\ntwo\0\n".as_slice(), &long, b"\nlast"].concat();
        let mut got = Vec::new();
        let cut = blocks(text.as_slice(), &mut |b| {
            assert_eq!(b.last(), Some(&b'\n'));
            got.extend_from_slice(b);
        })
        .unwrap();
        let want = [b"one\r\ntwo\0\n".as_slice(), &[b'h'; 4096], &[b't'; 4096], b"\nlast\n"].concat();
        assert_eq!(cut, 1);
        assert_eq!(got, want);
        let mut any = false;
        assert_eq!(blocks(b"".as_slice(), &mut |_| any = true).unwrap(), 0);
        assert!(!any);
    }
}
