//! What a host needs, whom it forwards for, and what others put into the table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

use super::{ANSWERS, GOOD, LOOPBACK, ND_IN, ND_OUT, SERVED, host, run};
use crate::common;
use common::{Net, wait_until};

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_a_host_needs() {
    let (net, _peers) = host();
    let cases: [(&str, &[&str]); 16] = [
        ("", &[]),
        (GOOD, &[]),
        ("policy dir=in action=drop", &[ND_IN, ANSWERS, LOOPBACK]),
        ("policy dir=in action=drop\nrule dir=in action=accept proto=all", &[LOOPBACK]),
        ("policy dir=out action=drop", &[ND_OUT, LOOPBACK, SERVED]),
        ("policy dir=out action=drop\nrule dir=out action=accept proto=all", &[LOOPBACK]),
        // A negation never means loopback.
        ("rule dir=out action=drop proto=all oif=!v0", &[]),
        ("rule dir=in action=drop proto=all iif=l*", &[]),
        ("rule dir=in action=drop proto=tcp iif=lo", &[&[LOOPBACK, ": TCP"].concat()]),
        // On one interface only, and behind a limit.
        (
            "policy dir=in action=drop\nrule dir=in action=accept proto=all iif=lo\n\
             rule dir=in action=accept proto=icmp6 iif=v1\nrule dir=in action=accept proto=all \
             ct=established,related iif=v1",
            &[ND_IN, ANSWERS],
        ),
        (
            "policy dir=in action=drop\nrule dir=in action=accept proto=all iif=lo\n\
             rule dir=in action=accept proto=icmp6 limit=10/s\nrule dir=in action=accept proto=all \
             ct=established,related",
            &[ND_IN],
        ),
        (
            "policy dir=in action=drop\nrule dir=in action=accept proto=all iif=lo\n\
             rule dir=in action=accept proto=icmp6\nrule dir=in action=accept proto=all \
             ct=established,related limit=50/s",
            &[&[ANSWERS, ": TCP over IPv4, UDP over IPv4, ICMP errors, TCP over IPv6, UDP over IPv6"]
                .concat()],
        ),
        (
            "policy dir=in action=drop\nrule dir=in action=accept proto=all iif=lo\n\
             rule dir=in action=accept proto=icmp6\nrule dir=in action=accept proto=tcp \
             ct=established,related",
            &[&[ANSWERS, ": UDP over IPv4, ICMP errors, UDP over IPv6"].concat()],
        ),
        // A bastion: what it may not ask for needs no answer.
        (
            "policy dir=in action=drop\nrule dir=in action=accept proto=all iif=lo\n\
             rule dir=in action=accept proto=icmp6\nrule dir=in action=accept proto=tcp dport=22\n\
             rule dir=in action=accept proto=tcp ct=established\nrule dir=in action=accept proto=icmp\n\
             policy dir=out action=drop\nrule dir=out action=accept proto=all oif=lo\n\
             rule dir=out action=accept proto=tcp\nrule dir=out action=accept proto=icmp6",
            &[],
        ),
        // Who is not let in needs no answer either.
        (
            "policy dir=in action=drop\nrule dir=in action=accept proto=all iif=lo\n\
             rule dir=in action=accept proto=icmp6\npolicy dir=out action=drop\n\
             rule dir=out action=accept proto=all oif=lo\nrule dir=out action=accept proto=icmp6",
            &[],
        ),
        ("policy dir=fwd action=drop", &[]),
    ];
    for (rules, want) in cases {
        assert_eq!(said(&net, rules), want, "{rules}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_host_of_one_family_needs_nothing_of_the_other() {
    let net = Net::new();
    net.ip("link add u0 type veth peer name u1");
    net.ip("link set u0 up");
    net.ip("link set u1 up");
    let v6 = "policy dir=in action=drop\nrule dir=in action=accept proto=all iif=lo\n\
              rule dir=in action=accept proto=icmp6\nrule dir=in action=accept proto=all family=ip6 \
              ct=established,related";
    let v4 = "policy dir=in action=drop\nrule dir=in action=accept proto=all iif=lo\n\
              rule dir=in action=accept proto=all family=ip ct=established,related";
    net.ip("addr add 2001:db8::1/64 dev u0 nodad");
    net.ip("-6 route add default via 2001:db8::2");
    assert_eq!(said(&net, v6), [""; 0]);
    assert!(!said(&net, v4).is_empty());
    net.ip("-6 addr flush dev u0");
    net.ip("-6 addr flush dev u1");
    net.ip("addr add 192.0.2.1/24 dev u0");
    assert_eq!(said(&net, v4), [""; 0]);
    assert!(!said(&net, v6).is_empty());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn those_for_whom_the_host_forwards_are_named() {
    let (net, _peers) = host();
    let drops = "policy dir=fwd action=drop\nrule dir=fwd action=accept proto=all ct=established,related\n";
    let of =
        |link: &str| format!("this host forwards for {link}, but nothing passes between that and the rest");
    assert_eq!(said(&net, drops), [""; 0]);
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    net.ip("link add br-1 type veth peer name in-1");
    net.ip("addr add 172.17.0.1/16 dev br-1");
    net.ip("link set br-1 up");
    let mut found = said(&net, drops);
    found.sort_unstable();
    assert_eq!(found, [of("br-1") + ": what goes out", of("v1") + ": what goes out"]);
    let passes = format!("{drops}rule dir=fwd action=accept proto=all iif=br-1 oif=v0\n");
    assert_eq!(said(&net, &passes), [of("v1") + ": what goes out"]);
    let passes = format!("{drops}rule dir=fwd action=accept proto=all iif=!v0\n");
    assert_eq!(said(&net, &passes), [""; 0]);
    assert_eq!(said(&net, "policy dir=fwd action=accept"), [""; 0]);
    assert_eq!(said(&net, "rule dir=fwd action=drop proto=all oif=br-1"), [of("br-1") + ": answers"]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn auto_without_a_default_route_is_no_interface() {
    let mut net = Net::new();
    let _peer = net.peer();
    let rules = "policy dir=in action=drop\nrule dir=in action=accept proto=tcp dport=22 iif=auto limit=9/s \
        log=prefix:x ratelimit=1/s\n\
                 rule dir=in action=accept proto=udp dport=53 iif=v0\nrule dir=out action=drop proto=tcp \
                 oif=auto dport=25\n";
    let out = run(&net, "load", "", rules);
    assert!(
        out.status == 0 && out.stderr.contains("warning: auto: there is no default route now"),
        "{out:?}"
    );
    let listed = net.nft_list("table inet mef");
    assert!(
        listed.contains("udp dport 53") && !listed.contains("dport 22") && !listed.contains("dport 25"),
        "{listed}"
    );
    // Half of all addresses is no default route; both halves are one, and so is what a policy table has.
    let meant = |net: &Net| !run(net, "check", "", rules).stdout.contains("there is no default route");
    net.ip("route add 0.0.0.0/1 via 192.0.2.2");
    assert!(!meant(&net));
    net.ip("route add 128.0.0.0/1 via 192.0.2.2");
    assert!(meant(&net));
    net.ip("route del 0.0.0.0/1");
    assert!(!meant(&net));
    net.ip("route add default via 192.0.2.2 table 77");
    assert!(meant(&net));
    net.ip("route del default table 77");
    net.ip("route add default via 192.0.2.2");
    let out = run(&net, "load", "", rules);
    assert!(out.status == 0 && !out.stderr.contains("auto"), "{out:?}");
    let listed = net.nft_list("table inet mef");
    assert!(listed.contains("iifname \"v0\" tcp dport 22") && listed.contains("oifname \"v0\""), "{listed}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_daemon_has_auto_follow_the_default_route() {
    let mut net = Net::new();
    let _peers = [net.peer(), net.peer()];
    let rules = "rule dir=in action=drop proto=tcp dport=22 iif=auto\n";
    assert_eq!(run(&net, "load", "", rules).status, 0);
    let links = |net: &Net| {
        let listed = net.nft_list("chain inet mef input");
        ["v0", "v1"].map(|link| listed.contains(&format!("iifname \"{link}\" tcp dport 22")))
    };
    assert_eq!(links(&net), [false, false]);
    // What came while no daemon ran is seen at its start.
    net.ip("route add default via 192.0.2.2");
    let daemon = net.mef_command(&["daemon", "--foreground"]);
    let daemon = net.start("daemon", daemon);
    wait_until("the route of before", || links(&net) == [true, false]);
    net.ip("route replace default via 198.51.100.2");
    wait_until("the route that moved", || links(&net) == [false, true]);
    net.ip("route del default");
    wait_until("no route", || links(&net) == [false, false]);
    net.ip("route add 0.0.0.0/1 via 192.0.2.2");
    net.ip("route add 128.0.0.0/1 via 192.0.2.2");
    wait_until("two halves", || links(&net) == [true, false]);
    // One without auto stays as it is, and what was taken out does not come back.
    assert_eq!(run(&net, "load", "", "rule dir=in action=drop proto=tcp dport=22 iif=v0\n").status, 0);
    let handle = net.cmd("nft", &["-a", "list", "table", "inet", "mef"]).stdout;
    net.ip("route add default via 198.51.100.2");
    assert_eq!(run(&net, "load", "", rules).status, 0);
    net.mef(&["unload"]).ok();
    net.ip("route del default");
    net.signal(daemon, libc::SIGTERM);
    net.wait(daemon);
    assert!(handle.contains("iifname \"v0\"") && net.nft_list("table inet mef").is_empty());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn lines_of_a_set_have_any_length_and_errors_show_a_part() {
    let net = Net::new();
    let elements: Vec<String> = (0..20_000).map(|i| format!("10.{}.{}.1", i / 250, i % 250)).collect();
    let set = format!("set name=many family=ip type=addr elements={}", elements.join(","));
    assert!(set.len() > 200_000);
    let rule = "rule dir=in action=drop proto=all src=@many\n";
    assert_eq!(run(&net, "load", "", &format!("{set}\n{rule}")).status, 0);
    // What was exported is read again.
    let exported = net.mef(&["export"]).ok();
    assert!(exported.contains("10.79.249.1"));
    assert_eq!(run(&net, "load", "", &exported).status, 0);
    let out = run(&net, "check", "", &format!("{set},nonsense,{}\n{rule}", elements.join(",")));
    assert!(out.status == 1 && out.stdout.len() < 2000, "{}", out.stdout.len());
    let lines: Vec<&str> = out.stdout.lines().collect();
    let at = lines.iter().position(|line| line.contains("| ...")).unwrap();
    let column = lines[at + 1].find('^').unwrap();
    assert_eq!(lines[at].get(column..column + 8), Some("nonsense"), "{}", out.stdout);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_others_put_into_the_table_is_seen() {
    let net = Net::new();
    let rules = "policy dir=in action=accept\nrule dir=in action=accept proto=tcp dport=22\n";
    assert_eq!(run(&net, "load", "", rules).status, 0);
    assert_eq!(run(&net, "diff", "", rules).stdout, "");
    net.nft(
        "table inet mef {
        chain mine { type filter hook input priority 5; policy drop; };
        chain early { type filter hook prerouting priority 5; };
        chain input { tcp dport vmap { 1 : accept, 2 : drop, 3 : accept }; }
    }",
    );
    let diff = run(&net, "diff", "", rules);
    let lines: Vec<&str> = diff.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines.iter().all(|line| line.starts_with("- # cannot be expressed: ")), "{lines:#?}");
    assert!(
        diff.stdout.contains("chain mine: priority 5 policy drop") && diff.stdout.contains("chain early")
    );
    assert_eq!(diff.stdout.matches("tcp dport vmap").count(), 1);
    // A table of another program goes, but not without a word.
    let out = run(&net, "load", "", rules);
    assert!(out.status == 0 && out.stderr.contains("holds chains or rules of another program"), "{out:?}");
    assert!(!run(&net, "load", "", rules).stderr.contains("another program"));
    // Nor one whose chains are called like ours, or a rule in ours; what mef adds by itself is nobody else's.
    let chain =
        |hook: &str| format!("chain {hook} {{ type filter hook {hook} priority filter; policy accept; }};");
    let alike = ["input", "forward", "output"].map(chain).concat();
    for (table, foreign) in [
        (format!("table inet mef {{ {alike} chain input {{ tcp dport 22 counter accept; }}; }}"), true),
        (format!("table inet mef {{ {} }}", chain("input")), true),
        ("table inet mef { set x { type ipv4_addr; }; }".to_owned(), true),
        (String::new(), false),
    ] {
        for command in ["load", "unload"] {
            net.mef(&["unload"]).ok();
            net.nft(&table);
            let out = if command == "load" { run(&net, "load", "", rules) } else { net.mef(&["unload"]) };
            assert_eq!(out.stderr.contains("of another program"), foreign, "{command} {table}: {out:?}");
            assert_eq!(out.status, 0, "{command} {table}");
        }
    }
    let own = [
        "policy dir=in action=reject\npolicy dir=out action=drop\nrule dir=in action=accept proto=all \
         iif=lo\n",
        "policy dir=in action=drop\nrule dir=in action=accept proto=tcp dport=22 limit=5/m/src \
         log=\"prefix:a\"\n",
        "policy dir=fwd action=reject\nrule dir=out action=reject proto=all oif=lo\nrule dir=out action=drop \
         proto=icmp\n",
    ];
    for rules in own {
        for _ in 0..2 {
            let out = net.mef_input(&["load", "--force", "-"], rules.as_bytes());
            assert!(out.status == 0 && !out.stderr.contains("another program"), "{rules}{out:?}");
        }
    }
    net.nft("add rule inet mef output tcp dport 25 drop");
    assert!(net.mef(&["unload"]).stderr.contains("held chains or rules of another program"));
}

/// What `check` says of a rule set, without places.
fn said(net: &Net, rules: &str) -> Vec<String> {
    let out = run(net, "check", "", rules).stdout;
    let warnings = out.lines().filter_map(|line| line.split_once(": warning: "));
    // A warning of no line has its advice behind it.
    warnings
        .map(|(_, what)| what.split(" (").next().unwrap().to_owned())
        .filter(|what| !what.contains("no interface"))
        .collect()
}
