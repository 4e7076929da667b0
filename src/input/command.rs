#![forbid(unsafe_code)]
//! Lines out of a program that runs beside us, such as `logread -f`: started when it is first read, and again
//! when it ends, after pauses that grow as long as it ends soon. Knows no program in particular.

use super::lines::Splitter;
use super::{Item, Progress, Source, Tags};
use crate::base::clock::{LineTime, Mono, Now};
use crate::sys::child::{Child, ChildExit, WhenFull, pipe, start};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};

/// Bytes that are read at once: what a pipe holds.
const CHUNK: usize = 64 * 1024;
/// The first pause and the longest, in milliseconds.
const PAUSE: u64 = 1000;
const PAUSE_MAX: u64 = 300_000;
/// A program that ran so long, in milliseconds, ran well.
const WELL: u64 = 60_000;
/// Bytes of a program's last words that are shown.
const WORDS: usize = 160;

/// A program that runs, or of which not all is known yet.
struct ProgramRun {
    child: Child,
    /// `None`: nothing more comes.
    out: Option<File>,
    err: File,
    /// It has written something.
    spoke: bool,
    since: Mono,
    end: Option<ChildExit>,
}

/// The command source.
pub struct CommandSource {
    argv: Vec<String>,
    tags: Tags,
    run: Option<ProgramRun>,
    /// When to start it.
    again: Mono,
    /// After the next end.
    pause: u64,
    /// That it ended was told, and it has not run well since.
    said: bool,
    splitter: Splitter,
    /// More than the first page of the splitter was used.
    warm: bool,
    starts: u64,
}

impl CommandSource {
    /// A source that will run `argv`, program and arguments. The first [`Source::drain`], which is due at
    /// once, starts it.
    #[must_use]
    pub fn new(argv: Vec<String>, tags: Tags) -> CommandSource {
        CommandSource {
            argv,
            tags,
            run: None,
            again: Mono::default(),
            pause: PAUSE,
            said: false,
            splitter: Splitter::new(CHUNK),
            warm: false,
            starts: 0,
        }
    }

    /// The program and its arguments.
    #[must_use]
    pub fn argv(&self) -> &[String] {
        &self.argv
    }

    /// Who wants its lines from now on.
    pub fn set_tags(&mut self, tags: Tags) {
        self.tags = tags;
    }

    /// Whose lines it writes, if it runs and does not end again and again.
    #[must_use]
    pub fn reads_for(&self, now: Mono) -> Tags {
        let well = |run: &ProgramRun| run.spoke || !self.said || now.since(run.since) >= WELL;
        if self.run.as_ref().is_some_and(well) { self.tags } else { Tags::default() }
    }

    /// Who wants its lines.
    #[must_use]
    pub fn tags(&self) -> Tags {
        self.tags
    }

    /// How often it was started.
    #[must_use]
    pub fn starts(&self) -> u64 {
        self.starts
    }

    /// Looks whether the program has ended: to be called when some child has. The next drain is due then.
    pub fn child_ended(&mut self) {
        if let Some(run) = self.run.as_mut().filter(|run| run.end.is_none()) {
            run.end = run.child.ended();
        }
    }

    /// Kills the program for good. It is given back while it has still to be waited for.
    pub fn stop(&mut self) -> Option<Child> {
        let run = self.run.take().filter(|run| run.end.is_none())?;
        run.child.kill();
        run.child.ended().is_none().then_some(run.child)
    }

    fn start(&mut self, now: Mono) -> io::Result<()> {
        let (out, to_out) = pipe(WhenFull::Wait)?;
        // What is said there is only wanted when it ends; a program that says much of it must not be stopped
        // by that.
        let (err, to_err) = pipe(WhenFull::Lose)?;
        let child = start(&self.argv, &[], Some(to_out.as_fd()), Some(to_err.as_fd()))?;
        self.starts += 1;
        self.run = Some(ProgramRun { child, out: Some(out), err, spoke: false, since: now, end: None });
        Ok(())
    }

    /// Plans the next start after it ended or could not be started.
    fn plan(&mut self, now: Mono, ran: u64, why: &dyn std::fmt::Display) {
        if ran >= WELL {
            self.pause = PAUSE;
            self.said = false;
        }
        self.again = now.after(self.pause);
        if !std::mem::replace(&mut self.said, true) {
            log::warn!(
                "{}: {why}; it is started again, at first after {} s",
                self.argv.join(" "),
                self.pause / 1000
            );
        }
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    /// Reads what the program has written. `true`: the budget was used up.
    fn read(&mut self, budget: usize, sink: &mut dyn FnMut(Tags, Item<'_>)) -> bool {
        // The ring of a syslog daemon says no more about senders than a file of it.
        let attested = self.argv.iter().all(|word| word.rsplit('/').next() != Some("logread"));
        let CommandSource { run: Some(run), splitter, tags, warm, .. } = self else { return false };
        let mut spent = 0;
        while let Some(out) = &mut run.out {
            if spent >= budget {
                return true;
            }
            match out.read(splitter.space()) {
                Ok(n @ 1..) => {
                    spent += n;
                    run.spoke = true;
                    *warm |= n > 4096;
                    splitter.filled(n, &mut |lines| {
                        sink(*tags, Item::Block { lines, time: LineTime::Now, attested })
                    });
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Somebody it left behind may still have the other end.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && run.end.is_none() => break,
                _ => {
                    run.out = None;
                    if run.end.is_none() {
                        run.child.kill();
                    }
                    splitter.finish(&mut |lines| {
                        sink(*tags, Item::Block { lines, time: LineTime::Now, attested })
                    });
                }
            }
        }
        if std::mem::take(warm) {
            splitter.shrink();
        }
        false
    }
}

impl Source for CommandSource {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.run.as_ref()?.out.as_ref()?.as_fd())
    }

    fn deadline(&self) -> Option<Mono> {
        match &self.run {
            None => Some(self.again),
            Some(run) => run.end.map(|_| Mono::default()),
        }
    }

    fn drain(&mut self, now: Now, budget: usize, sink: &mut dyn FnMut(Tags, Item<'_>)) -> Progress {
        if self.run.is_none() && self.again <= now.mono {
            if let Err(e) = self.start(now.mono) {
                self.plan(now.mono, 0, &e);
            }
            return Progress::Idle;
        }
        // It may have ended before its first line was read.
        self.child_ended();
        if self.read(budget, sink) {
            return Progress::More;
        }
        if let Some(ProgramRun { out: None, end: Some(end), err, since, .. }) = &mut self.run {
            let (ran, mut words) = (now.mono.since(*since), [0; WORDS]);
            let n = err.read(&mut words).unwrap_or(0);
            let words = words.get(..n).unwrap_or_default();
            let line = words.split(|&b| b == b'\n').next().unwrap_or_default();
            let colon = if line.is_empty() { "" } else { ": " };
            let why = format!("ended with {end}{colon}{}", super::Shown(line));
            self.run = None;
            self.plan(now.mono, ran, &why);
        }
        Progress::Idle
    }

    fn cut_lines(&self) -> u64 {
        self.splitter.cut_lines()
    }
}

/// The program does not outlive its source.
impl Drop for CommandSource {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::super::lines::MAX_LINE;
    use super::*;
    use crate::sys::clock;
    use crate::sys::poll::{Ready, wait};

    /// A program under a clock of its own.
    struct CommandBench {
        command: CommandSource,
        now: Now,
        got: Vec<u8>,
    }

    impl CommandBench {
        fn new(script: &str) -> CommandBench {
            let argv = ["sh", "-c", script].map(String::from).to_vec();
            CommandBench { command: CommandSource::new(argv, Tags(5)), now: clock::now(), got: Vec::new() }
        }

        /// One turn of a loop that is told of every end of a child. Waits for the program, but not for a
        /// start.
        fn turn(&mut self) {
            if self.command.run.is_some() && self.command.deadline().is_none() {
                let soon = Some(clock::mono().after(1));
                wait(&[self.command.fd()], &mut [Ready::No], soon).unwrap();
                self.command.child_ended();
            }
            let got = &mut self.got;
            self.command.drain(self.now, 1 << 20, &mut |tags, item| match item {
                Item::Block { lines, time, .. } => {
                    assert!(tags == Tags(5) && time == LineTime::Now && lines.ends_with(b"\n"));
                    got.extend_from_slice(lines);
                }
                Item::Record(_) => panic!("a program has no records"),
            });
        }

        /// Turns until something is so.
        #[track_caller]
        fn until(&mut self, what: &str, is: impl Fn(&CommandBench) -> bool) {
            let late = clock::mono().after(20_000);
            while !is(self) {
                assert!(
                    clock::mono() < late,
                    "waited in vain for {what}: {:?}",
                    String::from_utf8_lossy(&self.got)
                );
                self.turn();
            }
        }

        /// Turns until the program has ended; the pause after that.
        #[track_caller]
        fn end(&mut self) -> u64 {
            self.until("a start", |b| b.command.run.is_some());
            self.until("an end", |b| b.command.run.is_none());
            self.command.again.since(self.now.mono)
        }
    }

    #[test]
    fn lines_are_read_to_the_last_also_an_incomplete_one() {
        let mut b = CommandBench::new("echo one; echo two; printf three");
        assert_eq!(b.command.deadline(), Some(Mono(0)), "starts at once");
        b.end();
        assert_eq!(b.got, b"one\ntwo\nthree\n");
    }

    #[test]
    fn a_program_that_dies_is_started_again_ever_later() {
        let mut b = CommandBench::new("echo x; exit 1");
        let mut pauses = Vec::new();
        for n in 1..=11 {
            pauses.push(b.end() / 1000);
            assert_eq!(b.command.starts(), n);
            let again = b.command.deadline().unwrap();
            b.now.mono = Mono(again.0 - 1);
            b.turn();
            assert_eq!(b.command.starts(), n, "not yet");
            b.now.mono = again;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert!(b.command.said);
        assert_eq!(b.got, b"x\n".repeat(11));
        b.until("a start", |b| b.command.run.is_some());
        b.now.mono = b.now.mono.after(WELL);
        assert_eq!(b.end(), 1000, "it ran well");
    }

    #[test]
    fn what_is_no_program_is_tried_again() {
        let mut b = CommandBench::new("");
        b.command.argv = vec!["mef-no-such-program".into()];
        b.turn();
        b.now.mono = b.command.deadline().unwrap();
        assert!(b.command.said && b.now.mono.0 > 0 && b.command.starts() == 0);
        b.command.argv = vec!["echo".into(), "$HOME *".into()];
        b.end();
        assert_eq!(b.got, b"$HOME *\n", "no shell looked at it");
    }

    #[test]
    fn megabytes_without_a_newline_take_no_memory() {
        let mut b = CommandBench::new("head -c 5000000 /dev/zero; echo; echo after");
        b.end();
        assert_eq!((b.got.len(), b.command.cut_lines()), (MAX_LINE + 1 + 6, 1));
        assert!(b.got.ends_with(b"\0\nafter\n"));
    }

    #[test]
    fn neither_noise_on_standard_error_nor_a_closed_output_stops_anything() {
        let mut b = CommandBench::new("head -c 1000000 /dev/zero >&2; echo x; exec >&-; sleep 1000");
        b.end();
        assert_eq!(b.got, b"x\n");
    }

    #[test]
    fn a_loud_program_gives_way_after_its_budget() {
        let mut b = CommandBench::new("exec yes");
        b.until("output", |b| !b.got.is_empty());
        for _ in 0..3 {
            let mut bytes = 0;
            while b.command.drain(b.now, 1000, &mut |_, _| bytes += 1) == Progress::Idle {}
            assert!(bytes <= 2, "{bytes} blocks");
        }
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        // The child that stays writes when it is alone.
        let mut b = CommandBench::new("trap '' TERM; sleep 1000 & echo $!; wait");
        b.until("its child", |b| b.got.ends_with(b"\n"));
        let child = String::from_utf8(b.got.clone()).unwrap();
        let there = || {
            std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).is_ok_and(|s| !s.contains(") Z "))
        };
        assert!(there());
        let left = b.command.stop();
        let late = clock::mono().after(20_000);
        while left.as_ref().is_some_and(|child| child.ended().is_none()) || there() {
            assert!(clock::mono() < late, "it lives");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(b.command.run.is_none());
    }

    #[test]
    fn what_it_leaves_behind_is_killed() {
        let mut b = CommandBench::new("sleep 1000 & echo $!");
        b.end();
        let child = String::from_utf8(b.got.clone()).unwrap();
        let stat = format!("/proc/{}/stat", child.trim());
        let late = clock::mono().after(20_000);
        while std::fs::read_to_string(&stat).is_ok_and(|s| !s.contains(") Z ")) {
            assert!(clock::mono() < late, "it lives");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}
