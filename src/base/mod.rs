//! Plain values that every part shares: addresses, times, source positions. No I/O.

pub mod clock;
pub mod diag;
pub mod net;
pub mod position;
