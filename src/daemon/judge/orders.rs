#![forbid(unsafe_code)]
//! What the process that reads lines is told to do, and what it answers.

use super::Judge;
use super::apart::Heard;
use super::report::{Nearest, TOP};
use crate::base::clock::{Now, Wall};
use crate::base::range::Range;
use crate::daemon::observer_link::{ObserverEnd, ObserverLink, PendingOrder, SeenRule};
use crate::daemon::sources::{SourceSettings, Wants};
use crate::daemon::wire::{HitReports, MESSAGE_MAX, ObserverOrder, ObserverPart, Offender, RuleView};
use crate::sys::clock;
use nix::errno::Errno;
use std::mem::take;

/// Messages that are heard when the time for an answer is over: more than its queue holds.
const BEYOND: u32 = 512;

/// Whether it has done what it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OrderEnd {
    Done,
    /// It will be heard later.
    Late,
}

impl Judge {
    /// Has it do something, and hears what it says by the way. Whether it has done it: who is late with what
    /// can be late is heard when he has.
    pub(in crate::daemon) fn order(
        &mut self,
        now: Now,
        order: &ObserverOrder,
        each: &mut dyn FnMut(&mut Judge, ObserverPart<'_>),
    ) -> bool {
        let Some(link) = self.observer().filter(|link| link.fd().is_some()) else { return false };
        if link.owes() && order.may_be_late() {
            return false;
        }
        let began = clock::mono();
        let done = self.try_order(now, order, each);
        let millis = clock::mono().since(began);
        let now = Now { mono: now.mono.after(millis), wall: Wall(now.wall.0 + millis / 1000) };
        self.observer().into_iter().for_each(|link| link.add_wait(began, order, millis));
        match done {
            Err(e) => {
                let why = self.link().map_or(ObserverEnd::Died, |link| link.end_by(order, e));
                self.lose_observer(now, why);
            }
            // What it said by the way counts now.
            Ok(_) => drop(self.commit(now)),
        }
        done == Ok(OrderEnd::Done)
    }

    fn try_order(
        &mut self,
        now: Now,
        order: &ObserverOrder,
        each: &mut dyn FnMut(&mut Judge, ObserverPart<'_>),
    ) -> Result<OrderEnd, Errno> {
        let mut room = [0; MESSAGE_MAX];
        let link = self.observer().ok_or(Errno::ESRCH)?;
        link.send(order)?;
        link.set_told(now, order);
        let until = link.answer_until(clock::mono(), order);
        let mut beyond = 0;
        loop {
            // What is there by then has come in time, however late it is looked at; and however much it says.
            let is_over = clock::mono() >= until;
            beyond += u32::from(is_over);
            let late = if order.may_be_late() { Ok(OrderEnd::Late) } else { Err(Errno::ETIMEDOUT) };
            match self.hear_one(now, &mut room, each)? {
                Heard::End(OrderEnd::Done) => return Ok(OrderEnd::Done),
                Heard::Nothing if is_over => return late,
                Heard::Nothing => self.observer().ok_or(Errno::ESRCH)?.wait(until)?,
                Heard::Message | Heard::Question | Heard::End(OrderEnd::Late) => {}
            }
            if beyond > BEYOND {
                return late;
            }
        }
    }

    /// It has done the first thing of those that it was told; whether that was the last one.
    pub(super) fn done_order(&mut self) -> Result<OrderEnd, Errno> {
        let link = self.observer().ok_or(Errno::ESRCH)?;
        let PendingOrder { order, at, places, counted, is_taken, is_behind, .. } = link.take_pending()?;
        let end = if link.owes() { OrderEnd::Late } else { OrderEnd::Done };
        match order {
            ObserverOrder::Hits(reports) => link.reports = reports,
            ObserverOrder::Start(_) => link.add_places(places),
            ObserverOrder::HandOver if !is_taken => link.replace_later(at.mono),
            ObserverOrder::Places | ObserverOrder::Pause | ObserverOrder::Stop | ObserverOrder::HandOver => {
                link.set_places(at, places);
                // Unless it goes on, because it was told something else meanwhile.
                if order == ObserverOrder::HandOver && end == OrderEnd::Done {
                    link.set_handed(counted);
                }
                // What it has not read yet is as old as it may be.
                if !is_behind {
                    link.set_caught_up(at.wall);
                    self.decider.ban_policy.read_until(at.mono);
                }
            }
            _ => {}
        }
        Ok(end)
    }

    /// Asks what it has counted and sees, for whoever asks next.
    pub(in crate::daemon) fn refresh(&mut self, now: Now) {
        self.learn(now, &ObserverOrder::Status);
    }

    /// The same, by an order that has it say so.
    pub(super) fn learn(&mut self, now: Now, order: &ObserverOrder) {
        let take = |link: &mut ObserverLink| (take(&mut link.seen), take(&mut link.offenders));
        let before = self.observer().map(take);
        let mut at = 0;
        let done = self.order(now, order, &mut |judge, part| match part {
            ObserverPart::Rule(view) => {
                judge.saw(at, &view);
                at += 1;
            }
            ObserverPart::Counts(counts) => {
                judge.observer.detector.count_on(counts.lines);
                judge.observer().into_iter().for_each(|link| link.counts = counts);
            }
            ObserverPart::Offender(one) => judge.near(one),
            _ => {}
        });
        // What it said last counts until it has said something else.
        if let (false, Some(link), Some(before)) = (done, self.observer(), before)
            && link.fd().is_some()
        {
            (link.seen, link.offenders) = before;
        }
    }

    fn saw(&mut self, at: usize, view: &RuleView<'_>) {
        if at >= self.observer.detector.rules().len() {
            return;
        }
        if let Some(policy) = self.decider.policies.get(at) {
            policy.tally.hits.set(view.hits);
            policy.tally.read.set(view.read);
            policy.tally.last.set(view.last);
        }
        let seen = SeenRule { sight: view.sight, kind: view.kind.into(), text: view.text.into() };
        if let Some(link) = self.observer() {
            link.seen.push(seen);
        }
    }

    /// Whether there is such a rule: of others it has counted nobody.
    fn is_rule(&self, rule: u16) -> bool {
        usize::from(rule) < self.observer.detector.rules().len()
    }

    fn near(&mut self, one: Offender) {
        let is_rule = self.is_rule(one.rule);
        let link = self.observer().filter(|link| is_rule && link.offenders.len() < TOP);
        link.into_iter().for_each(|link| link.offenders.push(one));
    }

    /// Who of a range is being counted; nobody, if whoever counts does not say it in time.
    pub(in crate::daemon) fn offenders_of(&mut self, now: Now, range: &Range) -> Nearest {
        if self.link().is_none() {
            return self.nearest(now.mono, Some(range));
        }
        let mut found = Nearest { offenders: Vec::new(), all: 0 };
        self.order(now, &ObserverOrder::Offenders(*range), &mut |judge, part| match part {
            ObserverPart::Offender(one)
                if judge.is_rule(one.rule)
                    && found.offenders.len() < TOP
                    && range.meets(&Range::from(one.source)) =>
            {
                found.offenders.push(one);
            }
            ObserverPart::Text(all) => found.all = all.parse().unwrap_or(0),
            _ => {}
        });
        found
    }

    /// Asks how far everything was read, by an order that has it say so. Whether it has.
    pub(in crate::daemon) fn ask_places(&mut self, now: Now, order: &ObserverOrder) -> bool {
        self.order(now, order, &mut |_, _| ())
    }

    /// What it reads, for people.
    pub(in crate::daemon) fn describe(&mut self, now: Now) -> String {
        self.order(now, &ObserverOrder::Describe, &mut |judge, part| {
            if let (ObserverPart::Text(text), Some(link)) = (part, judge.observer()) {
                text.clone_into(&mut link.described);
            }
        });
        let link = self.link().filter(|link| link.fd().is_some());
        link.map_or("nothing: the observer does not run", |link| &link.described).to_owned()
    }

    /// Has it read nothing until the next order. What it has said until then is about the rules that are in
    /// force now, and is dealt with.
    pub(in crate::daemon) fn pause_observer(&mut self, now: Now) {
        self.hear(now);
        if self.observer_opens() {
            // It has read nothing, and would open what is not wanted any more.
            return self.lose_observer(now, ObserverEnd::NotBegun);
        }
        // It says how far it has read, too: it may have to begin anew.
        self.ask_places(now, &ObserverOrder::Pause);
    }

    /// Has it go on without another configuration.
    pub(in crate::daemon) fn resume_observer(&mut self, now: Now) {
        if let Some(reports) = self.observer().map(|link| link.reports) {
            self.order(now, &ObserverOrder::Hits(reports), &mut |_, _| ());
        }
    }

    /// Has it take the configuration that this process has taken: with the same rules, or anew.
    /// `mark` is what stands for it.
    pub(in crate::daemon) fn reload_observer(
        &mut self,
        now: Now,
        (wants, settings, mark): (Wants, SourceSettings, u32),
    ) {
        let Some(link) = self.observer() else { return };
        link.configure(wants, settings);
        if link.fd().is_none() {
            // What it ended by may be mended now.
            return link.hurry();
        }
        let order = ObserverOrder::Reload(link.given(), mark);
        let mut taken = false;
        let done = self.order(now, &order, &mut |_, part| taken |= part == ObserverPart::Taken);
        if done && !taken {
            return self.lose_observer(now, ObserverEnd::OtherRules);
        }
        let link = self.observer().into_iter();
        link.for_each(|link| {
            link.set_reopening(now.mono);
            link.replace_soon(now.mono);
        });
    }

    /// Whether somebody wants to know of single hits.
    pub(in crate::daemon) fn wanted_reports(&self) -> HitReports {
        let wanted = self.events.watched() || self.first_hits.is_wanted();
        if wanted { HitReports::Wanted } else { HitReports::Unwanted }
    }

    /// Has it tell of single hits while somebody wants to know.
    pub(in crate::daemon) fn follow_watchers(&mut self, now: Now) {
        let reports = self.wanted_reports();
        if self.link().is_none_or(|link| link.reports == reports || link.fd().is_none()) {
            return;
        }
        // Until it has heard that they are wanted none are told, and until it has heard that not, some.
        self.order(now, &ObserverOrder::Hits(reports), &mut |_, _| ());
    }
}
