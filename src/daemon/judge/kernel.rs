#![forbid(unsafe_code)]
//! What the kernel does by itself, and what it must know for that: port scans, floods, new sources.

use super::{Judge, Once};
use crate::base::clock::{Now, Span};
use crate::base::range::Range;
use crate::daemon::decide::{WAITING, Waiting};
use crate::daemon::events::Told;
use crate::enforce::Outside;
use crate::firewall::guard::{Ban, Limit, Scanner, Scope};
use crate::sys::clock;
use ipnet::IpNet;
use std::fmt::Display;

impl Judge {
    /// Tells the kernel whom it must not ban for bare packets.
    pub(super) fn spare_in_kernel(&mut self) {
        let spared: Vec<Range> = self
            .decider
            .protected
            .all(true)
            .into_iter()
            .chain(self.decider.proxies.iter().copied())
            .collect();
        if let Err(e) = self.enforcer.guard().set_spared(spared) {
            log::error!("who is never banned for port scans and floods: {e}");
        }
    }

    /// Writes the table anew, for other interfaces: everything else stays.
    pub(in crate::daemon) fn rewire(&mut self, outside: &Outside) {
        let guard = self.enforcer.guard();
        let mut options = guard.options().clone();
        outside.put(&mut options);
        // An interface that came back under its name has no hook any more.
        if *guard.options() == options && options.ingress.is_empty() {
            return;
        }
        guard.set_options(options);
        match guard.rebuild() {
            Ok(_) => log::info!("the interfaces of the default routes have changed: the guard table follows"),
            Err(e) => log::error!("{e}: the guard table does not follow the default routes"),
        }
        self.refill(clock::wall());
        self.spare_in_kernel();
    }

    /// Tells a ban that the kernel has made for a port scan. One for good is still to be made.
    pub(in crate::daemon) fn scanned(
        &mut self,
        now: Now,
        scanner: &Scanner,
        (rule, hits, bans): (&str, u32, u32),
        time: Span,
    ) {
        let who = scanner.who;
        let ban = Ban { who, scope: &Scope::ALL, time, rule, hits, reason: "", bans, starts: &[] };
        let Judge { enforcer, events, bans: made, .. } = self;
        let mut note = None;
        if time == Span::Permanent {
            enforcer.ban(
                now.wall,
                &[ban],
                &mut |_, result| {
                    result.unwrap_or_else(|e| log::error!("{who} is not banned for good: {e}"));
                },
                &mut |e| note = Some(e.to_string()),
            );
        } else {
            enforcer.cut_off(&[ban], &mut |e| note = Some(e.to_string()));
        }
        *made += 1;
        events.banned(now.wall, &Told { seen: &scanner.ports, ..Told::of(&ban) });
        self.once(Once::Kill, note.as_ref().map(|n| n as &dyn Display));
    }

    /// Tells that the kernel has brought somebody into the throttle; who was there too often is banned by `commit`.
    pub(in crate::daemon) fn throttled(&mut self, now: Now, who: IpNet, port: u16, limit: Limit, logs: bool) {
        let rule = self.detector.rules().len();
        let Some(policy) = self.decider.policies.get(rule) else { return };
        policy.tally.read.set(Some(now.mono));
        policy.tally.hit(now.mono);
        self.events.throttled(now.wall, who, (port, limit), logs);
        let rule = u16::try_from(rule).unwrap_or(u16::MAX);
        if let Some(hits) = self.decider.tracker.hit(now.mono, rule, who, 1) {
            if self.decider.waiting.len() >= WAITING {
                self.commit(now);
            }
            self.decider.waiting.push(Waiting { who, rule, hits, wide: false, excess: None });
        }
    }

    /// Tells of somebody who has not been seen for a time.
    pub(in crate::daemon) fn newcomer(&mut self, now: Now, who: IpNet, port: u16) {
        self.newcomers += 1;
        self.events.newcomer(now.wall, who, port);
    }
}
