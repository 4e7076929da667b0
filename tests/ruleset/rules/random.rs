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
        match rng.u8(0..8) {
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
        let (dir, proto) =
            (pick(rng, &["in", "out", "fwd"]), pick(rng, &["all", "tcp", "udp", "icmp", "icmp6"]));
        let family = match proto {
            "icmp" => "ip",
            "icmp6" => "ip6",
            _ => pick(rng, &["any", "ip", "ip6"]),
        };
        let (prefix, comment) = (["prefix:", &text(rng)].concat(), text(rng));
        let ((log, prefix), (comment_value, comment)) = (quoted(rng, prefix), quoted(rng, comment));
        let per_source = pick(rng, &["", "/src"]);
        let (is_logged, is_limited, has_ports) = (rng.bool(), rng.bool(), matches!(proto, "tcp" | "udp"));
        // Only what goes together; without a family key, addresses may be of any.
        let all = [
            ("family", family != "any", family.to_owned()),
            ("log", is_logged, log),
            ("ratelimit", is_logged && rng.bool(), rate(rng)),
            ("limit", is_limited, [&rate(rng), per_source].concat()),
            ("burst", is_limited && rng.bool(), rng.u32(1..).to_string()),
            ("iif", dir != "out" && rng.bool(), interfaces(rng)),
            ("oif", dir != "in" && rng.bool(), interfaces(rng)),
            ("src", rng.bool(), list(rng, |rng| or_set(rng, |rng| address(rng, family)))),
            ("dst", rng.bool(), list(rng, |rng| or_set(rng, |rng| address(rng, family)))),
            ("sport", has_ports && rng.bool(), list(rng, |rng| or_set(rng, port))),
            ("dport", has_ports && rng.bool(), list(rng, |rng| or_set(rng, port))),
            ("ct", rng.bool(), list(rng, |rng| pick(rng, &STATES).to_owned())),
            ("comment", rng.bool(), comment_value),
        ];
        let is_commented = all[12].1;
        let action = pick(rng, &["accept", "drop", "reject"]);
        let mut pairs =
            vec![("dir", dir.to_owned()), ("action", action.to_owned()), ("proto", proto.to_owned())];
        pairs.extend(all.into_iter().filter(|(_, is, _)| *is).map(|(key, _, value)| (key, value)));
        let written = Written::new(rng, "rule", pairs);
        Written {
            prefix: is_logged.then(|| prefix.replacen("prefix:", "", 1)),
            comment: if is_commented { comment } else { String::new() },
            ..written
        }
    }
}

const STATES: [&str; 4] = ["new", "established", "related", "invalid"];
