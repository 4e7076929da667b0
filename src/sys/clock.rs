//! Reads the two clocks. What the times mean is the caller's business.

use crate::base::clock::{Mono, Now, Wall};
use nix::time::{ClockId, clock_gettime};

/// The time by both clocks.
#[must_use]
pub fn now() -> Now {
    Now { mono: mono(), wall: wall() }
}

/// Milliseconds since boot, time asleep included. Zero on a kernel without the clock (before 2.6.39).
#[must_use]
pub fn mono() -> Mono {
    let Ok(t) = clock_gettime(ClockId::CLOCK_BOOTTIME) else { return Mono(0) };
    let ms = u64::try_from(t.tv_nsec()).unwrap_or(0) / 1_000_000;
    Mono(positive(t.tv_sec()).saturating_mul(1000).saturating_add(ms))
}

/// Seconds since 1970; zero when the clock was set to before that.
#[must_use]
pub fn wall() -> Wall {
    Wall(clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |t| positive(t.tv_sec())))
}

/// Nanoseconds since 1970, as file systems count them; zero when the clock was set to before that. (That of
/// std ends in 2038 where a pointer has 32 bits.)
#[must_use]
pub fn wall_nanos() -> u64 {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |t| nanos(t.tv_sec(), t.tv_nsec()))
}

/// Nanoseconds since 1970 of a time that a file system gave; zero when it is before that.
#[must_use]
pub fn nanos(seconds: impl TryInto<u64>, nanoseconds: impl TryInto<u64>) -> u64 {
    positive(seconds).saturating_mul(1_000_000_000).saturating_add(positive(nanoseconds))
}

/// `time_t` is 32 or 64 bits wide, by platform.
fn positive(sec: impl TryInto<u64>) -> u64 {
    sec.try_into().unwrap_or(0)
}

/// Seconds that local time is ahead of UTC at `at`.
#[must_use]
pub fn local_offset(at: Wall) -> i32 {
    let Ok(at) = at.0.try_into() else { return 0 };
    // SAFETY: an all-zero `tm` is valid: numbers and a pointer that is never read.
    let mut local: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both point to live values; the result is one of them, or null when the year does not fit.
    let result = unsafe { libc::localtime_r(&raw const at, &raw mut local) };
    if result.is_null() { 0 } else { i32::try_from(local.tm_gmtoff).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_run_forward_and_know_the_century() {
        let a = now();
        let b = now();
        assert!(b.mono >= a.mono && a.mono.0 > 0);
        assert!(a.wall.0 > 1_700_000_000);
    }
}
