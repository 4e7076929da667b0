#![forbid(unsafe_code)]
//! `mef top`: who is near to a ban, who was banned, and what the rules do, asked every second.

mod view;

use super::answer::DaemonAnswer;
use super::args::parse;
use super::bans::About;
use super::columns::{self, Colours};
use super::context::{journal_to_read, needed_daemon, settings};
use super::history::{Length, Reason, ban, rule_name};
use super::output::{Output, OutputError, failed};
use crate::base::count::count;
use crate::base::json::Object;
use crate::base::line::shown;
use crate::base::range::Range;
use crate::config::Settings;
use crate::control::proto::{OffenderLine, Request, RuleLine, Sight};
use crate::enforce::options;
use crate::firewall::backend::Lists;
use crate::firewall::view;
use crate::state::journal::{BanJournal, JournalEvent, JournalMark};
use crate::sys::clock;
use crate::sys::stdio;
use crate::sys::terminal::{Key, Screen};
use argh::FromArgs;
use std::cell::Cell;
use view::{GRAPH, Graph, Section, TopView};

/// Milliseconds between two looks.
const PAUSE: u16 = 1000;
/// Newest bans that can be scrolled through.
const NEWEST: usize = 50;
/// To the first place of the screen; from there to its end, and to the end of the line, nothing.
const HOME: &str = "\x1b[H";
const CLEAR: &str = "\x1b[J";
const CLEAR_LINE: &str = "\x1b[K";

/// Watch offenders, bans and rules, live.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "Keys: q ends it, Tab goes to the next table, arrows, PgUp and PgDn (or k and j) scroll it, s \
        sorts the rules.\nThe daemon is asked only while this runs; a screen on which nothing changes is not \
        written again.\nNO_COLOR in the environment: without colours.",
    example = "mef top\n  mef top --once\n  mef top --json"
)]
struct TopArgs {
    /// show it once and end
    #[argh(switch)]
    once: bool,
    /// print offenders, one JSON object per line, and end
    #[argh(switch)]
    json: bool,
    /// path to mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: TopArgs = parse("top", args)?;
    let mut top = Top::open(settings(args.config.as_deref(), output))?;
    let mut answer = top.ask()?;
    if args.json {
        for OffenderLine { addr, rule, hits, maxretry, age } in answer.offenders() {
            let object = Object::new().text("address", addr).text("rule", rule).number("hits", hits);
            writeln!(output.out, "{}", object.number("of", maxretry).number("age", age).finish())?;
        }
        return output.end();
    }
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let live = !args.once && !is_dumb && stdio::is_terminal();
    let Some(mut screen) = live.then(Screen::open).flatten() else {
        top.take(&answer);
        let lines = top.view(&answer).lines(None, columns::width(), Colours::Off);
        return Ok(lines.iter().try_for_each(|line| writeln!(output.out, "{line}"))?);
    };
    let (colours, mut before) = (columns::colours(), Vec::new());
    loop {
        top.take(&answer);
        loop {
            let lines = top.view(&answer).lines(Some(screen.lines()), columns::width(), colours);
            if lines != before {
                show(output, &lines)?;
                before = lines;
            }
            match screen.typed(PAUSE) {
                None => break,
                Some(Key::Quit) => return Ok(()),
                Some(key) => top.press(key, screen.lines()),
            }
        }
        answer = top.ask()?;
    }
}

/// Writes over what was there, in one piece.
fn show(output: &mut Output<'_>, lines: &[String]) -> std::io::Result<()> {
    let mut text = HOME.to_owned();
    for (at, line) in lines.iter().enumerate() {
        text.extend([if at > 0 { "\n" } else { "" }, line, CLEAR_LINE]);
    }
    text.push_str(CLEAR);
    output.out.write_all(text.as_bytes())?;
    output.out.flush()
}

/// What the rules are sorted by, each with its name.
type SortKey = fn(&RuleLine<'_>) -> u64;
const SORTS: [(&str, SortKey); 4] = [
    ("hits", |rule| u64::MAX - rule.hits),
    ("bans", |rule| u64::MAX - rule.bans),
    ("last hit", |rule| rule.hit.unwrap_or(u64::MAX)),
    ("name", |_| 0),
];

/// What is shown, and where it comes from.
struct Top {
    settings: Settings,
    guard: Box<dyn Lists>,
    journal: Option<BanJournal>,
    /// Of the journal when it was read last, and in which minute.
    read: Option<(JournalMark, u64)>,
    /// Bans in each of the last minutes, the oldest first.
    bans: [u64; GRAPH],
    /// When each of the newest was made, and its cells.
    newest: Vec<(u64, [String; 5])>,
    /// Packets dropped in each of the last seconds, and so far.
    drops: Vec<u64>,
    dropped: Option<u64>,
    sections: [Section; 3],
    focus: usize,
    sort: usize,
    graphs: [Graph; 2],
}

impl Top {
    fn open(settings: Settings) -> Result<Top, OutputError> {
        let guard = view(options(&settings)).map_err(failed)?;
        let none = match settings.history_max {
            0 => "history_max=0 in mef.conf: no history is kept",
            _ => "no ban is in the history",
        };
        let section = |name, none, head| Section { name, none, head, ..Section::default() };
        let sections = [
            section("offenders", "nobody is being counted", ["OFFENDER", "RULE", "HITS", "LAST", ""]),
            section("bans", none, ["BANNED", "RULE", "WHEN", "FOR", "WHY"]),
            section("rules", "no rule is on", ["RULE", "HITS", "BANS", "LAST", "READS"]),
        ];
        let graph = |name| Graph { name, values: Vec::new(), text: String::new() };
        let graphs = [graph("bans a minute"), graph("drops a second")];
        let (bans, newest, drops) = ([0; GRAPH], Vec::new(), vec![0; GRAPH]);
        let (journal, read, dropped, focus, sort) = (None, None, None, 0, 0);
        Ok(Top {
            settings,
            guard,
            journal,
            read,
            bans,
            newest,
            drops,
            dropped,
            sections,
            focus,
            sort,
            graphs,
        })
    }

    fn ask(&self) -> Result<DaemonAnswer, OutputError> {
        let mut daemon = needed_daemon(&self.settings)?;
        let answer = DaemonAnswer::get(&mut daemon, &Request::Top);
        let answer = answer.map_err(|e| OutputError::Failed(format!("the daemon does not answer: {e}")))?;
        answer.ok_or_else(|| failed("the daemon has stopped"))
    }

    /// Takes in what there is now.
    fn take(&mut self, answer: &DaemonAnswer) {
        let dropped = self.guard.dropped().ok().flatten();
        if let Some((now, before)) = dropped.zip(self.dropped) {
            self.drops.push(now.saturating_sub(before));
            let old = self.drops.len().saturating_sub(GRAPH);
            self.drops.drain(..old);
        }
        self.dropped = dropped;
        if self.journal.is_none() {
            // What cannot be read is told by `mef history`.
            self.journal = journal_to_read(&self.settings).unwrap_or(None);
        }
        self.read_bans();
        let [offenders, _, _] = &mut self.sections;
        offenders.rows = answer.offenders().map(|offender| row_of(&offender)).collect();
        let [bans, drops] = &mut self.graphs;
        bans.values = self.bans.to_vec();
        let hour: u64 = self.bans.iter().sum();
        let now = answer.fact("bans_a_minute");
        bans.text = match self.settings.history_max {
            0 => format!("{now} now, no history is kept"),
            _ => format!("{now} now, {hour} in the last hour"),
        };
        drops.values.clone_from(&self.drops);
        drops.text = match self.dropped {
            Some(all) => format!("{} now, {all} in all", self.drops.last().unwrap_or(&0)),
            None => "not counted here".to_owned(),
        };
    }

    /// The newest bans, and how many there were in each minute, if there is anything new of them.
    fn read_bans(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        let minute = clock::wall().0 / 60;
        let read = journal.mark().ok().map(|mark| (mark, minute));
        if read.is_some() && read == self.read {
            return;
        }
        self.read = read;
        let (counts, newest) = (Cell::new([0; GRAPH]), &mut self.newest);
        newest.clear();
        let wanted = |event: &JournalEvent<'_>| {
            let is_ban = ban(event).is_some();
            let age = usize::try_from(minute.saturating_sub(event.at.0 / 60)).unwrap_or(usize::MAX);
            if is_ban && age < GRAPH {
                let mut all = counts.get();
                all.iter_mut().rev().skip(age).take(1).for_each(|count| *count += 1);
                counts.set(all);
            }
            is_ban
        };
        let mut each = |event: &JournalEvent<'_>| {
            if newest.len() < NEWEST
                && let Some(entry) = ban(event)
            {
                let why = Reason(entry.reason, event.line).to_string();
                let (addr, rule) = (Range::from(entry.addr).to_string(), shown(rule_name(entry.rule)));
                newest.push((event.at.0, [addr, rule, String::new(), Length(&entry).to_string(), why]));
            }
            Ok(())
        };
        // What cannot be read is told by `mef history`.
        let _ =
            journal.events().and_then(|all| all.newest_first(self.settings.history_max, &wanted, &mut each));
        self.bans = counts.get();
    }

    /// Everything, ready to be laid out.
    fn view(&mut self, answer: &DaemonAnswer) -> TopView<'_> {
        let now = clock::wall().0;
        let (sort, key) = SORTS.get(self.sort).copied().unwrap_or(("name", |_| 0));
        let mut all: Vec<RuleLine<'_>> =
            answer.rules.iter().filter_map(|line| RuleLine::read(line)).collect();
        all.sort_by(|a, b| key(a).cmp(&key(b)).then(a.name.cmp(b.name)));
        let [_, bans, rules] = &mut self.sections;
        bans.rows.clear();
        for (at, cells) in &self.newest {
            let mut cells = cells.clone();
            cells[2] = ago(now.saturating_sub(*at));
            bans.rows.push((cells, false));
        }
        rules.rows.clear();
        for RuleLine { name, hits, bans, hit, .. } in all {
            let sight = answer.sight(name);
            let is_blind = sight.is_some_and(|sight| sight.sight == Sight::Blind);
            let reads = match sight.map(|sight| (sight.sight, sight.text)) {
                Some((Sight::Sees, text)) => shown(text),
                Some((Sight::Waits, _)) => "nothing yet".to_owned(),
                Some((Sight::Blind, why)) => format!("nothing: {}", shown(why)),
                None => String::new(),
            };
            let last = hit.map_or("never".to_owned(), ago);
            rules.rows.push(([name.to_owned(), hits.to_string(), bans.to_string(), last, reads], is_blind));
        }
        let fact = |name| answer.fact(name);
        let summary = format!(
            "{}, {}, {}, {} of {} offenders tracked",
            count(fact("lines"), "line"),
            count(fact("hits"), "hit"),
            count(fact("bans"), "ban"),
            fact("tracked"),
            fact("track_max")
        );
        let Top { graphs, sections, focus, .. } = self;
        TopView { summary, graphs, sections, focus: *focus, sort }
    }

    /// Does what a key is for.
    fn press(&mut self, key: Key, lines: usize) {
        let page = (lines / 4).max(1);
        let (down, rows) = match key {
            Key::Up => (false, 1),
            Key::Down => (true, 1),
            Key::PageUp => (false, page),
            Key::PageDown => (true, page),
            Key::Next => {
                self.focus = (self.focus + 1) % self.sections.len();
                return;
            }
            Key::Sort => {
                self.sort = (self.sort + 1) % SORTS.len();
                return;
            }
            Key::Quit | Key::Other => return,
        };
        if let Some(section) = self.sections.get_mut(self.focus) {
            let at = section.scrolled;
            section.scrolled = if down { at.saturating_add(rows) } else { at.saturating_sub(rows) };
        }
    }
}

/// Somebody who is being counted; the next hit may be the last one.
fn row_of(offender: &OffenderLine<'_>) -> ([String; 5], bool) {
    let OffenderLine { addr, rule, hits, maxretry, age } = *offender;
    let cells = [shown(addr), shown(rule), format!("{hits} of {maxretry}"), ago(age), String::new()];
    (cells, hits + 1 >= maxretry)
}

/// How long something is past, in one unit: what is old changes seldom, and so does the screen.
fn ago(secs: u64) -> String {
    let unit = [86_400, 3600, 60, 1].into_iter().find(|unit| secs >= *unit).unwrap_or(1);
    format!("{} ago", About(secs / unit * unit))
}
