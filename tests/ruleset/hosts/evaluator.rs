//! A plain evaluator of rule files: words are split at blanks and compared with packets one after the other.

use crate::common::town::{Load, Shot};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Passes,
    Stopped,
    /// A limit decides.
    Limited,
}

/// A packet at a hook.
#[derive(Debug)]
pub struct Seen<'s> {
    pub dir: &'static str,
    /// Empty where it has none.
    pub iif: &'static str,
    pub oif: &'static str,
    /// The interface of the default route.
    pub uplink: &'static str,
    pub shot: &'s Shot,
}

type Words = BTreeMap<String, String>;

/// A rule file.
pub struct Evaluator {
    policies: BTreeMap<String, String>,
    sets: BTreeMap<String, String>,
    rules: Vec<Words>,
}

impl Evaluator {
    pub fn new(text: &str) -> Evaluator {
        let mut this = Evaluator { policies: BTreeMap::new(), sets: BTreeMap::new(), rules: Vec::new() };
        for line in text.lines() {
            // What stands in quotes says nothing of packets.
            let plain: String = line.split('"').step_by(2).collect();
            let plain = plain.split('#').next().unwrap_or("");
            let mut words = plain.split_whitespace();
            let word = words.next().unwrap_or("");
            let pairs: Words = words
                .filter_map(|pair| pair.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect();
            match word {
                "policy" => drop(this.policies.insert(pairs["dir"].clone(), pairs["action"].clone())),
                "set" => drop(this.sets.insert(pairs["name"].clone(), pairs["elements"].clone())),
                "rule" => this.rules.push(pairs),
                _ => assert!(word.is_empty(), "{line}"),
            }
        }
        this
    }

    pub fn verdict(&self, seen: &Seen<'_>) -> Verdict {
        let of = |action: &str| if action == "accept" { Verdict::Passes } else { Verdict::Stopped };
        if let Some(rule) = self.rules.iter().find(|rule| self.matches(rule, seen)) {
            return if rule.contains_key("limit") { Verdict::Limited } else { of(&rule["action"]) };
        }
        self.policies.get(seen.dir).map_or(Verdict::Passes, |action| of(action))
    }

    fn matches(&self, rule: &Words, seen: &Seen<'_>) -> bool {
        let Seen { dir, iif, oif, uplink, shot } = seen;
        let v6 = shot.src.is_ipv6();
        let (proto, ports, state) = match shot.load {
            // Conntrack takes up a connection in its middle, but not by its second packet.
            Load::Tcp(port) | Load::TcpMiddle(port) => (6, Some(port), "new"),
            Load::TcpAnswer(port) => (6, Some(port), "invalid"),
            Load::Udp(port) => (17, Some(port), "new"),
            Load::Icmp(kind) => {
                let state = match (v6, kind) {
                    (false, 8 | 13) | (true, 128) => "new",
                    (true, 130..=137 | 143) => "untracked",
                    _ => "invalid",
                };
                (if v6 { 58 } else { 1 }, None, state)
            }
            // Conntrack begins with SYN, or with ACK in the middle; all else is not of a connection it knows.
            Load::Flags(port, flags) => {
                (6, Some(port), if matches!(flags & 0x17, 0x02 | 0x10) { "new" } else { "invalid" })
            }
            // What is behind a routing header.
            Load::Raw(43) if v6 => (89, None, "new"),
            Load::Raw(number) => (number, None, "new"),
        };
        let word = |key: &str| rule.get(key).map_or("any", String::as_str);
        let family = match word("proto") {
            "icmp" => "ip",
            "icmp6" => "ip6",
            _ => word("family"),
        };
        word("dir") == *dir
            && (family == "any" || (family == "ip6") == v6)
            && protocol(word("proto"), proto)
            && tcp_flags(word("flags"), shot.load)
            && self.addresses(word("src"), shot.src)
            && self.addresses(word("dst"), shot.dst)
            // Nobody sends from a port that rules name.
            && word("sport") == "any"
            && self.ports(word("dport"), ports)
            && (*dir == "out" || interface(word("iif"), iif, uplink))
            && (*dir == "in" || interface(word("oif"), oif, uplink))
            && (word("ct") == "any" || states(word("ct"), state))
            && (word("exthdr") == "any" || v6 && header(word("exthdr"), shot.load))
    }

    fn addresses(&self, list: &str, addr: IpAddr) -> bool {
        let number = |addr: IpAddr| match addr {
            IpAddr::V4(v4) => u128::from(u32::from(v4)),
            IpAddr::V6(v6) => u128::from(v6),
        };
        let is = |item: &str| {
            if let Some(name) = item.strip_prefix('@') {
                return self.addresses(&self.sets[name], addr);
            }
            if let Some((net, len)) = item.split_once('/') {
                let (net, len): (IpAddr, u32) = (net.parse().unwrap(), len.parse().unwrap());
                let bits = if net.is_ipv4() { 32 - len } else { 128 - len };
                let cut = |addr| number(addr).checked_shr(bits).unwrap_or(0);
                return net.is_ipv4() == addr.is_ipv4() && cut(net) == cut(addr);
            }
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            let (first, last): (IpAddr, IpAddr) = (first.parse().unwrap(), last.parse().unwrap());
            first.is_ipv4() == addr.is_ipv4() && (number(first)..=number(last)).contains(&number(addr))
        };
        list == "any" || list.split(',').any(is)
    }

    fn ports(&self, list: &str, port: Option<u16>) -> bool {
        let is = |item: &str| {
            if let Some(name) = item.strip_prefix('@') {
                return self.ports(&self.sets[name], port);
            }
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            let (first, last): (u16, u16) = (first.parse().unwrap(), last.parse().unwrap());
            port.is_some_and(|port| (first..=last).contains(&port))
        };
        list == "any" || list.split(',').any(is)
    }
}

/// A list of states.
fn states(list: &str, state: &str) -> bool {
    let (not, list) = list.strip_prefix('!').map_or((false, list), |list| (true, list));
    list.split(',').any(|one| one == state) != not
}

/// A header before the protocol.
fn header(word: &str, load: Load) -> bool {
    let (not, word) = word.strip_prefix('!').map_or((false, word), |word| (true, word));
    let is = matches!(load, Load::Raw(43)) && matches!(word, "rt" | "rt0");
    is != not
}

/// A list of names and numbers of protocols.
fn protocol(list: &str, proto: u8) -> bool {
    let (not, list) = list.strip_prefix('!').map_or((false, list), |list| (true, list));
    let is = |item: &str| match item {
        "all" => true,
        "icmp" => proto == 1,
        "igmp" => proto == 2,
        "tcp" => proto == 6,
        "udp" => proto == 17,
        "gre" => proto == 47,
        "esp" => proto == 50,
        "ah" => proto == 51,
        "icmp6" => proto == 58,
        "vrrp" => proto == 112,
        number => number.parse() == Ok(proto),
    };
    list.split(',').any(is) != not
}

/// Flags that are set among those that are looked at.
fn tcp_flags(list: &str, load: Load) -> bool {
    let of = |list: &str| {
        let known = ["fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr"];
        let bit = |word: &str| known.iter().position(|known| *known == word).map_or(0, |bit| 1u8 << bit);
        list.split(',').fold(0, |all, word| all | bit(word))
    };
    let flags = match load {
        _ if list == "any" => return true,
        Load::Tcp(_) => 0x02,
        Load::TcpAnswer(_) => 0x12,
        Load::TcpMiddle(_) => 0x10,
        Load::Flags(_, flags) => flags,
        _ => return false,
    };
    let (not, list) = list.strip_prefix('!').map_or((false, list), |list| (true, list));
    let (value, mask) = list.split_once('/').unwrap_or((list, list));
    (flags & of(mask) == of(value)) != not
}

/// No packet here is one of loopback.
fn interface(list: &str, link: &str, uplink: &str) -> bool {
    let (not, names) = list.strip_prefix('!').map_or((false, list), |names| (true, names));
    let is = |name: &str| match name.strip_suffix('*') {
        Some(stem) => link.starts_with(stem),
        None => match name {
            "any" => true,
            "auto" => link == uplink,
            _ => link == name,
        },
    };
    names.split(',').any(is) != not
}
