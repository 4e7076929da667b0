#![forbid(unsafe_code)]
//! What is known of an address, and what follows from it.

use super::Sources;
use super::found::{BanFact, CountFact, ExemptFact, Found, ListFact, PastFact};
use super::verdict::{Holds, PortBan, Verdict};
use crate::applet::output::{OutputError, failed};
use crate::applet::{history, lookup};
use crate::ban::{FLOODS, LISTED, SCANS};
use crate::base::clock::Wall;
use crate::base::range::{Range, merge};
use crate::config::{ListKind, Settings, builtin_text, rule_file};
use crate::control::client::{ControlClient, Patience};
use crate::control::proto::{OffenderLine, Request};
use crate::enforce::scope_text;
use crate::lists::{self, Paths};
use crate::state::journal::JournalEvent;
use crate::state::record::{BanRecord, JournalRecord};
use crate::sys::clock;
use crate::sys::host::Protected;
use std::net::IpAddr;
use std::path::Path;

/// Bans, and entries of one kind of list, that are told one by one; of what is more the number.
const BANS: usize = 3;
const ENTRIES: usize = 5;
/// Seconds that two clocks may differ about the same beginning.
const NEAR: u64 = 2;
/// Past events that are kept.
const PAST: usize = 5;

/// Everything about a range.
pub(super) struct Facts {
    pub(super) range: Range,
    pub(super) now: u64,
    pub(super) bans: Found<BanFact>,
    /// Since when the first of these is in force, as far as the kernel knows.
    oldest: Option<u64>,
    pub(super) allowed: Found<ListFact>,
    pub(super) denied: Found<ListFact>,
    pub(super) holds: Holds,
    pub(super) verdict: Verdict,
    pub(super) exempt: Found<ExemptFact>,
    /// Of the exempt, sorted and merged.
    pub(super) exempt_ranges: Vec<Range>,
    /// Who is held back for a flood, the longest.
    pub(super) throttled: Option<(Range, u64)>,
    /// The nearest to a ban first.
    pub(super) counted: Found<CountFact>,
    /// The newest first.
    pub(super) past: Vec<PastFact>,
    /// Bans before those in force, and since when that is known.
    pub(super) before: usize,
    /// DNSBLs that are on, and what they say.
    pub(super) looked_up: Vec<(String, String)>,
}

impl Facts {
    /// Asks about a range; DNSBLs about the one address that was meant, if it was one.
    pub(super) fn gather(
        sources: &mut Sources,
        (range, addr): (&Range, Option<IpAddr>),
        daemon: &mut dyn FnMut(&Settings) -> Option<ControlClient>,
    ) -> Result<Facts, OutputError> {
        let mut facts = Facts {
            range: *range,
            now: clock::wall().0,
            bans: Found::of(range, BANS),
            oldest: None,
            allowed: Found::of(range, ENTRIES),
            denied: Found::of(range, ENTRIES),
            holds: Holds::of(range, Vec::new()),
            verdict: Verdict::Passes,
            exempt: Found::of(range, ENTRIES),
            exempt_ranges: Vec::new(),
            throttled: None,
            counted: Found::of(range, ENTRIES),
            past: Vec::new(),
            before: 0,
            looked_up: Vec::new(),
        };
        facts.read_allowed(sources)?;
        facts.read_bans(sources)?;
        facts.read_journal(sources)?;
        facts.read_denied(sources)?;
        while let Some(from) = facts.holds.dropped.resume() {
            facts.read_drops_again(sources, &from)?;
        }
        facts.verdict = facts.holds.verdict();
        facts.read_exempt(&sources.settings);
        facts.read_throttle(sources)?;
        if facts.verdict != Verdict::Dropped {
            facts.read_counts(daemon(&sources.settings));
        }
        let settings = &sources.settings;
        let is_on = settings.zones_on().next().is_some();
        // They list addresses: what they say of one is not true of a network.
        if let Some(addr) =
            addr.filter(|_| is_on && facts.exempt.len() == 0 && facts.holds.allowed.is_empty())
        {
            facts.looked_up = lookup::answers(settings, addr).unwrap_or_default();
        }
        Ok(facts)
    }

    fn read_bans(&mut self, sources: &mut Sources) -> Result<(), OutputError> {
        let (now, settings) = (self.now, &sources.settings);
        let (bans, holds, oldest) = (&mut self.bans, &mut self.holds, &mut self.oldest);
        let mut each = |e: &crate::ban::BanEntry<'_>| {
            match e.scope.is_all() {
                true => holds.drop(&e.addr),
                false => holds.on_ports.push(PortBan { addr: e.addr, scope: e.scope.clone() }),
            }
            let since = e.age.map(|age| now.saturating_sub(age));
            *oldest = [*oldest, since].into_iter().flatten().min();
            bans.push(&e.addr, || BanFact {
                addr: e.addr,
                ports: scope_text(e.scope),
                rule: e.rule.to_owned(),
                place: place(settings, e.rule),
                since,
                left: e.left,
                hits: e.hits,
                reason: e.reason.to_owned(),
                line: String::new(),
                packets: e.packets,
            });
        };
        sources.guard.bans_of(&self.range, &mut each).map_err(failed)
    }

    /// Finds the lines of bans in force, and what was before them.
    fn read_journal(&mut self, sources: &mut Sources) -> Result<(), OutputError> {
        let Some(journal) = &mut sources.journal else { return Ok(()) };
        let mut standing: Vec<PastFact> = Vec::new();
        let mut past: Vec<PastFact> = Vec::new();
        let each = &mut |event: Option<JournalEvent<'_>>| match event {
            None => standing.append(&mut past),
            Some(event) => {
                // The end of all bans is news of those who had one.
                let is_news = |fact: &PastFact| fact.word != "unban" || !past.is_empty();
                let fact = past_fact(&event).filter(is_news);
                past.extend(fact);
            }
        };
        journal.events().and_then(|events| events.oldest_first(&self.range, each)).map_err(failed)?;
        for ban in &mut self.bans.shown {
            let same = |p: &&PastFact| p.addr == ban.addr && p.ports == ban.ports && p.rule == ban.rule;
            // What the kernel holds may be a part of what was banned.
            let part = |p: &&PastFact| p.addr.meets(&ban.addr) && p.ports == ban.ports && p.rule == ban.rule;
            let all = || past.iter().rev().chain(standing.iter().rev()).filter(|p| p.word != "unban");
            if let Some(made) = all().find(same).or_else(|| all().find(part)) {
                ban.line.clone_from(&made.line);
                // The kernel counts from when it was told, and of a ban without an end perhaps not at all.
                let since = ban.since.filter(|since| since.abs_diff(made.since) > NEAR);
                ban.since = since.or(Some(made.since));
            }
        }
        let oldest = self.bans.shown.iter().filter_map(|ban| ban.since).chain(self.oldest).min();
        // What stands before the last unban is over, whatever the second.
        let unbanned = past.iter().rposition(|p| p.word == "unban").map_or(0, |at| at + 1);
        let mut number = 0..;
        past.retain(|p| {
            let is_before = number.next().is_some_and(|at| at < unbanned);
            is_before || oldest.is_none_or(|since| p.since + NEAR < since)
        });
        self.before = past.iter().filter(|p| p.word == "ban").count();
        past.reverse();
        past.truncate(PAST);
        self.past = past;
        Ok(())
    }

    fn read_allowed(&mut self, sources: &mut Sources) -> Result<(), OutputError> {
        let allowed = sources.guard.allowed_of(&self.range).map_err(failed)?;
        self.holds = Holds::of(&self.range, allowed.iter().map(|(range, _)| *range).collect());
        if allowed.is_empty() {
            return Ok(());
        }
        let (range, found, now) = (self.range, &mut self.allowed, clock::wall());
        let paths = Paths::of(&sources.settings);
        let dir = paths.dir(ListKind::Allow);
        for name in lists::list_names(dir).ok().flatten().unwrap_or_default() {
            let path = dir.join(name);
            // What cannot be read is told by `mef lists`.
            let _ = lists::entries_of(ListKind::Allow, &path, &range, &mut |line, e| {
                if e.until.is_none_or(|until| until > now) {
                    let entry = Range::from(e.net);
                    found.push(&entry, || list_fact(entry, &path, line, e.until));
                }
            });
        }
        if found.len() == 0 {
            for (entry, until) in allowed {
                let place = lists::hosts::place(&paths, entry.first());
                let (file, line) =
                    place.map_or_else(Default::default, |(file, line)| (file.display().to_string(), line));
                found.push(&entry, || ListFact { entry, file, line, until });
            }
        }
        Ok(())
    }

    /// Who of it is never banned by mef itself.
    fn read_exempt(&mut self, settings: &Settings) {
        let (range, protected) = (self.range, Protected::read());
        let proxies = settings.trusted_proxies.iter().filter_map(|net| Range::from(*net).common(&range));
        let proxies = proxies.map(|addr| (addr, "a trusted reverse proxy"));
        for (addr, why) in proxies.chain(protected.parts(&range)) {
            self.exempt_ranges.push(addr);
            self.exempt.push(&addr, || ExemptFact { addr, why });
        }
        merge(&mut self.exempt_ranges);
    }

    fn read_throttle(&mut self, sources: &mut Sources) -> Result<(), OutputError> {
        let (range, found) = (self.range, &mut self.throttled);
        let each = &mut |addr: Range, left: u64| {
            if addr.meets(&range) && found.is_none_or(|(_, longest)| left > longest) {
                *found = Some((addr, left));
            }
        };
        sources.guard.each_throttled(each).map_err(failed)
    }

    /// What the daemon has counted so far.
    fn read_counts(&mut self, daemon: Option<ControlClient>) {
        let (Some(mut daemon), found) = (daemon, &mut self.counted) else { return };
        let asked = daemon.notify(&Request::Hits { addr: self.range });
        // What is not answered is not known; `mef status` says that the daemon does not answer.
        let _ = asked.and_then(|()| {
            daemon.lines(Patience::Bounded, &mut |line| {
                if let Some(OffenderLine { addr, rule, hits, maxretry: of, age }) = OffenderLine::read(line) {
                    let (addr, rule) = (addr.to_owned(), rule.to_owned());
                    found.add(CountFact { addr, rule, hits, of, age });
                } else if let Some(all) = line.strip_prefix("counted ").and_then(|all| all.parse().ok()) {
                    found.more = usize::saturating_sub(all, found.shown.len());
                }
                true
            })
        });
    }
}

/// An event as it is told here.
fn past_fact(event: &JournalEvent<'_>) -> Option<PastFact> {
    let addr = Range::from(event.addr());
    let fact = |word, entry: Option<BanRecord<'_>>| PastFact {
        at: event.at.0,
        word,
        rule: entry.map_or(String::new(), |e| e.rule.to_owned()),
        time: entry.map_or(String::new(), |e| history::Length(&e).to_string()),
        why: entry.map_or(String::new(), |e| history::Reason(e.reason, event.line).to_string()),
        addr,
        ports: entry.map_or(String::new(), |e| e.scope.to_owned()),
        since: entry.map_or(event.at.0, |e| e.since.0),
        line: event.line.to_owned(),
    };
    match event.record {
        JournalRecord::Ban(entry) => Some(fact("ban", Some(entry))),
        JournalRecord::Unban(_) | JournalRecord::Clear | JournalRecord::ClearTimed => {
            Some(fact("unban", None))
        }
        _ => None,
    }
}

/// Where a service rule stands.
fn place(settings: &Settings, rule: &str) -> String {
    if rule.is_empty() {
        return String::new();
    }
    if rule == SCANS || rule == FLOODS {
        let keys = if rule == SCANS { "ps_* in mef.conf" } else { "ddos_* in mef.conf" };
        return format!("by the kernel, {keys}");
    }
    let path = rule_file(settings, rule);
    match [path.with_extension("local"), path].into_iter().find(|path| path.exists()) {
        Some(path) => path.display().to_string(),
        None if builtin_text(rule).is_some() => "shipped with mef".to_owned(),
        None => list_place(settings, rule).unwrap_or("no longer there").to_owned(),
    }
}

/// An entry of a list's file.
pub(super) fn list_fact(entry: Range, path: &Path, line: u32, until: Option<Wall>) -> ListFact {
    ListFact { entry, file: path.display().to_string(), line, until }
}

/// Where the list stands whose bans are of this rule.
fn list_place(settings: &Settings, rule: &str) -> Option<&'static str> {
    let key = rule.strip_prefix(LISTED)?;
    if settings.zones.iter().any(|zone| zone.key == key) {
        return Some("rbl_* in mef.conf");
    }
    let cloud = &settings.cloud.lookup;
    (cloud.key == key && cloud.enabled).then_some("community_cloud_* in mef.conf")
}
