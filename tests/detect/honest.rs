//! The honest corpus: what honest clients of services leave in logs gets nobody banned by the rules as they
//! ship, and what attackers leave beside it does, at which attempt. Real logs in its directory, and days made
//! here: an office, the customers behind one address of a provider, crawlers, monitors. `--nocapture` shows
//! the figures.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod clients;
mod days;
mod host;

mod peers;

use days::{Attack, auth_attacks, auth_day, sorted, web_attacks, web_day};
use host::{Host, Lines, ROOT, sender, timed};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

const MAIL: &[&str] = &["dovecot", "postfix", "postfix-abuse", "courier", "exim-syslog"];
const SSH: &[&str] = &["sshd", "sshd-keys"];
const WEB: &[&str] = &["web-probes", "webscan", "wordpress", "web-slow", "nginx-auth", "nginx-limit"];

/// The logs in a directory of tests/detect/honest, with their names.
fn recorded(kind: &str) -> Vec<(String, Lines)> {
    let dir = PathBuf::from(ROOT).join("tests/detect/honest").join(kind);
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        all.push((name, timed(&std::fs::read_to_string(&path).unwrap())));
    }
    all.sort();
    all
}

#[test]
fn logs_of_honest_clients_get_nobody_banned() {
    let mut wrong = String::new();
    let mut count = 0;
    for (kind, rules) in [("auth", [SSH, MAIL].concat()), ("web", WEB.to_vec())] {
        for (name, lines) in recorded(kind) {
            let bans = Host::new(&rules).read(&lines, sender);
            count += 1;
            if !bans.is_empty() {
                writeln!(wrong, "{kind}/{name}: {bans:?}").unwrap();
            }
        }
    }
    println!("{count} logs of honest clients");
    assert!(wrong.is_empty() && count > 50, "{count} logs, wrong bans:\n{wrong}");
}

/// What attackers' programs of Debian left on a server without mef, from their first line on, and the line at
/// which it has to be over.
const ATTACKS: [(&str, &[&str], usize); 10] = [
    ("hydra", SSH, 70),
    ("hydra-names", SSH, 70),
    ("medusa", SSH, 70),
    ("ncrack", SSH, 30),
    ("nmap-ssh-brute", SSH, 30),
    ("gobuster", WEB, 70),
    ("dirb", WEB, 70),
    ("http-enum", WEB, 40),
    ("nikto", WEB, 70),
    ("slowloris", WEB, 170),
];

#[test]
fn programs_of_attackers_are_cut_off() {
    for (name, rules, most) in ATTACKS {
        let path = PathBuf::from(ROOT).join(format!("tests/detect/honest/attacks/{name}.log"));
        let lines = timed(&std::fs::read_to_string(&path).unwrap());
        let bans = Host::new(rules).read(&lines, sender);
        match bans.get("198.51.100.66") {
            Some((rule, at)) => {
                println!("{name}: banned by {rule} at line {at}");
                assert!(*at <= most, "{name}: banned at line {at} only");
            }
            None => panic!("{name} is not banned"),
        }
        assert_eq!(bans.len(), 1, "{name}: {bans:?}");
    }
}

/// Nobody of the day is banned, and each attacker is, in time, though all of it is one log.
fn day(rules: &[&str], honest: Lines, attacks: Vec<Attack>) {
    let mut lines = honest;
    let known: Vec<_> = attacks.iter().map(|(name, addr, most, _)| (*name, *addr, *most)).collect();
    lines.extend(attacks.into_iter().flat_map(|attack| attack.3));
    let lines = sorted(lines);
    let bans = Host::new(rules).read(&lines, sender);
    let wrong: Vec<_> = bans.iter().filter(|(peer, _)| known.iter().all(|k| k.1 != peer.as_str())).collect();
    println!("{} lines, {} wrong bans", lines.len(), wrong.len());
    assert!(wrong.is_empty(), "wrong bans: {wrong:?}");
    for (name, addr, most) in known {
        let (rule, at) = bans.get(addr).unwrap_or_else(|| panic!("{name} is not banned: {bans:?}"));
        println!("{name}: banned by {rule} at line {at}");
        assert!(*at <= most, "{name}: banned at line {at} only");
    }
}

#[test]
fn a_day_of_log_ins() {
    for seed in 0..3 {
        let mut rng = fastrand::Rng::with_seed(seed);
        day(&[SSH, MAIL].concat(), auth_day(&mut rng), auth_attacks());
    }
}

#[test]
fn a_day_of_a_web_site() {
    let mut rng = fastrand::Rng::with_seed(1);
    day(WEB, web_day(&mut rng), web_attacks());
}

/// Of all lines the first 200 of each address, in their order: fail2ban is slow, and bans before that or
/// never.
fn first_of_each(lines: &Lines) -> Lines {
    let mut seen = BTreeMap::<String, usize>::new();
    let early = |line: &&host::Line| {
        let count = seen.entry(sender(&line.1)).or_default();
        *count += 1;
        *count <= 200
    };
    lines.iter().filter(early).cloned().collect()
}

fn nth(n: Option<usize>) -> String {
    let Some(n) = n else { return "never".to_owned() };
    let ending = match (n % 10, n % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{n}{ending}")
}

/// A row of a table in the page that argues the numbers; what could not be measured here is not compared.
#[track_caller]
fn documented(name: &str, measured: &[Option<String>]) {
    let page = std::fs::read_to_string(format!("{ROOT}/rootfs/usr/share/doc/mef/limits.md")).unwrap();
    let row = page.lines().find(|line| line.starts_with(&format!("| {name} |")));
    let cells: Vec<_> = row.unwrap_or("").split('|').skip(2).map(str::trim).collect();
    let same = |(n, cell): (usize, &Option<String>)| {
        cell.as_ref().is_none_or(|cell| cells.get(n).is_some_and(|reported| reported == cell))
    };
    println!("{name}: {measured:?}");
    assert!(measured.iter().enumerate().all(same), "limits.md has {row:?}, measured was {measured:?}");
}

/// What mef, fail2ban and sshd's penalties do about each attacker of a day, at which of his attempts.
fn day_of_peers(rules: &[&str], jails: &str, day: &str, honest: Lines, attacks: Vec<Attack>) {
    let mut lines = honest;
    let known: Vec<_> = attacks.iter().map(|(name, addr, ..)| (*name, *addr)).collect();
    lines.extend(attacks.into_iter().flat_map(|attack| attack.3));
    let lines = sorted(lines);
    let bans = Host::new(rules).read(&lines, sender);
    let early = if jails == peers::WEB_JAILS { first_of_each(&lines) } else { lines.clone() };
    let fail2ban = peers::fail2ban(&[(jails, &early)]).map(|mut all| all.remove(0));
    let refused = peers::penalties(&lines, sender);
    for (name, addr) in &known {
        let at = |bans: &host::Bans| nth(bans.get(*addr).map(|ban| attempt(&lines, addr, ban.1)));
        let ssh = refused.get(*addr).map_or("–".to_owned(), |r| match r.first {
            Some(line) => {
                format!("{}; {} of {}", nth(Some(attempt(&lines, addr, line))), r.refused, r.connections)
            }
            None => "never".to_owned(),
        });
        documented(name, &[Some(at(&bans)), fail2ban.as_ref().map(at), Some(ssh)]);
    }
    let wrong =
        |bans: &host::Bans| bans.keys().filter(|peer| known.iter().all(|k| k.1 != peer.as_str())).count();
    let ssh = refused
        .iter()
        .filter(|(peer, r)| r.refused > 0 && known.iter().all(|k| k.1 != peer.as_str()))
        .count();
    let ssh = if refused.is_empty() { "–".to_owned() } else { ssh.to_string() };
    let cells = [Some(wrong(&bans).to_string()), fail2ban.as_ref().map(|b| wrong(b).to_string()), Some(ssh)];
    documented(day, &cells);
}

/// At which attempt an address is with a line of its own: a secret that was refused, a connection to sshd in
/// which none was, a request.
fn attempt(lines: &Lines, addr: &str, at: usize) -> usize {
    let mut failed = std::collections::BTreeSet::new();
    let own = lines.iter().filter(|line| sender(&line.1) == addr).take(at);
    let counts = |line: &&host::Line| {
        let Some((pid, message)) = line.1.split_once("sshd[").and_then(|(_, rest)| rest.split_once("]: "))
        else {
            return true;
        };
        if message.starts_with("Failed ") {
            failed.insert(pid.to_owned());
            return true;
        }
        message.starts_with("Connection closed") && !failed.contains(pid)
    };
    own.filter(counts).count()
}

#[test]
fn attackers_are_met_by_peers_as_the_page_says() {
    let mut rng = fastrand::Rng::with_seed(0);
    let day = "a day of two offices and their machines";
    day_of_peers(&[SSH, MAIL].concat(), peers::AUTH_JAILS, day, auth_day(&mut rng), auth_attacks());
    let day = "a day of a web site";
    day_of_peers(WEB, peers::WEB_JAILS, day, web_day(&mut rng), web_attacks());
}

#[test]
fn programs_of_attackers_are_met_by_fail2ban_as_the_page_says() {
    let logs = recorded("attacks");
    let jails = |name: &str| {
        let rules = ATTACKS.iter().find(|attack| attack.0 == name).unwrap().1;
        if rules == SSH { peers::AUTH_JAILS } else { peers::WEB_JAILS }
    };
    let each: Vec<_> = logs.iter().map(|(name, lines)| (jails(name), &lines[..])).collect();
    let fail2ban = peers::fail2ban(&each);
    for (n, (name, lines)) in logs.iter().enumerate() {
        let addr = "198.51.100.66";
        let rules = ATTACKS.iter().find(|attack| attack.0 == name).unwrap().1;
        let at = |bans: &host::Bans| nth(bans.get(addr).map(|ban| attempt(lines, addr, ban.1)));
        let own = at(&Host::new(rules).read(lines, sender));
        documented(name, &[Some(own), fail2ban.as_ref().map(|all| at(&all[n]))]);
    }
}

#[test]
fn honest_logs_are_met_by_peers_as_the_page_says() {
    for (kind, what, jails) in
        [("auth", "log-ins", peers::AUTH_JAILS), ("web", "web servers", peers::WEB_JAILS)]
    {
        let logs = recorded(kind);
        let each: Vec<_> = logs.iter().map(|(_, lines)| (jails, &lines[..])).collect();
        let banned =
            peers::fail2ban(&each).map(|all| all.iter().filter(|bans| !bans.is_empty()).count().to_string());
        let refused: Vec<_> = logs.iter().map(|(_, lines)| peers::penalties(lines, sender)).collect();
        let some = refused.iter().filter(|all| all.values().any(|r| r.refused > 0)).count();
        let ssh = if kind == "auth" { some.to_string() } else { "–".to_owned() };
        documented(&format!("{} logs of {what}", logs.len()), &[Some("0".to_owned()), banned, Some(ssh)]);
    }
}
