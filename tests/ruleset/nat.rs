//! A router: addresses are translated in real connections of both families, what is forwarded hangs on that,
//! and segments fit the path.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::world::{Fate, Kind, Spot, World, packet, sysctl};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

/// A tool's patience with a connection that is refused or made.
const PATIENCE: Duration = Duration::from_secs(60);
const FAMILIES: [bool; 2] = [false, true];

/// What listens somewhere, and who was seen to come.
struct Server(TcpListener);

impl Server {
    fn new(world: &World, at: Spot, port: u16) -> Server {
        Server(world.at(at, || TcpListener::bind(("::", port)).unwrap()))
    }

    /// A connection is made, and who the server takes the client for.
    fn accept(&self, mut client: TcpStream) -> (TcpStream, IpAddr) {
        client.write_all(b"x").unwrap();
        let (mut stream, source) = self.0.accept().unwrap();
        stream.read_exact(&mut [0]).unwrap();
        (stream, source.ip().to_canonical())
    }
}

fn connect(world: &World, from: Spot, to: IpAddr, port: u16) -> Result<TcpStream, ErrorKind> {
    let to = SocketAddr::new(to, port);
    world.at(from, || TcpStream::connect_timeout(&to, PATIENCE)).map_err(|e| e.kind())
}

/// Everybody is refused what no rule allows, and hears of it.
const REFUSING: &str = "policy dir=fwd action=reject\n\
    rule dir=fwd action=accept proto=all ct=established,related\n\
    rule dir=fwd action=accept proto=icmp6\n";

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn sources_are_translated() {
    let world = World::new();
    let server = Server::new(&world, Spot::Stranger, 3000);
    for v6 in FAMILIES {
        let there = world.address(Spot::Stranger, Spot::Friend, v6);
        let (friend, host) =
            (world.address(Spot::Friend, Spot::Host, v6), world.address(Spot::Host, Spot::Stranger, v6));
        let other: IpAddr = if v6 { "2001:db8:1::99" } else { "198.51.100.99" }.parse().unwrap();
        let (len, dad) = if v6 { (64, "nodad preferred_lft 0") } else { (24, "") };
        world.net.ip(format!("addr add {other}/{len} dev {} {dad}", world.stranger.link).trim_end());
        let cases = [
            ("nat dir=post action=masquerade oif=v1".to_owned(), host),
            ("nat dir=post action=masquerade oif=v0".to_owned(), friend),
            ("nat dir=post action=accept oif=v1\nnat dir=post action=masquerade oif=v1".to_owned(), friend),
            (format!("nat dir=post action=snat to={other} src={friend}"), other),
            (format!("nat dir=post action=snat to={other} src=!{friend}"), friend),
            ("nat dir=post action=masquerade proto=udp".to_owned(), friend),
        ];
        for (rules, seen) in cases {
            world.load(&rules);
            let client = connect(&world, Spot::Friend, there, 3000).unwrap();
            let near = client.local_addr().unwrap().ip();
            let (stream, source) = server.accept(client);
            assert_eq!((near, source), (friend, seen), "{rules}");
            drop(stream);
        }
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn destinations_are_translated_and_ct_dnat_opens_the_way() {
    let world = World::new();
    let server = Server::new(&world, Spot::Friend, 3000);
    let local = Server::new(&world, Spot::Host, 3001);
    for v6 in FAMILIES {
        let (friend, host) =
            (world.address(Spot::Friend, Spot::Host, v6), world.address(Spot::Host, Spot::Stranger, v6));
        let stranger = world.address(Spot::Stranger, Spot::Host, v6);
        let to = if v6 { format!("[{friend}]:3000") } else { format!("{friend}:3000") };
        let dnat = format!("nat dir=pre action=dnat to={to} proto=tcp dport=443 iif=v1\n");
        let open = "rule dir=fwd action=accept proto=all ct=dnat\n";
        let redirect = "nat dir=pre action=redirect to=:3001 proto=tcp dport=80\n";
        // The address stays, and with it the family is open.
        let port = "nat dir=pre action=dnat to=:3001 proto=tcp dport=81\n";

        world.load(&[REFUSING, open, &dnat, redirect, port].concat());
        let _ = local.accept(connect(&world, Spot::Stranger, host, 81).unwrap());
        let refused = connect(&world, Spot::Stranger, host, 82).unwrap_err();
        assert_eq!(refused, ErrorKind::ConnectionRefused);
        let (_stream, source) = server.accept(connect(&world, Spot::Stranger, host, 443).unwrap());
        assert_eq!(source, stranger);
        let _ = local.accept(connect(&world, Spot::Stranger, host, 80).unwrap());
        // What is not translated stays closed.
        let direct = connect(&world, Spot::Stranger, friend, 3000).unwrap_err();
        assert_eq!(direct, ErrorKind::ConnectionRefused);
        let other = connect(&world, Spot::Stranger, host, 444).unwrap_err();
        assert_eq!(other, ErrorKind::ConnectionRefused);

        world.load(&[REFUSING, &dnat].concat());
        let closed = connect(&world, Spot::Stranger, host, 443).unwrap_err();
        assert_eq!(closed, ErrorKind::ConnectionRefused, "nothing lets it through");
        world.load(&[REFUSING, open, &dnat.replace("iif=v1", "iif=v0")].concat());
        assert!(connect(&world, Spot::Stranger, host, 443).is_err(), "not by this interface");
    }
}

/// A host of the network behind the router reaches another one, or itself, by the address of the outside.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn hairpin() {
    let world = World::new();
    let server = Server::new(&world, Spot::Friend, 3000);
    for v6 in FAMILIES {
        let (friend, inside) =
            (world.address(Spot::Friend, Spot::Host, v6), world.address(Spot::Host, Spot::Friend, v6));
        let outside = world.address(Spot::Host, Spot::Stranger, v6);
        let to = if v6 { format!("[{friend}]:3000") } else { format!("{friend}:3000") };
        let dnat = format!(
            "nat dir=pre action=dnat to={to} proto=tcp dport=443 dst={outside}\n\
             rule dir=fwd action=accept proto=all ct=dnat\n"
        );
        world.load(&[REFUSING, &dnat, "nat dir=post action=masquerade oif=v0\n"].concat());
        let (_stream, source) = server.accept(connect(&world, Spot::Friend, outside, 443).unwrap());
        assert_eq!(source, inside, "answers come back through the router");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn programs_of_the_host_are_translated_by_dir_out() {
    let world = World::new();
    let server = Server::new(&world, Spot::Friend, 3000);
    for v6 in FAMILIES {
        let (friend, stranger) =
            (world.address(Spot::Friend, Spot::Host, v6), world.address(Spot::Stranger, Spot::Host, v6));
        let to = if v6 { format!("[{friend}]:3000") } else { format!("{friend}:3000") };
        world.load(&format!(
            "nat dir=out action=dnat to={to} proto=tcp dport=3999\nnat dir=post action=masquerade"
        ));
        let _ = server.accept(connect(&world, Spot::Host, stranger, 3999).unwrap());
    }
}

/// The largest segment that the first packet of a connection asks for, as it came.
fn mss_of(syn: &[u8]) -> u16 {
    let tcp = &syn[if syn[0] >> 4 == 6 { 40 } else { usize::from(syn[0] & 15) * 4 }..];
    assert_eq!(tcp[13], 2, "a SYN alone: {syn:x?}");
    let mut options = &tcp[20..usize::from(tcp[12] >> 4) * 4];
    loop {
        match *options {
            [2, 4, high, low, ..] => return u16::from_be_bytes([high, low]),
            [1, ..] => options = &options[1..],
            [_, len, ..] => options = &options[usize::from(len)..],
            _ => panic!("no size: {syn:x?}"),
        }
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn segments_fit_the_path() {
    let world = World::new();
    let server = Server::new(&world, Spot::Stranger, 3000);
    common::ns::save_syns(&server.0);
    let size = |v6: bool| {
        let there = world.address(Spot::Stranger, Spot::Friend, v6);
        let (stream, _) = server.accept(connect(&world, Spot::Friend, there, 3000).unwrap());
        mss_of(&common::ns::saved_syn(&stream))
    };
    for (v6, headers) in [(false, 40), (true, 60)] {
        let full = 1500 - headers;
        for (rules, want) in [
            ("", full),
            ("rule dir=fwd action=count proto=tcp mss=1000", 1000),
            // What is smaller already stays.
            ("rule dir=fwd action=count proto=tcp mss=8000", full),
            ("rule dir=fwd action=count proto=tcp mss=pmtu", full),
        ] {
            world.load(rules);
            assert_eq!(size(v6), want, "{rules}");
        }
    }
    world.net.ip(&format!("link set {} mtu 1300", world.stranger.link));
    for (v6, headers) in [(false, 40), (true, 60)] {
        let (wide, narrow) = (1500 - headers, 1300 - headers);
        for (rules, want) in [
            // The sender knows nothing of the narrow link.
            ("", wide),
            ("rule dir=fwd action=count proto=tcp mss=pmtu", narrow),
            ("rule dir=fwd action=count proto=tcp mss=pmtu oif=v1", narrow),
            ("rule dir=fwd action=count proto=tcp mss=pmtu dport=3001", wide),
            // The way of the answer is as wide as before.
            ("rule dir=fwd action=count proto=tcp mss=pmtu oif=v0", wide),
        ] {
            world.load(rules);
            assert_eq!(size(v6), want, "{rules}");
        }
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn knocking_opens_a_port() {
    let mut world = World::new();
    for v6 in FAMILIES {
        let at = |port| {
            let one = packet(Kind::Udp, Spot::Friend).port(port);
            if v6 { one.in_v6() } else { one }
        };
        world.load(
            "policy dir=in action=drop\nrule dir=in action=accept proto=icmp6\n\
             rule dir=in action=add:@knocked/1h proto=udp dport=2000\n\
             rule dir=in action=accept proto=udp dport=1000 src=@knocked\n",
        );
        assert_eq!(world.judge(at(1000)), Fate::Lost);
        assert_eq!(world.judge(at(1001)), Fate::Lost);
        assert_eq!(world.judge(at(2000)), Fate::Lost, "the knock itself is not answered");
        assert_eq!(world.judge(at(1000)), Fate::Passes);
        assert_eq!(world.judge(at(1001)), Fate::Lost);
        // Others have not knocked.
        let other = packet(Kind::Udp, Spot::Stranger);
        assert_eq!(world.judge(if v6 { other.in_v6() } else { other }), Fate::Lost);
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn connections_at_the_same_time_are_counted_by_source() {
    let world = World::new();
    let server = Server::new(&world, Spot::Host, 3000);
    for v6 in FAMILIES {
        for (rules, of_friend, of_stranger) in [
            ("rule dir=in action=accept proto=tcp dport=3000 ct=new conns=3/src", 3, 3),
            ("rule dir=in action=accept proto=tcp dport=3000 ct=new conns=5", 4, 1),
            ("rule dir=in action=accept proto=tcp dport=3000 ct=new conns=5/src\n", 4, 4),
        ] {
            let (friend, stranger) =
                (world.address(Spot::Host, Spot::Friend, v6), world.address(Spot::Host, Spot::Stranger, v6));
            world.load(&format!(
                "policy dir=in action=reject\nrule dir=in action=accept proto=all ct=established,related\n\
                 rule dir=in action=accept proto=icmp6\n{rules}"
            ));
            let mut open = Vec::new();
            let mut made = |from, to| {
                let mut count = 0;
                while count < 4 {
                    let Ok(client) = connect(&world, from, to, 3000) else { break };
                    open.push(client.try_clone().unwrap());
                    open.push(server.accept(client).0);
                    count += 1;
                }
                count
            };
            let counts = (made(Spot::Friend, friend), made(Spot::Stranger, stranger));
            assert_eq!(counts, (of_friend, of_stranger), "{rules}");
        }
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn packets_whose_source_is_elsewhere_fail_the_reverse_path() {
    let mut world = World::new();
    for link in ["all", "v0", "v1"] {
        sysctl(&format!("ipv4/conf/{link}/rp_filter"), "0");
    }
    for v6 in FAMILIES {
        // An address of the stranger's network, at the friend.
        let spoofed: IpAddr = if v6 { "2001:db8:1::77" } else { "198.51.100.77" }.parse().unwrap();
        let (len, dad) = if v6 { (128, "nodad") } else { (32, "") };
        world.net.within(&world.friend.ns, |net| {
            net.ip(format!("addr add {spoofed}/{len} dev lo {dad}").trim_end());
        });
        world.net.ip(&format!("route replace {spoofed} dev {}", world.stranger.link));
        let one = packet(Kind::Udp, Spot::Friend);
        let one = if v6 { one.in_v6() } else { one };
        for (rules, want) in [("", Fate::Passes), ("rule dir=in action=drop proto=all rpf=fail", Fate::Lost)]
        {
            world.load(rules);
            let probe = world.send_from(one, spoofed);
            world.settle(Spot::Friend, Spot::Host, v6);
            assert_eq!(world.fate(&probe), want, "{rules}");
            assert_eq!(world.judge(one), Fate::Passes, "who is where he belongs");
        }
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn check_says_when_forwarding_is_off() {
    let world = World::new();
    let rules = "nat dir=post action=masquerade src=10.8.0.0/24\n\
                 nat dir=post action=masquerade src=fd08::/64\n";
    let path = world.net.write("nat.rules", rules);
    let said = |world: &World| world.net.mef(&["check", path.to_str().unwrap()]).stdout;
    assert!(!said(&world).contains("forwarding is off"), "{}", said(&world));
    sysctl("ipv4/conf/all/forwarding", "0");
    assert!(said(&world).contains("nat.rules:1:21: warning: forwarding is off for IPv4"), "{}", said(&world));
    assert!(!said(&world).contains("for IPv6"), "{}", said(&world));
    sysctl("ipv6/conf/all/forwarding", "0");
    assert!(said(&world).contains("nat.rules:2:21: warning: forwarding is off for IPv6"), "{}", said(&world));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn check_knows_which_types_of_icmp_a_host_needs() {
    let world = World::new();
    let lost = "neighbour discovery does not get in";
    for (types, is_lost) in
        [("ping", true), ("nd", false), ("!errors", false), ("!nd", true), ("errors", true)]
    {
        for proto in ["icmp6", "icmp,icmp6"] {
            let text =
                format!("policy dir=in action=drop\nrule dir=in action=accept proto={proto} icmp={types}\n");
            let path = world.net.write("icmp.rules", &text);
            let said = world.net.mef(&["check", path.to_str().unwrap()]).stdout;
            assert_eq!(said.contains(lost), is_lost, "{text}{said}");
        }
    }
}

/// A neighbour asks a group, in a frame to a group and without extension headers.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn check_knows_in_what_frames_neighbours_ask() {
    let world = World::new();
    let lost = "neighbour discovery does not get in";
    for (keys, is_lost) in [
        ("pkttype=!host", true),
        ("pkttype=multicast", true),
        ("pkttype=host", true),
        ("pkttype=broadcast,other", false),
        ("exthdr=!frag", true),
        ("exthdr=frag", false),
        ("exthdr=rt0", false),
    ] {
        let text = format!(
            "rule dir=in action=drop proto=all {keys}\nrule dir=in action=accept proto=icmp6\n\
             policy dir=in action=drop\n"
        );
        let path = world.net.write("frames.rules", &text);
        let said = world.net.mef(&["check", path.to_str().unwrap()]).stdout;
        assert_eq!(said.contains(lost), is_lost, "{text}{said}");
    }
}

/// The kernel puts them together before it looks for a connection.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn check_knows_where_there_are_no_fragments() {
    let world = World::new();
    let frag = "rule dir=in action=drop proto=all exthdr=frag\n";
    let (not, group) = (frag.replace("=frag", "=!frag"), frag.replace("dir=in", "group=g"));
    let new = "rule dir=fwd action=accept proto=tcp ct=new\n";
    for (text, warns) in [
        (frag.to_owned(), false),
        ([frag, new].concat(), true),
        ([new, frag].concat(), true),
        ([frag, "rule dir=in action=drop proto=tcp conns=5\n"].concat(), true),
        ([frag, "nat dir=post action=masquerade\n"].concat(), true),
        ([frag, "rule dir=bridge action=accept proto=tcp ct=new\n"].concat(), false),
        (["group name=g\n", &group, "rule dir=in action=group:g proto=all\n", new].concat(), true),
        ([&not, new].concat(), false),
    ] {
        let path = world.net.write("fragments.rules", &text);
        let said = world.net.mef(&["check", path.to_str().unwrap()]).stdout;
        assert_eq!(said.contains("fragments have been put together"), warns, "{text}{said}");
    }
}

/// The loader and the watcher of this test, which have the path of its rules.
fn processes(path: &Path) -> Vec<nix::unistd::Pid> {
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|e| e.unwrap().file_name().to_str()?.parse::<i32>().ok());
    let ours = pids.filter(|pid| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains("--confirm\0") && line.contains(path.to_str().unwrap())
    });
    ours.map(nix::unistd::Pid::from_raw).collect()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn a_trial_translates_and_takes_it_back() {
    let world = World::new();
    let server = Server::new(&world, Spot::Stranger, 3000);
    let there = world.address(Spot::Stranger, Spot::Friend, false);
    let (friend, host) =
        (world.address(Spot::Friend, Spot::Host, false), world.address(Spot::Host, Spot::Stranger, false));
    let seen = || server.accept(connect(&world, Spot::Friend, there, 3000).unwrap()).1;
    let group = "group name=twelveletter\nrule group=twelveletter action=accept proto=tcp dport=3000\n\
                 policy dir=fwd action=reject\nrule dir=fwd action=group:twelveletter proto=tcp\n\
                 rule dir=fwd action=accept proto=all ct=established\n";
    world.load(group);
    assert_eq!(seen(), friend);
    let with = [group, "nat dir=post action=masquerade oif=v1\n"].concat();
    let path = world.net.write("trial.rules", &[common::world::RULES, &with].concat());
    let args = ["load", "--force", "--confirm", "10m", path.to_str().unwrap()];
    let mut trial = world.net.mef_command(&args).stdin(std::process::Stdio::null()).spawn().unwrap();
    common::wait_until("the trial", || world.net.has_trial());
    assert_eq!(seen(), host, "while it goes on");
    // As when its time is over.
    world.net.end_trial();
    assert_eq!(seen(), friend, "when it is over");
    for pid in processes(&path) {
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
    trial.wait().unwrap();
    common::wait_until("the watcher's end", || processes(&path).is_empty());
    // And from rules that translate to some that do not. Who was killed may hold the lock a moment longer.
    let text = [common::world::RULES, &with].concat();
    common::wait_until("the lock", || world.net.mef_input(&["load", "-"], text.as_bytes()).status == 0);
    assert_eq!(seen(), host);
    let path = world.net.write("trial.rules", &[common::world::RULES, group].concat());
    let args = ["load", "--force", "--confirm", "10m", path.to_str().unwrap()];
    let mut trial = world.net.mef_command(&args).stdin(std::process::Stdio::null()).spawn().unwrap();
    common::wait_until("the trial", || world.net.has_trial());
    assert_eq!(seen(), friend, "while it goes on");
    world.net.mef(&["confirm"]).ok();
    trial.wait().unwrap();
    assert_eq!(seen(), friend, "confirmed");
}

/// Whether this kernel has flowtables.
fn has_flowtables(world: &World) -> bool {
    let table = "table inet probe {\n flowtable f {\n hook ingress priority 0\n devices = { v0 }\n }\n}\n";
    let made = world.net.input("nft", &["-f", "-"], table.as_bytes()).status == 0;
    world.net.cmd("nft", &["delete", "table", "inet", "probe"]);
    made
}

/// What a kernel without flowtables refuses is named by its line, and the rules before stay in force; with
/// them, connections go through as before, and end when their source is banned.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn connections_are_offloaded_or_the_rule_is_named_that_cannot_do_it() {
    let world = World::new();
    let server = Server::new(&world, Spot::Stranger, 3000);
    let rules = "rule dir=fwd action=count proto=all offload=auto\nrule dir=fwd action=accept proto=tcp\n";
    world.load(REFUSING);
    let before = world.net.nft_list("table inet mef");
    let text = [common::world::RULES, rules].concat();
    let loaded = world.net.mef_input(&["load", "-"], text.as_bytes());
    if !has_flowtables(&world) {
        assert_eq!(loaded.status, 1, "{loaded:?}");
        assert!(loaded.stderr.contains(":6: the kernel refused"), "{loaded:?}");
        assert_eq!(world.net.nft_list("table inet mef"), before);
        return;
    }
    assert_eq!(loaded.status, 0, "{loaded:?}");
    for v6 in FAMILIES {
        let there = world.address(Spot::Stranger, Spot::Friend, v6);
        let mut client = connect(&world, Spot::Friend, there, 3000).unwrap();
        let (mut stream, _) = server.accept(client.try_clone().unwrap());
        for n in 0..50u8 {
            client.write_all(&[n]).unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [n]);
            stream.write_all(&byte).unwrap();
            client.read_exact(&mut byte).unwrap();
        }
    }
    let listed = world.net.nft_list("table inet mef");
    assert!(listed.contains("flow add @fast") && listed.contains("flowtable fast"), "{listed}");
}
