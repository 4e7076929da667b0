//! New sources: the kernel tells of each once, for the sake of DNSBLs, and nobody is harmed by it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::backend::is_fallback;
use common::daemon::{LOG, host};
use common::frames::{ACK, SYN, Segment, Way};
use common::world::sysctl;
use common::{Net, Peer, wait_for, wait_until};
use mef::ban::{Capability, Options, SeenOptions};
use mef::firewall::guard::{Guard, NewSourceReports};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};

const ON: &str = "rbl_enabled=true\nrbl_x_enabled=true\nrbl_x_zone=bl.example\nps_enabled=false\n";
const FIN: u8 = 0x01;
const RST: u8 = 0x04;

/// A host whose new sources are told, with two neighbours, and a reader of events.
fn curious(settings: &str) -> (Net, usize, [Peer; 2]) {
    let mut net = host(&format!("{ON}{settings}"), "");
    let peers = [net.peer(), net.peer()];
    // Whoever is far away never hears an answer.
    for far in ["20.0.0.0/8", "2600::/16"] {
        net.ip(&format!("route add blackhole {far}"));
    }
    let daemon = net.daemon("daemon");
    let watch = net.mef_command(&["watch"]);
    net.start("watch", watch);
    wait_until("a reader", || net.mef(&["status", "--json"]).shown().contains("\"watchers\":1"));
    (net, daemon, peers)
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What was told of new sources so far: everything that came before.
fn reported(net: &Net) -> Vec<String> {
    // A reader of events may be later than the kernel.
    let mark = format!(" ban {} ", net.mark(LOG));
    wait_until("the event of the mark", || net.said("watch").contains(&mark));
    let all = net.said("watch");
    let new = all.lines().filter_map(|line| line.split_once(" new "));
    new.map(|(_, rest)| rest.to_owned()).collect()
}

/// The same, once there are so many: the kernel of a busy machine deals with packets later than with marks.
fn reported_when(net: &Net, count: usize) -> Vec<String> {
    wait_for("what is told of new sources", || Some(reported(net)).filter(|all| all.len() >= count))
}

/// Who is noted.
fn noted(net: &Net, family: u8) -> String {
    net.set_text(&format!("seen{family}"))
}

fn fact(net: &Net, name: &str) -> u64 {
    let json = net.mef(&["status", "--json"]).shown();
    let rest = json.split(&format!("\"{name}\":")).nth(1).unwrap();
    rest.split([',', '}']).next().unwrap().parse().unwrap()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn who_begins_a_connection_to_such_a_port_is_told_once() {
    let (net, _, [peer, _]) = curious(
        "rbl_x_ports=80,8000-8010\nrbl_x_positive_ttl=2h\nrbl_x_negative_ttl=30m\nrbl_off_zone=y.example\n\
         rbl_off_negative_ttl=5s\n\
         trusted_proxies=20.0.7.7",
    );
    let way = Way::new(&net, &peer);
    let conf = net.path("mef.conf");
    net.mef(&["allow", "--config", conf.to_str().unwrap(), "20.0.0.9"]).ok();
    net.mef(&["allow", "--config", conf.to_str().unwrap(), "--for", "1h", "20.0.0.10"]).ok();
    net.mef(&["ban", "20.0.0.11"]).ok();
    net.mef(&["ban", "2600:0:0:b::/64"]).ok();
    let (to4, to6) = (IpAddr::from(peer.host4), IpAddr::from(peer.host6));
    let silent = [
        ("another port", "20.0.0.1", 81, SYN),
        ("a port behind the range", "20.0.0.1", 8011, SYN),
        ("an answer", "20.0.0.1", 80, SYN | ACK),
        ("a packet of a connection", "20.0.0.1", 80, ACK),
        ("no way to begin one", "20.0.0.1", 80, SYN | FIN),
        ("nor that", "20.0.0.1", 80, SYN | RST),
        ("a private address", "10.1.2.3", 80, SYN),
        ("of carriers", "100.64.9.9", 80, SYN),
        ("of one link", "169.254.1.1", 80, SYN),
        ("a private one", "172.31.9.9", 80, SYN),
        ("of documents", "203.0.113.5", 80, SYN),
        ("of no sender", "240.1.2.3", 80, SYN),
        ("on the allow list", "20.0.0.9", 80, SYN),
        ("on it for a time", "20.0.0.10", 80, SYN),
        ("banned", "20.0.0.11", 80, SYN),
        ("banned", "2600:0:0:b::1", 80, SYN),
        ("of documents", "2001:db8:4::1", 80, SYN),
        ("private", "fd00::1", 80, SYN),
        ("another port", "2600:0:0:a::1", 81, SYN),
    ];
    for (name, from, port, flags) in silent {
        let from = addr(from);
        way.burst(from, (if from.is_ipv4() { to4 } else { to6 }, port), flags, 3);
        assert_eq!(reported(&net), Vec::<String>::new(), "{name}");
    }
    way.burst(addr("20.0.0.1"), (to4, 80), SYN, 20);
    way.burst(addr("20.0.0.1"), (to4, 8005), SYN, 20);
    way.burst(addr("20.0.0.2"), (to4, 8010), SYN, 20);
    // The neighbours of a prefix are one.
    way.burst(addr("2600:0:0:a::1"), (to6, 80), SYN, 3);
    way.burst(addr("2600:0:0:a:ffff::2"), (to6, 8000), SYN, 3);
    let all = ["20.0.0.1 port=80", "20.0.0.2 port=8010", "2600:0:0:a::/64 port=80"];
    assert_eq!(reported_when(&net, 3), all);
    let half_an_hour = if is_fallback() { ["timeout 17", "timeout 18"] } else { ["timeout 30m"; 2] };
    let is_noted = |family, addr: &str| {
        half_an_hour.iter().any(|time| noted(&net, family).contains(&format!("{addr} {time}")))
    };
    assert!(is_noted(4, "20.0.0.1") && is_noted(4, "20.0.0.2"), "{}", noted(&net, 4));
    assert!(is_noted(6, "2600:0:0:a::"), "{}", noted(&net, 6));
    assert_eq!((fact(&net, "new_sources"), fact(&net, "news_lost")), (3, 0));
    let status = net.mef(&["status", "--config", conf.to_str().unwrap()]).shown();
    assert!(status.contains("new sources reported by the kernel\n"), "{status}");
    assert!(net.mef(&["status", "--prometheus"]).shown().contains("\nmef_new_sources_total 3\n"));
    // This host itself.
    net.ip("address add 20.0.8.8/32 dev lo");
    net.ip("link set lo up");
    let server = TcpListener::bind("20.0.8.8:8001").unwrap();
    drop((TcpStream::connect("20.0.8.8:8001").unwrap(), server.accept().unwrap()));
    assert_eq!(reported(&net).len(), 3);
    // A time that is over.
    net.take_out("seen4", "20.0.0.2");
    way.burst(addr("20.0.0.2"), (to4, 80), SYN, 2);
    assert_eq!(reported_when(&net, 4)[3..], ["20.0.0.2 port=80"]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn services_behind_this_host_count_by_the_port_that_was_asked_for() {
    let (mut net, _, [peer, _]) =
        curious("rbl_x_ports=8080\nrbl_y_enabled=true\nrbl_y_zone=z.example\nrbl_y_ports=25");
    let container = net.peer();
    sysctl("ipv4/ip_forward", "1");
    sysctl("ipv6/conf/all/forwarding", "1");
    net.nft(&format!(
        "table ip published {{ chain c {{ type nat hook prerouting priority dstnat; tcp dport 8080 dnat to \
         {}:80; }}; }}",
        container.v4
    ));
    let way = Way::new(&net, &peer);
    way.burst(addr("20.0.0.1"), (container.v4.into(), 80), SYN, 1);
    way.burst(addr("20.0.0.2"), (peer.host4.into(), 8080), SYN, 1);
    way.burst(addr("20.0.0.3"), (container.v4.into(), 25), SYN, 1);
    way.burst(addr("2600::1"), (container.v6.into(), 25), SYN, 1);
    assert_eq!(reported_when(&net, 3), ["20.0.0.2 port=8080", "20.0.0.3 port=25", "2600::/64 port=25"]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn forged_senders_harm_nobody_and_what_was_missed_is_told_later() {
    let (net, daemon, [attacker, client]) = curious("rbl_x_ports=all");
    let _service = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 80)).unwrap();
    let way = Way::new(&net, &attacker);
    net.signal(daemon, libc::SIGSTOP);
    let many = |wave: u16| {
        (0..4000u16).map(move |n| {
            let v4 = IpAddr::from(Ipv4Addr::from(0x1400_0000 + u32::from(wave) * 4000 + u32::from(n)));
            let v6 = IpAddr::from(Ipv6Addr::new(0x2600, wave, 1, n, 0, 0, 0, 1));
            [(v4, attacker.host4.into()), (v6, attacker.host6.into())]
        })
    };
    let count = |family| noted(&net, family).matches("expires").count();
    let mut waves = 0;
    // More than the kernel keeps for a reader who does not read.
    wait_until("a thousand that were noted", || {
        let frame = |(from, to)| way.frame(&Segment { from: (from, 4000), to: (to, 80), flags: SYN });
        way.wire.send(&many(waves).flatten().map(frame).collect::<Vec<_>>());
        waves += 1;
        count(4) + count(6) > 1000
    });
    let (v4, v6) = (count(4), count(6));
    assert!(v4 + v6 < usize::from(waves) * 8000, "not more than can be told: {v4} {v6} in {waves} waves");
    assert!(net.reaches(&client, client.host4.into(), 80) && net.reaches(&client, client.host6.into(), 80));
    net.signal(daemon, libc::SIGCONT);
    wait_until("the count of what was lost", || fact(&net, "news_lost") > 0);
    let heard = usize::try_from(fact(&net, "new_sources")).unwrap();
    assert!(heard > 100 && heard < v4 + v6, "{heard} of {v4} and {v6}");
    // A set that is full: nobody new is told, and nobody is dropped.
    net.flush_sets(&["seen4"]);
    let mut fill = String::from("add element inet mef_guard seen4 { ");
    for n in 1..16_384u32 {
        let _ = write!(fill, "{}, ", Ipv4Addr::from(0x2100_0000 + n));
    }
    net.write("fill", &(fill + "33.255.0.1 }\n"));
    net.cmd("nft", &["-f", net.path("fill").to_str().unwrap()]).ok();
    let before = fact(&net, "new_sources");
    way.burst(addr("20.250.0.1"), (attacker.host4.into(), 80), SYN, 2);
    net.mark(LOG);
    assert_eq!(fact(&net, "new_sources"), before);
    assert!(!noted(&net, 4).contains("20.250.0.1"));
    assert!(net.reaches(&client, client.host4.into(), 80));
    // There is room again.
    net.nft("delete element inet mef_guard seen4 { 33.0.0.1, 33.0.0.2 }");
    wait_until("one more", || {
        way.burst(addr("20.250.0.1"), (attacker.host4.into(), 80), SYN, 1);
        noted(&net, 4).contains("20.250.0.1")
    });
    assert!(reported(&net).contains(&"20.250.0.1 port=80".to_owned()));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn a_reload_and_a_flush_keep_it_in_force() {
    let (net, daemon, [peer, _]) = curious("rbl_x_ports=80\nipv6_prefix=64");
    let way = Way::new(&net, &peer);
    let (to4, to6) = (IpAddr::from(peer.host4), IpAddr::from(peer.host6));
    let conf = net.read("mef.conf");
    let mut reloads = 0;
    let mut reload = |text: &str| {
        net.write("mef.conf", text);
        net.signal(daemon, libc::SIGHUP);
        reloads += 1;
        wait_until("the reload", || net.said("daemon").matches("configuration read").count() == reloads);
    };
    let both = |port, count| {
        way.burst(addr("20.0.0.1"), (to4, port), SYN, 1);
        way.burst(addr("2600:0:0:1::1"), (to6, port), SYN, 1);
        reported_when(&net, count).len()
    };
    assert_eq!((both(80, 2), both(80, 2), both(90, 2)), (2, 2, 2));
    // Nothing of it has changed: whoever was seen is not new.
    reload(&format!("{conf}\n[defaults]\nmaxretry=7"));
    assert_eq!(both(80, 2), 2);
    // Other ports: whoever was seen has perhaps not been asked about for these.
    reload(&conf.replace("ports=80", "ports=80,90"));
    assert_eq!((both(90, 4), both(80, 4)), (4, 4));
    // Prefixes of another length are others; IPv4 stays.
    reload(&conf.replace("ports=80", "ports=80,90").replace("prefix=64", "prefix=56"));
    assert_eq!((both(90, 5), reported(&net).last().unwrap().as_str()), (5, "2600::/56 port=90"));
    for harm in ["flush ruleset", "flush chain inet mef_guard seen", "delete table inet mef_guard"] {
        match is_fallback() {
            true if harm.starts_with("delete") => net.lose_table(),
            true => net.flush_iptables(),
            false => drop(net.nft(harm)),
        }
        wait_until(harm, || net.watches("seen", "seen"));
        net.mark(LOG);
        let before = reported(&net).len();
        let fresh = format!("20.0.1.{}", before);
        wait_until("to be told again", || {
            way.burst(addr(&fresh), (to4, 80), SYN, 1);
            reported(&net).contains(&format!("{fresh} port=80"))
        });
    }
    for off in ["rbl_enabled=false", "rbl_x_enabled=false"] {
        let on = off.replace("false", "true");
        assert!(net.shown().contains("seen4"));
        reload(&conf.replace(&on, off));
        let table = net.shown();
        assert!(!table.contains("seen_") && !table.contains("set seen"), "{table}");
        let status = net.mef(&["status"]).shown();
        assert!(status.contains("new sources off\n"), "{status}");
        reload(&conf);
    }
    // The community's zone is one like others.
    reload(&conf.replace(
        "rbl_enabled=true",
        "rbl_enabled=false\ncommunity_cloud_protection=true\ncommunity_zone=c.example\n\
         community_cloud_ports=90",
    ));
    let before = reported(&net).len();
    assert_eq!((both(80, before), both(90, before + 2)), (before, before + 2));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn a_kernel_that_cannot_tell_is_told_of() {
    let net = Net::new();
    let seen = SeenOptions { ports: vec![(80, 80)], timeout: 60 };
    for (without, words) in [
        (Capability::NewSources, "cannot report new sources"),
        (Capability::Reports, "cannot report port scans, floods and new sources"),
    ] {
        let options = Options { seen: Some(seen.clone()), without: without.into(), ..Options::default() };
        let made = Guard::open(options, mef::ban::Allowed::default()).unwrap().rebuild().unwrap();
        assert!(!made.has(&NewSourceReports) && made.missing == without.into());
        assert!(!net.shown().contains("seen_"));
        let status = net.mef(&["status"]).shown();
        assert!(status.contains(words), "{status}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn a_group_that_somebody_else_reads_costs_only_the_news() {
    let mut net = host(ON, "");
    let peer = net.peer();
    let other = mef::firewall::Packets::news().unwrap();
    let daemon = net.daemon("daemon");
    assert!(net.said("daemon").contains("another program reads this group: new sources are not reported"));
    net.mark(LOG);
    drop(other);
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("daemon", "configuration read");
    Way::new(&net, &peer).burst(addr("20.0.0.1"), (peer.host4.into(), 80), SYN, 1);
    wait_until("the count", || fact(&net, "new_sources") == 1);
}
