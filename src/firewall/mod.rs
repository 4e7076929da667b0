//! What the kernel enforces: bans and lists, and the rule set. Knows no log and no rule file. What others
//! use of it is here, and names no part of the kernel: [`backend`] for bans and lists, [`loader`] for rule
//! sets.

pub mod alarm;
pub mod backend;
pub mod conntrack;
mod contents;
pub mod emit;
mod field;
mod former;
pub mod guard;
mod in_both;
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

use crate::ban::{AllowSource, Allowed, BackendChoice, Doing, Failure, Options, Scope};
use crate::base::build_part::BuildPart;
use crate::base::range::Range;
use crate::sys::netlink::{Lost, NlSocket};
use backend::{Backend, Lists};
pub use former::{
    Moved, Placement, has_left, may_have_left, open_beside, open_in_force, placement, remove_former,
    take_over, view,
};
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
    Ok(match fallback_for(&options)? {
        Some(why) => Box::new(Fallback::open(options, allow)?.in_place_of(why)),
        None => Box::new(Guard::open(options, allow)?),
    })
}

/// Whether bans go to iptables and ip_set: because it is said so, or because they can go there and not to
/// nf_tables, which is found out by trying.
/// Why not to nf_tables, for people; empty if nobody wants them there.
#[inline(always)]
fn falls_back(options: &Options) -> Option<String> {
    fallback_for(options).ok().flatten()
}

/// The same. An error is why bans can go nowhere.
#[inline(always)]
fn fallback_for(options: &Options) -> Result<Option<String>, Failure> {
    if BuildPart::Fallback.is_in() { wants_fallback(options) } else { Ok(None) }
}

/// The same, of a program that has both.
fn wants_fallback(options: &Options) -> Result<Option<String>, Failure> {
    match options.backend {
        BackendChoice::Nftables => Ok(None),
        BackendChoice::Iptables => Ok(Some(String::new())),
        BackendChoice::Auto => {
            let Some(why) = nf_tables_lacks() else { return Ok(None) };
            let works = Fallback::open(options.clone(), Allowed::default()).and_then(|mut it| it.works());
            works.map(|()| Some(why.to_string())).map_err(|e| neither(why, &e))
        }
    }
}

/// Why bans can go nowhere: not to nf_tables, and not to iptables.
fn neither(nf_tables: Errno, iptables: &Failure) -> Failure {
    let nf_tables = TxnError::Lost(Lost::Sys(query::QUERY, nf_tables));
    let text = format!("{nf_tables}; and {iptables}");
    Failure::new(Doing::Question, iptables.errno(), text)
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

/// Opens a way to look, and to fill lists, that makes no table: to the backend that is wanted.
///
/// # Errors
/// The system call that failed.
fn wanted_view(options: Options) -> Result<Box<dyn Lists>, Failure> {
    Ok(match fallback_for(&options)? {
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
            let none = part("nf_tables", false, "bans, lists and rules", "kmod-nft-core");
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
    // A question would have it loaded.
    let is_asked = why.as_ref().map_or(may_have_left(), |e| e.errno() != Errno::EPERM);
    if BuildPart::Fallback.is_in() && is_asked {
        let asked = Fallback::open(Options::default(), Allowed::default()).and_then(|mut it| it.answers());
        all.push(part("ip_set", asked.is_ok(), "bans and lists in place of nf_tables", "kmod-ipt-ipset"));
        let is_installed = !restore_programs().is_empty();
        all.push(part("iptables-restore", is_installed, "rules in place of nf_tables", "iptables"));
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
