//! What attackers write, what administrators mistype, what disks and kernels refuse: nobody innocent is
//! banned, nothing stops, and what is wrong is said once.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::daemon::failed;
use common::ns::Disk;
use common::{Net, wait_until};
use std::fs;
use std::net::IpAddr;
use std::process::Stdio;

const LOG: &str = "app.log";
/// Whom attackers name.
const INNOCENT: &str = "198.51.100.9";

/// User names that try to be more.
fn names() -> Vec<String> {
    let mut names: Vec<String> = [
        "root from 198.51.100.9 port 22 ssh2",
        "root from 198.51.100.9",
        "x from 198.51.100.9 port 22 ssh2 from 198.51.100.9 port 22",
        "x\nNov 22 08:00:01 host sshd[1]: Failed password for root from 198.51.100.9 port 22 ssh2",
        "x\r\nFailed password for root from 198.51.100.9 port 22 ssh2\n",
        "Nov 22 08:00:01 host sshd[1]: Failed password for root from 198.51.100.9 port 22 ssh2",
        "<38>1 2026-11-22T08:00:01Z host sshd 1 - - Failed password for root from 198.51.100.9 port 22 ssh2",
        "\u{1b}[2J\u{1b}[31mroot\u{7} from 198.51.100.9 port 22 ssh2",
        "\u{202e}2hss 22 trop 9.001.15.891 morf",
        "root 198.51.100.9 port 22 [preauth]",
        "[198.51.100.9]:22",
        " ",
        "%s%n%x",
    ]
    .map(str::to_owned)
    .to_vec();
    names.push(format!("{} from 198.51.100.9 port 22 ssh2", "A".repeat(8000)));
    names.push("from 198.51.100.9 ".repeat(450));
    names
}

/// The lines of what a program said hold no control character, and none of them is long.
#[track_caller]
fn harmless(said: &str) {
    for line in said.lines() {
        assert!(line.len() <= 1024 && !line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
    }
}

fn banned(net: &Net, addr: &str) -> bool {
    net.in_set("ban4", addr.parse().unwrap())
}

/// How often something was said.
fn said(net: &Net, name: &str, what: &str) -> usize {
    net.said(name).matches(what).count()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn user_names_given_to_a_real_sshd_ban_only_who_gave_them() {
    let mut net = Net::new();
    let peer = net.peer();
    net.sshd();
    net.configure("ban_log_enabled=true", &["auth.log"]);
    net.shipped_sshd_rule("maxretry=1");
    let daemon = net.daemon("daemon");
    let mut tried = 0;
    for (i, name) in names().iter().enumerate() {
        let addr = IpAddr::from([203, 0, 113, u8::try_from(i + 1).unwrap()]);
        net.speak_as(&peer, addr);
        // Newer clients refuse to send some of the names.
        if !net.ssh_fail(&peer, name).stderr.contains("invalid characters") {
            tried += 1;
            wait_until(&format!("the ban of who said {name:?}"), || net.in_set("ban4", addr));
        }
    }
    net.mark("auth.log");
    assert!(tried >= 5, "only {tried} of the names reached sshd");
    assert!(!banned(&net, INNOCENT), "{}", net.read("auth.log"));
    assert_eq!(net.bans().len(), tried);
    harmless(&net.said("daemon"));
    harmless(&net.read("log/mef.log"));
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn lines_of_an_attacker_ban_only_the_attacker() {
    let mut net = Net::new();
    net.configure("", &[LOG]);
    let shipped = include_str!("../../rootfs/etc/mef/rules.d/sshd.conf");
    let files = format!("files={}\nmaxretry=1\n", net.path(LOG).display());
    net.write("rules.d/sshd.conf", &format!("{shipped}\n{files}"));
    net.append(LOG, "");
    let daemon = net.daemon("daemon");
    let head = "Nov 22 08:00:01 host sshd[130]: ";
    let mut number = 0;
    for name in names() {
        // What a careful logger makes of the line ends in a name, and what no logger would let through.
        let name = name.replace('\n', "\\n").into_bytes();
        for name in [name.clone(), [b"\0", &name[..], b"\0\xff\xfe"].concat()] {
            number += 1;
            let tail = format!(" from 203.0.113.{number} port 58216 ssh2\n");
            net.append(
                LOG,
                [format!("{head}Failed password for invalid user ").as_bytes(), &name, tail.as_bytes()]
                    .concat(),
            );
            net.append(
                LOG,
                [format!("{head}Invalid user ").as_bytes(), &name, tail.replace(" ssh2", "").as_bytes()]
                    .concat(),
            );
            net.append(
                LOG,
                [
                    format!("{head}Connection closed by invalid user ").as_bytes(),
                    &name,
                    format!(" 203.0.113.{number} port 1 [preauth]\n").as_bytes(),
                ]
                .concat(),
            );
        }
    }
    // Other programs' lines that quote the attacker, a line without end, and nothing but noise.
    let quoted = format!("Failed password for root from {INNOCENT} port 22 ssh2");
    for line in [
        format!("Nov 22 08:00:01 host app[1]: user said: sshd[1]: {quoted}\n"),
        format!("Nov 22 08:00:01 host app[1]: x\rNov 22 08:00:01 host sshd[1]: {quoted}\n"),
        format!("host sshd[1]: {quoted}\n"),
        format!("{quoted}\n"),
        format!("Nov 22 08:00:01 host sshd[1]: {quoted} from 203.0.113.250 port 1\n"),
        format!("{head}{}{quoted}{}\n", "x ".repeat(50_000), "y".repeat(100_000)),
        format!("{head}Failed password for root from {INNOCENT}.203.0.113.1 port 22 ssh2\n"),
        format!("{head}Failed password for root from {INNOCENT} 203.0.113.1 port 22 ssh2\n"),
    ] {
        net.append(LOG, line);
    }
    let mut rng = fastrand::Rng::with_seed(22);
    let noise: Vec<u8> = (0..300_000).map(|_| rng.u8(..)).collect();
    net.append(LOG, noise);
    net.append(LOG, "\n");
    net.mark(LOG);
    for i in 1..=number {
        assert!(banned(&net, &format!("203.0.113.{i}")), "attacker {i} of {number}");
    }
    assert!(!banned(&net, INNOCENT));
    assert_eq!(net.bans().len(), number, "{:?}", net.banned());
    harmless(&net.said("daemon"));
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn broken_configuration_is_refused_with_its_place() {
    let mut net = Net::new();
    net.configure(
        "maxretyr=3\nipv6_prefix=200\nban_action=explode\nstate_sync=soon\nwhat is this\n[local]",
        &[LOG],
    );
    net.rule("keys", "files=/x.log\nfailregex=^a <HOST>\nmaxretry=zero\nbantime=1h\nports=22,99999");
    net.rule(
        "patterns",
        "files=/x.log\nfailregex=^a (?=<HOST>)\nfailregex=^no address\nfailregex=^(a <HOST>\nignoreregex=x{9",
    );
    let conf = net.path("mef.conf");
    let args = ["daemon", "--foreground", "--config", conf.to_str().unwrap()];
    let daemon = net.mef(&args);
    assert_eq!(daemon.status, 1, "{daemon:?}");
    assert!(daemon.stderr.contains("the configuration has errors; nothing was started"), "{daemon:?}");
    assert_eq!(net.nft_list("tables"), "", "nothing was done");
    let check = net.mef(&["check", "--config", conf.to_str().unwrap()]);
    assert_eq!(check.status, 1);
    let shown = check.stdout.replace(net.dir.to_str().unwrap(), "DIR");
    let rules = fs::read_dir("rootfs/etc/mef/rules.d").unwrap().count();
    let shown = shown.replace(&format!("\n{} service rules;", rules + 1), "\nSOME service rules;");
    assert_eq!(shown, include_str!("bad_input/broken.txt"), "\n{shown}");
    for line in check.stdout.lines().filter(|l| l.starts_with('/')) {
        assert!(daemon.stderr.contains(line), "the daemon says the same: {line}\n{}", daemon.stderr);
    }
    // One after the other, on reload.
    net.configure("", &[LOG]);
    fs::remove_file(net.path("rules.d/keys.conf")).unwrap();
    fs::remove_file(net.path("rules.d/patterns.conf")).unwrap();
    let daemon = net.daemon("daemon");
    net.write("rules.d/bad\u{1b}[31m.conf", "[rule]\nname=\u{1b}[31m\n");
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("daemon", "the previous one stays in force");
    harmless(&net.said("daemon"));
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_configuration_that_cannot_be_read_is_told() {
    let net = Net::new();
    let missing = net.path("missing.conf").display().to_string();
    for args in [&["daemon", "--foreground", "--config", &missing][..], &["check", "--config", &missing]] {
        let output = net.mef(args);
        assert_eq!(output.status, 1, "{args:?}: {output:?}");
        assert!((output.stderr + &output.stdout).contains("missing.conf"), "{args:?}");
    }
    // Bans by hand go on with the defaults.
    let output = net.mef(&["ban", "192.0.2.7", "--config", &missing]);
    assert_eq!(output.status, 0, "{output:?}");
    assert!(output.stderr.contains("missing.conf") && output.stderr.lines().count() == 1, "{output:?}");
    let broken = net.write("broken.conf", "[global]\nban_action=explode\nipv6_prefix=56\n");
    let output = net.mef(&["ban", "2001:db8:1:2::1", "--config", broken.to_str().unwrap()]);
    assert_eq!((output.status, output.stderr.lines().count()), (0, 1), "{output:?}");
}

/// A host whose daemon bans at the second hit, with its state on a disk of its own.
fn host_with_disk() -> (Net, Disk) {
    let net = Net::new();
    let disk = Disk::new(&net.path("disk"), "size=64k");
    net.configure(&format!("state_dir={}", net.path("disk/state").display()), &[LOG]);
    net.rule_for("app", LOG, "maxretry=2");
    net.append(LOG, "");
    (net, disk)
}

/// Bans go on whatever has become of the disk.
#[track_caller]
fn bans_go_on(net: &Net, addr: &str) {
    net.append(LOG, failed(addr).repeat(2));
    net.mark(LOG);
    assert!(banned(net, addr), "{addr}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_full_disk_is_said_once_and_bans_go_on() {
    let (mut net, disk) = host_with_disk();
    let daemon = net.daemon("daemon");
    bans_go_on(&net, "203.0.113.1");
    let filler = net.path("disk/filler");
    let _ = fs::write(&filler, vec![0; 1 << 20]);
    for i in 2..60 {
        bans_go_on(&net, &format!("203.0.113.{i}"));
    }
    net.counts(daemon, "daemon");
    let reported = net.said("daemon").lines().filter(|l| l.contains("No space left on device")).count();
    assert!((1..=2).contains(&reported), "the journal and the positions, once each:\n{}", net.said("daemon"));
    // mef ban says so, too, and bans.
    let output = net.mef_input(&["ban", "-", "--config", net.path("mef.conf").to_str().unwrap()], &many());
    assert_eq!(output.status, 0, "{output:?}");
    assert!(output.stderr.contains("No space left on device"), "{output:?}");
    assert!(output.stderr.lines().count() <= 2, "{output:?}");
    net.mef(&["unban", "10.0.0.0/8"]).ok();

    fs::remove_file(&filler).unwrap();
    bans_go_on(&net, "203.0.113.200");
    net.wait_said("daemon", "state_dir is writable again");
    let before = net.banned();
    net.stop(daemon);
    net.nft("delete table inet mef_guard");
    net.daemon("again");
    assert_eq!(net.banned(), before, "what could not be written then was written later");
    drop(disk);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn more_bans_than_can_wait_for_a_full_disk_are_written_when_there_is_room() {
    // Another ban makes the daemon write, or nothing does.
    for another in [true, false] {
        let (mut net, disk) = host_with_disk();
        net.configure(&format!("state_sync=1s\nstate_dir={}", net.path("disk/state").display()), &[LOG]);
        let daemon = net.daemon("daemon");
        let filler = net.path("disk/filler");
        let _ = fs::write(&filler, vec![0; 1 << 20]);
        let addr = |i: u32| format!("203.0.{}.{}", 113 + i / 200, 1 + i % 200);
        let lines: String = (0..800).map(|i| failed(&addr(i)).repeat(2)).collect();
        net.append(LOG, lines);
        net.mark(LOG);
        // The last that is tried once something has happened.
        net.wait_said("daemon", "positions: No space left");
        fs::remove_file(&filler).unwrap();
        if another {
            bans_go_on(&net, "198.51.100.1");
        }
        let before = net.banned();
        net.wait_said("daemon", "state_dir is writable again");
        // Not only at the end.
        wait_until("the journal has the first and the last", || {
            let journal = fs::read(net.path("disk/state/bans")).unwrap();
            let has = |addr: [u8; 4]| journal.windows(4).any(|part| part == addr);
            has([203, 0, 113, 1]) && has([203, 0, 116, 200])
        });
        net.signal(daemon, libc::SIGKILL);
        net.wait(daemon);
        net.nft("delete table inet mef_guard");
        net.daemon("again");
        assert_eq!(net.banned(), before, "{another}");
        drop(disk);
    }
}

/// More addresses than a small disk holds.
fn many() -> Vec<u8> {
    (0..5000).flat_map(|i| format!("10.0.{}.{}\n", i / 250, i % 250).into_bytes()).collect()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_end_of_all_bans_is_remembered_as_a_whole_by_the_daemon_if_the_command_cannot() {
    for (args, stays) in [
        (&["unban", "--all", "--permanent"][..], &["192.0.2.3", "203.0.113.200"][..]),
        (&["unban", "--all"], &["192.0.2.1", "192.0.2.3", "203.0.113.200"]),
    ] {
        let (mut net, disk) = host_with_disk();
        let daemon = net.daemon("daemon");
        let conf = net.path("mef.conf");
        let mef = |args: &[&str]| net.mef(&[args, &["--config", conf.to_str().unwrap()]].concat());
        mef(&["ban", "192.0.2.1", "--permanent"]).ok();
        mef(&["ban", "192.0.2.2", "--for", "1h"]).ok();
        disk.read_only_for_later(true);
        let out = mef(args);
        assert!(out.status == 1 && out.stderr.contains("the ban journal could not record this"), "{out:?}");
        disk.read_only_for_later(false);
        // Written before the daemon writes what it was told.
        mef(&["ban", "192.0.2.3", "--permanent"]).ok();
        bans_go_on(&net, "203.0.113.200");
        assert_eq!(net.banned(), stays, "{args:?}");
        net.stop(daemon);
        net.nft("delete table inet mef_guard");
        net.daemon("again");
        assert_eq!(net.banned(), stays, "{args:?}");
        drop(disk);
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_does_not_fit_into_memory_is_refused_before_it_is_tried() {
    let net = Net::new();
    let meminfo = |kb: u32| net.write("meminfo", &format!("MemTotal: 65536 kB\nMemAvailable: {kb} kB\n"));
    meminfo(60_000);
    net.mef(&["ban", "192.0.2.1"]).ok();
    assert!(net.mef_input(&["ban", "-"], &many()).ok().contains("banned 5000 addresses"));
    let before = net.banned();
    // Enough for one, and not for many.
    meminfo(1500);
    net.mef(&["ban", "192.0.2.2"]).ok();
    net.mef(&["unban", "192.0.2.2"]).ok();
    let out =
        net.mef_input(&["ban", "-"], String::from_utf8(many()).unwrap().replace("10.0", "10.9").as_bytes());
    let why = "the kernel needs 3 MB of memory for that, and 0 MB are free";
    assert_eq!(out.status, 1, "{out:?}");
    assert!(
        out.stderr.contains("512 addresses and all that follow are not banned") && out.stderr.contains(why),
        "{out:?}"
    );
    assert!(out.stdout.contains("banned 0 addresses"), "{out:?}");
    let out = net.mef_input(&["unban", "-"], &many());
    assert!(
        out.status == 1 && out.stderr.contains("nothing more is unbanned: the kernel needs 2 MB"),
        "{out:?}"
    );
    assert_eq!(net.banned(), before, "the previous state stays");
    // For nothing at all.
    meminfo(900);
    let out = net.mef(&["ban", "192.0.2.2"]);
    assert!(out.status == 1 && out.stderr.contains("192.0.2.2 is not banned: the kernel needs"), "{out:?}");
    assert_eq!(net.banned(), before);
    meminfo(60_000);
    net.mef_input(&["unban", "-"], &many()).ok();
    assert_eq!(net.banned(), ["192.0.2.1"]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_read_only_state_dir_is_said_once_and_bans_go_on() {
    let (mut net, disk) = host_with_disk();
    disk.read_only(true);
    let daemon = net.daemon("daemon");
    for i in 1..10 {
        bans_go_on(&net, &format!("203.0.113.{i}"));
    }
    net.counts(daemon, "daemon");
    let reported = net.said("daemon").lines().filter(|l| l.contains("Read-only file system")).count();
    assert!((1..=2).contains(&reported), "the journal and the positions, once each:\n{}", net.said("daemon"));
    let conf = net.path("mef.conf");
    let output = net.mef(&["ban", "192.0.2.7", "--config", conf.to_str().unwrap()]);
    assert_eq!((output.status, output.stderr.lines().count()), (0, 1), "{output:?}");
    assert!(output.stderr.contains("Read-only file system"), "{output:?}");
    net.stop(daemon);

    // It becomes so while the daemon runs.
    disk.read_only(false);
    let daemon = net.daemon("writable");
    bans_go_on(&net, "203.0.113.20");
    net.counts(daemon, "writable");
    net.stop(daemon);
    drop(disk);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_log_that_is_missing_is_waited_for() {
    let mut net = Net::new();
    net.configure("", &[LOG]);
    net.rule_for("app", "later/app.log", "maxretry=2");
    let daemon = net.daemon("daemon");
    bans_nobody_yet(&net);
    let path = net.path("later/app.log").display().to_string();
    assert_eq!(
        said(&net, "daemon", &format!("{path} does not exist: waiting for it")),
        1,
        "{}",
        net.said("daemon")
    );
    fs::create_dir(net.path("later")).unwrap();
    net.append("later/app.log", failed("203.0.113.1").repeat(2));
    wait_until("the late log to be read", || banned(&net, "203.0.113.1"));
    fs::remove_dir_all(net.path("later")).unwrap();
    fs::create_dir(net.path("later")).unwrap();
    net.append("later/app.log", failed("203.0.113.2").repeat(2));
    wait_until("the second log to be read", || banned(&net, "203.0.113.2"));
    net.stop(daemon);
}

#[track_caller]
fn bans_nobody_yet(net: &Net) {
    net.mark(LOG);
    assert!(net.bans().is_empty());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_log_that_cannot_be_read_is_said_once_and_others_are_read() {
    let mut net = Net::new();
    net.configure("", &[LOG]);
    let (dir, secret) = (net.path("dir.log"), net.write("secret.log", ""));
    fs::create_dir(&dir).unwrap();
    nix::unistd::mkfifo(&net.path("pipe.log"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink("loop.log", net.path("loop.log")).unwrap();
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o0)).unwrap();
    for (i, log) in ["dir.log", "pipe.log", "loop.log", "secret.log", LOG].into_iter().enumerate() {
        net.rule_for(&format!("app{i}"), log, "maxretry=2");
    }
    net.append(LOG, "");
    // root reads everything; without these capabilities it does not.
    let conf = net.path("mef.conf");
    let mef = common::mef_binary();
    let caps = "--bounding-set=-dac_override,-dac_read_search";
    let mut command = net.command(
        "setpriv",
        &[
            caps,
            "--inh-caps=-all",
            "--",
            mef.to_str().unwrap(),
            "daemon",
            "--foreground",
            "--config",
            conf.to_str().unwrap(),
        ],
    );
    net.own(&mut command);
    let daemon = net.start("daemon", command);
    net.wait_ready("daemon");
    for i in 1..5 {
        bans_go_on(&net, &format!("203.0.113.{i}"));
    }
    for log in
        ["dir.log: not a regular file", "pipe.log: not a regular file", "secret.log: Permission denied"]
    {
        let lines = net.said("daemon");
        // That a rule sees nothing for it is another thing.
        let reported = lines.lines().filter(|line| line.contains(log) && !line.contains("sees nothing for"));
        assert_eq!(reported.count(), 1, "{log}:\n{lines}");
    }
    assert!(said(&net, "daemon", "warning: loop.log: ") <= 1, "{}", net.said("daemon"));
    // Put right, it is followed.
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    net.wait_said("daemon", "secret.log: followed again");
    net.append("secret.log", failed("203.0.113.77").repeat(2));
    wait_until("the log that can be read again", || banned(&net, "203.0.113.77"));
    net.stop(daemon);
}

/// A daemon whose user namespace has this limit: the limits of inotify are a user's in a namespace. The
/// network namespace has to belong to it.
fn limited(net: &mut Net, name: &str, limit: &str) -> usize {
    let conf = net.path("mef.conf");
    let script = format!("echo {limit} && exec \"$@\"");
    let mef = common::mef_binary();
    let program = [mef.to_str().unwrap(), "daemon", "--foreground", "--config", conf.to_str().unwrap()];
    let shell = ["--user", "--map-root-user", "--net", "--", "sh", "-c", &script, "sh"];
    let mut command = net.command("unshare", &[&shell[..], &program].concat());
    net.own(&mut command);
    let daemon = net.start(name, command);
    net.wait_ready(name);
    daemon
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn without_file_events_logs_are_looked_at_from_time_to_time() {
    let mut net = Net::new();
    net.configure("", &[LOG]);
    net.rule_for("app", LOG, "maxretry=2");
    net.append(LOG, "");
    // /run and /var/lib of the host must not be touched.
    let own = format!("run_dir={}\nstate_dir={}\n", net.path("r").display(), net.path("s").display());
    net.append("mef.conf", own);
    // No instance; or one, and a watch for the directory but none for the file.
    let limits = [">/proc/sys/user/max_inotify_instances 0", ">/proc/sys/user/max_inotify_watches 1"];
    for (round, limit) in limits.into_iter().enumerate() {
        let name = format!("daemon-{round}");
        let daemon = limited(&mut net, &name, limit);
        for i in 1..3 {
            let addr = format!("203.0.113.{}", 10 * round + i);
            net.append(LOG, failed(&addr).repeat(2));
            net.wait_said(&name, &format!("ban {addr} "));
            // Rotated: the new file is found, too.
            fs::rename(net.path(LOG), net.path(&format!("{LOG}.{round}{i}"))).unwrap();
            net.append(LOG, "");
        }
        assert_eq!(said(&net, &name, "checking log files every"), 1, "{}", net.said(&name));
        net.stop(daemon);
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn without_a_system_log_messages_go_to_standard_error() {
    let mut net = Net::new();
    net.configure("log=syslog", &[LOG]);
    net.rule_for("app", LOG, "maxretry=2");
    net.append(LOG, "");
    fs::remove_file(net.path("dev/log")).unwrap();
    let daemon = net.daemon("daemon");
    bans_go_on(&net, "203.0.113.1");
    net.wait_said("daemon", "ban 203.0.113.1 rule=app hits=2");
    harmless(&net.said("daemon"));
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_reader_of_messages_that_does_not_read_stops_nothing() {
    let net = Net::new();
    net.configure("", &[LOG]);
    net.rule_for("app", LOG, "maxretry=1");
    net.append(LOG, "");
    let conf = net.path("mef.conf");
    let mut command = net.mef_command(&["daemon", "--foreground", "--config", conf.to_str().unwrap()]);
    // A pipe holds 64 KiB; three thousand bans say more.
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    // It says nothing that could be read here, and what stands in the log before it looks is not for it.
    wait_until("the daemon to be ready", || {
        net.append(LOG, failed("203.0.113.1"));
        banned(&net, "203.0.113.1")
    });
    net.mark(LOG);
    let lines: Vec<String> = (0..3000).map(|i| failed(&format!("10.1.{}.{}", i / 250, i % 250))).collect();
    net.append(LOG, lines.concat());
    net.mark(LOG);
    assert_eq!(net.mef(&["bans", "--rule", "app", "--json"]).ok().lines().count(), 3001);
    child.kill().unwrap();
    child.wait().unwrap();
}
