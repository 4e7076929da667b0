//! What others do to the tables is noticed by the ruleset's generation, and what we do ourselves is not taken
//! for it.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

use mef::ban::{Allowed, Ban, Damage, Health, Options, Repeat, RuleTables, Scope, Transports};
use mef::base::clock::Span;
use mef::base::name::Name;
use mef::base::range::Range;
use mef::firewall::backend::Keeper as _;
use mef::firewall::guard::Guard;
use mef::firewall::nft::query;
use mef::firewall::tables;
use std::process::Command;

fn watched() -> Guard {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
        .expect("root is needed for a network namespace");
    let mut guard = Guard::open(Options::default(), Allowed::default()).unwrap();
    guard.watch();
    guard.rebuild().unwrap();
    guard
}

fn nft(command: &str) {
    let out = Command::new("nft").arg(command).output().expect("package nftables");
    assert!(out.status.success(), "nft {command}: {}", String::from_utf8_lossy(&out.stderr));
}

fn range(text: &str) -> Range {
    Range::from(text.parse::<ipnet::IpNet>().unwrap())
}

fn ban(guard: &mut Guard, addr: &str, scope: &Scope) {
    let ban = Ban {
        addr: range(addr),
        scope,
        time: Span::Secs(600),
        age: 0,
        rule: "",
        hits: 0,
        reason: "",
        bans: 1,
        starts: &[],
        line: "",
    };
    guard.ban(&[ban], Repeat::Prolongs, &mut |_, result| {
        assert!(result.is_ok(), "{addr}: {}", result.unwrap_err())
    });
}

/// What a look finds, if the generation says that one is worth it.
fn look(guard: &mut Guard) -> Option<Health> {
    guard.has_moved().unwrap().then(|| guard.check().unwrap())
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn own_changes_are_no_news() {
    let mut guard = watched();
    let ports = Scope::new(vec![(22, 22)], Transports::Both);
    assert_eq!(look(&mut guard), None);
    for _ in 0..2 {
        ban(&mut guard, "203.0.113.1/32", &Scope::ALL);
        ban(&mut guard, "203.0.113.0/26", &Scope::ALL);
        ban(&mut guard, "203.0.113.2/32", &ports);
        ban(&mut guard, "2001:db8::/64", &ports);
        guard.set_allowed(&mut Allowed::from(vec![range("192.0.2.0/24")])).unwrap();
        // What changes nothing is no generation, either.
        guard.set_allowed(&mut Allowed::default()).unwrap();
        guard.set_allowed(&mut Allowed::default()).unwrap();
        guard.unban(&[range("203.0.113.1/32")], &[]).unwrap();
        guard.unban(&[range("198.51.100.1/32")], &[]).unwrap();
        guard.rebuild().unwrap();
        assert_eq!(look(&mut guard), None);
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_change_of_others_is_found_whatever_we_do_around_it() {
    let mut guard = watched();
    let whole = Some(Health::default());
    nft("table ip other { set s { type ipv4_addr; }; }");
    assert_eq!(look(&mut guard), whole);
    assert_eq!(look(&mut guard), None);
    // One that does nothing and a foreign one are not taken for one of ours.
    guard.set_allowed(&mut Allowed::default()).unwrap();
    nft("add element ip other s { 192.0.2.1 }");
    assert_eq!(look(&mut guard), whole);
    for after in [true, false] {
        if after {
            ban(&mut guard, "203.0.113.1/32", &Scope::ALL);
        }
        nft("flush chain inet mef_guard hit");
        ban(&mut guard, "203.0.113.2/32", &Scope::ALL);
        assert_eq!(look(&mut guard).unwrap().damage, Damage::Rules);
        guard.rebuild().unwrap();
        assert_eq!(look(&mut guard), None);
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn damage_is_told_by_its_kind() {
    let mut guard = watched();
    let ports = Scope::new(vec![(22, 22)], Transports::Both);
    ban(&mut guard, "203.0.113.2/32", &ports);
    nft("table inet mef {}");
    let loaded = Health { rules: RuleTables::Loaded, ..Health::default() };
    assert_eq!(look(&mut guard), Some(loaded));
    let handle = |chain: &str, rule: &str| {
        let out = Command::new("nft").args(["-a", "list", "chain", "inet", "mef_guard", chain]).output();
        let text = String::from_utf8(out.unwrap().stdout).unwrap();
        let line = text.lines().find(|line| line.contains(rule)).expect(rule);
        line.rsplit(' ').next().unwrap().to_owned()
    };
    let one = format!("delete rule inet mef_guard gate handle {}", handle("gate", "@ban_22_6"));
    let cases = [
        ("add element inet mef_guard ban4 { 192.0.2.1 }", Damage::None),
        ("delete element inet mef_guard ban4 { 192.0.2.1 }", Damage::Emptied),
        ("flush set inet mef_guard ban_22_4", Damage::Emptied),
        ("add rule inet mef_guard gate counter", Damage::None),
        (one.as_str(), Damage::Rules),
        ("flush chain inet mef_guard gate", Damage::Rules),
        ("flush chain inet mef_guard hit6; delete rule inet mef_guard gate handle 99999", Damage::None),
        ("delete set inet mef_guard made", Damage::Sets),
        ("flush chain inet mef_guard gate; delete set inet mef_guard ban4", Damage::Sets),
        ("delete table inet mef_guard", Damage::Table),
        ("flush ruleset", Damage::Table),
        // Whoever makes it anew does not know what belongs there.
        ("flush ruleset; table inet mef_guard { set made { type ipv4_addr; }; }", Damage::Table),
    ];
    for (command, damage) in cases {
        // A transaction that fails changes nothing.
        let _ = Command::new("nft").arg(command).output().unwrap();
        assert_eq!(look(&mut guard).map_or(Damage::None, |health| health.damage), damage, "{command}");
        if damage == Damage::Emptied {
            guard.forget_lacks();
        } else if damage != Damage::None {
            guard.invalidate();
            guard.rebuild().unwrap();
            guard.forget_lacks();
            assert_eq!(look(&mut guard), None, "{command}");
            assert_eq!(guard.check().unwrap().damage, Damage::None, "{command}");
        }
    }
    assert_eq!(guard.check().unwrap().rules, RuleTables::None);
}

/// Kernels before 6.16 do not count the elements of sets.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn whether_a_set_is_empty_is_found_without_a_count() {
    let (mut guard, ban4) = (watched(), Name::of("ban4"));
    let is_empty = || query::is_empty(&tables::GUARD, &ban4).unwrap();
    assert!(is_empty());
    for n in 0..2000 {
        ban(&mut guard, &format!("10.0.{}.{}/32", n / 250, n % 250), &Scope::ALL);
    }
    // One answer has not got room for all.
    assert!(!is_empty());
    nft("flush set inet mef_guard ban4");
    assert!(is_empty());
    nft("flush ruleset");
    assert!(is_empty(), "what is gone has nothing");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_table_that_another_process_made_anew_is_not_taken_for_ours() {
    let mut guard = watched();
    nft("flush ruleset");
    // The same rules and sets with the same numbers, but another table.
    Guard::open(Options::default(), Allowed::default()).unwrap().rebuild().unwrap();
    assert_eq!(look(&mut guard).unwrap().damage, Damage::Table);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_came_later_is_missed_when_it_goes() {
    let mut guard = watched();
    let ports = Scope::new(vec![(25, 25)], Transports::Both);
    let mut other = Guard::open(Options::default(), Allowed::default()).unwrap();
    ban(&mut other, "203.0.113.2/32", &ports);
    assert_eq!(look(&mut guard), Some(Health::default()));
    nft("flush chain inet mef_guard hit");
    assert_eq!(look(&mut guard).unwrap().damage, Damage::Rules);
    guard.rebuild().unwrap();
    let listing = Command::new("nft").args(["-a", "list", "chain", "inet", "mef_guard", "gate"]).output();
    let listing = String::from_utf8(listing.unwrap().stdout).unwrap();
    let line = listing.lines().find(|line| line.contains("@ban_25_4")).unwrap();
    nft(&format!("delete rule inet mef_guard gate handle {}", line.rsplit(' ').next().unwrap()));
    assert_eq!(look(&mut guard).unwrap().damage, Damage::Rules);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_a_listener_has_not_read_is_seen() {
    use mef::sys::{listeners, netlink::NlSocket};
    let mut guard = watched();
    ban(&mut guard, "203.0.113.1/32", &Scope::ALL);
    assert_eq!(listeners::unread(), 0, "nobody listens");
    let mut listener = NlSocket::open(mnl::Bus::Netfilter).unwrap();
    let member = |group: u32| {
        // SAFETY: the kernel reads four bytes, which live until the call returns.
        let set = unsafe {
            let value = std::ptr::from_ref(&group).cast();
            let fd = std::os::fd::AsRawFd::as_raw_fd(&listener.fd());
            libc::setsockopt(fd, libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, value, 4)
        };
        assert_eq!(set, 0);
    };
    member(libc::NFNLGRP_NFTABLES.cast_unsigned());
    assert_eq!(listeners::unread(), 0, "nothing was done");
    ban(&mut guard, "203.0.113.2/32", &Scope::ALL);
    assert!(listeners::unread() > 0);
    listener.drain();
    assert_eq!(listeners::unread(), 0, "it has read everything");
}
