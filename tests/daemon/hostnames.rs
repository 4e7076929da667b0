//! Host names in allow lists: who is behind them is never banned, also when that is somebody else tomorrow,
//! and whatever name servers say or do not say.
#![allow(clippy::unwrap_used, reason = "tests")]

use crate::common;

use common::daemon::{LOG, fails, host};
use common::dns::{Answers, Liar, answer_with};
use common::{Net, Peer, wait_until};
use mef::dns::packet::kind;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

/// Answers with these addresses to whoever asks for their type.
fn with(addrs: &'static [&'static str]) -> Answers {
    Box::new(move |question| {
        let data = |six: bool| {
            addrs.iter().filter_map(move |addr| match addr.parse().unwrap() {
                IpAddr::V4(v4) if !six => Some(v4.octets().to_vec()),
                IpAddr::V6(v6) if six => Some(v6.octets().to_vec()),
                _ => None,
            })
        };
        vec![answer_with(question, 0, 60, &|asked| match asked {
            kind::A => data(false).collect(),
            kind::AAAA => data(true).collect(),
            _ => Vec::new(),
        })]
    })
}

fn resolving(list: &str) -> (Net, Peer) {
    let mut net = host("", "");
    let peer = net.peer();
    net.configure(&format!("ps_enabled=false\ndns_servers={}", peer.v4), &[LOG]);
    net.write("whitelist/home.conf", list);
    (net, peer)
}

fn allowed(net: &Net) -> String {
    net.nft_list("set inet mef_guard allow4") + &net.nft_list("set inet mef_guard allow6")
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn who_is_behind_a_name_is_allowed_and_stays_so() {
    let (mut net, peer) = resolving("Admin.Example. # at home\n20.0.0.77\n");
    let liar = Liar::new(&net, &peer, with(&["20.0.0.5", "2600::5", "10.9.9.9"]));
    let daemon = net.daemon("daemon");
    net.wait_said("daemon", "allow list: admin.example is 20.0.0.5, 2600::5");
    wait_until("the allow list", || allowed(&net).contains("20.0.0.5"));
    assert!(allowed(&net).contains("2600::5") && !allowed(&net).contains("10.9.9.9"), "{}", allowed(&net));
    // Where the name stands is said of its address.
    let conf = net.path("mef.conf");
    let why = net.mef(&["why", "--config", conf.to_str().unwrap(), "20.0.0.5"]).shown();
    assert!(why.contains("home.conf:1: 20.0.0.5"), "{why}");
    let why = net.mef(&["why", "--config", conf.to_str().unwrap(), "20.0.0.77"]).shown();
    assert!(why.contains("home.conf:2: 20.0.0.77"), "{why}");
    net.append(LOG, fails("20.0.0.5", 5) + &fails("20.0.0.6", 5));
    wait_until("a ban", || net.banned().contains(&"20.0.0.6".to_owned()));
    assert!(!net.banned().contains(&"20.0.0.5".to_owned()));
    // Nobody answers after a restart: what was known is in force from the start.
    liar.says(Box::new(|_| Vec::new()));
    net.stop(daemon);
    net.nft("delete table inet mef_guard");
    let daemon = net.daemon("daemon2");
    assert!(allowed(&net).contains("20.0.0.5") && allowed(&net).contains("20.0.0.77"), "{}", allowed(&net));
    net.wait_said(
        "daemon2",
        "admin.example: the name servers do not answer; what it was last stays in force",
    );
    // It moves.
    liar.says(with(&["20.0.0.8"]));
    net.write("whitelist/home.conf", "admin.example\n20.0.0.77\n");
    let reloaded = || net.said("daemon2").matches("configuration read").count();
    net.signal(daemon, libc::SIGHUP);
    wait_until("the reload", || reloaded() == 1);
    net.wait_said("daemon2", "allow list: admin.example is 20.0.0.8");
    wait_until("the other address", || !allowed(&net).contains("20.0.0.5"));
    assert!(allowed(&net).contains("20.0.0.8"));
    // A file that is damaged has the names that it had; one that is deleted has none.
    net.write("whitelist/home.conf", "\u{1}\u{2}\n\u{3}x y z\n???\n");
    net.signal(daemon, libc::SIGHUP);
    wait_until("the reload", || reloaded() == 2);
    assert!(allowed(&net).contains("20.0.0.8"), "{}", allowed(&net));
    std::fs::remove_file(net.path("whitelist/home.conf")).unwrap();
    wait_until("the name to be forgotten", || !allowed(&net).contains("20.0.0.8"));
    let asked = liar.asked.load(Ordering::Relaxed);
    net.append(LOG, fails("20.0.0.8", 5));
    wait_until("a ban", || net.banned().contains(&"20.0.0.8".to_owned()));
    assert_eq!(liar.asked.load(Ordering::Relaxed), asked, "nothing is asked any more");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn names_are_allowed_and_disallowed_by_commands() {
    let (mut net, peer) = resolving("home.example\n");
    let _liar = Liar::new(&net, &peer, with(&["20.0.0.5", "2600::5"]));
    let conf = net.path("mef.conf").to_str().unwrap().to_owned();
    let mef = |words: &[&str]| net.mef(&[&words[..1], &["--config", &conf], &words[1..]].concat());
    let early = mef(&["allow", "Admin.Example."]);
    assert_eq!((early.status, early.stdout.as_str()), (0, "allowed admin.example\n"), "{early:?}");
    assert!(early.stderr.contains("admin.example passes as soon as a daemon has looked it up"), "{early:?}");
    let unknown = mef(&["why", "admin.example"]);
    assert!(unknown.stderr.contains("admin.example of the allow list local.conf was not looked up yet"));
    let daemon = net.daemon("daemon");
    let mef = |words: &[&str]| net.mef(&[&words[..1], &["--config", &conf], &words[1..]].concat());
    net.wait_said("daemon", "allow list: admin.example is 20.0.0.5, 2600::5");
    wait_until("the allow list", || allowed(&net).contains("20.0.0.5"));
    assert_eq!(
        mef(&["allow", "admin.example", "20.0.0.9"]).shown(),
        "allowed 20.0.0.9/32\n\
        allowed admin.example\n"
            .replace("/32", "")
    );
    assert_eq!(net.read("whitelist/local.conf"), "admin.example\n20.0.0.9\n");
    let why = mef(&["why", "admin.example"]).shown();
    assert!(why.contains("20.0.0.5") && why.contains("2600::5"), "{why}");
    assert!(why.contains("home.conf:1") || why.contains("local.conf:1"), "{why}");
    let lists = mef(&["lists"]).shown();
    let local = lists.lines().find(|line| line.ends_with("local.conf")).unwrap();
    assert!(local.contains("in force") && local.split_whitespace().nth(1) == Some("3"), "{lists}");
    // Not what is no name, no name for a time, and none on a deny list.
    for (words, what) in [
        (&["allow", "admin"][..], "'admin' is not an address"),
        (&["allow", "-x.example"], "-x.example"),
        (&["allow", "--for", "1h", "b.example"], "b.example is a host name: --for is for addresses"),
        (&["deny", "b.example"], "'b.example' is not an address"),
        (&["disallow", "b.example"], "b.example is not in local.conf"),
        (&["disallow", "home.example"], "home.example is not in local.conf"),
        (&["why", "b.example"], "'b.example' is not an address"),
    ] {
        let out = mef(words);
        assert!(out.status != 0 && out.stderr.contains(what), "{words:?}: {out:?}");
    }
    assert_eq!(net.read("whitelist/local.conf"), "admin.example\n20.0.0.9\n");
    // Who is behind a name that goes is not allowed any more, unless another name says so.
    assert_eq!(
        mef(&["disallow", "--json", "admin.example"]).shown(),
        "{\"address\":\"admin.example\",\"result\":\"disallowed\"}\n"
    );
    assert!(allowed(&net).contains("20.0.0.5"));
    std::fs::remove_file(net.path("whitelist/home.conf")).unwrap();
    wait_until("the names to be forgotten", || !allowed(&net).contains("20.0.0.5"));
    assert!(allowed(&net).contains("20.0.0.9"));
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn more_names_than_are_looked_up_are_told() {
    let names: String = (0..70).map(|n| format!("h{n}.example\n")).collect();
    let (net, _peer) = resolving(&names);
    let conf = net.path("mef.conf").to_str().unwrap().to_owned();
    let check = net.mef(&["check", "--config", &conf]).shown();
    assert!(check.contains("home.conf: 70 host names, of which 64 are looked up"), "{check}");
    let out = net.mef(&["allow", "--config", &conf, "more.example"]);
    assert!(out.status == 1 && out.stderr.contains("only 64 host names are looked up"), "{out:?}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_private_address_has_to_be_meant() {
    let (mut net, peer) = resolving("wide.example\n");
    let _liar = Liar::new(&net, &peer, with(&["10.9.9.9"]));
    net.daemon("daemon");
    net.wait_said(
        "daemon",
        "wide.example: it leads to 10.9.9.9, which is private (append force if that is intended)",
    );
    assert!(!allowed(&net).contains("10.9.9.9"));
    net.write("whitelist/home.conf", "wide.example force\n");
    net.wait_said("daemon", "allow list: wide.example is 10.9.9.9");
    wait_until("the allow list", || allowed(&net).contains("10.9.9.9"));
    let check = net.mef(&["check", "--config", net.path("mef.conf").to_str().unwrap()]).shown();
    assert!(check.contains("home.conf: 1 entry, 0 bad lines"), "{check}");
    net.write("whitelist/other.conf", "a.example until=2026-11-25T21:00:00Z\n");
    let check = net.mef(&["check", "--config", net.path("mef.conf").to_str().unwrap()]).shown();
    assert!(check.contains("is a host name"), "{check}");
}
