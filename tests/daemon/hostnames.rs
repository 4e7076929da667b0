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
