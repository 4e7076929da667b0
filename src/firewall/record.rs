#![forbid(unsafe_code)]
//! A backend that enforces nothing: it keeps what would be in force, with its ends, by a clock that is set by
//! hand. The rehearsal of `mef test` bans in it, and the daemon's tests, which also have it refuse, lose its
//! table and be changed by others.

use super::backend::{Bans, DenySet, Filling, Guards, Keeper, Lists, View};
use crate::ban::WhichBans;
use crate::ban::{
    AllowEntry, AllowSource, Allowed, Ban, BanEntry, BanOutcome, BanReport, Damage, Doing, Failure,
    GuardState, Health, ListForm, ListId, Options, Repeat, Scope, Shortage, Standing, meet,
};
use crate::base::clock::{Span, Wall};
use crate::base::range::Range;
use nix::errno::Errno;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

/// What was done to the table, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordedStep {
    /// It was made, with so many entries of the allow list.
    Made(usize),
    /// The allow list was replaced by one of so many entries.
    Allowed(usize),
    /// Somebody was banned, or for longer, for so many seconds; `None` is for good.
    Banned(Range, Option<u64>),
    /// A ban was ended.
    Ended(Range),
}

/// A ban that is kept.
struct RecordedBan {
    addr: Range,
    scope: Scope,
    standing: Standing,
    since: Wall,
    until: Option<Wall>,
}

/// The table, while there is one.
#[derive(Default)]
struct Table {
    bans: Vec<RecordedBan>,
    allowed: Allowed,
}

/// Everything that would be in force, for who looks on.
#[derive(Default)]
pub struct World {
    /// The time.
    pub now: Wall,
    /// What is answered to the next changes instead of doing them, the last one first.
    pub refuse: Vec<Errno>,
    /// What was done.
    pub steps: Vec<RecordedStep>,
    table: Option<Table>,
    /// Others have changed something.
    moved: bool,
    damage: Damage,
}

impl World {
    /// Others delete everything, as `nft flush ruleset` does.
    pub fn flush(&mut self) {
        (self.table, self.moved, self.damage) = (None, true, Damage::Table);
    }

    /// Others change something that is none of our business.
    pub fn touch(&mut self) {
        self.moved = true;
    }

    /// Whether there is a table.
    #[must_use]
    pub fn has_table(&self) -> bool {
        self.table.is_some()
    }

    /// Whether packets of an address to a port are dropped; `None` is a port that no ban is limited to.
    #[must_use]
    pub fn drops(&self, from: &Range, port: Option<u16>) -> bool {
        let Some(table) = &self.table else { return false };
        let meant = |scope: &Scope| {
            let has = |port| scope.ports().iter().any(|(first, last)| (*first..=*last).contains(&port));
            scope.is_all() || port.is_some_and(has)
        };
        let mut all = table.bans.iter().filter(|held| meant(&held.scope));
        let banned = all.any(|held| held.addr.covers(from) && held.is_live(self.now));
        banned && !table.allowed.covers(from, self.now)
    }

    fn refused(&mut self) -> Result<(), Failure> {
        match self.refuse.pop() {
            Some(errno) => Err(Failure::new(Doing::Change, errno, format!("refused: {errno}"))),
            None => Ok(()),
        }
    }

    fn each(&self, each: &mut dyn FnMut(&BanEntry<'_>)) {
        for held in self.table.iter().flat_map(|table| &table.bans).filter(|held| held.is_live(self.now)) {
            let Standing { age, left, ref rule, hits, ref reason } = held.standing(self.now);
            let (addr, scope, age, packets) = (held.addr, &held.scope, Some(age), None);
            each(&BanEntry { addr, scope, rule, hits, reason, age, left, packets });
        }
    }
}

impl RecordedBan {
    fn is_live(&self, now: Wall) -> bool {
        self.until.is_none_or(|until| until > now)
    }

    fn standing(&self, now: Wall) -> Standing {
        let left = self.until.map(|until| until.0.saturating_sub(now.0));
        Standing { age: now.0.saturating_sub(self.since.0), left, ..self.standing.clone() }
    }
}

impl Table {
    /// Bans somebody; what became of it.
    fn ban(&mut self, now: Wall, ban: &Ban<'_>, repeat: Repeat) -> BanOutcome {
        self.bans.retain(|held| held.is_live(now));
        // Who is banned with a network around is banned.
        let around = self.bans.iter().filter(|held| held.scope == *ban.scope && held.addr.covers(&ban.addr));
        let longest = around.max_by_key(|held| held.until.map_or(u64::MAX, |until| until.0));
        let outcome = meet(longest.map(|held| held.standing(now)), ban, repeat);
        let standing = match &outcome {
            BanOutcome::InForce(_) => return outcome,
            BanOutcome::Banned => Standing::of(ban),
            BanOutcome::Extended(after) => after.clone(),
        };
        self.bans.retain(|held| held.scope != *ban.scope || held.addr != ban.addr);
        let until = standing.left.map(|secs| Wall(now.0.saturating_add(secs)));
        let since = Wall(now.0.saturating_sub(standing.age));
        self.bans.push(RecordedBan { addr: ban.addr, scope: ban.scope.clone(), standing, since, until });
        outcome
    }

    /// Takes a range out of all bans; how many there were.
    fn unban(&mut self, now: Wall, range: &Range) -> usize {
        let live = std::mem::take(&mut self.bans).into_iter().filter(|held| held.is_live(now));
        let (met, mut rest): (Vec<RecordedBan>, Vec<RecordedBan>) =
            live.partition(|held| held.addr.meets(range));
        for held in &met {
            let parts = held.addr.without(range).into_iter().flatten();
            rest.extend(parts.map(|addr| RecordedBan {
                addr,
                scope: held.scope.clone(),
                standing: held.standing.clone(),
                ..*held
            }));
        }
        self.bans = rest;
        met.len()
    }
}

/// The backend.
pub struct Recorder {
    world: Rc<RefCell<World>>,
    options: Options,
    allow: AllowSource,
    fresh: bool,
}

impl Recorder {
    /// With options and an allow list, and the world that it changes.
    #[must_use]
    pub fn open(options: Options, allow: AllowSource) -> (Recorder, Rc<RefCell<World>>) {
        let world = Rc::new(RefCell::new(World::default()));
        (Recorder { world: world.clone(), options, allow, fresh: false }, world)
    }

    fn state_of(&self) -> GuardState {
        GuardState {
            ipv6_prefix: self.options.ipv6_prefix,
            logs: false,
            watches: crate::ban::Capabilities::NONE,
            lacks: crate::ban::Capabilities::NONE,
        }
    }

    /// Makes the table if it is missing: with its allow list, or not at all.
    fn make(&mut self) -> Result<GuardState, Failure> {
        let mut world = self.world.borrow_mut();
        world.refused()?;
        if world.table.is_none() {
            let allowed = self.allow.for_table(Vec::new());
            world.steps.push(RecordedStep::Made(allowed.len()));
            world.table = Some(Table { bans: Vec::new(), allowed });
            self.fresh = true;
        }
        world.damage = Damage::None;
        drop(world);
        Ok(self.state_of())
    }
}

impl View for Recorder {
    fn state(&mut self) -> Result<Option<GuardState>, Failure> {
        Ok(self.world.borrow().table.is_some().then(|| self.state_of()))
    }

    fn place(&self) -> &'static str {
        "nowhere"
    }

    fn lacking(&mut self, _: GuardState) -> Vec<String> {
        Vec::new()
    }

    fn owned_by(&mut self, _: &Path) -> Result<Option<String>, Failure> {
        Ok(None)
    }

    fn has_ban(&mut self, addr: &Range, scope: &Scope) -> Result<bool, Failure> {
        let mut found = false;
        self.world.borrow().each(&mut |entry| found |= entry.scope == scope && entry.addr.meets(addr));
        Ok(found)
    }

    fn list(&mut self, each: &mut dyn FnMut(&BanEntry<'_>)) -> Result<(), Failure> {
        self.world.borrow().each(each);
        Ok(())
    }

    fn glance(&mut self, each: &mut dyn FnMut(&BanEntry<'_>)) -> Result<(), Failure> {
        self.list(each)
    }

    fn allowed_until(&mut self) -> Result<Vec<AllowEntry>, Failure> {
        let world = self.world.borrow();
        Ok(world.table.as_ref().map_or(Vec::new(), |table| table.allowed.entries(world.now)))
    }

    fn denied(&mut self, ranges: &[Range]) -> Result<Vec<Vec<String>>, Failure> {
        Ok(vec![Vec::new(); ranges.len()])
    }
}

fn seconds(time: Span) -> Option<u64> {
    match time {
        Span::Permanent => None,
        Span::Secs(secs) => Some(secs),
    }
}

/// Deny lists are not rehearsed.
fn no_lists() -> Failure {
    Failure::new(Doing::Change, Errno::EOPNOTSUPP, "no deny lists here".to_owned())
}

impl Lists for Recorder {
    fn go_through(&mut self, _: &Path) {}

    fn deny_sets(&mut self) -> Result<Vec<DenySet>, Failure> {
        Ok(Vec::new())
    }

    fn deny_has(&mut self, _: &DenySet, _: &[Range]) -> Result<Vec<usize>, Failure> {
        Err(no_lists())
    }

    fn deny_open(&mut self, _: ListId, _: ListForm, _: u32, _: &str) -> Result<Filling, Failure> {
        Err(no_lists())
    }

    fn deny_add(&mut self, _: &mut Filling, _: &[Range], _: usize) -> Result<(), Failure> {
        Err(no_lists())
    }

    fn deny_close(&mut self) -> Result<(), Failure> {
        Err(no_lists())
    }

    fn deny_room(&self, _: &Failure, _: usize) -> Option<usize> {
        None
    }

    fn deny_swap(&mut self, _: &[DenySet], _: &[Filling], _: u64) -> Result<(), Failure> {
        Err(no_lists())
    }

    fn deny_forget(&mut self, _: &Filling) -> Result<(), Failure> {
        Err(no_lists())
    }

    fn deny_drop(&mut self, _: &DenySet) -> Result<(), Failure> {
        Err(no_lists())
    }

    fn room_for_list(&self, _: u64, _: u64) -> Result<(), Shortage> {
        Ok(())
    }
}

impl Bans for Recorder {
    fn ensure(&mut self) -> Result<GuardState, Failure> {
        if self.world.borrow().table.is_some() { Ok(self.state_of()) } else { self.make() }
    }

    fn take_recreated(&mut self) -> bool {
        std::mem::take(&mut self.fresh)
    }

    fn ban(&mut self, bans: &[Ban<'_>], repeat: Repeat, report: BanReport<'_>) {
        if let Err(e) = self.ensure() {
            return (0..bans.len()).for_each(|at| report(at, Err(&e)));
        }
        let mut world = self.world.borrow_mut();
        if let Err(e) = world.refused() {
            return (0..bans.len()).for_each(|at| report(at, Err(&e)));
        }
        let World { now, steps, table, .. } = &mut *world;
        let Some(table) = table else { return };
        for (at, ban) in bans.iter().enumerate() {
            let outcome = table.ban(*now, ban, repeat);
            if !matches!(outcome, BanOutcome::InForce(_)) {
                steps.push(RecordedStep::Banned(ban.addr, seconds(ban.time)));
            }
            report(at, Ok(outcome));
        }
    }

    fn unban(&mut self, ranges: &[Range], _: &[Range]) -> Result<Vec<usize>, Failure> {
        let mut world = self.world.borrow_mut();
        world.refused()?;
        let World { now, steps, table, .. } = &mut *world;
        let Some(table) = table else { return Ok(vec![0; ranges.len()]) };
        steps.extend(ranges.iter().map(|range| RecordedStep::Ended(*range)));
        Ok(ranges.iter().map(|range| table.unban(*now, range)).collect())
    }

    fn unban_all(&mut self, which: WhichBans) -> Result<(), Failure> {
        let mut world = self.world.borrow_mut();
        world.refused()?;
        if let Some(table) = &mut world.table {
            table.bans.retain(|held| which != WhichBans::All && held.until.is_none());
        }
        Ok(())
    }

    fn set_allowed(&mut self, allowed: &mut Allowed) -> Result<(), Failure> {
        allowed.settle();
        self.allow = AllowSource::Kept(allowed.clone());
        let mut world = self.world.borrow_mut();
        world.refused()?;
        if let Some(table) = &mut world.table {
            table.allowed = allowed.clone();
            world.steps.push(RecordedStep::Allowed(allowed.len()));
        }
        Ok(())
    }

    fn not_allowed(&self, range: &Range, now: Wall) -> Vec<Range> {
        self.allow.not_allowed(range, now)
    }
}

impl Guards for Recorder {}

impl Keeper for Recorder {
    fn watch(&mut self) {}

    fn has_moved(&mut self) -> Result<bool, Failure> {
        Ok(self.world.borrow().moved)
    }

    fn check(&mut self) -> Result<Health, Failure> {
        let mut world = self.world.borrow_mut();
        world.moved = false;
        Ok(Health { damage: world.damage, ..Health::default() })
    }

    fn rebuild(&mut self) -> Result<GuardState, Failure> {
        self.make()
    }

    fn repair(&mut self, _: Damage) -> Result<GuardState, Failure> {
        self.make()
    }

    fn options(&self) -> &Options {
        &self.options
    }

    fn set_options(&mut self, options: Options) -> Options {
        std::mem::replace(&mut self.options, options)
    }
}
