//! The journal source on files that systemd's own programs write; what journalctl finds in them is what must
//! be found.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::Net;
use common::journald::{Exported, exported, settled};
use mef::base::clock::Now;
use mef::base::position::Position;
use mef::base::program::Program;
use mef::input::journal::{JournalSource, ReadAt, WantedPrograms, read_all};
use mef::input::lines::{HALF, MAX_LINE};
use mef::input::{Item, Progress, Source, Tags, Written};
use mef::sys::clock;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Got {
    program: String,
    message: Vec<u8>,
    pid: Option<u32>,
    user: Option<u32>,
    comm: String,
    unit: String,
}

fn got(item: Item<'_>) -> (Got, Written) {
    let Item::Record(record) = item else { panic!("the journal has no lines") };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let sender = record.sender.unwrap_or_default();
    let got = Got {
        program: text(record.program),
        message: record.message.to_vec(),
        pid: record.pid,
        user: sender.uid,
        comm: text(sender.comm),
        unit: text(sender.unit),
    };
    (got, record.written)
}

/// The same by journalctl.
fn want(entry: &Exported) -> Got {
    let text = |name| String::from_utf8(entry.get(name).to_vec()).unwrap();
    let mut message = entry.get("MESSAGE").to_vec();
    if message.len() > MAX_LINE {
        message.drain(HALF..message.len() - HALF);
    }
    Got {
        program: text("SYSLOG_IDENTIFIER"),
        message,
        pid: text("_PID").parse().ok(),
        user: text("_UID").parse().ok(),
        comm: text("_COMM"),
        unit: match (text("_SYSTEMD_UNIT"), text("_SYSTEMD_CGROUP")) {
            (unit, group) if unit.is_empty() && group.len() > 1 => "?".to_owned(),
            (unit, _) => unit,
        },
    }
}

fn programs(names: &[&str]) -> Vec<WantedPrograms> {
    vec![WantedPrograms { programs: names.iter().map(|n| Program::new(n)).collect(), tags: Tags(1) }]
}

/// A reader of the host's journal that follows the program `app`.
struct Follower {
    journal: JournalSource,
    got: Vec<Got>,
    live: Vec<bool>,
}

impl Follower {
    fn new(net: &Net, saved: &[(PathBuf, Position)], since: u32) -> Follower {
        let journal = JournalSource::open(net.journal_dirs(), programs(&["app"]), saved, since, clock::now());
        let mut follower = Follower { journal, got: Vec::new(), live: Vec::new() };
        follower.drain(1 << 20);
        follower
    }

    fn drain(&mut self, budget: usize) {
        for turn in 0.. {
            assert!(turn < 100_000, "the source never comes to rest");
            let Follower { journal, got: all, live } = self;
            let progress = journal.drain(clock::now(), budget, &mut |tags, item| {
                assert_eq!(tags, Tags(1));
                let (record, written) = got(item);
                all.push(record);
                live.push(written == Written::Live);
            });
            if progress == Progress::Idle {
                return;
            }
        }
    }

    /// Sleeps until something was written, as the daemon does, and reads it, until there are `count` records.
    #[track_caller]
    fn wait(&mut self, count: usize) {
        let end = std::time::Instant::now() + common::LIMIT;
        while self.got.len() < count {
            let now = std::time::Instant::now();
            assert!(now < end, "{} of {count} records: {:?}", self.got.len(), self.got.last());
            let deadline = self.journal.deadline().unwrap_or(Now::default().mono);
            let limit = if deadline.0 > 0 { deadline } else { clock::now().mono.after(1000) };
            let mut ready = [mef::sys::poll::Ready::No];
            mef::sys::poll::wait(&[self.journal.fd()], &mut ready, Some(limit)).unwrap();
            self.drain(1 << 20);
        }
    }

    fn saved(&self) -> Vec<(PathBuf, Position)> {
        let mut all = Vec::new();
        self.journal.positions(&mut |path, position| all.push((path.to_owned(), position)));
        all
    }

    #[track_caller]
    fn is_numbered(&self, count: usize) {
        let numbers: Vec<String> =
            self.got.iter().map(|g| String::from_utf8_lossy(&g.message).into_owned()).collect();
        assert_eq!(numbers, (0..count).map(|n| n.to_string()).collect::<Vec<_>>());
    }
}

/// A message of so many bytes that packs well, or badly.
fn text(len: usize, packs: bool) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(len as u64);
    let words = "Failed password for invalid user from port 192.0.2.7 ssh2 ";
    let word = |rng: &mut fastrand::Rng| words.as_bytes()[rng.usize(..words.len())];
    let mut out: Vec<u8> = words.bytes().cycle().take(len).collect();
    for byte in out.iter_mut().step_by(if packs { 13 } else { 1 }) {
        *byte = if packs { word(&mut rng) } else { rng.u8(..) };
    }
    out
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn every_kind_of_file_is_read_as_journalctl_reads_it() {
    // The flags of features in the header: keyed hash, ZSTD, compact.
    let (keyed, zstd, compact) = (4, 8, 16);
    type Kind = (&'static str, &'static str, &'static [(&'static str, &'static str)], u8);
    let kinds: &[Kind] = &[
        ("as it comes", "", &[], keyed | zstd | compact),
        ("large offsets", "", &[("SYSTEMD_JOURNAL_COMPACT", "0")], keyed | zstd),
        ("another hash", "", &[("SYSTEMD_JOURNAL_KEYED_HASH", "0")], zstd | compact),
        ("not packed", "Compress=no", &[], keyed | compact),
    ];
    for (name, settings, env, flags) in kinds {
        let mut net = Net::new();
        net.journald(settings, env, true);
        let lens = [
            0, 1, 7, 100, 505, 511, 512, 513, 520, 600, 1000, 4000, 8000, 8191, 8192, 8193, 9000, 20_000,
            49_000,
        ];
        let mut sent = 0;
        for (len, packs) in lens.iter().flat_map(|len| [(*len, true), (*len, false)]) {
            net.message("app", text(len, packs));
            net.message("other", text(len, packs));
            sent += 1;
        }
        for message in [&b"two\nlines"[..], b"\0\xff\xfe", b"MESSAGE=MESSAGE=", b"="] {
            net.message("app", message);
            sent += 1;
        }
        for n in 0..300 {
            net.entry(&[
                ("MESSAGE", format!("{n}").as_bytes()),
                ("SYSLOG_IDENTIFIER", b"app"),
                ("N", &[b'x'; 700]),
            ]);
            sent += 1;
        }
        let wanted: Vec<Got> = settled(&net, true, "system.journal", "app", sent).iter().map(want).collect();
        let header = fs::read(net.journal_dirs()[1].join("system.journal")).unwrap();
        assert_eq!(header[12], *flags, "{name}");
        let mut follower = Follower::new(&net, &[], 3600);
        follower.wait(sent);
        assert_eq!(follower.got.len(), wanted.len(), "{name}");
        for (got, want) in follower.got.iter().zip(&wanted) {
            let lens = (got.message.len(), want.message.len());
            assert!(got == want, "{name}: {lens:?} {:?} {:?}", got.program, want.program);
        }
        assert_eq!(follower.journal.passed_over(), (0, 0), "{name}");
        assert!(follower.live.iter().all(|live| !live), "{name}: all of it was there before");
        // The same from the file alone, with a budget that ends at every entry.
        let mut slow = Follower::new(&net, &[], 3600);
        slow.drain(1);
        assert!(slow.got == wanted, "{name}");
        let (all, passed) = read(&net.journal_dirs()[1].join("system.journal"));
        assert!(all == wanted && passed == (0, 0), "{name}");
    }
}

/// All records of `app` in a file, and what was passed over.
fn read(path: &Path) -> (Vec<Got>, (u64, u64)) {
    let mut all = Vec::new();
    let file = Box::new(fs::File::open(path).unwrap());
    let passed = read_all(file, programs(&["app"]), &mut |_, item| all.push(got(item).0)).unwrap();
    (all, passed)
}

/// Packs every field of 512 bytes or more that is not packed yet in another way: `pack` gives the bytes, or
/// none. Of compact files. Returns how many fields were packed.
fn repack(file: &mut [u8], flag: u8, pack: &dyn Fn(&[u8]) -> Vec<u8>) -> usize {
    let word = |file: &[u8], at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
    let size = |file: &[u8], at| usize::try_from(word(file, at)).unwrap();
    let (mut at, last) = (size(file, 88), size(file, 136));
    let mut packed = 0;
    file[12] |= flag;
    while at <= last {
        let len = size(file, at + 8);
        if file[at] == 1 && len - 72 >= 512 {
            let bytes = pack(&file[at + 72..at + len]);
            if bytes.len() < len - 72 {
                file[at + 1] = flag;
                file[at + 8..at + 16].copy_from_slice(&(72 + bytes.len() as u64).to_le_bytes());
                file[at + 72..at + 72 + bytes.len()].copy_from_slice(&bytes);
                packed += 1;
            }
        }
        at += (len + 7) & !7;
    }
    packed
}

/// This journald packs with ZSTD only: the fields of its file are packed anew, and journalctl reads them,
/// too.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn fields_packed_with_lz4_are_read_and_those_with_xz_counted() {
    let mut net = Net::new();
    net.journald("Compress=no", &[], true);
    let lens = [100, 503, 504, 600, 1000, 4000, 8184, 8192, 9000, 20_000, 49_000];
    for len in lens {
        net.message("app", text(len, true));
    }
    settled(&net, true, "system.journal", "app", lens.len());
    let dir = &net.journal_dirs()[1];
    let plain = fs::read(dir.join("system.journal")).unwrap();
    let mut file = plain.clone();
    let lz4 = |text: &[u8]| {
        let size = u64::try_from(text.len()).unwrap().to_le_bytes();
        [&size[..], &lz4_flex::block::compress(text)].concat()
    };
    assert_eq!(repack(&mut file, 2, &lz4), 9);
    fs::write(dir.join("lz4.journal"), &file).unwrap();
    let wanted: Vec<Got> = settled(&net, true, "lz4.journal", "app", lens.len()).iter().map(want).collect();
    assert!(wanted.iter().zip(lens).all(|(w, len)| w.message.len() == len.min(MAX_LINE)));
    assert!(read(&dir.join("lz4.journal")) == (wanted.clone(), (0, 0)));
    let mut file = plain;
    assert_eq!(repack(&mut file, 1, &|text| text[..text.len() / 2].to_vec()), 9);
    fs::write(dir.join("xz.journal"), &file).unwrap();
    assert!(read(&dir.join("xz.journal")) == (wanted[..2].to_vec(), (0, 9)));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn rotation_under_the_reader_loses_and_repeats_nothing() {
    let mut net = Net::new();
    let journald = net.journald("", &[], true);
    let mut follower = Follower::new(&net, &[], 0);
    let mut sent = 0;
    let mut send = |net: &Net, count: usize| {
        for _ in 0..count {
            net.message("app", sent.to_string());
            sent += 1;
        }
        sent
    };
    // One at a time, several between two looks of the reader, and with nothing in between.
    for round in 0..6 {
        let sent = send(&net, 7);
        if round % 2 == 0 {
            follower.wait(sent);
        }
        net.rotate(journald, true);
        if round % 3 == 0 {
            net.rotate(journald, true);
        }
    }
    let sent_so_far = send(&net, 1);
    follower.wait(sent_so_far);
    follower.is_numbered(sent_so_far);
    assert!(follower.live.iter().all(|live| *live));
    // A restart continues in a file that was put away meanwhile, and in one that is still written.
    let saved = follower.saved();
    send(&net, 3);
    net.rotate(journald, true);
    send(&net, 3);
    net.rotate(journald, true);
    let all = send(&net, 3);
    settled(&net, true, "system*", "app", all);
    let mut again = Follower::new(&net, &saved, 0);
    again.wait(9);
    follower.got.extend(again.got.iter().cloned());
    follower.is_numbered(all);
    assert!(again.live.iter().all(|live| !live));
    let end = again.saved();
    assert!(Follower::new(&net, &end, 0).got.is_empty(), "nothing is read twice");
    // Without the second half of the place, by the number alone.
    assert!(Follower::new(&net, &end[..1], 0).got.is_empty());
    // Another sequence of numbers: the clock decides.
    let mut foreign = saved.clone();
    foreign[0].1.dev ^= 1;
    assert_eq!(Follower::new(&net, &foreign, 0).got.len(), 9);
    assert_eq!(Follower::new(&net, &foreign[..1], 0).got.len(), 9);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_journal_that_comes_late_and_moves_to_the_disk_is_followed() {
    let mut net = Net::new();
    let mut follower = Follower::new(&net, &[], 3600);
    assert!(follower.journal.fd().is_some() && follower.journal.deadline().is_none());
    let journald = net.journald("Storage=auto", &[], false);
    for n in 0..5 {
        net.message("app", n.to_string());
    }
    follower.wait(5);
    let before = follower.saved();
    for n in 5..8 {
        net.message("app", n.to_string());
    }
    settled(&net, false, "system.journal", "app", 8);
    // The move gives all entries new numbers.
    fs::create_dir_all(net.path("log/journal")).unwrap();
    net.signal(journald, libc::SIGUSR1);
    settled(&net, true, "system.journal", "app", 8);
    for n in 8..10 {
        net.message("app", n.to_string());
    }
    follower.wait(10);
    follower.is_numbered(10);
    let mut again = Follower::new(&net, &before, 0);
    again.wait(5);
    follower.got.truncate(5);
    follower.got.extend(again.got.iter().cloned());
    follower.is_numbered(10);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn files_that_are_cut_or_emptied_under_the_reader_are_survived() {
    let mut net = Net::new();
    let journald = net.journald("", &[], true);
    let dir = net.journal_dirs()[1].clone();
    let mut follower = Follower::new(&net, &[], 0);
    for n in 0..3 {
        net.message("app", n.to_string());
    }
    follower.wait(3);
    // An empty file, one with nothing but zeros, something else, and a link to what nobody should read.
    fs::write(dir.join("system@empty.journal"), b"").unwrap();
    fs::write(dir.join("system@zeros.journal"), vec![0; 4096]).unwrap();
    fs::write(dir.join("system@text.journal"), "no journal at all ".repeat(100)).unwrap();
    std::os::unix::fs::symlink("system.journal", dir.join("system@link.journal")).unwrap();
    net.message("app", "3");
    follower.wait(4);
    // journald puts a file away that has become shorter than it was.
    let active = dir.join("system.journal");
    fs::OpenOptions::new().write(true).open(&active).unwrap().set_len(5000).unwrap();
    follower.drain(1 << 20);
    net.rotate(journald, true);
    net.message("app", "4");
    follower.wait(5);
    // Vacuumed while it is open, with nothing left of it.
    net.rotate(journald, true);
    for file in fs::read_dir(&dir).unwrap().map(|f| f.unwrap().path()).filter(|f| *f != active) {
        // A link among them leads to the active file, and journald removes files that are empty.
        if !file.is_symlink()
            && let Ok(opened) = fs::OpenOptions::new().write(true).open(&file)
        {
            opened.set_len(0).unwrap();
        }
        let _ = fs::remove_file(file);
    }
    follower.drain(1 << 20);
    net.message("app", "5");
    follower.wait(6);
    follower.is_numbered(6);
}

/// What the daemon says when it is ready.
const READY: &str = "watches the journal, ";

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_daemon_bans_by_what_the_real_sender_wrote() {
    let mut net = Net::new();
    net.journald("", &[], true);
    net.configure("", &[]);
    let rule = "failregex=^Failed password for .* from <HOST> port \\d+ ssh2$\nmaxretry=3\nbantime=1h";
    net.rule("sshd", &format!("programs=sshd\n{rule}"));
    net.rule("app", &format!("source=journal\nprograms=app\ntrust=any\n{rule}"));
    net.rule("maria", &format!("source=journal\nprograms=mariadbd\n{rule}"));
    let line = |addr: &str| format!("Failed password for root from {addr} port 22 ssh2");
    let fail = |speaker: &mut common::journald::Speaker, addr: &str| {
        for _ in 0..3 {
            speaker.say(&line(addr));
        }
    };
    // Written before the daemon starts, and within journal_since.
    let mut sshd = net.speaker("sshd", 0, "ssh.service", "sshd");
    fail(&mut sshd, "192.0.2.1");
    settled(&net, true, "system.journal", "sshd", 3);
    let daemon = net.start_daemon("mef");
    net.wait_said("mef", READY);
    net.wait_said("mef", "192.0.2.1");
    // Those who only say that they are sshd, or are called so, in the order in which they would be banned
    // first.
    let mut logger = net.speaker("logger", 0, "cron.service", "sshd");
    fail(&mut logger, "198.51.100.1");
    let mut user = net.speaker("sshd", 65534, "cron.service", "sshd");
    fail(&mut user, "198.51.100.2");
    let mut session = net.speaker("sshd", 65534, "session-7.scope", "sshd");
    fail(&mut session, "198.51.100.3");
    let mut manager = net.speaker("sshd", 65534, "user@1000.service", "sshd");
    fail(&mut manager, "198.51.100.4");
    let mut web = net.speaker("mariadbd", 33, "apache2.service", "mariadbd");
    fail(&mut web, "198.51.100.5");
    let mut container = net.speaker("sshd", 0, "/mef-test-container", "sshd");
    fail(&mut container, "198.51.100.6");
    settled(&net, true, "system.journal", "sshd", 3 * 6);
    // The services themselves; a part of sshd under its own name; a rule that believes everybody.
    let mut database = net.speaker("mariadbd", 102, "mariadb.service", "mariadbd");
    fail(&mut database, "192.0.2.2");
    let mut part = net.speaker("sshd-session", 0, "session-8.scope", "sshd-session");
    fail(&mut part, "192.0.2.3");
    for _ in 0..3 {
        net.message("app", line("192.0.2.4"));
    }
    for last in ["192.0.2.2", "192.0.2.3", "192.0.2.4"] {
        let addr = last.parse().unwrap();
        common::wait_until(&format!("the ban of {last}"), || net.in_set("ban4", addr));
    }
    for forged in 1..=6 {
        assert!(!net.in_set("ban4", std::net::Ipv4Addr::new(198, 51, 100, forged).into()), "{forged}");
    }
    // After a restart the same entries are not counted again, and later ones are.
    fail(&mut sshd, "192.0.2.5");
    common::wait_until("the ban of 192.0.2.5", || net.in_set("ban4", "192.0.2.5".parse().unwrap()));
    sshd.say(&line("192.0.2.6"));
    sshd.say(&line("192.0.2.6"));
    settled(&net, true, "system.journal", "sshd", 3 * 7 + 2);
    net.stop(daemon);
    net.mef(&["unban", "192.0.2.5"]).ok();
    sshd.say(&line("192.0.2.7"));
    let again = net.start_daemon("again");
    net.wait_said("again", READY);
    for _ in 0..2 {
        sshd.say(&line("192.0.2.7"));
    }
    common::wait_until("the ban of 192.0.2.7", || net.in_set("ban4", "192.0.2.7".parse().unwrap()));
    assert!(!net.in_set("ban4", "192.0.2.5".parse().unwrap()), "what was counted before");
    assert!(!net.in_set("ban4", "192.0.2.6".parse().unwrap()), "two are not three");
    net.stop(again);
}

/// A file in memory, one of its bytes changed.
struct Flipped(Rc<[u8]>, usize, u8);

impl ReadAt for Flipped {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> usize {
        let rest = usize::try_from(at).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        let place = u64::try_from(self.1).unwrap().checked_sub(at).and_then(|p| usize::try_from(p).ok());
        if let Some(byte) = place.and_then(|place| buf[..n].get_mut(place)) {
            *byte ^= self.2;
        }
        n
    }

    fn size(&self) -> u64 {
        self.0.len() as u64
    }
}

/// journal-remote writes the same file from the same input wherever it runs, and a small one.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_file_of_journal_remote_is_read_with_any_byte_flipped() {
    let net = Net::new();
    let mut export = String::new();
    for n in 1..=9 {
        export += &format!(
            "__REALTIME_TIMESTAMP={n}00000000\n__MONOTONIC_TIMESTAMP={n}\n\
             _BOOT_ID=0123456789abcdef0123456789abcdef\nMESSAGE=from 192.0.2.{n}{}\nSYSLOG_IDENTIFIER=app\n\
             _UID=0\n_COMM=app\n_PID={n}\n_SYSTEMD_UNIT=app.service\nPRIORITY=6\n\n",
            if n > 7 { " packed".repeat(100) } else { String::new() }
        );
    }
    let input = net.write("in.export", &export);
    let output = net.path("out.journal");
    let remote = "/lib/systemd/systemd-journal-remote";
    assert!(Path::new(remote).exists(), "this test needs the package systemd-journal-remote");
    net.cmd(remote, &["-o", output.to_str().unwrap(), input.to_str().unwrap()]).ok();
    let wanted: Vec<Got> = exported(export.as_bytes()).iter().map(want).collect();
    assert_eq!(read(&output), (wanted.clone(), (0, 0)));
    let mut bytes = fs::read(&output).unwrap();
    bytes.truncate(bytes.iter().rposition(|&b| b != 0).unwrap() + 9);
    let bytes: Rc<[u8]> = bytes.into();
    let word =
        |at: usize| usize::try_from(u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())).unwrap();
    // Nobody looks into the tables of hashes; of what is between and behind them every byte is changed.
    let tables = [(word(104), word(112)), (word(120), word(128))];
    let texts = |at: usize| {
        let around = &bytes[at.saturating_sub(120)..bytes.len().min(at + 8)];
        around.windows(8).any(|w| w == b"MESSAGE=")
            || around.windows(4).any(|w| w == [0x28, 0xb5, 0x2f, 0xfd])
    };
    let (mut tried, mut read) = (0, 0);
    for at in (0..bytes.len()).filter(|at| !tables.iter().any(|(from, len)| (*from..from + len).contains(at)))
    {
        for flip in [0x01, 0x80, 0xff] {
            let mut all = Vec::new();
            let file = Box::new(Flipped(bytes.clone(), at, flip));
            let _ = read_all(file, programs(&["app"]), &mut |_, item| {
                let Item::Record(record) = item else { panic!("a line") };
                all.push(record.message.to_vec());
            });
            assert!(all.len() <= wanted.len(), "byte {at} ^ {flip:#x}");
            let foreign =
                |m: &Vec<u8>| !wanted.iter().any(|w| w.message.starts_with(m) || m.starts_with(&w.message));
            assert!(texts(at) || !all.iter().any(foreign), "byte {at} ^ {flip:#x}");
            tried += 1;
            read += all.len();
        }
    }
    assert!(read > tried * 7, "most flips cost little: {read} in {tried} files");
}
