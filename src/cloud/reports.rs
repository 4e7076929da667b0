#![forbid(unsafe_code)]
//! What this host reports: whom it has banned, what of that the server has, and what it is to take back. One
//! file of bounded size, replaced as a whole. Knows no server.

mod file;

use super::session::Trouble;
use super::subject::Subject;
use crate::base::clock::{Mono, Now, Wall};
use crate::base::range::Range;
use crate::dns::name::Name;
use crate::dns::packet::{Full, Section, Writer, class, kind};

/// Whom it holds at most.
pub const MAX: usize = 4096;
/// Bytes of a service's name that are sent.
pub const SERVICE: usize = 32;
/// Seconds after which nobody counts a report any more.
const OLD: u64 = 7 * 86_400;
/// Times that the server may refuse a report before it is dropped.
const TRIES: u8 = 8;
/// Seconds that a report holds in caches.
const TTL: u32 = 3600;

/// What happened to somebody, as the daemon knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Banned until then.
    Banned(Subject, Wall, Service),
    /// Not banned any more: all of the range.
    Unbanned(Range),
}

/// The name of a service rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service([u8; SERVICE]);

impl Service {
    /// As much of it as is sent, made of letters, digits, `-` and `_`.
    #[must_use]
    pub fn of(name: &str) -> Service {
        let mut bytes = [0; SERVICE];
        for (to, from) in bytes.iter_mut().zip(name.bytes()) {
            *to = if from.is_ascii_alphanumeric() || from == b'_' { from } else { b'-' };
        }
        Service(bytes)
    }

    fn text(&self) -> &[u8] {
        self.0.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// What is to become of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is to be sent.
    Waiting = 0,
    /// The server has it.
    Sent = 1,
    /// The server has it, and is to take it back.
    Leaving = 2,
}

/// One report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Report {
    who: Subject,
    state: State,
    /// The server may have it, whatever is to become of it.
    known: bool,
    tries: u8,
    /// Hours since 1970.
    hour: u32,
    until: Wall,
    service: Service,
}

/// How it goes, beside the reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// Reports that wait for the server.
    pub waiting: u32,
    /// Reports that the server has.
    pub sent: u32,
    /// All that were ever sent, taken back, and dropped because there was no room or the server kept
    /// refusing.
    pub totals: [u64; 3],
    /// When the server last did as it was asked.
    pub done_at: Wall,
    /// When it was last asked.
    pub tried_at: Wall,
    /// Failures since.
    pub failures: u32,
    /// What the last one was, as [`Trouble::pack`] has it.
    pub trouble: (u8, u64),
    /// By our other clock, when the server's time was what `trouble` says.
    pub trouble_at: Mono,
    /// When the next report ends; nobody waits for anything else.
    pub ends_at: Wall,
}

impl Standing {
    /// What is wrong, if something is.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        Trouble::unpack(self.trouble.0, self.trouble.1)
    }
}

/// All of them.
#[derive(Default)]
pub struct Reports {
    all: Vec<Report>,
    /// How it goes.
    pub standing: Standing,
    is_changed: bool,
}

impl Reports {
    /// Takes in what happened.
    pub fn take(&mut self, now: Wall, event: &Event) {
        match event {
            Event::Banned(who, until, service) => self.banned(now, *who, *until, *service),
            Event::Unbanned(range) => {
                let ended = |report: &Report| range.covers(&report.who.range());
                self.end(&ended);
            }
        }
    }

    /// Some were never taken in: there was no room before.
    pub fn lost(&mut self, reports: u64) {
        self.count(2, reports);
        self.is_changed |= reports > 0;
    }

    fn banned(&mut self, now: Wall, who: Subject, until: Wall, service: Service) {
        let hour = u32::try_from(now.0 / 3600).unwrap_or(u32::MAX);
        self.is_changed = true;
        if let Some(report) = self.all.iter_mut().find(|report| report.who == who) {
            report.until = report.until.max(until);
            if report.state != State::Sent || report.hour != hour {
                *report = Report { state: State::Waiting, hour, service, tries: 0, ..*report };
            }
        } else if self.all.len() < MAX {
            let state = State::Waiting;
            self.all.push(Report { who, state, known: false, tries: 0, hour, until, service });
        } else {
            self.count(2, 1);
        }
    }

    /// Has taken back what is over.
    fn end(&mut self, is_over: &dyn Fn(&Report) -> bool) {
        let mut changed = false;
        self.all.retain_mut(|report| {
            let ends = is_over(report) && report.state != State::Leaving;
            changed |= ends;
            if ends {
                (report.state, report.tries) = (State::Leaving, 0);
            }
            // What was never sent need not be taken back.
            !ends || report.known
        });
        self.is_changed |= changed;
    }

    /// Takes back what has expired, or is so old that it does not count any more.
    pub fn expire(&mut self, now: Wall) {
        self.end(&|report| report.until <= now || end_of_hour(report) <= now.0);
    }

    /// Whether there is something to send.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.all.iter().any(|report| report.state != State::Sent)
    }

    /// The next up to `count` reports that are to be sent, by number: first those that are to be taken back,
    /// on their own, since they make room.
    #[must_use]
    pub fn batch(&self, count: usize) -> Vec<usize> {
        let of = |state| {
            let all = self.all.iter().enumerate().filter(move |(_, report)| report.state == state);
            all.map(|(at, _)| at).take(count).collect::<Vec<_>>()
        };
        let leaving = of(State::Leaving);
        if leaving.is_empty() { of(State::Waiting) } else { leaving }
    }

    /// Writes what the server is to do about a batch.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn write(&self, batch: &[usize], zone: &Name, writer: &mut Writer<'_>) -> Result<(), Full> {
        for report in batch.iter().filter_map(|at| self.all.get(*at)) {
            let name = report.who.name(zone).ok_or(Full)?;
            let mut put = |class, ttl, data: &[u8]| {
                writer.record(Section::Authority, &name, kind::TXT, class, ttl, data)
            };
            // Not the name: a key that may write TXT may not delete that.
            put(class::ANY, 0, &[])?;
            if report.state == State::Waiting {
                put(class::IN, TTL, &report.text())?;
            }
        }
        Ok(())
    }

    /// The server has done it.
    pub fn done(&mut self, now: Wall, batch: &[usize]) {
        let mut gone = 0;
        for at in batch {
            let Some(report) = self.all.get_mut(*at) else { continue };
            match report.state {
                State::Leaving => gone += 1,
                _ => *report = Report { state: State::Sent, known: true, tries: 0, ..*report },
            }
        }
        self.count(0, batch.len() as u64 - gone);
        self.count(1, gone);
        let mut at = 0;
        self.all.retain(|report| {
            at += 1;
            report.state != State::Leaving || batch.binary_search(&(at - 1)).is_err()
        });
        self.standing = Standing { done_at: now, failures: 0, trouble: (0, 0), ..self.standing };
        self.is_changed = true;
    }

    /// The server has not done it.
    pub fn failed(&mut self, now: Now, batch: &[usize], trouble: Trouble) {
        self.standing.failures = self.standing.failures.saturating_add(1);
        self.standing.trouble = trouble.pack();
        self.standing.trouble_at = now.mono;
        self.is_changed = true;
        if !matches!(trouble, Trouble::Refused(_, 0)) {
            return;
        }
        // It may have had none of them, or of a part of them before; it is not asked for ever.
        for at in batch {
            self.all
                .get_mut(*at)
                .into_iter()
                .for_each(|report| report.tries = report.tries.saturating_add(1));
        }
        let before = self.all.len();
        self.all.retain(|report| report.tries < TRIES);
        self.count(2, (before - self.all.len()) as u64);
    }

    /// The server was asked then.
    pub fn tried(&mut self, now: Wall) {
        self.standing.tried_at = now;
        self.is_changed = true;
    }

    /// Counts how many there are of each kind, for who only looks at the head.
    pub fn settle(&mut self) {
        let before = self.standing;
        let of = |state: State| self.all.iter().filter(|report| report.state == state).count();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (waiting, sent) = (count(of(State::Waiting) + of(State::Leaving)), count(of(State::Sent)));
        let ends = self.all.iter().map(|report| report.until.0.min(end_of_hour(report))).min();
        self.standing = Standing { waiting, sent, ends_at: Wall(ends.unwrap_or(0)), ..before };
        self.is_changed |= self.standing != before;
    }

    fn count(&mut self, which: usize, more: u64) {
        self.standing.totals.get_mut(which).into_iter().for_each(|total| *total += more);
    }
}

fn end_of_hour(report: &Report) -> u64 {
    u64::from(report.hour) * 3600 + OLD
}

impl Report {
    /// `s=SERVICE t=HOUR`, its length in front.
    fn text(&self) -> Vec<u8> {
        let mut text = vec![0, b's', b'='];
        text.extend_from_slice(self.service.text());
        text.extend_from_slice([" t=", &self.hour.to_string()].concat().as_bytes());
        let length = u8::try_from(text.len() - 1).unwrap_or(u8::MAX);
        text.first_mut().into_iter().for_each(|first| *first = length);
        text
    }
}

/// The hour in the text of a report.
#[must_use]
pub fn read_hour(text: &[u8]) -> Option<u64> {
    let hour = text.split(|byte| *byte == b' ').find_map(|word| word.strip_prefix(b"t="))?;
    let digits = matches!(hour.len(), 1..=9) && hour.iter().all(u8::is_ascii_digit);
    str::from_utf8(hour).ok().filter(|_| digits)?.parse().ok()
}

#[cfg(test)]
#[path = "reports_tests.rs"]
mod tests;
