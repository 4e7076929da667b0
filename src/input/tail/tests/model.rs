//! Writers, rotators, editors and administrators do at random what they do, several things between two
//! looks; beside them a list of the lines that were written. Each has to come once, in its order, whatever
//! stood in between.

use super::*;
use std::time::Duration;

/// How rotated files are named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Names {
    /// `log.1` is the newest.
    Counted,
    /// `log-000001` is the oldest.
    Dated,
}

/// The times of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CopyTimes {
    /// Those of the copying.
    New,
    /// Those of the original, as `cp -p` leaves them.
    Kept,
}

struct TailWorld {
    seed: u64,
    b: TailBench,
    rng: fastrand::Rng,
    names: Names,
    /// What each line begins with: all of one second have the same time.
    begin: &'static str,
    generation: usize,
    written: usize,
    /// What must come at the next look.
    want: Vec<String>,
    /// Something was rotated and nobody has looked since: a copy over `log.1` would destroy lines.
    unread: bool,
    did: Vec<String>,
}

impl TailWorld {
    fn new(seed: u64) -> TailWorld {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut b = TailBench::new(&format!("model-{seed}"));
        let names = if rng.bool() { Names::Counted } else { Names::Dated };
        let alike = "2026-11-28T23:16:00Z_host_sshd[7]:_Failed_password_for_root_from_an_address_";
        let begin = if seed.is_multiple_of(2) { alike } else { "" };
        if rng.bool() {
            b.append("log", "");
        }
        for n in 1..rng.usize(1..4) {
            b.append(&format!("log.{n}"), format!("was there before {n}\n").repeat(n));
        }
        b.start(&["log"]);
        TailWorld {
            seed,
            b,
            rng,
            names,
            begin,
            generation: 0,
            written: 0,
            want: Vec::new(),
            unread: false,
            did: Vec::new(),
        }
    }

    fn did(&mut self, what: impl Into<String>) {
        self.did.push(what.into());
    }

    fn line(&mut self) -> String {
        self.written += 1;
        let most = if self.rng.u8(..20) == 0 { 6000 } else { 90 };
        let pad = self.rng.usize(..most);
        let line = format!("{0}{1:06} {2} {1:06}", self.begin, self.written, "x".repeat(pad));
        self.want.push(line.clone());
        line
    }

    fn write(&mut self) {
        let lines = match self.rng.u8(..4) {
            0 => 0..1,
            1 => 0..60,
            _ => 0..self.rng.usize(1..12),
        };
        self.did(format!("write {}", lines.len()));
        for _ in lines {
            let line = self.line();
            self.b.append("log", line + "\n");
        }
    }

    /// A free name for the present generation.
    fn aside(&mut self) -> String {
        self.generation += 1;
        if self.names == Names::Dated {
            return format!("log-{:06}", self.generation);
        }
        for n in (1..12).rev() {
            let _ = fs::rename(self.b.path(&format!("log.{n}")), self.b.path(&format!("log.{}", n + 1)));
        }
        let _ = fs::remove_file(self.b.path("log.12"));
        "log.1".into()
    }

    fn there(&self) -> bool {
        self.b.path("log").exists()
    }

    fn truncate(&self) {
        OpenOptions::new().write(true).open(self.b.path("log")).unwrap().set_len(0).unwrap();
    }

    fn rename_away(&mut self) {
        let aside = self.aside();
        self.did(format!("rename to {aside}"));
        self.b.rename("log", &aside);
        self.unread = true;
        if self.rng.bool() {
            self.b.append("log", ""); // as logrotate's `create`
        }
    }

    /// logrotate's copytruncate.
    fn copy_away(&mut self, times: CopyTimes) {
        let aside = self.aside();
        self.did(format!("copytruncate to {aside}, times: {times:?}"));
        self.copy("log", &aside, times);
        self.truncate();
        self.unread = true;
    }

    fn copy(&self, from: &str, to: &str, times: CopyTimes) {
        let at = fs::metadata(self.b.path(from)).unwrap().modified().unwrap();
        // As cp does it: into the file that is there.
        let mut source = File::open(self.b.path(from)).unwrap();
        let mut target = File::create(self.b.path(to)).unwrap();
        std::io::copy(&mut source, &mut target).unwrap();
        if times == CopyTimes::Kept {
            target.set_modified(at).unwrap();
        }
    }

    /// `cp log log.1; : > log`, over the copy of the time before.
    fn copy_over(&mut self) {
        if self.unread {
            self.look();
        }
        self.did("copytruncate over log.1");
        self.copy("log", "log.1", CopyTimes::New);
        self.truncate();
        self.unread = true;
    }

    /// What somebody keeps of a log that goes on.
    fn backup(&mut self) {
        self.generation += 1;
        let name = format!("log-{:06}", self.generation);
        self.did(format!("backup to {name}"));
        let kept = self.generation.is_multiple_of(2);
        self.copy("log", &name, if kept { CopyTimes::Kept } else { CopyTimes::New });
    }

    /// An editor removes a line that was read, and either replaces the file or writes it anew.
    fn edit(&mut self) {
        self.look();
        let Ok(text) = fs::read_to_string(self.b.path("log")) else { return };
        let mut lines: Vec<&str> = text.lines().collect();
        if lines.len() < 4 || lines[0].len() < 70 || lines[lines.len() - 1].len() < 70 {
            return;
        }
        lines.remove(self.rng.usize(1..lines.len() - 2));
        let new = lines.join("\n") + "\n";
        let replaces = self.rng.bool();
        self.did(format!("edit, replaces: {replaces}"));
        if replaces {
            fs::write(self.b.path("new"), new).unwrap();
            self.b.rename("new", "log");
        } else {
            fs::write(self.b.path("log"), new).unwrap();
        }
        if self.rng.bool() {
            self.write();
        }
        if self.rng.bool() {
            self.rename_away();
        }
        // Edited, and then copied away: nothing says what of the copy was read.
        self.look();
    }

    fn restart(&mut self) {
        self.look();
        self.did("stop");
        // Files' times have the grain of the clock tick; who comes in the same one cannot be told from who
        // came before.
        std::thread::sleep(Duration::from_millis(15));
        self.b.stop();
        std::thread::sleep(Duration::from_millis(15));
        for _ in 0..self.rng.usize(..4) {
            self.step(false);
        }
        self.did("start");
        self.b.start(&["log"]);
        self.compare();
    }

    fn step(&mut self, runs: bool) {
        let there = self.there();
        match self.rng.u8(..20) {
            0..8 => self.write(),
            8 | 9 if there => self.rename_away(),
            10 | 11 if there => self.copy_away(CopyTimes::New),
            12 if there => self.copy_away(CopyTimes::Kept),
            13 if there && runs => self.copy_over(),
            14 if there && runs => {
                self.look();
                self.did("truncate");
                File::create(self.b.path("log")).unwrap();
                if self.rng.bool() {
                    self.write();
                }
                self.look();
            }
            15 if there && runs => self.backup(),
            16 if there && runs => self.edit(),
            17 if there && runs => {
                self.look();
                self.did("remove");
                fs::remove_file(self.b.path("log")).unwrap();
                self.write();
            }
            18 if runs => self.restart(),
            _ => {}
        }
    }

    fn look(&mut self) {
        self.did("look");
        self.b.drain();
        self.compare();
    }

    fn compare(&mut self) {
        let got: Vec<String> = self.b.got.drain(..).map(|(_, line, _)| line).collect();
        let short = |lines: &[String]| {
            lines.iter().map(|l| l.split(' ').next().unwrap().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(short(&got), short(&self.want), "seed {}, {:#?}", self.seed, self.did);
        assert_eq!(got, self.want);
        self.want.clear();
        self.unread = false;
    }
}

fn run(seed: u64) {
    let mut world = TailWorld::new(seed);
    for _ in 0..120 {
        world.step(true);
        if world.rng.u8(..3) == 0 {
            world.look();
        }
    }
    world.look();
}

#[test]
fn each_line_comes_once_whatever_is_done_to_its_file() {
    let seeds = std::env::var("MEF_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(24);
    for seed in 0..seeds {
        run(seed);
    }
}
