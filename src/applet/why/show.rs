#![forbid(unsafe_code)]
//! What `mef why` says: to people on one screen, to programs as objects.

use super::facts::{BanFact, Facts, ListFact, Verdict};
use crate::applet::bans::about;
use crate::applet::columns::{self, Colours, Local};
use crate::base::clock::Wall;
use crate::base::count::count;
use crate::base::json::Object;
use crate::base::line::shown;
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

/// What the verdict follows from, in a few words.
fn cause(facts: &Facts, verdict: &Verdict) -> String {
    let file = |fact: &ListFact| fact.file.rsplit('/').next().unwrap_or("").to_owned();
    match verdict {
        Verdict::Passes => match (facts.allowed.first(), facts.exempt) {
            (Some(fact), _) if fact.line > 0 => format!("on the allow list {}", shown(&file(fact))),
            (Some(_), _) => "on the allow list".to_owned(),
            (None, Some(why)) => format!("exempt, {why}"),
            (None, None) if facts.throttled.is_some() => "but its floods are held back".to_owned(),
            (None, None) => "neither banned nor denied".to_owned(),
        },
        _ => match (facts.bans.first(), facts.denied.first()) {
            (Some(ban), _) if facts.bans.len() + facts.more == 1 => {
                format!("banned {} {}", by(&ban.rule), lasts(ban.left))
            }
            (Some(_), _) => count(facts.bans.len() + facts.more, "ban").to_string(),
            (None, Some(fact)) => format!("on the deny list {}", shown(&file(fact))),
            (None, None) => String::new(),
        },
    }
}

pub(super) fn people(
    out: &mut dyn Write,
    facts: &Facts,
    verdict: &Verdict,
    colours: Colours,
) -> io::Result<()> {
    let words = match verdict {
        Verdict::Passes => "passes".to_owned(),
        Verdict::Dropped => "is dropped".to_owned(),
        Verdict::InPart => "is dropped in part".to_owned(),
        Verdict::OnPorts(ports) => format!("is dropped on ports {}", shown(ports)),
    };
    let (on, off) = match verdict {
        _ if colours == Colours::Off => ("", ""),
        Verdict::Passes => ("\x1b[1;32m", "\x1b[0m"),
        Verdict::Dropped => ("\x1b[1;31m", "\x1b[0m"),
        _ => ("\x1b[1;33m", "\x1b[0m"),
    };
    writeln!(out, "{on}{} {words}: {}{off}", facts.range, cause(facts, verdict))?;
    let mut rows = Rows { out, width: columns::width() };
    for fact in &facts.allowed {
        rows.row("allowed", &entry(fact))?;
        rows.row("ends", &end_of_entry(fact, "disallow"))?;
    }
    if let Some(why) = facts.exempt {
        rows.row("exempt", &format!("{why}: never banned by mef itself"))?;
    }
    for fact in &facts.denied {
        rows.row("denied", &entry(fact))?;
        rows.row("ends", &end_of_entry(fact, "undeny"))?;
    }
    facts.bans.iter().try_for_each(|held| ban(&mut rows, facts, held))?;
    if facts.more > 0 {
        rows.row("and", &format!("{} more: `mef bans {}`", count(facts.more, "ban"), facts.range))?;
    }
    if let Some(left) = facts.throttled {
        let ends = about(left);
        rows.row("held back", &format!("for a flood, for another {ends}, or `mef unban {}`", facts.range))?;
    }
    if let Some((rule, [hits, most, age])) = &facts.counted {
        let ago = about(*age);
        rows.row("counted", &format!("{hits} of {most} hits for rule {}, the last {ago} ago", shown(rule)))?;
    }
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
    let ports =
        if held.ports.is_empty() { "on all ports".to_owned() } else { format!("on ports {}", held.ports) };
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

pub(super) fn json(out: &mut dyn Write, facts: &Facts, verdict: &Verdict) -> io::Result<()> {
    let addr = facts.range.to_string();
    let object = |finding| Object::new().text("address", addr.as_str()).text("finding", finding);
    let some = |text| Some(text).filter(|text: &&str| !text.is_empty());
    let ports = if let Verdict::OnPorts(ports) = verdict { Some(ports.as_str()) } else { None };
    let first = object("verdict").text("verdict", verdict.word());
    let first = first.text("ports", ports).text("why", cause(facts, verdict).as_str());
    writeln!(out, "{}", first.number("bans_before", facts.before as u64).finish())?;
    for (list, finding, end) in [(&facts.allowed, "allowed", "disallow"), (&facts.denied, "denied", "undeny")]
    {
        for fact in list {
            let object = object(finding)
                .text("entry", fact.entry.to_string().as_str())
                .text("file", some(&fact.file))
                .number("line", Some(u64::from(fact.line)).filter(|line| *line > 0))
                .number("until", fact.until.map(|until| until.0))
                .text("ends", end_of_entry(fact, end).as_str());
            writeln!(out, "{}", object.finish())?;
        }
    }
    if let Some(why) = facts.exempt {
        writeln!(out, "{}", object("exempt").text("why", why).finish())?;
    }
    for ban in &facts.bans {
        let object = object("ban")
            .text("banned", ban.addr.to_string().as_str())
            .text("ports", if ban.ports.is_empty() { "all" } else { ban.ports.as_str() })
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
    if let Some(left) = facts.throttled {
        writeln!(out, "{}", object("held back").number("left", left).finish())?;
    }
    if let Some((rule, [hits, most, age])) = &facts.counted {
        let object = object("counted").text("rule", rule.as_str()).number("hits", *hits);
        writeln!(out, "{}", object.number("of", *most).number("age", *age).finish())?;
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
