#![forbid(unsafe_code)]
//! What becomes of a hit: counted, too old, one too many; and of whom it accuses: exempt, or banned for how
//! long. Does no I/O, reads no clock and tells nobody: `mef test` decides by the same code as the daemon.

use super::policy::Policy;
use super::punish::{Punisher, Verdict};
use super::trust;
use crate::ban::{Allowed, Ban};
use crate::base::clock::{Mono, Now, Wall};
use crate::base::net::{canonical, offender};
use crate::base::range::Range;
use crate::config::Settings;
use crate::detect::tracker::{Attempt, Limits, Tracker};
use crate::detect::webscan::{Excess, Webscan};
use crate::detect::wide::Wide;
use crate::detect::{self, Hit, Rule, header};
use crate::input::{Record, Written};
use crate::sys::host::Protected;
use ipnet::IpNet;
use std::net::IpAddr;

/// Bans that wait for their transaction at most: what one line more would add makes the transaction due.
pub(super) const WAITING: usize = 256;

/// Why a wider network is banned.
const PARTS: &str = "four of its parts were banned";
const SPREAD: &str = "hits of many of its prefixes";
/// One place for wider networks beside so many for offenders.
const WIDE_PART: usize = 4;

/// A ban that waits for its transaction.
pub(super) struct Waiting {
    pub(super) who: IpNet,
    pub(super) rule: u16,
    pub(super) hits: u32,
    /// Of a wider network, for what its parts did: why, for people.
    pub(super) wide: Option<&'static str>,
    /// What was asked too much of a web server.
    pub(super) excess: Option<Box<Excess>>,
}

impl Waiting {
    /// Why, for people; perhaps empty.
    pub(super) fn reason(&self) -> &str {
        match &self.excess {
            Some(excess) => &excess.reason,
            None => self.wide.unwrap_or(""),
        }
    }
}

/// Why a ban is not made.
pub(super) enum Exempt {
    /// The address must not be banned; what it is, for people.
    Address(&'static str),
    /// The rule only tells (action=detect).
    Detect,
}

/// Who hears of hits while they are counted.
pub(super) trait Listener {
    /// Whether single hits are of interest.
    fn watched(&self) -> bool;
    /// A hit; `user` is text of the attacker.
    fn hit(&mut self, now: Wall, who: IpNet, rule: &str, weight: u8, user: Option<&[u8]>);
    /// Somebody has gone over a threshold that has action=detect.
    fn detected(&mut self, rule: &str, who: IpNet, excess: &Excess);
}

/// Counts and policies.
pub(super) struct Decider {
    pub(super) policies: Vec<Policy>,
    pub(super) tracker: Tracker,
    pub(super) wide: Wide,
    pub(super) webscan: Webscan,
    pub(super) punisher: Punisher,
    pub(super) waiting: Vec<Waiting>,
    /// Those for which there was no room among `waiting`.
    pub(super) overflow: Vec<Waiting>,
    pub(super) allowed: Allowed,
    pub(super) proxies: Vec<Range>,
    pub(super) protected: Protected,
    pub(super) ipv6_prefix: u8,
    /// Every local user is trusted with what stands in logs.
    pub(super) syslog_trusted: bool,
    /// Seconds east of UTC, for stamps without a zone.
    pub(super) local: i32,
}

impl Decider {
    /// For these rules; `slots` is how many offenders are tracked. `key` must be secret and random where
    /// lines come from attackers.
    pub(super) fn new(
        rules: &[Rule],
        policies: Vec<Policy>,
        settings: &Settings,
        (punisher, allowed): (Punisher, Allowed),
        (slots, local, key): (usize, i32, [u64; 2]),
    ) -> Decider {
        let limits: Vec<Limits> = policies.iter().map(|p| p.limits).collect();
        Decider {
            webscan: Webscan::new(rules, key),
            tracker: Tracker::new(slots, &limits, key),
            wide: Wide::new(slots / WIDE_PART, &limits, key),
            policies,
            punisher,
            waiting: Vec::with_capacity(WAITING),
            overflow: Vec::new(),
            allowed,
            proxies: proxies(settings),
            protected: Protected::read(),
            ipv6_prefix: u8::try_from(settings.ipv6_prefix).unwrap_or(64),
            syslog_trusted: settings.syslog_trusted,
            local,
        }
    }

    /// Who is counted and banned for `addr`. In an IPv6 prefix that somebody is in who must not be banned
    /// it is the address alone: neighbours of this host and of its gateway are not safe for that.
    pub(super) fn offender(&self, addr: IpAddr) -> IpNet {
        let who = offender(addr, self.ipv6_prefix);
        let whole = Range::from(who);
        let shared = who.addr().is_ipv6()
            && (self.protected.inside(&whole) || self.proxies.iter().any(|proxy| whole.covers(proxy)));
        if shared { IpNet::from(canonical(addr)) } else { who }
    }

    /// The same, but who is allowed counts alone: the others of the prefix are to answer for themselves only.
    fn accused(&self, addr: IpAddr, now: Wall) -> IpNet {
        let (who, alone) = (self.offender(addr), IpNet::from(canonical(addr)));
        let allowed = who != alone && self.allowed.meets(&Range::from(alone), now);
        if allowed && !self.allowed.covers(&Range::from(who), now) { alone } else { who }
    }

    /// Takes in whose word the line of a hit is: with `attested`, only the service could have written it.
    pub(super) fn weigh(&self, now: Mono, hit: &Hit, line: &[u8], attested: bool) {
        let Some(policy) = self.policies.get(usize::from(hit.rule)) else { return };
        let hearsay = !attested || policy.of_syslog || header::is_relayed(line);
        if hearsay && !self.syslog_trusted {
            policy.hearsay.set(Some(now));
        }
    }

    /// Takes a hit in. `age` is how many seconds ago it was written, if that was while nobody read.
    pub(super) fn hit(
        &mut self,
        now: Now,
        hit: &Hit,
        text: &[u8],
        age: Option<u64>,
        listener: &mut dyn Listener,
    ) {
        let who = self.accused(hit.addr, now.wall);
        // A neighbour who counts alone is in a network that is not to be banned.
        let mut spreads = who.addr().is_ipv6()
            && (who.prefix_len() == self.ipv6_prefix || who == offender(hit.addr, self.ipv6_prefix));
        let Decider { tracker, wide, webscan, policies, punisher, waiting, overflow, .. } = self;
        let Some(policy) = policies.get(usize::from(hit.rule)) else { return };
        if hit.success {
            if let Some(name) = hit.name(text) {
                tracker.success(hit.rule, who, name);
            }
            return;
        }
        // Requests are no offence as such.
        if hit.request.is_none() {
            policy.tally.hit(now.mono);
        }
        // What was written before a ban that is in force was counted for it: we were killed before we had
        // written down that we had read it.
        let spent =
            |age| age >= u64::from(policy.limits.findtime) || punisher.spent(now.mono, who, policy, age);
        if age.is_some_and(spent) {
            return;
        }
        let at = Mono(now.mono.0.saturating_sub(age.unwrap_or(0).saturating_mul(1000)));
        let mut excess = None;
        if let Some(request) = &hit.request {
            excess = webscan.request(at, hit.rule, who, text, request).map(Box::new);
            let Some(excess) = &excess else { return };
            // What is read at once may hold a whole scan, which is one offence.
            let same = |w: &Waiting| (w.who, w.rule) == (who, hit.rule);
            if !excess.detect && (waiting.iter().any(same) || spent(0)) {
                return;
            }
            policy.tally.hit(now.mono);
            if excess.detect {
                listener.detected(&policy.name, who, excess);
            }
        }
        if listener.watched() {
            let user = hit.user.clone().and_then(|user| text.get(user));
            listener.hit(now.wall, who, &policy.name, hit.weight, user);
        }
        let hits = match &excess {
            Some(excess) => (!excess.detect).then_some(excess.requests),
            None => {
                // One line is never more than enough: it may tell of many that were folded.
                let enough = u8::try_from(policy.limits.maxretry.max(1)).unwrap_or(u8::MAX);
                let (weight, way) = (hit.weight.min(enough), hit.way);
                let before = if spreads { tracker.count(at, hit.rule, who) } else { 0 };
                let hits = tracker.attempt(at, hit.rule, who, &Attempt { weight, name: hit.name(text), way });
                // What is spared there is spared here.
                spreads = spreads && (hits.is_some() || tracker.count(at, hit.rule, who) > before);
                hits
            }
        };
        let mut bans = [None, None];
        // One prefix does not make a spread: what is still read of whom is banned already counts for nothing.
        let waits = |net: IpNet| waiting.iter().any(|w| (w.who, w.rule) == (net, hit.rule));
        if spreads
            && excess.is_none()
            && !waits(who)
            && !punisher.in_force(now.mono, who, policy)
            && let Some((net, hits)) = wide.hit(at, hit.rule, who, hit.weight)
            && !waits(net)
            && !punisher.in_force(now.mono, net, policy)
        {
            bans[1] = Some(Waiting { who: net, rule: hit.rule, hits, wide: Some(SPREAD), excess: None });
        }
        bans[0] = hits.map(|hits| Waiting { who, rule: hit.rule, hits, wide: None, excess });
        for ban in bans.into_iter().flatten() {
            if waiting.len() < WAITING { waiting.push(ban) } else { overflow.push(ban) }
        }
    }

    /// Those of the `wanted` rules that may judge a record: the ones that trust its sender.
    pub(super) fn believed(&self, rules: &[Rule], wanted: u64, record: &Record<'_>) -> u64 {
        let any = |rule: u16| self.policies.get(usize::from(rule)).is_some_and(|p| p.trust_any);
        trust::believed(rules, wanted, record, &any)
    }

    /// Why somebody is not banned whom a rule accuses; `None` if it is.
    pub(super) fn exempt(&self, now: Wall, w: &Waiting) -> Option<Exempt> {
        let who = Range::from(w.who);
        let policy = self.policies.get(usize::from(w.rule))?;
        // An allowed neighbour passes in spite of a ban of the prefix. Of wider networks nobody has done
        // anything as a whole.
        let allowed = match w.wide {
            Some(_) => self.allowed.meets(&who, now),
            None => self.allowed.covers(&who, now),
        };
        if allowed {
            Some(Exempt::Address("on the allow list"))
        } else if self.proxies.iter().any(|p| p.meets(&who)) {
            Some(Exempt::Address("a trusted proxy, which speaks for others"))
        } else if let Some(why) = self.protected.why(&who) {
            Some(Exempt::Address(why))
        } else if policy.detect {
            Some(Exempt::Detect)
        } else {
            None
        }
    }
}

/// What each of those gets who are to be banned now.
pub(super) fn verdicts<'d>(
    (punisher, policies): (&mut Punisher, &'d [Policy]),
    now: Mono,
    waiting: &'d [Waiting],
) -> Vec<Decided<'d>> {
    punisher.clear();
    let mut decided = Vec::with_capacity(waiting.len());
    for w in waiting {
        let Some(policy) = policies.get(usize::from(w.rule)) else { continue };
        let bantime = w.excess.as_ref().and_then(|excess| excess.bantime);
        decided.push((w, policy, punisher.judge(now, w.who, policy, w.wide.is_some(), bantime)));
    }
    decided
}

/// A ban, by which policy, and what it is to be.
pub(super) type Decided<'d> = (&'d Waiting, &'d Policy, Verdict);

/// The ban of a decision, as the kernel and the journal are to have it.
pub(super) fn ban<'d>(punisher: &'d Punisher, (w, policy, verdict): &'d Decided<'_>) -> Ban<'d> {
    Ban {
        who: Range::from(w.who),
        scope: &policy.scope,
        time: verdict.sentence.time,
        age: 0,
        rule: &policy.name,
        hits: w.hits,
        reason: w.reason(),
        bans: verdict.sentence.bans,
        starts: punisher.starts(verdict),
    }
}

/// The network that is to be banned besides when a ban was made, for what its parts did.
pub(super) fn wider(punisher: &mut Punisher, now: Mono, decided: &Decided<'_>) -> Option<Waiting> {
    let (w, policy, verdict) = decided;
    let who = punisher.made(now, w.who, policy, &verdict.sentence)?;
    Some(Waiting { who, rule: w.rule, hits: w.hits, wide: Some(PARTS), excess: None })
}

pub(super) fn proxies(settings: &Settings) -> Vec<Range> {
    settings.trusted_proxies.iter().map(|&net| Range::from(net)).collect()
}

/// Seconds since a line was written that nobody read then. Without a stamp it was some time between the two
/// runs: now is the safe side. Not so for requests: all of a night at once would be too much of anybody.
pub(super) fn age(now: Now, line: &[u8], local: i32, hit: &Hit) -> u64 {
    let unknown = if hit.request.is_some() { u64::MAX } else { 0 };
    stamp(line, hit).map_or(unknown, |stamp| stamp.age(now.wall, local))
}

/// When a line was written, by its own account.
pub(super) fn stamp(line: &[u8], hit: &Hit) -> Option<header::Stamp> {
    match &hit.request {
        Some(request) => request.stamp,
        None => detect::stamp::of(line),
    }
}

/// Likewise of a record.
pub(super) fn record_age(now: Now, record: &Record<'_>) -> Option<u64> {
    match record.written {
        Written::Live => None,
        Written::At(then) => Some(now.wall.0.saturating_sub(then.0)),
    }
}
