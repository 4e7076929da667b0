//! Thirteen kinds of hosts: what their rule files do to packets of any sender, from and to five networks and
//! of both families, is what a plain evaluator reads in them that shares nothing with the program.

use crate::common;
mod evaluator;
mod routed;

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
        // Nobody names these, and some rules mean them nevertheless.
        let others = [Load::Raw(50), Load::Raw(47), Load::Flags(ports[0], 0), Load::Flags(ports[0], 3)];
        // Both ways, they would be answers of each other.
        let to_host = many && own.contains(&dst);
        all.extend(others.into_iter().filter(|_| to_host).map(|load| Shot { from, src, dst, load }));
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

/// A packet at a hook of the host.
fn seen_at<'s>(hook: Came, town: &Town, shot: &'s Shot) -> Seen<'s> {
    let iif = shot.from.map_or("", |zone| town.links[zone]);
    Seen {
        dir: match hook {
            Came::In => "in",
            Came::Fwd => "fwd",
            Came::Out => "out",
        },
        iif,
        oif: if hook == Came::In { "" } else { town.link_to(shot.dst) },
        uplink: town.links[0],
        // An address of a link is reached by any link.
        back: if is_global(&shot.src) { town.link_to(shot.src) } else { iif },
        translated: false,
        shot,
    }
}

/// What the rules that are loaded do with packets, by hook and the verdict that they are to meet; and the
/// packets that meet another one. `reach` is how far they come without rules.
fn compare(
    town: &mut Town,
    evaluator: &Evaluator,
    shots: &[Shot],
    reach: &[BTreeSet<Came>],
) -> (BTreeMap<(&'static str, Verdict), usize>, Vec<String>) {
    let came = town.fates(shots);
    let (mut seen, mut wrong) = (BTreeMap::new(), Vec::new());
    for ((shot, reach), came) in shots.iter().zip(reach).zip(&came) {
        for hook in reach {
            let packet = seen_at(*hook, town, shot);
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
    (seen, wrong)
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
        let (seen, wrong) = compare(&mut town, &evaluator, &shots, &reach);
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

/// Segments of TCP with flags that belong together, and with flags that do not; packets of protocols without
/// ports; between networks, to this host and from it.
fn odd_shots() -> Vec<Shot> {
    let mut loads = vec![Load::Udp(22), Load::Udp(500)];
    loads.extend([1, 2, 43, 47, 50, 51, 58, 89, 112].map(Load::Raw));
    let flags = [0, 1, 2, 3, 4, 6, 8, 16, 17, 18, 20, 0x29, 0x3f, 0x42, 0xc2, 0xff];
    loads.extend(flags.into_iter().flat_map(|flags| [22, 443].map(|port| Load::Flags(port, flags))));
    let ways = [
        (Some(0), "203.0.113.9", "198.51.100.2"),
        (Some(0), "2001:db8:99::9", "2001:db8:1::2"),
        (Some(1), "192.168.1.10", "203.0.113.200"),
        (Some(1), "fd00:1::10", "2001:db8:aa::1"),
        (None, "198.51.100.2", "203.0.113.201"),
        (None, "2001:db8:1::2", "2001:db8:aa::2"),
    ];
    let mut all = Vec::new();
    for (from, src, dst) in ways {
        let (src, dst) = (address(src), address(dst));
        // Of ICMP its own family has messages alone; a routing header is of IPv6.
        let fits = |load: &Load| match load {
            Load::Raw(1 | 58) => false,
            Load::Raw(43) => src.is_ipv6(),
            _ => true,
        };
        all.extend(loads.iter().copied().filter(fits).map(|load| Shot { from, src, dst, load }));
        let ping = if src.is_ipv4() { 8 } else { 128 };
        all.push(Shot { from, src, dst, load: Load::Icmp(ping) });
    }
    all
}

/// A list of some of the words, less than `most`.
fn some(rng: &mut fastrand::Rng, words: &[&str], most: usize) -> String {
    let mut words = words.to_vec();
    rng.shuffle(&mut words);
    words[..rng.usize(1..most)].join(",")
}

/// Rules of nothing but protocols, headers, flags and states.
fn random_rules(rng: &mut fastrand::Rng) -> String {
    const PROTOS: [&str; 12] =
        ["tcp", "udp", "icmp", "icmp6", "esp", "gre", "igmp", "ah", "112", "89", "17", "vrrp"];
    const FLAGS: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr"];
    const ALL: &str = "fin,syn,rst,psh,ack,urg";
    let mut text = String::new();
    for dir in ["in", "out", "fwd"] {
        let accepts = rng.bool();
        text += &format!("policy dir={dir} action={}\n", if accepts { "accept" } else { "drop" });
        for _ in 0..rng.usize(1..6) {
            let action = ["accept", "drop", "reject"][rng.usize(0..3)];
            let not = |rng: &mut fastrand::Rng| if rng.u8(0..4) == 0 { "!" } else { "" };
            text += &format!("rule dir={dir} action={action} proto=");
            if rng.u8(0..6) == 0 {
                let of = ["all", "89", "!tcp"][rng.usize(0..3)];
                text += &format!("{of} exthdr={}", ["rt", "!rt", "rt0", "frag", "!dst"][rng.usize(0..5)]);
            } else if rng.bool() {
                text += &[not(rng), &some(rng, &PROTOS, 5)].concat();
            } else {
                let (set, more, not) = (some(rng, &FLAGS, 3), some(rng, &FLAGS, 4), not(rng));
                text += &match rng.u8(0..4) {
                    0 => format!("tcp flags={not}none/{ALL}"),
                    1 => format!("tcp flags={not}{set}"),
                    2 => format!("tcp flags={not}syn/fin,syn,rst,ack"),
                    _ => format!("tcp flags={not}{set}/{set},{more}"),
                };
                text += ["", "", " ct=new", " ct=invalid", " ct=!new", " dport=22"][rng.usize(0..6)];
            }
            if action == "reject" && rng.bool() {
                text +=
                    [" with=no-route", " with=port-unreachable", " with=admin-prohibited"][rng.usize(0..3)];
            }
            text += "\n";
        }
    }
    text
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn protocols_and_flags_are_those_that_rules_name() {
    let shots = odd_shots();
    let mut town = Town::new(USUAL);
    let reach = town.fates(&shots);
    assert!(reach.iter().all(|hooks| hooks.len() == 1), "each comes to one hook");
    let mut all: BTreeMap<_, usize> = BTreeMap::new();
    for seed in 0..60 {
        let text = random_rules(&mut fastrand::Rng::with_seed(seed));
        let loaded = town.net.mef_input(&["load", "--force", "-"], text.as_bytes());
        assert_eq!(loaded.status, 0, "{text}{loaded:?}");
        let (seen, wrong) = compare(&mut town, &Evaluator::new(&text), &shots, &reach);
        let first = &wrong[..wrong.len().min(5)];
        assert!(wrong.is_empty(), "seed {seed}: {} are wrong: {first:#?}\n{text}", wrong.len());
        seen.into_iter().for_each(|(key, count)| *all.entry(key).or_default() += count);
    }
    assert!(all.len() == 6 && all.values().all(|count| *count > 500), "{all:?}");
}
