//! A network of three: the host, a friend and a stranger; and probes whose fate is known after a round trip.
//!
//! Neighbours are fixed and errors of ICMP are not bounded, so a packet that does not come was dropped by a
//! rule. One CPU does it all, so packets stay in order: what was sent over a route has come or is gone, and
//! what answers it too, when a sentinel has made the way there and back. `RULES`, which begin every rule set
//! here, let it pass.

use super::{Net, Output, Peer, ns, wait_for};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect, setsockopt, socket,
    sockopt,
};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// Who sends or receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spot {
    Host,
    /// At v0.
    Friend,
    /// At v1.
    Stranger,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Tcp,
    Udp,
    /// An echo request, without ports.
    Ping,
}

/// A packet, or the first one of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    pub kind: Kind,
    pub from: Spot,
    pub to: Spot,
    pub v6: bool,
    /// 0 = any.
    pub sport: u16,
    pub dport: u16,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Passes,
    /// Its sender hears that nobody listens.
    Refused,
    /// Its sender hears nothing.
    Lost,
}

/// Ports at which everybody has services of TCP and UDP.
pub const PORTS: [u16; 4] = [1000, 1001, 1002, 2000];
/// The sentinel's port, on both sides.
const SENTINEL: u16 = 9;
/// The first rules of every rule set.
pub const RULES: &str = "\
rule dir=in action=accept proto=udp sport=9 dport=9
rule dir=in action=accept proto=udp sport=9 dport=9 iif=lo
rule dir=out action=accept proto=udp sport=9 dport=9
rule dir=out action=accept proto=udp sport=9 dport=9 oif=lo
rule dir=fwd action=accept proto=udp sport=9 dport=9
";

/// What listens at one of the three.
struct Services {
    udp: [UdpSocket; 4],
    tcp: [TcpListener; 4],
    sentinel: UdpSocket,
}

impl Services {
    fn new() -> Services {
        let udp = |port| {
            let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let tcp = |port| {
            let socket = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        Services { udp: PORTS.map(udp), tcp: PORTS.map(tcp), sentinel: udp(SENTINEL) }
    }
}

/// A packet on its way.
pub struct Probe {
    packet: Packet,
    id: u32,
    socket: OwnedFd,
    /// The answer was there at once.
    refused: bool,
}

pub struct World {
    pub net: Net,
    pub friend: Peer,
    pub stranger: Peer,
    services: [Services; 3],
    /// Datagrams that have come.
    came: BTreeSet<u32>,
}

impl Default for World {
    fn default() -> Self {
        World::new()
    }
}

impl World {
    #[must_use]
    pub fn new() -> World {
        stay_on_this_cpu();
        let mut net = Net::new();
        let (friend, stranger) = (net.peer(), net.peer());
        for (i, peer) in [&friend, &stranger].into_iter().enumerate() {
            let side = |near: u8, far: u8, v4: Ipv4Addr, v6: Ipv6Addr| {
                let neighbour = format!("lladdr 02:00:00:00:{i:02}:{far:02} dev {} nud permanent", peer.link);
                format!(
                    "link set {} address 02:00:00:00:{i:02}:{near:02}\nneigh replace {v4} {neighbour}\n\
                     neigh replace {v6} {neighbour}\n",
                    peer.link
                )
            };
            let batch = |net: &Net, text: &str| net.input("ip", &["-batch", "-"], text.as_bytes()).ok();
            batch(&net, &side(1, 2, peer.v4, peer.v6));
            net.within(&peer.ns, |net| batch(net, &side(2, 1, peer.host4, peer.host6)));
        }
        for family in ["ipv4", "ipv6"] {
            sysctl(&format!("{family}/conf/all/forwarding"), "1");
        }
        let services = || {
            for (name, value) in
                [("ipv4/icmp_ratemask", "0"), ("ipv6/icmp/ratemask", ""), ("ipv4/ping_group_range", "0 0")]
            {
                sysctl(name, value);
            }
            Services::new()
        };
        let there = |peer: &Peer| net.within(&peer.ns, |_| services());
        let services = [services(), there(&friend), there(&stranger)];
        let world = World { net, friend, stranger, services, came: BTreeSet::new() };
        for (from, to) in
            [(Spot::Friend, Spot::Host), (Spot::Stranger, Spot::Host), (Spot::Friend, Spot::Stranger)]
        {
            [false, true].into_iter().for_each(|v6| world.settle(from, to, v6));
        }
        world
    }

    /// Does something where `spot` is, in this thread.
    pub fn at<R>(&self, spot: Spot, f: impl FnOnce() -> R) -> R {
        match spot {
            Spot::Host => f(),
            Spot::Friend => self.net.within(&self.friend.ns, |_| f()),
            Spot::Stranger => self.net.within(&self.stranger.ns, |_| f()),
        }
    }

    /// By which address `from` speaks to `to`.
    #[must_use]
    pub fn address(&self, to: Spot, from: Spot, v6: bool) -> IpAddr {
        let (friend, stranger) = (&self.friend, &self.stranger);
        let (v4, other): (Ipv4Addr, Ipv6Addr) = match (to, from) {
            (Spot::Host, Spot::Host) => (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
            (Spot::Host, Spot::Friend) => (friend.host4, friend.host6),
            (Spot::Host, Spot::Stranger) => (stranger.host4, stranger.host6),
            (Spot::Friend, _) => (friend.v4, friend.v6),
            (Spot::Stranger, _) => (stranger.v4, stranger.v6),
        };
        if v6 { other.into() } else { v4.into() }
    }

    /// Loads `RULES` and the rules behind them.
    #[track_caller]
    pub fn load(&self, text: &str) -> Output {
        let whole = [RULES, text, "\n"].concat();
        let out = self.net.mef_input(&["load", "-"], whole.as_bytes());
        assert_eq!(out.status, 0, "{out:?}\n{whole}");
        out
    }

    pub fn send(&self, packet: Packet) -> Probe {
        let source = if packet.v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        self.send_from(packet, source)
    }

    /// From one of several addresses of the sender.
    pub fn send_from(&self, packet: Packet, source: IpAddr) -> Probe {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = COUNT.fetch_add(1, Ordering::Relaxed);
        let Packet { kind, from, to, v6, sport, dport } = packet;
        let family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let (kind_of, protocol) = match kind {
            Kind::Tcp => (SockType::Stream, None),
            Kind::Udp => (SockType::Datagram, None),
            Kind::Ping if v6 => (SockType::Datagram, Some(SockProtocol::IcmpV6)),
            Kind::Ping => (SockType::Datagram, Some(SockProtocol::Icmp)),
        };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = self.at(from, || socket(family, kind_of, flags, protocol).unwrap());
        let near = SockaddrStorage::from(SocketAddr::new(source, if kind == Kind::Ping { 0 } else { sport }));
        let far = SockaddrStorage::from(SocketAddr::new(self.address(to, from, v6), dport));
        // Probes that differ in their destination share a port.
        setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
        if kind == Kind::Tcp {
            // Both ends forget the connection at once: no state of an old one judges a new one.
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            setsockopt(&socket, sockopt::Linger, &linger).unwrap();
        }
        bind(socket.as_raw_fd(), &near).unwrap();
        let refused = match connect(socket.as_raw_fd(), &far) {
            Ok(()) | Err(nix::Error::EINPROGRESS) => false,
            Err(e) if is_refusal(&e.into()) => true,
            Err(e) => panic!("{packet:?}: connect: {e}"),
        };
        let probe = Probe { packet, id, socket, refused };
        let echo = [if v6 { 128 } else { 8 }, 0, 0, 0, 0, 0, 0, 1];
        match kind {
            Kind::Tcp => Ok(8),
            Kind::Udp => probe.datagrams().send(&id.to_ne_bytes()),
            Kind::Ping => probe.datagrams().send(&echo),
        }
        // That is how the sender of a packet hears of a rule with dir=out.
        .or_else(|e| if e.kind() == ErrorKind::PermissionDenied { Ok(0) } else { Err(e) })
        .unwrap();
        probe
    }

    /// Waits until everything sent so far on that way has come or is gone.
    #[track_caller]
    pub fn settle(&self, from: Spot, to: Spot, v6: bool) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mark = COUNT.fetch_add(1, Ordering::Relaxed).to_ne_bytes();
        let (near, far) = (&self.services[from as usize].sentinel, &self.services[to as usize].sentinel);
        let there = SocketAddr::new(self.address(to, from, v6), SENTINEL);
        let receive = |socket: &UdpSocket| {
            let mut text = [0; 4];
            socket.recv_from(&mut text).ok().filter(|_| text == mark).map(|(_, sender)| sender)
        };
        let mut tries = 0u32;
        wait_for("the sentinel", || {
            // A link that has just been made may lose it.
            if tries.is_multiple_of(20) {
                near.send_to(&mark, there).unwrap();
            }
            tries += 1;
            if let Some(sender) = receive(far) {
                far.send_to(&mark, sender).unwrap();
            }
            receive(near)
        });
    }

    /// What has become of a packet, once `settle` has waited for it.
    pub fn fate(&mut self, probe: &Probe) -> Fate {
        let services = &self.services[probe.packet.to as usize];
        for socket in &services.udp {
            let mut id = [0; 4];
            while socket.recv_from(&mut id).is_ok() {
                self.came.insert(u32::from_ne_bytes(id));
            }
        }
        let passes = match probe.packet.kind {
            _ if probe.refused => return Fate::Refused,
            Kind::Tcp => {
                let stream = TcpStream::from(probe.socket.try_clone().unwrap());
                match stream.take_error().unwrap() {
                    None => stream.peer_addr().is_ok(),
                    Some(e) if is_refusal(&e) => return Fate::Refused,
                    Some(e) => panic!("{:?}: {e}", probe.packet),
                }
            }
            Kind::Udp | Kind::Ping => match probe.datagrams().recv(&mut [0; 16]) {
                Ok(_) => true,
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.came.contains(&probe.id),
                Err(e) if is_refusal(&e) => return Fate::Refused,
                Err(e) => panic!("{:?}: {e}", probe.packet),
            },
        };
        for listener in &services.tcp {
            while listener.accept().is_ok() {}
        }
        if passes { Fate::Passes } else { Fate::Lost }
    }

    /// Sends a packet and waits for its fate.
    #[track_caller]
    pub fn judge(&mut self, packet: Packet) -> Fate {
        let probe = self.send(packet);
        self.settle(packet.from, packet.to, packet.v6);
        self.fate(&probe)
    }

    /// Sends packets, one after the other; how many of them pass.
    #[track_caller]
    pub fn passing(&mut self, count: usize, packet: Packet) -> usize {
        (0..count).filter(|_| self.judge(packet) == Fate::Passes).count()
    }

    /// Makes a flow of datagrams an established one: it is answered.
    #[track_caller]
    pub fn establish(&mut self, packet: Packet) {
        let probe = self.send(packet);
        self.settle(packet.from, packet.to, packet.v6);
        let port = PORTS.iter().position(|port| *port == packet.dport).unwrap();
        let socket = &self.services[packet.to as usize].udp[port];
        let (_, sender) = wait_for("the datagram", || socket.recv_from(&mut [0; 4]).ok());
        socket.send_to(b"answer", sender).unwrap();
        wait_for("the answer", || probe.datagrams().recv(&mut [0; 8]).ok());
    }
}

impl Drop for Probe {
    /// Ends a connection now: a program that another test is just starting may hold the socket for a moment,
    /// too.
    fn drop(&mut self) {
        if self.packet.kind == Kind::Tcp {
            ns::disconnect(&self.socket);
        }
    }
}

impl Probe {
    /// The socket of a datagram or an echo request.
    fn datagrams(&self) -> UdpSocket {
        self.socket.try_clone().unwrap().into()
    }
}

/// Every CPU has a queue of packets of its own.
fn stay_on_this_cpu() {
    let mut here = CpuSet::new();
    here.set(sched_getcpu().unwrap()).unwrap();
    sched_setaffinity(Pid::from_raw(0), &here).unwrap();
}

/// Sets something below /proc/sys/net, in the namespace of this thread.
pub fn sysctl(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{name}"), [value, "\n"].concat()).unwrap();
}

/// A packet to port 1000 of the host, IPv4.
#[must_use]
pub const fn packet(kind: Kind, from: Spot) -> Packet {
    Packet { kind, from, to: Spot::Host, v6: false, sport: 0, dport: 1000 }
}

impl Packet {
    /// The same in IPv6.
    #[must_use]
    pub const fn in_v6(self) -> Packet {
        Packet { v6: true, ..self }
    }

    #[must_use]
    pub const fn to(self, to: Spot) -> Packet {
        Packet { to, ..self }
    }

    #[must_use]
    pub const fn port(self, dport: u16) -> Packet {
        Packet { dport, ..self }
    }

    #[must_use]
    pub const fn with_sport(self, sport: u16) -> Packet {
        Packet { sport, ..self }
    }
}

/// Whether that is how a sender hears of a packet that was refused: by a reset, or one of the errors of ICMP
/// that programs choose.
fn is_refusal(e: &std::io::Error) -> bool {
    let known = [libc::ECONNREFUSED, libc::EHOSTUNREACH, libc::ENETUNREACH, libc::EACCES, libc::ENOPROTOOPT];
    e.raw_os_error().is_some_and(|errno| known.contains(&errno))
}

/// Packets of every kind and way, each once.
#[must_use]
pub fn every_packet() -> Vec<Packet> {
    let ways = [
        (Spot::Friend, Spot::Host),
        (Spot::Stranger, Spot::Host),
        (Spot::Host, Spot::Friend),
        (Spot::Host, Spot::Stranger),
        (Spot::Friend, Spot::Stranger),
        (Spot::Stranger, Spot::Friend),
        (Spot::Host, Spot::Host),
    ];
    let mut all = Vec::new();
    for (from, to) in ways {
        for v6 in [false, true] {
            for dport in PORTS {
                for kind in [Kind::Tcp, Kind::Udp] {
                    all.push(Packet { kind, from, to, v6, sport: 0, dport });
                }
            }
            all.push(Packet { kind: Kind::Ping, from, to, v6, sport: 0, dport: 0 });
        }
    }
    all
}

/// What becomes of packets, one after the other.
#[track_caller]
pub fn fates(world: &mut World, packets: &[Packet]) -> Vec<(Packet, Fate)> {
    packets.iter().map(|packet| (*packet, world.judge(*packet))).collect()
}
