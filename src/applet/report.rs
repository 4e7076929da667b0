#![forbid(unsafe_code)]
//! `mef report`: what happened in a time, counted, for people who would rather look than read.

mod html;
mod sections;
mod text;

use super::answer::DaemonAnswer;
use super::args::{STDIN, parse};
use super::columns::{self, Local, offset};
use super::context::{journal_to_read, needed_daemon, settings};
use super::output::{Output, OutputError, failed};
use crate::ban::{SCANS, TOUCHED};
use crate::base::clock::{Span, Wall};
use crate::base::count::count as counted;
use crate::base::line::shown;
use crate::base::range::Range;
use crate::config::{ListKind, Settings, ago};
use crate::control::proto::Request;
use crate::enforce::options;
use crate::firewall::view;
use crate::lists::{self, Paths};
use crate::report::{PastEvent, PastKind, Totals, banlog};
use crate::rulefile::replace;
use crate::state::journal::JournalEvent;
use crate::state::record::JournalRecord;
use crate::sys::clock;
use argh::FromArgs;
use sections::{ReportSection, ReportValue, json, sections};
use std::cell::Cell;
use std::path::Path;

/// Count the bans of the past: by day, hour, rule, network, port and address.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "From the history in the ban journal and, where that does not reach back, from the ban log, \
        rotated and compressed\nones too. With --scope and without --since the whole scope is \
        counted.",
    example = "mef report\n  mef report --since 30d --html /var/www/report.html\n  \
        mef report --scope boot --json"
)]
struct ReportArgs {
    /// only the last 12h, 7d (the default), or today
    #[argh(option, arg_name = "time")]
    since: Option<String>,
    /// boot, daemon (since it was started) or lifetime (everything)
    #[argh(option, arg_name = "scope")]
    scope: Option<String>,
    /// how many ports to show (10)
    #[argh(option, arg_name = "number")]
    top_ports: Option<String>,
    /// how many addresses and networks to show (10)
    #[argh(option, arg_name = "number")]
    top_sources: Option<String>,
    /// one JSON object
    #[argh(switch)]
    json: bool,
    /// write one page that needs nothing else; - is standard output
    #[argh(option, arg_name = "file")]
    html: Option<String>,
    /// read this ban log, and those rotated from it, alone
    #[argh(option, arg_name = "file")]
    log: Option<String>,
    /// path to mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

const TOP: u16 = 10;
/// Rows of a table at most.
const ROWS_MAX: u16 = 1000;
/// Seconds of the default.
const WEEK: u64 = 7 * 86_400;

/// A number by itself: its name in JSON, what it counts and what of it, and the number if it is known.
type Fact = (&'static str, (&'static str, &'static str), Option<u64>);

/// A fact as it is told: the number, and what it is; nothing of what is for programs alone, or did not
/// happen.
fn told((key, (noun, rest), value): &Fact) -> Option<(String, String)> {
    let value = (*value)?;
    let text = counted(value, noun).to_string() + rest;
    let (number, what) = text.split_once(' ')?;
    let is_told = !noun.is_empty() && (value > 0 || *key == "bans");
    is_told.then(|| (number.to_owned(), what.to_owned()))
}

/// What is shown.
struct ReportPage {
    from: Wall,
    to: Wall,
    facts: Vec<Fact>,
    sections: Vec<ReportSection>,
    notes: Vec<String>,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: ReportArgs = parse("report", args)?;
    let [ports, sources] = [&args.top_ports, &args.top_sources].map(|text| most(text.as_deref()));
    let (ports, sources) = (ports?, sources?);
    if args.json && args.html.is_some() {
        return Err(OutputError::Usage("--json and --html exclude each other".into()));
    }
    let settings = settings(args.config.as_deref(), output);
    let now = clock::wall();
    let from = begin(&args, now, &settings)?;
    let mut totals = Totals::new(from, now, TOP.into());
    let mut notes = Vec::new();
    count(&args, &settings, &mut totals, &mut notes)?;
    let mut facts = facts(&mut totals, &mut notes);
    in_force(&settings, &mut facts, output);
    let mut sections = sections(&mut totals, ports, sources, &mut facts);
    if !args.json {
        // Whoever came once does not repeat anything.
        let of_sources = sections.iter_mut().filter(|section| section.key == "sources");
        of_sources
            .for_each(|all| all.rows.retain(|row| !matches!(row.get(1), Some(ReportValue::Number(0 | 1)))));
    }
    let report = ReportPage { from: totals.from, to: now, facts, sections, notes };
    match args.html.as_deref() {
        Some(STDIN) => output.out.write_all(html::page(&report).as_bytes())?,
        Some(path) => {
            replace(path, html::page(&report).as_bytes()).map_err(|e| failed(format!("{path}: {e}")))?;
            output.note(&format_args!("written to {path}"));
        }
        None if args.json => writeln!(output.out, "{}", json(&report))?,
        None => text::show(&report, columns::width(), output.out)?,
    }
    output.end()
}

/// How many rows were asked for.
fn most(text: Option<&str>) -> Result<usize, OutputError> {
    let number = text.map_or(Some(TOP), |text| text.parse::<u16>().ok());
    number
        .filter(|n| (1..=ROWS_MAX).contains(n))
        .map(usize::from)
        .ok_or_else(|| OutputError::Usage(format!("--top-ports and --top-sources: expected 1 to {ROWS_MAX}")))
}

/// When the time begins that is counted.
fn begin(args: &ReportArgs, now: Wall, settings: &Settings) -> Result<Wall, OutputError> {
    let since = args.since.as_deref().map(ago).transpose();
    let since = since.map_err(|bad| OutputError::Usage(format!("--since: {}, {}", bad.what, bad.hint)))?;
    let scope = match args.scope.as_deref() {
        None | Some("lifetime") => 0,
        Some("boot") => now.0.saturating_sub(clock::mono().0 / 1000),
        Some("daemon") => {
            let answer = DaemonAnswer::get(&mut needed_daemon(settings)?, &Request::Status);
            answer.map_err(failed)?.ok_or_else(|| failed("the daemon has stopped"))?.since
        }
        Some(other) => {
            let other = shown(other);
            let text = format!("--scope: unknown scope '{other}', expected boot, daemon or lifetime");
            return Err(OutputError::Usage(text));
        }
    };
    let since = since.map(u64::from).or(args.scope.is_none().then_some(WEEK));
    Ok(Wall(scope.max(since.map_or(0, |secs| now.0.saturating_sub(secs)))))
}

/// Counts what the journal has and, of the time before that, what the ban log has.
fn count(
    args: &ReportArgs,
    settings: &Settings,
    totals: &mut Totals,
    notes: &mut Vec<String>,
) -> Result<(), OutputError> {
    let (from, to) = (totals.from, totals.to);
    // Of bans before this the journal knows nothing.
    let begin = Cell::new(to);
    if args.log.is_none()
        && settings.history_max > 0
        && let Some(mut journal) = journal_to_read(settings)?
    {
        let first = Cell::new(true);
        let wanted = |event: &JournalEvent<'_>| {
            if first.take() {
                begin.set(event.at);
            }
            event.at >= from
        };
        let mut each = |event: &JournalEvent<'_>| {
            if let Some(event) = past(event) {
                totals.add(&event, &offset);
            }
            Ok(())
        };
        journal.events().and_then(|e| e.newest_first(u32::MAX, &wanted, &mut each)).map_err(failed)?;
    }
    if args.log.is_none() && settings.history_max == 0 {
        notes.push("history_max=0 in mef.conf: no history is kept, only the ban log.".to_owned());
    }
    let path = Path::new(args.log.as_deref().unwrap_or(&settings.ban_log_path));
    if !path.exists() && args.log.is_none() {
        if begin.get() > from && begin.get() < to && !settings.ban_log_enabled {
            notes.push(format!("The ban journal has what happened since {}.", Local(begin.get())));
        }
        return Ok(());
    }
    let mut each = |event: &PastEvent<'_>| {
        if event.at < begin.get() {
            totals.add(event, &offset);
        }
    };
    let mut note = |text: &str| notes.push(text.to_owned());
    let read = banlog::read(path, (from, to, offset(to)), &mut each, &mut note);
    read.map_err(|e| failed(format!("{}: {e}", path.to_string_lossy())))
}

/// An event of the journal, unless it only makes a ban longer.
fn past<'a>(event: &JournalEvent<'a>) -> Option<PastEvent<'a>> {
    let at = event.at;
    let of = |kind, addr| PastEvent { at, kind, addr, rule: "", ports: "", line: "" };
    Some(match event.record {
        JournalRecord::Ban(entry) if entry.since < at => return None,
        JournalRecord::Ban(entry) => {
            let time = entry
                .until
                .map_or(Span::Permanent, |until| Span::Secs(until.0.saturating_sub(entry.since.0)));
            let line = if event.line.is_empty() { entry.reason } else { event.line };
            let kind = PastKind::Ban(Some(time));
            // Of a scan the ports that were touched.
            let touched = line.strip_prefix(TOUCHED).and_then(|ports| ports.split(" and ").next());
            let ports = touched.filter(|_| entry.rule == SCANS).unwrap_or(entry.scope);
            PastEvent { rule: entry.rule, ports, line, ..of(kind, Some(Range::from(entry.addr))) }
        }
        JournalRecord::Unban(net) => of(PastKind::Unban, Some(Range::from(net))),
        _ => of(PastKind::Unban, None),
    })
}

fn facts(totals: &mut Totals, notes: &mut Vec<String>) -> Vec<Fact> {
    let (addresses, repeated, is_cut) = totals.addresses();
    if is_cut {
        let text = "There were too many addresses to count all: those that came seldom are left out.";
        notes.push(text.to_owned());
    }
    let scans = totals.rules.by_name().iter().find(|row| &*row.name == SCANS).map_or(0, |row| row.count);
    vec![
        ("bans", ("ban", ""), Some(totals.bans)),
        ("permanent", ("ban", " without an end"), Some(totals.permanent)),
        ("scans", ("ban", " for port scans"), Some(scans)),
        ("addresses", ("address", " banned"), Some(addresses)),
        ("repeated", ("address", " banned more than once"), Some(repeated)),
        ("unbans", ("ban", " ended by hand"), Some(totals.unbans)),
        ("throttled", ("time", " a flood was held back"), Some(totals.throttled)),
    ]
}

/// What is in force now.
fn in_force(settings: &Settings, facts: &mut Vec<Fact>, output: &mut Output<'_>) {
    let mut bans = 0;
    let asked = view(options(settings)).and_then(|mut guard| match guard.state()? {
        Some(_) => {
            guard.list(&mut |_| bans += 1)?;
            guard.dropped()
        }
        None => Ok(None),
    });
    let dropped = asked.unwrap_or_else(|e| {
        output.note(&e);
        None
    });
    facts.extend([
        ("in_force", ("ban", " in force now"), Some(bans)),
        ("dropped", ("packet", " dropped since counting began"), dropped),
    ]);
    let paths = Paths::of(settings);
    let kinds = [
        (ListKind::Allow, "allow_lists", "allow list", "allowed", " in allow lists"),
        (ListKind::Deny, "deny_lists", "deny list", "denied", " in deny lists"),
    ];
    for (kind, key, noun, entries_key, rest) in kinds {
        let dir = paths.dir(kind);
        let names = lists::list_names(dir).ok().flatten().unwrap_or_default();
        let mut entries = 0;
        for name in &names {
            let _ = lists::each_entry(kind, &dir.join(name), &mut |_| entries += 1);
        }
        facts.extend([
            (key, (noun, ""), Some(names.len() as u64)),
            (entries_key, ("entry", rest), Some(entries)),
        ]);
    }
}
