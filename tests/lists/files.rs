//! Allow and deny lists: their files, the commands that change them, and what the kernel makes of them.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

use crate::common;

use common::backend::is_fallback;
use common::bans::{rows, text};
use common::daemon::{host, observers};
use common::{Net, elements, wait_for, wait_until};
use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// `mef` with the configuration of the daemon.
fn mef(net: &Net, args: &[&str]) -> common::Output {
    let config = net.path("mef.conf");
    let mut all = args.to_vec();
    all.extend(["--config", config.to_str().unwrap()]);
    net.mef(&all)
}

/// The names of the deny sets that are in force.
fn denied(net: &Net) -> Vec<String> {
    if is_fallback() {
        let lists = ["deny4", "denynet4", "deny6", "denynet6"].map(|list| net.ipset(list));
        return lists
            .iter()
            .flat_map(|l| l.lines())
            .filter_map(|l| l.strip_prefix("mef_deny"))
            .map(|rest| format!("deny{rest}"))
            .collect();
    }
    // Asked for a chain or the table, or without -t, nft 1.0.6 reads the elements of all sets first: that
    // takes seconds for a large list, and begins anew whenever somebody changes something meanwhile.
    let all = net.cmd("nft", &["-t", "list", "ruleset"]).stdout;
    let chain = |name| {
        let start = format!("chain {name} {{");
        let lines = all.lines().skip_while(move |line| line.trim() != start);
        lines.take_while(|line| line.trim() != "}").collect::<Vec<_>>().join("\n")
    };
    let rules = chain("deny") + &chain("denynet");
    rules.split('@').skip(1).filter_map(|rest| rest.split(' ').next()).map(str::to_owned).collect()
}

/// All sets of deny lists, in force or not.
fn sets(net: &Net) -> Vec<String> {
    if is_fallback() {
        let all = net.cmd("ipset", &["list", "-n"]).ok();
        let names =
            all.lines().filter(|name| name.starts_with("mef_deny4_") || name.starts_with("mef_deny6_"));
        return names.map(|name| name["mef_".len()..].to_owned()).collect();
    }
    let all = net.cmd("nft", &["-t", "list", "sets"]).stdout;
    all.lines().filter_map(|l| l.trim().strip_prefix("set deny")).map(|l| format!("deny{l}")).collect()
}

/// The set of who is allowed for a time.
fn timed_set() -> &'static str {
    if is_fallback() { "allow4" } else { "allowt4" }
}

fn has(net: &Net, set: &str, addr: IpAddr) -> bool {
    if is_fallback() { net.in_set(set, addr) } else { elements::has(set, addr) }
}

pub(super) fn is_denied(net: &Net, addr: &str) -> bool {
    let addr: IpAddr = addr.parse().unwrap();
    let family = if addr.is_ipv4() { "deny4" } else { "deny6" };
    denied(net).iter().any(|set| set.starts_with(family) && has(net, set, addr))
}

/// Entries of a large list; the program without optimization takes its time.
fn count() -> u32 {
    if common::mef_binary().ends_with("target/mef") { 1_000_000 } else { 100_000 }
}

/// Ticks of CPU that the process which loads lists has had so far: the first that is not the observer.
fn loader_time(daemon: u32) -> Option<u64> {
    let children = fs::read_to_string(format!("/proc/{daemon}/task/{daemon}/children")).ok()?;
    let observers: Vec<String> = observers(daemon).iter().map(u32::to_string).collect();
    let loader = children.split_whitespace().find(|child| !observers.iter().any(|one| one == child))?;
    let stat = fs::read_to_string(format!("/proc/{loader}/stat")).ok()?;
    let mut fields = stat.rsplit(')').next()?.split(' ').skip(12);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// Puts a list into its place at once, as programs that write lists should.
fn put(net: &Net, name: &str, text: &str) {
    let temporary = net.write(&format!("blacklist/{name}.tmp"), text);
    fs::rename(temporary, net.path(&format!("blacklist/{name}"))).unwrap();
}

/// The neighbour is where the internet is: elsewhere its network would be left out of deny lists.
fn uplink(net: &Net, peer: &common::Peer) {
    net.ip(&format!("route add default dev {}", peer.link));
    net.ip(&format!("-6 route add default dev {}", peer.link));
}

fn state(net: &Net, file: &str) -> String {
    let all = rows(&mef(net, &["lists", "--json"]).ok());
    all.iter().find(|row| text(row, "file").ends_with(file)).map(|row| text(row, "state")).unwrap_or_default()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn lists_are_changed_by_command_on_a_fresh_host() {
    let net = Net::new();
    let said = net.mef(&["deny", "192.0.2.7", "203.0.113.0/24", "2001:db8:5::1"]).ok();
    assert_eq!(said, "denied 192.0.2.7\ndenied 203.0.113.0/24\ndenied 2001:db8:5::/64\n");
    for addr in ["192.0.2.7", "203.0.113.99", "2001:db8:5::9"] {
        assert!(is_denied(&net, addr), "{addr}");
    }
    assert!(!is_denied(&net, "192.0.2.8"));
    let local = net.path("etc-mef/blacklist/local.conf");
    assert_eq!(fs::read_to_string(&local).unwrap(), "192.0.2.7\n203.0.113.0/24\n2001:db8:5::/64\n");
    // Other lines, mode and owner stay.
    fs::write(&local, "# why\n192.0.2.7 # me\n203.0.113.0/24\n2001:db8:5::/64").unwrap();
    fs::set_permissions(&local, fs::Permissions::from_mode(0o640)).unwrap();
    net.mef(&["undeny", "203.0.113.0/24"]).ok();
    net.mef(&["deny", "192.0.2.9"]).ok();
    assert_eq!(fs::read_to_string(&local).unwrap(), "# why\n192.0.2.7 # me\n2001:db8:5::/64\n192.0.2.9\n");
    assert_eq!(fs::metadata(&local).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(is_denied(&net, "192.0.2.9") && !is_denied(&net, "203.0.113.99"));

    let out = net.mef(&["undeny", "192.0.2.0/24", "198.51.100.1"]);
    assert_eq!((out.status, out.stderr.as_str()), (1, "mef: 198.51.100.1 was not listed\n"));
    net.mef(&["undeny", "2001:db8:5::1"]).ok();
    assert!(denied(&net).is_empty() && sets(&net).is_empty());
    assert_eq!(fs::read_to_string(&local).unwrap(), "# why\n");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn a_permanent_ban_moves_into_the_deny_list() {
    let net = Net::new();
    net.mef(&["ban", "--permanent", "192.0.2.7", "192.0.2.9", "2001:db8:5::1"]).ok();
    net.mef(&["ban", "--permanent", "--ports", "22", "192.0.2.8"]).ok();
    net.mef(&["ban", "--for", "1h", "192.0.2.10"]).ok();
    // What is about to move says where it is.
    let why = net.mef(&["why", "192.0.2.7"]).stdout;
    assert!(why.contains("in the ban journal; `mef deny 192.0.2.7` moves it into the deny list"), "{why}");
    let out = net.mef(&["lists"]);
    assert!(
        out.stderr.contains("bans without an end, in the ban journal: `mef bans --permanent`"),
        "{out:?}"
    );
    let said = net.mef(&["deny", "192.0.2.0/28", "2001:db8:5::1"]).ok();
    let mut lines: Vec<&str> = said.lines().collect();
    lines[2..].sort_unstable();
    let moved = |addr: &str| format!("{addr} is no longer banned permanently: it is on the deny list");
    let want = [moved("192.0.2.7"), moved("192.0.2.9"), moved("2001:db8:5::/64")];
    assert_eq!(
        lines,
        [&["denied 192.0.2.0/28".to_owned(), "denied 2001:db8:5::/64".to_owned()][..], &want].concat()
    );
    let mut left: Vec<String> = net.bans().iter().map(|ban| text(ban, "address")).collect();
    left.sort();
    assert_eq!(left, ["192.0.2.10", "192.0.2.8"]);
    assert!(is_denied(&net, "192.0.2.7") && is_denied(&net, "2001:db8:5::1"));
    // Nothing is left that would come back.
    net.mef(&["undeny", "192.0.2.0/28", "2001:db8:5::1"]).ok();
    assert_eq!(net.mef(&["unban", "192.0.2.7"]).status, 1);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn what_would_lock_out_is_not_denied() {
    let mut net = Net::new();
    let peer = net.peer();
    let host = peer.host4.to_string();
    net.mef(&["allow", "198.51.100.0/24"]).ok();
    for (addr, why) in [
        ("127.0.0.1", "this host's own address"),
        (host.as_str(), "this host's own address"),
        ("198.51.100.7", "on the allow list"),
        ("8.0.0.0/7", "too large a part of the internet"),
        ("2400::/15", "too large a part of the internet"),
    ] {
        let out = net.mef(&["deny", addr]);
        assert_eq!(out.status, 1, "{addr}");
        assert!(out.stderr.contains(why), "{addr}: {}", out.stderr);
    }
    assert!(sets(&net).is_empty());
    net.mef(&["deny", "--force", "198.51.100.7"]).ok();
    assert!(is_denied(&net, "198.51.100.7"));
    assert!(net.read("etc-mef/blacklist/local.conf").contains("198.51.100.7 force\n"));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn two_commands_at_once_lose_nothing() {
    let net = Net::new();
    let children: Vec<_> =
        (0..8).map(|n| net.mef_command(&["deny", &format!("192.0.2.{n}")]).spawn().unwrap()).collect();
    children.into_iter().for_each(|mut child| assert!(child.wait().unwrap().success()));
    assert_eq!(net.read("etc-mef/blacklist/local.conf").lines().count(), 8);
    for n in 0..8 {
        assert!(is_denied(&net, &format!("192.0.2.{n}")), "{n}");
    }
    assert_eq!(sets(&net).len(), 1, "one generation is left");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn an_entry_for_a_time_ends_without_a_daemon_and_survives_a_flush() {
    let net = Net::new();
    net.mef(&["allow", "192.0.2.7", "--for", "1h"]).ok();
    // Not beside the first one: the kernel then finds the end of that, when it is asked for, only while this
    // one lasts.
    net.mef(&["allow", "192.0.2.80", "--for", "5s"]).ok();
    net.mef(&["allow", "192.0.2.9"]).ok();
    assert!(net.in_set(timed_set(), "192.0.2.7".parse().unwrap()));
    wait_until("the end of it", || !net.in_set(timed_set(), "192.0.2.80".parse().unwrap()));
    net.lose_table();
    net.mef(&["ban", "203.0.113.7"]).ok();
    assert!(net.in_set(timed_set(), "192.0.2.7".parse().unwrap()), "it has come back");
    if is_fallback() {
        assert!(net.ipset("allow4").contains("timeout 35"), "{}", net.ipset("allow4"));
    } else {
        assert!(net.nft_list("set inet mef_guard allowt4").contains("expires 59m"));
    }
    assert!(net.in_set("allow4", "192.0.2.9".parse().unwrap()));
    // Who is allowed by now for good is so, and what has ended leaves the file.
    net.mef(&["allow", "192.0.2.7"]).ok();
    assert_eq!(net.read("etc-mef/whitelist/local.conf"), "192.0.2.9\n192.0.2.7\n");
    let out = net.mef(&["disallow", "192.0.2.80"]);
    assert_eq!(out.stderr, "mef: 192.0.2.80 was not listed\n");
    net.mef(&["disallow", "192.0.2.0/24"]).ok();
    assert!(!net.in_set("allow4", "192.0.2.9".parse().unwrap()));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn the_allow_list_wins_over_the_deny_list() {
    let mut net = Net::new();
    let peer = net.peer();
    uplink(&net, &peer);
    let listener = std::net::TcpListener::bind((peer.host4, 4000)).unwrap();
    let _keep = &listener;
    assert!(net.reaches(&peer, peer.host4.into(), 4000));
    for target in [peer.v4.to_string(), format!("{}/24", peer.v4)] {
        // The network holds the host itself, which is left out of it.
        net.write("etc-mef/blacklist/local.conf", &format!("{target}\n"));
        net.mef(&["deny", "203.0.113.200"]).ok();
        assert!(net.shut_out(&peer, peer.host4.into(), 4000), "{target}");
        net.mef(&["allow", &peer.v4.to_string()]).ok();
        assert!(net.reaches(&peer, peer.host4.into(), 4000), "{target}");
        net.mef(&["disallow", &peer.v4.to_string()]).ok();
        assert!(net.shut_out(&peer, peer.host4.into(), 4000), "{target}");
        assert!(!is_denied(&net, &peer.host4.to_string()), "{target}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn the_daemon_notices_every_way_to_change_a_list() {
    let mut net = host("", "");
    // Neither directory is there yet.
    let daemon = net.daemon("d");
    put(&net, "a.conf", "192.0.2.7\n10.1.0.0/16\n10.1.2.0/24\n10.2.0.0/16 ; next\n");
    wait_until("the first list", || is_denied(&net, "192.0.2.7"));
    let networks = denied(&net)
        .into_iter()
        .find(|s| net.nft_list(&format!("set inet mef_guard {s}")).contains("interval"));
    let listed = net.nft_list(&format!("set inet mef_guard {}", networks.unwrap()));
    assert!(listed.contains("elements = { 10.1.0.0-10.2.255.255 }"), "joined: {listed}");
    let of_a = denied(&net);
    put(&net, "b.conf", "192.0.2.8\n");
    wait_until("the second list", || is_denied(&net, "192.0.2.8"));
    assert!(of_a.iter().all(|set| denied(&net).contains(set)), "the first was not touched");
    // Written in place, twice, one upon the other.
    fs::write(net.path("blacklist/b.conf"), "192.0.2.9\n").unwrap();
    fs::write(net.path("blacklist/b.conf"), "192.0.2.10\n").unwrap();
    wait_until("the last content", || is_denied(&net, "192.0.2.10") && !is_denied(&net, "192.0.2.9"));
    // A link, a name that is no list, a file that goes.
    symlink(net.write("elsewhere", "192.0.2.11\n"), net.path("blacklist/c.conf")).unwrap();
    net.write("blacklist/d.txt", "192.0.2.12\n");
    wait_until("a link", || is_denied(&net, "192.0.2.11"));
    fs::remove_file(net.path("blacklist/b.conf")).unwrap();
    fs::rename(net.path("blacklist/c.conf"), net.path("blacklist/c.old")).unwrap();
    wait_until("they are gone", || !is_denied(&net, "192.0.2.10") && !is_denied(&net, "192.0.2.11"));
    assert!(!is_denied(&net, "192.0.2.12") && is_denied(&net, "192.0.2.7"));
    // The directory goes and comes back with something else in it.
    fs::rename(net.path("blacklist"), net.path("away")).unwrap();
    net.wait_said("d", "does not exist: a.conf: its previous content stays in force");
    net.write("fresh/e.conf", "192.0.2.13\n");
    fs::rename(net.path("fresh"), net.path("blacklist")).unwrap();
    wait_until("another directory", || is_denied(&net, "192.0.2.13"));
    wait_until("what is not in it", || !is_denied(&net, "192.0.2.7"));
    net.wait_said("d", "blacklist/a.conf was deleted: its entries are no longer denied");
    put(&net, "f.conf", "192.0.2.14\n");
    wait_until("a file in it", || is_denied(&net, "192.0.2.14"));
    // Allow lists likewise.
    net.write("whitelist/x.conf", "192.0.2.50\n");
    wait_until("the allow list", || net.in_set("allow4", "192.0.2.50".parse().unwrap()));
    net.append(common::daemon::LOG, common::daemon::fails("192.0.2.50", 9));
    net.mark(common::daemon::LOG);
    assert!(net.banned().is_empty(), "the daemon itself knows of it");
    fs::remove_file(net.path("whitelist/x.conf")).unwrap();
    wait_until("it is off", || !net.in_set("allow4", "192.0.2.50".parse().unwrap()));
    net.stop(daemon);
    assert_eq!(sets(&net).len(), 2, "{:?}", sets(&net));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn with_reload_0_lists_are_read_on_sighup_only() {
    let mut net = host("whitelist_reload=0\nblacklist_reload=0", "");
    put(&net, "first.conf", "192.0.2.1\n");
    net.write("whitelist/first.conf", "192.0.2.51\n");
    let daemon = net.daemon("d");
    wait_until("what the start reads", || {
        is_denied(&net, "192.0.2.1") && net.in_set("allow4", "192.0.2.51".parse().unwrap())
    });
    put(&net, "a.conf", "192.0.2.7\n");
    net.write("whitelist/x.conf", "192.0.2.50\n");
    net.mark(common::daemon::LOG);
    assert!(!is_denied(&net, "192.0.2.7"));
    net.signal(daemon, libc::SIGHUP);
    wait_until("both", || {
        is_denied(&net, "192.0.2.7") && net.in_set("allow4", "192.0.2.50".parse().unwrap())
    });
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn bad_lists_never_replace_good_ones() {
    let mut net = host("", "");
    net.write("blacklist/a.conf", "192.0.2.7\n");
    let daemon = net.daemon("d");
    wait_until("the list", || is_denied(&net, "192.0.2.7"));
    let before = denied(&net);
    put(&net, "a.conf", "192.0.2.8\nx\n\0\n<html>\n");
    net.wait_said("d", "more than half of its lines are bad");
    net.wait_said("d", "blacklist/a.conf:2:1: 'x' is not an address or network");
    assert_eq!(denied(&net), before);
    assert_eq!(state(&net, "a.conf"), "refused, previous in force");
    put(
        &net,
        "a.conf",
        "192.0.2.9\n0.0.0.0/0\n::/0 force\n::/1\n4.0.0.0/6\n2001:db8::/32\n192.0.2.0/255.255.255.128\n",
    );
    wait_until("the good lines of it", || is_denied(&net, "192.0.2.9"));
    assert!(!is_denied(&net, "5.5.5.5") && is_denied(&net, "192.0.2.127") && is_denied(&net, "2a00::1"));
    net.wait_said("d", "blacklist/a.conf:2:1: '0.0.0.0/0' is too large a part of the internet");
    assert!(mef(&net, &["check"]).stdout.contains("a.conf:5:1: warning: '4.0.0.0/6'"));
    // What cannot be read stays as it was.
    let before = denied(&net);
    fs::create_dir(net.path("blacklist/b.conf")).unwrap();
    symlink("/proc/self/mem", net.path("blacklist/link")).unwrap();
    fs::rename(net.path("blacklist/link"), net.path("blacklist/a.conf")).unwrap();
    net.wait_said("d", "blacklist/a.conf: ");
    net.mark(common::daemon::LOG);
    assert_eq!(denied(&net), before);
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn what_the_host_needs_is_left_out_of_the_lists_of_others() {
    let mut net = host("", "");
    let peer = net.peer();
    uplink(&net, &peer);
    net.write(
        "blacklist/bogons.conf",
        &format!(
            "0.0.0.0/8\n10.0.0.0/8\n127.0.0.0/8\n192.0.0.0/8\nfe80::/16\n{}\n{}\n",
            peer.host4, peer.host6
        ),
    );
    let daemon = net.daemon("d");
    net.wait_said("d", "entries in total cover this host or what it needs");
    net.wait_said("d", "bogons.conf:1: 0.0.0.0/8 except 0.0.0.0/8 (not a host address), unless force");
    net.wait_said("d", &format!("{} (this host's own address)", peer.host4));
    wait_until("the rest", || is_denied(&net, "10.3.4.5") && is_denied(&net, "192.0.2.2"));
    for addr in ["127.0.0.1", "fe80::1", &peer.host4.to_string(), &peer.host6.to_string()] {
        assert!(!is_denied(&net, addr), "{addr}");
    }
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn leftovers_go_and_what_the_kernel_has_is_not_loaded_again() {
    let mut net = host("", "");
    net.write("blacklist/a.conf", "192.0.2.7\n10.0.0.0/24\n");
    let daemon = net.daemon("d");
    wait_until("the list", || denied(&net).len() == 2);
    let before = denied(&net);
    net.signal(daemon, libc::SIGKILL);
    net.wait(daemon);
    // As if it had died while it was loading.
    net.nft("add set inet mef_guard deny4_dead { type ipv4_addr; comment \"list 0 1 2 a.conf\"; }");
    net.nft("add element inet mef_guard deny4_dead { 9.9.9.9 }");
    let daemon = net.daemon("e");
    wait_until("the leftover is gone", || !sets(&net).contains(&"deny4_dead {".to_owned()));
    assert_eq!(denied(&net), before);
    // Others take the lists away: they come back.
    net.cmd("nft", &["flush", "chain", "inet", "mef_guard", "deny"]).ok();
    wait_until("single addresses are back", || is_denied(&net, "192.0.2.7"));
    net.lose_table();
    wait_until("all is back", || is_denied(&net, "192.0.2.7") && is_denied(&net, "10.0.0.9"));
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn a_fifth_list_is_asked_by_new_flows_only() {
    let mut net = host("", "");
    for n in 1..=6 {
        net.write(&format!("blacklist/{n}.conf"), &format!("192.0.2.{n}\n2001:db8::{n}\n"));
    }
    let daemon = net.daemon("d");
    wait_until("all lists", || denied(&net).len() == 12);
    let early = net.nft_list("chain inet mef_guard deny");
    assert_eq!((early.matches("ip saddr").count(), early.matches("ip6 saddr").count()), (4, 4), "{early}");
    net.stop(daemon);
}

/// A million addresses are swapped while packets come in from one that is in both: none of them gets through.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn a_large_list_is_swapped_without_a_gap() {
    let count = count();
    let list = |add: u32| -> String {
        (0..count)
            .map(|n| {
                format!(
                    "{}\n",
                    std::net::Ipv4Addr::from(0x0b00_0000 + add + n.wrapping_mul(2_654_435_761) % count)
                )
            })
            .collect()
    };
    let mut net = host("", "");
    let peer = net.peer();
    uplink(&net, &peer);
    let always = format!("{}\n{}/31\n", peer.v4, peer.v4);
    put(&net, "big.conf", &(list(0) + &always));
    let daemon = net.daemon("d");
    wait_until("the list", || is_denied(&net, &peer.v4.to_string()) && is_denied(&net, "11.0.0.1"));
    let rss = |what: &str| -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", net.pid(daemon))).unwrap();
        let line = status.lines().find(|l| l.starts_with(what)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let before = rss("RssAnon:");
    let heard = UdpSocket::bind((peer.host4, 5000)).unwrap();
    heard.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let sender = {
        let (stop, sent) = (stop.clone(), sent.clone());
        let socket = net.within(&peer.ns, |_| UdpSocket::bind((peer.v4, 0)).unwrap());
        let to = (peer.host4, 5000);
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let _ = socket.send_to(b"x", to);
                sent.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
        })
    };
    let generation = denied(&net);
    for round in 1..=2 {
        let old = denied(&net);
        put(&net, "big.conf", &(list(round * 7) + &always));
        wait_for("the next generation", || (denied(&net) != old && !denied(&net).is_empty()).then_some(()));
    }
    stop.store(true, Ordering::Relaxed);
    sender.join().unwrap();
    assert_ne!(denied(&net), generation);
    assert!(sent.load(Ordering::Relaxed) > 100);
    assert!(heard.recv(&mut [0]).is_err(), "a packet came through");
    assert!(net.dropped() > 100, "they were dropped, not lost");
    let after = rss("RssAnon:");
    assert!(after < before + 100, "the daemon grew from {before} to {after} kB");
    wait_until("the old sets are gone", || sets(&net).len() == denied(&net).len());
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn the_daemon_is_killed_while_it_loads() {
    let mut net = host("", "");
    net.write("blacklist/a.conf", "192.0.2.7\n");
    let mut daemon = net.daemon("d0");
    wait_until("the list", || is_denied(&net, "192.0.2.7"));
    let big: String =
        (0..200_000u32).map(|n| format!("{}\n", std::net::Ipv4Addr::from(0x0b00_0000 + n))).collect();
    for round in 1..=5u32 {
        put(&net, "a.conf", &format!("192.0.2.7\n{big}12.0.0.{round}\n"));
        // Each time a little later, or when it is over.
        wait_until("some of it is done", || {
            loader_time(net.pid(daemon)).is_some_and(|ticks| ticks >= u64::from(round) * 2)
                || is_denied(&net, &format!("12.0.0.{round}"))
        });
        net.signal(daemon, libc::SIGKILL);
        net.wait(daemon);
        assert!(is_denied(&net, "192.0.2.7"), "the previous content is in force");
        daemon = net.daemon(&format!("d{round}"));
        wait_until("the new content", || is_denied(&net, &format!("12.0.0.{round}")));
        assert!(is_denied(&net, "192.0.2.7") && is_denied(&net, "11.0.0.5"));
        wait_until("nothing is left over", || sets(&net).len() == denied(&net).len());
    }
    net.stop(daemon);
}
