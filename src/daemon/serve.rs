#![forbid(unsafe_code)]
//! Answers what commands ask on the control socket.

use super::confine::Confined;
use super::dns::Dns;
use super::events::BanEvent;
use super::judge::{Judge, Nearest, Unbanned};
use super::sources::Sources;
use crate::ban::WhichBans;
use crate::base::clock::{Now, Wall};
use crate::base::line::Line;
use crate::config::PortRanges;
use crate::control::proto::{FACTS, KERNEL, ProblemLine, Request, SightLine};
use crate::control::server::{ControlService, Then, send};
use crate::input::Tags;
use crate::sys::syslog;
use std::fmt::{Display, Write as _};
use std::os::unix::net::UnixStream;

/// Everything that is asked about, for one turn of the loop.
pub(super) struct ControlHandler<'a> {
    pub(super) judge: &'a mut Judge,
    pub(super) sources: &'a Sources,
    pub(super) dns: &'a Dns,
    pub(super) confined: &'a Confined,
    pub(super) now: Now,
    pub(super) since: Wall,
    /// Set when somebody asks for it.
    pub(super) reload: bool,
    /// Who asked for that.
    pub(super) asked: Vec<UnixStream>,
    /// The connection that is handed over next is one of them.
    pub(super) waits: bool,
    /// The same for the allow list.
    pub(super) lists: bool,
}

impl ControlService for ControlHandler<'_> {
    fn line(&mut self, line: &str, to: &UnixStream) -> Then {
        let Some(request) = Request::read(line) else {
            say(to, &"error not a request");
            return Then::Close;
        };
        match request {
            Request::Status => self.status(to),
            Request::Top => {
                self.status(to);
                let nearest = self.judge.nearest(self.now.mono, None).offenders;
                self.judge.each_offender(self.now.mono, &nearest, &mut |offender| say(to, offender));
            }
            Request::Hits { addr } => {
                let Nearest { offenders, all } = self.judge.offenders_of(self.now, &addr);
                self.judge.each_offender(self.now.mono, &offenders, &mut |offender| say(to, offender));
                say(to, &format_args!("counted {all}"));
            }
            Request::Watch => {
                self.waits = false;
                return Then::Keep;
            }
            Request::Reload => {
                // Who asks is answered when it is done.
                (self.reload, self.waits) = (true, true);
                return Then::Keep;
            }
            Request::Lists => {
                self.lists = true;
                say(to, &"ok");
                return Then::Next;
            }
            Request::Banned { addr, time, ports, reason } => {
                let closed = PortRanges::parse(ports.split('/').next().unwrap_or(ports)).unwrap_or_default();
                let ports = (ports.to_owned(), closed.ranges());
                let (rule, seen) = ("", [].as_slice());
                // Who bans by hand knows why.
                let reported =
                    BanEvent { addr, rule, hits: 0, reason, time, bans: 1, ports, seen, is_shared: true };
                self.judge.events().banned(self.now.wall, &reported);
                return Then::Next;
            }
            Request::Changed { what, addr } => {
                self.judge.events().changed(self.now.wall, what, addr.as_ref());
                return Then::Next;
            }
            Request::Unbanned { addr, permanent, was_banned, written } => {
                let which = if permanent { WhichBans::All } else { WhichBans::Timed };
                let what = if was_banned { Unbanned::Banned } else { Unbanned::Free };
                self.judge.unbanned(self.now, (addr.as_ref(), which), what);
                self.judge.remember_unban(self.now.wall, (addr.as_ref(), which), written);
                say(to, &"ok");
                return Then::Next;
            }
        }
        Then::Close
    }

    fn keep(&mut self, stream: UnixStream) {
        if self.waits {
            self.asked.push(stream);
        } else {
            self.judge.events().watch(stream);
        }
    }
}

impl ControlHandler<'_> {
    fn status(&mut self, to: &UnixStream) {
        self.judge.refresh(self.now);
        say(to, &format_args!("version {}", env!("CARGO_PKG_VERSION")));
        say(to, &format_args!("pid {}", std::process::id()));
        if let Some(pid) = self.judge.observer_pid() {
            say(to, &format_args!("observer {pid}"));
        }
        say(to, &format_args!("since {}", self.since.0));
        say(to, &format_args!("confined {}", self.confined.text()));
        for (fact, value) in FACTS.iter().zip(self.judge.facts(self.dns.skipped())) {
            say(to, &format_args!("{} {value}", fact.name));
        }
        let (sources, now) = (self.sources, self.now.mono);
        let judge = &*self.judge;
        let mut at = 0;
        judge.each_rule(now, &mut |rule| {
            say(to, rule);
            // What the kernel does by itself reads nothing.
            if rule.source != KERNEL {
                let (sight, found, text) = match judge.seen_elsewhere(at) {
                    Some((sight, kind, text)) => (sight, kind, text.to_owned()),
                    None => sources.seen(now, Tags(1 << at)),
                };
                let kind = if rule.source == "auto" { found } else { rule.source };
                say(to, &SightLine { name: rule.name, kind, sight, text: &text });
            }
            at += 1;
        });
        self.dns.each_list(&mut |list| say(to, list));
        syslog::problems(&mut |at, text| say(to, &ProblemLine { at: at.0, text }));
    }
}

/// Who does not read its answer loses it.
pub(super) fn say(to: &UnixStream, text: &dyn Display) {
    let mut line = Line::new();
    let _ = write!(line, "{text}");
    send(to, line.with_newline());
}
