#![forbid(unsafe_code)]
//! The counters of one address: requests by panes of a window, and fingerprints with when they were last
//! seen.

use crate::base::webscan::Statuses;
use crate::detect::places::HEAD;

/// Panes of a window.
pub(super) const PANES: u64 = 8;

/// The longest window in ticks, at most: times of fingerprints have 16 bits.
pub(super) const TICKS_MAX: u64 = 1 << 13;

/// Words of a place in front of the counters: the time of the newest request, how near to a threshold, which
/// thresholds were told.
pub(super) const LAST: usize = HEAD;

pub(super) const NEAR: usize = HEAD + 2;

pub(super) const TOLD: usize = HEAD + 3;

pub(super) const COUNTERS: usize = HEAD + 4;

/// What is counted.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum ThresholdKind {
    /// Requests within a window of panes of so many ticks.
    Requests(u64),
    Paths,
    Tops,
    Agents,
}

pub(super) struct ScanCounter {
    pub(super) kind: ThresholdKind,
    /// Of which requests.
    pub(super) statuses: Statuses,
    /// Its words in a place.
    pub(super) at: usize,
    pub(super) len: usize,
}

/// The time of the newest request.
pub(super) fn last(place: &[u32]) -> u64 {
    match place.get(LAST..) {
        Some([low, high, ..]) => u64::from(*high) << 32 | u64::from(*low),
        _ => 0,
    }
}

/// Makes room for what happens at `time`: what has left the windows is taken out. Returns the time of the
/// newest request, this one included.
pub(super) fn advance(
    place: &mut [u32],
    counters: &[ScanCounter],
    time: u64,
    over: u64,
    longest: u64,
) -> u64 {
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
pub(super) fn pane(words: &[u32], n: u64) -> u32 {
    let n = usize::try_from(n % PANES).unwrap_or(0);
    words.get(n / 2).map_or(0, |word| word >> (n % 2 * 16) & 0xffff)
}

pub(super) fn set(words: &mut [u32], n: u64, value: u32) {
    let n = usize::try_from(n % PANES).unwrap_or(0);
    if let Some(word) = words.get_mut(n / 2) {
        *word = *word & !(0xffff << (n % 2 * 16)) | value << (n % 2 * 16);
    }
}

pub(super) fn count(words: &mut [u32], n: u64, newest: u64) {
    if newest - n < PANES {
        let value = (pane(words, n) + 1).min(0xffff);
        set(words, n, value);
    }
}

pub(super) fn sum(words: &[u32]) -> u32 {
    words.iter().map(|word| (word & 0xffff) + (word >> 16)).sum()
}

/// Ticks since a fingerprint was seen.
pub(super) fn age(word: u32, newest: u64) -> u64 {
    newest.wrapping_sub(word.into()) & 0xffff
}

/// Notes a fingerprint: with those that are there, or in the place of the one that was not seen for longest.
pub(super) fn see(words: &mut [u32], print: u32, time: u64, newest: u64) {
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
pub(super) fn different(words: &[u32], newest: u64, ticks: u64) -> u32 {
    let mut count = 0;
    for &word in words {
        count += u32::from(word != 0 && age(word, newest) < ticks);
    }
    count
}
