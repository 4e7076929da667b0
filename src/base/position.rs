#![forbid(unsafe_code)]
//! How far a file source has read: what continues after a restart.

use crate::base::build_part::BuildPart;
use crate::base::clock::{LineTime, Wall};
use std::path::PathBuf;

/// Nanoseconds of a second.
pub const NANOS: u64 = 1_000_000_000;

/// A place in a file that cannot be mistaken for the same place in its successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Device of the file.
    pub dev: u64,
    /// Inode of the file.
    pub ino: u64,
    /// Bytes read so far.
    pub offset: u64,
    /// Hash of the bytes just before `offset`: an inode number may be used again. At offset 0 the time, in
    /// nanoseconds since 1970, until which nothing was unread.
    pub tail: u64,
}

/// What stands in place of a path among saved positions: its `tail` is when they were written down, in
/// nanoseconds since 1970. What was last changed before that moment, and does not go on in one of them, was
/// read.
pub const WRITTEN: &str = "written";

/// Likewise: its `tail` is a moment, in nanoseconds since 1970, at which all that is read was followed
/// already. What is not among the positions and was made after it is new, from its first byte on.
pub const FOLLOWED: &str = "followed";

/// Likewise: at that moment nothing was unread. What comes behind the positions was written since.
pub const CAUGHT_UP: &str = "caught up";

/// It stands there if who read until the positions has stopped at them, and another one goes on at once: what
/// comes behind them is as new as it would have been to the first.
pub const HANDED_OVER: &str = "handed over";

/// All names of moments: no position has one of them.
pub const MOMENTS: [&str; 4] = [WRITTEN, FOLLOWED, CAUGHT_UP, HANDED_OVER];

/// The moment of that name, if it is there.
#[must_use]
#[inline(never)]
pub fn moment(saved: &[(PathBuf, Position)], name: &str) -> Option<u64> {
    saved.iter().find(|(path, _)| path.as_os_str() == name).map(|(_, at)| at.tail)
}

/// When it was written what comes behind saved positions.
#[must_use]
pub fn time_behind(saved: &[(PathBuf, Position)]) -> LineTime {
    // The others are of one process for another one.
    if !BuildPart::Observer.is_in() {
        return LineTime::Stamped;
    }
    match moment(saved, CAUGHT_UP) {
        _ if moment(saved, HANDED_OVER).is_some() => LineTime::Now,
        Some(then) => LineTime::Since(Wall(then / NANOS)),
        None => LineTime::Stamped,
    }
}
