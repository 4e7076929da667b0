#![forbid(unsafe_code)]
//! Starts `iptables-restore` and its sister for IPv6: the legacy or the nft variant, whichever works here,
//! without a shell, and never for longer than a time.

use crate::ban::{Doing, Failure};
use crate::base::range::Family;
use crate::sys::child::{self, ChildExit};
use crate::sys::{clock, poll};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;

/// What the host has chosen comes first.
const PROGRAMS: [[&str; VIAS]; 2] = [
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
/// The end of a table; the legacy variant asks the kernel nothing before it.
pub(super) const COMMIT: &str = "COMMIT";
/// Exit status: something is not to be had, such as the lock of xtables.
const RESOURCE: i32 = 4;

/// How the rules of a family came into the kernel: by which of the programs, which is never the name that the
/// host's choice has, unless that is neither of the two variants.
pub type Via = usize;
/// How many there may be.
pub(super) const VIAS: Via = 3;

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

/// Whether one of the programs is there.
pub(super) fn is_there(family: Family, via: Via) -> bool {
    names(family).get(via).is_some_and(|name| child::find(name).is_some())
}

/// All that may be run here, with their arguments.
#[must_use]
pub fn programs() -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for name in PROGRAMS.iter().flatten().filter(|name| child::find(name).is_some()) {
        for options in OPTIONS {
            let mut words = vec![(*name).to_owned()];
            words.extend(options.iter().map(|word| (*word).to_owned()));
            all.push(words);
        }
    }
    all
}

fn names(family: Family) -> &'static [&'static str; VIAS] {
    match family {
        Family::V4 => &PROGRAMS[0],
        Family::V6 => &PROGRAMS[1],
    }
}

/// Which variant the host has chosen, by what the program is: its name may stand for another one tomorrow.
pub fn chosen(family: Family) -> Via {
    let file = |name: &&str| {
        let path = child::find(name)?;
        let found = std::fs::metadata(OsStr::from_bytes(path.to_bytes())).ok()?;
        Some((found.dev(), found.ino()))
    };
    let [host, variants @ ..] = names(family);
    file(host)
        .and_then(|host| variants.iter().position(|name| file(name) == Some(host)))
        .map_or(0, |at| at + 1)
}

/// Whether rules that were written so stay where they are: the host has not chosen the other variant since.
pub(super) fn stays(family: Family, via: Via) -> bool {
    let chosen = chosen(family);
    is_there(family, via) && (chosen == via || chosen == 0)
}

/// The programs that are there, the one that the host has chosen before others.
pub(super) fn order(family: Family) -> impl Iterator<Item = Via> {
    let first = chosen(family);
    let all = std::iter::once(first).chain((1..VIAS).filter(move |at| *at != first));
    all.filter(move |via| is_there(family, *via))
}

/// Puts rules in force, tables as a whole, by the first of these texts that the kernel takes; others differ
/// only in what they expect to be there. The variant that the host has chosen is tried first.
///
/// # Errors
/// None was taken; then nothing was changed.
pub fn restore(family: Family, texts: &[String]) -> Result<Via, Failure> {
    restore_by(family, texts, &mut order(family))
}

/// Likewise by one program alone: where its rules stand, or where it is likely that the kernel has not got
/// what the rules need.
///
/// # Errors
/// As of `restore`.
pub fn restore_via(family: Family, texts: &[String], via: Via) -> Result<Via, Failure> {
    restore_by(family, texts, &mut std::iter::once(via))
}

/// Whether every program that is there says that the kernel has no such table: what one does not get for
/// another reason it may get the next time.
pub(super) fn lacks_table(family: Family, table: &str) -> bool {
    let text = ["*", table, "\nCOMMIT\n"].concat();
    let mut there = names(family).iter().filter(|name| child::find(name).is_some());
    there.all(|name| run(name, &text).is_err_and(|e| e.errno == Errno::EIO && names_no_table(&e.text)))
}

/// Whether these are the words for a table, or all of nf_tables, that the kernel does not have.
fn names_no_table(said: &str) -> bool {
    const WORDS: [&str; 5] =
        ["initialize", "does not exist", "not supported", "not available", "rule set generation id"];
    WORDS.iter().any(|words| said.contains(words)) && !said.contains("emory")
}

/// Whether a program that has refused something takes anything at all.
pub(super) fn works(family: Family, via: Via, refusal: &Failure) -> bool {
    let nothing = || restore_via(family, &["*filter\nCOMMIT\n".to_owned()], via);
    refusal.errno() != Errno::EIO || nothing().map_or_else(|e| e.errno() != Errno::EIO, |_| true)
}

/// Whether another time it may be otherwise, whichever program is asked: somebody holds the lock, which is
/// one for all, or there is no memory for a process.
pub(super) fn is_passing(errno: Errno) -> bool {
    matches!(errno, Errno::EBUSY | Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE)
}

fn restore_by(
    family: Family,
    texts: &[String],
    order: &mut dyn Iterator<Item = Via>,
) -> Result<Via, Failure> {
    let mut why: Option<(Via, Refused)> = None;
    for (at, name) in order.filter_map(|at| Some((at, *names(family).get(at)?))) {
        if child::find(name).is_none() {
            continue;
        }
        for text in texts {
            match run(name, text) {
                Ok(()) => return Ok(at),
                Err(e) if is_passing(e.errno) => return Err(failure(e)),
                // The last words of the first program: that is what the host uses.
                Err(e) if why.as_ref().is_none_or(|(first, _)| *first == at) => why = Some((at, e)),
                Err(_) => {}
            }
        }
    }
    let why = why.map(|(_, e)| e);
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
    let failed = |e: io::Error| {
        let errno = e.raw_os_error().map(Errno::from_raw).filter(|errno| is_passing(*errno));
        Refused { errno: errno.unwrap_or(Errno::EIO), text: format!("{name}: {e}") }
    };
    let argv: Vec<String> = std::iter::once(&name).chain(options).map(|word| (*word).to_owned()).collect();
    let (end, said) = start(&argv, text).map_err(failed)?;
    let nft = is_nft(name, &said);
    // The second line may say which one is meant.
    let at = said.lines().find_map(|line| line.split_once(" line: ")).map_or("", |(_, at)| at.trim());
    let said = words(&said);
    let mut said = if at.is_empty() { said } else { [&*said, " (line ", at, ")"].concat() };
    let errno = match end {
        None => {
            let text = format!("{name}: it did not end within {} s", TIME_MAX / 1000);
            return Err(Refused { errno: Errno::ETIMEDOUT, text });
        }
        Some(ChildExit::Status(0)) => return Ok(()),
        // The nft variant ends so, too, where the kernel has no nf_tables.
        Some(ChildExit::Status(RESOURCE)) if said.contains("lock") => Errno::EBUSY,
        Some(_) if said.contains("option") && options.len() > 1 => Errno::EINVAL,
        Some(_) => Errno::EIO,
    };
    if said.is_empty() {
        said = end.map_or(String::new(), |end| end.to_string());
    }
    let family = if name.starts_with("ip6") { Family::V6 } else { Family::V4 };
    // The nft variant has most matches and targets by other means than the modules that are listed.
    let part = refused_part(text, &said).filter(|_| !nft);
    let mut lacks = part.map_or(Vec::new(), |part| missing_modules(family, part));
    lacks.extend(missing_table(family, &said).filter(|_| !nft));
    if !lacks.is_empty() {
        said.extend([": this kernel lacks ", &lacks.join(", ")]);
    }
    Err(Refused { errno, text: brand(name, &said) })
}

/// What a program says is wrong, of all that it says.
fn words(said: &str) -> String {
    let lines =
        || said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("Warning:"));
    // The program that it has load modules is heard first, and says only which one.
    let own = lines().position(|line| !line.starts_with("modprobe:") && !line.starts_with("insmod:"));
    let mut lines = lines().skip(own.unwrap_or(0));
    let first = lines.next().unwrap_or("");
    // Some begin with their name and version on a line of its own; what is missing is told better elsewhere.
    let second = if first.ends_with(':') { lines.next().unwrap_or("") } else { "" };
    [first, " ", second].concat().trim_end().to_owned()
}

/// The line of the text that the words name.
pub(super) fn line_of(said: &str) -> Option<usize> {
    let (_, rest) = said.split_once("line")?;
    let digits = rest.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// What of the text the words are about: a line, or, where that is the end of a table, all before it.
fn refused_part<'t>(text: &'t str, said: &str) -> Option<&'t str> {
    let number = line_of(said)?.checked_sub(1)?;
    let end = text.match_indices('\n').nth(number)?.0;
    let before = text.get(..end)?;
    let line = before.rsplit('\n').next()?;
    Some(if line == COMMIT { before } else { line })
}

/// Whether a program is the nft variant: by its name, that of what it is a link to, or its words.
fn is_nft(name: &str, said: &str) -> bool {
    let target = || std::fs::canonicalize(OsStr::from_bytes(child::find(name)?.to_bytes())).ok();
    let linked = || target().is_some_and(|path| path.to_string_lossy().contains("-nft"));
    name.contains("-nft-") || said.contains("(nf_tables)") || linked()
}

/// Modules of matches and targets that these rules ask for and the kernel does not list. The program has had
/// them loaded, if they are there. Who may not look is told of none.
fn missing_modules(family: Family, rules: &str) -> Vec<String> {
    let prefix = if family == Family::V4 { "/proc/net/ip_tables_" } else { "/proc/net/ip6_tables_" };
    let [matches, targets] = ["matches", "targets"]
        .map(|kind| std::fs::read_to_string([prefix, kind].concat()).unwrap_or_default());
    modules_beyond([&matches, &targets], family, rules)
}

fn modules_beyond([matches, targets]: [&str; 2], family: Family, rules: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    // What stands between quotes is no word.
    for part in rules.split('"').step_by(2) {
        let mut words = part.split_ascii_whitespace();
        while let Some(word) = words.next() {
            let known = match word {
                "-m" => matches,
                "-j" => targets,
                _ => continue,
            };
            let Some(name) = words.next() else { break };
            let own = ["ACCEPT", "DROP", "RETURN"].contains(&name) || name.starts_with("mef");
            if known.is_empty() || own || known.lines().any(|one| one == name) {
                continue;
            }
            let module = match (name, family) {
                ("SNAT" | "DNAT", _) => "xt_nat".to_owned(),
                ("REJECT", Family::V4) => "ipt_REJECT".to_owned(),
                ("REJECT", Family::V6) => "ip6t_REJECT".to_owned(),
                ("SET" | "MARK", _) => ["xt_", &name.to_lowercase()].concat(),
                _ => ["xt_", name].concat(),
            };
            if !all.contains(&module) {
                all.push(module);
            }
        }
    }
    all
}

/// The module of the table that the words say is not there.
fn missing_table(family: Family, said: &str) -> Option<String> {
    let (_, rest) = said.split_once("initialize")?;
    let (_, rest) = rest.split_once(['`', '\''])?;
    let (table, _) = rest.split_once('\'')?;
    let prefix = if family == Family::V4 { "iptable_" } else { "ip6table_" };
    Some([prefix, table].concat())
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

#[cfg(test)]
mod tests;
