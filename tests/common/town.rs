//! A host with five networks (the world, a LAN, guests, containers, a VPN), each a namespace behind a cable
//! of any name; and packets of any sender through it, of which an observer behind the rules says how far they
//! came.

use super::ns::{Ns, Wire};
use super::world::sysctl;
use super::{Net, wait_until};
use nix::sys::socket::{MsgFlags, SockaddrStorage, sendto};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;

/// The host's address in each of the networks, and the length of the prefix.
const NETS: [[(&str, u8); 2]; 5] = [
    [("198.51.100.2", 24), ("2001:db8:1::2", 64)],
    [("192.168.1.1", 24), ("fd00:1::1", 64)],
    [("192.168.2.1", 24), ("fd00:2::1", 64)],
    [("172.17.0.1", 16), ("fd00:17::1", 64)],
    [("10.8.0.1", 24), ("fd08::1", 64)],
];

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// The first one of a connection to this port.
    Tcp(u16),
    /// Of a connection whose other half takes another way, the answer to a first packet that never came by.
    TcpAnswer(u16),
    /// And one from its middle.
    TcpMiddle(u16),
    Udp(u16),
    /// Of this type.
    Icmp(u8),
    /// A segment of TCP with these flags.
    Flags(u16, u8),
    /// Of another protocol, by its number.
    Raw(u8),
}

/// A packet on its way.
#[derive(Debug, Clone, Copy)]
pub struct Shot {
    /// Which network it comes from; none is the host itself.
    pub from: Option<usize>,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub load: Load,
}

/// The hooks that a packet came through to their ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Came {
    In,
    Fwd,
    Out,
}

pub struct Town {
    pub net: Net,
    /// The host's interfaces.
    pub links: [&'static str; 5],
    wires: Vec<Wire>,
    /// They live as long as their names.
    _zones: Vec<Ns>,
    shots: u32,
}

/// What sees packets before all rules, and behind them. What the host's kernel sends by itself may have any
/// number: of what leaves, only what a user sends counts.
const OBSERVER: &str = "table inet seen {
    set a4 { typeof ip id; flags dynamic; size 65535; }
    set a6 { typeof ip6 flowlabel; flags dynamic; size 65535; }
    set i4 { typeof ip id; flags dynamic; size 65535; }
    set i6 { typeof ip6 flowlabel; flags dynamic; size 65535; }
    set f4 { typeof ip id; flags dynamic; size 65535; }
    set f6 { typeof ip6 flowlabel; flags dynamic; size 65535; }
    set o4 { typeof ip id; flags dynamic; size 65535; }
    set o6 { typeof ip6 flowlabel; flags dynamic; size 65535; }
    chain a { type filter hook prerouting priority -450; iifname lo return
        meta nfproto ipv4 add @a4 { ip id }; meta nfproto ipv6 add @a6 { ip6 flowlabel }; }
    chain b { type filter hook output priority -450;
        meta skuid 0 meta nfproto ipv4 add @a4 { ip id }
        meta skuid 0 meta nfproto ipv6 add @a6 { ip6 flowlabel }; }
    chain i { type filter hook input priority 300; iifname lo return
        meta nfproto ipv4 add @i4 { ip id }; meta nfproto ipv6 add @i6 { ip6 flowlabel }; }
    chain f { type filter hook forward priority 300;
        meta nfproto ipv4 add @f4 { ip id }; meta nfproto ipv6 add @f6 { ip6 flowlabel }; }
    chain o { type filter hook output priority 300;
        meta skuid 0 meta nfproto ipv4 add @o4 { ip id }
        meta skuid 0 meta nfproto ipv6 add @o6 { ip6 flowlabel }; }
}
";

impl Town {
    /// A host whose interfaces to the world, the LAN, guests, containers and the VPN have these names.
    #[must_use]
    pub fn new(links: [&'static str; 5]) -> Town {
        let net = Net::new();
        for (name, value) in [
            ("ipv4/conf/all/forwarding", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
            ("ipv6/conf/default/accept_dad", "0"),
        ] {
            sysctl(name, value);
        }
        let (mut wires, mut zones) = (Vec::new(), Vec::new());
        for (at, link) in links.into_iter().enumerate() {
            let zone = Ns::new();
            net.ip(&format!("link add {link} type veth peer name far netns {}", zone.path()));
            net.ip(&format!("link set {link} address 02:00:00:00:00:0{at} up"));
            for (addr, len) in NETS[at] {
                net.ip(&format!("addr add {addr}/{len} dev {link}"));
            }
            wires.push(net.within(&zone, |net| {
                net.ip("link set far up");
                Wire::new("far")
            }));
            zones.push(zone);
        }
        net.ip(&format!("route add default via 198.51.100.1 dev {}", links[0]));
        net.ip(&format!("route add default via 2001:db8:1::1 dev {}", links[0]));
        Town { net, links, wires, _zones: zones, shots: 0 }
    }

    /// The host's own addresses.
    #[must_use]
    pub fn own(zone: usize) -> [IpAddr; 2] {
        NETS[zone].map(|(addr, _)| addr.parse().unwrap())
    }

    /// The interface over which packets to an address leave.
    #[must_use]
    pub fn link_to(&self, addr: IpAddr) -> &'static str {
        let inside = |(own, len): &(&str, u8)| {
            let own: IpAddr = own.parse().unwrap();
            ipnet::IpNet::new(own, *len).unwrap().contains(&addr)
        };
        let zone = NETS.iter().position(|nets| nets.iter().any(inside));
        self.links[zone.unwrap_or(0)]
    }

    /// Sends packets, each as the first of its connection, and says of each what it came through.
    pub fn fates(&mut self, shots: &[Shot]) -> Vec<BTreeSet<Came>> {
        self.net.nft(&["table inet seen {}\ndelete table inet seen\n", OBSERVER].concat());
        let first = self.shots;
        self.shots += u32::try_from(shots.len()).unwrap();
        assert!(self.shots <= u32::from(u16::MAX), "a town has numbers for 65535 packets: make another one");
        let raw = [libc::AF_INET, libc::AF_INET6].map(super::ns::raw_socket);
        for (id, shot) in (first + 1..).zip(shots) {
            let packet = packet(shot, u16::try_from(id).unwrap());
            match shot.from {
                Some(zone) => {
                    let kind: [u8; 2] = if shot.src.is_ipv4() { [8, 0] } else { [0x86, 0xdd] };
                    let at = u8::try_from(zone).unwrap();
                    let head = [[2, 0, 0, 0, 0, at], [2, 0, 0, 0, 1, at]].concat();
                    self.wires[zone].send(&[[head, kind.to_vec(), packet].concat()]);
                }
                None => {
                    let to = SockaddrStorage::from(SocketAddr::new(shot.dst, 0));
                    let socket = &raw[usize::from(shot.dst.is_ipv6())];
                    // EPERM is how the sender hears of a rule.
                    let _ = sendto(socket.as_raw_fd(), &packet, &to, MsgFlags::empty());
                }
            }
        }
        let ids: Vec<u32> = (first + 1..).take(shots.len()).collect();
        wait_until("the packets", || {
            let all = [self.seen("a4"), self.seen("a6")];
            ids.iter().zip(shots).all(|(id, shot)| all[usize::from(shot.src.is_ipv6())].contains(id))
        });
        let hooks = [("i", Came::In), ("f", Came::Fwd), ("o", Came::Out)];
        let seen =
            hooks.map(|(name, came)| (["4", "6"].map(|family| self.seen(&[name, family].concat())), came));
        let fate = |(id, shot): (&u32, &Shot)| {
            // What the host answers may have any number.
            let fits = |came: Came| (came == Came::Out) == shot.from.is_none();
            let here = seen.iter().filter(|(sets, _)| sets[usize::from(shot.src.is_ipv6())].contains(id));
            here.map(|(_, came)| *came).filter(|came| fits(*came)).collect()
        };
        ids.iter().zip(shots).map(fate).collect()
    }

    /// The numbers in a set of the observer.
    fn seen(&self, set: &str) -> BTreeSet<u32> {
        let listed = self.net.cmd("nft", &["list", "set", "inet", "seen", set]).ok();
        let elements = listed.split("elements = {").nth(1).unwrap_or("");
        let numbers = elements.split(|c: char| !c.is_ascii_hexdigit() && c != 'x');
        let number = |text: &str| match text.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        };
        numbers.filter_map(number).collect()
    }
}

const SYN: u8 = 2;
const ACK: u8 = 16;

/// The bytes of a packet behind the frame's header; its number stands where the observer looks.
fn packet(shot: &Shot, id: u16) -> Vec<u8> {
    let port = (20_000 + id % 40_000).to_be_bytes();
    let v6 = shot.src.is_ipv6();
    let tcp = |to: u16, flags: u8| {
        let tail = [0, 0, 0, 1, 0, 0, 0, flags >> 4 & 1, 5 << 4, flags, 0x20, 0, 0, 0, 0, 0];
        (6, [&port[..], &to.to_be_bytes(), &tail].concat(), Some(16))
    };
    let (proto, mut load, sum_at) = match shot.load {
        Load::Tcp(to) => tcp(to, SYN),
        Load::TcpAnswer(to) => tcp(to, SYN | ACK),
        Load::TcpMiddle(to) => tcp(to, ACK),
        Load::Flags(to, flags) => tcp(to, flags),
        Load::Udp(to) => (17, [&port[..], &to.to_be_bytes(), &[0, 12, 0, 0, 1, 2, 3, 4]].concat(), Some(6)),
        Load::Icmp(kind) => (if v6 { 58 } else { 1 }, icmp(kind, port, shot), Some(2)),
        // A header with OSPF behind it: twelve bytes, and eight for a route without an address of type 0.
        Load::Raw(proto @ 51) if v6 => (proto, [&[89, 1, 0, 0][..], &port, &[7; 18]].concat(), None),
        Load::Raw(proto @ 43) if v6 => (proto, [&[89, 0, 0, 0][..], &port, &[0; 18]].concat(), None),
        // GRE of version 0 without a key is as good as any other text.
        Load::Raw(proto) => (proto, [&[0, 0, 8, 0][..], &port, &[7; 18]].concat(), None),
    };
    let len = u16::try_from(load.len()).unwrap();
    let addresses = match (shot.src, shot.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => [src.octets(), dst.octets()].concat(),
        (IpAddr::V6(src), IpAddr::V6(dst)) => [src.octets(), dst.octets()].concat(),
        _ => panic!("two families"),
    };
    if let Some(at) = sum_at {
        let pseudo = [&addresses[..], &[0, proto], &len.to_be_bytes(), &load].concat();
        let sum = super::frames::checksum(if proto == 1 { &load } else { &pseudo });
        load[at..at + 2].copy_from_slice(&sum);
    }
    if v6 {
        let flow = id.to_be_bytes();
        return [&[0x60, 0, flow[0], flow[1]][..], &len.to_be_bytes(), &[proto, 255], &addresses, &load]
            .concat();
    }
    let mut head = vec![0x45, 0];
    head.extend((len + 20).to_be_bytes());
    head.extend(id.to_be_bytes());
    head.extend([0, 0, 255, proto, 0, 0]);
    head.extend(&addresses);
    let sum = super::frames::checksum(&head);
    head[10..12].copy_from_slice(&sum);
    [head, load].concat()
}

/// A message of ICMP: errors are about a packet that nobody has sent.
fn icmp(kind: u8, id: [u8; 2], shot: &Shot) -> Vec<u8> {
    let inner = |of: Load| {
        let (src, dst) = (shot.dst, shot.src);
        packet(&Shot { from: None, src, dst, load: of }, u16::from_be_bytes(id))
    };
    let v6 = shot.src.is_ipv6();
    let head = [&[kind, 0, 0, 0][..], &id, &[0, 1]].concat();
    match (v6, kind) {
        (false, 3 | 11) | (true, 1..=3) => [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &inner(Load::Udp(53))].concat(),
        // Neighbour discovery has a target.
        (true, 135 | 136) => {
            let IpAddr::V6(dst) = shot.dst else { panic!("IPv6") };
            [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &dst.octets()].concat()
        }
        _ => [head, vec![7; 12]].concat(),
    }
}
