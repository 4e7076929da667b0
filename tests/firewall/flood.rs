//! Floods of real packets: what is over a limit is dropped, everybody else gets through, and who comes again
//! is banned.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::backend::is_fallback;
use common::bans::text;
use common::daemon::{LOG, host};
use common::frames::{ACK, SYN, Segment, Way};
use common::world::sysctl;
use common::{LIMIT, Net, Peer, wait_until};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A host that is guarded, with an attacker and a client.
fn guarded(settings: &str) -> (Net, Peer, Peer) {
    let mut net = host(&format!("ddos_enabled=true\nps_enabled=false\n{settings}"), "");
    let (attacker, client) = (net.peer(), net.peer());
    net.daemon("daemon");
    (net, attacker, client)
}

const FORGED: &str = "ddos_enabled=true\nps_enabled=false\nddos_syn_rate=1\nddos_syn_burst=1\n\
    ddos_stage1_timeout=3600\n\
                      ddos_escalation_hits=1000";

/// Somebody behind a neighbour who hears no answer: nothing of what it begins comes to an end.
fn behind(net: &Net, peer: &Peer, addr: &str) -> IpAddr {
    let addr: IpAddr = addr.parse().unwrap();
    let via: IpAddr = if addr.is_ipv4() { peer.v4.into() } else { peer.v6.into() };
    net.ip(&format!("route replace {addr} via {via}"));
    addr
}

/// What is in the throttle.
fn throttled(net: &Net, family: u8) -> String {
    net.set_text(&format!("throttle{family}"))
}

/// Packets that were dropped for a limit.
fn over(net: &Net, limit: &str) -> u64 {
    net.drops_of(&format!("flood_{limit}"), &format!("over_{limit}")).iter().sum()
}

fn episodes(net: &Net, addr: &str) -> usize {
    net.said("daemon").matches(&format!("throttle {addr} rule=flood ")).count()
}

fn status(net: &Net) -> String {
    net.mef(&["status", "--config", net.path("mef.conf").to_str().unwrap()]).shown()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn clients_get_through_while_a_flood_goes_on() {
    // Without a guard, few half-open connections shut everybody out.
    let (net, attacker, client) =
        guarded("ddos_newconn_rate=2\nddos_newconn_burst=10\nddos_stage1_timeout=60");
    sysctl("ipv4/tcp_syncookies", "0");
    sysctl("ipv4/tcp_max_syn_backlog", "64");
    let port = |port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    let (_guarded, _other) = (port(80), port(81));
    let addr = behind(&net, &attacker, "203.0.113.66");
    let (way, to) = (Way::new(&net, &attacker), IpAddr::from(attacker.host4));
    assert!(net.reaches(&client, client.host4.into(), 80) && net.reaches(&client, client.host4.into(), 81));
    way.burst(addr, (to, 81), SYN, 500);
    assert!(net.shut_out(&client, client.host4.into(), 81), "so it is without a guard");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let end = Instant::now() + Duration::from_secs(15);
            while !stop.load(Ordering::Relaxed) && Instant::now() < end {
                way.burst(addr, (to, 80), SYN, 512);
            }
        });
        wait_until("the throttle", || throttled(&net, 4).contains("203.0.113.66"));
        for _ in 0..8 {
            let connects = net.within(&client.ns, |_| {
                TcpStream::connect_timeout(&(client.host4, 80).into(), Duration::from_secs(5)).is_ok()
            });
            assert!(connects, "{}", net.shown());
        }
        wait_until("more of it", || over(&net, "new") + over(&net, "syn") > 1000);
        stop.store(true, Ordering::Relaxed);
    });
    // It went in once, and is told once.
    net.mark(LOG);
    assert_eq!(episodes(&net, "203.0.113.66"), 1);
    assert!(net.said("daemon").contains("throttle 203.0.113.66 rule=flood port=80 limit=newconn_rate\n"));
    let status = status(&net);
    assert!(status.contains("floods      held back by the kernel, 1 source in the throttle"), "{status}");
    assert!(net.bans().iter().all(|ban| text(ban, "address") != "203.0.113.66"));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn each_limit_counts_for_itself_and_ports_may_have_their_own() {
    let wide = |port: u16| {
        let fields = ["syn_rate", "syn_burst", "newconn_rate", "newconn_burst", "connlimit"];
        fields.map(|field| format!("ddos_port_{port}_{field}=100000\n")).concat()
    };
    let (net, attacker, client) = guarded(&format!(
        "ddos_ports=90-99\nddos_syn_burst=1000\nddos_newconn_burst=1000\n{}{}{}\
         ddos_port_1001_syn_rate=1\nddos_port_1001_syn_burst=5\nddos_port_1002_newconn_rate=1\n\
         ddos_port_1002_newconn_burst=5\n\
         ddos_port_95_syn_rate=1\nddos_port_95_syn_burst=5\nddos_port_1003_connlimit=3",
        wide(1001),
        wide(1002),
        wide(1003)
    ));
    let way = Way::new(&net, &attacker);
    for (family, to, addr) in [
        (4, IpAddr::from(attacker.host4), ["203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4"]),
        (6, attacker.host6.into(), ["2001:db8:a::1", "2001:db8:b::1", "2001:db8:c::1", "2001:db8:d::1"]),
    ] {
        let [a, b, c, d] = addr.map(|addr| behind(&net, &attacker, addr));
        let cases = [
            ("SYNs at a port with a limit for them", a, 1001, SYN, "syn"),
            ("packets of no connection", b, 1002, ACK, "new"),
            ("SYNs are new connections, too", c, 1002, SYN, "new"),
            ("a port of a range that has its own", d, 95, SYN, "syn"),
        ];
        for (name, addr, port, flags, limit) in cases {
            // What the neighbour prefix is: IPv6 is counted by /64.
            let key = addr.to_string();
            let before = over(&net, limit);
            way.burst(addr, (to, port), flags, 100);
            let dropped = over(&net, limit) - before;
            assert!((80..100).contains(&dropped), "{name}: {dropped} of 100 packets");
            let key = if family == 6 { key.replace("::1", "::") } else { key };
            assert!(throttled(&net, family).contains(&key), "{name}: {}", throttled(&net, family));
        }
        // What is under a limit passes, at a port that is not guarded everything does.
        let quiet = behind(&net, &attacker, if family == 4 { "203.0.113.9" } else { "2001:db8:9::1" });
        let before = ["syn", "new", "conn"].map(|limit| over(&net, limit));
        way.burst(quiet, (to, 1001), SYN, 4);
        way.burst(quiet, (to, 93), SYN, 500);
        way.burst(quiet, (to, 22), SYN, 2000);
        assert_eq!(["syn", "new", "conn"].map(|limit| over(&net, limit)), before);
    }
    // Connections at the same time; the host's own prefix is not held back.
    net.speak_as(&client, "2001:db8:e::1".parse().unwrap());
    for host in [IpAddr::from(client.host4), client.host6.into()] {
        let server = TcpListener::bind((host, 1003)).unwrap();
        let connect =
            |patience| net.within(&client.ns, |_| TcpStream::connect_timeout(&(host, 1003).into(), patience));
        let mut open: Vec<TcpStream> = (0..3).map(|_| connect(LIMIT).unwrap()).collect();
        assert!(net.shut_out(&client, host, 1003), "the fourth one, {host}");
        assert!(over(&net, "conn") > 0);
        let first = open.remove(0);
        let theirs = server_side(&server, &first);
        drop((first, theirs));
        // One attempt, which begins again by itself: one that is given up late holds its place for a minute.
        open.push(connect(LIMIT).unwrap());
    }
    net.mark(LOG);
    let said = net.said("daemon");
    for line in [
        "throttle 203.0.113.1 rule=flood port=1001 limit=syn_rate\n",
        "throttle 203.0.113.2 rule=flood port=1002 limit=newconn_rate\n",
        "throttle 2001:db8:d::/64 rule=flood port=95 limit=syn_rate\n",
        &format!("throttle {} rule=flood port=1003 limit=connlimit\n", client.v4),
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
}

/// The server's side of a connection. Connections need not be accepted in the order in which they were made:
/// the last packet of a handshake may be overtaken by a whole handshake on another processor.
fn server_side(server: &TcpListener, stream: &TcpStream) -> TcpStream {
    let addr = stream.local_addr().unwrap();
    std::iter::repeat_with(|| server.accept().unwrap()).find(|(_, from)| *from == addr).unwrap().0
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn all_of_a_prefix_is_one_source() {
    let (net, attacker, _) = guarded("ddos_syn_rate=1\nddos_syn_burst=10");
    let way = Way::new(&net, &attacker);
    let frames: Vec<Vec<u8>> = (1..=100)
        .map(|n| {
            let from = Ipv6Addr::new(0x2001, 0xdb8, 5, 5, n, 0, 0, 7);
            way.frame(&Segment { from: (from.into(), 4000), to: (attacker.host6.into(), 80), flags: SYN })
        })
        .collect();
    way.wire.send(&frames);
    assert!(over(&net, "syn") >= 80);
    net.mark(LOG);
    assert_eq!(episodes(&net, "2001:db8:5:5::/64"), 1);
    assert_eq!(throttled(&net, 6).matches("2001:db8:5:5:: ").count(), 1);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn all_of_a_throttled_source_is_dropped_if_that_is_wanted() {
    let (net, attacker, client) =
        guarded("ddos_stage1_mode=drop\nddos_stage1_timeout=3600\nddos_syn_rate=1\nddos_syn_burst=3");
    let host: IpAddr = attacker.host4.into();
    let _server = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 22)).unwrap();
    let udp = UdpSocket::bind((host, 53)).unwrap();
    let asks_within = |from: &Peer, time| {
        net.within(&from.ns, |_| {
            UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", (host, 53)).unwrap();
        });
        udp.set_read_timeout(Some(time)).unwrap();
        udp.recv_from(&mut [0; 4]).is_ok()
    };
    let asks = |from: &Peer| asks_within(from, LIMIT);
    let in_vain = |from: &Peer| !asks_within(from, Duration::from_millis(500));
    assert!(asks(&attacker) && net.reaches(&attacker, host, 22));
    Way::new(&net, &attacker).burst(attacker.v4.into(), (host, 80), SYN, 50);
    let addr = attacker.v4.to_string();
    assert!(throttled(&net, 4).contains(&addr));
    assert!(in_vain(&attacker) && net.shut_out(&attacker, host, 22));
    assert!(net.reaches(&client, client.host4.into(), 22));
    // Whoever is allowed is so at once, and who is freed by hand, too.
    let conf = net.path("mef.conf");
    let conf = conf.to_str().unwrap();
    net.mef(&["allow", "--config", conf, "--for", "1h", &addr]).ok();
    assert!(asks(&attacker) && net.reaches(&attacker, host, 22));
    net.mef(&["disallow", "--config", conf, &addr]).ok();
    assert!(in_vain(&attacker));
    net.mef(&["unban", &addr]).ok();
    assert_eq!(throttled(&net, 4), "");
    assert!(asks(&attacker));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn who_floods_again_and_again_is_banned() {
    let (mut net, attacker, client) = guarded(
        "ddos_syn_rate=1\nddos_syn_burst=3\nddos_stage1_timeout=1\nddos_escalation_hits=3\nddos_bantime=120\n\
         ban_log_enabled=true\nban_log_path=/var/log/mef.log\nddos_escalation_window=1h",
    );
    let watch = net.mef_command(&["watch"]);
    net.start("watch", watch);
    wait_until("a reader", || net.mef(&["status", "--json"]).shown().contains("\"watchers\":1"));
    let way = Way::new(&net, &attacker);
    let _service = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 80)).unwrap();
    for (addr, shown, to) in [
        ("203.0.113.7", "203.0.113.7", IpAddr::from(attacker.host4)),
        ("2001:db8:a::7", "2001:db8:a::/64", attacker.host6.into()),
    ] {
        let addr = behind(&net, &attacker, addr);
        for episode in 1..=3 {
            wait_until("the end of the throttle", || {
                throttled(&net, 4).len() + throttled(&net, 6).len() == 0
            });
            assert!(net.bans().iter().all(|ban| text(ban, "address") != shown));
            wait_until("an episode", || {
                way.burst(addr, (to, 80), SYN, 20);
                episodes(&net, shown) == episode
            });
        }
        let facts = format!("ban {shown} rule=flood hits=3 for=120");
        net.wait_said("daemon", &format!("{facts}s ports=all bans=0\n"));
        wait_until("the event", || net.said("watch").contains(&format!("{facts} ports=all bans=0\n")));
        wait_until("the ban log", || net.read("log/mef.log").contains(&format!("{facts} ports=all\n")));
        assert!(
            net.said("watch").contains(&format!(" throttle {shown} rule=flood port=80 limit=syn_rate\n"))
        );
        assert_eq!(text(&net.ban_of(shown), "rule"), "flood");
        wait_until("the history", || {
            let told = net.mef(&["history", "--rule", "flood"]).ok();
            told.lines().any(|l| l.contains(shown) && l.ends_with("entered the flood throttle too often"))
        });
        // What it sends now dies before all that.
        let before = (over(&net, "syn"), net.dropped());
        way.burst(addr, (to, 80), SYN, 200);
        assert_eq!(over(&net, "syn"), before.0);
        assert!(net.dropped() >= before.1 + 200);
    }
    assert!(net.reaches(&client, client.host4.into(), 80));
    let status = status(&net);
    let row: Vec<&str> =
        status.lines().find(|line| line.starts_with("flood ")).unwrap().split_whitespace().collect();
    assert_eq!(row[..4], ["flood", "kernel", "6", "2"], "{status}");
    assert!(!status.contains("no longer in the configuration"), "{status}");
    // Anybody could have sent that: no journal keeps it, and no set that drops more than what begins
    // something.
    assert!(!net.in_set("ban4", "203.0.113.7".parse().unwrap()));
    net.lose_table();
    net.mark(LOG);
    wait_until("the table", || net.shown().contains("scan_ban4"));
    net.mark(LOG);
    assert!(net.bans().iter().all(|ban| text(ban, "rule") != "flood"));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn without_escalation_nobody_is_banned() {
    let (net, attacker, _) = guarded(
        "ddos_syn_rate=1\nddos_syn_burst=3\nddos_stage1_timeout=1\nddos_escalation_hits=1\n\
         ddos_escalation_enabled=false",
    );
    let addr = behind(&net, &attacker, "203.0.113.7");
    Way::new(&net, &attacker).burst(addr, (attacker.host4.into(), 80), SYN, 20);
    net.wait_said("daemon", "rule flood detected 203.0.113.7 (1 hit; action=detect)");
    net.mark(LOG);
    assert!(net.bans().iter().all(|ban| text(ban, "rule") != "flood"));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn allowed_and_needed_addresses_are_never_held_back() {
    let mut net = host(
        "ddos_enabled=true\nddos_syn_rate=1\nddos_syn_burst=1\nddos_escalation_hits=1\n\
         trusted_proxies=203.0.113.2,2001:db8:77::/64\n",
        "",
    );
    let (friend, gateway, proxy) = (net.peer(), net.peer(), net.peer());
    net.write("whitelist/local.conf", &format!("{}\n2001:db8:66::/64\n", friend.v4));
    net.ip(&format!("route add default via {}", gateway.v4));
    net.daemon("daemon");
    let mut sent = 0;
    for (peer, from6) in
        [(&friend, Some("2001:db8:66::5")), (&gateway, None), (&proxy, Some("2001:db8:77::5"))]
    {
        let way = Way::new(&net, peer);
        way.burst(peer.v4.into(), (peer.host4.into(), 80), SYN, 200);
        if let Some(from) = from6 {
            way.burst(from.parse().unwrap(), (peer.host6.into(), 80), SYN, 200);
        }
        sent += 1;
        // A gateway may speak for many: it has limits, and is never shut out.
        if sent == 2 {
            assert!(over(&net, "syn") >= 150);
            net.wait_said(
                "daemon",
                &format!("{} is not banned after 1 hit: it is the default gateway", peer.v4),
            );
            net.flush_sets(&["throttle4"]);
            continue;
        }
        let before = if sent == 3 { 150..=200 } else { 0..=0 };
        assert!(before.contains(&over(&net, "syn")) && over(&net, "new") + over(&net, "conn") == 0, "{sent}");
    }
    // And somebody else is.
    Way::new(&net, &friend).burst("203.0.113.99".parse().unwrap(), (friend.host4.into(), 80), SYN, 50);
    wait_until("the ban", || net.in_set("scan_ban4", "203.0.113.99".parse().unwrap()));
    assert_eq!(net.bans().iter().filter(|ban| text(ban, "rule") == "flood").count(), 1);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn forged_senders_fill_the_sets_and_harm_nobody_else() {
    let (mut net, mut peers) = (host(FORGED, ""), Vec::new());
    peers.extend([net.peer(), net.peer()]);
    let [attacker, client] = &peers[..] else { panic!() };
    let daemon = net.daemon("daemon");
    let _service = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 80)).unwrap();
    let way = Way::new(&net, attacker);
    // A daemon that sleeps misses reports, and says so.
    net.signal(daemon, libc::SIGSTOP);
    let sources = |family: u8| {
        (0..9000u16).map(move |n| match family {
            4 => IpAddr::from(Ipv4Addr::from(0x1400_0000 + u32::from(n))),
            _ => Ipv6Addr::new(0x2001, 0xdb8, 0x4444, n, 0, 0, 0, 1).into(),
        })
    };
    // So that nothing but SYNs comes of it.
    net.ip("route add blackhole 20.0.0.0/8");
    net.ip("route add blackhole 2001:db8:4444::/48");
    for (family, to) in [(4, IpAddr::from(attacker.host4)), (6, attacker.host6.into())] {
        let mut frames = Vec::new();
        for from in sources(family) {
            let frame = |port| way.frame(&Segment { from: (from, port), to: (to, 80), flags: SYN });
            frames.extend((1024..1029).map(frame));
        }
        way.wire.send(&frames);
    }
    let held = |set: &str| net.set_len(set);
    let counts = ["throttle4", "throttle6", "flood_syn4", "flood_syn6"].map(held);
    // Sizes that tell whose sets they are; one element tells the kernel how long prefixes are.
    let more = if is_fallback() { 109 } else { 0 };
    assert!(counts[0] == 4096 + more && counts[1] == 2048 + more, "{counts:?}");
    assert!(counts[2] <= 8192 + more && counts[3] <= 4096 + more, "{counts:?}");
    assert!(net.reaches(client, client.host4.into(), 80) && net.reaches(client, client.host6.into(), 80));
    net.signal(daemon, libc::SIGCONT);
    let reported = || net.said("daemon").matches(" rule=flood port=80 limit=").count();
    wait_until("a report", || reported() > 0);
    net.mark(LOG);
    let reported = reported();
    assert!((1..=100).contains(&reported), "the log does not grow with forged senders: {reported}");
    let status = status(&net);
    assert!(status.contains(&format!(" {} sources in the throttle", 6144 + 2 * more)), "{status}");
    let lost = status.lines().find(|line| line.contains("kernel reports of port scans and floods")).unwrap();
    assert!(!lost.trim().starts_with("0 "), "{status}");
    assert!(net.bans().iter().all(|ban| text(ban, "rule") != "flood"));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn services_of_containers_are_guarded_too() {
    let mut net = host(
        "ddos_enabled=true\nddos_ports=80,8080\nddos_syn_rate=1\nddos_syn_burst=5\nddos_stage1_timeout=60",
        "",
    );
    let (attacker, client, container) = (net.peer(), net.peer(), net.peer());
    sysctl("ipv4/ip_forward", "1");
    sysctl("ipv6/conf/all/forwarding", "1");
    net.nft(&format!(
        "table ip published {{ chain c {{ type nat hook prerouting priority dstnat; tcp dport 8080 dnat to \
         {}:80; }}; }}",
        container.v4
    ));
    net.daemon("daemon");
    let _service = net.within(&container.ns, |_| TcpListener::bind((Ipv6Addr::UNSPECIFIED, 80)).unwrap());
    let way = Way::new(&net, &attacker);
    for (to, via, addr) in [
        ((IpAddr::from(container.v4), 80), "100.66.0.1", "100.66.0.1"),
        ((container.v6.into(), 80), "2001:db8:a::1", "2001:db8:a::/64"),
        ((attacker.host4.into(), 8080), "100.66.0.3", "100.66.0.3"),
    ] {
        let from = behind(&net, &attacker, via);
        let before = over(&net, "syn");
        way.burst(from, to, SYN, 200);
        assert!(over(&net, "syn") >= before + 150, "{addr}: {}", net.shown());
        wait_until("the episode", || episodes(&net, addr) == 1);
        assert!(net.reaches(&client, to.0, to.1), "{addr}");
    }
    assert!(net.said("daemon").contains("throttle 100.66.0.3 rule=flood port=8080 "));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn a_reload_and_a_flush_keep_the_guard_in_force() {
    let mut net =
        host("ddos_enabled=true\nddos_syn_rate=1\nddos_syn_burst=50\nddos_escalation_enabled=false", "");
    let attacker = net.peer();
    let daemon = net.daemon("daemon");
    let way = Way::new(&net, &attacker);
    let to = (IpAddr::from(attacker.host4), 80);
    let addr = behind(&net, &attacker, "203.0.113.1");
    way.burst(addr, to, SYN, 10);
    assert_eq!(over(&net, "syn"), 0);
    // Other limits: what was counted by the previous ones is forgotten.
    let conf = net.read("mef.conf");
    net.write("mef.conf", &conf.replace("syn_burst=50", "syn_burst=3"));
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("daemon", "configuration read");
    way.burst(addr, to, SYN, 40);
    assert!(over(&net, "syn") >= 30);
    net.counts(daemon, "daemon");
    for harm in ["flush ruleset", "flush chain inet mef_guard flood", "delete table inet mef_guard"] {
        match is_fallback() {
            true if harm.starts_with("delete") => net.lose_table(),
            true => net.flush_iptables(),
            false => drop(net.nft(harm)),
        }
        wait_until(harm, || net.watches("flood", "syn"));
        net.mark(LOG);
        // A repair that was put off begins the count anew.
        wait_until("packets to be held back", || {
            let before = over(&net, "syn");
            way.burst(addr, to, SYN, 100);
            over(&net, "syn") >= before + 80
        });
    }
    net.write("mef.conf", &conf.replace("ddos_enabled=true", "ddos_enabled=false"));
    net.signal(daemon, libc::SIGHUP);
    wait_until("the end of the guard", || !net.shown().contains("flood_"));
    let table = net.shown();
    assert!(
        !table.contains("throttle")
            && table.contains(if is_fallback() { "mef_look" } else { "scan_look" })
            && table.contains("exempt4"),
        "{table}"
    );
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn a_kernel_that_counts_no_connections_is_told() {
    use mef::ban::{Capabilities, Capability, FloodLimits, FloodOptions, Options};
    use mef::firewall::guard::{Flood, Guard};
    let mut net = Net::new();
    let peer = net.peer();
    let limits = FloodLimits { syn: (1, 5), new: (1, 5), conns: 1 };
    let flood = FloodOptions { ports: vec![(80, 80, limits)], drop: false, timeout: 60 };
    for (without, counts) in [(Capability::Connections.into(), false), (Capabilities::NONE, true)] {
        let options = Options { flood: Some(flood.clone()), without, ..Options::default() };
        let made = Guard::open(options, mef::ban::Allowed::default()).unwrap().rebuild().unwrap();
        assert!(made.has(&Flood) && made.missing == without);
        assert_eq!(net.nft_list("chain inet mef_guard flood_look").contains("ct count over 1"), counts);
        let status = net.mef(&["status"]).shown();
        assert_eq!(status.contains("ddos_connlimit has no effect"), !counts, "{status}");
    }
    Way::new(&net, &peer).burst(peer.v4.into(), (peer.host4.into(), 80), SYN, 50);
    assert!(over(&net, "syn") >= 40);
}
