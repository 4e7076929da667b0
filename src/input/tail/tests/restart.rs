//! What is read after a restart.

use super::*;

#[test]
fn positions_survive_a_restart() {
    let mut b = Bench::new("restart");
    let text = |n: usize| format!("line number {n} with some text to tell it from others\n");
    let line = |n: usize| text(n).trim_end().to_string();
    b.append("log", text(0));
    b.start(&["log"]);
    b.append("log", text(1));
    b.append("log", "half ");
    b.expect(&[&line(1)]);
    // Nothing happened but more lines.
    b.stop();
    b.append("log", "a line\n");
    b.start(&["log"]);
    assert_eq!(b.got, [(1, "half a line".to_string(), false)]);
    b.got.clear();
    b.append("log", text(2));
    b.drain();
    assert_eq!(b.got, [(1, line(2), true)]);
    b.got.clear();
    // Rotated three times by renaming.
    b.stop();
    b.append("log", text(3));
    for n in 4..7 {
        for k in (1..5).rev() {
            let _ = fs::rename(b.path(&format!("log.{k}")), b.path(&format!("log.{}", k + 1)));
        }
        b.rename("log", "log.1");
        b.append("log", text(n));
    }
    b.start(&["log"]);
    assert!(b.got.iter().all(|(_, _, live)| !live));
    b.expect(&[&line(3), &line(4), &line(5), &line(6)]);
    // Copied and truncated.
    b.stop();
    b.append("log", text(7));
    b.copytruncate("log", "log-20261122");
    b.append("log", text(8));
    b.start(&["log"]);
    b.expect(&[&line(7), &line(8)]);
    // Gone, and a new one there.
    b.stop();
    fs::remove_file(b.path("log")).unwrap();
    b.append("log", text(9));
    b.start(&["log"]);
    b.expect(&[&line(9)]);
    // Not there when we started or stopped.
    b.stop();
    fs::remove_file(b.path("log")).unwrap();
    b.start(&["log"]);
    b.expect(&[]);
    b.stop();
    b.append("log", text(10));
    b.start(&["log"]);
    b.expect(&[&line(10)]);
    // Moved away and not there when we start.
    b.append("log", text(11));
    b.stop();
    b.rename("log", "log.1");
    b.start(&["log"]);
    b.expect(&[&line(11)]);
    b.append("log", text(12));
    b.expect(&[&line(12)]);
}

#[test]
fn dated_files_that_came_while_we_were_away_are_read_whole() {
    let mut b = Bench::new("away");
    b.append("app-1.log", "old\n");
    b.start(&["app-*.log"]);
    b.append("app-1.log", "1\n");
    b.expect(&["1"]);
    b.stop();
    b.append("app-1.log", "2\n");
    b.append("app-2.log", "3\n");
    b.start(&["app-*.log"]);
    assert!(b.got.iter().all(|(_, _, live)| !live));
    let mut got = b.lines();
    got.sort();
    assert_eq!(got, ["2", "3"]);
}

#[test]
fn a_writer_that_knows_of_no_rotation_is_heard_after_a_restart() {
    let mut b = Bench::new("late");
    b.append("log", "one\n");
    b.start(&["log"]);
    b.append("log", "two\n");
    b.expect(&["two"]);
    b.stop();
    b.rename("log", "log.1");
    b.append("log", "three\n");
    b.start(&["log"]);
    b.expect(&["three"]);
    // The file goes on under a name that nobody watches.
    b.append("log.1", "four\n");
    b.expect(&["four"]);
}
