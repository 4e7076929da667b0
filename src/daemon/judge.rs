#![forbid(unsafe_code)]
//! What the daemon decides: lines become hits, hits become bans, and bans that would lock out the owner
//! become a line in the log.

mod keep;
mod kernel;
mod report;

pub(super) use keep::{restore, tell_restored};
pub(super) use report::Tally;

use super::events::{Events, Told};
use super::punish::Punisher;
use super::setup::Policy;
use super::trust;
use crate::base::clock::{Mono, Now, Wall};
use crate::base::net::offender;
use crate::base::range::Range;
use crate::config::Settings;
use crate::detect::tracker::{Limits, Tracker};
use crate::detect::webscan::{Excess, Webscan};
use crate::detect::{Detector, Hit, Rule, chosen, header};
use crate::enforce::{Enforcer, all_options};
use crate::firewall::events::Harm;
use crate::firewall::guard::{Allowed, Ban, Failure, Guard};
use crate::input::{Item, Written};
use crate::sys::host::Protected;
use crate::sys::{clock, random};
use ipnet::IpNet;
use std::fmt::Display;

/// Bans that wait for their transaction at most: what one line more would add makes the transaction due.
const WAITING: usize = 256;
/// Seconds between two lines about the same address that must not be banned.
const DAY: u64 = 86_400;
/// Such addresses remembered at most; beyond that, the one told first may be told again.
const SPARED: usize = 64;

/// What is told once, and again only after it went well in between.
#[derive(Clone, Copy)]
pub(super) enum Once {
    Journal,
    Positions,
    Kill,
    Compaction,
}

/// A ban that waits for its transaction.
struct Waiting {
    who: IpNet,
    rule: u16,
    hits: u32,
    /// A wider network, for what its parts did.
    wide: bool,
    /// What was asked too much of a web server.
    excess: Option<Box<Excess>>,
}

impl Waiting {
    /// Why, for people; perhaps empty.
    fn reason(&self) -> &str {
        match &self.excess {
            Some(excess) => &excess.reason,
            None if self.wide => "four of its parts were banned",
            None => "",
        }
    }
}

/// Rules, counts and the way to the kernel.
pub(super) struct Judge {
    detector: Detector,
    policies: Vec<Policy>,
    tracker: Tracker,
    webscan: Webscan,
    punisher: Punisher,
    enforcer: Enforcer,
    waiting: Vec<Waiting>,
    allowed: Allowed,
    proxies: Vec<Range>,
    protected: Protected,
    ipv6_prefix: u8,
    /// Seconds east of UTC, for stamps without a zone.
    local: i32,
    events: Events,
    /// Who was spared, the first one first, and until when nothing more is said of it.
    spared: Vec<(IpNet, Mono)>,
    told: [bool; 4],
    bans: u64,
    /// How often reports of the kernel were lost.
    pub(super) alarms_lost: u64,
    newcomers: u64,
    pub(super) news_lost: u64,
    /// How often the table had to be repaired.
    reasserted: u64,
}

impl Judge {
    pub(super) fn new(
        rules: Vec<Rule>,
        policies: Vec<Policy>,
        settings: &Settings,
        (enforcer, punisher): (Enforcer, Punisher),
        allowed: Allowed,
    ) -> Judge {
        let limits: Vec<Limits> = policies.iter().map(|p| p.limits).collect();
        let slots = usize::try_from(settings.track_max).unwrap_or(4096);
        let mut this = Judge {
            webscan: Webscan::new(&rules, random::key()),
            detector: Detector::new(rules),
            tracker: Tracker::new(slots, &limits, random::key()),
            policies,
            punisher,
            enforcer,
            waiting: Vec::with_capacity(WAITING),
            allowed,
            proxies: proxies(settings),
            protected: Protected::read(),
            ipv6_prefix: u8::try_from(settings.ipv6_prefix).unwrap_or(64),
            local: clock::local_offset(clock::wall()),
            events: Events::default(),
            spared: Vec::new(),
            told: [false; 4],
            bans: 0,
            alarms_lost: 0,
            newcomers: 0,
            news_lost: 0,
            reasserted: 0,
        };
        this.spare_in_kernel();
        this
    }

    /// The table.
    pub(super) fn guard(&mut self) -> &mut Guard {
        self.enforcer.guard()
    }

    pub(super) fn ipv6_prefix(&self) -> u8 {
        self.ipv6_prefix
    }

    /// Gives back memory that is not needed while nothing happens.
    pub(super) fn cool(&mut self) {
        self.enforcer.guard().cool();
    }

    /// Takes another allow list.
    pub(super) fn set_allowed(&mut self, mut allowed: Allowed) {
        // A table that is gone is made anew by the next ban, with this list.
        if let Err(e) = self.enforcer.guard().set_allowed(&mut allowed) {
            log::error!("allow list: {e}");
        }
        self.allowed = allowed;
    }

    pub(super) fn rules(&self) -> usize {
        self.detector.rules().len()
    }

    /// Who hears of what happens.
    pub(super) fn events(&mut self) -> &mut Events {
        &mut self.events
    }

    /// Takes new rules and settings; the counts of rules that stay are kept.
    pub(super) fn reconfigure(
        &mut self,
        now: Now,
        rules: Vec<Rule>,
        policies: Vec<Policy>,
        settings: &Settings,
        mut allowed: Allowed,
    ) -> Result<(), Failure> {
        self.commit(now);
        let guard = self.enforcer.guard();
        let former = guard.set_options(all_options(settings));
        if let Err(e) = guard.rebuild().and_then(|_| guard.set_allowed(&mut allowed)) {
            guard.set_options(former);
            if let Err(e) = guard.rebuild() {
                log::error!("the former table: {e}");
            }
            return Err(e);
        }
        self.enforcer.set_kill(settings.kill_connections);
        self.enforcer.set_prompt(settings.state_sync.is_some());
        if self.punisher.reconfigure(settings, &policies) {
            let Judge { enforcer, punisher, .. } = self;
            if let Err(e) =
                enforcer.past(now.wall, punisher.memory(), &mut |entry| punisher.recall(now, entry))
            {
                log::warn!("{e}");
            }
        }
        let limits: Vec<Limits> = policies.iter().map(|p| p.limits).collect();
        let old = &self.policies;
        self.tracker.remap(now.mono, &limits, &|rule| {
            let name = &old.get(usize::from(rule))?.name;
            policies.iter().position(|p| p.name == *name).and_then(|at| u16::try_from(at).ok())
        });
        for policy in &policies {
            if let Some(old) = self.policies.iter().find(|old| old.name == policy.name) {
                policy.tally.take_over(&old.tally);
            }
        }
        let counts = *self.detector.counts();
        let old = std::mem::replace(&mut self.webscan, Webscan::new(&rules, random::key()));
        self.webscan.take_over(old);
        self.detector = Detector::new(rules);
        self.detector.count_on(counts);
        self.policies = policies;
        self.allowed = allowed;
        self.proxies = proxies(settings);
        self.protected = Protected::read();
        let ipv6_prefix = u8::try_from(settings.ipv6_prefix).unwrap_or(64);
        if self.enforcer.guard().take_fresh() || self.ipv6_prefix != ipv6_prefix {
            // IPv6 bans of the former length were keys that nothing looks up any more; now they are networks.
            restore(&mut self.enforcer, now.wall);
        }
        self.ipv6_prefix = ipv6_prefix;
        self.local = clock::local_offset(now.wall);
        self.spare_in_kernel();
        Ok(())
    }

    /// Looks through whole lines for the rules whose bits are set; bans are made by `commit`, or here when
    /// too many wait. Of a record, only rules that trust its sender hear.
    pub(super) fn take(&mut self, now: Now, wanted: u64, item: Item<'_>) {
        let Judge {
            detector, tracker, webscan, policies, punisher, waiting, ipv6_prefix, local, events, ..
        } = self;
        let mut overflow = Vec::new();
        for (_, policy) in (0..u64::BITS).zip(&*policies).filter(|(bit, _)| wanted >> bit & 1 == 1) {
            policy.tally.read.set(Some(now.mono));
        }
        let mut hit = |hit: Hit, text: &[u8], age: Option<u64>| {
            let Some(policy) = policies.get(usize::from(hit.rule)) else { return };
            let who = offender(hit.addr, *ipv6_prefix);
            // Requests are no offence as such.
            if hit.request.is_none() {
                policy.tally.hit(now.mono);
            }
            // What was written before a ban that is in force was counted for it: we were killed before we had written down
            // that we had read it.
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
                    let (name, who) = (&policy.name, Range::from(who));
                    log::info!("rule {name} detected {who} ({}; action=detect)", excess.reason);
                }
            }
            if events.watched() {
                let user = hit.user.and_then(|user| text.get(user));
                events.hit(now.wall, who, &policy.name, hit.weight, user);
            }
            let hits = match &excess {
                Some(excess) => (!excess.detect).then_some(excess.requests),
                None => tracker.hit(at, hit.rule, who, hit.weight),
            };
            if let Some(hits) = hits {
                let ban = Waiting { who, rule: hit.rule, hits, wide: false, excess };
                if waiting.len() < WAITING { waiting.push(ban) } else { overflow.push(ban) }
            }
        };
        match item {
            // Live lines are timed by our own clock; stamps are for what was written while we were away.
            Item::Block { lines, live } => detector.block(wanted, lines, &mut |_, line, found| {
                let age = (!live).then(|| age(now, line, *local, &found));
                hit(found, line, age);
            }),
            Item::Record(record) => {
                let any = |rule: u16| policies.get(usize::from(rule)).is_some_and(|p| p.trust_any);
                let wanted = trust::believed(detector.rules(), wanted, &record, &any);
                let age = match record.written {
                    Written::Live => None,
                    Written::At(then) => Some(now.wall.0.saturating_sub(then.0)),
                };
                detector.record(wanted, record.program, record.pid, record.message, &mut |found| {
                    hit(found, record.message, age);
                });
            }
        }
        while !overflow.is_empty() {
            self.commit(now);
            let rest = overflow.split_off(overflow.len().min(WAITING));
            self.waiting.append(&mut overflow);
            overflow = rest;
        }
    }

    /// Bans who is due, in one transaction, and then the wider networks that follow from it. Returns whether somebody was.
    pub(super) fn commit(&mut self, now: Now) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        while !waiting.is_empty() {
            waiting.retain(|w| !self.spare(w));
            let wider = self.enforce(now, &waiting);
            waiting.clear();
            waiting.extend(wider);
        }
        self.waiting = waiting;
        true
    }

    /// Bans each; returns which wider networks are to be banned now.
    fn enforce(&mut self, now: Now, waiting: &[Waiting]) -> Vec<Waiting> {
        let Judge { enforcer, punisher, policies, events, bans: made, .. } = self;
        punisher.clear();
        let mut verdicts = Vec::with_capacity(waiting.len());
        for w in waiting {
            let Some(policy) = policies.get(usize::from(w.rule)) else { continue };
            let bantime = w.excess.as_ref().and_then(|excess| excess.bantime);
            verdicts.push((w, policy, punisher.judge(now.mono, w.who, policy, w.wide, bantime)));
        }
        let mut bans = Vec::with_capacity(verdicts.len());
        for (w, policy, verdict) in &verdicts {
            let (who, time) = (Range::from(w.who), verdict.sentence.time);
            let (scope, rule, hits) = (&policy.scope, &*policy.name, w.hits);
            let reason = w.reason();
            let (bans_so_far, starts) = (verdict.sentence.bans, punisher.starts(verdict));
            bans.push(Ban { who, scope, time, rule, hits, reason, bans: bans_so_far, starts });
        }
        let mut acknowledged = vec![false; bans.len()];
        let mut note = None;
        enforcer.ban(
            now.wall,
            &bans,
            &mut |at, result| {
                let Some(ban) = bans.get(at) else { return };
                match result {
                    Ok(()) => {
                        *made += 1;
                        if let Some((_, policy, _)) = verdicts.get(at) {
                            policy.tally.ban(&ban.who, ban.reason);
                        }
                        events.banned(now.wall, &Told::of(ban));
                        if let Some(flag) = acknowledged.get_mut(at) {
                            *flag = true;
                        }
                    }
                    Err(e) => log::error!("{} is not banned: {e}", ban.who),
                }
            },
            &mut |e| note = Some(e.to_string()),
        );
        drop(bans);
        let mut wider: Vec<Waiting> = Vec::new();
        for ((w, policy, verdict), _) in verdicts.iter().zip(acknowledged).filter(|(_, made)| *made) {
            if let Some(who) = punisher.made(now.mono, w.who, policy, &verdict.sentence)
                && wider.iter().all(|w| w.who != who)
            {
                wider.push(Waiting { who, rule: w.rule, hits: w.hits, wide: true, excess: None });
            }
        }
        self.refill(now.wall);
        self.once(Once::Kill, note.as_ref().map(|n| n as &dyn Display));
        wider
    }

    /// Puts back the allow list and all bans if the table had to be made anew.
    fn refill(&mut self, now: Wall) {
        if self.enforcer.guard().take_fresh() {
            log::warn!("the guard table was gone: it is made anew");
            self.reasserted += 1;
            self.fill(now);
        }
    }

    /// Fills the sets: the allow list first, then all bans.
    fn fill(&mut self, now: Wall) {
        if let Err(e) = self.enforcer.guard().set_allowed(&mut self.allowed) {
            log::error!("allow list: {e}");
        }
        self.spare_in_kernel();
        restore(&mut self.enforcer, now);
    }

    /// Repairs the table after somebody else did harm to it. `Some(false)`: there was nothing to repair; `None`: it
    /// could not be done.
    pub(super) fn mend(&mut self, now: Wall, harm: Harm) -> Option<bool> {
        let guard = self.enforcer.guard();
        let what = match harm {
            Harm::None => return Some(false),
            Harm::Unknown if guard.whole().unwrap_or(false) => return Some(false),
            Harm::Rules => "chains or rules of the guard table were deleted: they are written anew",
            Harm::Sets => "sets of the guard table were deleted: they are made anew",
            Harm::Table | Harm::Unknown => "the guard table was gone: it is made anew",
        };
        guard.forget();
        if let Err(e) = guard.rebuild() {
            log::error!("{e}: the guard table is not in force");
            return None;
        }
        log::warn!("{what}");
        self.reasserted += 1;
        if self.enforcer.guard().take_fresh() || harm != Harm::Rules {
            self.fill(now);
        }
        Some(true)
    }

    /// Whether somebody must not be banned; told once a day.
    fn spare(&mut self, w: &Waiting) -> bool {
        let who = Range::from(w.who);
        let Some(policy) = self.policies.get(usize::from(w.rule)) else { return true };
        let why = if self.allowed.meets(&who, clock::wall()) {
            "on the allow list"
        } else if self.proxies.iter().any(|p| p.meets(&who)) {
            "a trusted proxy, which speaks for others"
        } else if let Some(why) = self.protected.why(&who) {
            why
        } else if policy.detect {
            let (hits, reason) = (w.hits, w.reason());
            let comma = if reason.is_empty() { "" } else { ", " };
            log::info!("rule {} detected {who} ({hits} hits{comma}{reason}; action=detect)", policy.name);
            return true;
        } else {
            return false;
        };
        let now = clock::mono();
        self.spared.retain(|&(_, until)| until > now);
        if self.spared.iter().all(|&(told, _)| told != w.who) {
            log::warn!("rule {}: {who} is not banned after {} hits: it is {why}", policy.name, w.hits);
            if self.spared.len() == SPARED {
                self.spared.remove(0);
            }
            self.spared.push((w.who, now.after(DAY * 1000)));
        }
        true
    }

    /// Tells a problem when it begins, and when it is over.
    pub(super) fn once(&mut self, what: Once, problem: Option<&dyn Display>) {
        let Some(told) = self.told.get_mut(what as usize) else { return };
        match problem {
            Some(e) if !*told => log::warn!("{e}"),
            None if *told && !matches!(what, Once::Kill) => log::info!("state_dir can be written again"),
            _ => {}
        }
        *told = problem.is_some();
    }

    /// Tells which rules have nothing to read.
    pub(super) fn lack(&self, rules: u64) {
        let names: Vec<&str> = chosen(self.detector.rules(), rules).map(|(_, rule)| &*rule.name).collect();
        if !names.is_empty() {
            log::warn!("no log file and no logread for {}; waiting", names.join(", "));
        }
    }

    /// Lines and records so far.
    pub(super) fn seen(&self) -> u64 {
        self.detector.counts().lines
    }

    /// Forgets what was counted of an address, or of all that is in a range: hits and former bans. For who was unbanned by hand.
    pub(super) fn forget(&mut self, who: &Range) {
        for net in who.nets() {
            self.tracker.forget(net);
            self.webscan.forget(net);
            self.punisher.forget(net);
        }
    }

    /// Removes all bans.
    pub(super) fn clear(&mut self, now: Wall) {
        if let Err(e) = self.enforcer.unban_all(now, true, &mut super::warn) {
            log::error!("{e}");
        }
    }
}

fn proxies(settings: &Settings) -> Vec<Range> {
    settings.trusted_proxies.iter().map(|&net| Range::from(net)).collect()
}

/// Seconds since a line was written that nobody read then. Without a stamp it was some time between the two runs: now is
/// the safe side. Not so for requests: all of a night at once would be too much of anybody.
fn age(now: Now, line: &[u8], local: i32, hit: &Hit) -> u64 {
    let (stamp, unknown) = match &hit.request {
        Some(request) => (request.stamp, u64::MAX),
        None => (header::parse(line).and_then(|h| h.stamp), 0),
    };
    stamp.map_or(unknown, |stamp| stamp.age(now.wall, local))
}
