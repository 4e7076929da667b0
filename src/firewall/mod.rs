//! What the kernel enforces: the guard table and its sets, and the table of the rule set. Knows no log and no
//! rule file.

pub mod alarm;
pub mod conntrack;
pub mod guard;
pub mod listing;
pub mod nflog;
pub mod nft;
pub mod rules;
pub mod sockdiag;
pub mod tables;
mod targets;
pub mod trial;
