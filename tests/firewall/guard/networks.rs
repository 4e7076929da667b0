//! Bans of networks, and what is taken out of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

use super::{ALL, ban, listed, namespace, nft, unban};
use crate::common::bans::{a_ban, range};
use mef::ban::WhichBans;
use mef::ban::{BanOutcome, Options, Repeat, Scope, Transports};
use mef::base::clock::Span;
use mef::base::range::Range;
use mef::firewall::guard::Guard;

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn bans_of_networks_are_cut_where_they_overlap() {
    let mut guard = namespace();
    ban(&mut guard, "10.1.0.0/16", Span::Secs(5000));
    ban(&mut guard, "10.0.0.0/8", Span::Secs(1000));
    ban(&mut guard, "10.2.0.0/16", Span::Secs(50));
    ban(&mut guard, "10.255.0.0-11.0.0.255", Span::Permanent);
    let want = [
        "10.0.0.0/16 all 1000",
        "10.1.0.0/16 all 5000",
        "10.2.0.0-10.254.255.255 all 1000",
        "10.255.0.0-11.0.0.255 all permanent",
    ];
    assert_eq!(listed(&mut guard), want);
    assert_eq!(unban(&mut guard, "10.1.2.3"), 1);
    assert!(listed(&mut guard).contains(&"10.1.2.4-10.1.255.255 all 5000".to_owned()));
    unban(&mut guard, "0.0.0.0/0");
    assert_eq!(listed(&mut guard), [""; 0]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn hundreds_of_pieces_are_united_and_taken_away() {
    let mut guard = namespace();
    for n in 0..600u32 {
        ban(
            &mut guard,
            &format!("10.{}.{}.0/25", n / 200, n % 200),
            Span::Secs(if n % 2 == 0 { 50 } else { 5000 }),
        );
    }
    ban(&mut guard, "10.0.0.0/8", Span::Secs(1000));
    let ends = |guard: &mut Guard, addr: &str| {
        let mut left = None;
        guard.list(&mut |e| left = left.or(e.addr.covers(&range(addr)).then_some(e.left).flatten())).unwrap();
        left
    };
    for n in 0..600u32 {
        let want = if n % 2 == 0 { 1000 } else { 5000 };
        let addr = format!("10.{}.{}.7", n / 200, n % 200);
        if n % 37 == 0 {
            let left = ends(&mut guard, &addr).unwrap();
            assert!(left <= want && left + 100 > want, "{addr}: {left}, not {want}");
        }
    }
    for addr in ["10.0.0.200", "10.255.255.255"] {
        assert!(ends(&mut guard, addr).is_some_and(|left| left > 900), "{addr}");
    }
    unban(&mut guard, "10.0.0.0/8");
    assert_eq!(listed(&mut guard), [""; 0]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn unbanning_a_network_ends_the_bans_inside_it() {
    let mut guard = namespace();
    for addr in ["192.0.2.7", "192.0.2.9", "198.51.100.1", "2001:db8::/64", "2001:db8:0:1::/64"] {
        ban(&mut guard, addr, Span::Secs(60));
    }
    let scope = Scope::new(vec![(22, 22)], Transports::Both);
    guard
        .ban(&[a_ban("192.0.2.7", &scope, Span::Secs(60))], Repeat::Prolongs, &mut |_, r| assert!(r.is_ok()));
    assert_eq!(unban(&mut guard, "192.0.2.0/24"), 3);
    assert_eq!(unban(&mut guard, "2001:db8::/32"), 2);
    assert_eq!(unban(&mut guard, "192.0.2.7"), 0);
    assert_eq!(listed(&mut guard), ["198.51.100.1 all 60"]);
    guard.unban_all(WhichBans::All).unwrap();
    assert_eq!(listed(&mut guard), [""; 0]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn networks_that_are_banned_at_once_are_cut_out_of_each_other() {
    let _guard = namespace();
    let threads: Vec<_> = (0..6u8)
        .map(|n| {
            std::thread::spawn(move || {
                let mut guard = Guard::open(Options::default(), mef::ban::Allowed::default()).unwrap();
                for m in 0..10 {
                    ban(&mut guard, &format!("10.{m}.{n}.0-10.{m}.9.255"), Span::Secs(60));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    let mut all: Vec<Range> = Vec::new();
    let mut guard = Guard::open(Options::default(), mef::ban::Allowed::default()).unwrap();
    guard.list(&mut |e| all.push(e.addr)).unwrap();
    mef::base::range::merge(&mut all);
    let want: Vec<Range> = (0..10).map(|m| range(&format!("10.{m}.0.0-10.{m}.9.255"))).collect();
    assert_eq!(all, want);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn networks_at_the_end_of_the_addresses_come_and_go() {
    let mut guard = namespace();
    for (time, addr) in (60..).step_by(60).zip(["255.255.255.0/24", "::/1", "8000::/1", "fffe::/16"]) {
        ban(&mut guard, addr, Span::Secs(time));
        assert!(listed(&mut guard).contains(&format!("{addr} all {time}")));
    }
    assert_eq!(unban(&mut guard, "255.255.255.255"), 1);
    assert!(listed(&mut guard).contains(&"255.255.255.0-255.255.255.254 all 60".to_owned()));
    unban(&mut guard, "::/0");
    unban(&mut guard, "0.0.0.0/0");
    assert_eq!(listed(&mut guard), [""; 0]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn part_of_a_banned_prefix_is_taken_out_of_it() {
    let mut guard = namespace();
    ban(&mut guard, "2001:db8::/64", Span::Secs(60));
    assert_eq!(unban(&mut guard, "2001:db8::"), 1);
    assert_eq!(listed(&mut guard), ["2001:db8::1-2001:db8::ffff:ffff:ffff:ffff all 60"]);
    assert_eq!(unban(&mut guard, "2001:db8::/32"), 1);
    assert_eq!(listed(&mut guard), [""; 0]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn bans_that_ended_with_a_network_do_not_come_back_from_the_journal() {
    let guard = namespace();
    let dir = std::env::temp_dir().join(format!("mef-guard-{}", std::process::id()));
    let now = mef::base::clock::Wall(1_800_000_000);
    let patience = std::time::Duration::from_secs(1);
    let (journal, _) = mef::state::journal::BanJournal::open(&dir, now, [1, 2], patience).unwrap();
    let mut enforcer = mef::enforce::Enforcer::new(Box::new(guard), Some(journal));
    let addr = ["192.0.2.7", "192.0.2.9", "198.51.100.1", "10.0.0.0/8", "2001:db8::/64"];
    let bans = addr.map(|addr| a_ban(addr, &ALL, Span::Secs(600)));
    let ok = &mut |_: usize, r: Result<BanOutcome, &mef::ban::Failure>| assert!(r.is_ok());
    enforcer.ban(now, &bans, Repeat::Prolongs, ok, &mut |e| panic!("{e}"));
    for (addr, count) in [("192.0.2.0/24", 2), ("10.0.0.0/9", 1), ("2001:db8::/32", 1)] {
        let lifted = enforcer.unban(now, &[range(addr)], &mut |e| panic!("{e}")).unwrap();
        assert_eq!((&*lifted.counts, lifted.written), (&[count][..], true), "{addr}");
    }
    nft(&["flush", "ruleset"]);
    enforcer.guard().repair(mef::ban::Damage::Table).unwrap();
    enforcer.restore(now, &mut |e| panic!("{e}")).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(listed(enforcer.guard()), ["10.128.0.0/9 all 600", "198.51.100.1 all 600"]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
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
        unban(&mut guard, wide);
        assert_eq!(listed(&mut guard), [""; 0], "{wide}, then {narrow}");
    }
}
