#![forbid(unsafe_code)]
//! What the daemon does: lines become hits, hits become bans, and bans that would lock out the owner
//! become a line in the log. What is decided by the way is `decide`'s.

mod keep;
mod kernel;
mod report;

pub(super) use keep::{restore, tell_restored};

use super::decide::{self, Decider, Exempt, Listener, WAITING, Waiting};
use super::events::{Events, Told};
use super::policy::Policy;
use super::ports::Ports;
use super::punish::Punisher;
use crate::ban::{Allowed, Damage, Failure, Outcome, Repeat};
use crate::base::clock::{Mono, Now, Wall};
use crate::base::range::Range;
use crate::config::Settings;
use crate::detect::tracker::Limits;
use crate::detect::webscan::{Excess, Webscan};
use crate::detect::{Detector, Rule};
use crate::enforce::{Enforcer, all_options};
use crate::firewall::backend::Backend;
use crate::input::Item;
use crate::sys::{clock, random, syslog};
use ipnet::IpNet;
use std::fmt::Display;
use std::os::fd::BorrowedFd;

/// Seconds between two lines about the same address that must not be banned.
const DAY: u64 = 86_400;
/// Such addresses remembered at most; beyond that, the one told first may be told again.
const SPARED: usize = 64;

/// Milliseconds between two alarms of that kind.
const EVICTIONS_QUIET: u64 = 3_600_000;

/// What is told once, and again only after it went well in between.
#[derive(Clone, Copy)]
pub(super) enum Once {
    Journal,
    Sync,
    Positions,
    Kill,
    Compaction,
}

impl Listener for Events {
    fn watched(&self) -> bool {
        Events::watched(self)
    }

    fn hit(&mut self, now: Wall, who: IpNet, rule: &str, weight: u8, user: Option<&[u8]>) {
        Events::hit(self, now, who, rule, weight, user);
    }

    fn detected(&mut self, rule: &str, who: IpNet, excess: &Excess) {
        log::info!("rule {rule} detected {} ({}; action=detect)", Range::from(who), excess.reason);
    }
}

type Spared = Vec<(Range, Mono)>;

fn tell_spared(spared: &mut Spared, rule: &str, who: &Range, hits: u32, why: &str) {
    let now = clock::mono();
    spared.retain(|&(_, until)| until > now);
    if spared.iter().all(|(told, _)| told != who) {
        log::warn!("rule {rule}: {who} is not banned after {hits} hits: it is {why}");
        if spared.len() == SPARED {
            spared.remove(0);
        }
        spared.push((*who, now.after(DAY * 1000)));
    }
}

/// Rules, counts and the way to the kernel.
pub(super) struct Judge {
    detector: Detector,
    decider: Decider,
    enforcer: Enforcer,
    events: Events,
    /// Who was spared, the first one first, and until when nothing more is said of it.
    spared: Spared,
    told: [bool; 5],
    bans: u64,
    /// How often reports of the kernel were lost.
    pub(super) alarms_lost: u64,
    newcomers: u64,
    pub(super) news_lost: u64,
    /// How often the table had to be repaired.
    reasserted: u64,
    ports: Ports,
    /// Offenders whose eviction was told, and until when nothing more is.
    evictions: (u64, Mono),
}

impl Judge {
    pub(super) fn new(
        rules: Vec<Rule>,
        policies: Vec<Policy>,
        settings: &Settings,
        (enforcer, punisher): (Enforcer, Punisher),
        allowed: Allowed,
    ) -> Judge {
        let slots = usize::try_from(settings.track_max).unwrap_or(4096);
        let local = clock::local_offset(clock::wall());
        let mut this = Judge {
            decider: Decider::new(
                &rules,
                policies,
                settings,
                (punisher, allowed),
                (slots, local, random::key()),
            ),
            detector: Detector::new(rules),
            enforcer,
            events: Events::default(),
            spared: Vec::new(),
            told: [false; 5],
            bans: 0,
            alarms_lost: 0,
            newcomers: 0,
            news_lost: 0,
            reasserted: 0,
            ports: Ports::new(&settings.state_dir),
            evictions: (0, Mono(0)),
        };
        this.spare_in_kernel();
        this.ports_in_kernel(clock::now());
        this
    }

    /// The table.
    pub(super) fn guard(&mut self) -> &mut dyn Backend {
        self.enforcer.guard()
    }

    /// For polling: who sends through the socket that owns the table.
    pub(super) fn relay_fd(&self) -> Option<BorrowedFd<'_>> {
        self.enforcer.relay_fd()
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
        self.decider.allowed = allowed;
    }

    pub(super) fn rules(&self) -> usize {
        self.detector.rules().len()
    }

    /// When a program of on_ban or on_unban is to be looked after.
    pub(super) fn hooks_at(&self) -> Option<Mono> {
        self.events.hooks.deadline()
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
        let Judge { enforcer, decider, detector, .. } = self;
        if decider.punisher.reconfigure(settings, &policies) {
            let punisher = &mut decider.punisher;
            if let Err(e) =
                enforcer.past(now.wall, punisher.memory(), &mut |entry| punisher.recall(now, entry))
            {
                log::warn!("{e}");
            }
        }
        let limits: Vec<Limits> = policies.iter().map(|p| p.limits).collect();
        let old = &decider.policies;
        let map = |rule: u16| {
            let name = &old.get(usize::from(rule))?.name;
            policies.iter().position(|p| p.name == *name).and_then(|at| u16::try_from(at).ok())
        };
        decider.tracker.remap(now.mono, &limits, &map);
        decider.wide.remap(now.mono, &limits, &map);
        for policy in &policies {
            if let Some(old) = decider.policies.iter().find(|old| old.name == policy.name) {
                policy.tally.take_over(&old.tally);
            }
        }
        let counts = *detector.counts();
        let old = std::mem::replace(&mut decider.webscan, Webscan::new(&rules, random::key()));
        decider.webscan.take_over(old);
        *detector = Detector::new(rules);
        detector.count_on(counts);
        decider.policies = policies;
        decider.allowed = allowed;
        decider.proxies = decide::proxies(settings);
        decider.protected = decider.protected.again();
        let ipv6_prefix = u8::try_from(settings.ipv6_prefix).unwrap_or(64);
        if enforcer.guard().take_fresh() || decider.ipv6_prefix != ipv6_prefix {
            // IPv6 bans of the former length were keys that nothing looks up any more; now they are networks.
            restore(enforcer, now.wall);
        }
        decider.ipv6_prefix = ipv6_prefix;
        decider.syslog_trusted = settings.syslog_trusted;
        decider.local = clock::local_offset(now.wall);
        self.spare_in_kernel();
        self.ports_in_kernel(now);
        Ok(())
    }

    /// Looks through whole lines for the rules whose bits are set; bans are made by `commit`, or here when
    /// too many wait. Of a record, only rules that trust its sender hear.
    pub(super) fn take(&mut self, now: Now, wanted: u64, item: Item<'_>) {
        let Judge { detector, decider, events, .. } = self;
        for (_, policy) in (0..u64::BITS).zip(&decider.policies).filter(|(bit, _)| wanted >> bit & 1 == 1) {
            policy.tally.read.set(Some(now.mono));
        }
        match item {
            // Live lines are timed by our own clock; stamps are for what was written while we were away.
            Item::Block { lines, live, attested } => detector.block(wanted, lines, &mut |_, line, found| {
                decider.weigh(now.mono, &found, line, attested);
                let age = (!live).then(|| decide::age(now, line, decider.local, &found));
                decider.hit(now, &found, line, age, events);
            }),
            Item::Record(record) => {
                let wanted = decider.believed(detector.rules(), wanted, &record);
                let age = decide::record_age(now, &record);
                detector.record(wanted, record.program, record.pid, record.message, &mut |found| {
                    decider.hit(now, &found, record.message, age, events);
                });
            }
        }
        self.tell_evictions(now.mono);
        let mut overflow = std::mem::take(&mut self.decider.overflow);
        while !overflow.is_empty() {
            self.commit(now);
            let rest = overflow.split_off(overflow.len().min(WAITING));
            self.decider.waiting.append(&mut overflow);
            overflow = rest;
        }
    }

    /// Raises one alarm, an hour apart at least, when offenders have to give way to others before their time.
    fn tell_evictions(&mut self, now: Mono) {
        let (before, quiet_until) = self.evictions;
        let evicted = self.decider.tracker.evicted();
        if evicted > before && now >= quiet_until {
            self.evictions = (evicted, now.after(EVICTIONS_QUIET));
            log::warn!(
                "more offenders at a time than are tracked: {} were forgotten before their time. Many \
                 addresses attack, \
                 or forged lines are to hide one; track_max={} may be raised",
                evicted - before,
                self.decider.tracker.slots()
            );
        }
    }

    /// Bans who is due, in one transaction, and then the wider networks that follow from it. Returns whether
    /// somebody was.
    pub(super) fn commit(&mut self, now: Now) -> bool {
        if self.decider.waiting.is_empty() {
            return false;
        }
        let mut waiting = std::mem::take(&mut self.decider.waiting);
        while !waiting.is_empty() {
            waiting.retain(|w| !self.spare(w));
            let wider = self.enforce(now, &waiting);
            waiting.clear();
            waiting.extend(wider);
        }
        self.decider.waiting = waiting;
        true
    }

    /// Bans each; returns which wider networks are to be banned now.
    fn enforce(&mut self, now: Now, waiting: &[Waiting]) -> Vec<Waiting> {
        let Judge { enforcer, decider, events, bans: made, .. } = self;
        let Decider { punisher, policies, .. } = decider;
        let verdicts = decide::verdicts((punisher, policies), now.mono, waiting);
        let bans: Vec<_> = verdicts.iter().map(|decided| decide::ban(punisher, decided)).collect();
        let mut acknowledged = vec![false; bans.len()];
        let mut note = None;
        enforcer.ban(
            now.wall,
            &bans,
            Repeat::Keeps,
            &mut |at, result| {
                let Some(ban) = bans.get(at) else { return };
                match result {
                    // Lines that come in spite of a ban in force are no other offence.
                    Ok(Outcome::InForce(_)) => {}
                    Ok(_) => {
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
        for (decided, _) in verdicts.iter().zip(acknowledged).filter(|(_, made)| *made) {
            wider.extend(
                decide::wider(punisher, now.mono, decided)
                    .filter(|new| wider.iter().all(|w| w.who != new.who)),
            );
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
        if let Err(e) = self.enforcer.guard().set_allowed(&mut self.decider.allowed) {
            log::error!("allow list: {e}");
        }
        self.spare_in_kernel();
        self.ports_in_kernel(Now { wall: now, mono: clock::mono() });
        restore(&mut self.enforcer, now);
    }

    /// Repairs the table after others did damage to it; whether that could be done.
    pub(super) fn repair(&mut self, now: Wall, damage: Damage) -> bool {
        let guard = self.enforcer.guard();
        let what = match damage {
            Damage::None => return true,
            Damage::Rules => "chains or rules of the guard table were deleted: they are written anew",
            Damage::Sets => "sets of the guard table were deleted: they are made anew",
            Damage::Table => "the guard table was gone: it is made anew",
        };
        if let Err(e) = guard.repair(damage) {
            log::error!("{e}: the guard table is not in force");
            return false;
        }
        log::warn!("{what}");
        self.reasserted += 1;
        if self.enforcer.guard().take_fresh() || damage != Damage::Rules {
            self.fill(now);
        }
        true
    }

    /// Whether somebody must not be banned; told once a day.
    fn spare(&mut self, w: &Waiting) -> bool {
        let Some(policy) = self.decider.policies.get(usize::from(w.rule)) else { return true };
        let who = Range::from(w.who);
        let why = match self.decider.exempt(clock::wall(), w) {
            None => return false,
            Some(Exempt::Address(why)) => why,
            Some(Exempt::Detect) => {
                let (hits, reason) = (w.hits, w.reason());
                let comma = if reason.is_empty() { "" } else { ", " };
                log::info!("rule {} detected {who} ({hits} hits{comma}{reason}; action=detect)", policy.name);
                return true;
            }
        };
        tell_spared(&mut self.spared, &policy.name, &who, w.hits, why);
        true
    }

    /// Tells once a day why somebody is not banned.
    pub(super) fn spared_for(&mut self, rule: &str, who: &Range, hits: u32, why: &str) {
        tell_spared(&mut self.spared, rule, who, hits, why);
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

    /// Lines and records so far.
    pub(super) fn seen(&self) -> u64 {
        self.detector.counts().lines
    }

    /// Forgets what was counted of an address, or of all that is in a range: hits and former bans. For who
    /// was unbanned by hand.
    pub(super) fn forget(&mut self, who: &Range) {
        for net in who.nets() {
            self.decider.tracker.forget(net);
            self.decider.wide.forget(net);
            self.decider.webscan.forget(net);
            self.decider.punisher.forget(net);
        }
    }

    /// Removes all bans.
    pub(super) fn clear(&mut self) {
        if let Err(e) = self.enforcer.unban_all(true, &mut syslog::warn) {
            log::error!("{e}");
        }
    }
}
