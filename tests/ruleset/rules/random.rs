//! Random statements as people could write them: every key, in any order, with and without quotes.

use fastrand::Rng;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A statement, and the texts that it carries.
#[derive(Debug)]
pub struct Written {
    pub line: String,
    /// What is behind the statement; empty if nothing is.
    pub remark: String,
    pub prefix: Option<String>,
    pub comment: String,
}

fn pick<'a>(rng: &mut Rng, all: &[&'a str]) -> &'a str {
    all[rng.usize(0..all.len())]
}

fn list(rng: &mut Rng, mut item: impl FnMut(&mut Rng) -> String) -> String {
    let items: Vec<String> = (0..rng.usize(1..5)).map(|_| item(rng)).collect();
    items.join(",")
}

/// Letters, and whatever could be taken for something else.
fn text(rng: &mut Rng) -> String {
    const PARTS: [&str; 14] = ["a", "Z", "9", " ", "\t", "\"", "\\", "#", "=", ",", "'", "ü", "any", "\\\""];
    (0..rng.usize(0..8)).map(|_| pick(rng, &PARTS)).collect()
}

/// The text as a value, and what it says then: not every text can be written.
fn quoted(rng: &mut Rng, mut text: String) -> (String, String) {
    let plain = !text.is_empty() && !text.starts_with('"') && !text.contains([' ', '\t']);
    if plain && rng.bool() {
        return (text.clone(), text);
    }
    text.truncate(text.trim_end_matches('\\').len());
    (["\"", &text.replace('"', "\\\""), "\""].concat(), text)
}

fn interfaces(rng: &mut Rng) -> String {
    const NAMES: [&str; 9] =
        ["lo", "eth0", "eth0.100", "ppp*", "wg-a_b*", "x", "abcdefghijklmno", "abcdefghijklmno*", "~$"];
    let not = pick(rng, &["", "!"]);
    match rng.u8(0..4) {
        0 => pick(rng, &["any", "auto"]).to_owned(),
        _ => [not, &list(rng, |rng| pick(rng, &NAMES).to_owned())].concat(),
    }
}

fn v4(rng: &mut Rng) -> String {
    let (a, b) = (rng.u32(..), rng.u32(..));
    let (first, last) = (Ipv4Addr::from(a.min(b)), Ipv4Addr::from(a.max(b)));
    match rng.u8(0..3) {
        0 => first.to_string(),
        1 => format!("{first}/{}", rng.u8(0..=32)),
        _ => format!("{first}-{last}"),
    }
}

fn v6(rng: &mut Rng) -> String {
    // Groups of zeros are written short.
    let mut number = || rng.u128(..) & if rng.bool() { u128::MAX << 64 } else { u128::MAX >> 80 };
    let (a, b) = (number(), number());
    let (first, last) = (Ipv6Addr::from(a.min(b)), Ipv6Addr::from(a.max(b)));
    match rng.u8(0..3) {
        0 => first.to_string(),
        1 => format!("{first}/{}", rng.u8(0..=128)),
        _ => format!("{first}-{last}"),
    }
}

/// Of a family, or of both: `any`, `ip`, `ip6`.
fn address(rng: &mut Rng, family: &str) -> String {
    match family {
        "ip" => v4(rng),
        "ip6" => v6(rng),
        _ if rng.bool() => v4(rng),
        _ => v6(rng),
    }
}

fn port(rng: &mut Rng) -> String {
    let (a, b) = (rng.u16(..), rng.u16(..));
    if rng.bool() { a.to_string() } else { format!("{}-{}", a.min(b), a.max(b)) }
}

/// One in six is a set.
fn or_set(rng: &mut Rng, item: impl Fn(&mut Rng) -> String) -> String {
    if rng.u8(0..6) == 0 { pick(rng, &["@a", "@web-1", "@abcdefghijklm"]).to_owned() } else { item(rng) }
}

fn rate(rng: &mut Rng) -> String {
    format!("{}/{}", rng.u32(1..).max(1), pick(rng, &["s", "m", "h", "d"]))
}

impl Written {
    /// Lays out a statement: keys in any order, blanks of any kind, perhaps a remark.
    fn new(rng: &mut Rng, word: &str, mut pairs: Vec<(&str, String)>) -> Written {
        rng.shuffle(&mut pairs);
        let mut line = [pick(rng, &["", " ", "\t"]), word].concat();
        for (key, value) in pairs {
            let blank = pick(rng, &[" ", "  ", "\t"]);
            let unquoted = !value.starts_with('"') && rng.u8(0..8) > 0;
            let quote = if unquoted || value.contains(['"', '\\']) { "" } else { "\"" };
            line += &[blank, key, "=", quote, &value, quote].concat();
        }
        let remark = if rng.bool() { String::new() } else { ["# ", text(rng).trim_ascii()].concat() };
        let remark = remark.trim_ascii_end().to_owned();
        if !remark.is_empty() {
            line += &[pick(rng, &[" ", "\t "]), &remark].concat();
        }
        Written { line, remark, prefix: None, comment: String::new() }
    }

    pub fn statement(rng: &mut Rng) -> Written {
        match rng.u8(0..12) {
            0 => {
                let dir = pick(rng, &["in", "out", "fwd"]).to_owned();
                let action = pick(rng, &["accept", "drop", "reject"]).to_owned();
                Written::new(rng, "policy", vec![("dir", dir), ("action", action)])
            }
            1 => {
                let file = ["/etc/", &text(rng), "/*.rules"].concat();
                let (file, _) = quoted(rng, file);
                Written::new(rng, "include", vec![("file", file)])
            }
            2 | 3 => Written::set(rng),
            4 => Written::nat(rng),
            5 => Written::frames(rng),
            _ => Written::rule(rng),
        }
    }

    fn set(rng: &mut Rng) -> Written {
        let name = pick(rng, &["a", "web-1", "abcdefghijklm"]).to_owned();
        let (kind, family, elements) = if rng.bool() {
            let family = pick(rng, &["any", "ip", "ip6"]);
            ("addr", family, list(rng, |rng| address(rng, family)))
        } else {
            ("port", "any", list(rng, port))
        };
        let pairs =
            vec![("name", name), ("family", family.into()), ("type", kind.into()), ("elements", elements)];
        Written::new(rng, "set", pairs)
    }

    fn rule(rng: &mut Rng) -> Written {
        let (dir, proto) = (pick(rng, &["in", "out", "fwd"]), pick(rng, &PROTOCOLS));
        let family = match proto {
            "icmp" => "ip",
            "icmp6" => "ip6",
            _ => pick(rng, &["any", "ip", "ip6"]),
        };
        let (prefix, comment) = (["prefix:", &text(rng)].concat(), text(rng));
        let ((log, prefix), (comment_value, comment)) = (quoted(rng, prefix), quoted(rng, comment));
        let per_source = pick(rng, &["", "/src"]);
        let (mut is_logged, is_limited, has_ports) =
            (rng.bool(), rng.bool(), matches!(proto, "tcp" | "udp" | "tcp,udp,132"));
        let action = pick(
            rng,
            &["accept", "drop", "reject", "count", "log", "add:@seen/90m", "add:@x/1d", "group:web"],
        );
        is_logged |= action == "log";
        let is_grouped = dir == "fwd" && rng.bool();
        let (is_icmp, is_counted) = (proto.starts_with("icmp"), !is_limited && rng.bool());
        // Kinds of addresses stand in one key.
        let (src, dst) = (addresses(rng, family), addresses(rng, family));
        let is_kind = |item: &str| KINDS.contains(&item);
        let [in_src, in_dst] = [&src, &dst].map(|list| list.trim_start_matches('!').split(',').any(is_kind));
        // Only what goes together; without a family key, addresses may be of any.
        let all = [
            ("family", family != "any", family.to_owned()),
            ("log", is_logged, log),
            ("ratelimit", is_logged && action != "log" && rng.bool(), rate(rng)),
            ("limit", is_limited, [&rate(rng), per_source].concat()),
            ("burst", is_limited && rng.bool(), rng.u32(1..).to_string()),
            ("iif", dir != "out" && rng.bool(), interfaces(rng)),
            ("oif", dir != "in" && rng.bool(), interfaces(rng)),
            ("src", rng.bool(), src),
            ("dst", rng.bool(), dst),
            ("sport", has_ports && rng.bool(), ports(rng)),
            ("dport", has_ports && rng.bool(), ports(rng)),
            ("ct", rng.bool(), not(rng, |rng| list(rng, |rng| pick(rng, &STATES).to_owned()))),
            ("pkttype", dir != "out" && rng.bool(), pick(rng, &["host", "!broadcast,multicast"]).to_owned()),
            ("src-kind", !in_src && rng.bool(), pick(rng, &["local,broadcast", "!unicast"]).to_owned()),
            ("dst-kind", !in_dst && rng.bool(), pick(rng, &["multicast,anycast", "!local"]).to_owned()),
            ("exthdr", family == "ip6" && rng.bool(), pick(rng, &HEADERS).to_owned()),
            ("with", action == "reject" && rng.bool(), pick(rng, &ANSWERS).to_owned()),
            ("icmp", is_icmp && rng.bool(), not(rng, |rng| list(rng, |rng| pick(rng, &ICMP).to_owned()))),
            ("flags", proto == "tcp" && rng.bool(), pick(rng, &FLAGS).to_owned()),
            ("mark", rng.bool(), pick(rng, &["0x1", "5", "0x4000/0x4000", "!0x2/0xff", "0/1"]).to_owned()),
            ("uid", dir == "out" && rng.bool(), pick(rng, &["0", "5,1000", "!33"]).to_owned()),
            ("gid", dir == "out" && rng.bool(), pick(rng, &["0", "5,1000", "!33"]).to_owned()),
            ("ttl", rng.bool(), pick(rng, &["64", "!255", "1-3,9", "0"]).to_owned()),
            ("dscp", rng.bool(), pick(rng, &["ef", "cs1-cs3,46", "!af11", "0", "63"]).to_owned()),
            ("mac", dir != "out" && rng.bool(), pick(rng, &MACS).to_owned()),
            (
                "days",
                rng.bool(),
                pick(rng, &["mon-fri", "sun,wed", "!sat", "0-6", "sat-sun", "mon-sun"]).to_owned(),
            ),
            ("time", rng.bool(), pick(rng, &["08:00-18:30", "22:00-06:00,07:00-24:00"]).to_owned()),
            ("rpf", dir != "out" && rng.bool(), "fail".to_owned()),
            ("conns", is_counted, [&rng.u32(1..).to_string(), per_source].concat()),
            ("log-level", is_logged && is_icmp, pick(rng, &["info", "warn", "7", "0"]).to_owned()),
            ("log-group", is_logged && !is_icmp && rng.bool(), rng.u16(..).to_string()),
            ("set-mark", rng.bool(), pick(rng, &["1", "0x10/0xf0", "0/0xff", "^3"]).to_owned()),
            ("mss", proto == "tcp" && dir != "in" && rng.bool(), pick(rng, &["pmtu", "1400"]).to_owned()),
            ("offload", action == "count" && dir == "fwd" && !is_grouped, "auto".to_owned()),
            ("comment", rng.bool(), comment_value),
        ];
        let is_commented = all.iter().any(|(key, is, _)| *key == "comment" && *is);
        let mut pairs = vec![("action", action.to_owned()), ("proto", proto.to_owned())];
        pairs.push(if is_grouped { ("group", "web".to_owned()) } else { ("dir", dir.to_owned()) });
        pairs.extend(all.into_iter().filter(|(_, is, _)| *is).map(|(key, _, value)| (key, value)));
        let written = Written::new(rng, "rule", pairs);
        Written {
            prefix: is_logged.then(|| prefix.replacen("prefix:", "", 1)),
            comment: if is_commented { comment } else { String::new() },
            ..written
        }
    }

    /// Of frames between ports of a bridge, without what has texts of its own.
    fn frames(rng: &mut Rng) -> Written {
        let is_ip = rng.bool();
        let proto = if is_ip { pick(rng, &PROTOCOLS) } else { "all" };
        let port = |rng: &mut Rng| pick(rng, &["tap1", "tap*,p2", "!p2", "any"]).to_owned();
        let ethers = ["arp", "ip,ip6,arp", "!0x88cc", "0x8100-0x88ff,rarp", "pppoe"];
        let all = [
            ("iif", rng.bool(), port(rng)),
            ("oif", rng.bool(), port(rng)),
            ("src", is_ip && rng.bool(), v4(rng)),
            ("ether", !is_ip, pick(rng, &ethers).to_owned()),
            ("vlan", rng.bool(), pick(rng, &["3", "3,7-9", "!0", "0-4095"]).to_owned()),
            ("mac", rng.bool(), pick(rng, &MACS).to_owned()),
        ];
        let all = all.into_iter().filter(|(key, is, _)| *is && (*key != "src" || !proto.contains("icmp6")));
        let action = pick(rng, &["accept", "drop", "count"]).to_owned();
        let mut pairs = vec![("dir", "bridge".to_owned()), ("action", action), ("proto", proto.to_owned())];
        pairs.extend(all.map(|(key, _, value)| (key, value)));
        Written::new(rng, "rule", pairs)
    }

    /// Without what has texts of its own.
    fn nat(rng: &mut Rng) -> Written {
        let (dir, action, to) = match rng.u8(0..6) {
            0 => ("post", "masquerade", pick(rng, &["", ":1024-65535"])),
            1 => ("post", "snat", pick(rng, &["192.0.2.1", "192.0.2.1-192.0.2.9", "2001:db8::1"])),
            2 => ("pre", "dnat", pick(rng, &["192.0.2.1:443", "[2001:db8::1]:80-90", "192.0.2.0/28", ":7"])),
            3 => ("out", "dnat", pick(rng, &["192.0.2.1:443", "[2001:db8::1]:80"])),
            4 => (pick(rng, &["pre", "out"]), "redirect", pick(rng, &["", ":8080"])),
            _ => (pick(rng, &["pre", "post", "out"]), pick(rng, &["accept", "count"]), ""),
        };
        let needs_ports = to.contains("]:") || !to.contains("::") && to.contains(':');
        let protos = ["all", "tcp", "udp", "esp,gre,igmp,112", "!tcp"];
        let proto = if needs_ports { pick(rng, &["tcp", "udp", "tcp,udp"]) } else { pick(rng, &protos) };
        let has_ports = matches!(proto, "tcp" | "udp" | "tcp,udp,132" | "tcp,udp");
        let all = [
            ("to", !to.is_empty(), to.to_owned()),
            ("proto", proto != "all", proto.to_owned()),
            ("iif", dir == "pre" && rng.bool(), interfaces(rng)),
            ("oif", dir != "pre" && rng.bool(), interfaces(rng)),
            ("dport", has_ports && rng.bool(), ports(rng)),
            ("mark", rng.bool(), "0x1".to_owned()),
            ("pick", !matches!(action, "accept" | "count") && rng.bool(), pick(rng, &PICKS).to_owned()),
        ];
        let mut pairs = vec![("dir", dir.to_owned()), ("action", action.to_owned())];
        pairs.extend(all.into_iter().filter(|(_, is, _)| *is).map(|(key, _, value)| (key, value)));
        Written::new(rng, "nat", pairs)
    }
}

/// What an item of `proto=` may be.
const PROTOCOLS: [&str; 10] =
    ["all", "tcp", "udp", "icmp", "icmp6", "tcp,udp,132", "esp,gre,igmp,112", "!tcp", "icmp,icmp6", "!6,17"];
const ICMP: [&str; 7] = ["ping", "nd", "errors", "echo-request", "13", "130-140", "packet-too-big"];
const FLAGS: [&str; 5] = ["syn/fin,syn,rst,ack", "syn", "none/fin,syn", "!syn/syn", "syn,ack"];
const HEADERS: [&str; 7] = ["hbh", "dst", "!frag", "mh", "!rt", "rt", "rt0"];
const ANSWERS: [&str; 4] = ["no-route", "port-unreachable", "host-unreachable", "admin-prohibited"];
const PICKS: [&str; 3] = ["random", "fully-random", "persistent"];
const KINDS: [&str; 5] = ["local", "broadcast", "multicast", "unicast", "anycast"];
const MACS: [&str; 3] = ["00:16:3e:12:34:56", "!00:16:3e:12:34:56,02:00:00:00:00:01", "ff:ff:ff:ff:ff:ff"];

/// One in four is of everything else.
fn not(rng: &mut Rng, list: impl Fn(&mut Rng) -> String) -> String {
    [pick(rng, &["", "", "", "!"]), &list(rng)].concat()
}

fn addresses(rng: &mut Rng, family: &str) -> String {
    not(rng, |rng| {
        list(rng, |rng| match rng.u8(0..8) {
            0 => pick(rng, &KINDS).to_owned(),
            _ => or_set(rng, |rng| address(rng, family)),
        })
    })
}

fn ports(rng: &mut Rng) -> String {
    not(rng, |rng| list(rng, |rng| or_set(rng, port)))
}

const STATES: [&str; 6] = ["new", "established", "related", "invalid", "dnat", "snat"];
