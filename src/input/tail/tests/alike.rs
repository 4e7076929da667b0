//! Files that begin alike: with the same time to the second, or the same words.

use super::*;
use std::ops::Range;

/// Lines of equal length that differ behind their first hundred bytes.
fn line(n: usize) -> String {
    format!("{} {n:06}", "2026-11-28T23:16:00Z host app[7]: ".repeat(3))
}

impl TailBench {
    fn append_lines(&self, name: &str, lines: Range<usize>) {
        self.append(name, lines.map(|n| line(n) + "\n").collect::<String>());
    }

    #[track_caller]
    fn expect_lines(&mut self, lines: Range<usize>) {
        assert_eq!(self.lines(), lines.map(line).collect::<Vec<_>>());
    }

    fn truncate(&self, name: &str) {
        OpenOptions::new().write(true).open(self.path(name)).unwrap().set_len(0).unwrap();
    }

    /// Follows a log whose first lines were read.
    fn with_lines(name: &str, count: usize) -> TailBench {
        let mut b = TailBench::new(name);
        b.append("log", "");
        b.start(&["log"]);
        b.append_lines("log", 0..count);
        b.expect_lines(0..count);
        b
    }
}

/// Each number of lines in the unread file, up to almost as many as were read.
#[test]
fn what_is_rotated_after_a_truncation_is_no_copy() {
    for count in 1..40 {
        let mut b = TailBench::with_lines("alike-rotated", 40);
        b.truncate("log");
        b.append_lines("log", 40..45);
        b.rename("log", "log.1");
        b.append_lines("log", 45..45 + count);
        b.rename("log.1", "log.2");
        b.rename("log", "log.1");
        b.append_lines("log", 45 + count..100);
        b.expect_lines(40..100);
    }
}

/// What was read before is in a copy, or nowhere. Of a single line too little is remembered.
#[test]
fn what_is_copied_away_after_a_truncation_is_read() {
    for count in 2..40 {
        for is_kept in [false, true] {
            let mut b = TailBench::with_lines("alike-copied", 40);
            if is_kept {
                b.copytruncate("log", "log.2");
            } else {
                b.truncate("log");
            }
            b.append_lines("log", 40..40 + count);
            b.copytruncate("log", "log.1");
            b.append_lines("log", 40 + count..100);
            b.expect_lines(40..100);
        }
    }
}

/// The opposite: whatever was read of a file before it was copied, no line of the copy comes again.
#[test]
fn a_copy_of_what_was_read_is_known_though_more_was_read_since() {
    for count in 1..40 {
        for restarts in [false, true] {
            let mut b = TailBench::with_lines("alike-part", count);
            if restarts {
                b.stop();
                b.start(&["log"]);
            }
            fs::copy(b.path("log"), b.path("log.1")).unwrap();
            b.append_lines("log", count..40);
            b.expect_lines(count..40);
            b.truncate("log");
            b.append_lines("log", 40..41);
            b.expect_lines(40..41);
            b.rename("log.1", "log.2");
            b.rename("log", "log.1");
            b.append_lines("log", 41..42);
            b.expect_lines(41..42);
        }
    }
}
