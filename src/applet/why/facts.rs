#![forbid(unsafe_code)]
//! What is known of an address, and what follows from it.

use super::Sources;
use crate::applet::answer::DaemonAnswer;
use crate::applet::output::{OutputError, failed};
use crate::applet::{history, lookup};
use crate::ban::{AllowEntry, FLOODS, SCANS};
use crate::base::clock::Wall;
use crate::base::range::{Range, merge, split};
use crate::config::{ListKind, Settings, builtin_text, net, rule_file};
use crate::control::client::ControlClient;
use crate::control::proto::Request;
use crate::enforce::scope_text;
use crate::lists::{self, Paths};
use crate::state::journal::JournalEvent;
use crate::state::record::{BanRecord, JournalRecord};
use crate::sys::clock;
use crate::sys::host::Protected;

/// Findings of one kind that are kept; of what is more only the number.
const MOST: usize = 20;
/// Seconds that two clocks may differ about the same beginning.
const NEAR: u64 = 2;
/// Past events that are kept.
const PAST: usize = 5;

/// A ban in force.
pub(super) struct BanFact {
    pub(super) addr: Range,
    /// Empty for all ports.
    pub(super) ports: String,
    pub(super) rule: String,
    /// Where the rule stands.
    pub(super) place: String,
    pub(super) since: Option<u64>,
    pub(super) left: Option<u64>,
    pub(super) hits: u32,
    pub(super) reason: String,
    pub(super) line: String,
    pub(super) packets: Option<u64>,
}

/// An entry of a list, and where it stands.
pub(super) struct ListFact {
    pub(super) entry: Range,
    pub(super) file: String,
    /// 0: not found in it.
    pub(super) line: u32,
    pub(super) until: Option<Wall>,
}

/// Something that is over.
pub(super) struct PastFact {
    pub(super) at: u64,
    pub(super) word: &'static str,
    pub(super) rule: String,
    pub(super) time: String,
    pub(super) why: String,
    addr: Range,
    ports: String,
    since: u64,
    line: String,
}

/// Everything about a range.
pub(super) struct Facts {
    pub(super) range: Range,
    pub(super) now: u64,
    pub(super) bans: Vec<BanFact>,
    /// Bans that are not among these.
    pub(super) more: usize,
    pub(super) allowed: Vec<ListFact>,
    allowed_ranges: Vec<Range>,
    pub(super) denied: Vec<ListFact>,
    pub(super) exempt: Option<&'static str>,
    /// Seconds for which it is held back for a flood.
    pub(super) throttled: Option<u64>,
    /// By which rule it is being counted: hits, of how many, seconds since the last one.
    pub(super) counted: Option<(String, [u64; 3])>,
    /// The newest first.
    pub(super) past: Vec<PastFact>,
    /// Bans before those in force, and since when that is known.
    pub(super) before: usize,
    /// DNSBLs that are on, and what they say.
    pub(super) looked_up: Vec<(String, String)>,
}

/// What becomes of packets.
pub(super) enum Verdict {
    Passes,
    Dropped,
    InPart,
    /// Dropped on some ports.
    OnPorts(String),
}

impl Verdict {
    pub(super) fn is_dropped(&self) -> bool {
        !matches!(self, Verdict::Passes)
    }

    /// For programs.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Verdict::Passes => "passes",
            Verdict::Dropped => "dropped",
            Verdict::InPart => "dropped in part",
            Verdict::OnPorts(_) => "dropped on ports",
        }
    }
}

impl Facts {
    pub(super) fn gather(
        sources: &mut Sources,
        range: &Range,
        daemon: &mut dyn FnMut(&Settings) -> Option<ControlClient>,
    ) -> Result<Facts, OutputError> {
        let mut facts = Facts {
            range: *range,
            now: clock::wall().0,
            bans: Vec::new(),
            more: 0,
            allowed: Vec::new(),
            allowed_ranges: Vec::new(),
            denied: Vec::new(),
            exempt: None,
            throttled: None,
            counted: None,
            past: Vec::new(),
            before: 0,
            looked_up: Vec::new(),
        };
        facts.read_bans(sources)?;
        facts.read_journal(sources)?;
        let allowed = sources.guard.allowed_of(range).map_err(failed)?;
        facts.read_allowed(sources, &allowed);
        facts.read_denied(sources)?;
        facts.exempt = exempt(&sources.settings, range);
        facts.read_throttle(sources)?;
        if !facts.verdict().is_dropped() {
            facts.read_counts(daemon(&sources.settings));
        }
        let settings = &sources.settings;
        let is_on = settings.rbl_enabled && settings.zones.iter().any(|zone| zone.enabled);
        if is_on && facts.exempt.is_none() && facts.allowed_ranges.is_empty() {
            facts.looked_up = lookup::answers(settings, range.first()).unwrap_or_default();
        }
        Ok(facts)
    }

    fn read_bans(&mut self, sources: &mut Sources) -> Result<(), OutputError> {
        let (now, settings) = (self.now, &sources.settings);
        let (bans, more) = (&mut self.bans, &mut self.more);
        let mut each = |e: &crate::ban::BanEntry<'_>| {
            if bans.len() == MOST {
                *more += 1;
                return;
            }
            bans.push(BanFact {
                addr: e.addr,
                ports: scope_text(e.scope),
                rule: e.rule.to_owned(),
                place: place(settings, e.rule),
                since: e.age.map(|age| now.saturating_sub(age)),
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
        for ban in &mut self.bans {
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
        let oldest = self.bans.iter().filter_map(|ban| ban.since).min();
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

    fn read_allowed(&mut self, sources: &Sources, allowed: &[AllowEntry]) {
        self.allowed_ranges = allowed.iter().map(|(range, _)| *range).collect();
        merge(&mut self.allowed_ranges);
        if allowed.is_empty() {
            return;
        }
        let names = lists::list_names(Paths::of(&sources.settings).dir(ListKind::Allow)).ok().flatten();
        self.allowed = in_files(&sources.settings, ListKind::Allow, &names.unwrap_or_default(), &self.range);
        if self.allowed.is_empty() {
            let of = |(entry, until): &AllowEntry| ListFact {
                entry: *entry,
                file: String::new(),
                line: 0,
                until: *until,
            };
            self.allowed = allowed.iter().take(MOST).map(of).collect();
        }
    }

    fn read_denied(&mut self, sources: &mut Sources) -> Result<(), OutputError> {
        let paths = Paths::of(&sources.settings);
        let of_first = sources.guard.denied(&[self.range]).map_err(failed)?.pop().unwrap_or_default();
        let is_one = self.range.first() == self.range.last();
        // Of one address the kernel says which lists drop it; of more the files are read.
        let names = if is_one {
            of_first.clone()
        } else {
            lists::list_names(paths.dir(ListKind::Deny)).ok().flatten().unwrap_or_default()
        };
        self.denied = in_files(&sources.settings, ListKind::Deny, &names, &self.range);
        if !is_one {
            let firsts: Vec<Range> =
                self.denied.iter().filter_map(|fact| fact.entry.common(&self.range)).collect();
            let found = sources.guard.denied(&firsts).map_err(failed)?;
            let mut found = found.into_iter();
            self.denied.retain(|_| found.next().is_some_and(|names| !names.is_empty()));
        }
        for name in of_first {
            let file = paths.dir(ListKind::Deny).join(&name).display().to_string();
            if !self.denied.iter().any(|fact| fact.file == file) {
                let entry = Range::from(self.range.first());
                self.denied.push(ListFact { entry, file, line: 0, until: None });
            }
        }
        Ok(())
    }

    fn read_throttle(&mut self, sources: &mut Sources) -> Result<(), OutputError> {
        let (range, found) = (self.range, &mut self.throttled);
        let each = &mut |addr: Range, left: u64| {
            if addr.meets(&range) {
                *found = (*found).max(Some(left));
            }
        };
        sources.guard.each_throttled(each).map_err(failed)
    }

    /// What the daemon has counted so far.
    fn read_counts(&mut self, daemon: Option<ControlClient>) {
        let Some(mut daemon) = daemon else { return };
        let Ok(Some(answer)) = DaemonAnswer::get(&mut daemon, &Request::Top) else { return };
        let all = answer.offenders();
        let mut mine = all.filter(|o| net(o.addr).is_ok_and(|net| Range::from(net).meets(&self.range)));
        self.counted = mine.next().map(|o| (o.rule.to_owned(), [o.hits, o.maxretry, o.age]));
    }

    /// What becomes of its packets: allow lists win, then all that drops everything, then bans of ports.
    pub(super) fn verdict(&self) -> Verdict {
        let rest = split(&self.range, &self.allowed_ranges);
        if rest.is_empty() {
            return Verdict::Passes;
        }
        let of_all = self.bans.iter().filter(|ban| ban.ports.is_empty()).map(|ban| ban.addr);
        let mut dropped: Vec<Range> = of_all.chain(self.denied.iter().map(|fact| fact.entry)).collect();
        merge(&mut dropped);
        let passing: Vec<Range> = rest.iter().flat_map(|part| split(part, &dropped)).collect();
        if passing.is_empty() && rest == [self.range] {
            return Verdict::Dropped;
        }
        if passing != rest || self.more > 0 {
            return Verdict::InPart;
        }
        let on_ports = self.bans.iter().filter(|ban| rest.iter().any(|part| part.meets(&ban.addr)));
        let mut ports: Vec<&str> = on_ports.map(|ban| ban.ports.as_str()).collect();
        ports.dedup();
        if ports.is_empty() { Verdict::Passes } else { Verdict::OnPorts(ports.join(" and ")) }
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

/// Why it is never banned.
fn exempt(settings: &Settings, range: &Range) -> Option<&'static str> {
    let is_proxy = settings.trusted_proxies.iter().any(|net| Range::from(*net).meets(range));
    if is_proxy { Some("a trusted reverse proxy") } else { Protected::read().why(range) }
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
        None if settings.zones.iter().any(|zone| rule.ends_with(&zone.key)) => "rbl_* in mef.conf".to_owned(),
        None => "no longer there".to_owned(),
    }
}

/// The entries of these files that meet a range.
fn in_files(settings: &Settings, kind: ListKind, names: &[String], range: &Range) -> Vec<ListFact> {
    let paths = Paths::of(settings);
    let now = clock::wall();
    let mut found = Vec::new();
    for name in names {
        let path = paths.dir(kind).join(name);
        // What cannot be read is told by `mef lists`.
        let entries = lists::entries_of(kind, &path, range, MOST).unwrap_or_default();
        for (line, entry) in entries.into_iter().filter(|(_, e)| e.until.is_none_or(|until| until > now)) {
            if found.len() < MOST {
                let file = path.display().to_string();
                found.push(ListFact { entry: Range::from(entry.net), file, line, until: entry.until });
            }
        }
    }
    found
}
