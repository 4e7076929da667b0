#![forbid(unsafe_code)]
//! Hears of sources that the kernel has not seen for a time, when they begin connections to ports that DNSBLs
//! close, tells them, and has them looked up. Asks no DNSBL itself and bans nobody.

use super::dns::Dns;
use super::judge::Judge;
use crate::ban::Alarm;
use crate::base::clock::Now;
use crate::firewall::Packets;
use std::os::fd::BorrowedFd;

/// The way to what the kernel tells of new sources.
#[derive(Default)]
pub(super) struct NewSources(Option<Packets>);

impl NewSources {
    /// Listens where there is something to hear.
    pub(super) fn open(judge: &mut Judge) -> NewSources {
        let mut this = NewSources::default();
        this.configure(judge);
        this
    }

    pub(super) fn configure(&mut self, judge: &mut Judge) {
        if judge.guard().options().seen.is_none() {
            self.0 = None;
        } else if self.0.is_none() {
            match Packets::news() {
                Ok(packets) => self.0 = Some(packets),
                Err(e) => {
                    log::warn!("{e}: new sources are not reported");
                }
            }
        }
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(Packets::fd)
    }

    /// Hears what there is, and tells it.
    pub(super) fn read_packets(&mut self, now: Now, judge: &mut Judge, dns: &mut Dns) {
        let Some(packets) = &mut self.0 else { return };
        let heard = packets.hear(&mut |packet| {
            if packet.alarm == Alarm::New {
                judge.newcomer(now, judge.offender(packet.from), packet.port);
                dns.look_up(now, judge, packet.from);
            }
        });
        match heard {
            Ok(lost) => judge.counted.news_lost += lost,
            Err(e) => {
                log::warn!("{e}; new sources are no longer reported");
                self.0 = None;
            }
        }
    }
}
