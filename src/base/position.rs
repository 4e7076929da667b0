#![forbid(unsafe_code)]
//! How far a file source has read: what continues after a restart.

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
