//! Thirteen kinds of hosts: what their rule files do to packets of any sender, from and to five networks and
//! of both families, is what a plain evaluator reads in them that shares nothing with the program.

use crate::common;
mod evaluator;

use common::town::{Came, Load, Shot, Town};
use evaluator::{Evaluator, Seen, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path;

/// The files, and what the host's interfaces to the world, the LAN, guests, containers and the VPN are
/// called.
const HOSTS: [(&str, [&str; 5]); 13] = [
    ("01-web-docker", ["eth0", "eth1", "br-guest", "docker0", "wg0"]),
    ("02-mail", USUAL),
    ("03-router", USUAL),
    ("04-wireguard", ["eth0", "wg1", "eth2", "docker0", "wg0"]),
    ("05-proxmox", ["vmbr0", "vmbr1", "eth2", "docker0", "wg0"]),
    ("06-dns", USUAL),
    ("07-vps6", USUAL),
    ("08-game", USUAL),
    ("09-office", ["ppp0", "eth0.10", "eth0.20", "br-lan", "wg0"]),
    ("10-bastion", USUAL),
    ("11-k8s", ["eth0", "cni0", "cali1", "flannel.1", "wg0"]),
    ("12-tor", USUAL),
    ("13-monitor", USUAL),
];
const USUAL: [&str; 5] = ["eth0", "eth1", "eth2", "docker0", "wg0"];

/// Who sends beside the addresses that a file names, by network.
const SENDERS: [&[&str]; 5] = [
    &["203.0.113.9", "10.0.0.7", "2001:db8:99::9", "fe80::99"],
    &["192.168.1.10", "203.0.113.9", "fd00:1::10"],
    &["192.168.2.10", "192.168.1.77", "fd00:2::10"],
    &["172.17.0.5", "fd00:17::5"],
    &["10.8.0.5", "10.9.0.5", "fd08::5"],
];

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// An address of each network, range or address that a text names.
fn named(text: &str) -> Vec<IpAddr> {
    let words = text.split(|c: char| !c.is_ascii_hexdigit() && !".:/".contains(c));
    let inside = |word: &str| match word.split_once('/') {
        Some((net, len)) => {
            let (addr, len) = (net.parse::<IpAddr>().ok()?, len.parse::<u8>().ok()?);
            let whole = if addr.is_ipv4() { 32 } else { 128 };
            Some(match addr {
                IpAddr::V4(v4) if len < whole => IpAddr::V4((u32::from(v4) | 9).into()),
                IpAddr::V6(v6) if len < whole => IpAddr::V6((u128::from(v6) | 9).into()),
                addr => addr,
            })
        }
        None => word.parse().ok(),
    };
    let found: BTreeSet<IpAddr> = words.filter_map(inside).collect();
    let all = IpAddr::from([255; 4]);
    let odd =
        |addr: &IpAddr| addr.is_unspecified() || addr.is_multicast() || addr.is_loopback() || *addr == all;
    found.into_iter().filter(|addr| !odd(addr)).collect()
}

/// The ports that a text names, one of each range, and one that it does not.
fn ports(text: &str) -> Vec<u16> {
    let keys = text.split_whitespace().filter_map(|word| {
        let (key, list) = word.split_once('=')?;
        let is_port = matches!(key, "sport" | "dport") || key == "elements" && !list.contains(['.', ':']);
        is_port.then_some(list)
    });
    let ports = keys.flat_map(|list| list.split([',', '-'])).filter_map(|port| port.parse().ok());
    ports.chain([54321]).collect::<BTreeSet<u16>>().into_iter().collect()
}

/// Not of a link alone.
fn is_global(addr: &IpAddr) -> bool {
    !matches!(addr, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Packets of all kinds between all networks, also of connections of which this host sees one half, since the
/// other takes another way; the more a file names, the more there are.
fn shots(text: &str) -> Vec<Shot> {
    let (extra, ports) = (named(text), ports(text));
    let own: BTreeSet<IpAddr> = (0..5).flat_map(Town::own).collect();
    let mut all = Vec::new();
    let mut add = |from: Option<usize>, src: IpAddr, dst: IpAddr, many: bool| {
        if src.is_ipv4() != dst.is_ipv4() || src == dst {
            return;
        }
        let ports = if many { &ports[..] } else { &ports[..ports.len().min(4)] };
        let icmp: &[u8] = if src.is_ipv4() { &[8, 3, 13] } else { &[128, 2, 135] };
        let loads = ports.iter().flat_map(|port| [Load::Tcp(*port), Load::Udp(*port)]);
        let halves = ports.iter().take(2).flat_map(|port| [Load::TcpAnswer(*port), Load::TcpMiddle(*port)]);
        let loads = loads.chain(halves);
        all.extend(loads.map(|load| Shot { from, src, dst, load }));
        all.extend(icmp.iter().map(|kind| Shot { from, src, dst, load: Load::Icmp(*kind) }));
    };
    for (zone, senders) in SENDERS.iter().enumerate() {
        let senders: Vec<IpAddr> = senders.iter().map(|text| address(text)).chain(extra.clone()).collect();
        for (at, src) in senders.into_iter().filter(|src| !own.contains(src)).enumerate() {
            Town::own(zone).into_iter().for_each(|dst| add(Some(zone), src, dst, at < 4));
            let others = (0..5).filter(|other| *other != zone);
            let others =
                others.flat_map(|other| [SENDERS[other][0], SENDERS[other][SENDERS[other].len() - 1]]);
            let others: Vec<IpAddr> = others.map(address).chain(extra.iter().copied()).collect();
            others
                .into_iter()
                .filter(|dst| !own.contains(dst) && is_global(dst))
                .for_each(|dst| add(Some(zone), src, dst, at == 0));
        }
    }
    for dst in ["203.0.113.200", "192.168.1.10", "2001:db8:aa::1", "fd00:1::10"]
        .map(address)
        .into_iter()
        .chain(extra.iter().copied().filter(|dst| !own.contains(dst) && is_global(dst)))
    {
        let own = Town::own(0)[usize::from(dst.is_ipv6())];
        add(None, own, dst, true);
    }
    all
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn thirteen_hosts_do_to_packets_what_their_files_say() {
    for (name, links) in HOSTS {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ruleset/hosts").join(name);
        let text = fs::read_to_string(file.with_extension("rules")).unwrap();
        let mut town = Town::new(links);
        let evaluator = Evaluator::new(&text);
        let shots = shots(&text);
        // Where each comes through to without rules.
        let reach = town.fates(&shots);
        let loaded = town.net.mef_input(&["load", "--force", "-"], text.as_bytes());
        assert_eq!(loaded.status, 0, "{name}: {loaded:?}");
        let listed = town.net.nft_list("table inet mef");
        let came = town.fates(&shots);
        let (mut seen, mut wrong) = (BTreeMap::new(), Vec::new());
        for ((shot, reach), came) in shots.iter().zip(&reach).zip(&came) {
            for hook in reach {
                let packet = Seen {
                    dir: match hook {
                        Came::In => "in",
                        Came::Fwd => "fwd",
                        Came::Out => "out",
                    },
                    iif: shot.from.map_or("", |zone| links[zone]),
                    oif: if *hook == Came::In { "" } else { town.link_to(shot.dst) },
                    uplink: links[0],
                    shot,
                };
                let verdict = evaluator.verdict(&packet);
                *seen.entry((packet.dir, verdict)).or_insert(0) += 1;
                let passes = match verdict {
                    Verdict::Passes => true,
                    Verdict::Stopped => false,
                    // How many of them came before it.
                    Verdict::Limited => continue,
                };
                if passes != came.contains(hook) {
                    wrong.push(format!("{verdict:?} {packet:?}"));
                }
            }
        }
        let first = &wrong[..wrong.len().min(5)];
        assert!(wrong.is_empty(), "{name}: {} of {} are wrong: {first:#?}", wrong.len(), shots.len());
        assert!(shots.len() > 300 && seen.len() > 2, "{name}: {} packets, {seen:?}", shots.len());
        // The listing is one that nft reads, and what it makes is the same.
        town.net.mef(&["unload"]).ok();
        town.net.nft(&listed);
        let again = town.net.nft_list("table inet mef");
        assert_eq!(common::uncounted(&again), common::uncounted(&listed), "{name}");
    }
}
