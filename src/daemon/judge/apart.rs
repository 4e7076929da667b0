#![forbid(unsafe_code)]
//! What the process that reads lines says, if there is one: its offences are decided on, its questions
//! answered, and what it has counted is taken in. What is not exactly a message ends it.

use super::Judge;
use super::orders::OrderEnd;
use crate::base::build_part::BuildPart;
use crate::base::clock::{Mono, Now};
use crate::base::net::canonical;
use crate::control::proto::Sight;
use crate::daemon::decide::Knowledge;
use crate::daemon::enforcer_link::EnforcerLink;
use crate::daemon::observer_link::{
    LOG_MAX, LogTopic, LogVerdict, ObserverEnd, ObserverLink, PartOf, ReadingNews,
};
use crate::daemon::sources::{KeptSources, SourceSettings, Wants};
use crate::daemon::wire::{
    Evidence, HitReports, MESSAGE_MAX, Observed, ObservedHit, ObserverNews, ObserverOrder, ObserverPart,
    Offender, Truth,
};
use crate::detect::observe::{KnownSources as _, Offence, WAITING};
use crate::sys::syslog::OF_OTHERS;
use nix::errno::Errno;
use std::fmt::Display;
use std::mem::take;
use std::os::fd::BorrowedFd;

/// Messages that one turn of the loop hears at most.
const TURN: usize = 512;
/// Questions among them: before an answer those are banned whom it has accused.
const TURN_QUESTIONS: usize = 32;
/// Messages of one that has ended: more than any queue holds.
const REST_MAX: u32 = 1 << 16;

/// What it has said.
pub(super) enum Heard {
    Nothing,
    Message,
    /// It was answered.
    Question,
    /// It has done what it was told first of all that it had not done.
    End(OrderEnd),
}

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

impl Counterpart {
    /// Writes to the log what the process that reads lines says, or is the reason of: not without limit.
    pub(super) fn log(&mut self, now: Mono, topic: LogTopic, level: log::Level, text: &dyn Display) {
        let Counterpart::Observer(link) = self else { return log::log!(level, "{text}") };
        let verdict = match BuildPart::Observer.is_in() {
            true => link.log_verdict(now, topic),
            false => LogVerdict::Written,
        };
        let what = topic.what();
        match verdict {
            LogVerdict::Dropped => return,
            LogVerdict::LastWritten => {
                return log::warn!(
                    target: OF_OTHERS, "{LOG_MAX} {what} within an hour: the next ones are left out"
                );
            }
            LogVerdict::WrittenAfter(count) => {
                log::warn!(target: OF_OTHERS, "{count} {what} were left out");
            }
            LogVerdict::Written => {}
        }
        log::log!(target: OF_OTHERS, level, "{text}");
    }
}

impl Judge {
    /// The process that reads lines, if there is to be one.
    pub(in crate::daemon) fn observer(&mut self) -> Option<&mut ObserverLink> {
        match &mut self.counterpart {
            Counterpart::Observer(link) if BuildPart::Observer.is_in() => Some(link),
            _ => None,
        }
    }

    pub(super) fn link(&self) -> Option<&ObserverLink> {
        match &self.counterpart {
            Counterpart::Observer(link) if BuildPart::Observer.is_in() => Some(link),
            _ => None,
        }
    }

    /// The number of that process, if it runs.
    pub(in crate::daemon) fn observer_pid(&self) -> Option<i32> {
        self.link()?.pid()
    }

    /// Whether it has not opened everything yet that it is to read.
    pub(in crate::daemon) fn observer_opens(&self) -> bool {
        self.link().is_some_and(ObserverLink::is_opening)
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
        let gone = match link.fd() {
            Some(_) => (Sight::Waits, "", "the observer has not said yet"),
            None => (Sight::Blind, "", "the observer does not run"),
        };
        Some(link.seen.get(at).map_or(gone, |seen| (seen.sight, &*seen.kind, &*seen.text)))
    }

    /// The process that bans, if this one does not.
    pub(in crate::daemon) fn enforcer_link(&self) -> Option<&EnforcerLink> {
        match &self.counterpart {
            Counterpart::Enforcer(link) if BuildPart::Observer.is_in() => Some(link),
            _ => None,
        }
    }

    /// Lines are read by another process, which this one belongs to.
    pub(in crate::daemon) fn set_observer(&mut self, link: ObserverLink) {
        self.counterpart = Counterpart::Observer(Box::new(link));
        self.decider.ban_policy.reads_again();
    }

    /// There is no such process any more, for good: what it was to read, and what is open of that.
    pub(in crate::daemon) fn end_observer(&mut self) -> Option<(Wants, SourceSettings, KeptSources)> {
        self.observer()?;
        let Counterpart::Observer(link) = take(&mut self.counterpart) else { return None };
        Some(link.into_wants())
    }

    /// Ends it if it hangs, asks how far it has read, and has it hand over, if it is time for that.
    pub(in crate::daemon) fn look_after_observer(&mut self, now: Now) {
        if self.link().is_some_and(|link| link.is_silent(now.mono)) {
            self.lose_observer(now, ObserverEnd::Late);
        }
        if self.link().is_some_and(|link| link.asks_now(now.mono)) {
            self.ask_places(now, &ObserverOrder::Places);
        }
        if self.observer().is_some_and(|link| link.hands_over_now(now.mono)) {
            self.learn(now, &ObserverOrder::HandOver);
        }
        if self.link().is_some_and(ObserverLink::has_handed_over) {
            self.lose_observer(now, ObserverEnd::Replaced);
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
            self.lose_observer(now, e.into());
        }
    }

    fn hear_messages(&mut self, now: Now) -> Result<(), Errno> {
        let mut room = [0; MESSAGE_MAX];
        let mut asked = 0;
        for _ in 0..TURN {
            match self.hear_one(now, &mut room, &mut |_, _| ())? {
                Heard::Nothing => break,
                Heard::Message => {}
                Heard::Question => asked += 1,
                // Of what it was told a while ago. Whoever waits for it may have been told what was so
                // before, and positions that were written down may be those.
                Heard::End(_) => {
                    let link = self.observer().into_iter();
                    link.for_each(|link| {
                        link.news.add(ObserverNews::Sight);
                        link.news.add(ObserverNews::Opened);
                    });
                }
            }
            if asked == TURN_QUESTIONS {
                break;
            }
        }
        Ok(())
    }

    /// Hears one message, and does what follows from it. `each` has the parts of what it was told last.
    #[inline(never)]
    pub(super) fn hear_one(
        &mut self,
        now: Now,
        room: &mut [u8; MESSAGE_MAX],
        each: &mut dyn FnMut(&mut Judge, ObserverPart<'_>),
    ) -> Result<Heard, Errno> {
        let link = self.observer().ok_or(Errno::ESRCH)?;
        let Some(message) = link.take(room)? else { return Ok(Heard::Nothing) };
        match message.read()? {
            Observed::End => return self.done_order().map(Heard::End),
            Observed::Part(part) => {
                if link.add_part(&part, message.length())? == PartOf::Last {
                    each(self, part);
                }
            }
            other => {
                let asks = other.is_question();
                self.message(now, other)?;
                if asks {
                    return Ok(Heard::Question);
                }
            }
        }
        Ok(Heard::Message)
    }

    /// What is to be dealt with now of what is news.
    pub(in crate::daemon) fn take_news(&mut self, now: Now) -> ReadingNews {
        self.observer().map(|link| link.take_news(now.mono)).unwrap_or_default()
    }

    /// Hears what one that has ended had said. Nobody waits for an answer any more.
    fn hear_rest(&mut self, now: Now) {
        let mut room = [0; MESSAGE_MAX];
        let mut is_reset = false;
        for _ in 0..REST_MAX {
            let message = match self.link().map(|link| link.take(&mut room)) {
                Some(Ok(Some(message))) => message,
                // Where it has left something unread that is said first, once; what it had said comes behind.
                Some(Err(Errno::ECONNRESET)) if !std::mem::replace(&mut is_reset, true) => continue,
                _ => return,
            };
            let heard = message.read().and_then(|message| match message {
                Observed::Part(_) | Observed::End => Ok(()),
                message if message.is_question() => Ok(()),
                message => self.message(now, message),
            });
            if heard.is_err() {
                return;
            }
        }
    }

    /// One that is no part of an answer.
    pub(super) fn message(&mut self, now: Now, message: Observed<'_>) -> Result<(), Errno> {
        if message.tells_of_lines() {
            self.observer().into_iter().for_each(ObserverLink::set_read);
        }
        let answer = match message {
            Observed::Log(level, text) => {
                // In its name: it must not say in ours who is banned.
                self.counterpart.log(now.mono, LogTopic::Said, level, &format_args!("observer: {text}"));
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
                // Who asks says nothing more until he is answered.
                self.link().ok_or(Errno::ESRCH)?.quiet()?;
                // What it has sent before counts before.
                self.commit(now);
                let known = Knowledge { decider: &self.decider, now };
                let truth = |is| if is { Truth::Yes } else { Truth::No };
                match question {
                    Observed::Who(addr, rule) => {
                        let source = known.source(addr, rule);
                        ObserverOrder::Who(source, truth(known.is_banned(source, rule)))
                    }
                    Observed::Spent(source, rule, age, asked) => {
                        // Who asks began before, and may have waited.
                        let age = age.saturating_add(now.mono.since(asked).div_ceil(1000));
                        ObserverOrder::Truth(truth(known.is_spent(source, rule, age)))
                    }
                    Observed::Banned(source, rule) => {
                        ObserverOrder::Truth(truth(known.is_banned(source, rule)))
                    }
                    _ => return Err(Errno::EBADMSG),
                }
            }
        };
        self.link().ok_or(Errno::ESRCH)?.send(&answer)
    }

    /// Takes an offence. Only rules that read accuse somebody, and for as long as they can.
    pub(super) fn accused(&mut self, now: Now, offence: Offence, evidence: Evidence) -> Result<(), Errno> {
        let rule = self.observer.detector.rules().get(usize::from(offence.rule)).ok_or(Errno::EBADMSG)?;
        self.decider.may_be_accused(&offence).then_some(()).ok_or(Errno::EBADMSG)?;
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
        let Judge { observer, decider, events, first_hits, counterpart, .. } = self;
        let wanted = matches!(counterpart, Counterpart::Observer(link) if link.reports == HitReports::Wanted);
        if !wanted || !hit.source.contains(&canonical(hit.addr)) {
            return Err(Errno::EBADMSG);
        }
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
        if end.is_some() {
            return self.lose_observer(now, ObserverEnd::Died);
        }
        for (pid, end) in ended {
            let sent = self.observer().map(|link| link.send(&ObserverOrder::Ended(pid, end)));
            if let Some(Err(e)) = sent {
                return self.lose_observer(now, e.into());
            }
        }
    }

    /// Tells that it has ended, or ends it; it will be started again.
    pub(in crate::daemon) fn lose_observer(&mut self, now: Now, why: ObserverEnd) {
        self.observer().into_iter().for_each(ObserverLink::kill);
        if why.counts_rest() {
            self.hear_rest(now);
        }
        let Some(lost) = self.observer().and_then(|link| link.lose(why)) else { return };
        log::log!(
            why.level(),
            "the process that reads logs (the observer) has ended with {}{why}: it is started again after \
             {} ms",
            lost.end,
            lost.pause
        );
        self.commit(now);
    }
}
