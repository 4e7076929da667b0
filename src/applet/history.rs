#![forbid(unsafe_code)]
//! `mef history`: the bans and unbans of the past, from the ban journal.

use super::args::parse;
use super::bans::About;
use super::columns::{self, Local, TableRow};
use super::context::{journal_to_read, settings};
use super::output::{Output, OutputError, failed};
use super::target::TargetReader;
use crate::ban::BY_HAND;
use crate::base::clock::Wall;
use crate::base::json::Object;
use crate::base::line::{SafeText, shown};
use crate::base::range::Range;
use crate::config::ago;
use crate::state::journal::JournalEvent;
use crate::state::record::{BanRecord, JournalRecord};
use crate::sys::clock;
use argh::FromArgs;
use ipnet::IpNet;
use std::cell::Cell;
use std::fmt;
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
    /// only the last 30m, 12h, 7d, today (24h) or yesterday (48h)
    #[argh(option, arg_name = "time")]
    since: Option<String>,
    /// only bans by this service rule; manual for those by hand
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
    let range = args.address.as_deref().map(|text| TargetReader::new(prefix).read(text));
    let range = range.transpose().map_err(OutputError::Usage)?;
    if settings.history_max == 0 {
        output.note(&"history_max=0 in mef.conf: no history is kept");
    }
    let now = clock::wall();
    let from = since.map_or(Wall(0), |secs| Wall(now.0.saturating_sub(secs.into())));
    let widths = Cell::new([7, 4]);
    let is_table = !args.json && !args.csv;
    let wanted = |event: &JournalEvent<'_>| {
        let rule = ban(event).map(|entry| rule_name(entry.rule));
        let is_wanted = event.at >= from
            && range.is_none_or(|range| range.meets(&Range::from(event.addr())))
            && args.rule.as_deref().is_none_or(|name| rule == Some(name));
        if is_wanted && is_table {
            let [addr, name] = widths.get();
            widths.set([addr.max(Whom(event).width()), name.max(rule.map_or(0, str::len))]);
        }
        is_wanted
    };
    let mut journal = journal_to_read(&settings)?;
    let (mut count, mut row, width) = (0u64, TableRow::default(), columns::width());
    let mut each = |event: &JournalEvent<'_>| -> io::Result<()> {
        let (out, is_first) = (&mut *output.out, count == 0);
        count += 1;
        if args.json {
            return writeln!(out, "{}", json(event));
        }
        if args.csv {
            return if is_first { writeln!(out, "{CSV}") } else { Ok(()) }.and_then(|()| csv(event, out));
        }
        if is_first {
            head(widths.get(), &mut row);
            row.line(out, width)?;
        }
        fill(event, widths.get(), &mut row);
        row.line(out, width)
    };
    if let Some(journal) = &mut journal {
        let mut written = Ok(());
        // What cannot be written is no failure of the journal.
        let mut each = |event: &JournalEvent<'_>| {
            written = each(event);
            written.as_ref().map_err(|e| e.kind().into()).copied()
        };
        let events = journal.events().map_err(failed)?;
        let read = events.newest_first(settings.history_max, &wanted, &mut each);
        written?;
        read.map_err(failed)?;
    }
    if count == 0 && args.csv {
        writeln!(output.out, "{CSV}")?;
    }
    if count == 0 && !args.json {
        output.note(&"nothing in the history");
    }
    output.end()
}

const CSV: &str = "time,event,address,rule,since,until,hits,ports,bans,reason,line";

/// The service rule of a ban, for people.
pub(super) fn rule_name(rule: &str) -> &str {
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
struct Whom<'a>(&'a JournalEvent<'a>);

impl Whom<'_> {
    /// Characters of it.
    fn width(&self) -> usize {
        match self.0.addr() {
            // Of most the digits are counted: nothing has to be written for that.
            IpNet::V4(net) if net.prefix_len() == 32 => {
                let digits = |octet: &u8| 1 + usize::from(*octet > 9) + usize::from(*octet > 99);
                3 + net.addr().octets().iter().map(digits).sum::<usize>()
            }
            _ => self.to_string().len(),
        }
    }
}

impl fmt::Display for Whom<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.record {
            JournalRecord::Clear => f.write_str("all"),
            JournalRecord::ClearTimed => f.write_str("all timed"),
            _ => Range::from(self.0.addr()).fmt(f),
        }
    }
}

/// The ban that it is, if it is one.
pub(super) fn ban<'a>(event: &JournalEvent<'a>) -> Option<BanRecord<'a>> {
    match event.record {
        JournalRecord::Ban(entry) => Some(entry),
        _ => None,
    }
}

/// For how long a ban was made, from its beginning.
pub(super) struct Length<'a>(pub(super) &'a BanRecord<'a>);

impl fmt::Display for Length<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.until {
            Some(until) => About(until.0.saturating_sub(self.0.since.0)).fmt(f),
            None => f.write_str("permanent"),
        }
    }
}

/// The ports of a ban as the kernel's list says them.
pub(super) fn ports<'a>(entry: &BanRecord<'a>) -> &'a str {
    if entry.scope.is_empty() { "all" } else { entry.scope }
}

/// Reason and line, for people.
pub(super) struct Reason<'a>(pub(super) &'a str, pub(super) &'a str);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            ("", "") => f.write_str("-"),
            (text, "") | ("", text) => SafeText(text).fmt(f),
            (reason, line) => write!(f, "{}: {}", SafeText(reason), SafeText(line)),
        }
    }
}

/// Widths of what has the same on every host.
const WHEN: usize = 19;
const EVENT: usize = 9;

fn head([addr, rule]: [usize; 2], row: &mut TableRow) {
    let names = ["WHEN", "EVENT", "ADDRESS", "RULE", "FOR", " HITS", "PORTS", "LINE"];
    for (name, width) in names.iter().zip([WHEN, EVENT, addr, rule, EVENT, 5, 6, 0]) {
        row.cell(name, width);
    }
}

fn fill(event: &JournalEvent<'_>, [addr, rule]: [usize; 2], row: &mut TableRow) {
    row.cell(&Local(event.at), WHEN);
    row.cell(&word(event), EVENT);
    row.cell(&Whom(event), addr);
    let Some(entry) = ban(event) else { return };
    row.cell(&SafeText(rule_name(entry.rule)), rule);
    row.cell(&Length(&entry), EVENT);
    match entry.hits {
        0 => row.put(&"    -"),
        hits => row.put(&format_args!("{hits:>5}")),
    }
    row.end(5);
    row.cell(&SafeText(ports(&entry)), 6);
    row.put(&Reason(entry.reason, event.line));
}

fn json(event: &JournalEvent<'_>) -> String {
    let some = |text| Some(text).filter(|text: &&str| !text.is_empty());
    let entry = ban(event);
    let object = Object::new()
        .number("time", Some(event.at.0).filter(|at| *at > 0))
        .text("event", word(event))
        .word("address", &Whom(event));
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
    write!(out, "{},{},{}", event.at.0, word(event), Whom(event))?;
    let Some(entry) = ban(event) else { return writeln!(out, ",,,,,,,,") };
    let until = entry.until.map(|until| until.0.to_string()).unwrap_or_default();
    write!(out, ",{},{},{until},{},", quoted(entry.rule), entry.since.0, entry.hits)?;
    writeln!(out, "{},{},{},{}", quoted(ports(&entry)), entry.bans, quoted(entry.reason), quoted(event.line))
}

/// A text of somebody else as a value: no program of tables takes it for a formula.
fn quoted(text: &str) -> String {
    if text.is_empty() {
        return "\"\"".to_owned();
    }
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
