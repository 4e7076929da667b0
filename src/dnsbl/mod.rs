#![forbid(unsafe_code)]
//! DNSBLs: which addresses are looked up in which lists, and what follows from the answers. Does no I/O:
//! questions are taken from it, answers given to it. Bounded in everything: addresses that wait, questions a
//! second, what is remembered. What has no room is left out, which means that nobody is banned for it until
//! it comes again. A list that does not answer takes little room from the others.

mod anew;
mod cache;
mod profile;
mod verdict;
mod waiting;

#[cfg(test)]
mod tests;

pub use anew::{Anew, Missed};
pub use profile::{Counts, Profile, State, TESTS, Unreliable};
pub use verdict::{Refusal, Verdict, text_of};

use crate::base::clock::Mono;
use crate::dns::client::Trouble;
use crate::dns::name::Name;
use crate::dns::packet::{Message, kind};
use cache::{Cache, Known};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use waiting::Waiting;

/// Addresses that wait to be looked up.
const WAITING: usize = 64;
/// Questions a second, and at once.
const RATE: u64 = 200;
/// Milliseconds that the text of a listing is waited for at most: the ban waits with it.
const TEXT: u64 = 1000;
/// Questions in flight that host names have.
pub const HOST_FLIGHTS: usize = 4;

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
    /// Likewise; with this it has begun not to answer, or answers again.
    Silent(IpAddr, Verdict),
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
    /// Questions of each list that are in flight.
    flights: Vec<u8>,
    /// Questions that may be sent now, and when that was reckoned.
    allowance: (u64, Mono),
    /// Lists that do not answer, a bit each.
    silent: u16,
    /// Addresses that were left out.
    skipped: u64,
    /// Who is to be reported again.
    anew: Anew,
}

impl Dnsbl {
    /// With these lists; `key` is to be secret.
    #[must_use]
    pub fn new(profiles: Vec<Profile>, key: [u64; 2], now: Mono) -> Dnsbl {
        Dnsbl {
            tests: vec![0; profiles.len()],
            flights: vec![0; profiles.len()],
            profiles,
            cache: Cache::new(key),
            waiting: VecDeque::with_capacity(WAITING),
            texts: VecDeque::with_capacity(WAITING),
            allowance: (RATE, now),
            silent: 0,
            skipped: 0,
            anew: Anew::Some(Vec::new()),
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

    /// Who is to be reported again, since this was last asked.
    pub fn take_anew(&mut self) -> Option<Anew> {
        let some = !matches!(&self.anew, Anew::Some(missed) if missed.is_empty());
        some.then(|| std::mem::replace(&mut self.anew, Anew::Some(Vec::new())))
    }

    /// Whether so many are to be reported again that it is time to say so.
    #[must_use]
    pub fn has_many_anew(&self) -> bool {
        matches!(&self.anew, Anew::Some(missed) if missed.len() >= WAITING)
    }

    /// Other name servers are asked from now on: lists that were not heard of are tested again.
    pub fn servers_changed(&mut self, now: Mono) {
        let unheard = |profile: &&mut Profile| matches!(profile.state, State::Waits(Some(_)));
        self.profiles.iter_mut().filter(unheard).for_each(|profile| profile.test_at = now);
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
        if let Some(flights) = self.flights.get_mut(usize::from(question.ask.list)) {
            *flights = flights.saturating_add(1);
        }
        Some(question)
    }

    fn next_test(&mut self) -> Option<Question> {
        let list = (0u8..).zip(&self.tests).find(|(list, bits)| **bits != 0 && self.has_share(*list))?.0;
        let bits = self.tests.get_mut(usize::from(list))?;
        let number = bits.trailing_zeros();
        *bits &= *bits - 1;
        let profile = self.profiles.get(usize::from(list))?;
        let addr = TESTS.get(usize::try_from(number).ok()?)?;
        let what = What::Test(u8::try_from(number).ok()?);
        profile.question(Ask { list, what }, *addr, kind::A, profile.timeout)
    }

    fn next_text(&mut self) -> Option<Question> {
        let at = self.texts.iter().position(|(list, ..)| self.has_share(*list))?;
        let (list, addr, code) = self.texts.remove(at)?;
        let profile = self.profiles.get(usize::from(list))?;
        let ask = Ask { list, what: What::Text(addr, code) };
        profile.question(ask, addr, kind::TXT, profile.timeout.min(TEXT))
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
        if let Some(flights) = self.flights.get_mut(usize::from(ask.list)) {
            *flights = flights.saturating_sub(1);
        }
        match ask.what {
            What::Test(number) => {
                let (verdict, previous) = (profile.verdict(answer), profile.state);
                let changed = profile.tested(now, usize::from(number), verdict);
                if changed && profile.state == State::On && previous != State::Waits(None) {
                    self.anew = Anew::All;
                }
                if changed { Finding::Changed } else { Finding::Nothing }
            }
            What::Text(addr, code) => {
                let text = answer.map(text_of).ok().filter(|text| !text.is_empty());
                let text = text.unwrap_or_else(|| code.to_string());
                Finding::Listed(addr, ["listed by ", &profile.name, ": ", &text].concat())
            }
            What::Addr(addr) => self.addr_answered(now, ask.list, addr, took, answer),
        }
    }

    fn addr_answered(
        &mut self,
        now: Mono,
        list: u8,
        addr: IpAddr,
        took: u64,
        answer: Result<Message<'_>, Trouble>,
    ) -> Finding {
        let Some(profile) = self.profiles.get_mut(usize::from(list)) else { return Finding::Nothing };
        let verdict = profile.verdict(answer);
        let [positive, negative, failed] = profile.ttls;
        let (known, ttl) = match verdict {
            Verdict::Listed(code) => {
                let [_, code @ ..] = code.octets();
                (Known::Listed(code), positive)
            }
            Verdict::Clean | Verdict::Other(_) => (Known::Clean, negative),
            _ => (Known::Failed, failed),
        };
        let changed = profile.answered(verdict, took);
        self.cache.put(now, list, addr, known, ttl);
        if known == Known::Failed {
            self.anew.add(addr, ttl);
        }
        if changed {
            return Finding::Changed;
        }
        if let Verdict::Listed(code) = verdict {
            self.is_listed(list, addr, code);
        }
        let bit = 1 << list;
        if matches!(verdict, Verdict::Trouble(_)) != (self.silent & bit != 0) {
            self.silent ^= bit;
            return Finding::Silent(addr, verdict);
        }
        Finding::Looked(addr, verdict)
    }
}

impl Profile {
    fn question(&self, ask: Ask, addr: IpAddr, kind: u16, timeout: u64) -> Option<Question> {
        Some(Question { ask, name: self.name_of(addr)?, kind, timeout })
    }
}
