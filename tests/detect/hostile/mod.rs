//! Text that attackers write into the lines of every service that there is a rule for: no line is ever a hit
//! for anybody but its sender. `HOSTILE_LINES` is how many lines are made; the seed is fixed.

mod maker;

use super::conf::{Conf, Detectors, hits};
use maker::{Maker, SENDERS, Template, headers, templates};
use mef::detect::Hit;
use std::net::IpAddr;

const SEED: u64 = 0x6d65_6602;
/// An unoptimised build takes a minute for three times as many.
const LINES: usize = if cfg!(debug_assertions) { 100_000 } else { 300_000 };

/// Which rules see the lines of `own` in files, and as records of the journal: those with programs, since
/// they may read what everybody writes to, and in files those that read one of its own.
fn readers(confs: &[Conf], own: &Conf) -> [u128; 2] {
    let bits = |sees: &dyn Fn(&Conf) -> bool| {
        confs.iter().enumerate().filter(|(_, conf)| sees(conf)).fold(0u128, |all, (n, _)| all | 1 << n)
    };
    let with = |conf: &Conf| !conf.programs.is_empty();
    [bits(&|conf| with(conf) || conf.files.iter().any(|file| own.files.contains(file))), bits(&with)]
}

/// Every rule that ships, also the one whose hits are counted before they are one.
fn confs() -> Vec<Conf> {
    let mut all = Conf::all();
    all.push(Conf::read("webscan"));
    all
}

/// One line as its service hands it on, judged by all rules that see it.
fn judge(
    maker: &mut Maker,
    template: &Template,
    reads: [u128; 2],
    detector: &mut Detectors,
) -> (Vec<u8>, Vec<Hit>, bool, IpAddr) {
    let sender = SENDERS[maker.rng.usize(..SENDERS.len())];
    let real = sender.parse::<IpAddr>().unwrap().to_canonical();
    // The journal hands a message on as one, with its line breaks, and says who wrote it.
    let record = !template.programs.is_empty() && maker.rng.u8(..4) == 0;
    let mut line = Vec::with_capacity(512);
    if record {
        maker.fill(template, sender, true, &mut line);
        let program = &template.programs[maker.rng.usize(..template.programs.len())];
        let mut found = Vec::new();
        detector.record(reads[1], program.as_bytes(), Some(7), &line, &mut |hit| found.push(hit));
        let whole = !line.contains(&b'\n');
        return (line, found, whole, real);
    }
    maker.header(template, &mut line);
    maker.fill(template, sender, false, &mut line);
    line.push(b'\n');
    let mut found = Vec::new();
    detector.block(reads[0], &line, &mut |_, _, hit| found.push(hit));
    (line, found, true, real)
}

#[test]
fn hostile_text_blames_nobody_else_and_hides_nobody() {
    let lines = std::env::var("HOSTILE_LINES").map_or(LINES, |n| n.parse().unwrap());
    let confs = confs();
    let mut detector = Detectors::new(confs.iter().map(|c| c.rule(|_| true)).collect());
    let templates = templates(&confs);
    let reads: Vec<_> = confs.iter().map(|own| readers(&confs, own)).collect();
    let mut maker = Maker::new(SEED, &confs);
    let mut counts = vec![[0usize; 3]; confs.len()];
    let mut wrong = Vec::new();
    for n in 0..lines {
        // Every rule gets its share, however many forms it has.
        let rule = n % confs.len();
        let forms = &templates[rule];
        let template = &forms[maker.rng.usize(..forms.len())];
        let (line, found, whole, real) = judge(&mut maker, template, reads[rule], &mut detector);
        let shown = || {
            let got: Vec<_> = found.iter().map(|h| (&*confs[usize::from(h.rule)].name, h.addr)).collect();
            format!("{} {n}: {got:?} {}", confs[rule].name, line.escape_ascii())
        };
        if found.iter().any(|hit| hit.addr != real) {
            wrong.push(format!("somebody else, {}", shown()));
        }
        let own = found.iter().any(|hit| usize::from(hit.rule) == rule && !hit.success);
        if template.sure && found.iter().any(|hit| hit.success) {
            wrong.push(format!("taken for a success, {}", shown()));
        }
        if template.sure && whole && !own {
            wrong.push(format!("hidden, {}", shown()));
        }
        counts[rule][0] += 1;
        counts[rule][1] += usize::from(own);
        counts[rule][2] += usize::from(found.len() > usize::from(own));
        if wrong.len() > 8 {
            break;
        }
    }
    for (conf, [lines, hits, others]) in confs.iter().zip(&counts) {
        #[allow(clippy::print_stdout, reason = "for --nocapture")]
        let () = println!("{}: {lines} lines, {hits} hits, {others} hits of other rules", conf.name);
    }
    assert!(wrong.is_empty(), "seed {SEED:#x}:\n{}", wrong.join("\n"));
    // Otherwise the lines are none that the rules are for.
    for (conf, [lines, hits, _]) in confs.iter().zip(&counts) {
        assert!(*hits > lines / 20, "{}: {hits} hits in {lines} lines", conf.name);
    }
}

/// What a client may write, for the question whether it can hide.
const FILLERS: &[&str] = &[
    "",
    "-",
    "\"\"",
    "x from 198.51.100.9 port 22 ssh2",
    "198.51.100.9",
    "2001:db8:bad::9",
    "[IPv6:2001:db8:bad::9]",
    "[198.51.100.9]",
    "O'B",
    "a\"b",
    "a\\b",
    "a\\",
    "a[1]b",
    "a(b)c",
    "a<b>c",
    "a{b}c",
    "a b",
    "a, b=c",
    "a: b",
    "a;b",
    "a%b",
    "-x",
    "\u{e9}",
    "\u{1b}[31mroot",
    "#012",
    "x, ip=[198.51.100.9]",
    "x, rip=198.51.100.9, lip=198.51.100.9",
    "x rhost=198.51.100.9",
    "- - [x] \"GET / HTTP/1.1\" 200",
    "x [26/Nov/2026:00:00:00 +0000] \"GET / HTTP/1.1\" 200 1",
    "Accepted password for root from 198.51.100.9 port 22 ssh2",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
];

/// Where a line is no hit: rule, hole, which fillers, and why.
type Hidden = (&'static str, usize, fn(&str) -> bool, &'static str);

/// What looks like no name or request at all.
const NOBODY: fn(&str) -> bool = |text| matches!(text, "" | "-");

/// What ends a field in brackets.
const BRACKET: fn(&str) -> bool = |text| text.contains([']', ';']);

const HIDDEN: &[Hidden] = &[
    ("nginx-auth", 0, NOBODY, "nginx writes - for no name, and asks nobody for its password"),
    ("traefik-common", 0, NOBODY, "the same"),
    ("squid", 1, NOBODY, "the same"),
    ("squid", 0, |text| text.is_empty(), "a URL is never empty"),
    ("web-probes", 0, |text| text.is_empty(), "nginx writes -, Apache two quotes"),
    ("wordpress", 0, |text| text.is_empty(), "the same"),
    ("web-slow", 1, NOBODY, "no request: connections that browsers open in advance"),
    ("postgresql", 0, |text| text.is_empty(), "PostgreSQL refuses an empty name without this line"),
    ("postgresql", 1, |text| text.is_empty(), "for an empty name it takes the user's"),
    ("proftpd", 0, |text| text.is_empty(), "ProFTPD writes the address where there is no host name"),
    ("proftpd-syslog", 0, |text| text.is_empty(), "the same"),
    ("dovecot", 0, |text| text.len() > 80, "Dovecot writes 80 bytes of a name"),
    ("sendmail", 0, |text| text.len() > 100, "a long name fills the line up to where it is cut"),
    ("sendmail", 1, |text| text.len() > 100, "the same"),
    (
        "sendmail-abuse",
        0,
        |text| text.contains([' ', ',', '<', '"', '\\']),
        "what is quoted may look like the rest",
    ),
    ("proftpd-syslog", 1, |text| text.contains(' '), "behind user= stands a name that exists"),
    ("postgresql", 0, |text| text.contains(':'), "before a colon any message of the server may stand"),
    ("postgresql", 1, |text| text.contains(':'), "the same"),
    ("postgresql", 2, |text| text.contains([':', '@']), "the same"),
    ("samba", 0, |text| text.contains(']'), "no account has brackets in its name"),
    ("samba", 1, |text| text.contains(']'), "the same"),
    ("samba", 2, |text| text.contains(']'), "the same"),
    ("samba", 3, |text| text.contains(']'), "the same"),
    ("zimbra", 0, BRACKET, "what is in brackets may look like the rest"),
    ("zimbra", 1, BRACKET, "the same"),
    ("zimbra", 2, BRACKET, "the same"),
    (
        "nginx-syslog",
        0,
        |text| NOBODY(text) || text.contains('"') || text.len() > 55,
        "nginx cuts its error log: of what is long the end could be a name's",
    ),
    ("vsftpd-syslog", 0, |text| text.contains('"'), "a quote ends it; PAM's line says it, too"),
];

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_a_client_writes_does_not_hide_it() {
    let confs = confs();
    let templates = templates(&confs);
    let (sender, real) = ("203.0.113.5", IpAddr::from([203, 0, 113, 5]));
    let (mut wrong, mut asked) = (Vec::new(), 0);
    for (conf, forms) in confs.iter().zip(&templates) {
        let mut detector = conf.detector();
        for form in forms {
            let programs = form.programs.first();
            let heads: Vec<String> =
                programs.map_or_else(|| vec![String::new()], |tag| headers(tag).collect());
            let mut judge = |hole: usize, text: &str, head: &str| {
                let line = [head.as_bytes(), &form.with(hole, text.as_bytes(), sender), b"\n"].concat();
                let found: Vec<_> = hits(&mut detector, &line).iter().map(|hit| hit.addr).collect();
                (found, line)
            };
            for head in &heads {
                if judge(usize::MAX, "", head).0 != [real] {
                    // A form that is none of a failure, whoever writes it.
                    continue;
                }
                let holes = form.holes();
                // Words are names of hosts, which the system has looked at.
                let may = |hole: usize, text: &str| {
                    let host = |b: u8| b.is_ascii_alphanumeric() || b".-".contains(&b);
                    holes.get(hole) != Some(&b'w') || text.bytes().all(host)
                };
                let all = (0..holes.len()).flat_map(|h| FILLERS.iter().map(move |t| (h, *t)));
                for (hole, text) in all.filter(|(hole, text)| may(*hole, text)) {
                    let known = |h: &Hidden| h.0 == conf.name && h.1 == hole && h.2(text);
                    let (found, line) = judge(hole, text, head);
                    asked += 1;
                    if found != [real] && !HIDDEN.iter().any(known) {
                        wrong.push(format!("{}, hole {hole}: {found:?} {}", conf.name, line.escape_ascii()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {asked}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(asked > 20_000, "{asked}");
}

#[test]
fn newlines_that_got_into_a_syslog_file_blame_nobody() {
    // Services and syslog daemons encode them. If one does not, what follows is a line without a header.
    let confs = confs();
    let mut detector =
        Detectors::new(confs.iter().filter(|c| !c.programs.is_empty()).map(|c| c.rule(|_| true)).collect());
    let templates = templates(&confs);
    let mut maker = Maker::new(SEED, &confs);
    for n in 0..20_000 {
        let forms = &templates[n % confs.len()];
        if forms[0].programs.is_empty() {
            continue;
        }
        let mut line = b"Nov 22 08:00:01 host other[7]: x".to_vec();
        for _ in 0..maker.rng.usize(1..4) {
            line.push(b'\n');
            let template = &forms[maker.rng.usize(..forms.len())];
            maker.fill(template, "198.51.100.9", true, &mut line);
        }
        line.extend_from_slice(b" from 192.0.2.1 port 22\n");
        // A whole header is the one thing that cannot be told from a line of its own.
        line.retain(|b| *b != b'\r');
        let got = detector.hits(&line);
        let headed = line.split(|b| *b == b'\n').skip(1).any(|l| mef::detect::header::parse(l).is_some());
        assert!(headed || got.is_empty(), "seed {SEED:#x} {n}: {got:?} {}", line.escape_ascii());
    }
}
