#![forbid(unsafe_code)]
//! What happened in a time: bans counted by day, hour, rule, network, port and address, from the history of
//! the ban journal and, where that does not reach back, from the ban log. Must not know how it is shown.

pub mod banlog;
mod tally;

use crate::ban::BY_HAND;
use crate::base::clock::{Span, Wall};
use crate::base::range::Range;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::IpAddr;
pub use tally::{Tallied, Tally};

/// Days that are counted one by one; what is older counts for the last of them.
pub const DAYS: usize = 1024;
/// Stands between the parts of a name.
const BETWEEN: char = '\n';
const DAY: u64 = 86_400;

/// What happened to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PastKind {
    /// Banned for this time; `None` is not known.
    Ban(Option<Span>),
    /// A ban was ended by hand.
    Unban,
    /// Held back for a flood.
    Throttled,
}

/// Something that happened.
#[derive(Debug, Clone, Copy)]
pub struct PastEvent<'a> {
    /// When.
    pub at: Wall,
    /// What.
    pub kind: PastKind,
    /// To whom; everybody where all bans were ended.
    pub addr: Option<Range>,
    /// The service rule; empty for a ban by hand.
    pub rule: &'a str,
    /// Ports, with commas between them; empty means all.
    pub ports: &'a str,
    /// Why, or the line that decided.
    pub line: &'a str,
}

/// A ban among the newest.
pub struct NewestBan {
    /// When.
    pub at: Wall,
    /// Whom.
    pub addr: String,
    /// By which rule.
    pub rule: String,
    /// On which ports.
    pub ports: String,
    /// For how long.
    pub time: Option<Span>,
    /// The line that decided.
    pub line: String,
}

/// What one address was banned for.
pub struct BannedSource<'a> {
    /// The address.
    pub addr: &'a str,
    /// How often, and when last.
    pub bans: u64,
    /// Likewise.
    pub last: Wall,
    /// Each rule with its bans, the most frequent first.
    pub rules: String,
    /// The ports.
    pub ports: String,
}

/// The counts of a time.
pub struct Totals {
    /// When it begins, and ends.
    pub from: Wall,
    /// Likewise.
    pub to: Wall,
    /// Bans, those without an end among them.
    pub bans: u64,
    /// Likewise.
    pub permanent: u64,
    /// Bans that were ended by hand.
    pub unbans: u64,
    /// Sources that were held back for floods.
    pub throttled: u64,
    /// Bans of each day back from that of `to`, by local time.
    pub days: Vec<u64>,
    /// Bans of each hour of the day, likewise.
    pub hours: [u64; 24],
    /// By rule.
    pub rules: Tally,
    /// By port.
    pub ports: Tally,
    /// The newest, the newest first, this many at most.
    pub newest: Vec<NewestBan>,
    newest_max: usize,
    rules_of: Tally,
    ports_of: Tally,
}

/// The day of a moment, by local time.
fn day(at: Wall, offset: i32) -> u64 {
    at.0.saturating_add_signed(offset.into()) / DAY
}

impl Totals {
    /// Nothing yet, of this time.
    #[must_use]
    pub fn new(from: Wall, to: Wall, newest_max: usize) -> Totals {
        Totals {
            from,
            to,
            bans: 0,
            permanent: 0,
            unbans: 0,
            throttled: 0,
            days: vec![0; DAYS],
            hours: [0; 24],
            rules: Tally::default(),
            ports: Tally::default(),
            newest: Vec::new(),
            newest_max,
            rules_of: Tally::default(),
            ports_of: Tally::default(),
        }
    }

    /// Takes in what happened; `offset` says how many seconds east of UTC this host was at a moment.
    pub fn add(&mut self, event: &PastEvent<'_>, offset: &dyn Fn(Wall) -> i32) {
        let PastEvent { at, addr, .. } = *event;
        if at < self.from || at > self.to {
            return;
        }
        let time = match event.kind {
            PastKind::Unban => return self.unbans += 1,
            PastKind::Throttled => return self.throttled += 1,
            PastKind::Ban(time) => time,
        };
        let Some(addr) = addr else { return };
        self.bans += 1;
        self.permanent += u64::from(time == Some(Span::Permanent));
        let local = offset(at);
        let back = day(self.to, offset(self.to)).saturating_sub(day(at, local));
        let back = usize::try_from(back).unwrap_or(DAYS).min(DAYS - 1);
        let hour = at.0.saturating_add_signed(local.into()) % DAY / 3600;
        let slots = [self.days.get_mut(back), self.hours.get_mut(usize::try_from(hour).unwrap_or(0))];
        slots.into_iter().flatten().for_each(|slot| *slot += 1);
        let rule = if event.rule.is_empty() { BY_HAND } else { event.rule };
        let addr = addr.to_string();
        self.rules.add(rule, 1, at);
        self.rules_of.add(&pair(&addr, rule), 1, at);
        for port in event.ports.split('/').next().unwrap_or_default().split(',') {
            let port = if port.is_empty() { "all" } else { port.trim() };
            self.ports.add(port, 1, at);
            self.ports_of.add(&pair(&addr, port), 1, at);
        }
        self.keep(event, (addr, rule), time);
    }

    fn keep(&mut self, event: &PastEvent<'_>, (addr, rule): (String, &str), time: Option<Span>) {
        let place = self.newest.partition_point(|ban| ban.at >= event.at);
        if place < self.newest_max {
            let ports = if event.ports.is_empty() { "all" } else { event.ports };
            let [rule, ports, line] = [rule, ports, event.line].map(str::to_owned);
            self.newest.truncate(self.newest_max - 1);
            self.newest.insert(place, NewestBan { at: event.at, addr, rule, ports, time, line });
        }
    }

    /// How many addresses were banned, how many of them more than once, and whether there were more than
    /// could be counted.
    pub fn addresses(&mut self) -> (u64, u64, bool) {
        let (mut all, mut repeated) = (0, 0);
        each_addr(self.rules_of.by_name(), &mut |_, bans, _| {
            all += 1;
            repeated += u64::from(bans > 1);
        });
        (all, repeated, self.rules_of.is_cut())
    }

    /// Bans by network: /24 of IPv4, /48 of IPv6; `parts` is the number of addresses.
    pub fn networks(&mut self) -> Tally {
        let mut networks = Tally::default();
        each_addr(self.rules_of.by_name(), &mut |addr, bans, last| {
            networks.add(&network(addr), bans, last);
        });
        networks
    }

    /// Who was banned most often, at most so many.
    pub fn sources(&mut self, most: usize, each: &mut dyn FnMut(BannedSource<'_>)) {
        let mut all = Tally::default();
        each_addr(self.rules_of.by_name(), &mut |addr, bans, last| all.add(addr, bans, last));
        let (rules, ports) = (self.rules_of.by_name(), self.ports_of.by_name());
        for row in all.by_count().iter().take(most) {
            let rules =
                listed(&mut parts_of(rules, &row.name), &|part| format!("{}:{}", part.name, part.count));
            let ports = listed(&mut parts_of(ports, &row.name), &|part| part.name.to_string());
            each(BannedSource { addr: &row.name, bans: row.count, last: row.last, rules, ports });
        }
    }
}

/// The second parts of the names that begin with this one; of a tally in the order of names.
fn parts_of(rows: &[Tallied], first: &str) -> Tally {
    let first = pair(first, "");
    let (start, mut parts) = (rows.partition_point(|row| *row.name < *first), Tally::default());
    for row in rows.iter().skip(start) {
        let Some(part) = row.name.strip_prefix(&*first) else { break };
        parts.add(part, row.count, row.last);
    }
    parts
}

/// Those that came most often first, in one text.
fn listed(parts: &mut Tally, word: &dyn Fn(&Tallied) -> String) -> String {
    parts.by_count().iter().map(word).collect::<Vec<_>>().join(",")
}

fn pair(first: &str, second: &str) -> String {
    let mut name = first.to_owned();
    name.push(BETWEEN);
    name + second
}

/// Gives each address with the sum of its rows, which stand side by side.
fn each_addr(rows: &[Tallied], each: &mut dyn FnMut(&str, u64, Wall)) {
    let mut rows = rows;
    while let Some(first) = rows.first() {
        let addr = first.name.split(BETWEEN).next().unwrap_or_default();
        let is_same = |row: &&Tallied| row.name.split(BETWEEN).next() == Some(addr);
        let same = rows.iter().take_while(is_same).count();
        let (mine, rest) = rows.split_at_checked(same).unwrap_or((rows, &[]));
        let bans = mine.iter().map(|row| row.count).sum();
        each(addr, bans, mine.iter().map(|row| row.last).max().unwrap_or_default());
        rows = rest;
    }
}

/// The network around an address; what is wider stays.
fn network(addr: &str) -> String {
    let (first, len) = addr.split_once('/').unwrap_or((addr, "128"));
    let net = match (first.parse(), len.parse::<u8>()) {
        (Ok(IpAddr::V4(addr)), Ok(128)) => Ipv4Net::new(addr, 24).map(IpNet::from),
        (Ok(IpAddr::V6(addr)), Ok(48..)) => Ipv6Net::new(addr, 48).map(IpNet::from),
        _ => return addr.to_owned(),
    };
    net.map_or(addr.to_owned(), |net| Range::from(net.trunc()).to_string())
}
