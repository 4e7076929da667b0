//! The only place besides `firewall/nft/ffi.rs` that calls libc: small safe wrappers.

pub mod alloc;
pub mod banlog;
pub mod birth;
pub mod buffer;
pub mod child;
pub mod clock;
pub mod count;
pub mod dir;
pub mod direct;
pub mod fs;
pub mod host;
pub mod inotify;
pub mod listeners;
pub mod memory;
pub mod netlink;
pub mod nlattr;
pub mod notify;
pub mod peers;
pub mod poll;
pub mod process;
pub mod random;
pub mod relay;
pub mod routes;
pub mod signal;
pub mod socket;
pub mod start;
pub mod stdio;
pub mod sweep;
pub mod syslog;
pub mod tcp;
pub mod terminal;
pub mod trim;

pub use netlink::strerror;
