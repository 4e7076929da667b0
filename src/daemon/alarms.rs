#![forbid(unsafe_code)]
//! Hears of what the kernel has done by itself, and tells it: port scans are banned and floods held back when their packets
//! come, whether somebody listens here or not.

use super::judge::Judge;
use crate::base::clock::{Mono, Now, Span};
use crate::base::net::offender;
use crate::base::range::Range;
use crate::config::Settings;
use crate::firewall::guard::{SCANS, Scanner};
use crate::firewall::nflog::{ALARMS, Alarm, Packet, Packets};
use crate::sys::host;
use std::os::fd::BorrowedFd;

/// Packets that are looked at in one turn; the kernel keeps the others.
const HEARD: usize = 256;
/// Milliseconds between two looks at the ports that scanners have touched: these read a whole set.
const LOOK: u64 = 1000;
/// Bans that are remembered, to be counted; beyond that the first ones are forgotten.
const COUNTED: usize = 1024;
/// Sources in the throttle that the log hears of, of each window of so many milliseconds.
const LOGGED: u32 = 20;
const MINUTE: u64 = 60_000;

/// What is to be done beside telling.
#[derive(Default)]
struct Terms {
    scans: bool,
    floods: bool,
    limit: u32,
    bantime: u32,
    /// Seconds, and how many bans within them are followed by one for good.
    permanent: Option<(u32, u32)>,
}

/// The way to the kernel's news, and what was heard.
#[derive(Default)]
pub(super) struct Alarms {
    packets: Option<Packets>,
    terms: Terms,
    heard: Vec<Packet>,
    /// Whom the kernel has banned, and when.
    counted: Vec<(Range, Mono)>,
    look_at: Mono,
    /// When the log may hear of throttled sources again, how many it has heard of, and of how many not.
    logs_at: Mono,
    logged: u32,
    silent: u64,
}

impl Alarms {
    /// Listens where there is something to hear.
    pub(super) fn open(settings: &Settings, judge: &mut Judge) -> Alarms {
        let mut this = Alarms::default();
        this.configure(settings, judge);
        this
    }

    pub(super) fn configure(&mut self, settings: &Settings, judge: &mut Judge) {
        let scan = &settings.scan;
        self.terms = Terms {
            scans: scan.enabled,
            floods: settings.flood.enabled,
            limit: scan.limit,
            bantime: scan.bantime,
            permanent: scan.escalation_enabled.then_some((scan.escalation_window, scan.permanent_threshold)),
        };
        if !self.terms.scans && !self.terms.floods {
            self.packets = None;
        } else if self.packets.is_none() {
            match Packets::open(ALARMS) {
                Ok(packets) => self.packets = Some(packets),
                Err(e) => log::warn!(
                    "{e}: does another program read group {ALARMS}? Port scans are banned and floods held back by the kernel, \
                     and not told; who floods is not banned"
                ),
            }
        }
        if judge.guard().wants_open_ports() {
            open_ports(judge);
        }
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.packets.as_ref().map(Packets::fd)
    }

    /// Hears what there is, and tells it.
    pub(super) fn look(&mut self, now: Now, judge: &mut Judge) {
        let Some(packets) = &mut self.packets else { return };
        let heard = &mut self.heard;
        let result = packets.hear(&mut |packet| {
            if heard.len() < HEARD {
                heard.push(packet);
            }
        });
        match result {
            Ok(0) => {}
            Ok(lost) => {
                if judge.alarms_lost == 0 {
                    log::warn!(
                        "more port scans and floods than could be told; status counts them as alarms_lost"
                    );
                }
                judge.alarms_lost += lost;
            }
            Err(e) => {
                log::warn!("{e}; port scans and floods are not told any more");
                self.packets = None;
            }
        }
        self.tell_scans(now, judge);
        self.tell_floods(now, judge);
        self.heard = Vec::new();
    }

    fn tell_floods(&mut self, now: Now, judge: &mut Judge) {
        for packet in &self.heard {
            let Alarm::Flood(limit) = packet.alarm else { continue };
            if now.mono >= self.logs_at {
                if self.silent > 0 {
                    log::info!("{} more sources went into the flood throttle", self.silent);
                }
                (self.logs_at, self.logged, self.silent) = (now.mono.after(MINUTE), 0, 0);
            }
            // Senders can be forged, in any number.
            let logs = self.logged < LOGGED;
            if logs {
                self.logged += 1
            } else {
                self.silent += 1
            }
            judge.throttled(now, offender(packet.from, judge.ipv6_prefix()), packet.port, limit, logs);
        }
        judge.commit(now);
    }

    fn tell_scans(&mut self, now: Now, judge: &mut Judge) {
        let mut scanners: Vec<Scanner> = Vec::new();
        for packet in self.heard.iter().filter(|p| p.alarm == Alarm::Scan && self.terms.scans) {
            let who = Range::from(offender(packet.from, judge.ipv6_prefix()));
            if scanners.iter().all(|s| s.who != who) {
                // Behind headers that are not looked into there is no port to tell.
                let ports = Some(packet.port).filter(|port| *port != 0).into_iter().collect();
                scanners.push(Scanner { who, ports });
            }
        }
        if scanners.is_empty() {
            return;
        }
        if now.mono >= self.look_at {
            self.look_at = now.mono.after(LOOK);
            if let Err(e) = judge.guard().scanned_ports(&mut scanners) {
                log::warn!("{e}");
            }
        }
        let Terms { limit, bantime, permanent, .. } = self.terms;
        if judge.guard().wants_open_ports() {
            // Services that have begun since the last look are no closed ports.
            let open = open_ports(judge);
            scanners.retain_mut(|scanner| {
                let before = scanner.ports.len();
                scanner.ports.retain(|port| !open.contains(port));
                let kept = scanner.ports.len() == before || scanner.ports.len() > limit as usize;
                if !kept && let Err(e) = judge.guard().pardon(&scanner.who) {
                    log::warn!("{e}");
                }
                kept
            });
        }
        for scanner in &mut scanners {
            scanner.ports.sort_unstable();
            let hits = u32::try_from(scanner.ports.len()).unwrap_or(0).max(limit.saturating_add(1));
            let window = permanent.map_or(0, |(window, _)| window).max(bantime);
            let bans = self.count(now.mono, scanner.who, window);
            let for_good = permanent.is_some_and(|(_, threshold)| bans >= threshold);
            let time = if for_good { Span::Permanent } else { Span::Secs(bantime.into()) };
            judge.scanned(now, scanner, (SCANS, hits, bans), time);
        }
    }

    /// How often somebody was banned within so many seconds, this time included.
    fn count(&mut self, now: Mono, who: Range, window: u32) -> u32 {
        self.counted.retain(|(_, at)| now.since(*at) < u64::from(window) * 1000);
        if self.counted.len() == COUNTED {
            self.counted.remove(0);
        }
        self.counted.push((who, now));
        u32::try_from(self.counted.iter().filter(|(other, _)| *other == who).count()).unwrap_or(u32::MAX)
    }
}

/// Tells the kernel which ports are open, where it cannot look that up.
fn open_ports(judge: &mut Judge) -> Vec<u16> {
    let ports = host::open_ports();
    if let Err(e) = judge.guard().set_open_ports(&ports) {
        log::warn!("{e}");
    }
    ports
}
