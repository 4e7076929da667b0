#![forbid(unsafe_code)]
//! Bans and lists of another backend than the one that is wanted: they move, and until all of it has, both
//! are looked at.

use super::backend::{Backend, Lists, View};
use super::guard::Guard;
use super::in_both::InBoth;
use super::iptables::Fallback;
use super::nft::query;
use super::{falls_back, nf_tables_lacks, open, tables, wanted_view};
use crate::ban::{AllowSource, Allowed, BackendChoice, Ban, Failure, Options, Repeat, Scope, Standing};
use crate::base::build_part::BuildPart;
use crate::base::range::Range;
use crate::sys::netlink::NlSocket;
use mnl::Bus;

/// In which backend bans and lists are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// In none but that which is wanted.
    Here,
    /// In the other one: they have not moved yet.
    There,
    /// In both: they could not all move.
    Both,
}

/// What another backend has in force.
pub(super) enum Former {
    Nftables(Box<Guard>),
    Iptables(Box<Fallback>),
}

impl Former {
    /// What there is of the one that is not wanted.
    fn find(options: &Options) -> Result<Option<Former>, Failure> {
        if !BuildPart::Fallback.is_in() {
            return Ok(None);
        }
        if falls_back(options).is_some() {
            // A kernel without nf_tables has nothing there.
            let other = Guard::open(options.clone(), Allowed::default());
            let Some(mut other) = other.ok().filter(|_| nf_tables_lacks().is_none()) else { return Ok(None) };
            return Ok(other.probe()?.map(|_| Former::Nftables(Box::new(other))));
        }
        if !may_have_left() {
            return Ok(None);
        }
        let mut other = Fallback::open(options.clone(), Allowed::default())?;
        Ok(other.is_there()?.then(|| Former::Iptables(Box::new(other))))
    }

    pub(super) fn view(&mut self) -> &mut dyn View {
        match self {
            Former::Nftables(guard) => &mut **guard,
            Former::Iptables(fallback) => &mut **fallback,
        }
    }

    fn remove(&mut self) -> Result<(), Failure> {
        match self {
            Former::Nftables(guard) => guard.remove(),
            Former::Iptables(fallback) => fallback.remove(),
        }
    }
}

/// Finds out where they are; costs next to nothing where no other backend has ever had any.
#[must_use]
pub fn placement(options: &Options) -> Placement {
    if !BuildPart::Fallback.is_in() || options.backend != BackendChoice::Iptables && !may_have_left() {
        return Placement::Here;
    }
    let Ok(mut wanted) = wanted_view(options.clone()) else { return Placement::Here };
    let other = match falls_back(options) {
        Some(_) => NlSocket::open(Bus::Netfilter).is_ok_and(|mut socket| {
            query::set(&mut socket, &tables::GUARD, &tables::MADE, &mut |_| ()).unwrap_or(false)
        }),
        None => has_left(options),
    };
    match wanted.state() {
        _ if !other => Placement::Here,
        Ok(None) => Placement::There,
        _ => Placement::Both,
    }
}

/// The options of the other backend.
fn of_other(mut options: Options) -> Options {
    let is_fallback = falls_back(&options).is_some();
    options.backend = if is_fallback { BackendChoice::Nftables } else { BackendChoice::Iptables };
    options
}

/// Opens the way to bans where they are, and be it the other backend.
///
/// # Errors
/// The system call that failed.
pub fn open_in_force(options: Options, allow: AllowSource) -> Result<Box<dyn Backend>, Failure> {
    match placement(&options) {
        Placement::There => open(of_other(options), allow),
        Placement::Here | Placement::Both => open(options, allow),
    }
}

/// Opens the way to bans that are in force beside those in the backend that is wanted, if there are any.
///
/// # Errors
/// The system call that failed.
pub fn open_beside(options: Options) -> Result<Option<Box<dyn Backend>>, Failure> {
    match placement(&options) {
        Placement::Both if BuildPart::Fallback.is_in() => {
            open(of_other(options), Allowed::default().into()).map(Some)
        }
        _ => Ok(None),
    }
}

/// Opens a way to look, and to fill lists, that makes no table: to where they are, and be it the other
/// backend, or both.
///
/// # Errors
/// The system call that failed.
pub fn view(options: Options) -> Result<Box<dyn Lists>, Failure> {
    match placement(&options) {
        _ if !BuildPart::Fallback.is_in() => wanted_view(options),
        Placement::Here => wanted_view(options),
        Placement::There => wanted_view(of_other(options)),
        Placement::Both => {
            let wanted = wanted_view(options.clone())?;
            Ok(match Former::find(&options)? {
                Some(former) => Box::new(InBoth::new(wanted, former)),
                None => wanted,
            })
        }
    }
}

/// What became of bans of another backend.
#[derive(Debug)]
pub struct Moved {
    /// How many are in force here now that were in force there.
    pub bans: usize,
    /// Why they are in force there, too.
    pub left: Option<Failure>,
}

/// Has what is in force move to this backend from the other one, if anything is there: bans with the time
/// they have left. Nothing of ours is left there; the allow list is in force in both until then.
///
/// # Errors
/// What the kernel refused; then the other one is in force as before.
pub fn take_over(backend: &mut dyn Backend) -> Result<Option<Moved>, Failure> {
    let Some(mut former) = Former::find(&backend.options().clone())? else { return Ok(None) };
    let bans = move_bans(former.view(), backend)?;
    Ok(Some(Moved { bans, left: former.remove().err() }))
}

/// Takes out of the other backend what is there: all of it has moved.
///
/// # Errors
/// What the kernel refused.
pub fn remove_former(options: &Options) -> Result<(), Failure> {
    Former::find(options)?.map_or(Ok(()), |mut former| former.remove())
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
