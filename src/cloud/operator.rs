#![forbid(unsafe_code)]
//! The operator's job: reads the zone of each member and the list that is there, and has the list changed to
//! what the aggregate says.

use super::aggregate::{Aggregate, Change, Listing, Member, Room, Summary, Terms, WHOLE};
use super::session::{Session, Trouble};
use super::subject::Subject;
use crate::base::clock::Wall;
use crate::base::count::count;
use crate::base::range::{Range, merge};
use crate::config::Operator;
use crate::dns::name::Name;
use crate::dns::packet::{Full, Record, Section, Writer, class, kind};
use crate::dns::tsig::Key;
use crate::sys::{fs, random};
use std::cell::Cell;
use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

/// Changes in one update: as many as fit in a message in any case.
const BATCH: usize = 300;
/// Seconds that an entry holds in caches.
const TTL: u32 = 300;
/// What a listed address is to whoever asks.
const LISTED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Entries by which anybody can see that the list works (RFC 5782).
const TESTS: [Subject; 2] = [Subject::V4(0x7f00_0002), Subject::V6(0xffff_7f00_0002)];

/// What the aggregate is to work with.
pub struct Work<'w> {
    /// The cloud.
    pub operator: &'w Operator,
    /// The operator's key.
    pub key: &'w Key,
    /// Whom nobody may list, beside members' own addresses.
    pub allowed: Vec<Range>,
    /// A directory for what is too much for memory.
    pub dir: &'w Path,
    /// The time.
    pub now: Wall,
}

/// Why it has ended without being done.
pub enum Failure {
    /// The server, at a zone.
    Server(String, Trouble),
    /// A file.
    File(io::Error),
    /// Fewer members than nine in ten could be read: so many of so many.
    Unread(usize, usize),
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Failure {
        Failure::File(e)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Server(zone, trouble) => write!(f, "{zone}: {trouble}"),
            Failure::File(e) => write!(f, "{e}"),
            Failure::Unread(read, all) => {
                write!(f, "only {read} of {all} members' zones could be read: the list is not changed")
            }
        }
    }
}

/// A name below the operator's zone.
fn below(labels: &str, zone: &str) -> Result<Name, Failure> {
    let text = [labels, ".", zone].concat();
    let name = Name::parse(text.as_bytes());
    name.ok_or_else(|| Failure::File(fs::invalid("zone is not a domain name, or is too long")))
}

/// What becomes of the decisions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AggregateRun {
    /// The list is changed.
    Real,
    /// They are only told.
    Dry,
}

/// Reads everything, decides, and changes the list unless `run` is dry. `each` hears of every change,
/// `unread` of members whose zone could not be read.
///
/// # Errors
/// Why it is not done. What was changed by then stays changed, and the next run goes on.
pub fn aggregate(
    work: &Work<'_>,
    run: AggregateRun,
    each: &mut dyn FnMut(Subject, Change) -> io::Result<()>,
    unread: &mut dyn FnMut(&str, Trouble),
) -> Result<Summary, Failure> {
    let Work { operator, key, .. } = work;
    let server = operator.server.ok_or_else(|| Failure::File(fs::invalid("server is missing")))?;
    let (members, mut exempt) = (members(operator), work.allowed.clone());
    exempt.push(server.ip().into());
    exempt.extend(operator.members.iter().flat_map(|member| &member.own).map(|net| Range::from(*net)));
    merge(&mut exempt);
    let room = Room { file: &|| fs::unnamed(work.dir), key: random::key() };
    let hour = work.now.0 / 3600;
    let mut sum = Aggregate::new(terms(operator), &members, &exempt, hour, room)?;
    let list = below("bl", &operator.zone)?;
    let failed = |name: &Name| {
        let name = name.to_string();
        move |trouble| Failure::Server(name, trouble)
    };
    let mut session = Session::open(server, key).map_err(failed(&list))?;
    let mut tests = [false; TESTS.len()];
    let labels = list.labels().count();
    session
        .transfer(&list, &mut |record| listed(&mut sum, record, labels, &mut tests))
        .map_err(failed(&list))?;
    let read = read_members(work, server, &mut sum, unread)?;
    if read * 10 < members.len() * 9 {
        return Err(Failure::Unread(read, members.len()));
    }
    let trouble = Cell::new(None);
    let session = (run == AggregateRun::Real).then_some((server, *key, None));
    let mut batch = Batch { session, zone: &list, changes: Vec::new() };
    let result = sum.finish(&mut |who, change| {
        each(who, change)?;
        batch.add(who, change).map_err(|e| {
            trouble.set(Some(e));
            io::Error::from_raw_os_error(libc::EIO)
        })
    });
    if let Some(trouble) = trouble.take() {
        return Err(failed(&list)(trouble));
    }
    let summary = result?;
    for (who, _) in TESTS.iter().zip(tests).filter(|(_, there)| !there) {
        let none = Listing { members: 0, groups: 0 };
        batch.add(*who, Change::Add(none)).map_err(failed(&list))?;
    }
    batch.send().map_err(failed(&list))?;
    Ok(summary)
}

/// Reads the members' zones; how many could be read.
fn read_members(
    work: &Work<'_>,
    server: SocketAddr,
    sum: &mut Aggregate<'_>,
    unread: &mut dyn FnMut(&str, Trouble),
) -> Result<usize, Failure> {
    let Work { operator, key, .. } = work;
    let mut read = 0;
    for (number, member) in (0u16..).zip(&operator.members) {
        let zone = below(&[&member.name, ".r"].concat(), &operator.zone)?;
        let labels = zone.labels().count();
        let result = Session::open(server, key).and_then(|mut session| {
            session.transfer(&zone, &mut |record| reported(sum, number, record, labels))
        });
        match result {
            Ok(()) => read += 1,
            Err(Trouble::Local(errno)) => return Err(io::Error::from_raw_os_error(errno).into()),
            Err(trouble) => unread(&member.name, trouble),
        }
    }
    Ok(read)
}

fn terms(operator: &Operator) -> Terms {
    let short = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    Terms {
        min_members: short(operator.min_members),
        min_groups: short(operator.min_groups),
        max_age: short(operator.max_age / 3600),
        min_weight: operator.min_weight.saturating_mul(WHOLE / 100),
        max_share: operator.max_share,
        share_floor: operator.share_floor,
    }
}

/// The members with their groups as numbers.
fn members(operator: &Operator) -> Vec<Member> {
    let mut groups: Vec<&str> = operator.members.iter().map(|member| member.group.as_str()).collect();
    groups.sort_unstable();
    groups.dedup();
    let number = |group: &str| groups.binary_search(&group).ok().and_then(|at| u16::try_from(at).ok());
    let each = operator.members.iter().map(|member| Member {
        group: number(&member.group).unwrap_or(0),
        weight: member.weight * (WHOLE / 100),
    });
    each.collect()
}

/// A record of the list that is there.
fn listed(
    sum: &mut Aggregate<'_>,
    record: &Record<'_>,
    labels: usize,
    tests: &mut [bool; TESTS.len()],
) -> io::Result<()> {
    let Some(who) = Subject::parse(&record.name, labels) else { return Ok(()) };
    if let Some(at) = TESTS.iter().position(|test| *test == who) {
        tests.get_mut(at).into_iter().for_each(|there| *there = true);
        return Ok(());
    }
    match record.kind {
        kind::A if record.a() == Some(LISTED) => sum.listed(who, None),
        kind::TXT => sum.listed(who, Some(read_text(record))),
        _ => Ok(()),
    }
}

/// A record of a member's zone: whoever it names, in that hour.
fn reported(sum: &mut Aggregate<'_>, member: u16, record: &Record<'_>, labels: usize) -> io::Result<()> {
    if record.kind != kind::TXT || record.name.labels().next() == Some(b"*") {
        return Ok(());
    }
    let Some(who) = Subject::parse(&record.name, labels) else { return Ok(()) };
    let hour = record.txt().next().and_then(super::reports::read_hour);
    hour.map_or(Ok(()), |hour| sum.report(member, who, hour))
}

/// The two numbers in the text of an entry.
fn read_text(record: &Record<'_>) -> Listing {
    let text = record.txt().next().and_then(|text| str::from_utf8(text).ok()).unwrap_or("");
    let mut numbers = text.split(' ').filter_map(|word| word.parse().ok());
    Listing { members: numbers.next().unwrap_or(0), groups: numbers.next().unwrap_or(0) }
}

/// Changes on their way to the server.
struct Batch<'b> {
    /// Where to, and the connection once there is one; nowhere if nothing is to be changed.
    session: Option<(SocketAddr, &'b Key, Option<Session<'b>>)>,
    zone: &'b Name,
    changes: Vec<(Subject, Change)>,
}

impl Batch<'_> {
    fn add(&mut self, who: Subject, change: Change) -> Result<(), Trouble> {
        if self.session.is_some() {
            self.changes.push((who, change));
        }
        if self.changes.len() < BATCH { Ok(()) } else { self.send() }
    }

    fn send(&mut self) -> Result<(), Trouble> {
        let Some((server, key, session)) = &mut self.session else { return Ok(()) };
        if self.changes.is_empty() {
            return Ok(());
        }
        let session = match session {
            Some(session) => session,
            None => session.insert(Session::open(*server, key)?),
        };
        let (zone, changes) = (self.zone, &self.changes);
        session.update(zone, &mut |writer| {
            changes.iter().try_for_each(|(who, change)| write(writer, zone, *who, *change))
        })?;
        self.changes.clear();
        Ok(())
    }
}

/// Writes what one change takes.
fn write(writer: &mut Writer<'_>, zone: &Name, who: Subject, change: Change) -> Result<(), Full> {
    let name = who.listed_name(zone).ok_or(Full)?;
    let mut put =
        |kind, class, ttl, data: &[u8]| writer.record(Section::Authority, &name, kind, class, ttl, data);
    if !matches!(change, Change::Add(_)) {
        put(kind::TXT, class::ANY, 0, &[])?;
    }
    let listing = match change {
        Change::Remove(_) => return put(kind::A, class::ANY, 0, &[]),
        Change::Add(listing) | Change::Update(listing) => listing,
    };
    let mut text = String::from("\0");
    let _ = match listing.members {
        0 => write!(text, "test entry"),
        members => {
            write!(text, "reported by {} of {}", count(members, "member"), count(listing.groups, "group"))
        }
    };
    let mut text = text.into_bytes();
    let length = text.len() - 1;
    text.first_mut().into_iter().for_each(|first| *first = u8::try_from(length).unwrap_or(0));
    put(kind::A, class::IN, TTL, &LISTED.octets())?;
    put(kind::TXT, class::IN, TTL, &text)
}
