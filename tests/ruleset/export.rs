//! `mef export` and `mef diff`: what was loaded comes back; what others made is said exactly or shown in a
//! comment. UPDATE_GOLDEN=1 writes tests/ruleset/export/*.rules anew.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use crate::common;

use common::{Net, Output, load, uncounted};
use fastrand::Rng;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ruleset/export")
}

/// A namespace with a default route, for `auto`.
fn host() -> Net {
    let net = Net::new();
    net.ip("link add eth0 type veth peer name eth1");
    net.ip("addr add 10.0.1.1/24 dev eth0");
    net.ip("link set eth0 up");
    net.ip("route add default via 10.0.1.2");
    net
}

fn diff(net: &Net, text: &str) -> Output {
    net.mef_input(&["diff", "-"], text.as_bytes())
}

/// The table without what it counts.
fn listed(net: &Net) -> String {
    uncounted(&net.nft_list("table inet mef"))
}

/// Text that differs in the lines that count: those of statements, and of comments that show rules.
fn count(text: &str, start: &str) -> usize {
    text.lines().filter(|line| line.starts_with(start)).count()
}

fn pick<'a>(rng: &mut Rng, all: &[&'a str]) -> &'a str {
    all[rng.usize(0..all.len())]
}

/// Some of a list, as the language writes it; at least one.
fn some(rng: &mut Rng, all: &[&str]) -> String {
    let mut found: Vec<&str> = (0..rng.usize(1..4)).map(|_| pick(rng, all)).collect();
    found.sort_unstable();
    found.dedup();
    found.join(",")
}

/// A rule with any of the keys.
fn random_rule(rng: &mut Rng) -> String {
    const V4: [&str; 6] =
        ["192.0.2.1", "192.0.2.0/24", "10.0.0.3-10.0.0.9", "@four", "0.0.0.0/0", "198.51.100.7"];
    const V6: [&str; 4] = ["2001:db8::1", "2001:db8:1::/48", "@six", "::/0"];
    // Some with numbers that are neighbours: a range.
    let proto = pick(rng, &["all", "tcp", "udp", "icmp", "icmp6", "ah,esp", "esp,112,ah,113", "!50,51"]);
    let dir = pick(rng, &["in", "out", "fwd"]);
    let family = match proto {
        "icmp" => "ip",
        "icmp6" => "ip6",
        _ => pick(rng, &["any", "ip", "ip6"]),
    };
    let mut rule =
        format!("rule dir={dir} action={} proto={proto}", pick(rng, &["accept", "drop", "reject"]));
    if !proto.starts_with("icmp") {
        rule += &format!(" family={family}");
    }
    let addresses = |rng: &mut Rng| match family {
        "ip" => some(rng, &[&V4[..], &["@both"]].concat()),
        "ip6" => some(rng, &[&V6[..], &["@both"]].concat()),
        _ => some(rng, &[&V4[..], &V6[..], &["@both"]].concat()),
    };
    for key in ["src", "dst"] {
        if rng.u8(0..3) == 0 {
            // One that is in both families at least, or the two lists may have none in common.
            let list = addresses(rng);
            rule += &format!(" {key}={list}{}", if list.contains("@both") { "" } else { ",@both" });
        }
    }
    if matches!(proto, "tcp" | "udp") {
        for key in ["sport", "dport"] {
            if rng.u8(0..3) == 0 {
                let ports = some(rng, &["22", "25", "80-90", "91", "0", "60000-65535", "@web", "@more"]);
                rule += &format!(" {key}={ports}");
            }
        }
    }
    const LINKS: [&str; 9] =
        ["any", "auto", "lo", "*", "eth0", "eth1,eth0", "ppp*,eth1", "!eth0,lo", "wlan*,tun*,a-b"];
    for (key, not) in [("iif", "out"), ("oif", "in")] {
        if dir != not && rng.bool() {
            rule += &format!(" {key}={}", pick(rng, &LINKS));
        }
    }
    if rng.u8(0..3) == 0 {
        rule += &format!(" ct={}", some(rng, &["new", "established", "related", "invalid"]));
    }
    if rng.u8(0..4) == 0 {
        rule += &format!(" limit={}{}", pick(rng, &["5/s", "10/m", "3/h", "9/d"]), pick(rng, &["", "/src"]));
        rule += pick(rng, &["", " burst=1", " burst=5", " burst=20"]);
    }
    if rng.u8(0..4) == 0 {
        rule +=
            pick(rng, &[" log=prefix:x", " log=\"prefix:a b: \"", " log=\"prefix:q\\\"q\"", " log=prefix:"]);
        rule += pick(rng, &["", " ratelimit=5/m", " ratelimit=1/s"]);
    }
    if rng.bool() {
        let comments =
            ["x", "\"two words\"", "\"quo\\\"te\"", "\"#1\"", "ü", "\" blanks \"", "back\\slash", "", "\"\""];
        let comment = pick(rng, &comments);
        rule += if comment.is_empty() { String::new() } else { format!(" comment={comment}") }.as_str();
    }
    rule + "\n"
}

fn random_rules(rng: &mut Rng) -> String {
    let mut text = "set name=four family=ip type=addr elements=203.0.113.1,203.0.113.64/26\n\
                    set name=six family=ip6 type=addr elements=2001:db8:f::/48\n\
                    set name=both family=any type=addr elements=203.0.113.9,203.0.113.10,2001:db8:e::1\n\
                    set name=web family=any type=port elements=80,443\n\
                    set name=more family=any type=port elements=1000-2000,2001,53\n"
        .to_owned();
    for dir in ["in", "out", "fwd"] {
        if rng.bool() {
            text += &format!("policy dir={dir} action={}\n", pick(rng, &["accept", "drop", "reject"]));
        }
    }
    (0..rng.usize(1..30)).for_each(|_| text += &random_rule(rng));
    text
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_is_loaded_comes_back() {
    let net = host();
    let mut rng = Rng::with_seed(17);
    for round in 0..60 {
        let text = random_rules(&mut rng);
        load(&net, &text);
        let before = listed(&net);
        let said = diff(&net, &text);
        assert_eq!((said.status, said.stdout.as_str()), (0, ""), "{round}: {text}");
        let exported = net.mef(&["export"]);
        assert_eq!(exported.status, 0);
        assert_eq!(count(&exported.stdout, "# cannot"), 0, "{round}: {text}\n{}", exported.stdout);
        assert_eq!(
            count(&exported.stdout, "rule "),
            count(&text, "rule "),
            "{round}: {text}\n{}",
            exported.stdout
        );
        net.mef(&["unload"]).ok();
        load(&net, &exported.stdout);
        assert_eq!(listed(&net), before, "{round}: {text}\n{}", exported.stdout);
        assert_eq!(diff(&net, &text).status, 0, "{round}: {text}\n{}", exported.stdout);
        assert_eq!(net.mef(&["export"]).stdout, exported.stdout);
    }
}

/// Kinds of addresses stand beside addresses that only one family may have.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn kinds_beside_addresses_come_back_once() {
    let net = host();
    for (keys, want) in [
        ("dst=!224.0.0.0/4 dst-kind=!multicast,local", "dst=!224.0.0.0/4,local,multicast"),
        ("dst=!224.0.0.0/4,local", "dst=!224.0.0.0/4,local"),
        ("dst=!224.0.0.0/4,ff00::/8 dst-kind=!local", "dst=!224.0.0.0/4,ff00::/8,local"),
        ("src=!10.0.0.0/8 src-kind=local family=ip", "src=!10.0.0.0/8"),
        ("src=10.0.0.0/8 src-kind=!local", "src-kind=!local"),
        ("src=local,10.0.0.0/8", "src=10.0.0.0/8,local"),
    ] {
        let text = ["rule dir=in action=drop proto=all ", keys, "\n"].concat();
        load(&net, &text);
        assert_eq!(diff(&net, &text).status, 0, "{text}");
        let exported = net.mef(&["export"]).stdout;
        assert_eq!(count(&exported, "rule "), 1, "{exported}");
        assert!(exported.contains(want) && count(&exported, "# cannot") == 0, "{text}{exported}");
        load(&net, &exported);
        assert_eq!(diff(&net, &text).status, 0, "{exported}");
    }
}

/// Of an empty set nothing is excepted, and nothing is in it.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn sets_without_elements_come_back() {
    let net = host();
    let sets = "set name=a family=any type=addr elements=none\n\
                set name=p family=any type=port elements=none\n\
                set name=i family=any type=iface elements=none\n";
    for rules in [
        "rule dir=in action=count proto=all src=!@a\nrule dir=in action=count proto=tcp dport=!@p",
        "rule dir=in action=count proto=all src=@a\nrule dir=fwd action=count proto=tcp dport=@p",
        "rule dir=in action=count proto=all iif=!@i",
        "rule dir=in action=count proto=all iif=!@i\nrule dir=in action=drop proto=all iif=!eth0\n\
         rule dir=in action=accept proto=all iif=lo",
        "rule dir=fwd action=count proto=all iif=!@i oif=!@i",
        "rule dir=in action=count proto=all iif=@i\nrule dir=out action=count proto=all oif=!@i",
    ] {
        let text = [sets, rules, "\n"].concat();
        load(&net, &text);
        let said = diff(&net, &text);
        assert_eq!((said.status, said.stdout.as_str()), (0, ""), "{text}");
        let exported = net.mef(&["export"]).stdout;
        assert_eq!(count(&exported, "# cannot"), 0, "{exported}");
        load(&net, &exported);
        assert_eq!(diff(&net, &text).status, 0, "{exported}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn diff_tells_what_load_would_change() {
    let net = host();
    let short = |said: &str| {
        let words = |line: &str| {
            let kept = line
                .split(' ')
                .filter(|word| !["=any", "=none", "=\"\""].iter().any(|default| word.ends_with(default)));
            kept.collect::<Vec<_>>().join(" ")
        };
        said.lines().map(words).collect::<Vec<_>>()
    };
    let rule = |port: &str| format!("rule dir=in action=accept proto=tcp dport={port}\n");
    let old = format!("policy dir=in action=drop\n{}{}{}", rule("22"), rule("80,443"), rule("25"));
    assert_eq!(diff(&net, &old).stdout.lines().count(), 6, "nothing is loaded");
    load(&net, &old);
    let cases: &[(&str, String, &[&str])] = &[
        ("nothing", old.clone(), &[]),
        (
            "other words",
            format!("{}# x\n{}policy action=drop dir=in\n{}", rule("22-22"), rule("443,80"), rule("25")),
            &[],
        ),
        (
            "one gone",
            format!("policy dir=in action=drop\n{}{}", rule("22"), rule("25")),
            &["- rule dir=in action=accept proto=tcp dport=80,443"],
        ),
        (
            "one more at the top, one other",
            format!("policy dir=in action=drop\n{}{}{}{}", rule("1"), rule("22"), rule("80"), rule("25")),
            &[
                "+ rule dir=in action=accept proto=tcp dport=1",
                "- rule dir=in action=accept proto=tcp dport=80,443",
                "+ rule dir=in action=accept proto=tcp dport=80",
            ],
        ),
        (
            "another order",
            format!("policy dir=in action=drop\n{}{}{}", rule("25"), rule("22"), rule("80,443")),
            &[
                "+ rule dir=in action=accept proto=tcp dport=25",
                "- rule dir=in action=accept proto=tcp dport=25",
            ],
        ),
        (
            "policy and auto",
            format!("{old}policy dir=fwd action=reject\nrule dir=out action=drop proto=all oif=auto\n"),
            &[
                "- policy dir=fwd action=accept",
                "+ policy dir=fwd action=reject",
                "+ rule dir=out action=drop proto=all oif=eth0",
            ],
        ),
    ];
    for (name, text, want) in cases {
        let said = diff(&net, text);
        assert_eq!(short(&said.stdout), *want, "{name}");
        assert_eq!(said.status, i32::from(!want.is_empty()), "{name}: {}", said.stderr);
    }
    // A rule that somebody added by hand is seen, and one that was taken away.
    net.cmd("nft", &["insert", "rule", "inet", "mef", "input", "meta", "mark", "7", "accept"]).ok();
    let said = diff(&net, &old);
    assert_eq!(said.status, 1);
    assert!(
        said.stdout.starts_with("- # cannot be expressed: ") && said.stdout.contains("meta mark 0x00000007"),
        "{said:?}"
    );
    load(&net, &old);
    net.cmd("nft", &["flush", "chain", "inet", "mef", "input"]).ok();
    assert_eq!(diff(&net, &old).stdout.lines().filter(|l| l.starts_with("+ rule")).count(), 3);
    // Errors are no differences, but the same status with words.
    let wrong = diff(&net, "rule dir=in\n");
    assert_eq!((wrong.status, wrong.stdout.as_str()), (1, ""));
    assert!(wrong.stderr.contains("rule without action"), "{wrong:?}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn tables_of_others_are_said_exactly_or_shown() {
    for name in ["server", "firewalld", "traps"] {
        let net = host();
        let file = directory().join(name).with_extension("nft");
        net.nft(&fs::read_to_string(&file).unwrap());
        golden(&net, name);
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn iptables_rules_are_said_exactly_or_shown() {
    let net = host();
    for family in ["ip", "ip6"] {
        let text = fs::read(directory().join(["iptables-", family].concat())).unwrap();
        let program = if family == "ip" { "iptables-nft-restore" } else { "ip6tables-nft-restore" };
        net.input(program, &[], &text).ok();
    }
    let one = net.mef(&["export", "--family", "ip6", "--table", "filter"]).stdout;
    assert!(one.contains("# table ip6 filter") && !one.contains("# table ip filter"), "{one}");
    golden(&net, "iptables");
}

/// What is exported, as if older programs had put it into the kernel: nft before 1.1, whose meters are sets
/// without a name, and iptables before 1.8.10, which asks for the protocol of IPv4 as for that of IPv6.
fn older_words(exported: &str) -> String {
    let lines =
        exported.lines().filter(|line| *line != "# cannot be expressed: packets change it: set inet traps m");
    lines.map(|line| line.replace(" ip protocol ", " meta l4proto ") + "\n").collect()
}

/// What is exported is as expected, and a rule set without errors.
#[track_caller]
fn golden(net: &Net, name: &str) {
    let exported = net.mef(&["export"]);
    let text = exported.stdout;
    // What stops packets and is lost is told, and has to be deleted by hand.
    let inexpressible = "lost action=drop # cannot be expressed: ";
    let lost = text.lines().filter(|line| line.starts_with(inexpressible)).count();
    assert_eq!(exported.status, i32::from(lost > 0), "{}", exported.stderr);
    if lost > 0 {
        assert!(
            exported.stderr.contains(&format!("{lost} of them drop or refuse packets")),
            "{}",
            exported.stderr
        );
        let refused = net.mef_input(&["load", "--check", "-"], text.as_bytes());
        assert_eq!(refused.stderr.matches("could not be exported").count(), lost, "{}", refused.stderr);
    }
    let file = directory().join(name).with_extension("rules");
    let older = older_words(&text);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, &older).unwrap();
    }
    assert_eq!(older, fs::read_to_string(&file).unwrap(), "{name}");
    let kept = text.lines().filter(|line| !line.starts_with("lost "));
    let text: String = kept.flat_map(|line| [line, "\n"]).collect();
    let path = net.write("exported.rules", &text);
    let checked = net.mef(&["check", path.to_str().unwrap()]);
    assert_eq!(checked.status, 0, "{}", checked.stdout);
    let rules = count(&text, "rule ") + count(&text, "nat ");
    let unsaid = count(&text, "# cannot be expressed: ") + lost;
    let words = format!("mef: {rules} rules; {unsaid} that cannot be expressed are comments\n");
    assert!(exported.stderr.starts_with(&words), "{}", exported.stderr);
    // It can be loaded, and then it is what it says.
    net.nft("flush ruleset");
    load(net, &text);
    let again = net.mef(&["export"]).stdout;
    assert_eq!(count(&again, "rule ") + count(&again, "nat "), rules, "{again}");
    assert_eq!(diff(net, &text).status, 0);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_goto_with_a_limit_is_one_rule_or_none() {
    let net = host();
    net.nft(
        "table ip filter { chain INPUT { type filter hook input priority filter; policy accept; \
         tcp flags syn limit rate 5/second goto OK; udp dport 5 goto PLAIN; drop; }; \
         chain OK { tcp dport 22 accept; }; chain PLAIN { udp sport 7 accept; }; }",
    );
    let text = net.mef(&["export"]).stdout;
    // It would be the jump and the way out of it, each with a bucket.
    assert!(!text.lines().any(|line| line.starts_with("rule ") && line.contains("limit=5/s")), "{text}");
    assert!(
        text.contains("# cannot be expressed: it limits, logs or changes packets, and would be"),
        "{text}"
    );
    // Without a limit it is said: who is not accepted there has left the chain for the policy.
    let is_plain =
        |line: &str| line.starts_with("rule dir=in action=accept ") && line.contains(" sport=any dport=5 ");
    assert!(text.lines().any(is_plain), "{text}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn our_groups_are_declared_and_no_chain_of_others_comes_into_them() {
    let net = host();
    let ours = "policy dir=in action=accept\ngroup name=blocked\n\
        rule group=blocked action=drop proto=all src=192.0.2.9\n\
        rule dir=in action=group:blocked proto=tcp dport=80\n";
    load(&net, ours);
    net.nft(
        "table ip other { chain blocked { tcp dport 99 limit rate 5/second accept; udp dport 9 drop; }; \
         chain forward { type filter hook forward priority filter; policy accept; \
         ip saddr 10.0.0.1 jump blocked; ip saddr 10.0.0.2 jump blocked; }; }",
    );
    let text = net.mef(&["export"]).stdout;
    for (name, rules) in [("blocked", 1), ("blocked2", 2)] {
        assert_eq!(text.lines().filter(|line| *line == format!("group name={name}")).count(), 1, "{text}");
        let of = |word: &str| text.lines().filter(|line| line.contains(&format!("{word}{name} "))).count();
        assert_eq!(of("rule group="), rules, "{text}");
        assert_eq!(of("action=group:"), rules, "{text}");
    }
    net.nft("flush ruleset");
    load(&net, &text);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn bans_are_never_exported() {
    let net = host();
    net.mef(&["ban", "203.0.113.7"]).ok();
    let all = net.mef(&["export"]);
    assert_eq!((all.status, all.stdout.as_str()), (0, ""), "{all:?}");
    assert_eq!(net.mef(&["export", "--table", "mef_guard"]).stdout, "");
    assert_eq!(net.mef(&["export", "--family", "ipv4"]).status, 2);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn hostile_words_stay_in_their_places() {
    let net = host();
    // Bytes as nft never sends them: names and comments with what ends lines, comments and quotes.
    net.nft(
        "table inet t { chain input { type filter hook input priority 0; policy accept;\n\
         tcp dport 1 accept comment \"a # b \\ policy dir=in action=accept\"\n\
         meta mark 1 log prefix \"\u{1b}[31m\u{202e}x\" accept comment \"\u{9b}31m\u{202e}\"\n\
         tcp dport 2 log prefix \"\u{1b}]0;x\" accept comment \"ends in \\\"\n }\n }\n",
    );
    let out = net.mef(&["export"]);
    assert_eq!(count(&out.stdout, "rule "), 1, "{}", out.stdout);
    assert!(!out.stdout.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}'), "{}", out.stdout);
    let path = net.write("exported.rules", &out.stdout);
    assert_eq!(net.mef(&["check", path.to_str().unwrap()]).status, 0);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn ten_thousand_rules() {
    let net = host();
    let rule = |i: u32| {
        let (port, a, b) = (i % 60_000 + 1, i / 256, i % 256);
        // Each list is a set, and the time that a kernel takes for these grows with their square.
        let more = if i.is_multiple_of(10) { format!(",{}", port + 2) } else { String::new() };
        format!(
            "rule dir=in action=drop proto=tcp dport={port}{more} src=10.{a}.{b}.1 limit=5/m log=prefix:x\n"
        )
    };
    let text: String = (0..10_000).map(rule).collect();
    load(&net, &text);
    let start = Instant::now();
    let exported = net.mef(&["export"]).stdout;
    println!("export: {:?}", start.elapsed());
    assert_eq!(count(&exported, "rule "), 10_000);
    let other: String = (0..10_000).filter(|i| i % 3 > 0).chain(20_000..21_000).map(rule).collect();
    let start = Instant::now();
    let said = diff(&net, &other).stdout;
    println!("diff: {:?}", start.elapsed());
    assert_eq!((count(&said, "- rule"), count(&said, "+ rule")), (3334, 1000));
}
