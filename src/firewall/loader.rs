#![forbid(unsafe_code)]
//! The seam for rule sets: they are compiled into a loader, which puts them in force in one transaction, for
//! good or for a time. The kernel holds what a trial needs to end by itself.

use super::emit::{self, TableBatch};
use super::iptables::ruleset::{Refusal, Rules, Term, Text, Unsaid};
use super::nft::{Op, TxnError};
use super::{listing, tables, trial};
use crate::ban::Failure;
use crate::base::diag::Severity;
use crate::base::name::Name;
use crate::base::range::Family;
use crate::plan::Sink;
use crate::plan::listed::ListedTable;
use crate::plan::{Chain, Direction, Policy, Rule, Set};
use nix::errno::Errno;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

pub use super::listing::ListingScope;
pub use super::trial::{Pending, Previous};

/// Takes a rule set in, and then puts it in force.
pub trait Loader: Sink {
    /// How many rules of the kernel it has become so far.
    fn rules(&self) -> u32;

    /// What this backend cannot say of it: the statement, its key, and why.
    fn unsaid(&self) -> Vec<(Severity, u32, &'static str, &'static str)> {
        Vec::new()
    }

    /// What stands for it where rules cannot be read back: see [`fingerprint`].
    fn fingerprint(&mut self) -> Option<u64> {
        None
    }

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
    if is_fallback() {
        let term = match goal {
            Goal::Replace => Some(Term::ForGood),
            Goal::Trial(_, time_ms) => {
                Some(Term::Trial(u32::try_from(time_ms.div_ceil(1000)).unwrap_or(u32::MAX)))
            }
            Goal::Confirm(_) => None,
        };
        return Box::new(FallbackBatch { text: Text::default(), term });
    }
    Box::new(match goal {
        Goal::Replace => TableBatch::new(),
        Goal::Trial(previous, time_ms) => TableBatch::trial(previous, time_ms),
        Goal::Confirm(pending) => TableBatch::confirm(pending),
    })
}

/// Whether rule sets go to iptables.
#[must_use]
#[inline(always)]
pub fn is_fallback() -> bool {
    super::chosen() == super::Chosen::Iptables
}

/// A rule set for iptables; without a term, the one that is on trial there is meant.
struct FallbackBatch {
    text: Text,
    term: Option<Term>,
}

impl Sink for FallbackBatch {
    fn base(&mut self, direction: Direction, policy: Policy) {
        self.text.base(direction, policy);
    }

    fn set(&mut self, set: &Set) {
        self.text.set(set);
    }

    fn foreign(&mut self, name: Name, set: &str) {
        self.text.foreign(name, set);
    }

    fn buckets(&mut self, name: Name, family: Family, timeout: u32) {
        self.text.buckets(name, family, timeout);
    }

    fn chain(&mut self, name: Name) {
        self.text.chain(name);
    }

    fn rule(&mut self, chain: Chain, rule: &Rule) {
        self.text.rule(chain, rule);
    }
}

impl Loader for FallbackBatch {
    fn rules(&self) -> u32 {
        self.text.rules
    }

    fn unsaid(&self) -> Vec<(Severity, u32, &'static str, &'static str)> {
        let row = |said: &Unsaid| (said.severity, said.statement, said.key, said.why);
        self.text.unsaid().iter().map(row).collect()
    }

    fn fingerprint(&mut self) -> Option<u64> {
        Some(self.text.fingerprint())
    }

    fn commit(self: Box<Self>) -> Result<(), LoadError> {
        let mut rules = Rules::open()?;
        match self.term {
            Some(term) => rules.load(self.text, &term)?,
            None if rules.confirm()? => {}
            None => return Err(LoadError::new(None, "the trial is over".to_owned())),
        }
        // What nf_tables has of ours would be asked, too.
        if emit::any_left().unwrap_or(false) {
            emit::unload()?;
        }
        Ok(())
    }
}

impl Loader for TableBatch {
    fn rules(&self) -> u32 {
        self.rules
    }

    fn commit(self: Box<Self>) -> Result<(), LoadError> {
        TableBatch::commit(*self)?;
        fallback_unload()
    }
}

/// Takes the rules out of iptables, if there are any.
fn fallback_unload() -> Result<(), LoadError> {
    if super::may_have_left() {
        let mut rules = Rules::open()?;
        match rules.is_there() {
            Ok(true) => rules.unload()?,
            // Who may not ask has none.
            Err(e) if !matches!(e.errno(), Errno::EPERM | Errno::EINVAL) => return Err(e.into()),
            _ => {}
        }
    }
    Ok(())
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

impl LoadError {
    fn new(statement: Option<u32>, text: String) -> LoadError {
        LoadError { statement, unsure: false, text }
    }
}

impl From<Failure> for LoadError {
    fn from(e: Failure) -> LoadError {
        LoadError::new(None, e.to_string())
    }
}

impl From<Refusal> for LoadError {
    fn from((statement, e): Refusal) -> LoadError {
        LoadError::new(statement, e.to_string())
    }
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
    if is_fallback() {
        return Ok(Rules::open()?.is_loaded()?);
    }
    Ok(emit::there()?)
}

/// What is to be said of rules of which [`is_elsewhere`] is true.
pub const ELSEWHERE: &str = "not loaded here; another backend has one in force: `mef load` moves it";

/// Whether the backend that is wanted has no rules, and another one has.
///
/// # Errors
/// The kernel's.
pub fn is_elsewhere() -> Result<bool, LoadError> {
    if is_fallback() {
        // A kernel without nf_tables has nothing there.
        return Ok(emit::any_left().unwrap_or(false) && !is_loaded()?);
    }
    Ok(super::may_have_left() && Rules::open()?.is_there().unwrap_or(false) && !is_loaded()?)
}

/// What is to be said of rules of which [`is_half`] is true.
pub const HALF: &str =
    "a load is in progress or was cut off: IPv4 and IPv6 may have different rules until the next `mef load`";

/// Whether somebody is about to put other rules in force in one family after the other, or was when he was
/// killed.
///
/// # Errors
/// The kernel's.
pub fn is_half() -> Result<bool, LoadError> {
    Ok(is_fallback() && Rules::open()?.is_half()?)
}

/// Whether rules cannot be loaded because there are no tables for those of IPv6; found out by
/// [`ask_for_ipv6`].
static LACKS_IPV6: AtomicBool = AtomicBool::new(false);

/// Finds out whether there are tables for rules of IPv6, for who may ask no more when he checks rules.
pub fn ask_for_ipv6() {
    LACKS_IPV6.store(super::iptables::ruleset::lacks_ipv6(), Ordering::Relaxed);
}

/// Why no rule set can be loaded, as far as that was found out.
#[must_use]
pub fn objection() -> Option<&'static str> {
    LACKS_IPV6.load(Ordering::Relaxed).then_some(super::iptables::ruleset::NO_IPV6)
}

/// What stands for the rules in iptables, which cannot be read back, if there are any: what a loader has that
/// was given the same rule set.
///
/// # Errors
/// The kernel's.
pub fn fingerprint() -> Result<Option<u64>, LoadError> {
    Ok(Rules::open()?.fingerprint()?)
}

/// Takes the rules out, if there are any.
///
/// # Errors
/// What the kernel refused.
pub fn unload() -> Result<(), LoadError> {
    fallback_unload()?;
    // A kernel without nf_tables has nothing there.
    if is_fallback() && !emit::any_left().unwrap_or(false) {
        return Ok(());
    }
    Ok(emit::unload()?)
}

/// The trial that the kernel holds, going on or over.
///
/// # Errors
/// The kernel's.
pub fn pending() -> Result<Option<Pending>, LoadError> {
    if is_fallback() {
        return Ok(Rules::open()?.pending()?.map(Pending::elsewhere));
    }
    Ok(trial::pending()?)
}

/// What is in force before a trial. What an earlier one left behind is removed first.
///
/// # Errors
/// What the kernel refused.
pub fn previous() -> Result<Previous, LoadError> {
    if is_fallback() {
        return tidy(&mut || ()).map(|_| Previous::elsewhere());
    }
    Ok(trial::previous()?)
}

/// Ends a trial: the previous rules are in force, and nothing else is left. Whether there was one. `nothing`
/// is called before, if there were no previous rules.
///
/// # Errors
/// What the kernel refused; then nothing was changed.
pub fn withdraw(nothing: &mut dyn FnMut()) -> Result<bool, LoadError> {
    if is_fallback() {
        return Ok(Rules::open()?.withdraw(nothing)?);
    }
    Ok(trial::withdraw(nothing)?)
}

/// As `withdraw`, but only if the time is over. Whether anything was left of a trial.
///
/// # Errors
/// As `withdraw`.
pub fn tidy(nothing: &mut dyn FnMut()) -> Result<bool, LoadError> {
    if is_fallback() {
        let is_over = pending()?.is_some_and(|trial| trial.left_ms == 0);
        return if is_over { withdraw(nothing) } else { Ok(false) };
    }
    Ok(trial::tidy(nothing)?)
}

/// The tables that `wanted` says yes to, by the words for family and name; never that of bans.
///
/// # Errors
/// The kernel's.
pub fn listed(
    wanted: &dyn Fn(&str, &str) -> bool,
    scope: ListingScope,
) -> Result<Vec<ListedTable>, LoadError> {
    if is_fallback() {
        // What is in iptables is not read back; a table of ours in nf_tables is the next load's.
        return Ok(Vec::new());
    }
    // What is for frames belongs to the rest, and is no rule set without it.
    let wanted = |family: &str, name: &str| {
        wanted(family, name) || is_ours(family, name) && (wanted("inet", name) || wanted("bridge", name))
    };
    let bans = tables::GUARD.name;
    let wanted = |family: &str, name: &str| (family, name) != ("inet", bans.as_str()) && wanted(family, name);
    Ok(listing::read(&wanted, scope)?)
}

/// Whether this is the table of a loader.
#[must_use]
pub fn is_ours(family: &str, name: &str) -> bool {
    (family == "inet" || family == "bridge") && name == tables::RULES.name.as_str()
}

/// A comment of a rule as the kernel keeps it.
pub use super::listing::rule::kept as kept_comment;
