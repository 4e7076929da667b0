#![forbid(unsafe_code)]
//! What the daemon would do with a log: the same detection and the same decisions, with the stamps of the
//! lines as the clock and nobody banned. It begins as if nobody had been banned before.

use super::decide::{self, Decider, Exempt, Listener, Waiting};
use super::policy;
use super::punish::Punisher;
use super::trust;
use crate::ban::{Allowed, Scope};
use crate::base::clock::{Mono, Now, Span, Wall};
use crate::base::net::offender;
use crate::base::range::Range;
use crate::config::{ServiceRule, Settings};
use crate::detect::header::Stamp;
use crate::detect::webscan::Excess;
use crate::detect::{Counts, Detector, Hit, Rule};
use crate::input::{Record, Written};
use crate::sys::clock;
use ipnet::IpNet;
use std::net::IpAddr;

/// Offenders tracked: more than the daemon has, so that little is evicted however long the log is.
const TRACK: u32 = 1 << 16;

/// Of the hash by which offenders are found: the same log gives the same answer each time.
const KEY: [u64; 2] = [0x6d65_6620_7465_7374, 7];

/// What a line has led to.
pub enum Event<'a> {
    /// It is a hit of this rule.
    Hit(u16, IpAddr),
    /// Somebody has gone too far.
    Finding(Finding<'a>),
}

/// Somebody whom a rule accuses, and what the daemon would do.
pub struct Finding<'a> {
    /// The rule's number.
    pub rule: u16,
    /// Address, or prefix of IPv6.
    pub who: Range,
    /// Hits that led to it.
    pub hits: u32,
    /// Why, if there is more to say than the hits; for people.
    pub reason: &'a str,
    /// What becomes of it.
    pub outcome: Outcome<'a>,
}

/// What the daemon would do.
pub enum Outcome<'a> {
    /// Ban it.
    Ban {
        /// For how long.
        time: Span,
        /// So many bans of it so far that count, this one included.
        bans: u32,
        /// Which ports.
        scope: &'a Scope,
    },
    /// Nothing: it is banned already, and would not have come this far.
    Already,
    /// Not ban it: it is, for people, this.
    Exempt(&'static str),
    /// Only tell (action=detect).
    Detected,
}

/// One run over logs.
pub struct Rehearsal {
    detector: Detector,
    decider: Decider,
    clock: Clock,
    /// Nobody wants to know more than the hits.
    only_hits: bool,
    disbelieved: u64,
}

/// Whether a unit of this name runs a program of that one.
#[must_use]
pub fn kin(unit: &[u8], program: &[u8]) -> bool {
    trust::is_kin(unit, program)
}

/// The time of the lines.
struct Clock {
    now: Wall,
    local: i32,
    last: Wall,
}

impl Clock {
    fn set(&mut self, stamp: Option<Stamp>) {
        if let Some(stamp) = stamp {
            // Ages count from one moment, so they keep the order and the distances of the stamps.
            self.last = Wall(self.now.0.saturating_sub(stamp.age(self.now, self.local)));
        }
    }

    fn now(&self) -> Now {
        Now { mono: Mono(self.last.0.saturating_mul(1000)), wall: self.last }
    }
}

/// Hears of thresholds that only tell.
#[derive(Default)]
struct Heard(Option<(u32, String)>);

impl Listener for Heard {
    fn watched(&self) -> bool {
        false
    }

    fn hit(&mut self, _: Wall, _: IpNet, _: &str, _: u8, _: Option<&[u8]>) {}

    fn detected(&mut self, _: &str, _: IpNet, excess: &Excess) {
        self.0 = Some((excess.requests, excess.reason.clone()));
    }
}

impl Rehearsal {
    /// With these rules, as their files and as the detector has them, whether they are on or not.
    #[must_use]
    pub fn new(
        rules: Vec<Rule>,
        own: &[ServiceRule],
        mut settings: Settings,
        allowed: Allowed,
        only_hits: bool,
    ) -> Rehearsal {
        settings.track_max = settings.track_max.max(TRACK);
        let policies: Vec<_> = own.iter().zip(&rules).map(|(rule, ready)| policy::of(rule, ready)).collect();
        let punisher = Punisher::new(&settings, &policies);
        let now = clock::wall();
        let local = clock::local_offset(now);
        let slots = usize::try_from(settings.track_max).unwrap_or(usize::MAX);
        Rehearsal {
            decider: Decider::new(&rules, policies, &settings, (punisher, allowed), (slots, local, KEY)),
            detector: Detector::new(rules),
            clock: Clock { now, local, last: Wall(0) },
            only_hits,
            disbelieved: 0,
        }
    }

    /// What was seen.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        self.detector.counts()
    }

    /// Looks through whole lines for the rules whose bits are set; `each` gets the number of the line in the
    /// block.
    pub fn block(&mut self, wanted: u64, block: &[u8], each: &mut dyn FnMut(usize, Event<'_>)) {
        let Rehearsal { detector, decider, clock, only_hits, .. } = self;
        detector.block(wanted, block, &mut |at, line, hit| {
            if !*only_hits || hit.request.is_some() {
                clock.set(decide::stamp(line, &hit));
            }
            take(decider, (&*clock, *only_hits), &hit, line, &mut |event| each(at, event));
        });
    }

    /// How many records were written by somebody whom no rule believes that they are what they say.
    #[must_use]
    pub fn disbelieved(&self) -> u64 {
        self.disbelieved
    }

    /// It is the time of this stamp, for records that tell none.
    pub fn set_time(&mut self, stamp: Option<Stamp>) {
        self.clock.set(stamp);
    }

    /// Looks at a record of the journal; only rules that trust its sender hear of it.
    pub fn record(&mut self, wanted: u64, record: &Record<'_>, each: &mut dyn FnMut(Event<'_>)) {
        let Rehearsal { detector, decider, clock, only_hits, disbelieved } = self;
        if let Written::At(at) = record.written {
            clock.last = at;
        }
        let believed = decider.believed(detector.rules(), wanted, record);
        *disbelieved += u64::from(believed == 0 && wanted != 0);
        detector.record(believed, record.program, record.pid, record.message, &mut |hit| {
            take(decider, (&*clock, *only_hits), &hit, record.message, each);
        });
    }
}

/// Takes a hit in, as the daemon does that reads it when it is written.
fn take(
    decider: &mut Decider,
    (clock, only_hits): (&Clock, bool),
    hit: &Hit,
    text: &[u8],
    each: &mut dyn FnMut(Event<'_>),
) {
    let now = clock.now();
    if only_hits {
        if hit.success {
            return;
        }
        // A request is a hit when it is too much.
        let who = offender(hit.addr, decider.ipv6_prefix);
        let over = |request| decider.webscan.request(now.mono, hit.rule, who, text, request).is_some();
        if hit.request.as_ref().is_none_or(over) {
            each(Event::Hit(hit.rule, hit.addr));
        }
        return;
    }
    let mut heard = Heard::default();
    decider.hit(now, hit, text, None, &mut heard);
    let found = heard.0.is_some() || !decider.waiting.is_empty();
    if (hit.request.is_none() && !hit.success) || found {
        each(Event::Hit(hit.rule, hit.addr));
    }
    if let Some((hits, reason)) = &heard.0 {
        let who = Range::from(offender(hit.addr, decider.ipv6_prefix));
        let outcome = Outcome::Detected;
        each(Event::Finding(Finding { rule: hit.rule, who, hits: *hits, reason, outcome }));
    }
    settle(decider, (now, clock.now), each);
}

/// Decides on those who wait, and on the wider networks that follow from it. Whether somebody is allowed for
/// a time is asked of the present: the list says nothing of the past.
fn settle(decider: &mut Decider, (now, today): (Now, Wall), each: &mut dyn FnMut(Event<'_>)) {
    while !decider.waiting.is_empty() {
        let mut waiting = std::mem::take(&mut decider.waiting);
        waiting.retain(|w| {
            let outcome = match decider.exempt(today, w) {
                None => return true,
                Some(Exempt::Address(why)) => Outcome::Exempt(why),
                Some(Exempt::Detect) => Outcome::Detected,
            };
            tell(w, outcome, each);
            false
        });
        let Decider { punisher, policies, .. } = decider;
        let mut wider = Vec::new();
        for decided in &decide::verdicts((punisher, policies), now.mono, &waiting) {
            let (w, policy, verdict) = decided;
            let sentence = verdict.sentence;
            if sentence.repeats {
                tell(w, Outcome::Already, each);
                continue;
            }
            tell(w, Outcome::Ban { time: sentence.time, bans: sentence.bans, scope: &policy.scope }, each);
            wider.extend(decide::wider(punisher, now.mono, decided));
        }
        decider.waiting = wider;
    }
}

fn tell(w: &Waiting, outcome: Outcome<'_>, each: &mut dyn FnMut(Event<'_>)) {
    let (who, reason) = (Range::from(w.who), w.reason());
    each(Event::Finding(Finding { rule: w.rule, who, hits: w.hits, reason, outcome }));
}
