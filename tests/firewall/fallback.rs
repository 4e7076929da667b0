//! Where nf_tables cannot be used: what holds there holds with iptables and ip_set, too. The bodies are those
//! of the other files, with `firewall_backend=iptables`; the rest is about that alone.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

use crate::common::backend::{also, with_iptables};
use crate::common::daemon::{LOG, ends, fails, host, same_ends};
use crate::common::{Net, wait_until};

also! {
    applet control:
        an_unban_outlasts_lines_that_the_daemon_reads_before_it_hears_of_it;
    daemon heal:
        a_set_that_others_empty_is_filled_again;
    firewall packets:
        a_banned_address_gets_no_answer_and_its_neighbour_does,
        an_ipv6_address_is_banned_with_its_prefix_and_a_longer_one_alone,
        networks_and_ranges_end_where_they_end,
        a_ban_of_ports_closes_these_and_no_others,
        the_allow_list_wins_over_every_ban,
        forwarded_traffic_is_covered,
        ban_scope_host_leaves_forwarded_traffic_alone,
        ban_action_reject_answers,
        an_established_connection_dies_with_the_ban,
        kill_connections_can_be_switched_off;
    firewall scan:
        a_scan_is_cut_off_at_the_packet_that_goes_over_the_limit,
        all_of_a_prefix_is_one_scanner,
        who_comes_for_services_is_never_counted,
        bans_need_no_daemon_and_hold_for_what_is_forwarded,
        allowed_and_needed_addresses_are_never_banned,
        interfaces_and_ports_narrow_what_counts,
        what_the_kernel_has_banned_is_told,
        scanners_that_come_again_are_banned_for_a_day_if_that_is_wanted_and_never_for_good,
        forged_senders_fill_the_sets_and_harm_nobody,
        a_reload_and_a_flush_keep_the_guard_in_force,
        other_limits_hold_for_who_was_counted_by_the_former_ones,
        who_was_unbanned_is_not_banned_for_one_port_more,
        datagrams_count_only_if_that_is_wanted;
    firewall flood:
        clients_get_through_while_a_flood_goes_on,
        each_limit_counts_for_itself_and_ports_may_have_their_own,
        all_of_a_prefix_is_one_source,
        all_of_a_throttled_source_is_dropped_if_that_is_wanted,
        who_floods_again_and_again_is_banned,
        without_escalation_nobody_is_banned,
        allowed_and_needed_addresses_are_never_held_back,
        forged_senders_fill_the_sets_and_harm_nobody_else,
        services_of_containers_are_guarded_too,
        a_reload_and_a_flush_keep_the_guard_in_force;
    firewall seen:
        who_begins_a_connection_to_such_a_port_is_told_once,
        services_behind_this_host_count_by_the_port_that_was_asked_for,
        a_reload_and_a_flush_keep_it_in_force,
        a_group_that_somebody_else_reads_costs_only_the_news;
    firewall unproven:
        forged_syns_neither_end_a_session_nor_keep_its_owner_out,
        what_was_banned_while_no_daemon_ran_is_asked_for_connections_too,
        floods_in_the_name_of_who_is_connected_hold_only_more_of_them_back,
        who_only_holds_many_connections_is_never_banned,
        services_that_restart_are_no_closed_ports,
        nothing_counts_while_services_are_being_started,
        the_limit_is_what_it_says_within_its_window,
        only_first_datagrams_count_and_traceroute_does_not,
        neighbours_and_who_comes_through_a_translator_count_alone,
        by_default_a_polite_scan_is_cut_off_too,
        by_default_clients_that_find_services_gone_pass_and_scanners_do_not;
}

/// A host whose daemon has banned somebody by a log, and has bans by hand.
fn banned_host(settings: &str) -> (Net, usize) {
    let mut net = host(settings, "maxretry=1\nbantime=10m");
    net.write("whitelist/local.conf", "198.51.100.0/24\n2001:db8:ffff::/48\n");
    let daemon = net.daemon("daemon");
    net.append(LOG, fails("203.0.113.1", 1) + &fails("2001:db8:1::2", 1));
    net.mark(LOG);
    net.mef(&["ban", "192.0.2.0/28", "--for", "90d"]).ok();
    net.mef(&["ban", "192.0.2.99", "--permanent", "--reason", "by \"hand\"", "--ports", "22"]).ok();
    (net, daemon)
}

/// Rules of ours, without their counts.
fn ours(net: &Net) -> Vec<String> {
    let rules = net.rules_of_iptables();
    let ours = rules.lines().filter(|line| line.contains("mef"));
    let mut ours: Vec<String> =
        ours.map(|l| l.split_once("] ").map_or(l, |(_, rule)| rule).to_owned()).collect();
    ours.sort();
    ours
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_others_flush_is_back_with_the_time_that_each_ban_has_left() {
    with_iptables(|| {
        let (net, daemon) = banned_host("");
        let (before, rules) = (ends(&net), ours(&net));
        assert_eq!(before.len(), 4, "{before:?}");
        assert!(net.mef(&["status", "--config", "mef.conf"]).shown().contains("ip_set"));
        type Loss = (&'static str, fn(&Net));
        let losses: [Loss; 4] = [
            ("rules", Net::flush_iptables),
            ("the jumps alone", |net| {
                drop(net.cmd("iptables-legacy", &["-t", "raw", "-F", "PREROUTING"]).ok())
            }),
            ("what is in the sets", |net| drop(net.cmd("ipset", &["flush"]).ok())),
            ("everything", Net::lose_table),
        ];
        for (what, lose) in losses {
            // In one go: who flushes piece by piece is repaired piece by piece, and then less and less often.
            net.signal(daemon, libc::SIGSTOP);
            lose(&net);
            net.signal(daemon, libc::SIGCONT);
            wait_until(what, || {
                net.signal(daemon, libc::SIGUSR1);
                ours(&net) == rules && ends(&net).len() == 4
            });
            same_ends(&before, &ends(&net));
            assert!(net.ipset("allow4").contains("198.51.100.0/24"), "{what}");
            assert!(net.ipset("ban4").contains("203.0.113.1"), "{what}");
        }
        // A command that comes before the daemon has looked makes what it needs, and nothing twice.
        net.signal(daemon, libc::SIGSTOP);
        net.cmd("ipset", &["flush"]).ok();
        net.mef(&["ban", "192.0.2.98", "--for", "10m"]).ok();
        net.signal(daemon, libc::SIGCONT);
        wait_until("the repair behind a command", || {
            net.signal(daemon, libc::SIGUSR1);
            ours(&net) == rules && ends(&net).len() == 5
        });
        net.mef(&["unban", "192.0.2.98"]).ok();
        // By itself, too, with nobody to wake it.
        net.signal(daemon, libc::SIGSTOP);
        net.flush_iptables();
        net.signal(daemon, libc::SIGCONT);
        wait_until("the repair by the clock", || ours(&net) == rules);
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn bans_outlive_the_daemon_and_come_back_after_a_reboot() {
    with_iptables(|| {
        let (mut net, daemon) = banned_host("");
        let (before, rules) = (ends(&net), ours(&net));
        net.stop(daemon);
        same_ends(&before, &ends(&net));
        net.lose_table();
        let daemon = net.daemon("again");
        same_ends(&before, &ends(&net));
        assert_eq!(ours(&net), rules);
        // And without a daemon, by the next command.
        net.stop(daemon);
        net.flush_iptables();
        let config = net.path("mef.conf").display().to_string();
        net.mef(&["ban", "203.0.113.77", "--config", &config]).ok();
        // Of what packets are watched for it knows nothing.
        let of_bans = |rules: Vec<String>| {
            let is = |rule: &String| rule.contains("mef_gate") || rule.contains("mef_hit");
            rules.into_iter().filter(is).collect::<Vec<_>>()
        };
        assert_eq!(of_bans(ours(&net)), of_bans(rules.clone()));
        net.daemon("third");
        assert_eq!(ours(&net), rules);
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn bans_move_from_one_backend_to_the_other_and_nothing_is_left() {
    with_iptables(|| {
        let (net, daemon) = banned_host("");
        let before = ends(&net);
        let config = net.read("mef.conf");
        for backend in ["nftables", "iptables", "auto"] {
            let line = format!("firewall_backend={backend}");
            net.write("mef.conf", &config.replace("firewall_backend=iptables", &line));
            net.write("etc-mef/mef.conf", &format!("[global]\n{line}\n"));
            net.signal(daemon, libc::SIGHUP);
            let (nft, ipset) = (|| net.nft_list("ruleset"), || net.cmd("ipset", &["list", "-n"]).stdout);
            if backend == "iptables" {
                wait_until("iptables", || ipset().contains("mef_ban4") && !nft().contains("mef_guard"));
                assert!(net.ipset("allow4").contains("198.51.100.0/24"));
            } else {
                let moved = || (nft().contains("mef_guard") && ipset().is_empty()).then_some(());
                crate::common::wait_or_show("nftables", moved, || {
                    format!("{}\n{}\n{}", ipset(), net.rules_of_iptables(), net.said("daemon"))
                });
                assert!(ours(&net).is_empty(), "{:?}", ours(&net));
                assert!(net.nft_list("set inet mef_guard allow4").contains("198.51.100.0/24"));
            }
            same_ends(&before, &ends(&net));
        }
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_daemon_that_starts_with_the_other_backend_takes_it_over() {
    with_iptables(|| {
        let (mut net, daemon) = banned_host("");
        let before = ends(&net);
        net.stop(daemon);
        let config = net.read("mef.conf").replace("firewall_backend=iptables", "firewall_backend=nftables");
        net.write("mef.conf", &config);
        net.write("etc-mef/mef.conf", "[global]\nfirewall_backend=nftables\n");
        net.daemon("again");
        same_ends(&before, &ends(&net));
        assert!(ours(&net).is_empty(), "{:?}\n{}", ours(&net), net.said("again"));
        assert_eq!(net.cmd("ipset", &["list", "-n"]).stdout, "");
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn rules_and_sets_of_others_are_never_touched() {
    with_iptables(|| {
        let net = Net::new();
        // As Docker and fail2ban have them.
        let theirs = "*raw\n:PREROUTING ACCEPT\n-A PREROUTING -d 172.17.0.2 ! -i docker0 -j DROP\nCOMMIT\n\
            *filter\n:INPUT ACCEPT\n:FORWARD DROP\n:DOCKER - \n:f2b-sshd - \n\
            -A INPUT -p tcp -m multiport --dports 22 -m set --match-set f2b-sshd src -j f2b-sshd\n\
            -A f2b-sshd -j DROP\n-A FORWARD -o docker0 -j DOCKER\nCOMMIT\n";
        net.cmd("ipset", &["create", "f2b-sshd", "hash:ip", "timeout", "0"]).ok();
        net.input("iptables-legacy-restore", &[], theirs.as_bytes()).ok();
        let others = || {
            let rules = net.cmd("iptables-legacy-save", &[]).ok();
            rules
                .lines()
                .filter(|l| l.starts_with("-A") && !l.contains("mef"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let before = others();
        assert_eq!(before.len(), 4, "{before:?}");
        net.mef(&["ban", "203.0.113.1"]).ok();
        net.mef(&["ban", "203.0.113.1", "--ports", "22"]).ok();
        assert_eq!(others(), before);
        net.lose_ours();
        assert_eq!(others(), before);
        assert_eq!(net.cmd("ipset", &["list", "-n"]).ok(), "f2b-sshd\n");
        // A set of that name that is somebody else's stays as it is, and the words say so.
        net.cmd("ipset", &["create", "mef_ban4", "hash:ip"]).ok();
        net.cmd("ipset", &["add", "mef_ban4", "192.0.2.1"]).ok();
        let said = net.mef(&["ban", "203.0.113.1"]);
        assert!(
            said.status == 1 && said.stderr.contains("mef_ban4: there is a set of that name"),
            "{said:?}"
        );
        assert!(net.ipset("ban4").contains("192.0.2.1\n"));
        assert!(ours(&net).is_empty());
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_the_kernel_cannot_watch_packets_for_is_left_out_and_the_rest_is_in_force() {
    with_iptables(|| {
        let mut net = host("ps_limit=10\nps_boot_grace=0\nddos_enabled=true", "");
        let peer = net.peer();
        // A kernel without xt_socket and xt_connlimit.
        net.refuse_rules(
            "*'-m socket'*|*'-m connlimit'*",
            "echo 'iptables-restore: line 4 failed' >&2; exit 1",
        );
        let open: Vec<_> = (7000..7020)
            .map(|port| std::net::TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port)).unwrap())
            .collect();
        let daemon = net.daemon("daemon");
        let status = net.mef(&["status", "--config", "mef.conf"]).shown();
        let json = net.mef(&["status", "--config", "mef.conf", "--json"]).stdout;
        for words in
            ["\"backend\":\"iptables\"", "\"lacks\":[\"cannot look up sockets (", "\",\"cannot count"]
        {
            assert!(json.contains(words), "{json}");
        }
        for words in ["lacks xt_socket", "ddos_connlimit has no effect", "port scans  banned by the kernel"] {
            assert!(status.contains(words), "{status}");
        }
        // What listens is told by the daemon, and whoever touches closed ports is banned all the same.
        let text = ours(&net).join("\n");
        assert!(
            text.contains("mef_scan") && text.contains("hashlimit") && !text.contains("-m socket"),
            "{text}"
        );
        wait_until("the open ports", || net.set_text("scan_ports4").contains("tcp:7019"));
        for port in 7000..7020 {
            assert!(net.reaches(&peer, peer.host4.into(), port));
        }
        drop(open);
        assert_eq!(net.set_len("scan_seen4"), 0);
        for port in 100..111 {
            net.within(&peer.ns, |_| {
                let to = (peer.host4, port).into();
                drop(std::net::TcpStream::connect_timeout(&to, std::time::Duration::from_millis(200)));
            });
        }
        assert!(net.in_set("scan_ban4", peer.v4.into()));
        // Nothing of it is there twice.
        net.signal(daemon, libc::SIGHUP);
        net.wait_said("daemon", "configuration read");
        assert_eq!(ours(&net).join("\n"), text);
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_kernel_without_the_table_mangle_bans_all_the_same() {
    with_iptables(|| {
        let mut net = host("", "maxretry=1\nbantime=10m");
        net.refuse_rules(
            "*'*mangle'*",
            "echo 'iptables-restore: unable to initialize table mangle' >&2; exit 3",
        );
        net.daemon("daemon");
        net.append(LOG, fails("203.0.113.1", 1));
        net.mark(LOG);
        assert!(net.ipset("ban4").contains("203.0.113.1"));
        assert!(ours(&net).iter().any(|rule| rule.contains("-j mef_gate")));
        let status = net.mef(&["status", "--config", "mef.conf"]).shown();
        assert!(status.contains("cannot see port scans") && status.contains("port scans  off"), "{status}");
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_is_missing_is_named_and_nothing_is_half_done() {
    with_iptables(|| {
        let net = Net::new();
        let script = |text: &str| {
            for name in ["iptables-restore", "ip6tables-restore"] {
                net.program(&format!("sbin/{name}"), text);
            }
        };
        // There is none: nothing is made, and the words say what to install.
        let hidden = "for it in /usr/sbin/xtables-*-multi /usr/local/sbin/ip*tables-restore; do\n\
            [ ! -e $it ] || mount --bind /dev/null $it; done; exec \"$0\" ban 203.0.113.1";
        let binary = crate::common::mef_binary();
        let mut command = net.command("unshare", &["-m", "sh", "-c", hidden, binary.to_str().unwrap()]);
        net.own(&mut command);
        let said = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&said.stderr);
        assert!(!said.status.success() && stderr.contains("install the package iptables"), "{stderr}");
        assert!(ours(&net).is_empty());
        // Somebody holds the lock of xtables, as long as anybody waits for it.
        let locked = "mount -t tmpfs none /run; exec flock /run/xtables.lock \"$0\" ban 203.0.113.1";
        let mut command = net.command("unshare", &["-m", "sh", "-c", locked, binary.to_str().unwrap()]);
        net.own(&mut command);
        let said = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&said.stderr);
        assert!(!said.status.success() && stderr.contains("xtables.lock"), "{stderr}");
        assert!(ours(&net).is_empty());
        // One that waits for nobody says so at once.
        script("#!/bin/sh\necho 'Another app is currently holding the xtables lock.' >&2\nexit 4\n");
        let said = net.mef(&["ban", "203.0.113.1"]);
        assert!(said.status == 1 && said.stderr.contains("holding the xtables lock"), "{said:?}");
        assert!(ours(&net).is_empty());
        // One of the other kind, for which the kernel has nothing: it ends with the status of a held lock.
        let words = "iptables-restore v1.8.9 (nf_tables): Could not fetch rule set generation id";
        script(&format!("#!/bin/sh\necho '{words}' >&2\nexit 4\n"));
        net.mef(&["ban", "203.0.113.1"]).ok();
        assert!(ours(&net).iter().any(|rule| rule.contains("mef_ban4")), "{:?}", ours(&net));
        net.lose_ours();
        // One that does not know the option of today.
        script(
            "#!/bin/sh\ncase \"$*\" in *-w*) echo \"$0: unrecognized option '-w'\" >&2; exit 2;; esac\n\
            exec /usr/sbin/xtables-legacy-multi \"${0##*/}\" \"$@\"\n",
        );
        net.mef(&["ban", "203.0.113.1"]).ok();
        assert!(ours(&net).iter().any(|rule| rule.contains("mef_ban4")), "{:?}", ours(&net));
        let before = ours(&net);
        // What fails in the middle leaves what was there.
        script("#!/bin/sh\necho 'iptables-restore: line 3 failed' >&2\nexit 1\n");
        let said = net.mef(&["ban", "--ports", "25", "203.0.113.1"]);
        // Others of the system's programs may do it.
        assert!(said.status == 0 || said.stderr.contains("line 3 failed"), "{said:?}");
        assert!(before.iter().all(|rule| ours(&net).contains(rule)));
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn rules_follow_the_variant_of_iptables_that_the_host_chooses() {
    with_iptables(|| {
        let (net, daemon) = banned_host("");
        let (before, rules) = (ends(&net), ours(&net));
        let saved = |variant: &str| {
            ["iptables", "ip6tables"].map(|it| net.cmd(&format!("{it}-{variant}-save"), &[]).stdout).concat()
        };
        let (asks, allows) =
            ("-A PREROUTING -m set --match-set mef_ban4 src", "--match-set mef_allow4 src -j RETURN");
        let whole = |text: &str| text.contains(asks) && text.contains(allows);
        for (from, to) in [("legacy", "nft"), ("nft", "legacy")] {
            net.choose_variant(to);
            wait_until("the rules to move", || {
                net.signal(daemon, libc::SIGUSR1);
                // What goes is read first: it goes once the other is there.
                let (former, new) = (saved(from), saved(to));
                assert!(whole(&former) || whole(&new), "a window:\n{former}\n{new}");
                whole(&new) && !former.contains("mef")
            });
            same_ends(&before, &ends(&net));
            // And they stay there, also for who bans by hand.
            let new = saved(to);
            net.mef(&["ban", "192.0.2.77", "--ports", "25"]).ok();
            net.mef(&["unban", "192.0.2.77"]).ok();
            net.signal(daemon, libc::SIGHUP);
            net.wait_said("daemon", "configuration read");
            assert_eq!(saved(to).matches("-j mef_gate").count(), new.matches("-j mef_gate").count());
            assert!(!saved(from).contains("mef"), "{}", saved(from));
        }
        let of_ports = |rule: &String| !rule.contains("--dports 25 ");
        let now: Vec<String> = ours(&net).into_iter().filter(of_ports).collect();
        assert_eq!(now, rules);
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_ban_for_longer_than_ip_set_can_count_is_written_down_with_its_end() {
    with_iptables(|| {
        let net = Net::new();
        // One second less than it can count, that, one more, and far more.
        for (at, secs) in [2_147_482u64, 2_147_483, 2_147_484, 4_000_000_000].into_iter().enumerate() {
            let (addr, time) = (format!("192.0.2.{at}"), format!("{secs}s"));
            let began = crate::common::daemon::seconds() - 1;
            net.mef(&["ban", &addr, "--for", &time]).ok();
            let list = net.ipset("ban4") + &net.ipset("bannet4");
            let line = list.lines().find(|line| line.starts_with(&addr)).unwrap();
            let left: u64 = line.split(' ').nth(2).unwrap().parse().unwrap();
            assert!(left > 0 && left <= secs.min(2_147_483), "{line}");
            let known = ends(&net);
            let (_, end) = known.iter().find(|((one, _), _)| *one == addr).unwrap();
            // Give or take the seconds that pass meanwhile.
            assert!(
                (began + secs..=crate::common::daemon::seconds() + secs + 1).contains(end),
                "{addr}: {end}"
            );
        }
        net.mef(&["ban", "192.0.2.9", "--permanent"]).ok();
        assert!(net.ipset("ban4").contains("192.0.2.9 timeout 0"));
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn only_where_there_is_no_table_for_ipv6_it_goes_without() {
    with_iptables(|| {
        let net = host("", "");
        let refuse = |words: &str| {
            for variant in ["", "-legacy", "-nft"] {
                let script = format!("#!/bin/sh\necho '{words}' >&2; exit 3\n");
                net.program(&format!("sbin/ip6tables{variant}-restore"), &script);
            }
        };
        // What fails in passing is no lack: nothing is in force by halves and called whole.
        refuse("ip6tables-restore: Cannot allocate memory");
        let said = net.mef(&["ban", "203.0.113.1"]);
        assert!(said.status == 1 && said.stderr.contains("Cannot allocate memory"), "{said:?}");
        refuse("ip6tables-restore: unable to initialize table raw");
        net.mef(&["ban", "203.0.113.1"]).ok();
        for command in ["ban", "deny"] {
            let said = net.mef(&[command, "2001:db8::1"]);
            assert!(said.status == 1 && said.stderr.contains("cannot drop packets of IPv6"), "{said:?}");
        }
        net.mef(&["deny", "203.0.113.2"]).ok();
        assert_eq!(net.mef(&["why", "203.0.113.2"]).status, 1);
        // Half a rule set is none, which is said before it is loaded.
        let file = net.write("a.rules", "rule dir=in action=drop proto=udp dport=9\n");
        for command in ["check", "load"] {
            let said = net.mef(&[command, file.to_str().unwrap()]);
            let words = "no tables for its rules";
            assert!(
                said.status == 1 && (said.stdout.contains(words) || said.stderr.contains(words)),
                "{said:?}"
            );
        }
        assert_eq!(net.rule_set(), "");
        net.choose_variant("legacy");
        ["-legacy", "-nft"].iter().for_each(|variant| {
            std::fs::remove_file(net.path(&format!("sbin/ip6tables{variant}-restore"))).unwrap();
        });
        for command in ["check", "load"] {
            net.mef(&[command, file.to_str().unwrap()]).ok();
        }
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn check_says_what_the_backend_lacks_and_what_saved_rules_would_do_at_boot() {
    with_iptables(|| {
        let net = Net::new();
        net.mef(&["ban", "203.0.113.1"]).ok();
        // Files of the host's are not ours to write.
        let script = "mount -t tmpfs none /etc && mkdir /etc/iptables && cd \"$2\" &&\n\
            iptables-legacy-save >/etc/iptables/rules.v4 && echo '*filter' >/etc/iptables/rules.v6 &&\n\
            [ -z \"$3\" ] || mount -t tmpfs none /usr/sbin; [ -z \"$3\" ] || mount -t tmpfs none \\\n\
            /usr/local/sbin; \"$1\" check --config check.conf";
        let check = |conf: &str, hides: &str| {
            net.write("check.conf", &format!("[global]\n{conf}\n"));
            let (binary, dir) = (crate::common::mef_binary(), net.path(""));
            let words =
                ["-m", "sh", "-c", script, "sh", binary.to_str().unwrap(), dir.to_str().unwrap(), hides];
            let mut command = net.command("unshare", &words);
            net.own(&mut command);
            let said = command.output().unwrap();
            String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr)
        };
        const SAVED: &str = "rules.v4: warning: has rules of mef";
        let said = check("firewall_backend=iptables\nguard_owner=true\nfastpath=ingress", "");
        for words in [SAVED, "guard_owner has no effect", "fastpath=ingress has no effect"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(!said.contains("rules.v6") && !said.contains("not installed"), "{said}");
        let said = check("firewall_backend=nftables\nguard_owner=true\nfastpath=ingress", "");
        assert!(said.contains(SAVED) && !said.contains("has no effect"), "{said}");
        let said = check("firewall_backend=iptables", "hides");
        assert!(said.contains("iptables-restore is not installed (install the package iptables)"), "{said}");
        // Parts of the kernel that are in use are among those that are told of.
        let parts = net.mef(&["version", "--verbose"]).stdout;
        let has = |part: &str| parts.lines().any(|line| line.starts_with(part) && line.contains(" yes "));
        assert!(has("ip_set ") && has("iptables-restore "), "{parts}");
    });
}
