#![forbid(unsafe_code)]
//! The process that reads lines: a fork of the daemon that keeps nothing of it but the right to read, and
//! does what the enforcer says. It never returns to what the daemon was doing.

use super::enforcer_link::EnforcerLink;
use super::judge::Counterpart;
use super::reading::places;
use super::slot::{Slot, Turn, pass, room, sleep};
use super::sources::{KeptSources, SocketsFrom, SourceSettings, Sources};
use super::wire::{self, GivenSockets, ObserverNews, ObserverOrder, ObserverPart, RuleView};
use super::{Daemon, setup, sources};
use crate::base::bytes::of_path;
use crate::base::clock::{Mono, Now};
use crate::base::position::Position;
use crate::config::load;
use crate::detect::MAX_RULES;
use crate::input::Tags;
use crate::services::Compiled;
use crate::sys::alloc::{ForkSide, start_afresh, with_arena};
use crate::sys::poll::Ready;
use crate::sys::{clock, runner, syslog, trim};
use log::LevelFilter;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Milliseconds from the first thing that happens to the moment when memory that it took is given back.
const TRIM: u64 = 2000;

/// What it waits for. Who asks is told what there is now: sources come first.
static SLOTS: [Slot<Daemon>; 2] = [
    Slot::new(Daemon::observe_ready)
        .on_each(sources::MAX, |on, at| on.sources.fd(at))
        .at(|on| on.sources.deadline()),
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
        let link = self.judge.observer()?;
        let (wants, settings) = (std::mem::take(&mut link.wants), link.settings.clone());
        syslog::give_to(fd.try_clone().ok()?, wire::LOG, wire::level_number);
        runner::ask_parent(asks, wants.programs());
        let before = Counterpart::Enforcer(Box::new(EnforcerLink::new(fd)));
        std::mem::forget(std::mem::replace(&mut self.judge.counterpart, before));
        // What that takes passes.
        with_arena(|| drop(self.confined.observe()));
        // The sockets come with the first order, which is to start.
        let (order, fds) = self.judge.enforcer_link()?.take();
        let ObserverOrder::Start(given) = order else { return None };
        let now = clock::now();
        let from = SocketsFrom::Given(by_kind(given, fds));
        let all = Sources::open(wants, &settings, saved, now, (from, KeptSources::default()));
        std::mem::forget(std::mem::replace(&mut self.sources, all));
        self.observe_now(now, None);
        self.ended_order();
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
        let before = judge.seen();
        sources.drain(now, ready, &mut |tags, item| judge.take(now, tags.0, item));
        judge.commit(now);
        let change = sources.look_around(now.mono);
        if let Some(change) = &change {
            judge.log_sight(change, &|tags| sources.sight(now.mono, tags));
        }
        let Some(link) = judge.enforcer_link() else { return };
        if judge.seen() != before {
            link.tell(ObserverNews::Read);
        }
        if sources.take_opened() {
            link.tell(ObserverNews::Opened);
        }
        if change.is_some() && ready.is_some() {
            link.tell(ObserverNews::Sight);
        }
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
            ObserverOrder::Start(_) | ObserverOrder::Who(_) | ObserverOrder::Truth(_) => return Turn::Stop,
            ObserverOrder::Reload(given) => self.observe_anew(now, by_kind(given, fds)),
            ObserverOrder::Stop => {
                self.observe_now(now, None);
                self.sources.stop();
                self.send_places();
            }
            ObserverOrder::Places => self.send_places(),
            ObserverOrder::Status => self.send_status(now),
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
        for (path, position) in places(&self.sources) {
            self.part(ObserverPart::Place(of_path(&path), position));
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
        judge.nearest(now.mono).into_iter().for_each(|one| link.part(ObserverPart::Offender(one)));
    }

    /// Takes the configuration that there is now. The enforcer has told what is wrong with it.
    fn observe_anew(&mut self, now: Now, given: [Option<OwnedFd>; 2]) {
        let level = log::max_level();
        log::set_max_level(LevelFilter::Off);
        let mut compiled = Compiled::default();
        let loaded = with_arena(|| load(&self.conf, &mut |rule, problems| compiled.add(rule, problems)));
        let plan = (!loaded.failed()).then(|| setup::plan(&loaded, compiled));
        log::set_max_level(level);
        let Some(plan) = plan else { return };
        let settings = &loaded.settings;
        log::set_max_level(super::log_level(settings));
        runner::reconfigure(plan.wants.programs());
        self.judge.take_rules(now, plan.rules, plan.policies, settings);
        self.sources.reopen(plan.wants, &SourceSettings::of(settings), now, SocketsFrom::Given(given));
        self.observe_now(now, None);
        self.part(ObserverPart::Rules(self.judge.rules_mark()));
    }
}

/// The sockets that came with an order, each at its place.
fn by_kind(given: GivenSockets, fds: Vec<OwnedFd>) -> [Option<OwnedFd>; 2] {
    let mut fds = fds.into_iter();
    [given.unix, given.udp].map(|is_there| if is_there { fds.next() } else { None })
}
