//! Days made here: what an office, the customers behind one address of a provider, crawlers and monitors
//! leave in logs, and what attackers leave beside it.

use super::host::{Line, Lines};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What it is called, from where, the line at which it has to be over, and its lines.
pub type Attack = (&'static str, &'static str, usize, Lines);

pub fn sorted(mut lines: Lines) -> Lines {
    lines.sort_by_key(|line| line.0);
    lines
}

fn clock(secs: u64) -> String {
    format!("{:02}:{:02}:{:02}", secs / 3600 % 24, secs / 60 % 60, secs % 60)
}

fn syslog(secs: u64, program: &str, pid: u64, message: &str) -> Line {
    (secs, format!("Nov {} {} host {program}[{pid}]: {message}\n", 26 + secs / 86_400, clock(secs)))
}

/// A connection to sshd that is refused so many passwords, and perhaps let in then.
fn ssh(secs: u64, addr: &str, user: &str, fails: u64, enters: bool, invalid: bool) -> Lines {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
    let pid = 1000 + CONNECTIONS.fetch_add(1, Relaxed);
    let say = |at, message: String| syslog(at, "sshd", pid, &message);
    let mut all = Vec::new();
    let unknown = if invalid { "invalid user " } else { "" };
    if invalid {
        all.push(say(secs, format!("Invalid user {user} from {addr} port 40000")));
    }
    for n in 0..fails {
        all.push(say(
            secs + 4 * n,
            format!("Failed password for {unknown}{user} from {addr} port 40000 ssh2"),
        ));
    }
    let end = secs + 4 * fails;
    all.push(if enters {
        say(end, format!("Accepted password for {user} from {addr} port 40000 ssh2"))
    } else {
        let kind = if invalid { "invalid" } else { "authenticating" };
        say(end, format!("Connection closed by {kind} user {user} {addr} port 40000 [preauth]"))
    });
    all
}

fn imap(secs: u64, addr: &str, user: &str, enters: bool) -> Line {
    let rest =
        format!("user=<{user}>, method=PLAIN, rip={addr}, lip=192.0.2.100, TLS, session=<abcdefgh{secs}>");
    let what = if enters {
        "imap-login: Login: "
    } else {
        "imap-login: Disconnected: Connection closed (auth failed, 1 attempts in 2 secs): "
    };
    syslog(secs, "dovecot", 7, &format!("{what}{rest}"))
}

fn web(secs: u64, addr: &str, request: &str, status: u16, agent: &str) -> Line {
    let stamp = format!("{}/Nov/2026:{} +0000", 26 + secs / 86_400, clock(secs));
    (secs, format!("{addr} - - [{stamp}] \"{request} HTTP/1.1\" {status} 153 \"-\" \"{agent}\"\n"))
}

/// A day at the log-ins of a server with two offices behind one address each, and their machines.
pub fn auth_day(rng: &mut fastrand::Rng) -> Lines {
    let mut all = Vec::new();
    for (office, people) in [("203.0.113.5", 50u64), ("203.0.113.6", 20)] {
        for person in 0..people {
            // Each logs in some times, with a typo at times, and at times has to try three passwords.
            for _ in 0..rng.u64(1..6) {
                let at = rng.u64(8 * 3600..18 * 3600);
                let typos = match rng.u8(..20) {
                    0..=3 => 1,
                    4 => 3,
                    _ => 0,
                };
                all.extend(ssh(at, office, &format!("user{person}"), typos, true, false));
            }
            // Mail programs all day; who has changed the password mistypes it, and one telephone in ten still
            // has the old one.
            let name = format!("user{person}@example.org");
            for hour in 8..18 {
                all.push(imap(hour * 3600 + rng.u64(..3600), office, &name, true));
            }
            if rng.u8(..5) == 0 {
                let at = rng.u64(9 * 3600..17 * 3600);
                all.extend((0..3).map(|n| imap(at + 20 * n, office, &name, n == 2)));
            }
        }
        for phone in 0..people / 20 {
            let name = format!("user{phone}@example.org");
            all.extend((0..12 * 10).flat_map(|n| {
                let at = 8 * 3600 + 300 * n + phone;
                [imap(at, office, &name, false), imap(at + 1, office, &name, false)]
            }));
        }
        // A name that does not exist here, now and then, with two passwords: the local one.
        all.extend(
            (0..4).flat_map(|n| ssh(9 * 3600 + n * 3600, office, &format!("local{n}"), 2, false, true)),
        );
    }
    // Deployments with a key that does not fit, backups, a monitor of the port.
    all.extend((0..144).flat_map(|n| ssh(600 * n, "203.0.113.10", "git", 0, false, false)));
    all.extend((0..96).flat_map(|n| ssh(900 * n, "203.0.113.11", "backup", 0, false, false)));
    all.extend((0..40).flat_map(|n| ssh(36_000 + n / 10, "203.0.113.12", "ansible", 0, false, false)));
    all.extend((0..1440).map(|n| {
        let message = "banner exchange: Connection from 203.0.113.13 port 30000: invalid format";
        syslog(60 * n, "sshd", 2000 + n, message)
    }));
    all
}

/// Attackers, by address, with the most of their lines that may be needed.
pub fn auth_attacks() -> Vec<Attack> {
    let many = |n: u64, each: &dyn Fn(u64) -> Lines| (0..n).flat_map(each).collect::<Vec<_>>();
    vec![
        (
            "hydra, one name, two lines each",
            "198.51.100.1",
            70,
            many(300, &|n| ssh(40_000 + 2 * n, "198.51.100.1", "root", 1, false, false)),
        ),
        (
            "medusa, a list of names",
            "198.51.100.2",
            15,
            many(300, &|n| ssh(40_000 + 2 * n, "198.51.100.2", &format!("n{n}"), 1, false, true)),
        ),
        (
            "ncrack, slow: one in a quarter of an hour",
            "198.51.100.3",
            12,
            many(40, &|n| ssh(900 * n, "198.51.100.3", "root", 1, false, false)),
        ),
        (
            "who has an account and guesses others",
            "198.51.100.4",
            40,
            many(100, &|n| {
                let mut all = ssh(30_000 + 60 * n, "198.51.100.4", &format!("admin{n}"), 1, false, false);
                all.extend(ssh(30_030 + 60 * n, "198.51.100.4", "mallory", 0, true, false));
                all
            }),
        ),
        (
            "keys of many names",
            "198.51.100.5",
            20,
            many(300, &|n| ssh(40_000 + n, "198.51.100.5", &format!("svc{n}"), 0, false, false)),
        ),
        (
            "keys of one name, without end",
            "198.51.100.6",
            280,
            many(3000, &|n| ssh(40_000 + n, "198.51.100.6", "root", 0, false, false)),
        ),
        (
            "IMAP, one name",
            "198.51.100.7",
            41,
            many(300, &|n| vec![imap(40_000 + n, "198.51.100.7", "anna@example.org", false)]),
        ),
        (
            "IMAP, a list of names",
            "198.51.100.8",
            12,
            many(300, &|n| vec![imap(40_000 + n, "198.51.100.8", &format!("n{n}@example.org"), false)]),
        ),
    ]
}

/// What a site's visitors leave in a day.
pub fn web_day(rng: &mut fastrand::Rng) -> Lines {
    let mut all = Vec::new();
    let browser = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0";
    // The customers of a provider behind one address, each with a page of 40 parts, some of which are
    // missing.
    for visit in 0..2000u64 {
        let at = rng.u64(..86_400);
        let page = rng.u64(..400);
        all.push(web(at, "100.64.0.1", &format!("GET /p/{page}"), 200, browser));
        for part in 0..40 {
            let status = if rng.u8(..10) == 0 { 404 } else { 200 };
            all.push(web(
                at + part / 20,
                "100.64.0.1",
                &format!("GET /a/{page}/{part}.png"),
                status,
                browser,
            ));
        }
        for icon in ["/favicon.ico", "/apple-touch-icon.png", "/site.webmanifest", "/browserconfig.xml"] {
            if visit % 7 == 0 {
                all.push(web(at, "100.64.0.1", &format!("GET {icon}"), 404, browser));
            }
        }
        if visit % 50 == 0 {
            all.push(web(
                at,
                "100.64.0.1",
                "POST /wp-login.php",
                if visit % 100 == 0 { 200 } else { 302 },
                browser,
            ));
        }
    }
    // A crawler that comes after the site was moved, and one that is sent on to the new address.
    for n in 0..14_400u64 {
        let status = if n % 10 < 7 { 404 } else { 200 };
        let request = format!("GET /old/article-{n}.html");
        all.push(web(6 * n, "66.249.66.1", &request, status, "Googlebot/2.1"));
        all.push(web(6 * n + 1, "66.249.66.2", &format!("GET /{n}-title/"), 301, "bingbot/2.0"));
    }
    // Monitors, a feed reader, a load balancer that tries TLS.
    for n in 0..1440u64 {
        all.push(web(60 * n, "203.0.113.20", "HEAD /health", 404, "monitor"));
        all.push(web(60 * n, "203.0.113.21", "GET /actuator/prometheus", 404, "Prometheus/2.45"));
        all.push(web(60 * n, "203.0.113.22", "GET /feed.xml", 304, "Liferea/1.13"));
        let hello = format!(
            "203.0.113.23 - - [26/Nov/2026:{} +0000] \"\\x16\\x03\\x01\" 400 157 \"-\" \"-\"\n",
            clock(60 * n)
        );
        all.push((60 * n, hello));
    }
    // A load balancer's checks by a method that is not there; a benchmark of a page that is not; DAV of a
    // folder, where the client has to be asked for the password each time.
    for n in 0..2000u64 {
        all.push(web(30 * n, "203.0.113.27", "OPTIONS /", 405, "-"));
        all.push(web(30_000 + n / 500, "203.0.113.28", "GET /missing", 404, "ApacheBench/2.3"));
    }
    for n in 0..200u64 {
        for status in [401, 207] {
            all.push(web(
                30_000 + n / 20,
                "203.0.113.29",
                &format!("PROPFIND /dav/{n}.txt"),
                status,
                "gvfs/1.50",
            ));
        }
    }
    // Connections that browsers opened in advance and never used, as Apache writes them; uploads that broke
    // off.
    for n in 0..3000u64 {
        let stamp = clock(50_000 + n / 5);
        let unused = format!("100.64.0.1 - - [26/Nov/2026:{stamp} +0000] \"-\" 408 0 \"-\" \"-\"\n");
        all.push((50_000 + n / 5, unused));
        if n % 10 == 0 {
            all.push(web(50_000 + n / 5, "100.64.0.1", &format!("POST /upload/{n}"), 408, browser));
        }
    }
    // An editor whose tab was left open, DAV with an old password, a cold cache of packages, map tiles.
    for n in 0..1000u64 {
        all.push(web(
            40_000 + 60 * n % 40_000,
            "203.0.113.24",
            "POST /wp-admin/admin-ajax.php",
            400,
            browser,
        ));
        all.push(web(
            40_000 + n / 20,
            "203.0.113.25",
            &format!("GET /releases/org/lib{n}/1.0/lib.pom"),
            404,
            "Maven",
        ));
        all.push(web(40_000 + n / 10, "203.0.113.26", &format!("GET /tiles/13/{n}/27.png"), 404, browser));
    }
    all
}

pub fn web_attacks() -> Vec<Attack> {
    type Each<'a> = &'a dyn Fn(u64) -> Line;
    let many = |n: u64, each: Each<'_>| (0..n).map(each).collect::<Vec<_>>();
    let probes = ["/.env", "/.git/config", "/wp-login.php", "/phpmyadmin/", "/.aws/credentials"];
    vec![
        (
            "dirb, 50 in a second",
            "198.51.100.11",
            60,
            many(4600, &|n| {
                web(40_000 + n / 50, "198.51.100.11", &format!("GET /word{n}"), 404, "Mozilla/4.0")
            }),
        ),
        (
            "gobuster, refused with 401",
            "198.51.100.12",
            60,
            many(4600, &|n| {
                web(40_000 + n / 100, "198.51.100.12", &format!("GET /word{n}"), 401, "gobuster/3.6")
            }),
        ),
        (
            "gobuster, sent on",
            "198.51.100.13",
            300,
            many(4600, &|n| {
                web(40_000 + n / 100, "198.51.100.13", &format!("GET /word{n}"), 301, "gobuster/3.6")
            }),
        ),
        (
            "dirb, one in 12 seconds",
            "198.51.100.14",
            80,
            many(400, &|n| web(12 * n, "198.51.100.14", &format!("GET /word{n}"), 404, "x")),
        ),
        (
            "padded with what is there",
            "198.51.100.15",
            200,
            many(600, &|n| {
                let miss = n % 5 < 2;
                let path = if miss { format!("GET /word{n}") } else { "GET /".to_owned() };
                web(40_000 + n / 20, "198.51.100.15", &path, if miss { 404 } else { 200 }, "x")
            }),
        ),
        (
            "behind a prefix",
            "198.51.100.16",
            60,
            many(400, &|n| {
                web(40_000 + n / 20, "198.51.100.16", &format!("GET /.well-known/.%2e/w{n}"), 404, "x")
            }),
        ),
        (
            "probes as nikto sends",
            "198.51.100.17",
            20,
            many(100, &|n| {
                let path = probes[usize::try_from(n).unwrap() % probes.len()];
                web(40_000 + n, "198.51.100.17", &format!("GET {path}"), 404, "Nikto")
            }),
        ),
        (
            "WordPress passwords",
            "198.51.100.18",
            30,
            many(400, &|n| web(40_000 + n, "198.51.100.18", "POST /wp-login.php", 200, "x")),
        ),
        (
            "WordPress, xmlrpc",
            "198.51.100.19",
            120,
            many(400, &|n| web(40_000 + n, "198.51.100.19", "POST /xmlrpc.php", 200, "x")),
        ),
    ]
}
