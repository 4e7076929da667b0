//! What every kind of rule does to packets, in a network of host, friend and stranger: the kernel's answers,
//! not ours.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

pub mod answers;
pub mod limits;
pub mod logs;
pub mod matches;
pub mod states;
pub mod ways;
