#![forbid(unsafe_code)]
//! Statements of mef.rules, and lines of iptables-restore as such statements. A line that is not understood
//! whole is none: nothing is ever widened.

use super::plain;

/// Which packets a chain is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    In,
    Out,
    Forward,
    /// Before they are routed, to translate where they go.
    Pre,
    /// As they leave, to translate where they come from.
    Post,
}

/// A statement that grows.
pub(super) struct Statement(String);

impl Statement {
    /// `rule` or `nat`, for packets that go this way.
    pub(super) fn new(way: Way, action: &str) -> Statement {
        let (word, dir) = match way {
            Way::In => ("rule", "in"),
            Way::Out => ("rule", "out"),
            Way::Forward => ("rule", "fwd"),
            Way::Pre => ("nat", "pre"),
            Way::Post => ("nat", "post"),
        };
        Statement([word, " dir=", dir, " action=", action].concat())
    }

    /// With a key; without a value there is nothing to say.
    pub(super) fn key(mut self, key: &str, value: &str) -> Statement {
        if !value.is_empty() {
            let quote = if value.contains([' ', '#']) { "\"" } else { "" };
            self.0 += &[" ", key, "=", quote, value, quote].concat();
        }
        self
    }

    pub(super) fn text(self) -> String {
        self.0
    }
}

/// Ports as iptables and CSF write them.
pub(super) fn ports(text: &str) -> String {
    text.trim_end_matches(',').replace(' ', "").replace([':', '_'], "-")
}

/// Names that iptables has for types of ICMP and we do not.
const ICMP: [(&str, &str); 4] = [
    ("neighbor-solicitation", "neighbour-solicitation"),
    ("neighbor-advertisement", "neighbour-advertisement"),
    ("ttl-exceeded", "time-exceeded"),
    ("any", ""),
];

/// What an option of iptables is here: its names, and the key.
const OPTIONS: [(&str, &str); 22] = [
    ("-i", "iif"),
    ("--in-interface", "iif"),
    ("-o", "oif"),
    ("--out-interface", "oif"),
    ("-s", "src"),
    ("--source", "src"),
    ("-d", "dst"),
    ("--destination", "dst"),
    ("-p", "proto"),
    ("--protocol", "proto"),
    ("--dport", "dport"),
    ("--dports", "dport"),
    ("--sport", "sport"),
    ("--sports", "sport"),
    ("--ctstate", "ct"),
    ("--state", "ct"),
    ("--icmp-type", "icmp"),
    ("--icmpv6-type", "icmp"),
    ("--dst-type", "dst"),
    ("--src-type", "src"),
    ("--limit", "limit"),
    ("--limit-burst", "burst"),
];
/// Matches that only announce options, or a text.
const MATCHES: [&str; 11] = [
    "tcp",
    "udp",
    "multiport",
    "conntrack",
    "state",
    "comment",
    "addrtype",
    "icmp",
    "icmp6",
    "icmpv6",
    "limit",
];

/// A line of iptables-restore behind `-A CHAIN`, as a statement.
///
/// # Errors
/// The word that is not understood.
pub(super) fn line(way: Way, family: &str, words: &[String]) -> Result<String, String> {
    let (mut keys, mut action, mut not) = (Vec::<(&str, String)>::new(), "", "");
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| [word, " without a value"].concat());
        match word {
            "!" => {
                not = "!";
                continue;
            }
            "-m" | "--match" => {
                let name = value()?;
                if !MATCHES.contains(&name) {
                    return Err(["-m ", name].concat());
                }
            }
            "-j" | "--jump" => action = target(value()?, way)?,
            "--comment" => keys.push(("comment", plain(value()?))),
            "--log-prefix" => keys.push(("log", ["prefix:", &plain(value()?), " "].concat())),
            "--syn" if not.is_empty() => keys.push(("flags", "syn/fin,syn,rst,ack".into())),
            "--to-destination" | "--to-source" => keys.push(("to", value()?.into())),
            "--to-ports" => keys.push(("to", [":", value()?].concat())),
            // What is answered here follows from the protocol.
            "--reject-with" => drop(value()?),
            _ => {
                let (_, key) = OPTIONS.iter().find(|(name, _)| *name == word).ok_or(word)?;
                let said = option(key, value()?);
                if keys.iter().any(|(other, _)| other == key) {
                    return Err([word, " twice"].concat());
                }
                if !said.is_empty() {
                    keys.push((key, [not, &said].concat()));
                }
            }
        }
        if not == "!" && !keys.last().is_some_and(|(_, value)| value.starts_with('!')) {
            return Err(["! ", word].concat());
        }
        not = "";
    }
    if action.is_empty() {
        return Err("no -j".into());
    }
    let mut statement = Statement::new(way, action);
    let value = |key: &str| keys.iter().find(|(name, _)| *name == key).map_or("", |(_, value)| value);
    statement = statement.key("proto", if value("proto").is_empty() { "all" } else { value("proto") });
    statement = statement.key("family", family);
    for (key, value) in keys.iter().filter(|(key, _)| *key != "proto") {
        statement = statement.key(key, value);
    }
    Ok(statement.text())
}

fn target(name: &str, way: Way) -> Result<&'static str, String> {
    Ok(match (name, way) {
        ("ACCEPT", _) => "accept",
        ("DROP", Way::In | Way::Out | Way::Forward) => "drop",
        ("REJECT", Way::In | Way::Out | Way::Forward) => "reject",
        ("LOG", Way::In | Way::Out | Way::Forward) => "log",
        ("MASQUERADE", Way::Post) => "masquerade",
        ("SNAT", Way::Post) => "snat",
        ("DNAT", Way::Pre) => "dnat",
        ("REDIRECT", Way::Pre) => "redirect",
        _ => return Err(["-j ", name].concat()),
    })
}

/// A value as mef.rules has it.
fn option(key: &str, value: &str) -> String {
    match key {
        "dport" | "sport" => ports(value),
        "iif" | "oif" => value.replace('+', "*"),
        "proto" => value.replace("ipv6-icmp", "icmp6").replace("icmpv6", "icmp6"),
        "icmp" => ICMP.iter().find(|(name, _)| *name == value).map_or(value, |(_, ours)| ours).into(),
        "ct" => value.to_lowercase(),
        "src" | "dst" if value.bytes().all(|b| b.is_ascii_uppercase() || b == b',') => value.to_lowercase(),
        "src" | "dst" => if matches!(value, "0.0.0.0/0" | "::/0") { "" } else { value }.into(),
        "limit" => match value.split_once('/') {
            Some((count, unit)) => [count, "/", unit.get(..1).unwrap_or("s")].concat(),
            None => [value, "/s"].concat(),
        },
        _ => value.into(),
    }
}

/// The words of a line, in which a text may stand in quotes.
pub(super) fn words(line: &str) -> Vec<String> {
    let (mut all, mut word, mut quote, mut is_word) = (Vec::new(), String::new(), None, false);
    for c in line.chars() {
        match (c, quote) {
            ('"' | '\'', None) => (quote, is_word) = (Some(c), true),
            (c, Some(open)) if c == open => quote = None,
            (c, None) if c.is_whitespace() => {
                if is_word || !word.is_empty() {
                    all.push(std::mem::take(&mut word));
                }
                is_word = false;
            }
            (c, _) => word.push(c),
        }
    }
    if is_word || !word.is_empty() {
        all.push(word);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_iptables_is_a_statement_or_names_what_it_is_not() {
        let cases = [
            (
                Way::In,
                "-p tcp --dport 22 -j ACCEPT",
                Ok("rule dir=in action=accept proto=tcp family=ip dport=22"),
            ),
            (
                Way::In,
                "-i eth+ ! -s 10.0.0.0/8 -p tcp -m multiport --dports 80,1000:2000 -j DROP",
                Ok("rule dir=in action=drop proto=tcp family=ip iif=eth* src=!10.0.0.0/8 dport=80,1000-2000"),
            ),
            (
                Way::Post,
                "-s 10.8.0.0/24 -o eth0 -j MASQUERADE",
                Ok("nat dir=post action=masquerade proto=all family=ip src=10.8.0.0/24 oif=eth0"),
            ),
            (
                Way::Pre,
                "-i eth0 -p tcp --dport 443 -j DNAT --to-destination 192.168.1.10:443",
                Ok("nat dir=pre action=dnat proto=tcp family=ip iif=eth0 dport=443 to=192.168.1.10:443"),
            ),
            (
                Way::In,
                "-m comment --comment \"two words\" -m state --state NEW,RELATED -j REJECT --reject-with x",
                Ok("rule dir=in action=reject proto=all family=ip comment=\"two words\" ct=new,related"),
            ),
            (
                Way::In,
                "-m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix \"[X] \"",
                Ok("rule dir=in action=log proto=all family=ip limit=3/m burst=10 log=\"prefix:[X] \""),
            ),
            (Way::In, "-m recent --update -j DROP", Err("-m recent")),
            (Way::In, "-m conntrack --ctstate NEW", Err("no -j")),
            (Way::In, "-j ufw-not-local", Err("-j ufw-not-local")),
            (Way::In, "-m limit ! --limit 3/s -j MASQUERADE", Err("-j MASQUERADE")),
            (Way::In, "-p tcp ! --syn -j DROP", Err("--syn")),
            (Way::In, "-p", Err("-p without a value")),
        ];
        for (way, text, want) in cases {
            let got = line(way, "ip", &words(text));
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{text}");
        }
    }
}
