//! The only place besides `firewall/nft/ffi.rs` that calls libc: small safe wrappers.

pub mod dir;
