//! Files that are renamed, copied away and cut.

use super::*;

#[test]
fn rename_and_create() {
    let mut b = TailBench::new("rename");
    b.append("log", "");
    b.start(&["log"]);
    let mut writer = OpenOptions::new().append(true).open(b.path("log")).unwrap();
    b.append("log", "1\n");
    b.rename("log", "log.1");
    b.append("log.1", "2\n");
    b.expect(&["1", "2"]);
    writer.write_all(b"3\n").unwrap();
    b.append("log", "4\n");
    b.expect(&["3", "4"]);
    // A writer that was not told yet still has the old file.
    writer.write_all(b"late\n").unwrap();
    b.append("log", "5\n");
    let mut both = b.lines();
    both.sort();
    assert_eq!(both, ["5", "late"]);
}

#[test]
fn copies_of_what_nobody_has_read() {
    // Beside logrotate, which moves the older copies out of the way, there are those who write into their
    // place.
    for (name, moves) in [("fresh", true), ("over", false)] {
        let mut b = TailBench::new(&format!("unread-{name}"));
        b.append("log", "");
        b.start(&["log"]);
        let mut want = Vec::new();
        for round in 0..8 {
            let lines = if round % 3 == 2 { 1..40 } else { 1..4 };
            for line in lines.clone() {
                b.append("log", format!("{round}, before {line}\n"));
                want.push(format!("{round}, before {line}"));
            }
            if round % 4 == 1 {
                assert_eq!(b.lines(), want, "{name}");
                want.clear();
            }
            for n in (1..9).rev().filter(|_| moves) {
                let _ = fs::rename(b.path(&format!("log.{n}")), b.path(&format!("log.{}", n + 1)));
            }
            // The clock of the file system has a grain.
            std::thread::sleep(std::time::Duration::from_millis(20));
            b.copytruncate("log", "log.1");
            for line in lines.filter(|_| round % 2 == 0) {
                b.append("log", format!("{round}, behind {line}\n"));
                want.push(format!("{round}, behind {line}"));
            }
            if round % 4 == 3 && moves {
                continue; // two at once
            }
            assert_eq!(b.lines(), want, "{name}, round {round}");
            want.clear();
            if round % 4 == 0 {
                OpenOptions::new().write(true).open(b.path("log")).unwrap().set_len(0).unwrap();
                b.expect(&[]);
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(b.lines(), want, "{name}");
    }
}

#[test]
fn copies_of_what_was_read_are_not_read_again() {
    let mut b = TailBench::new("read");
    b.append("log", "");
    b.start(&["log"]);
    for round in 0..4 {
        b.append("log", "same\nsame\n");
        fs::copy(b.path("log"), b.path("log.1")).unwrap();
        b.expect(&["same", "same"]);
        OpenOptions::new().write(true).open(b.path("log")).unwrap().set_len(0).unwrap();
        b.expect(&[]);
        b.append("log", format!("{round}\n"));
        b.expect(&[&round.to_string()]);
        // The copy is there before its original was read, which happens in the same look.
        b.append("log", "more\n");
        b.copytruncate("log", "log.2");
        b.expect(&["more"]);
        b.append("log", "first\n");
        fs::copy(b.path("log"), b.path("log.3")).unwrap();
        b.append("log", "second\n");
        b.expect(&["first", "second"]);
        b.stop();
        b.start(&["log"]);
        b.expect(&[]);
    }
    // Renamed files of which a writer has not let go are no copies.
    let mut writer = OpenOptions::new().append(true).open(b.path("log")).unwrap();
    b.rename("log", "log.1");
    b.append("log", "");
    b.expect(&[]);
    writer.write_all(b"late\n").unwrap();
    b.expect(&["late"]);
    b.stop();
    b.start(&["log"]);
    b.append("log", "new\n");
    b.expect(&["new"]);
}

#[test]
fn what_was_copied_away_from_an_empty_file_while_we_were_away_is_read() {
    let mut b = TailBench::new("away");
    b.append("log", "");
    b.start(&["log"]);
    b.stop();
    std::thread::sleep(std::time::Duration::from_millis(20));
    b.append("log", "1\n2\n");
    b.copytruncate("log", "log.1");
    b.append("log", "3\n");
    b.start(&["log"]);
    b.expect(&["1", "2", "3"]);
}

#[test]
fn many_rotations_between_two_looks() {
    let mut b = TailBench::new("many");
    b.append("log", "");
    b.start(&["log"]);
    let mut want = Vec::new();
    for round in 0..6 {
        for line in 0..3 {
            b.append("log", format!("{round}.{line}\n"));
            want.push(format!("{round}.{line}"));
        }
        for n in (1..9).rev() {
            let _ = fs::rename(b.path(&format!("log.{n}")), b.path(&format!("log.{}", n + 1)));
        }
        b.rename("log", "log.1");
    }
    b.append("log", "last\n");
    want.push("last".into());
    assert_eq!(b.lines(), want);
}

#[test]
fn copytruncate_and_truncation() {
    let mut b = TailBench::new("copytruncate");
    b.append("log", "before\n");
    b.start(&["log"]);
    b.append("log", "1 with some text\n");
    b.expect(&["1 with some text"]);
    b.append("log", "2 written just before the copy\n");
    b.copytruncate("log", "log.1");
    b.append("log", "3\n");
    b.expect(&["2 written just before the copy", "3"]);
    // Truncated, and longer again than it was before anybody looks.
    b.copytruncate("log", "log.2");
    b.append("log", "4 much longer than what was there before\n");
    b.expect(&["4 much longer than what was there before"]);
    File::create(b.path("log")).unwrap();
    b.append("log", "5\n");
    b.expect(&["5"]);
    File::create(b.path("log")).unwrap();
    b.expect(&[]);
    b.append("log", "6\n");
    b.expect(&["6"]);
}
