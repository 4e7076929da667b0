#![forbid(unsafe_code)]
//! What the daemon does: lines become hits, hits become bans, and bans that would lock out the owner
//! become a line in the log. What is decided by the way is `decide`'s.

mod backend;
mod keep;
mod kernel;
mod listed;
mod recent;
mod report;
#[cfg(test)]
mod tests;

pub(super) use backend::log_moved;
pub(super) use keep::{log_restored, restore};

use crate::base::count::count;
use crate::base::rule_bits::RuleBits;
use listed::FirstHits;
use recent::RecentBans;

use super::decide::{self, Decider, Decision, Exemption, Knowledge};
use super::events::{BanEvent, Events};
use super::notes::{Notes, Topic};
use super::policy::ServicePolicy;
use super::ports::ServedPorts;
use super::punish::BanPolicy;
use crate::ban::{Allowed, Ban, Damage, Failure, WhichBans};
use crate::base::clock::{Mono, Now, Wall};
use crate::base::range::Range;
use crate::config::Settings;
use crate::detect::observe::{Listener, Observer, Offence, Origin};
use crate::detect::tracker::Limits;
use crate::detect::webscan::Excess;
use crate::detect::{DetectRule, Hit};
use crate::enforce::{Enforcer, all_options};
use crate::firewall::backend::Backend;
use crate::input::Item;
use crate::sys::{clock, random, syslog};
use ipnet::IpNet;
use std::os::fd::BorrowedFd;

/// Hears of hits: tallies of rules, and whoever watches.
struct JudgeListener<'h> {
    now: Now,
    policies: &'h [ServicePolicy],
    events: &'h mut Events,
    first_hits: &'h mut FirstHits,
}

impl Listener for JudgeListener<'_> {
    fn noticed(&mut self, rule: u16) {
        let policy = self.policies.get(usize::from(rule));
        policy.into_iter().for_each(|policy| policy.tally.hit(self.now.mono));
    }

    fn hit(&mut self, source: IpNet, hit: &Hit, user: Option<&[u8]>) {
        self.first_hits.add(hit.addr);
        if self.events.watched()
            && let Some(policy) = self.policies.get(usize::from(hit.rule))
        {
            self.events.hit(self.now.wall, source, &policy.name, hit.weight, user);
        }
    }

    fn detected(&mut self, source: IpNet, rule: u16, excess: &Excess) {
        let rule = self.policies.get(usize::from(rule)).map_or("", |policy| &policy.name);
        log::info!("rule {rule} detected {} ({}; action=detect)", Range::from(source), excess.reason);
    }
}

/// What the daemon has counted beside hits.
#[derive(Default)]
pub(super) struct Counted {
    bans: u64,
    /// How often reports of the kernel were lost.
    pub(super) alarms_lost: u64,
    newcomers: u64,
    pub(super) news_lost: u64,
    /// How often the table had to be repaired.
    pub(super) reasserted: u64,
    /// The minute, and bans for packets in it that the history was told of.
    told: (u64, u32),
    recent: RecentBans,
}

impl Counted {
    /// Somebody was banned.
    fn ban(&mut self, ban: &Ban<'_>, now: Mono) {
        self.bans += 1;
        self.recent.add(ban, now);
    }
}

/// Observes, decides, enforces, and reports, each by a part that does one of these.
pub(super) struct Judge {
    observer: Observer,
    decider: Decider,
    enforcer: Enforcer,
    events: Events,
    notes: Notes,
    pub(super) counted: Counted,
    ports: ServedPorts,
    first_hits: FirstHits,
}

/// Tells what becomes of an offence.
fn report(
    now: Now,
    (offence, policy): (&Offence, &ServicePolicy),
    decision: Decision<'_>,
    (events, notes, counted): (&mut Events, &mut Notes, &mut Counted),
) {
    let (addr, hits, reason) = (Range::from(offence.source), offence.hits, offence.reason());
    match decision {
        Decision::Exempt(Exemption::Address(why)) => notes.exempt(&policy.name, &addr, hits, why),
        Decision::Exempt(Exemption::Detect) => {
            let comma = if reason.is_empty() { "" } else { ", " };
            log::info!(
                "rule {} detected {addr} ({}{comma}{reason}; action=detect)",
                policy.name,
                count(hits, "hit")
            );
        }
        Decision::Banned(ban, is_proven) => {
            counted.ban(ban, now.mono);
            policy.tally.ban(&ban.addr, ban.reason);
            events.banned(now.wall, &BanEvent { is_shared: is_proven && policy.share, ..BanEvent::of(ban) });
        }
        Decision::InForce => {}
        Decision::Refused(e) => log::error!("{addr} is not banned: {e}"),
    }
}

impl Judge {
    pub(super) fn new(
        rules: Vec<DetectRule>,
        policies: Vec<ServicePolicy>,
        settings: &Settings,
        (enforcer, ban_policy): (Enforcer, BanPolicy),
        allowed: Allowed,
    ) -> Judge {
        let slots = usize::try_from(settings.track_max).unwrap_or(4096);
        let local = clock::local_offset(clock::wall());
        let limits = policies.iter().map(|policy| policy.limits).collect();
        let prefix = decide::ipv6_prefix(settings);
        let mut this = Judge {
            observer: Observer::new(rules, limits, prefix, slots, random::key()),
            decider: Decider::new(policies, settings, ban_policy, allowed, local),
            enforcer,
            events: Events::default(),
            notes: Notes::default(),
            counted: Counted::default(),
            ports: ServedPorts::new(&settings.state_dir),
            first_hits: FirstHits::default(),
        };
        this.exempt_in_kernel();
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
    pub(super) fn shrink(&mut self) {
        self.enforcer.guard().shrink();
    }

    /// Takes another allow list.
    pub(super) fn set_allowed(&mut self, mut allowed: Allowed) {
        if allowed != self.decider.allowed {
            log::info!("{} on the allow list", count(allowed.len(), "range"));
        }
        // A table that is gone is made anew by the next ban, with this list.
        if let Err(e) = self.enforcer.guard().set_allowed(&mut allowed) {
            log::error!("allow list: {e}");
        }
        self.decider.allowed = allowed;
    }

    pub(super) fn rules(&self) -> usize {
        self.observer.detector.rules().len()
    }

    /// When an on_ban or on_unban program is to be looked after.
    pub(super) fn hooks_at(&self) -> Option<Mono> {
        self.events.hooks.deadline()
    }

    /// When reports to others are to be looked after.
    pub(super) fn reports_at(&self) -> Option<Mono> {
        self.events.reporter.deadline()
    }

    /// Who hears of what happens.
    pub(super) fn events(&mut self) -> &mut Events {
        &mut self.events
    }

    /// Takes new rules and settings; the counts of rules that stay are kept.
    pub(super) fn reconfigure(
        &mut self,
        now: Now,
        rules: Vec<DetectRule>,
        policies: Vec<ServicePolicy>,
        settings: &Settings,
        mut allowed: Allowed,
    ) -> Result<(), Failure> {
        self.commit(now);
        let options = all_options(settings);
        if self.enforcer.guard().options().backend != options.backend {
            self.change_backend(options.clone(), settings, &allowed)?;
        }
        let guard = self.enforcer.guard();
        let previous = guard.set_options(options);
        if let Err(e) = guard.rebuild().and_then(|_| guard.set_allowed(&mut allowed)) {
            guard.set_options(previous);
            if let Err(e) = guard.rebuild() {
                log::error!("the previous table: {e}");
            }
            return Err(e);
        }
        self.enforcer.set_kill(settings.kill_connections);
        self.enforcer.set_history(settings.history_max);
        self.enforcer.set_prompt(settings.state_sync.is_some());
        let Judge { enforcer, decider, observer, .. } = self;
        if decider.ban_policy.reconfigure(settings, &policies) {
            let ban_policy = &mut decider.ban_policy;
            if let Err(e) =
                enforcer.past(now.wall, ban_policy.memory(), &mut |entry| ban_policy.restore(now, entry))
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
        let prefix = decide::ipv6_prefix(settings);
        observer.reconfigure(now.mono, (rules, limits), prefix, random::key(), &map);
        for policy in &policies {
            if let Some(old) = decider.policies.iter().find(|old| old.name == policy.name) {
                policy.tally.take_over(&old.tally);
            }
        }
        let local = clock::local_offset(now.wall);
        let other_prefix = decider.reconfigure(policies, settings, allowed, local);
        if enforcer.guard().take_recreated() || other_prefix {
            // IPv6 bans of the previous length were keys that nothing looks up any more; now they are
            // networks.
            restore(enforcer, now.wall);
        }
        self.exempt_in_kernel();
        self.ports_in_kernel(now);
        Ok(())
    }

    /// Looks through whole lines for the rules whose bits are set; bans are made by `commit`, or here when
    /// too many wait. Of a record, only rules that trust its sender hear.
    pub(super) fn take(&mut self, now: Now, wanted: RuleBits, item: Item<'_>) {
        let Judge { observer, decider, events, notes, first_hits, .. } = self;
        for (_, policy) in
            (0..RuleBits::BITS).zip(&decider.policies).filter(|(bit, _)| wanted >> bit & 1 == 1)
        {
            policy.tally.read.set(Some(now.mono));
        }
        let known = Knowledge { decider, now };
        let mut heard = JudgeListener { now, policies: &decider.policies, events, first_hits };
        match item {
            // Live lines are timed by our own clock; stamps are for what was written while we were away.
            Item::Block { lines, live, attested } => {
                let origin = Origin { live, attested };
                observer.block(now.mono, (wanted, lines), origin, &known, &mut heard);
            }
            Item::Record(record) => {
                let wanted = decider.believed(observer.detector.rules(), wanted, &record);
                let age = decide::record_age(now, &record);
                let message = (record.program, record.pid, record.message);
                observer.message(now.mono, wanted, message, age, (&known, &mut heard));
            }
        }
        notes.evictions(now.mono, &observer.counter.tracker);
        while self.observer.is_full() {
            self.commit(now);
            self.observer.refill();
        }
    }

    /// Bans who is due, in one transaction, and then the wider networks that follow from it. Returns whether
    /// somebody was.
    pub(super) fn commit(&mut self, now: Now) -> bool {
        let Judge { observer, decider, enforcer, events, notes, counted, .. } = self;
        let mut offences = std::mem::take(&mut observer.counter.offences);
        if offences.is_empty() {
            observer.counter.offences = offences;
            return false;
        }
        let mut note = None;
        decider.commit(
            now,
            clock::wall(),
            &mut offences,
            enforcer,
            (
                &mut |offence, policy, decision| {
                    report(now, (offence, policy), decision, (events, notes, counted));
                },
                &mut |e| note = Some(e.to_string()),
            ),
        );
        observer.counter.offences = offences;
        self.refill(now.wall);
        self.once(Topic::Kill, note.as_ref().map(|n| n as _));
        true
    }

    /// Puts back the allow list and all bans if the table had to be made anew.
    fn refill(&mut self, now: Wall) {
        if self.enforcer.guard().take_recreated() {
            log::warn!("the guard table was gone: it is recreated");
            self.counted.reasserted += 1;
            self.fill(now);
        }
    }

    /// Fills what was made anew: it has its allow list.
    fn fill(&mut self, now: Wall) {
        self.exempt_in_kernel();
        self.ports_in_kernel(Now { wall: now, mono: clock::mono() });
        restore(&mut self.enforcer, now);
    }

    /// Repairs the table after others did damage to it; whether that could be done.
    pub(super) fn repair(&mut self, now: Wall, damage: Damage) -> bool {
        let what = match damage {
            Damage::None => return true,
            Damage::Rules => "chains or rules of the guard table were deleted: they are restored",
            Damage::Sets => "sets of the guard table were deleted: they are recreated",
            Damage::Table => "the guard table was gone: it is recreated",
        };
        let lost = match self.decider.repair(damage, self.enforcer.guard()) {
            Ok(lost) => lost,
            Err(e) => {
                log::error!("{e}: the guard table is not in force");
                return false;
            }
        };
        log::warn!("{what}");
        self.counted.reasserted += 1;
        if lost {
            self.fill(now);
        }
        true
    }

    /// Tells once a day why somebody is not banned.
    pub(super) fn report_exempt(&mut self, rule: &str, addr: &Range, hits: u32, why: &str) {
        self.notes.exempt(rule, addr, hits, why);
    }

    /// Tells a problem when it begins, and when it is over.
    pub(super) fn once(&mut self, what: Topic, problem: Option<&dyn std::fmt::Display>) {
        self.notes.once(what, problem);
    }

    /// Lines and records so far.
    pub(super) fn seen(&self) -> u64 {
        self.observer.detector.counts().lines
    }

    /// Forgets what was counted of an address, or of all that is in a range: hits and previous bans. For who
    /// was unbanned by hand.
    pub(super) fn forget(&mut self, addr: &Range) {
        for net in addr.nets() {
            self.observer.forget(net);
            self.decider.ban_policy.forget(net);
        }
    }

    /// Removes all bans that have an end.
    pub(super) fn clear(&mut self) {
        if let Err(e) = self.enforcer.unban_all(WhichBans::Timed, &mut syslog::warn) {
            log::error!("{e}");
        }
    }
}
