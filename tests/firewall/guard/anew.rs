//! The table is made again: by others, for other options, and while others write.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

use super::{ban, listed, namespace, nft};
use crate::common::bans::a_ban;
use mef::ban::{Options, Repeat, Scope, Transports};
use mef::base::clock::Span;
use mef::firewall::guard::Guard;
use std::sync::Barrier;

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn rebuilding_keeps_the_bans_and_takes_the_new_options() {
    let mut guard = namespace();
    ban(&mut guard, "192.0.2.7", Span::Secs(60));
    let scope = Scope::new(vec![(22, 22)], Transports::Both);
    guard
        .ban(&[a_ban("192.0.2.8", &scope, Span::Secs(60))], Repeat::Prolongs, &mut |_, r| assert!(r.is_ok()));
    let reach = mef::ban::Reach::Host;
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
#[cfg_attr(not_root, ignore = "needs root")]
fn the_table_comes_back_when_it_is_flushed_between_two_bans() {
    let mut guard = namespace();
    ban(&mut guard, "192.0.2.7", Span::Secs(60));
    nft(&["flush", "ruleset"]);
    ban(&mut guard, "192.0.2.8", Span::Secs(60));
    assert_eq!(listed(&mut guard), ["192.0.2.8 all 60"]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn processes_that_begin_together_make_one_table() {
    let _guard = namespace();
    let threads: Vec<_> = (0..8)
        .map(|n| {
            std::thread::spawn(move || {
                let mut guard = Guard::open(Options::default(), mef::ban::Allowed::default()).unwrap();
                ban(&mut guard, &format!("192.0.2.{n}"), Span::Secs(60));
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    let mut guard = Guard::open(Options::default(), mef::ban::Allowed::default()).unwrap();
    assert_eq!(listed(&mut guard).len(), 8);
    assert_eq!(nft(&["list", "ruleset"]).matches("@ban4 jump hit").count(), 1);
}

/// So that those who begin together meet at different places.
fn pause(most: u64) {
    std::thread::sleep(std::time::Duration::from_micros(fastrand::u64(..most)));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_scope_that_others_add_has_its_rules_once_whoever_rebuilds_the_table_meanwhile() {
    const ROUNDS: u16 = 60;
    let mut guard = namespace();
    guard.ensure().unwrap();
    let (start, end) = (Barrier::new(3), Barrier::new(3));
    std::thread::scope(|threads| {
        for worker in 0..2 {
            let (start, end) = (&start, &end);
            threads.spawn(move || {
                let (mut other, mut all) =
                    (Guard::open(Options::default(), mef::ban::Allowed::default()).unwrap(), Vec::new());
                for n in 0..ROUNDS {
                    let scope = Scope::new(vec![(1000 + n, 1000 + n)], Transports::Tcp);
                    let addr = format!("192.0.2.{worker}");
                    start.wait();
                    pause(500);
                    let mut done = Vec::new();
                    other.ban(&[a_ban(&addr, &scope, Span::Secs(60))], Repeat::Prolongs, &mut |_, r| {
                        done.push(r.is_ok())
                    });
                    end.wait();
                    all.extend(done);
                }
                assert_eq!(all, [true; ROUNDS as usize]);
            });
        }
        let (mut wrong, mut failed) = (Vec::new(), Vec::new());
        for n in 0..ROUNDS {
            start.wait();
            if n % 3 > 0 {
                pause(500);
                // Told below: the others wait for this thread.
                failed.extend(guard.rebuild().err());
            }
            end.wait();
            let rule = format!("tcp dport {0} ip saddr @ban_t{0}_4", 1000 + n);
            let count = nft(&["list", "chain", "inet", "mef_guard", "gate"]).matches(&rule).count();
            wrong.extend((count != 1).then_some((n, count)));
        }
        assert_eq!(failed, []);
        assert_eq!(wrong, [], "rounds, and how often the rule of the scope was there");
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_table_comes_back_for_new_ports_and_for_networks() {
    let mut guard = namespace();
    let scope = Scope::new(vec![(22, 22)], Transports::Both);
    guard.ensure().unwrap();
    assert!(guard.take_recreated() && !guard.take_recreated());
    nft(&["flush", "ruleset"]);
    guard
        .ban(&[a_ban("192.0.2.7", &scope, Span::Secs(60))], Repeat::Prolongs, &mut |_, r| assert!(r.is_ok()));
    assert!(guard.take_recreated());
    nft(&["flush", "ruleset"]);
    ban(&mut guard, "10.0.0.0/8", Span::Secs(60));
    nft(&["flush", "ruleset"]);
    guard.ban(&[a_ban("10.0.0.0/8", &scope, Span::Secs(60))], Repeat::Prolongs, &mut |_, r| {
        assert!(r.is_ok())
    });
    assert_eq!(listed(&mut guard), ["10.0.0.0/8 22 60"]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_table_that_others_made_with_another_prefix_is_noticed() {
    let mut guard = namespace();
    ban(&mut guard, "2001:db8::/64", Span::Secs(60));
    let scope = Scope::new(vec![(22, 22)], Transports::Both);
    guard.ban(&[a_ban("2001:db8:1::/64", &scope, Span::Secs(60))], Repeat::Prolongs, &mut |_, r| {
        assert!(r.is_ok())
    });
    let mut other =
        Guard::open(Options { ipv6_prefix: 56, ..Options::default() }, mef::ban::Allowed::default()).unwrap();
    other.rebuild().unwrap();
    // Keys of another length are gone, in the sets of ports too.
    assert_eq!(listed(&mut other), [""; 0]);
    ban(&mut guard, "2001:db8::/64", Span::Secs(60));
    let text = nft(&["list", "set", "inet", "mef_guard", "bannet6"]);
    assert!(text.contains("2001:db8::/64"), "{text}");
}
