//! What the kernel enforces: the guard table and its sets. Knows no log and no rule file.

pub mod guard;
pub mod nft;
