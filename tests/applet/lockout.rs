//! Rule sets that cut the host off from what it needs, and those that do not though they look like it: `mef
//! check` runs them and tells, `mef load` refuses what would end the SSH session that it runs in.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod needs;

use crate::common;

use common::{Net, Output, Peer};

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

const ND_IN: &str = "neighbour discovery does not get in, so IPv6 will not work";
const ND_OUT: &str = "neighbour discovery does not get out, so IPv6 will not work";
const ANSWERS: &str = "answers to what this host asks for do not get in";
const LOOPBACK: &str = "programs of this host cannot reach each other over loopback";
const SERVED: &str = "answers of this host's services do not get out";

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
