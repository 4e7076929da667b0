//! What happens when inotify fails us.

use super::*;

#[test]
fn without_inotify_files_are_looked_at_by_the_clock() {
    let mut b = TailBench::new("polled");
    b.append("log", "");
    b.start(&["log"]);
    b.tail.as_mut().unwrap().watches = Watches::none();
    let mut now = clock::now();
    let tail = b.tail.as_mut().unwrap();
    tail.rescan = true;
    let mut got = Vec::new();
    let mut drain = |tail: &mut Tail, now: Now| {
        while tail.drain(now, BUDGET, &mut |_, item| got.extend_from_slice(block(item).0)) == Progress::More {
        }
        std::mem::take(&mut got)
    };
    drain(tail, now);
    assert!(tail.fd().is_none());
    for round in 0..5 {
        // Planned two seconds ahead, and nothing is looked at before.
        let due = tail.deadline().unwrap();
        drain(tail, Now { mono: due, ..now });
        let next = tail.deadline().unwrap();
        assert_eq!(next.since(due), 2000);
        let mut log = OpenOptions::new().append(true).open(b.dir.join("log")).unwrap();
        writeln!(log, "{round}").unwrap();
        fs::rename(b.dir.join("log"), b.dir.join(format!("log-{round}"))).unwrap();
        fs::write(b.dir.join("log"), format!("{round} new\n")).unwrap();
        now.mono = Mono(next.0 - 1);
        assert_eq!(drain(tail, now), b"");
        now.mono = next;
        assert_eq!(drain(tail, now), format!("{round}\n{round} new\n").as_bytes());
    }
}

#[test]
fn lost_events_lead_to_a_look_at_everything() {
    let mut b = TailBench::new("overflow");
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    b.append("log", "");
    b.start(&["log", "new-*"]);
    for i in 0..limit / 2 + 10 {
        let name = b.path(&format!("x{}", i % 2));
        File::create(&name).unwrap();
        fs::remove_file(&name).unwrap();
    }
    b.append("log", "1\n");
    b.append("new-1", "2\n");
    b.rename("log", "log.1");
    b.append("log", "3\n");
    let mut got = b.lines();
    got.sort();
    assert_eq!(got, ["1", "2", "3"]);
}

#[test]
fn a_hole_is_jumped_over_whatever_its_length() {
    let mut b = TailBench::new("hole");
    b.append("log", "");
    b.start(&["log"]);
    let log = OpenOptions::new().write(true).open(b.dir.join("log")).unwrap();
    // Read as it stands, this takes hours.
    log.set_len(8 << 40).unwrap();
    assert_eq!(b.lines().len(), 0, "a line that has no end yet");
    b.append("log", "end\nafter\n");
    let got = b.lines();
    assert_eq!(got.len(), 2);
    assert!(got[0].ends_with("end") && got[0].starts_with('\0'));
    assert_eq!(got[1], "after");
}
