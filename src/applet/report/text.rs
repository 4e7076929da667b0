#![forbid(unsafe_code)]
//! The report for a terminal, or for whatever reads text.

use super::Report;
use super::sections::{Form, Section, Value};
use crate::applet::columns::{self, Local};
use std::io::{self, Write};

/// The width where there is no terminal: for bars, not for texts.
const USUAL: usize = 80;
/// Longest bar.
const BAR_MAX: usize = 60;
/// Bars and columns, the highest last.
const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

pub(super) fn show(report: &Report, width: usize, out: &mut dyn Write) -> io::Result<()> {
    columns::line(out, &format!("From {} to {}", Local(report.from), Local(report.to)), width)?;
    let facts =
        report.facts.iter().filter(|(key, about, value)| !about.is_empty() && (*value > 0 || *key == "bans"));
    for (_, about, value) in facts {
        columns::line(out, &format!("{value:>11} {about}"), width)?;
    }
    for note in &report.notes {
        columns::line(out, note, width)?;
    }
    for section in report.sections.iter().filter(|section| section.is_worth_it()) {
        writeln!(out, "\n{}", section.title)?;
        match section.form {
            Form::Hours => hours(section, out)?,
            Form::Plain => table(section, width, out)?,
            Form::Bars | Form::Days => bars(section, width, out)?,
        }
    }
    Ok(())
}

/// Twenty-four columns of two characters each.
fn hours(section: &Section, out: &mut dyn Write) -> io::Result<()> {
    let most = section.most();
    let mut text = String::from("  ");
    for row in &section.rows {
        let (Some(Value::Number(bans)), steps) = (row.get(1), STEPS.len() as u64) else { continue };
        let step = usize::try_from((bans * steps).div_ceil(most)).unwrap_or(0).checked_sub(1);
        let step = step.and_then(|step| STEPS.get(step)).unwrap_or(&' ');
        text.extend([*step, *step]);
    }
    columns::line(out, &text, usize::MAX)?;
    writeln!(out, "  0           6           12          18          (most {most})")
}

/// Each row with its bar behind it.
fn bars(section: &Section, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let (cells, widths) = section.cells();
    let most = section.most();
    let taken: usize = widths.iter().map(|width| width + 2).sum();
    let room = width.min(if width == usize::MAX { USUAL } else { width });
    let room = room.saturating_sub(taken + 2).min(BAR_MAX) as u64;
    for (row, cells) in section.rows.iter().zip(&cells) {
        let Some(Value::Number(count)) = row.get(1) else { continue };
        // In halves, and something of everything.
        let halves = usize::try_from((count * room * 2 / most).max(u64::from(*count > 0))).unwrap_or(0);
        let bar = "█".repeat(halves / 2) + if halves % 2 == 1 { "▌" } else { "" };
        columns::line(out, &format!("{}  {bar}", line(cells, &widths)), width)?;
    }
    Ok(())
}

fn table(section: &Section, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let (cells, mut widths) = section.cells();
    let heads: Vec<String> = section.columns.iter().map(|name| name.to_uppercase()).collect();
    for (width, head) in widths.iter_mut().zip(&heads) {
        *width = head.len().max(*width);
    }
    for row in std::iter::once(&heads).chain(&cells) {
        columns::line(out, &line(row, &widths), width)?;
    }
    Ok(())
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let mut text = String::new();
    for (at, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let space = " ".repeat(width.saturating_sub(cell.chars().count()));
        // The second column is a number, wherever it is one.
        let (before, after) =
            if at == 1 && !cell.contains(['.', ':']) { (&*space, "") } else { ("", &*space) };
        text += &["  ", before, cell, after].concat();
    }
    text
}
