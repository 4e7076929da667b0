#![forbid(unsafe_code)]
//! What the daemon would do with a log: the same observer and the same decider, with the stamps of the lines
//! as the clock, and bans that are made in a backend which only records them. It begins as if nobody had been
//! banned before.

use super::decide::{self, Decider, Decision, Exemption, Knowledge};
use super::policy;
use super::punish::BanPolicy;
use super::trust;
use crate::ban::{Allowed, Scope};
use crate::base::clock::{LineTime, Mono, Now, Span, Wall};
use crate::base::net::offender;
use crate::base::range::Range;
use crate::base::rule_bits::RuleBits;
use crate::config::{ServiceRule, Settings};
use crate::detect::header::HeaderStamp;
use crate::detect::observe::{HitCounter, KnownSources as _, Listener, Observer, Offence, Origin};
use crate::detect::webscan::Excess;
use crate::detect::{DetectRule, Hit, LineCounts};
use crate::enforce::{Enforcer, options};
use crate::firewall::record::{Recorder, World};
use crate::input::{LogRecord, Written};
use crate::sys::clock;
use ipnet::IpNet;
use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

/// Offenders tracked: more than the daemon has, so that little is evicted however long the log is.
const TRACK: u32 = 1 << 16;

/// Of the hash by which offenders are found: the same log gives the same answer each time.
pub(super) const KEY: [u64; 2] = [0x6d65_6620_7465_7374, 7];

/// What a line has led to.
pub enum RehearsalEvent<'a> {
    /// It is a hit of this rule.
    Hit(u16, IpAddr),
    /// Somebody has gone too far.
    Finding(RehearsalFinding<'a>),
}

/// Somebody whom a rule accuses, and what the daemon would do.
pub struct RehearsalFinding<'a> {
    /// The rule's number.
    pub rule: u16,
    /// Address, or prefix of IPv6.
    pub addr: Range,
    /// Hits that led to it.
    pub hits: u32,
    /// Why, if there is more to say than the hits; for people.
    pub reason: &'a str,
    /// What becomes of it.
    pub outcome: RehearsalOutcome<'a>,
}

/// What the daemon would do.
pub enum RehearsalOutcome<'a> {
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

/// What is wanted of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RehearsalExtent {
    /// Nothing but the hits.
    Hits,
    /// What the daemon would do about them.
    Decisions,
}

/// One run over logs.
pub struct Rehearsal {
    observer: Observer,
    court: Court,
    clock: Clock,
    extent: RehearsalExtent,
    disbelieved: u64,
}

/// Where offences are decided on, and what is in force for that.
struct Court {
    decider: Decider,
    enforcer: Enforcer,
    world: Rc<RefCell<World>>,
    ipv6_prefix: u8,
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
    /// The stamp that was read last.
    stamp: Option<HeaderStamp>,
}

impl Clock {
    fn set(&mut self, stamp: Option<HeaderStamp>) {
        if let Some(stamp) = stamp.filter(|_| stamp != self.stamp) {
            self.stamp = Some(stamp);
            // Ages count from one moment, so they keep the order and the distances of the stamps.
            self.last = Wall(self.now.0.saturating_sub(stamp.age(self.now, self.local)));
        }
    }

    fn now(&self) -> Now {
        Now { mono: Mono(self.last.0.saturating_mul(1000)), wall: self.last }
    }
}

/// Hears whether a hit counts, and of thresholds that only tell.
#[derive(Default)]
struct RehearsalListener {
    counts: bool,
    detected: Option<(u32, String)>,
}

impl Listener for RehearsalListener {
    fn noticed(&mut self, _: u16) {}

    fn hit(&mut self, _: IpNet, _: &Hit, _: Option<&[u8]>) {
        self.counts = true;
    }

    fn detected(&mut self, _: IpNet, _: u16, excess: &Excess) {
        self.detected = Some((excess.requests, excess.reason.clone()));
    }
}

impl Rehearsal {
    /// With these rules, as their files and as the detector has them, whether they are on or not.
    #[must_use]
    pub fn new(
        rules: Vec<DetectRule>,
        own: &[ServiceRule],
        settings: &mut Settings,
        allowed: Allowed,
        extent: RehearsalExtent,
    ) -> Rehearsal {
        settings.track_max = settings.track_max.max(TRACK);
        let policies: Vec<_> = own.iter().zip(&rules).map(|(rule, ready)| policy::of(rule, ready)).collect();
        let ban_policy = BanPolicy::new(settings, &policies);
        let now = clock::wall();
        let local = clock::local_offset(now);
        let slots = usize::try_from(settings.track_max).unwrap_or(usize::MAX);
        let ipv6_prefix = decide::ipv6_prefix(settings);
        let limits = policies.iter().map(|policy| policy.limits).collect();
        let (backend, world) = Recorder::open(options(settings), allowed.clone().into());
        let mut observer = Observer::new(rules, limits, ipv6_prefix, slots, KEY);
        if extent == RehearsalExtent::Hits {
            observer.detector.skip_successes();
        }
        Rehearsal {
            observer,
            court: Court {
                decider: Decider::new(policies, settings, ban_policy, allowed, local),
                enforcer: Enforcer::new(Box::new(backend), None),
                world,
                ipv6_prefix,
            },
            clock: Clock { now, local, last: Wall(0), stamp: None },
            extent,
            disbelieved: 0,
        }
    }

    /// What was seen.
    #[must_use]
    pub fn counts(&self) -> &LineCounts {
        self.observer.detector.counts()
    }

    /// Looks through whole lines for the rules whose bits are set; `each` gets where the line begins
    /// in the block. How many lines there are.
    pub fn block(
        &mut self,
        wanted: RuleBits,
        block: &[u8],
        each: &mut dyn FnMut(usize, RehearsalEvent<'_>),
    ) -> usize {
        let Rehearsal { observer: Observer { detector, counter }, court, clock, extent, .. } = self;
        detector.block(wanted, block, &mut |at, line, hit| {
            if *extent == RehearsalExtent::Hits && hit.request.is_none() {
                return hit_only(&hit, &mut |event| each(at, event));
            }
            clock.set(decide::stamp(line, &hit));
            let now = clock.now();
            if *extent == RehearsalExtent::Hits {
                return court.request(now, counter, &hit, line, &mut |event| each(at, event));
            }
            // Whose log it is cannot be known here: it is taken for one that only the service writes.
            let origin = Origin { time: LineTime::Stamped, attested: true };
            Knowledge { decider: &court.decider, now }.weigh(&hit, line, origin);
            court.take((now, clock.now), counter, &hit, line, &mut |event| each(at, event));
        })
    }

    /// Protects no address of this host.
    #[cfg(test)]
    pub(super) fn protect_nobody(&mut self) {
        self.court.decider.protect_nobody();
    }

    /// The time of the line that was looked at last.
    #[cfg(test)]
    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    /// How many records were written by somebody whom no rule believes that they are what they say.
    #[must_use]
    pub fn disbelieved(&self) -> u64 {
        self.disbelieved
    }

    /// It is the time of this stamp, for records that tell none.
    pub fn set_time(&mut self, stamp: Option<HeaderStamp>) {
        self.clock.set(stamp);
    }

    /// Looks at a record of the journal; only rules that trust its sender hear of it.
    pub fn record(
        &mut self,
        wanted: RuleBits,
        record: &LogRecord<'_>,
        each: &mut dyn FnMut(RehearsalEvent<'_>),
    ) {
        let Rehearsal { observer, court, clock, extent, disbelieved } = self;
        if let Written::At(at) = record.written {
            clock.last = at;
        }
        let Observer { detector, counter } = observer;
        let believed = court.decider.believed(detector.rules(), wanted, record);
        *disbelieved += u64::from(believed == 0 && wanted != 0);
        detector.record(believed, record.program, record.pid, record.message, &mut |hit| {
            let now = clock.now();
            match (*extent, hit.request.is_some()) {
                (RehearsalExtent::Hits, false) => hit_only(&hit, each),
                (RehearsalExtent::Hits, true) => court.request(now, counter, &hit, record.message, each),
                (RehearsalExtent::Decisions, _) => {
                    court.take((now, clock.now), counter, &hit, record.message, each)
                }
            }
        });
    }
}

/// A hit, where nobody wants to know more.
fn hit_only(hit: &Hit, each: &mut dyn FnMut(RehearsalEvent<'_>)) {
    if !hit.success {
        each(RehearsalEvent::Hit(hit.rule, hit.addr));
    }
}

impl Court {
    /// A request is a hit when it is too much.
    fn request(
        &self,
        now: Now,
        counter: &mut HitCounter,
        hit: &Hit,
        text: &[u8],
        each: &mut dyn FnMut(RehearsalEvent<'_>),
    ) {
        let source = offender(hit.addr, self.ipv6_prefix);
        let over = |request| counter.webscan.request(now.mono, hit.rule, source, text, request);
        if hit.request.as_ref().and_then(over).is_some() {
            hit_only(hit, each);
        }
    }

    /// Takes a hit in, as the daemon does that reads it when it is written. Whether somebody is allowed for a
    /// time is asked of the present: the list says nothing of the past.
    fn take(
        &mut self,
        (now, today): (Now, Wall),
        counter: &mut HitCounter,
        hit: &Hit,
        text: &[u8],
        each: &mut dyn FnMut(RehearsalEvent<'_>),
    ) {
        let Court { decider, enforcer, world, ipv6_prefix } = self;
        world.borrow_mut().now = now.wall;
        let mut heard = RehearsalListener::default();
        counter.hit(now.mono, hit, (text, None), &Knowledge { decider, now }, &mut heard);
        if heard.counts {
            each(RehearsalEvent::Hit(hit.rule, hit.addr));
        }
        if let Some((hits, reason)) = &heard.detected {
            let addr = Range::from(offender(hit.addr, *ipv6_prefix));
            let outcome = RehearsalOutcome::Detected;
            each(RehearsalEvent::Finding(RehearsalFinding {
                rule: hit.rule,
                addr,
                hits: *hits,
                reason,
                outcome,
            }));
        }
        let hears = &mut |offence: &Offence, policy: &policy::ServicePolicy, decision: Decision<'_>| {
            let outcome = match decision {
                Decision::Exempt(Exemption::Address(why)) => RehearsalOutcome::Exempt(why),
                Decision::Exempt(Exemption::Detect) => RehearsalOutcome::Detected,
                Decision::Banned(ban, _) => {
                    RehearsalOutcome::Ban { time: ban.time, bans: ban.bans, scope: &policy.scope }
                }
                Decision::InForce | Decision::Refused(_) => RehearsalOutcome::Already,
            };
            let (addr, reason) = (Range::from(offence.source), offence.reason());
            let Offence { rule, hits, .. } = *offence;
            each(RehearsalEvent::Finding(RehearsalFinding { rule, addr, hits, reason, outcome }));
        };
        decider.commit(now, today, &mut counter.offences, enforcer, (hears, &mut |_| ()));
    }
}
