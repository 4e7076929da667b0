#![forbid(unsafe_code)]
//! Hears of what the kernel has done by itself, and tells it: port scans are banned and floods held back when
//! their packets come, whether somebody listens here or not.

use super::judge::Judge;
use crate::ban::Pardon;
use crate::ban::{Alarm, FLOODS, FloodLimit, PORT_MEMORY, ReportedPacket, SCANS, Scanner};
use crate::base::clock::{Mono, Now};
use crate::base::count::count;
use crate::base::range::Range;
use crate::config::Settings;
use crate::firewall::{Packets, connected};
use crate::sys::host;
use ipnet::IpNet;
use std::os::fd::BorrowedFd;

/// Packets that are looked at in one turn; the kernel keeps the others.
const PACKETS_PER_TURN: usize = 256;
/// Milliseconds between two looks at what scanners have touched and at who is connected: these read whole
/// tables.
const LOOK_INTERVAL: u64 = 1000;
/// Those who wait for a look at most; beyond that they are told of without.
const PENDING: usize = 1024;
/// Bans that are remembered, to be counted; beyond that the first ones are forgotten.
const COUNTED: usize = 1024;
/// Sources in the throttle that the log hears of, of each window of so many milliseconds.
const LOGGED: u32 = 20;
const MINUTE: u64 = 60_000;
/// Why somebody is not banned for packets.
const CONNECTED: &str = "connected to this host, and anybody can send packets in its name";

/// What is to be done beside telling.
#[derive(Default)]
struct AlarmTerms {
    scans: bool,
    floods: bool,
    limit: u32,
    bantime: u32,
    /// Seconds, how many bans within them are followed by a longer one, and its seconds.
    escalates: Option<(u32, u32, u32)>,
}

/// The way to the kernel's news, and what was heard.
#[derive(Default)]
pub(super) struct Alarms {
    packets: Option<Packets>,
    terms: AlarmTerms,
    heard: Vec<ReportedPacket>,
    /// Whom the kernel has banned, and who has flooded too often, of whom it is not known whether they are
    /// connected.
    scanners: Vec<Scanner>,
    flooders: Vec<(IpNet, u32)>,
    /// Whom the kernel has banned, and when.
    counted: Vec<(Range, Mono)>,
    look_at: Mono,
    /// When the log may hear of throttled sources again, how many it has heard of, and of how many not.
    logs_at: Mono,
    logged: u32,
    silent: u64,
}

impl Alarms {
    /// Listens where there is something to hear, and asks of those who were banned while nobody listened
    /// whether they are connected.
    pub(super) fn open(settings: &Settings, judge: &mut Judge) -> Alarms {
        let mut this = Alarms::default();
        this.configure(settings);
        this.look_back(judge);
        this
    }

    /// Takes back the kernel's bans of who is connected. The others are no news: whoever heard of them has
    /// told them.
    fn look_back(&self, judge: &mut Judge) {
        let found = judge.guard().packet_bans().and_then(|bans| {
            let sources: Vec<Range> = bans.iter().map(|(addr, _)| *addr).collect();
            Ok((bans, connected(&sources)?))
        });
        match found {
            Ok((bans, connected)) => {
                for ((addr, ban), _) in bans.iter().zip(connected).filter(|(_, connected)| *connected) {
                    let hits = ban.hits.max(self.terms.limit.saturating_add(1));
                    let rule = if ban.rule == FLOODS { FLOODS } else { SCANS };
                    unban_connected(judge, addr, rule, hits);
                }
            }
            Err(e) => log::debug!("{e}: cannot tell which banned addresses are connected"),
        }
    }

    pub(super) fn configure(&mut self, settings: &Settings) {
        let scan = &settings.scan;
        self.terms = AlarmTerms {
            scans: scan.enabled,
            floods: settings.flood.enabled,
            limit: scan.limit,
            bantime: scan.bantime,
            escalates: scan.escalation_enabled.then_some((
                scan.escalation_window,
                scan.permanent_threshold,
                settings.bantime_max,
            )),
        };
        if !self.terms.scans && !self.terms.floods {
            self.packets = None;
        } else if self.packets.is_none() {
            match Packets::alarms() {
                Ok(packets) => self.packets = Some(packets),
                Err(e) => log::warn!(
                    "{e}: port scans are banned and floods held back by the kernel, but not reported; who \
                     floods is not banned"
                ),
            }
        }
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.packets.as_ref().map(Packets::fd)
    }

    /// Hears what there is, and tells it.
    pub(super) fn read_packets(&mut self, now: Now, judge: &mut Judge) {
        let Some(packets) = &mut self.packets else { return };
        let heard = &mut self.heard;
        let result = packets.hear(&mut |packet| {
            if heard.len() < PACKETS_PER_TURN {
                heard.push(packet);
            }
        });
        match result {
            Ok(0) => {}
            Ok(lost) => {
                if judge.counted.alarms_lost == 0 {
                    log::warn!(
                        "more port scans and floods than could be reported; status counts them as alarms_lost"
                    );
                }
                judge.counted.alarms_lost += lost;
            }
            Err(e) => {
                log::warn!("{e}; port scans and floods are no longer reported");
                self.packets = None;
            }
        }
        self.report_floods(now, judge);
        for packet in std::mem::take(&mut self.heard) {
            if packet.alarm == Alarm::Scan && self.terms.scans {
                self.scanner(&packet, now, judge);
            }
        }
        self.turn(now, judge);
    }

    /// When those who wait are due.
    pub(super) fn deadline(&self) -> Option<Mono> {
        (!self.scanners.is_empty() || !self.flooders.is_empty()).then_some(self.look_at)
    }

    /// Notes somebody whom the kernel has banned.
    fn scanner(&mut self, packet: &ReportedPacket, now: Now, judge: &mut Judge) {
        let addr = Range::from(judge.offender(packet.from));
        if self.scanners.iter().any(|s| s.addr == addr) {
            return;
        }
        // Behind headers that are not looked into there is no port to tell.
        let ports = Some(packet.port).filter(|port| *port != 0).into_iter().collect();
        self.scanners.push(Scanner { addr, ports });
        if self.scanners.len() > PENDING {
            let first = self.scanners.remove(0);
            self.report_scan(now, first, judge);
        }
    }

    /// Decides on those who wait, all at once, so that a crowd of forged senders costs no more than one.
    pub(super) fn turn(&mut self, now: Now, judge: &mut Judge) {
        if self.deadline().is_none_or(|at| now.mono < at) {
            return;
        }
        self.look_at = now.mono.after(LOOK_INTERVAL);
        let scanners = std::mem::take(&mut self.scanners);
        let flooders = std::mem::take(&mut self.flooders);
        let sources: Vec<Range> = scanners
            .iter()
            .map(|s| s.addr)
            .chain(flooders.iter().map(|(addr, _)| Range::from(*addr)))
            .collect();
        let connected = connected(&sources).unwrap_or_else(|e| {
            log::debug!("{e}: cannot tell who is connected");
            vec![false; sources.len()]
        });
        let (scanned, flooded) = connected.split_at_checked(scanners.len()).unwrap_or_default();
        let mut rest = Vec::new();
        for (scanner, connected) in scanners.into_iter().zip(scanned) {
            if !connected {
                rest.push(scanner);
                continue;
            }
            unban_connected(judge, &scanner.addr, SCANS, self.terms.limit.saturating_add(1));
        }
        for ((addr, hits), connected) in flooders.iter().zip(flooded) {
            if *connected {
                judge.report_exempt(FLOODS, &Range::from(*addr), *hits, CONNECTED);
            } else {
                judge.flooded(now, *addr, *hits);
            }
        }
        self.report_scans(now, rest, judge);
    }

    fn report_floods(&mut self, now: Now, judge: &mut Judge) {
        for packet in &self.heard {
            let Alarm::Flood(limit) = packet.alarm else { continue };
            if now.mono >= self.logs_at {
                if self.silent > 0 {
                    log::info!("{} entered the flood throttle", count(self.silent, "more source"));
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
            let addr = judge.offender(packet.from);
            // Many connections at a time are an office, or people who wait: they are held back, and that is
            // all.
            let counts = limit != FloodLimit::Conns;
            if let Some(hits) = judge.throttled(now, addr, (packet.port, limit), logs, counts)
                && self.flooders.len() < PENDING
            {
                self.flooders.push((addr, hits));
            }
        }
    }

    fn report_scans(&mut self, now: Now, mut scanners: Vec<Scanner>, judge: &mut Judge) {
        if scanners.is_empty() {
            return;
        }
        if let Err(e) = judge.guard().scanned_ports(&mut scanners) {
            log::warn!("{e}");
        }
        if judge.guard().wants_open_ports() {
            // Services that have begun since the last look are no closed ports.
            let open = open_ports(judge);
            let limit = self.terms.limit as usize;
            scanners.retain_mut(|scanner| {
                let before = scanner.ports.len();
                scanner.ports.retain(|port| !open.contains(port));
                let kept = scanner.ports.len() == before || scanner.ports.len() > limit;
                if !kept && let Err(e) = judge.guard().unban_packets(&scanner.addr, Pardon::Mistake) {
                    log::warn!("{e}");
                }
                kept
            });
        }
        scanners.into_iter().for_each(|scanner| self.report_scan(now, scanner, judge));
    }

    fn report_scan(&mut self, now: Now, mut scanner: Scanner, judge: &mut Judge) {
        scanner.ports.sort_unstable();
        let AlarmTerms { limit, bantime, escalates, .. } = self.terms;
        let hits = u32::try_from(scanner.ports.len()).unwrap_or(0).max(limit.saturating_add(1));
        let window = escalates.map_or(0, |(window, ..)| window).max(bantime);
        let bans = self.count(now.mono, scanner.addr, window);
        let longer =
            escalates.filter(|(_, threshold, _)| bans >= *threshold).map(|(_, _, secs)| secs.max(bantime));
        judge.scanned(now, &scanner, (SCANS, hits, bans), (bantime, longer));
    }

    /// How often somebody was banned within so many seconds, this time included.
    fn count(&mut self, now: Mono, addr: Range, window: u32) -> u32 {
        self.counted.retain(|(_, at)| now.since(*at) < u64::from(window) * 1000);
        if self.counted.len() == COUNTED {
            self.counted.remove(0);
        }
        self.counted.push((addr, now));
        u32::try_from(self.counted.iter().filter(|(other, _)| *other == addr).count()).unwrap_or(u32::MAX)
    }
}

/// Ends a ban that packets have led to, of who is connected.
fn unban_connected(judge: &mut Judge, addr: &Range, rule: &str, hits: u32) {
    if let Err(e) = judge.guard().unban_packets(addr, Pardon::Connected) {
        log::warn!("{e}");
    }
    judge.report_exempt(rule, addr, hits, CONNECTED);
}

/// Tells the kernel which ports are open, where it cannot look that up.
fn open_ports(judge: &mut Judge) -> Vec<u16> {
    let ports = host::open_ports();
    let reported: Vec<(u16, u64)> = ports.iter().map(|port| (*port, PORT_MEMORY)).collect();
    if let Err(e) = judge.guard().set_open_ports(&reported) {
        log::warn!("{e}");
    }
    ports
}
