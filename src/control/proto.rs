#![forbid(unsafe_code)]
//! What is said on the control socket. A question is one line; an answer is lines, each a word and what
//! belongs to it. Does no I/O.

use crate::base::clock::Span;
use crate::base::range::Range;
use ipnet::IpNet;
use std::fmt::{self, Display};
use std::net::IpAddr;

/// Longest question, bytes, its newline included.
pub const LINE_MAX: usize = 256;

/// Longest reason: the longest range, time and ports have room beside it.
pub const REASON_MAX: usize = 96;

/// What a command wants of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<'a> {
    /// Counts and rules, then the end.
    Status,
    /// The same, and who is being counted.
    Top,
    /// Who of a range is being counted.
    Hits {
        /// The range.
        addr: Range,
    },
    /// Every event from now on.
    Watch,
    /// Read the configuration again.
    Reload,
    /// The allow list was changed: read it again.
    Lists,
    /// A command has banned somebody. Not answered.
    Banned {
        /// Whom.
        addr: Range,
        /// For how long.
        time: Span,
        /// Which ports, as `mef bans` shows them.
        ports: &'a str,
        /// Why, perhaps empty; of a longer one its first [`REASON_MAX`] bytes are sent.
        reason: &'a str,
    },
    /// A command has changed a list or the rule set. Not answered.
    Changed {
        /// What it did: one of [`CHANGES`].
        what: &'static str,
        /// Whom it is about, where it is about somebody.
        addr: Option<Range>,
    },
    /// A command has ended bans, or found none: what was counted is to be forgotten. `None` is everybody.
    Unbanned {
        /// Whom.
        addr: Option<Range>,
        /// Of everybody, whether those without an end as well.
        permanent: bool,
        /// Whether there were bans.
        was_banned: bool,
        /// Whether the ban journal has it; otherwise the daemon is to write it when that can be done.
        written: bool,
    },
}

impl<'a> Request<'a> {
    /// Reads a line; `None` if it is none of these.
    #[must_use]
    pub fn read(line: &'a str) -> Option<Request<'a>> {
        let mut words = line.split(' ');
        let request = match words.next()? {
            "status" => Request::Status,
            "top" => Request::Top,
            "hits" => Request::Hits { addr: range(words.next()?)? },
            "watch" => Request::Watch,
            "reload" => Request::Reload,
            "lists" => Request::Lists,
            "banned" => {
                let (addr, time) = (range(words.next()?)?, time(words.next()?)?);
                let ports = words.next().filter(|ports| is_ports(ports))?;
                let reason = line.splitn(5, ' ').nth(4).unwrap_or("");
                let is_text = reason.len() <= REASON_MAX && !reason.contains(char::is_control);
                return is_text.then_some(Request::Banned { addr, time, ports, reason });
            }
            "changed" => {
                let word = words.next()?;
                let what = CHANGES.into_iter().find(|known| *known == word)?;
                let addr = match words.next() {
                    Some(addr) => Some(range(addr)?),
                    None => None,
                };
                Request::Changed { what, addr }
            }
            verb @ ("unbanned" | "forget") => {
                let addr = words.next()?;
                let permanent = addr == EVERYTHING;
                let addr = if permanent || addr == "all" { None } else { Some(range(addr)?) };
                let written = match words.next() {
                    None => true,
                    Some("unwritten") => false,
                    Some(_) => return None,
                };
                Request::Unbanned { addr, permanent, was_banned: verb == "unbanned", written }
            }
            _ => return None,
        };
        words.next().is_none().then_some(request)
    }
}

/// As it is written on the wire.
impl Display for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Status => f.write_str("status"),
            Request::Top => f.write_str("top"),
            Request::Hits { addr } => write!(f, "hits {addr}"),
            Request::Watch => f.write_str("watch"),
            Request::Reload => f.write_str("reload"),
            Request::Lists => f.write_str("lists"),
            Request::Banned { addr, time, ports, reason } => {
                match time {
                    Span::Secs(secs) => write!(f, "banned {addr} {secs} {ports}")?,
                    Span::Permanent => write!(f, "banned {addr} permanent {ports}")?,
                }
                let reason = (0..=REASON_MAX).rev().find_map(|end| reason.get(..end.min(reason.len())));
                match reason.unwrap_or_default() {
                    "" => Ok(()),
                    reason => write!(f, " {reason}"),
                }
            }
            Request::Changed { what, addr } => {
                write!(f, "changed {what}")?;
                addr.iter().try_for_each(|addr| write!(f, " {addr}"))
            }
            Request::Unbanned { addr, permanent, was_banned, written } => {
                f.write_str(if *was_banned { "unbanned " } else { "forget " })?;
                match addr {
                    Some(addr) => write!(f, "{addr}")?,
                    None => f.write_str(if *permanent { EVERYTHING } else { "all" })?,
                }
                f.write_str(if *written { "" } else { " unwritten" })
            }
        }
    }
}

/// What commands do to lists and to the rule set, as `mef watch` shows it.
pub const CHANGES: [&str; 8] =
    ["allow", "disallow", "deny", "undeny", "load", "unload", "confirm", "rollback"];

/// All bans, the permanent ones, too.
const EVERYTHING: &str = "everything";

/// An address, a network, or `FIRST-LAST`.
fn range(text: &str) -> Option<Range> {
    if let Some((first, last)) = text.split_once('-') {
        return Range::new(first.parse().ok()?, last.parse().ok()?);
    }
    match text.parse::<IpAddr>() {
        Ok(addr) => Some(Range::from(addr)),
        Err(_) => text.parse::<IpNet>().ok().map(|net| Range::from(net.trunc())),
    }
}

fn time(text: &str) -> Option<Span> {
    if text == "permanent" {
        return Some(Span::Permanent);
    }
    text.parse().ok().filter(|secs| *secs > 0).map(Span::Secs)
}

fn is_ports(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b',' | b'-' | b'/')) && !text.is_empty()
}

/// How a number moves, in the words of Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// It only grows, but for a restart.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// A number that the daemon tells.
pub struct StatusFact {
    /// Its name in answers and JSON, and behind `mef_` in Prometheus' format.
    pub name: &'static str,
    /// How it moves.
    pub growth: Growth,
    /// What it is, for people.
    pub about: &'static str,
}

const fn fact(name: &'static str, growth: Growth, about: &'static str) -> StatusFact {
    StatusFact { name, growth, about }
}

/// Every number of an answer to `status`, in order.
pub const FACTS: [StatusFact; 19] = [
    fact("lines", Growth::Counter, "Lines and records read"),
    fact("hits", Growth::Counter, "Hits of service rules"),
    fact("ignored", Growth::Counter, "Hits cancelled by an ignoreregex"),
    fact("ambiguous", Growth::Counter, "Lines with more than one possible address: no hits"),
    fact("no_address", Growth::Counter, "Lines that matched without an address: no hits"),
    fact("no_header", Growth::Counter, "Lines without a header that can be relied on"),
    fact("bans", Growth::Counter, "Bans made"),
    fact("reasserted", Growth::Counter, "Times that the tables were restored after others deleted them"),
    fact("hooks_lost", Growth::Counter, "Hooks that were not run, or had to be killed"),
    fact("events_lost", Growth::Counter, "Events that slow readers of mef watch have missed"),
    fact("alarms_lost", Growth::Counter, "Times that kernel reports of port scans and floods were lost"),
    fact("new_sources", Growth::Counter, "Sources that began a connection and had not been seen for a time"),
    fact("news_lost", Growth::Counter, "Times that kernel reports of new sources were lost"),
    fact("not_looked_up", Growth::Counter, "Addresses not looked up in DNSBLs: too many at a time"),
    fact("evicted", Growth::Counter, "Offenders with hits that had to give way"),
    fact("tracked", Growth::Gauge, "Offenders tracked"),
    fact("track_max", Growth::Gauge, "Offenders tracked at most"),
    fact("bans_a_minute", Growth::Gauge, "Bans of the last minute"),
    fact("watchers", Growth::Gauge, "Readers of events"),
];

/// A number of [`FACTS`] out of a line of an answer.
#[must_use]
pub fn read_fact(line: &str) -> Option<(usize, u64)> {
    let (name, value) = line.split_once(' ')?;
    Some((FACTS.iter().position(|fact| fact.name == name)?, value.parse().ok()?))
}

/// Where a rule reads that is none of the service rules.
pub const KERNEL: &str = "kernel";

/// A service rule, as `status` tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleLine<'a> {
    /// Its name: letters, digits and `-`.
    pub name: &'a str,
    /// Where it reads.
    pub source: &'a str,
    /// Its hits.
    pub hits: u64,
    /// Its bans.
    pub bans: u64,
    /// Seconds since something was read for it.
    pub read: Option<u64>,
    /// Seconds since its last hit.
    pub hit: Option<u64>,
    /// Whom it banned last, and why; empty if it never says why.
    pub last_ban: &'a str,
}

/// Whether a service rule reads anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// It does.
    Sees,
    /// It is on because its service is installed, which has written nothing so far.
    Waits,
    /// It does not, and should.
    Blind,
}

/// Each with the word for it.
const SIGHTS: [(Sight, &str); 3] = [(Sight::Sees, "sees"), (Sight::Waits, "waits"), (Sight::Blind, "blind")];

/// What a service rule reads, as `status` tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SightLine<'a> {
    /// The rule.
    pub name: &'a str,
    /// What kind of source it has found, in a word; empty while it has found none.
    pub kind: &'a str,
    /// Whether it reads anything.
    pub sight: Sight,
    /// What it reads, or why it reads nothing; for people.
    pub text: &'a str,
}

/// Somebody who is being counted, as `top` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffenderLine<'a> {
    /// Address or prefix.
    pub addr: &'a str,
    /// By which rule.
    pub rule: &'a str,
    /// Hits within findtime.
    pub hits: u64,
    /// So many lead to a ban.
    pub maxretry: u64,
    /// Seconds since the last one.
    pub age: u64,
}

/// A DNSBL, as `status` tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListLine<'a> {
    /// The profile's name: letters and digits.
    pub name: &'a str,
    /// `on`, `off` or `waits`.
    pub state: &'a str,
    /// Questions about addresses, of these listed, failed, and milliseconds that an answer takes.
    pub numbers: [u64; 4],
    /// Why it is not asked; perhaps empty.
    pub why: &'a str,
}

/// Something that went wrong of late, as `status` tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProblemLine<'a> {
    /// When it was logged.
    pub at: u64,
    /// What the log says.
    pub text: &'a str,
}

struct Age(Option<u64>);

impl Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(age) => write!(f, "{age}"),
            None => f.write_str("-"),
        }
    }
}

impl Display for RuleLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RuleLine { name, source, hits, bans, read, hit, last_ban } = *self;
        write!(f, "rule {name} {source} {hits} {bans} {} {} {last_ban}", Age(read), Age(hit))
    }
}

impl<'a> RuleLine<'a> {
    /// Reads what `Display` wrote.
    #[must_use]
    pub fn read(line: &'a str) -> Option<RuleLine<'a>> {
        let mut words = line.strip_prefix("rule ")?.splitn(7, ' ');
        let mut word = || words.next();
        let (name, source) = (word()?, word()?);
        let (hits, bans) = (word()?.parse().ok()?, word()?.parse().ok()?);
        let (read, hit) = (word()?.parse().ok(), word()?.parse().ok());
        Some(RuleLine { name, source, hits, bans, read, hit, last_ban: word()? })
    }
}

impl Display for SightLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SightLine { name, kind, sight, text } = *self;
        let verb = SIGHTS.iter().find(|(known, _)| *known == sight).map_or("", |(_, verb)| verb);
        let kind = if kind.is_empty() { "-" } else { kind };
        write!(f, "{verb} {name} {kind} {text}")
    }
}

impl<'a> SightLine<'a> {
    /// Reads what `Display` wrote.
    #[must_use]
    pub fn read(line: &'a str) -> Option<SightLine<'a>> {
        let mut words = line.splitn(4, ' ');
        let verb = words.next()?;
        let (sight, _) = *SIGHTS.iter().find(|(_, known)| *known == verb)?;
        let (name, kind) = (words.next()?, words.next()?);
        Some(SightLine { name, kind: if kind == "-" { "" } else { kind }, sight, text: words.next()? })
    }
}

impl Display for ListLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ListLine { name, state, numbers: [asked, listed, failed, took], why } = *self;
        write!(f, "dnsbl {name} {state} {asked} {listed} {failed} {took} {why}")
    }
}

impl<'a> ListLine<'a> {
    /// Reads what `Display` wrote.
    #[must_use]
    pub fn read(line: &'a str) -> Option<ListLine<'a>> {
        let mut words = line.strip_prefix("dnsbl ")?.splitn(7, ' ');
        let (name, state) = (words.next()?, words.next()?);
        let mut numbers = [0; 4];
        for number in &mut numbers {
            *number = words.next()?.parse().ok()?;
        }
        Some(ListLine { name, state, numbers, why: words.next()? })
    }
}

impl Display for ProblemLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "problem {} {}", self.at, self.text)
    }
}

impl<'a> ProblemLine<'a> {
    /// Reads what `Display` wrote.
    #[must_use]
    pub fn read(line: &'a str) -> Option<ProblemLine<'a>> {
        let (at, text) = line.strip_prefix("problem ")?.split_once(' ')?;
        Some(ProblemLine { at: at.parse().ok()?, text })
    }
}

impl Display for OffenderLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OffenderLine { addr, rule, hits, maxretry, age } = *self;
        write!(f, "offender {addr} {rule} {hits} {maxretry} {age}")
    }
}

impl<'a> OffenderLine<'a> {
    /// Reads what `Display` wrote.
    #[must_use]
    pub fn read(line: &'a str) -> Option<OffenderLine<'a>> {
        let mut words = line.strip_prefix("offender ")?.split(' ');
        let mut word = || words.next();
        let (addr, rule) = (word()?, word()?);
        let (hits, maxretry, age) = (word()?.parse().ok()?, word()?.parse().ok()?, word()?.parse().ok()?);
        Some(OffenderLine { addr, rule, hits, maxretry, age })
    }
}

#[cfg(test)]
mod tests;
