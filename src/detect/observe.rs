#![forbid(unsafe_code)]
//! Lines in, offences out: hits are found, weighed and counted, and whoever has had enough of them has
//! committed an offence. What becomes of it is decided elsewhere. No I/O, no clock, no events: what is to be
//! known beside the lines is asked of [`KnownSources`], and what is counted is reported to a [`Listener`].

use super::tracker::{Attempt, Limits, Tracker};
use super::webscan::{Excess, Webscan};
use super::wide::Wide;
use super::{DetectRule, Detector, Hit};
use crate::base::clock::{LineTime, Mono};
use crate::base::line::shown;
use crate::base::net::offender;
use crate::base::rule_bits::RuleBits;
use ipnet::IpNet;
use std::net::IpAddr;

/// Offences that wait to be decided on at most: what one line more would add has to wait elsewhere.
pub const WAITING: usize = 256;
/// Bytes of a line that are kept.
pub const LINE_KEPT: usize = 200;
/// Bytes of lines that wait with them.
const LINES: usize = 8 * 1024;
/// Why a wider network is accused.
pub const SPREAD: &str = "hits of many of its prefixes";
/// One place for wider networks beside so many for sources.
const WIDE_PART: usize = 4;

/// What somebody has done.
#[derive(Debug, Clone, PartialEq)]
pub struct Offence {
    /// Who: an address, a prefix of IPv6, or a wider network.
    pub source: IpNet,
    /// The rule's number.
    pub rule: u16,
    /// Hits that led to it.
    pub hits: u32,
    /// Of a wider network, for what its parts did: why, for people.
    pub wide: Option<&'static str>,
    /// What was asked too much of a web server.
    pub excess: Option<Box<Excess>>,
    /// The line that decided, safe to show; perhaps empty.
    pub line: Box<str>,
}

/// The beginning of a line as it is kept: nothing of it moves anything but itself.
fn kept(line: &[u8]) -> Box<str> {
    let mut text = String::with_capacity(line.len().min(LINE_KEPT));
    for chunk in line.get(..line.len().min(LINE_KEPT)).unwrap_or(line).utf8_chunks() {
        text.push_str(&shown(chunk.valid()));
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    let end = (0..=LINE_KEPT.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(end);
    text.into_boxed_str()
}

impl Offence {
    /// Why, for people; perhaps empty.
    #[must_use]
    pub fn reason(&self) -> &str {
        match &self.excess {
            Some(excess) => &excess.reason,
            None => self.wide.unwrap_or(""),
        }
    }
}

/// What has to be known of sources beside what they do.
pub trait KnownSources {
    /// Who answers for what an address does, in the eyes of a rule.
    fn source(&self, addr: IpAddr, rule: u16) -> IpNet;

    /// Whether something that a source did so many seconds ago was before a ban for this rule.
    fn is_spent(&self, source: IpNet, rule: u16, age: u64) -> bool;

    /// Whether a source is banned for this rule.
    fn is_banned(&self, source: IpNet, rule: u16) -> bool;

    /// Takes in who may have written the line of a hit.
    fn weigh(&self, hit: &Hit, line: &[u8], origin: Origin);

    /// Seconds since a line was written that may have been read before, or was there already.
    fn age(&self, hit: &Hit, line: &[u8], origin: Origin) -> u64;
}

/// Who hears of hits while they are counted.
pub trait Listener {
    /// A hit was read; it may be too old to count.
    fn noticed(&mut self, rule: u16);

    /// It counts; `user` is text of the attacker.
    fn hit(&mut self, source: IpNet, hit: &Hit, user: Option<&[u8]>);

    /// An offence of a threshold that is only to be told.
    fn detected(&mut self, source: IpNet, rule: u16, excess: &Excess);
}

/// Finds hits, and counts them.
pub struct Observer {
    /// What finds them.
    pub detector: Detector,
    /// What counts them.
    pub counter: HitCounter,
}

/// Counts hits, of each source for each rule.
pub struct HitCounter {
    /// Secret; the same for as long as there is one.
    key: [u64; 2],
    limits: Vec<Limits>,
    /// Of addresses and prefixes.
    pub tracker: Tracker,
    pub(super) wide: Wide,
    /// Of requests.
    pub webscan: Webscan,
    ipv6_prefix: u8,
    /// Offences that nobody has taken yet.
    pub offences: Vec<Offence>,
    /// Those for which there was no room among them.
    overflow: Vec<Offence>,
}

/// What lines are, beside what they say.
#[derive(Clone, Copy)]
pub struct Origin {
    /// When they were written.
    pub time: LineTime,
    /// Only the service that they are about, and root, can have written them.
    pub attested: bool,
}

impl Observer {
    /// For these rules, each with its limits; there may be more limits than rules. `slots` is how many
    /// sources are tracked. `key` must be secret and random where lines come from attackers.
    #[must_use]
    pub fn new(
        rules: Vec<DetectRule>,
        limits: Vec<Limits>,
        ipv6_prefix: u8,
        slots: usize,
        key: [u64; 2],
    ) -> Observer {
        let counter = HitCounter {
            key,
            webscan: Webscan::new(&rules, key),
            tracker: Tracker::new(slots, &limits, key),
            wide: Wide::new(slots / WIDE_PART, &limits, key),
            limits,
            ipv6_prefix,
            offences: Vec::with_capacity(WAITING),
            overflow: Vec::new(),
        };
        Observer { detector: Detector::new(rules), counter }
    }

    /// Takes other rules. `map` says where a rule was before: its counts are kept.
    pub fn reconfigure(
        &mut self,
        now: Mono,
        (rules, limits): (Vec<DetectRule>, Vec<Limits>),
        ipv6_prefix: u8,
        map: &dyn Fn(u16) -> Option<u16>,
    ) {
        let HitCounter { tracker, wide, webscan, key, .. } = &mut self.counter;
        tracker.remap(now, &limits, map);
        wide.remap(now, &limits, map);
        let old = std::mem::replace(webscan, Webscan::new(&rules, *key));
        webscan.take_over(old);
        let counts = *self.detector.counts();
        self.detector = Detector::new(rules);
        self.detector.count_on(counts);
        (self.counter.limits, self.counter.ipv6_prefix) = (limits, ipv6_prefix);
    }

    /// Looks through whole lines for the rules whose bits are set.
    pub fn block(
        &mut self,
        now: Mono,
        (wanted, lines): (RuleBits, &[u8]),
        origin: Origin,
        known: &dyn KnownSources,
        listener: &mut dyn Listener,
    ) {
        let Observer { detector, counter } = self;
        detector.block(wanted, lines, &mut |_, line, hit| {
            known.weigh(&hit, line, origin);
            let age = (origin.time != LineTime::Now).then(|| known.age(&hit, line, origin));
            counter.hit(now, &hit, (line, age), known, listener);
        });
    }

    /// Looks at one message of a program. `age` is how many seconds ago it was written, if that was while
    /// nobody read.
    pub fn message(
        &mut self,
        now: Mono,
        wanted: RuleBits,
        (program, pid, message): (&[u8], Option<u32>, &[u8]),
        age: Option<u64>,
        (known, listener): (&dyn KnownSources, &mut dyn Listener),
    ) {
        let Observer { detector, counter } = self;
        detector.record(wanted, program, pid, message, &mut |hit| {
            counter.hit(now, &hit, (message, age), known, listener);
        });
    }

    /// Whether there were more than can be decided on together: some of them wait for others.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let lines = || self.counter.offences.iter().map(|offence| offence.line.len()).sum::<usize>();
        !self.counter.overflow.is_empty() || lines() > LINES
    }

    /// The next ones take the places of those that were taken.
    pub fn refill(&mut self) {
        let HitCounter { offences, overflow, .. } = &mut self.counter;
        let count = overflow.len().min(WAITING.saturating_sub(offences.len()));
        offences.extend(overflow.drain(..count));
    }

    /// Forgets what was counted of all that is in a network.
    pub fn forget(&mut self, source: IpNet) {
        let HitCounter { tracker, wide, webscan, .. } = &mut self.counter;
        tracker.forget(source);
        wide.forget(source);
        webscan.forget(source);
    }

    /// Hits so far.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.detector.counts().hits + self.counter.webscan.exceeded()
    }
}

impl HitCounter {
    /// Takes a hit in. `age` is how many seconds ago it was written, if that was while nobody read.
    pub fn hit(
        &mut self,
        now: Mono,
        hit: &Hit,
        (text, age): (&[u8], Option<u64>),
        known: &dyn KnownSources,
        listener: &mut dyn Listener,
    ) {
        let Some(limits) = self.limits.get(usize::from(hit.rule)).copied() else { return };
        let source = known.source(hit.addr, hit.rule);
        if hit.success {
            if let Some(name) = hit.name(text) {
                self.tracker.success(hit.rule, source, name);
            }
            return;
        }
        // What was written before a ban was counted for it: we were killed before we had written down that we
        // had read it.
        let spent = |age| age >= u64::from(limits.findtime) || known.is_spent(source, hit.rule, age);
        let is_spent = age.is_some_and(spent);
        let user = hit.user.clone().and_then(|user| text.get(user));
        let at = Mono(now.0.saturating_sub(age.unwrap_or(0).saturating_mul(1000)));
        if let Some(request) = &hit.request {
            if is_spent {
                return;
            }
            let Some(excess) = self.webscan.request(at, hit.rule, source, text, request).map(Box::new) else {
                return;
            };
            // What is read at once may hold a whole scan, which is one offence.
            if !excess.detect && (self.waits(source, hit.rule) || spent(0)) {
                return;
            }
            listener.noticed(hit.rule);
            listener.hit(source, hit, user);
            if excess.detect {
                return listener.detected(source, hit.rule, &excess);
            }
            let (rule, hits) = (hit.rule, excess.requests);
            let line = kept(text);
            return self.offence(Offence { source, rule, hits, wide: None, excess: Some(excess), line });
        }
        listener.noticed(hit.rule);
        if !is_spent {
            listener.hit(source, hit, user);
            self.attempt(at, hit, (text, source), known);
        }
    }

    /// Counts one that is no request.
    fn attempt(&mut self, at: Mono, hit: &Hit, (text, source): (&[u8], IpNet), known: &dyn KnownSources) {
        let Some(limits) = self.limits.get(usize::from(hit.rule)) else { return };
        // A neighbour who counts alone is in a network that is not to be banned.
        let mut spreads = source.addr().is_ipv6()
            && (source.prefix_len() == self.ipv6_prefix || source == offender(hit.addr, self.ipv6_prefix));
        // One line is never more than enough: it may tell of many that were folded.
        let enough = u8::try_from(limits.maxretry.max(1)).unwrap_or(u8::MAX);
        let (weight, way) = (hit.weight.min(enough), hit.way);
        let before = if spreads { self.tracker.count(at, hit.rule, source) } else { 0 };
        let attempt = Attempt { weight, name: hit.name(text), way };
        let hits = self.tracker.attempt(at, hit.rule, source, &attempt);
        // What is spared there is spared here.
        spreads = spreads && (hits.is_some() || self.tracker.count(at, hit.rule, source) > before);
        let mut wide = None;
        // One prefix does not make a spread: what is still read of whom is banned already counts for nothing.
        if spreads
            && !self.waits(source, hit.rule)
            && !known.is_banned(source, hit.rule)
            && let Some((net, hits)) = self.wide.hit(at, hit.rule, source, hit.weight)
            && !self.waits(net, hit.rule)
            && !known.is_banned(net, hit.rule)
        {
            let (rule, line) = (hit.rule, kept(text));
            wide = Some(Offence { source: net, rule, hits, wide: Some(SPREAD), excess: None, line });
        }
        let own = hits.map(|hits| {
            let (rule, line) = (hit.rule, kept(text));
            Offence { source, rule, hits, wide: None, excess: None, line }
        });
        own.into_iter().chain(wide).for_each(|offence| self.offence(offence));
    }

    fn waits(&self, source: IpNet, rule: u16) -> bool {
        self.offences.iter().any(|offence| (offence.source, offence.rule) == (source, rule))
    }

    fn offence(&mut self, offence: Offence) {
        let free = self.offences.len() < WAITING;
        if free { self.offences.push(offence) } else { self.overflow.push(offence) }
    }
}
