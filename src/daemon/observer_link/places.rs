#![forbid(unsafe_code)]
//! How far the observer has read, and when it is asked for that.

use super::{ObserverEnd, ObserverLink};
use crate::base::bytes::of_path;
use crate::base::clock::{Mono, Now, Wall};
use crate::base::position::{CAUGHT_UP, FOLLOWED, HANDED_OVER, NANOS, Position, WRITTEN};
use crate::state::positions::line_max;
use std::path::{Path, PathBuf};

/// Milliseconds from one question how far it has read to the next, for bans.
pub(super) const ASK: u64 = 10_000;

impl ObserverLink {
    /// Somebody was banned: it is to be asked how far it has read, so that it will not begin before that.
    pub(in crate::daemon) fn ask_by(&mut self, now: Mono) {
        let at = self.asked.map_or(now, |last| last.after(ASK).max(now));
        self.ask_at.get_or_insert(at);
    }

    /// It follows other logs now, which it may have to open first: it is to be asked where it has begun with
    /// them.
    pub(in crate::daemon) fn set_reopening(&mut self, now: Mono) {
        (self.ask_at, self.reopens) = (Some(now), true);
    }

    /// Whether it is time for that.
    pub(in crate::daemon) fn asks_now(&self, now: Mono) -> bool {
        // Who is late with something is not asked more.
        self.process.running().is_some() && !self.owes() && self.ask_at.is_some_and(|at| at <= now)
    }

    /// Takes how far it has read.
    pub(in crate::daemon) fn set_places(&mut self, now: Now, places: Vec<(PathBuf, Position)>) {
        (self.places, self.places_at, self.unwritten) = (places, Some(now.wall.0), true);
        (self.asked, self.ask_at) = (Some(now.mono), None);
        (self.is_caught_up, self.reopens) = (false, false);
    }

    /// There was nothing behind that then.
    pub(in crate::daemon) fn set_caught_up(&mut self, now: Wall) {
        (self.caught_up, self.is_caught_up) = (Some(now), true);
    }

    /// It has read something since.
    pub(in crate::daemon) fn set_read(&mut self) {
        self.is_caught_up = false;
    }

    /// It reads nothing more. What it has not read is new for the next one, if that is known.
    pub(super) fn end_reading(&mut self, why: ObserverEnd, now: Wall) {
        if self.is_caught_up {
            self.caught_up = Some(now);
            self.succession.at_once = why.has_paused();
        }
    }

    /// Takes where it has begun with what nobody had read before: another one begins there, too.
    pub(in crate::daemon) fn add_places(&mut self, begun: Vec<(PathBuf, Position)>) {
        let mut known: Vec<Vec<u8>> = self.places.iter().map(|(path, _)| of_path(path).to_owned()).collect();
        known.sort_unstable();
        // However often one begins, and whatever it says: so much as is read back.
        let mut room = self.limits.parts.saturating_sub(known.iter().map(|path| line_max(path)).sum());
        let is_new = |path: &Path| known.binary_search_by(|known| (**known).cmp(of_path(path))).is_err();
        self.places.extend(begun.into_iter().filter(|(path, _)| is_new(path)).take_while(|(path, _)| {
            let rest = room.checked_sub(line_max(of_path(path)));
            room = rest.unwrap_or(0);
            rest.is_some()
        }));
    }

    /// How far it had read when it was last asked, for the file, which is written then; `None`: that is known
    /// since it was last written, and its own time says when.
    pub(in crate::daemon) fn take_places(&mut self) -> Option<Vec<(PathBuf, Position)>> {
        std::mem::take(&mut self.unwritten).then(|| self.places.clone())
    }

    /// It may not have come to the file, or not to the disk.
    pub(in crate::daemon) fn set_unwritten(&mut self) {
        self.unwritten = self.places_at.is_some();
    }

    /// When that was, if one has answered.
    pub(in crate::daemon) fn asked_at(&self) -> Option<Wall> {
        self.places_at.map(Wall)
    }

    /// Where it goes on when it is started again.
    pub(in crate::daemon) fn saved(&self) -> Vec<(PathBuf, Position)> {
        let moment = |name: &str, at: u64| {
            (PathBuf::from(name), Position { tail: at.saturating_mul(NANOS), ..Position::default() })
        };
        let mut saved = self.places.clone();
        if let Some(at) = self.places_at {
            // What the last one had not seen yet, and who reads now neither.
            saved.extend([WRITTEN, FOLLOWED].map(|name| moment(name, at)));
        }
        saved.extend(self.caught_up.map(|at| moment(CAUGHT_UP, at.0)));
        saved.extend(self.succession.at_once.then(|| moment(HANDED_OVER, 0)));
        saved
    }
}
