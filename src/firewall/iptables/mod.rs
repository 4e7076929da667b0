#![forbid(unsafe_code)]
//! Bans and lists where nf_tables cannot be used: sets of ip_set, which our own messages change, and rules of
//! iptables that ask them, which `iptables-restore` writes when they are made and never for a ban. Knows the
//! same bans, scopes and comments as the table of nf_tables.
//!
//! What a set is for is written in the set `mef_made`: ip_set keeps nothing of the kind. That the rules are
//! there shows in the references of the sets, so that no program has to be asked.

mod allow;
mod bans;
mod driver;
mod elems;
mod health;
mod lists;
mod restore;
mod text;
mod unban;

use crate::ban::{AllowSource, Capabilities, Capability, Doing, Failure, GuardState, Options, Scope};
use crate::base::name::Name;
use crate::base::range::Family;
use crate::firewall::guard::{SetKind, fnv1a};
use crate::firewall::ipset::Sets;
use crate::firewall::ipset::message::{Command, Elem, Header, Key, SetSpec, Type};
use nix::errno::Errno;
use restore::Via;
use std::net::{IpAddr, Ipv4Addr};
use text::{Jumps, Plan, family_name, set_name};

/// Where bans are kept, for people.
pub(super) const PLACE: &str = "iptables, and sets of ip_set named mef_*";
/// What each of our sets may hold at most, in its lowest bits: by that, and not by its name alone, a set is
/// known to be ours. "mef" in ASCII.
const OURS: u32 = 0x006d_6566;
const OURS_MASK: u32 = 0x00ff_ffff;
/// The same for sets of sets, of which old kernels make as much room as is asked for.
const OURS_LIST: u32 = 109;
/// What the sets are for.
const MADE: &str = "mef_made";
/// The element of it that tells what everything was made with.
const MARK: u32 = 1;
/// Changes with the layout.
const VERSION: &str = "mef 1";
/// No rules of this family: the kernel has none.
const NO_VIA: Via = 9;

/// What everything was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    ipv6_prefix: u8,
    logs: bool,
    /// Where the rules are, and by which program, of each family.
    places: [usize; 2],
    via: [Via; 2],
    lacks: Capabilities,
}

impl Mark {
    fn write(self) -> String {
        let Mark { ipv6_prefix, logs, places: [t4, t6], via: [v4, v6], lacks } = self;
        format!("{VERSION} {ipv6_prefix} {} {t4} {t6} {v4} {v6} {}", u8::from(logs), lacks.number())
    }

    fn read(comment: &str) -> Option<Mark> {
        let mut numbers = comment.strip_prefix(VERSION)?.strip_prefix(' ')?.split(' ');
        let mut next = || numbers.next()?.parse::<u8>().ok();
        Some(Mark {
            ipv6_prefix: next()?,
            logs: next()? == 1,
            places: [next()?.into(), next()?.into()],
            via: [next()?.into(), next()?.into()],
            lacks: Capabilities::of_number(next()?),
        })
    }

    /// Where the rules of a family are, and by which program, if it has any.
    fn of(self, family: Family) -> Option<(usize, Via)> {
        let [v4, v6] = [0, 1].map(|at: usize| self.places.get(at).copied().zip(self.via.get(at).copied()));
        let of = if family == Family::V4 { v4 } else { v6 };
        of.filter(|(_, via)| *via != NO_VIA)
    }
}

impl From<Mark> for GuardState {
    fn from(mark: Mark) -> GuardState {
        let Mark { ipv6_prefix, logs, lacks, .. } = mark;
        GuardState { ipv6_prefix, logs, watches: Capabilities::NONE, lacks }
    }
}

/// What `mef_made` says.
#[derive(Default)]
struct Registry {
    mark: Option<Mark>,
    scopes: Vec<(Scope, SetKind)>,
    lists: Vec<lists::Registered>,
}

/// The way to both.
pub struct Fallback {
    sets: Sets,
    options: Options,
    allow: AllowSource,
    /// Whether sets of bans had to be made since this was last asked.
    recreated: bool,
    mark: Option<Mark>,
    /// The scopes that are known to have sets and rules.
    scopes: Vec<(Scope, SetKind)>,
    health: health::Watch,
    /// Of a deny list that is being filled.
    waiting: lists::Waiting,
}

impl Fallback {
    /// Opens the way to the kernel; changes nothing.
    ///
    /// # Errors
    /// The system call that failed.
    pub fn open(options: Options, allow: impl Into<AllowSource>) -> Result<Fallback, Failure> {
        let (sets, allow) = (Sets::open()?, allow.into());
        let (health, waiting) = (health::Watch::default(), lists::Waiting::default());
        let scopes = Vec::new();
        Ok(Fallback { sets, options, allow, recreated: false, mark: None, scopes, health, waiting })
    }

    /// Whether bans can be kept so: the kernel answers, and a program for the rules is there.
    ///
    /// # Errors
    /// Why not.
    pub fn works(&mut self) -> Result<(), Failure> {
        self.sets.header(MADE, &mut |_| ())?;
        if restore::is_installed(Family::V4) {
            return Ok(());
        }
        let text = "iptables-restore is not installed: install the package iptables".to_owned();
        Err(Failure::new(Doing::Change, Errno::ENOENT, text))
    }

    /// Whether anything of ours may be in ip_set; a question to a kernel without it would have that loaded.
    #[must_use]
    pub fn may_be_there() -> bool {
        std::path::Path::new("/sys/module/ip_set").exists()
    }

    /// Whether there is anything of ours.
    ///
    /// # Errors
    /// The kernel's.
    pub fn is_there(&mut self) -> Result<bool, Failure> {
        match self.registry() {
            // Who may not ask finds nothing to take away either.
            Err(e) if matches!(e.errno(), Errno::EPERM | Errno::EINVAL) => Ok(false),
            result => Ok(result?.mark.is_some()),
        }
    }

    fn registry(&mut self) -> Result<Registry, Failure> {
        let found = std::cell::RefCell::new(Registry::default());
        self.sets.elements(MADE, &mut || *found.borrow_mut() = Registry::default(), &mut |elem| {
            let mut found = found.borrow_mut();
            if let Some(mark) = Mark::read(elem.comment) {
                found.mark = Some(mark);
            } else if let Some(scope) = read_scope(elem.comment) {
                found.scopes.push(scope);
            }
            found.lists.extend(lists::Registered::read(elem.comment));
        })?;
        Ok(found.into_inner())
    }

    /// Writes what a set is for.
    fn register(&mut self, number: u32, comment: &str) -> Result<(), Failure> {
        if comment.len() > crate::firewall::ipset::message::COMMENT_MAX {
            let text = "more ports than can be written into a comment of ip_set".to_owned();
            return Err(Failure::new(Doing::Change, Errno::E2BIG, text));
        }
        let elem = Elem { timeout: Some(0), comment, ..registered(number) };
        self.add(MADE, &[elem])
    }

    fn unregister(&mut self, number: u32) -> Result<(), Failure> {
        self.sets.write((Command::Del, false), MADE, &[registered(number)], &mut |_, _| ())
    }

    /// Adds elements, all of them or with an error.
    fn add(&mut self, set: &str, elems: &[Elem<'_>]) -> Result<(), Failure> {
        let mut first = None;
        self.sets.write((Command::Add, false), set, elems, &mut |_, code| {
            first.get_or_insert(code);
        })?;
        first.map_or(Ok(()), |code| Err(code.failure(set)))
    }

    /// What there is, if it is whole: the mark, and the rules that ask for bans.
    fn look(&mut self) -> Result<Option<Mark>, Failure> {
        let registry = self.registry()?;
        self.scopes = registry.scopes;
        self.mark = None;
        if let Some(mark) = registry.mark {
            for family in Family::ALL.into_iter().filter(|family| mark.of(*family).is_some()) {
                if self.references(&ban_set(family))? == 0 {
                    return Ok(None);
                }
            }
            self.mark = Some(mark);
        }
        Ok(self.mark)
    }

    /// What there is, made first where something is missing.
    fn ensure(&mut self) -> Result<Mark, Failure> {
        match self.look()? {
            Some(mark) => Ok(mark),
            None => self.rebuild(),
        }
    }

    fn references(&mut self, set: &str) -> Result<usize, Failure> {
        let mut count = 0;
        self.sets.header(set, &mut |header| count = header.references)?;
        Ok(count.try_into().unwrap_or(0))
    }

    /// Makes the sets that are missing, fills the allow list if it is, and writes all rules anew; bans and
    /// lists that are there stay.
    fn rebuild(&mut self) -> Result<Mark, Failure> {
        self.make_set(&SetSpec { timed: true, ..spec(MADE, Type::Hosts, Family::V4) })?;
        let registry = self.registry()?;
        let former = registry.mark;
        if former.is_none() {
            self.drop_lists()?;
        }
        self.make_allowed(former.is_some())?;
        let prefix = self.options.ipv6_prefix.clamp(1, 128);
        for family in Family::ALL {
            for kind in SetKind::ALL {
                self.make_bans(&Scope::ALL, kind, family, prefix)?;
            }
            for base in ["deny", "denynet"] {
                self.make_set(&spec(&family_name(base, family), Type::Sets, family))?;
            }
        }
        for (scope, kind) in &registry.scopes {
            for family in Family::ALL {
                self.make_bans(scope, *kind, family, prefix)?;
            }
        }
        self.recreated |= former.is_none();
        self.scopes = registry.scopes;
        let mut mark = self.write_rules(former, prefix)?;
        mark.lacks = mark.lacks.and(self.wanted_in_vain());
        self.register(MARK, &mark.write())?;
        self.mark = Some(mark);
        self.settle()?;
        Ok(mark)
    }

    /// What the options ask for that this backend has nothing of.
    fn wanted_in_vain(&self) -> Capabilities {
        let Options { ingress, scan, flood, seen, .. } = &self.options;
        let wanted = [
            (!ingress.is_empty(), Capability::Ingress),
            (scan.is_some(), Capability::Scans),
            (flood.is_some(), Capability::Floods),
            (seen.is_some(), Capability::NewSources),
        ];
        let wanted = wanted.into_iter().filter(|(on, _)| *on);
        wanted.fold(Capabilities::NONE, |all, (_, one)| all.and(one))
    }

    /// Rules for both families. Those of one are there before those of the other, and each has its allow
    /// list from the beginning.
    fn write_rules(&mut self, former: Option<Mark>, ipv6_prefix: u8) -> Result<Mark, Failure> {
        let (mut places, mut vias) = ([0; 2], [NO_VIA; 2]);
        let mut lacks = self.options.without;
        let families = Family::ALL.into_iter().filter(|family| *family == Family::V4 || has_ipv6());
        for ((family, place), via) in families.zip(&mut places).zip(&mut vias) {
            let before = former.and_then(|mark| mark.of(family));
            (*place, *via, lacks) = self.write_family(family, before, lacks)?;
            // What another place or program has of ours is asked no more.
            if let Some((old, old_via)) = before.filter(|before| *before != (*place, *via)) {
                let all = old_via != *via || !text::share_table(old, *place);
                self.drop_rules(family, (old, old_via), all);
            }
        }
        let logs = self.options.log.is_some() && !lacks.has(Capability::DropLog);
        Ok(Mark { ipv6_prefix, logs, places, via: vias, lacks })
    }

    fn write_family(
        &mut self,
        family: Family,
        before: Option<(usize, Via)>,
        lacks: Capabilities,
    ) -> Result<(usize, Via, Capabilities), Failure> {
        let asked = self.references(&ban_set(family))?;
        let mut why = None;
        for lacks in [lacks, lacks.and(Capability::DropLog)] {
            for place in text::places(&self.options) {
                let plan = Plan { options: &self.options, scopes: &self.scopes, lacks, place: *place };
                let same = before.is_none_or(|(former, _)| former == *place);
                let hits = if same { asked / text::hooks_of(*place) } else { 0 };
                let texts = guesses(hits).map(|jumps| plan.rules(family, jumps));
                match restore::restore(family, &texts, before.map(|(_, via)| via)) {
                    Ok(via) => return Ok((*place, via, lacks)),
                    Err(e) if matches!(e.errno(), Errno::EBUSY | Errno::ENOENT) => return Err(e),
                    Err(e) => why.get_or_insert(e),
                };
            }
        }
        Err(why.unwrap_or_else(|| Failure::new(Doing::Change, Errno::EIO, "iptables-restore".to_owned())))
    }

    /// Takes our jumps out of a place, or (`all`) all rules; what is not there need not be taken out.
    fn drop_rules(&mut self, family: Family, (place, via): (usize, Via), all: bool) {
        let plan = Plan { options: &self.options, scopes: &[], lacks: Capabilities::NONE, place };
        let texts = guesses(1).map(|jumps| plan.none(family, jumps, all));
        // Others may have done it before.
        let _ = restore::restore(family, &texts, Some(via));
    }

    /// Makes a set, unless there is one of ours; whether it was made.
    fn make_set(&mut self, spec: &SetSpec<'_>) -> Result<bool, Failure> {
        if self.sets.create(spec)? {
            return Ok(true);
        }
        let mut ours = false;
        self.sets.header(spec.name, &mut |header| ours = is_ours(header, spec.kind))?;
        if ours {
            return Ok(false);
        }
        let text = format!(
            "ip_set {0}: there is a set of that name that mef did not create: rename it \
            (ipset rename {0} NAME)",
            spec.name
        );
        Err(Failure::new(Doing::Change, Errno::EEXIST, text))
    }

    /// Makes a set of bans; one that stands for other prefixes, or does not count what it is to count, gives
    /// its place to an empty one.
    fn make_bans(&mut self, scope: &Scope, kind: SetKind, family: Family, prefix: u8) -> Result<(), Failure> {
        let name = set_name(scope.set(kind, family));
        let hosts = kind == SetKind::Hosts;
        let wanted = SetSpec {
            timed: true,
            counters: self.options.element_counters,
            netmask: if hosts && family == Family::V6 { prefix } else { 0 },
            ..spec(&name, if hosts { Type::Hosts } else { Type::Networks }, family)
        };
        if self.make_set(&wanted)? {
            self.recreated = true;
            return Ok(());
        }
        let mut same = true;
        self.sets.header(&name, &mut |header| {
            same = header.netmask == wanted.netmask && header.counters == wanted.counters;
        })?;
        if same {
            return Ok(());
        }
        self.replace(&wanted, &[])?;
        self.recreated = true;
        Ok(())
    }

    /// Puts a set with these elements in the place of one that rules ask, at once.
    fn replace(&mut self, spec: &SetSpec<'_>, elems: &[Elem<'_>]) -> Result<(), Failure> {
        let beside = [spec.name, "_new"].concat();
        self.sets.about(Command::Destroy, &beside, None)?;
        self.sets.create(&SetSpec { name: &beside, ..*spec })?;
        let done = self
            .add(&beside, elems)
            .and_then(|()| self.sets.about(Command::Swap, &beside, Some(spec.name)).map(drop));
        self.sets.about(Command::Destroy, &beside, None)?;
        done
    }

    /// Takes everything of ours out of the kernel.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn remove(&mut self) -> Result<(), Failure> {
        let mark = self.registry()?.mark;
        for family in Family::ALL {
            if let Some(place) = mark.and_then(|mark| mark.of(family)) {
                self.drop_rules(family, place, true);
            }
        }
        self.mark = None;
        self.drop_lists()?;
        let all = std::cell::RefCell::new(Vec::new());
        self.sets.headers(&mut || all.borrow_mut().clear(), &mut |header| {
            if header.kind.is_some_and(|kind| header.name.starts_with(text::PREFIX) && is_ours(header, kind))
            {
                all.borrow_mut().push((header.kind != Some(Type::Sets), header.name.to_owned()));
            }
        })?;
        let mut all = all.into_inner();
        // Sets of sets first: their members are used as long as they are there.
        all.sort_unstable();
        for (_, name) in all {
            self.sets.about(Command::Destroy, &name, None)?;
        }
        Ok(())
    }
}

/// How the jumps of ours may stand in a table, the likeliest first. What is not there cannot be deleted, and
/// what is would be there twice.
fn guesses(hits: usize) -> [Jumps; 4] {
    match hits {
        0 => [[0, 0], [1, 1], [0, 1], [1, 0]],
        n => [[n, n], [n, 0], [0, 0], [1, 1]],
    }
}

/// The set of who is banned for everything.
fn ban_set(family: Family) -> String {
    set_name(Scope::ALL.set(SetKind::Hosts, family))
}

/// Whether the kernel has IPv6: without it there are no rules for it.
fn has_ipv6() -> bool {
    std::path::Path::new("/proc/net/if_inet6").exists()
}

/// A set of ours.
fn spec(name: &str, kind: Type, family: Family) -> SetSpec<'_> {
    let size = if kind == Type::Sets { OURS_LIST } else { OURS };
    SetSpec { name, kind, family, size, expected: 0, netmask: 0, timed: false, counters: false }
}

fn is_ours(header: &Header<'_>, kind: Type) -> bool {
    let size = if kind == Type::Sets { header.size == OURS_LIST } else { header.size & OURS_MASK == OURS };
    header.kind == Some(kind) && size
}

/// A number as an element of `mef_made`.
fn registered(number: u32) -> Elem<'static> {
    let addr = IpAddr::V4(Ipv4Addr::from(number.max(MARK)));
    Elem { key: Key::Net(addr, 0), timeout: None, comment: "" }
}

/// The number by which a set is registered.
fn number_of(name: Name) -> u32 {
    fnv1a(name.as_str().as_bytes()).max(MARK + 1)
}

fn write_scope(scope: &Scope, kind: SetKind) -> String {
    format!("{} {scope}", if kind == SetKind::Networks { "netports" } else { "ports" })
}

fn read_scope(comment: &str) -> Option<(Scope, SetKind)> {
    let (word, scope) = comment.split_once(' ')?;
    let kind = match word {
        "ports" => SetKind::Hosts,
        "netports" => SetKind::Networks,
        _ => return None,
    };
    Some((Scope::read(scope)?, kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ban::Transports;

    #[test]
    fn what_is_registered_is_read_back() {
        let lacks = Capability::Scans.into();
        let mark = Mark { ipv6_prefix: 64, logs: true, places: [0, 1], via: [2, NO_VIA], lacks };
        assert_eq!(Mark::read(&mark.write()), Some(mark));
        let scope = Scope::new(vec![(22, 22), (1000, 2000)], Transports::Tcp);
        for kind in SetKind::ALL {
            assert_eq!(read_scope(&write_scope(&scope, kind)), Some((scope.clone(), kind)));
        }
        for bad in ["", "mef 1", "mef 2 64 1 0 0 0 0 0", "mef 1 64 1 0 0", "ports x", "other 22"] {
            assert!(Mark::read(bad).is_none() && read_scope(bad).is_none(), "{bad}");
        }
    }
}
