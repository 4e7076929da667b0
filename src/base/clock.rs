#![forbid(unsafe_code)]
//! Time as plain numbers. Reading a clock is `sys::clock`'s job: here time is an argument.

/// A moment on the clock that never jumps (CLOCK_BOOTTIME), in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mono(pub u64);

impl Mono {
    /// This moment plus `ms` milliseconds, saturating.
    #[must_use]
    pub fn after(self, ms: u64) -> Mono {
        Mono(self.0.saturating_add(ms))
    }

    /// Milliseconds since `earlier`, 0 when that is not earlier.
    #[must_use]
    pub fn since(self, earlier: Mono) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A moment on the calendar: seconds since 1970-01-01 UTC. Only for what outlives a reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Wall(pub u64);

/// Both clocks, read together.
#[derive(Debug, Clone, Copy, Default)]
pub struct Now {
    /// For windows and deadlines.
    pub mono: Mono,
    /// For what is written to disk and shown to people.
    pub wall: Wall,
}

/// When lines were written that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LineTime {
    /// Just now: our own clock tells it.
    Now,
    /// Not before that, whatever their stamps say: somebody read then, and they were not there yet.
    Since(Wall),
    /// While nobody read: there, and only there, the stamps in the lines tell it.
    Stamped,
}

/// How long a ban lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// Seconds, at least 1.
    Secs(u64),
    /// Until it is lifted by hand.
    Permanent,
}
