//! What becomes of packets: every answer here is the kernel's, asked by sending.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use crate::common;

use common::{LIMIT, Net, Peer, wait_until};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

fn any6(port: u16) -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, port).into()
}

/// A UDP service of the host; mapped IPv4 arrives there too.
fn service(port: u16) -> UdpSocket {
    UdpSocket::bind(any6(port)).unwrap()
}

/// Sends one datagram from the neighbour.
fn send(net: &Net, from: &Peer, to: IpAddr, port: u16) {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    net.within(&from.ns, |_| UdpSocket::bind(any).unwrap().send_to(b"x", (to, port)).unwrap());
}

/// The datagram gets through. Another one follows if it was lost for other reasons: neighbours are looked up.
#[track_caller]
fn arrives(net: &Net, from: &Peer, to: IpAddr, service: &UdpSocket) {
    let end = Instant::now() + LIMIT;
    service.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    send(net, from, to, service.local_addr().unwrap().port());
    while service.recv_from(&mut [0; 8]).is_err() {
        assert!(Instant::now() < end, "datagrams are dropped");
        send(net, from, to, service.local_addr().unwrap().port());
    }
}

/// The datagram is counted as dropped, and nothing has come.
#[track_caller]
fn dies(net: &Net, from: &Peer, to: IpAddr, service: &UdpSocket) {
    let came = || service.recv_from(&mut [0; 8]).map_err(|e| e.kind());
    service.set_nonblocking(true).unwrap();
    while came().is_ok() {}
    let (before, mut sent) = (net.dropped(), Instant::now() - Duration::from_secs(1));
    wait_until("the packet to be dropped", || {
        if sent.elapsed() >= Duration::from_secs(1) {
            sent = Instant::now();
            send(net, from, to, service.local_addr().unwrap().port());
        }
        net.dropped() > before
    });
    assert_eq!(came(), Err(ErrorKind::WouldBlock));
    service.set_nonblocking(false).unwrap();
}

/// No answer comes within a second.
fn silent(net: &Net, from: &Peer, to: IpAddr) -> bool {
    let to = to.to_string();
    net.within(&from.ns, |net| net.cmd("busybox", &["ping", "-c", "1", "-W", "1", &to]).status != 0)
}

/// An answer comes, however busy the machine is.
#[track_caller]
fn pings(net: &Net, from: &Peer, to: IpAddr) {
    wait_until("an answer to a ping", || !silent(net, from, to));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn a_banned_address_gets_no_answer_and_its_neighbour_does() {
    let mut net = Net::new();
    let (bad, good) = (net.peer(), net.peer());
    let _listener = TcpListener::bind(any6(80)).unwrap();
    let udp = service(53);
    pings(&net, &bad, bad.host4.into());
    assert!(net.reaches(&bad, bad.host4.into(), 80));
    net.mef(&["ban", &bad.v4.to_string()]).ok();
    assert!(net.shut_out(&bad, bad.host4.into(), 80));
    assert!(silent(&net, &bad, bad.host4.into()));
    dies(&net, &bad, bad.host4.into(), &udp);
    // What is not banned is not disturbed: another neighbour, and the same one by IPv6.
    pings(&net, &good, good.host4.into());
    assert!(net.reaches(&good, good.host4.into(), 80));
    arrives(&net, &bad, bad.host6.into(), &udp);
    net.mef(&["unban", &bad.v4.to_string()]).ok();
    assert!(net.reaches(&bad, bad.host4.into(), 80));
    pings(&net, &bad, bad.host4.into());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn an_ipv6_address_is_banned_with_its_prefix_and_a_longer_one_alone() {
    let mut net = Net::new();
    let peer = net.peer();
    let udp = service(53);
    let host: IpAddr = peer.host6.into();
    let speak = |addr: &str| net.speak_as(&peer, addr.parse().unwrap());
    net.mef(&["ban", "2001:db8:a::1", "2001:db8:b::1/128"]).ok();
    for addr in ["2001:db8:a::1", "2001:db8:a::2", "2001:db8:a:0:ffff:ffff:ffff:ffff", "2001:db8:b::1"] {
        speak(addr);
        dies(&net, &peer, host, &udp);
    }
    assert!(silent(&net, &peer, host));
    for addr in ["2001:db8:a:1::1", "2001:db8:9:ffff::1", "2001:db8:b::2"] {
        speak(addr);
        arrives(&net, &peer, host, &udp);
    }
    pings(&net, &peer, host);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn networks_and_ranges_end_where_they_end() {
    let mut net = Net::new();
    let peer = net.peer();
    let udp = service(53);
    let listener = TcpListener::bind(any6(80)).unwrap();
    net.mef(&["ban", "203.0.113.64/26", "203.0.114.5-203.0.114.7", "2001:db8:c::/47"]).ok();
    let cases = [
        ("203.0.113.63", false),
        ("203.0.113.64", true),
        ("203.0.113.127", true),
        ("203.0.113.128", false),
        ("203.0.114.4", false),
        ("203.0.114.5", true),
        ("203.0.114.7", true),
        ("203.0.114.8", false),
        ("2001:db8:b:ffff::1", false),
        ("2001:db8:c::1", true),
        ("2001:db8:d:ffff::1", true),
        ("2001:db8:e::", false),
    ];
    for (addr, banned) in cases {
        let addr: IpAddr = addr.parse().unwrap();
        net.speak_as(&peer, addr);
        let host = if addr.is_ipv4() { peer.host4.into() } else { peer.host6.into() };
        if banned { dies(&net, &peer, host, &udp) } else { arrives(&net, &peer, host, &udp) }
    }
    net.speak_as(&peer, "203.0.113.65".parse().unwrap());
    assert!(net.shut_out(&peer, peer.host4.into(), 80), "TCP, too");
    drop(listener);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn a_ban_of_ports_closes_these_and_no_others() {
    let mut net = Net::new();
    let peer = net.peer();
    let (first, last, other, ssh) = (service(1000), service(1010), service(1011), service(22));
    let _listener = TcpListener::bind(any6(22)).unwrap();
    let _listener2 = TcpListener::bind(any6(80)).unwrap();
    let host: IpAddr = peer.host4.into();
    net.speak_as(&peer, "2001:db8:a::1".parse().unwrap());
    let addr = [peer.v4.to_string(), "2001:db8:a::1".into(), "203.0.113.0/24".into()];
    net.mef(&["ban", &addr[0], &addr[1], &addr[2], "--ports", "22,1000-1010"]).ok();
    for host in [host, peer.host6.into()] {
        for closed in [&first, &last, &ssh] {
            dies(&net, &peer, host, closed);
        }
        arrives(&net, &peer, host, &other);
    }
    pings(&net, &peer, host);
    assert!(net.reaches(&peer, host, 80));
    assert!(net.shut_out(&peer, host, 22));
    net.speak_as(&peer, "203.0.113.9".parse().unwrap());
    dies(&net, &peer, host, &ssh);
    arrives(&net, &peer, host, &other);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn the_allow_list_wins_over_every_ban() {
    let mut net = Net::new();
    let peer = net.peer();
    let udp = service(22);
    net.configure("", &["app.log"]);
    net.write("whitelist/a.conf", &format!("{}\n2001:db8:a::/64\n203.0.113.5\n", peer.v4));
    let daemon = net.daemon("daemon");
    for ports in [None, Some("22")] {
        let mut args = vec!["ban", "--force", "203.0.113.0/24"];
        let (v4, v6) = (peer.v4.to_string(), "2001:db8:a::1");
        args.extend(ports.map_or(vec![&*v4, v6], |ports| vec!["--ports", ports, &*v4]));
        let banned = net.mef(&args);
        assert_eq!(banned.status, 1);
        assert_eq!(banned.stderr.matches("its packets pass").count(), 2 - usize::from(ports.is_some()));
        assert!(banned.stderr.contains("203.0.113.0/24 is banned except 203.0.113.5"), "{banned:?}");
    }
    arrives(&net, &peer, peer.host4.into(), &udp);
    net.speak_as(&peer, "2001:db8:a::77".parse().unwrap());
    arrives(&net, &peer, peer.host6.into(), &udp);
    net.speak_as(&peer, "203.0.113.5".parse().unwrap());
    arrives(&net, &peer, peer.host4.into(), &udp);
    net.speak_as(&peer, "203.0.113.6".parse().unwrap());
    dies(&net, &peer, peer.host4.into(), &udp);
    // Off the list, the ban that was there all the time holds.
    std::fs::remove_file(net.path("whitelist/a.conf")).unwrap();
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("daemon", "configuration read");
    net.speak_as(&peer, "203.0.113.5".parse().unwrap());
    dies(&net, &peer, peer.host4.into(), &udp);
    net.stop(daemon);
}

/// Lets the host forward packets between its neighbours, in its namespace only.
fn forward(net: &Net, family: &str) {
    // /proc/sys/net is that of the thread that opens it.
    let file = format!("/proc/sys/net/{family}/conf/all/forwarding");
    let _ = net;
    std::fs::write(file, "1").unwrap();
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn forwarded_traffic_is_covered() {
    let mut net = Net::new();
    let (bad, inside) = (net.peer(), net.peer());
    net.track();
    forward(&net, "ipv4");
    forward(&net, "ipv6");
    net.speak_as(&bad, "2001:db8:a::1".parse().unwrap());
    net.within(&bad.ns, |net| {
        net.ip(&format!("route replace default via {} src 2001:db8:a::1", bad.host6));
    });
    let udp = net.within(&inside.ns, |_| service(53));
    let listener = net.within(&inside.ns, |_| TcpListener::bind(any6(80)).unwrap());
    arrives(&net, &bad, inside.v4.into(), &udp);
    arrives(&net, &bad, inside.v6.into(), &udp);
    let theirs = net.within(&bad.ns, |_| TcpStream::connect((inside.v4, 80)).unwrap());
    let ours = listener.accept().unwrap().0;
    let flows = || std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap();
    let flow = format!("src={} dst={} ", bad.v4, inside.v4);
    assert!(flows().contains(&flow), "{}", flows());

    net.mef(&["ban", &bad.v4.to_string(), "2001:db8:a::1"]).ok();
    assert!(!flows().contains(&flow), "flows through the host are forgotten");
    dies(&net, &bad, inside.v4.into(), &udp);
    dies(&net, &bad, inside.v6.into(), &udp);
    assert!(net.shut_out(&bad, inside.v4.into(), 80));
    drop((ours, theirs));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn ban_scope_host_leaves_forwarded_traffic_alone() {
    let mut net = Net::new();
    let (bad, inside) = (net.peer(), net.peer());
    forward(&net, "ipv4");
    let there = net.within(&inside.ns, |_| service(53));
    let here = service(53);
    let cases = [("host", true, false), ("forward", false, true), ("host,forward", true, true)];
    for (scope, host, forwarded) in cases {
        net.configure(&format!("ban_scope={scope}"), &["app.log"]);
        let daemon = net.daemon(scope);
        net.mef(&["ban", &bad.v4.to_string()]).ok();
        for (to, socket, covered) in
            [(IpAddr::from(bad.host4), &here, host), (inside.v4.into(), &there, forwarded)]
        {
            if covered { dies(&net, &bad, to, socket) } else { arrives(&net, &bad, to, socket) }
        }
        net.stop(daemon);
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn ban_action_reject_answers() {
    let mut net = Net::new();
    let peer = net.peer();
    net.configure("ban_action=reject", &["app.log"]);
    let daemon = net.daemon("daemon");
    let _listener = TcpListener::bind(any6(80)).unwrap();
    net.speak_as(&peer, "2001:db8:a::1".parse().unwrap());
    net.mef(&["ban", &peer.v4.to_string(), "2001:db8:a::1"]).ok();
    for host in [IpAddr::from(peer.host4), peer.host6.into()] {
        let refused = net.within(&peer.ns, |_| TcpStream::connect_timeout(&(host, 80).into(), LIMIT));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused, "{host}");
        let answer = net.within(&peer.ns, |_| {
            let socket = UdpSocket::bind(if host.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
            socket.set_read_timeout(Some(LIMIT)).unwrap();
            socket.connect((host, 80)).unwrap();
            socket.send(b"x").unwrap();
            socket.recv(&mut [0; 8]).map_err(|e| e.kind())
        });
        assert_eq!(answer, Err(ErrorKind::ConnectionRefused), "{host}");
    }
    assert!(net.dropped() >= 4, "{}", net.nft_list("chain inet mef_guard hit"));
    net.stop(daemon);
}

/// Both ends of a connection: the host's and the neighbour's.
fn connect(net: &Net, from: &Peer, to: IpAddr, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let port = listener.local_addr().unwrap().port();
    let theirs = net.within(&from.ns, |_| TcpStream::connect((to, port)).unwrap());
    let ours = listener.accept().unwrap().0;
    for stream in [&ours, &theirs] {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
    }
    (ours, theirs)
}

/// Whether a byte gets through.
fn alive((ours, theirs): &mut (TcpStream, TcpStream)) -> bool {
    theirs.write_all(b"x").is_ok() && ours.read_exact(&mut [0]).is_ok()
}

/// Whether our end is closed, by whatever the neighbour did not do.
fn closed((ours, _): &mut (TcpStream, TcpStream)) -> bool {
    !matches!(ours.read(&mut [0]), Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn an_established_connection_dies_with_the_ban() {
    let mut net = Net::new();
    let (bad, good) = (net.peer(), net.peer());
    net.track();
    let listener = TcpListener::bind(any6(0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    net.speak_as(&bad, "203.0.113.9".parse().unwrap());
    net.speak_as(&bad, "2001:db8:a::1".parse().unwrap());
    let mut other = connect(&net, &good, good.host4.into(), &listener);
    let cases: [(&[&str], IpAddr); 5] = [
        (&["203.0.113.9"], bad.host4.into()),
        (&["203.0.113.0/24"], bad.host4.into()),
        (&["203.0.113.1-203.0.113.10"], bad.host4.into()),
        (&["2001:db8:a::/48"], bad.host6.into()),
        (&["2001:db8:a::1", "--ports", &port.to_string()], bad.host6.into()),
    ];
    for (addr, host) in cases {
        let mut connection = connect(&net, &bad, host, &listener);
        assert!(alive(&mut connection), "{addr:?}: before");
        net.mef(&[&["ban"], addr].concat()).ok();
        assert!(closed(&mut connection), "{addr:?}: our end");
        let flows = std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap();
        let to_us = format!(" dport={port} ");
        let left = flows.lines().filter(|l| l.contains("ESTABLISHED") && l.contains(&to_us)).count();
        assert_eq!(left, 1, "{addr:?}: only the other one's flow is known:\n{flows}");
        assert!(!alive(&mut connection), "{addr:?}: after");
        assert!(alive(&mut other), "{addr:?}: somebody else");
        net.mef(&["unban", addr[0]]).ok();
    }
    // Who is allowed in what is banned keeps the connection, too.
    net.mef(&["allow", "203.0.113.9", "2001:db8:a::1/128"]).ok();
    let bans: [(&[&str], IpAddr); 3] = [
        (&["ban", "203.0.113.0/24"], bad.host4.into()),
        (&["ban", "2001:db8:a::2"], bad.host6.into()),
        (&["deny", "203.0.113.8/29"], bad.host4.into()),
    ];
    for (command, host) in bans {
        let mut connection = connect(&net, &bad, host, &listener);
        net.mef(command).ok();
        assert!(alive(&mut connection), "{command:?}: allowed");
    }
    net.mef(&["undeny", "203.0.113.8/29"]).ok();
    net.mef(&["disallow", "203.0.113.9", "2001:db8:a::1/128"]).ok();
    net.mef(&["unban", "203.0.113.0/24", "2001:db8:a::/64"]).ok();
    // Of another port it lives.
    let mut connection = connect(&net, &bad, bad.host4.into(), &listener);
    net.mef(&["ban", "203.0.113.9", "--ports", "1"]).ok();
    assert!(alive(&mut connection));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn kill_connections_can_be_switched_off() {
    let mut net = Net::new();
    let peer = net.peer();
    net.configure("kill_connections=false", &["app.log"]);
    let listener = TcpListener::bind(any6(0)).unwrap();
    let mut connection = connect(&net, &peer, peer.host4.into(), &listener);
    let config = net.path("mef.conf");
    net.mef(&["ban", &peer.v4.to_string(), "--config", config.to_str().unwrap()]).ok();
    connection.0.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(!closed(&mut connection));
    net.mef(&["unban", &peer.v4.to_string()]).ok();
    connection.0.set_read_timeout(Some(LIMIT)).unwrap();
    assert!(alive(&mut connection), "the retransmission gets through");
}
