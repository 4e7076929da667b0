//! Packets in somebody else's name: what they may not bring about, and whom the guards of packets must not
//! take for an attacker.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::backend::is_fallback;
use common::bans::text;
use common::daemon::{LOG, host};
use common::frames::{SYN, Segment, Way};
use common::{Net, Peer, wait_until};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// Closed ports that are fine, as the tests have it.
const LIMIT: u16 = 10;

/// A host with a neighbour, and a daemon with these settings.
fn guarded(settings: &str) -> (Net, Peer, usize) {
    let mut net = host(&format!("ps_limit={LIMIT}\nps_boot_grace=0\n{settings}"), "");
    let peer = net.peer();
    let daemon = net.daemon("daemon");
    (net, peer, daemon)
}

/// Both ends of a connection from a neighbour.
struct Session(TcpStream, TcpStream);

impl Session {
    fn begin(net: &Net, peer: &Peer, listener: &TcpListener) -> Session {
        let to = listener.local_addr().unwrap();
        let client =
            net.within(&peer.ns, |_| TcpStream::connect_timeout(&to, Duration::from_secs(10)).unwrap());
        let (server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Session(client, server)
    }

    /// Whether bytes get through in both directions.
    fn works(&mut self) -> bool {
        let mut byte = [0];
        let Session(client, server) = self;
        client.write_all(b"a").is_ok()
            && server.read_exact(&mut byte).is_ok()
            && server.write_all(b"b").is_ok()
            && client.read_exact(&mut byte).is_ok()
    }
}

fn banned(net: &Net, addr: IpAddr) -> bool {
    net.in_set(if addr.is_ipv4() { "scan_ban4" } else { "scan_ban6" }, addr)
}

/// SYNs to so many closed ports, from `first` on.
fn touch(way: &Way, from: IpAddr, to: IpAddr, first: u16, count: u16) {
    let frame = |n| way.frame(&Segment { from: (from, 4000 + n), to: (to, first + n), flags: SYN });
    way.wire.send(&(0..count).map(frame).collect::<Vec<_>>());
}

/// Whether a connection comes about, however busy the machine is.
fn connects(net: &Net, peer: &Peer, to: (IpAddr, u16)) -> bool {
    net.within(&peer.ns, |_| TcpStream::connect_timeout(&to.into(), Duration::from_secs(10)).is_ok())
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn forged_syns_neither_end_a_session_nor_keep_its_owner_out() {
    let (net, peer, daemon) = guarded("ipv6_prefix=128");
    net.track();
    for (host, from) in
        [(IpAddr::from(peer.host4), IpAddr::from(peer.v4)), (peer.host6.into(), peer.v6.into())]
    {
        let listener = TcpListener::bind((host, 22)).unwrap();
        let way = Way::new(&net, &peer);
        let mut session = Session::begin(&net, &peer, &listener);
        assert!(session.works());
        // While nobody is there to take it back, the ban drops what begins, and nothing else.
        net.signal(daemon, libc::SIGSTOP);
        touch(&way, from, host, 1000, 100);
        assert!(banned(&net, from));
        assert!(net.shut_out(&peer, host, 22));
        assert!(session.works(), "the session is cut");
        let tracked = net.cmd("conntrack", &["-L", "-s", &from.to_string()]).ok();
        assert!(tracked.contains("dport=22") && tracked.contains("ESTABLISHED"), "{tracked}");
        net.signal(daemon, libc::SIGCONT);
        wait_until("the end of the ban", || !banned(&net, from));
        net.wait_said(
            "daemon",
            &format!("rule portscan: {from} is not banned after 11 hits: it is connected"),
        );
        assert!(session.works() && connects(&net, &peer, (host, 22)));
        // Again and again.
        for round in 2..5 {
            touch(&way, from, host, 1000 * round, 100);
            net.mark(LOG);
            assert!(!banned(&net, from) && session.works() && connects(&net, &peer, (host, 22)), "{round}");
        }
        // Whoever has no connection is banned as ever, though others have one.
        let stranger: IpAddr =
            if host.is_ipv4() { "203.0.113.99".parse().unwrap() } else { "2001:db8:99::1".parse().unwrap() };
        touch(&way, stranger, host, 1000, 100);
        wait_until("the ban", || net.said("daemon").contains(&format!("ban {stranger} rule=portscan hits=")));
        assert!(banned(&net, stranger));
        assert!(!net.said("daemon").contains(&format!("ban {from} ")));
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn what_was_banned_while_no_daemon_ran_is_asked_for_connections_too() {
    let (mut net, peer, daemon) = guarded("ipv6_prefix=128");
    let stranger: IpAddr = "203.0.113.99".parse().unwrap();
    let pairs = [(IpAddr::from(peer.host4), IpAddr::from(peer.v4)), (peer.host6.into(), peer.v6.into())];
    let listeners = pairs.map(|(host, _)| TcpListener::bind((host, 22)).unwrap());
    let way = Way::new(&net, &peer);
    let mut sessions: Vec<_> =
        listeners.iter().map(|listener| Session::begin(&net, &peer, listener)).collect();
    net.stop(daemon);
    for (host, from) in pairs {
        touch(&way, from, host, 1000, 100);
        assert!(banned(&net, from), "the kernel needs no daemon");
    }
    touch(&way, stranger, peer.host4.into(), 1000, 100);
    assert!(banned(&net, stranger));
    let daemon = net.daemon("again");
    for (session, (host, from)) in sessions.iter_mut().zip(pairs) {
        assert!(!banned(&net, from), "{from}");
        net.wait_said(
            "again",
            &format!("rule portscan: {from} is not banned after 11 hits: it is connected"),
        );
        assert!(session.works() && connects(&net, &peer, (host, 22)));
    }
    assert!(banned(&net, stranger), "who is not connected stays banned");
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn floods_in_the_name_of_who_is_connected_hold_only_more_of_them_back() {
    let mut net = host(
        "ps_enabled=false\nddos_enabled=true\nddos_ports=80\nddos_syn_rate=1\nddos_syn_burst=3\n\
         ddos_stage1_timeout=1\n\
         ddos_stage1_mode=drop\nddos_escalation_hits=2\nddos_escalation_window=1h",
        "",
    );
    let peer = net.peer();
    net.daemon("daemon");
    let (host, way) = (IpAddr::from(peer.host4), Way::new(&net, &peer));
    let listener = TcpListener::bind((host, 22)).unwrap();
    let mut session = Session::begin(&net, &peer, &listener);
    let connected: IpAddr = peer.v4.into();
    let stranger: IpAddr = "203.0.113.99".parse().unwrap();
    for (addr, outcome) in [(connected, "is not banned after 2 hits: it is connected"), (stranger, "")] {
        for _ in 0..2 {
            way.burst(addr, (host, 80), SYN, 50);
            assert!(net.in_set("throttle4", addr) && session.works(), "in the throttle");
            wait_until("the end of the throttle", || !net.in_set("throttle4", addr));
        }
        let said = if outcome.is_empty() {
            format!("ban {addr} rule=flood hits=2")
        } else {
            format!("{addr} {outcome}")
        };
        net.wait_said("daemon", &said);
        assert!(session.works());
    }
    assert!(!banned(&net, connected) && banned(&net, stranger));
    assert_eq!(text(&net.ban_of("203.0.113.99"), "rule"), "flood");
    net.mef(&["unban", "203.0.113.99"]).ok();
    assert!(!banned(&net, stranger));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn who_only_holds_many_connections_is_never_banned() {
    let mut net = host(
        "ps_enabled=false\nddos_enabled=true\nddos_connlimit=3\nddos_stage1_timeout=1\n\
         ddos_escalation_hits=1",
        "",
    );
    let peer = net.peer();
    net.daemon("daemon");
    let listener = TcpListener::bind((peer.host4, 80)).unwrap();
    let held: Vec<Session> = (0..3).map(|_| Session::begin(&net, &peer, &listener)).collect();
    for _ in 0..2 {
        assert!(net.shut_out(&peer, peer.host4.into(), 80), "one too many");
        net.wait_said("daemon", &format!("throttle {} rule=flood port=80 limit=connlimit", peer.v4));
        wait_until("the end of the throttle", || !net.in_set("throttle4", peer.v4.into()));
    }
    drop(held);
    net.mark(LOG);
    assert!(net.bans().iter().all(|ban| text(ban, "rule") != "flood"));
    assert!(!net.said("daemon").contains("rule flood"), "there was nothing to spare anybody for");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn services_that_restart_are_no_closed_ports() {
    let (mut net, peer, daemon) = guarded("");
    let host = IpAddr::from(peer.host4);
    let (asked, bogons) = (7000..7020u16, 8000..8020u16);
    let listen = |ports: std::ops::Range<u16>| {
        ports.map(|port| TcpListener::bind((host, port)).unwrap()).collect::<Vec<_>>()
    };
    let services = listen(asked.clone());
    for port in asked.clone() {
        assert!(net.reaches(&peer, host, port));
    }
    drop(services);
    let way = Way::new(&net, &peer);
    let other: IpAddr = "203.0.113.7".parse().unwrap();
    touch(&way, other, host, 7000, 20);
    assert!(!banned(&net, other));
    // What the daemon finds open counts as well, and all of it is known after a restart, with a kernel that
    // has forgotten.
    let services = listen(bogons);
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("daemon", "configuration read");
    drop(services);
    net.stop(daemon);
    net.lose_table();
    let daemon = net.daemon("again");
    let ports = if is_fallback() { "scan_ports4" } else { "scan_ports" }.to_owned();
    for round in ["restart", "flush"] {
        touch(&way, other, host, 7000, 20);
        touch(&way, other, host, 8000, 20);
        assert!(!banned(&net, other), "{round}");
        net.lose_table();
        net.mark(LOG);
        wait_until("the table", || net.set_text(&ports).contains("7019"));
    }
    // Others are closed ports all the same.
    touch(&way, other, host, 9000, 20);
    assert!(banned(&net, other));
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn nothing_counts_while_services_are_being_started() {
    let (net, peer, daemon) = guarded("");
    let conf = net.read("mef.conf");
    // This host may have been up for long.
    let up = std::fs::read_to_string("/proc/uptime").unwrap();
    let up: u64 = up.split('.').next().unwrap().parse().unwrap();
    net.write("mef.conf", &conf.replace("ps_boot_grace=0", &format!("ps_boot_grace={}", up + 3600)));
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("daemon", "configuration read");
    let (way, host) = (Way::new(&net, &peer), IpAddr::from(peer.host4));
    let addr: IpAddr = "203.0.113.7".parse().unwrap();
    touch(&way, addr, host, 1000, 100);
    assert!(!banned(&net, addr));
    // The kernel lets it end by itself.
    if is_fallback() {
        // No network may be all addresses.
        assert_eq!(["scan_calm4", "scan_calm6"].map(|set| net.set_len(set)), [2, 2]);
        net.flush_sets(&["scan_calm4", "scan_calm6"]);
    } else {
        assert_eq!(net.set_len("scan_calm"), 2);
        net.flush_sets(&["scan_calm"]);
    }
    touch(&way, addr, host, 1000, 100);
    assert!(banned(&net, addr));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn the_limit_is_what_it_says_within_its_window() {
    let (net, peer, _) = guarded("ps_interval=4");
    let (way, host) = (Way::new(&net, &peer), IpAddr::from(peer.host4));
    let [quick, slow, steady] =
        ["203.0.113.1", "203.0.113.2", "203.0.113.3"].map(|a| a.parse::<IpAddr>().unwrap());
    let counts = |addr| net.in_set("scan_rate4", addr);
    // As many as are fine, again and again, each time in a window of their own.
    for round in 0..3 {
        touch(&way, quick, host, 1000 * round + 1, LIMIT);
        touch(&way, quick, host, 1000 * round + 1, LIMIT);
        assert!(!banned(&net, quick) && counts(quick), "{round}");
        wait_until("the end of the window", || !counts(quick));
    }
    // One too many within the window, however they are spread in it. A bucket that fills meanwhile would
    // let them pass.
    let begin = Instant::now();
    touch(&way, slow, host, 1, LIMIT - 4);
    std::thread::sleep(Duration::from_millis(1500));
    touch(&way, slow, host, 101, 4);
    let before = banned(&net, slow);
    touch(&way, slow, host, 201, 1);
    if begin.elapsed() < Duration::from_millis(3500) {
        assert!(!before && banned(&net, slow));
    }
    // One after the other for longer than a window is never too many.
    for port in 1..=12 {
        touch(&way, steady, host, port, 1);
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(!banned(&net, steady));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn only_first_datagrams_count_and_traceroute_does_not() {
    let (net, peer, _) = guarded("ps_packet_udp=true");
    let host = IpAddr::from(peer.host4);
    // Voice goes on for a moment after hanging up: to ports that nobody listens on any more.
    let far = net.within(&peer.ns, |_| UdpSocket::bind((peer.v4, 5000)).unwrap());
    let ended: Vec<SocketAddr> = (0..30)
        .map(|_| {
            let near = UdpSocket::bind((host, 0)).unwrap();
            near.send_to(b"hello", (peer.v4, 5000)).unwrap();
            near.local_addr().unwrap()
        })
        .collect();
    for _ in 0..3 {
        ended.iter().for_each(|to| drop(far.send_to(b"hello", to)));
    }
    let send = |ports: std::ops::Range<u16>| {
        net.within(&peer.ns, |_| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            ports.for_each(|port| drop(socket.send_to(b"x", (host, port))));
        });
    };
    send(33434..33535);
    net.mark(LOG);
    assert!(!banned(&net, peer.v4.into()));
    // A flow that is there goes on, and nothing else begins.
    let served = UdpSocket::bind((host, 53)).unwrap();
    served.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    far.send_to(b"query", (host, 53)).unwrap();
    assert!(served.recv_from(&mut [0; 9]).is_ok());
    served.send_to(b"answer", (peer.v4, 5000)).unwrap();
    send(1000..1020);
    wait_until("the ban", || banned(&net, peer.v4.into()));
    far.send_to(b"query", (host, 53)).unwrap();
    assert!(served.recv_from(&mut [0; 9]).is_ok(), "the flow is cut");
    send(53..54);
    served.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    assert!(served.recv_from(&mut [0; 9]).is_err(), "a new one passes");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn neighbours_and_who_comes_through_a_translator_count_alone() {
    let (net, peer, _) = guarded("");
    let (way, host) = (Way::new(&net, &peer), IpAddr::from(peer.host6));
    let last = |addr: IpAddr, by: u128| match addr {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() + by).into()),
        v4 @ IpAddr::V4(_) => v4,
    };
    // The host's own prefix has the neighbour in it, and others; NAT64, 6to4 and Teredo have all of IPv4.
    for (name, offender) in [
        ("neighbour", last(peer.v6.into(), 0x100)),
        ("NAT64", "64:ff9b::203.0.113.7".parse().unwrap()),
        ("local NAT64", "64:ff9b:1:7::203.0.113.7".parse().unwrap()),
        ("Teredo", "2001:0:53aa:64c:0:1:34ff:8ef8".parse().unwrap()),
        ("6to4", "2002:cb00:7107::1".parse().unwrap()),
    ] {
        let next = last(offender, 1);
        touch(&way, next, host, 500, 1);
        touch(&way, offender, host, 1000, 40);
        net.wait_said("daemon", &format!("ban {offender} rule=portscan hits=11"));
        assert!(banned(&net, offender) && !banned(&net, next), "{name}");
        assert_eq!(net.banned(), [offender.to_string()], "{name}");
        net.mef(&["unban", &format!("{offender}/128")]).ok();
        assert!(!banned(&net, offender), "{name}");
        touch(&way, offender, host, 2000, 40);
        wait_until("the ban again", || banned(&net, offender));
        net.mef(&["unban", "--all"]).ok();
        assert!(net.banned().is_empty(), "{name}");
    }
    // Elsewhere a prefix is one source.
    touch(&way, "2001:db8:5::1".parse().unwrap(), host, 1000, 6);
    touch(&way, "2001:db8:5::2".parse().unwrap(), host, 1100, 6);
    wait_until("the prefix", || net.banned() == ["2001:db8:5::/64"]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn by_default_a_polite_scan_is_cut_off_too() {
    let mut net = host("ps_boot_grace=0", "");
    let peer = net.peer();
    net.daemon("daemon");
    let target = peer.host4.to_string();
    // One port in 0.4 seconds: 75 of them are well within the interval.
    let words = ["-n", "-Pn", "-T2", "--max-retries", "0", "-p", "1000-1079", &target];
    net.within(&peer.ns, |net| net.cmd("nmap", &words)).ok();
    assert!(banned(&net, peer.v4.into()));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn by_default_clients_that_find_services_gone_pass_and_scanners_do_not() {
    let mut net = host("ps_boot_grace=0\nps_packet_udp=true", "");
    let peer = net.peer();
    net.daemon("daemon");
    let (way, host) = (Way::new(&net, &peer), IpAddr::from(peer.host4));
    let mail = [21, 23, 25, 81, 110, 143, 465, 587, 993, 995, 2082, 2083];
    let exporters = [9090, 9093, 9100, 9104, 9113, 9115, 9117, 9121, 9187, 9216, 9256, 9323];
    let asks = |from: &str, ports: &mut dyn Iterator<Item = u16>| {
        ports.for_each(|port| touch(&way, from.parse().unwrap(), host, port, 1));
        assert!(!banned(&net, from.parse().unwrap()), "{from}");
    };
    // One after the other from behind one address: a desktop that looks for telephones, and a mail program.
    asks("203.0.113.1", &mut (1714..=1764).chain(mail));
    // A monitor, and a load balancer whose 16 backends are still being started, again and again.
    for _ in 0..20 {
        asks("203.0.113.2", &mut exporters.into_iter());
        asks("203.0.113.3", &mut (8001..=8016));
    }
    let nmap = |words: &str| {
        let words = format!("-n -Pn --max-retries 1 {words} {host}");
        net.within(&peer.ns, |net| net.cmd("nmap", &words.split(' ').collect::<Vec<_>>())).ok();
    };
    let masscan = || {
        let mac = net.ip(&format!("-o link show {}", peer.link));
        let mac = mac.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        // It does not always end by itself.
        let words = format!(
            "-s KILL 8 masscan {host} -p1-500 --rate 2000 -e {} --router-mac {mac} --wait 0",
            peer.link
        );
        net.within(&peer.ns, |net| net.cmd("timeout", &words.split(' ').collect::<Vec<_>>()));
    };
    let cases: [(&str, &dyn Fn()); 10] = [
        ("nmap as it comes", &|| nmap("-T3 --host-timeout 9s")),
        ("quick", &|| nmap("-T4 -sS -p 1000-1149 --host-timeout 15s")),
        ("quicker", &|| nmap("-T5 -sT -p 1000-1149 --host-timeout 15s")),
        ("XMAS", &|| nmap("-sX -p 1000-1149 --host-timeout 15s")),
        ("NULL", &|| nmap("-sN -p 1000-1149 --host-timeout 15s")),
        ("datagrams", &|| nmap("-sU --min-rate 100 -p 1000-1099 --host-timeout 15s")),
        ("the usual hundred ports", &|| nmap("-F -sT --host-timeout 15s")),
        ("FIN", &|| nmap("-sF -p 1000-1149 --host-timeout 15s")),
        ("in fragments, from a trusted port", &|| nmap("-f -g 53 -p 1000-1149 --host-timeout 15s")),
        ("masscan", &masscan),
    ];
    for (name, scan) in cases {
        scan();
        assert!(banned(&net, peer.v4.into()), "{name}");
        net.mef(&["unban", &peer.v4.to_string()]).ok();
        net.flush_sets(&["scan_seen4"]);
    }
}
