#![forbid(unsafe_code)]
//! What the daemon does: lines become hits, hits become bans, and bans that would lock out the owner
//! become a line in the log. What is decided by the way is `decide`'s.

mod apart;
mod backend;
mod keep;
mod kernel;
mod listed;
mod orders;
mod recent;
mod reload;
mod report;
#[cfg(test)]
mod tests;

pub(super) use apart::Counterpart;
pub(super) use keep::{log_restored, restore};
pub(super) use report::{Nearest, Unbanned};

use crate::base::build_part::BuildPart;
use crate::base::count::count;
use crate::base::rule_bits::RuleBits;
use listed::FirstHits;
use recent::RecentBans;

use super::decide::{self, Decider, Decision, Exemption, Knowledge};
use super::enforcer_link::{AskedKnowledge, TellingListener};
use super::events::{BanEvent, Events};
use super::notes::{Notes, Topic};
use super::observer_link::LogTopic;
use super::policy::ServicePolicy;
use super::ports::ServedPorts;
use super::punish::BanPolicy;
use super::wire::ObserverOrder;
use crate::ban::{Allowed, Ban, Damage, WhichBans};
use crate::base::clock::{Mono, Now, Wall};
use crate::base::range::Range;
use crate::config::Settings;
use crate::detect::observe::{KnownSources, Listener, Observer, Offence, Origin};
use crate::detect::webscan::Excess;
use crate::detect::{DetectRule, Hit};
use crate::enforce::Enforcer;
use crate::firewall::backend::Backend;
use crate::input::Item;
use crate::sys::alloc::reuse_blocks;
use crate::sys::{clock, random, syslog};
use ipnet::IpNet;
use log::Level;
use std::fmt::Display;
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
    pub(super) observer: Observer,
    decider: Decider,
    enforcer: Enforcer,
    events: Events,
    notes: Notes,
    pub(super) counted: Counted,
    ports: ServedPorts,
    first_hits: FirstHits,
    former: backend::Former,
    /// Who does the other half of this, if that is another process.
    pub(super) counterpart: Counterpart,
}

/// What became of a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repair {
    /// What was gone is there again.
    Done,
    /// Nothing was missing.
    Needless,
    /// The kernel has refused it.
    Failed,
}

/// Writes to the log.
fn say(level: Level, text: &dyn Display) {
    log::log!(level, "{text}");
}

/// Tells what becomes of an offence.
fn report(
    now: Now,
    (offence, policy): (&Offence, &ServicePolicy),
    decision: Decision<'_>,
    (events, notes, counted): (&mut Events, &mut Notes, &mut Counted),
    say: &mut dyn FnMut(Level, &dyn Display),
) {
    let (addr, hits, reason) = (Range::from(offence.source), offence.hits, offence.reason());
    match decision {
        Decision::Exempt(Exemption::Address(why)) => notes.exempt((&policy.name, &addr), hits, why, say),
        Decision::Exempt(Exemption::Detect) => {
            let comma = if reason.is_empty() { "" } else { ", " };
            let (name, hits) = (&policy.name, count(hits, "hit"));
            let text = format_args!("rule {name} detected {addr} ({hits}{comma}{reason}; action=detect)");
            say(Level::Info, &text);
        }
        Decision::Banned(ban, is_proven) => {
            counted.ban(ban, now.mono);
            policy.tally.ban(&ban.addr, ban.reason);
            events.banned(now.wall, &BanEvent { is_shared: is_proven && policy.share, ..BanEvent::of(ban) });
        }
        Decision::InForce => {}
        Decision::Refused(e) => say(Level::Error, &format_args!("{addr} is not banned: {e}")),
    }
}

/// Has lines looked through. Of a record, only rules that trust its sender hear.
fn observe(
    (observer, decider): (&mut Observer, &Decider),
    (now, wanted): (Now, RuleBits),
    item: Item<'_>,
    (known, heard): (&dyn KnownSources, &mut dyn Listener),
) {
    match item {
        // Live lines are timed by our own clock; stamps are for what was written while we were away.
        Item::Block { lines, time, attested } => {
            let origin = Origin { time, attested };
            observer.block(now.mono, (wanted, lines), origin, known, heard);
        }
        Item::Record(record) => {
            let wanted = decider.believed(observer.detector.rules(), wanted, &record);
            let age = decide::record_age(now, &record);
            let message = (record.program, record.pid, record.message);
            observer.message(now.mono, wanted, message, age, (known, heard));
        }
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
            former: backend::Former::default(),
            counterpart: Counterpart::None,
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
        reuse_blocks();
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

    /// Looks through whole lines for the rules whose bits are set; bans are made by `commit`, or here when
    /// too many wait. Of a record, only rules that trust its sender hear.
    pub(super) fn take(&mut self, now: Now, wanted: RuleBits, item: Item<'_>) {
        let Judge { observer, decider, events, notes, first_hits, .. } = self;
        for (_, policy) in
            (0..RuleBits::BITS).zip(&decider.policies).filter(|(bit, _)| wanted >> bit & 1 == 1)
        {
            policy.tally.read.set(Some(now.mono));
        }
        let own = Knowledge { decider, now };
        let mut heard = JudgeListener { now, policies: &decider.policies, events, first_hits };
        match &self.counterpart {
            Counterpart::Enforcer(link) if BuildPart::Observer.is_in() => {
                let mut heard = TellingListener { link, own: heard };
                let known = AskedKnowledge::new(link, own);
                observe((observer, decider), (now, wanted), item, (&known, &mut heard));
            }
            _ => observe((observer, decider), (now, wanted), item, (&own, &mut heard)),
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
        let Judge { observer, decider, enforcer, events, notes, counted, counterpart, .. } = self;
        if let Counterpart::Enforcer(link) = counterpart
            && BuildPart::Observer.is_in()
        {
            let offences = observer.counter.offences.drain(..);
            offences.for_each(|offence| link.accuse(now.mono, &offence, &decider.policies));
            return false;
        }
        let mut offences = std::mem::take(&mut observer.counter.offences);
        if offences.is_empty() {
            observer.counter.offences = offences;
            return false;
        }
        let (mut note, before) = (None, counted.bans);
        decider.commit(
            now,
            clock::wall(),
            &mut offences,
            enforcer,
            (
                &mut |offence, policy, decision| {
                    // Bans are what the kernel has room for; of all else who lies makes any number.
                    let topic = match decision {
                        Decision::Refused(_) => LogTopic::Refused,
                        _ => LogTopic::Told,
                    };
                    let say = &mut |level, text: &dyn Display| counterpart.log(now.mono, topic, level, text);
                    report(now, (offence, policy), decision, (events, notes, counted), say);
                },
                &mut |e| note = Some(e.to_string()),
            ),
        );
        observer.counter.offences = offences;
        if counted.bans > before
            && let Counterpart::Observer(link) = counterpart
            && BuildPart::Observer.is_in()
        {
            link.ask_by(now.mono);
        }
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
        self.enforcer.guard().forget_lacks();
    }

    /// Repairs the table after others did damage to it.
    pub(super) fn repair(&mut self, now: Wall, damage: Damage) -> Repair {
        let what = match damage {
            Damage::None => return Repair::Needless,
            Damage::Emptied => "",
            Damage::Rules => "chains or rules of the guard table were deleted: they are restored",
            Damage::Sets => "sets of the guard table were deleted: they are recreated",
            Damage::Table => "the guard table was gone: it is recreated",
        };
        let lost = match self.decider.repair(damage, self.enforcer.guard()) {
            Ok(lost) => lost,
            Err(e) => {
                log::error!("{e}: the guard table is not in force");
                return Repair::Failed;
            }
        };
        if lost || damage != Damage::Emptied {
            log::warn!("{what}");
            self.counted.reasserted += 1;
        }
        if lost {
            self.fill(now);
            return Repair::Done;
        }
        match keep::restore_lacking(&mut self.enforcer, now) {
            0 if damage == Damage::Emptied => Repair::Needless,
            0 => Repair::Done,
            _ => {
                self.counted.reasserted += u64::from(damage == Damage::Emptied);
                Repair::Done
            }
        }
    }

    /// Fills the allow list that others have emptied; `allowed` is what the files say.
    pub(super) fn refill_allowed(&mut self, allowed: Allowed) {
        // Who has changed the files changes the table himself.
        if allowed == self.decider.allowed {
            log::warn!("the allow list of the guard table was emptied: it is filled again");
            self.counted.reasserted += 1;
        }
        self.set_allowed(allowed);
    }

    /// Tells once a day why somebody is not banned.
    pub(super) fn report_exempt(&mut self, rule: &str, addr: &Range, hits: u32, why: &str) {
        self.notes.exempt((rule, addr), hits, why, &mut say);
    }

    /// Tells a problem when it begins, and when it is over.
    pub(super) fn once(&mut self, what: Topic, problem: Option<&dyn Display>) {
        self.notes.once(what, problem);
    }

    /// Lines and records so far.
    pub(super) fn seen(&self) -> u64 {
        self.observer.detector.counts().lines
    }

    /// Forgets what was counted of an address, or of all that is in a range: hits and previous bans. For who
    /// was unbanned by hand.
    pub(super) fn forget(&mut self, addr: &Range) {
        let now = clock::now();
        self.hear(now);
        for net in addr.nets() {
            // One that still opens logs has counted nothing.
            if !self.observer_opens() {
                self.order(now, &ObserverOrder::Forget(net), &mut |_, _| ());
            }
            self.observer.forget(net);
            self.decider.ban_policy.forget(now.mono, net);
        }
        // Where it goes on if it is lost: nothing that was forgiven is read again.
        self.ask_places(now, &ObserverOrder::Places);
    }

    /// Removes all bans that have an end.
    pub(super) fn clear(&mut self) {
        if let Err(e) = self.enforcer.unban_all(WhichBans::Timed, &mut syslog::warn) {
            log::error!("{e}");
        }
    }
}
