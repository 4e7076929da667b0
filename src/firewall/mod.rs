//! What the kernel enforces: bans and lists, and the rule set. Knows no log and no rule file. What others
//! use of it is here, and names no part of the kernel: [`backend`] for bans and lists, [`loader`] for rule
//! sets.

pub mod alarm;
pub mod backend;
pub mod conntrack;
pub mod emit;
pub mod guard;
pub mod listing;
pub mod loader;
pub mod nflog;
pub mod nft;
pub mod record;
pub mod sockdiag;
pub mod tables;
mod targets;
pub mod trial;

use crate::ban::{AllowSource, Allowed, Doing, Failure, Options, Scope};
use crate::base::range::Range;
use crate::sys::netlink::NlSocket;
use backend::{Backend, Lists};
use guard::Guard;
use mnl::Bus;
use nft::{TxnError, parts};
use std::fmt::Display;

pub use nflog::Packets;

/// Opens the way to bans. Whatever makes a table through it puts this allow list into it first.
///
/// # Errors
/// The system call that failed.
pub fn open(options: Options, allow: AllowSource) -> Result<Box<dyn Backend>, Failure> {
    Ok(Box::new(Guard::open(options, allow)?))
}

/// Opens a way to look, and to fill lists, that makes no table.
///
/// # Errors
/// The system call that failed.
pub fn view(options: Options) -> Result<Box<dyn Lists>, Failure> {
    Ok(Box::new(Guard::open(options, Allowed::default())?))
}

/// Takes the table of bans out of the kernel, with all that is in it.
///
/// # Errors
/// What the kernel refused.
pub fn remove(options: Options) -> Result<(), Failure> {
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
pub struct Part {
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
pub fn kernel_parts() -> (Vec<Part>, Option<Failure>) {
    let part = |name, is_there, about, package| Part { name, about, package, is_there };
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
    if why.as_ref().is_none_or(|e| e.errno() != nix::errno::Errno::EPERM) {
        all.extend(conntrack::abilities().map(|(name, has, about, package)| part(name, has, about, package)));
    }
    (all, why)
}

/// What has nothing to do with a table.
fn unanswered(e: TxnError) -> Failure {
    Failure::new(Doing::Question, e.errno(), e.to_string())
}
