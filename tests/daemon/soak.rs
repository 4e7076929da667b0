//! A day of a busy host in a minute: its log is rotated every "minute", in every way that is known, and the
//! daemon is started anew every "hour", by SIGTERM or by `kill -9`. Each line is a failure of an address of
//! its own that is banned at once, so the ban log tells how often each line was counted: once.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::bans::text;
use common::{Net, wait_for, wait_until};
use mef::base::clock::Wall;
use mef::base::utc::Stamp;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

const HOURS: usize = 24;
const MINUTES: usize = 60 * HOURS;
/// Lines in a minute: some before it is rotated, some behind.
const LINES: usize = 14;
/// Lines that the daemon may lag behind. That many minutes' files are kept.
const LAG: usize = 3 * LINES;
/// What writer and test share.
struct Host {
    log: PathBuf,
    /// Whoever holds it keeps the other from going on; true while no daemon runs.
    down: Mutex<bool>,
    written: AtomicUsize,
    minute: AtomicUsize,
    bans: Mutex<Bans>,
}

/// How often each line was counted, by the ban log.
struct Bans {
    file: File,
    /// An incomplete line.
    rest: Vec<u8>,
    counts: Vec<u8>,
}

/// The number of the line with an address.
fn number(addr: Ipv4Addr) -> usize {
    usize::try_from(addr.to_bits() & 0xff_ffff).unwrap()
}

impl Bans {
    /// Reads on in the ban log.
    fn look(&mut self) {
        self.file.read_to_end(&mut self.rest).unwrap();
        let end = self.rest.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        for line in String::from_utf8(self.rest.drain(..end).collect()).unwrap().lines() {
            let addr: Ipv4Addr =
                line.split(" ban ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
            self.counts[number(addr)] += 1;
        }
    }
}

impl Host {
    fn lag(&self) -> usize {
        let mut bans = self.bans.lock().unwrap();
        bans.look();
        let counted = bans.counts.iter().filter(|&&count| count > 0).count();
        self.written.load(SeqCst) - counted
    }

    /// Waits until no more than so many lines are to be counted.
    fn wait_lag(&self, what: &str, lag: usize) {
        let end = Instant::now() + common::LIMIT;
        while self.lag() > lag {
            let missing = || self.missing(self.written.load(SeqCst));
            assert!(Instant::now() < end, "waited in vain for {what}: not counted are {:?}", missing());
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Which of the first `count` lines were not counted.
    fn missing(&self, count: usize) -> Vec<usize> {
        let bans = self.bans.lock().unwrap();
        (0..count).filter(|&n| bans.counts[n] == 0).collect()
    }

    fn write(&self, mut log: &File, count: usize) {
        let mut text = String::new();
        for _ in 0..count {
            let number = self.written.fetch_add(1, SeqCst);
            let addr = Ipv4Addr::from_bits(10 << 24 | u32::try_from(number).unwrap());
            let stamp = Stamp(Wall(common::daemon::seconds()));
            text += &format!("{stamp} host sshd[7]: Failed password for root from {addr} port 58216 ssh2\n");
        }
        log.write_all(text.as_bytes()).unwrap();
    }

    fn open(&self) -> File {
        File::options().create(true).append(true).open(&self.log).unwrap()
    }

    /// Whether the file whose position was last written down is still there, under any name. Who is killed
    /// before he has written down that he went on from a file that was deleted finds no trace of what was
    /// rotated since.
    fn can_be_traced(&self, net: &Net) -> bool {
        let text = net.read("lib/mef/positions");
        let name = self.log.to_str().unwrap();
        let Some(line) = text.lines().find(|line| line.ends_with(name)) else { return false };
        let inode: u64 = line.split(' ').nth(2).unwrap().parse().unwrap();
        let mut names = (0..7).map(|n| if n == 0 { self.log.clone() } else { self.older(n) });
        names.any(|name| fs::metadata(name).is_ok_and(|meta| meta.ino() == inode))
    }

    /// A daemon that was killed may have died between the ban journal and the ban log: what the journal has
    /// was counted.
    fn ask_the_journal(&self, net: &Net) {
        let mut bans = self.bans.lock().unwrap();
        bans.look();
        for row in net.bans().iter().filter(|row| text(row, "rule") == "app") {
            let addr: Ipv4Addr = text(row, "address").parse().unwrap();
            let count = &mut bans.counts[number(addr)];
            *count = (*count).max(1);
        }
    }

    /// The name of the `n`-th file before the present one.
    fn older(&self, n: usize) -> PathBuf {
        PathBuf::from(format!("{}.{n}", self.log.display()))
    }

    /// Moves the log and its older generations on by one.
    fn shift(&self) {
        for n in (1..6).rev() {
            let _ = fs::rename(self.older(n), self.older(n + 1));
        }
        fs::rename(&self.log, self.older(1)).unwrap();
    }

    /// Waits until the daemon has counted everything, and so has the file open: what takes a file away before
    /// anybody could open it takes its lines away.
    fn all_counted(&self) {
        self.wait_lag("all lines to be counted", 0);
    }

    /// One minute of the log; the writer has `log` open and knows of no rotation before it is told.
    fn minute(&self, minute: usize, mut log: File) -> File {
        let down: MutexGuard<'_, bool> = self.down.lock().unwrap();
        self.write(&log, 5);
        // What takes a file away, or its content, is only fair to somebody who was there to read it.
        let kind = if *down { minute % 3 } else { minute % 8 };
        match kind {
            0 => {
                self.shift();
                log = self.open();
            }
            // The writer goes on in the old file for a while.
            1 => {
                self.shift();
                drop(self.open());
                self.write(&log, 2);
                log = self.open();
            }
            // The new file is late, and so is the writer.
            2 => {
                self.shift();
                self.write(&log, 2);
                log = self.open();
            }
            3 => {
                self.all_counted();
                fs::copy(&self.log, self.older(1)).unwrap();
                File::options().write(true).open(&self.log).unwrap().set_len(0).unwrap();
            }
            4 => {
                self.all_counted();
                log.set_len(0).unwrap();
            }
            // Replaced by another file, whose first lines are there already.
            5 => {
                let next = self.log.with_extension("new");
                let new = File::options().create(true).append(true).open(&next).unwrap();
                self.all_counted();
                self.write(&log, 1);
                self.write(&new, 2);
                fs::rename(&next, &self.log).unwrap();
                log = new;
            }
            // Deleted under the reader.
            6 => {
                self.all_counted();
                self.write(&log, 1);
                fs::remove_file(&self.log).unwrap();
                self.write(&log, 2);
                log = self.open();
            }
            // A link to a file elsewhere.
            _ => {
                self.shift();
                let target = self.log.with_file_name(format!("elsewhere/{minute}"));
                fs::create_dir_all(target.parent().unwrap()).unwrap();
                File::create(&target).unwrap();
                symlink(&target, &self.log).unwrap();
                log = self.open();
                self.write(&log, 2);
                // Back to a file, by the next.
                self.all_counted();
                fs::remove_file(&self.log).unwrap();
                log = self.open();
            }
        }
        let rest = LINES * (minute + 1) - self.written.load(SeqCst);
        self.write(&log, rest);
        if kind >= 5 {
            // In a day of a day's length there are seconds for it: with the previous file went the trace to
            // this one.
            self.all_counted();
        }
        log
    }

    fn write_all_day(&self) {
        let mut log = self.open();
        for minute in 0..MINUTES {
            log = self.minute(minute, log);
            self.minute.store(minute + 1, SeqCst);
            self.wait_lag("the daemon to keep up", LAG);
        }
    }
}

/// What a start of the daemon needs; `sync` as for state_sync.
fn configure(net: &Net, sync: &str) {
    let ban_log = net.path("bans.log");
    let lines = format!(
        "state_sync={sync}\nban_log_enabled=true\nban_log_path={}\nmax_bans_per_minute=1000000\n\
         kill_connections=false",
        ban_log.display()
    );
    net.configure(&lines, &["mark.log"]);
    net.rule_for("app", "app.log", "maxretry=1");
    // A ban in force is reported once: a line that is counted twice is one of another rule, for other ports.
    net.rule_for("twice", "app.log", "maxretry=2\nports=9");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_day_with_a_rotation_every_minute_and_a_restart_every_hour_counts_each_line_once() {
    let mut net = Net::new();
    configure(&net, "0");
    for log in ["app.log", "mark.log", "bans.log"] {
        net.append(log, "");
    }
    let host = Host {
        log: net.path("app.log"),
        down: Mutex::new(false),
        written: AtomicUsize::new(0),
        minute: AtomicUsize::new(0),
        bans: Mutex::new(Bans {
            file: File::open(net.path("bans.log")).unwrap(),
            rest: Vec::new(),
            counts: vec![0; LINES * MINUTES + 1],
        }),
    };
    let mut daemon = net.daemon("hour-0");
    // Where it was killed in the middle of its work.
    let mut torn: Vec<usize> = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| host.write_all_day());
        for hour in 1..HOURS {
            let moment = 60 * hour + 7 * hour % 50;
            let name = format!("hour-{hour}");
            let mut down = wait_for("the hour", || {
                let down = host.down.lock().unwrap();
                let minute = host.minute.load(SeqCst);
                (minute >= moment && (hour % 4 != 1 || host.can_be_traced(&net))).then_some(down)
            });
            let signal = match hour % 4 {
                // In the middle of its work.
                1 => libc::SIGKILL,
                // When it has written down how far it is: at the end of the turn of its loop.
                3 => {
                    host.all_counted();
                    net.counts(daemon, &format!("hour-{}", hour - 1));
                    libc::SIGKILL
                }
                _ => libc::SIGTERM,
            };
            *down = true;
            // The writer does not wait for anybody.
            if hour % 4 != 3 {
                drop(down);
                net.signal(daemon, signal);
            } else {
                net.signal(daemon, signal);
                drop(down);
            }
            if hour % 4 == 1 {
                torn.push(host.written.load(SeqCst));
            }
            assert_eq!(net.wait(daemon), if signal == libc::SIGTERM { 0 } else { -1 }, "{name}");
            if hour % 4 == 1 {
                host.ask_the_journal(&net);
            }
            // The next one ends by SIGKILL: it writes positions at once.
            configure(&net, if hour % 2 == 0 { "0" } else { "5m" });
            daemon = net.daemon(&name);
            *host.down.lock().unwrap() = false;
        }
    });
    wait_until("the end of the day", || host.lag() == 0);
    net.stop(daemon);
    let lost = host.missing(LINES * MINUTES);
    let bans = host.bans.into_inner().unwrap();
    let twice: Vec<usize> = (0..LINES * MINUTES).filter(|&n| bans.counts[n] > 1).collect();
    let reported = format!("{} lost, {} counted twice; killed at work at {torn:?}", lost.len(), twice.len());
    assert_eq!((lost, twice), (Vec::new(), Vec::new()), "{reported}");
    assert_eq!(net.bans().len(), LINES * MINUTES, "bans");
}

/// The measure of the test above: a line that is there twice is counted twice.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_line_that_is_written_twice_is_counted_twice() {
    let mut net = Net::new();
    configure(&net, "5m");
    net.append("app.log", "");
    net.append("mark.log", "");
    let daemon = net.daemon("daemon");
    let line = common::daemon::failed("10.0.0.1");
    net.append("app.log", line.repeat(2));
    wait_until("both", || net.read("bans.log").matches(" ban 10.0.0.1 ").count() == 2);
    net.stop(daemon);
}
