#![forbid(unsafe_code)]
//! A list: what the configuration says of it, whether it can be relied on, and what was counted.

use super::verdict::{Refusal, Verdict, verdict};
use crate::base::clock::Mono;
use crate::config::Zone;
use crate::dns::client::Trouble;
use crate::dns::name::Name;
use crate::dns::packet::Message;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Milliseconds between two tests of a list.
const HOUR: u64 = 3_600_000;
/// The same after a test that said nothing, at first; it doubles.
const SOON: u64 = 30_000;
/// Answers that are looked at to see whether a list has gone mad.
const WINDOW: u32 = 32;
/// Of these, so many have to be there.
const ENOUGH: u32 = 16;

/// The test entries of RFC 5782: the first and third have to be listed, the others must not be.
pub const TESTS: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)),
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0x7f00, 2)),
    IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0x7f00, 1)),
];

/// Whether a list is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Not yet: it has not been tested.
    Waits(Option<Trouble>),
    /// It is.
    On,
    /// Not: it cannot be relied on.
    Off(Unreliable),
}

/// Why a list cannot be relied on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unreliable {
    /// An entry that every list has is not there.
    NoTestEntry,
    /// It lists what no list has.
    ListsAll,
    /// A resolver makes up answers.
    MadeUp(Ipv4Addr),
    /// It says why it does not answer.
    Refused(Ipv4Addr),
    /// Too many of those that were asked about are listed: so many percent.
    TooMany(u32),
}

impl fmt::Display for Unreliable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreliable::NoTestEntry => f.write_str(
                "the test entry 127.0.0.2 is not in it: is the zone's name right, is the list still \
                 maintained? (no_test_entry=true for lists that have none)",
            ),
            Unreliable::ListsAll => f.write_str(
                "127.0.0.1 is listed, which no list may have: it lists everything, or a resolver makes up \
                answers",
            ),
            Unreliable::MadeUp(addr) => write!(
                f,
                "the answer {addr} is not a list's: a resolver makes up answers for names that do not exist"
            ),
            Unreliable::Refused(code) => Refusal(*code).fmt(f),
            Unreliable::TooMany(share) => write!(
                f,
                "{share} % of the addresses asked about last were listed, more than mass_limit allows: \
                does it \
                 list everything?"
            ),
        }
    }
}

/// What was counted of a list.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    /// Questions about addresses.
    pub asked: u64,
    /// Of these, those that are listed.
    pub listed: u64,
    /// And those without a usable answer.
    pub failed: u64,
    /// Milliseconds of all answers together.
    pub took: u64,
}

impl Counts {
    /// Milliseconds that an answer took.
    #[must_use]
    pub fn mean(&self) -> u64 {
        self.took.checked_div(self.asked - self.failed).unwrap_or(0)
    }
}

/// A list.
pub struct Profile {
    /// By which it is called. The zone's name may hold a key, and is told to nobody but servers.
    pub name: Box<str>,
    pub(super) zone: Name,
    matches: Box<[Box<str>]>,
    /// Milliseconds.
    pub(super) timeout: u64,
    /// Seconds, of a listing, its absence and a failure.
    pub(super) ttls: [u32; 3],
    no_test_entry: bool,
    mass_limit: u32,
    /// Whether it is asked.
    pub state: State,
    /// Whether it is asked about IPv4 and IPv6.
    families: [bool; 2],
    pub(super) test_at: Mono,
    /// Milliseconds after which a test that said nothing is made again.
    again: u64,
    /// What the entries of a test in progress were.
    tested: [Option<Verdict>; 4],
    /// The last answers, a bit each, the newest lowest; and how many.
    window: (u32, u32),
    /// What was counted.
    pub counts: Counts,
}

impl Profile {
    /// As the configuration says; `None` if the zone's name is none.
    #[must_use]
    pub fn of(zone: &Zone) -> Option<Profile> {
        let name = Name::parse(zone.zone.as_bytes())?;
        // The longest name below it has to have room.
        Name::of_addr(TESTS[2], &name)?;
        Some(Profile {
            name: zone.key.as_str().into(),
            zone: name,
            matches: zone.answer_match.iter().map(|one| one.as_str().into()).collect(),
            timeout: u64::from(zone.timeout) * 1000,
            ttls: [zone.positive_ttl, zone.negative_ttl, zone.error_ttl],
            no_test_entry: zone.no_test_entry,
            mass_limit: zone.mass_limit,
            state: State::Waits(None),
            families: [false; 2],
            test_at: Mono::default(),
            again: SOON,
            tested: [None; 4],
            window: (0, 0),
            counts: Counts::default(),
        })
    }

    /// The name to ask for.
    #[must_use]
    pub fn name_of(&self, addr: IpAddr) -> Option<Name> {
        Name::of_addr(addr, &self.zone)
    }

    /// What an answer means.
    #[must_use]
    pub fn verdict(&self, answer: Result<Message<'_>, Trouble>) -> Verdict {
        verdict(answer, &self.matches)
    }

    /// Whether it is asked about an address.
    #[must_use]
    pub fn wants(&self, addr: IpAddr) -> bool {
        let [v4, v6] = self.families;
        self.state == State::On && if addr.is_ipv4() { v4 } else { v6 }
    }

    /// Whether that is not known yet.
    pub(super) fn may_want(&self) -> bool {
        self.state == State::Waits(None)
    }

    /// A test begins.
    pub(super) fn begin_test(&mut self, now: Mono) {
        self.tested = [None; 4];
        self.test_at = now.after(HOUR);
    }

    /// Takes in what a test entry is; whether the state is another one then.
    pub(super) fn tested(&mut self, now: Mono, number: usize, verdict: Verdict) -> bool {
        if let Some(place) = self.tested.get_mut(number) {
            *place = Some(verdict);
        }
        let [Some(yes4), Some(no4), Some(yes6), Some(no6)] = self.tested else { return false };
        let previous = self.state;
        self.state = self.judge(now, [yes4, no4, yes6, no6]);
        self.tested = [None; 4];
        previous != self.state
    }

    fn judge(&mut self, now: Mono, [yes4, no4, yes6, no6]: [Verdict; 4]) -> State {
        for verdict in [yes4, no4, yes6, no6] {
            match verdict {
                Verdict::MadeUp(addr) => return State::Off(Unreliable::MadeUp(addr)),
                // 127.0.0.1 is what some zones have for themselves.
                Verdict::Refused(code) if code != Ipv4Addr::LOCALHOST => {
                    return State::Off(Unreliable::Refused(code));
                }
                _ => {}
            }
        }
        let is_there = |v| !matches!(v, Verdict::Clean | Verdict::Trouble(_));
        if is_there(no4) || is_there(no6) {
            return State::Off(Unreliable::ListsAll);
        }
        if let (Verdict::Trouble(trouble), _) | (_, Verdict::Trouble(trouble)) = (yes4, no4) {
            // That says nothing of the list: nothing is known until there is an answer.
            self.test_at = now.after(self.again);
            self.again = (self.again * 2).min(HOUR);
            return if self.state == State::On { State::On } else { State::Waits(Some(trouble)) };
        }
        self.again = SOON;
        let six_fails = matches!(yes6, Verdict::Trouble(_)) || matches!(no6, Verdict::Trouble(_));
        let six = if six_fails { self.families[1] } else { self.no_test_entry || is_there(yes6) };
        self.families = [self.no_test_entry || is_there(yes4), six];
        if self.families == [false; 2] { State::Off(Unreliable::NoTestEntry) } else { State::On }
    }

    /// Takes in what an answer about an address means; whether the state is another one then.
    pub(super) fn answered(&mut self, verdict: Verdict, took: u64) -> bool {
        self.counts.asked += 1;
        let previous = self.state;
        match verdict {
            Verdict::Trouble(_) => {
                self.counts.failed += 1;
                return false;
            }
            Verdict::MadeUp(addr) => self.state = State::Off(Unreliable::MadeUp(addr)),
            Verdict::Refused(code) => self.state = State::Off(Unreliable::Refused(code)),
            _ => {}
        }
        if self.state != previous {
            self.counts.failed += 1;
            return true;
        }
        self.counts.took += took;
        let listed = matches!(verdict, Verdict::Listed(_));
        self.counts.listed += u64::from(listed);
        let (bits, count) = self.window;
        let (bits, count) = (bits << 1 | u32::from(listed), (count + 1).min(WINDOW));
        let share = bits.count_ones() * 100 / count;
        self.window = (bits, count);
        if count >= ENOUGH && share > self.mass_limit {
            self.window = (0, 0);
            self.state = State::Off(Unreliable::TooMany(share));
        }
        previous != self.state
    }
}
