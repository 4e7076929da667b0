#![forbid(unsafe_code)]
//! What has to outlive the daemon is written in time: the journal, and how far everything was read.

use super::Daemon;
use super::notes::Topic;
use super::observer_link::ObserverLink;
use super::reading::places_of;
use super::saver::SaveWork;
use crate::base::bytes::of_path;
use crate::base::clock::Mono;
use crate::state::disk::Failed;
use crate::sys::clock;

/// Milliseconds from one write of positions to the next, when files are opened one after the other.
pub(super) const NOTE: u64 = 10_000;
/// Milliseconds between two tries to write what the disk had no room for.
const RETRY_INTERVAL: u64 = 10_000;

impl Daemon {
    /// Has everything written down then at the latest.
    pub(super) fn save_by(&mut self, at: Mono) {
        self.save_at = Some(self.save_at.map_or(at, |due| due.min(at)));
    }

    /// Writes positions and journal to state_dir, without waiting for the disk. What fails is told once and
    /// tried again at the next time.
    #[inline(never)]
    pub(super) fn save_in_worker(&mut self) {
        if self.positions.is_none() || self.state_sync == Some(0) {
            // Where there can be no file of them, or where everything is to be on the disk at once.
            return self.save();
        }
        self.save_at = None;
        if self.judge.settle() {
            // A full disk may have room again although nothing else happens.
            self.save_by(clock::mono().after(RETRY_INTERVAL));
        }
        let Daemon { judge, sources, saver, .. } = self;
        let mut work = || {
            let now = clock::now();
            SaveWork { ports: judge.ports_due(now), places: places_of(judge, sources, now) }
        };
        if saver.begin(&mut work).is_err() {
            // No room for another process: then bans wait.
            self.keep_places();
            self.save();
        }
    }

    /// Tells how it went, and does it again if more has happened meanwhile.
    pub(super) fn saved(&mut self) {
        let Some(result) = self.saver.ended() else { return };
        if result.is_err() {
            self.keep_places();
        }
        for (once, mine) in [(Topic::Sync, true), (Topic::Positions, false)] {
            let failed = result.as_ref().err().filter(|failed| matches!(failed, Failed::Journal(_)) == mine);
            // Without the first one nothing is known of the second.
            if mine || !matches!(result, Err(Failed::Journal(_))) {
                let text = failed.map(|failed| self.saver.error(failed));
                self.judge.once(once, text.as_ref().map(|e| e as _));
            }
        }
        if self.saver.again() {
            self.save_in_worker();
        }
    }

    /// Writes positions so that they outlive this process, whatever the disk does. What fails here is told by
    /// what follows.
    #[inline(never)]
    pub(super) fn note(&mut self) {
        // It would write what was so before over what is so now.
        if !self.saver.is_busy()
            && let Some(file) = &mut self.positions
            && let Some(all) = places_of(&mut self.judge, &self.sources, clock::now())
        {
            let _ = file.note(all.iter().map(|(path, position)| (of_path(path), *position)));
            self.keep_places();
        }
    }

    /// The same at once.
    #[inline(never)]
    pub(super) fn save(&mut self) {
        self.save_at = None;
        // Asked although there may be no file: an observer that is started again goes on there. First: what
        // it has found by then is in the journal before it counts as read.
        let all = places_of(&mut self.judge, &self.sources, clock::now());
        self.judge.save();
        self.judge.save_ports(clock::now());
        if let (Some(file), Some(all)) = (&mut self.positions, all) {
            let bytes = all.iter().map(|(path, position)| (of_path(path), *position));
            let result = file.store(bytes);
            if result.is_err() {
                self.keep_places();
            }
            self.judge.once(Topic::Positions, result.err().as_ref().map(|e| e as _));
        }
    }

    /// What was known of how far the observer has read is written again: it may not have come to the disk.
    fn keep_places(&mut self) {
        self.judge.observer().into_iter().for_each(ObserverLink::set_unwritten);
    }
}
