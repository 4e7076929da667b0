//! What every kind of rule does to packets, in a network of host, friend and stranger: the kernel's answers,
//! not ours.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

#[cfg(test)]
#[path = "verdicts/answers.rs"]
mod answers;
#[cfg(test)]
#[path = "verdicts/limits.rs"]
mod limits;
#[cfg(test)]
#[path = "verdicts/logs.rs"]
mod logs;
#[cfg(test)]
#[path = "verdicts/matches.rs"]
mod matches;
#[cfg(test)]
#[path = "verdicts/states.rs"]
mod states;
#[cfg(test)]
#[path = "verdicts/ways.rs"]
mod ways;
