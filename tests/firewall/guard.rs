//! The guard table against the real kernel, each test in a network namespace of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

mod networks;

mod anew;

use crate::common::bans::{a_ban, range};
use mef::ban::WhichBans;
use mef::ban::{Ban, BanOutcome, Options, Repeat, Scope, Transports};
use mef::base::clock::Span;
use mef::base::range::Range;
use mef::firewall::guard::Guard;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

static ALL: Scope = Scope::ALL;

fn namespace() -> Guard {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
        .expect("root is needed for a network namespace");
    Guard::open(Options::default(), mef::ban::Allowed::default()).unwrap()
}

fn nft(args: &[&str]) -> String {
    let out = Command::new("nft").args(args).output().expect("package nftables");
    assert!(out.status.success(), "nft {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    // nft 1.1 names the burst of a limit also where that is the default.
    String::from_utf8(out.stdout).unwrap().replace(" burst 5 packets", "")
}

fn ban(guard: &mut Guard, addr: &str, time: Span) {
    outcome(guard, addr, time, Repeat::Prolongs);
}

fn outcome(guard: &mut Guard, addr: &str, time: Span, repeat: Repeat) -> BanOutcome {
    let mut outcome = None;
    guard.ban(&[a_ban(addr, &ALL, time)], repeat, &mut |_, result| {
        outcome = Some(result.map_err(ToString::to_string));
    });
    outcome.unwrap().unwrap_or_else(|e| panic!("{addr}: {e}"))
}

/// Ends the bans of a range; how many there were.
fn unban(guard: &mut Guard, addr: &str) -> usize {
    guard.unban(&[range(addr)], &[]).unwrap()[0]
}

/// What is banned, with the seconds left.
fn listed(guard: &mut dyn mef::firewall::backend::View) -> Vec<String> {
    let mut all = Vec::new();
    let left = |left: Option<u64>| left.map_or("permanent".to_owned(), |l| l.to_string());
    guard.list(&mut |e| all.push(format!("{} {} {}", e.addr, e.scope, left(e.left)))).unwrap();
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

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn nft_reads_the_table_back() {
    let mut guard = namespace();
    ban(&mut guard, "192.0.2.7", Span::Secs(3600));
    ban(&mut guard, "2001:db8:1:2::/64", Span::Secs(3600));
    ban(&mut guard, "2001:db8:2::/48", Span::Secs(3600));
    ban(&mut guard, "10.0.0.0/8", Span::Secs(60));
    ban(&mut guard, "203.0.113.5-203.0.113.9", Span::Permanent);
    let scope = Scope::new(vec![(22, 22), (1000, 2000)], Transports::Tcp);
    guard.ban(&[a_ban("192.0.2.8", &scope, Span::Permanent)], Repeat::Prolongs, &mut |_, r| {
        assert!(r.is_ok())
    });
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
#[cfg_attr(not_root, ignore = "needs root")]
fn the_latest_end_counts_whatever_came_later() {
    let mut guard = namespace();
    for addr in ["192.0.2.7", "2001:db8::/64", "10.0.0.0/8"] {
        for (time, repeat, want) in [
            (Span::Secs(100), Repeat::Prolongs, "100"),
            (Span::Secs(5000), Repeat::Keeps, "100"),
            (Span::Secs(5000), Repeat::Prolongs, "5000"),
            (Span::Secs(50), Repeat::Prolongs, "5000"),
            (Span::Permanent, Repeat::Prolongs, "permanent"),
            (Span::Secs(9000), Repeat::Prolongs, "permanent"),
        ] {
            let before = listed(&mut guard).concat();
            let outcome = outcome(&mut guard, addr, time, repeat);
            let now = listed(&mut guard);
            assert_eq!(now, [format!("{addr} all {want}")], "{time:?}");
            match outcome {
                BanOutcome::Banned => assert_eq!(before, ""),
                BanOutcome::Extended(_) => assert_ne!(before, now.concat()),
                BanOutcome::InForce(_) => assert_eq!(before, now.concat()),
            }
        }
        assert_eq!(unban(&mut guard, addr), 1);
    }
    assert_eq!(listed(&mut guard), [""; 0]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_batch_with_an_address_twice_bans_it_until_the_later_end() {
    let mut guard = namespace();
    let mut bans: Vec<Ban> = (1..200).map(|n| a_ban(&format!("192.0.2.{n}"), &ALL, Span::Secs(60))).collect();
    bans.push(a_ban("192.0.2.17", &ALL, Span::Secs(90)));
    bans.push(a_ban("192.0.2.18", &ALL, Span::Secs(30)));
    let mut done = vec![0; bans.len()];
    guard.ban(&bans, Repeat::Prolongs, &mut |at, result| {
        assert!(result.is_ok());
        done[at] += 1;
    });
    assert!(done.iter().all(|&n| n == 1), "every ban is reported once: {done:?}");
    let all = listed(&mut guard);
    assert_eq!(all.len(), 199);
    for line in ["192.0.2.17 all 90", "192.0.2.18 all 60"] {
        assert!(all.contains(&line.to_owned()), "{line} is not in {all:?}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_reason_is_kept_or_gained_and_the_beginning_stays() {
    let mut guard = namespace();
    for addr in ["192.0.2.7", "192.0.2.0/25"] {
        let mut put = |reason, age, time| {
            let ban = Ban { reason, age, ..a_ban(addr, &ALL, time) };
            let mut outcome = None;
            guard.ban(&[ban], Repeat::Prolongs, &mut |_, result| outcome = Some(result.unwrap()));
            let mut seen = Vec::new();
            let each = &mut |e: &mef::ban::BanEntry<'_>| {
                if e.addr == range(addr) {
                    seen.push((e.reason.to_owned(), e.age.unwrap() / 10, e.left));
                }
            };
            guard.list(each).unwrap();
            assert_eq!(seen.len(), 1, "{addr}: {seen:?}");
            seen.remove(0)
        };
        assert_eq!(put("", 500, Span::Secs(100)), (String::new(), 50, Some(100)));
        assert_eq!(put("scans", 0, Span::Secs(50)), ("scans".to_owned(), 50, Some(100)));
        assert_eq!(put("", 0, Span::Secs(200)), ("scans".to_owned(), 50, Some(200)));
        assert_eq!(put("", 0, Span::Permanent), ("scans".to_owned(), 50, None));
        assert_eq!(put("other", 0, Span::Permanent), ("scans".to_owned(), 50, None));
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_hundred_thousand_bans_are_in_the_kernel() {
    let mut guard = namespace();
    let addr = |n: u32| Range::from_key(&(0x0a00_0000 + n).to_be_bytes()).unwrap();
    let bans: Vec<Ban> = (0..100_000)
        .map(|n| Ban {
            addr: addr(n),
            scope: &ALL,
            time: Span::Secs(3600),
            age: 0,
            rule: "",
            hits: 0,
            reason: "",
            bans: 1,
            starts: &[],
            line: "",
        })
        .collect();
    let mut done = 0;
    guard.ban(&bans, Repeat::Prolongs, &mut |_, result| done += u32::from(result.is_ok()));
    assert_eq!(done, 100_000);
    settle(&mut guard, 100_000);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn dumps_are_whole_while_others_write() {
    let mut guard = namespace();
    let stay: Vec<String> = (0..3000).map(|n| format!("10.0.{}.{}", n / 250, n % 250)).collect();
    let bans: Vec<Ban> = stay.iter().map(|addr| a_ban(addr, &ALL, Span::Permanent)).collect();
    guard.ban(&bans, Repeat::Prolongs, &mut |_, r| assert!(r.is_ok()));
    settle(&mut guard, 3000);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut other = Guard::open(Options::default(), mef::ban::Allowed::default()).unwrap();
            while !stop.load(Ordering::Relaxed) {
                ban(&mut other, "192.0.2.1", Span::Secs(60));
                unban(&mut other, "192.0.2.1");
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
#[cfg_attr(not_root, ignore = "needs root")]
fn elements_count_packets_if_they_are_to() {
    let _ = namespace();
    let counting = Options { element_counters: true, ..Options::default() };
    let mut guard = Guard::open(counting, mef::ban::Allowed::default()).unwrap();
    for addr in ["192.0.2.7", "10.0.0.0/8", "2001:db8::/64"] {
        ban(&mut guard, addr, Span::Secs(60));
    }
    let mut packets = Vec::new();
    guard.list(&mut |e| packets.push((e.addr.to_string(), e.packets))).unwrap();
    packets.sort();
    let want = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/64"].map(|addr| (addr.to_owned(), Some(0)));
    assert_eq!(packets, want);
    // They cost memory and time, and nft could not read the bans back: not by default.
    guard.set_options(Options::default());
    ban(&mut guard, "192.0.2.8", Span::Secs(60));
    guard.list(&mut |e| packets.push((e.addr.to_string(), e.packets))).unwrap();
    assert!(packets.contains(&("192.0.2.8".to_owned(), None)));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn many_are_unbanned_at_once_and_each_is_counted() {
    let mut guard = namespace();
    for n in 0..40 {
        ban(&mut guard, &format!("192.0.2.{}", n * 2), Span::Secs(60));
    }
    ban(&mut guard, "192.0.2.0/28", Span::Secs(60));
    let addr: Vec<Range> = (0..80).map(|n| range(&format!("192.0.2.{n}"))).collect();
    let counts = guard.unban(&addr, &[]).unwrap();
    let want: Vec<usize> = (0..80).map(|n| usize::from(n % 2 == 0) + usize::from(n < 16)).collect();
    assert_eq!(counts, want);
    assert_eq!(listed(&mut guard), [""; 0]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn of_hundreds_each_is_found_where_it_is_banned() {
    let mut guard = namespace();
    let ports = Scope::new(vec![(22, 22)], Transports::Both);
    let (mut bans, mut want) = (Vec::new(), Vec::new());
    for n in 0..300 {
        let (v4, v6) = (format!("192.0.{}.{}", n / 100, n % 100), format!("2001:db8:0:{n:x}::/64"));
        let part = format!("2001:db8:0:{n:x}::/80");
        // All ports, port 22, both, a network around or inside, nothing.
        let scopes: Vec<&Scope> =
            [vec![&ALL], vec![&ports], vec![&ALL, &ports], vec![], vec![]][n % 5].clone();
        bans.extend(scopes.iter().flat_map(|scope| [(v4.clone(), *scope), (v6.clone(), *scope)]));
        let network = n % 5 == 3;
        if network {
            bans.extend([(format!("192.0.{}.{}-192.0.{0}.{1}", n / 100, n % 100), &ports), (part, &ALL)]);
        }
        want.extend([scopes.len() + usize::from(network); 2]);
    }
    let bans: Vec<Ban<'_>> = bans.iter().map(|(addr, scope)| a_ban(addr, scope, Span::Secs(60))).collect();
    guard.ban(&bans, Repeat::Prolongs, &mut |at, result| assert!(result.is_ok(), "{at}"));
    ban(&mut guard, "203.0.113.0/24", Span::Secs(60));
    let addr: Vec<Range> = (0..300)
        .flat_map(|n| [format!("192.0.{}.{}", n / 100, n % 100), format!("2001:db8:0:{n:x}::/64")])
        .map(|addr| range(&addr))
        .collect();
    assert_eq!(guard.unban(&addr, &[]).unwrap(), want);
    // That one is left, with what is left of its time.
    let left = listed(&mut guard);
    assert!(left.len() == 1 && left[0].starts_with("203.0.113.0/24 all "), "{left:?}");
    assert_eq!(guard.unban(&addr, &[]).unwrap(), vec![0; 600]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn all_bans_end_but_those_for_good_are_never_away() {
    let mut guard = namespace();
    for n in 0..2000u32 {
        let time = if n % 4 == 0 { Span::Permanent } else { Span::Secs(600) };
        ban(&mut guard, &format!("10.0.{}.{}", n / 250, n % 250), time);
    }
    ban(&mut guard, "192.0.2.0/24", Span::Permanent);
    ban(&mut guard, "198.51.100.0/24", Span::Secs(600));
    guard.unban_all(WhichBans::Timed).unwrap();
    settle(&mut guard, 501);
    guard.unban_all(WhichBans::All).unwrap();
    assert_eq!(listed(&mut guard), [""; 0]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn long_allow_lists_and_odd_comments_are_taken() {
    let mut guard = namespace();
    guard.ensure().unwrap();
    // Twice what the send buffer takes at first.
    let many: Vec<Range> =
        (0..50_000u32).map(|n| Range::from_key(&(0x0a00_0000 + 2 * n).to_be_bytes()).unwrap()).collect();
    guard.set_allowed(&mut many.into()).unwrap();
    assert_eq!(guard.allowed().unwrap().len(), 50_000);
    guard.set_allowed(&mut Vec::new().into()).unwrap();
    let reason = "\"quoted\"\n\u{1b}[31m".to_owned() + &"ü".repeat(2500);
    let odd = Ban { reason: &reason, ..a_ban("192.0.2.7", &ALL, Span::Secs(u64::from(u32::MAX))) };
    guard.ban(&[odd], Repeat::Prolongs, &mut |_, r| assert!(r.is_ok()));
    let mut seen = String::new();
    guard.list(&mut |e| seen = format!("{} {} {:?} {}", e.rule, e.hits, e.left, e.reason)).unwrap();
    let begin = format!("test 5 Some({}) 'quoted'??[31mü", u32::MAX);
    assert!(seen.starts_with(&begin) && seen.ends_with('ü'), "{seen}");
}
