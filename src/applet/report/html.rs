#![forbid(unsafe_code)]
//! The report as one page that needs nothing else: no script, no other file, no network.

use super::sections::{ChartForm, ReportSection, ReportValue};
use super::{ReportPage, told};
use crate::applet::columns::Local;
use std::fmt::Write as _;

/// What stands before the content. Nothing may be fetched or run, whatever a log line may have smuggled in.
const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" 
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>mef report</title>
<style>
:root{color-scheme:light dark;--b:#fff;--f:#1b1f24;--m:#59636e;--l:#d1d9e0;--c:#1a6fb5}
@media(prefers-color-scheme:dark){:root{--b:#0d1117;--f:#e6edf3;--m:#9198a1;--l:#3d444d;--c:#58a6ff}}
body{background:var(--b);color:var(--f);font:15px/1.5 system-ui,sans-serif}
body{max-width:60rem;margin:auto;padding:1rem}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}
p,th,text{color:var(--m);fill:var(--m)}
ul{display:flex;flex-wrap:wrap;gap:.5rem;padding:0}
li{list-style:none;border:1px solid var(--l);border-radius:.5rem;padding:.5rem 1rem}
b{display:block;font-size:1.5rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.2rem .5rem;border-bottom:1px solid var(--l)}
th,td{white-space:nowrap}
th{font-weight:400}div{overflow-x:auto}
.n{text-align:right}.w{white-space:normal;overflow-wrap:anywhere;min-width:9rem}.g{width:45%;min-width:5rem}
@media(max-width:36rem){th,td{white-space:normal;overflow-wrap:anywhere}.g{width:25%;min-width:2rem}}
svg{display:block;width:100%}rect{fill:var(--c)}td svg{height:1.4em}
</style>
</head>
<body>
"#;

/// Size of a chart of columns, in its own units.
const WIDTH: u64 = 720;
const HEIGHT: u64 = 120;
/// Texts of more bytes are broken into lines.
const LONG: usize = 24;

pub(super) fn page(report: &ReportPage) -> String {
    let mut page = String::from(HEAD);
    // Writing into a text cannot fail.
    let _ =
        write!(page, "<h1>mef report</h1>\n<p>{} to {}</p>\n<ul>\n", Local(report.from), Local(report.to));
    for (number, what) in report.facts.iter().filter_map(told) {
        let _ = writeln!(page, "<li><b>{number}</b>{what}</li>");
    }
    page += "</ul>\n";
    for note in &report.notes {
        page += "<p>";
        escape(&mut page, note);
        page += "</p>\n";
    }
    for section in report.sections.iter().filter(|section| section.is_worth_it()) {
        let _ = writeln!(page, "<h2>{}</h2>", section.title);
        match section.form {
            ChartForm::Days | ChartForm::Hours => columns(&mut page, section),
            ChartForm::Bars | ChartForm::Plain => table(&mut page, section),
        }
    }
    page + "</body>\n</html>\n"
}

/// Columns side by side, each with its number above; of many, only some have names below.
fn columns(page: &mut String, section: &ReportSection) {
    let count = section.rows.len().max(1) as u64;
    let (step, most) = (WIDTH / count, section.most());
    let named = count.div_ceil(if section.form == ChartForm::Days { 10 } else { 24 });
    let _ = writeln!(
        page,
        "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" font-size=\"11\" text-anchor=\"middle\">",
        HEIGHT + 40
    );
    for (row, at) in section.rows.iter().zip(0..) {
        let [name, ReportValue::Number(bans)] = row.as_slice() else { continue };
        let (left, middle) = (at * step, at * step + step / 2);
        let height = (bans * HEIGHT).div_ceil(most);
        let (name, top) = (name.shown(), HEIGHT + 20 - height);
        let bar = step.saturating_sub(3).clamp(1, 40);
        let x = left + (step - bar) / 2;
        let _ = write!(page, "<rect x=\"{x}\" y=\"{top}\" width=\"{bar}\" height=\"{height}\">");
        let _ = write!(page, "<title>{name}: {bans}</title></rect>");
        if *bans > 0 && bans.ilog10() < 4 {
            let _ = write!(page, "<text x=\"{middle}\" y=\"{}\">{bans}</text>", top - 5);
        }
        if (count - 1 - at).is_multiple_of(named) {
            let name = name.get(5..).unwrap_or(&name);
            let _ = write!(page, "<text x=\"{middle}\" y=\"{}\">{name}</text>", HEIGHT + 35);
        }
        page.push('\n');
    }
    *page += "</svg>\n";
}

fn table(page: &mut String, section: &ReportSection) {
    let most = section.most();
    *page += "<div><table>\n<tr>";
    for (at, name) in section.columns.iter().enumerate() {
        let _ = write!(page, "<th{}>{name}</th>", if section.is_number(at) { " class=\"n\"" } else { "" });
    }
    let is_chart = section.form == ChartForm::Bars;
    *page += if is_chart { "<th class=\"g\"></th></tr>\n" } else { "</tr>\n" };
    for row in &section.rows {
        *page += "<tr>";
        for value in row {
            *page += match value {
                ReportValue::Number(_) => "<td class=\"n\">",
                ReportValue::Text(text) | ReportValue::List(text) if text.len() > LONG => "<td class=\"w\">",
                _ => "<td>",
            };
            escape(page, &value.shown());
            *page += "</td>";
        }
        if let (true, Some(ReportValue::Number(bans))) = (is_chart, row.get(1)) {
            let width = (bans * 100).div_ceil(most);
            *page += "<td><svg viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\">";
            let _ = write!(page, "<rect y=\"2\" width=\"{width}\" height=\"6\"/></svg></td>");
        }
        *page += "</tr>\n";
    }
    *page += "</table></div>\n";
}

/// A text of somebody else, as nothing but text.
fn escape(page: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '<' => *page += "&lt;",
            '>' => *page += "&gt;",
            '&' => *page += "&amp;",
            '"' => *page += "&quot;",
            '\'' => *page += "&#39;",
            c => page.push(c),
        }
    }
}
