#![forbid(unsafe_code)]
//! The report for a terminal, or for whatever reads text.

use super::sections::{ChartForm, ReportSection, ReportValue};
use super::{ReportPage, told};
use crate::applet::columns::{self, Local};
use crate::base::width::width as columns_of;
use std::io::{self, Write};

/// The width where there is no terminal: for bars, not for texts.
const USUAL: usize = 80;
/// Longest bar.
const BAR_MAX: usize = 60;
/// Bars and columns, the highest last.
const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

pub(super) fn show(report: &ReportPage, width: usize, out: &mut dyn Write) -> io::Result<()> {
    columns::line(out, &format!("From {} to {}", Local(report.from), Local(report.to)), width)?;
    for (number, what) in report.facts.iter().filter_map(told) {
        columns::line(out, &format!("{number:>11} {what}"), width)?;
    }
    for note in &report.notes {
        columns::line(out, note, width)?;
    }
    for section in report.sections.iter().filter(|section| section.is_worth_it()) {
        writeln!(out, "\n{}", section.title)?;
        match section.form {
            ChartForm::Hours => hours(section, out)?,
            _ => table(section, width, out)?,
        }
    }
    Ok(())
}

/// Twenty-four columns of two characters each.
fn hours(section: &ReportSection, out: &mut dyn Write) -> io::Result<()> {
    let most = section.most();
    let mut text = String::from("  ");
    for row in &section.rows {
        let (Some(ReportValue::Number(bans)), steps) = (row.get(1), STEPS.len() as u64) else { continue };
        let step = usize::try_from((bans * steps).div_ceil(most)).unwrap_or(0).checked_sub(1);
        let step = step.and_then(|step| STEPS.get(step)).unwrap_or(&' ');
        text.extend([*step, *step]);
    }
    columns::line(out, &text, usize::MAX)?;
    writeln!(out, "  0           6           12          18          (most {most})")
}

/// Each row of a table and, of a chart, its bar.
fn table(section: &ReportSection, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let (cells, widths) = section.cells();
    let most = section.most();
    let taken: usize = widths.iter().map(|width| width + 2).sum();
    let room = if width == usize::MAX { USUAL } else { width }.saturating_sub(taken + 2);
    let room = if section.form == ChartForm::Plain { 0 } else { room.min(BAR_MAX) as u64 };
    let values = std::iter::once(None).chain(section.rows.iter().map(|row| row.get(1)));
    for (value, cells) in values.zip(&cells) {
        // In halves, and something of everything.
        let halves = match value {
            Some(ReportValue::Number(count)) if room > 0 => {
                (count * room * 2 / most).max(u64::from(*count > 0))
            }
            _ => 0,
        };
        let mut text = String::new();
        for (at, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let space = " ".repeat(width.saturating_sub(columns_of(cell)));
            let (before, after) = if section.is_number(at) { (&*space, "") } else { ("", &*space) };
            text += &["  ", before, cell, after].concat();
        }
        text += "  ";
        text += &"█".repeat(usize::try_from(halves / 2).unwrap_or(0));
        text += if halves % 2 == 1 { "▌" } else { "" };
        columns::line(out, &text, width)?;
    }
    Ok(())
}
