#![forbid(unsafe_code)]
//! DNSBLs: which addresses are looked up in which lists, and what follows from the answers. Does no I/O:
//! questions are taken from it, answers given to it. Bounded in everything: addresses that wait, questions a
//! second, what is remembered. What has no room is left out, which means that nobody is banned for it.

mod cache;
mod profile;
mod verdict;

#[cfg(test)]
mod tests;

pub use profile::{Counts, Profile, State, TESTS, Unreliable};
pub use verdict::{Refusal, Verdict, text_of};

use crate::base::clock::Mono;
use crate::config::{Settings, Zone};
use crate::dns::client::Trouble;
use crate::dns::name::Name;
use crate::dns::packet::{Message, kind};
use cache::{Cache, Known};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

/// Addresses that wait to be looked up.
const WAITING: usize = 64;
/// Questions a second, and at once.
const RATE: u64 = 200;
/// Milliseconds that the text of a listing is waited for at most: the ban waits with it.
const TEXT: u64 = 1000;
/// Seconds after which a question that never came back is forgotten.
const LOST: u32 = 300;

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// A test entry, by its number.
    Test(u8),
    /// Whether an address is listed.
    Addr(IpAddr),
    /// Why it is, with the code it was listed with.
    Text(IpAddr, Ipv4Addr),
}

/// A question to a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    /// The list's number.
    pub list: u8,
    /// What is asked.
    pub what: What,
}

/// What is asked by the one client that there is, so that its code is there once.
#[derive(Clone, Copy)]
pub enum Tag {
    /// A DNSBL.
    List(Ask),
    /// For an address of a host name, and whether that is of IPv6.
    Host(u32, bool),
}

/// A question that is to be sent.
pub struct Question {
    /// To have the answer back with.
    pub ask: Ask,
    /// The name to ask for.
    pub name: Name,
    /// The type to ask for.
    pub kind: u16,
    /// Milliseconds.
    pub timeout: u64,
}

/// What follows from an answer.
#[derive(PartialEq, Eq, Debug)]
pub enum Finding {
    /// Nothing that anybody has to know.
    Nothing,
    /// A list says this of an address; if it is listed, more will follow.
    Looked(IpAddr, Verdict),
    /// An address is listed: it is to be banned, for this reason.
    Listed(IpAddr, String),
    /// The list's state is another one.
    Changed,
    /// It has begun not to answer, or answers again.
    Silent(Option<Trouble>),
}

/// An address that waits.
#[derive(Clone, Copy)]
struct Waiting {
    addr: IpAddr,
    port: Option<u16>,
    /// The lists that are still to be asked, a bit each.
    lists: u16,
}

/// Lists, and what is to be asked.
pub struct Dnsbl {
    profiles: Vec<Profile>,
    cache: Cache,
    waiting: VecDeque<Waiting>,
    /// Listings whose text is to be asked for.
    texts: VecDeque<(u8, IpAddr, Ipv4Addr)>,
    /// Test entries that are to be asked for, a bit each, of each list.
    tests: Vec<u8>,
    /// Questions that may be sent now, and when that was reckoned.
    allowance: (u64, Mono),
    /// Lists that do not answer, a bit each.
    silent: u16,
    /// Addresses that were left out.
    skipped: u64,
}

/// The lists that are on, that of the cloud behind the others.
pub fn zones_on(settings: &Settings) -> impl Iterator<Item = &Zone> {
    let zones = settings.zones.iter().filter(|zone| settings.rbl_enabled && zone.enabled);
    let cloud = Some(&settings.cloud.lookup).filter(|zone| zone.enabled);
    zones.chain(cloud).filter(|zone| !zone.zone.is_empty())
}

impl Dnsbl {
    /// With these lists; `key` is to be secret.
    #[must_use]
    pub fn new(profiles: Vec<Profile>, key: [u64; 2], now: Mono) -> Dnsbl {
        Dnsbl {
            tests: vec![0; profiles.len()],
            profiles,
            cache: Cache::new(key),
            waiting: VecDeque::with_capacity(WAITING),
            texts: VecDeque::with_capacity(WAITING),
            allowance: (RATE, now),
            silent: 0,
            skipped: 0,
        }
    }

    /// The lists.
    #[must_use]
    pub fn profiles(&self) -> &[Profile] {
        &self.profiles
    }

    /// Addresses that were not looked up, because too many came at a time.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Has an address looked up where that was not done within the time that answers hold. Without a port all
    /// lists are asked. Returns a list that is known to have it: it need not be asked again.
    pub fn look_up(&mut self, now: Mono, addr: IpAddr, port: Option<u16>) -> Option<u8> {
        let (mut lists, mut listed) = (0u16, None);
        for (number, profile) in (0..).zip(&self.profiles) {
            if !profile.wants(addr, port) && !profile.may_want(port) {
                continue;
            }
            match self.cache.get(now, number, addr) {
                None => lists |= 1 << number,
                Some(Known::Listed) => listed = listed.or(Some(number)),
                Some(_) => {}
            }
        }
        if lists != 0 {
            if self.waiting.len() == WAITING {
                self.skipped += 1;
                return listed;
            }
            for number in (0..).take(self.profiles.len()).filter(|number| lists >> number & 1 == 1) {
                self.cache.put(now, number, addr, Known::Asked, LOST);
            }
            self.waiting.push_back(Waiting { addr, port, lists });
        }
        listed
    }

    /// When something is to be done although nobody has answered.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        let test = self.profiles.iter().map(|profile| profile.test_at).min();
        let more = (!self.is_idle() && self.allowance.0 == 0).then(|| self.allowance.1.after(1000 / RATE));
        test.into_iter().chain(more).min()
    }

    fn is_idle(&self) -> bool {
        self.texts.is_empty() && self.waiting.is_empty() && self.tests.iter().all(|bits| *bits == 0)
    }

    /// The next question that is to be sent, if there is one and it may be sent now.
    pub fn next_question(&mut self, now: Mono) -> Option<Question> {
        for (profile, bits) in self.profiles.iter_mut().zip(&mut self.tests) {
            if profile.test_at <= now {
                profile.begin_test(now);
                *bits = 0b1111;
            }
        }
        if self.is_idle() {
            return None;
        }
        let (left, at) = self.allowance;
        let earned = now.since(at) * RATE / 1000;
        if earned > 0 {
            self.allowance = ((left + earned).min(RATE), now);
        }
        if self.allowance.0 == 0 {
            return None;
        }
        let question = self.next_test().or_else(|| self.next_text()).or_else(|| self.next_addr(now))?;
        self.allowance.0 -= 1;
        Some(question)
    }

    fn next_test(&mut self) -> Option<Question> {
        let (list, bits) = (0u8..).zip(&mut self.tests).find(|(_, bits)| **bits != 0)?;
        let number = bits.trailing_zeros();
        *bits &= *bits - 1;
        let profile = self.profiles.get(usize::from(list))?;
        let addr = TESTS.get(usize::try_from(number).ok()?)?;
        let what = What::Test(u8::try_from(number).ok()?);
        profile.question(Ask { list, what }, *addr, kind::A, profile.timeout)
    }

    fn next_text(&mut self) -> Option<Question> {
        let (list, addr, code) = self.texts.pop_front()?;
        let profile = self.profiles.get(usize::from(list))?;
        let ask = Ask { list, what: What::Text(addr, code) };
        profile.question(ask, addr, kind::TXT, profile.timeout.min(TEXT))
    }

    fn next_addr(&mut self, now: Mono) -> Option<Question> {
        // Whoever comes before the tests are over waits for them.
        while let Some(first) = self.waiting.front_mut() {
            let (addr, port) = (first.addr, first.port);
            let next = (0u8..)
                .zip(&self.profiles)
                .find(|(list, profile)| first.lists >> list & 1 == 1 && !profile.may_want(port));
            let Some((list, profile)) = next else {
                if first.lists != 0 {
                    return None;
                }
                self.waiting.pop_front();
                continue;
            };
            first.lists &= !(1 << list);
            if profile.wants(addr, port) {
                let ask = Ask { list, what: What::Addr(addr) };
                return profile.question(ask, addr, kind::A, profile.timeout);
            }
            // It turned out not to be asked: what is not known may be asked later.
            self.cache.put(now, list, addr, Known::Failed, 1);
        }
        None
    }

    /// Takes in what came of a question, and says what follows.
    pub fn answered(
        &mut self,
        now: Mono,
        ask: Ask,
        took: u64,
        answer: Result<Message<'_>, Trouble>,
    ) -> Finding {
        let Some(profile) = self.profiles.get_mut(usize::from(ask.list)) else { return Finding::Nothing };
        match ask.what {
            What::Test(number) => {
                let verdict = profile.verdict(answer);
                let changed = profile.tested(now, usize::from(number), verdict);
                if changed { Finding::Changed } else { Finding::Nothing }
            }
            What::Text(addr, code) => {
                let text = answer.map(text_of).ok().filter(|text| !text.is_empty());
                let text = text.unwrap_or_else(|| code.to_string());
                Finding::Listed(addr, ["listed by ", &profile.name, ": ", &text].concat())
            }
            What::Addr(addr) => {
                let verdict = profile.verdict(answer);
                let [positive, negative, failed] = profile.ttls;
                let (known, ttl) = match verdict {
                    Verdict::Listed(_) => (Known::Listed, positive),
                    Verdict::Clean | Verdict::Other(_) => (Known::Clean, negative),
                    _ => (Known::Failed, failed),
                };
                let changed = profile.answered(verdict, took);
                self.cache.put(now, ask.list, addr, known, ttl);
                if changed {
                    return Finding::Changed;
                }
                if let Verdict::Listed(code) = verdict
                    && self.texts.len() < WAITING
                {
                    self.texts.push_back((ask.list, addr, code));
                }
                let trouble = if let Verdict::Trouble(trouble) = verdict { Some(trouble) } else { None };
                let bit = 1 << ask.list;
                if trouble.is_some() != (self.silent & bit != 0) {
                    self.silent ^= bit;
                    return Finding::Silent(trouble);
                }
                Finding::Looked(addr, verdict)
            }
        }
    }
}

impl Profile {
    fn question(&self, ask: Ask, addr: IpAddr, kind: u16, timeout: u64) -> Option<Question> {
        Some(Question { ask, name: self.name_of(addr)?, kind, timeout })
    }
}
