#![forbid(unsafe_code)]
//! What the process that reads lines says, if there is one: its offences are decided on, its questions
//! answered, and what it has counted is taken in. What is not exactly a message ends it.

use super::Judge;
use crate::base::clock::{Mono, Now};
use crate::base::position::Position;
use crate::control::proto::Sight;
use crate::daemon::decide::Knowledge;
use crate::daemon::enforcer_link::EnforcerLink;
use crate::daemon::observer_link::{LogVerdict, ObserverLink, ReadingNews, SeenRule, path};
use crate::daemon::sources::{SourceSettings, Wants};
use crate::daemon::wire::{
    Evidence, HitReports, MESSAGE_MAX, Observed, ObservedHit, ObserverOrder, ObserverPart, Offender,
    RuleView, Truth,
};
use crate::detect::observe::{KnownSources as _, Offence, WAITING};
use crate::sys::child::ChildExit;
use nix::errno::Errno;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

/// Messages that one turn of the loop hears at most.
const TURN: usize = 512;

/// What the log says when the other process says too much.
const TOO_MANY: &str = "the process that reads logs (the observer) has written 2000 messages within an hour: \
                        the next ones are left out until the hour is over";

/// The other process that this one works with.
#[derive(Default)]
pub(in crate::daemon) enum Counterpart {
    /// None: it reads lines and bans.
    #[default]
    None,
    /// It bans; the other one reads lines.
    Observer(Box<ObserverLink>),
    /// It reads lines; the other one bans.
    Enforcer(Box<EnforcerLink>),
}

impl Judge {
    /// The process that reads lines, if there is to be one.
    pub(in crate::daemon) fn observer(&mut self) -> Option<&mut ObserverLink> {
        match &mut self.counterpart {
            Counterpart::Observer(link) => Some(link),
            _ => None,
        }
    }

    fn link(&self) -> Option<&ObserverLink> {
        match &self.counterpart {
            Counterpart::Observer(link) => Some(link),
            _ => None,
        }
    }

    /// The number of that process, if it runs.
    pub(in crate::daemon) fn observer_pid(&self) -> Option<i32> {
        self.link()?.pid()
    }

    /// Who is counted by it.
    pub(super) fn offenders_elsewhere(&self) -> &[Offender] {
        self.link().map_or(&[], |link| &link.offenders)
    }

    /// How many are, and how many had to give way there.
    pub(super) fn tracked_elsewhere(&self) -> (u64, u64) {
        self.link().map_or((0, 0), |link| (link.counts.tracked, link.counts.evicted))
    }

    /// What a rule was last known to see; `None`: this process reads itself.
    pub(in crate::daemon) fn seen_elsewhere(&self, at: usize) -> Option<(Sight, &str, &str)> {
        let link = self.link()?;
        let gone = (Sight::Blind, "", "the observer does not run");
        Some(link.seen.get(at).map_or(gone, |seen| (seen.sight, &*seen.kind, &*seen.text)))
    }

    /// The process that bans, if this one does not.
    pub(in crate::daemon) fn enforcer_link(&self) -> Option<&EnforcerLink> {
        match &self.counterpart {
            Counterpart::Enforcer(link) => Some(link),
            _ => None,
        }
    }

    /// For polling: what the process that reads lines says.
    pub(in crate::daemon) fn observer_fd(&self) -> Option<BorrowedFd<'_>> {
        self.link()?.fd()
    }

    /// Likewise: what it wants to have run.
    pub(in crate::daemon) fn desk_fd(&self) -> Option<BorrowedFd<'_>> {
        self.link()?.desk_fd()
    }

    /// When it is to be started.
    pub(in crate::daemon) fn observer_due(&self) -> Option<Mono> {
        self.link()?.due()
    }

    /// Hears what it has said. What follows from that is the caller's to see to.
    pub(in crate::daemon) fn hear(&mut self, now: Now) {
        if let Err(e) = self.hear_messages(now) {
            self.lose_observer(now, e, None);
        }
    }

    fn hear_messages(&mut self, now: Now) -> Result<(), Errno> {
        let mut room = [0; MESSAGE_MAX];
        for _ in 0..TURN {
            let Some(length) = self.link().ok_or(Errno::ESRCH)?.take(&mut room)? else { return Ok(()) };
            let message = room.get(..length).and_then(Observed::read).ok_or(Errno::EBADMSG)?;
            self.message(now, message)?;
        }
        Ok(())
    }

    /// What is news since this was last asked.
    pub(in crate::daemon) fn take_news(&mut self) -> ReadingNews {
        self.observer().map(|link| std::mem::take(&mut link.news)).unwrap_or_default()
    }

    /// Has it do something, and hears what it says by the way. Whether it has done it.
    pub(in crate::daemon) fn order(
        &mut self,
        now: Now,
        order: &ObserverOrder,
        each: &mut dyn FnMut(&mut Judge, ObserverPart<'_>),
    ) -> bool {
        if self.observer_fd().is_none() {
            return false;
        }
        let done = self.try_order(now, order, each);
        match done {
            Err(e) => self.lose_observer(now, e, None),
            // What it said by the way counts now.
            Ok(()) => drop(self.commit(now)),
        }
        done.is_ok()
    }

    fn try_order(
        &mut self,
        now: Now,
        order: &ObserverOrder,
        each: &mut dyn FnMut(&mut Judge, ObserverPart<'_>),
    ) -> Result<(), Errno> {
        let mut room = [0; MESSAGE_MAX];
        self.link().ok_or(Errno::ESRCH)?.send(order)?;
        let until = ObserverLink::answer_until();
        loop {
            let link = self.observer().ok_or(Errno::ESRCH)?;
            let Some(length) = link.take(&mut room)? else {
                link.wait(until)?;
                continue;
            };
            match room.get(..length).and_then(Observed::read).ok_or(Errno::EBADMSG)? {
                Observed::End => return Ok(()),
                Observed::Part(part) => each(self, part),
                other => self.message(now, other)?,
            }
        }
    }

    /// One that is no part of an answer.
    fn message(&mut self, now: Now, message: Observed<'_>) -> Result<(), Errno> {
        let answer = match message {
            Observed::Log(level, text) => {
                match self.observer().map_or(LogVerdict::Written, |link| link.log_limit.take(now.mono)) {
                    LogVerdict::Written => log::log!(level, "{text}"),
                    LogVerdict::LastWritten => log::warn!("{TOO_MANY}"),
                    LogVerdict::Dropped => {}
                }
                return Ok(());
            }
            Observed::Offence(offence, evidence) => return self.accused(now, offence, evidence),
            Observed::Hit(hit) => return self.told_hit(now, &hit),
            Observed::News(news) => {
                self.observer().into_iter().for_each(|link| link.news.add(news));
                return Ok(());
            }
            Observed::Part(_) | Observed::End => return Err(Errno::EBADMSG),
            question => {
                // What it has sent before counts before.
                self.commit(now);
                let known = Knowledge { decider: &self.decider, now };
                let truth = |is| ObserverOrder::Truth(if is { Truth::Yes } else { Truth::No });
                match question {
                    Observed::Who(addr) => ObserverOrder::Who(known.source(addr)),
                    Observed::Spent(source, rule, age) => truth(known.is_spent(source, rule, age)),
                    Observed::Banned(source, rule) => truth(known.is_banned(source, rule)),
                    _ => return Err(Errno::EBADMSG),
                }
            }
        };
        self.link().ok_or(Errno::ESRCH)?.send(&answer)
    }

    /// Takes an offence. Only rules that read accuse somebody, and for as long as they can.
    pub(super) fn accused(&mut self, now: Now, offence: Offence, evidence: Evidence) -> Result<(), Errno> {
        let rule = self.observer.detector.rules().get(usize::from(offence.rule)).ok_or(Errno::EBADMSG)?;
        if let Some(excess) = &offence.excess {
            let web = rule.webscan.as_ref().ok_or(Errno::EBADMSG)?;
            let known = web.thresholds.iter().any(|threshold| threshold.bantime == excess.bantime);
            known.then_some(()).ok_or(Errno::EBADMSG)?;
        }
        if evidence == Evidence::Hearsay {
            let policy = self.decider.policies.get(usize::from(offence.rule));
            policy.into_iter().for_each(|policy| policy.hearsay.set(Some(now.mono)));
        }
        self.observer.counter.offences.push(offence);
        if self.observer.counter.offences.len() >= WAITING {
            self.commit(now);
        }
        Ok(())
    }

    fn told_hit(&mut self, now: Now, hit: &ObservedHit<'_>) -> Result<(), Errno> {
        let Judge { observer, decider, events, first_hits, .. } = self;
        let policy = decider.policies.get(usize::from(hit.rule)).ok_or(Errno::EBADMSG)?;
        if usize::from(hit.rule) >= observer.detector.rules().len() {
            return Err(Errno::EBADMSG);
        }
        first_hits.add(hit.addr);
        if events.watched() {
            events.hit(now.wall, hit.source, &policy.name, hit.weight, hit.user);
        }
        Ok(())
    }

    /// A child has ended.
    pub(in crate::daemon) fn observer_child_ended(&mut self, now: Now) {
        let mut ended = Vec::new();
        let end = self.observer().and_then(|link| link.child_ended(&mut |pid, end| ended.push((pid, end))));
        if let Some(end) = end {
            // What it said before counts.
            let _ = self.hear_messages(now);
            return self.lose_observer(now, Errno::ECONNRESET, Some(end));
        }
        for (pid, end) in ended {
            self.order(now, &ObserverOrder::Ended(pid, end), &mut |_, _| ());
        }
    }

    /// Tells that it has ended, or ends it; it will be started again.
    pub(in crate::daemon) fn lose_observer(&mut self, now: Now, why: Errno, end: Option<ChildExit>) {
        let Some(lost) = self.observer().and_then(|link| link.lose(end)) else { return };
        let why = match why {
            Errno::ECONNRESET | Errno::EPIPE => String::new(),
            Errno::EBADMSG | Errno::EMSGSIZE => ", for it said what it must not".to_owned(),
            Errno::ETIMEDOUT => ", for it did not answer".to_owned(),
            e => format!(", {}", crate::sys::strerror(e)),
        };
        log::error!(
            "the process that reads logs (the observer) has ended with {}{why}: it is started again after \
             {} ms",
            lost.end,
            lost.pause
        );
        self.commit(now);
    }

    /// Asks what it has counted and sees, for whoever asks next.
    pub(in crate::daemon) fn refresh(&mut self, now: Now) {
        if let Some(link) = self.observer() {
            link.seen.clear();
            link.offenders.clear();
        }
        let mut at = 0;
        self.order(now, &ObserverOrder::Status, &mut |judge, part| match part {
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

    fn near(&mut self, one: Offender) {
        let is_rule = usize::from(one.rule) < self.observer.detector.rules().len();
        let link = self.observer().filter(|link| is_rule && link.offenders.len() < super::report::TOP);
        link.into_iter().for_each(|link| link.offenders.push(one));
    }

    /// How far everything was read, as far as is known.
    pub(in crate::daemon) fn observer_places(
        &mut self,
        now: Now,
        order: &ObserverOrder,
    ) -> Vec<(PathBuf, Position)> {
        let mut places = Vec::new();
        let done = self.order(now, order, &mut |_, part| {
            if let ObserverPart::Place(bytes, position) = part {
                places.push((path(bytes), position));
            }
        });
        let Some(link) = self.observer() else { return places };
        if done {
            link.set_places(now, places);
        }
        link.places().to_vec()
    }

    /// What it reads, for people.
    pub(in crate::daemon) fn describe(&mut self, now: Now) -> String {
        let mut said = "nothing: the observer does not run".to_owned();
        self.order(now, &ObserverOrder::Describe, &mut |_, part| {
            if let ObserverPart::Text(text) = part {
                text.clone_into(&mut said);
            }
        });
        said
    }

    /// Has it take the configuration that this process has taken: with the same rules, or anew.
    pub(in crate::daemon) fn reload_observer(&mut self, now: Now, wants: Wants, settings: SourceSettings) {
        let mine = self.rules_mark();
        let Some(link) = self.observer() else { return };
        link.configure(wants, settings);
        let order = ObserverOrder::Reload(link.given());
        let mut theirs = None;
        self.order(now, &order, &mut |_, part| {
            if let ObserverPart::Rules(mark) = part {
                theirs = Some(mark);
            }
        });
        if theirs != Some(mine) {
            self.lose_observer(now, Errno::ESTALE, None);
            self.observer().into_iter().for_each(ObserverLink::hurry);
        }
    }

    /// Has it tell of single hits while somebody wants to know.
    pub(in crate::daemon) fn follow_watchers(&mut self, now: Now) {
        let wanted = self.events.watched() || self.first_hits.is_wanted();
        let reports = if wanted { HitReports::Wanted } else { HitReports::Unwanted };
        let Some(link) = self.observer().filter(|link| link.reports != reports && link.fd().is_some()) else {
            return;
        };
        link.reports = reports;
        self.order(now, &ObserverOrder::Hits(reports), &mut |_, _| ());
    }
}
