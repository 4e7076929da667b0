//! DNSBLs, with real ones: who is listed is banned with its first packet or its first hit, and nobody is for
//! anything else that a name server may say.
#![allow(clippy::unwrap_used, reason = "tests")]

use crate::common;

use common::bans::text;
use common::daemon::{LOG, failed, host};
use common::dns::{Answers, Liar, TEST4, TEST6, answer, asked_about, over_tcp};
use common::frames::{SYN, Way};
use common::{Net, Peer, wait_or_show, wait_until};
use mef::dns::packet::flag;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::Ordering;
use std::time::Duration;

const ON: &str = "rbl_enabled=true\nrbl_x_enabled=true\nrbl_x_zone=bl.example\nps_enabled=false\n";
pub(super) const LISTED: &str = "20.0.0.9";

/// A host whose name server is its neighbour.
pub(super) fn asking(settings: &str) -> (Net, Peer) {
    let mut net = host("", "");
    let peer = net.peer();
    net.configure(&format!("{ON}dns_servers={}\n{settings}", peer.v4), &[LOG]);
    for far in ["20.0.0.0/8", "2600::/16"] {
        net.ip(&format!("route add blackhole {far}"));
    }
    (net, peer)
}

pub(super) fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn knock(net: &Net, peer: &Peer, from: &str) {
    let to = if addr(from).is_ipv4() { peer.host4.into() } else { peer.host6.into() };
    Way::new(net, peer).burst(addr(from), (to, 80), SYN, 1);
}

pub(super) fn status(net: &Net) -> String {
    net.mef(&["status", "--json"]).shown()
}

/// A number of the list's line in status.
pub(super) fn counted(net: &Net, name: &str) -> u64 {
    let json = status(net);
    let line = json.lines().find(|line| line.contains("\"dnsbl\":\"x\"")).unwrap().to_owned();
    let rest = line.split(&format!("\"{name}\":")).nth(1).unwrap();
    rest.split([',', '}']).next().unwrap().parse().unwrap()
}

/// Waits until so many questions about addresses have come to an end.
pub(super) fn settled(net: &Net, asked: u64) {
    wait_or_show(
        &format!("{asked} questions"),
        || (counted(net, "asked") >= asked).then_some(()),
        || status(net) + &net.said("daemon"),
    );
}

pub(super) fn said(net: &Net, what: &str) {
    net.wait_said("daemon", what);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn who_is_listed_is_banned_with_its_first_packet_or_hit() {
    let (mut net, peer) = asking("rbl_x_ports=22,80\nrbl_x_bantime=2h");
    let four = format!(":127.0.0.14:attacks, see http://example/?$\n{TEST4}{LISTED}\n20.0.0.10\n");
    let six = format!(":127.0.0.14:six\n{TEST6}2600::9\n");
    net.rbldnsd(&peer, "rbl", &[("bl.example", "ip4set", &four), ("bl.example", "ip6trie", &six)]);
    net.daemon("daemon");
    said(&net, "DNSBL x is asked");
    let watch = net.mef_command(&["watch"]);
    net.start("watch", watch);
    wait_until("a reader", || status(&net).contains("\"watchers\":1"));
    knock(&net, &peer, LISTED);
    wait_until("the ban", || net.banned().contains(&LISTED.to_owned()));
    let ban = net.ban_of(LISTED);
    assert_eq!(text(&ban, "rule"), "rbl-x");
    assert_eq!(text(&ban, "reason"), format!("listed by x: attacks, see http://example/?{LISTED}"));
    assert_eq!(text(&ban, "ports"), "22,80");
    knock(&net, &peer, "20.0.0.8");
    knock(&net, &peer, "2600::9");
    wait_until("the ban of IPv6", || net.banned().contains(&"2600::/64".to_owned()));
    assert_eq!(text(&net.ban_of("2600::/64"), "reason"), "listed by x: six");
    // One hit of a rule that wants three.
    net.append(LOG, failed("20.0.0.10") + &failed("20.0.0.11"));
    wait_until("the ban of a hit", || net.banned().contains(&"20.0.0.10".to_owned()));
    settled(&net, 5);
    knock(&net, &peer, "20.0.0.8");
    net.append(LOG, failed("20.0.0.11"));
    net.mark(LOG);
    assert_eq!((counted(&net, "asked"), counted(&net, "listed"), counted(&net, "failed")), (5, 3, 0));
    assert_eq!(
        net.banned().iter().filter(|addr| !addr.starts_with("100.64")).count(),
        3,
        "{:?}",
        net.banned()
    );
    let seen = net.said("watch");
    assert!(seen.contains(&format!(" lookup {LISTED} list=x ms=")), "{seen}");
    assert!(seen.contains("answer=127.0.0.14 listed=yes"), "{seen}");
    assert!(
        seen.lines().any(|l| l.contains("lookup 20.0.0.8 list=x") && l.ends_with("answer=none listed=no"))
    );
    let numbers = net.mef(&["status", "--prometheus"]).shown();
    assert!(numbers.contains("\nmef_dnsbl_listed_total{dnsbl=\"x\"} 3\n"), "{numbers}");
    assert!(numbers.contains("\nmef_dnsbl_up{dnsbl=\"x\"} 1\n"), "{numbers}");
    let people = net.mef(&["status"]).shown();
    assert!(people.contains("\nx             on            5         3         0"), "{people}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn nobody_is_asked_about_who_must_not_be_banned() {
    let (mut net, peer) = asking("trusted_proxies=20.0.0.20");
    let all = format!(":127.0.0.2:all\n{TEST4}10.0.0.0/8\n20.0.0.0/8\n192.0.2.0/24\n");
    net.rbldnsd(&peer, "rbl", &[("bl.example", "ip4set", &all)]);
    net.write("whitelist/a.conf", "20.0.0.21\n");
    net.ip("address add 20.0.0.22/32 dev lo");
    net.daemon("daemon");
    said(&net, "DNSBL x is asked");
    for from in ["10.1.1.1", "20.0.0.20", "20.0.0.21", "20.0.0.22", "192.0.2.2"] {
        net.append(LOG, failed(from));
        knock(&net, &peer, from);
        knock(&net, &peer, from);
    }
    net.mark(LOG);
    knock(&net, &peer, LISTED);
    wait_until("the ban", || net.banned().contains(&LISTED.to_owned()));
    assert_eq!(counted(&net, "asked"), 1);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_list_that_cannot_be_relied_on_bans_nobody_and_is_told_in_words() {
    let all = ":127.0.0.2:everything\n0/0\n";
    let wild = ":127.0.0.2:everything\n0/0\n!127.0.0.1\n";
    let errors = |code: &str| format!(":127.255.255.{code}:no\n0/0\n");
    let cases = [
        ("everything", all.to_owned(), "it lists everything"),
        ("empty", ":127.0.0.2:x\n20.0.0.9\n".to_owned(), "the test entry 127.0.0.2 is not in it"),
        ("typo", errors("252"), "does not know this zone: is its name right? (127.255.255.252)"),
        ("public", errors("254"), "does not answer public or shared resolvers"),
        ("quota", errors("255"), "the list's quota is used up (127.255.255.255)"),
    ];
    let (mut net, peer) = asking(
        &cases
            .iter()
            .map(|(n, ..)| format!("rbl_{n}_enabled=true\nrbl_{n}_zone={n}.example\n"))
            .collect::<String>(),
    );
    let names: Vec<String> = cases.iter().map(|(name, ..)| format!("{name}.example")).collect();
    let mut zones: Vec<(&str, &str, &str)> = cases
        .iter()
        .zip(&names)
        .map(|((_, text, _), name)| (name.as_str(), "ip4trie", text.as_str()))
        .collect();
    zones.push(("bl.example", "ip4trie", wild));
    net.rbldnsd(&peer, "rbl", &zones);
    net.daemon("daemon");
    for (name, _, words) in &cases {
        said(&net, &format!("DNSBL {name} is switched off: "));
        assert!(net.said("daemon").contains(words), "{words}: {}", net.said("daemon"));
    }
    said(&net, "DNSBL x is asked");
    // That one has every address but the one that it must not have.
    for n in 0..40 {
        knock(&net, &peer, &format!("20.0.1.{n}"));
    }
    said(&net, "DNSBL x is switched off: 100 % of the addresses");
    assert!(net.banned().len() < 16, "{:?}", net.banned());
    let people = net.mef(&["status"]).shown();
    assert!(people.contains("quota         off "), "{people}");
    let lookup = net.mef(&["lookup", "--config", net.path("mef.conf").to_str().unwrap(), LISTED]);
    assert_eq!(lookup.status, 1);
    let shown = lookup.shown();
    assert!(shown.contains("unreliable") && shown.contains("quota is used up"), "{shown}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_resolver_that_is_down_is_told_once_and_asked_again_when_it_is_there() {
    let (mut net, peer) = asking("rbl_x_timeout=1s\nrbl_x_error_ttl=1s");
    let four = format!(":127.0.0.2:x\n{TEST4}{LISTED}\n");
    let rbl = net.rbldnsd(&peer, "rbl", &[("bl.example", "ip4set", &four)]);
    net.daemon("daemon");
    said(&net, "DNSBL x is asked");
    net.signal(rbl, libc::SIGKILL);
    net.wait(rbl);
    knock(&net, &peer, "20.0.0.1");
    said(&net, "DNSBL x: the name servers cannot be reached: nobody is banned for it meanwhile");
    knock(&net, &peer, "20.0.0.2");
    settled(&net, 2);
    assert_eq!(net.said("daemon").matches("DNSBL x: ").count(), 1);
    net.rbldnsd(&peer, "rbl", &[("bl.example", "ip4set", &four)]);
    wait_until("a ban", || {
        net.append(LOG, failed(LISTED));
        net.banned().contains(&LISTED.to_owned())
    });
    assert_eq!(net.said("daemon").matches("DNSBL x answers again").count(), 1);
}

/// Says of nobody that he is listed but of the test entry and of those in 20.0.0.0/24.
pub(super) fn truth() -> Answers {
    Box::new(|question| {
        let listed = match asked_about(question, "bl.example") {
            Some(IpAddr::V4(v4)) => v4.octets()[..3] == [20, 0, 0] || v4.octets() == [127, 0, 0, 2],
            _ => false,
        };
        vec![answer(question, if listed { 0 } else { 3 }, if listed { &[[127, 0, 0, 2]] } else { &[] })]
    })
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn lies_ban_nobody_and_hold_up_nobody() {
    let (mut net, peer) = asking("rbl_x_timeout=1s\nrbl_x_error_ttl=1s");
    let liar = Liar::new(&net, &peer, truth());
    let daemon = net.daemon("daemon");
    said(&net, "DNSBL x is asked");
    type Lie = fn(&[u8]) -> Vec<u8>;
    fn listing(question: &[u8]) -> Vec<u8> {
        answer(question, 0, &[[127, 0, 0, 2]])
    }
    let lies: [(&str, Lie); 7] = [
        ("another id", |q| {
            let mut lie = listing(q);
            lie[0] ^= 0x55;
            lie
        }),
        ("another case", |q| listing(q).to_ascii_lowercase()),
        ("another name", |q| {
            let mut lie = listing(q);
            lie[13] = b'7';
            lie
        }),
        ("another type", |q| {
            let mut lie = listing(q);
            let at = 12 + lie[12..].iter().position(|b| *b == 0).unwrap() + 2;
            lie[at] = 28;
            lie
        }),
        ("truncated", |q| answer(q, flag::TRUNCATED, &[[127, 0, 0, 2]])),
        ("silence", |_| Vec::new()),
        ("the truth, too late", |q| {
            std::thread::sleep(Duration::from_secs(3));
            listing(q)
        }),
    ];
    for (at, (what, lie)) in lies.into_iter().enumerate() {
        liar.says(Box::new(move |question| {
            let lie = lie(question);
            if lie.is_empty() { Vec::new() } else { vec![lie] }
        }));
        let before = counted(&net, "failed");
        knock(&net, &peer, &format!("20.0.0.{}", 100 + at));
        // Whoever attacks is banned meanwhile.
        let attacker = format!("100.64.200.{at}");
        net.append(LOG, failed(&attacker).repeat(3));
        wait_until("the ban of an attacker", || net.banned().contains(&attacker));
        wait_until(what, || counted(&net, "failed") > before);
        assert!(!net.banned().iter().any(|addr| addr.starts_with("20.")), "{what}");
    }
    // An answer that is true to the letter, from another port and from another address of the server.
    liar.says(truth());
    net.within(&peer.ns, |net| net.ip(&format!("address add 198.51.100.53/32 dev {}", peer.link)));
    net.ip(&format!("route add 198.51.100.53/32 dev {}", peer.link));
    for (at, from) in [peer.v4, [198, 51, 100, 53].into()].into_iter().enumerate() {
        liar.speaks_by(Some(net.within(&peer.ns, |_| UdpSocket::bind((from, 0)).unwrap())));
        let before = counted(&net, "failed");
        knock(&net, &peer, &format!("20.0.0.{}", 200 + at));
        wait_until("another address", || counted(&net, "failed") > before);
        assert!(!net.banned().iter().any(|addr| addr.starts_with("20.")), "{from}");
    }
    liar.speaks_by(None);
    let lines = net.said("daemon").lines().filter(|line| line.contains("DNSBL x: ")).count();
    assert_eq!(lines, 1, "{}", net.said("daemon"));
    // A resolver that makes up answers for what is not there, and then a true one again.
    liar.says(Box::new(|question| vec![answer(question, 0, &[[20, 99, 99, 99]])]));
    knock(&net, &peer, "20.0.0.50");
    said(&net, "DNSBL x is switched off: the answer 20.99.99.99 is not a list's");
    liar.says(truth());
    net.signal(daemon, libc::SIGHUP);
    said(&net, "DNSBL x is asked: its test entries are right");
    wait_until("a ban", || {
        net.append(LOG, failed(LISTED));
        net.banned().contains(&LISTED.to_owned())
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_hundred_thousand_strangers_are_bounded_and_delay_no_ban() {
    // A resolver that never answers: what is in flight stays there.
    let (mut net, peer) = asking("rbl_x_timeout=2s");
    let liar = Liar::new(&net, &peer, truth());
    net.daemon("daemon");
    said(&net, "DNSBL x is asked");
    liar.says(Box::new(|_| Vec::new()));
    let before = liar.asked.load(Ordering::Relaxed);
    let way = Way::new(&net, &peer);
    let start = std::time::Instant::now();
    let mut most = 0;
    for n in 0..10_000u32 {
        let from = std::net::Ipv4Addr::from_bits(0x1500_0000 + n);
        way.burst(from.into(), (peer.host4.into(), 80), SYN, 1);
        if n % 1000 == 0 {
            let attacker = format!("100.64.201.{}", n / 1000);
            net.append(LOG, failed(&attacker).repeat(3));
            wait_until("the ban of an attacker", || net.banned().contains(&attacker));
            let sockets = net.cmd("ss", &["-Hun", "dst", &peer.v4.to_string()]).stdout.lines().count();
            most = most.max(sockets);
        }
    }
    let seconds = start.elapsed().as_secs() + 1;
    let asked = liar.asked.load(Ordering::Relaxed) - before;
    assert!(most <= 16, "{most} in flight");
    assert!(asked <= 250 + 200 * seconds, "{asked} in {seconds} s");
    assert!(asked > 0);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn there_is_nothing_of_it_when_it_is_off() {
    let (mut net, peer) = asking("rbl_x_enabled=false");
    let liar = Liar::new(&net, &peer, truth());
    let daemon = net.daemon("daemon");
    net.append(LOG, failed(LISTED));
    knock(&net, &peer, LISTED);
    net.mark(LOG);
    assert_eq!(liar.asked.load(Ordering::Relaxed), 0);
    assert!(!status(&net).contains("\"dnsbl\""));
    let sets = || {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", net.pid(daemon))).unwrap();
        let links = fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
        links.filter(|link| link.to_string_lossy().contains("eventpoll")).count()
    };
    let (off, conf) = (sets(), net.read("mef.conf"));
    for (text, more, done) in [(conf.replace("x_enabled=false", "x_enabled=true"), 1, 1), (conf, 0, 2)] {
        net.write("mef.conf", &text);
        net.signal(daemon, libc::SIGHUP);
        wait_until("the reload", || net.said("daemon").matches("configuration read").count() == done);
        assert_eq!(sets(), off + more);
        assert_eq!(status(&net).contains("\"dnsbl\""), more == 1);
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn an_address_is_looked_up_by_hand() {
    let (mut net, peer) = asking("rbl_clean_zone=clean.example\nrbl_s3cret_zone=k3y.s3.example");
    let four = format!(":127.0.0.14:attacks\n{TEST4}{LISTED}\n");
    let clean = format!(":127.0.0.2:x\n{TEST4}");
    let zones = [
        ("bl.example", "ip4set", four.as_str()),
        ("clean.example", "ip4set", &clean),
        ("k3y.s3.example", "ip4set", &clean),
    ];
    net.rbldnsd(&peer, "rbl", &zones);
    let conf = net.path("mef.conf");
    let conf = conf.to_str().unwrap();
    let shown = net.mef(&["lookup", "--config", conf, LISTED]).ok();
    let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..3], ["x", "listed", "127.0.0.14"]);
    assert_eq!(rows[0][5..], ["attacks"]);
    assert_eq!(rows[1][..3], ["clean", "not", "listed"]);
    assert!(!shown.contains("k3y"), "{shown}");
    let json = net.mef(&["lookup", "--json", "--config", conf, LISTED]).ok();
    common::schema::assert_fits(&net, "lookup", &json);
    let head =
        format!("{{\"list\":\"x\",\"addr\":\"{LISTED}\",\"result\":\"listed\",\"answer\":\"127.0.0.14\"");
    assert!(json.starts_with(&head), "{json}");
    net.write("whitelist/a.conf", LISTED);
    net.write("proxy.conf", &(net.read("mef.conf") + "\n[global]\ntrusted_proxies=20.0.0.20\n"));
    let out = net.mef(&["lookup", "--config", net.path("proxy.conf").to_str().unwrap(), "20.0.0.20"]);
    assert!(out.stderr.contains("20.0.0.20 is a trusted proxy: not asked about"), "{}", out.stderr);
    for (words, status, why) in [
        (&["10.0.0.1"][..], 1, "private or reserved"),
        (&["127.0.0.2"], 1, "private or reserved"),
        (&[LISTED], 1, "on the allow list: not asked about (use --force to override)"),
        (&["--force", LISTED], 0, ""),
        (&["example.org"], 2, "is not an address"),
    ] {
        let words = [&["lookup", "--config", conf], words].concat();
        let out = net.mef(&words);
        assert_eq!(out.status, status, "{words:?}");
        assert!(out.stderr.contains(why), "{}", out.stderr);
    }
    net.configure("rbl_x_zone=bl.example\nrbl_x_timeout=1s\ndns_servers=192.0.2.77", &[LOG]);
    let out = net.mef(&["lookup", "--config", conf, "20.0.0.8"]);
    assert_eq!(out.status, 1);
    assert!(out.stdout.contains("no answer"), "{}", out.stdout);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_is_too_long_or_in_another_case_is_asked_over_tcp() {
    let (mut net, peer) = asking("");
    let liar = Liar::new(&net, &peer, Box::new(|question| vec![answer(question, flag::TRUNCATED, &[])]));
    over_tcp(&net, &peer, truth());
    net.daemon("daemon");
    said(&net, "DNSBL x is asked");
    knock(&net, &peer, "20.0.0.1");
    wait_until("the ban", || net.banned().contains(&"20.0.0.1".to_owned()));
    // A resolver that does not keep the case; over TCP there is nothing to guess.
    liar.says(Box::new(|question| {
        let mut lowered = truth()(question).remove(0);
        // Behind the header: the id is no text.
        lowered[12..].make_ascii_lowercase();
        vec![lowered]
    }));
    knock(&net, &peer, "20.0.0.2");
    wait_until("the ban", || net.banned().contains(&"20.0.0.2".to_owned()));
    assert_eq!(text(&net.ban_of("20.0.0.2"), "reason"), "listed by x: known");
}
