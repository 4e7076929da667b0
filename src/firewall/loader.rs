#![forbid(unsafe_code)]
//! The seam for rule sets: they are compiled into a loader, which puts them in force in one transaction, for
//! good or for a time. The kernel holds what a trial needs to end by itself.

use super::emit::{self, TableBatch};
use super::nft::{Op, TxnError};
use super::{listing, tables, trial};
use crate::plan::Sink;
use crate::plan::listed::ListedTable;
use nix::errno::Errno;
use std::fmt;

pub use super::trial::{Pending, Previous};

/// Takes a rule set in, and then puts it in force.
pub trait Loader: Sink {
    /// How many rules of the kernel it has become so far.
    fn rules(&self) -> u32;

    /// Puts it in force.
    ///
    /// # Errors
    /// What the kernel refused; then nothing was changed.
    fn commit(self: Box<Self>) -> Result<(), LoadError>;
}

/// How long rules are to be in force.
pub enum Goal<'g> {
    /// In place of those that are there.
    Replace,
    /// For so many milliseconds, beside the previous ones.
    Trial(Previous, u64),
    /// In place of those that are there, if this trial goes on.
    Confirm(&'g Pending),
}

/// A way to put a rule set in force.
#[must_use]
pub fn loader(goal: Goal<'_>) -> Box<dyn Loader> {
    Box::new(match goal {
        Goal::Replace => TableBatch::new(),
        Goal::Trial(previous, time_ms) => TableBatch::trial(previous, time_ms),
        Goal::Confirm(pending) => TableBatch::confirm(pending),
    })
}

impl Loader for TableBatch {
    fn rules(&self) -> u32 {
        self.rules
    }

    fn commit(self: Box<Self>) -> Result<(), LoadError> {
        Ok(TableBatch::commit(*self)?)
    }
}

/// Why rules are not in force, or what is there cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    /// The statement that it is about, by its number, if it is about one.
    pub statement: Option<u32>,
    /// They may be in force nevertheless: the answer was lost.
    pub unsure: bool,
    text: String,
}

impl From<TxnError> for LoadError {
    fn from(e: TxnError) -> LoadError {
        let first = match &e {
            TxnError::Refused(all) if e.errno() != Errno::EPERM => all.first().map(|refusal| refusal.op),
            _ => None,
        };
        let statement = match first {
            Some(Op::Statement(number)) => Some(number),
            _ => None,
        };
        LoadError { statement, unsure: matches!(e, TxnError::Lost(_)), text: e.to_string() }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether there are rules of ours.
///
/// # Errors
/// The kernel's.
pub fn is_loaded() -> Result<bool, LoadError> {
    Ok(emit::there()?)
}

/// Takes the rules out, if there are any.
///
/// # Errors
/// What the kernel refused.
pub fn unload() -> Result<(), LoadError> {
    Ok(emit::unload()?)
}

/// The trial that the kernel holds, going on or over.
///
/// # Errors
/// The kernel's.
pub fn pending() -> Result<Option<Pending>, LoadError> {
    Ok(trial::pending()?)
}

/// What is in force before a trial. What an earlier one left behind is removed first.
///
/// # Errors
/// What the kernel refused.
pub fn previous() -> Result<Previous, LoadError> {
    Ok(trial::previous()?)
}

/// Ends a trial: the previous rules are in force, and nothing else is left. Whether there was one. `nothing`
/// is called before, if there were no previous rules.
///
/// # Errors
/// What the kernel refused; then nothing was changed.
pub fn withdraw(nothing: &mut dyn FnMut()) -> Result<bool, LoadError> {
    Ok(trial::withdraw(nothing)?)
}

/// As `withdraw`, but only if the time is over. Whether anything was left of a trial.
///
/// # Errors
/// As `withdraw`.
pub fn tidy(nothing: &mut dyn FnMut()) -> Result<bool, LoadError> {
    Ok(trial::tidy(nothing)?)
}

/// The tables that `wanted` says yes to, by the words for family and name; never that of bans.
///
/// # Errors
/// The kernel's.
pub fn listed(wanted: &dyn Fn(&str, &str) -> bool) -> Result<Vec<ListedTable>, LoadError> {
    let bans = tables::GUARD.name;
    Ok(listing::read(&|family, name| (family, name) != ("inet", bans.as_str()) && wanted(family, name))?)
}

/// Whether this is the table of a loader.
#[must_use]
pub fn is_ours(family: &str, name: &str) -> bool {
    (family, name) == ("inet", tables::RULES.name.as_str())
}

/// A comment of a rule as the kernel keeps it.
pub use super::listing::rule::kept as kept_comment;
