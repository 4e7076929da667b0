//! Port scans by a real scanner: the kernel bans them itself, and the daemon tells it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;
use mef::ban::Pardon;

use common::backend::is_fallback;
use common::bans::{number, rows, text};
use common::daemon::{LOG, host};
use common::frames::{SYN, Segment, Way};
use common::{Net, Peer, wait_until};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// Closed ports that are fine, as the tests have it.
const LIMIT: usize = 10;
/// From where the neighbour speaks IPv6: its own address shares a prefix with the host's.
const SCANNER6: &str = "2001:db8:5ca:1::7";

/// A host with a neighbour, and a daemon with these settings.
fn scanned(settings: &str) -> (Net, Peer, usize) {
    let mut net = host(&format!("ps_limit={LIMIT}\nps_boot_grace=0\n{settings}"), "");
    let peer = net.peer();
    net.speak_as(&peer, SCANNER6.parse().unwrap());
    let daemon = net.daemon("daemon");
    (net, peer, daemon)
}

/// Runs nmap at the neighbour; each port that it learned something of, as `22 closed`.
fn nmap(net: &Net, peer: &Peer, words: &str) -> Vec<String> {
    let mut args = vec![
        "-n",
        "-Pn",
        "--max-retries",
        "0",
        "--host-timeout",
        "15s",
        "-oG",
        "-",
        "--disable-arp-ping",
        "-v",
    ];
    args.extend(words.split_whitespace());
    let out = net.within(&peer.ns, |net| net.cmd("nmap", &args)).ok();
    let ports = out.split("Ports: ").nth(1).unwrap_or("").split('\t').next().unwrap_or("");
    let ports = ports.split(", ").filter_map(|port| {
        let mut parts = port.split('/');
        Some(format!("{} {}", parts.next()?, parts.next()?))
    });
    ports.filter(|port| port.ends_with(" closed") || port.ends_with(" open")).collect()
}

/// How many sources were banned, as the rule that bans has counted them.
fn deciding_packets(net: &Net) -> Vec<u64> {
    net.drops_of("scan_ban", "caught")
}

/// Elements of a set of pairs.
fn seen(net: &Net, family: u8) -> usize {
    net.set_len(&format!("scan_seen{family}"))
}

fn banned(net: &Net, addr: impl Into<IpAddr>) -> bool {
    let addr = addr.into();
    let (set, key) = match addr {
        IpAddr::V4(_) => ("scan_ban4", addr),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            ("scan_ban6", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
        }
    };
    net.in_set(set, key)
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn a_scan_is_cut_off_at_the_packet_that_goes_over_the_limit() {
    let (net, peer, _) = scanned("ps_packet_udp=true");
    let _open = TcpListener::bind((peer.host4, 22)).unwrap();
    let host = peer.host4;
    let cases = [
        ("SYN", format!("-sS -p 22,1-60 {host}")),
        ("connect", format!("-sT -p 22,1-60 {host}")),
        ("FIN", format!("-sF -p 22,1-60 {host}")),
        ("NULL", format!("-sN -p 22,1-60 {host}")),
        ("XMAS", format!("-sX -p 22,1-60 {host}")),
        ("UDP", format!("-sU -p 1-60 {host}")),
        ("slow", format!("-sS --scan-delay 60ms -p 22,1-20 {host}")),
        ("decoys", format!("-sS -D 198.51.100.77,203.0.113.77 -p 22,1-60 {host}")),
    ];
    for (i, (name, words)) in (1..).zip(&cases) {
        let found = nmap(&net, &peer, words);
        let closed = found.iter().filter(|port| port.ends_with("closed")).count();
        // The packet that is one too many is dropped itself, and so is all that follows.
        assert!(closed <= LIMIT, "{name}: {found:?}");
        assert!(banned(&net, peer.v4), "{name}: {found:?}");
        assert_eq!(
            seen(&net, 4) % (LIMIT + 1),
            0,
            "{name}: exactly one closed port more than the limit counts"
        );
        if *name == "SYN" || *name == "connect" {
            assert!(found.contains(&"22 open".to_owned()) || closed == LIMIT, "{name}: {found:?}");
        }
        if *name == "decoys" {
            assert_eq!(deciding_packets(&net), [i + 2, 0, 0]);
            assert!(banned(&net, "203.0.113.77".parse::<IpAddr>().unwrap()));
        } else {
            assert_eq!(deciding_packets(&net), [i, 0, 0], "{name}: one packet decides");
        }
        // For the next one.
        net.flush_sets(&["scan_seen4", "scan_rate4", "scan_ban4"]);
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn all_of_a_prefix_is_one_scanner() {
    let (net, peer, _) = scanned("");
    net.ip(&format!("route add 2001:db8:5ca:1::/64 via {}", peer.v6));
    for n in 1..=6 {
        let source = format!("2001:db8:5ca:1::{n}:7");
        net.within(&peer.ns, |net| net.ip(&format!("addr add {source}/128 dev lo nodad")));
        // Each touches two ports of its own.
        for port in [n * 2, n * 2 + 1] {
            let to = (peer.host6, port).into();
            let socket = net.within(&peer.ns, |_| {
                let source: std::net::SocketAddr = format!("[{source}]:0").parse().unwrap();
                connect_from(source, to)
            });
            assert!(!socket);
        }
        assert_eq!(banned(&net, SCANNER6.parse::<IpAddr>().unwrap()), n * 2 > 10, "{n}");
    }
    assert_eq!(seen(&net, 6), LIMIT + 1);
    assert_eq!(net.banned(), ["2001:db8:5ca:1::/64"]);
    net.mef(&["unban", SCANNER6]).ok();
    assert!(net.banned().is_empty());
}

/// Whether a connection from an address of this namespace comes about within a moment.
fn connect_from(from: std::net::SocketAddr, to: std::net::SocketAddr) -> bool {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
    };
    use std::os::fd::AsRawFd;
    let family = if to.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&fd, sockopt::SendTimeout, &nix::sys::time::TimeVal::new(0, 300_000)).unwrap();
    bind(fd.as_raw_fd(), &SockaddrStorage::from(from)).unwrap();
    connect(fd.as_raw_fd(), &SockaddrStorage::from(to)).is_ok()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn who_comes_for_services_is_never_counted() {
    let (net, peer, _) = scanned("");
    let open: Vec<TcpListener> = (0..10)
        .map(|i| {
            TcpListener::bind((
                if i < 5 { IpAddr::from(peer.host4) } else { "::".parse().unwrap() },
                7000 + i,
            ))
            .unwrap()
        })
        .collect();
    for _ in 0..100 {
        for listener in &open {
            let port = listener.local_addr().unwrap().port();
            let client = net.within(&peer.ns, |_| {
                TcpStream::connect_timeout(&(peer.host4, port).into(), Duration::from_secs(10)).unwrap()
            });
            let (server, _) = listener.accept().unwrap();
            // Sometimes the one, sometimes the other end keeps the state of a connection that has ended.
            if port % 2 == 0 { drop((server, client)) } else { drop((client, server)) }
        }
    }
    assert_eq!(seen(&net, 4), 0);
    assert!(net.bans().is_empty());
    // A closed port again and again is one closed port.
    for _ in 0..50 {
        assert!(!net.within(&peer.ns, |_| TcpStream::connect((peer.host4, 9)).is_ok()));
    }
    assert_eq!(seen(&net, 4), 1);
    assert!(net.bans().is_empty());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn bans_need_no_daemon_and_hold_for_what_is_forwarded() {
    let (mut net, peer, daemon) = scanned("");
    let container = net.peer();
    common::world::sysctl("ipv4/ip_forward", "1");
    let service = net.within(&container.ns, |_| TcpListener::bind((container.v4, 80)).unwrap());
    net.stop(daemon);
    assert!(net.reaches(&peer, container.v4.into(), 80));
    let found = nmap(&net, &peer, &format!("-sS -p 1-60 {}", peer.host4));
    assert!(found.len() <= LIMIT && banned(&net, peer.v4), "{found:?}");
    assert!(net.shut_out(&peer, container.v4.into(), 80));
    assert_eq!(text(&net.ban_of(&peer.v4.to_string()), "rule"), "portscan");
    net.mef(&["unban", &peer.v4.to_string()]).ok();
    assert!(net.reaches(&peer, container.v4.into(), 80));
    drop(service);
    // Whoever has the port that is forwarded to does not matter: that packet never comes to the host itself.
    let found = nmap(&net, &peer, &format!("-sS -p 1-24 {}", container.v4));
    assert!(found.len() > LIMIT, "{found:?}");
    assert!(net.bans().is_empty());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn allowed_and_needed_addresses_are_never_banned() {
    let mut net = host(&format!("ps_limit={LIMIT}\ntrusted_proxies=203.0.113.2\n"), "");
    let (friend, gateway, proxy) = (net.peer(), net.peer(), net.peer());
    net.write("whitelist/local.conf", &format!("{}\n", friend.v4));
    net.ip(&format!("route add default via {}", gateway.v4));
    net.mef(&["allow", "--config", net.path("mef.conf").to_str().unwrap(), "10.9.9.9"]).ok();
    net.daemon("daemon");
    assert_eq!(proxy.v4.to_string(), "203.0.113.2");
    for peer in [&friend, &gateway, &proxy] {
        let found = nmap(&net, peer, &format!("-sS -p 1-40 {}", peer.host4));
        assert_eq!(found.len(), 40, "{found:?}");
    }
    assert!(net.bans().is_empty());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn interfaces_and_ports_narrow_what_counts() {
    let mut net = host(
        &format!("ps_boot_grace=0\nps_limit={LIMIT}\nps_interface=v1\nps_exclude_ports=auto,100-140\n"),
        "",
    );
    let (inside, outside) = (net.peer(), net.peer());
    let daemon = net.daemon("daemon");
    let scan = |peer: &Peer, ports: &str| nmap(&net, peer, &format!("-sS -p {ports} {}", peer.host4)).len();
    assert_eq!(scan(&inside, "1-40"), 40);
    assert_eq!(scan(&outside, "101-140"), 40);
    assert!(scan(&outside, "1-40") <= LIMIT);
    assert_eq!(net.banned(), [outside.v4.to_string()]);
    net.mef(&["unban", "--all"]).ok();

    // Those of the default routes, as they come and go.
    let conf = net.read("mef.conf").replace("ps_interface=v1", "ps_interface=auto");
    net.write("mef.conf", &conf);
    net.ip(&format!("route add default via {}", inside.v4));
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("daemon", "configuration read");
    let watched = |net: &Net| {
        if is_fallback() {
            let rules = net.rules_of_iptables();
            return ["v0", "v1"].map(|name| rules.contains(&format!("-A mef_scan -i {name} -g mef_look")));
        }
        let chain = net.nft_list("chain inet mef_guard scan");
        ["v0", "v1"].map(|name| chain.contains(&format!("iifname \"{name}\"")))
    };
    assert_eq!(watched(&net), [true, false]);
    net.ip(&format!("route replace default via {}", outside.v4));
    wait_until("the other interface", || watched(&net) == [false, true]);
    net.flush_sets(&["scan_seen4", "scan_rate4"]);
    let scan = |peer: &Peer, ports: &str| nmap(&net, peer, &format!("-sS -p {ports} {}", peer.host4)).len();
    assert_eq!(scan(&inside, "1-40"), 40);
    net.flush_sets(&["exempt4"]);
    assert!(scan(&outside, "1-40") <= LIMIT);

    net.write("mef.conf", &conf.replace("ps_interface=auto", "ps_enabled=false"));
    net.signal(daemon, libc::SIGHUP);
    wait_until("the end of the guard", || !net.shown().contains("scan_"));
    assert_eq!(scan(&outside, "1-40"), 40);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn what_the_kernel_has_banned_is_told() {
    let (mut net, peer, daemon) =
        scanned("ban_log_enabled=true\nban_log_path=/var/log/mef.log\nps_bantime=120");
    let watch = net.mef_command(&["watch"]);
    net.start("watch", watch);
    wait_until("a reader", || net.mef(&["status", "--json"]).shown().contains("\"watchers\":1"));
    nmap(&net, &peer, &format!("-sS -r -p 1-40 {}", peer.host4));
    let addr = peer.v4;
    let facts = format!("ban {addr} rule=portscan hits=11 for=120");
    let seen = "seen=1,2,3,4,5,6,7,8,9,10,11";
    wait_until("the event", || {
        let said = net.said("watch");
        said.lines().any(|line| line.contains(&facts) && line.ends_with(&format!("ports=all bans=1 {seen}")))
    });
    net.wait_said("daemon", &format!("{facts}s ports=all bans=1 {seen}"));
    let log = net.read("log/mef.log");
    assert!(log.contains(&format!("{facts} ports=all {seen}\n")), "{log}");
    let status = net.mef(&["status"]).shown();
    assert!(status.contains("port scans  banned by the kernel"), "{status}");
    // The history has it with its reason, over a restart, and makes no ban of it.
    let reason = "touched closed ports 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11";
    let of_addr = |net: &Net| rows(&net.mef(&["history", "--json", &addr.to_string()]).ok());
    wait_until("the history", || !of_addr(&net).is_empty());
    let before = of_addr(&net);
    let [ban] = before.as_slice() else { panic!("{before:?}") };
    assert_eq!([text(ban, "event"), text(ban, "rule"), text(ban, "line")], ["ban", "portscan", reason]);
    assert_eq!(number(ban, "until").unwrap() - number(ban, "since").unwrap(), 120);
    let why = net.mef(&["why", &addr.to_string()]);
    assert!(why.status == 1 && why.stdout.contains(&format!("  line       {reason}")), "{}", why.stdout);
    // It is not said that all of its packets are dropped.
    assert!(why.stdout.contains("is dropped: new connections banned by rule portscan"), "{}", why.stdout);
    assert!(
        why.stdout.contains("  banned     new connections on all ports, by rule portscan"),
        "{}",
        why.stdout
    );
    let json = net.mef(&["why", "--json", &addr.to_string()]).stdout;
    assert!(json.contains("\"ports\":\"all\",\"new_only\":true"), "{json}");
    let listed = net.ban_of(&addr.to_string());
    assert_eq!((text(&listed, "line").as_str(), number(&listed, "hits")), (reason, Some(11)));
    net.stop(daemon);
    net.lose_table();
    net.daemon("second");
    net.mark(LOG);
    assert_eq!(of_addr(&net), before);
    assert!(!net.banned().contains(&addr.to_string()));
    assert_eq!(net.mef(&["why", &addr.to_string()]).status, 0);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn scanners_that_come_again_are_banned_for_a_day_if_that_is_wanted_and_never_for_good() {
    let (net, peer, _) =
        scanned("ps_escalation_enabled=true\nps_permanent_threshold=2\nps_bantime=1\nbantime_max=1d");
    for round in 1..=2 {
        wait_until("the end of the ban", || !banned(&net, peer.v4));
        nmap(&net, &peer, &format!("-sS -p {}-{} {}", round * 100, round * 100 + 40, peer.host4));
        net.wait_said("daemon", &format!("bans={round}"));
    }
    assert!(net.said("daemon").lines().any(|line| {
        line.contains(&format!("ban {} rule=portscan hits=", peer.v4))
            && line.contains(" for=86400s ports=all bans=2 ")
    }));
    // Longer, and still only against what begins something: no set of others has it.
    assert!(banned(&net, peer.v4) && !net.in_set("ban4", peer.v4.into()));
    let ban = net.ban_of(&peer.v4.to_string());
    assert_eq!(text(&ban, "rule"), "portscan");
    assert_eq!(net.mef(&["bans", "--permanent"]).ok().matches("portscan").count(), 0);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn forged_senders_fill_the_sets_and_harm_nobody() {
    let (net, peer, daemon) = scanned("");
    let rollup = format!("/proc/{}/smaps_rollup", net.pid(daemon));
    let dirty = || {
        let text = std::fs::read_to_string(&rollup).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap()
    };
    net.mark(LOG);
    let before = dirty();
    let way = Way::new(&net, &peer);
    for (to, noise) in [(IpAddr::from(peer.host4), "20.0.0.0/8"), (peer.host6.into(), "2001:db8:4444::/48")] {
        // Nobody answers.
        net.ip(&format!("route add blackhole {noise}"));
        let frames: Vec<Vec<u8>> = (0..20_000u16)
            .map(|n| {
                let from = match to {
                    IpAddr::V4(_) => Ipv4Addr::from(0x1400_0000 + u32::from(n)).into(),
                    IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0x4444, n, 0, 0, 0, 1).into(),
                };
                way.frame(&Segment { from: (from, 4000), to: (to, 1 + n % 50), flags: SYN })
            })
            .collect();
        way.wire.send(&frames);
    }
    let held = |set: &str| net.set_len(set);
    let (room4, room6) = if is_fallback() { (8192 + 109, 4096 + 109 - 1) } else { (8192, 4096) };
    assert_eq!(
        ["scan_seen4", "scan_seen6"].map(held),
        [room4, room6],
        "what has room is counted, and no more"
    );
    assert!(held("scan_rate4") <= room4 && held("scan_rate6") <= room6 + 1);
    // Whoever comes now is not counted, and not dropped either.
    let _service = TcpListener::bind(("::", 80)).unwrap();
    assert!(net.reaches(&peer, peer.host4.into(), 80) && net.reaches(&peer, peer.host6.into(), 80));
    assert_eq!(nmap(&net, &peer, &format!("-sS -p 1-40 {}", peer.host4)).len(), 40);
    net.mark(LOG);
    assert!(net.banned().is_empty());
    // No kilobyte for each of 12,288: what the daemon has does not depend on it.
    let grown = dirty().saturating_sub(before);
    assert!(grown < 256, "{grown} kB more");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn a_reload_and_a_flush_keep_the_guard_in_force() {
    let (net, peer, daemon) = scanned("");
    for what in ["reload", "flush ruleset", "flush chain inet mef_guard scan", "delete table inet mef_guard"]
    {
        let fallback = is_fallback();
        if what == "reload" {
            net.signal(daemon, libc::SIGHUP);
            net.wait_said("daemon", "configuration read");
        } else {
            match what {
                "flush ruleset" if fallback => net.flush_iptables(),
                "delete table inet mef_guard" if fallback => net.lose_table(),
                _ if fallback => {
                    net.cmd("iptables-legacy", &["-t", "mangle", "-F", "INPUT"]).ok();
                }
                _ => drop(net.nft(what)),
            }
            wait_until(what, || net.watches("scan", "scan"));
            net.mark(LOG);
        }
        let found = nmap(&net, &peer, &format!("-sS -p 1-40 {}", peer.host4));
        assert!(found.len() <= LIMIT, "{what}: {found:?}");
        wait_until("the ban", || banned(&net, peer.v4));
        if net.shown().contains("scan_seen4") {
            net.flush_sets(&["scan_seen4", "scan_rate4", "scan_ban4"]);
        }
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn other_limits_hold_for_who_was_counted_by_the_former_ones() {
    let (net, peer, daemon) = scanned("");
    assert_eq!(nmap(&net, &peer, &format!("-sS -p 1-9 {}", peer.host4)).len(), 9);
    let conf = net.read("mef.conf");
    net.write("mef.conf", &conf.replace(&format!("ps_limit={LIMIT}"), "ps_limit=30"));
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("daemon", "configuration read");
    assert_eq!(nmap(&net, &peer, &format!("-sS -p 101-130 {}", peer.host4)).len(), 30);
    assert!(net.bans().is_empty());
    assert!(nmap(&net, &peer, &format!("-sS -p 201-240 {}", peer.host4)).len() < 30);
    assert!(banned(&net, peer.v4));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn who_was_unbanned_is_not_banned_for_one_port_more() {
    let (net, peer, _) = scanned("");
    let host = peer.host4;
    for (round, words) in (1..).zip([peer.v4.to_string(), format!("{}/24", peer.v4), "--all".into()]) {
        nmap(&net, &peer, &format!("-sS -p {}-{} {host}", round * 100, round * 100 + 30));
        net.mark(LOG);
        assert!(banned(&net, peer.v4), "{words}");
        net.mef(&["unban", &words]).ok();
        assert_eq!(nmap(&net, &peer, &format!("-sS -p {} {host}", round * 100 + 40)).len(), 1);
        assert!(net.bans().is_empty(), "{words}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn datagrams_count_only_if_that_is_wanted() {
    let (net, peer, _) = scanned("");
    net.within(&peer.ns, |_| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        (1..100).for_each(|port| drop(socket.send_to(b"x", (peer.host4, port))));
    });
    net.mark(LOG);
    assert_eq!(seen(&net, 4), 0);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn without_a_look_up_of_sockets_the_kernel_is_told_which_ports_listen() {
    use mef::ban::{Capability, Options, ScanOptions};
    use mef::base::clock::Mono;
    use mef::firewall::guard::{Guard, Scan};
    let mut net = Net::new();
    let peer = net.peer();
    let scan = ScanOptions {
        limit: 10,
        interval: 300,
        bantime: 600,
        udp: false,
        interfaces: None,
        excluded: Vec::new(),
        listening: true,
        ports: Vec::new(),
        calm_until: Mono(0),
    };
    let mut guard = Guard::open(
        Options { scan: Some(scan), without: Capability::Sockets.into(), ..Options::default() },
        mef::ban::Allowed::default(),
    )
    .unwrap();
    let made = guard.rebuild().unwrap();
    assert!(made.has(&Scan) && made.missing == Capability::Sockets.into() && guard.wants_open_ports());
    let open: Vec<TcpListener> = (0..20).map(|i| TcpListener::bind(("0.0.0.0", 7000 + i)).unwrap()).collect();
    let ports = mef::sys::host::open_ports();
    assert!((7000..7020).all(|port| ports.contains(&port)), "{ports:?}");
    let reported: Vec<(u16, u64)> = ports.iter().map(|port| (*port, 60_000)).collect();
    guard.set_open_ports(&reported).unwrap();
    for port in 7000..7020 {
        assert!(net.reaches(&peer, peer.host4.into(), port));
    }
    drop(open);
    assert!(net.nft_list("set inet mef_guard scan_seen4").matches(" . ").count() == 1);
    let found = nmap(&net, &peer, &format!("-sS -p 1-40 {}", peer.host4));
    assert!(found.len() <= LIMIT && banned(&net, peer.v4), "{found:?}");
    let mut listed = Vec::new();
    guard.list(&mut |e| listed.push((e.addr.to_string(), e.rule.to_owned(), e.left))).unwrap();
    let is_it = |addr: &str, rule: &str| addr == peer.v4.to_string() && rule == "portscan";
    assert!(matches!(&listed[..], [(addr, rule, Some(1..=600))] if is_it(addr, rule)));
    assert!(guard.unban_packets(&IpAddr::from(peer.v4).into(), Pardon::Mistake).unwrap());
    assert!(!banned(&net, peer.v4));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn the_ingress_hook_follows_the_default_routes() {
    let mut net = host("fastpath=ingress\nps_enabled=false", "");
    let peer = net.peer();
    let stranger: IpAddr = "203.0.113.77".parse().unwrap();
    net.speak_as(&peer, stranger);
    let _service = TcpListener::bind((peer.host4, 80)).unwrap();
    let hook =
        |net: &Net| net.nft_list("chain inet mef_guard gate").lines().nth(2).unwrap_or("").trim().to_owned();
    let daemon = net.daemon("daemon");
    assert!(hook(&net).starts_with("type filter hook prerouting priority raw"), "{}", hook(&net));
    net.ip(&format!("route add default via {}", peer.v4));
    wait_until("the ingress hook", || hook(&net).starts_with("type filter hook ingress device \"v0\""));
    assert!(net.reaches(&peer, peer.host4.into(), 80));
    net.mef(&["ban", &stranger.to_string()]).ok();
    let status = net.mef(&["status"]).shown();
    assert!(
        status.contains("packets     dropped in the ingress hook of the interfaces of the default routes"),
        "{status}"
    );
    assert!(net.shut_out(&peer, peer.host4.into(), 80));
    assert!(net.dropped() > 0);
    // An interface that goes and comes back under the same name.
    net.ip("link set v0 name v9");
    net.ip("link add v0 type veth peer name v8");
    net.ip("link set v8 up");
    net.ip("link set v0 up");
    net.ip("addr add 10.77.0.1/24 dev v0");
    net.ip("route replace default via 10.77.0.2");
    wait_until("the hook on the new one", || {
        net.nft_list("chain inet mef_guard gate").contains("device \"v0\"")
    });
    net.ip("route del default");
    wait_until("prerouting", || hook(&net).starts_with("type filter hook prerouting"));
    assert!(net.shut_out(&peer, peer.host4.into(), 80));
    net.mef(&["unban", "--all"]).ok();
    assert!(net.reaches(&peer, peer.host4.into(), 80));
    net.stop(daemon);
}
