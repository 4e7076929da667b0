//! A plain evaluator of rule files: words are split at blanks and compared with packets one after the other.

use crate::common::town::{Load, Shot, Town};
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
    /// `pre` before it is known where it goes.
    pub dir: &'static str,
    /// Empty where it has none.
    pub iif: &'static str,
    pub oif: &'static str,
    /// The interface of the default route, and the one by which its source is reached.
    pub uplink: &'static str,
    pub back: &'static str,
    /// Whether its destination was translated.
    pub translated: bool,
    pub shot: &'s Shot,
}

type Words = BTreeMap<String, String>;

/// A rule file.
pub struct Evaluator {
    policies: BTreeMap<String, String>,
    sets: BTreeMap<String, String>,
    names: Vec<(String, String)>,
    rules: Vec<Words>,
    nats: Vec<Words>,
}

impl Evaluator {
    pub fn new(text: &str) -> Evaluator {
        let (policies, sets) = (BTreeMap::new(), BTreeMap::new());
        let mut this = Evaluator { policies, sets, names: Vec::new(), rules: Vec::new(), nats: Vec::new() };
        for line in text.lines() {
            // What stands in quotes says nothing of packets.
            let plain: String = line.split('"').step_by(2).collect();
            let plain = plain.split('#').next().unwrap_or("");
            let plain =
                this.names.iter().fold(plain.to_owned(), |line, (name, text)| line.replace(name, text));
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
                "nat" => this.nats.push(pairs),
                "let" => {
                    this.names.extend(pairs.into_iter().map(|(name, text)| (["$", &name].concat(), text)))
                }
                "group" => {}
                _ => assert!(word.is_empty(), "{line}"),
            }
        }
        this
    }

    pub fn verdict(&self, seen: &Seen<'_>) -> Verdict {
        let policy = || self.policies.get(seen.dir).map_or(Verdict::Passes, |action| verdict_of(action));
        self.walk(None, seen, &mut 0).unwrap_or_else(policy)
    }

    /// What the rules of the direction, or those of a group, decide, if they do.
    fn walk(&self, group: Option<&String>, seen: &Seen<'_>, mark: &mut u32) -> Option<Verdict> {
        let here = |rule: &&Words| rule.get("group") == group && (group.is_some() || rule["dir"] == seen.dir);
        for rule in self.rules.iter().filter(here) {
            if !self.matches(rule, seen, *mark) {
                continue;
            }
            let action = rule["action"].as_str();
            let limited = rule.contains_key("limit") || rule.contains_key("conns");
            match action {
                "count" | "log" => {
                    if let Some((value, mask)) = rule.get("set-mark").and_then(|bits| bits.split_once('/')) {
                        *mark = *mark & !hex(mask) ^ hex(value);
                    }
                }
                "return" => return None,
                _ if limited => return Some(Verdict::Limited),
                _ => match action.strip_prefix("group:") {
                    Some(name) => {
                        let inner = self.walk(Some(&name.to_owned()), seen, mark);
                        if inner.is_some() {
                            return inner;
                        }
                    }
                    None => return Some(verdict_of(action)),
                },
            }
        }
        None
    }

    /// Where the first packet of a connection is led: its new destination.
    pub fn translated(&self, seen: &Seen<'_>) -> Option<Shot> {
        if state(seen.shot) != "new" {
            return None;
        }
        let v6 = seen.shot.dst.is_ipv6();
        let to = |rule: &Words| {
            let to = rule.get("to").map_or("", String::as_str);
            let (addr, port) = match (to.strip_prefix('['), to.strip_prefix(':')) {
                (Some(rest), _) => rest.split_once("]:").unwrap(),
                (None, Some(port)) => ("", port),
                _ if to.matches(':').count() == 1 => to.split_once(':').unwrap(),
                _ => (to, ""),
            };
            (addr.parse::<IpAddr>().ok(), port.parse::<u16>().ok())
        };
        let fits = |rule: &&Words| {
            let family = to(rule).0.is_none_or(|addr| addr.is_ipv6() == v6);
            rule["dir"] == "pre" && family && self.matches(rule, seen, 0)
        };
        let rule = self.nats.iter().find(fits).filter(|rule| rule["action"] != "accept")?;
        let (addr, port) = to(rule);
        let here = Town::own(seen.shot.from?)[usize::from(v6)];
        let load = match (seen.shot.load, port) {
            (Load::Tcp(_), Some(port)) => Load::Tcp(port),
            (Load::TcpMiddle(_), Some(port)) => Load::TcpMiddle(port),
            (Load::Udp(_), Some(port)) => Load::Udp(port),
            (Load::Flags(_, flags), Some(port)) => Load::Flags(port, flags),
            (load, _) => load,
        };
        let to = Shot { dst: addr.unwrap_or(here), load, ..*seen.shot };
        // Where it went anyway it is not translated.
        Some(to).filter(|to| (to.dst, to.load) != (seen.shot.dst, seen.shot.load))
    }

    fn matches(&self, rule: &Words, seen: &Seen<'_>, mark: u32) -> bool {
        let Seen { dir, iif, oif, uplink, shot, .. } = seen;
        let v6 = shot.src.is_ipv6();
        let (proto, ports) = match shot.load {
            Load::Tcp(port) | Load::TcpMiddle(port) | Load::TcpAnswer(port) | Load::Flags(port, _) => {
                (6, Some(port))
            }
            Load::Udp(port) => (17, Some(port)),
            Load::Icmp(_) => (if v6 { 58 } else { 1 }, None),
            // What is behind a routing header.
            Load::Raw(43) if v6 => (89, None),
            Load::Raw(number) => (number, None),
        };
        let word = |key: &str| rule.get(key).map_or("any", String::as_str);
        let protos = rule.get("proto").map_or("all", String::as_str);
        let family = match protos {
            "icmp" => "ip",
            "icmp6" => "ip6",
            _ => word("family"),
        };
        let sender = || format!("02:00:00:00:01:0{}", shot.from.unwrap_or(9));
        let bits = |list: &str| {
            list.split_once('/').map_or_else(|| mark == hex(list), |(v, m)| mark & hex(m) == hex(v))
        };
        (family == "any" || (family == "ip6") == v6)
            && protocol(protos, proto)
            && tcp_flags(word("flags"), shot.load)
            && self.addresses(word("src"), shot.src)
            && self.addresses(word("dst"), shot.dst)
            // Nobody sends from a port that rules name.
            && word("sport") == "any"
            && (ports.is_some() || word("dport") == "any")
            && not(word("dport"), |list| self.ports(list, ports))
            && (*dir == "out" || interface(word("iif"), iif, uplink))
            && (matches!(*dir, "in" | "pre") || interface(word("oif"), oif, uplink))
            && (word("ct") == "any" || states(word("ct"), state(shot), seen.translated))
            && (word("exthdr") == "any" || v6 && header(word("exthdr"), shot.load))
            && (word("icmp") == "any" || icmp(word("icmp"), shot))
            && (word("mark") == "any" || not(word("mark"), bits))
            && (word("rpf") == "any" || seen.back != *iif)
            // All that this host sends is root's.
            && (word("uid") == "any" || not(word("uid"), |list| list == "0"))
            && (word("mac") == "any" || not(word("mac"), |list| list == sender()))
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
            match item {
                "local" => return (0..5).any(|zone| Town::own(zone).contains(&addr)),
                "multicast" => return addr.is_multicast(),
                "broadcast" => return addr == IpAddr::from([255; 4]),
                _ => {}
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
        list == "any" || not(list, |list| list.split(',').any(is))
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

fn verdict_of(action: &str) -> Verdict {
    if action == "accept" { Verdict::Passes } else { Verdict::Stopped }
}

fn hex(text: &str) -> u32 {
    u32::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}

/// What a list says, or with `!` before it its opposite.
fn not(list: &str, says: impl Fn(&str) -> bool) -> bool {
    list.strip_prefix('!').map_or_else(|| says(list), |list| !says(list))
}

/// What a connection that begins with this packet is.
fn state(shot: &Shot) -> &'static str {
    let v6 = shot.src.is_ipv6();
    match shot.load {
        // Conntrack takes up a connection in its middle, but not by its second packet.
        Load::Tcp(_) | Load::TcpMiddle(_) | Load::Udp(_) | Load::Raw(_) => "new",
        Load::TcpAnswer(_) => "invalid",
        Load::Icmp(kind) => match (v6, kind) {
            (false, 8 | 13) | (true, 128) => "new",
            (true, 130..=137 | 143) => "untracked",
            _ => "invalid",
        },
        // It begins with SYN, or with ACK in the middle; all else is not of a connection it knows.
        Load::Flags(_, flags) if matches!(flags & 0x17, 0x02 | 0x10) => "new",
        Load::Flags(..) => "invalid",
    }
}

/// A list of states.
fn states(list: &str, state: &str, translated: bool) -> bool {
    not(list, |list| list.split(',').any(|one| one == state || one == "dnat" && translated))
}

/// A list of types of ICMP.
fn icmp(list: &str, shot: &Shot) -> bool {
    let Load::Icmp(kind) = shot.load else { return false };
    let is = |item: &str| match (item, shot.src.is_ipv6()) {
        ("ping", false) => matches!(kind, 0 | 8),
        ("ping", true) => matches!(kind, 128 | 129),
        ("errors", false) => matches!(kind, 3 | 11 | 12),
        ("errors", true) => matches!(kind, 1..=4),
        ("nd", true) => matches!(kind, 133..=136),
        ("timestamp-request", false) => kind == 13,
        ("timestamp-reply", false) => kind == 14,
        _ => false,
    };
    not(list, |list| list.split(',').any(is))
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
        "ipip" => proto == 4,
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
    // What has none has no other one either.
    if link.is_empty() {
        return list == "any";
    }
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
