//! What others make of the same logs: fail2ban with the numbers that it ships, and sshd's own penalties.

use super::host::{Bans, Line};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// Which of fail2ban's jails read such a log. Only sshd's is on by default.
pub const AUTH_JAILS: &str = "sshd,dovecot,postfix-sasl";
pub const WEB_JAILS: &str = "nginx-botsearch,nginx-bad-request,apache-badbots";

/// Whom fail2ban bans in each log, by which jail, at which of his lines; nothing where there is none.
pub fn fail2ban(logs: &[(&str, &[Line])]) -> Option<Vec<Bans>> {
    let dir = std::env::temp_dir().join(format!(
        "mef-peers-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::create_dir_all(&dir).unwrap();
    let mut list = String::new();
    for (n, (jails, lines)) in logs.iter().enumerate() {
        let path = dir.join(n.to_string());
        std::fs::write(&path, lines.iter().map(|line| line.1.as_str()).collect::<String>()).unwrap();
        writeln!(list, "{jails} {}", path.display()).unwrap();
    }
    let answer = ask(&list);
    std::fs::remove_dir_all(&dir).unwrap();
    let mut bans = vec![Bans::new(); logs.len()];
    for line in answer?.lines() {
        let words: Vec<_> = line.split(' ').collect();
        let [path, jail, addr, at] = words[..] else { continue };
        let log: usize = path.rsplit('/').next().unwrap().parse().unwrap();
        let ban = (jail.to_owned(), at.parse().unwrap());
        let first = bans[log].entry(addr.to_owned()).or_insert_with(|| ban.clone());
        if ban.1 < first.1 {
            *first = ban;
        }
    }
    Some(bans)
}

fn ask(list: &str) -> Option<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/detect/honest/fail2ban.py");
    let started = Command::new("python3")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else {
        println!("no python3 here: fail2ban is left out");
        return None;
    };
    // Where there is no fail2ban it has ended already, and says so.
    let _ = child.stdin.take().unwrap().write_all(list.as_bytes());
    let output = child.wait_with_output().unwrap();
    let reported = String::from_utf8_lossy(&output.stderr);
    if reported.starts_with("no fail2ban here") {
        println!("{}: it is left out", reported.trim());
        return None;
    }
    assert!(output.status.success(), "{reported}");
    Some(String::from_utf8(output.stdout).unwrap())
}

/// How a connection to sshd ends, and what that costs by PerSourcePenalties' defaults (sshd_config(5) of
/// 10.0).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Entered = 0,
    NoAuth = 1,
    AuthFail = 5,
    GraceExceeded = 10,
}
/// A penalty counts when more than this has come together, and no more than that comes together.
const MIN: u64 = 15;
const MAX: u64 = 600;

/// What sshd's penalties do to an address.
#[derive(Default, Debug)]
pub struct Refused {
    pub connections: usize,
    pub refused: usize,
    /// At which of his lines.
    pub first: Option<usize>,
}

struct Connection {
    addr: String,
    last: usize,
    end: End,
    refused: bool,
}

/// A model of sshd's penalties: the seconds of each failed connection add up, and while more than 15 are left
/// and once were reached, connections are refused. A refused one costs nothing more.
pub fn penalties(lines: &[Line], addr: impl Fn(&str) -> String) -> BTreeMap<String, Refused> {
    let mut connections = connections(lines, &addr);
    let mut all = BTreeMap::<String, Refused>::new();
    let mut own = BTreeMap::<String, usize>::new();
    let mut until = BTreeMap::<String, (u64, bool)>::new();
    for (n, (secs, line)) in lines.iter().enumerate() {
        let Some(id) = id(line, &addr) else { continue };
        let own = own.entry(id.1.clone()).or_default();
        *own += 1;
        let Some((first, connection)) = connections.get_mut(&id) else { continue };
        let (expires, active) = until.entry(connection.addr.clone()).or_default();
        if *expires <= *secs {
            (*expires, *active) = (*secs, false);
        }
        if *first == n {
            let refused = all.entry(connection.addr.clone()).or_default();
            refused.connections += 1;
            connection.refused = *active;
            if *active {
                refused.refused += 1;
                refused.first.get_or_insert(*own);
            }
        }
        if connection.last == n && !connection.refused {
            *expires = (*expires + connection.end as u64).min(*secs + MAX);
            *active |= *expires - *secs > MIN;
        }
    }
    all
}

type Id = (String, String);

/// The process and the address of a line of sshd.
fn id(line: &str, peer: impl Fn(&str) -> String) -> Option<Id> {
    let (_, rest) = line.split_once("sshd[")?;
    let (pid, message) = rest.split_once("]: ")?;
    let addr = peer(message);
    (!addr.is_empty()).then(|| (pid.to_owned(), addr))
}

/// The connections by process and address, with the number of the first line of each.
fn connections(lines: &[Line], peer: impl Fn(&str) -> String) -> BTreeMap<Id, (usize, Connection)> {
    let mut all = BTreeMap::<Id, (usize, Connection)>::new();
    for (n, (_, line)) in lines.iter().enumerate() {
        let Some(id) = id(line, &peer) else { continue };
        let end = if line.contains("Accepted ") {
            End::Entered
        } else if line.contains("Timeout before") {
            End::GraceExceeded
        } else if line.contains("Failed ") || line.contains(" user ") || line.contains("maximum auth") {
            End::AuthFail
        } else {
            End::NoAuth
        };
        let addr = id.1.clone();
        let new = || (n, Connection { addr, last: n, end, refused: false });
        let connection = &mut all.entry(id).or_insert_with(new).1;
        connection.last = n;
        let entered = end == End::Entered || connection.end == End::Entered;
        connection.end = if entered { End::Entered } else { end.max(connection.end) };
    }
    all
}
