#![forbid(unsafe_code)]
//! Messages of ip_set (linux/netfilter/ipset/ip_set.h), written and read as bytes. Knows no socket, and of
//! what it reads it believes nothing.

use crate::base::range::{Family, Range};
use crate::sys::nlattr::{self, MsgBuf, Open, REQUEST, attr, attrs, be32, be64, u32_at};
use std::net::IpAddr;

/// NFNL_SUBSYS_IPSET, in the high byte of the message type.
const SUBSYS: u16 = 6 << 8;
/// Spoken by every kernel from 2.6.39 on.
const PROTOCOL: u8 = 6;
/// Length of `struct nfgenmsg`.
const NFGEN: usize = 4;
/// NLA_F_NET_BYTEORDER: ip_set reads numbers only with it.
const NET: u16 = 1 << 14;
/// Longest comment of an element, in bytes.
pub const COMMENT_MAX: usize = 255;
/// Seconds that an element lives at most, but for those without an end.
pub const TIMEOUT_MAX: u32 = 2_147_483;

const IPSET_ATTR_PROTOCOL: u16 = 1;
const IPSET_ATTR_SETNAME: u16 = 2;
const IPSET_ATTR_TYPENAME: u16 = 3;
/// The same number, in a message about two sets.
const IPSET_ATTR_SETNAME2: u16 = 3;
const IPSET_ATTR_REVISION: u16 = 4;
const IPSET_ATTR_FAMILY: u16 = 5;
const IPSET_ATTR_FLAGS: u16 = 6;
const IPSET_ATTR_DATA: u16 = 7;
const IPSET_ATTR_ADT: u16 = 8;
const IPSET_ATTR_LINENO: u16 = 9;
/// Inside data.
const IPSET_ATTR_IP: u16 = 1;
const IPSET_ATTR_CIDR: u16 = 3;
const IPSET_ATTR_PORT: u16 = 4;
const IPSET_ATTR_TIMEOUT: u16 = 6;
const IPSET_ATTR_PROTO: u16 = 7;
const IPSET_ATTR_CADT_FLAGS: u16 = 8;
/// Inside the data of a set.
const IPSET_ATTR_HASHSIZE: u16 = 18;
const IPSET_ATTR_MAXELEM: u16 = 19;
const IPSET_ATTR_NETMASK: u16 = 20;
const IPSET_ATTR_SIZE: u16 = 23;
const IPSET_ATTR_ELEMENTS: u16 = 24;
const IPSET_ATTR_REFERENCES: u16 = 25;
/// Inside the data of an element.
const IPSET_ATTR_NAME: u16 = 18;
const IPSET_ATTR_PACKETS: u16 = 25;
const IPSET_ATTR_COMMENT: u16 = 26;
/// IPSET_FLAG_LIST_HEADER: no elements.
const LIST_HEADER: u32 = 1 << 2;
/// IPSET_FLAG_WITH_COUNTERS, IPSET_FLAG_WITH_COMMENT
const WITH_COUNTERS: u32 = 1 << 3;
const WITH_COMMENT: u32 = 1 << 4;

/// What a message does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Makes a set.
    Create = 2,
    /// Takes it away.
    Destroy = 3,
    /// Empties it.
    Flush = 4,
    /// Exchanges the names of two.
    Swap = 6,
    /// Shows what is there.
    List = 7,
    /// Adds elements.
    Add = 9,
    /// Deletes them.
    Del = 10,
    /// Asks for one.
    Test = 11,
}

/// What a set holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// `hash:ip`: addresses, or prefixes of one length.
    Hosts,
    /// `hash:net`: networks of any length but 0.
    Networks,
    /// `hash:net,port`: networks, or addresses, each with a protocol and a port.
    NetPorts,
    /// `list:set`: other sets.
    Sets,
}

impl Type {
    const ALL: [Type; 4] = [Type::Hosts, Type::Networks, Type::NetPorts, Type::Sets];

    /// Its name, and the first revision that has comments: every kernel from 3.14 on has that.
    const fn word(self) -> (&'static str, u8) {
        match self {
            Type::Hosts => ("hash:ip", 2),
            Type::Networks => ("hash:net", 4),
            Type::NetPorts => ("hash:net,port", 5),
            Type::Sets => ("list:set", 0),
        }
    }
}

/// A set that is to be made.
#[derive(Debug, Clone, Copy)]
pub struct SetSpec<'a> {
    /// Its name, at most 31 bytes.
    pub name: &'a str,
    /// What it holds.
    pub kind: Type,
    /// Of which family.
    pub family: Family,
    /// Elements at most.
    pub size: u32,
    /// Elements that it is made for, so that it need not grow; 0 = few.
    pub expected: u32,
    /// Length of the prefixes that addresses stand for; 0 = they stand for themselves.
    pub netmask: u8,
    /// Elements have ends and comments.
    pub timed: bool,
    /// They count packets.
    pub counters: bool,
}

/// An element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// An address, by that or, in sets of networks, a network: the last part is the length of its prefix.
    Net(IpAddr, u8),
    /// A network, and behind it the protocol and the port.
    NetPort(IpAddr, u8, (u8, u16)),
    /// A member of a set of sets.
    Set(&'a str),
}

/// An element that is to be added or deleted.
#[derive(Debug, Clone, Copy)]
pub struct Elem<'a> {
    /// Which one.
    pub key: Key<'a>,
    /// Seconds that it lives, 0 = for good; `None` where nothing has an end.
    pub timeout: Option<u32>,
    /// Or empty.
    pub comment: &'a str,
}

/// An element that is there.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// Which one; `None` for a member of a set of sets.
    pub range: Option<Range>,
    /// The port and the protocol, where it has them.
    pub port: (u16, u8),
    /// The name of a member of a set of sets.
    pub member: &'a str,
    /// Seconds that it has left; `None` if it has no end.
    pub left: Option<u32>,
    /// Its comment.
    pub comment: &'a str,
    /// Packets, where they are counted.
    pub packets: Option<u64>,
}

/// What is known of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it holds; `None` is nothing that we would make.
    pub kind: Option<Type>,
    /// Elements at most.
    pub size: u32,
    /// Length of the prefixes that addresses stand for, 0 = none.
    pub netmask: u8,
    /// Its elements count packets.
    pub counters: bool,
    /// Rules and sets that ask it.
    pub references: u32,
    /// Elements that it has; newer kernels tell.
    pub elements: Option<u32>,
}

/// `nlmsg_type` of a message.
fn message(command: Command) -> u16 {
    SUBSYS | command as u16
}

/// Begins a message about a set; an empty name is all.
fn begin(buf: &mut MsgBuf, command: Command, (flags, seq): (u16, u32), family: u8, set: &str) -> Open {
    let open = buf.start(message(command), REQUEST | flags, seq);
    buf.put(&[family, 0, 0, 0]);
    buf.attr(IPSET_ATTR_PROTOCOL, &[PROTOCOL]);
    if !set.is_empty() {
        buf.attr_str(IPSET_ATTR_SETNAME, set);
    }
    open
}

fn number(buf: &mut MsgBuf, kind: u16, value: u32) {
    buf.attr_be32(kind | NET, value);
}

/// `NFPROTO_*`
const fn nfproto(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// A message that makes a set.
pub fn create(buf: &mut MsgBuf, how: (u16, u32), spec: &SetSpec<'_>) {
    let (word, revision) = spec.kind.word();
    let lists = spec.kind == Type::Sets;
    let family = if lists { 0 } else { nfproto(spec.family) };
    let open = begin(buf, Command::Create, how, family, spec.name);
    buf.attr_str(IPSET_ATTR_TYPENAME, word);
    buf.attr(IPSET_ATTR_REVISION, &[revision]);
    buf.attr(IPSET_ATTR_FAMILY, &[family]);
    let data = buf.nest(IPSET_ATTR_DATA);
    number(buf, if lists { IPSET_ATTR_SIZE } else { IPSET_ATTR_MAXELEM }, spec.size);
    if spec.expected > 0 {
        // Four to a bucket: none of them is full, so the kernel makes no larger table.
        number(buf, IPSET_ATTR_HASHSIZE, (spec.expected / 4).clamp(64, 1 << 26).next_power_of_two());
    }
    if spec.netmask > 0 {
        buf.attr(IPSET_ATTR_NETMASK, &[spec.netmask]);
    }
    let counters = if spec.counters { WITH_COUNTERS } else { 0 };
    if spec.timed {
        number(buf, IPSET_ATTR_TIMEOUT, 0);
    }
    let comments = if spec.timed { WITH_COMMENT } else { 0 };
    if counters | comments != 0 {
        number(buf, IPSET_ATTR_CADT_FLAGS, counters | comments);
    }
    buf.end(data);
    buf.finish(open);
}

/// A message about one set, or, with a second name, two.
pub fn about(buf: &mut MsgBuf, command: Command, how: (u16, u32), set: &str, other: Option<&str>) {
    let open = begin(buf, command, how, 0, set);
    other.into_iter().for_each(|other| buf.attr_str(IPSET_ATTR_SETNAME2, other));
    buf.finish(open);
}

/// How much of a set an answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What it is.
    Header,
    /// Its elements, too.
    Elements,
}

/// A question for a set, all of them if the name is empty, with or without its elements.
pub fn list(buf: &mut MsgBuf, how: (u16, u32), set: &str, depth: Depth) {
    let open = begin(buf, Command::List, how, 0, set);
    if depth == Depth::Header {
        number(buf, IPSET_ATTR_FLAGS, LIST_HEADER);
    }
    buf.finish(open);
}

/// A question for one element.
pub fn test(buf: &mut MsgBuf, how: (u16, u32), set: &str, elem: &Elem<'_>) {
    let open = begin(buf, Command::Test, how, 0, set);
    let data = buf.nest(IPSET_ATTR_DATA);
    push_key(buf, &elem.key);
    buf.end(data);
    buf.finish(open);
}

/// A message with elements that is being written.
#[must_use = "an open message has no length yet"]
pub struct Elements(Open, Open);

impl Elements {
    /// Begins one: elements are added or deleted.
    pub fn open(buf: &mut MsgBuf, command: Command, how: (u16, u32), set: &str) -> Elements {
        let open = begin(buf, command, how, 0, set);
        buf.attr(IPSET_ATTR_LINENO, &0u32.to_ne_bytes());
        let all = buf.nest(IPSET_ATTR_ADT);
        Elements(open, all)
    }

    /// Adds an element; a refusal names its number.
    pub fn push(&self, buf: &mut MsgBuf, number_of: u32, elem: &Elem<'_>) {
        let data = buf.nest(IPSET_ATTR_DATA);
        push_key(buf, &elem.key);
        elem.timeout.into_iter().for_each(|secs| number(buf, IPSET_ATTR_TIMEOUT, secs.min(TIMEOUT_MAX)));
        if !elem.comment.is_empty() {
            buf.attr_str(IPSET_ATTR_COMMENT, elem.comment);
        }
        buf.attr(IPSET_ATTR_LINENO, &number_of.to_ne_bytes());
        buf.end(data);
    }

    /// Ends it.
    pub fn close(self, buf: &mut MsgBuf) {
        buf.end(self.1);
        buf.finish(self.0);
    }
}

fn push_key(buf: &mut MsgBuf, key: &Key<'_>) {
    match key {
        Key::Set(name) => buf.attr_str(IPSET_ATTR_NAME, name),
        Key::Net(addr, cidr) | Key::NetPort(addr, cidr, _) => {
            if let Key::NetPort(.., (protocol, port)) = key {
                buf.attr(IPSET_ATTR_PORT | NET, &port.to_be_bytes());
                buf.attr(IPSET_ATTR_PROTO, &[*protocol]);
            }
            let ip = buf.nest(IPSET_ATTR_IP);
            match addr {
                IpAddr::V4(a) => buf.attr(1 | NET, &a.octets()),
                IpAddr::V6(a) => buf.attr(2 | NET, &a.octets()),
            }
            buf.end(ip);
            // Sets of addresses read it only as a range, which those of IPv6 refuse.
            if *cidr > 0 {
                buf.attr(IPSET_ATTR_CIDR, &[*cidr]);
            }
        }
    }
}

/// The number of the element that an error is about.
#[must_use]
pub fn refused_line(payload: &[u8]) -> Option<u32> {
    // The error, the header of what was asked, and what that was.
    let body = payload.get(4 + nlattr::HDR + NFGEN..)?;
    attr(body, IPSET_ATTR_LINENO).and_then(|line| u32_at(line, 0)).filter(|line| *line > 0)
}

/// What the payload of a listing says of a set: the first message about each does.
#[must_use]
pub fn header(payload: &[u8]) -> Option<Header<'_>> {
    let body = payload.get(NFGEN..)?;
    let name = attr(body, IPSET_ATTR_SETNAME).and_then(nlattr::text)?;
    let data = attr(body, IPSET_ATTR_DATA)?;
    let word = attr(body, IPSET_ATTR_TYPENAME).and_then(nlattr::text).unwrap_or("");
    let kind = Type::ALL.into_iter().find(|kind| kind.word().0 == word);
    let size = if kind == Some(Type::Sets) { IPSET_ATTR_SIZE } else { IPSET_ATTR_MAXELEM };
    let value = |kind| attr(data, kind).and_then(be32);
    let netmask = attr(data, IPSET_ATTR_NETMASK).and_then(|mask| mask.first()).copied().unwrap_or(0);
    Some(Header {
        name,
        kind,
        size: value(size).unwrap_or(0),
        netmask,
        counters: value(IPSET_ATTR_CADT_FLAGS).unwrap_or(0) & WITH_COUNTERS != 0,
        references: value(IPSET_ATTR_REFERENCES).unwrap_or(0),
        elements: value(IPSET_ATTR_ELEMENTS),
    })
}

/// The elements in the payload of a listing.
pub fn elements(payload: &[u8]) -> impl Iterator<Item = Found<'_>> {
    let all = payload.get(NFGEN..).and_then(|body| attr(body, IPSET_ATTR_ADT)).unwrap_or_default();
    attrs(all).filter(|(kind, _)| *kind == IPSET_ATTR_DATA).filter_map(|(_, data)| found(data))
}

fn found(data: &[u8]) -> Option<Found<'_>> {
    let mut this = Found { range: None, port: (0, 0), member: "", left: None, comment: "", packets: None };
    let (mut addr, mut cidr) = (None, None);
    for (kind, value) in attrs(data) {
        match kind {
            IPSET_ATTR_IP => addr = attrs(value).next().and_then(|(_, bytes)| Range::from_key(bytes)),
            IPSET_ATTR_CIDR => cidr = value.first().copied(),
            IPSET_ATTR_PORT => this.port.0 = value.try_into().map_or(0, u16::from_be_bytes),
            IPSET_ATTR_PROTO => this.port.1 = value.first().copied().unwrap_or(0),
            // Without an end it is 0.
            IPSET_ATTR_TIMEOUT => this.left = be32(value).filter(|left| *left > 0),
            IPSET_ATTR_NAME => this.member = nlattr::text(value).unwrap_or(""),
            IPSET_ATTR_PACKETS => this.packets = be64(value),
            IPSET_ATTR_COMMENT => this.comment = nlattr::text(value).unwrap_or(""),
            _ => {}
        }
    }
    this.range = match (addr, cidr) {
        (Some(one), Some(length)) => Some(Range::from(ipnet::IpNet::new(one.first(), length).ok()?.trunc())),
        (one, _) => one,
    };
    (this.range.is_some() || !this.member.is_empty()).then_some(this)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::nlattr::messages;

    #[test]
    fn what_is_written_is_read_back() {
        let mut buf = MsgBuf::with_capacity(512);
        let net: IpAddr = "192.0.2.0".parse().unwrap();
        let elem = Elem { key: Key::Net(net, 24), timeout: Some(u32::MAX), comment: "sshd hits=5: why" };
        let elements_open = Elements::open(&mut buf, Command::Add, (0, 1), "mef_ban4");
        elements_open.push(&mut buf, 7, &elem);
        let member = Elem { key: Key::Set("mef_x"), timeout: None, comment: "" };
        elements_open.push(&mut buf, 8, &member);
        let port = Elem { key: Key::NetPort(net, 25, (6, 443)), timeout: None, comment: "" };
        elements_open.push(&mut buf, 9, &port);
        elements_open.close(&mut buf);
        let sent = messages(buf.bytes()).next().unwrap();
        let all: Vec<Found<'_>> = elements(sent.payload).collect();
        assert_eq!(all[0].range.unwrap().to_string(), "192.0.2.0/24");
        assert_eq!((all[0].left, all[0].comment), (Some(TIMEOUT_MAX), "sshd hits=5: why"));
        assert_eq!((all[1].range, all[1].member), (None, "mef_x"));
        assert_eq!((all[2].range.unwrap().to_string(), all[2].port), ("192.0.2.0/25".into(), (443, 6)));
        // An error repeats the message, with the number of the element.
        let mut error = (-4103i32).to_ne_bytes().to_vec();
        error.extend(buf.bytes());
        let at = error.len() - sent.payload.len() + 4 + 8 + 4 + "mef_ban4".len() + 4 + 4;
        error[at..at + 4].copy_from_slice(&8u32.to_ne_bytes());
        assert_eq!(refused_line(&error), Some(8));
    }

    #[test]
    fn damaged_bytes_end_the_reading() {
        let mut rng = fastrand::Rng::with_seed(9);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..rng.usize(0..96)).map(|_| rng.u8(0..28)).collect();
            let _ = (header(&bytes), elements(&bytes).count(), refused_line(&bytes));
        }
    }
}
