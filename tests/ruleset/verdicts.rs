//! What every kind of rule does to packets, in a network of host, friend and stranger: the kernel's answers,
//! not ours.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod answers;
mod limits;
mod logs;
mod matches;
mod states;
mod ways;
