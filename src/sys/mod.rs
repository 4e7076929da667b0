//! The only place besides `firewall/nft/ffi.rs` that calls libc: small safe wrappers.

pub mod buffer;
pub mod clock;
pub mod fs;
pub mod inotify;
pub mod poll;
pub mod signal;
