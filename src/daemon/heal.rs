#![forbid(unsafe_code)]
//! Puts back what others delete from the kernel: the table of bans, and, where the configuration says so, the
//! rule set. Asks whether the ruleset is still the same one whenever the daemon is awake, before what woke it
//! counts, and now and then if nothing wakes it.

use super::judge::{Judge, Repair};
use crate::ban::{Damage, RuleTables};
use crate::base::clock::{Mono, Now};
use crate::config::Settings;
use crate::firewall::backend::Backend;
use crate::firewall::loader::{self, Goal};
use crate::rulefile;
use crate::ruleset::RuleSet;
use crate::trial::{self, Noted, Saved, TrialTurn};
use std::path::{Path, PathBuf};

/// Repairs that follow each other at once; from then on each waits twice as long as the one before.
const BURST_REPAIRS: u32 = 5;
/// Milliseconds after which a repair has held.
const STABLE_AFTER: u64 = 60_000;
/// Seconds between two repairs at most, while somebody else keeps deleting: a script that flushes everything
/// every ten seconds must not have the host open for longer than that.
const PAUSE_MAX: u64 = 10;

/// Milliseconds until sets that are empty are filled again: a command that lifted bans, and could not write
/// that down, tells of it meanwhile.
const LIFT_PAUSE: u64 = 500;

/// Milliseconds until a rule set is put back that somebody else was loading.
const LOAD_PAUSE: u64 = 1000;

/// Milliseconds after a repair until everything is looked at once more: what others took away meanwhile was
/// taken for what is to be so.
const LOOK_AGAIN: u64 = 1000;

/// Milliseconds from one look for a trial that was left behind to the next, while nothing changes.
const TRIAL_PAUSE: u64 = 1000;

/// Milliseconds until a rule set is tried again that could not be loaded: so many at first, twice as many
/// each time, and this often.
const RETRY_PAUSE: u64 = 1000;
const RETRY_DOUBLINGS: u32 = 12;

/// What a turn of the loop has found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RulesetState {
    /// The ruleset is the same one.
    Same,
    /// It is another one.
    Other,
    /// Something was put back.
    Repaired,
}

/// What is to be repaired, and when.
pub(super) struct Heal {
    /// Seconds between two questions while nothing else happens; 0 = none then.
    interval: u32,
    ask_at: Option<Mono>,
    damage: Damage,
    lists_lost: bool,
    allow_lost: bool,
    reasserted: u64,
    /// The rule set is ours to put back.
    managed: bool,
    rules_loaded: bool,
    /// What of the rule set is gone.
    rules_gone: Option<&'static str>,
    /// They are gone, and are not such that they could be loaded.
    rules_refused: bool,
    /// They are not tried before.
    rules_at: Option<Mono>,
    /// How often they could not be loaded, one time after the other.
    rules_failed: u32,
    /// The tables of the rule set at the last look, and whether the one for frames was missing then.
    tables: RuleTables,
    lacks_frames: bool,
    /// Where it is noted whether there is to be a rule set.
    run_dir: PathBuf,
    /// The rule sets that outlive a trial.
    saved: Saved,
    /// When a trial was looked for that somebody has left behind.
    tidied: Option<Mono>,
    /// There are other settings, by which something else may be missing, or something was repaired.
    is_new: bool,
    due: Option<Mono>,
    last: Option<Mono>,
    /// Repairs that did not hold.
    streak: u32,
    /// It was told that the kernel does not answer.
    reported: bool,
}

impl Heal {
    /// Keeps an eye on the tables from now on.
    pub(super) fn open(guard: &mut dyn Backend, settings: &Settings) -> Heal {
        let mut this = Heal {
            interval: 0,
            ask_at: None,
            damage: Damage::None,
            lists_lost: false,
            allow_lost: false,
            reasserted: 0,
            managed: false,
            rules_loaded: false,
            rules_gone: None,
            tables: RuleTables::None,
            lacks_frames: false,
            rules_refused: false,
            rules_at: None,
            rules_failed: 0,
            run_dir: PathBuf::from(&settings.run_dir),
            saved: Saved::new(Path::new(&settings.state_dir), Path::new(&settings.run_dir)),
            tidied: None,
            is_new: false,
            due: None,
            last: None,
            streak: 0,
            reported: false,
        };
        this.configure(settings);
        drop(this.check_table(guard));
        this
    }

    /// Takes other settings.
    pub(super) fn configure(&mut self, settings: &Settings) {
        self.interval = settings.heal_interval;
        self.managed = settings.load_managed;
        self.rules_refused = false;
        self.rules_at = None;
        self.tables = RuleTables::None;
        self.is_new = true;
        self.ask_at = (self.interval > 0).then(Mono::default);
        if !self.managed && loader::is_elsewhere().unwrap_or(false) {
            log::warn!("the rule set is {}", loader::ELSEWHERE);
        }
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        let rules_at = self.rules_at.filter(|_| self.rules_gone.is_some());
        self.due.into_iter().chain(self.ask_at).chain(rules_at).min()
    }

    /// Asks what others did, and repairs what is broken.
    pub(super) fn probe(&mut self, now: Now, judge: &mut Judge) -> RulesetState {
        let interval = self.interval.min(judge.guard().poll_interval().unwrap_or(u32::MAX));
        self.ask_at = (interval > 0).then(|| now.mono.after(u64::from(interval) * 1000));
        judge.retry_take_over(now.mono, self.interval);
        let mut moved = std::mem::take(&mut self.is_new) | judge.guard().has_moved().unwrap_or(true);
        if self.tidy(now.mono, moved) {
            moved |= judge.guard().has_moved().unwrap_or(true);
        }
        // What was read to know what is missing is what is loaded, or it goes with this turn.
        let read = if moved { self.check_table(judge.guard()) } else { None };
        if self.damage == Damage::None && !self.are_rules_due(now.mono) {
            self.due = None;
            return if moved { RulesetState::Other } else { RulesetState::Same };
        }
        let is_emptied = self.damage == Damage::Emptied && self.rules_gone.is_none();
        let begin = if is_emptied { now.mono.after(LIFT_PAUSE) } else { now.mono };
        if now.mono < *self.due.get_or_insert_with(|| next(now.mono, self.last, self.streak).max(begin)) {
            return RulesetState::Other;
        }
        self.due = None;
        let damage = std::mem::take(&mut self.damage);
        let repaired = judge.repair(now.wall, damage);
        let are_due = self.are_rules_due(now.mono);
        let is_back =
            self.rules_gone.take_if(|_| are_due).is_some_and(|table| self.put_back(read, table, now.mono));
        if repaired == Repair::Needless && !is_back {
            // Bans that have ended, or rules that are tried again.
            return RulesetState::Other;
        }
        self.is_new = true;
        let again = now.mono.after(LOOK_AGAIN);
        self.ask_at = Some(self.ask_at.map_or(again, |at| at.min(again)));
        self.streak = if held(now.mono, self.last) { 1 } else { self.streak.saturating_add(1) };
        self.last = Some(now.mono);
        if repaired == Repair::Failed {
            // It cannot be repaired now: tried again, less and less often.
            self.damage = self.damage.max(damage);
            self.due = Some(now.mono.after(1000 << self.streak.min(6)));
        }
        RulesetState::Repaired
    }

    /// Ends a trial whose end nobody is there for; whether there was one on. Files are looked for where
    /// something has changed, and now and then: a ban does not wait for that.
    fn tidy(&mut self, now: Mono, moved: bool) -> bool {
        if !moved && self.tidied.is_some_and(|at| now.since(at) < TRIAL_PAUSE) {
            return false;
        }
        let is_on = self.saved.pending().is_some();
        // While one is on it is looked at each time.
        self.tidied = (!is_on).then_some(now);
        if is_on {
            trial::tidy(&self.run_dir);
        }
        is_on
    }

    /// Puts the rule set back, unless somebody is loading one; whether it is there now. What cannot be loaded
    /// is tried again, less and less often: another program may have had the lock, or have deleted the half
    /// of it again.
    fn put_back(&mut self, read: Option<ReadRules>, table: &'static str, now: Mono) -> bool {
        let turn = TrialTurn::take_free(&self.run_dir);
        // Who has rules on trial keeps the turn for as long, whatever becomes of the kernel's tables.
        if turn.is_none() && self.saved.pending().is_none() {
            self.rules_gone = Some(table);
            self.rules_at = Some(now.after(LOAD_PAUSE));
            return false;
        }
        // Whoever had it before may have loaded others.
        let is_gone = match self.tables {
            RuleTables::None => loader::is_loaded().map(|is_loaded| !is_loaded),
            RuleTables::Half => loader::is_half(),
            RuleTables::Loaded | RuleTables::WithoutFrames => Ok(true),
        };
        let loading = if is_gone.unwrap_or(true) {
            load_rules(read.or_else(|| ReadRules::read(&self.saved)), table)
        } else {
            Loading::Done
        };
        match loading {
            Loading::Done => (self.rules_at, self.rules_failed) = (None, 0),
            Loading::Refused => self.rules_refused = true,
            Loading::Failed => {
                self.rules_gone = Some(table);
                self.rules_at = Some(now.after(RETRY_PAUSE << self.rules_failed.min(RETRY_DOUBLINGS)));
                self.rules_failed = self.rules_failed.saturating_add(1);
            }
        }
        loading == Loading::Done
    }

    /// Whether others have deleted deny lists; `reasserted` is how often the table was made anew by now, also
    /// by a ban that found it gone before anybody asked.
    pub(super) fn take_lists(&mut self, reasserted: u64) -> bool {
        let anew = std::mem::replace(&mut self.reasserted, reasserted) != reasserted;
        std::mem::take(&mut self.lists_lost) || anew
    }

    /// Whether others have emptied the allow list.
    pub(super) fn take_allow(&mut self) -> bool {
        std::mem::take(&mut self.allow_lost)
    }

    /// Whether the rule set is to be put back now.
    fn are_rules_due(&self, now: Mono) -> bool {
        self.rules_gone.is_some() && self.rules_at.is_none_or(|at| at <= now)
    }

    /// Finds out what is broken; the rule set, where it was read for that.
    fn check_table(&mut self, guard: &mut dyn Backend) -> Option<ReadRules> {
        match guard.check() {
            Ok(health) => {
                self.reported = false;
                self.damage = self.damage.max(health.damage);
                self.lists_lost |= health.lists_lost;
                self.allow_lost |= health.allow_lost;
                return self.check_rules(health.rules);
            }
            Err(e) if !std::mem::replace(&mut self.reported, true) => {
                log::warn!("{e}; a deleted table is restored with the next ban only");
            }
            Err(_) => {}
        }
        None
    }

    fn check_rules(&mut self, found: RuleTables) -> Option<ReadRules> {
        let mut read = None;
        // The files are read only when the table may have gone just now, or was missing: most rule sets have
        // none for frames.
        if std::mem::replace(&mut self.tables, found) != found || self.lacks_frames {
            // A trial takes the table along that it has brought.
            let may_lack = found == RuleTables::WithoutFrames && self.managed;
            read = if may_lack { ReadRules::read(&self.saved) } else { None };
            self.lacks_frames = read.as_ref().is_some_and(ReadRules::want_frames);
        }
        let gone = match found {
            RuleTables::None if self.managed && loader::is_elsewhere().unwrap_or(false) => {
                Some("the rule set of this backend")
            }
            RuleTables::None => Some("the table inet mef"),
            RuleTables::WithoutFrames if self.lacks_frames => Some("the table bridge mef"),
            // Whoever loads now does so to the end, unless he is killed.
            RuleTables::Half if !trial::is_loading(&self.run_dir) => Some("a part of the rule set"),
            RuleTables::Loaded | RuleTables::WithoutFrames | RuleTables::Half => None,
        };
        self.rules_refused &= gone.is_some();
        let had_rules = self.rules_loaded || self.rules_gone.is_some();
        let are_to_be = || trial::noted(&self.run_dir).map_or(had_rules, |noted| noted == Noted::Rules);
        self.rules_gone = gone.filter(|_| self.managed && !self.rules_refused && are_to_be());
        self.rules_loaded = gone.is_none();
        if self.rules_loaded {
            (self.rules_at, self.rules_failed) = (None, 0);
        }
        read
    }
}

/// Whether the last repair is long enough ago.
fn held(now: Mono, last: Option<Mono>) -> bool {
    last.is_none_or(|last| now.since(last) >= STABLE_AFTER)
}

/// When to repair: at once, but not again and again while somebody else keeps deleting.
fn next(now: Mono, last: Option<Mono>, streak: u32) -> Mono {
    match last {
        Some(last) if !held(now, Some(last)) && streak >= BURST_REPAIRS => {
            let wait = (1 << (streak - BURST_REPAIRS).min(16)).min(PAUSE_MAX);
            log::warn!("our tables are deleted repeatedly: the next repair is in {wait} s");
            now.max(last.after(wait * 1000))
        }
        _ => now,
    }
}

/// The rules that are to be in force: those that nobody has confirmed are not.
struct ReadRules {
    path: String,
    set: RuleSet,
}

impl ReadRules {
    /// Reads them; `None` if there never were any that somebody confirmed.
    fn read(saved: &Saved) -> Option<ReadRules> {
        let path = match saved.pending() {
            None => rulefile::DEFAULT_PATH.to_owned(),
            Some(_) => saved.confirmed()?.to_string_lossy().into_owned(),
        };
        let set = rulefile::read(&path, rulefile::CheckDepth::Quick);
        Some(ReadRules { path, set })
    }

    /// Whether there are rules among them for frames between ports of bridges.
    fn want_frames(&self) -> bool {
        !self.set.failed() && self.set.first_bridge.is_some()
    }
}

/// What became of rules that were to be loaded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loading {
    /// They are in force.
    Done,
    /// The system did not take them.
    Failed,
    /// There are none that could be loaded, until somebody changes that.
    Refused,
}

/// Puts the rule set back of which a table is gone, as `mef load --boot` would.
fn load_rules(read: Option<ReadRules>, table: &str) -> Loading {
    let Some(ReadRules { path, mut set }) = read else {
        log::error!("{table} is gone, and its rules were never confirmed");
        return Loading::Refused;
    };
    if set.failed() {
        let shown = rulefile::shown(&set);
        shown.first().into_iter().flat_map(|text| text.lines()).for_each(|line| log::error!("{line}"));
        log::error!("{table} is gone, and {path} cannot be loaded: it has errors");
        return Loading::Refused;
    }
    let batch = rulefile::batch(&mut set, Goal::Replace);
    match batch.and_then(|batch| rulefile::load(&set, batch).map_err(|(why, _)| why)) {
        Ok(()) => {
            log::warn!("{table} was gone: {path} is loaded again");
            Loading::Done
        }
        Err(why) => {
            log::error!("{table} is gone, and {path} cannot be loaded: {why}");
            Loading::Failed
        }
    }
}
