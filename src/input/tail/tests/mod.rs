//! Real files, real inotify. A test acts, drains and compares: events are queued before the system call that
//! causes them returns, so nothing has to be waited for unless another thread writes.

mod alike;
mod many;
mod model;
mod restart;
mod rotations;
mod stress;
mod trouble;

use super::*;
use crate::base::clock::LineTime;
use crate::base::rule_bits::RuleBits;
use crate::input::lines::{HALF, MAX_LINE};
use crate::sys::{clock, poll};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

const RECENT: Recent = Recent { limit: 5, window: 3600 };
const BUDGET: usize = 1 << 20;

struct TailBench {
    dir: PathBuf,
    tail: Option<Tail>,
    got: Vec<(RuleBits, String, LineTime)>,
    saved: Vec<(PathBuf, Position)>,
}

impl Drop for TailBench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl TailBench {
    /// An empty directory of its own.
    fn new(name: &str) -> TailBench {
        let dir = std::env::temp_dir().join(format!("mef-tail-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let dir = dir.canonicalize().unwrap();
        TailBench { dir, tail: None, got: Vec::new(), saved: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.path(name)).unwrap();
        file.write_all(text.as_ref()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn copytruncate(&self, from: &str, to: &str) {
        fs::copy(self.path(from), self.path(to)).unwrap();
        OpenOptions::new().write(true).open(self.path(from)).unwrap().set_len(0).unwrap();
    }

    /// Starts with the positions of the last [`TailBench::stop`]; pattern `i` has tag `1 << i`.
    fn start(&mut self, patterns: &[&str]) {
        self.start_with(patterns, RECENT);
    }

    fn start_with(&mut self, patterns: &[&str], recent: Recent) {
        let parse = |p: &&str| Glob::parse(self.dir.join(p).as_os_str().as_bytes()).unwrap();
        let globs = patterns.iter().enumerate().map(|(i, p)| (parse(p), Tags(1 << i))).collect();
        self.tail = Some(Tail::open(globs, recent, &self.saved, clock::now()));
        self.drain();
    }

    fn stop(&mut self) {
        let Some(tail) = self.tail.take() else { return };
        self.saved.clear();
        tail.positions(&mut |path, at| self.saved.push((path.to_path_buf(), at)));
    }

    fn drain(&mut self) {
        self.drain_by(BUDGET);
    }

    fn drain_by(&mut self, budget: usize) {
        let tail = self.tail.as_mut().unwrap();
        for _ in 0..100_000 {
            let got = &mut self.got;
            let progress = tail.drain(clock::now(), budget, &mut |tags, item| {
                let (lines, time) = block(item);
                assert_eq!(lines.last(), Some(&b'\n'));
                for line in lines[..lines.len() - 1].split(|&b| b == b'\n') {
                    got.push((tags.0, String::from_utf8_lossy(line).into_owned(), time));
                }
            });
            if progress == Progress::Idle {
                assert!(
                    tail.deadline().is_none() || tail.watches.deadline().is_some(),
                    "idle but not asleep"
                );
                return;
            }
        }
        panic!("never idle");
    }

    /// Drains and takes the lines that came.
    fn lines(&mut self) -> Vec<String> {
        self.drain();
        self.got.drain(..).map(|(_, line, _)| line).collect()
    }

    #[track_caller]
    fn expect(&mut self, want: &[&str]) {
        assert_eq!(self.lines(), want);
    }

    /// Sleeps until something happens, then drains. The limit is for the end of the other thread, which is no
    /// event.
    fn wait(&mut self) {
        let tail = self.tail.as_ref().unwrap();
        let mut ready = [poll::Ready::No];
        poll::wait(&[tail.fd()], &mut ready, Some(clock::mono().after(100))).unwrap();
        self.drain();
    }
}

/// The lines that a file has given, and when they were written.
fn block(item: Item<'_>) -> (&[u8], LineTime) {
    match item {
        Item::Block { lines, time, .. } => (lines, time),
        Item::Record(_) => panic!("files have no records"),
    }
}

#[test]
fn a_file_is_followed_from_its_end() {
    let mut b = TailBench::new("end");
    b.append("log", "old 1\nold 2\nhalf");
    b.start(&["log"]);
    b.expect(&[]);
    b.append("log", " of it\nnew\n");
    b.expect(&["half of it", "new"]);
    assert!(b.tail.as_ref().unwrap().deadline().is_none());
    b.append("log", "no newline yet");
    b.expect(&[]);
    b.append("log", ", now\r\nnul \0 byte\n");
    b.expect(&["no newline yet, now\r", "nul \0 byte"]);
}

#[test]
fn truncation_under_a_writer_with_an_offset_of_its_own() {
    let mut b = TailBench::new("hole");
    let mut writer = File::create(b.path("log")).unwrap();
    writer.write_all(&[b"x".repeat(99), b"\n".to_vec()].concat().repeat(1000)).unwrap();
    b.start(&["log"]);
    writer.write_all(b"1\n").unwrap();
    b.expect(&["1"]);
    OpenOptions::new().write(true).open(b.path("log")).unwrap().set_len(0).unwrap();
    writer.write_all(b"2\n").unwrap();
    b.expect(&["2"]);
}

#[test]
fn a_rewritten_file_is_read_again_but_not_as_news() {
    let mut b = TailBench::new("rewritten");
    b.append("log", "1\n");
    b.start(&["log"]);
    b.append("log", "2\n");
    b.expect(&["2"]);
    fs::write(b.path("log"), "2\n3\n4\n").unwrap();
    b.drain();
    assert!(b.got.iter().all(|(_, _, time)| *time == LineTime::Stamped));
    b.expect(&["2", "3", "4"]);
    b.append("log", "5\n");
    b.drain();
    assert_eq!(b.got, [(1, "5".to_string(), LineTime::Now)]);
}

#[test]
fn deletion_and_late_creation() {
    let mut b = TailBench::new("late");
    b.start(&["a/b/log"]);
    b.expect(&[]);
    fs::create_dir_all(b.path("a/b")).unwrap();
    b.append("a/b/log", "1\n");
    b.expect(&["1"]);
    fs::remove_file(b.path("a/b/log")).unwrap();
    b.expect(&[]);
    b.append("a/b/log", "2\n");
    b.expect(&["2"]);
    fs::remove_dir_all(b.path("a")).unwrap();
    b.expect(&[]);
    fs::create_dir(b.path("a")).unwrap();
    b.expect(&[]);
    fs::create_dir(b.path("a/b")).unwrap();
    b.append("a/b/log", "3\n");
    b.expect(&["3"]);
    b.rename("a/b", "a/c");
    fs::create_dir(b.path("a/b")).unwrap();
    b.append("a/b/log", "4\n");
    b.expect(&["4"]);
}

#[test]
fn a_deleted_file_is_closed_when_another_comes() {
    let mut b = TailBench::new("close");
    b.append("log", "");
    b.start(&["log"]);
    for round in 0..20 {
        b.append("log", format!("{round}\n"));
        fs::remove_file(b.path("log")).unwrap();
        b.append("log", format!("new {round}\n"));
        b.expect(&[&format!("{round}"), &format!("new {round}")]);
        assert!(b.tail.as_ref().unwrap().open_files() <= 2);
    }
    b.rename("log", "log.1");
    b.append("log", "");
    b.expect(&[]);
    fs::remove_file(b.path("log.1")).unwrap();
    b.expect(&[]);
    assert_eq!(b.tail.as_ref().unwrap().open_files(), 1);
}

#[test]
fn a_file_replaced_by_a_link_and_back() {
    let mut b = TailBench::new("link");
    fs::create_dir(b.path("elsewhere")).unwrap();
    b.append("log", "");
    b.start(&["log"]);
    b.append("log", "1\n");
    b.append("elsewhere/x", "2\n");
    fs::remove_file(b.path("log")).unwrap();
    symlink("elsewhere/x", b.path("log")).unwrap();
    b.expect(&["1", "2"]);
    b.append("elsewhere/x", "3\n");
    b.rename("elsewhere/x", "elsewhere/x.1");
    b.append("elsewhere/x", "4\n");
    b.expect(&["3", "4"]);
    // A link that leads nowhere yet.
    fs::remove_file(b.path("log")).unwrap();
    symlink("elsewhere/y", b.path("log")).unwrap();
    b.expect(&[]);
    b.append("elsewhere/y", "5\n");
    b.expect(&["5"]);
    fs::remove_file(b.path("log")).unwrap();
    b.append("log", "6\n");
    b.expect(&["6"]);
}

#[test]
fn moved_to_another_place_and_linked_there() {
    let mut b = TailBench::new("moved");
    fs::create_dir(b.path("data")).unwrap();
    b.append("log", "a line that was there before\n");
    b.start(&["log"]);
    b.append("log", "1 which is long enough to tell\n");
    b.expect(&["1 which is long enough to tell"]);
    fs::copy(b.path("log"), b.path("data/log")).unwrap();
    fs::remove_file(b.path("log")).unwrap();
    symlink("data/log", b.path("log")).unwrap();
    b.append("data/log", "2\n");
    b.expect(&["2"]);
}

#[test]
fn what_cannot_be_followed_does_not_disturb_the_rest() {
    let mut b = TailBench::new("refused");
    fs::create_dir(b.path("directory")).unwrap();
    nix::unistd::mkfifo(&b.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    symlink("/dev/null", b.path("device")).unwrap();
    symlink("loop", b.path("loop")).unwrap();
    b.append("log", "");
    b.start(&["directory", "fifo", "device", "loop", "log", "*"]);
    b.append("log", "1\n");
    b.expect(&["1"]);
    assert_eq!(b.tail.as_ref().unwrap().open_files(), 1);
    fs::remove_file(b.path("fifo")).unwrap();
    b.append("fifo", "now a file\n");
    b.expect(&["now a file"]);
}

#[test]
fn an_unreadable_file_is_tried_again_when_its_rights_change() {
    let mut b = TailBench::new("rights");
    b.append("log", "");
    b.start(&["log"]);
    if nix::unistd::geteuid().is_root() {
        return; // root may read everything; the run as another user shows it
    }
    fs::remove_file(b.path("log")).unwrap();
    b.append("log", "1\n");
    fs::set_permissions(b.path("log"), fs::Permissions::from_mode(0o000)).unwrap();
    b.expect(&[]);
    fs::set_permissions(b.path("log"), fs::Permissions::from_mode(0o600)).unwrap();
    b.expect(&["1"]);
}

#[test]
fn wildcards_are_live() {
    let mut b = TailBench::new("glob");
    fs::create_dir_all(b.path("u1/logs")).unwrap();
    b.append("u1/logs/a.log", "old\n");
    b.append("u1/logs/a.log.gz", "packed\n");
    b.start(&["*/logs/*.log*", "u1/logs/a.log"]);
    b.expect(&[]);
    b.append("u1/logs/a.log", "1\n");
    b.append("u1/logs/b.log", "2\n");
    b.append("u1/logs/b.log.gz", "packed\n");
    fs::create_dir_all(b.path("u2/logs")).unwrap();
    b.append("u2/logs/c.log", "3\n");
    b.drain();
    b.got.sort();
    let got: Vec<(RuleBits, &str)> = b.got.iter().map(|(t, l, _)| (*t, l.as_str())).collect();
    assert_eq!(got, [(1, "2"), (1, "3"), (3, "1")]);
    b.got.clear();
    // An older generation fits the pattern too, but was read already.
    b.rename("u1/logs/a.log", "u1/logs/a.log.1");
    b.append("u1/logs/a.log", "4\n");
    b.copytruncate("u1/logs/b.log", "u1/logs/b.log.1");
    b.append("u1/logs/b.log", "5\n");
    let mut got = b.lines();
    got.sort();
    assert_eq!(got, ["4", "5"]);
    fs::remove_dir_all(b.path("u2")).unwrap();
    b.expect(&[]);
    assert!(b.tail.as_ref().unwrap().names.iter().all(|n| !n.path.starts_with(b.path("u2"))));
}

#[test]
fn dated_files_come_and_only_the_newest_stay() {
    let mut b = TailBench::new("dated");
    for day in 0..8 {
        b.append(&format!("app-{day}.log"), "old\n");
    }
    b.start_with(&["app-*.log"], Recent { limit: 3, window: 3600 });
    b.expect(&[]);
    assert_eq!(b.tail.as_ref().unwrap().open_files(), 3);
    for day in 10..30 {
        let line = format!("line {day}");
        b.append(&format!("app-{day}.log"), format!("{line}\n"));
        b.expect(&[&line]);
        assert_eq!(b.tail.as_ref().unwrap().open_files(), 3);
    }
    // An old file that is moved in is not news.
    fs::create_dir(b.path("sub")).unwrap();
    b.append("sub/app-5.log", "x\n");
    b.tail.as_mut().unwrap().scanned = clock::wall_nanos() + 90_000_000_000;
    b.rename("sub/app-5.log", "app-99.log");
    b.expect(&[]);
    b.append("app-99.log", "y\n");
    b.expect(&["y"]);
}

#[test]
fn two_names_of_one_file_are_read_once_for_both() {
    let mut b = TailBench::new("alias");
    b.append("log", "");
    symlink("log", b.path("link")).unwrap();
    b.start(&["log", "link"]);
    b.append("log", "1\n");
    b.drain();
    assert_eq!(b.got, [(3, "1".to_string(), LineTime::Now)]);
    b.got.clear();
    // The other name gets its own file; nothing is read twice.
    fs::remove_file(b.path("link")).unwrap();
    b.append("link", "2\n");
    b.append("log", "3\n");
    b.drain();
    b.got.sort();
    let mut got = b.got.iter().map(|(_, line, _)| line.as_str()).collect::<Vec<_>>();
    got.sort();
    assert_eq!(got, ["2", "3"]);
    assert!(b.got.iter().all(|(tags, line, _)| tags & if line == "2" { 2 } else { 1 } != 0));
}

#[test]
fn a_generation_that_has_a_pattern_of_its_own_is_handed_over() {
    let mut b = TailBench::new("handed");
    b.append("log", "");
    b.start(&["log", "log.1"]);
    b.append("log", "1\n");
    b.expect(&["1"]);
    for round in 2..6 {
        let _ = fs::remove_file(b.path("log.1"));
        b.rename("log", "log.1");
        b.append("log", format!("{round}\n"));
        b.expect(&[&format!("{round}")]);
    }
}

#[test]
fn long_lines_keep_head_and_tail() {
    let mut b = TailBench::new("long");
    b.append("log", "");
    b.start(&["log"]);
    let mut cut = 0;
    for len in [8191, 8192, 8193, 70_000, 100_000, 200_000] {
        let text: String = (0..len).map(|i| char::from(b'a' + u8::try_from(i % 25).unwrap())).collect();
        // In one piece, and grown piece by piece.
        for pieces in [1, 7] {
            b.append("log", "before\n");
            for piece in text.as_bytes().chunks(len / pieces + 1) {
                b.append("log", piece);
                b.drain();
            }
            b.append("log", "\nafter\n");
            let want = if len > MAX_LINE {
                format!("{}{}", &text[..HALF], &text[len - HALF..])
            } else {
                text.clone()
            };
            assert!(b.lines() == ["before", &want, "after"], "{len} in {pieces}");
            cut += u64::from(len > MAX_LINE);
            assert_eq!(b.tail.as_ref().unwrap().cut_lines(), cut, "{len} in {pieces}");
        }
    }
    // Truncated in the middle of a long line.
    b.append("log", "x".repeat(20_000));
    b.expect(&[]);
    File::create(b.path("log")).unwrap();
    b.append("log", "short\n");
    b.expect(&["short"]);
}

#[test]
fn a_small_budget_starves_nobody() {
    let mut b = TailBench::new("fair");
    b.append("loud", "");
    b.append("quiet", "");
    b.start(&["loud", "quiet"]);
    b.append("loud", "noise\n".repeat(100_000));
    b.append("quiet", "hush\n");
    let tail = b.tail.as_mut().unwrap();
    let (mut turns, mut noise, mut hush) = (0, 0, false);
    while !hush {
        let progress = tail.drain(clock::now(), 100, &mut |tags, item| match tags.0 {
            1 => noise += block(item).0.iter().filter(|&&b| b == b'\n').count(),
            _ => hush = true,
        });
        assert_eq!(progress, Progress::More);
        turns += 1;
    }
    assert!(turns <= 2, "{turns}");
    b.drain_by(1);
    assert_eq!(b.got.len() + noise, 100_000);
}

#[test]
fn a_thousand_new_files_do_not_pass_the_limit() {
    let mut b = TailBench::new("thousand");
    b.start_with(&["*.log"], Recent { limit: 4, window: 3600 });
    for round in 0..3 {
        for n in 0..1000 {
            b.append(&format!("{round}-{n:04}.log"), format!("{n}\n"));
        }
        b.drain();
        let tail = b.tail.as_ref().unwrap();
        assert!(tail.open_files() <= 8 && tail.names.len() <= 8, "{}", tail.names.len());
        assert!(!b.got.is_empty()); // which are the newest is up to the grain of the clock
        b.got.clear();
    }
}
