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

use super::DetectRule;
use super::access::HttpRequest;
use super::path::Path;
use super::places::{HEAD, OffenderTable};
use crate::base::clock::{Mono, Span};
use crate::base::siphash::sip13;
use crate::base::webscan::{Statuses, Threshold, WebscanSettings as Settings};
use ipnet::IpNet;
use std::fmt::Write as _;
use std::ops::Range;

/// Panes of a window.
const PANES: u64 = 8;
/// The longest window in ticks, at most: times of fingerprints have 16 bits.
const TICKS_MAX: u64 = 1 << 13;
/// Words of a place in front of the counters: the time of the newest request, how near to a threshold, which
/// thresholds were told.
const LAST: usize = HEAD;
const NEAR: usize = HEAD + 2;
const TOLD: usize = HEAD + 3;
const COUNTERS: usize = HEAD + 4;

/// What an address did to be banned, or to be told of.
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

/// What is counted.
#[derive(Clone, Copy, PartialEq)]
enum ThresholdKind {
    /// Requests within a window of panes of so many ticks.
    Requests(u64),
    Paths,
    Tops,
    Agents,
}

struct ScanCounter {
    kind: ThresholdKind,
    /// Of which requests.
    statuses: Statuses,
    /// Its words in a place.
    at: usize,
    len: usize,
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
        let fingerprint = |text: &[u8]| u32::try_from(sip13(*key, text) >> 48).unwrap_or(0).max(1);
        let text = |range: &Range<usize>| line.get(range.clone()).unwrap_or_default();
        let resolved = Path::new(text(&request.path));
        if is_created(line, request) {
            // Whoever may write there looks first whether it is there already: no search for what others
            // left.
            for c in counters.iter().filter(|c| !c.statuses.has(request.status)) {
                let text = match (c.kind, &resolved) {
                    (ThresholdKind::Paths, Some(path)) => path.bytes(),
                    (ThresholdKind::Tops, Some(path)) => path.top(),
                    _ => continue,
                };
                let (words, print) = (place.get_mut(c.at..c.at + c.len), fingerprint(text));
                words.into_iter().flatten().filter(|word| **word >> 16 == print).for_each(|word| *word = 0);
            }
        }
        let (mut print_path, mut print_top, mut print_agent) = (None, None, None);
        for c in counters.iter().filter(|c| c.statuses.has(request.status)) {
            let Some(words) = place.get_mut(c.at..c.at + c.len) else { continue };
            match c.kind {
                ThresholdKind::Requests(pane) => count(words, time / pane, newest / pane),
                ThresholdKind::Paths => {
                    let path = || resolved.as_ref().map_or(text(&request.path), Path::bytes);
                    let print = *print_path.get_or_insert_with(|| fingerprint(path()));
                    see(words, print, time, newest);
                }
                ThresholdKind::Tops => {
                    let path = || resolved.as_ref().map_or(text(&request.path), Path::top);
                    let print = *print_top.get_or_insert_with(|| fingerprint(path()));
                    see(words, print, time, newest);
                }
                ThresholdKind::Agents => {
                    let print = *print_agent.get_or_insert_with(|| fingerprint(text(&request.agent)));
                    see(words, print, time, newest);
                }
            }
        }
        let (mut near, mut exceeded) = (0, None);
        for (bit, (t, need)) in settings.thresholds.iter().zip(needs.iter()).enumerate() {
            // A request with another status can only bring what is counted of all of them to its number.
            if !t.statuses.has(request.status) && t.requests.max(t.paths).max(t.agents) == 0 {
                continue;
            }
            let mut numbers = [0; 6];
            // In 256ths of what is too much.
            let mut part = 256;
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
            exceeded = Some((bit, t, numbers));
            if !t.detect {
                break;
            }
        }
        if let Some(word) = place.get_mut(NEAR) {
            *word = near.max(*word);
        }
        let (bit, t, numbers) = exceeded?;
        if t.detect {
            if let Some(reported) = place.get_mut(TOLD) {
                *reported |= 1 << bit;
            }
        } else {
            places.clear(addr);
        }
        Some(Excess {
            reason: reason(t, numbers),
            requests: numbers[0],
            detect: t.detect,
            bantime: t.bantime,
        })
    }
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

/// The time of the newest request.
fn last(place: &[u32]) -> u64 {
    match place.get(LAST..) {
        Some([low, high, ..]) => u64::from(*high) << 32 | u64::from(*low),
        _ => 0,
    }
}

/// Makes room for what happens at `time`: what has left the windows is taken out. Returns the time of the
/// newest request, this one included.
fn advance(place: &mut [u32], counters: &[ScanCounter], time: u64, over: u64, longest: u64) -> u64 {
    let before = last(place);
    if time <= before {
        return before;
    }
    if time - before >= over {
        place.get_mut(NEAR..).unwrap_or_default().fill(0);
    }
    let sweep = time / TICKS_MAX != before / TICKS_MAX;
    for c in counters {
        let Some(words) = place.get_mut(c.at..c.at + c.len) else { continue };
        match c.kind {
            ThresholdKind::Requests(pane) => {
                let (from, to) = (before / pane, time / pane);
                for n in to.saturating_sub(PANES).max(from)..to {
                    set(words, n + 1, 0);
                }
            }
            // Before 16 bits of time begin anew.
            _ if sweep => words.iter_mut().for_each(|word| {
                if age(*word, time) > longest {
                    *word = 0;
                }
            }),
            _ => {}
        }
    }
    if sweep && let Some(reported) = place.get_mut(TOLD) {
        *reported = 0;
    }
    if let Some([low, high, ..]) = place.get_mut(LAST..) {
        *low = u32::try_from(time & 0xffff_ffff).unwrap_or(0);
        *high = u32::try_from(time >> 32).unwrap_or(0);
    }
    time
}

/// Pane `n` of a window: two share a word.
fn pane(words: &[u32], n: u64) -> u32 {
    let n = usize::try_from(n % PANES).unwrap_or(0);
    words.get(n / 2).map_or(0, |word| word >> (n % 2 * 16) & 0xffff)
}

fn set(words: &mut [u32], n: u64, value: u32) {
    let n = usize::try_from(n % PANES).unwrap_or(0);
    if let Some(word) = words.get_mut(n / 2) {
        *word = *word & !(0xffff << (n % 2 * 16)) | value << (n % 2 * 16);
    }
}

fn count(words: &mut [u32], n: u64, newest: u64) {
    if newest - n < PANES {
        let value = (pane(words, n) + 1).min(0xffff);
        set(words, n, value);
    }
}

fn sum(words: &[u32]) -> u32 {
    words.iter().map(|word| (word & 0xffff) + (word >> 16)).sum()
}

/// Ticks since a fingerprint was seen.
fn age(word: u32, newest: u64) -> u64 {
    newest.wrapping_sub(word.into()) & 0xffff
}

/// Notes a fingerprint: with those that are there, or in the place of the one that was not seen for longest.
fn see(words: &mut [u32], print: u32, time: u64, newest: u64) {
    let new = print << 16 | u32::try_from(time & 0xffff).unwrap_or(0);
    let mut oldest = (0, 0);
    for (at, word) in words.iter_mut().enumerate() {
        if *word >> 16 == print {
            if age(new, newest) < age(*word, newest) {
                *word = new;
            }
            return;
        }
        let age = if *word == 0 { u64::MAX } else { age(*word, newest) };
        if age > oldest.0 {
            oldest = (age, at);
        }
    }
    if oldest.0 >= age(new, newest)
        && let Some(word) = words.get_mut(oldest.1)
    {
        *word = new;
    }
}

/// Fingerprints seen within the last `ticks`.
fn different(words: &[u32], newest: u64, ticks: u64) -> u32 {
    let mut count = 0;
    for &word in words {
        count += u32::from(word != 0 && age(word, newest) < ticks);
    }
    count
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
