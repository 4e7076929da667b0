#![forbid(unsafe_code)]
//! Host names in allow lists: which there are, what they lead to, and when they are to be looked up again.
//! What was found is kept in `state_dir/lists/hosts`, so that it is in force before anybody could be asked,
//! and stays so while nobody answers. Does no I/O but for files.

use super::Paths;
use super::allow::Gone;
use super::kept::list_names;
use super::read::open;
use crate::ban::is_bogon;
use crate::base::clock::Mono;
use crate::base::range::Range;
use crate::config::{ListKind, ListLine, read_list};
use crate::dns::client::Trouble;
use crate::dns::name::Name;
use crate::dns::packet::{Message, kind};
use crate::sys::dir::Dir;
use crate::sys::fs;
use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Names at most; others are passed over.
pub const NAMES: usize = 64;
/// Addresses of a name at most.
const ADDRS: usize = 16;
/// Seconds after which a name is looked up again, at least and at most.
const TTL: (u32, u32) = (60, 86_400);
const RECORD: &str = "hosts";
const TEMPORARY: &str = "hosts.new";

/// A host name of an allow list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// In small letters, without the root's dot.
    pub name: String,
    /// Also a private address is meant.
    pub force: bool,
    /// Where it was found to lead to.
    pub addrs: Vec<IpAddr>,
    /// The list that has it.
    file: String,
}

impl Host {
    /// The name of the list that has it.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    fn may_be(&self, addr: IpAddr) -> bool {
        self.force || !is_bogon(addr)
    }
}

/// A name as it is compared: case and the root's dot make no difference.
#[must_use]
pub fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn record(paths: &Paths) -> PathBuf {
    paths.state.join("lists").join(RECORD)
}

/// Reads what is kept: `NAME force|- ADDR,ADDR FILE` in each line.
#[must_use]
pub fn read_record(text: &str) -> Vec<Host> {
    let line = |line: &str| {
        let mut words = line.splitn(4, ' ');
        let (name, force, addrs) = (words.next()?.to_owned(), words.next()? == "force", words.next()?);
        let addrs = addrs.split(',').filter_map(|addr| addr.parse().ok()).take(ADDRS).collect();
        Some(Host { name, force, addrs, file: words.next()?.to_owned() })
    };
    text.lines().filter_map(line).take(NAMES).collect()
}

/// Keeps what names lead to.
///
/// # Errors
/// What the system says.
pub fn keep(paths: &Paths, hosts: &[Host]) -> io::Result<()> {
    let mut text = String::new();
    for Host { name, force, addrs, file } in hosts {
        let addrs: Vec<String> = addrs.iter().map(ToString::to_string).collect();
        let force = if *force { "force" } else { "-" };
        let _ = writeln!(text, "{name} {force} {} {file}", addrs.join(","));
    }
    let there = fs::content(&record(paths));
    if there.as_ref().is_ok_and(|there| there == text.as_bytes()) || there.is_err() && hosts.is_empty() {
        return Ok(());
    }
    Dir::create(&paths.state.join("lists"))?.replace(RECORD, TEMPORARY, text.as_bytes())
}

/// The names of a file; `None` if it cannot be used.
fn names_of(path: &Path) -> Option<Vec<(String, bool)>> {
    let mut opened = open(ListKind::Allow, path).ok()?;
    let mut found = Vec::new();
    let counts = read_list(ListKind::Allow, &mut opened, &mut |line| {
        if let ListLine::Host(name, force, _) = line {
            found.push((plain(name), force));
        }
    });
    counts.ok().filter(|counts| !counts.refused()).map(|_| found)
}

/// Where the name stands that leads to an address: the file, and the line.
#[must_use]
pub fn place(paths: &Paths, addr: IpAddr) -> Option<(PathBuf, u32)> {
    let host = hosts(paths, Gone::Wait).into_iter().find(|host| host.addrs.contains(&addr))?;
    let path = paths.dir(ListKind::Allow).join(&host.file);
    let mut found = None;
    read_list(ListKind::Allow, &mut open(ListKind::Allow, &path).ok()?, &mut |line| match line {
        ListLine::Host(name, _, at) if plain(name) == host.name => {
            found.get_or_insert(at);
        }
        _ => {}
    })
    .ok()?;
    found.map(|line| (path, line))
}

/// The names of all allow lists, and where they were found to lead to. A file that cannot be used has the
/// names that it had.
#[must_use]
pub fn hosts(paths: &Paths, gone: Gone) -> Vec<Host> {
    let text = fs::content(&record(paths)).unwrap_or_default();
    let previous = read_record(&String::from_utf8_lossy(&text));
    let names = list_names(paths.dir(ListKind::Allow));
    let mut all: Vec<Host> = Vec::new();
    let mut add = |host: Host| {
        if let Some(other) = all.iter_mut().find(|other| other.name == host.name) {
            other.force |= host.force;
        } else if all.len() < NAMES {
            all.push(host);
        }
    };
    let there = names.as_ref().ok().and_then(Option::as_ref);
    for file in there.into_iter().flatten() {
        let kept = || previous.iter().filter(|host| host.file == *file);
        let Some(found) = names_of(&paths.dir(ListKind::Allow).join(file)) else {
            kept().cloned().for_each(&mut add);
            continue;
        };
        for (name, force) in found {
            let known = previous.iter().find(|host| host.name == name);
            let addrs = known.map(|host| host.addrs.clone()).unwrap_or_default();
            add(Host { name, force, addrs, file: file.clone() });
        }
    }
    let stays = |host: &&Host| match there {
        Some(names) => gone == Gone::Wait && !names.contains(&host.file),
        None => true,
    };
    previous.iter().filter(stays).cloned().for_each(&mut add);
    all
}

/// How many names a file has, if these are too many.
pub(super) fn too_many(path: &Path) -> Option<usize> {
    names_of(path).map(|names| names.len()).filter(|all| *all > NAMES)
}

/// A name of the allow lists.
#[must_use]
pub fn host(paths: &Paths, name: &str) -> Option<Host> {
    let name = plain(name);
    hosts(paths, Gone::Wait).into_iter().find(|host| host.name == name)
}

/// What names lead to, as far as that may be allowed.
pub(super) fn ranges(paths: &Paths, gone: Gone) -> Vec<Range> {
    let mut found = Vec::new();
    for host in hosts(paths, gone) {
        found.extend(host.addrs.iter().filter(|addr| host.may_be(**addr)).map(|addr| Range::from(*addr)));
    }
    found
}

/// A name, and how its look-up goes.
struct Lookup {
    host: Host,
    name: Name,
    number: u32,
    due: Mono,
    /// Questions that are to be sent, and answers that are to come: for IPv4 and IPv6, a bit each.
    left: u8,
    open: u8,
    found: Vec<IpAddr>,
    /// Why there is no answer.
    trouble: Option<Trouble>,
    ttl: u32,
    /// That it leads nowhere was told.
    told: bool,
}

/// A question for an address of a name.
pub struct Question {
    /// Stands for the name.
    pub number: u32,
    /// Of IPv6.
    pub six: bool,
    /// To be asked for.
    pub name: Name,
    /// The type.
    pub kind: u16,
}

/// All names, and when they are to be looked up.
#[derive(Default)]
pub struct Hosts {
    all: Vec<Lookup>,
    next: u32,
}

/// What follows from an answer, for people.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing.
    Same,
    /// The name leads elsewhere now.
    Changed(String),
    /// It leads nowhere; what it had stays.
    Nowhere(String),
}

impl Hosts {
    /// Takes the names that there are now. What is known of those that stay is kept.
    pub fn set(&mut self, hosts: Vec<Host>, now: Mono) {
        let mut previous = std::mem::take(&mut self.all);
        for host in hosts {
            let known = previous.iter().position(|lookup| lookup.host.name == host.name);
            let Some(name) = Name::parse(host.name.as_bytes()) else { continue };
            let known =
                known.map(|at| previous.swap_remove(at)).filter(|lookup| lookup.host.force == host.force);
            self.next = self.next.wrapping_add(1);
            self.all.push(match known {
                Some(lookup) => Lookup { host: Host { addrs: lookup.host.addrs, ..host }, ..lookup },
                None => Lookup {
                    host,
                    name,
                    number: self.next,
                    due: now,
                    left: 0,
                    open: 0,
                    found: Vec::new(),
                    trouble: None,
                    ttl: 0,
                    told: false,
                },
            });
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// To be kept.
    #[must_use]
    pub fn to_keep(&self) -> Vec<Host> {
        self.all.iter().map(|lookup| lookup.host.clone()).collect()
    }

    /// When a name is to be looked up.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        self.all.iter().map(|lookup| lookup.due).min()
    }

    /// The next question that is to be sent.
    pub fn next_question(&mut self, now: Mono) -> Option<Question> {
        for lookup in &mut self.all {
            if lookup.due <= now {
                (lookup.left, lookup.open, lookup.trouble) = (0b11, 0b11, None);
                lookup.found.clear();
                lookup.ttl = TTL.1;
                lookup.due = now.after(u64::from(TTL.1) * 1000);
            }
            if lookup.left != 0 {
                let six = lookup.left == 0b10;
                lookup.left &= lookup.left - 1;
                let kind = if six { kind::AAAA } else { kind::A };
                return Some(Question { number: lookup.number, six, name: lookup.name, kind });
            }
        }
        None
    }

    /// Takes in an answer.
    pub fn answered(
        &mut self,
        now: Mono,
        (number, six): (u32, bool),
        answer: Result<Message<'_>, Trouble>,
    ) -> Heard {
        let Some(lookup) = self.all.iter_mut().find(|lookup| lookup.number == number) else {
            return Heard::Same;
        };
        match answer {
            Ok(message) => lookup.take(message),
            Err(trouble) => {
                lookup.trouble = Some(trouble);
                let previous = lookup.host.addrs.iter().filter(|addr| addr.is_ipv6() == six);
                lookup.found.extend(previous);
            }
        }
        lookup.open &= if six { 0b01 } else { 0b10 };
        if lookup.open == 0 { lookup.end(now) } else { Heard::Same }
    }
}

impl Lookup {
    fn take(&mut self, message: Message<'_>) {
        for record in message.answers().flatten() {
            let v4 = record.a().map(IpAddr::from);
            let addr = v4.or_else(|| record.aaaa().map(IpAddr::from)).map(crate::base::net::canonical);
            let Some(addr) = addr.filter(|addr| self.found.len() < ADDRS && !self.found.contains(addr))
            else {
                continue;
            };
            self.ttl = self.ttl.min(record.ttl);
            self.found.push(addr);
        }
    }

    /// Both answers are there, or will not come.
    fn end(&mut self, now: Mono) -> Heard {
        let ttl = if self.trouble.is_some() || self.found.is_empty() { 0 } else { self.ttl };
        self.due = now.after(u64::from(ttl.clamp(TTL.0, TTL.1)) * 1000);
        let private = self.found.iter().find(|addr| !self.host.may_be(**addr)).copied();
        self.found.retain(|addr| self.host.force || !is_bogon(*addr));
        self.found.sort_unstable();
        let name = &self.host.name;
        if self.found.is_empty() || self.trouble.is_some() && self.found == self.host.addrs {
            if std::mem::replace(&mut self.told, true) {
                return Heard::Same;
            }
            let why = match (self.trouble, private) {
                (Some(trouble), _) => trouble.to_string(),
                (None, Some(addr)) => {
                    format!("it leads to {addr}, which is private (append force if that is intended)")
                }
                (None, None) => "it leads nowhere".to_owned(),
            };
            return Heard::Nowhere(format!("allow list: {name}: {why}; {}", self.stays()));
        }
        self.told = false;
        if self.found == self.host.addrs {
            return Heard::Same;
        }
        self.host.addrs.clone_from(&self.found);
        Heard::Changed(format!("allow list: {name} is {}", self.shown()))
    }

    fn shown(&self) -> String {
        let addrs: Vec<String> = self.host.addrs.iter().map(ToString::to_string).collect();
        addrs.join(", ")
    }

    fn stays(&self) -> String {
        if self.host.addrs.is_empty() {
            "nobody is allowed for it".to_owned()
        } else {
            format!("what it was last stays in force ({})", self.shown())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::packet::{Section, Writer, class, flag};

    const START: Mono = Mono(1000);

    fn hosts(force: bool) -> Hosts {
        let mut hosts = Hosts::default();
        let host = Host { name: "a.example".into(), force, addrs: Vec::new(), file: "local.conf".into() };
        hosts.set(vec![host], START);
        hosts
    }

    /// Looks the name up; `None` for no answer.
    fn look_up(hosts: &mut Hosts, now: Mono, addrs: &[(&str, u32)], fails: [bool; 2]) -> Vec<Heard> {
        let mut heard = Vec::new();
        while let Some(question) = hosts.next_question(now) {
            let mut buffer = [0; 1000];
            let mut writer = Writer::new(&mut buffer, 1, flag::RESPONSE).unwrap();
            writer.question(&question.name, question.kind, class::IN).unwrap();
            for (addr, ttl) in addrs {
                let data = match addr.parse::<IpAddr>().unwrap() {
                    IpAddr::V4(v4) if !question.six => v4.octets().to_vec(),
                    IpAddr::V6(v6) if question.six => v6.octets().to_vec(),
                    _ => continue,
                };
                let (name, kind) = (&question.name, question.kind);
                writer.record(Section::Answer, name, kind, class::IN, *ttl, &data).unwrap();
            }
            let message = Message::new(writer.bytes()).unwrap();
            let answer = if fails[usize::from(question.six)] { Err(Trouble::Silent) } else { Ok(message) };
            heard.push(hosts.answered(now, (question.number, question.six), answer));
        }
        heard.retain(|heard| *heard != Heard::Same);
        heard
    }

    fn addrs(hosts: &Hosts) -> Vec<String> {
        hosts.to_keep()[0].addrs.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_name_is_what_it_was_until_there_is_another_answer() {
        let mut hosts = hosts(false);
        let both = [("20.0.0.2", 300), ("20.0.0.1", 90), ("2600::1", 7)];
        let heard = look_up(&mut hosts, START, &both, [false; 2]);
        assert_eq!(heard, [Heard::Changed("allow list: a.example is 20.0.0.1, 20.0.0.2, 2600::1".into())]);
        // The shortest time, but no less than a minute.
        let mut now = START.after(60_000);
        assert_eq!(hosts.deadline(), Some(now));
        assert!(look_up(&mut hosts, now, &both[1..2], [false, true]).len() == 1);
        assert_eq!(addrs(&hosts), ["20.0.0.1", "2600::1"], "IPv6 was not answered");
        for told in [1, 0] {
            now = now.after(60_000);
            assert_eq!(hosts.deadline(), Some(now));
            assert_eq!(look_up(&mut hosts, now, &[], [false; 2]).len(), told, "that it is gone is told once");
            assert_eq!(addrs(&hosts), ["20.0.0.1", "2600::1"]);
        }
        now = now.after(60_000);
        assert_eq!(look_up(&mut hosts, now, &[("20.0.0.9", 1 << 30)], [false; 2]).len(), 1);
        assert_eq!((addrs(&hosts), hosts.deadline()), (vec!["20.0.0.9".into()], Some(now.after(86_400_000))));
        now = now.after(86_400_000);
        assert!(look_up(&mut hosts, now, &[("20.0.0.9", 600)], [false; 2]).is_empty());
        assert_eq!(hosts.deadline(), Some(now.after(600_000)));
    }

    #[test]
    fn a_name_widens_nothing() {
        for (force, want) in [(false, vec!["20.0.0.1"]), (true, vec!["10.0.0.1", "20.0.0.1", "fd00::1"])] {
            let mut hosts = hosts(force);
            look_up(&mut hosts, START, &[("10.0.0.1", 60), ("20.0.0.1", 60), ("fd00::1", 60)], [false; 2]);
            assert_eq!(addrs(&hosts), want);
        }
        let mut hosts = hosts(false);
        let heard = look_up(&mut hosts, START, &[("192.168.1.1", 60)], [false; 2]);
        assert!(matches!(&heard[..], [Heard::Nowhere(why)] if why.contains("192.168.1.1, which is private")));
        let many: Vec<String> = (0..99).map(|n| format!("20.0.0.{n}")).collect();
        let many: Vec<(&str, u32)> = many.iter().map(|addr| (addr.as_str(), 60)).collect();
        look_up(&mut hosts, START.after(60_000), &many[..40], [false; 2]);
        assert_eq!(addrs(&hosts).len(), ADDRS);
    }

    #[test]
    fn what_is_kept_comes_back() {
        let text = "a.example - 20.0.0.1,2600::1 local.conf\nb.example force  my list.conf\nrubbish\n";
        let read = read_record(text);
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].addrs.len(), read[0].force, read[0].file.as_str()), (2, false, "local.conf"));
        assert_eq!((read[1].addrs.len(), read[1].force, read[1].file.as_str()), (0, true, "my list.conf"));
    }
}
