//! The guard table against the real kernel, each test in a network namespace of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

use mef::base::clock::Span;
use mef::base::range::Range;
use mef::firewall::guard::{Ban, Guard, Options, Refresh, Scope};
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

static ALL: Scope = Scope::ALL;

fn namespace() -> Guard {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
        .expect("root is needed for a network namespace");
    Guard::open(Options::default()).unwrap()
}

fn nft(args: &[&str]) -> String {
    let out = Command::new("nft").args(args).output().expect("package nftables");
    assert!(out.status.success(), "nft {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    // nft 1.1 names the burst of a limit also where that is the default.
    String::from_utf8(out.stdout).unwrap().replace(" burst 5 packets", "")
}

fn range(text: &str) -> Range {
    match text.split_once('-') {
        Some((a, b)) => Range::new(a.parse().unwrap(), b.parse().unwrap()).unwrap(),
        None if text.contains('/') => Range::from(text.parse::<ipnet::IpNet>().unwrap()),
        None => Range::from(ipnet::IpNet::from(text.parse::<std::net::IpAddr>().unwrap())),
    }
}

fn a_ban<'a>(who: &str, scope: &'a Scope, time: Span) -> Ban<'a> {
    Ban { who: range(who), scope, time, rule: "test", hits: 5, reason: "", bans: 1, starts: &[] }
}

fn ban(guard: &mut Guard, who: &str, time: Span) {
    guard.ban(&[a_ban(who, &ALL, time)], &mut |_, result| {
        assert!(result.is_ok(), "{who}: {}", result.unwrap_err())
    });
}

/// What is banned, with the seconds left.
fn listed(guard: &mut Guard) -> Vec<String> {
    let mut all = Vec::new();
    let left = |left: Option<u64>| left.map_or("permanent".to_owned(), |l| l.to_string());
    guard.list(&mut |e| all.push(format!("{} {} {}", e.who, e.scope, left(e.left)))).unwrap();
    all.sort();
    all.dedup();
    all
}

/// Waits until dumps show so many bans, a few times in a row: while the kernel resizes a hash table, which
/// it does behind the back of whoever filled it, its walks leave elements out.
fn settle(guard: &mut Guard, want: usize) {
    let mut right = 0;
    for _ in 0..200 {
        right = if listed(guard).len() == want { right + 1 } else { 0 };
        if right == 3 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("the kernel never showed {want} bans");
}

/// Rewrites the mark so that the next look takes this for a kernel that does not prolong.
fn pretend_old_kernel(guard: &mut Guard) {
    guard.ensure().unwrap();
    nft(&["delete", "set", "inet", "mef_guard", "made"]);
    let set =
        "{ type ipv4_addr; comment \"mef 3 prefix6=64 refresh=replace log=1 scan=0 ingress=0 lacks=0\"; }";
    nft(&["add", "set", "inet", "mef_guard", "made", set]);
    guard.forget();
    assert_eq!(guard.ensure().unwrap().refresh, Refresh::Replace);
}

#[test]
fn nft_reads_the_table_back() {
    let mut guard = namespace();
    ban(&mut guard, "192.0.2.7", Span::Secs(3600));
    ban(&mut guard, "2001:db8:1:2::/64", Span::Secs(3600));
    ban(&mut guard, "2001:db8:2::/48", Span::Secs(3600));
    ban(&mut guard, "10.0.0.0/8", Span::Secs(60));
    ban(&mut guard, "203.0.113.5-203.0.113.9", Span::Permanent);
    let scope = Scope::new(vec![(22, 22), (1000, 2000)], true, false);
    guard.ban(&[a_ban("192.0.2.8", &scope, Span::Permanent)], &mut |_, r| assert!(r.is_ok()));
    let mut allowed = vec![range("198.51.100.0/24"), range("198.51.100.128/25"), range("::1")].into();
    guard.set_allowed(&mut allowed).unwrap();

    let text = nft(&["list", "ruleset"]);
    for line in [
        "type filter hook prerouting priority raw; policy accept;",
        "ip saddr @ban4 jump hit",
        "ip6 saddr & ffff:ffff:ffff:ffff:: == @ban6 jump hit6",
        "ip saddr @bannet4 jump hit",
        "tcp dport 1000-2000 ip saddr @ban_",
        "limit rate 1/second log prefix \"MEF_\"",
        "elements = { 198.51.100.0/24 }",
        "203.0.113.5-203.0.113.9",
        "comment \"test hits=5\"",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    let mut check = Command::new("nft").args(["-c", "-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut check.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(check.wait().unwrap().success());
    assert_eq!(
        listed(&mut guard),
        [
            "10.0.0.0/8 all 60",
            "192.0.2.7 all 3600",
            "192.0.2.8 22,1000-2000/tcp permanent",
            "2001:db8:1:2::/64 all 3600",
            "2001:db8:2::/48 all 3600",
            "203.0.113.5-203.0.113.9 all permanent",
        ]
    );
}

#[test]
fn a_second_ban_sets_the_new_time_on_new_and_old_kernels() {
    let mut guard = namespace();
    for old in [false, true] {
        if old {
            pretend_old_kernel(&mut guard);
        }
        for who in ["192.0.2.7", "2001:db8::/64", "10.0.0.0/8"] {
            for (time, want) in [
                (Span::Secs(100), "100"),
                (Span::Secs(5000), "5000"),
                (Span::Secs(50), "50"),
                (Span::Permanent, "permanent"),
                (Span::Secs(70), "70"),
            ] {
                ban(&mut guard, who, time);
                assert_eq!(listed(&mut guard), [format!("{who} all {want}")], "old kernel: {old}");
            }
            assert_eq!(guard.unban(&range(who), &mut |_| ()).unwrap(), 1);
        }
    }
    assert_eq!(listed(&mut guard), [""; 0]);
}

#[test]
fn a_batch_with_an_address_twice_is_taken_by_old_kernels_too() {
    let mut guard = namespace();
    pretend_old_kernel(&mut guard);
    let mut bans: Vec<Ban> = (1..200).map(|n| a_ban(&format!("192.0.2.{n}"), &ALL, Span::Secs(60))).collect();
    bans.push(a_ban("192.0.2.17", &ALL, Span::Secs(90)));
    let mut done = vec![0; bans.len()];
    guard.ban(&bans, &mut |at, result| {
        assert!(result.is_ok());
        done[at] += 1;
    });
    assert!(done.iter().all(|&n| n == 1), "every ban is reported once: {done:?}");
    let all = listed(&mut guard);
    assert_eq!(all.len(), 199);
    assert!(all.contains(&"192.0.2.17 all 90".to_owned()));
}

#[test]
fn bans_of_networks_are_cut_where_they_overlap() {
    let mut guard = namespace();
    for old in [false, true] {
        if old {
            pretend_old_kernel(&mut guard);
        }
        ban(&mut guard, "10.0.0.0/8", Span::Secs(1000));
        ban(&mut guard, "10.1.0.0/16", Span::Secs(50));
        ban(&mut guard, "10.255.0.0-11.0.0.255", Span::Permanent);
        let want = [
            "10.0.0.0/16 all 1000",
            "10.1.0.0/16 all 50",
            "10.2.0.0-10.254.255.255 all 1000",
            "10.255.0.0-11.0.0.255 all permanent",
        ];
        assert_eq!(listed(&mut guard), want, "old kernel: {old}");
        assert_eq!(guard.unban(&range("10.1.2.3"), &mut |_| ()).unwrap(), 1);
        assert!(listed(&mut guard).contains(&"10.1.2.4-10.1.255.255 all 50".to_owned()));
        guard.unban(&range("0.0.0.0/0"), &mut |_| ()).unwrap();
        assert_eq!(listed(&mut guard), [""; 0]);
    }
}

#[test]
fn unbanning_a_network_ends_the_bans_inside_it() {
    let mut guard = namespace();
    for who in ["192.0.2.7", "192.0.2.9", "198.51.100.1", "2001:db8::/64", "2001:db8:0:1::/64"] {
        ban(&mut guard, who, Span::Secs(60));
    }
    let scope = Scope::new(vec![(22, 22)], true, true);
    guard.ban(&[a_ban("192.0.2.7", &scope, Span::Secs(60))], &mut |_, r| assert!(r.is_ok()));
    assert_eq!(guard.unban(&range("192.0.2.0/24"), &mut |_| ()).unwrap(), 3);
    assert_eq!(guard.unban(&range("2001:db8::/32"), &mut |_| ()).unwrap(), 2);
    assert_eq!(guard.unban(&range("192.0.2.7"), &mut |_| ()).unwrap(), 0);
    assert_eq!(listed(&mut guard), ["198.51.100.1 all 60"]);
    guard.unban_all(true).unwrap();
    assert_eq!(listed(&mut guard), [""; 0]);
}

#[test]
fn rebuilding_keeps_the_bans_and_takes_the_new_options() {
    let mut guard = namespace();
    ban(&mut guard, "192.0.2.7", Span::Secs(60));
    let scope = Scope::new(vec![(22, 22)], true, true);
    guard.ban(&[a_ban("192.0.2.8", &scope, Span::Secs(60))], &mut |_, r| assert!(r.is_ok()));
    let reach = mef::firewall::guard::Reach::Host;
    guard.set_options(Options { reject: true, log: None, reach, ..Options::default() });
    guard.rebuild().unwrap();
    assert_eq!(listed(&mut guard), ["192.0.2.7 all 60", "192.0.2.8 22 60"]);
    let text = nft(&["list", "table", "inet", "mef_guard"]);
    assert!(text.contains("hook input priority raw") && text.contains("reject with tcp reset"), "{text}");
    assert!(!text.contains("log prefix") && text.matches("@ban_22_4").count() == 2, "{text}");
    guard.remove().unwrap();
    guard.remove().unwrap();
    assert_eq!(nft(&["list", "ruleset"]), "");
}

#[test]
fn the_table_comes_back_when_it_is_flushed_between_two_bans() {
    let mut guard = namespace();
    ban(&mut guard, "192.0.2.7", Span::Secs(60));
    nft(&["flush", "ruleset"]);
    ban(&mut guard, "192.0.2.8", Span::Secs(60));
    assert_eq!(listed(&mut guard), ["192.0.2.8 all 60"]);
}

#[test]
fn processes_that_begin_together_make_one_table() {
    let _guard = namespace();
    let threads: Vec<_> = (0..8)
        .map(|n| {
            std::thread::spawn(move || {
                let mut guard = Guard::open(Options::default()).unwrap();
                ban(&mut guard, &format!("192.0.2.{n}"), Span::Secs(60));
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    let mut guard = Guard::open(Options::default()).unwrap();
    assert_eq!(listed(&mut guard).len(), 8);
    assert_eq!(nft(&["list", "ruleset"]).matches("@ban4 jump hit").count(), 1);
}

#[test]
fn a_hundred_thousand_bans_are_in_the_kernel() {
    let mut guard = namespace();
    let who = |n: u32| Range::from_key(&(0x0a00_0000 + n).to_be_bytes()).unwrap();
    let bans: Vec<Ban> = (0..100_000)
        .map(|n| Ban {
            who: who(n),
            scope: &ALL,
            time: Span::Secs(3600),
            rule: "",
            hits: 0,
            reason: "",
            bans: 1,
            starts: &[],
        })
        .collect();
    let mut done = 0;
    guard.ban(&bans, &mut |_, result| done += u32::from(result.is_ok()));
    assert_eq!(done, 100_000);
    settle(&mut guard, 100_000);
}

#[test]
fn dumps_are_whole_while_others_write() {
    let mut guard = namespace();
    let stay: Vec<String> = (0..3000).map(|n| format!("10.0.{}.{}", n / 250, n % 250)).collect();
    let bans: Vec<Ban> = stay.iter().map(|who| a_ban(who, &ALL, Span::Permanent)).collect();
    guard.ban(&bans, &mut |_, r| assert!(r.is_ok()));
    settle(&mut guard, 3000);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut other = Guard::open(Options::default()).unwrap();
            while !stop.load(Ordering::Relaxed) {
                ban(&mut other, "192.0.2.1", Span::Secs(60));
                other.unban(&range("192.0.2.1"), &mut |_| ()).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        });
        // The kernel begins a new generation before it takes the old one's elements out of the hash, so one
        // dump in some hundreds misses an element at the seam of two messages without being marked.
        let counts: Vec<usize> = (0..20)
            .map(|_| {
                let mut all = [listed(&mut guard), listed(&mut guard), listed(&mut guard)].concat();
                all.retain(|line| line.starts_with("10."));
                all.sort();
                all.dedup();
                all.len()
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(counts, [3000; 20]);
    });
}

#[test]
fn elements_count_packets_if_they_are_to() {
    let _ = namespace();
    let counting = Options { element_counters: true, ..Options::default() };
    let mut guard = Guard::open(counting).unwrap();
    for who in ["192.0.2.7", "10.0.0.0/8", "2001:db8::/64"] {
        ban(&mut guard, who, Span::Secs(60));
    }
    let mut packets = Vec::new();
    guard.list(&mut |e| packets.push((e.who.to_string(), e.packets))).unwrap();
    packets.sort();
    let want = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/64"].map(|who| (who.to_owned(), Some(0)));
    assert_eq!(packets, want);
    guard.set_options(Options::default());
    ban(&mut guard, "192.0.2.8", Span::Secs(60));
    guard.list(&mut |e| packets.push((e.who.to_string(), e.packets))).unwrap();
    assert!(packets.contains(&("192.0.2.8".to_owned(), None)));
}

/// So that those who begin together meet at different places.
fn pause(most: u64) {
    std::thread::sleep(std::time::Duration::from_micros(fastrand::u64(..most)));
}

#[test]
fn a_scope_that_others_add_has_its_rules_once_whoever_rebuilds_the_table_meanwhile() {
    const ROUNDS: u16 = 60;
    let mut guard = namespace();
    guard.ensure().unwrap();
    let (start, end) = (Barrier::new(3), Barrier::new(3));
    std::thread::scope(|threads| {
        for worker in 0..2 {
            let (start, end) = (&start, &end);
            threads.spawn(move || {
                let mut other = Guard::open(Options::default()).unwrap();
                for n in 0..ROUNDS {
                    let scope = Scope::new(vec![(1000 + n, 1000 + n)], true, false);
                    let who = format!("192.0.2.{worker}");
                    start.wait();
                    pause(500);
                    let mut done = Vec::new();
                    other.ban(&[a_ban(&who, &scope, Span::Secs(60))], &mut |_, r| done.push(r.is_ok()));
                    end.wait();
                    assert_eq!(done, [true]);
                }
            });
        }
        let mut wrong = Vec::new();
        for n in 0..ROUNDS {
            start.wait();
            if n % 3 > 0 {
                pause(500);
                guard.rebuild().unwrap();
            }
            end.wait();
            let rule = format!("tcp dport {0} ip saddr @ban_t{0}_4", 1000 + n);
            let count = nft(&["list", "chain", "inet", "mef_guard", "gate"]).matches(&rule).count();
            wrong.extend((count != 1).then_some((n, count)));
        }
        assert_eq!(wrong, [], "rounds, and how often the rule of the scope was there");
    });
}

#[test]
fn networks_that_are_banned_at_once_are_cut_out_of_each_other() {
    let _guard = namespace();
    let threads: Vec<_> = (0..6u8)
        .map(|n| {
            std::thread::spawn(move || {
                let mut guard = Guard::open(Options::default()).unwrap();
                for m in 0..10 {
                    ban(&mut guard, &format!("10.{m}.{n}.0-10.{m}.9.255"), Span::Secs(60));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    let mut all: Vec<Range> = Vec::new();
    let mut guard = Guard::open(Options::default()).unwrap();
    guard.list(&mut |e| all.push(e.who)).unwrap();
    mef::base::range::merge(&mut all);
    let want: Vec<Range> = (0..10).map(|m| range(&format!("10.{m}.0.0-10.{m}.9.255"))).collect();
    assert_eq!(all, want);
}

#[test]
fn networks_at_the_end_of_the_addresses_come_and_go() {
    let mut guard = namespace();
    for who in ["255.255.255.0/24", "::/1", "8000::/1", "fffe::/16"] {
        ban(&mut guard, who, Span::Secs(60));
        assert!(listed(&mut guard).contains(&format!("{who} all 60")));
    }
    assert_eq!(guard.unban(&range("255.255.255.255"), &mut |_| ()).unwrap(), 1);
    assert!(listed(&mut guard).contains(&"255.255.255.0-255.255.255.254 all 60".to_owned()));
    guard.unban(&range("::/0"), &mut |_| ()).unwrap();
    guard.unban(&range("0.0.0.0/0"), &mut |_| ()).unwrap();
    assert_eq!(listed(&mut guard), [""; 0]);
}

#[test]
fn the_table_comes_back_for_new_ports_and_for_networks() {
    let mut guard = namespace();
    let scope = Scope::new(vec![(22, 22)], true, true);
    guard.ensure().unwrap();
    assert!(guard.take_fresh() && !guard.take_fresh());
    nft(&["flush", "ruleset"]);
    guard.ban(&[a_ban("192.0.2.7", &scope, Span::Secs(60))], &mut |_, r| assert!(r.is_ok()));
    assert!(guard.take_fresh());
    nft(&["flush", "ruleset"]);
    ban(&mut guard, "10.0.0.0/8", Span::Secs(60));
    nft(&["flush", "ruleset"]);
    guard.ban(&[a_ban("10.0.0.0/8", &scope, Span::Secs(60))], &mut |_, r| assert!(r.is_ok()));
    assert_eq!(listed(&mut guard), ["10.0.0.0/8 22 60"]);
}

#[test]
fn a_table_that_others_made_with_another_prefix_is_noticed() {
    let mut guard = namespace();
    ban(&mut guard, "2001:db8::/64", Span::Secs(60));
    let scope = Scope::new(vec![(22, 22)], true, true);
    guard.ban(&[a_ban("2001:db8:1::/64", &scope, Span::Secs(60))], &mut |_, r| assert!(r.is_ok()));
    let mut other = Guard::open(Options { ipv6_prefix: 56, ..Options::default() }).unwrap();
    other.rebuild().unwrap();
    // Keys of another length are gone, in the sets of ports too.
    assert_eq!(listed(&mut other), [""; 0]);
    ban(&mut guard, "2001:db8::/64", Span::Secs(60));
    let text = nft(&["list", "set", "inet", "mef_guard", "bannet6"]);
    assert!(text.contains("2001:db8::/64"), "{text}");
}

#[test]
fn part_of_a_banned_prefix_does_not_end_its_ban() {
    let mut guard = namespace();
    ban(&mut guard, "2001:db8::/64", Span::Secs(60));
    let mut parts = Vec::new();
    assert_eq!(guard.unban(&range("2001:db8::"), &mut |r| parts.push(r)).unwrap(), 0);
    assert_eq!(guard.unban(&range("2001:db8::/32"), &mut |r| parts.push(r)).unwrap(), 1);
    assert_eq!(parts, [range("2001:db8::/64")]);
}

#[test]
fn long_allow_lists_and_odd_comments_are_taken() {
    let mut guard = namespace();
    guard.ensure().unwrap();
    // Four times what the send buffer takes at first.
    let many: Vec<Range> =
        (0..100_000u32).map(|n| Range::from_key(&(0x0a00_0000 + 2 * n).to_be_bytes()).unwrap()).collect();
    guard.set_allowed(&mut many.into()).unwrap();
    assert_eq!(guard.allowed().unwrap().len(), 100_000);
    guard.set_allowed(&mut Vec::new().into()).unwrap();
    let reason = "\"quoted\"\n\u{1b}[31m".to_owned() + &"ü".repeat(2500);
    let odd = Ban { reason: &reason, ..a_ban("192.0.2.7", &ALL, Span::Secs(u64::from(u32::MAX))) };
    guard.ban(&[odd], &mut |_, r| assert!(r.is_ok()));
    let mut seen = String::new();
    guard.list(&mut |e| seen = format!("{} {} {:?} {}", e.rule, e.hits, e.left, e.reason)).unwrap();
    let begin = format!("test 5 Some({}) 'quoted'??[31mü", u32::MAX);
    assert!(seen.starts_with(&begin) && seen.ends_with('ü'), "{seen}");
}

#[test]
fn bans_that_ended_with_a_network_do_not_come_back_from_the_journal() {
    let guard = namespace();
    let dir = std::env::temp_dir().join(format!("mef-guard-{}", std::process::id()));
    let now = mef::base::clock::Wall(1_800_000_000);
    let patience = std::time::Duration::from_secs(1);
    let (journal, _) = mef::state::journal::Journal::open(&dir, now, [1, 2], patience).unwrap();
    let mut enforcer = mef::enforce::Enforcer::new(guard, Some(journal), false);
    let who = ["192.0.2.7", "192.0.2.9", "198.51.100.1", "10.0.0.0/8", "2001:db8::/64"];
    let bans = who.map(|who| a_ban(who, &ALL, Span::Secs(600)));
    enforcer.ban(now, &bans, &mut |_, r| assert!(r.is_ok()), &mut |e| panic!("{e}"));
    for (who, count) in [("192.0.2.0/24", 2), ("10.0.0.0/9", 1), ("2001:db8::/32", 1)] {
        assert_eq!(enforcer.unban(now, &range(who), &mut |e| panic!("{e}")).unwrap(), count, "{who}");
    }
    nft(&["flush", "ruleset"]);
    enforcer.guard().forget();
    enforcer.restore(now, &mut |e| panic!("{e}")).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(listed(enforcer.guard()), ["10.128.0.0/9 all 600", "198.51.100.1 all 600"]);
}

#[test]
fn a_network_that_shares_an_end_with_another_takes_its_place() {
    let mut guard = namespace();
    for (narrow, wide) in [
        ("192.0.2.128/25", "192.0.2.0/24"),
        ("192.0.2.0/25", "192.0.2.0/24"),
        ("192.0.2.64/26", "192.0.2.0/24"),
        ("2001:db8:8000::/33", "2001:db8::/32"),
        ("255.255.255.128/25", "255.255.255.0/24"),
    ] {
        ban(&mut guard, narrow, Span::Secs(60));
        ban(&mut guard, wide, Span::Secs(90));
        assert_eq!(listed(&mut guard), [format!("{wide} all 90")], "{narrow}, then {wide}");
        ban(&mut guard, narrow, Span::Secs(60));
        guard.unban(&range(wide), &mut |_| ()).unwrap();
        assert_eq!(listed(&mut guard), [""; 0], "{wide}, then {narrow}");
    }
}
