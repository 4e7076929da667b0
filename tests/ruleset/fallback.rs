//! Rule sets where nf_tables cannot be used: what they do to packets there, they do in iptables, too.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

use crate::common::backend::{also, with_iptables};
use crate::common::daemon::{LOG, fails, host};
use crate::common::world::Fate::{Lost, Passes, Refused};
use crate::common::world::Kind::Udp;
use crate::common::world::{Spot, World, packet};
use crate::common::{Net, wait_until};

also! {
    ruleset oracle:
        what_becomes_of_packets_is_what_the_language_says;
    ruleset matches in verdicts:
        interfaces,
        the_interface_of_the_default_route,
        families_and_addresses,
        protocols,
        ports;
    ruleset limits in verdicts:
        a_limit_is_one_bucket_for_all,
        what_is_over_the_limit_meets_the_next_rule,
        a_bucket_fills_again,
        a_limit_by_source_is_a_bucket_for_each;
    ruleset answers in verdicts:
        every_action_has_its_answer,
        the_first_rule_that_matches_decides,
        a_ban_comes_before_every_rule;
    ruleset logs in verdicts:
        packets_are_logged_once_and_at_most_as_often_as_the_rate_says,
        only_what_matches_is_logged;
    ruleset states in verdicts:
        answers_come_in_and_questions_do_not,
        a_flow_is_established_once_it_is_answered,
        errors_are_related,
        what_belongs_to_nothing_is_invalid;
    ruleset ways in verdicts:
        what_the_host_sends,
        answers_of_the_host_are_established,
        what_passes_through_the_host;
    ruleset nat:
        sources_are_translated,
        destinations_are_translated_and_ct_dnat_opens_the_way,
        hairpin,
        programs_of_the_host_are_translated_by_dir_out,
        segments_fit_the_path,
        knocking_opens_a_port,
        connections_at_the_same_time_are_counted_by_source,
        a_trial_translates_and_takes_it_back;
    trial deadman:
        the_kernel_brings_the_previous_rules_back_by_itself,
        without_a_watcher_the_rules_can_be_confirmed,
        a_watcher_that_stands_still_holds_nothing_up,
        a_reboot_loads_nothing_that_nobody_confirmed,
        where_nothing_was_ever_confirmed_a_reboot_after_a_trial_loads_nothing,
        a_table_that_is_deleted_during_a_trial_is_loaded_again_at_its_end;
    trial outcome:
        what_nobody_confirms_goes,
        what_is_confirmed_stays,
        where_no_rules_were_none_return,
        one_trial_at_a_time,
        loads_that_meet_go_one_after_the_other,
        whoever_is_killed_the_former_rules_return,
        words_at_the_terminal,
        a_loader_that_stands_still_is_not_needed,
        a_terminal_that_hangs_up_brings_the_former_rules_back,
        trials_that_meet,
        a_bad_time_or_rule_set_begins_no_trial,
        ten_thousand_rules_return;
}

/// Rules of iptables that are not of rule sets.
fn of_others(net: &Net) -> Vec<String> {
    let rules = net.rules_of_iptables();
    let lines = rules.lines().filter(|line| line.starts_with('[') && !line.contains("mef"));
    lines.map(|line| line.split_once("] ").unwrap().1.to_owned()).collect()
}

/// As Docker and fail2ban have them.
const OTHERS: &str = "*nat\n:DOCKER - [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n\
    -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE\n\
    -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80\nCOMMIT\n\
    *filter\n:FORWARD DROP [0:0]\n:DOCKER - [0:0]\n:DOCKER-USER - [0:0]\n:f2b-sshd - [0:0]\n\
    -A INPUT -p udp -m multiport --dports 1000 -j f2b-sshd\n-A FORWARD -j DOCKER-USER\n\
    -A FORWARD -o docker0 -j DOCKER\n-A DOCKER -d 172.17.0.2/32 ! -i docker0 -p tcp --dport 80 -j ACCEPT\n\
    -A DOCKER-USER -j RETURN\n-A f2b-sshd -s 198.51.100.2/32 -j DROP\n-A f2b-sshd -j RETURN\nCOMMIT\n";

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn rules_of_others_stay_as_they_are_and_decide_on_what_rules_leave_open() {
    with_iptables(|| {
        let mut world = World::new();
        world.net.input("iptables-legacy-restore", &[], OTHERS.as_bytes()).ok();
        let before = of_others(&world.net);
        assert_eq!(before.len(), 10, "{before:?}");
        let [friend, stranger] = [Spot::Friend, Spot::Stranger].map(|spot| packet(Udp, spot));
        world.load("rule dir=in action=drop proto=udp src=192.0.2.2\nnat dir=post action=masquerade oif=v1");
        assert_eq!(of_others(&world.net), before);
        // Ours, theirs, and nobody's.
        assert_eq!([world.judge(friend), world.judge(stranger)], [Lost, Lost]);
        assert_eq!(world.judge(stranger.in_v6()), Passes);
        world.load("rule dir=in action=drop proto=udp src=192.0.2.3");
        assert_eq!([world.judge(friend), world.judge(stranger)], [Passes, Lost]);
        assert_eq!(of_others(&world.net), before);
        world.net.mef(&["unload"]).ok();
        assert_eq!(of_others(&world.net), before);
        assert_eq!(world.net.rule_set(), "");
        assert_eq!(world.net.cmd("ipset", &["list", "-n"]).stdout, "");
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn rules_that_cannot_be_put_back_are_tried_again() {
    with_iptables(|| {
        let mut net = host("load_managed=true", "maxretry=1\nbantime=10m");
        let held = net.path("held");
        let held_lock = "echo 'Another app is currently holding the xtables lock.' >&2; exit 4";
        for name in ["iptables", "ip6tables"] {
            for program in [format!("{name}-restore"), format!("{name}-legacy-restore")] {
                let real = format!("exec /usr/sbin/xtables-legacy-multi {name}-restore \"$@\"");
                let text = format!("#!/bin/sh\n[ ! -e {} ] || {{ {held_lock}; }}\n{real}\n", held.display());
                net.program(&format!("sbin/{program}"), &text);
            }
        }
        net.write("etc-mef/mef.rules", "rule dir=in action=drop proto=udp dport=9\n");
        net.mef(&["load"]).ok();
        let rules = net.rule_set();
        let daemon = net.daemon("daemon");
        net.write("held", "");
        net.flush_iptables();
        let refused = || net.said("daemon").matches("mef.rules cannot be loaded: ").count();
        wait_until("the second attempt", || refused() >= 2);
        assert_eq!(net.rule_set(), "");
        assert!(net.said("daemon").contains("holding the xtables lock"), "{}", net.said("daemon"));
        std::fs::remove_file(&held).unwrap();
        wait_until("the rules", || net.rule_set() == rules);
        // Rules that are wrong are not: nothing becomes of them until somebody says that they are right.
        net.write("etc-mef/mef.rules", "rule dir=in action=dorp\n");
        net.flush_iptables();
        net.wait_said("daemon", "it has errors");
        net.write("etc-mef/mef.rules", "rule dir=in action=drop proto=udp dport=9\n");
        net.append(LOG, fails("203.0.113.1", 1));
        wait_until("the ban", || net.ipset("ban4").contains("203.0.113.1"));
        assert_eq!(net.rule_set(), "");
        net.signal(daemon, libc::SIGHUP);
        wait_until("the rules", || net.rule_set() == rules);
        net.stop(daemon);
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn who_flushes_everything_again_and_again_finds_everything_back() {
    with_iptables(|| {
        let mut net = host("load_managed=true", "maxretry=1\nbantime=10m");
        net.write("whitelist/local.conf", "198.51.100.0/24\n");
        net.write(
            "etc-mef/mef.rules",
            "policy dir=in action=accept\nrule dir=in action=drop proto=udp dport=9\n",
        );
        net.mef(&["load"]).ok();
        let rules = net.rule_set();
        assert!(rules.contains("--dports 9"), "{rules}");
        let daemon = net.daemon("daemon");
        net.append(LOG, fails("203.0.113.1", 1));
        wait_until("the ban", || net.ipset("ban4").contains("203.0.113.1"));
        let whole = |net: &Net| {
            let all = net.rules_of_iptables();
            net.rule_set() == rules
                && all.contains("match-set mef_ban4")
                && all.contains("match-set mef_allow4")
        };
        for _ in 0..3 {
            net.flush_iptables();
            wait_until("all of it", || whole(&net));
            assert!(net.ipset("allow4").contains("198.51.100.0/24"));
            assert!(net.ipset("ban4").contains("203.0.113.1"));
        }
        // What somebody takes out stays out.
        net.mef(&["unload"]).ok();
        net.flush_iptables();
        wait_until("the bans", || net.rules_of_iptables().contains("match-set mef_ban4"));
        assert_eq!(net.rule_set(), "");
        net.stop(daemon);
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_cannot_be_said_or_is_refused_changes_nothing() {
    with_iptables(|| {
        let net = Net::new();
        let load = |text: &str| net.mef_input(&["load", "-"], text.as_bytes());
        load("rule dir=in action=drop proto=udp dport=9").ok();
        let before = net.rule_set();
        for (text, word) in [
            ("rule dir=in action=drop proto=all rpf=fail", "/dev/stdin:1"),
            ("policy dir=bridge action=drop", "no frames between ports"),
            ("rule dir=bridge action=drop proto=all ether=arp", "/dev/stdin:1"),
            ("rule dir=in action=drop proto=tcp flags=ecn", "ecn and cwr"),
            ("rule dir=in action=drop proto=all iif=a+", "wildcards"),
            ("rule dir=in action=drop proto=icmp icmp=200-255", "type 255"),
            ("nat dir=pre action=redirect pick=fully-random", "/dev/stdin:1:34: iptables cannot say"),
            ("nat dir=pre action=redirect pick=persistent", "no such option"),
            ("nat dir=pre action=dnat to=192.0.2.1 pick=fully-random", "no such option"),
            ("nat dir=post action=masquerade pick=persistent", "no such option"),
            (
                "set name=x family=ip type=addr source=ipset:nowhere\n\
                 rule dir=in action=drop proto=all src=@x",
                "nowhere",
            ),
        ] {
            let out = load(text);
            assert!(out.status == 1 && out.stderr.contains(word), "{text}: {out:?}");
            assert_eq!(net.rule_set(), before, "{text}");
        }
        for pick in [
            "nat dir=pre action=redirect pick=random",
            "nat dir=pre action=dnat to=192.0.2.1 pick=random",
            "nat dir=pre action=dnat to=192.0.2.1 pick=persistent",
            "nat dir=post action=snat to=192.0.2.1 pick=random",
            "nat dir=post action=snat to=192.0.2.1 pick=fully-random",
            "nat dir=post action=snat to=192.0.2.1 pick=persistent",
            "nat dir=post action=masquerade pick=random",
            "nat dir=post action=masquerade pick=fully-random",
        ] {
            load(pick).ok();
        }
        // And what is said in other words is loaded.
        let out = load(
            "rule dir=in action=drop proto=udp dport=9 limit=1/d \
             log=\"prefix:0123456789 0123456789 0123456789\"",
        );
        assert!(
            out.status == 0 && out.stderr.contains("29 bytes") && out.stderr.contains("after a day"),
            "{out:?}"
        );
        load("rule dir=in action=drop proto=udp dport=9").ok();
        assert_eq!(net.rule_set(), before);
        // IPv6 is refused when IPv4 is already there; and then somebody holds the lock.
        for (exit, words) in [(1, "line 7 failed"), (4, "Another app is currently holding the xtables lock")]
        {
            for name in ["ip6tables-restore", "ip6tables-legacy-restore"] {
                net.program(
                    &format!("sbin/{name}"),
                    &format!("#!/bin/sh\necho '{words}' >&2\nexit {exit}\n"),
                );
            }
            let out = load("rule dir=in action=drop proto=udp dport=10");
            assert!(out.status == 1 && out.stderr.contains(words), "{out:?}");
            assert_eq!(net.rule_set(), before, "{words}");
        }
        std::fs::remove_file(net.path("sbin/ip6tables-legacy-restore")).unwrap();
        net.choose_variant("legacy");
        load("rule dir=in action=drop proto=udp dport=10").ok();
        assert!(net.rule_set().contains("--dports 10") && !net.rule_set().contains("--dports 9"));
        // A set of that name that is somebody else's stays as it is.
        net.mef(&["unload"]).ok();
        net.cmd("ipset", &["create", "mefr_made", "hash:ip"]).ok();
        let out = load("rule dir=in action=drop proto=udp dport=9");
        assert!(out.status == 1 && out.stderr.contains("mefr_made: there is a set of that name"), "{out:?}");
        assert_eq!(
            (net.rule_set(), net.cmd("ipset", &["list", "-n"]).stdout),
            (String::new(), "mefr_made\n".to_owned())
        );
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn exceptions_of_more_values_than_a_rule_has_room_for_are_rules_of_their_own() {
    with_iptables(|| {
        let mut world = World::new();
        let every_other = |to: u32| (1..to).step_by(2).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let friend = packet(Udp, Spot::Friend);
        world.load(&format!("rule dir=in action=drop proto=udp dport=!{}", every_other(4000)));
        let fates = [1000, 1001, 3999, 4001].map(|port| world.judge(friend.port(port)));
        assert_eq!(fates, [Lost, Passes, Refused, Lost]);
        world.load("rule dir=in action=drop proto=udp ttl=!2-255");
        assert_eq!(world.judge(friend), Passes);
        world.load("rule dir=in action=drop proto=udp ttl=!1-9,128-255");
        assert_eq!(world.judge(friend), Lost);
        world.load(&format!("rule dir=in action=drop proto=icmp icmp=!{}", every_other(200)));
        // Few stand in the rule itself.
        world.load("rule dir=in action=drop proto=udp ttl=!1,3");
        assert!(!world.net.rule_set().contains("RETURN"), "{}", world.net.rule_set());
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn sets_of_other_programs_are_asked_as_they_are() {
    with_iptables(|| {
        let mut world = World::new();
        let ipset = |args: &[&str]| world.net.cmd("ipset", args).ok();
        ipset(&["create", "theirs", "hash:ip"]);
        ipset(&["create", "doors", "hash:ip,port"]);
        ipset(&["add", "doors", "192.0.2.2,udp:1000"]);
        let [friend, stranger] = [Spot::Friend, Spot::Stranger].map(|spot| packet(Udp, spot));
        world.load(
            "set name=theirs family=ip type=addr source=ipset:theirs\n\
             set name=doors family=ip type=addr source=ipset:doors\npolicy dir=in action=drop\n\
             rule dir=in action=accept proto=udp src=@theirs,@doors",
        );
        assert_eq!([world.judge(friend), world.judge(stranger)], [Passes, Lost]);
        assert_eq!(world.judge(friend.port(1001)), Lost);
        world.net.cmd("ipset", &["add", "theirs", "198.51.100.2"]).ok();
        assert_eq!(world.judge(stranger), Passes);
        world.net.mef(&["unload"]).ok();
        assert_eq!(world.net.cmd("ipset", &["list", "-n"]).stdout, "theirs\ndoors\n");
    });
    let net = Net::new();
    let text = "set name=theirs family=ip type=addr source=ipset:theirs\n\
                rule dir=in action=drop proto=all src=@theirs\n";
    let out = net.mef_input(&["load", "-"], text.as_bytes());
    assert!(out.status == 1 && out.stderr.contains("nf_tables cannot ask a set of ip_set"), "{out:?}");
    assert_eq!(net.mef_input(&["fmt", "-"], text.as_bytes()).stdout.lines().next(), text.lines().next());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_rule_set_moves_to_the_other_backend_and_nothing_is_left() {
    with_iptables(|| {
        let net = Net::new();
        let text = "rule dir=in action=drop proto=udp dport=9\nnat dir=post action=masquerade oif=v1";
        let load = |backend: &str| {
            net.write("etc-mef/mef.conf", &format!("[global]\nfirewall_backend={backend}\n"));
            net.mef_input(&["load", "-"], text.as_bytes()).ok();
        };
        let nft = || net.cmd("nft", &["list", "table", "inet", "mef"]).stdout;
        load("nftables");
        assert!(nft().contains("udp dport 9") && net.rule_set().is_empty());
        load("iptables");
        assert!(nft().is_empty() && net.rule_set().contains("--dports 9"));
        load("nftables");
        assert!(nft().contains("udp dport 9") && net.rule_set().is_empty());
        assert_eq!(net.cmd("ipset", &["list", "-n"]).stdout, "");
        load("iptables");
        net.write("etc-mef/mef.conf", "[global]\nfirewall_backend=nftables\n");
        net.mef(&["unload"]).ok();
        assert!(nft().is_empty() && net.rule_set().is_empty());
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_rule_that_the_kernel_refuses_at_the_end_of_its_table_is_named() {
    with_iptables(|| {
        let net = Net::new();
        let load = |text: &str| net.mef_input(&["load", "-"], text.as_bytes());
        load("rule dir=in action=drop proto=udp dport=9").ok();
        let before = net.rule_set();
        // As the legacy variant does where the kernel lacks xt_time: it names the line of COMMIT.
        net.refuse_rules(
            "*'-m time '*",
            "echo 'Warning: Extension time revision 0 not supported, missing kernel module?' >&2\n\
             echo \"iptables-restore: line $(printf '%s\\n' \"$rules\" | grep -n COMMIT | head -n 1 | \
             cut -d: -f1) failed\" >&2\nexit 1",
        );
        let rule = |port: u32| format!("rule dir=in action=drop proto=udp dport={port}\n");
        let rules = |ports: std::ops::Range<u32>| ports.map(rule).collect::<String>();
        let bad = "rule dir=in action=drop proto=udp dport=7 src=192.0.2.1,192.0.2.3 time=10:00-11:00\n";
        for (line, text) in [
            (1, bad.to_owned()),
            (1, bad.to_owned() + &rules(100..120)),
            (21, rules(100..120) + bad),
            (38, rules(100..137) + bad + &rules(200..300) + bad),
        ] {
            let out = load(&text);
            let place = format!("/dev/stdin:{line}: iptables-restore: line ");
            assert!(out.status == 1 && out.stderr.contains(&place), "{line}: {out:?}");
            assert!(!out.stderr.contains("Warning"), "{out:?}");
            assert_eq!(net.rule_set(), before);
        }
        // A table that cannot be written at all is no rule's fault.
        net.refuse_rules("*'mefr_'*", "echo 'iptables-restore: line 4 failed' >&2; exit 1");
        let out = load(&rule(7));
        assert!(out.status == 1 && !out.stderr.contains("/dev/stdin:"), "{out:?}");
        assert_eq!(net.rule_set(), before);
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn diff_compares_with_the_file_that_was_loaded() {
    with_iptables(|| {
        let net = Net::new();
        let run = |command: &str, text: &str| net.mef_input(&[command, "-"], text.as_bytes());
        let (old, new) = (
            "policy dir=in action=accept\nset name=x family=any type=addr elements=192.0.2.1\n\
             rule dir=in action=drop proto=udp dport=9 src=@x\n",
            "rule dir=in action=drop proto=udp dport=10\n",
        );
        let nothing = run("diff", old);
        assert_eq!((nothing.status, nothing.stdout.matches("+ ").count() > 3), (1, true), "{nothing:?}");
        run("load", old).ok();
        let same = run("diff", &old.replace("dport=9", "dport=9-9"));
        assert_eq!((same.status, same.stdout.as_str(), same.stderr.as_str()), (0, "", ""));
        let other = run("diff", &old.replace("192.0.2.1", "192.0.2.2"));
        let lines: Vec<&str> = other.stdout.lines().collect();
        assert!(other.status == 1 && lines.len() == 2, "{other:?}");
        assert!(lines[0].starts_with("- set name=x") && lines[1].starts_with("+ set name=x"), "{other:?}");
        // Of a trial, while it goes on; and then of the rules before it.
        let file = net.write("new.rules", new);
        let mut trial = net.mef_command(&["load", "--confirm", "10m", file.to_str().unwrap()]);
        let mut trial = trial.stdin(std::process::Stdio::null()).spawn().unwrap();
        wait_until("the trial", || net.has_trial());
        wait_until("the rules of the trial", || run("diff", new).status == 0);
        assert_eq!(run("diff", old).status, 1);
        net.end_trial();
        wait_until("the rules before it", || run("diff", old).status == 0);
        trial.kill().unwrap();
        trial.wait().unwrap();
        // Once nobody knows the text, that is said, and nothing is made up.
        run("load", old).ok();
        std::fs::remove_file(net.path("lib/mef/confirmed.rules")).unwrap();
        let lost = run("diff", new);
        assert!(lost.status == 1 && lost.stdout.is_empty() && lost.stderr.contains("not kept"), "{lost:?}");
        assert_eq!(run("diff", old).status, 1);
        net.flush_iptables();
        let gone = run("diff", old);
        assert!(gone.stdout.lines().all(|line| line.starts_with("+ ")) && gone.status == 1, "{gone:?}");
        let export = net.mef(&["export"]);
        assert!(export.status == 1 && export.stderr.contains("iptables-save"), "{export:?}");
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_load_goes_where_the_host_wants_it_now_and_a_trial_stays_beside_the_previous_rules() {
    with_iptables(|| {
        let net = Net::new();
        let text = |port: u32| {
            format!("rule dir=in action=drop proto=udp dport={port}\nnat dir=post action=masquerade oif=v1\n")
        };
        let load = |port: u32| net.mef_input(&["load", "-"], text(port).as_bytes()).ok();
        let saved = |variant: &str| {
            ["iptables", "ip6tables"].map(|it| net.cmd(&format!("{it}-{variant}-save"), &[]).stdout).concat()
        };
        load(9);
        net.choose_variant("nft");
        let file = net.write("ten.rules", &text(10));
        let mut trial = net.mef_command(&["load", "--confirm", "10m", file.to_str().unwrap()]);
        let mut trial = trial.stdin(std::process::Stdio::null()).spawn().unwrap();
        wait_until("the trial", || net.has_trial());
        assert!(saved("legacy").contains("--dports 10") && !saved("nft").contains("mef"));
        net.mef(&["confirm"]).ok();
        trial.wait().unwrap();
        assert!(saved("legacy").contains("--dports 10") && !saved("nft").contains("mef"));
        load(11);
        let (legacy, nft) = (saved("legacy"), saved("nft"));
        assert!(nft.contains("--dports 11") && nft.matches("-j mefr_in").count() == 2, "{nft}");
        assert!(nft.contains("MASQUERADE") && !legacy.contains("mef"), "{legacy}");
        net.choose_variant("legacy");
        load(12);
        let (legacy, nft) = (saved("legacy"), saved("nft"));
        assert!(legacy.contains("--dports 12") && !nft.contains("mef"), "{nft}");
        net.mef(&["unload"]).ok();
        assert!(!saved("legacy").contains("mef") && net.cmd("ipset", &["list", "-n"]).stdout.is_empty());
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_rule_set_in_the_former_backend_is_told_of_and_loaded_where_that_is_managed() {
    with_iptables(|| {
        for managed in [false, true] {
            let mut net = host(&format!("load_managed={managed}"), "");
            net.write("etc-mef/mef.rules", "rule dir=in action=drop proto=udp dport=9\n");
            net.mef(&["load"]).ok();
            let daemon = net.daemon("daemon");
            let config =
                net.read("mef.conf").replace("firewall_backend=iptables", "firewall_backend=nftables");
            net.write("mef.conf", &config);
            net.write("etc-mef/mef.conf", "[global]\nfirewall_backend=nftables\n");
            net.signal(daemon, libc::SIGHUP);
            let nft = || net.nft_list("table inet mef");
            let iptables = || net.rules_of_iptables().contains("mefr_");
            let words = "another backend has one in force";
            if !managed {
                net.wait_said("daemon", words);
                assert!(iptables() && nft().is_empty());
                let status = net.mef(&["status"]).stdout;
                assert!(status.contains(words), "{status}");
                assert!(net.mef(&["status", "--json"]).stdout.contains("\"rule_set\":\"elsewhere\""));
                let diff = net.mef(&["diff"]);
                assert!(
                    diff.status != 0 && diff.stderr.contains(words) && diff.stdout.is_empty(),
                    "{diff:?}"
                );
                net.mef(&["load"]).ok();
            }
            let said = || net.said("daemon");
            let moved = || nft().contains("drop") && !iptables();
            crate::common::wait_or_show("the rule set", || moved().then_some(()), said);
            let status = net.mef(&["status"]).stdout;
            assert!(status.contains("loaded, as /etc/mef/mef.rules says"), "{status}");
            assert_eq!(net.mef(&["diff"]).status, 0);
        }
    });
}

/// What a firewall script that begins anew does to both families, and puts there itself.
const SCRIPT: &str = "for it in iptables ip6tables; do\n\
    for table in raw mangle filter nat; do $it-legacy -t $table -F; $it-legacy -t $table -X; done\n\
    $it-legacy -A INPUT -p udp --dport 1000 -j DROP\n$it-legacy -A FORWARD -p udp -j DROP\ndone\n\
    echo >>rounds\n";

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_script_that_flushes_everything_all_the_time_keeps_its_rules_and_we_get_ours_back() {
    with_iptables(|| {
        let mut net = host("load_managed=true", "maxretry=1\nbantime=10m");
        net.write("etc-mef/mef.rules", "rule dir=in action=drop proto=udp dport=9\n");
        net.mef(&["load"]).ok();
        let rules = net.rule_set();
        let daemon = net.daemon("daemon");
        net.append(LOG, fails("203.0.113.1", 1));
        wait_until("the ban", || net.ipset("ban4").contains("203.0.113.1"));
        // Again once all of ours is back: that is when it does the most harm.
        let wait = "until [ -e go ]; do sleep 0.05; done; rm go";
        let script = net.command("sh", &["-c", &format!("while {wait}; do {SCRIPT} done")]);
        net.start("script", script);
        for round in 1..8 {
            net.write("go", "");
            wait_until("the script", || net.read("rounds").len() == round);
            wait_until("all of it", || {
                net.signal(daemon, libc::SIGUSR1);
                let all = net.rules_of_iptables();
                net.rule_set() == rules
                    && all.matches("-A PREROUTING -m set --match-set mef_ban").count() == 2
            });
            let theirs = of_others(&net);
            assert_eq!(theirs.len(), 4, "{theirs:?}");
            assert!(net.ipset("ban4").contains("203.0.113.1") && net.ipset("allow4").contains("Members"));
        }
    });
}
