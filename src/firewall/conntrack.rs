#![forbid(unsafe_code)]
//! Ends the connections of banned addresses: their conntrack entries (so that forwarded and offloaded
//! flows lose their way) and the host's own TCP sockets (`sockdiag`). Knows no ban set.
//!
//! An entry is only ever deleted by its full tuple and id. A deletion by filter would be one message,
//! but it must not be used: a kernel that overlooks the filter empties the whole table, and kernels up to
//! 6.18 at least compare IPv6 addresses the wrong way round. As a help for dumps of IPv4 the
//! filter is harmless, because every entry is compared again here.

use crate::ban::Scope;
use crate::base::range::{Family, Range};
use crate::firewall::sockdiag;
use crate::firewall::targets::{Flow, Targets};
use crate::sys::fs;
use crate::sys::netlink::{Lost, NlSocket};
use crate::sys::nlattr::{DUMP, Msg, MsgBuf, REQUEST, attr};
use crate::sys::sweep::{Swept, sweep};
use ipnet::IpNet;
use mnl::Bus;
use nix::errno::Errno;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// NFNL_SUBSYS_CTNETLINK, in the high byte of the message type.
const SUBSYS: u16 = 1 << 8;
const IPCTNL_MSG_CT_GET: u16 = SUBSYS | 1;
const IPCTNL_MSG_CT_DELETE: u16 = SUBSYS | 2;
/// Length of `struct nfgenmsg`, which begins with the address family.
const NFGEN: usize = 4;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
/// Inside a tuple.
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
/// Inside CTA_FILTER, of the tuple with the same number.
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_F_CTA_IP_SRC: u32 = 1;

/// To show an entry costs the kernel as much as to walk over this many buckets of its table (measured).
const BUCKETS_AN_ENTRY: u32 = 32;
/// How many entries the kernel tracks in this network namespace, and how many buckets it has for all.
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
const BUCKETS: &str = "/proc/sys/net/netfilter/nf_conntrack_buckets";

/// What is done, for people.
const CONNTRACK: &str = "delete conntrack entries";
const SOCKETS: &str = "close TCP sockets";

/// What died with a ban.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Killed {
    /// Conntrack entries that were deleted.
    pub entries: u32,
    /// TCP sockets of this host that were closed.
    pub sockets: u32,
}

/// Why connections could not be ended. The ban itself is not touched by this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KillError {
    /// What was being done, for people.
    pub doing: &'static str,
    /// What the kernel said.
    pub errno: Errno,
}

impl fmt::Display for KillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lacks = match (self.doing, self.errno) {
            // nfnetlink answers EINVAL to a subsystem that it does not have.
            (CONNTRACK, Errno::EINVAL | Errno::EPROTONOSUPPORT | Errno::EOPNOTSUPP) => "nf_conntrack_netlink",
            (SOCKETS, Errno::EOPNOTSUPP) => {
                "inet_diag and tcp_diag, or what closes sockets (INET_DIAG_DESTROY)"
            }
            _ => return write!(f, "cannot {}: {}", self.doing, crate::sys::netlink::strerror(self.errno)),
        };
        write!(
            f,
            "cannot {}: this kernel lacks {lacks}; connections of banned addresses last until they time out",
            self.doing
        )
    }
}

/// Ends every connection that a ban of `targets` with this scope is about, in either direction.
///
/// Sorted targets that do not overlap are used as they are; others are copied.
///
/// # Errors
/// The first thing that failed; what could be done besides has been done.
pub fn kill(targets: &[Range], scope: &Scope) -> Result<Killed, KillError> {
    let mut killed = Killed::default();
    if targets.is_empty() {
        return Ok(killed);
    }
    let targets = Targets::new(targets, scope);
    let entries = forget(&targets);
    // Sockets last: what they send when they die makes no new entry worth keeping.
    let sockets = sockdiag::destroy(&targets);
    let entries = entries.map_err(|errno| KillError { doing: CONNTRACK, errno })?;
    killed.entries = entries;
    match sockets.map_err(|errno| KillError { doing: SOCKETS, errno })? {
        Some(n) => killed.sockets = n,
        None => return Err(KillError { doing: SOCKETS, errno: Errno::EOPNOTSUPP }),
    }
    Ok(killed)
}

/// Whether connections of who is banned can be ended: the modules for it, whether the kernel has them, what
/// for, and what has them on OpenWrt.
#[must_use]
pub fn abilities() -> [(&'static str, bool, &'static str, &'static str); 2] {
    let scope = Scope::ALL;
    let nobody = Targets::new(&[], &scope);
    let tracked = NlSocket::open(Bus::Netfilter).and_then(|mut socket| {
        let ask = &mut |buf: &mut MsgBuf, seq: u32| ask(buf, seq, CTA_TUPLE_ORIG, None, &nobody);
        sweep(&mut socket, ask, &mut |_, _, _| false)
    });
    let closes = sockdiag::destroy(&nobody).is_ok_and(|closed| closed.is_some());
    [
        (
            "nf_conntrack_netlink",
            tracked.is_ok(),
            "tracked connections end with a ban",
            "kmod-nf-conntrack-netlink",
        ),
        ("inet_diag, tcp_diag", closes, "connections to this host end with a ban", "kmod-inet-diag"),
    ]
}

/// Deletes the conntrack entries of the targets.
fn forget(targets: &Targets<'_>) -> Result<u32, Errno> {
    // Asking by netlink would load the kernel's modules for it, so look first.
    let count = match number(COUNT) {
        // Without connection tracking there is nothing to delete.
        None if Path::new("/proc/sys/net").exists() => return Ok(0),
        count => count.unwrap_or(u32::MAX),
    };
    if count == 0 {
        return Ok(0);
    }
    let run = |tuple: u16, only: Option<Ipv4Addr>, socket: &mut NlSocket| {
        sweep(socket, &mut |buf, seq| ask(buf, seq, tuple, only, targets), &mut |msg, buf, seq| {
            pick(msg, buf, seq, targets)
        })
    };
    let mut socket = match NlSocket::open(Bus::Netfilter) {
        Ok(socket) => socket,
        Err(lost) => return Err(errno_of(lost)),
    };
    // Two filtered dumps, one for each direction, cost a second walk and save the showing.
    let crowded = || count > number(BUCKETS).unwrap_or(0) / BUCKETS_AN_ENTRY;
    let result = if let Some(IpNet::V4(net)) = targets.only().filter(|n| n.prefix_len() == 32 && crowded()) {
        run(CTA_TUPLE_ORIG, Some(net.addr()), &mut socket).and_then(|first| {
            let second = run(CTA_TUPLE_REPLY, Some(net.addr()), &mut socket)?;
            Ok(Swept { deleted: first.deleted + second.deleted, refused: first.refused.or(second.refused) })
        })
    } else {
        run(CTA_TUPLE_ORIG, None, &mut socket)
    };
    match result {
        Ok(Swept { refused: Some(errno), .. }) => Err(errno),
        Ok(swept) => Ok(swept.deleted),
        Err(lost) => Err(errno_of(lost)),
    }
}

/// The number in a file of the kernel.
fn number(path: &str) -> Option<u32> {
    std::str::from_utf8(&fs::content(Path::new(path)).ok()?).ok()?.trim().parse().ok()
}

fn errno_of(lost: Lost) -> Errno {
    match lost {
        Lost::Sys(_, errno) => errno,
        Lost::Overrun => Errno::ENOBUFS,
    }
}

/// The request for a dump: of one family if the targets are of one, of entries whose source in the tuple
/// is `only` if the kernel knows filters.
fn ask(buf: &mut MsgBuf, seq: u32, tuple: u16, only: Option<Ipv4Addr>, targets: &Targets<'_>) {
    let family = match (targets.any(Family::V4), targets.any(Family::V6)) {
        (true, false) => libc::AF_INET,
        (false, true) => libc::AF_INET6,
        _ => libc::AF_UNSPEC,
    };
    let msg = buf.start(IPCTNL_MSG_CT_GET, REQUEST | DUMP, seq);
    buf.put(&[u8::try_from(family).unwrap_or(0), 0, 0, 0]);
    if let Some(addr) = only {
        let outer = buf.nest(tuple);
        let inner = buf.nest(CTA_TUPLE_IP);
        buf.attr(CTA_IP_V4_SRC, &addr.octets());
        buf.end(inner);
        buf.end(outer);
        let filter = buf.nest(CTA_FILTER);
        let flags = CTA_FILTER_ORIG_FLAGS + (tuple - CTA_TUPLE_ORIG);
        buf.attr(flags, &CTA_FILTER_F_CTA_IP_SRC.to_ne_bytes());
        buf.end(filter);
    }
    buf.finish(msg);
}

/// Writes the deletion of an entry if its sender, or whoever answers, is banned.
fn pick(msg: Msg<'_>, buf: &mut MsgBuf, seq: u32, targets: &Targets<'_>) -> bool {
    let Some((header, attrs)) = msg.payload.split_at_checked(NFGEN) else { return false };
    let (Some(orig), Some(reply)) = (attr(attrs, CTA_TUPLE_ORIG), attr(attrs, CTA_TUPLE_REPLY)) else {
        return false;
    };
    // The tuple and the id together make sure that nothing else is deleted: never one without the other.
    let Some(id) = attr(attrs, CTA_ID).filter(|_| covered(orig, targets) || covered(reply, targets)) else {
        return false;
    };
    let message = buf.start(IPCTNL_MSG_CT_DELETE, REQUEST, seq);
    buf.put(&[header.first().copied().unwrap_or(0), 0, 0, 0]);
    let tuple = buf.nest(CTA_TUPLE_ORIG);
    buf.put(orig);
    buf.end(tuple);
    buf.attr(CTA_ID, id);
    if let Some(zone) = attr(attrs, CTA_ZONE) {
        buf.attr(CTA_ZONE, zone);
    }
    buf.finish(message);
    true
}

/// Whether packets in the direction of the tuple come from a target, to a banned port.
fn covered(tuple: &[u8], targets: &Targets<'_>) -> bool {
    let source = attr(tuple, CTA_TUPLE_IP).and_then(|ip| {
        let v4 = attr(ip, CTA_IP_V4_SRC).and_then(|a| <[u8; 4]>::try_from(a).ok());
        let v6 = attr(ip, CTA_IP_V6_SRC).and_then(|a| <[u8; 16]>::try_from(a).ok());
        v4.map(|a| IpAddr::V4(Ipv4Addr::from(a))).or(v6.map(|a| IpAddr::V6(Ipv6Addr::from(a))))
    });
    let proto = attr(tuple, CTA_TUPLE_PROTO).unwrap_or(&[]);
    let protocol = attr(proto, CTA_PROTO_NUM).and_then(|n| n.first().copied()).unwrap_or(0);
    let port = attr(proto, CTA_PROTO_DST_PORT).and_then(|p| p.try_into().ok()).map(u16::from_be_bytes);
    source.is_some_and(|peer| targets.cover(&Flow { peer, protocol, port }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ban::Transports;
    use crate::sys::nlattr::messages;

    fn tuple(buf: &mut MsgBuf, kind: u16, src: &str, port: u16) {
        let outer = buf.nest(kind);
        let ip = buf.nest(CTA_TUPLE_IP);
        match src.parse().unwrap() {
            IpAddr::V4(a) => buf.attr(CTA_IP_V4_SRC, &a.octets()),
            IpAddr::V6(a) => buf.attr(CTA_IP_V6_SRC, &a.octets()),
        }
        buf.end(ip);
        let proto = buf.nest(CTA_TUPLE_PROTO);
        buf.attr(CTA_PROTO_NUM, &[6]);
        buf.attr(CTA_PROTO_DST_PORT, &port.to_be_bytes());
        buf.end(proto);
        buf.end(outer);
    }

    fn entry(orig: Option<(&str, u16)>, reply: Option<(&str, u16)>, id: bool) -> MsgBuf {
        let mut buf = MsgBuf::default();
        let m = buf.start(SUBSYS, 0, 1);
        buf.put(&[2, 0, 0, 0]);
        orig.inspect(|(a, p)| tuple(&mut buf, CTA_TUPLE_ORIG, a, *p));
        reply.inspect(|(a, p)| tuple(&mut buf, CTA_TUPLE_REPLY, a, *p));
        if id {
            buf.attr(CTA_ID, &[1, 2, 3, 4]);
        }
        buf.attr(CTA_ZONE, &[0, 9]);
        buf.finish(m);
        buf
    }

    #[test]
    fn an_entry_is_deleted_by_tuple_and_id_or_not_at_all() {
        let (peer, own) = ("192.0.2.1", "198.51.100.1");
        let cases = [
            ("sender", entry(Some((peer, 22)), Some((own, 40000)), true), true),
            ("whom we called", entry(Some((own, 25)), Some((peer, 22)), true), true),
            ("other", entry(Some((own, 22)), Some((own, 22)), true), false),
            ("other port", entry(Some((peer, 80)), Some((own, 40000)), true), false),
            ("no original tuple", entry(None, Some((peer, 22)), true), false),
            ("no id", entry(Some((peer, 22)), Some((own, 40000)), false), false),
        ];
        let nets = [Range::from("192.0.2.0/24".parse::<IpNet>().unwrap())];
        let scope = Scope::new(vec![(22, 22)], Transports::Tcp);
        let targets = Targets::new(&nets, &scope);
        for (name, given, want) in cases {
            let mut out = MsgBuf::default();
            let msg = messages(given.bytes()).next().unwrap();
            assert_eq!(pick(msg, &mut out, 5, &targets), want, "{name}");
            let Some(del) = messages(out.bytes()).next() else {
                assert!(!want, "{name}");
                continue;
            };
            assert_eq!(
                (del.kind, del.seq, del.payload.first()),
                (IPCTNL_MSG_CT_DELETE, 5, Some(&2)),
                "{name}"
            );
            for kind in [CTA_TUPLE_ORIG, CTA_ID, CTA_ZONE] {
                assert_eq!(attr(&del.payload[4..], kind), attr(&msg.payload[4..], kind), "{name} {kind}");
            }
            assert!(attr(&del.payload[4..], CTA_TUPLE_ORIG).is_some(), "{name}: would empty the table");
        }
    }

    #[test]
    fn damaged_entries_are_left_alone() {
        let whole = entry(Some(("192.0.2.1", 22)), Some(("198.51.100.1", 40000)), true);
        let nets = [Range::from("192.0.2.1".parse::<IpAddr>().unwrap())];
        let all = Scope::ALL;
        let targets = Targets::new(&nets, &all);
        let seed = 9;
        let mut rng = fastrand::Rng::with_seed(seed);
        for round in 0..20_000 {
            let mut bytes = whole.bytes().to_vec();
            let at = rng.usize(16..bytes.len());
            bytes[at] = rng.u8(..);
            let mut out = MsgBuf::default();
            if messages(&bytes).next().is_some_and(|msg| pick(msg, &mut out, 1, &targets)) {
                let del = messages(out.bytes()).next().unwrap();
                let safe = [CTA_TUPLE_ORIG, CTA_ID].iter().all(|k| attr(&del.payload[4..], *k).is_some());
                assert!(safe, "seed {seed} round {round}");
            }
        }
    }
}
