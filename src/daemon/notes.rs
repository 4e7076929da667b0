#![forbid(unsafe_code)]
//! What the log is told once, or not too often: problems when they begin and when they are over, who is not
//! banned and why, sources that had to give way to others.

use crate::base::clock::Mono;
use crate::base::count::count;
use crate::base::range::Range;
use crate::detect::tracker::Tracker;
use crate::sys::clock;
use log::Level;
use std::fmt::Display;

/// Milliseconds between two lines about the same address that must not be banned.
const DAY: u64 = 86_400_000;
/// Such addresses remembered at most; beyond that, the one told first may be told again.
const EXEMPT: usize = 64;
/// Milliseconds between two alarms about sources that had to give way.
const EVICTIONS_QUIET: u64 = 3_600_000;

/// What is told once, and again only after it went well in between.
#[derive(Clone, Copy)]
pub(super) enum Topic {
    Journal,
    Sync,
    Positions,
    Kill,
    Compaction,
}

/// What was told.
#[derive(Default)]
pub(super) struct Notes {
    problems: [bool; 5],
    /// Who is exempt, the first one first, and until when nothing more is said of it.
    exempt: Vec<(Range, Mono)>,
    /// Sources whose eviction was told, and until when nothing more is.
    evictions: (u64, Mono),
}

impl Notes {
    /// Tells a problem when it begins, and when it is over.
    pub(super) fn once(&mut self, what: Topic, problem: Option<&dyn Display>) {
        let Some(reported) = self.problems.get_mut(what as usize) else { return };
        match problem {
            Some(e) if !*reported => log::warn!("{e}"),
            None if *reported && !matches!(what, Topic::Kill) => log::info!("state_dir is writable again"),
            _ => {}
        }
        *reported = problem.is_some();
    }

    /// Tells once a day why somebody is not banned; `say` writes that.
    pub(super) fn exempt(
        &mut self,
        (rule, addr): (&str, &Range),
        hits: u32,
        why: &str,
        say: &mut dyn FnMut(Level, &dyn Display),
    ) {
        let now = clock::mono();
        self.exempt.retain(|&(_, until)| until > now);
        if self.exempt.iter().all(|(reported, _)| reported != addr) {
            let hits = count(hits, "hit");
            say(Level::Warn, &format_args!("rule {rule}: {addr} is not banned after {hits}: it is {why}"));
            if self.exempt.len() == EXEMPT {
                self.exempt.remove(0);
            }
            self.exempt.push((*addr, now.after(DAY)));
        }
    }

    /// Raises one alarm, an hour apart at least, when offenders have to give way to others before their time.
    pub(super) fn evictions(&mut self, now: Mono, tracker: &Tracker) {
        let (before, quiet_until) = self.evictions;
        let evicted = tracker.evicted();
        if evicted > before && now >= quiet_until {
            self.evictions = (evicted, now.after(EVICTIONS_QUIET));
            log::warn!(
                "more offenders at a time than are tracked: {} were forgotten early. Many addresses attack, \
                 or forged lines hide one; track_max={} may be raised",
                evicted - before,
                tracker.slots()
            );
        }
    }
}

#[cfg(test)]
impl Notes {
    /// Who was told to be exempt.
    pub(super) fn reported(&self) -> impl Iterator<Item = &Range> {
        self.exempt.iter().map(|(addr, _)| addr)
    }
}
