#![forbid(unsafe_code)]
//! Those who stand in DNSBLs: who may be looked up, and the bans that follow.

use super::Judge;
use crate::ban::Unseen;
use crate::daemon::wire::HitReports;
use crate::detect::observe::Offence;
use crate::detect::webscan::Excess;
use crate::dnsbl::{Anew, Missed};
use crate::sys::clock;
use std::net::IpAddr;

/// Addresses with hits that wait to be looked up at most. Others have another hit.
const FIRST: usize = 64;

/// Addresses that had a hit, for whoever wants to know more of them.
#[derive(Default)]
pub(super) struct FirstHits(Option<Vec<IpAddr>>);

impl FirstHits {
    /// Whether somebody wants to know.
    pub(super) fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Somebody had a hit.
    pub(super) fn add(&mut self, addr: IpAddr) {
        if let Some(addrs) = &mut self.0
            && addrs.len() < FIRST
            && !addrs.contains(&addr)
        {
            addrs.push(addr);
        }
    }
}

impl Judge {
    /// Whether it is to be reported who has hits.
    pub(in crate::daemon) fn report_first_hits(&mut self, reports: HitReports) {
        self.first_hits.0 = (reports == HitReports::Wanted).then(|| Vec::with_capacity(FIRST));
    }

    /// One of those who had hits, until there are no more.
    pub(in crate::daemon) fn take_first_hit(&mut self) -> Option<IpAddr> {
        self.first_hits.0.as_mut()?.pop()
    }

    /// Whether strangers may be asked about an address: it is none that must not be banned, and not private.
    pub(in crate::daemon) fn may_be_looked_up(&self, addr: IpAddr) -> bool {
        self.decider.may_be_looked_up(addr, clock::wall())
    }

    /// Has the kernel report those again who could not be asked about.
    pub(in crate::daemon) fn report_anew(&mut self, anew: Anew) {
        let whom: Option<Vec<Unseen>> = match anew {
            Anew::All => None,
            Anew::Some(missed) => {
                let unseen = |one: &Missed| Unseen { who: self.offender(one.addr).into(), after: one.after };
                Some(missed.iter().map(unseen).collect())
            }
        };
        // What is wrong with the table is found by whoever looks after it; then all of it is written anew.
        let _ = self.guard().report_again(whom.as_deref());
    }

    /// A list has an address; it is the given one of so many. Banned with the next commit.
    pub(in crate::daemon) fn listed(&mut self, (list, lists): (usize, usize), addr: IpAddr, reason: String) {
        // The policies of lists are the last ones.
        let rule =
            (self.decider.policies.len() + list).checked_sub(lists).and_then(|at| u16::try_from(at).ok());
        let Some(rule) = rule else { return };
        let excess = Excess { reason, requests: 0, detect: false, bantime: None };
        let source = self.decider.offender(addr);
        let excess = Some(Box::new(excess));
        self.observer.counter.offences.push(Offence {
            source,
            rule,
            hits: 1,
            wide: None,
            excess,
            line: Box::default(),
        });
    }
}
