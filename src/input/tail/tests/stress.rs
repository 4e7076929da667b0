//! A thread writes numbered lines and rotates by all methods while we read, stop and start again at random.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const LINES: usize = 3000;

struct StressWriter {
    dir: PathBuf,
    rng: fastrand::Rng,
    /// Lines that were read in order.
    seen: Arc<AtomicUsize>,
    written: usize,
    generation: usize,
    /// `log.1`, `log.2`, … or `log-000001`, …
    counting: bool,
}

impl StressWriter {
    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn append(&mut self, lines: usize) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.log()).unwrap();
        for _ in 0..lines {
            let text = format!("{:06} {}\n", self.written, "x".repeat(self.rng.usize(..300)));
            // Sometimes in two pieces: the first must not be taken for a line.
            let cut = self.rng.usize(..text.len() * 4).min(text.len());
            file.write_all(&text.as_bytes()[..cut]).unwrap();
            file.write_all(&text.as_bytes()[cut..]).unwrap();
            self.written += 1;
        }
    }

    fn wait_until_read(&self) {
        let limit = Instant::now() + Duration::from_secs(30);
        while self.seen.load(Ordering::Acquire) < self.written {
            assert!(Instant::now() < limit, "line {} is never read", self.seen.load(Ordering::Acquire));
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// A free name for the present generation.
    fn aside(&mut self) -> PathBuf {
        self.generation += 1;
        if !self.counting {
            return self.dir.join(format!("log-{:06}", self.generation));
        }
        for n in (1..self.generation).rev() {
            let name = |n: usize| self.dir.join(format!("log.{n}"));
            let _ = fs::rename(name(n), name(n + 1));
        }
        self.dir.join("log.1")
    }

    /// Returns how many lines were written.
    fn run(mut self) -> usize {
        while self.written < LINES {
            let lines = self.rng.usize(1..20);
            self.append(lines);
            match self.rng.u8(..10) {
                0..3 => {
                    let aside = self.aside();
                    fs::rename(self.log(), aside).unwrap();
                }
                3 | 4 => {
                    let aside = self.aside();
                    fs::copy(self.log(), aside).unwrap();
                    File::options().write(true).open(self.log()).unwrap().set_len(0).unwrap();
                }
                5 => {
                    self.wait_until_read();
                    File::create(self.log()).unwrap();
                    self.append(1);
                    self.wait_until_read();
                }
                6 => {
                    self.wait_until_read();
                    fs::remove_file(self.log()).unwrap();
                    self.append(1);
                    self.wait_until_read();
                }
                _ => {}
            }
        }
        self.written
    }
}

/// Follows one writer to its end. With `restarts` the source is closed and opened again now and then.
fn race(seed: u64, restarts: bool) {
    let mut b = TailBench::new(&format!("stress-{seed}-{restarts}"));
    b.append("log", "");
    b.start(&["log"]);
    let seen = Arc::new(AtomicUsize::new(0));
    let mut rng = fastrand::Rng::with_seed(seed);
    let counting = rng.bool();
    let writer = StressWriter {
        dir: b.dir.clone(),
        rng: rng.fork(),
        seen: seen.clone(),
        written: 0,
        generation: 0,
        counting,
    };
    let thread = std::thread::spawn(|| writer.run());
    let mut next = 0;
    loop {
        let finished = thread.is_finished();
        b.wait();
        if restarts && rng.u8(..) < 20 {
            b.stop();
            b.start(&["log"]);
        }
        for (_, line, _) in b.got.drain(..) {
            let number: usize = line.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(number, next, "seed {seed} restarts {restarts}");
            next += 1;
        }
        seen.store(next, Ordering::Release);
        if finished {
            assert_eq!(next, thread.join().unwrap(), "seed {seed} restarts {restarts}");
            return;
        }
    }
}

#[test]
fn every_line_once_and_in_order_through_rotations() {
    for seed in 0..4 {
        race(seed, false);
    }
}

#[test]
fn every_line_once_and_in_order_through_restarts() {
    for seed in 10..14 {
        race(seed, true);
    }
}
