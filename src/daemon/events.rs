#![forbid(unsafe_code)]
//! Tells what has happened, to whoever wants to hear it: the log, the ban log, the readers of `mef watch`,
//! the programs of on_ban and on_unban. Decides nothing, and waits for nobody.

use super::ban_lines;
use super::hooks::{HookKind, Hooks};
use super::programs::hook_identity;
use super::reporter::Reporter;
use crate::ban::{BY_HAND, Ban, FLOODS, FloodLimit};
use crate::base::clock::{Mono, Span, Wall};
use crate::base::line::{Line, Raw};
use crate::base::range::Range;
use crate::base::utc::Stamp;
use crate::config::{BanLogFormat, Settings};
use crate::control::server::{Sent, is_gone, send};
use crate::dnsbl::Verdict;
use crate::sys::banlog::{BanLog, BanLogEntry, BanLogEvent};
use crate::sys::clock;
use crate::sys::runner::is_confined;
use ipnet::IpNet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Readers at a time.
const WATCHERS: usize = 8;
/// Milliseconds of the window in which bans are counted.
const MINUTE: u64 = 60_000;
/// A ban that was made.
pub(super) struct BanEvent<'a> {
    pub(super) addr: Range,
    /// Empty for a ban by hand.
    pub(super) rule: &'a str,
    /// 0 = none.
    pub(super) hits: u32,
    /// For people; perhaps empty, and nothing that an attacker wrote.
    pub(super) reason: &'a str,
    pub(super) time: Span,
    /// So many bans of it so far, this one included.
    pub(super) bans: u32,
    /// For people, and as numbers.
    pub(super) ports: (String, &'a [(u16, u16)]),
    /// Closed ports that it has touched, if it is banned for that.
    pub(super) seen: &'a [u16],
    /// Others may hear of it: nobody could have forged what it is for, and its rule is shared.
    pub(super) is_shared: bool,
}

impl<'a> BanEvent<'a> {
    /// A ban of a rule.
    pub(super) fn of(ban: &Ban<'a>) -> BanEvent<'a> {
        let Ban { addr, scope, time, rule, hits, reason, bans, .. } = *ban;
        let ports = (scope.to_string(), scope.ports());
        BanEvent { addr, rule, hits, reason, time, bans, ports, seen: &[], is_shared: false }
    }
}

struct EventWatcher {
    stream: UnixStream,
    /// Events that it has missed since it last took one.
    lost: u64,
}

/// Bans of the last minute, out of two counts.
#[derive(Default)]
struct BanRate {
    minute: u64,
    this: u64,
    last: u64,
}

impl BanRate {
    fn turn(&mut self, now: Mono) {
        let minute = now.0 / MINUTE;
        if minute != self.minute {
            self.last = if minute == self.minute + 1 { self.this } else { 0 };
            (self.minute, self.this) = (minute, 0);
        }
    }

    /// As if those of the minute before had come evenly.
    fn of(&mut self, now: Mono) -> u64 {
        self.turn(now);
        self.this + self.last * (MINUTE - now.0 % MINUTE) / MINUTE
    }
}

/// Everybody who hears.
#[derive(Default)]
pub(super) struct Events {
    ban_log: Option<BanLog>,
    pub(super) hooks: Hooks,
    pub(super) reporter: Reporter,
    watchers: Vec<EventWatcher>,
    lost: u64,
    rate: BanRate,
}

impl Events {
    /// Takes the settings of the ban log and of the hooks.
    pub(super) fn configure(&mut self, settings: &Settings) {
        let describe = match settings.ban_log_format {
            BanLogFormat::Plain => ban_lines::plain,
            BanLogFormat::Mef => ban_lines::mef,
        };
        let open = || BanLog::open(Path::new(&settings.ban_log_path), describe);
        self.ban_log = settings.ban_log_enabled.then(open);
        // Once confined, who runs them knows as whom.
        let identity = if is_confined() { Some(None) } else { hook_identity(settings) };
        match identity {
            Some(identity) => self.hooks.set(&settings.on_ban, &settings.on_unban, identity),
            None => self.hooks.set(&[], &[], None),
        }
        self.reporter.configure(settings);
    }

    /// Whether anybody listens to single hits.
    pub(super) fn watched(&self) -> bool {
        !self.watchers.is_empty()
    }

    /// Readers, and events that readers have missed.
    pub(super) fn watchers(&self) -> (u64, u64) {
        (self.watchers.len() as u64, self.lost)
    }

    pub(super) fn bans_a_minute(&mut self) -> u64 {
        self.rate.of(clock::mono())
    }

    /// Takes a reader in. When there are too many, those that have gone make room, else the first one does.
    pub(super) fn watch(&mut self, stream: UnixStream) {
        if self.watchers.len() == WATCHERS {
            self.watchers.retain(|w| !is_gone(&w.stream));
            self.watchers.truncate(WATCHERS - 1);
        }
        self.watchers.push(EventWatcher { stream, lost: 0 });
    }

    /// A hit; `user` is text of the attacker.
    pub(super) fn hit(&mut self, now: Wall, addr: IpNet, rule: &str, weight: u8, user: Option<&[u8]>) {
        let mut line = Line::new();
        let addr = Range::from(addr);
        // Of weight 0 are lines that accompany others: they count nothing.
        let word = if weight == 0 { "line" } else { "hit" };
        let _ = write!(line, "{} {word} {addr} rule={rule} weight={weight}", Stamp(now));
        if let Some(user) = user {
            let _ = write!(line, " user={}", Raw(user));
        }
        self.put(&mut line);
    }

    /// Somebody has gone over a limit of a port; `logs` says whether the log hears of it, too.
    pub(super) fn throttled(&mut self, now: Wall, addr: IpNet, (port, limit): (u16, FloodLimit), logs: bool) {
        if !logs && !self.watched() {
            return;
        }
        let mut line = Line::new();
        let (addr, limit) = (Range::from(addr), limit.word());
        let _ = write!(line, "{} throttle {addr} rule={FLOODS} port={port} limit={limit}", Stamp(now));
        if logs {
            log::info!("{}", Raw(line.bytes().get(STAMP..).unwrap_or_default()));
        }
        self.put(&mut line);
    }

    /// Somebody who has not been seen for a time has begun a connection.
    pub(super) fn newcomer(&mut self, now: Wall, addr: IpNet, port: u16) {
        if !self.watched() {
            return;
        }
        let mut line = Line::new();
        let _ = write!(line, "{} new {} port={port}", Stamp(now), Range::from(addr));
        self.put(&mut line);
    }

    /// A DNSBL has answered, or has not.
    pub(super) fn looked_up(&mut self, now: Wall, addr: IpAddr, list: &str, verdict: Verdict, took: u64) {
        if !self.watched() {
            return;
        }
        let mut line = Line::new();
        let _ = write!(line, "{} lookup {addr} list={list} ms={took} answer=", Stamp(now));
        let _ = match verdict {
            Verdict::Listed(code) => write!(line, "{code} listed=yes"),
            Verdict::Other(code) => write!(line, "{code} listed=no"),
            Verdict::Clean => line.write_str("none listed=no"),
            Verdict::Refused(code) | Verdict::MadeUp(code) => write!(line, "{code} listed=unknown"),
            Verdict::Trouble(trouble) => write!(line, "none listed=unknown reason={trouble}"),
        };
        self.put(&mut line);
    }

    /// A ban that the kernel has acknowledged.
    pub(super) fn banned(&mut self, now: Wall, ban: &BanEvent<'_>) {
        let BanEvent { addr, rule, hits, reason, time, bans, ref ports, seen, is_shared } = *ban;
        if is_shared {
            self.reporter.banned(now, &addr, rule, time);
        }
        let shown = ports.0.as_str();
        let rule = if rule.is_empty() { BY_HAND } else { rule };
        let mut text = Line::new();
        let _ = match time {
            Span::Secs(s) => {
                write!(text, "ban {addr} rule={rule} hits={hits} for={s}s ports={shown} bans={bans}")
            }
            Span::Permanent => {
                write!(text, "ban {addr} rule={rule} hits={hits} permanent ports={shown} bans={bans}")
            }
        };
        let _ = ban_lines::write_seen(&mut text, seen);
        let _ = write_reason(&mut text, reason);
        log::info!("{}", Raw(text.bytes()));
        let mono = clock::mono();
        self.rate.turn(mono);
        self.rate.this += 1;
        self.log(now, BanLogEvent::Ban(time), &addr, rule, (hits, reason), (ports.1, seen));
        if self.watched() {
            let mut line = Line::new();
            let _ = write!(line, "{} ban {addr} rule={rule} hits={hits} for=", Stamp(now));
            let _ = write_time(&mut line, time);
            let _ = write!(line, " ports={shown} bans={bans}");
            let _ = ban_lines::write_seen(&mut line, seen);
            let _ = write_reason(&mut line, reason);
            self.put(&mut line);
        }
        if self.hooks.wants(HookKind::Ban) {
            let until = match time {
                Span::Secs(s) => (now.0.saturating_add(s)).to_string(),
                Span::Permanent => "never".to_owned(),
            };
            let addr = addr.to_string();
            let env = environment(
                now,
                &[
                    ("EVENT", "ban"),
                    ("ADDR", &addr),
                    ("RULE", rule),
                    ("HITS", &hits.to_string()),
                    ("REASON", reason),
                    ("UNTIL", &until),
                    ("PORTS", shown),
                    ("BANS", &bans.to_string()),
                ],
            );
            self.hooks.add(HookKind::Ban, env);
        }
    }

    /// Bans that a command has ended; `None` is all.
    pub(super) fn unbanned(&mut self, now: Wall, addr: Option<&Range>) {
        self.reporter.unbanned(addr);
        let mut line = Line::new();
        let _ = write!(line, "{} unban ", Stamp(now));
        let _ = match addr {
            Some(addr) => write!(line, "{addr}"),
            None => line.write_str("all"),
        };
        log::info!("{}", Raw(line.bytes().get(STAMP..).unwrap_or_default()));
        if let Some(addr) = addr {
            self.log(now, BanLogEvent::Unban, addr, BY_HAND, (0, ""), (&[], &[]));
        }
        self.put(&mut line);
        if self.hooks.wants(HookKind::Unban) {
            let addr = addr.map_or_else(|| "all".to_owned(), ToString::to_string);
            self.hooks.add(
                HookKind::Unban,
                environment(now, &[("EVENT", "unban"), ("ADDR", &addr), ("RULE", BY_HAND)]),
            );
        }
    }

    /// The configuration was read again, or a command has changed a list or the rule set.
    pub(super) fn changed(&mut self, now: Wall, what: &str, addr: Option<&Range>) {
        let mut line = Line::new();
        let _ = write!(line, "{} {what}", Stamp(now));
        if let Some(addr) = addr {
            let _ = write!(line, " {addr}");
        }
        self.put(&mut line);
    }

    fn log(
        &mut self,
        at: Wall,
        event: BanLogEvent,
        addr: &Range,
        rule: &str,
        (hits, reason): (u32, &str),
        (ports, seen): (&[(u16, u16)], &[u16]),
    ) {
        if let Some(ban_log) = &mut self.ban_log {
            for net in addr.nets() {
                ban_log.write(&BanLogEntry { at, event, net, rule, hits, ports, seen, reason });
            }
        }
    }

    /// Gives a line to every reader; who does not take it misses it, and who is gone is forgotten.
    fn put(&mut self, line: &mut Line) {
        let bytes = line.with_newline();
        let lost = &mut self.lost;
        self.watchers.retain_mut(|w| {
            if w.lost > 0 {
                let mut note = Line::new();
                let _ = write!(note, "lost {}", w.lost);
                match send(&w.stream, note.with_newline()) {
                    Sent::All => w.lost = 0,
                    Sent::Full => {}
                    Sent::Gone => return false,
                }
            }
            // In order: nothing goes before what tells of a gap.
            let sent = if w.lost > 0 { Sent::Full } else { send(&w.stream, bytes) };
            if sent == Sent::Full {
                w.lost += 1;
                *lost += 1;
            }
            sent != Sent::Gone
        });
    }
}

/// Bytes of a stamp and the blank behind it.
const STAMP: usize = 21;

fn write_time(line: &mut Line, time: Span) -> std::fmt::Result {
    match time {
        Span::Secs(s) => write!(line, "{s}"),
        Span::Permanent => line.write_str("permanent"),
    }
}

/// The last part of a line, since it holds blanks.
fn write_reason(line: &mut Line, reason: &str) -> std::fmt::Result {
    if reason.is_empty() { Ok(()) } else { write!(line, " reason={reason}") }
}

fn environment(now: Wall, facts: &[(&str, &str)]) -> Vec<String> {
    let mut env = vec![format!("MEF_TIME={}", now.0)];
    env.extend(facts.iter().map(|(name, value)| ["MEF_", name, "=", value].concat()));
    env
}
