#![forbid(unsafe_code)]
//! What outlives the process: the ban journal and the read positions. Knows neither the kernel's sets nor the
//! sources.

pub mod disk;
pub mod error;
pub mod journal;
pub mod lock;
mod networks;
pub mod positions;
pub mod record;
mod sweep;

pub use error::StateError;
