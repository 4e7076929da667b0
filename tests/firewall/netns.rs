//! What the library does to a real kernel, each test in a network namespace of its own.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use crate::common;

use common::{Net, Peer, wait_until};
use ipnet::IpNet;
use mef::ban::{Scope, Transports};
use mef::base::range::Range;
use mef::firewall::conntrack::{Killed, kill};
use mef::sys::host::Protected;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

fn nets(text: &str) -> Vec<Range> {
    text.split_whitespace().map(|t| Range::from(t.parse::<IpNet>().unwrap())).collect()
}

fn one(addr: impl Into<IpAddr>) -> [Range; 1] {
    [Range::from(addr.into())]
}

/// Both ends of a connection: ours and the peer's.
fn connect(net: &Net, peer: &Peer, listen: SocketAddr, to: IpAddr) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(listen).unwrap();
    let port = listener.local_addr().unwrap().port();
    let theirs = net.within(&peer.ns, |_| TcpStream::connect((to, port)).unwrap());
    let (ours, _) = listener.accept().unwrap();
    for stream in [&ours, &theirs] {
        stream.set_read_timeout(Some(common::LIMIT)).unwrap();
    }
    (ours, theirs)
}

/// Whether a byte gets through.
fn alive((ours, theirs): &mut (TcpStream, TcpStream)) -> bool {
    let mut byte = [0];
    theirs.write_all(b"x").is_ok() && ours.read_exact(&mut byte).is_ok()
}

/// The conntrack table as the kernel shows it.
fn tracked() -> Vec<String> {
    std::fs::read_to_string("/proc/thread-self/net/nf_conntrack")
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn any4() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn an_established_connection_dies_with_its_ban_and_others_live() {
    let mut net = Net::new();
    net.track();
    let (bad, good) = (net.peer(), net.peer());
    let mut banned = connect(&net, &bad, any4(), bad.host4.into());
    let mut other = connect(&net, &good, any4(), good.host4.into());
    assert!(alive(&mut banned) && alive(&mut other), "both talk before the ban");

    let killed = kill(&one(bad.v4), &Scope::ALL).unwrap();
    assert_eq!(killed, Killed { entries: 1, sockets: 1 });
    assert!(!alive(&mut banned), "ours is closed at once");
    assert!(alive(&mut other));
    let left = tracked();
    assert!(left.iter().any(|l| l.contains(&format!("src={} ", good.v4))), "{left:#?}");
    assert_eq!(kill(&one(bad.v4), &Scope::ALL).unwrap().sockets, 0, "twice is no error");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn ipv6_prefixes_and_mapped_peers() {
    let mut net = Net::new();
    net.track();
    let (a, b) = (net.peer(), net.peer());
    let any6: SocketAddr = "[::]:0".parse().unwrap();
    let mut by_v6 = connect(&net, &a, any6, a.host6.into());
    let mut mapped = connect(&net, &a, any6, a.host4.into());
    let mut other6 = connect(&net, &b, any6, b.host6.into());
    let mut other4 = connect(&net, &b, any6, b.host4.into());

    let killed = kill(&nets("2001:db8:0:0::/64"), &Scope::ALL).unwrap();
    assert_eq!((killed.entries, killed.sockets), (1, 1));
    assert!(!alive(&mut by_v6) && alive(&mut mapped));
    let killed = kill(&nets("192.0.2.0/24"), &Scope::ALL).unwrap();
    assert_eq!((killed.entries, killed.sockets), (1, 1));
    assert!(!alive(&mut mapped));
    assert!(alive(&mut other6) && alive(&mut other4));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_single_ipv6_address_is_not_everybody_else() {
    let mut net = Net::new();
    net.track();
    let (a, b) = (net.peer(), net.peer());
    let any6: SocketAddr = "[::]:0".parse().unwrap();
    let mut banned = connect(&net, &a, any6, a.host6.into());
    let mut other = connect(&net, &b, any6, b.host6.into());
    let killed = kill(&one(a.v6), &Scope::ALL).unwrap();
    assert_eq!((killed.entries, killed.sockets), (1, 1));
    assert!(!alive(&mut banned) && alive(&mut other));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn connections_that_we_opened_die_too() {
    let mut net = Net::new();
    net.track();
    let peer = net.peer();
    let listener = net.within(&peer.ns, |_| TcpListener::bind(any4()).unwrap());
    let ours = TcpStream::connect((peer.v4, listener.local_addr().unwrap().port())).unwrap();
    let (theirs, _) = listener.accept().unwrap();
    let killed = kill(&one(peer.v4), &Scope::ALL).unwrap();
    assert_eq!((killed.entries, killed.sockets), (1, 1));
    assert!(!alive(&mut (ours, theirs)));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_ban_of_ports_leaves_the_other_ports_alone() {
    let mut net = Net::new();
    net.track();
    let peer = net.peer();
    let mut first = connect(&net, &peer, any4(), peer.host4.into());
    let mut second = connect(&net, &peer, any4(), peer.host4.into());
    let port = first.0.local_addr().unwrap().port();
    let killed = kill(&one(peer.v4), &Scope::new(vec![(port, port)], Transports::Both)).unwrap();
    assert_eq!((killed.entries, killed.sockets), (1, 1));
    assert!(!alive(&mut first) && alive(&mut second));
}

/// One tracked UDP flow from every address; the kernel has them all when this returns.
fn flood(net: &Net, peer: &Peer, prefix: [u8; 2], count: u16) {
    let [a, b] = prefix;
    net.ip(&format!("route add {a}.{b}.0.0/16 via {}", peer.v4));
    net.within(&peer.ns, |net| {
        net.ip(&format!("route add local {a}.{b}.0.0/16 dev lo"));
        // While a neighbour is looked for the kernel keeps some 270 packets for it, and loses the others.
        UdpSocket::bind((peer.v4, 0)).unwrap().send_to(b"x", (peer.host4, 9)).unwrap();
        let known = || net.cmd("ip", &["neigh", "show", &peer.host4.to_string()]).stdout.contains("lladdr");
        wait_until("the host's link address", known);
        for i in 0..count {
            let [c, d] = i.to_be_bytes();
            let socket = UdpSocket::bind((Ipv4Addr::new(a, b, c, d), 0)).unwrap();
            socket.send_to(b"x", (peer.host4, 9)).unwrap();
        }
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn out_of_ten_thousand_entries_only_the_banned_go() {
    let mut net = Net::new();
    net.track();
    let peer = net.peer();
    flood(&net, &peer, [10, 1], 5000);
    flood(&net, &peer, [10, 2], 5000);
    let of = |prefix: &str| tracked().iter().filter(|l| l.contains(prefix)).count();
    wait_until("10,000 entries", || of("src=10.1.") == 5000 && of("src=10.2.") == 5000);

    // One address: found by itself, and by the kernel's filter where the table is crowded.
    assert_eq!(kill(&nets("10.1.0.7/32"), &Scope::ALL).unwrap().entries, 1);
    assert_eq!((of("src=10.1."), of("src=10.2.")), (4999, 5000));
    // Every other address by itself, unsorted.
    let half: Vec<Range> = (0..5000u16)
        .rev()
        .filter(|i| i % 2 == 0)
        .map(|i| Range::from(IpAddr::V4(Ipv4Addr::new(10, 1, i.to_be_bytes()[0], i.to_be_bytes()[1]))))
        .collect();
    assert_eq!(kill(&half, &Scope::ALL).unwrap().entries, 2500);
    assert_eq!((of("src=10.1."), of("src=10.2.")), (2499, 5000));
    // What is left as a network.
    assert_eq!(kill(&nets("10.1.0.0/16 192.0.2.99/32"), &Scope::ALL).unwrap().entries, 2499);
    assert_eq!((of("src=10.1."), of("src=10.2.")), (0, 5000));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn entries_of_another_zone_are_found() {
    let mut net = Net::new();
    let peer = net.peer();
    net.nft(&format!(
        "table inet zoned {{ chain c {{ type filter hook prerouting priority -300; iif {} ct zone set 7; }};
         chain d {{ type filter hook prerouting priority 0; ct state new counter; }}; }}",
        peer.link
    ));
    net.within(&peer.ns, |_| UdpSocket::bind(any4()).unwrap().send_to(b"x", (peer.host4, 9)).unwrap());
    wait_until("an entry", || tracked().iter().any(|l| l.contains("zone=7")));
    assert_eq!(kill(&one(peer.v4), &Scope::ALL).unwrap().entries, 1);
    assert!(!tracked().iter().any(|l| l.contains("zone=7")));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn nothing_to_kill_is_no_error() {
    let _net = Net::new();
    let killed = kill(&nets("192.0.2.1/32 2001:db8::/32"), &Scope::ALL).unwrap();
    assert_eq!((killed.entries, killed.sockets), (0, 0));
    assert_eq!(kill(&[], &Scope::ALL).unwrap(), Killed::default());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_hundred_thousand_targets_at_once() {
    let mut net = Net::new();
    net.track();
    let peer = net.peer();
    flood(&net, &peer, [10, 3], 300);
    let of = |prefix: &str| tracked().iter().filter(|l| l.contains(prefix)).count();
    wait_until("300 entries", || of("src=10.3.") == 300);
    // 10.3.0.1, 10.3.0.3, ... and as many that have no connection.
    let odd = |i: u32| Range::from(IpAddr::V4(Ipv4Addr::from(0x0a03_0001 + 2 * i)));
    let targets: Vec<Range> = (0..100_000).map(odd).collect();
    assert_eq!(kill(&targets, &Scope::ALL).unwrap().entries, 150);
    assert_eq!(of("src=10.3."), 150);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn own_addresses_and_gateways_are_protected() {
    let mut net = Net::new();
    let (first, second) = (net.peer(), net.peer());
    net.ip(&format!("route add default nexthop via {} nexthop via {}", first.v4, second.v4));
    net.ip(&format!("-6 route add default via {}", first.v6));
    net.ip(&format!("route add 10.0.0.0/8 via {}", second.v4));
    let host = Protected::read();
    let why = |addr: IpAddr| host.why(&Range::from(addr));
    for own in [IpAddr::V4(first.host4), second.host4.into(), first.host6.into(), second.host6.into()] {
        assert_eq!(why(own), Some("this host's own address"), "{own}");
    }
    for gateway in [IpAddr::V4(first.v4), second.v4.into(), first.v6.into()] {
        assert_eq!(why(gateway), Some("the default gateway"), "{gateway}");
    }
    assert_eq!(why(second.v6.into()), None);
    assert_eq!(why("10.1.2.3".parse().unwrap()), None);
}

/// Not about the library: if this fails, the tests with a real sshd cannot tell anything.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_server_of_the_tests_logs_failed_passwords() {
    let mut net = Net::new();
    let (first, second) = (net.peer(), net.peer());
    net.sshd();
    assert!(net.reaches(&first, second.host4.into(), common::ssh::PORT), "by way of its own link");
    for (peer, host, addr) in [
        (&first, IpAddr::V4(first.host4), IpAddr::V4(first.v4)),
        (&second, second.host6.into(), second.v6.into()),
    ] {
        let said = net.ssh_fail_at(peer, host, "nobody-here").stderr;
        assert!(said.contains("Permission denied"), "{said}");
        let want = format!("Failed password for invalid user nobody-here from {addr} port");
        wait_until("the line in the log", || net.read("auth.log").contains(&want));
    }
}
