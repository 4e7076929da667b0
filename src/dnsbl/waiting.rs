#![forbid(unsafe_code)]
//! Addresses that wait to be asked about, and which list is asked about which of them next.

use super::cache::Known;
use super::{Ask, Dnsbl, HOST_FLIGHTS, Question, WAITING, What};
use crate::base::clock::Mono;
use crate::dns::client::FLIGHTS;
use crate::dns::packet::kind;
use std::net::{IpAddr, Ipv4Addr};

/// Questions in flight that all lists share; others are left to host names.
pub(super) const SHARED: usize = FLIGHTS - HOST_FLIGHTS;
/// Seconds after which a question that never came back is forgotten.
const LOST: u32 = 300;

/// An address that waits.
#[derive(Clone, Copy)]
pub(super) struct Waiting {
    addr: IpAddr,
    /// The lists that are still to be asked, a bit each.
    lists: u16,
}

/// What becomes of an address that waits for a list.
enum Next {
    /// The list is asked.
    Asks,
    /// Not now.
    Waits,
    /// It turned out not to be asked.
    Not,
    /// It does not answer, and the one question that finds out whether it does again is on its way.
    Silent,
}

/// The numbers of lists that have a bit each.
fn each_of(lists: u16) -> impl Iterator<Item = u8> {
    (0..16).filter(move |list| lists >> list & 1 == 1)
}

impl Dnsbl {
    /// Has an address looked up where that was not done within the time that answers hold. Of whom a list is
    /// known to have only the text is asked for.
    pub fn look_up(&mut self, now: Mono, addr: IpAddr) {
        let (mut lists, mut listed) = (0u16, None);
        for (number, profile) in (0..).zip(&self.profiles) {
            if !profile.wants(addr) && !profile.may_want() {
                continue;
            }
            match self.cache.get(now, number, addr) {
                None => lists |= 1 << number,
                Some((Known::Listed(code), _)) => listed = listed.or(Some((number, code))),
                Some((Known::Failed, left)) => self.anew.add(addr, left),
                Some(_) => {}
            }
        }
        if let Some((list, [b, c, d])) = listed {
            self.is_listed(list, addr, Ipv4Addr::new(127, b, c, d));
        }
        if lists == 0 {
            return;
        }
        if self.waiting.len() == WAITING && !self.make_room(now) {
            return self.leave_out(now, Waiting { addr, lists }, 1);
        }
        for number in each_of(lists) {
            self.cache.put(now, number, addr, Known::Asked, LOST);
        }
        self.waiting.push_back(Waiting { addr, lists });
    }

    /// A list has an address: why is asked for next.
    pub(super) fn is_listed(&mut self, list: u8, addr: IpAddr, code: Ipv4Addr) {
        let text = (list, addr, code);
        if self.texts.len() == WAITING {
            self.anew.add(addr, 1);
        } else if !self.texts.contains(&text) {
            self.texts.push_back(text);
        }
    }

    /// An address is not asked about now: it may be after this time.
    fn leave_out(&mut self, now: Mono, left: Waiting, secs: u32) {
        self.skipped += 1;
        for list in each_of(left.lists) {
            self.cache.put(now, list, left.addr, Known::Failed, secs);
        }
        self.anew.add(left.addr, secs);
    }

    /// Leaves out who has waited longest of those who only wait for lists that do not come to an end.
    fn make_room(&mut self, now: Mono) -> bool {
        let waits = |waiting: &Waiting| {
            each_of(waiting.lists).all(|list| matches!(self.next_for(list, waiting.addr), Next::Waits))
        };
        let first = self.waiting.iter().position(waits).and_then(|at| self.waiting.remove(at));
        first.inspect(|first| self.leave_out(now, *first, 1)).is_some()
    }

    fn next_for(&self, list: u8, addr: IpAddr) -> Next {
        let Some(profile) = self.profiles.get(usize::from(list)) else { return Next::Not };
        let in_flight = self.flights.get(usize::from(list)).copied().unwrap_or(0);
        if profile.may_want() {
            // Whoever comes before the tests are over waits for them.
            Next::Waits
        } else if !profile.wants(addr) {
            Next::Not
        } else if self.silent >> list & 1 == 1 && in_flight > 0 {
            Next::Silent
        } else if self.has_share(list) {
            Next::Asks
        } else {
            Next::Waits
        }
    }

    /// Whether a list has fewer questions in flight than are its own. One that is slow would have all.
    pub(super) fn has_share(&self, list: u8) -> bool {
        let share = (SHARED / self.profiles.len().max(1)).max(1);
        self.flights.get(usize::from(list)).is_some_and(|flights| usize::from(*flights) < share)
    }

    pub(super) fn next_addr(&mut self, now: Mono) -> Option<Question> {
        let mut at = 0;
        while let Some(Waiting { addr, lists }) = self.waiting.get(at).copied() {
            let mut all = each_of(lists).map(|list| (list, self.next_for(list, addr)));
            let Some((list, next)) = all.find(|(_, next)| !matches!(next, Next::Waits)) else {
                at += 1;
                continue;
            };
            let rest = lists & !(1 << list);
            if rest == 0 {
                self.waiting.remove(at);
            } else if let Some(waiting) = self.waiting.get_mut(at) {
                waiting.lists = rest;
            }
            let profile = self.profiles.get(usize::from(list))?;
            match next {
                Next::Asks => {
                    let ask = Ask { list, what: What::Addr(addr) };
                    return profile.question(ask, addr, kind::A, profile.timeout);
                }
                Next::Silent => {
                    let [_, _, failed] = profile.ttls;
                    self.leave_out(now, Waiting { addr, lists: 1 << list }, failed);
                }
                // What is not known may be asked later.
                Next::Not | Next::Waits => self.cache.put(now, list, addr, Known::Failed, 1),
            }
        }
        None
    }
}
