#![forbid(unsafe_code)]
//! CSF and lfd: ports as a rule set, lists as lists, triggers as limits of service rules.

use super::lfd;
use super::packets::{Statement, Way, ports};
use super::{ALLOWED, AskProgram, DENIED, Migration, RULE_SET, needed, plain};
use crate::base::count::count;
use crate::config::PortRanges;
use crate::setup::Root;

const DIR: &str = "/etc/csf/";
/// What a network of a list is called in the rule set.
const ALLOW_SET: &str = "csf-allow";
const ALLOW_FILE: &str = "csf-allow.conf";

pub(super) fn read(root: &Root, (now, _): (u64, i32), _: AskProgram<'_>) -> Result<Migration, String> {
    let mut to = Migration {
        stop: "csf -x; systemctl disable --now lfd csf",
        back: "mef unload; csf -e",
        ..Migration::default()
    };
    if !root.has("/etc/csf/csf.conf") {
        return Err("no /etc/csf/csf.conf: CSF is not installed here".into());
    }
    let text = needed(root, "/etc/csf/csf.conf")?;
    let conf = CsfConf(&text);
    lists(root, &mut to);
    rule_set(root, &conf, &mut to);
    lfd::triggers(&conf, &mut to);
    lfd::settings(&conf, &mut to);
    lfd::others(&conf, &mut to);
    lfd::feeds(root, &mut to);
    lfd::bans(root, now, &mut to);
    lfd::scripts(root, &mut to);
    Ok(to)
}

/// `KEY = "VALUE"`.
pub(super) struct CsfConf<'a>(&'a str);

impl<'a> CsfConf<'a> {
    pub(super) fn value(&self, key: &str) -> &'a str {
        let value =
            |line: &'a str| Some(line.trim().strip_prefix(key)?.trim_start().strip_prefix('=')?.trim());
        self.0.lines().rev().find_map(value).map_or("", |value| value.trim_matches('"').trim())
    }

    pub(super) fn number(&self, key: &str) -> u32 {
        self.value(key).parse().unwrap_or(0)
    }

    pub(super) fn is_on(&self, key: &str) -> bool {
        self.number(key) > 0
    }
}

/// Lines of a file of CSF: number, what stands there, and the comment behind it. Includes are followed.
pub(super) fn each_line(root: &Root, path: &str, depth: u8, each: &mut dyn FnMut(&str, u32, &str, &str)) {
    for (number, line) in (1..).zip(root.text(path).lines()) {
        let (line, comment) = line.split_once('#').unwrap_or((line, ""));
        let line = line.trim();
        match line.strip_prefix("Include") {
            Some(other) if depth > 0 => each_line(root, other.trim(), depth - 1, each),
            _ if line.is_empty() => {}
            _ => each(path, number, line, comment.trim()),
        }
    }
}

pub(super) fn path_of(name: &str) -> String {
    [DIR, name].concat()
}

/// csf.allow, csf.deny, csf.ignore and csf.dyndns as lists; lines with ports are for the rule set.
fn lists(root: &Root, to: &mut Migration) {
    let sorts: [(&str, &str, &str); 4] = [
        ("csf.allow", ALLOWED, ALLOW_FILE),
        ("csf.ignore", ALLOWED, "csf-ignore.conf"),
        ("csf.dyndns", ALLOWED, "csf-dyndns.conf"),
        ("csf.deny", DENIED, "csf.conf"),
    ];
    for (name, dir, file) in sorts {
        let (mut text, mut lines) = (String::new(), 0u32);
        each_line(root, &path_of(name), 4, &mut |_, _, line, comment| {
            if !line.contains('|') {
                lines += 1;
                let mark = if comment.is_empty() { "" } else { " # " };
                text += &[line, mark, &plain(comment), "\n"].concat();
            }
        });
        if lines > 0 {
            to.found.push(format!("{} of {name}", count(lines, "line")));
            to.file(dir, file, ["# From ", name, "\n", &text].concat());
            if name == "csf.dyndns" {
                to.note(&["csf.dyndns: these names are never banned; CSF also opened all ports to them"]);
            }
        }
    }
}

fn rule_set(root: &Root, conf: &CsfConf<'_>, to: &mut Migration) {
    let drop = if conf.value("DROP") == "REJECT" { "reject" } else { "drop" };
    let out = if conf.value("DROP_OUT") == "DROP" { "drop" } else { "reject" };
    let head = "# From csf.conf. Rules are tried in this order; mef.rules(5) explains them.\n\n";
    let mut text = [head, "policy dir=in action=", drop, "\npolicy dir=out action=", out, "\n"].concat();
    if conf.is_on("DOCKER") || root.has("/var/lib/docker") {
        to.note(&["csf.conf: packets that are forwarded pass, since Docker runs here; `policy dir=fwd` in \
                   mef.rules is for a host that forwards nothing"]);
    } else {
        text += "policy dir=fwd action=drop\n";
    }
    text += "\nrule dir=in action=accept proto=all iif=lo\nrule dir=out action=accept proto=all oif=lo\n";
    for name in list(conf.value("ETH_DEVICE_SKIP")) {
        text += &Statement::new(Way::In, "accept").key("proto", "all").key("iif", name).line();
        text += &Statement::new(Way::Out, "accept").key("proto", "all").key("oif", name).line();
    }
    text += "rule dir=in action=accept proto=all ct=established,related\n\
             rule dir=out action=accept proto=all ct=established,related\n\
             rule dir=in action=drop proto=all ct=invalid\n";
    let allow = [ALLOWED, ALLOW_FILE].concat();
    if to.files.iter().any(|(path, _)| *path == allow) {
        // As there: what comes from them and goes to them passes.
        let set = ["\n\nset name=", ALLOW_SET, " family=any type=addr file=", &allow, "\n"].concat();
        text = text.replacen("\n\n", &set, 1);
        text += &["rule dir=in action=accept proto=all src=@", ALLOW_SET].concat();
        text += &["\nrule dir=out action=accept proto=all dst=@", ALLOW_SET, "\n"].concat();
    }
    for (name, action) in [("csf.allow", "accept"), ("csf.deny", "drop")] {
        each_line(root, &path_of(name), 4, &mut |path, number, line, comment| {
            if line.contains('|') {
                match advanced(line, action, comment) {
                    Ok(line) => text += &line,
                    Err(why) => {
                        to.note(&[path, ":", &number.to_string(), ": not taken over (", &why, "): ", line])
                    }
                }
            }
        });
    }
    icmp(conf, &mut text);
    limits(conf, &mut text, to);
    open_ports(conf, &mut text, to);
    redirects(root, &mut text, to);
    to.files.push((RULE_SET.into(), text));
}

impl Statement {
    fn line(self) -> String {
        self.text() + "\n"
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// `tcp|in|d=22|s=192.0.2.1`: protocol and direction may be missing, `s` and `d` are ports or addresses.
fn advanced(line: &str, action: &str, comment: &str) -> Result<String, String> {
    let (mut proto, mut way, mut keys) = ("tcp", Way::In, Vec::new());
    for part in line.split('|').map(str::trim) {
        match part.split_once('=') {
            None if matches!(part, "tcp" | "udp" | "icmp") => proto = part,
            None if part == "in" => way = Way::In,
            None if part == "out" => way = Way::Out,
            Some(("s" | "d", "")) => return Err("a part without a value".into()),
            Some((side @ ("s" | "d"), value)) => {
                let is_address = value.contains(['.', '/']) || value.matches(':').count() > 1;
                match (side, is_address, proto) {
                    ("s", true, _) => keys.push(("src", value.to_owned())),
                    (_, true, _) => keys.push(("dst", value.to_owned())),
                    (_, false, "icmp") => keys.push(("icmp", value.to_owned())),
                    ("s", false, _) => keys.push(("sport", ports(value))),
                    (_, false, _) => keys.push(("dport", ports(value))),
                }
            }
            Some((id @ ("u" | "g"), value)) => {
                keys.push((if id == "u" { "uid" } else { "gid" }, value.to_owned()))
            }
            _ => return Err(plain(part)),
        }
    }
    let mut statement = Statement::new(way, action).key("proto", proto);
    for (key, value) in &keys {
        statement = statement.key(key, value);
    }
    Ok(statement.key("comment", &plain(comment)).line())
}

/// Ping, and the errors without which nothing works.
fn icmp(conf: &CsfConf<'_>, text: &mut String) {
    let rate = conf.value("ICMP_IN_RATE");
    *text += "rule dir=in action=accept proto=icmp icmp=errors\n";
    if conf.value("ICMP_IN") != "0" {
        let rate = match rate.split_once('/') {
            Some((count, unit)) if count != "0" => {
                [count, "/", unit.get(..1).unwrap_or("s"), "/src"].concat()
            }
            _ => String::new(),
        };
        let statement = Statement::new(Way::In, "accept").key("proto", "icmp").key("icmp", "echo-request");
        *text += &statement.key("limit", &rate).line();
    }
    *text += "rule dir=in action=accept proto=icmp6\n";
    if conf.value("ICMP_OUT") != "0" {
        *text += "rule dir=out action=accept proto=icmp\n";
    }
    *text += "rule dir=out action=accept proto=icmp6\n";
}

/// Limits of a port: connections at the same time, new ones in a time.
#[derive(Default)]
struct PortLimit {
    proto: String,
    port: String,
    conns: String,
    rate: String,
    burst: String,
}

/// CONNLIMIT and PORTFLOOD, of ports that are open: what is within them passes, the rest is refused.
fn limits(conf: &CsfConf<'_>, text: &mut String, to: &mut Migration) {
    for limit in &port_limits(conf, to) {
        let PortLimit { proto, port, .. } = limit;
        let is_open = |keys: [&str; 2]| {
            let open = ports(conf.value(keys[usize::from(proto == "udp")]));
            let contains = |open: PortRanges| port.parse().is_ok_and(|port| open.contains(port));
            !open.is_empty() && PortRanges::parse(&open).is_ok_and(contains)
        };
        let open = is_open(["TCP_IN", "UDP_IN"]);
        let family = match (open, is_open(["TCP6_IN", "UDP6_IN"])) {
            _ if open && !conf.is_on("IPV6") => "",
            (true, true) => "",
            (true, false) => "ip",
            (false, true) if conf.is_on("IPV6") => "ip6",
            (false, _) => {
                let why = " is not open: its limit is not taken over";
                to.note(&["csf.conf: CONNLIMIT, PORTFLOOD: port ", port, why]);
                continue;
            }
        };
        *text += &limited(limit, family);
    }
}

/// What they say of each port.
fn port_limits(conf: &CsfConf<'_>, to: &mut Migration) -> Vec<PortLimit> {
    let mut all = Vec::<PortLimit>::new();
    for item in list(conf.value("CONNLIMIT")) {
        match item.split_once(';') {
            Some((port, count)) => limit(&mut all, "tcp", port).conns = [count.trim(), "/src"].concat(),
            None => to.note(&["csf.conf: CONNLIMIT: not taken over: ", &plain(item)]),
        }
    }
    for item in list(conf.value("PORTFLOOD")) {
        let parts: Vec<&str> = item.split(';').map(str::trim).collect();
        let number = |text: &str| text.parse::<u64>().ok().filter(|n| *n > 0);
        match parts.as_slice() {
            [port, proto, hits, seconds] if number(hits).is_some() && number(seconds).is_some() => {
                let limit = limit(&mut all, proto, port);
                let (count, seconds) = (number(hits).unwrap_or(1), number(seconds).unwrap_or(1));
                limit.rate = [&(count.saturating_mul(3600) / seconds).max(1).to_string(), "/h/src"].concat();
                limit.burst = (*hits).to_owned();
            }
            _ => to.note(&["csf.conf: PORTFLOOD: not taken over: ", &plain(item)]),
        }
    }
    all
}

/// The rules of a limit.
fn limited(limit: &PortLimit, family: &str) -> String {
    let PortLimit { proto, port, conns, rate, burst } = limit;
    let of = |action: &str| {
        let statement = Statement::new(Way::In, action).key("proto", proto).key("family", family);
        statement.key("dport", port).key("ct", "new")
    };
    let refused = of(if conns.is_empty() { "drop" } else { "reject" }).line();
    if conns.is_empty() || rate.is_empty() {
        return of("accept").key("conns", conns).key("limit", rate).key("burst", burst).line() + &refused;
    }
    // One after the other: who passes the first limit is led to the second one.
    let name = ["csf-", proto, "-", port].concat();
    let within = ["rule group=", &name, " action=accept proto=", proto, " limit=", rate, " burst=", burst];
    let beyond = ["\nrule group=", &name, " action=drop proto=", proto, "\n"];
    let group = ["group name=", &name, "\n", &within.concat(), &beyond.concat()].concat();
    group + &of(&["group:", &name].concat()).key("conns", conns).line() + &refused
}

/// The limits of a port.
fn limit<'l>(all: &'l mut Vec<PortLimit>, proto: &str, port: &str) -> &'l mut PortLimit {
    let port = ports(port.trim());
    let at = all.iter().position(|known| known.proto == proto && known.port == port);
    let at = at.unwrap_or_else(|| {
        all.push(PortLimit { proto: proto.to_owned(), port, ..PortLimit::default() });
        all.len() - 1
    });
    &mut all[at]
}

/// TCP_IN and its like.
fn open_ports(conf: &CsfConf<'_>, text: &mut String, to: &mut Migration) {
    let v6 = conf.is_on("IPV6");
    if !v6 {
        to.note(&["csf.conf: IPV6=0: CSF did not filter IPv6 at all; the rules hold for both families here"]);
    }
    for (way, key, v6_key) in [
        (Way::In, "TCP_IN", "TCP6_IN"),
        (Way::In, "UDP_IN", "UDP6_IN"),
        (Way::Out, "TCP_OUT", "TCP6_OUT"),
        (Way::Out, "UDP_OUT", "UDP6_OUT"),
    ] {
        let proto = if key.starts_with("TCP") { "tcp" } else { "udp" };
        let (v4_ports, v6_ports) = (ports(conf.value(key)), ports(conf.value(v6_key)));
        let mut put = |family: &str, dport: &str| {
            if !dport.is_empty() {
                let statement = Statement::new(way, "accept").key("proto", proto).key("family", family);
                *text += &statement.key("dport", dport).key("ct", "new").line();
            }
        };
        if !v6 || v4_ports == v6_ports {
            put("", &v4_ports);
        } else {
            put("ip", &v4_ports);
            put("ip6", &v6_ports);
        }
    }
}

/// csf.redirect: `IP|PORT|IP or *|PORT or *|tcp`.
fn redirects(root: &Root, text: &mut String, to: &mut Migration) {
    each_line(root, &path_of("csf.redirect"), 0, &mut |path, number, line, _| {
        let parts: Vec<&str> = line.split('|').map(str::trim).collect();
        let [at, port, host, host_port, proto] = parts.as_slice() else {
            return to.note(&[path, ":", &number.to_string(), ": not taken over: ", line]);
        };
        let part = |text: &str| if text == "*" { String::new() } else { text.to_owned() };
        let (port, host_port, host) = (part(port), part(host_port), part(host));
        let colon = if host_port.is_empty() { "" } else { ":" };
        let action = if host.is_empty() { "redirect" } else { "dnat" };
        let statement = Statement::new(Way::Pre, action).key("proto", proto).key("dst", &part(at));
        *text +=
            &statement.key("dport", &ports(&port)).key("to", &[&host, colon, &host_port].concat()).line();
        if !host.is_empty() && !text.contains("ct=dnat") {
            *text += "rule dir=fwd action=accept proto=all ct=dnat\n";
        }
    });
}
