//! Daemons that follow a log: how soon a ban stands in the kernel.

use crate::events::Events;
use crate::process::quantile;
use crate::random::Random;
use crate::{Args, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const PATIENCE: Duration = Duration::from_secs(60);

/// The log, and whom we attack from next.
struct Attack {
    log: File,
    /// Failures from one address that make a ban.
    lines: u64,
    next: u64,
}

impl Attack {
    fn open(args: &Args) -> Result<Attack> {
        let log = OpenOptions::new().append(true).create(true).open(args.word(0)?)?;
        Ok(Attack { log, lines: args.value("lines", 5)?, next: args.value("first", 0)? })
    }

    /// 198.18.0.0/15 is for benchmarks.
    fn address(&mut self) -> Ipv4Addr {
        self.next += 1;
        Ipv4Addr::from(0xc612_0000 | (self.next as u32 & 0x0001_ffff))
    }

    /// Appends failures of that address to the text. Each is of a connection of its own.
    fn fail(&self, text: &mut String, address: Ipv4Addr, lines: u64) -> Result<()> {
        let time = timestamp();
        for line in 0..lines {
            let (pid, port) = (1000 + (self.next * 8 + line) % 30_000, 30_000 + line);
            writeln!(
                text,
                "{time} host sshd[{pid}]: Failed password for root from {address} port {port} ssh2"
            )?;
        }
        Ok(())
    }

    /// One write(2).
    fn write(&mut self, address: Ipv4Addr, lines: u64) -> Result<()> {
        let mut text = String::new();
        self.fail(&mut text, address, lines)?;
        Ok(self.log.write_all(text.as_bytes())?)
    }
}

/// Prints the median and the 95th percentile of the time from the write of the deciding line to its element.
pub fn latency(args: &Args) -> Result<()> {
    let bans = args.value("bans", 100)?;
    let pause = args.value("pause", 20)?.max(1);
    let mut attack = Attack::open(args)?;
    let mut events = Events::open()?;
    // Random pauses, so that nobody who polls is met at the same moment again and again.
    let mut random = Random::new(1);
    let mut taken = Vec::new();
    // The first is not counted: some daemons make their tables then.
    for ban in 0..=bans {
        let address = attack.address();
        attack.write(address, attack.lines - 1)?;
        sleep(Duration::from_micros(5000 + random.below(pause * 1000)));
        let start = Instant::now();
        attack.write(address, 1)?;
        if !events.wait(Some(address), start + PATIENCE)? {
            return Err(format!("{address} was not banned").into());
        }
        if ban > 0 {
            taken.push(start.elapsed().as_micros() as i64);
        }
    }
    println!("{} {}", quantile(taken.clone(), 50), quantile(taken, 95));
    Ok(())
}

/// Prints how many bans a second come of a log in which each address fails often enough.
pub fn rate(args: &Args) -> Result<()> {
    let bans = args.value("bans", 1000)?;
    let mut attack = Attack::open(args)?;
    let mut events = Events::open()?;
    let mut text = String::new();
    let mut last = Ipv4Addr::UNSPECIFIED;
    for _ in 0..bans {
        last = attack.address();
        attack.fail(&mut text, last, attack.lines)?;
    }
    let start = Instant::now();
    attack.log.write_all(text.as_bytes())?;
    if !events.wait(Some(last), start + PATIENCE)? {
        return Err(format!("{last}, the last of {bans}, was not banned").into());
    }
    println!("{}", (bans as f64 / start.elapsed().as_secs_f64()) as u64);
    Ok(())
}

/// Starts the daemon, while addresses attack in a row, and prints the time until one of them is banned. Ends
/// it then.
pub fn start(args: &Args) -> Result<()> {
    let (program, rest) = args.program.split_first().ok_or(crate::USAGE)?;
    let mut attack = Attack::open(args)?;
    let mut events = Events::open()?;
    let mut command = Command::new(program);
    command.args(rest).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let mut child = command.spawn()?;
    let banned = loop {
        let address = attack.address();
        attack.write(address, attack.lines)?;
        if events.wait(None, Instant::now() + Duration::from_micros(200))? {
            break Some(start.elapsed());
        }
        if start.elapsed() > PATIENCE || child.try_wait()?.is_some() {
            break None;
        }
    };
    // An error here means that it has ended already.
    let _ = kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM);
    child.wait()?;
    println!("{}", banned.ok_or("it banned nobody")?.as_micros());
    Ok(())
}

/// Now, as rsyslog writes it: 2026-11-22T21:41:03.123456+00:00.
fn timestamp() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (now.as_secs() / 86_400, now.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!(
        "{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.{:06}+00:00",
        second % 60,
        now.subsec_micros()
    )
}

/// Days since 1970-01-01 as a date. Counted year by year and month by month: that is quick enough here.
fn date(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}
