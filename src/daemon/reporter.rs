#![forbid(unsafe_code)]
//! Reports bans to the community cloud, in a second process, never more than one: here are only what is new,
//! and when it is time. Bans wait for nothing of it.

use crate::base::build_part::BuildPart;
use crate::base::clock::{Mono, Now, Span, Wall};
use crate::base::range::Range;
use crate::cloud::keyfile;
use crate::cloud::report::{self, News, Sending, Target};
use crate::cloud::reports::{Event, Service, Standing};
use crate::cloud::session::Trouble;
use crate::cloud::subject::Subject;
use crate::config::Settings;
use crate::dns::name::Name;
use crate::sys::child::{Child, ChildExit};
use crate::sys::clock;
use crate::sys::fork::fork_worker;
use std::path::{Path, PathBuf};

/// Events in memory at most, and so many that they are written down before it is time to report.
const EVENTS: usize = 64;
const PROMPT_EVENTS: usize = 48;
/// How the process ends that has found a broken file, or could not read or write it.
const BROKEN: u8 = 1;
const FAILED: u8 = 0x80;
/// Milliseconds to the next try where the file cannot be written.
const RETRY_INTERVAL: u64 = 60_000;
/// The service of bans by hand.
const MANUAL: &str = "manual";

/// What is new, and who takes care of it.
#[derive(Default)]
pub(super) struct Reporter {
    target: Option<Target>,
    /// Bans by hand are reported, too.
    manual: bool,
    events: Vec<Event>,
    /// The process, and what it has with it.
    child: Option<(Child, Taken)>,
    due: Option<Mono>,
    /// Nothing is sent before this.
    not_before: Mono,
    /// The trouble that was told.
    told: Option<Trouble>,
    /// Events without room that are not counted in the file yet, and what is.
    lost: u64,
    dropped: u64,
    is_loss_told: bool,
}

/// What a process has with it.
#[derive(Clone, Copy)]
struct Taken {
    events: usize,
    lost: u64,
    sending: Sending,
}

impl Reporter {
    /// Takes the settings.
    pub(super) fn configure(&mut self, settings: &Settings) {
        self.manual = settings.cloud.report_manual;
        if !BuildPart::Cloud.is_in() {
            return;
        }
        let target = if settings.cloud.report { target(settings) } else { None };
        if target == self.target {
            return;
        }
        self.target = target;
        let Some(target) = &self.target else {
            (self.events, self.due) = (Vec::new(), None);
            return;
        };
        self.events.reserve_exact(EVENTS);
        match keyfile::read(&target.key_file) {
            Err(why) => log::error!("community cloud: {why}"),
            Ok(key)
                if !Name::parse(target.member.as_bytes()).is_some_and(|name| key.name().is_same(&name)) =>
            {
                log::warn!(
                    "community cloud: the key in {} is that of {}, not of {}",
                    target.key_file.to_string_lossy(),
                    key.name(),
                    target.member
                );
            }
            Ok(_) => {}
        }
        self.plan(clock::now());
    }

    /// A ban that was made. Nothing is to stand behind this but what a service itself has seen: the caller
    /// knows.
    pub(super) fn banned(&mut self, now: Wall, who: &Range, rule: &str, time: Span) {
        if !BuildPart::Cloud.is_in() || self.target.is_none() || rule.is_empty() && !self.manual {
            return;
        }
        let Some(who) = who.as_net().and_then(Subject::of).filter(Subject::is_global) else { return };
        let until = match time {
            Span::Secs(secs) => Wall(now.0.saturating_add(secs)),
            Span::Permanent => Wall(u64::MAX),
        };
        let service = Service::of(if rule.is_empty() { MANUAL } else { rule });
        self.add(Event::Banned(who, until, service));
    }

    /// Bans that a command has ended; `None` is all.
    pub(super) fn unbanned(&mut self, who: Option<&Range>) {
        let all = [Range::EVERYBODY_V4, Range::EVERYBODY_V6];
        who.map_or(all.as_slice(), std::slice::from_ref)
            .iter()
            .for_each(|who| self.add(Event::Unbanned(*who)));
    }

    fn add(&mut self, event: Event) {
        let Some(target) = &self.target else { return };
        if self.events.len() == EVENTS {
            self.lost += 1;
            if !std::mem::replace(&mut self.is_loss_told, true) {
                log::warn!("community cloud: more bans at a time than can be reported; some are not");
            }
            return;
        }
        self.events.push(event);
        let soon = clock::mono().after(u64::from(target.interval) * 1000).max(self.not_before);
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)).max(self.not_before));
    }

    /// When the process is to begin.
    pub(super) fn deadline(&self) -> Option<Mono> {
        match &self.child {
            // It waits for the server; what has no room is to be written down meanwhile.
            Some((_, Taken { sending: Sending::Due, .. })) if self.events.len() >= PROMPT_EVENTS => {
                Some(Mono::default())
            }
            Some(_) => None,
            None if self.events.len() >= PROMPT_EVENTS => Some(Mono::default()),
            None => self.due,
        }
    }

    /// Begins, if it is time.
    pub(super) fn turn(&mut self, now: Mono) {
        if !BuildPart::Cloud.is_in() || self.deadline().is_none_or(|at| at > now) {
            return;
        }
        let Some(target) = &self.target else { return };
        // What it was about to do is done again, when it is time.
        let is_stopped = self.child.take().map(|(child, _)| stop(&child)).is_some();
        let is_due = !is_stopped && self.due.is_some_and(|due| due <= now);
        let sending = if is_due { Sending::Due } else { Sending::Later };
        let (events, lost) = (&self.events, self.lost);
        let work = &mut || match report::turn(target, News { events, lost }, sending) {
            Ok(false) => 0,
            Ok(true) => BROKEN,
            Err(e) => e.raw_os_error().and_then(|e| u8::try_from(e).ok()).unwrap_or(5) | FAILED,
        };
        match fork_worker(work) {
            Ok(child) => self.child = Some((child, Taken { events: events.len(), lost, sending })),
            // Later there may be room for it.
            Err(_) => self.due = Some(now.after(RETRY_INTERVAL)),
        }
    }

    /// A child has ended: sees how ours did, if it was that one.
    pub(super) fn child_ended(&mut self) {
        let Some((end, taken)) = self.child.as_ref().and_then(|(child, n)| Some((child.ended()?, *n))) else {
            return;
        };
        self.child = None;
        let now = clock::now();
        let errno = match end {
            ChildExit::Status(status @ 0..=1) => {
                if status == i32::from(BROKEN) {
                    log::warn!("community cloud: state_dir/reports was damaged; starting over");
                }
                self.events.drain(..taken.events);
                self.lost -= taken.lost;
                self.dropped += taken.lost;
                self.is_loss_told &= self.events.len() == EVENTS;
                return self.plan(now);
            }
            ChildExit::Status(status) => status & !i32::from(FAILED),
            ChildExit::Signal(_) => libc::EINTR,
        };
        self.tell(Some(Trouble::Local(errno)));
        self.not_before = now.mono.after(RETRY_INTERVAL);
        self.due = Some(self.not_before);
    }

    /// Reads how it went, and when there is something to do next.
    fn plan(&mut self, now: Now) {
        if !BuildPart::Cloud.is_in() {
            return;
        }
        let Some(target) = &self.target else { return };
        let standing = match report::standing(&target.dir) {
            Ok(standing) => standing.unwrap_or_default(),
            Err(e) => return log::warn!("community cloud: {e}"),
        };
        let earliest = Wall(standing.tried_at.0.saturating_add(report::pause(&standing, target.interval)));
        self.not_before = report::mono_of(earliest, now);
        let due = report::due(&standing, target.interval).map(|at| report::mono_of(at, now));
        let new = (!self.events.is_empty()).then_some(self.not_before);
        self.due = due.into_iter().chain(new).min();
        self.tell(standing.trouble());
        self.tell_dropped(&standing);
    }

    /// Tells a trouble when it begins, when it becomes another one, and when it is over.
    fn tell(&mut self, trouble: Option<Trouble>) {
        let kind = |trouble: &Trouble| match trouble {
            Trouble::Clock(_) => (5, 0),
            other => other.pack(),
        };
        match (&self.told, &trouble) {
            (Some(old), Some(new)) if kind(old) == kind(new) => {}
            (_, Some(new)) => log::warn!("community cloud: {new}; reports wait (mef cloud status)"),
            (Some(_), None) => log::info!("community cloud: reports are accepted again"),
            (None, None) => {}
        }
        self.told = trouble;
    }

    fn tell_dropped(&mut self, standing: &Standing) {
        let [_, _, dropped] = standing.totals;
        if dropped > self.dropped && !std::mem::replace(&mut self.is_loss_told, true) {
            log::warn!(
                "community cloud: {dropped} reports were dropped: the server refused them too often, or too \
                many were waiting"
            );
        }
        self.dropped = self.dropped.max(dropped);
    }

    /// Writes down what is new: the daemon ends.
    pub(super) fn stop(&mut self) {
        if !BuildPart::Cloud.is_in() {
            return;
        }
        // What it was about to do is done again.
        self.child.take().iter().for_each(|(child, _)| stop(child));
        let news = News { events: &self.events, lost: self.lost };
        if let Some(target) = self.target.as_ref().filter(|_| !news.events.is_empty())
            && let Err(e) = report::turn(target, news, Sending::Later)
        {
            log::warn!("community cloud: {e}: what was not reported is lost");
        }
    }
}

fn stop(child: &Child) {
    child.kill();
    let _ = child.wait();
}

/// Whom to report to; what is missing is said.
fn target(settings: &Settings) -> Option<Target> {
    let cloud = &settings.cloud;
    let zone = [&cloud.member, ".r.", cloud.zone.trim_end_matches('.')].concat();
    let missing = [
        ("community_member", cloud.member.is_empty()),
        ("community_zone", cloud.zone.is_empty()),
        ("community_key_file", cloud.key_file.is_empty()),
        ("community_server", cloud.server.is_none()),
    ];
    let missing: Vec<&str> = missing.iter().filter(|(_, missing)| *missing).map(|(key, _)| *key).collect();
    if !missing.is_empty() {
        log::error!("community_report=true needs {}: nothing is reported", missing.join(", "));
        return None;
    }
    if Name::parse(zone.as_bytes()).is_none() {
        log::error!("community cloud: {zone} is not a domain name: nothing is reported");
        return None;
    }
    Some(Target {
        server: cloud.server?,
        zone,
        member: cloud.member.clone(),
        key_file: PathBuf::from(&cloud.key_file),
        interval: cloud.report_interval,
        dir: Path::new(&settings.state_dir).to_owned(),
    })
}
