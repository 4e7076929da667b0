#![forbid(unsafe_code)]
//! The end of bans before their time.

/// Why a ban that packets have led to is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pardon {
    /// Its source has a connection: it is left alone for a while.
    Connected,
    /// It was none: the ports are not closed.
    Mistake,
}

/// Which bans end when all do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhichBans {
    /// Those without an end, too.
    All,
    /// Those that have an end.
    Timed,
    /// Likewise; who is in the flood throttle stays there.
    ButThrottled,
}
