//! What `mef top` shows, as lines for a screen of any size. Asks nobody and writes nothing.

use crate::applet::columns::{Colours, TableRow, cut};
use crate::base::width::width as columns_of;

/// Graphs are made of these, the lowest first.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Columns of a graph at most.
pub(super) const GRAPH: usize = 60;
const BOLD: &str = "\x1b[1m";
const NEAR: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// A table that can be scrolled.
#[derive(Default)]
pub(super) struct Section {
    /// What it is about, in a word.
    pub(super) name: &'static str,
    /// Said where it has no rows.
    pub(super) none: &'static str,
    pub(super) head: [&'static str; 5],
    /// Cells, and whether the row is to be seen first.
    pub(super) rows: Vec<([String; 5], bool)>,
    /// Rows that are above its place.
    pub(super) scrolled: usize,
}

/// A line of numbers over time.
pub(super) struct Graph {
    pub(super) name: &'static str,
    /// The oldest first.
    pub(super) values: Vec<u64>,
    /// What stands behind it.
    pub(super) text: String,
}

/// The whole.
pub(super) struct TopView<'a> {
    pub(super) summary: String,
    pub(super) graphs: &'a [Graph],
    pub(super) sections: &'a mut [Section; 3],
    /// The section that keys are for.
    pub(super) focus: usize,
    /// What its rules are sorted by.
    pub(super) sort: &'static str,
}

impl TopView<'_> {
    /// Lines for a screen; `rows` of none is no screen: everything is shown, and no keys.
    pub(super) fn lines(&mut self, rows: Option<usize>, columns: usize, colours: Colours) -> Vec<String> {
        let mut lines = vec![cut(&self.summary, columns)];
        let graphs = self.graphs.iter().map(|graph| graph.line(columns));
        lines.extend(graphs.map(|line| cut(&line, columns)));
        // Of a low screen the tables get what there is.
        lines.truncate(rows.unwrap_or(usize::MAX).saturating_sub(5).max(1));
        let room = rows.map(|rows| rows.saturating_sub(lines.len() + 1));
        let wants = std::array::from_fn(|at| self.sections.get(at).map_or(0, |s| s.rows.len().max(1) + 2));
        let heights = room.map_or(wants, |room| shares(room, wants));
        for (section, height) in self.sections.iter_mut().zip(heights) {
            section.lines(height, columns, colours, &mut lines);
        }
        if rows.is_some() {
            let last = rows.unwrap_or(0).saturating_sub(1);
            lines.resize(last, String::new());
            lines.push(cut(&self.keys(heights), columns));
        }
        lines
    }

    /// What can be pressed, and where one is.
    fn keys(&self, heights: [usize; 3]) -> String {
        let (Some(section), Some(height)) = (self.sections.get(self.focus), heights.get(self.focus)) else {
            return String::new();
        };
        let all = section.rows.len();
        // One that is not drawn has not been scrolled back to its end.
        let scrolled = section.scrolled.min(all);
        let (first, last) = (scrolled + 1, (scrolled + height.saturating_sub(2)).min(all));
        let place = if all == 0 { String::new() } else { format!(" {first}-{last} of {all}") };
        format!("q quit  Tab {}{place}  ↑↓ scroll  s sort: {}", section.name, self.sort)
    }
}

impl Graph {
    fn line(&self, columns: usize) -> String {
        let name = format!("{:<14}  ", self.name);
        let most = columns.saturating_sub(name.len() + 2 + columns_of(&self.text)).min(GRAPH);
        let values = self.values.get(self.values.len().saturating_sub(most)..).unwrap_or_default();
        // Larger numbers are as good as these.
        let most = |value: &u64| (*value).min(1 << 40);
        let max = values.iter().map(most).max().unwrap_or(0).max(1);
        let bar = |value: &u64| match usize::try_from((most(value) * 7).div_ceil(max)) {
            Ok(level) => BARS.get(level.min(7)).copied().unwrap_or('█'),
            Err(_) => '█',
        };
        [name, values.iter().map(bar).collect(), "  ".to_owned(), self.text.clone()].concat()
    }
}

impl Section {
    fn lines(&mut self, height: usize, columns: usize, colours: Colours, lines: &mut Vec<String>) {
        if height < 2 {
            return;
        }
        let shown = height - 2;
        self.scrolled = self.scrolled.min(self.rows.len().saturating_sub(shown));
        let mut widths = self.head.map(str::len);
        let visible = self.rows.iter().skip(self.scrolled).take(shown);
        for (cells, _) in visible.clone() {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = columns_of(cell).max(*width);
            }
        }
        let paint = |text: String, colour: &str| {
            if colours == Colours::On && !colour.is_empty() { [colour, &text, PLAIN].concat() } else { text }
        };
        lines.push(String::new());
        let head = row(self.head.iter().copied(), &widths);
        lines.push(paint(cut(&head, columns), BOLD));
        for (cells, is_near) in visible {
            let text = row(cells.iter().map(String::as_str), &widths);
            lines.push(paint(cut(&text, columns), if *is_near { NEAR } else { "" }));
        }
        if self.rows.is_empty() && shown > 0 {
            lines.push(cut(self.none, columns));
        }
    }
}

fn row<'a>(cells: impl Iterator<Item = &'a str>, widths: &[usize; 5]) -> String {
    let mut row = TableRow::default();
    for (cell, width) in cells.zip(widths) {
        row.cell(&cell, *width);
    }
    row.text().to_owned()
}

/// Divides so many lines among those who want some: each has a third, and of what one does not need the
/// others have more.
fn shares(room: usize, wants: [usize; 3]) -> [usize; 3] {
    let mut has = [0; 3];
    let mut left = room;
    // Round by round, a line for each that wants one more.
    while left > 0 && has != wants {
        for (has, want) in has.iter_mut().zip(wants) {
            if *has < want && left > 0 {
                *has += 1;
                left -= 1;
            }
        }
    }
    has
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shared_out_to_the_last_one() {
        for (room, wants, want) in [
            (15, [22, 52, 12], [5, 5, 5]),
            (16, [22, 3, 12], [7, 3, 6]),
            (60, [5, 4, 3], [5, 4, 3]),
            (0, [5, 4, 3], [0, 0, 0]),
        ] {
            assert_eq!(shares(room, wants), want, "{room} {wants:?}");
        }
    }

    #[test]
    fn graphs_show_the_newest_and_fit() {
        let graph =
            |values: &[u64]| Graph { name: "bans a minute", values: values.to_vec(), text: "3 now".into() };
        assert_eq!(graph(&[0, 1, 7, 3]).line(80), "bans a minute   ▁▂█▄  3 now");
        assert_eq!(graph(&[0; 3]).line(80), "bans a minute   ▁▁▁  3 now");
        let long: Vec<u64> = (0..500).collect();
        for columns in [1, 20, 40, 60, 80, 200] {
            let line = graph(&long).line(columns);
            assert!(line.chars().count() <= columns.max(23) && !line.contains("▁▁▁▁▁▁"), "{columns} {line}");
        }
        assert!(graph(&[u64::MAX, 0]).line(80).contains("█▁"));
    }

    #[test]
    fn no_screen_is_too_small_and_none_is_overrun() {
        let rows: Vec<_> = (0..40)
            .map(|n| (std::array::from_fn(|cell| format!("{n} {cell} ä漢字\u{301}")), n % 2 == 0))
            .collect();
        for (height, columns) in [(1, 1), (2, 10), (5, 20), (6, 60), (20, 60), (24, 80), (60, 200)] {
            for scrolled in [0, 7, usize::MAX] {
                let section = |name| Section {
                    name,
                    none: "none",
                    head: ["A", "B", "C", "D", "E"],
                    rows: rows.clone(),
                    scrolled,
                };
                let mut sections = [section("a"), section("b"), Section { rows: Vec::new(), ..section("c") }];
                let graphs = [Graph { name: "a", values: vec![1; 99], text: "x".repeat(50) }];
                let mut view = TopView {
                    summary: "y".repeat(300),
                    graphs: &graphs,
                    sections: &mut sections,
                    focus: 1,
                    sort: "hits",
                };
                let lines = view.lines(Some(height), columns, Colours::Off);
                assert_eq!(lines.len(), height, "{height}x{columns}");
                assert!(
                    lines.iter().all(|line| columns_of(line) <= columns),
                    "{height}x{columns} {lines:#?}"
                );
            }
        }
    }
}
