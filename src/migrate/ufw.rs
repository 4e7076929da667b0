#![forbid(unsafe_code)]
//! ufw: `user.rules` and its defaults as a rule set. Its rules are the lines `### tuple ###`, which it reads
//! itself; what stands below them is made from those.

use super::packets::{self, Statement, Way, ports, words};
use super::{AskProgram, Migration, RULE_SET, needed, plain};
use crate::base::count::count;
use crate::setup::Root;

const USER: [[&str; 2]; 2] =
    [["/etc/ufw/user.rules", "/lib/ufw/user.rules"], ["/etc/ufw/user6.rules", "/lib/ufw/user6.rules"]];
/// Files that people change by hand, each with those that it may have been copied from.
const FRAMES: [(&str, &str, [&str; 2]); 4] = [
    ("/etc/ufw/before.rules", "ip", ["/usr/share/ufw/iptables/before.rules", "/usr/share/ufw/before.rules"]),
    (
        "/etc/ufw/before6.rules",
        "ip6",
        ["/usr/share/ufw/iptables/before6.rules", "/usr/share/ufw/before6.rules"],
    ),
    ("/etc/ufw/after.rules", "ip", ["/usr/share/ufw/iptables/after.rules", "/usr/share/ufw/after.rules"]),
    ("/etc/ufw/after6.rules", "ip6", ["/usr/share/ufw/iptables/after6.rules", "/usr/share/ufw/after6.rules"]),
];
const TUPLE: &str = "### tuple ###";
/// What ufw lets in before the rules of the user: who is asked about what.
const BEFORE: &str = "\
rule dir=in action=accept proto=all iif=lo
rule dir=out action=accept proto=all oif=lo
rule dir=in action=accept proto=all ct=established,related
rule dir=out action=accept proto=all ct=established,related
rule dir=fwd action=accept proto=all ct=established,related
rule dir=in action=accept proto=icmp6 icmp=echo-reply
rule dir=in action=drop proto=all ct=invalid
rule dir=in action=accept proto=icmp icmp=errors,echo-request
rule dir=in action=accept proto=icmp6 icmp=errors,echo-request,nd,inverse-solicitation,inverse-advertisement
rule dir=in action=accept proto=icmp6 icmp=mld,151,152,153 src=fe80::/10
rule dir=in action=accept proto=icmp6 icmp=144,145,146,147,148,149
rule dir=fwd action=accept proto=icmp icmp=errors,echo-request
rule dir=fwd action=accept proto=icmp6 icmp=errors,ping
rule dir=in action=accept proto=udp family=ip sport=67 dport=68
rule dir=in action=accept proto=udp family=ip6 sport=547 dport=546 src=fe80::/10 dst=fe80::/10
rule dir=in action=drop proto=all family=ip dst=!local,multicast,broadcast
rule dir=in action=accept proto=udp dst=224.0.0.251,ff02::fb dport=5353 comment=\"mDNS\"
rule dir=in action=accept proto=udp dst=239.255.255.250,ff02::f dport=1900 comment=\"UPnP\"
";
/// The same of what this host sends, where not everything may leave.
const BEFORE_OUT: &str = "\
rule dir=out action=accept proto=icmp6 icmp=errors,ping,nd,inverse-solicitation,inverse-advertisement
rule dir=out action=accept proto=icmp6 icmp=mld,148,149,151,152,153
";

/// Chains that both the user and the frames write to.
const CHAINS: [(&str, Way); 8] = [
    ("before-input", Way::In),
    ("after-input", Way::In),
    ("before-output", Way::Out),
    ("after-output", Way::Out),
    ("before-forward", Way::Forward),
    ("after-forward", Way::Forward),
    ("POSTROUTING", Way::Post),
    ("PREROUTING", Way::Pre),
];

/// One rule of the user.
struct UfwRule {
    statements: [Option<Statement>; 2],
    /// It names addresses of one family.
    is_bound: bool,
}

/// What becomes of packets that no rule decides on.
fn policy(word: Option<&str>) -> Option<&'static str> {
    match word? {
        "ACCEPT" | "accept" => Some("accept"),
        "REJECT" | "reject" => Some("reject"),
        "DROP" | "drop" => Some("drop"),
        _ => None,
    }
}

pub(super) fn read(root: &Root, _: (u64, i32), _: AskProgram<'_>) -> Result<Migration, String> {
    let mut to = Migration {
        stop: "ufw disable; systemctl disable ufw",
        back: "mef unload; ufw enable",
        ..Migration::default()
    };
    let [user, user6] = USER.map(|places| places.into_iter().find(|path| root.has(path)));
    let Some(user) = user else { return Err("no /etc/ufw/user.rules: ufw was never set up here".into()) };
    let defaults = root.text("/etc/default/ufw");
    let value = |key: &str| shell_value(&defaults, key);
    let is_v6 = !value("IPV6").is_some_and(|word| word.eq_ignore_ascii_case("no"));
    let v4 = rules(user, &needed(root, user)?, "ip", &mut to);
    let v6 = match user6.filter(|_| is_v6) {
        Some(path) => rules(path, &needed(root, path)?, "ip6", &mut to),
        None => Vec::new(),
    };
    let mut text = String::from("# From ufw. Rules are tried in this order; mef.rules(5) explains them.\n\n");
    let policy = |key: &str, default| policy(value(key).as_deref()).unwrap_or(default);
    let policies = [
        ("in", policy("DEFAULT_INPUT_POLICY", "drop")),
        ("out", policy("DEFAULT_OUTPUT_POLICY", "accept")),
        ("fwd", policy("DEFAULT_FORWARD_POLICY", "drop")),
    ];
    for (dir, action) in policies {
        text += &["policy dir=", dir, " action=", action, "\n"].concat();
    }
    text += "\n# What ufw lets pass before its rules.\n";
    let added: Vec<String> = FRAMES.iter().map(|frame| additions(root, frame, &mut to)).collect();
    let (before, after) = added.split_at(2);
    // Where among the others they stood is not known: what refuses comes first, what lets pass last.
    let is_drop = |line: &&str| line.contains("action=drop") || line.contains("action=reject");
    for line in before.iter().flat_map(|lines| lines.lines()).filter(is_drop) {
        text += &[line, "\n"].concat();
    }
    text += BEFORE;
    for line in before.iter().flat_map(|lines| lines.lines()).filter(|line| !is_drop(line)) {
        text += &[line, "\n"].concat();
    }
    if policies.iter().any(|(dir, action)| *dir == "out" && *action != "accept") {
        text += BEFORE_OUT;
    }
    text += "\n# The rules.\n";
    let rules = merge(v4, v6, &mut text);
    after.iter().for_each(|lines| text += lines);
    logging(
        &shell_value(&root.text("/etc/ufw/ufw.conf"), "LOGLEVEL").unwrap_or_default(),
        &policies,
        &mut text,
    );
    to.found.push(format!("{} of ufw", count(rules, "rule")));
    if !is_v6 {
        to.note(&[
            "/etc/default/ufw: IPV6=no: ufw let no IPv6 pass but its own; rules without addresses hold for \
                   both families here",
        ]);
    }
    to.files.push((RULE_SET.into(), text));
    Ok(to)
}

/// `KEY=value` of a file that a shell reads.
fn shell_value(text: &str, key: &str) -> Option<String> {
    let value = |line: &str| {
        Some(line.trim().strip_prefix(key)?.strip_prefix('=')?.trim_matches(['"', '\'']).to_owned())
    };
    text.lines().rev().find_map(value)
}

/// The rules of a file, in their order.
fn rules(path: &str, text: &str, family: &str, to: &mut Migration) -> Vec<UfwRule> {
    let mut all = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let Some(tuple) = line.trim().strip_prefix(TUPLE) else { continue };
        match rule(tuple, family) {
            Ok(rule) => all.push(rule),
            Err(why) => to.note(&[
                path,
                ":",
                &number.to_string(),
                ": ",
                &why,
                ": write it into mef.rules: ",
                &plain(tuple),
            ]),
        }
    }
    all
}

/// A rule of ufw: action, protocol, port and address of the destination, of the source, perhaps the names of
/// applications, and the direction.
fn rule(tuple: &str, family: &str) -> Result<UfwRule, String> {
    let (tuple, comment) = tuple.split_once(" comment=").unwrap_or((tuple, ""));
    let fields: Vec<&str> = tuple.split_whitespace().collect();
    let [action, proto, dport, dst, sport, src, rest @ ..] = fields.as_slice() else {
        return Err("not a rule of ufw".into());
    };
    let (apps, dir) = match rest {
        [] => (&[][..], "in"),
        [dir] => (&[][..], *dir),
        [apps @ .., dir] => (apps, *dir),
    };
    let (way, action) = match action.split_once(':') {
        Some(("route", action)) => (Way::Forward, action),
        Some(_) => return Err("unknown kind of rule".into()),
        None if dir.starts_with("out") => (Way::Out, *action),
        None => (Way::In, *action),
    };
    let (action, logs) = match action.split_once("_log") {
        Some((action, _)) => (action, true),
        None => (action, false),
    };
    let (iif, oif) = interfaces(dir);
    let any = |text: &str| matches!(text, "any" | "0.0.0.0/0" | "::/0");
    let part = |text: &str| if any(text) { String::new() } else { text.to_owned() };
    let has_ports = *dport != "any" || *sport != "any";
    let proto = protocol(proto, if has_ports { "tcp,udp" } else { "all" });
    let mut comment = plain(&unhex(comment));
    if comment.is_empty() {
        let apps: Vec<&str> = apps.iter().copied().filter(|app| *app != "-").collect();
        comment = plain(&apps.join(" ").replace("%20", " "));
    }
    let make = |action: &str, word: &str| {
        let prefix =
            if logs || word == "LIMIT BLOCK" { ["prefix:[UFW ", word, "] "].concat() } else { String::new() };
        Statement::new(way, action)
            .key("proto", proto)
            .key("sport", &ports(&part(sport)))
            .key("dport", &ports(&part(dport)))
            .key("src", &part(src))
            .key("dst", &part(dst))
            .key("iif", &iif)
            .key("oif", &oif)
            .key("log", &prefix)
            .key("ratelimit", if prefix.is_empty() { "" } else { "3/m" })
            .key("comment", &comment)
    };
    let statements = match action {
        "allow" => [Some(make("accept", "ALLOW")), None],
        "deny" => [Some(make("drop", "BLOCK")), None],
        "reject" => [Some(make("reject", "BLOCK")), None],
        // The sixth connection within 30 seconds is refused.
        "limit" => [
            Some(make("accept", "LIMIT").key("ct", "new").key("limit", "10/m/src").key("burst", "6")),
            Some(make("reject", "LIMIT BLOCK").key("ct", "new")),
        ],
        _ => return Err(["unknown action '", &plain(action), "'"].concat()),
    };
    let of = |text: &str| !any(text) && text.contains(if family == "ip" { '.' } else { ':' });
    Ok(UfwRule { statements, is_bound: of(src) || of(dst) })
}

/// A protocol as it is called here.
fn protocol<'t>(word: &'t str, any: &'static str) -> &'t str {
    match word {
        "any" => any,
        "ipv6" => "41",
        other => other,
    }
}

/// `in_eth0`, `out_eth1`, `in_eth0!out_eth1`.
fn interfaces(dir: &str) -> (String, String) {
    let of = |word: &str| {
        let name = dir.split('!').find_map(|part| part.strip_prefix(word)).unwrap_or("");
        name.replace('+', "*")
    };
    (of("in_"), of("out_"))
}

fn unhex(text: &str) -> String {
    let digits: Vec<u8> = text.trim().bytes().collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    String::from_utf8_lossy(&digits.chunks(2).filter_map(byte).collect::<Vec<u8>>()).into_owned()
}

/// Writes the rules of both families, those that are the same once. Their order counts within a family only.
fn merge(v4: Vec<UfwRule>, v6: Vec<UfwRule>, text: &mut String) -> usize {
    let texts = |rule: UfwRule| {
        let lines = rule.statements.into_iter().flatten().map(Statement::text).collect::<Vec<_>>();
        (lines, rule.is_bound)
    };
    let mut rest: std::collections::VecDeque<_> = v6.into_iter().map(texts).collect();
    let mut count = 0;
    let mut put = |lines: &[String], family: &str| {
        count += 1;
        for line in lines {
            *text += &[line.as_str(), if family.is_empty() { "" } else { " family=" }, family, "\n"].concat();
        }
    };
    for (lines, is_bound) in v4.into_iter().map(texts) {
        match rest.iter().position(|(other, _)| *other == lines) {
            Some(at) => {
                for (own, is_bound) in rest.drain(..at) {
                    put(&own, if is_bound { "" } else { "ip6" });
                }
                rest.pop_front();
                put(&lines, "");
            }
            None => put(&lines, if is_bound { "" } else { "ip" }),
        }
    }
    for (own, is_bound) in rest {
        put(&own, if is_bound { "" } else { "ip6" });
    }
    count
}

/// Lines that somebody has added to one of the frames.
fn additions(root: &Root, (path, family, stock): &(&str, &str, [&str; 2]), to: &mut Migration) -> String {
    let is_line = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let text = root.text(path);
    let stock = stock.iter().find(|path| root.has(path)).map(|path| root.text(path));
    let Some(stock) = stock else {
        if !text.is_empty() {
            to.note(&[
                path,
                ": what you added to it is not taken over: the file that it began as is not here",
            ]);
        }
        return String::new();
    };
    let known: Vec<&str> = stock.lines().filter(is_line).map(str::trim).collect();
    let mut lines = String::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| is_line(line)) {
        let line = line.trim();
        if known.contains(&line) || line == "COMMIT" || line.starts_with([':', '*']) {
            continue;
        }
        match added(line, family) {
            Ok(statement) => lines += &[&statement, "\n"].concat(),
            Err(why) => to.note(&[path, ":", &number.to_string(), ": not taken over (", &why, "): ", line]),
        }
    }
    for (number, line) in (1..).zip(stock.lines()) {
        let line = line.trim();
        if is_line(&line) && !text.lines().any(|own| own.trim() == line) {
            to.note(&[
                path,
                ": you have removed or changed what is line ",
                &number.to_string(),
                " as it ships: ",
                line,
            ]);
        }
    }
    lines
}

fn added(line: &str, family: &str) -> Result<String, String> {
    let words = words(line);
    let [append, chain, rest @ ..] = words.as_slice() else { return Err("not a rule".into()) };
    let (_, way) = CHAINS
        .iter()
        .find(|(name, _)| {
            append == "-A" && chain.trim_start_matches("ufw6-").trim_start_matches("ufw-") == *name
        })
        .ok_or_else(|| [append, " ", chain].concat())?;
    packets::line(*way, family, rest)
}

/// What ufw logs unless it is told not to: packets that its policies drop.
fn logging(level: &str, policies: &[(&str, &str)], text: &mut String) {
    if level.is_empty() || level == "off" {
        return;
    }
    for (dir, _) in policies.iter().filter(|(_, action)| *action != "accept") {
        *text +=
            &["rule dir=", dir, " action=log proto=all log=\"prefix:[UFW BLOCK] \" limit=3/m burst=10\n"]
                .concat();
    }
}
