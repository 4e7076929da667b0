#![forbid(unsafe_code)]
//! What the kernel does by itself, and what it must know for that: port scans, floods, new sources.

use super::report;
use super::{Counted, Judge};
use crate::ban::{Ban, FloodLimit, Scanner, TOUCHED};
use crate::base::clock::{Now, Span};
use crate::base::range::Range;
use crate::daemon::decide::Decision;
use crate::daemon::events::BanEvent;
use crate::detect::observe::Offence;
use crate::enforce::{Enforcer, Outside};
use crate::sys::clock;
use ipnet::IpNet;
use std::fmt::Write as _;
use std::net::IpAddr;

/// Ports of a scan that the history names.
const SHOWN_PORTS: usize = 20;
/// Bans for packets that the history takes in a minute.
const TOLD_A_MINUTE: u32 = 60;
const MINUTE: u64 = 60_000;

impl Judge {
    /// Tells the kernel whom it must not ban for bare packets.
    pub(super) fn exempt_in_kernel(&mut self) {
        if let Err(e) = self.decider.exempt_in(self.enforcer.guard()) {
            log::error!("addresses never banned for port scans and floods: {e}");
        }
    }

    /// Looks anew at who must never be banned.
    pub(in crate::daemon) fn protect(&mut self) {
        self.decider.protect();
        self.exempt_in_kernel();
    }

    /// Tells the kernel which ports are no closed ones, though perhaps nothing listens on them now.
    pub(super) fn ports_in_kernel(&mut self, now: Now) {
        self.ports.restore(now, self.enforcer.guard());
    }

    /// Keeps what the kernel knows of open ports, now and then.
    pub(in crate::daemon) fn save_ports(&mut self, now: Now) {
        self.ports.save(now, self.enforcer.guard());
    }

    /// Has the next save keep it.
    pub(in crate::daemon) fn hurry_ports(&mut self) {
        self.ports.hurry();
    }

    /// The text of them, if it is time to write it.
    pub(in crate::daemon) fn ports_due(&mut self, now: Now) -> Option<String> {
        self.ports.due(now, self.enforcer.guard())
    }

    /// Who is counted and banned for `addr`.
    pub(in crate::daemon) fn offender(&self, addr: IpAddr) -> IpNet {
        self.decider.offender(addr)
    }

    /// Writes the table anew, for other interfaces: everything else stays.
    pub(in crate::daemon) fn follow_routes(&mut self, outside: &Outside) {
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
        self.exempt_in_kernel();
    }

    /// Tells a ban that the kernel has made for a port scan, for `secs`, or makes it a longer one.
    pub(in crate::daemon) fn scanned(
        &mut self,
        now: Now,
        scanner: &Scanner,
        (rule, hits, bans): (&str, u32, u32),
        (secs, longer): (u32, Option<u32>),
    ) {
        let addr = scanner.addr;
        if let Some(secs) = longer
            && let Err(e) = self.enforcer.guard().ban_for_packets(&addr, secs.into(), (rule, hits))
        {
            log::error!("{addr} is not banned for longer: {e}");
        }
        let time = Span::Secs(longer.unwrap_or(secs).into());
        let ban = Ban { bans, ..Ban::for_packets(addr, time, rule, hits) };
        self.counted.ban(&ban, now.mono);
        self.events.banned(now.wall, &BanEvent { seen: &scanner.ports, ..BanEvent::of(&ban) });
        let mut touched = String::new();
        for (at, port) in scanner.ports.iter().take(SHOWN_PORTS).enumerate() {
            let _ = write!(touched, "{}{port}", if at == 0 { TOUCHED } else { ", " });
        }
        if scanner.ports.len() > SHOWN_PORTS {
            let _ = write!(touched, " and {} more", scanner.ports.len() - SHOWN_PORTS);
        }
        tell_history(&mut self.enforcer, &mut self.counted, now, &Ban { line: &touched, ..ban });
    }

    /// Tells that the kernel has brought somebody into the throttle; returns how often, of who was there
    /// too often. Not every time `counts`.
    pub(in crate::daemon) fn throttled(
        &mut self,
        now: Now,
        addr: IpNet,
        (port, limit): (u16, FloodLimit),
        logs: bool,
        counts: bool,
    ) -> Option<u32> {
        let rule = self.observer.detector.rules().len();
        let policy = self.decider.policies.get(rule)?;
        policy.tally.read.set(Some(now.mono));
        policy.tally.hit(now.mono);
        self.events.throttled(now.wall, addr, (port, limit), logs);
        let rule = u16::try_from(rule).ok().filter(|_| counts)?;
        self.observer.counter.tracker.hit(now.mono, rule, addr, 1)
    }

    /// Bans who was in the throttle too often, unless it must not be banned. As the kernel's own bans for
    /// packets, that one cuts no connection, and no journal makes more of it.
    pub(in crate::daemon) fn flooded(&mut self, now: Now, addr: IpNet, hits: u32) {
        let rule = u16::try_from(self.observer.detector.rules().len()).unwrap_or(u16::MAX);
        let Some(policy) = self.decider.policies.get(usize::from(rule)) else { return };
        let offence = Offence { source: addr, rule, hits, wide: None, excess: None, line: Box::default() };
        if let Some(why) = self.decider.exempt(clock::wall(), &offence) {
            let reported = (&mut self.events, &mut self.notes, &mut self.counted);
            return report(now, (&offence, policy), Decision::Exempt(why), reported, &mut super::say);
        }
        let most = u64::from(self.decider.ban_policy.longest());
        let secs = match policy.request.bantime {
            Span::Secs(secs) => secs,
            Span::Permanent => most,
        };
        let addr = Range::from(addr);
        if let Err(e) = self.enforcer.guard().ban_for_packets(&addr, secs, (&policy.name, hits)) {
            return log::error!("{addr} is not banned: {e}");
        }
        let ban = Ban::for_packets(addr, Span::Secs(secs), &policy.name, hits);
        policy.tally.ban(&addr, "");
        self.counted.ban(&ban, now.mono);
        self.events.banned(now.wall, &BanEvent::of(&ban));
        let ban = Ban { line: "entered the flood throttle too often", ..ban };
        tell_history(&mut self.enforcer, &mut self.counted, now, &ban);
    }

    /// Tells of somebody who has not been seen for a time.
    pub(in crate::daemon) fn newcomer(&mut self, now: Now, addr: IpNet, port: u16) {
        self.counted.newcomers += 1;
        self.events.newcomer(now.wall, addr, port);
    }
}

/// Has the history know of a ban for packets. Their senders can be forged, in any number: what is more than
/// so many a minute would wear flash out, and push the bans for what is proven out of the history.
fn tell_history(enforcer: &mut Enforcer, counted: &mut Counted, now: Now, ban: &Ban<'_>) {
    let minute = now.mono.0 / MINUTE;
    let (last, told) = counted.told;
    let told = if last == minute { told } else { 0 };
    counted.told = (minute, told.saturating_add(1));
    if told < TOLD_A_MINUTE {
        enforcer.tell_history(now.wall, ban);
    }
}
