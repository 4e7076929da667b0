//! What the kernel enforces: the guard table and its sets. Knows no log and no rule file.

pub mod conntrack;
pub mod guard;
pub mod nft;
mod sockdiag;
mod targets;
