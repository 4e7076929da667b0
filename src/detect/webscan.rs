#![forbid(unsafe_code)]
//! What each address asks web servers for, within windows: requests, different paths, different agents,
//! statuses.
//!
//! Of every address a place in a fixed table (see `places`) holds a few counters. A number of requests is
//! kept in eight panes, so that the oldest leave a window up to an eighth of it early. Different paths and
//! agents are kept as fingerprints under a secret key, each with when it was last seen, the oldest giving
//! way; there are as many as the thresholds need, so counts are exact up to there (but for one in a thousand
//! that has the fingerprint of another). Only addresses that come near a threshold keep their place from a
//! crowd.
//!
//! All memory is taken at construction, and none without a rule. Time comes in with every call and may go
//! back: a window ends at the newest request of its address. This module knows no clock, no format of a log
//! and no firewall.

mod counters;

use super::DetectRule;
use super::access::HttpRequest;
use super::path::Path;
use super::places::{HEAD, NetKey, OffenderTable};
use crate::base::clock::{Mono, Span};
use crate::base::siphash::sip13;
use crate::base::webscan::{Statuses, Threshold, WebscanSettings as Settings};
use counters::{
    COUNTERS, NEAR, PANES, ScanCounter, TICKS_MAX, TOLD, ThresholdKind, advance, count, different, last, see,
    sum,
};
use ipnet::IpNet;
use std::fmt::Write as _;
use std::ops::Range;

/// What an address did to be banned, or to be told of.
#[derive(Debug, Clone, PartialEq)]
pub struct Excess {
    /// What was too much, for people.
    pub reason: String,
    /// Requests within the window.
    pub requests: u32,
    /// Only to be told.
    pub detect: bool,
    /// How long a first ban lasts; none: as the rule says.
    pub bantime: Option<Span>,
}

/// The counters of a threshold.
struct RequestNeeds {
    /// Length of the window in ticks.
    ticks: u64,
    /// Counter and number: requests, paths, agents, those with a status, paths of these, names at the top of
    /// these.
    least: [(Option<usize>, u32); 6],
}

/// One rule.
struct ThresholdTable {
    name: Box<str>,
    settings: Settings,
    key: [u64; 2],
    /// A tick is `1 << shift` milliseconds.
    shift: u32,
    longest: u64,
    idle: u64,
    counters: Vec<ScanCounter>,
    needs: Vec<RequestNeeds>,
    places: OffenderTable,
}

/// The tables of all rules that have one.
pub struct Webscan {
    tables: Vec<Option<ThresholdTable>>,
    exceeded: u64,
}

impl Webscan {
    /// Takes the memory that the rules need. `key` must be secret and random.
    #[must_use]
    pub fn new(rules: &[DetectRule], key: [u64; 2]) -> Webscan {
        let table = |rule: &DetectRule| Some(ThresholdTable::new(&rule.name, rule.webscan.as_deref()?, key));
        Webscan { tables: rules.iter().map(table).collect(), exceeded: 0 }
    }

    /// Goes on with what was counted before a reload, for rules that have not changed.
    pub fn take_over(&mut self, old: Webscan) {
        self.exceeded += old.exceeded;
        for old in old.tables.into_iter().flatten() {
            let same = |new: &&mut ThresholdTable| new.name == old.name && new.settings == old.settings;
            if let Some(new) = self.tables.iter_mut().flatten().find(same) {
                *new = old;
            }
        }
    }

    /// Counts a request of `who`, which stands in `line`. When it is too much, says what was, and forgets the
    /// address, so that counting starts anew.
    pub fn request(
        &mut self,
        now: Mono,
        rule: u16,
        addr: IpNet,
        line: &[u8],
        request: &HttpRequest,
    ) -> Option<Excess> {
        let excess = self.tables.get_mut(usize::from(rule))?.as_mut()?.request(now, addr, line, request);
        self.exceeded += u64::from(excess.is_some());
        excess
    }

    /// How often somebody asked for too much so far.
    #[must_use]
    pub fn exceeded(&self) -> u64 {
        self.exceeded
    }

    /// Calls `each` with a rule and what is remembered of somebody for it, for tables with the same rules and
    /// the same key.
    pub(super) fn hand_over(&self, now: Mono, each: &mut dyn FnMut(u16, &[u32])) {
        for (rule, table) in (0..).zip(&self.tables) {
            table.iter().for_each(|table| table.hand_over(now, &mut |place| each(rule, place)));
        }
    }

    /// Takes that in; `None` for what is no such thing.
    pub(super) fn take_in(&mut self, now: Mono, rule: u16, place: &[u32]) -> Option<()> {
        self.tables.get_mut(usize::from(rule))?.as_mut()?.take_in(now, place)
    }

    /// Forgets an address; of a network, every address in it.
    pub fn forget(&mut self, addr: IpNet) {
        for table in self.tables.iter_mut().flatten() {
            table.places.forget(addr);
        }
    }
}

impl ThresholdTable {
    fn new(name: &str, settings: &Settings, key: [u64; 2]) -> ThresholdTable {
        let longest = u64::from(settings.longest().max(1)) * 1000;
        let shift = (0..u64::BITS).find(|&shift| longest >> shift <= TICKS_MAX).unwrap_or(0);
        let (mut counters, mut needs, mut stride) = (Vec::new(), Vec::new(), COUNTERS);
        for t in &settings.thresholds {
            let ticks = (u64::from(t.window) * 1000) >> shift;
            let requests = ThresholdKind::Requests((ticks / PANES).max(1));
            // A share is told from both numbers.
            let wanted = |least: u32| least > 0 || t.share > 0;
            let mut counter = |wanted: bool, kind, statuses, least: u32| {
                let words = if let ThresholdKind::Requests(_) = kind { PANES / 2 } else { u64::from(least) };
                let words = usize::try_from(words).unwrap_or(0);
                let same = |c: &ScanCounter| c.kind == kind && c.statuses == statuses;
                let at = counters.iter().position(same).unwrap_or(counters.len());
                if wanted && at == counters.len() {
                    counters.push(ScanCounter { kind, statuses, at: 0, len: words });
                } else if wanted && let Some(c) = counters.get_mut(at) {
                    c.len = c.len.max(words);
                }
                (wanted.then_some(at), least)
            };
            let (all, some) = (Statuses::ALL, t.statuses);
            needs.push(RequestNeeds {
                ticks,
                least: [
                    counter(true, requests, all, t.requests),
                    counter(t.paths > 0, ThresholdKind::Paths, all, t.paths),
                    counter(t.agents > 0, ThresholdKind::Agents, all, t.agents),
                    counter(wanted(t.matching), requests, some, t.matching),
                    counter(t.matching_paths > 0, ThresholdKind::Paths, some, t.matching_paths),
                    counter(t.matching_tops > 0, ThresholdKind::Tops, some, t.matching_tops),
                ],
            });
        }
        for counter in &mut counters {
            counter.at = stride;
            stride += counter.len;
        }
        let slots = usize::try_from(settings.addresses).unwrap_or(0);
        ThresholdTable {
            name: name.into(),
            settings: settings.clone(),
            key,
            shift,
            longest: longest >> shift,
            idle: (u64::from(settings.idle) * 1000) >> shift,
            counters,
            needs,
            places: OffenderTable::new(slots, stride, key),
        }
    }

    fn hand_over(&self, now: Mono, each: &mut dyn FnMut(&[u32])) {
        let (time, over) = (now.0 >> self.shift, self.longest.min(self.idle));
        let known = |place: &&[u32]| time.saturating_sub(last(place)) <= over;
        self.places.taken().filter(known).for_each(each);
    }

    /// Whatever it holds, it is not later than now: it ends.
    fn take_in(&mut self, now: Mono, place: &[u32]) -> Option<()> {
        let addr = NetKey::stored(place)?.exact_net()?;
        let is_known = self.places.get(addr).is_some();
        if is_known || place.len() != self.places.stride() || last(place) > now.0 >> self.shift {
            return None;
        }
        let own = self.places.place(addr, 0, &|place| u64::from(place.get(NEAR).copied().unwrap_or(0)));
        own.iter_mut().zip(place).skip(HEAD).for_each(|(own, word)| *own = *word);
        Some(())
    }

    fn request(&mut self, now: Mono, addr: IpNet, line: &[u8], request: &HttpRequest) -> Option<Excess> {
        if request.status == 404 && is_method(line, request, b"\"PROPFIND ") {
            // A network drive or a copying program that looks what is there. Where there are none, the answer
            // is another one.
            return None;
        }
        let ThresholdTable { settings, key, shift, longest, idle, counters, needs, places, .. } = self;
        let time = now.0 >> *shift;
        let over = (*longest).min(*idle);
        let rank = |place: &[u32]| {
            let near = u64::from(place.get(NEAR).copied().unwrap_or(0)) + 1;
            let quiet = time.saturating_sub(last(place));
            if quiet > over { 0 } else { near << 32 | (u64::from(u32::MAX) - quiet.min(1 << 31)) }
        };
        let place = places.place(addr, 0, &rank);
        let newest = advance(place, counters, time, over, *longest);
        if newest.saturating_sub(time) >= *longest {
            return None;
        }
        let text = |range: &Range<usize>| line.get(range.clone()).unwrap_or_default();
        let (path, agent) = (text(&request.path), text(&request.agent));
        let asked = RequestText { path, agent, resolved: Path::new(path), status: request.status, key: *key };
        if is_created(line, request) {
            asked.forget(place, counters);
        }
        asked.count(place, counters, time, newest);
        let (near, exceeded) =
            exceeded(&settings.thresholds, needs, counters, (place, newest), request.status);
        if let Some(word) = place.get_mut(NEAR) {
            *word = near.max(*word);
        }
        let Exceeded { bit, threshold: t, numbers } = exceeded?;
        if t.detect {
            if let Some(reported) = place.get_mut(TOLD) {
                *reported |= 1 << bit;
            }
        } else {
            places.clear(addr);
        }
        let (reason, requests) = (reason(t, numbers), numbers[0]);
        Some(Excess { reason, requests, detect: t.detect, bantime: t.bantime })
    }
}

/// What is counted of a request.
struct RequestText<'a> {
    path: &'a [u8],
    agent: &'a [u8],
    resolved: Option<Path>,
    status: u16,
    key: [u64; 2],
}

impl RequestText<'_> {
    fn fingerprint(&self, text: &[u8]) -> u32 {
        u32::try_from(sip13(self.key, text) >> 48).unwrap_or(0).max(1)
    }

    /// Whoever may write there looks first whether it is there already: no search for what others left.
    fn forget(&self, place: &mut [u32], counters: &[ScanCounter]) {
        for c in counters.iter().filter(|c| !c.statuses.has(self.status)) {
            let text = match (c.kind, &self.resolved) {
                (ThresholdKind::Paths, Some(path)) => path.bytes(),
                (ThresholdKind::Tops, Some(path)) => path.top(),
                _ => continue,
            };
            let (words, print) = (place.get_mut(c.at..c.at + c.len), self.fingerprint(text));
            words.into_iter().flatten().filter(|word| **word >> 16 == print).for_each(|word| *word = 0);
        }
    }

    // Called from one place, for every request.
    #[inline(always)]
    fn count(&self, place: &mut [u32], counters: &[ScanCounter], time: u64, newest: u64) {
        let (mut print_path, mut print_top, mut print_agent) = (None, None, None);
        for c in counters.iter().filter(|c| c.statuses.has(self.status)) {
            let Some(words) = place.get_mut(c.at..c.at + c.len) else { continue };
            let print = match c.kind {
                ThresholdKind::Requests(pane) => {
                    count(words, time / pane, newest / pane);
                    continue;
                }
                ThresholdKind::Paths => {
                    let path = || self.resolved.as_ref().map_or(self.path, Path::bytes);
                    *print_path.get_or_insert_with(|| self.fingerprint(path()))
                }
                ThresholdKind::Tops => {
                    let path = || self.resolved.as_ref().map_or(self.path, Path::top);
                    *print_top.get_or_insert_with(|| self.fingerprint(path()))
                }
                ThresholdKind::Agents => *print_agent.get_or_insert_with(|| self.fingerprint(self.agent)),
            };
            see(words, print, time, newest);
        }
    }
}

/// What was too much.
struct Exceeded<'t> {
    /// Which of the thresholds.
    bit: usize,
    threshold: &'t Threshold,
    numbers: [u32; 6],
}

/// How near to a threshold an address is, in 256ths of what is too much, and the first that it is over.
// Called from one place, for every request.
#[inline(always)]
fn exceeded<'t>(
    thresholds: &'t [Threshold],
    needs: &[RequestNeeds],
    counters: &[ScanCounter],
    (place, newest): (&[u32], u64),
    status: u16,
) -> (u32, Option<Exceeded<'t>>) {
    let (mut near, mut exceeded) = (0, None);
    for (bit, (t, need)) in thresholds.iter().zip(needs).enumerate() {
        // A request with another status can only bring what is counted of all of them to its number.
        if !t.statuses.has(status) && t.requests.max(t.paths).max(t.agents) == 0 {
            continue;
        }
        let (mut numbers, mut part) = ([0; 6], 256);
        for (number, &(counter, least)) in numbers.iter_mut().zip(&need.least) {
            let Some(c) = counter.and_then(|at| counters.get(at)) else { continue };
            let words = place.get(c.at..c.at + c.len).unwrap_or_default();
            *number = match c.kind {
                ThresholdKind::Requests(_) => sum(words),
                _ => different(words, newest, need.ticks),
            };
            if least > 0 {
                part = part.min(u64::from(*number) * 256 / u64::from(least));
            }
        }
        near = near.max(u32::try_from(part).unwrap_or(0));
        let few = u64::from(numbers[3]) * 100 < u64::from(numbers[0]) * u64::from(t.share);
        let reported = place.get(TOLD).is_some_and(|reported| reported >> bit & 1 == 1);
        if part < 256 || few || t.detect && reported {
            continue;
        }
        exceeded = Some(Exceeded { bit, threshold: t, numbers });
        if !t.detect {
            break;
        }
    }
    (near, exceeded)
}

/// Whether the server took something in: created it, or put it in the place of what was there. Other answers
/// that look like one to any path (`OPTIONS`) are none.
fn is_created(line: &[u8], request: &HttpRequest) -> bool {
    request.status == 201 || matches!(request.status, 200 | 204) && is_method(line, request, b"\"PUT ")
}

/// Whether a request is one of a method, which has a quote before it and a space behind.
fn is_method(line: &[u8], request: &HttpRequest, method: &[u8]) -> bool {
    line.get(..request.path.start).is_some_and(|head| head.ends_with(method))
}

/// `path-scan: 404 for 40 different paths, 95 percent of the requests in 60 s`
fn reason(t: &Threshold, numbers: [u32; 6]) -> String {
    let mut text = String::new();
    if !t.name.is_empty() {
        let _ = write!(text, "{}: ", t.name);
    }
    let status = match t.status_text.as_str() {
        "" => "*",
        text => text.get(..text.len().min(40)).unwrap_or("*"),
    };
    let [requests, paths, agents, matching, matching_paths, tops] = numbers;
    let share = matching * 100 / requests.max(1);
    let parts = [
        (t.matching_paths, matching_paths, " distinct paths"),
        (t.matching_tops, tops, " distinct names at the top"),
        (t.matching, matching, " requests"),
        (t.share, share, "% of the requests"),
        (t.paths, paths, " distinct paths"),
        (t.agents, agents, " distinct agents"),
        (t.requests, requests, " requests"),
    ];
    let mut comma = "";
    for (at, (_, number, what)) in parts.iter().enumerate().filter(|(_, part)| part.0 > 0) {
        if comma.is_empty() && at < 4 {
            let _ = write!(text, "{status} for ");
        }
        let _ = write!(text, "{comma}{number}{what}");
        comma = ", ";
    }
    let _ = write!(text, " in {} s", t.window);
    text
}

#[cfg(test)]
#[path = "webscan_tests.rs"]
mod tests;
