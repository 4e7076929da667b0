#![forbid(unsafe_code)]
//! What `mef why` says: to people on one screen, to programs as objects.

use super::facts::Facts;
use super::found::{BanFact, CountFact, Found, ListFact};
use super::verdict::Verdict;
use crate::applet::bans::about;
use crate::applet::columns::{self, Colours, Local};
use crate::base::clock::Wall;
use crate::base::count::count;
use crate::base::json::Object;
use crate::base::line::shown;
use crate::base::range::{Range, covers};
use crate::lists::LOCAL;
use std::io::{self, Write};

/// Writes rows of a label and a text.
struct Rows<'o> {
    out: &'o mut dyn Write,
    width: usize,
}

impl Rows<'_> {
    fn row(&mut self, label: &str, text: &str) -> io::Result<()> {
        columns::line(self.out, &format!("  {label:<9}  {text}"), self.width)
    }
}

/// By whom a ban was made.
fn by(rule: &str) -> String {
    if rule.is_empty() { "by hand".to_owned() } else { format!("by rule {}", shown(rule)) }
}

fn lasts(left: Option<u64>) -> String {
    left.map_or("permanently".to_owned(), |left| format!("for another {}", about(left)))
}

/// Ranges that are named.
const NAMED: usize = 2;

/// A file without its directory.
fn name_of(fact: &ListFact) -> String {
    shown(fact.file.rsplit('/').next().unwrap_or(""))
}

/// What the verdict follows from, in a few words.
fn cause(facts: &Facts) -> String {
    if facts.verdict == Verdict::Passes { passing(facts) } else { dropping(facts) }
}

/// Why all of it passes. What is true of a part is said of that part.
fn passing(facts: &Facts) -> String {
    let (range, allowed, exempt) = (&facts.range, &facts.holds.allowed, &facts.exempt_ranges);
    if covers(allowed, range) {
        return match facts.allowed.shown.first() {
            Some(fact) if fact.line > 0 && fact.entry.covers(range) => {
                format!("on the allow list {}", name_of(fact))
            }
            _ => "on the allow list".to_owned(),
        };
    }
    let mut text = match facts.exempt.shown.first() {
        Some(fact) if fact.addr.covers(range) => format!("exempt, {}", fact.why),
        _ if facts.bans.len() + facts.denied.len() > 0 => {
            "what is banned or denied of it is on the allow list".to_owned()
        }
        _ if facts.throttled.is_some_and(|(addr, _)| addr.covers(range)) => {
            "but its floods are held back".to_owned()
        }
        _ => "neither banned nor denied".to_owned(),
    };
    let exempt = if covers(exempt, range) { &[] } else { exempt.as_slice() };
    for (ranges, is) in [(allowed.as_slice(), "on the allow list"), (exempt, "exempt")] {
        let mut parts = ranges.iter().filter_map(|part| part.common(range));
        let named: Vec<String> = parts.by_ref().take(NAMED).map(|part| part.to_string()).collect();
        let more = match parts.count() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        if !named.is_empty() {
            text.push_str(&format!("; {is}: {}{more}", named.join(", ")));
        }
    }
    text
}

/// What drops it: of what does so for all of it, whatever lasts longest.
fn dropping(facts: &Facts) -> String {
    let banned = |ban: &BanFact| {
        let what = if ban.is_of_beginnings() { "new connections " } else { "" };
        format!("{what}banned {} {}", by(&ban.rule), lasts(ban.left))
    };
    let denied = |fact: &ListFact| format!("on the deny list {}", name_of(fact));
    if facts.verdict == Verdict::Dropped {
        let (range, now) = (&facts.range, facts.now);
        let bans = facts.bans.shown.iter().filter(|ban| ban.ports.is_empty() && ban.addr.covers(range));
        let bans = bans.map(|ban| (ban.left.map_or(u64::MAX, |left| now + left), banned(ban)));
        let lists = facts.denied.shown.iter().filter(|fact| fact.entry.covers(range));
        let lists = lists.map(|fact| (fact.until.map_or(u64::MAX, |until| until.0), denied(fact)));
        if let Some((_, text)) = bans.chain(lists).max_by_key(|(end, _)| *end) {
            return text;
        }
    }
    let entries = || format!("{} of deny lists", count(facts.denied.len(), "entry"));
    match (facts.bans.shown.as_slice(), facts.denied.shown.as_slice()) {
        ([ban], []) => banned(ban),
        ([], [first, rest @ ..]) if facts.denied.more == 0 && rest.iter().all(|f| f.file == first.file) => {
            denied(first)
        }
        ([], _) => entries(),
        (_, []) => count(facts.bans.len(), "ban").to_string(),
        _ => format!("{} and {}", count(facts.bans.len(), "ban"), entries()),
    }
}

pub(super) fn people(out: &mut dyn Write, facts: &Facts, colours: Colours) -> io::Result<()> {
    let words = match &facts.verdict {
        Verdict::Passes => "passes".to_owned(),
        Verdict::Dropped => "is dropped".to_owned(),
        Verdict::InPart(whose) if whose.is_empty() => "is dropped in part".to_owned(),
        Verdict::InPart(whose) => format!("is dropped in part ({})", shown(whose)),
        Verdict::OnPorts(ports) => format!("is dropped on ports {}", shown(ports)),
    };
    let (on, off) = match &facts.verdict {
        _ if colours == Colours::Off => ("", ""),
        Verdict::Passes => ("\x1b[1;32m", "\x1b[0m"),
        Verdict::Dropped => ("\x1b[1;31m", "\x1b[0m"),
        _ => ("\x1b[1;33m", "\x1b[0m"),
    };
    writeln!(out, "{on}{} {words}: {}{off}", facts.range, cause(facts))?;
    let mut rows = Rows { out, width: columns::width() };
    entries(&mut rows, &facts.allowed, "allowed", "disallow")?;
    for fact in &facts.exempt.shown {
        rows.row("exempt", &format!("{}{}: never banned by mef itself", of(facts, &fact.addr), fact.why))?;
    }
    more(&mut rows, facts.exempt.more, "part")?;
    entries(&mut rows, &facts.denied, "denied", "undeny")?;
    facts.bans.shown.iter().try_for_each(|held| ban(&mut rows, facts, held))?;
    if facts.bans.more > 0 {
        rows.row("and", &format!("{} more: `mef bans {}`", count(facts.bans.more, "ban"), facts.range))?;
    }
    if let Some((addr, left)) = facts.throttled {
        let (whose, ends) = (of(facts, &addr), about(left));
        rows.row("held back", &format!("{whose}for a flood, for another {ends}, or `mef unban {addr}`"))?;
    }
    for CountFact { addr, rule, hits, of, age } in &facts.counted.shown {
        let whose = if *addr == facts.range.to_string() { String::new() } else { format!("{addr}, ") };
        let (rule, ago) = (shown(rule), about(*age));
        rows.row("counted", &format!("{whose}{hits} of {of} hits for rule {rule}, the last {ago} ago"))?;
    }
    more(&mut rows, facts.counted.more, "offender")?;
    for (list, says) in &facts.looked_up {
        rows.row("DNSBL", &format!("{}: {}", shown(list), shown(says)))?;
    }
    if facts.before > facts.past.len() {
        rows.row("before", &format!("{}: `mef history {}`", count(facts.before, "ban"), facts.range))?;
    }
    for past in &facts.past {
        let when = Local(Wall(past.at));
        if past.word == "ban" {
            let (by, time) = (by(&past.rule), &past.time);
            rows.row("before", &format!("{when}  banned {by} ({time}): {}", past.why))?;
        } else {
            rows.row("before", &format!("{when}  unbanned by hand"))?;
        }
    }
    Ok(())
}

/// Whose a finding is, where it is not that of all of the range.
fn of(facts: &Facts, addr: &Range) -> String {
    if addr.covers(&facts.range) { String::new() } else { format!("{addr}, ") }
}

/// Says that there is more of a kind.
fn more(rows: &mut Rows<'_>, more: usize, noun: &'static str) -> io::Result<()> {
    if more == 0 { Ok(()) } else { rows.row("and", &format!("{} more", count(more, noun))) }
}

/// The entries of lists, and what would end each.
fn entries(rows: &mut Rows<'_>, found: &Found<ListFact>, label: &str, ends: &str) -> io::Result<()> {
    for fact in &found.shown {
        rows.row(label, &entry(fact))?;
        rows.row("ends", &end_of_entry(fact, ends))?;
    }
    more(rows, found.more, "entry")
}

fn entry(fact: &ListFact) -> String {
    let until = fact.until.map_or(String::new(), |until| format!(", until {}", Local(until)));
    let at = match fact.line {
        0 if fact.file.is_empty() => "in the kernel, by a host name or a file that is gone".to_owned(),
        0 => format!("{}, which does not have it now", shown(&fact.file)),
        line => format!("{}:{line}", shown(&fact.file)),
    };
    format!("{at}: {}{until}", fact.entry)
}

/// What would end an entry of a list.
fn end_of_entry(fact: &ListFact, command: &str) -> String {
    if fact.line > 0 && fact.file.ends_with(&["/", LOCAL].concat()) {
        return format!("by `mef {command} {}`", fact.entry);
    }
    match fact.line {
        0 => "by `mef reload`, if no file has it".to_owned(),
        line => format!("without line {line} of {}, and `mef reload`", shown(&fact.file)),
    }
}

fn ban(rows: &mut Rows<'_>, facts: &Facts, held: &BanFact) -> io::Result<()> {
    let ports = match held.ports.as_str() {
        "" if held.is_of_beginnings() => "new connections on all ports".to_owned(),
        "" => "on all ports".to_owned(),
        ports => format!("on ports {ports}"),
    };
    let place = if held.place.is_empty() { String::new() } else { format!(" ({})", shown(&held.place)) };
    let addr = if held.addr == facts.range { String::new() } else { format!("{} ", held.addr) };
    rows.row("banned", &format!("{addr}{ports}, {}{place}", by(&held.rule)))?;
    if let Some(since) = held.since {
        let ago = about(facts.now.saturating_sub(since));
        rows.row("since", &format!("{}, {ago} ago", Local(Wall(since))))?;
    }
    if let Some(left) = held.left {
        rows.row("until", &format!("{}, in {}", Local(Wall(facts.now + left)), about(left)))?;
    }
    if held.hits > 0 {
        rows.row("hits", &held.hits.to_string())?;
    }
    if !held.reason.is_empty() {
        rows.row("reason", &shown(&held.reason))?;
    }
    if !held.line.is_empty() {
        rows.row("line", &shown(&held.line))?;
    }
    if let Some(packets) = held.packets {
        rows.row("dropped", &count(packets, "packet").to_string())?;
    }
    if held.left.is_none() {
        // Deny lists close all ports.
        let moves = format!("; `mef deny {}` moves it into the deny list", held.addr);
        rows.row("kept", &["in the ban journal", if held.ports.is_empty() { &moves } else { "" }].concat())?;
    }
    let itself = if held.left.is_some() { "by itself, or " } else { "" };
    rows.row("ends", &format!("{itself}by `mef unban {}`", held.addr))
}

pub(super) fn json(out: &mut dyn Write, facts: &Facts) -> io::Result<()> {
    let verdict = &facts.verdict;
    let addr = facts.range.to_string();
    let object = |finding| Object::new().text("address", addr.as_str()).text("finding", finding);
    let some = |text| Some(text).filter(|text: &&str| !text.is_empty());
    let ports = if let Verdict::OnPorts(ports) = verdict { Some(ports.as_str()) } else { None };
    let first = object("verdict").text("verdict", verdict.word());
    let part = if let Verdict::InPart(whose) = verdict { some(whose) } else { None };
    let first = first.text("ports", ports).text("part", part).text("why", cause(facts).as_str());
    let first = first.number("bans_before", facts.before as u64);
    let lists = facts.allowed.more + facts.denied.more + facts.exempt.more;
    let more = facts.bans.more + facts.counted.more + lists;
    writeln!(out, "{}", first.number("more", more as u64).finish())?;
    for (list, finding, end) in [(&facts.allowed, "allowed", "disallow"), (&facts.denied, "denied", "undeny")]
    {
        for fact in &list.shown {
            let object = object(finding)
                .text("entry", fact.entry.to_string().as_str())
                .text("file", some(&fact.file))
                .number("line", Some(u64::from(fact.line)).filter(|line| *line > 0))
                .number("until", fact.until.map(|until| until.0))
                .text("ends", end_of_entry(fact, end).as_str());
            writeln!(out, "{}", object.finish())?;
        }
    }
    for fact in &facts.exempt.shown {
        writeln!(out, "{}", object("exempt").word("exempt", &fact.addr).text("why", fact.why).finish())?;
    }
    for ban in &facts.bans.shown {
        let object = object("ban")
            .text("banned", ban.addr.to_string().as_str())
            .text("ports", if ban.ports.is_empty() { "all" } else { ban.ports.as_str() })
            .flag("new_only", ban.is_of_beginnings())
            .text("rule", some(&ban.rule))
            .text("place", some(&ban.place))
            .number("since", ban.since)
            .number("left", ban.left)
            .number("hits", Some(u64::from(ban.hits)).filter(|hits| *hits > 0))
            .text("reason", some(&ban.reason))
            .text("log_line", some(&ban.line))
            .number("dropped", ban.packets)
            .text("ends", format!("mef unban {}", ban.addr).as_str());
        writeln!(out, "{}", object.finish())?;
    }
    if let Some((addr, left)) = facts.throttled {
        writeln!(out, "{}", object("held back").word("held", &addr).number("left", left).finish())?;
    }
    for CountFact { addr, rule, hits, of, age } in &facts.counted.shown {
        let object = object("counted").text("counted", addr.as_str()).text("rule", rule.as_str());
        writeln!(out, "{}", object.number("hits", *hits).number("of", *of).number("age", *age).finish())?;
    }
    for (list, says) in &facts.looked_up {
        writeln!(
            out,
            "{}",
            object("dnsbl").text("list", list.as_str()).text("says", says.as_str()).finish()
        )?;
    }
    for past in &facts.past {
        let object = object("past").number("time", past.at).text("event", past.word);
        let object = object.text("rule", some(&past.rule)).text("why", some(&past.why));
        writeln!(out, "{}", object.finish())?;
    }
    Ok(())
}
