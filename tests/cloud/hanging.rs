//! A server that accepts connections and never says a word: what happens meanwhile is not lost.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::circle::member;
use super::servers::Kind;
use crate::common::daemon::{LOG, failed};
use crate::common::{Net, wait_until};
use std::net::TcpListener;

fn status(net: &Net) -> String {
    let conf = net.path("mef.conf");
    net.mef(&["cloud", "status", "--json", "--config", conf.to_str().unwrap()]).stdout
}

/// A number of the status; 0 while there is none.
fn number(net: &Net, name: &str) -> usize {
    let json = status(net);
    let rest = json.split(&format!("\"{name}\":")).nth(1).unwrap_or("0");
    rest.split([',', '}']).next().unwrap().parse().unwrap_or(0)
}

/// Whether a process of the daemon's is at work, which has what it writes down in memory until that ends; who
/// waits for lines, or for the server, is not.
fn works(daemon: u32) -> bool {
    let children = std::fs::read_to_string(format!("/proc/{daemon}/task/{daemon}/children")).unwrap();
    let mut at = children.split_whitespace().map(|pid| std::fs::read_to_string(format!("/proc/{pid}/wchan")));
    at.any(|place| place.is_ok_and(|place| !place.contains("poll") && place != "wait_woken"))
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn bans_are_kept_while_a_server_hangs() {
    let (mut net, cloud) = member(Kind::Knot, "max_bans_per_minute=100000");
    let silent = TcpListener::bind(cloud.addr).unwrap();
    let started = net.daemon("daemon");
    let daemon = net.pid(started);
    net.append(LOG, failed("11.1.1.1"));
    // Held open, and never read.
    let mut held = vec![silent.accept().unwrap()];
    std::thread::spawn(move || {
        silent.incoming().flatten().for_each(|stream| held.push((stream, cloud.addr)))
    });
    for batch in 1..=10 {
        let lines: String = (1..=15).map(|n| failed(&format!("11.2.{batch}.{n}"))).collect();
        net.append(LOG, lines);
        // There is room for 64 in memory, and 48 are written down: they are being so at the second mark.
        net.mark(LOG);
        net.mark(LOG);
        wait_until("the file", || number(&net, "waiting") + 48 > batch * 15 + 1 && !works(daemon));
    }
    net.stop(started);
    assert_eq!((number(&net, "waiting"), number(&net, "dropped")), (151, 0), "{}", status(&net));
    assert!(!net.said("daemon").contains("more bans at a time"), "{}", net.said("daemon"));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_damaged_file_is_called_that() {
    let (net, _cloud) = member(Kind::Knot, "");
    let conf = net.path("mef.conf");
    let ask = ["cloud", "status", "--config", conf.to_str().unwrap()];
    assert!(net.mef(&ask).ok().contains("nothing was reported yet"));
    for text in ["", "mefrpt", &"x".repeat(300)] {
        net.write("state-web1/reports", text);
        let said = net.mef(&ask);
        assert_eq!(said.status, 1, "{text}");
        assert!(said.stderr.contains("state_dir/reports is damaged"), "{}", said.stderr);
    }
}
