//! Plain values that every part shares: addresses, times, source positions. No I/O.

pub mod base64;
pub mod build_part;
pub mod bytes;
pub mod clock;
pub mod count;
pub mod crc;
pub mod diag;
pub mod intervals;
pub mod json;
pub mod line;
pub mod name;
pub mod net;
#[cfg(test)]
#[path = "../../cross/pack.rs"]
mod pack;
pub mod packed;
pub mod position;
pub mod program;
pub mod range;
pub mod range_list;
pub mod rule_bits;
pub mod siphash;
pub mod user;
pub mod utc;
pub mod webscan;
pub mod width;
