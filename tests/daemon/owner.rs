//! `guard_owner`: the daemon's socket owns the table of bans, so that nobody else changes it; commands change
//! it through the daemon, and while none runs, by themselves.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::daemon::{LOG, ends, failed, fails, host, same_ends};
use common::{Net, Output, uncounted, wait_or_show, wait_until};
use mef::base::name::Name;
use mef::firewall::nft::owner::{self, OWNER, PERSIST};
use mef::firewall::nft::{TableId, Txn};
use mef::sys::netlink::NlSocket;
use mef::sys::relay;
use mnl::Bus;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

const ON: &str = "guard_owner=true";
const RULE: &str = "maxretry=1\nbantime=10m";
const GUARD: TableId = TableId { family: 1, name: Name::of("mef_guard") };

/// A host with an allow list, a deny list and bans of every kind, and its daemon.
fn banned_host(settings: &str) -> (Net, usize) {
    let mut net = host(settings, RULE);
    net.write("whitelist/local.conf", "198.51.100.0/24\n");
    net.write("blacklist/feed.conf", "203.0.113.64\n203.0.113.128/28\n");
    let daemon = net.daemon("daemon");
    net.append(LOG, fails("203.0.113.1", 1) + &fails("2001:db8:1::2", 1));
    net.mark(LOG);
    for args in [
        &["ban", "192.0.2.0/28", "--for", "2h"][..],
        &["ban", "192.0.2.99", "--permanent", "--reason", "by hand"],
        &["ban", "192.0.2.77", "--ports", "22,80"],
    ] {
        net.mef(args).ok();
    }
    wait_until("the deny list", || net.nft_list("chain inet mef_guard denynet").contains("@deny4_"));
    (net, daemon)
}

/// The table as nft lists it, without what counts and what passes.
fn listing(net: &Net) -> String {
    let text = uncounted(&net.nft_list("table inet mef_guard"));
    let still = |line: &str| line.split(" expires ").next().unwrap().to_owned();
    text.lines().map(still).collect::<Vec<_>>().join("\n")
}

/// What others may try. Each is refused, or passes the table by.
const FOREIGN: [&str; 9] = [
    "flush ruleset",
    "delete table inet mef_guard",
    "flush table inet mef_guard",
    "flush set inet mef_guard ban4",
    "delete element inet mef_guard ban4 { 203.0.113.1 }",
    "add element inet mef_guard ban4 { 203.0.113.250 }",
    "flush chain inet mef_guard gate",
    "add element inet mef_guard allow4 { 203.0.113.1 }",
    "add rule inet mef_guard gate accept",
];

fn tries_all(net: &Net) -> Vec<String> {
    let refused = |command: &&str| {
        let out = net.input("nft", &["-f", "-"], command.as_bytes());
        out.status != 0 && out.stderr.contains("Operation not permitted")
    };
    FOREIGN.into_iter().filter(|command| !refused(command)).map(str::to_owned).collect()
}

/// The table belongs to somebody, and what others try changes nothing in it.
#[track_caller]
fn is_owned(net: &Net) {
    let before = listing(net);
    assert!(before.contains("set ban4"), "{before}");
    assert_eq!(tries_all(net), ["flush ruleset"], "which is no failure, and spares what others own");
    assert_eq!(listing(net), before);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn nobody_else_changes_the_table() {
    let (net, daemon) = banned_host(ON);
    let before = ends(&net);
    assert_eq!(before.len(), 5, "{before:?}");
    net.nft("table inet other { set s { type ipv4_addr; }; }");
    is_owned(&net);
    assert!(!net.nft_list("tables").contains("other"), "others are flushed as ever");
    same_ends(&before, &ends(&net));
    // The daemon itself is as free as ever, and saw no damage.
    net.append(LOG, failed("203.0.113.2"));
    net.mark(LOG);
    assert!(net.banned().contains(&"203.0.113.2".to_owned()));
    net.signal(daemon, libc::SIGUSR1);
    net.wait_said("daemon", "; the table was restored 0 times");
    let status = net.mef(&["status"]).shown();
    assert!(status.contains("table       only the daemon can change it"), "{status}");
    assert!(net.mef(&["status", "--json"]).shown().contains(r#""owner":"the daemon""#));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn without_it_everybody_changes_the_table() {
    let (mut net, daemon) = banned_host("");
    let before = ends(&net);
    for command in ["delete element inet mef_guard ban4 { 203.0.113.1 }", "flush ruleset"] {
        net.nft(command);
    }
    net.append(LOG, "Nov 22 08:00:01 host sshd[130]: nothing to see here\n");
    net.wait_said("daemon", "the guard table was gone: it is recreated");
    wait_until("the bans", || ends(&net).len() == before.len());
    assert!(!net.nft_list("table inet mef_guard").contains("flags owner"));
    assert!(!net.mef(&["status"]).shown().contains("can change it"));
    net.stop(daemon);
}

/// What commands say and how they end, one after the other. Only what is said on success is as deterministic
/// as that.
fn transcript(net: &Net) -> Vec<String> {
    let addresses: String = (0..700).map(|n| format!("10.1.{}.{}\n", n / 250, n % 250)).collect();
    let some: String = addresses.lines().take(300).map(|line| format!("{line}\n")).collect();
    let commands: &[(&[&str], &str)] = &[
        (&["ban", "192.0.2.1", "--for", "1h"], ""),
        (&["ban", "192.0.2.1", "--permanent"], ""),
        (&["ban", "192.0.2.1", "--permanent"], ""),
        (&["ban", "192.0.2.16/28", "--ports", "25", "--reason", "scans"], ""),
        (&["ban", "2001:db8:7::1"], ""),
        (&["ban", "192.0.2.256"], ""),
        (&["ban", "-", "--for", "2h"], &addresses),
        (&["unban", "192.0.2.1"], ""),
        (&["unban", "192.0.2.1"], ""),
        (&["unban", "192.0.2.17"], ""),
        (&["unban", "-"], &some),
        (&["deny", "203.0.113.7", "203.0.113.8/29"], ""),
        (&["ban", "203.0.113.7"], ""),
        (&["unban", "203.0.113.7"], ""),
        (&["undeny", "203.0.113.7"], ""),
        (&["undeny", "203.0.113.7"], ""),
        (&["allow", "198.51.100.7", "--for", "1h"], ""),
        (&["allow", "198.51.100.8"], ""),
        (&["ban", "198.51.100.8"], ""),
        (&["ban", "198.51.100.8", "--force"], ""),
        (&["disallow", "198.51.100.8"], ""),
        (&["bans"], ""),
        (&["unban", "10.1.2.0/24"], ""),
        (&["unban", "--all"], ""),
        (&["bans"], ""),
        (&["ban", "192.0.2.2", "--permanent"], ""),
        (&["unban", "--all", "--permanent"], ""),
        (&["bans"], ""),
        (&["lists"], ""),
    ];
    let dir = net.dir.display().to_string();
    let config = net.path("mef.conf");
    let mut said = Vec::new();
    for (args, input) in commands {
        let args: Vec<&str> = args.iter().copied().chain(["--config", config.to_str().unwrap()]).collect();
        let Output { status, stdout, stderr } = net.mef_input(&args, input.as_bytes());
        // Seconds pass.
        let rows = stdout.lines().filter(|line| !line.starts_with("LIST ") && !line.contains("feed.conf"));
        let mut rows: Vec<String> = rows.map(|line| first_words(line).replace(&dir, "")).collect();
        rows.sort();
        said.push(format!("{}: {status} {} {rows:?}", args[..2].join(" "), stderr.replace(&dir, "")));
    }
    said
}

/// A line without the times of a table.
fn first_words(line: &str) -> String {
    let is_row = line.contains("  ");
    let words: Vec<&str> = line.split_whitespace().collect();
    if is_row {
        [words.first().copied(), words.last().copied()].into_iter().flatten().collect::<Vec<_>>().join(" ")
    } else {
        line.to_owned()
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn commands_say_and_do_the_same_through_the_daemon_and_without() {
    let mut all = Vec::new();
    for (settings, runs) in [("", true), (ON, true), (ON, false), ("", false)] {
        let mut net = host(settings, RULE);
        let daemon = runs.then(|| net.daemon("daemon"));
        let said = transcript(&net);
        // Everything is in the journal as in the kernel.
        net.mef(&["ban", "192.0.2.5", "--for", "1h", "--config", net.path("mef.conf").to_str().unwrap()])
            .ok();
        let before = ends(&net);
        assert_eq!(before.len(), 1, "{before:?}");
        if let Some(daemon) = daemon {
            let owned = net.nft_list("table inet mef_guard").contains("flags owner");
            assert_eq!(owned, settings == ON);
            net.stop(daemon);
        }
        net.nft("delete table inet mef_guard");
        net.daemon("later");
        same_ends(&before, &ends(&net));
        all.push((settings, runs, said));
    }
    let (_, _, first) = &all[0];
    for (settings, runs, said) in &all[1..] {
        for (said, first) in said.iter().zip(first) {
            assert_eq!(said, first, "'{settings}', daemon: {runs}");
        }
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn who_is_banned_stays_banned_when_the_daemon_is_killed() {
    let (mut net, daemon) = banned_host(ON);
    let gate = |net: &Net| listing(net).split("chain gate").nth(1).unwrap().to_owned();
    let (before, rules) = (ends(&net), gate(&net));
    net.signal(daemon, libc::SIGKILL);
    net.wait(daemon);
    same_ends(&before, &ends(&net));
    assert_eq!(gate(&net), rules);
    // Nobody owns it now: commands change it by themselves.
    let config = net.path("mef.conf");
    let mef = |args: &[&str]| net.mef(&[args, &["--config", config.to_str().unwrap()]].concat());
    assert_eq!(mef(&["ban", "192.0.2.111", "--for", "3h"]).ok(), "banned 192.0.2.111 for 3h\n");
    assert_eq!(mef(&["unban", "192.0.2.99"]).ok(), "unbanned 192.0.2.99\n");
    let status = mef(&["status"]).shown();
    assert!(status.contains("table       no owner: other programs can change it"), "{status}");
    let before = ends(&net);
    let daemon = net.daemon("next");
    same_ends(&before, &ends(&net));
    is_owned(&net);
    // It took over what was there, and made nothing anew.
    assert!(!net.said("next").contains("recreated"), "{}", net.said("next"));
    net.stop(daemon);
    same_ends(&before, &ends(&net));
    let left = ["guard.sock", "mef.sock"].map(|name| net.path("run/mef").join(name).exists());
    assert_eq!(left, [false, false]);
    // What others do then is put back by the next one.
    net.nft("flush ruleset");
    net.daemon("last");
    net.wait_said("last", " denied");
    same_ends(&before, &ends(&net));
    is_owned(&net);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_table_without_owner_gets_one_and_every_ban_back() {
    // One that a daemon without the option made, and one of a command: neither can be taken over.
    let (mut net, daemon) = banned_host("");
    let (before, lists) = (ends(&net), net.nft_list("chain inet mef_guard denynet"));
    net.stop(daemon);
    let conf = net.read("mef.conf");
    net.write("mef.conf", &format!("{conf}{ON}\n"));
    let daemon = net.daemon("owner");
    let denied = || net.nft_list("chain inet mef_guard denynet").matches("@deny4_").count();
    wait_until("the deny list", || denied() == lists.matches("@deny4_").count());
    same_ends(&before, &ends(&net));
    is_owned(&net);
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_option_changes_at_a_reload_in_both_directions() {
    let (net, daemon) = banned_host("");
    let conf = net.read("mef.conf");
    let before = ends(&net);
    let reload = |lines: &str| {
        net.write("mef.conf", &format!("{conf}{lines}"));
        let times = || net.said("daemon").matches("configuration read").count();
        let so_far = times();
        net.signal(daemon, libc::SIGHUP);
        wait_or_show("the reload", || (times() > so_far).then_some(()), || net.said("daemon"));
        let denied = || net.nft_list("chain inet mef_guard denynet").contains("@deny4_");
        wait_until("the deny list", denied);
        same_ends(&before, &ends(&net));
    };
    let socket = net.path("run/mef/guard.sock");
    for _ in 0..3 {
        reload("guard_owner=true\n");
        assert!(socket.exists());
        is_owned(&net);
        net.mef(&["ban", "192.0.2.200"]).ok();
        net.mef(&["unban", "192.0.2.200"]).ok();
        // Once more, unchanged.
        reload("guard_owner=true\n");
        is_owned(&net);
        reload("");
        assert!(!socket.exists());
        // Others may change it again; it stays what it is for the next time.
        net.nft("add element inet mef_guard ban4 { 192.0.2.201 }");
        net.nft("delete element inet mef_guard ban4 { 192.0.2.201 }");
        net.mef(&["ban", "192.0.2.202"]).ok();
        net.mef(&["unban", "192.0.2.202"]).ok();
    }
    net.nft("flush ruleset");
    net.append(LOG, "Nov 22 08:00:01 host sshd[130]: nothing to see here\n");
    wait_until("the bans", || ends(&net).len() == before.len());
    reload("guard_owner=true\n");
    is_owned(&net);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_table_of_another_program_is_named_as_that() {
    let mut net = host(ON, RULE);
    // This test owns it.
    let mut socket = NlSocket::open(Bus::Netfilter).unwrap();
    let mut txn = Txn::new(GUARD, 1024);
    txn.set_table_flags(OWNER | PERSIST);
    txn.add_table();
    txn.commit(&mut socket).unwrap();
    let config = net.path("mef.conf");
    let out = net.mef(&["ban", "192.0.2.1", "--config", config.to_str().unwrap()]);
    let whose = "the table inet mef_guard belongs to process ";
    assert!(out.status == 1 && out.stderr.contains(whose) && out.stdout.is_empty(), "{out:?}");
    assert!(!out.stderr.contains("as root"), "{out:?}");
    let daemon = net.start_daemon("refused");
    assert_eq!(net.wait(daemon), 1, "{}", net.said("refused"));
    assert!(net.said("refused").contains(whose), "{}", net.said("refused"));
    // It ends, and leaves its table behind.
    drop(socket);
    net.daemon("daemon");
    let out = net.mef(&["ban", "192.0.2.1", "--config", config.to_str().unwrap()]);
    assert_eq!(out.ok(), "banned 192.0.2.1 for 1h\n");
    is_owned(&net);
}

/// A batch that adds a table.
fn adds(table: TableId, delete: bool) -> Vec<u8> {
    let mut txn = Txn::new(table, 1024);
    txn.add_table();
    if delete {
        txn.delete_table();
    }
    let mut bytes = txn.bytes().to_vec();
    // BATCH_END is BATCH_BEGIN with another number.
    let end = [&bytes[..4], &17u16.to_ne_bytes(), &bytes[6..20]].concat();
    bytes.extend(end);
    bytes
}

/// A batch with one more attribute at the end of its last message but one.
fn with_attr(batch: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let (mut at, mut starts) = (0, Vec::new());
    while at < batch.len() {
        starts.push(at);
        at += u32::from_ne_bytes(batch[at..at + 4].try_into().unwrap()) as usize;
    }
    let [.., start, end] = starts[..] else { panic!("{starts:?}") };
    let mut message = batch[start..end].to_vec();
    message.extend(u16::try_from(4 + data.len()).unwrap().to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(data);
    message.resize(message.len().next_multiple_of(4), 0);
    let length = u32::try_from(message.len()).unwrap().to_ne_bytes();
    message[..4].copy_from_slice(&length);
    [&batch[..start], &message, &batch[end..]].concat()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn nothing_that_the_kernel_reads_otherwise_than_the_daemon_reaches_another_table() {
    let mut net = host(ON, RULE);
    let daemon = net.daemon("daemon");
    let socket: PathBuf = net.path("run/mef/guard.sock");
    let port = owner::of(&mut NlSocket::open(Bus::Netfilter).unwrap(), &GUARD).unwrap().port.unwrap();
    let ask = |messages: &[u8]| relay::ask(&socket, port, messages);
    net.nft("add table inet other");
    let listing = net.cmd("nft", &["-a", "list", "table", "inet", "other"]).ok();
    let handle: u64 =
        listing.split("handle ").nth(1).unwrap().lines().next().unwrap().trim().parse().unwrap();
    let batch = adds(GUARD, true);
    // By its number, which counts before the name, and by a second name, which counts instead of the first.
    let by_handle = with_attr(&batch, 4, &handle.to_be_bytes());
    let destroy = by_handle.windows(2).rposition(|kind| kind == 0x0a02u16.to_ne_bytes()).unwrap();
    let mut destroys = by_handle.clone();
    destroys[destroy] = 26;
    let by_name = with_attr(&batch, 1, b"other\0");
    let flagged = with_attr(&batch, 0x8001, b"other\0");
    for (what, forged) in [("handle", by_handle), ("destroy", destroys), ("name", by_name), ("flag", flagged)]
    {
        assert!(ask(&forged).is_err(), "{what}");
        assert!(net.nft_list("tables").contains("other"), "{what}");
    }
    // Without a transaction around it nothing is sent, nor what only asks.
    assert!(ask(&adds(GUARD, false)[20..]).is_err());
    assert!(matches!(ask(&with_attr(&adds(GUARD, false), 1, b"mef_guard\0")), Ok(Some(_))));
    assert!(net.nft_list("tables").contains("mef_guard"));
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_daemon_sends_nothing_for_others_but_what_is_about_its_table() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut net = host(ON, RULE);
    let daemon = net.daemon("daemon");
    let socket: PathBuf = net.path("run/mef/guard.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let port = owner::of(&mut NlSocket::open(Bus::Netfilter).unwrap(), &GUARD).unwrap().port.unwrap();
    let ask = |messages: &[u8]| relay::ask(&socket, port, messages);
    let other = TableId { family: 1, name: Name::of("other") };
    assert!(matches!(ask(&adds(GUARD, false)), Ok(Some(_))));
    assert!(ask(&adds(other, false)).is_err());
    assert!(!net.nft_list("tables").contains("other"));
    // `nft flush ruleset` is a DELTABLE that names none.
    let mut flush = adds(GUARD, true);
    let name = flush.windows(9).rposition(|part| part == b"mef_guard").unwrap();
    flush[name - 2] = 9;
    assert!(ask(&flush).is_err());
    assert!(ask(b"x").is_err());
    assert!(net.nft_list("tables").contains("mef_guard"));
    // A table of another network namespace is another one.
    assert!(matches!(relay::ask(&socket, port + 1, &adds(GUARD, true)), Ok(None)));
    // Whoever sends rubbish, nothing, or goes away is nobody's trouble.
    for _ in 0..40 {
        std::mem::forget(std::os::unix::net::UnixStream::connect(&socket));
    }
    net.mef(&["ban", "192.0.2.1"]).ok();
    net.append(LOG, failed("203.0.113.2"));
    net.mark(LOG);
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_a_command_did_not_live_to_hear_is_not_done() {
    let mut net = host(ON, RULE);
    let daemon = net.daemon("daemon");
    net.mef(&["ban", "192.0.2.1"]).ok();
    net.signal(daemon, libc::SIGSTOP);
    for n in 2..6 {
        let addr = format!("192.0.2.{n}");
        let mut command = net.mef_command(&["ban", &addr]);
        let mut waiting = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(200));
        assert!(waiting.try_wait().unwrap().is_none(), "it waits for the daemon");
        waiting.kill().unwrap();
        waiting.wait().unwrap();
    }
    net.signal(daemon, libc::SIGCONT);
    net.mef(&["ban", "192.0.2.9"]).ok();
    assert_eq!(net.banned(), ["192.0.2.1", "192.0.2.9"]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_daemon_and_many_commands_change_kernel_and_journal_in_one_order() {
    let mut net = host(ON, RULE);
    net.rule_for("ports", "ports.log", "maxretry=1\nports=22,80");
    net.append("ports.log", "");
    let daemon = net.daemon("daemon");
    let hands = 4;
    std::thread::scope(|scope| {
        for hand in 0..hands {
            let (net, ns) = (&net, common::ns::Ns::current());
            scope.spawn(move || {
                ns.enter();
                for n in 0..12 {
                    let addr = format!("192.0.2.{}", (hand + n) % 7);
                    let word = if (hand + n / 2) % 2 == 0 { "ban" } else { "unban" };
                    net.mef(&[word, &addr]);
                    let lines: String = (0..40).map(|i| format!("10.{hand}.{n}.{i}\n")).collect();
                    net.mef_input(&["ban", "-"], lines.as_bytes()).ok();
                    net.append(LOG, fails(&format!("203.0.{hand}.{n}"), 1));
                    net.append("ports.log", failed(&format!("203.0.{hand}.{n}")));
                }
            });
        }
    });
    net.mark(LOG);
    let expected = hands * 12 * 42;
    wait_or_show(
        "all bans of lines",
        || (net.banned().iter().filter(|a| !a.starts_with("192.")).count() == expected).then_some(()),
        || format!("{} of {expected}", net.banned().len()),
    );
    let before = ends(&net);
    net.stop(daemon);
    // The journal says the same as the kernel.
    net.nft("delete table inet mef_guard");
    net.daemon("next");
    same_ends(&before, &ends(&net));
}
