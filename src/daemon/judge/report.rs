#![forbid(unsafe_code)]
//! What the daemon tells of its counts: to the log and to the control socket.

use super::Judge;
use crate::ban::WhichBans;
use crate::base::clock::{Mono, Now};
use crate::base::count::count;
use crate::base::range::Range;
use crate::control::proto::{FACTS, OffenderLine, RuleLine};
use crate::daemon::sources::SightChange;
use crate::detect::chosen;
use crate::input::Tags;
use ipnet::IpNet;

/// Offenders that `top` shows.
const TOP: usize = 20;

impl Judge {
    /// The numbers of [`FACTS`], in their order.
    pub(in crate::daemon) fn facts(&mut self, not_looked_up: u64) -> [u64; FACTS.len()] {
        let c = self.observer.detector.counts();
        let (watchers, lost) = self.events.watchers();
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
            self.observer.counter.tracker.evicted(),
            self.observer.counter.tracker.used() as u64,
            self.observer.counter.tracker.slots() as u64,
            self.events.bans_a_minute(),
            watchers,
        ]
    }

    /// The first rule that sees nothing, and why.
    pub(in crate::daemon) fn first_blind(
        &self,
        sight: &dyn Fn(Tags) -> Result<String, String>,
    ) -> Option<(&str, String)> {
        let mut rules = self.observer.detector.rules().iter().enumerate();
        rules.find_map(|(index, rule)| Some((&*rule.name, sight(Tags(1 << index)).err()?)))
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

    /// Those who are nearest to a ban.
    pub(in crate::daemon) fn each_offender(&self, now: Mono, each: &mut dyn FnMut(&OffenderLine<'_>)) {
        let mut top: Vec<(u64, IpNet, u16, u32, Mono)> = Vec::with_capacity(TOP + 1);
        self.observer.counter.tracker.for_each(now, &mut |rule, addr, hits, last| {
            let maxretry =
                self.decider.policies.get(usize::from(rule)).map_or(1, |p| p.limits.maxretry.max(1));
            let near = u64::from(hits) * 1000 / u64::from(maxretry);
            let at = top.partition_point(|t| (t.0, t.4) >= (near, last));
            if at < TOP {
                top.insert(at, (near, addr, rule, hits, last));
                top.truncate(TOP);
            }
        });
        for (_, addr, rule, hits, last) in top {
            let Some(policy) = self.decider.policies.get(usize::from(rule)) else { continue };
            each(&OffenderLine {
                addr: &Range::from(addr).to_string(),
                rule: &policy.name,
                hits: hits.into(),
                maxretry: policy.limits.maxretry.into(),
                age: now.since(last) / 1000,
            });
        }
    }

    /// A command has ended bans of somebody, or of all, `which` then says which: what was counted of them is
    /// forgotten, and what was made of it since the kernel ended them is ended, too.
    pub(in crate::daemon) fn unbanned(
        &mut self,
        now: Now,
        (addr, which): (Option<&Range>, WhichBans),
        was_banned: bool,
    ) {
        let again = self.unban_recent(now, (addr, which)).unwrap_or_else(|e| {
            log::error!("{e}");
            0
        });
        match addr {
            Some(addr) => self.forget(addr),
            None => {
                for all in [Range::EVERYBODY_V4, Range::EVERYBODY_V6] {
                    self.forget(&all);
                }
            }
        }
        if was_banned || again > 0 {
            self.events.unbanned(now.wall, addr);
        }
    }

    /// Writes the statistics to the log.
    pub(in crate::daemon) fn report(&self) {
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
            count(self.observer.counter.tracker.used(), "offender"),
            self.observer.counter.tracker.evicted(),
            count(self.counted.reasserted, "time")
        );
    }
}
