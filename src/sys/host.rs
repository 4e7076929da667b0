#![forbid(unsafe_code)]
//! Addresses that must not be banned by mistake: this host's own, what it needs to be reached and to reach
//! others, and where the person at the keyboard sits. Knows no ban.

use crate::base::net::{canonical, parse_addr};
use crate::base::range::Range;
use crate::sys::fs;
use crate::sys::netlink::{Lost, NlSocket};
use crate::sys::nlattr::{DUMP, DUMP_INTR, Msg, REQUEST, attr, attrs, u16_at};
use crate::sys::runner::{RESOLV_CONF, is_confined, is_second, open_resolv_conf};
use crate::sys::sweep::sweep;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use mnl::Bus;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

const OWN: &str = "this host's own address";
const SSH: &str = "the peer of your SSH session";
const GATEWAY: &str = "the default gateway";
const RESOLVER: &str = "a name server of this host";

/// Networks that never are somebody's address on the internet.
const RESERVED: &[(IpNet, &str)] = &[
    (v4([127, 0, 0, 0], 8), "loopback"),
    (v4([0, 0, 0, 0], 8), "not a host address"),
    (v4([224, 0, 0, 0], 4), "multicast"),
    (v4([255, 255, 255, 255], 32), "broadcast"),
    (v6(Ipv6Addr::LOCALHOST, 128), "loopback"),
    (v6(Ipv6Addr::UNSPECIFIED, 128), "not a host address"),
    (v6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8), "multicast"),
];

const LINK_LOCAL: (IpNet, &str) = (v6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10), "link-local");

const fn v4(octets: [u8; 4], len: u8) -> IpNet {
    let [a, b, c, d] = octets;
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), len))
}

const fn v6(addr: Ipv6Addr, len: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(addr, len))
}

/// The addresses that are protected on this host now.
#[derive(Default)]
pub struct Protected {
    addrs: Vec<(IpAddr, &'static str)>,
}

impl Protected {
    /// Asks the kernel, the environment and resolv.conf. What cannot be read is not protected: a host
    /// without /proc or a resolver is still to be defended.
    #[must_use]
    pub fn read() -> Protected {
        let mut this = Protected::default();
        let _ = dump(RTM_GETADDR, &mut |msg| this.own_address(msg));
        ssh_peers(&mut |addr| this.add(addr, SSH));
        let _ = dump(RTM_GETROUTE, &mut |msg| gateways(msg, &mut |addr| this.add(addr, GATEWAY)));
        resolvers(&resolv_conf(RESOLV_MAX), &mut |addr| this.add(addr, RESOLVER));
        this
    }

    /// The same as it is now. Whoever was at the keyboard stays protected, though this process may have left
    /// that session.
    #[must_use]
    pub fn again(&self) -> Protected {
        let mut this = Protected::read();
        self.addrs.iter().filter(|(_, why)| *why == SSH).for_each(|&(addr, why)| this.add(addr, why));
        this
    }

    /// Why `who` must not be banned: it is, or contains, a protected address. `None` if it may be.
    #[must_use]
    pub fn why(&self, range: &Range) -> Option<&'static str> {
        self.parts(range).next().map(|(_, why)| why)
    }

    /// What of a range must not be banned, each part with its reason.
    pub fn parts(&self, range: &Range) -> impl Iterator<Item = (Range, &'static str)> {
        let range = range.canonical();
        let addrs = self.addrs.iter().map(|&(addr, why)| (Range::from(addr), why));
        let nets = RESERVED.iter().map(|&(net, why)| (Range::from(net), why));
        addrs.chain(nets).filter_map(move |(part, why)| Some((part.common(&range)?, why)))
    }

    /// Whether a protected address is in the network.
    #[must_use]
    pub fn inside(&self, net: &Range) -> bool {
        self.addrs.iter().any(|&(addr, _)| net.covers(&Range::from(addr)))
    }

    /// Calls `each` with everything that no list of others may have dropped, and why: the same for everybody
    /// who asks (so without SSH sessions), and the link-local addresses by which IPv6 finds its neighbours.
    pub fn each(&self, each: &mut dyn FnMut(Range, &'static str)) {
        let addrs = self.addrs.iter().filter(|(_, why)| *why != SSH);
        addrs.for_each(|&(addr, why)| each(Range::from(addr), why));
        RESERVED.iter().chain([&LINK_LOCAL]).for_each(|&(net, why)| each(Range::from(net), why));
    }

    /// The same ranges and the peers of SSH sessions, sorted and merged.
    #[must_use]
    pub fn all(&self) -> Vec<Range> {
        let mut all: Vec<Range> = self.addrs.iter().map(|&(addr, _)| Range::from(addr)).collect();
        self.each(&mut |range, _| all.push(range));
        crate::base::range::merge(&mut all);
        all
    }

    fn add(&mut self, addr: IpAddr, why: &'static str) {
        let addr = canonical(addr);
        if !self.addrs.iter().any(|&(known, _)| known == addr) {
            self.addrs.push((addr, why));
        }
    }

    /// One answer to RTM_GETADDR: `struct ifaddrmsg`, attributes.
    fn own_address(&mut self, msg: Msg<'_>) {
        let Some(attributes) = msg.payload.get(IFADDRMSG..) else { return };
        // On point-to-point links IFA_ADDRESS is the other side.
        let local = attr(attributes, IFA_LOCAL).or_else(|| attr(attributes, IFA_ADDRESS));
        if let Some(addr) = local.and_then(address) {
            self.add(addr, OWN);
        }
    }
}

pub(super) const RTM_GETLINK: u16 = 18;
pub(super) const RTM_GETADDR: u16 = 22;
/// Bytes of `struct ifinfomsg`.
pub(super) const IFINFOMSG: usize = 16;
pub(super) const RTM_GETROUTE: u16 = 26;
pub(super) const IFADDRMSG: usize = 8;
pub(super) const IFA_ADDRESS: u16 = 1;
pub(super) const IFA_LOCAL: u16 = 2;
pub(super) const RTMSG: usize = 12;
pub(super) const RTA_GATEWAY: u16 = 5;
pub(super) const RTA_MULTIPATH: u16 = 9;
pub(super) const RTA_VIA: u16 = 18;
/// `struct rtnexthop`, before its attributes.
pub(super) const RTNEXTHOP: usize = 8;

/// Dumps from rtnetlink, again if the kernel says that it changed meanwhile.
pub(super) fn dump(kind: u16, each: &mut dyn FnMut(Msg<'_>)) -> Result<(), Lost> {
    let mut socket = NlSocket::open(Bus::Route)?;
    for _ in 0..3 {
        let mut torn = false;
        sweep(
            &mut socket,
            &mut |buf, seq| {
                let msg = buf.start(kind, REQUEST | DUMP, seq);
                // The longest header of what is asked for, but for interfaces; every field 0 means "all".
                let len = if kind == RTM_GETLINK { IFINFOMSG } else { RTMSG };
                buf.put([0; IFINFOMSG].get(..len).unwrap_or_default());
                buf.finish(msg);
            },
            &mut |msg, _, _| {
                torn |= msg.flags & DUMP_INTR != 0;
                each(msg);
                false
            },
        )?;
        if !torn {
            break;
        }
    }
    Ok(())
}

/// The gateways in one answer to RTM_GETROUTE, if it is a default route.
fn gateways(msg: Msg<'_>, each: &mut dyn FnMut(IpAddr)) {
    let Some((&[_, 0, ..], attributes)) = msg.payload.split_first_chunk::<RTMSG>() else { return };
    next_hop(attributes, each);
    let mut hops = attr(attributes, RTA_MULTIPATH).unwrap_or(&[]);
    while let Some(len) = u16_at(hops, 0).map(usize::from).filter(|&len| len >= RTNEXTHOP) {
        next_hop(hops.get(RTNEXTHOP..len).unwrap_or(&[]), each);
        hops = hops.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    }
}

fn next_hop(attributes: &[u8], each: &mut dyn FnMut(IpAddr)) {
    for (kind, data) in attrs(attributes) {
        let data = match kind {
            RTA_GATEWAY => data,
            // IPv4 by an IPv6 gateway: the family, then the address.
            RTA_VIA => data.get(2..).unwrap_or(&[]),
            _ => continue,
        };
        address(data).into_iter().for_each(&mut *each);
    }
}

pub(super) fn address(data: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(data).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(data).ok().map(IpAddr::from))
}

const RESOLV_MAX: u64 = 16 * 1024;

fn resolvers(text: &[u8], each: &mut dyn FnMut(IpAddr)) {
    for line in text.split(|&b| b == b'\n') {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
        if words.next() == Some(b"nameserver") {
            words.next().and_then(parse_addr).into_iter().for_each(&mut *each);
        }
    }
}

/// The number of this boot, 128 bits; zeros if the system does not tell.
#[must_use]
pub fn boot_id() -> [u64; 2] {
    let text = fs::content(Path::new("/proc/sys/kernel/random/boot_id")).unwrap_or_default();
    let digits = text.iter().filter_map(|&b| char::from(b).to_digit(16));
    let id = digits.fold(0u128, |id, digit| id << 4 | u128::from(digit));
    let half = |id: u128| u64::try_from(id & u128::from(u64::MAX)).unwrap_or(0);
    [half(id >> 64), half(id)]
}

/// Whether a DHCP client waits for answers, over IPv4 and IPv6.
#[must_use]
pub fn dhcp_clients() -> [bool; 2] {
    // Local port 68 and 546, in the second column: ADDRESS:PORT, all hexadecimal.
    [("/proc/net/udp", b":0044"), ("/proc/net/udp6", b":0222")].map(|(path, port)| {
        let table = read_up_to(Path::new(path), 256 * 1024);
        let local = |line: &[u8]| {
            line.split(|&b| b == b' ').filter(|w| !w.is_empty()).nth(1).is_some_and(|w| w.ends_with(port))
        };
        table.split(|&b| b == b'\n').any(local)
    })
}

/// Whether this host forwards packets of others, IPv4 and IPv6.
#[must_use]
pub fn forwards() -> [bool; 2] {
    ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"]
        .map(|path| read_up_to(Path::new(path), 16).first() == Some(&b'1'))
}

/// The ports on which sockets wait: TCP that listens, UDP that is connected to nobody.
#[must_use]
pub fn open_ports() -> Vec<u16> {
    let mut ports = Vec::new();
    for (path, state) in [("tcp", b"0A"), ("tcp6", b"0A"), ("udp", b"07"), ("udp6", b"07")] {
        let table = read_up_to(Path::new(&["/proc/thread-self/net/", path].concat()), 256 * 1024);
        for line in table.split(|&b| b == b'\n') {
            // Local and remote address, then the state, all hexadecimal.
            let mut words = line.split(|&b| b == b' ').filter(|w| !w.is_empty()).skip(1);
            let (Some(local), _, Some(word)) = (words.next(), words.next(), words.next()) else { continue };
            let port =
                local.rsplit(|&b| b == b':').next().and_then(|digits| std::str::from_utf8(digits).ok());
            let port = port.and_then(|digits| u16::from_str_radix(digits, 16).ok());
            ports.extend(port.filter(|port| word == state && !ports.contains(port)));
        }
    }
    ports
}

/// How many parents are asked; a login shell is rarely more than ten away.
const ANCESTORS: usize = 32;
/// The kernel allows environments of megabytes; sshd's own variables come early.
const ENVIRON_MAX: u64 = 64 * 1024;

/// From where the person who runs this command has logged in by SSH.
///
/// `sudo` and `su` clear the variable that tells, so the environments of the parent processes
/// are asked as well, as far as they may be read.
#[must_use]
pub fn ssh_peer() -> Option<IpAddr> {
    let mut found = None;
    ssh_peers(&mut |addr| found = found.or(Some(addr)));
    found
}

/// The ends of a connection, the peer's and ours.
pub type SessionEnds = ((IpAddr, u16), (Option<IpAddr>, u16));

/// That session: its peer and the port there, and the address and port of this host; the address may not be
/// known.
#[must_use]
pub fn ssh_session() -> Option<SessionEnds> {
    let mut found = None;
    ssh_values(&mut |value| {
        found = session(value);
        found.is_some()
    });
    found
}

fn session(value: &[u8]) -> Option<SessionEnds> {
    let mut words = value.split(|&b| b == b' ');
    let peer = parse_addr(words.next()?)?;
    let rest: Vec<&[u8]> = words.collect();
    let port = |word: &[u8]| std::str::from_utf8(word).ok()?.parse().ok();
    match rest.as_slice() {
        [from, here, to, ..] => Some(((peer, port(from)?), (parse_addr(here), port(to)?))),
        [from, to] => Some(((peer, port(from)?), (None, port(to)?))),
        _ => None,
    }
}

fn ssh_peers(each: &mut dyn FnMut(IpAddr)) {
    ssh_values(&mut |value| {
        first_word(value).into_iter().for_each(&mut *each);
        false
    });
}

/// Calls `each` with all values of the variables of a session, until it is `true` that they are enough.
fn ssh_values(each: &mut dyn FnMut(&[u8]) -> bool) {
    for name in ["SSH_CONNECTION", "SSH_CLIENT"] {
        if std::env::var_os(name).is_some_and(|value| each(value.as_bytes())) {
            return;
        }
    }
    ancestors(Path::new("/proc"), nix::unistd::getppid().as_raw().cast_unsigned(), each);
}

fn ancestors(proc: &Path, mut pid: u32, each: &mut dyn FnMut(&[u8]) -> bool) {
    for _ in 0..ANCESTORS {
        if pid < 2 {
            return;
        }
        let dir = proc.join(pid.to_string());
        if in_environment(&read_up_to(&dir.join("environ"), ENVIRON_MAX), each) {
            return;
        }
        let Some(parent) = parent(&read_up_to(&dir.join("stat"), 4096)) else { return };
        pid = parent;
    }
}

/// The parent in /proc/PID/stat. The name in it may hold anything, even `) S 1`.
fn parent(stat: &[u8]) -> Option<u32> {
    let after = stat.get(memchr::memrchr(b')', stat)? + 1..)?;
    let field = after.split(|&b| b == b' ').filter(|f| !f.is_empty()).nth(1)?;
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// `SSH_CONNECTION=peer port own port` and the older `SSH_CLIENT=peer port port`, between NULs.
fn in_environment(environ: &[u8], each: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    let mut rest = environ;
    while !rest.is_empty() {
        let end = memchr::memchr(0, rest).unwrap_or(rest.len());
        let (variable, behind) = rest.split_at(end);
        let value =
            variable.strip_prefix(b"SSH_CONNECTION=").or_else(|| variable.strip_prefix(b"SSH_CLIENT="));
        if value.is_some_and(&mut *each) {
            return true;
        }
        rest = behind.get(1..).unwrap_or_default();
    }
    false
}

fn first_word(value: &[u8]) -> Option<IpAddr> {
    parse_addr(value.split(|&b| b == b' ').next()?)
}

/// What resolv.conf says. A confined daemon cannot read another file that took its place: the process that
/// gave up nothing opens it. Where there is none the last one that could be read is in force until a restart.
#[must_use]
pub fn resolv_conf(max: u64) -> Vec<u8> {
    static LAST: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    static TOLD: AtomicBool = AtomicBool::new(false);
    let is_denied = |e: &std::io::Error| e.kind() == std::io::ErrorKind::PermissionDenied && is_confined();
    let opened = match fs::open(Path::new(RESOLV_CONF)) {
        Err(e) if is_denied(&e) => open_resolv_conf().ok_or(e),
        opened => opened,
    };
    let found = opened.and_then(|file| fs::read(file, max));
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    match found {
        Err(e) if is_denied(&e) => {
            if !is_second() && !TOLD.swap(true, Ordering::Relaxed) {
                log::warn!(
                    "{RESOLV_CONF} is another file, which can be read only after a restart (confine=full): \
                     the former name servers stay"
                );
            }
        }
        found => *last = found.unwrap_or_default(),
    }
    last.clone()
}

/// As much of the file as can be read, at most `max` bytes.
fn read_up_to(path: &Path, max: u64) -> Vec<u8> {
    fs::open(path).and_then(|file| fs::read(file, max)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
