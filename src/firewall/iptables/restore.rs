#![forbid(unsafe_code)]
//! Starts `iptables-restore` and its sister for IPv6: the legacy or the nft variant, whichever works here,
//! without a shell, and never for longer than a time.

use crate::ban::{Doing, Failure};
use crate::base::range::Family;
use crate::sys::child::{self, ChildExit};
use crate::sys::{clock, poll};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::AsFd as _;

/// What the host has chosen comes first.
const PROGRAMS: [[&str; 3]; 2] = [
    ["iptables-restore", "iptables-legacy-restore", "iptables-nft-restore"],
    ["ip6tables-restore", "ip6tables-legacy-restore", "ip6tables-nft-restore"],
];
/// Seconds that it waits for others who change rules, and milliseconds that it may take in all.
const LOCK_WAIT: &str = "10";
/// What it is told; before 1.6.2 it waits for nobody.
const OPTIONS: [&[&str]; 2] = [&["--noflush", "-w", LOCK_WAIT], &["--noflush"]];
const TIME_MAX: u64 = 30_000;
/// Bytes of its words that are kept.
const WORDS_MAX: usize = 512;
/// Exit status: somebody else holds the lock of xtables.
const LOCKED: i32 = 4;

/// How the rules of a family came into the kernel.
pub type Via = usize;

/// Why they did not.
struct Refused {
    errno: Errno,
    text: String,
}

/// Whether a program for the family is installed.
#[must_use]
pub fn is_installed(family: Family) -> bool {
    names(family).iter().any(|name| child::find(name).is_some())
}

/// All that may be run here, with their arguments.
#[must_use]
pub fn programs() -> Vec<Vec<String>> {
    let words = |name: &str, options: &[&str]| {
        std::iter::once(&name).chain(options).map(|word| (*word).to_owned()).collect()
    };
    let names = PROGRAMS.iter().flatten().filter(|name| child::find(name).is_some());
    names.flat_map(|name| OPTIONS.iter().map(|options| words(name, options))).collect()
}

fn names(family: Family) -> &'static [&'static str; 3] {
    match family {
        Family::V4 => &PROGRAMS[0],
        Family::V6 => &PROGRAMS[1],
    }
}

/// Puts rules in force, tables as a whole, by the first of these texts that the kernel takes; others differ
/// only in what they expect to be there. `via` is how that went the last time.
///
/// # Errors
/// None was taken; then nothing was changed.
pub fn restore(family: Family, texts: &[String], via: Option<Via>) -> Result<Via, Failure> {
    let others = (0..names(family).len()).filter(|at| Some(*at) != via);
    restore_by(family, texts, (via, &mut via.into_iter().chain(others)))
}

/// Likewise by one program alone: where it is likely that the kernel has not got what the rules need.
///
/// # Errors
/// As of `restore`.
pub fn restore_via(family: Family, texts: &[String], via: Via) -> Result<Via, Failure> {
    restore_by(family, texts, (Some(via), &mut std::iter::once(via)))
}

fn restore_by(
    family: Family,
    texts: &[String],
    (via, order): (Option<Via>, &mut dyn Iterator<Item = Via>),
) -> Result<Via, Failure> {
    let mut why = None;
    for (at, name) in order.filter_map(|at| Some((at, *names(family).get(at)?))) {
        if child::find(name).is_none() {
            continue;
        }
        for text in texts {
            match run(name, text) {
                Ok(()) => return Ok(at),
                // Whoever holds the lock holds it for the others, too.
                Err(e) if e.errno == Errno::EBUSY => return Err(failure(e)),
                // The last words of the first program: that is what the host uses.
                Err(e) if why.is_none() || Some(at) == via || at == 0 => why = Some(e),
                Err(_) => {}
            }
        }
    }
    let none = || Refused {
        errno: Errno::ENOENT,
        text: format!("{} is not installed: install the package iptables", names(family)[0]),
    };
    Err(failure(why.unwrap_or_else(none)))
}

fn failure(e: Refused) -> Failure {
    Failure::new(Doing::Change, e.errno, e.text)
}

fn run(name: &str, text: &str) -> Result<(), Refused> {
    match run_with(name, OPTIONS[0], text) {
        Err(e) if e.errno == Errno::EINVAL => run_with(name, OPTIONS[1], text),
        result => result,
    }
}

fn run_with(name: &str, options: &[&str], text: &str) -> Result<(), Refused> {
    let failed = |e: &dyn std::fmt::Display| Refused { errno: Errno::EIO, text: format!("{name}: {e}") };
    let argv: Vec<String> = std::iter::once(&name).chain(options).map(|word| (*word).to_owned()).collect();
    let (end, said) = start(&argv, text).map_err(|e| failed(&e))?;
    // The second line may say which one is meant.
    let at = said.lines().find_map(|line| line.split_once(" line: ")).map_or("", |(_, at)| at.trim());
    // Some begin with their name and version on a line of its own.
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("");
    let joined = [first, " ", lines.next().unwrap_or("")].concat();
    let said = if first.ends_with(':') { joined.trim_end() } else { first };
    let said = &*if at.is_empty() { said.to_owned() } else { [said, " (line ", at, ")"].concat() };
    let errno = match end {
        None => {
            let text = format!("{name}: it did not end within {} s", TIME_MAX / 1000);
            return Err(Refused { errno: Errno::ETIMEDOUT, text });
        }
        Some(ChildExit::Status(0)) => return Ok(()),
        Some(ChildExit::Status(LOCKED)) => Errno::EBUSY,
        Some(_) if said.contains("option") && options.len() > 1 => Errno::EINVAL,
        Some(_) => Errno::EIO,
    };
    let how = end.map_or(String::new(), |end| end.to_string());
    Err(Refused { errno, text: if said.is_empty() { format!("{name}: {how}") } else { brand(name, said) } })
}

/// Words that begin with their program's name have it already.
fn brand(name: &str, said: &str) -> String {
    if said.starts_with("ip") { said.to_owned() } else { format!("{name}: {said}") }
}

/// Starts it with a text to read; how it ended, if it did in time, and what it said.
fn start(argv: &[String], text: &str) -> io::Result<(Option<ChildExit>, String)> {
    let mut input = File::from(memfd_create(c"mef-rules", MFdFlags::MFD_CLOEXEC)?);
    input.write_all(text.as_bytes())?;
    input.rewind()?;
    let (mut said, write) = child::pipe(child::WhenFull::Wait)?;
    let child =
        child::start_with(argv, &[], [Some(input.as_fd()), Some(write.as_fd()), Some(write.as_fd())])?;
    drop(write);
    let deadline = clock::mono().after(TIME_MAX);
    let (mut words, mut bytes, mut ended) = (Vec::new(), [0; 256], false);
    while !ended && clock::mono() < deadline {
        match said.read(&mut bytes) {
            Ok(0) => ended = true,
            Ok(n) if words.len() < WORDS_MAX => words.extend(bytes.iter().take(n)),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                poll::wait(&[Some(said.as_fd())], &mut [poll::Ready::default()], Some(deadline))?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => ended = true,
        }
    }
    if !ended {
        child.kill();
    }
    let end = child.wait();
    Ok((ended.then_some(end), String::from_utf8_lossy(&words).into_owned()))
}
