//! What broke once must not break again: the static binary under conditions that nobody planned for.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use crate::common;

use common::bans::{rows, text};
use common::daemon::{LOG, failed};
use common::ns::Disk;
use common::{LIMIT, Net, Output, wait_until};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::time::Instant;

const RULE: &str =
    "[rule]\nname=door\nprograms=door\nsource=file\nmaxretry=1\nfailregex=^knock from <HOST>$\n";

/// A host with mef.conf, a rule about `auth.log`, and an allow list.
fn host() -> Net {
    let net = Net::new();
    let dir = net.dir.display();
    net.write("auth.log", "");
    net.write("rules/door.conf", &format!("{RULE}files={dir}/auth.log\n"));
    net.write("allow/a.conf", "203.0.113.200\n");
    net.write(
        "mef.conf",
        &format!("[global]\nlog=stderr\nstate_sync=0\nrules_dir={dir}/rules\nwhitelist_dir={dir}/allow\n"),
    );
    net
}

fn mef(net: &Net, args: &[&str]) -> Output {
    net.mef(&[args, &["--config", "mef.conf"]].concat())
}

fn daemon(net: &mut Net) {
    let command = net.mef_command(&["daemon", "--foreground", "--config", "mef.conf"]);
    net.start("daemon", command);
    wait_until("the daemon", || net.read("daemon.out").contains("watches"));
}

fn knock(net: &Net, from: &str) {
    let mut log = std::fs::OpenOptions::new().append(true).open(net.path("auth.log")).unwrap();
    writeln!(log, "Nov 22 08:00:01 host door[1]: knock from {from}").unwrap();
    wait_until("the ban", || mef(net, &["bans"]).ok().contains(from));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_table_that_was_flushed_comes_back_with_all_that_was_in_it() {
    let mut net = host();
    daemon(&mut net);
    assert!(net.read("daemon.out").contains("watches 1 file for "), "{}", net.read("daemon.out"));
    mef(&net, &["ban", "203.0.113.0/25", "2001:db8:5::1", "--for", "2h"]).ok();
    knock(&net, "192.0.2.77");
    for flush in ["flush ruleset", "delete table inet mef_guard"] {
        net.nft(flush);
        knock(&net, "192.0.2.78");
        wait_until("all bans", || {
            let bans = mef(&net, &["bans"]).ok();
            ["203.0.113.0/25", "2001:db8:5::/64", "192.0.2.77", "192.0.2.78"].iter().all(|b| bans.contains(b))
        });
        wait_until("the allow list", || net.nft_list("set inet mef_guard allow4").contains("203.0.113.200"));
    }
    assert!(net.read("daemon.out").contains("table was gone"));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_first_ban_by_hand_fills_the_table_it_makes() {
    let net = host();
    let refused = mef(&net, &["ban", "203.0.113.200"]);
    assert_eq!(refused.status, 1, "no table and no daemon: the allow list holds all the same");
    assert!(refused.stderr.contains("on the allow list"), "{}", refused.stderr);
    mef(&net, &["ban", "192.0.2.77"]).ok();
    net.nft("flush ruleset");
    mef(&net, &["ban", "192.0.2.78"]).ok();
    let bans = mef(&net, &["bans"]).ok();
    assert!(bans.contains("192.0.2.77") && bans.contains("192.0.2.78"), "{bans}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn nobody_reading_is_no_reason_to_crash() {
    let net = Net::new();
    for args in
        [&["ban", "x"][..], &["test", "--hits", "sshd", "/dev/null"], &["nonsense"], &["check", "/nowhere"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = net.mef_command(args);
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let status = command.status().unwrap();
        assert!(status.code().is_some_and(|code| code < 3), "{args:?}: {status}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_is_no_file_among_the_allow_lists_stops_nobody() {
    let mut net = host();
    nix::unistd::mkfifo(&net.path("allow/b.conf"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink("/dev/zero", net.path("allow/c.conf")).unwrap();
    daemon(&mut net);
    assert!(net.nft_list("set inet mef_guard allow4").contains("203.0.113.200"));
    for name in ["b.conf", "c.conf"] {
        assert!(net.read("daemon.out").contains(name), "{}", net.read("daemon.out"));
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn standard_input_gives_its_addresses_and_nothing_else() {
    let net = host();
    let long = "x".repeat(4095);
    let input = [format!("#{long}198.51.100.9\n192.0.2.1\n").as_bytes(), b"\xff\n192.0.2.2"].concat();
    let out = net.mef_input(&["ban", "-"], &input);
    assert_eq!(out.status, 1);
    assert!(out.stderr.contains("line 3"), "{}", out.stderr);
    let bans = mef(&net, &["bans"]).ok();
    assert!(
        bans.contains("192.0.2.1") && bans.contains("192.0.2.2") && !bans.contains("198.51.100.9"),
        "{bans}"
    );
    let out = net.mef_input(&["unban", "-"], &input);
    assert_eq!(out.status, 1);
    assert_eq!(mef(&net, &["bans"]).ok(), "", "a bad line does not keep the others: {}", out.stderr);
    mef(&net, &["ban", "192.0.2.3", "--reason", "-"]).ok();
    assert!(!mef(&net, &["bans"]).ok().contains("stdin"));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn an_endless_line_on_standard_input_takes_no_memory() {
    let net = Net::new();
    let mut command = net.mef_command(&["ban", "-"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for _ in 0..1000 {
        stdin.write_all(&[0; 64 * 1024]).unwrap();
    }
    let peak = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let peak = peak
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse::<u32>().ok());
    assert!(peak.is_some_and(|kb| kb < 16_384), "{peak:?} kB");
    drop(stdin);
    let said: Vec<String> =
        BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    let end = Instant::now() + LIMIT;
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < end, "it ends with its input");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn who_stays_on_a_list_by_another_entry_is_told() {
    let net = Net::new();
    net.mef(&["deny", "203.0.113.0/24", "203.0.113.7", "198.51.100.1"]).ok();
    let out = net.mef(&["undeny", "203.0.113.7"]);
    assert_eq!(out.stderr, "mef: 203.0.113.0/24 is still denied: it is in local.conf\n");
    assert_eq!(out.ok(), "undenied 203.0.113.7\n");
    net.mef(&["allow", "192.0.2.9", "192.0.2.8/30"]).ok();
    let out = net.mef(&["disallow", "192.0.2.9"]);
    assert_eq!(out.stderr, "mef: 192.0.2.8/30 is still allowed: it is in local.conf\n");
    // What is gone with the same command does not stay, and strangers are of no interest.
    assert_eq!(net.mef(&["undeny", "203.0.113.0/25", "203.0.113.0/24"]).stderr.matches("still").count(), 0);
    assert_eq!(net.mef(&["undeny", "198.51.100.1"]).stderr, "");
    let out = net.mef(&["allow", "192.0.2.1", "--for", "0"]);
    assert_eq!(out.status, 2, "it would have ended before it begins: {}", out.stdout);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_list_without_a_good_line_is_not_in_force() {
    let net = Net::new();
    net.mef(&["deny", "192.0.2.1"]).ok();
    net.write("etc-mef/blacklist/html.conf", "<html>\n<body>\n");
    net.write("etc-mef/blacklist/empty.conf", "# nobody\n");
    let listed = net.mef(&["lists", "--json"]);
    assert_eq!(listed.status, 1, "{}", listed.stderr);
    let states: Vec<String> = rows(&listed.stdout)
        .iter()
        .map(|row| format!("{} {}", text(row, "file").rsplit('/').next().unwrap(), text(row, "state")))
        .collect();
    assert_eq!(states, ["empty.conf in force", "html.conf refused", "local.conf in force"]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_state_dir_that_cannot_be_written_is_told_once() {
    let net = Net::new();
    let disk = Disk::new(&net.path("disk"), "size=64k");
    net.write("mef.conf", &format!("[global]\nstate_dir={}\n", net.path("disk").display()));
    mef(&net, &["ban", "192.0.2.1"]).ok();
    disk.read_only(true);
    // A ban is in force at least until the next reboot; a lifting that is not written is undone by it.
    for (args, status) in [(["ban", "192.0.2.2"], 0), (["unban", "192.0.2.2"], 1)] {
        let out = mef(&net, &args);
        assert_eq!(out.stderr.matches("cannot write").count(), 1, "{args:?}: {}", out.stderr);
        assert_eq!(out.status, status, "{args:?}: {}", out.stderr);
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_takes_a_restart_is_told_at_a_reload() {
    let mut net = common::daemon::host("", "");
    let daemon = net.daemon("d");
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("d", "configuration read");
    assert!(!net.said("d").contains("started anew"), "{}", net.said("d"));
    net.configure(&format!("run_dir={}", net.path("elsewhere").display()), &[LOG]);
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("d", "run_dir, state_dir and track_max take effect after a restart");
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn programs_of_on_ban_end_with_the_daemon_and_all_that_they_started() {
    let mut net = common::daemon::host("", "maxretry=1");
    let hook = net.program("hook", "#!/bin/sh\nsleep 1000 &\necho $! >> \"${0%/*}/pids\"\nwait\n");
    net.configure(&format!("on_ban={}", hook.display()), &[LOG]);
    let daemon = net.daemon("d");
    net.append(LOG, failed("203.0.113.1"));
    wait_until("the program", || net.read("pids").ends_with('\n'));
    net.stop(daemon);
    assert!(net.said("d").contains("on_ban and on_unban: 1 program not run to the end"));
    let stat = format!("/proc/{}/stat", net.read("pids").trim());
    wait_until("its end", || !std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_user_in_the_unit_that_let_him_in_is_not_the_service() {
    let mut net = Net::new();
    // In memory, all messages go to one file; on the disk journald keeps those of people apart.
    net.journald("", &[], false);
    net.configure("", &[]);
    net.rule(
        "sshd",
        "programs=sshd\nmaxretry=1\nfailregex=^Failed password for .* from <HOST> port \\d+ ssh2$",
    );
    let line = |addr: &str| format!("Failed password for root from {addr} port 22 ssh2");
    let mut user = net.speaker("sshd", 1000, "ssh.service", "sshd");
    user.say(&line("198.51.100.1"));
    common::journald::settled(&net, false, "system.journal", "sshd", 1);
    let daemon = net.daemon("d");
    let mut sshd = net.speaker("sshd", 0, "ssh.service", "sshd");
    sshd.say(&line("192.0.2.1"));
    wait_until("the ban", || net.in_set("ban4", "192.0.2.1".parse().unwrap()));
    assert!(!net.in_set("ban4", "198.51.100.1".parse().unwrap()));
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_first_record_of_another_process_is_no_damage() {
    let mut net = common::daemon::host("", "");
    let daemon = net.daemon("d");
    mef(&net, &["ban", "192.0.2.1"]).ok();
    net.nft("flush ruleset");
    net.wait_said("d", "1 ban restored from the journal");
    assert!(!net.said("d").contains("damaged"), "{}", net.said("d"));
    net.stop(daemon);
}
