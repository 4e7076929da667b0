//! What is read after a restart.

use super::*;
use crate::base::clock::{LineTime, Wall};
use crate::base::position::{CAUGHT_UP, FOLLOWED, HANDED_OVER, NANOS, WRITTEN};
use std::time::{Duration, SystemTime};

#[test]
fn positions_survive_a_restart() {
    let mut b = TailBench::new("restart");
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
    assert_eq!(b.got, [(1, "half a line".to_string(), LineTime::Stamped)]);
    b.got.clear();
    b.append("log", text(2));
    b.drain();
    assert_eq!(b.got, [(1, line(2), LineTime::Now)]);
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
    assert!(b.got.iter().all(|(_, _, time)| *time == LineTime::Stamped));
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
    let mut b = TailBench::new("away");
    b.append("app-1.log", "old\n");
    b.start(&["app-*.log"]);
    b.append("app-1.log", "1\n");
    b.expect(&["1"]);
    b.stop();
    b.append("app-1.log", "2\n");
    b.append("app-2.log", "3\n");
    b.start(&["app-*.log"]);
    assert!(b.got.iter().all(|(_, _, time)| *time == LineTime::Stamped));
    let mut got = b.lines();
    got.sort();
    assert_eq!(got, ["2", "3"]);
}

#[test]
fn a_writer_that_knows_of_no_rotation_is_heard_after_a_restart() {
    let mut b = TailBench::new("late");
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

/// What was written down when the daemon stopped, `ago` from now.
fn written(b: &mut TailBench, ago: Duration) {
    let then = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() - ago;
    let tail = u64::try_from(then.as_nanos()).unwrap();
    b.saved.push((PathBuf::from(WRITTEN), Position { tail, ..Position::default() }));
}

/// As if nobody had written to the file for an hour.
fn age(b: &TailBench, name: &str) {
    let then = SystemTime::now() - Duration::from_secs(3600);
    OpenOptions::new().append(true).open(b.path(name)).unwrap().set_modified(then).unwrap();
}

/// A log of which a line was read before its place was written down a minute ago, with an older generation.
fn read_a_minute_ago(name: &str) -> TailBench {
    let mut b = TailBench::new(name);
    b.append("log.1", "long before\n");
    age(&b, "log.1");
    b.append("log", "before\n");
    b.start(&["log"]);
    b.append("log", "1\n");
    b.expect(&["1"]);
    b.stop();
    written(&mut b, Duration::from_secs(60));
    b
}

#[test]
fn what_came_after_a_file_that_is_gone_is_read() {
    for (round, kept) in [1, 2, 3].into_iter().enumerate() {
        let mut b = read_a_minute_ago(&format!("gone-{round}"));
        let rotate = |b: &TailBench| {
            let _ = fs::remove_file(b.path(&format!("log.{kept}")));
            for n in (1..kept).rev() {
                let _ = fs::rename(b.path(&format!("log.{n}")), b.path(&format!("log.{}", n + 1)));
            }
            b.rename("log", "log.1");
        };
        // Killed a minute later: what it has read meanwhile is counted by nobody any more.
        for n in 2..2 + kept {
            b.append("log", format!("{n}\n"));
            rotate(&b);
        }
        // As many as are kept, and the last one.
        b.append("log", "last\n");
        rotate(&b);
        b.append("log", "now\n");
        b.start(&["log"]);
        let mut want: Vec<String> = (3..2 + kept).map(|n| n.to_string()).collect();
        want.extend(["last".to_owned(), "now".to_owned()]);
        assert_eq!(b.lines(), want, "{kept}");
        // Once.
        b.stop();
        written(&mut b, Duration::ZERO);
        b.append("log", "later\n");
        b.start(&["log"]);
        assert_eq!(b.lines(), ["later"], "{kept}");
    }
}

#[test]
fn what_is_older_than_what_was_written_down_is_not_read_again() {
    let mut b = read_a_minute_ago("gone-old");
    fs::remove_file(b.path("log")).unwrap();
    b.append("log", "2\n");
    b.start(&["log"]);
    assert_eq!(b.lines(), ["2"]);
}

#[test]
fn where_it_begins_is_known_before_anything_is_read() {
    for opens in [false, true] {
        let mut b = TailBench::new("ends");
        b.append("log", "before\n");
        let glob = Glob::parse(b.path("log").as_os_str().as_bytes()).unwrap();
        let mut tail = Tail::open(vec![(glob, Tags(1))], RECENT, &[], clock::now());
        if opens {
            tail.open_ends();
        }
        b.tail = Some(tail);
        b.stop();
        b.append("log", "since\n");
        b.start(&["log"]);
        // Whoever does not know begins at the end.
        b.expect(if opens { &["since"] } else { &[] });
    }
}

#[test]
fn what_was_made_when_all_was_followed_already_is_new() {
    for (followed, want) in [(false, &[][..]), (true, &["one"])] {
        let mut b = TailBench::new(&format!("followed-{followed}"));
        b.append("w0.log", "zero\n");
        std::thread::sleep(Duration::from_millis(50));
        written(&mut b, Duration::from_millis(20));
        if followed {
            let (_, then) = b.saved.clone().remove(0);
            b.saved.push((PathBuf::from(FOLLOWED), then));
        }
        b.append("w1.log", "one\n");
        b.start(&["w*.log"]);
        b.expect(want);
        b.append("w0.log", "two\n");
        b.expect(&["two"]);
    }
}

#[test]
fn what_is_behind_saved_positions_is_as_new_as_they_say() {
    let since = LineTime::Since(Wall(7));
    let rows =
        [(&[][..], LineTime::Stamped), (&[CAUGHT_UP], since), (&[CAUGHT_UP, HANDED_OVER], LineTime::Now)];
    for (names, want) in rows {
        let mut b = TailBench::new(&format!("behind-{}", names.len()));
        for log in ["log", "w0.log", "rotated", "emptied", "rewritten"] {
            b.append(log, "one\n");
        }
        b.start(&["log", "w*.log", "rotated", "emptied", "rewritten"]);
        b.stop();
        let moment = |tail| Position { tail, ..Position::default() };
        b.saved.extend(names.iter().map(|name| (PathBuf::from(name), moment(7 * NANOS))));
        b.append("log", "two\n");
        b.append("w0.log", "two\n");
        b.append("w1.log", "one\n");
        fs::rename(b.path("rotated"), b.path("rotated.1")).unwrap();
        b.append("rotated", "two\n");
        fs::write(b.path("emptied"), "2\n").unwrap();
        fs::write(b.path("rewritten"), "eins\nzwei\n").unwrap();
        b.start(&["log", "w*.log", "rotated", "emptied", "rewritten"]);
        let mut got: Vec<_> = b.got.drain(..).collect();
        got.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let line = |tag, line: &str| (tag, line.to_owned(), want);
        let old = |line: &str| (16, line.to_owned(), LineTime::Stamped);
        let all = [line(1, "two"), line(2, "one"), line(2, "two"), line(4, "two"), line(8, "2")];
        assert_eq!(got, [&all[..], &[old("eins"), old("zwei")]].concat(), "{want:?}");
        b.append("log", "three\n");
        b.drain();
        assert_eq!(b.got, [(1, "three".to_owned(), LineTime::Now)]);
    }
}
