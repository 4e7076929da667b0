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
mod guards;
mod health;
mod letters;
mod lists;
mod make;
mod mark;
mod packets;
pub mod restore;
mod rules;
pub mod ruleset;
mod spell;
mod switch;
mod target;
mod text;
mod unban;
mod written;

use crate::ban::{AllowSource, Capabilities, Doing, Failure, Options, Scope};
use crate::base::name::Name;
use crate::base::range::Family;
use crate::firewall::contents::Contents;
use crate::firewall::guard::{SetKind, fnv1a};
use crate::firewall::ipset::message::{Command, Elem, Header, Key, SetSpec, Type};
use crate::firewall::ipset::{DoneBefore, Sets};
use make::Extent;
use mark::Mark;
use nix::errno::Errno;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use text::{GATES, Jumps, Removal, family_name, set_name};

/// Where bans are kept, for people.
pub(super) const PLACE: &str = "iptables, and sets of ip_set named mef_*";
/// What each of our sets may hold at most, in its lowest bits: by that, and not by its name alone, a set is
/// known to be ours. "mef" in ASCII.
const OURS: u32 = 0x006d_6566;
const OURS_MASK: u32 = 0x00ff_ffff;
/// The same in fewer bits: for sets of sets, of which old kernels make as much room as is asked for, and for
/// those that packets add to.
const OURS_LIST: u32 = 109;
const OURS_LIST_MASK: u32 = 0x7ff;
/// What the sets are for.
const MADE: &str = "mef_made";
/// The element of it that tells what everything was made with.
const MARK: u32 = 1;

/// What `mef_made` says.
#[derive(Default)]
struct Registry {
    mark: Option<Mark>,
    scopes: Vec<(Scope, SetKind)>,
    lists: Vec<lists::Registered>,
    /// A comment is being written.
    has_blank: bool,
}

/// How often and after how long a comment that is being written is asked for again.
const BLANK_TRIES: u32 = 20;
const BLANK_PAUSE: Duration = Duration::from_millis(1);

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
    /// Sets of bans that hold something, for who keeps an eye on them.
    contents: Contents,
    /// Of a deny list that is being filled.
    waiting: lists::Waiting,
    /// Why nf_tables is not used, for people; empty if nobody wants it.
    why: String,
}

impl Fallback {
    /// Opens the way to the kernel; changes nothing.
    ///
    /// # Errors
    /// The system call that failed.
    pub fn open(options: Options, allow: impl Into<AllowSource>) -> Result<Fallback, Failure> {
        let (sets, allow) = (Sets::open()?, allow.into());
        let (health, waiting) = (health::Watch::default(), lists::Waiting::default());
        let (contents, scopes, why) = (Contents::default(), Vec::new(), String::new());
        let (recreated, mark) = (false, None);
        Ok(Fallback { sets, options, allow, recreated, mark, scopes, health, contents, waiting, why })
    }

    /// Says why nf_tables is not used.
    #[must_use]
    pub fn in_place_of(self, why: String) -> Fallback {
        Fallback { why, ..self }
    }

    /// Whether bans can be kept so: the kernel answers, and a program for the rules is there.
    ///
    /// # Errors
    /// Why not.
    pub fn works(&mut self) -> Result<(), Failure> {
        self.answers()?;
        if restore::is_installed(Family::V4) {
            return Ok(());
        }
        let text = "iptables-restore is not installed: install the package iptables".to_owned();
        Err(Failure::new(Doing::Change, Errno::ENOENT, text))
    }

    /// Whether the kernel has ip_set.
    ///
    /// # Errors
    /// Why not.
    pub fn answers(&mut self) -> Result<(), Failure> {
        self.sets.header(MADE, &mut |_| ()).map(drop)
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

    /// What is registered. While somebody writes a comment anew there is none for a moment: then once more.
    fn registry(&mut self) -> Result<Registry, Failure> {
        let mut registry = self.registry_now()?;
        for _ in 0..BLANK_TRIES {
            if !registry.has_blank {
                break;
            }
            std::thread::sleep(BLANK_PAUSE);
            registry = self.registry_now()?;
        }
        Ok(registry)
    }

    fn registry_now(&mut self) -> Result<Registry, Failure> {
        let found = std::cell::RefCell::new(Registry::default());
        self.sets.elements(MADE, &mut || *found.borrow_mut() = Registry::default(), &mut |elem| {
            let mut found = found.borrow_mut();
            found.has_blank |= elem.comment.is_empty();
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
        fits(comment)?;
        let elem = Elem { timeout: Some(0), comment, ..registered(number) };
        self.add(MADE, &[elem])
    }

    fn unregister(&mut self, number: u32) -> Result<(), Failure> {
        self.sets.write(Command::Del, DoneBefore::Taken, MADE, &[registered(number)], &mut |_, _| ())
    }

    /// Adds elements, all of them or with an error.
    fn add(&mut self, set: &str, elems: &[Elem<'_>]) -> Result<(), Failure> {
        let mut first = None;
        self.sets.write(Command::Add, DoneBefore::Taken, set, elems, &mut |_, code| {
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
                if self.jumps(family)?.contains(&0) {
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
            // Who makes bans by hand knows nothing of packets; the daemon does.
            None if packets::parts(&self.options, Capabilities::NONE) == 0 => self.make(Extent::Bans),
            None => self.make(Extent::Whole),
        }
    }

    /// How many of our jumps of each kind there are.
    fn jumps(&mut self, family: Family) -> Result<Jumps, Failure> {
        Ok([self.references(&ban_set(family))?, self.references(&family_name(GATES, family))?])
    }

    fn references(&mut self, set: &str) -> Result<usize, Failure> {
        let mut count = 0;
        self.sets.header(set, &mut |header| count = header.references)?;
        Ok(count.try_into().unwrap_or(0))
    }

    /// Takes everything of ours out of the kernel.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn remove(&mut self) -> Result<(), Failure> {
        let mark = self.registry()?.mark;
        for family in Family::ALL {
            if let Some((mark, place)) = mark.and_then(|mark| Some((mark, mark.of(family)?))) {
                self.drop_rules(family, place, Removal::Everything)?;
                if mark.parts != 0 {
                    self.drop_packets(family, place.1, mark.jumps_of(family));
                }
            }
        }
        self.mark = None;
        self.drop_lists()?;
        // Sets of sets first: their members are used as long as they are there.
        destroy(&mut self.sets, text::PREFIX, &[Type::Sets])?;
        destroy(&mut self.sets, text::PREFIX, &[])
    }
}

/// Destroys sets of ours by what their names begin with, of all kinds or these.
fn destroy(sets: &mut Sets, prefix: &str, kinds: &[Type]) -> Result<(), Failure> {
    let all = std::cell::RefCell::new(Vec::new());
    sets.headers(&mut || all.borrow_mut().clear(), &mut |header| {
        let wanted = |kind| is_ours(header, kind) && (kinds.is_empty() || kinds.contains(&kind));
        if header.name.starts_with(prefix) && header.kind.is_some_and(wanted) {
            all.borrow_mut().push(header.name.to_owned());
        }
    })?;
    for name in all.into_inner() {
        sets.about(Command::Destroy, &name, None)?;
    }
    Ok(())
}

/// The set of who is banned for everything.
fn ban_set(family: Family) -> String {
    set_name(Scope::ALL.set(SetKind::Hosts, family))
}

/// A set of ours.
fn spec(name: &str, kind: Type, family: Family) -> SetSpec<'_> {
    let size = if kind == Type::Sets { OURS_LIST } else { OURS };
    SetSpec { name, kind, family, size, expected: 0, netmask: 0, timed: false, counters: false }
}

fn is_ours(header: &Header<'_>, kind: Type) -> bool {
    let any = kind != Type::Sets && header.size & OURS_MASK == OURS;
    header.kind == Some(kind) && (any || header.size & OURS_LIST_MASK == OURS_LIST)
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

/// Whether there is room for it.
fn fits(comment: &str) -> Result<(), Failure> {
    if comment.len() <= crate::firewall::ipset::message::COMMENT_MAX {
        return Ok(());
    }
    let text = "more ports than can be written into a comment of ip_set".to_owned();
    Err(Failure::new(Doing::Change, Errno::E2BIG, text))
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
