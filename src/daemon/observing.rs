#![forbid(unsafe_code)]
//! The process that reads lines: a fork of the daemon that keeps nothing of it but the right to read, and
//! does what the enforcer says. It never returns to what the daemon was doing.

use super::enforcer_link::EnforcerLink;
use super::judge::{Counterpart, Nearest};
use super::reading::{fit, places};
use super::slot::{Slot, Turn, pass, room, sleep};
use super::sources::{KeptSources, SocketsFrom, SourceSettings, Sources};
use super::wire::{
    self, COUNTED_MAX, GivenSockets, Observed, ObserverNews, ObserverOrder, ObserverPart, RuleView,
};
use super::{Daemon, setup, sources};
use crate::base::bytes::of_path;
use crate::base::clock::{Mono, Now};
use crate::base::position::Position;
use crate::config::load;
use crate::detect::MAX_RULES;
use crate::input::Tags;
use crate::services::Compiled;
use crate::sys::alloc::{ForkSide, share_no_more, start_afresh, with_arena};
use crate::sys::poll::Ready;
use crate::sys::{busy, clock, runner, syslog, trim};
use log::LevelFilter;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Milliseconds from the first thing that happens to the moment when memory that it took is given back.
const TRIM: u64 = 2000;

/// Of so many sources what was counted is handed over: of more the tables take most of the memory.
const HANDED_MAX: usize = 4096;

/// What it waits for. Who asks is told what there is now: sources come first.
static SLOTS: [Slot<Daemon>; 3] = [
    Slot::new(Daemon::observe_ready)
        .on_each(sources::MAX, |on, at| on.sources.fd(at))
        .at(|on| on.sources.deadline()),
    Slot::new(Daemon::tell_of_lines).at(|on| on.judge.enforcer_link().and_then(EnforcerLink::read_due)),
    Slot::new(Daemon::obey_enforcer)
        .on(|on, _| on.judge.enforcer_link().map(EnforcerLink::fd))
        .at(|on| on.judge.enforcer_link().and_then(EnforcerLink::due)),
];

impl Daemon {
    /// What a new process does from here on. Of all that the daemon had open there is nothing any more, and
    /// nothing here may use it, or drop it.
    pub(super) fn observe(&mut self, ends: [OwnedFd; 2], saved: &[(PathBuf, Position)]) {
        start_afresh(ForkSide::Child);
        if self.begin_to_observe(ends, saved).is_some() {
            self.observe_on();
        }
    }

    /// On its own, as the start of the daemon is: what it needs of the stack is given back.
    #[inline(never)]
    fn begin_to_observe(&mut self, [fd, asks]: [OwnedFd; 2], saved: &[(PathBuf, Position)]) -> Option<()> {
        let reports = self.judge.wanted_reports();
        let link = self.judge.observer()?;
        let (handed, evicted) = (link.take_handed(), link.counts.evicted);
        let (wants, settings) = (std::mem::take(&mut link.wants), link.settings.clone());
        let goes_on_from = link.asked_at();
        syslog::give_to(fd.try_clone().ok()?, wire::LOG, wire::level_number);
        busy::give_to(fd.try_clone().ok()?, Observed::News(ObserverNews::Busy).write());
        runner::ask_parent(asks, wants.programs());
        let enforcer = EnforcerLink::new(fd, goes_on_from);
        enforcer.reports.set(reports);
        let enforcer = Counterpart::Enforcer(Box::new(enforcer));
        std::mem::forget(std::mem::replace(&mut self.judge.counterpart, enforcer));
        // What that takes passes. Whoever could do more here than is said reads nothing.
        if !with_arena(|| self.confined.observe().is_whole()) {
            log::error!("the process that reads logs (the observer) cannot be confined: it ends");
            return None;
        }
        self.judge.observer.go_on_from(evicted);
        self.take_in(&handed);
        // The sockets come with the first order, which is to start.
        let (order, fds) = self.judge.enforcer_link()?.take();
        let ObserverOrder::Start(given) = order else { return None };
        let now = clock::now();
        let from = SocketsFrom::Given(by_kind(given, fds));
        let all = Sources::open(wants, &settings, saved, now, (from, KeptSources::default()));
        std::mem::forget(std::mem::replace(&mut self.sources, all));
        // Nobody waits for what there is to read. Where that begins is known whatever comes of it.
        self.sources.open_ends();
        self.send_places();
        self.ended_order();
        self.observe_now(now, None);
        Some(())
    }

    #[inline(never)]
    fn observe_on(&mut self) {
        let mut trim_at = Some(Mono::default());
        loop {
            let mut ready = [Ready::No; room(&SLOTS)];
            if sleep(&SLOTS, self, trim_at, &mut ready).is_err() {
                return;
            }
            let now = clock::now();
            if pass(&SLOTS, self, now, &ready).is_none() {
                return;
            }
            if trim_at.is_some_and(|at| at <= now.mono) {
                trim_at = None;
                trim::drop_code_pages();
                trim::stack();
            } else {
                trim_at.get_or_insert(now.mono.after(TRIM));
            }
        }
    }

    fn observe_ready(&mut self, now: Now, ready: &[Ready]) -> Turn {
        self.observe_now(now, Some(ready));
        Turn::Done
    }

    /// Reads what the sources have, those that are ready or all, and sends what it finds.
    fn observe_now(&mut self, now: Now, ready: Option<&[Ready]>) {
        let Daemon { judge, sources, .. } = self;
        judge.enforcer_link().into_iter().for_each(EnforcerLink::forget_known);
        let before = judge.seen();
        sources.drain(now, ready, &mut |tags, item| judge.take(now, tags.0, item));
        judge.commit(now);
        let change = sources.look_around(now.mono);
        if let Some(change) = &change {
            judge.log_sight(change, &|tags| sources.sight(now.mono, tags));
        }
        let Some(link) = judge.enforcer_link() else { return };
        if judge.seen() != before {
            link.tell_read(now.mono);
        }
        if sources.take_opened() {
            link.tell_opened();
        }
        if change.is_some() && ready.is_some() {
            link.tell(ObserverNews::Sight);
        }
    }

    fn tell_of_lines(&mut self, now: Now, _: &[Ready]) -> Turn {
        self.judge.enforcer_link().into_iter().for_each(|link| link.tell_read(now.mono));
        Turn::Done
    }

    fn ended_order(&self) {
        self.judge.enforcer_link().into_iter().for_each(EnforcerLink::end);
    }

    fn obey_enforcer(&mut self, now: Now, _: &[Ready]) -> Turn {
        let Some((order, fds)) = self.judge.enforcer_link().map(EnforcerLink::take) else {
            return Turn::Stop;
        };
        match order {
            // An answer that nobody waits for, or a second start.
            ObserverOrder::Start(_) | ObserverOrder::Who(..) | ObserverOrder::Truth(_) => return Turn::Stop,
            ObserverOrder::Reload(given, mark) => {
                if self.observe_anew(now, by_kind(given, fds), mark).is_none() {
                    // Its rules are in force no more: it reads nothing, and is ended.
                    self.ended_order();
                    return self.obey_enforcer(clock::now(), &[]);
                }
                return Turn::Done;
            }
            ObserverOrder::Pause => {
                // All that was found is sent: nothing is under way until the next order is there.
                self.send_places();
                self.ended_order();
                return self.obey_enforcer(clock::now(), &[]);
            }
            ObserverOrder::HandOver => {
                let is_handed = self.hand_over(now).is_some();
                self.ended_order();
                return if is_handed { self.obey_enforcer(clock::now(), &[]) } else { Turn::Done };
            }
            ObserverOrder::Stop => {
                self.observe_now(now, None);
                self.sources.stop();
                self.send_places();
            }
            ObserverOrder::Places => self.send_places(),
            ObserverOrder::Status => self.send_status(now),
            ObserverOrder::Offenders(range) => {
                let Nearest { offenders, all } = self.judge.nearest(now.mono, Some(&range));
                offenders.into_iter().for_each(|one| self.part(ObserverPart::Offender(one)));
                self.part(ObserverPart::Text(&all.to_string()));
            }
            ObserverOrder::Describe => {
                let text = self.sources.to_string();
                self.part(ObserverPart::Text(&text));
            }
            ObserverOrder::Report => self.sources.report(),
            ObserverOrder::Forget(net) => self.judge.observer.forget(net),
            ObserverOrder::Hits(reports) => {
                self.judge.enforcer_link().into_iter().for_each(|link| link.reports.set(reports));
            }
            ObserverOrder::Ended(pid, end) => {
                runner::set_end(pid, end);
                self.sources.child_ended();
                return Turn::Done;
            }
        }
        self.ended_order();
        if order == ObserverOrder::Stop { Turn::Stop } else { Turn::Done }
    }

    fn part(&self, part: ObserverPart<'_>) {
        self.judge.enforcer_link().into_iter().for_each(|link| link.part(part));
    }

    fn send_places(&mut self) {
        self.judge.enforcer_link().into_iter().for_each(EnforcerLink::forget_told);
        let mut all = places(&self.sources);
        let left_out = fit(&mut all);
        if self.sources.has_more() {
            self.part(ObserverPart::Behind);
        }
        for (path, position) in all {
            self.part(ObserverPart::Place(of_path(&path), position));
        }
        self.judge.enforcer_link().into_iter().for_each(|link| link.warn_left_out(left_out));
    }

    /// Says all that the next one needs, if that is not too much.
    fn hand_over(&mut self, now: Now) -> Option<()> {
        let observer = &self.judge.observer;
        let (mut left, mut is_small) = (HANDED_MAX, true);
        observer.hand_over(now.mono, &mut |place| {
            left = left.saturating_sub(1);
            is_small &= place.bytes.len() <= COUNTED_MAX && left > 0;
        });
        is_small.then_some(())?;
        observer.hand_over(now.mono, &mut |place| self.part(ObserverPart::Counted(place)));
        self.send_status(now);
        self.send_places();
        self.part(ObserverPart::Taken);
        Some(())
    }

    /// Takes in what another one has counted. The enforcer has looked at nothing of it.
    fn take_in(&mut self, handed: &[Box<[u8]>]) {
        let now = clock::now();
        for message in handed {
            if let Some(Observed::Part(ObserverPart::Counted(place))) = Observed::read(message) {
                let _ = self.judge.observer.take_in(now.mono, &place);
            }
        }
    }

    fn send_status(&mut self, now: Now) {
        let Daemon { judge, sources, .. } = self;
        let Some(link) = judge.enforcer_link() else { return };
        for (at, tally) in (0..MAX_RULES).zip(judge.tallies()) {
            let (sight, kind, text) = sources.seen(now.mono, Tags(1 << at));
            link.part(ObserverPart::Rule(RuleView {
                hits: tally.hits.get(),
                read: tally.read.get(),
                last: tally.last.get(),
                sight,
                kind,
                text: &text,
            }));
        }
        link.part(ObserverPart::Counts(judge.observer_counts()));
        judge
            .nearest(now.mono, None)
            .offenders
            .into_iter()
            .for_each(|one| link.part(ObserverPart::Offender(one)));
    }

    /// Takes the configuration that there is now, and says so, unless it is another one than the enforcer has
    /// taken. That has told what is wrong with it.
    fn observe_anew(&mut self, now: Now, given: [Option<OwnedFd>; 2], mark: u32) -> Option<()> {
        let level = log::max_level();
        log::set_max_level(LevelFilter::Off);
        share_no_more();
        let mut compiled = Compiled::default();
        let loaded = with_arena(|| load(&self.conf, &mut |rule, problems| compiled.add(rule, problems)));
        let is_same = !loaded.failed() && loaded.mark == mark;
        let plan = is_same.then(|| setup::plan(&loaded, compiled));
        log::set_max_level(level);
        let plan = plan?;
        let settings = &loaded.settings;
        log::set_max_level(super::start::log_level(settings));
        runner::reconfigure(plan.wants.programs());
        self.judge.take_rules(now, plan.rules, plan.policies, settings);
        // The rules are the same in both from here on: however many logs there are, nobody waits for them.
        self.part(ObserverPart::Taken);
        self.ended_order();
        self.sources.reopen(plan.wants, &SourceSettings::of(settings), now, SocketsFrom::Given(given));
        self.observe_now(now, None);
        Some(())
    }
}

/// The sockets that came with an order, each at its place.
fn by_kind(given: GivenSockets, fds: Vec<OwnedFd>) -> [Option<OwnedFd>; 2] {
    let mut fds = fds.into_iter();
    [given.unix, given.udp].map(|is_there| if is_there { fds.next() } else { None })
}
