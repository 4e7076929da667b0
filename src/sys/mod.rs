//! The only place besides `firewall/nft/ffi.rs` that calls libc: small safe wrappers.

pub mod banlog;
pub mod clock;
pub mod dir;
pub mod host;
pub mod netlink;
pub mod nlattr;
pub mod random;
pub mod sweep;
pub mod syslog;
pub mod trim;
