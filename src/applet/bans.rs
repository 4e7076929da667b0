#![forbid(unsafe_code)]
//! `mef bans`: what the kernel holds, asked from the kernel.

use super::args::parse;
use super::columns;
use super::context::{journal_if_any, settings};
use super::history::rule_name;
use super::output::{Output, OutputError};
use super::target::{self, TargetReader};
use crate::ban::{BanEntry, FLOODS, SCANS};
use crate::base::clock::Wall;
use crate::base::json::Object;
use crate::base::line::shown;
use crate::base::range::Range;
use crate::base::width::width as columns_of;
use crate::config::Settings;
use crate::enforce::scope_text;
use crate::state::journal::JournalEvent;
use crate::state::record::{BanRecord, JournalRecord};
use argh::FromArgs;
use std::fmt;

const HEAD: [&str; COLUMNS] = ["ADDRESS", "RULE", "SINCE", "LEFT", "HITS", "DROPPED", "PORTS", "REASON"];
const COLUMNS: usize = 8;
/// Stands between cells until the widths are known; no cell has one.
const BETWEEN: &str = "\0";
/// Bytes of what is kept of the journal; where there is more the rest of the bans have no line.
const KEPT: usize = 16 << 20;

/// What the journal has of a ban, and the kernel has not.
struct WrittenBan {
    addr: Range,
    scope: String,
    rule: String,
    hits: u32,
    reason: String,
    line: String,
}

/// List the bans in force, as the kernel has them, the newest first.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "DROPPED is counted for each address only with element_counters=true, since that costs kernel \
        memory.",
    example = "mef bans\n  mef bans 192.0.2.0/24\n  mef bans --rule sshd --json"
)]
struct BansArgs {
    /// only those that have to do with this address, network or range
    #[argh(positional, arg_name = "ADDR")]
    address: Option<String>,
    /// one JSON object per line
    #[argh(switch)]
    json: bool,
    /// only those that this service rule made; manual for those by hand
    #[argh(option, arg_name = "name")]
    rule: Option<String>,
    /// only those without an end
    #[argh(switch)]
    permanent: bool,
    /// path to mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: BansArgs = parse("bans", args)?;
    let settings = settings(args.config.as_deref(), output);
    let failed = |e| OutputError::Failed(format!("{e}"));
    let mut guard = target::view_bans(&settings, output).map_err(failed)?;
    let ipv6_prefix = guard.state().map_err(failed)?.map_or(64, |state| state.ipv6_prefix);
    let range = args.address.as_deref().map(|text| TargetReader::new(ipv6_prefix).read(text));
    let range = range.transpose().map_err(OutputError::Usage)?;
    let wanted = |e: &BanEntry<'_>| {
        args.rule.as_deref().is_none_or(|rule| rule == rule_name(e.rule))
            && (!args.permanent || e.left.is_none())
    };
    let now = crate::sys::clock::wall();
    let written = written(&settings, now, range.as_ref(), output);
    let written_of = |e: &BanEntry<'_>| {
        let from = written.partition_point(|ban| ban.addr < e.addr);
        let mut same = written.iter().skip(from).take_while(|ban| ban.addr == e.addr);
        let scope = scope_text(e.scope);
        same.find(|ban| ban.scope == scope && ban.rule == e.rule)
    };
    let (mut rows, mut widths) = (Vec::new(), HEAD.map(str::len));
    let mut each = |e: &BanEntry<'_>| {
        if !wanted(e) {
            return;
        }
        let (mut e, known) = (*e, written_of(e));
        if let Some(known) = known.filter(|_| e.hits == 0) {
            e.hits = known.hits;
        }
        if let Some(known) = known.filter(|_| e.reason.is_empty()) {
            e.reason = &known.reason;
        }
        let (e, log_line) = (&e, known.map_or("", |known| &known.line));
        let text = if args.json {
            json(e, now.0, log_line)
        } else {
            let row = row(e, log_line);
            widen(&mut widths, &row);
            row.join(BETWEEN)
        };
        rows.push((e.age.unwrap_or(u64::MAX), text.into_boxed_str()));
    };
    // One is looked up, however many others are banned.
    let listed = match &range {
        Some(range) => guard.bans_of(range, &mut each),
        None => guard.list(&mut each),
    };
    listed.map_err(failed)?;
    // The newest first; those of one second by their addresses.
    rows.sort_by_key(|(age, _)| *age);
    if rows.is_empty() {
        let is_any = args.rule.is_none() && !args.permanent && range.is_none();
        output.note(&if is_any { "no ban is in force" } else { "no such ban is in force" });
    } else if !args.json {
        line(output, &widths, HEAD.into_iter())?;
    }
    for (_, text) in &rows {
        if args.json {
            writeln!(output.out, "{text}")?;
        } else {
            line(output, &widths, text.split(BETWEEN))?;
        }
    }
    Ok(())
}

/// What the journal has of bans, those of a range or all, by whom they are.
fn written(
    settings: &Settings,
    now: Wall,
    range: Option<&Range>,
    output: &mut Output<'_>,
) -> Vec<WrittenBan> {
    let (mut all, mut kept) = (Vec::new(), 0);
    let Some(mut journal) = journal_if_any(settings, output) else { return all };
    let mut keep = |ban: &BanRecord<'_>, line: &str| {
        let addr = Range::from(ban.addr);
        if range.is_some_and(|range| !range.meets(&addr)) {
            return;
        }
        kept += size_of::<WrittenBan>() + ban.reason.len() + line.len();
        if kept < KEPT {
            all.push(WrittenBan {
                addr,
                scope: ban.scope.to_owned(),
                rule: ban.rule.to_owned(),
                hits: ban.hits,
                reason: ban.reason.to_owned(),
                line: line.to_owned(),
            });
        }
    };
    // What cannot be read has no line. Those of the kernel are events only: of each the newest comes first.
    let is_of_kernel = |event: &JournalEvent<'_>| match event.record {
        JournalRecord::Ban(ban) => [SCANS, FLOODS].contains(&ban.rule),
        _ => false,
    };
    let mut each = |event: &JournalEvent<'_>| {
        if let JournalRecord::Ban(ban) = event.record {
            keep(&ban, event.line);
        }
        Ok(())
    };
    let _ = journal.events().and_then(|events| events.newest_first(u32::MAX, &is_of_kernel, &mut each));
    let _ = journal.live(now, 0, &mut |ban| keep(&ban, ban.line));
    all.sort_by_key(|ban| ban.addr);
    all
}

fn row(e: &BanEntry<'_>, log_line: &str) -> [String; COLUMNS] {
    let time = |secs: Option<u64>, never: &str| secs.map_or(never.to_owned(), about);
    let number = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
    // What stands in the kernel was perhaps put there by somebody else.
    let text = |text: &str| if text.is_empty() { "-".to_owned() } else { shown(text) };
    [
        e.addr.to_string(),
        shown(rule_name(e.rule)),
        time(e.age, "-"),
        time(e.left, "permanent"),
        number((e.hits > 0).then_some(u64::from(e.hits))),
        number(e.packets),
        e.scope.to_string(),
        text(if e.reason.is_empty() { log_line } else { e.reason }),
    ]
}

/// A time for people: its two largest units.
pub(super) fn about(secs: u64) -> String {
    About(secs).to_string()
}

/// The same where it is written.
pub(super) struct About(pub(super) u64);

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.0;
        let parts = [(secs / 86_400, "d"), (secs / 3600 % 24, "h"), (secs / 60 % 60, "m"), (secs % 60, "s")];
        let first = parts.iter().position(|(n, _)| *n > 0).unwrap_or(parts.len() - 1);
        let mut blank = "";
        for (n, unit) in parts.iter().skip(first).take(2).filter(|(n, _)| *n > 0 || secs == 0) {
            write!(f, "{blank}{n}{unit}")?;
            blank = " ";
        }
        Ok(())
    }
}

fn widen(widths: &mut [usize; COLUMNS], row: &[String; COLUMNS]) {
    for (width, cell) in widths.iter_mut().zip(row) {
        *width = columns_of(cell).max(*width);
    }
}

fn line<'a>(
    output: &mut Output<'_>,
    widths: &[usize; COLUMNS],
    row: impl Iterator<Item = &'a str>,
) -> std::io::Result<()> {
    let mut text = columns::TableRow::default();
    widths.iter().zip(row).for_each(|(width, cell)| text.cell(&cell, *width));
    text.line(output.out, columns::width())
}

fn json(e: &BanEntry<'_>, now: u64, log_line: &str) -> String {
    let some = |text| Some(text).filter(|t: &&str| !t.is_empty());
    Object::new()
        .text("address", e.addr.to_string().as_str())
        .text("rule", some(e.rule))
        .number("since", e.age.map(|age| now.saturating_sub(age)))
        .number("left", e.left)
        .number("hits", (e.hits > 0).then_some(u64::from(e.hits)))
        .number("dropped", e.packets)
        .text("ports", e.scope.to_string().as_str())
        .text("reason", some(e.reason))
        .text("line", some(log_line))
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_their_two_largest_units() {
        let cases = [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3598, "59m 58s"),
            (3600, "1h"),
            (3605, "1h"),
            (90_061, "1d 1h"),
            (86_400, "1d"),
            (u64::from(u32::MAX), "49710d 6h"),
        ];
        for (secs, want) in cases {
            assert_eq!(about(secs), want);
        }
    }
}
