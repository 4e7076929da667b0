#![forbid(unsafe_code)]
//! What the process that reads lines (the observer) and the one that bans (the enforcer) say to each other:
//! one datagram each, a byte for its kind and fields of fixed length; texts are bounded, and have their
//! length in front. Whoever has his code run in the observer writes what he likes: what is not exactly a
//! message is none. Does no I/O.

mod bytes;
mod order;

use bytes::{MessageReader, MessageWriter, number_of};
pub use order::{GivenSockets, HitReports, ObserverOrder, Truth};

use crate::base::clock::{Mono, Span};
use crate::base::position::Position;
use crate::control::proto::Sight;
use crate::detect::LineCounts;
use crate::detect::hand_over::{CountTable, CountedPlace};
use crate::detect::observe::{LINE_KEPT, Offence};
use crate::detect::webscan::Excess;
use ipnet::IpNet;
pub use log::Level;
use std::net::IpAddr;

/// Bytes of a message at most: a path, and what stands beside it.
pub const MESSAGE_MAX: usize = 4096 + 64;
/// Bytes of a text for people at most.
pub const TEXT_MAX: usize = 1024;
/// Of what was counted of somebody.
pub const COUNTED_MAX: usize = 4096;
/// Of a path.
const PATH_MAX: usize = 4096;
/// Why a wider network is accused, in the only way in which the observer accuses one.
const SPREAD: &str = crate::detect::observe::SPREAD;

/// What a message of the log begins with: [`crate::sys::syslog`] writes them itself.
pub const LOG: u8 = 1;
const OFFENCE: u8 = 2;
const HIT: u8 = 3;
const WHO: u8 = 4;
const SPENT: u8 = 5;
const BANNED: u8 = 6;
const NEWS: u8 = 7;
const PLACE: u8 = 8;
const TEXT: u8 = 9;
const RULE: u8 = 10;
const COUNTS: u8 = 11;
const OFFENDER: u8 = 12;
const TAKEN: u8 = 13;
const END: u8 = 14;
const COUNTED: u8 = 15;
const BEHIND: u8 = 16;

/// What the observer says.
#[derive(Debug, Clone, PartialEq)]
pub enum Observed<'m> {
    /// A message for the log.
    Log(Level, &'m str),
    /// Somebody has had enough.
    Offence(Offence, Evidence),
    /// A single hit, for who watches; the last is text of the attacker.
    Hit(ObservedHit<'m>),
    /// Asks who answers for an address, and whether that one is banned for a rule; the answer is
    /// [`ObserverOrder::Who`].
    Who(IpAddr, u16),
    /// Asks whether what somebody did so many seconds before that moment was before a ban that is in force;
    /// the answer is [`ObserverOrder::Truth`].
    Spent(IpNet, u16, u64, Mono),
    /// Asks whether somebody is banned for a rule; likewise.
    Banned(IpNet, u16),
    /// Something that is to be written down, or told.
    News(ObserverNews),
    /// A part of the answer to an order.
    Part(ObserverPart<'m>),
    /// The order is carried out.
    End,
}

/// A hit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ObservedHit<'m> {
    /// Who answers for it.
    pub source: IpNet,
    /// Whose it is.
    pub addr: IpAddr,
    /// Of this rule.
    pub rule: u16,
    /// What it counts for.
    pub weight: u8,
    /// The name that was tried; perhaps cut.
    pub user: Option<&'m [u8]>,
}

/// Whose word an offence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The service's, or root's.
    Attested,
    /// Anybody's on this host.
    Hearsay,
}

/// Milliseconds between two news of lines at least: each wakes the enforcer, which looks then whether its
/// tables are still there.
pub(super) const READ_NEWS: u64 = 100;

/// What has happened since the enforcer last asked for positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObserverNews {
    /// Something was read.
    Read,
    /// A file was opened.
    Opened,
    /// What rules see has changed.
    Sight,
    /// It is at something that takes long.
    Busy,
}

/// A part of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ObserverPart<'m> {
    /// How far a source was read.
    Place(&'m [u8], Position),
    /// What is read, for people.
    Text(&'m str),
    /// What a rule has seen; they come in their order.
    Rule(RuleView<'m>),
    /// What was counted.
    Counts(ObserverCounts),
    /// Somebody who has hits.
    Offender(Offender),
    /// There is more to read of what was there before.
    Behind,
    /// What it has counted of somebody, for the next one.
    Counted(CountedPlace<'m>),
    /// What it was told to take is taken, or what it was told to hand over is handed over.
    Taken,
}

/// What a rule has seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RuleView<'m> {
    /// Its hits.
    pub hits: u64,
    /// When something was read for it.
    pub read: Option<Mono>,
    /// Its last hit.
    pub last: Option<Mono>,
    /// Whether it sees something.
    pub sight: Sight,
    /// What source=auto has become.
    pub kind: &'m str,
    /// What it sees, or why it sees nothing.
    pub text: &'m str,
}

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ObserverCounts {
    /// Of lines.
    pub lines: LineCounts,
    /// Offenders tracked.
    pub tracked: u64,
    /// Those that had to give way.
    pub evicted: u64,
}

/// Somebody who has hits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Offender {
    /// Who.
    pub source: IpNet,
    /// For this rule.
    pub rule: u16,
    /// How many.
    pub hits: u32,
    /// The last one.
    pub last: Mono,
}

const LEVELS: [Level; 5] = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];
const EVIDENCE: [Evidence; 2] = [Evidence::Attested, Evidence::Hearsay];
const ALL_NEWS: [ObserverNews; 4] =
    [ObserverNews::Read, ObserverNews::Opened, ObserverNews::Sight, ObserverNews::Busy];
const SIGHTS: [Sight; 3] = [Sight::Sees, Sight::Waits, Sight::Blind];

/// What stands for a level in front of a message of the log.
#[must_use]
pub fn level_number(level: Level) -> u8 {
    let [number] = number_of(&LEVELS, &level);
    number
}

/// The message that an offence is. `evidence` says whose word it is.
#[must_use]
pub fn offence(w: &Offence, evidence: Evidence) -> Vec<u8> {
    let to = MessageWriter::of(OFFENCE).net(w.source).number(w.rule.to_le_bytes());
    let to = to.number(w.hits.to_le_bytes()).number(number_of(&EVIDENCE, &evidence));
    let to = to.text(&w.line, LINE_KEPT).number([u8::from(w.wide.is_some()), u8::from(w.excess.is_some())]);
    let Some(excess) = &w.excess else { return to.0 };
    let bantime = match excess.bantime {
        None => to.number([0]),
        Some(Span::Permanent) => to.number([1]),
        Some(Span::Secs(secs)) => to.number([2]).number(secs.to_le_bytes()),
    };
    bantime.number(excess.requests.to_le_bytes()).text(&excess.reason, TEXT_MAX).0
}

fn read_offence(from: &mut MessageReader<'_>) -> Option<(Offence, Evidence)> {
    let (source, rule, hits) = (from.net()?, from.u16()?, from.u32()?);
    let evidence = from.one_of(&EVIDENCE)?;
    let line = from.shown(LINE_KEPT)?.into();
    let wide = from.one_of(&[None, Some(SPREAD)])?;
    let excess = if from.one_of(&[false, true])? { Some(Box::new(read_excess(from)?)) } else { None };
    Some((Offence { source, rule, hits, wide, excess, line }, evidence))
}

fn read_excess(from: &mut MessageReader<'_>) -> Option<Excess> {
    let bantime = match from.byte()? {
        0 => None,
        1 => Some(Span::Permanent),
        2 => Some(Span::Secs(from.u64().filter(|secs| *secs > 0)?)),
        _ => return None,
    };
    let requests = from.u32()?;
    Some(Excess { reason: from.shown(TEXT_MAX)?.to_owned(), requests, detect: false, bantime })
}

impl<'m> Observed<'m> {
    /// Whether whoever says this waits for an answer.
    #[must_use]
    pub fn is_question(&self) -> bool {
        matches!(self, Observed::Who(..) | Observed::Spent(..) | Observed::Banned(..))
    }

    /// Whether who says this has read a line for it.
    #[must_use]
    pub fn tells_of_lines(&self) -> bool {
        let of_line = matches!(self, Observed::Offence(..) | Observed::Hit(_));
        of_line || self.is_question() || *self == Observed::News(ObserverNews::Read)
    }

    /// As it is sent.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        match self {
            Observed::Log(level, text) => MessageWriter(vec![LOG, level_number(*level)]).raw(text),
            Observed::Offence(one, evidence) => offence(one, *evidence),
            Observed::Hit(hit) => {
                let to = MessageWriter::of(HIT).net(hit.source).addr(hit.addr).number(hit.rule.to_le_bytes());
                let to = to.number([hit.weight, u8::from(hit.user.is_some())]);
                to.bytes(hit.user.unwrap_or_default(), LINE_KEPT).0
            }
            Observed::Who(addr, rule) => MessageWriter::of(WHO).addr(*addr).number(rule.to_le_bytes()).0,
            Observed::Spent(source, rule, age, asked) => {
                let to = MessageWriter::of(SPENT).net(*source).number(rule.to_le_bytes());
                to.number(age.to_le_bytes()).number(asked.0.to_le_bytes()).0
            }
            Observed::Banned(source, rule) => {
                MessageWriter::of(BANNED).net(*source).number(rule.to_le_bytes()).0
            }
            Observed::News(news) => MessageWriter::of(NEWS).number(number_of(&ALL_NEWS, news)).0,
            Observed::Part(part) => part.write(),
            Observed::End => vec![END],
        }
    }

    /// Reads a message; `None` if it is none.
    #[must_use]
    pub fn read(bytes: &'m [u8]) -> Option<Observed<'m>> {
        let (kind, rest) = bytes.split_first()?;
        let mut from = MessageReader(rest);
        let observed = match *kind {
            LOG => {
                let level = from.one_of(&LEVELS)?;
                let text = std::str::from_utf8(std::mem::take(&mut from.0)).ok();
                Observed::Log(level, text.filter(|text| text.len() <= TEXT_MAX)?)
            }
            OFFENCE => read_offence(&mut from).map(|(one, evidence)| Observed::Offence(one, evidence))?,
            HIT => {
                let (source, addr, rule) = (from.net()?, from.addr()?, from.u16()?);
                let (weight, named) = (from.byte()?, from.one_of(&[false, true])?);
                let user = from.bytes(LINE_KEPT)?;
                let user = if named {
                    Some(user)
                } else {
                    Some(user).filter(|user| user.is_empty())?;
                    None
                };
                Observed::Hit(ObservedHit { source, addr, rule, weight, user })
            }
            WHO => Observed::Who(from.addr()?, from.u16()?),
            SPENT => Observed::Spent(from.net()?, from.u16()?, from.u64()?, Mono(from.u64()?)),
            BANNED => Observed::Banned(from.net()?, from.u16()?),
            NEWS => Observed::News(from.one_of(&ALL_NEWS)?),
            END => Observed::End,
            kind => Observed::Part(ObserverPart::read(kind, &mut from)?),
        };
        from.0.is_empty().then_some(observed)
    }
}

impl<'m> ObserverPart<'m> {
    fn write(&self) -> Vec<u8> {
        match self {
            ObserverPart::Place(path, at) => {
                let to = MessageWriter::of(PLACE).bytes(path, PATH_MAX);
                [at.dev, at.ino, at.offset, at.tail].iter().fold(to, |to, n| to.number(n.to_le_bytes())).0
            }
            ObserverPart::Text(text) => MessageWriter::of(TEXT).text(text, TEXT_MAX).0,
            ObserverPart::Rule(view) => {
                let to = MessageWriter::of(RULE).number(view.hits.to_le_bytes()).time(view.read);
                let to = to.time(view.last).number(number_of(&SIGHTS, &view.sight));
                to.text(view.kind, TEXT_MAX).text(view.text, TEXT_MAX).0
            }
            ObserverPart::Counts(ObserverCounts { lines: c, tracked, evicted }) => {
                let all = [c.lines, c.candidates, c.hits, c.ignored, c.ambiguous, c.no_address, c.no_header];
                let all = all.iter().chain([tracked, evicted]);
                all.fold(MessageWriter::of(COUNTS), |to, n| to.number(n.to_le_bytes())).0
            }
            ObserverPart::Offender(one) => {
                let to = MessageWriter::of(OFFENDER).net(one.source).number(one.rule.to_le_bytes());
                to.number(one.hits.to_le_bytes()).number(one.last.0.to_le_bytes()).0
            }
            ObserverPart::Counted(place) => {
                let (kind, rule) = match place.table {
                    CountTable::Sources => (0, 0),
                    CountTable::Networks => (1, 0),
                    CountTable::Requests(rule) => (2, rule),
                };
                let to = MessageWriter::of(COUNTED).number([kind]).number(rule.to_le_bytes());
                to.number(place.base.to_le_bytes()).bytes(place.bytes, COUNTED_MAX).0
            }
            ObserverPart::Behind => vec![BEHIND],
            ObserverPart::Taken => vec![TAKEN],
        }
    }

    fn read(kind: u8, from: &mut MessageReader<'m>) -> Option<ObserverPart<'m>> {
        Some(match kind {
            PLACE => {
                let path = from.bytes(PATH_MAX)?;
                let [dev, ino, offset, tail] = [from.u64()?, from.u64()?, from.u64()?, from.u64()?];
                ObserverPart::Place(path, Position { dev, ino, offset, tail })
            }
            TEXT => ObserverPart::Text(from.text(TEXT_MAX)?),
            RULE => ObserverPart::Rule(RuleView {
                hits: from.u64()?,
                read: from.time()?,
                last: from.time()?,
                sight: from.one_of(&SIGHTS)?,
                kind: from.text(TEXT_MAX)?,
                text: from.text(TEXT_MAX)?,
            }),
            COUNTS => {
                let lines = LineCounts {
                    lines: from.u64()?,
                    candidates: from.u64()?,
                    hits: from.u64()?,
                    ignored: from.u64()?,
                    ambiguous: from.u64()?,
                    no_address: from.u64()?,
                    no_header: from.u64()?,
                };
                ObserverPart::Counts(ObserverCounts { lines, tracked: from.u64()?, evicted: from.u64()? })
            }
            OFFENDER => {
                let (source, rule, hits) = (from.net()?, from.u16()?, from.u32()?);
                ObserverPart::Offender(Offender { source, rule, hits, last: Mono(from.u64()?) })
            }
            COUNTED => {
                let table = match (from.byte()?, from.u16()?) {
                    (0, 0) => CountTable::Sources,
                    (1, 0) => CountTable::Networks,
                    (2, rule) => CountTable::Requests(rule),
                    _ => return None,
                };
                let (base, bytes) = (from.u64()?, from.bytes(COUNTED_MAX)?);
                ObserverPart::Counted(CountedPlace { table, base, bytes })
            }
            BEHIND => ObserverPart::Behind,
            TAKEN => ObserverPart::Taken,
            _ => return None,
        })
    }
}
