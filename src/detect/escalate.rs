#![forbid(unsafe_code)]
//! How long a ban lasts: who was banned before is banned for longer, whoever comes back too often for good,
//! and in a flood of bans each is short. Also which wider IPv6 network is to be banned for what its parts
//! did.
//!
//! A ban counts as a further one unless it only repeats one that is in force: of the same ports, or of others
//! within the first minute (lines that were written before the ban took hold are still being read). Evidence
//! that anybody can forge counts for nothing: its bans are never longer than the rule says, never permanent,
//! and no later ban is the longer for them.
//!
//! What is known of an address is forgotten when it has kept quiet for [`EscalationTerms::memory`] after its
//! last ban. Memory is fixed, as in the tracker: where there is no room, the address with the fewest bans
//! gives way, of several the one whose ban ended first. Time comes in with every call; this module knows no
//! clock and no kernel.

use super::places::{HEAD, OffenderTable};
use crate::base::clock::{Mono, Span};
use ipnet::{IpNet, Ipv6Net};

/// Starts of bans that are remembered of one address at most, the newest included.
pub const STARTS_MAX: usize = 32;
/// Of these, what every place has room for: then a table of the usual size is large enough that unused pages
/// cost nothing.
const STARTS_MIN: usize = 2;
/// Words of a place before the starts.
const FIXED: usize = HEAD + 1;
/// Seconds in which another ban of an address that is banned is the same offence, whatever the ports.
const SAME: u32 = 60;
/// Tick of the clock's zero, in seconds: so that what lies long before it has a number too.
const ZERO: u64 = 1 << 30;
/// The end of a permanent ban.
const NEVER: u32 = u32::MAX;
/// Seconds of a ban for what any local process could have made up, at most.
const DAY: u64 = 86_400;
/// Seconds of a ban in a flood of bans.
const FLOOD_BAN_MAX: u64 = 600;
/// Parts of a wider network that have to be banned before it is.
pub const PARTS: usize = 4;

/// What the configuration says of all bans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EscalationTerms {
    /// Each further ban lasts this many times as long; 1 = as long.
    pub factor: u32,
    /// Seconds that it lasts at most, unless the rule's own bantime is longer.
    pub max: u32,
    /// Seconds without a ban after which an address begins anew.
    pub memory: u32,
    /// Starts of bans to remember: one less than the largest threshold.
    pub starts: usize,
}

/// How strong the evidence for a ban is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoofable {
    /// The sender of what was seen is known.
    No,
    /// Any process of this host could have made it up: log lines that a syslog daemon wrote down, of which
    /// nobody knows the sender. Bans grow to a day at most.
    ByLocalUsers,
    /// Anybody could have made it up: packets without a handshake.
    ByAnybody,
}

/// What a rule says of a ban.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BanRequest {
    /// Of a first ban.
    pub bantime: Span,
    /// That many bans (the second number) within so many seconds make the ban permanent.
    pub permanent: Option<(u32, u32)>,
    /// How strong the evidence is.
    pub spoofable: Spoofable,
    /// Stands for the ports.
    pub scope: u16,
    /// Too many bans are made: nothing is certain now.
    pub flood: bool,
}

/// What a ban is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BanDecision {
    /// How long from now.
    pub time: Span,
    /// Bans so far that count, this one included if it does.
    pub bans: u32,
    /// Whether it is one more that counts.
    pub further: bool,
    /// Whether it only repeats one that is in force.
    pub repeats: bool,
}

/// The bans of an address, as they come back from the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past<'a> {
    /// Bans that count.
    pub bans: u32,
    /// Seconds since the last one began.
    pub age: u64,
    /// Seconds until it ends, negative if it has; `None` for a permanent one.
    pub left: Option<i64>,
    /// Stands for the ports.
    pub scope: u16,
    /// How long before the last one began the bans that count began, as [`RepeatOffenders::starts`] wrote it;
    /// empty = it counts itself.
    pub starts: &'a [u8],
}

/// Who was banned how often.
pub struct RepeatOffenders {
    terms: EscalationTerms,
    places: OffenderTable,
}

/// What a place holds.
struct KnownOffender<'a> {
    bans: u32,
    scope: u16,
    end: u32,
    /// When bans began, the newest first; zeros behind the last.
    starts: &'a [u32],
}

impl<'a> KnownOffender<'a> {
    fn read(place: &'a [u32]) -> Option<KnownOffender<'a>> {
        let (head, starts) = place.split_at_checked(FIXED)?;
        let [_, bans, a, b] = head.first()?.to_be_bytes();
        Some(KnownOffender {
            bans: bans.into(),
            scope: u16::from_be_bytes([a, b]),
            end: *head.last()?,
            starts,
        })
    }

    /// When the newest ban that counts began, 0 = there is none.
    fn last(&self) -> u32 {
        self.starts.first().copied().unwrap_or(0)
    }
}

/// What makes a place worth keeping.
fn rank(place: &[u32]) -> u64 {
    KnownOffender::read(place).map_or(0, |known| u64::from(known.bans) << 32 | u64::from(known.end))
}

fn tick(now: Mono) -> u32 {
    u32::try_from(now.0 / 1000 + ZERO).unwrap_or(NEVER - 1)
}

impl RepeatOffenders {
    /// A table for `slots` addresses, of 32 bytes each if no rule's threshold is beyond 3. `key` must be
    /// secret and random.
    #[must_use]
    pub fn new(slots: usize, terms: EscalationTerms, key: [u64; 2]) -> RepeatOffenders {
        let starts = terms.starts.clamp(STARTS_MIN, STARTS_MAX);
        RepeatOffenders { terms, places: OffenderTable::new(slots, FIXED + starts, key) }
    }

    /// What the table was made for.
    #[must_use]
    pub fn terms(&self) -> &EscalationTerms {
        &self.terms
    }

    /// What `who` gets now. Nothing is remembered of it before [`RepeatOffenders::serve`].
    #[must_use]
    pub fn decide(&self, now: Mono, addr: IpNet, request: &BanRequest) -> BanDecision {
        let now = tick(now);
        let known = self.known(now, addr);
        let bans = known.as_ref().map_or(0, |known| known.bans);
        let repeats = known.as_ref().is_some_and(|known| {
            let same = known.scope == request.scope || now.saturating_sub(known.last()) < SAME;
            known.end > now && same
        });
        let counts = request.spoofable != Spoofable::ByAnybody;
        let further = counts && !request.flood && !repeats;
        let count = if further { bans.saturating_add(1) } else { bans };
        let mut time = match request.bantime {
            Span::Permanent if request.spoofable == Spoofable::ByAnybody => Span::Secs(self.terms.max.into()),
            time if request.spoofable == Spoofable::ByLocalUsers => time.min(Span::Secs(DAY)),
            time => time,
        };
        let permanent = request.permanent.filter(|_| further && request.spoofable == Spoofable::No);
        if let Some((window, threshold)) = permanent {
            let starts = known.as_ref().map_or(&[][..], |known| known.starts);
            let inside = starts.iter().take_while(|&&start| start > 0 && now.saturating_sub(start) < window);
            let inside = inside.count();
            // Of very many bans the starts of the first are not known any more.
            let inside = if inside == starts.len() { bans } else { u32::try_from(inside).unwrap_or(0) };
            if inside + 1 >= threshold {
                time = Span::Permanent;
            }
        }
        if request.flood {
            time = time.min(Span::Secs(FLOOD_BAN_MAX));
        } else if let Span::Secs(first) = time
            && counts
        {
            let most = if request.spoofable == Spoofable::ByLocalUsers { DAY } else { u64::MAX };
            time = Span::Secs(self.longer(first, count).min(most));
        }
        // What is in force of the same ports is not made shorter.
        if let Some(known) = known.filter(|known| known.end > now && known.scope == request.scope) {
            let left =
                if known.end == NEVER { Span::Permanent } else { Span::Secs((known.end - now).into()) };
            time = time.max(left);
        }
        BanDecision { time, bans: count, further, repeats }
    }

    /// The length of the `n`-th ban.
    fn longer(&self, first: u64, n: u32) -> u64 {
        let max = u64::from(self.terms.max).max(first);
        let mut time = first;
        for _ in 1..n {
            if time >= max || self.terms.factor < 2 {
                break;
            }
            time = time.saturating_mul(self.terms.factor.into());
        }
        time.min(max)
    }

    /// Remembers a ban that was made. One that counts for nothing is remembered only of who is known.
    pub fn record(&mut self, now: Mono, addr: IpNet, scope: u16, decision: &BanDecision) {
        let now = tick(now);
        let end = match decision.time {
            Span::Permanent => NEVER,
            Span::Secs(secs) => now.saturating_add(u32::try_from(secs).unwrap_or(NEVER)).min(NEVER - 1),
        };
        if !decision.further {
            // The end of what only repeats; what is weaker must not change anything.
            if let Some(known) = self.known(now, addr).filter(|known| known.scope == scope && known.end < end)
            {
                let bans = known.bans;
                self.write(addr, bans, scope, end);
            }
            return;
        }
        // Who begins anew has no previous starts.
        if self.known(now, addr).is_none() {
            self.places.clear(addr);
        }
        let place = self.write(addr, decision.bans, scope, end);
        if let Some(starts) = place.get_mut(FIXED..) {
            starts.rotate_right(1);
            if let Some(first) = starts.first_mut() {
                *first = now;
            }
        }
    }

    /// Takes in what the journal tells of an address. Of several bans of it the newest one counts.
    pub fn restore(&mut self, now: Mono, addr: IpNet, past: &Past<'_>) {
        let now = tick(now);
        let began = now.saturating_sub(u32::try_from(past.age).unwrap_or(NEVER)).max(1);
        let end = past.left.map_or(NEVER, |left| {
            u32::try_from(i64::from(now).saturating_add(left).clamp(1, i64::from(NEVER - 1))).unwrap_or(1)
        });
        // One by hand that ends counts for nothing; one that does not is not to be made shorter.
        if end != NEVER && (past.bans == 0 || end.saturating_add(self.terms.memory) <= now) {
            return;
        }
        if self
            .known(now, addr)
            .is_some_and(|known| (known.end == NEVER, known.last()) > (end == NEVER, began))
        {
            return;
        }
        self.places.clear(addr);
        let place = self.write(addr, past.bans, past.scope, end);
        let own = if past.starts.is_empty() { &[0; 4] } else { past.starts };
        let starts = place.get_mut(FIXED..).unwrap_or(&mut []);
        for (start, bytes) in starts.iter_mut().zip(own.as_chunks::<4>().0) {
            *start = began.saturating_sub(u32::from_le_bytes(*bytes)).max(1);
        }
    }

    /// Whether a ban of these ports is in force.
    #[must_use]
    pub fn is_banned(&self, now: Mono, addr: IpNet, scope: u16) -> bool {
        let now = tick(now);
        self.known(now, addr).is_some_and(|known| known.end > now && known.scope == scope && known.last() > 0)
    }

    /// Seconds since the last ban of these ports began that counts, be it over or not.
    #[must_use]
    pub fn began(&self, now: Mono, addr: IpNet, scope: u16) -> Option<u64> {
        let now = tick(now);
        let known = self.known(now, addr).filter(|known| known.scope == scope)?;
        (known.last() > 0).then(|| now.saturating_sub(known.last()).into())
    }

    /// Whether the bans of `who` are remembered.
    #[must_use]
    pub fn knows(&self, now: Mono, addr: IpNet) -> bool {
        self.known(tick(now), addr).is_some()
    }

    /// Appends what [`Past::starts`] needs to `out`, for a ban that begins now and was not served yet: how
    /// long ago each ban that counts began, this one included if it is a further one. Nothing, if that is the
    /// only one.
    pub fn starts(&self, now: Mono, addr: IpNet, further: bool, out: &mut Vec<u8>) {
        let now = tick(now);
        let Some(known) = self.known(now, addr) else { return };
        let old = known.starts.iter().take_while(|&&start| start > 0).map(|&start| now.saturating_sub(start));
        for age in further.then_some(0).into_iter().chain(old).take(known.starts.len()) {
            out.extend_from_slice(&age.to_le_bytes());
        }
    }

    /// Forgets an address; of a network, all that is in it.
    pub fn forget(&mut self, addr: IpNet) {
        self.places.forget(addr);
    }

    fn known(&self, now: u32, addr: IpNet) -> Option<KnownOffender<'_>> {
        let known = self.places.get(addr).and_then(KnownOffender::read)?;
        (known.end == NEVER || known.end.saturating_add(self.terms.memory) > now).then_some(known)
    }

    fn write(&mut self, addr: IpNet, bans: u32, scope: u16, end: u32) -> &mut [u32] {
        let own = bans.min(255) << 16 | u32::from(scope);
        let place = self.places.place(addr, own, &rank);
        if let Some(word) = place.get_mut(HEAD) {
            *word = end;
        }
        place
    }
}

/// Which parts of wider IPv6 networks were banned.
pub struct NetworkEscalation {
    /// Prefix lengths, each shorter than the one before.
    levels: Vec<u8>,
    memory: u32,
    /// For each wider network the parts that are known: a hash, and when it is forgotten.
    places: OffenderTable,
}

impl NetworkEscalation {
    /// A table for `slots` networks of the prefix lengths `levels`; `memory` is how many seconds a part
    /// counts.
    #[must_use]
    pub fn new(slots: usize, levels: &[u8], memory: u32, key: [u64; 2]) -> NetworkEscalation {
        let slots = if levels.is_empty() { 0 } else { slots };
        NetworkEscalation {
            levels: levels.to_vec(),
            memory,
            places: OffenderTable::new(slots, HEAD + 2 * PARTS, key),
        }
    }

    /// Takes in that `who` was banned. Returns the widest network of which now enough parts were banned; a
    /// part is a network of the next smaller length, and counts when anything in it was banned.
    pub fn banned(&mut self, now: Mono, addr: IpNet) -> Option<IpNet> {
        let IpNet::V6(mut part) = addr else { return None };
        let now = tick(now);
        let mut widest = None;
        for &len in &self.levels {
            if len >= part.prefix_len() {
                continue;
            }
            let Ok(wide) = Ipv6Net::new(part.network(), len).map(|net| net.trunc()) else { continue };
            let [_, _, _, _, rest @ ..] = self.places.hash(IpNet::V6(part)).to_le_bytes();
            let hash = u32::from_le_bytes(rest);
            let place = self.places.place(IpNet::V6(wide), 0, &|place| {
                place.get(HEAD..).unwrap_or(&[]).iter().skip(1).step_by(2).copied().max().unwrap_or(0).into()
            });
            let known = place.get_mut(HEAD..).unwrap_or(&mut []).as_chunks_mut::<2>().0;
            // The one that is known, else the one that ends first.
            let at = known.iter().position(|&[other, end]| other == hash && end > now);
            let at = at.or_else(|| (0..known.len()).min_by_key(|&i| known.get(i).map_or(0, |part| part[1])));
            if let Some(part) = at.and_then(|at| known.get_mut(at)) {
                *part = [hash, now.saturating_add(self.memory)];
            }
            if known.iter().filter(|part| part[1] > now).count() >= PARTS {
                widest = Some(IpNet::V6(wide));
            }
            part = wide;
        }
        widest
    }

    /// Forgets a network, and what is known of networks inside it.
    pub fn forget(&mut self, addr: IpNet) {
        self.places.forget(addr);
    }
}

/// Bans a minute.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Those that are not too many.
    pub limit: u32,
    /// When the minute began.
    since: Mono,
    count: u32,
    flood: bool,
}

/// What is to be told of the number of bans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateAlarm {
    /// They became too many, or still are: once a minute.
    Flood,
    /// They are not too many any more.
    Over,
}

impl Pace {
    /// Nothing was banned yet.
    #[must_use]
    pub fn new(limit: u32) -> Pace {
        Pace { limit, since: Mono(0), count: 0, flood: false }
    }

    /// Counts a ban; whether there are too many, and what is to be told now. It is over after a minute with
    /// no more than the limit.
    pub fn ban(&mut self, now: Mono) -> (bool, Option<RateAlarm>) {
        const MINUTE: u64 = 60_000;
        let mut news = None;
        let passed = now.since(self.since);
        if passed >= MINUTE {
            let calm = self.count <= self.limit || passed >= 2 * MINUTE;
            if self.flood && calm {
                (self.flood, news) = (false, Some(RateAlarm::Over));
            }
            (self.since, self.count) = (now, 0);
        }
        self.count = self.count.saturating_add(1);
        if self.count == self.limit.saturating_add(1) {
            (self.flood, news) = (true, Some(RateAlarm::Flood));
        }
        (self.flood, news)
    }
}

#[cfg(test)]
mod tests;
