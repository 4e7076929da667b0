#![forbid(unsafe_code)]
//! The parts of a report: tables, some of which are drawn as charts.

use super::{Fact, ROWS_MAX, ReportPage};
use crate::applet::bans::about;
use crate::applet::columns::{Local, offset};
use crate::base::clock::{Span, Wall};
use crate::base::json::Object;
use crate::base::line::shown;
use crate::base::utc;
use crate::base::width::width as columns_of;
use crate::report::{Tallied, Tally, Totals};
use std::borrow::Cow;

const DAY: u64 = 86_400;
/// Days that are shown one by one; of longer times a bar is several.
const BARS: usize = 31;

/// A value in a table.
pub(super) enum ReportValue {
    Number(u64),
    Time(Wall),
    Text(String),
    /// With commas between its parts.
    List(String),
}

/// Parts of a list that people are shown.
const PARTS: usize = 4;

impl ReportValue {
    /// For people; a text of somebody else is made safe.
    pub(super) fn shown(&self) -> String {
        match self {
            ReportValue::Number(number) => number.to_string(),
            ReportValue::Time(at) => {
                let text = Local(*at).to_string();
                text.rsplit_once(':').map_or("-", |(minutes, _)| minutes).to_owned()
            }
            ReportValue::Text(text) | ReportValue::List(text) if text.is_empty() => "-".to_owned(),
            ReportValue::Text(text) => shown(text),
            ReportValue::List(text) => match text.match_indices(',').nth(PARTS - 1) {
                Some((at, _)) => {
                    let (first, rest) = text.split_at_checked(at).unwrap_or((text, ""));
                    format!("{} +{}", shown(first), rest.matches(',').count())
                }
                None => shown(text),
            },
        }
    }
}

/// How a table is drawn; of a chart the second column is a number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ChartForm {
    /// A bar for each row.
    Bars,
    /// Columns side by side, for what follows one another.
    Days,
    Hours,
    /// Without a chart.
    Plain,
}

/// A part of the report.
pub(super) struct ReportSection {
    pub(super) key: &'static str,
    pub(super) title: Cow<'static, str>,
    pub(super) form: ChartForm,
    pub(super) columns: &'static [&'static str],
    pub(super) rows: Vec<Vec<ReportValue>>,
}

impl ReportSection {
    /// Whether there is anything to see.
    pub(super) fn is_worth_it(&self) -> bool {
        self.rows.iter().any(|row| !matches!(row.get(1), Some(ReportValue::Number(0))))
    }

    /// The largest number of its chart, at least 1.
    pub(super) fn most(&self) -> u64 {
        let numbers = self.rows.iter().filter_map(|row| match row.get(1) {
            Some(ReportValue::Number(number)) => Some(*number),
            _ => None,
        });
        numbers.max().unwrap_or(0).max(1)
    }

    /// The names of its columns and its values, for people, and how wide each column is.
    pub(super) fn cells(&self) -> (Vec<Vec<String>>, Vec<usize>) {
        let heads = self.columns.iter().map(|name| name.to_ascii_uppercase()).collect();
        let rows = self.rows.iter().map(|row| row.iter().map(ReportValue::shown).collect());
        let cells: Vec<Vec<String>> = std::iter::once(heads).chain(rows).collect();
        let mut widths = vec![0; self.columns.len()];
        for row in &cells {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = columns_of(cell).max(*width);
            }
        }
        (cells, widths)
    }

    /// Whether a column has numbers.
    pub(super) fn is_number(&self, column: usize) -> bool {
        self.rows.first().is_some_and(|row| matches!(row.get(column), Some(ReportValue::Number(_))))
    }
}

/// The tables, those that are empty too.
pub(super) fn sections(
    totals: &mut Totals,
    ports: usize,
    sources: usize,
    facts: &mut Vec<Fact>,
) -> Vec<ReportSection> {
    let (bar_days, days) = days(totals);
    facts.push(("bar_days", ("", ""), Some(bar_days)));
    let hours = totals.hours.iter().zip(0..);
    let hours = hours
        .map(|(bans, hour): (_, u64)| vec![ReportValue::Number(hour), ReportValue::Number(*bans)])
        .collect();
    let all = totals.bans.max(1);
    let top = |tally: &mut Tally, most, more: &dyn Fn(&Tallied) -> ReportValue| {
        let rows = tally.by_count().iter().take(most);
        rows.map(|row| {
            vec![ReportValue::Text(row.name.to_string()), ReportValue::Number(row.count), more(row)]
        })
        .collect()
    };
    let rules = top(&mut totals.rules, ROWS_MAX.into(), &|row| {
        ReportValue::Text(format!("{}%", row.count * 100 / all))
    });
    let port_rows = top(&mut totals.ports, ports, &|row| ReportValue::Text(service(&row.name).to_owned()));
    let networks = top(&mut totals.networks(), sources, &|row| ReportValue::Number(row.parts));
    let mut rows = Vec::new();
    totals.sources(sources, &mut |source| {
        let addr = ReportValue::Text(source.addr.to_owned());
        let (bans, last) = (ReportValue::Number(source.bans), ReportValue::Time(source.last));
        rows.push(vec![addr, bans, last, ReportValue::List(source.rules), ReportValue::List(source.ports)]);
    });
    let newest = newest(totals);
    let section = |key, title, form, columns, rows| {
        let title = Cow::Borrowed(title);
        ReportSection { key, title, form, columns, rows }
    };
    let mut days = section("days", "By day", ChartForm::Days, &["day", "bans"], days);
    if bar_days > 1 {
        days.title = format!("By {bar_days} days").into();
    }
    vec![
        days,
        section("hours", "By hour of the day", ChartForm::Hours, &["hour", "bans"], hours),
        section("rules", "By rule", ChartForm::Bars, &["rule", "bans", "share"], rules),
        section("networks", "By network", ChartForm::Bars, &["network", "bans", "addresses"], networks),
        section("ports", "By port", ChartForm::Bars, &["port", "bans", "service"], port_rows),
        section(
            "sources",
            "Repeat offenders",
            ChartForm::Plain,
            &["address", "bans", "last", "rules", "ports"],
            rows,
        ),
        section(
            "newest",
            "Last bans",
            ChartForm::Plain,
            &["time", "address", "rule", "for", "ports", "line"],
            newest,
        ),
    ]
}

/// The last bans.
fn newest(totals: &mut Totals) -> Vec<Vec<ReportValue>> {
    let rows = totals.newest.drain(..).map(|ban| {
        let time = match ban.time {
            Some(Span::Secs(secs)) => about(secs),
            Some(Span::Permanent) => "permanent".to_owned(),
            None => String::new(),
        };
        let texts = [ban.addr, ban.rule, time, ban.ports, ban.line].map(ReportValue::Text);
        std::iter::once(ReportValue::Time(ban.at)).chain(texts).collect()
    });
    rows.collect()
}

/// The bars of the days, the oldest first, and how many days each is.
fn days(totals: &mut Totals) -> (u64, Vec<Vec<ReportValue>>) {
    let today = |at: Wall| at.0.saturating_add_signed(offset(at).into()) / DAY;
    let last = today(totals.to);
    let asked = usize::try_from(last.saturating_sub(today(totals.from))).unwrap_or(usize::MAX);
    let found = totals.days.iter().rposition(|bans| *bans > 0).unwrap_or(0);
    // Of a whole lifetime what there was.
    let count = if totals.from == Wall(0) { found } else { asked.min(totals.days.len() - 1) } + 1;
    let width = count.div_ceil(BARS);
    let bins = totals.days.get(..count).unwrap_or_default().chunks(width).enumerate();
    let mut rows: Vec<Vec<ReportValue>> = bins
        .map(|(at, bans)| {
            let first = last.saturating_sub((at * width + bans.len() - 1) as u64);
            let (year, month, day) = utc::date(first);
            let day = ReportValue::Text(format!("{year:04}-{month:02}-{day:02}"));
            vec![day, ReportValue::Number(bans.iter().sum())]
        })
        .collect();
    rows.reverse();
    (width as u64, rows)
}

/// What listens on a port most often.
fn service(port: &str) -> &'static str {
    const KNOWN: [(&str, &str); 24] = [
        ("21", "ftp"),
        ("22", "ssh"),
        ("23", "telnet"),
        ("25", "smtp"),
        ("53", "dns"),
        ("80", "http"),
        ("110", "pop3"),
        ("143", "imap"),
        ("443", "https"),
        ("445", "smb"),
        ("465", "smtps"),
        ("587", "submission"),
        ("993", "imaps"),
        ("995", "pop3s"),
        ("1433", "mssql"),
        ("1723", "pptp"),
        ("3306", "mysql"),
        ("3389", "rdp"),
        ("5060", "sip"),
        ("5432", "postgresql"),
        ("5900", "vnc"),
        ("6379", "redis"),
        ("8080", "http-alt"),
        ("8443", "https-alt"),
    ];
    let port = port.split('/').next().unwrap_or_default();
    KNOWN.iter().find(|(number, _)| *number == port).map_or("", |(_, name)| name)
}

pub(super) fn json(report: &ReportPage) -> String {
    let mut object = Object::new().number("from", report.from.0).number("to", report.to.0);
    for (key, _, value) in &report.facts {
        object = object.number(key, *value);
    }
    for section in &report.sections {
        let rows = section.rows.iter().map(|row| {
            let pairs = section.columns.iter().zip(row);
            let object = pairs.fold(Object::new(), |object, (key, value)| match value {
                ReportValue::Number(number) => object.number(key, *number),
                ReportValue::Time(at) => object.number(key, at.0),
                ReportValue::Text(text) | ReportValue::List(text) => {
                    object.text(key, Some(&**text).filter(|text| !text.is_empty()))
                }
            });
            object.finish()
        });
        let rows = rows.collect::<Vec<_>>().join(",");
        object = object.json(section.key, &["[", &rows, "]"].concat());
    }
    object.finish()
}
