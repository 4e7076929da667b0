#![forbid(unsafe_code)]
//! `mef history`: the bans and unbans of the past, from the ban journal.

use super::args::parse;
use super::bans::about;
use super::columns::{self, Local};
use super::context::{journal_to_read, settings};
use super::output::{Output, OutputError, failed};
use super::target;
use crate::ban::BY_HAND;
use crate::base::clock::Wall;
use crate::base::json::Object;
use crate::base::line::shown;
use crate::base::range::Range;
use crate::config::ago;
use crate::state::journal::JournalEvent;
use crate::state::record::{BanRecord, JournalRecord};
use crate::sys::clock;
use argh::FromArgs;
use std::cell::Cell;
use std::io::{self, Write};

/// List the bans and unbans of the past, the newest first.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "Kept in the ban journal, history_max of them (10,000). FOR is how long a ban was to last; bans \
        that ran out have\nno line of their own. LINE is the log line that decided, cut to the width of the \
        terminal.",
    example = "mef history --since 1d\n  mef history 192.0.2.7\n  mef history --rule sshd --csv"
)]
struct HistoryArgs {
    /// only what has to do with this address, network or range
    #[argh(positional, arg_name = "ADDR")]
    address: Option<String>,
    /// only the last 30m, 12h, 7d, or today
    #[argh(option, arg_name = "time")]
    since: Option<String>,
    /// only bans by this service rule
    #[argh(option, arg_name = "name")]
    rule: Option<String>,
    /// one JSON object per line
    #[argh(switch)]
    json: bool,
    /// comma-separated values, with a first line of names
    #[argh(switch)]
    csv: bool,
    /// path to mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: HistoryArgs = parse("history", args)?;
    if args.json && args.csv {
        return Err(OutputError::Usage("--json and --csv exclude each other".into()));
    }
    let since = args.since.as_deref().map(ago).transpose();
    let since = since.map_err(|bad| OutputError::Usage(format!("--since: {}, {}", bad.what, bad.hint)))?;
    let settings = settings(args.config.as_deref(), output);
    let prefix = u8::try_from(settings.ipv6_prefix).unwrap_or(64);
    let range = args.address.as_deref().map(|text| target::read(text, prefix));
    let range = range.transpose().map_err(OutputError::Usage)?;
    if settings.history_max == 0 {
        output.note(&"history_max=0 in mef.conf: no history is kept");
    }
    let now = clock::wall();
    let from = since.map_or(Wall(0), |secs| Wall(now.0.saturating_sub(secs.into())));
    let widths = Cell::new([7, 4]);
    let wanted = |event: &JournalEvent<'_>| {
        let rule = ban(event).map(|entry| entry.rule);
        let is_wanted = event.at >= from
            && range.is_none_or(|range| range.meets(&Range::from(event.addr())))
            && args.rule.as_deref().is_none_or(|name| rule.is_some_and(|rule| rule_name(rule) == name));
        if is_wanted && !args.json && !args.csv {
            let [addr, name] = widths.get();
            let rule = rule.map_or(0, |rule| rule_name(rule).len());
            widths.set([addr.max(whom(event).len()), name.max(rule)]);
        }
        is_wanted
    };
    let mut journal = journal_to_read(&settings, output)?;
    let (mut count, width) = (0u64, columns::width());
    let mut each = |event: &JournalEvent<'_>| -> io::Result<()> {
        count += 1;
        let out = &mut *output.out;
        match (args.json, args.csv) {
            (true, _) => writeln!(out, "{}", json(event)),
            (_, true) if count == 1 => writeln!(out, "{CSV}").and_then(|()| csv(event, out)),
            (_, true) => csv(event, out),
            _ if count == 1 => head(widths.get(), width, out)
                .and_then(|()| columns::line(out, &row(event, widths.get()), width)),
            _ => columns::line(out, &row(event, widths.get()), width),
        }
    };
    if let Some(journal) = &mut journal {
        let events = journal.events().map_err(failed)?;
        events.newest_first(settings.history_max, &wanted, &mut each).map_err(failed)?;
    }
    if count == 0 && !args.json {
        output.note(&"nothing in the history");
    }
    output.end()
}

const CSV: &str = "time,event,address,rule,since,until,hits,ports,bans,reason,line";

/// The service rule of a ban, for people.
fn rule_name(rule: &str) -> &str {
    if rule.is_empty() { BY_HAND } else { rule }
}

/// What happened, in a word.
pub(super) fn word(event: &JournalEvent<'_>) -> &'static str {
    match event.record {
        JournalRecord::Ban(entry) if entry.since < event.at => "longer",
        JournalRecord::Ban(_) => "ban",
        JournalRecord::Unban(_) => "unban",
        _ => "unban all",
    }
}

/// Whom it is about.
fn whom(event: &JournalEvent<'_>) -> String {
    match event.record {
        JournalRecord::Clear => "all".to_owned(),
        JournalRecord::ClearTimed => "all timed".to_owned(),
        _ => Range::from(event.addr()).to_string(),
    }
}

fn ban<'a>(event: &JournalEvent<'a>) -> Option<BanRecord<'a>> {
    match event.record {
        JournalRecord::Ban(entry) => Some(entry),
        _ => None,
    }
}

/// For how long a ban was made, from its beginning.
pub(super) fn length(entry: &BanRecord<'_>) -> String {
    entry.until.map_or("permanent".to_owned(), |until| about(until.0.saturating_sub(entry.since.0)))
}

/// The ports of a ban as the kernel's list says them.
pub(super) fn ports<'a>(entry: &BanRecord<'a>) -> &'a str {
    if entry.scope.is_empty() { "all" } else { entry.scope }
}

/// Reason and line, for people.
pub(super) fn why(reason: &str, line: &str) -> String {
    match (reason, line) {
        ("", "") => "-".to_owned(),
        (reason, "") => shown(reason),
        ("", line) => shown(line),
        (reason, line) => format!("{}: {}", shown(reason), shown(line)),
    }
}

fn head([addr, rule]: [usize; 2], width: usize, out: &mut dyn Write) -> io::Result<()> {
    let text = format!(
        "{:<19}  {:<9}  {:<addr$}  {:<rule$}  {:<9}  {:>5}  {:<6}  LINE",
        "WHEN", "EVENT", "ADDRESS", "RULE", "FOR", "HITS", "PORTS"
    );
    columns::line(out, &text, width)
}

fn row(event: &JournalEvent<'_>, [addr, rule]: [usize; 2]) -> String {
    let (when, what, whom) = (Local(event.at).to_string(), word(event), whom(event));
    let Some(entry) = ban(event) else { return format!("{when:<19}  {what:<9}  {whom}") };
    let (name, time, hits) = (shown(rule_name(entry.rule)), length(&entry), entry.hits);
    let hits = if hits > 0 { hits.to_string() } else { "-".to_owned() };
    let (ports, why) = (shown(ports(&entry)), why(entry.reason, event.line));
    format!("{when:<19}  {what:<9}  {whom:<addr$}  {name:<rule$}  {time:<9}  {hits:>5}  {ports:<6}  {why}")
}

fn json(event: &JournalEvent<'_>) -> String {
    let some = |text| Some(text).filter(|text: &&str| !text.is_empty());
    let entry = ban(event);
    let object = Object::new()
        .number("time", Some(event.at.0).filter(|at| *at > 0))
        .text("event", word(event))
        .text("address", whom(event).as_str());
    let Some(entry) = entry else { return object.finish() };
    object
        .text("rule", some(entry.rule))
        .number("since", entry.since.0)
        .number("until", entry.until.map(|until| until.0))
        .number("hits", (entry.hits > 0).then_some(u64::from(entry.hits)))
        .text("ports", ports(&entry))
        .number("bans", (entry.bans > 0).then_some(u64::from(entry.bans)))
        .text("reason", some(entry.reason))
        .text("line", some(event.line))
        .finish()
}

fn csv(event: &JournalEvent<'_>, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "{},{},{}", event.at.0, word(event), whom(event))?;
    let Some(entry) = ban(event) else { return writeln!(out, ",,,,,,,,") };
    let until = entry.until.map(|until| until.0.to_string()).unwrap_or_default();
    write!(out, ",{},{},{until},{},", quoted(entry.rule), entry.since.0, entry.hits)?;
    writeln!(out, "{},{},{},{}", quoted(ports(&entry)), entry.bans, quoted(entry.reason), quoted(event.line))
}

/// A text of somebody else as a value: no program of tables takes it for a formula.
fn quoted(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@']) { "'" } else { "" };
    format!("\"{guard}{}\"", shown(text).replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_strangers_are_quoted() {
        let cases = [
            ("", "\"\""),
            ("a,b", "\"a,b\""),
            ("say \"no\"", "\"say \"\"no\"\"\""),
            ("=cmd|x", "\"'=cmd|x\""),
            ("a\nb", "\"a\\x0ab\""),
        ];
        for (text, want) in cases {
            assert_eq!(quoted(text), want);
        }
    }
}
