//! What every backend has to do, each body over all of them, in a network namespace of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

use crate::common::bans::{a_ban, range};
use mef::ban::WhichBans;
use mef::ban::{
    Allowed, Ban, BanEntry, BanOutcome, Damage, ListForm, ListId, ListMembers, Options, Repeat, Scope,
    Transports,
};
use mef::base::clock::{Span, Wall};
use mef::base::range::Range;
use mef::firewall::backend::Backend;
use mef::firewall::guard::Guard;
use mef::firewall::iptables::Fallback;
use std::process::Command;

static ALL: Scope = Scope::ALL;

type Open = fn(Options, Allowed) -> Box<dyn Backend>;

/// The backends, by what `firewall_backend` calls them.
const BACKENDS: [(&str, Open); 2] = [
    ("nftables", |options, allowed| Box::new(Guard::open(options, allowed).unwrap())),
    ("iptables", |options, allowed| Box::new(Fallback::open(options, allowed).unwrap())),
];

/// Does something with each backend, each in a namespace of its own.
fn over_all(body: fn(&str, Open)) {
    for (name, open) in BACKENDS {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root is needed for a namespace");
        body(name, open);
    }
}

fn plain(open: Open) -> Box<dyn Backend> {
    open(Options::default(), Allowed::default())
}

fn outcome(guard: &mut dyn Backend, addr: &str, time: Span, repeat: Repeat) -> BanOutcome {
    let mut outcome = None;
    guard.ban(&[a_ban(addr, &ALL, time)], repeat, &mut |_, result| {
        outcome = Some(result.map_err(ToString::to_string));
    });
    outcome.unwrap().unwrap_or_else(|e| panic!("{addr}: {e}"))
}

fn ban(guard: &mut dyn Backend, addr: &str, time: Span) {
    outcome(guard, addr, time, Repeat::Prolongs);
}

/// Ends the bans of a range; how many there were.
fn unban(guard: &mut dyn Backend, addr: &str) -> usize {
    guard.unban(&[range(addr)], &[]).unwrap()[0]
}

/// What is banned, with the seconds left.
fn listed(guard: &mut dyn Backend) -> Vec<String> {
    let mut all = Vec::new();
    let left = |left: Option<u64>| left.map_or("permanent".to_owned(), |l| l.to_string());
    guard.list(&mut |e| all.push(format!("{} {} {}", e.addr, e.scope, left(e.left)))).unwrap();
    all.sort();
    all.dedup();
    all
}

/// Until when an address is banned: `Some(None)` is for good.
fn ends(guard: &mut dyn Backend, addr: &str) -> Option<Option<u64>> {
    let mut all = Vec::new();
    guard.list(&mut |e| all.extend(e.addr.covers(&range(addr)).then_some(e.left))).unwrap();
    all.into_iter().max_by_key(|left| left.unwrap_or(u64::MAX))
}

/// `want`, or at most a few seconds less.
fn is_about(left: Option<Option<u64>>, want: u64) -> bool {
    left.flatten().is_some_and(|left| left <= want && left + 20 > want)
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_latest_end_counts_whatever_came_later() {
    over_all(|_, open| {
        let guard = &mut *plain(open);
        for addr in ["192.0.2.7", "2001:db8::/64", "10.0.0.0/8"] {
            for (time, repeat, want) in [
                (Span::Secs(1000), Repeat::Prolongs, Some(1000)),
                (Span::Secs(50_000), Repeat::Keeps, Some(1000)),
                (Span::Secs(50_000), Repeat::Prolongs, Some(50_000)),
                (Span::Secs(500), Repeat::Prolongs, Some(50_000)),
                (Span::Permanent, Repeat::Prolongs, None),
                (Span::Secs(90_000), Repeat::Prolongs, None),
            ] {
                let before = ends(guard, addr);
                let outcome = outcome(guard, addr, time, repeat);
                let now = ends(guard, addr);
                assert_eq!(listed(guard).len(), 1);
                match want {
                    Some(want) => assert!(is_about(now, want), "{addr} {time:?}: {now:?}"),
                    None => assert_eq!(now, Some(None), "{addr} {time:?}"),
                }
                match outcome {
                    BanOutcome::Banned => assert_eq!(before, None),
                    BanOutcome::Extended(_) => assert_ne!(before, now),
                    BanOutcome::InForce(_) => {
                        assert!(now == before || is_about(now, before.unwrap().unwrap()))
                    }
                }
            }
            assert_eq!(unban(guard, addr), 1);
        }
        assert_eq!(listed(guard), [""; 0]);
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_batch_with_an_address_twice_bans_it_until_the_later_end() {
    over_all(|_, open| {
        let guard = &mut *plain(open);
        let addr = |n| format!("192.0.2.{n}");
        let mut bans: Vec<Ban> = (1..200).map(|n| a_ban(&addr(n), &ALL, Span::Secs(6000))).collect();
        bans.push(a_ban("192.0.2.17", &ALL, Span::Secs(9000)));
        bans.push(a_ban("192.0.2.18", &ALL, Span::Secs(3000)));
        let mut done = vec![0; bans.len()];
        guard.ban(&bans, Repeat::Prolongs, &mut |at, result| {
            assert!(result.is_ok());
            done[at] += 1;
        });
        assert!(done.iter().all(|&n| n == 1), "every ban is reported once: {done:?}");
        assert_eq!(listed(guard).len(), 199);
        assert!(is_about(ends(guard, "192.0.2.17"), 9000));
        assert!(is_about(ends(guard, "192.0.2.18"), 6000));
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_reason_is_kept_or_gained_and_the_beginning_stays() {
    over_all(|_, open| {
        let guard = &mut *plain(open);
        for addr in ["192.0.2.7", "192.0.2.0/25"] {
            let mut put = |reason, age, time| {
                let ban = Ban { reason, age, ..a_ban(addr, &ALL, time) };
                let mut outcome = None;
                guard.ban(&[ban], Repeat::Prolongs, &mut |_, result| outcome = Some(result.unwrap()));
                let mut seen = Vec::new();
                let each = &mut |e: &BanEntry<'_>| {
                    if e.addr == range(addr) {
                        assert_eq!((e.rule, e.hits), ("test", 5));
                        let left = e.left.map(|left| left.div_ceil(100));
                        seen.push((e.reason.to_owned(), e.age.unwrap() / 100, left));
                    }
                };
                guard.list(each).unwrap();
                assert_eq!(seen.len(), 1, "{addr}: {seen:?}");
                seen.remove(0)
            };
            assert_eq!(put("", 500, Span::Secs(1000)), (String::new(), 5, Some(10)));
            assert_eq!(put("scans: 3", 0, Span::Secs(500)), ("scans: 3".to_owned(), 5, Some(10)));
            assert_eq!(put("", 0, Span::Secs(2000)), ("scans: 3".to_owned(), 5, Some(20)));
            assert_eq!(put("", 0, Span::Permanent), ("scans: 3".to_owned(), 5, None));
            assert_eq!(put("other", 0, Span::Permanent), ("scans: 3".to_owned(), 5, None));
        }
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn of_networks_that_overlap_the_later_end_counts_for_each_address() {
    over_all(|_, open| {
        let guard = &mut *plain(open);
        ban(guard, "10.1.0.0/16", Span::Secs(50_000));
        ban(guard, "10.0.0.0/8", Span::Secs(10_000));
        ban(guard, "10.2.0.0/16", Span::Secs(500));
        ban(guard, "10.255.0.0-11.0.0.255", Span::Permanent);
        // Who is banned with a network around for longer is banned.
        let inside = outcome(guard, "10.1.2.3", Span::Secs(60), Repeat::Prolongs);
        assert!(matches!(inside, BanOutcome::InForce(_)), "{inside:?}");
        let longer = outcome(guard, "10.1.2.3", Span::Secs(60_000), Repeat::Prolongs);
        assert!(matches!(longer, BanOutcome::Extended(_)), "{longer:?}");
        for (addr, want) in [("10.0.0.1", 10_000), ("10.2.0.1", 10_000), ("10.1.0.1", 50_000)] {
            assert!(is_about(ends(guard, addr), want), "{addr}: {:?}", listed(guard));
        }
        assert!(is_about(ends(guard, "10.1.2.3"), 60_000));
        assert_eq!(ends(guard, "10.255.0.1"), Some(None));
        assert_eq!(ends(guard, "11.0.0.255"), Some(None));
        assert_eq!(ends(guard, "11.0.1.0"), None);
        unban(guard, "10.1.2.3");
        assert_eq!(ends(guard, "10.1.2.3"), None);
        for addr in ["10.1.2.2", "10.1.2.4", "10.1.255.255"] {
            assert!(is_about(ends(guard, addr), 50_000), "{addr}: {:?}", listed(guard));
        }
        unban(guard, "0.0.0.0/0");
        assert_eq!(listed(guard), [""; 0]);
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn unbanning_a_network_ends_the_bans_inside_it() {
    over_all(|_, open| {
        let guard = &mut *plain(open);
        for addr in ["192.0.2.7", "192.0.2.9", "198.51.100.1", "2001:db8::/64", "2001:db8:0:1::/64"] {
            ban(guard, addr, Span::Permanent);
        }
        let scope = Scope::new(vec![(22, 22)], Transports::Both);
        let more =
            [a_ban("192.0.2.7", &scope, Span::Permanent), a_ban("10.0.0.0/9", &scope, Span::Permanent)];
        guard.ban(&more, Repeat::Prolongs, &mut |_, r| assert!(r.is_ok(), "{r:?}"));
        assert!(guard.has_ban(&range("192.0.2.7"), &scope).unwrap());
        assert!(guard.has_ban(&range("10.0.0.0/16"), &scope).unwrap());
        assert!(!guard.has_ban(&range("10.0.0.0/16"), &ALL).unwrap());
        assert!(!guard.has_ban(&range("192.0.2.8"), &ALL).unwrap());
        assert_eq!(unban(guard, "192.0.2.0/24"), 3);
        assert_eq!(unban(guard, "2001:db8::/32"), 2);
        assert_eq!(unban(guard, "192.0.2.7"), 0);
        assert_eq!(unban(guard, "10.0.0.0/8"), 1);
        assert_eq!(listed(guard), ["198.51.100.1 all permanent"]);
        guard.unban_all(WhichBans::Timed).unwrap();
        assert_eq!(listed(guard), ["198.51.100.1 all permanent"]);
        guard.unban_all(WhichBans::All).unwrap();
        assert_eq!(listed(guard), [""; 0]);
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn part_of_a_banned_prefix_is_taken_out_of_it() {
    over_all(|_, open| {
        let guard = &mut *plain(open);
        ban(guard, "2001:db8::/64", Span::Permanent);
        assert_eq!(unban(guard, "2001:db8::7"), 1);
        assert_eq!(ends(guard, "2001:db8::7"), None);
        for addr in ["2001:db8::6", "2001:db8::8", "2001:db8::ffff:0:0:1"] {
            assert_eq!(ends(guard, addr), Some(None), "{addr}: {:?}", listed(guard));
        }
        unban(guard, "2001:db8::/64");
        assert_eq!(listed(guard), [""; 0]);
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_ends_of_the_addresses_are_banned_and_unbanned() {
    over_all(|_, open| {
        let guard = &mut *plain(open);
        for addr in ["0.0.0.0", "255.255.255.255", "::/64", "ffff:ffff:ffff:ffff::/64", "0.0.0.0/0", "::/0"] {
            assert!(
                matches!(outcome(guard, addr, Span::Permanent, Repeat::Keeps), BanOutcome::Banned),
                "{addr}"
            );
            assert_eq!(ends(guard, addr), Some(None), "{addr}: {:?}", listed(guard));
            assert!(guard.has_ban(&range(addr), &ALL).unwrap());
            assert_eq!(unban(guard, addr), 1, "{addr}");
            assert_eq!(listed(guard), [""; 0]);
        }
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn rebuilding_keeps_the_bans_and_takes_the_new_options() {
    over_all(|_, open| {
        let guard = &mut *plain(open);
        ban(guard, "192.0.2.7", Span::Permanent);
        let scope = Scope::new(vec![(22, 22)], Transports::Both);
        let more = [a_ban("192.0.2.8", &scope, Span::Permanent)];
        guard.ban(&more, Repeat::Prolongs, &mut |_, r| assert!(r.is_ok()));
        assert!(guard.take_recreated());
        for reach in [mef::ban::Reach::Host, mef::ban::Reach::Forward, mef::ban::Reach::HostAndForward] {
            guard.set_options(Options { reject: true, log: None, reach, ..Options::default() });
            let state = guard.rebuild().unwrap();
            assert!(!state.logs && state.ipv6_prefix == 64);
            assert_eq!(guard.state().unwrap(), Some(state));
            assert_eq!(listed(guard), ["192.0.2.7 all permanent", "192.0.2.8 22 permanent"]);
        }
        assert!(!guard.take_recreated());
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn bans_of_single_addresses_of_ipv6_stay_when_it_is_made_anew() {
    over_all(|_, open| {
        let guard = &mut *open(Options { ipv6_prefix: 128, ..Options::default() }, Allowed::default());
        ban(guard, "2001:db8::7", Span::Permanent);
        guard.rebuild().unwrap();
        assert_eq!(listed(guard), ["2001:db8::7 all permanent"]);
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_table_of_another_prefix_begins_anew_for_ipv6() {
    over_all(|_, open| {
        let guard = &mut *plain(open);
        ban(guard, "2001:db8::/64", Span::Permanent);
        ban(guard, "192.0.2.7", Span::Permanent);
        guard.set_options(Options { ipv6_prefix: 56, ..Options::default() });
        assert_eq!(guard.rebuild().unwrap().ipv6_prefix, 56);
        ban(guard, "2001:db8:1::/56", Span::Permanent);
        assert_eq!(listed(guard), ["192.0.2.7 all permanent", "2001:db8:1::/56 all permanent"]);
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn elements_count_packets_if_they_are_to() {
    over_all(|_, open| {
        let counting = Options { element_counters: true, ..Options::default() };
        let guard = &mut *open(counting, Allowed::default());
        for addr in ["192.0.2.7", "10.0.0.0/8", "2001:db8::/64"] {
            ban(guard, addr, Span::Secs(6000));
        }
        let mut packets = Vec::new();
        guard.list(&mut |e| packets.push((e.addr.to_string(), e.packets))).unwrap();
        packets.sort();
        let want = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/64"].map(|addr| (addr.to_owned(), Some(0)));
        assert_eq!(packets, want);
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn who_is_banned_stays_so_when_elements_begin_or_cease_to_count() {
    over_all(|_, open| {
        let guard = &mut *plain(open);
        for addr in ["192.0.2.7", "10.0.0.0/8", "2001:db8::/64", "198.51.100.5-198.51.100.9"] {
            ban(guard, addr, Span::Secs(6000));
        }
        ban(guard, "192.0.2.8", Span::Permanent);
        let banned = |guard: &mut dyn Backend| -> Vec<String> {
            let whom = |line: &String| line.split(' ').next().unwrap().to_owned();
            listed(guard).iter().map(whom).collect()
        };
        let before = banned(guard);
        guard.take_recreated();
        for element_counters in [true, false, false, true] {
            guard.set_options(Options { element_counters, ..Options::default() });
            guard.rebuild().unwrap();
            // What the kernel does not keep the journal has.
            if !guard.take_recreated() || guard.poll_interval().is_some() {
                assert_eq!(banned(guard), before);
            }
        }
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_allow_list_is_there_from_the_beginning_and_is_replaced_as_a_whole() {
    over_all(|_, open| {
        let mut allowed: Allowed =
            vec![range("198.51.100.0/24"), range("198.51.100.128/25"), range("::1")].into();
        allowed.settle();
        let guard = &mut *open(Options::default(), allowed);
        guard.ensure().unwrap();
        let mut all = guard.allowed().unwrap();
        all.sort();
        assert_eq!(all, [range("198.51.100.0/24"), range("::1")]);
        let mut other = Allowed::default();
        other.add(range("203.0.113.5-203.0.113.9"), None);
        other.add(range("0.0.0.0/0"), Some(Wall(mef::sys::clock::wall().0 + 5000)));
        guard.set_allowed(&mut other).unwrap();
        let all = guard.allowed_until().unwrap();
        assert!(all.contains(&(range("203.0.113.5-203.0.113.9"), None)), "{all:?}");
        let timed: Vec<Range> = all.iter().filter(|(_, until)| until.is_some()).map(|(r, _)| *r).collect();
        assert!(timed.iter().any(|r| r.covers(&range("8.8.8.8"))), "{all:?}");
        assert_eq!(guard.not_allowed(&range("2001:db8::/64"), Wall(0)), [range("2001:db8::/64")]);
        guard.set_allowed(&mut Allowed::default()).unwrap();
        assert_eq!(guard.allowed().unwrap(), []);
    });
}

/// Loads a list of addresses and networks of both families.
fn load(guard: &mut dyn Backend, id: ListId, label: &str, all: &[&str]) {
    let sets = guard.deny_sets().unwrap();
    let mut fillings = Vec::new();
    for form in ListForm::ALL {
        let members = |r: &Range| match r.first() == r.last() {
            true => ListMembers::Addresses,
            false => ListMembers::Networks,
        };
        let of = |r: &Range| r.family() == form.family && members(r) == form.members;
        let ranges: Vec<Range> = all.iter().map(|text| range(text)).filter(of).collect();
        if ranges.is_empty() {
            continue;
        }
        let size = u32::try_from(ranges.len()).unwrap();
        let mut filling = guard.deny_open(id, form, size, label).unwrap();
        guard.deny_add(&mut filling, &ranges, usize::MAX).unwrap();
        guard.deny_close().unwrap();
        fillings.push(filling);
    }
    guard.deny_swap(&sets, &fillings, id.list).unwrap();
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_deny_list_takes_the_place_of_its_former_content() {
    over_all(|_, open| {
        let guard = &mut *plain(open);
        guard.ensure().unwrap();
        let denied = |guard: &mut dyn Backend, addr: &str| {
            let mut names = guard.denied(&[range(addr)]).unwrap().remove(0);
            names.sort();
            names
        };
        let (one, other) = (ListId { list: 1, content: 10 }, ListId { list: 2, content: 20 });
        load(guard, one, "one list", &["192.0.2.7", "10.0.0.0/8", "2001:db8::7", "2001:db8:1::/48"]);
        load(guard, other, "other", &["192.0.2.7", "0.0.0.0/1", "128.0.0.0/1"]);
        assert_eq!(denied(guard, "10.1.2.3"), ["one list", "other"]);
        for addr in ["2001:db8::7", "2001:db8:1:2::3"] {
            assert_eq!(denied(guard, addr), ["one list"], "{addr}");
        }
        assert_eq!(denied(guard, "2001:db8::8"), [""; 0]);
        load(guard, ListId { content: 11, ..one }, "one list", &["192.0.2.8"]);
        let mut ids: Vec<ListId> =
            guard.deny_sets().unwrap().iter().filter(|set| set.in_force()).map(|set| set.id).collect();
        ids.sort_by_key(|id| id.content);
        ids.dedup();
        assert_eq!(ids, [ListId { content: 11, ..one }, other]);
        assert_eq!(denied(guard, "2001:db8::7"), [""; 0]);
        assert_eq!(denied(guard, "192.0.2.8"), ["one list", "other"]);
        // What is not in force is given up.
        let filling = guard.deny_open(one, ListForm::ALL[0], 5, "one list").unwrap();
        guard.deny_forget(&filling).unwrap();
        let sets = guard.deny_sets().unwrap();
        guard.deny_swap(&sets, &[], other.list).unwrap();
        assert_eq!(denied(guard, "192.0.2.7"), [""; 0]);
        assert_eq!(guard.deny_sets().unwrap().len(), 1);
        guard.rebuild().unwrap();
        assert_eq!(denied(guard, "192.0.2.8"), ["one list"]);
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn many_are_banned_listed_and_unbanned() {
    over_all(|_, open| {
        let guard = &mut *plain(open);
        let addr = |n: u32| Range::from_key(&(0x0a00_0000 + n).to_be_bytes()).unwrap();
        let all: Vec<Range> = (1..20_000).map(addr).collect();
        let bans: Vec<Ban> =
            all.iter().map(|addr| Ban { addr: *addr, ..a_ban("::", &ALL, Span::Secs(36_000)) }).collect();
        let mut done = 0;
        guard.ban(&bans, Repeat::Prolongs, &mut |_, result| done += u32::from(result.is_ok()));
        assert_eq!(done, 19_999);
        // While the kernel makes its hash larger, its walks leave elements out.
        let whole = (0..200).any(|_| {
            let count = listed(guard).len();
            std::thread::sleep(std::time::Duration::from_millis(10));
            count == all.len()
        });
        assert!(whole, "{}", listed(guard).len());
        let counts = guard.unban(&all, &[]).unwrap();
        assert!(counts.iter().all(|n| *n == 1));
        assert_eq!(listed(guard), [""; 0]);
    });
}

/// Runs a program; what is left out has not changed.
fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Does what a firewall script does to begin anew.
fn flush(name: &str) {
    if name == "nftables" {
        run("nft", &["flush", "ruleset"]);
        return;
    }
    for program in ["iptables", "ip6tables"] {
        for table in ["raw", "mangle", "filter", "nat"] {
            run(program, &["-t", table, "-F"]);
            run(program, &["-t", table, "-X"]);
        }
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_others_flush_is_damage_and_is_repaired() {
    over_all(|name, open| {
        let guard = &mut *plain(open);
        guard.watch();
        guard.rebuild().unwrap();
        let moved = |guard: &mut dyn Backend| {
            // Some are not asked more often than once a second.
            std::thread::sleep(std::time::Duration::from_millis(1100));
            guard.has_moved().unwrap()
        };
        let scope = Scope::new(vec![(22, 22)], Transports::Both);
        let bans = [a_ban("192.0.2.7", &ALL, Span::Permanent), a_ban("192.0.2.8", &scope, Span::Permanent)];
        guard.ban(&bans, Repeat::Prolongs, &mut |_, r| assert!(r.is_ok()));
        guard.check().unwrap();
        assert!(!moved(guard));
        assert_eq!(guard.check().unwrap().damage, Damage::None);
        flush(name);
        assert!(moved(guard));
        let damage = guard.check().unwrap().damage;
        assert_ne!(damage, Damage::None);
        assert_eq!(guard.state().unwrap(), None);
        guard.repair(damage).unwrap();
        guard.forget_lacks();
        assert!(!moved(guard));
        assert_eq!(guard.check().unwrap().damage, Damage::None);
        assert!(guard.state().unwrap().is_some());
        // Whoever comes next makes it anew, daemon or not.
        flush(name);
        ban(&mut *plain(open), "192.0.2.9", Span::Permanent);
        assert!(guard.state().unwrap().is_some());
    });
}

/// Empties a set of ours.
fn empty(backend: &str, set: &str) {
    match backend {
        "nftables" => run("nft", &["flush", "set", "inet", "mef_guard", set]),
        _ => run("ipset", &["flush", &format!("mef_{set}")]),
    };
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn sets_that_others_empty_are_found_one_by_one() {
    over_all(|name, open| {
        let allowed: Allowed = vec![range("198.51.100.0/24")].into();
        let guard = &mut *open(Options::default(), allowed);
        guard.watch();
        guard.rebuild().unwrap();
        guard.take_recreated();
        let ports = Scope::new(vec![(22, 22)], Transports::Both);
        // Whom the set has, and who would be in others.
        for (set, addr, scope) in [
            ("ban4", "192.0.2.7", &ALL),
            ("ban6", "2001:db8::/64", &ALL),
            ("bannet4", "203.0.113.0/24", &ALL),
            ("ban_22_4", "192.0.2.8", &ports),
        ] {
            guard.ban(&[a_ban(addr, scope, Span::Secs(600))], Repeat::Prolongs, &mut |_, r| {
                assert!(r.is_ok())
            });
            empty(name, set);
            assert_eq!(guard.check().unwrap().damage, Damage::Emptied, "{name}: {set}");
            assert!(guard.may_lack(&range(addr), scope));
            for (other, scope) in [("10.0.0.1", &ALL), ("2001:db8:1::/64", &ALL), ("10.0.0.1", &ports)] {
                let same =
                    range(other).family() == range(addr).family() && scope.is_all() != set.contains("22");
                assert_eq!(guard.may_lack(&range(other), scope), same, "{name}: {set}, {other}");
            }
            guard.repair(Damage::Emptied).unwrap();
            assert!(!guard.take_recreated());
            guard.forget_lacks();
            assert_eq!(guard.check().unwrap().damage, Damage::None);
        }
        // What is taken out while others stay is no loss, and what never held anything has lost nothing.
        ban(guard, "192.0.2.7", Span::Secs(600));
        ban(guard, "192.0.2.8", Span::Secs(600));
        unban(guard, "192.0.2.7");
        empty(name, "bannet6");
        assert_eq!(guard.check().unwrap(), mef::ban::Health::default(), "{name}");
        empty(name, "allow6");
        assert!(!guard.check().unwrap().allow_lost);
        empty(name, "allow4");
        assert!(guard.check().unwrap().allow_lost);
        guard.set_allowed(&mut vec![range("198.51.100.0/24")].into()).unwrap();
        assert!(!guard.check().unwrap().allow_lost);
        guard.set_allowed(&mut Allowed::default()).unwrap();
        assert!(!guard.check().unwrap().allow_lost, "that nobody is allowed is no loss");
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_deny_list_that_others_empty_is_not_in_force() {
    over_all(|name, open| {
        let guard = &mut *plain(open);
        guard.watch();
        guard.rebuild().unwrap();
        let (one, other) = (ListId { list: 1, content: 10 }, ListId { list: 2, content: 20 });
        load(guard, one, "one list", &["192.0.2.7"]);
        load(guard, other, "other", &["192.0.2.8"]);
        assert!(!guard.check().unwrap().lists_lost);
        let listing = match name {
            "nftables" => run("nft", &["list", "table", "inet", "mef_guard"]),
            _ => run("ipset", &["list"]),
        };
        let before = listing.split("192.0.2.7").next().unwrap();
        let words: Vec<&str> = before.split_whitespace().collect();
        let set = words.iter().rfind(|word| word.trim_start_matches("mef_").starts_with("deny4_")).unwrap();
        empty(name, set.trim_start_matches("mef_"));
        assert!(guard.check().unwrap().lists_lost, "{name}");
        let in_force = |guard: &mut dyn Backend| -> Vec<u64> {
            guard.deny_sets().unwrap().iter().filter(|set| set.in_force()).map(|set| set.id.list).collect()
        };
        assert_eq!(in_force(guard), [2]);
        // It is loaded anew in its place, and nothing of the other is left.
        load(guard, one, "one list", &["192.0.2.7"]);
        let mut all = in_force(guard);
        all.sort_unstable();
        assert_eq!((all.as_slice(), guard.deny_sets().unwrap().len()), (&[1, 2][..], 2));
        assert!(!guard.check().unwrap().lists_lost);
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn auto_tries_nf_tables_and_leaves_nothing_of_what_it_tried() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    let mut socket = mef::sys::netlink::NlSocket::open(mnl::Bus::Netfilter).unwrap();
    mef::firewall::nft::parts::try_bans(&mut socket).unwrap();
    assert_eq!(run("nft", &["list", "ruleset"]), "");
    let mut found = mef::firewall::open(Options::default(), Allowed::default().into()).unwrap();
    assert_eq!(found.state().unwrap(), None);
    assert_eq!(run("nft", &["list", "ruleset"]), "");
    ban(&mut *found, "192.0.2.7", Span::Permanent);
    assert!(run("nft", &["list", "ruleset"]).contains("inet mef_guard"));
    // Where it does not work, the words say why.
    let other = Fallback::open(Options::default(), Allowed::default()).unwrap();
    let mut other = other.in_place_of("Operation not supported".to_owned());
    let state = mef::firewall::backend::Keeper::rebuild(&mut other);
    let lacking = mef::firewall::backend::View::lacking(&mut other, state.unwrap());
    assert_eq!(lacking, ["cannot keep bans in nf_tables (Operation not supported): iptables and ip_set do"]);
    other.remove().unwrap();
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn nothing_is_left_of_it() {
    over_all(|name, open| {
        let guard = &mut *plain(open);
        ban(guard, "192.0.2.7", Span::Permanent);
        load(guard, ListId { list: 1, content: 1 }, "x", &["192.0.2.7", "10.0.0.0/8"]);
        if name == "nftables" {
            Guard::open(Options::default(), Allowed::default()).unwrap().remove().unwrap();
            assert_eq!(run("nft", &["list", "ruleset"]), "");
        } else {
            let mut fallback = Fallback::open(Options::default(), Allowed::default()).unwrap();
            fallback.remove().unwrap();
            fallback.remove().unwrap();
            assert_eq!(run("ipset", &["list", "-n"]), "");
            for program in ["iptables-save", "ip6tables-save"] {
                assert!(!run(program, &[]).contains("mef"));
            }
        }
    });
}
