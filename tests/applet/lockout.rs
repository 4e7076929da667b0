//! Rule sets that cut the host off from what it needs, and those that do not though they look like it: `mef
//! check` runs them and tells, `mef load` refuses what would end the SSH session that it runs in.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::{Net, Output, Peer, wait_until};

/// A host with an uplink (v0, IPv4 and IPv6), and another link (v1).
fn host() -> (Net, [Peer; 2]) {
    let mut net = Net::new();
    let peers = [net.peer(), net.peer()];
    net.ip("route add default via 192.0.2.2");
    net.ip("-6 route add default via 2001:db8::2");
    (net, peers)
}

fn run(net: &Net, command: &str, session: &str, rules: &str) -> Output {
    let path = net.write("x.rules", rules);
    let mut command = net.mef_command(&[command, path.to_str().unwrap()]);
    if !session.is_empty() {
        command.env("SSH_CONNECTION", session);
    }
    net.run(command)
}

const V4: &str = "192.0.2.2 50022 192.0.2.1 22";
const V6: &str = "2001:db8::2 50022 2001:db8::1 22";
const GOOD: &str = "policy dir=in action=drop
rule dir=in action=accept proto=all iif=lo
rule dir=in action=accept proto=all ct=established,related
rule dir=in action=accept proto=icmp6
";

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn who_is_locked_out() {
    let (net, _peers) = host();
    let ssh = "rule dir=in action=accept proto=tcp dport=22";
    let good = |more: &str| format!("{GOOD}{more}\n");
    let whole_out = "policy dir=out action=drop\nrule dir=out action=accept proto=all oif=*\n";
    // Rules, session, and the words of the refusal; none if they are loaded.
    let cases = [
        (good(ssh), V4, ""),
        (good(ssh), V6, ""),
        (good(&format!("{ssh} limit=3/m/src")), V4, ""),
        (good(&format!("{ssh} limit=3/m")), V4, ""),
        (good(&format!("{ssh} iif=v0")), V4, ""),
        (good(&format!("{ssh} iif=auto")), V4, ""),
        (good(&format!("{ssh} iif=!v1")), V4, ""),
        (good(&format!("{ssh} iif=v*")), V4, ""),
        (good(&format!("{ssh} src=192.0.2.0/24")), V4, ""),
        (good(&format!("{ssh} dst=192.0.2.1,2001:db8::1")), V6, ""),
        (
            good(
                "set name=s family=any type=addr elements=192.0.2.0-192.0.2.9\nrule dir=in action=accept \
                 proto=tcp dport=22 src=@s",
            ),
            V4,
            "",
        ),
        (good(&format!("{ssh}\n{whole_out}")), V4, ""),
        (good(""), "", ""),
        (String::new(), V4, ""),
        (good(""), V4, "no new SSH session"),
        (good(&format!("{ssh} iif=wg0")), V4, "no new SSH session"),
        (good(&format!("{ssh} iif=v1")), V4, "no new SSH session"),
        (good(&format!("{ssh} iif=!v0")), V4, "no new SSH session"),
        (good(&format!("{ssh} iif=lo")), V4, "no new SSH session"),
        (good(&format!("{ssh} src=198.51.100.0/24")), V4, "no new SSH session"),
        (good(&format!("{ssh} dst=198.51.100.1")), V4, "no new SSH session"),
        (good(&format!("{ssh} family=ip")), V6, "no new SSH session"),
        (
            good(&format!("rule dir=in action=drop proto=tcp src=192.0.2.0/24\n{ssh}")),
            V4,
            "no new SSH session",
        ),
        (
            good(&format!("rule dir=in action=reject proto=all iif=v0 limit=any\n{ssh}")),
            V4,
            "no new SSH session",
        ),
        (good("rule dir=in action=accept proto=tcp dport=22 ct=established"), V4, "no new SSH session"),
        (good(&format!("{ssh}\npolicy dir=out action=drop")), V4, "does not get out"),
        (good(&format!("{ssh}\nrule dir=out action=reject proto=tcp sport=22")), V4, "does not get out"),
        ("policy dir=out action=drop".into(), V4, "does not get out"),
        (
            "policy dir=out action=drop\nrule dir=out action=accept proto=all oif=lo".into(),
            V4,
            "does not get out",
        ),
        (
            "policy dir=out action=drop\nrule dir=out action=accept proto=all limit=9/s".into(),
            V4,
            "does not get out",
        ),
        ("rule dir=in action=drop proto=tcp ct=established,new iif=v0".into(), V4, "no new SSH session"),
        (
            "policy dir=in action=drop\nrule dir=in action=accept proto=tcp dport=22 ct=new".into(),
            V4,
            "SSH session that runs is cut",
        ),
        (
            "policy dir=in action=drop\nrule dir=in action=accept proto=tcp dport=22 ct=new\n\
          rule dir=in action=accept proto=all ct=established limit=5/s"
                .into(),
            V4,
            "SSH session that runs is cut",
        ),
    ];
    judged(&net, &cases);
}

/// Loads or refuses each rule set, and says why.
fn judged(net: &Net, cases: &[(String, &str, &str)]) {
    let mut wrong = String::new();
    for (rules, session, why) in cases {
        let (session, why) = (*session, *why);
        let checked = run(net, "check", session, rules);
        let out = run(net, "load", session, rules);
        let refused = out.stderr.contains("--force loads them anyway");
        let right = checked.status == 0
            && checked.stdout.contains(why)
            && (out.status != 0, refused) == (!why.is_empty(), !why.is_empty());
        if !right {
            wrong += &format!("{why}: {checked:?} {out:?}\n{rules}\n");
            continue;
        }
        if refused {
            assert!(out.stderr.lines().last().unwrap().contains(why), "{why}: {out:?}");
            let path = net.path("x.rules");
            for more in [["--force"].as_slice(), &["--boot"], &["--confirm", "1s"]] {
                let mut command = net.mef_command(&["load", path.to_str().unwrap()]);
                command.args(more).env("SSH_CONNECTION", session);
                // A trial ends, since nobody confirms it.
                let trial = more.len() == 2;
                if trial && rules.len() % 5 != 0 {
                    continue;
                }
                let out = net.run(command);
                assert_eq!(out.status == 1, trial, "{more:?} {out:?}");
                assert!(!out.stderr.contains("--force loads"), "{more:?} {out:?}");
            }
            net.mef(&["load", net.write("y.rules", "").to_str().unwrap()]).ok();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Every word of the language that can be in the way of a session, or only looks so.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn who_is_locked_out_by_which_words() {
    let (net, _peers) = host();
    let ssh = "rule dir=in action=accept proto=tcp dport=22";
    let allows = |more: &str| format!("{GOOD}{ssh} {more}\n");
    let before = |more: &str| format!("{more}\n{GOOD}{ssh}\n");
    let out = |more: &str| {
        format!(
            "policy dir=out action=drop\nrule dir=out action=accept proto=all oif=lo\n\
         rule dir=out action=accept {more}\n"
        )
    };
    let (new, cut, answers) = ("no new SSH session", "SSH session that runs is cut", "does not get out");
    let nat = "a nat statement sends new SSH sessions elsewhere";
    let mine: [(String, &str); 59] = [
        // Its destination is translated, or that of others only.
        (before("nat dir=pre action=dnat to=10.0.0.5 iif=auto"), nat),
        (before("nat dir=pre action=dnat to=10.0.0.5:22 proto=tcp dport=22"), nat),
        (before("nat dir=pre action=redirect to=:2222 proto=tcp dport=22"), nat),
        (before("nat dir=pre action=dnat to=10.0.0.5 proto=tcp dport=1-1023 src=192.0.2.0/24"), nat),
        (before("nat dir=pre action=dnat to=10.0.0.5 proto=tcp dport=80,443"), ""),
        (before("nat dir=pre action=dnat to=10.0.0.5 src=198.51.100.0/24"), ""),
        (before("nat dir=pre action=accept proto=tcp dport=22\nnat dir=pre action=dnat to=10.0.0.5"), ""),
        (before("nat dir=pre action=redirect to=:22 proto=tcp dport=2222"), ""),
        (before("nat dir=pre action=redirect to=:22 proto=tcp dport=22"), ""),
        (before("nat dir=pre action=dnat to=192.0.2.1:22 proto=tcp dport=22"), ""),
        (
            before(
                "nat dir=pre action=redirect to=:22 proto=tcp dport=2222\n\
                 nat dir=pre action=dnat to=10.0.0.5 proto=tcp",
            ),
            "",
        ),
        (before("nat dir=post action=masquerade oif=auto"), ""),
        // Groups.
        (
            format!(
                "{GOOD}group name=g\nrule group=g action=accept proto=tcp dport=22\n\
             rule dir=in action=group:g proto=all\n"
            ),
            "",
        ),
        (
            format!(
                "{GOOD}group name=g\nrule group=g action=accept proto=tcp dport=22 iif=v1\n\
             rule dir=in action=group:g proto=all\n"
            ),
            new,
        ),
        (
            format!(
                "{GOOD}group name=g\nrule group=g action=drop proto=tcp src=192.0.2.2\n\
             rule dir=in action=group:g proto=all\n{ssh}\n"
            ),
            new,
        ),
        (
            format!(
                "{GOOD}group name=g\nrule group=g action=drop proto=tcp src=192.0.2.3\n\
             rule dir=in action=group:g proto=all\n{ssh}\n"
            ),
            "",
        ),
        (
            format!(
                "group name=g\nrule group=g action=reject proto=all\n\
             rule dir=in action=group:g proto=tcp iif=v0\n{GOOD}{ssh}\n"
            ),
            new,
        ),
        // Who leaves a group comes to the rules behind it.
        (
            format!(
                "{GOOD}group name=g\nrule group=g action=return proto=tcp src=192.0.2.2\n\
             rule group=g action=drop proto=all\nrule dir=in action=group:g proto=all\n{ssh}\n"
            ),
            "",
        ),
        (
            format!(
                "{GOOD}group name=g\nrule group=g action=return proto=tcp mark=1\n\
             rule group=g action=drop proto=all\nrule dir=in action=group:g proto=all\n{ssh}\n"
            ),
            "",
        ),
        (
            format!(
                "{GOOD}group name=g\nrule group=g action=return proto=tcp src=192.0.2.3\n\
             rule group=g action=drop proto=all\nrule dir=in action=group:g proto=all\n{ssh}\n"
            ),
            new,
        ),
        // Who is put into a set.
        (
            before(
                "rule dir=in action=drop proto=all src=@bad\n\
                 rule dir=in action=add:@bad/1h proto=tcp dport=22",
            ),
            new,
        ),
        (
            before(
                "rule dir=in action=add:@bad/1h proto=tcp dport=!80\n\
                 rule dir=in action=drop proto=all src=@bad",
            ),
            new,
        ),
        (
            before(
                "rule dir=in action=drop proto=all src=@bad\n\
                 rule dir=in action=add:@bad/1h proto=tcp dport=23",
            ),
            "",
        ),
        (
            before(
                "rule dir=in action=drop proto=tcp src=@bad dport=80\n\
                 rule dir=in action=add:@bad/1h proto=tcp",
            ),
            "",
        ),
        (allows("src=@k\nrule dir=in action=add:@k/1h proto=tcp dport=7000"), ""),
        // Connections at a time, limits.
        (allows("ct=new conns=9/src"), ""),
        (allows("ct=new conns=9"), ""),
        (allows("ct=new conns=1/src"), ""),
        // The way back, kinds of addresses.
        (before("rule dir=in action=drop proto=all rpf=fail"), ""),
        (before("rule dir=in action=drop proto=all src=local"), ""),
        (before("rule dir=in action=drop proto=all dst=!local"), ""),
        (before("rule dir=in action=drop proto=all dst=broadcast,multicast"), ""),
        (before("rule dir=in action=drop proto=all dst=local"), new),
        (before("rule dir=in action=drop proto=all src=!local"), new),
        (allows("rpf=fail"), new),
        (allows("dst=multicast"), new),
        (allows("dst=local src=unicast"), ""),
        // Flags.
        (before("rule dir=in action=drop proto=tcp flags=none/fin,syn,rst,ack"), ""),
        (before("rule dir=in action=drop proto=tcp flags=fin,syn/fin,syn"), ""),
        (before("rule dir=in action=drop proto=tcp flags=!syn/fin,syn,rst,ack ct=new"), ""),
        (before("rule dir=in action=drop proto=tcp flags=syn/fin,syn,rst,ack"), new),
        (before("rule dir=in action=drop proto=tcp flags=ack/ack"), cut),
        (allows("flags=ack/ack"), new),
        (allows("flags=syn/fin,syn,rst,ack"), ""),
        // Who sends.
        (out("proto=tcp uid=0"), ""),
        (out("proto=all uid=root gid=root"), ""),
        (out("proto=tcp uid=!0"), answers),
        (out("proto=tcp uid=33,100"), answers),
        (before("rule dir=out action=drop proto=all uid=root"), answers),
        (before("rule dir=out action=reject proto=tcp uid=!root dport=25"), ""),
        // What nothing is known of decides nothing.
        (allows("mac=02:00:00:00:00:07"), ""),
        (before("rule dir=in action=drop proto=all mac=02:00:00:00:00:07"), ""),
        (before("rule dir=in action=drop proto=all mark=1"), ""),
        (before("rule dir=in action=drop proto=tcp dscp=ef"), ""),
        // Protocols.
        (before("rule dir=in action=drop proto=!udp,icmp"), new),
        (before("rule dir=in action=drop proto=!tcp,icmp,icmp6"), ""),
        (before("rule dir=in action=drop proto=gre,esp"), ""),
        (allows("src=!192.0.2.0/24"), new),
        (allows("src=!198.51.100.0/24 sport=!1-1023"), ""),
    ];
    let all: Vec<_> = mine.into_iter().map(|(rules, why)| (rules, V4, why)).collect();
    judged(&net, &all);
}

/// Days and times are those of the clock.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn who_is_locked_out_at_this_time_of_the_day() {
    let (net, _peers) = host();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let minutes = now % 86_400 / 60;
    let at = |minute: u64| format!("{:02}:{:02}", minute % 1440 / 60, minute % 60);
    // Hours of room on either side, so that nothing hangs on how long this takes.
    let [open, shut] = [(minutes + 1440 - 300, minutes + 300), (minutes + 300, minutes + 1440 - 300)]
        .map(|(from, to)| format!("{}-{}", at(from), at(to)));
    let day = |days: u64| {
        ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
            [usize::try_from((now / 86_400 + 4 + days) % 7).unwrap()]
    };
    let other = day(3);
    let ssh = "rule dir=in action=accept proto=tcp dport=22";
    let new = "no new SSH session";
    let cases = [
        (format!("{GOOD}{ssh} time={open}\n"), V4, ""),
        (format!("{GOOD}{ssh} time={shut}\n"), V4, new),
        (format!("rule dir=in action=drop proto=tcp time={open}\n{GOOD}{ssh}\n"), V4, new),
        (format!("rule dir=in action=drop proto=tcp time={shut}\n{GOOD}{ssh}\n"), V4, ""),
        (format!("{GOOD}{ssh} days={other}\n"), V4, new),
        (format!("{GOOD}{ssh} days=!{other}\n"), V4, ""),
    ];
    judged(&net, &cases);
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

const ND_IN: &str = "neighbour discovery does not get in, so IPv6 will not work";
const ND_OUT: &str = "neighbour discovery does not get out, so IPv6 will not work";
const ANSWERS: &str = "answers to what this host asks for do not get in";
const LOOPBACK: &str = "programs of this host cannot reach each other over loopback";
const SERVED: &str = "answers of this host's services do not get out";

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

/// As firewalld writes every service.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn packets_that_are_not_tracked_are_a_state() {
    let net = Net::new();
    net.nft(
        "table inet x { chain input { type filter hook input priority 10; ct state established,related \
        accept;
        iifname lo accept; tcp dport 22 ct state { new, untracked } accept; reject with icmpx \
        admin-prohibited; }; }",
    );
    let out = net.mef(&["export"]);
    assert!(out.status == 0 && out.stdout.contains("dport=22 ct=new,untracked"), "{out:?}");
    assert_eq!(run(&net, "load", "", &out.stdout).status, 0);
    let listed = net.nft_list("chain inet mef input");
    assert!(
        listed.contains("ct state new,untracked") || listed.contains("ct state { new, untracked }"),
        "{listed}"
    );
}
