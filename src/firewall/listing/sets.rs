#![forbid(unsafe_code)]
//! Sets as the kernel tells them: those that are plain lists, and why the others are none.

use super::expr::{ListedExpr, previous, shown, until_nul};
use crate::base::name::Name;
use crate::base::range::{Family, Range, merge};
use crate::base::range_list::DIGEST;
use crate::firewall::nft::{UDATA_SET_COMMENT, udata_comment};
use crate::plan::{Elements, Set};
use crate::sys::nlattr::{attr, attrs, be32};

// NFTA_SET_*
const TABLE: u16 = 1;
const NAME: u16 = 2;
const FLAGS: u16 = 3;
const KEY_TYPE: u16 = 4;
const KEY_LEN: u16 = 5;
const USERDATA: u16 = 13;
// NFTA_SET_ELEM_*
const LIST_ELEMENTS: u16 = 3;
const ELEM_KEY: u16 = 1;
const ELEM_DATA: u16 = 2;
const ELEM_FLAGS: u16 = 3;
const ELEM_USERDATA: u16 = 6;
/// NFT_SET_ELEM_INTERVAL_END
const INTERVAL_END: u32 = 1;
/// Numbers of nft(8) for what a key is.
const TYPES: [(u32, usize); 3] = [(7, 4), (8, 16), (13, 2)];
/// Flags of sets that change, or whose elements are more than keys.
const ODD: [(i32, &str); 4] = [
    (64, "it maps to objects"),
    (libc::NFT_SET_EVAL, "packets change it"),
    (libc::NFT_SET_TIMEOUT, "its elements have timeouts"),
    (CONCAT | libc::NFT_SET_INTERVAL, "its keys are ranges of several things together"),
];
/// NFT_SET_CONCAT
const CONCAT: i32 = 128;

/// An element: keys from the first to the last, and what a verdict map says of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// The lowest key.
    pub first: Vec<u8>,
    /// The highest one.
    pub last: Vec<u8>,
    /// Its number and, for a jump, the chain.
    pub verdict: Option<(i32, Vec<u8>)>,
}

/// A key, whether an element begins with it, and its verdict.
type KeyReport = (Vec<u8>, bool, Option<(i32, Vec<u8>)>);

/// What a set is for the rules that use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetContent {
    /// It belongs to a rule, or maps to verdicts: its elements.
    List(Vec<Element>),
    /// A named list, by its name in the plan, with the bytes of a key.
    Named(Name, usize),
    /// Buckets of `limit=…/src`, ours.
    Buckets(Name),
    /// None of these.
    Odd(String),
}

/// A set being read.
#[derive(Debug)]
pub struct ListedSet {
    /// Its name in the kernel.
    pub name: Vec<u8>,
    /// What it is.
    pub content: SetContent,
    flags: i32,
    key: (u32, usize),
    /// What stands for its elements, where they are not to be listed.
    pub digest: Option<String>,
    /// Ends of intervals and keys, as they were told.
    found: Vec<KeyReport>,
}

impl ListedSet {
    /// Whether it has no name of its own.
    pub fn anonymous(&self) -> bool {
        self.flags & libc::NFT_SET_ANONYMOUS != 0
    }

    /// Whether its elements are of use.
    pub fn is_list(&self) -> bool {
        matches!(self.content, SetContent::List(_))
    }

    /// Bytes of a key.
    pub fn key_len(&self) -> usize {
        self.key.1
    }

    /// Forgets the elements.
    pub fn clear(&mut self) {
        self.found.clear();
    }
}

/// Whose table a set is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetOwner {
    /// mef's: its names and what it makes of buckets are known.
    Ours,
    /// Somebody else's.
    Others,
}

/// The set of a NEWSET message (behind `nfgenmsg`) if it is of this table.
#[inline(never)]
pub fn set(payload: &[u8], table: &[u8], owner: SetOwner) -> Option<ListedSet> {
    let of = attr(payload, TABLE).map(until_nul)?;
    let set = ListedExpr(payload);
    let name = until_nul(set.bytes(NAME)?);
    let flags = set.or_0(FLAGS).cast_signed();
    let key = (set.or_0(KEY_TYPE), set.or_0(KEY_LEN) as usize);
    let odd =
        ODD.iter().find(|(flag, _)| flags & flag == *flag).map(|(_, why)| SetContent::Odd((*why).into()));
    let buckets = || std::str::from_utf8(name).ok().and_then(Name::new).map(SetContent::Buckets);
    let content = match odd {
        Some(odd) if owner == SetOwner::Ours && flags & libc::NFT_SET_EVAL != 0 => buckets().unwrap_or(odd),
        Some(odd) => odd,
        None => SetContent::List(Vec::new()),
    };
    let (name, found) = (name.to_vec(), Vec::new());
    (of == table).then_some(ListedSet { name, content, flags, key, digest: None, found })
}

/// What `mef load` has written on a large set of its own in place of its elements.
#[inline(never)]
pub fn digest(payload: &[u8]) -> Option<String> {
    let comment = udata_comment(attr(payload, USERDATA)?, UDATA_SET_COMMENT)?;
    comment.contains(DIGEST).then(|| comment.to_owned())
}

/// Adds the elements of a NEWSETELEM message.
#[inline(never)]
pub fn elements(payload: &[u8], set: &mut ListedSet) {
    for (_, element) in attr(payload, LIST_ELEMENTS).map(attrs).into_iter().flatten() {
        let known = |kind: u16| matches!(kind, ELEM_KEY | ELEM_DATA | ELEM_FLAGS | ELEM_USERDATA);
        let one = ListedExpr(element);
        let flags = attr(element, ELEM_FLAGS).and_then(be32).unwrap_or(0);
        let data = one.bytes(ELEM_DATA).is_some();
        let verdict = one.verdict(ELEM_DATA).map(|(code, chain)| (code, chain.to_vec()));
        match one.value(ELEM_KEY) {
            Some(key)
                if key.len() == set.key.1 && flags & !INTERVAL_END == 0 && data == verdict.is_some() =>
            {
                if attrs(element).all(|(kind, _)| known(kind)) {
                    set.found.push((key.to_vec(), flags & INTERVAL_END == 0, verdict));
                } else {
                    set.content = SetContent::Odd("its elements have timeouts, counters or limits".into());
                }
            }
            _ => set.content = SetContent::Odd("its elements are more than keys".into()),
        }
    }
}

/// Makes elements of what was told, when all was.
#[inline(never)]
pub fn finish(set: &mut ListedSet) {
    let SetContent::List(_) = set.content else { return };
    let mut found = std::mem::take(&mut set.found);
    // An interval may begin where another one ends: the end comes first.
    found.sort_unstable_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    let mut list = Vec::with_capacity(found.len());
    let interval = set.flags & libc::NFT_SET_INTERVAL != 0;
    let mut found = found.into_iter().peekable();
    while let Some((key, starts, verdict)) = found.next() {
        if !starts {
            continue;
        }
        let last = match found.peek() {
            _ if !interval => Some(key.clone()),
            Some((end, false, _)) => previous(end),
            Some(_) => None,
            None => Some(vec![0xff; key.len()]),
        };
        let Some(last) = last.filter(|last| *last >= key) else {
            set.content = SetContent::Odd("its intervals have no ends".into());
            return;
        };
        list.push(Element { first: key, last, verdict });
    }
    set.content = SetContent::List(list);
}

/// A named list as a set of the plan, under a name that no other one of `used` has; why it is none.
#[inline(never)]
pub fn named(set: &mut ListedSet, owner: SetOwner, used: &mut Vec<Name>) -> Result<Set, String> {
    let list = match &set.content {
        SetContent::Odd(why) => return Err(why.clone()),
        SetContent::List(list) if list.iter().all(|e| e.verdict.is_none()) => list,
        _ => return Err("it maps to something".into()),
    };
    if set.flags & libc::NFT_SET_MAP != 0 {
        return Err("it maps to something".into());
    }
    let elements = match set.key {
        key if !TYPES.contains(&key) => Err("its elements are neither addresses nor ports"),
        _ if list.is_empty() && owner == SetOwner::Others => Err("it is empty"),
        (7 | 8, len) if set.digest.is_some() => {
            let family = if len == 4 { Family::V4 } else { Family::V6 };
            Ok(Elements::Many(family, set.digest.take().unwrap_or_default()))
        }
        (13, _) => Ok(Elements::Ports(ports(list))),
        (_, len) => {
            let family = if len == 4 { Family::V4 } else { Family::V6 };
            let mut ranges: Vec<Range> = list.iter().filter_map(range).collect();
            merge(&mut ranges);
            Ok(Elements::Addresses(family, ranges))
        }
    };
    let elements = elements.map_err(str::to_owned);
    let name = match owner {
        SetOwner::Ours => std::str::from_utf8(&set.name).ok().and_then(Name::new),
        SetOwner::Others => Some(fresh(&set.name, used)),
    };
    match (elements, name) {
        (Ok(elements), Some(name)) => {
            let stem = name.as_str().split('.').next().and_then(Name::new);
            used.extend(stem);
            set.content = SetContent::Named(name, set.key.1);
            Ok(Set { name, elements })
        }
        (Err(why), _) => {
            set.content = SetContent::Odd(why.clone());
            Err(why)
        }
        _ => Err("it has no name".into()),
    }
}

/// Ports of elements whose keys are ports.
pub fn ports(list: &[Element]) -> Vec<(u16, u16)> {
    let port = |bytes: &[u8]| bytes.try_into().ok().map(u16::from_be_bytes);
    let mut all: Vec<(u16, u16)> =
        list.iter().filter_map(|e| Some((port(&e.first)?, port(&e.last)?))).collect();
    all.sort_unstable();
    all.dedup_by(|next, kept| {
        let joins = u32::from(next.0) <= u32::from(kept.1) + 1;
        if joins {
            kept.1 = kept.1.max(next.1);
        }
        joins
    });
    all
}

/// The range of an element whose keys are addresses.
#[inline(never)]
pub fn range(e: &Element) -> Option<Range> {
    Range::new(Range::from_key(&e.first)?.first(), Range::from_key(&e.last)?.first())
}

/// A name of the language like that of the kernel.
#[inline(never)]
fn fresh(kernel: &[u8], used: &[Name]) -> Name {
    let good = |b: u8| if b.is_ascii_alphanumeric() || b == b'-' { char::from(b) } else { '_' };
    let mut text: String = kernel.iter().map(|b| good(*b)).take(13).collect();
    if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        text.insert(0, 's');
    }
    for number in 1..=used.len() + 1 {
        let suffix = if number == 1 { String::new() } else { ["-", &number.to_string()].concat() };
        let stem: String = text.chars().take(15 - suffix.len().min(14)).collect();
        if let Some(name) = Name::new(&[stem.as_str(), &suffix].concat()).filter(|name| !used.contains(name))
        {
            return name;
        }
    }
    Name::of("set")
}

/// The set for people.
pub fn title(set: &ListedSet, table: &str) -> String {
    let kind = if set.flags & libc::NFT_SET_MAP == 0 { "set " } else { "map " };
    [kind, table, " ", &shown(&set.name)].concat()
}
