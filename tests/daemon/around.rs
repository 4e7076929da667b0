//! Networks beside the uplink: lists of others have them, and cut off neither the LAN nor containers,
//! whenever they come.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

use crate::common;

use common::daemon::host;
use common::{Net, Peer, wait_until};
use std::net::{IpAddr, TcpListener};

/// A deny list as those with bogons are.
const BOGONS: &str = "0.0.0.0/8\n10.0.0.0/8\n100.64.0.0/10\n127.0.0.0/8\n169.254.0.0/16\n172.16.0.0/12\n\
    192.168.0.0/16\n203.0.113.0/24\n224.0.0.0/4\n240.0.0.0/4\nfc00::/7\nfe80::/10\nff00::/8\n";

/// Gives a neighbour this address, by which it speaks, and its side of the host another one of the network.
fn join(net: &Net, peer: &Peer, ours: &str, theirs: &str) {
    let v6 = if ours.contains(':') { "-6 " } else { "" };
    let nodad = if v6.is_empty() { "" } else { " nodad" };
    let (near, far) = (ours.split('/').next().unwrap(), theirs.split('/').next().unwrap());
    net.ip(&format!("addr add {ours} dev {}{nodad}", peer.link));
    net.within(&peer.ns, |net| {
        net.ip(&format!("addr add {theirs} dev {}{nodad}", peer.link));
        net.ip(&format!("{v6}route replace default via {near} src {far}"));
    });
}

fn denied(net: &Net, addr: &str) -> bool {
    let addr: IpAddr = addr.parse().unwrap();
    let chain = |name| net.cmd("nft", &["-t", "list", "chain", "inet", "mef_guard", name]).stdout;
    let rules = chain("deny") + &chain("denynet");
    let sets = rules.split('@').skip(1).filter_map(|rest| rest.split(' ').next());
    let family = if addr.is_ipv4() { "deny4" } else { "deny6" };
    sets.filter(|set| set.starts_with(family)).any(|set| net.in_set(set, addr))
}

/// A host with an uplink, the list in force, and a service.
fn router() -> (Net, Peer, TcpListener) {
    let mut net = host("", "");
    let uplink = net.peer();
    net.ip(&format!("route add default dev {}", uplink.link));
    net.ip(&format!("-6 route add default dev {}", uplink.link));
    for family in ["ipv4", "ipv6"] {
        std::fs::write(format!("/proc/sys/net/{family}/conf/all/forwarding"), "1").unwrap();
    }
    net.write("blacklist/bogons.conf", BOGONS);
    (net, uplink, TcpListener::bind(("::", 80)).unwrap())
}

/// The host and what is behind it are there for a neighbour.
fn connects(net: &Net, peer: &Peer, uplink: &Peer, ours: &str) {
    assert!(net.reaches(peer, ours.parse().unwrap(), 80), "{ours} from its own network");
    let _service = net.within(&uplink.ns, |_| TcpListener::bind(("::", 80)).unwrap());
    let far = if ours.contains(':') { IpAddr::from(uplink.v6) } else { uplink.v4.into() };
    assert!(net.reaches(peer, far, 80), "the world from the network of {ours}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn lists_of_others_leave_the_lan_and_containers_alone() {
    let (mut net, uplink, _service) = router();
    let (lan, container) = (net.peer(), net.peer());
    join(&net, &lan, "192.168.1.1/24", "192.168.1.10/24");
    join(&net, &container, "172.17.0.1/16", "172.17.0.2/16");
    let check = net.mef(&["check", "--config", net.path("mef.conf").to_str().unwrap()]);
    for named in
        ["192.168.0.0/16 except 192.168.1.0/24 (directly connected on v1)", "172.17.0.0/16 (directly"]
    {
        assert!((check.stdout.clone() + &check.stderr).contains(named), "{check:?}");
    }
    let daemon = net.daemon("d");
    wait_until("the list", || denied(&net, "10.3.4.5"));
    net.wait_said("d", "192.168.0.0/16 except 192.168.1.0/24 (directly connected on v1)");
    net.wait_said("d", "172.17.0.0/16 (directly connected on v2)");
    connects(&net, &lan, &uplink, "192.168.1.1");
    connects(&net, &container, &uplink, "172.17.0.1");
    for addr in ["192.168.2.1", "172.18.0.1", "100.64.0.1", "fd00::1"] {
        assert!(denied(&net, addr), "{addr}");
    }
    // What is meant is meant.
    net.write("blacklist/bogons.conf", &BOGONS.replace("192.168.0.0/16", "192.168.0.0/16 force"));
    wait_until("the whole network", || denied(&net, "192.168.1.10"));
    assert!(net.shut_out(&lan, "192.168.1.1".parse().unwrap(), 80));
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn networks_that_come_later_are_left_out_too() {
    let (mut net, uplink, _service) = router();
    let daemon = net.daemon("d");
    wait_until("the list", || ["10.3.4.5", "192.168.1.10", "172.17.0.2"].iter().all(|a| denied(&net, a)));
    let lan = net.peer();
    join(&net, &lan, "192.168.1.1/24", "192.168.1.10/24");
    wait_until("the LAN to be left out", || !denied(&net, "192.168.1.10"));
    connects(&net, &lan, &uplink, "192.168.1.1");
    join(&net, &lan, "fd00:1::1/64", "fd00:1::10/64");
    wait_until("its IPv6", || !denied(&net, "fd00:1::10"));
    connects(&net, &lan, &uplink, "fd00:1::1");
    assert!(denied(&net, "192.168.2.1") && denied(&net, "fd00:2::1"));
    // A route to a tunnel, without an address there.
    net.ip("route add 10.8.0.0/24 dev v1");
    wait_until("the tunnel", || !denied(&net, "10.8.0.7") && denied(&net, "10.8.1.7"));
    // Gone, and denied again; a list that is loaded meanwhile is none the wiser when it comes back.
    net.ip("route del 10.8.0.0/24 dev v1");
    wait_until("the tunnel's network is denied", || denied(&net, "10.8.0.7"));
    net.ip("link set v1 down");
    net.write("blacklist/bogons.conf", &format!("{BOGONS}198.18.0.0/15\n"));
    wait_until("the longer list", || denied(&net, "198.18.0.1") && denied(&net, "192.168.1.10"));
    net.ip("link set v1 up");
    wait_until("the LAN to be left out again", || !denied(&net, "192.168.1.10"));
    connects(&net, &lan, &uplink, "192.168.1.1");
    // With another uplink the previous one is one of those beside it.
    assert!(!net.said("d").contains("directly connected on v0"));
    net.stop(daemon);
}
