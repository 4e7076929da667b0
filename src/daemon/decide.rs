#![forbid(unsafe_code)]
//! What becomes of an offence: whom it accuses is exempt, or banned for how long, and that is put in force.
//! Reads no clock and tells nobody but who asked: `mef test` decides by the same code as the daemon.

use super::policy::ServicePolicy;
use super::punish::{BanPolicy, RecordedDecision};
use super::trust;
use crate::ban::{Allowed, Ban, BanOutcome, Damage, Failure, Repeat, is_bogon};
use crate::base::clock::{LineTime, Mono, Now, Wall};
use crate::base::net::{canonical, offender};
use crate::base::range::Range;
use crate::base::rule_bits::RuleBits;
use crate::config::Settings;
use crate::detect::observe::{KnownSources, Offence, Origin};
use crate::detect::{self, DetectRule, Hit, header, wide};
use crate::enforce::{Enforcer, WarnFn};
use crate::firewall::backend::Backend;
use crate::input::{LogRecord, Written};
use crate::sys::host::Protected;
use ipnet::IpNet;
use std::net::IpAddr;

/// Why a wider network is banned.
const PARTS: &str = "four of its parts were banned";

/// Why a ban is not made.
pub(super) enum Exemption {
    /// The address must not be banned; what it is, for people.
    Address(&'static str),
    /// The rule only tells (action=detect).
    Detect,
}

/// What becomes of an offence.
pub(super) enum Decision<'d> {
    /// Nothing.
    Exempt(Exemption),
    /// A ban that is made now, or is in force for longer; and whether nobody could have forged what it is
    /// for.
    Banned(&'d Ban<'d>, bool),
    /// Nothing: a ban was in force already.
    InForce,
    /// A ban that could not be made.
    Refused(&'d Failure),
}

/// Hears what becomes of each.
pub(super) type Hears<'h> = &'h mut dyn FnMut(&Offence, &ServicePolicy, Decision<'_>);

/// Policies, and who is exempt from them.
pub(super) struct Decider {
    pub(super) policies: Vec<ServicePolicy>,
    pub(super) ban_policy: BanPolicy,
    pub(super) allowed: Allowed,
    proxies: Vec<Range>,
    protected: Protected,
    ipv6_prefix: u8,
    /// Every local user is trusted with what stands in logs.
    syslog_trusted: bool,
    /// Seconds east of UTC, for stamps without a zone.
    local: i32,
}

/// What it knows of sources at a moment.
pub(super) struct Knowledge<'k> {
    pub(super) decider: &'k Decider,
    pub(super) now: Now,
}

impl KnownSources for Knowledge<'_> {
    fn source(&self, addr: IpAddr, _: u16) -> IpNet {
        self.decider.accused(addr, self.now.wall)
    }

    fn is_spent(&self, source: IpNet, rule: u16, age: u64) -> bool {
        let Decider { ban_policy, policies, .. } = self.decider;
        policies.get(usize::from(rule)).is_some_and(|p| ban_policy.spent(self.now.mono, source, p, age))
    }

    fn is_banned(&self, source: IpNet, rule: u16) -> bool {
        let Decider { ban_policy, policies, .. } = self.decider;
        policies.get(usize::from(rule)).is_some_and(|p| ban_policy.in_force(self.now.mono, source, p))
    }

    fn weigh(&self, hit: &Hit, line: &[u8], origin: Origin) {
        self.decider.weigh(self.now.mono, hit, line, origin);
    }

    fn age(&self, hit: &Hit, line: &[u8], origin: Origin) -> u64 {
        let longest = match origin.time {
            LineTime::Now => 0,
            LineTime::Since(then) => self.now.wall.0.saturating_sub(then.0),
            LineTime::Stamped => u64::MAX,
        };
        age(self.now, line, self.decider.local, hit).min(longest)
    }
}

impl Decider {
    pub(super) fn new(
        policies: Vec<ServicePolicy>,
        settings: &Settings,
        ban_policy: BanPolicy,
        allowed: Allowed,
        local: i32,
    ) -> Decider {
        Decider {
            policies,
            ban_policy,
            allowed,
            proxies: proxies(settings),
            protected: Protected::read(),
            ipv6_prefix: ipv6_prefix(settings),
            syslog_trusted: settings.syslog_trusted,
            local,
        }
    }

    /// Takes other settings; whether IPv6 prefixes have another length now.
    pub(super) fn reconfigure(
        &mut self,
        policies: Vec<ServicePolicy>,
        settings: &Settings,
        local: i32,
    ) -> bool {
        (self.policies, self.proxies) = (policies, proxies(settings));
        (self.syslog_trusted, self.local) = (settings.syslog_trusted, local);
        std::mem::replace(&mut self.ipv6_prefix, ipv6_prefix(settings)) != self.ipv6_prefix
    }

    /// Protects no address of this host: tests are to say the same on all.
    #[cfg(test)]
    pub(super) fn protect_nobody(&mut self) {
        self.protected = Protected::default();
    }

    /// Looks anew at who must never be banned.
    pub(super) fn protect(&mut self) {
        self.protected = self.protected.again();
    }

    /// Tells the kernel whom it must not ban by itself.
    ///
    /// # Errors
    /// What it refused.
    pub(super) fn exempt_in(&self, guard: &mut dyn Backend) -> Result<(), Failure> {
        guard.set_exempt(&self.protected.all(), &self.proxies)
    }

    /// Puts back in force what others have damaged; whether the bans were lost with it.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn repair(&self, damage: Damage, guard: &mut dyn Backend) -> Result<bool, Failure> {
        guard.repair(damage)?;
        Ok(guard.take_recreated() || damage > Damage::Rules)
    }

    /// Decides on offences, and on the wider networks that follow from them, and bans in one transaction
    /// each. `today` says who is allowed for a time.
    pub(super) fn commit(
        &mut self,
        now: Now,
        today: Wall,
        offences: &mut Vec<Offence>,
        enforcer: &mut Enforcer,
        (hears, note): (Hears<'_>, WarnFn<'_>),
    ) {
        while !offences.is_empty() {
            offences.retain(|offence| {
                let Some(policy) = self.policies.get(usize::from(offence.rule)) else { return false };
                let exempt = self.exempt(today, offence);
                let stays = exempt.is_none();
                exempt.into_iter().for_each(|why| hears(offence, policy, Decision::Exempt(why)));
                stays
            });
            let wider = self.enforce(now, offences, enforcer, (hears, note));
            offences.clear();
            offences.extend(wider);
        }
    }

    /// Bans each; returns which wider networks are to be banned now.
    fn enforce(
        &mut self,
        now: Now,
        offences: &[Offence],
        enforcer: &mut Enforcer,
        (hears, note): (Hears<'_>, WarnFn<'_>),
    ) -> Vec<Offence> {
        let Decider { ban_policy, policies, .. } = self;
        let verdicts = verdicts((ban_policy, policies), now.mono, offences);
        let bans: Vec<_> = verdicts.iter().map(|decided| ban(ban_policy, decided)).collect();
        let mut acknowledged = vec![false; bans.len()];
        let report = &mut |at: usize, result: Result<BanOutcome, &Failure>| {
            let Some((ban, (offence, policy, verdict))) = bans.get(at).zip(verdicts.get(at)) else { return };
            let decision = match result {
                // Lines that come in spite of a ban in force are no other offence.
                Ok(BanOutcome::InForce(_)) => Decision::InForce,
                Ok(_) => {
                    acknowledged.get_mut(at).into_iter().for_each(|flag| *flag = true);
                    Decision::Banned(ban, verdict.is_proven)
                }
                Err(e) => Decision::Refused(e),
            };
            hears(offence, policy, decision);
        };
        enforcer.ban(now.wall, &bans, Repeat::Keeps, report, note);
        drop(bans);
        let mut all: Vec<Offence> = Vec::new();
        for (decided, _) in verdicts.iter().zip(acknowledged).filter(|(_, made)| *made) {
            let new = wider(ban_policy, now.mono, decided);
            all.extend(new.filter(|new| all.iter().all(|other| other.source != new.source)));
        }
        all
    }

    /// Who counts as nobody's neighbour.
    pub(super) fn alone(addr: IpAddr) -> IpNet {
        IpNet::from(canonical(addr))
    }

    /// Who is counted and banned for `addr`. In an IPv6 prefix that somebody is in who must not be banned
    /// it is the address alone: neighbours of this host and of its gateway are not safe for that.
    pub(super) fn offender(&self, addr: IpAddr) -> IpNet {
        let offender = offender(addr, self.ipv6_prefix);
        let whole = Range::from(offender);
        let shared = offender.addr().is_ipv6()
            && (self.protected.inside(&whole) || self.proxies.iter().any(|proxy| whole.covers(proxy)));
        if shared { IpNet::from(canonical(addr)) } else { offender }
    }

    /// Whether strangers may be asked about an address: it is on the Internet, and none that is never banned.
    pub(super) fn may_be_looked_up(&self, addr: IpAddr, now: Wall) -> bool {
        let range = Range::from(canonical(addr));
        let trusted =
            self.allowed.covers(&range, now) || self.proxies.iter().any(|proxy| proxy.meets(&range));
        !is_bogon(canonical(addr)) && !trusted && self.protected.why(&range).is_none()
    }

    /// The same, but who is allowed counts alone: the others of the prefix are to answer for themselves only.
    fn accused(&self, addr: IpAddr, now: Wall) -> IpNet {
        let (offender, alone) = (self.offender(addr), IpNet::from(canonical(addr)));
        let allowed = offender != alone && self.allowed.meets(&Range::from(alone), now);
        if allowed && !self.allowed.covers(&Range::from(offender), now) { alone } else { offender }
    }

    /// Whether lines can accuse somebody like that: an address, its prefix, or a network for what its
    /// prefixes did.
    pub(super) fn may_be_accused(&self, w: &Offence) -> bool {
        let addr = w.source.addr();
        match w.wide {
            Some(_) => wide::is_counted(w.source),
            None => [Decider::alone(addr), offender(addr, self.ipv6_prefix)].contains(&w.source),
        }
    }

    /// Takes in whose word the line of a hit is.
    fn weigh(&self, now: Mono, hit: &Hit, line: &[u8], origin: Origin) {
        let Some(policy) = self.policies.get(usize::from(hit.rule)) else { return };
        let hearsay = !origin.attested || policy.of_syslog || header::is_relayed(line);
        if hearsay && !self.syslog_trusted {
            policy.hearsay.set(Some(now));
        }
    }

    /// Those of the `wanted` rules that may judge a record: the ones that trust its sender.
    pub(super) fn believed(
        &self,
        rules: &[DetectRule],
        wanted: RuleBits,
        record: &LogRecord<'_>,
    ) -> RuleBits {
        let any = |rule: u16| self.policies.get(usize::from(rule)).is_some_and(|p| p.trust_any);
        trust::believed(rules, wanted, record, &any)
    }

    /// Why somebody is not banned whom a rule accuses; `None` if it is.
    pub(super) fn exempt(&self, now: Wall, w: &Offence) -> Option<Exemption> {
        let addr = Range::from(w.source);
        let policy = self.policies.get(usize::from(w.rule))?;
        // An allowed neighbour passes in spite of a ban of the prefix. Of wider networks nobody has done
        // anything as a whole.
        let allowed = match w.wide {
            Some(_) => self.allowed.meets(&addr, now),
            None => self.allowed.covers(&addr, now),
        };
        if allowed {
            Some(Exemption::Address("on the allow list"))
        } else if self.proxies.iter().any(|p| p.meets(&addr)) {
            Some(Exemption::Address("a trusted reverse proxy"))
        } else if let Some(why) = self.protected.why(&addr) {
            Some(Exemption::Address(why))
        } else if policy.detect {
            Some(Exemption::Detect)
        } else {
            None
        }
    }
}

/// What each of those gets who are to be banned now.
fn verdicts<'d>(
    (ban_policy, policies): (&mut BanPolicy, &'d [ServicePolicy]),
    now: Mono,
    waiting: &'d [Offence],
) -> Vec<Decided<'d>> {
    ban_policy.clear();
    let mut decided = Vec::with_capacity(waiting.len());
    for w in waiting {
        let Some(policy) = policies.get(usize::from(w.rule)) else { continue };
        let bantime = w.excess.as_ref().and_then(|excess| excess.bantime);
        decided.push((w, policy, ban_policy.decide(now, w.source, policy, w.wide.is_some(), bantime)));
    }
    decided
}

/// A ban, by which policy, and what it is to be.
type Decided<'d> = (&'d Offence, &'d ServicePolicy, RecordedDecision);

/// The ban of a decision, as the kernel and the journal are to have it.
fn ban<'d>(ban_policy: &'d BanPolicy, (w, policy, verdict): &'d Decided<'_>) -> Ban<'d> {
    Ban {
        addr: Range::from(w.source),
        scope: &policy.scope,
        time: verdict.decision.time,
        age: 0,
        rule: &policy.name,
        hits: w.hits,
        reason: w.reason(),
        bans: verdict.decision.bans,
        starts: ban_policy.starts(verdict),
        line: &w.line,
    }
}

/// The network that is to be banned besides when a ban was made, for what its parts did.
fn wider(ban_policy: &mut BanPolicy, now: Mono, decided: &Decided<'_>) -> Option<Offence> {
    let (w, policy, verdict) = decided;
    let addr = ban_policy.made(now, w.source, policy, &verdict.decision)?;
    Some(Offence {
        source: addr,
        rule: w.rule,
        hits: w.hits,
        wide: Some(PARTS),
        excess: None,
        line: w.line.clone(),
    })
}

fn proxies(settings: &Settings) -> Vec<Range> {
    settings.trusted_proxies.iter().map(|&net| Range::from(net)).collect()
}

pub(super) fn ipv6_prefix(settings: &Settings) -> u8 {
    u8::try_from(settings.ipv6_prefix).unwrap_or(64)
}

/// Seconds since a line was written that nobody read then. Without a stamp it was some time between the two
/// runs: now is the safe side. Not so for requests: all of a night at once would be too much of anybody.
fn age(now: Now, line: &[u8], local: i32, hit: &Hit) -> u64 {
    let unknown = if hit.request.is_some() { u64::MAX } else { 0 };
    stamp(line, hit).map_or(unknown, |stamp| stamp.age(now.wall, local))
}

/// When a line was written, by its own account.
pub(super) fn stamp(line: &[u8], hit: &Hit) -> Option<header::HeaderStamp> {
    match &hit.request {
        Some(request) => request.stamp,
        None => hit.stamp.or_else(|| detect::stamp::of(line)),
    }
}

/// Likewise of a record.
pub(super) fn record_age(now: Now, record: &LogRecord<'_>) -> Option<u64> {
    match record.written {
        Written::Live => None,
        Written::At(then) => Some(now.wall.0.saturating_sub(then.0)),
    }
}
