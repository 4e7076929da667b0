//! What every kind of rule does to packets, in a network of host, friend and stranger: the kernel's answers, not ours.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[cfg(test)]
#[path = "verdicts/answers.rs"]
mod answers;
mod common;
