#![forbid(unsafe_code)]
//! What the daemon tells of its counts: to the log and to the control socket.

use super::Judge;
use crate::ban::WhichBans;
use crate::base::clock::{Mono, Now};
use crate::base::count::count;
use crate::base::range::Range;
use crate::control::proto::{FACTS, OffenderLine, RuleLine, Sight};
use crate::daemon::policy::PolicyTally;
use crate::daemon::sources::SightChange;
use crate::daemon::wire::{ObserverCounts, Offender};
use crate::detect::LineCounts;
use crate::detect::chosen;
use crate::input::Tags;
use ipnet::IpNet;

/// Offenders that `top` shows.
pub(super) const TOP: usize = 20;

/// Whom a command has named to unban.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::daemon) enum Unbanned {
    /// Somebody whose bans it has ended.
    Banned,
    /// Somebody who had none: he is forgotten.
    Free,
}

/// Who is nearest to a ban, and how many are being counted beside them, these included.
pub(in crate::daemon) struct Nearest {
    pub(in crate::daemon) offenders: Vec<Offender>,
    pub(in crate::daemon) all: u64,
}

impl Judge {
    /// The numbers of [`FACTS`], in their order.
    pub(in crate::daemon) fn facts(&mut self, not_looked_up: u64) -> [u64; FACTS.len()] {
        let c = self.observer.detector.counts();
        let (watchers, lost) = self.events.watchers();
        let ObserverCounts { tracked, evicted, .. } = self.observer_counts();
        [
            c.lines,
            self.observer.hits(),
            c.ignored,
            c.ambiguous,
            c.no_address,
            c.no_header,
            self.counted.bans,
            self.counted.reasserted,
            self.events.hooks.lost(),
            lost,
            self.counted.alarms_lost,
            self.counted.newcomers,
            self.counted.news_lost,
            not_looked_up,
            evicted,
            tracked,
            self.observer.counter.tracker.slots() as u64,
            self.events.bans_a_minute(),
            watchers,
        ]
    }

    /// The first rule that sees nothing, and why.
    pub(in crate::daemon) fn first_blind(
        &self,
        sight: &dyn Fn(usize) -> (Sight, String),
    ) -> Option<(&str, String)> {
        let mut rules = self.observer.detector.rules().iter().enumerate();
        rules.find_map(|(index, rule)| match sight(index) {
            (Sight::Blind, why) => Some((&*rule.name, why)),
            _ => None,
        })
    }

    /// Tells the log whose sight has changed; `sight` says what a rule sees, or why it sees nothing.
    pub(in crate::daemon) fn log_sight(
        &self,
        change: &SightChange,
        sight: &dyn Fn(Tags) -> Result<String, String>,
    ) {
        for (index, rule) in chosen(self.observer.detector.rules(), change.lost.and(change.found).0) {
            match sight(Tags(1 << index)) {
                Err(why) => log::warn!("sees nothing for {}: {why}; waiting", rule.name),
                Ok(what) => log::info!("sees {} again: {what}", rule.name),
            }
        }
    }

    /// Each rule that is on.
    pub(in crate::daemon) fn each_rule(&self, now: Mono, each: &mut dyn FnMut(&RuleLine<'_>)) {
        let age = |at: Option<Mono>| at.map(|at| now.since(at) / 1000);
        for policy in &self.decider.policies {
            let tally = &policy.tally;
            each(&RuleLine {
                name: &policy.name,
                source: policy.source,
                hits: tally.hits.get(),
                bans: tally.bans.get(),
                read: age(tally.read.get()),
                hit: age(tally.last.get()),
                last_ban: &tally.last_ban.borrow(),
            });
        }
    }

    /// Those of a range, or of all, who are nearest to a ban, the nearest first.
    pub(in crate::daemon) fn nearest(&self, now: Mono, range: Option<&Range>) -> Nearest {
        let mut top: Vec<(u64, Offender)> = Vec::with_capacity(TOP + 1);
        let mut all = 0;
        let mut add = |one: Offender| {
            if range.is_some_and(|range| !range.meets(&Range::from(one.source))) {
                return;
            }
            all += 1;
            let policy = self.decider.policies.get(usize::from(one.rule));
            let maxretry = policy.map_or(1, |p| p.limits.maxretry.max(1));
            let near = u64::from(one.hits) * 1000 / u64::from(maxretry);
            let at = top.partition_point(|(other, known)| (*other, known.last) >= (near, one.last));
            if at < TOP {
                top.insert(at, (near, one));
                top.truncate(TOP);
            }
        };
        self.offenders_elsewhere().iter().for_each(|one| add(*one));
        // Prefixes of IPv6 may be asked about by an address in them.
        let is_one = |net: &IpNet| matches!(net, IpNet::V4(net) if net.prefix_len() == 32);
        let one = range.and_then(Range::as_net).filter(is_one);
        self.observer.counter.tracker.for_each(now, one, &mut |rule, source, hits, last| {
            add(Offender { source, rule, hits, last });
        });
        Nearest { offenders: top.into_iter().map(|(_, one)| one).collect(), all }
    }

    /// These, for people.
    pub(in crate::daemon) fn each_offender(
        &self,
        now: Mono,
        offenders: &[Offender],
        each: &mut dyn FnMut(&OffenderLine<'_>),
    ) {
        for one in offenders {
            let Some(policy) = self.decider.policies.get(usize::from(one.rule)) else { continue };
            each(&OffenderLine {
                addr: &Range::from(one.source).to_string(),
                rule: &policy.name,
                hits: one.hits.into(),
                maxretry: policy.limits.maxretry.into(),
                age: now.since(one.last) / 1000,
            });
        }
    }

    /// What the rules that read have counted, in their order.
    pub(in crate::daemon) fn tallies(&self) -> impl Iterator<Item = &PolicyTally> {
        self.decider.policies.iter().take(self.rules()).map(|policy| &policy.tally)
    }

    /// What was counted, here and by the process that reads lines.
    pub(in crate::daemon) fn observer_counts(&self) -> ObserverCounts {
        let tracker = &self.observer.counter.tracker;
        let (tracked, evicted) = self.tracked_elsewhere();
        let lines = LineCounts { hits: self.observer.hits(), ..*self.observer.detector.counts() };
        let tracked = tracked.saturating_add(tracker.used() as u64);
        ObserverCounts { lines, tracked, evicted: evicted.saturating_add(tracker.evicted()) }
    }

    /// A command has ended bans of somebody, or of all, `which` then says which: what was counted of them is
    /// forgotten, and what was made of it since the kernel ended them is ended, too.
    pub(in crate::daemon) fn unbanned(
        &mut self,
        now: Now,
        (addr, which): (Option<&Range>, WhichBans),
        what: Unbanned,
    ) {
        // First: who reads elsewhere says before that what it has found so far.
        match addr {
            Some(addr) => self.forget(addr),
            None => {
                for all in [Range::EVERYBODY_V4, Range::EVERYBODY_V6] {
                    self.forget(&all);
                }
            }
        }
        let again = self.unban_recent(now, (addr, which)).unwrap_or_else(|e| {
            log::error!("{e}");
            0
        });
        if what == Unbanned::Banned || again > 0 {
            self.events.unbanned(now.wall, addr);
        }
    }

    /// Writes the statistics to the log.
    pub(in crate::daemon) fn report(&self) {
        let ObserverCounts { tracked, evicted, .. } = self.observer_counts();
        let c = self.observer.detector.counts();
        log::info!(
            "{}, {} looked at, {}, {} ignored, {} ambiguous, {} without address, {} without \
             header",
            count(c.lines, "line"),
            c.candidates,
            count(self.observer.hits(), "hit"),
            c.ignored,
            c.ambiguous,
            c.no_address,
            c.no_header
        );
        log::info!(
            "{}, {} tracked, {} evicted; the table was restored {}",
            count(self.counted.bans, "ban"),
            count(tracked, "offender"),
            evicted,
            count(self.counted.reasserted, "time")
        );
    }
}
