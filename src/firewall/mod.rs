//! What the kernel enforces: bans and lists, and the rule set. Knows no log and no rule file. What others
//! use of it is here, and names no part of the kernel: [`backend`] for bans and lists, [`loader`] for rule
//! sets.

pub mod alarm;
pub mod backend;
pub mod conntrack;
pub mod emit;
mod field;
pub mod guard;
pub mod ipset;
pub mod iptables;
pub mod listing;
pub mod loader;
pub mod nflog;
pub mod nft;
pub mod record;
pub mod sockdiag;
pub mod tables;
mod targets;
pub mod trial;

use crate::ban::{
    AllowSource, Allowed, BackendChoice, Ban, Doing, Failure, Options, Repeat, Scope, Standing,
};
use crate::base::build_part::BuildPart;
use crate::base::range::Range;
use crate::sys::netlink::NlSocket;
use backend::{Backend, Lists, View};
use guard::Guard;
use iptables::Fallback;
pub use iptables::restore::programs as restore_programs;
use mnl::Bus;
use nft::{TxnError, parts, query};
use nix::errno::Errno;
use std::fmt::Display;
use std::sync::atomic::{AtomicU8, Ordering};

pub use nflog::Packets;

/// Which backend has rule sets: none is chosen until somebody has read the configuration, and then it is
/// found out when it is first asked for.
static CHOSEN: AtomicU8 = AtomicU8::new(Chosen::Nftables as u8);

/// A backend for rule sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chosen {
    /// nf_tables.
    Nftables,
    /// iptables and ip_set.
    Iptables,
    /// That which works.
    Auto,
}

/// Says where rule sets go from now on.
pub fn choose(choice: BackendChoice) {
    let chosen = match choice {
        BackendChoice::Auto => Chosen::Auto,
        BackendChoice::Nftables => Chosen::Nftables,
        BackendChoice::Iptables => Chosen::Iptables,
    };
    CHOSEN.store(chosen as u8, Ordering::Relaxed);
}

/// Where rule sets go.
#[inline(always)]
fn chosen() -> Chosen {
    if BuildPart::Fallback.is_in() { chosen_of_both() } else { Chosen::Nftables }
}

/// The same, of a program that has both.
fn chosen_of_both() -> Chosen {
    match CHOSEN.load(Ordering::Relaxed) {
        auto if auto == Chosen::Auto as u8 => {
            let falls_back = falls_back(&Options::default()).is_some();
            let chosen = if falls_back { Chosen::Iptables } else { Chosen::Nftables };
            CHOSEN.store(chosen as u8, Ordering::Relaxed);
            chosen
        }
        iptables if iptables == Chosen::Iptables as u8 => Chosen::Iptables,
        _ => Chosen::Nftables,
    }
}

/// Opens the way to bans. Whatever makes a table through it puts this allow list into it first.
///
/// # Errors
/// The system call that failed.
pub fn open(options: Options, allow: AllowSource) -> Result<Box<dyn Backend>, Failure> {
    Ok(match falls_back(&options) {
        Some(why) => Box::new(Fallback::open(options, allow)?.in_place_of(why)),
        None => Box::new(Guard::open(options, allow)?),
    })
}

/// Whether bans go to iptables and ip_set: because it is said so, or because they can go there and not to
/// nf_tables, which is found out by trying.
/// Why not to nf_tables, for people; empty if nobody wants them there.
#[inline(always)]
fn falls_back(options: &Options) -> Option<String> {
    if BuildPart::Fallback.is_in() { wants_fallback(options) } else { None }
}

/// The same, of a program that has both.
fn wants_fallback(options: &Options) -> Option<String> {
    match options.backend {
        BackendChoice::Nftables => None,
        BackendChoice::Iptables => Some(String::new()),
        BackendChoice::Auto => {
            let why = nf_tables_lacks()?;
            let works = Fallback::open(options.clone(), Allowed::default()).and_then(|mut it| it.works());
            works.is_ok().then(|| why.to_string())
        }
    }
}

/// Why nf_tables cannot be used for bans, if it cannot: where there is no table of ours, one like it is
/// tried, which never comes into force. Who may not ask is told so by whatever he asks next.
fn nf_tables_lacks() -> Option<Errno> {
    let mut socket = NlSocket::open(Bus::Netfilter).ok()?;
    match query::set(&mut socket, &tables::GUARD, &tables::MADE, &mut |_| ()) {
        Ok(true) => None,
        Ok(false) => parts::try_bans(&mut socket).err().map(|e| e.errno()).filter(|e| is_lack(*e)),
        Err(e) => Some(TxnError::from(e).errno()).filter(|e| *e != Errno::EPERM),
    }
}

/// Whether an error says that a kernel has not got something, and not that it has no memory, or no time.
fn is_lack(e: Errno) -> bool {
    matches!(
        e,
        Errno::EOPNOTSUPP
            | Errno::ENOENT
            | Errno::EAFNOSUPPORT
            | Errno::EPROTONOSUPPORT
            | Errno::EINVAL
            | Errno::ENOSYS
    )
}

/// Has what is in force move to this backend from the other one, if anything is there: bans with the time
/// they have left. Nothing of ours is left there; the allow list is in force in both until then. How many
/// bans there were.
///
/// # Errors
/// What the kernel refused; then the other one is still in force, too.
pub fn take_over(backend: &mut dyn Backend) -> Result<Option<usize>, Failure> {
    let options = backend.options().clone();
    if falls_back(&options).is_some() {
        // A kernel without nf_tables has nothing there.
        let other = Guard::open(options, Allowed::default());
        let Some(mut other) = other.ok().filter(|_| nf_tables_lacks().is_none()) else { return Ok(None) };
        if other.probe()?.is_none() {
            return Ok(None);
        }
        let moved = move_bans(&mut other, backend)?;
        other.remove()?;
        return Ok(Some(moved));
    }
    if !may_have_left() {
        return Ok(None);
    }
    let mut other = Fallback::open(options, Allowed::default())?;
    if !other.is_there()? {
        return Ok(None);
    }
    let moved = move_bans(&mut other, backend)?;
    other.remove()?;
    Ok(Some(moved))
}

/// Whether another backend than nf_tables may have something in force; costs nothing.
#[must_use]
#[inline(always)]
pub fn may_have_left() -> bool {
    BuildPart::Fallback.is_in() && Fallback::may_be_there()
}

/// Whether another backend than nf_tables has something in force, or may have: who cannot be asked counts.
#[must_use]
pub fn has_left(options: &Options) -> bool {
    may_have_left()
        && Fallback::open(options.clone(), Allowed::default())
            .and_then(|mut other| other.is_there())
            .unwrap_or(true)
}

/// Bans in one backend whom the other has banned.
fn move_bans(from: &mut dyn View, to: &mut dyn Backend) -> Result<usize, Failure> {
    let mut all: Vec<(Range, Scope, Standing)> = Vec::new();
    from.list(&mut |entry| {
        let (rule, reason) = (entry.rule.to_owned(), entry.reason.to_owned());
        let (age, left, hits) = (entry.age.unwrap_or(0), entry.left, entry.hits);
        all.push((entry.addr, entry.scope.clone(), Standing { age, left, rule, hits, reason }));
    })?;
    let bans: Vec<Ban<'_>> = all.iter().map(|(addr, scope, standing)| standing.ban(*addr, scope)).collect();
    let mut refused = None;
    to.ban(&bans, Repeat::Prolongs, &mut |_, result| {
        if let Err(e) = result {
            refused.get_or_insert(e.clone());
        }
    });
    refused.map_or(Ok(all.len()), Err)
}

/// Opens a way to look, and to fill lists, that makes no table.
///
/// # Errors
/// The system call that failed.
pub fn view(options: Options) -> Result<Box<dyn Lists>, Failure> {
    Ok(match falls_back(&options) {
        Some(why) => Box::new(Fallback::open(options, Allowed::default())?.in_place_of(why)),
        None => Box::new(Guard::open(options, Allowed::default())?),
    })
}

/// Takes the table of bans out of the kernel, with all that is in it.
///
/// # Errors
/// What the kernel refused.
pub fn remove(options: Options) -> Result<(), Failure> {
    if may_have_left() {
        let mut fallback = Fallback::open(options.clone(), Allowed::default())?;
        if fallback.is_there()? {
            fallback.remove()?;
        }
    }
    if falls_back(&options).is_some() && nf_tables_lacks().is_some() {
        return Ok(());
    }
    Guard::open(options, Allowed::default())?.remove()
}

/// Which of the sources have an established connection with this host, each in its place.
///
/// # Errors
/// The kernel cannot tell, or the system call that failed.
pub fn connected(sources: &[Range]) -> Result<Vec<bool>, Failure> {
    sockdiag::connected(sources).map_err(unanswered)
}

/// Ends the connections of whom is banned.
///
/// # Errors
/// What cannot be ended, and why, for people.
pub fn end_connections(targets: &[Range], scope: &Scope) -> Result<(), impl Display> {
    conntrack::kill(targets, scope).map(drop)
}

/// A part of the kernel.
pub struct PartState {
    /// Its name, and what else it takes.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// What has it on OpenWrt.
    pub package: &'static str,
    /// Whether it is there.
    pub is_there: bool,
}

/// Every part of the kernel that something is asked of. What it has is loaded for that. An error besides says
/// why there can be no bans at all.
#[must_use]
pub fn kernel_parts() -> (Vec<PartState>, Option<Failure>) {
    let part = |name, is_there, about, package| PartState { name, about, package, is_there };
    let asked = NlSocket::open(Bus::Netfilter).map_err(TxnError::from);
    let (mut all, why) = match asked.and_then(|mut socket| parts::missing(&mut socket)) {
        Err(e) => {
            let none = part("nf_tables", false, "everything but reading logs", "kmod-nft-core");
            (vec![none], Some(unanswered(e)))
        }
        Ok(missing) => {
            let all = parts::PARTS.iter().enumerate();
            let all = all.map(|(n, p)| part(p.module, !missing.has(n), p.about, p.package));
            (std::iter::once(part("nf_tables", true, "bans, lists and rules", "")).chain(all).collect(), None)
        }
    };
    if why.as_ref().is_none_or(|e| e.errno() != Errno::EPERM) {
        all.extend(conntrack::abilities().map(|(name, has, about, package)| part(name, has, about, package)));
    }
    (all, why)
}

/// What has nothing to do with a table.
fn unanswered(e: TxnError) -> Failure {
    Failure::new(Doing::Question, e.errno(), e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_memory_lacks_nothing() {
        for e in [Errno::ENOMEM, Errno::EPERM, Errno::EBUSY, Errno::ENOBUFS, Errno::EINTR] {
            assert!(!is_lack(e), "{e}");
        }
        // A family, and a type of set or chain, that is not there.
        assert!(is_lack(Errno::EAFNOSUPPORT) && is_lack(Errno::EOPNOTSUPP) && is_lack(Errno::ENOENT));
    }
}
