//! `mef reload`, and what a supervisor is told: a good configuration is taken, of a bad one nothing is, and
//! both are said where somebody sees it.
#![allow(clippy::unwrap_used, reason = "tests")]

use crate::common;

use common::{Net, wait_until};
use std::time::Duration;

fn rule(net: &Net, maxretry: &str) {
    net.rule_for("app", "app.log", &format!("maxretry={maxretry}"));
}

fn reload(net: &Net) -> common::Output {
    let config = net.path("mef.conf");
    net.mef(&["reload", "--config", config.to_str().unwrap()])
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_daemon_takes_a_good_configuration_and_nothing_of_a_bad_one() {
    let mut net = Net::new();
    net.configure("", &["app.log"]);
    rule(&net, "3");
    net.append("app.log", "");
    let daemon = net.daemon("d");
    assert!(reload(&net).ok().starts_with("configuration read: "));
    // One more service rule is in force when the command has ended.
    net.rule("more", "programs=more\nfiles=/nowhere\nfailregex=^bad <HOST>$");
    assert_eq!(reload(&net).status, 0);
    let status = net.mef(&["status"]).shown();
    assert!(status.contains("more"), "{status}");
    // A bad one is named by file, line and column, and what was in force stays.
    rule(&net, "many");
    let output = reload(&net);
    assert_eq!((output.status, output.stdout.as_str()), (1, ""), "{}", output.stderr);
    for text in ["rules.d/app.conf:", "many", "the previous one stays in force"] {
        assert!(output.stderr.contains(text), "{text}: {}", output.stderr);
    }
    assert!(net.mef(&["status"]).shown().contains("more"));
    rule(&net, "3");
    assert_eq!(reload(&net).status, 0);
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_is_not_needed_is_one_line_and_a_list_that_has_changed_another() {
    let mut net = Net::new();
    net.configure("debug=false\njournal_mode=all\nps_stats=true", &["app.log"]);
    rule(&net, "3");
    net.append("app.log", "");
    let daemon = net.daemon("d");
    let output = reload(&net);
    assert!(output.status == 0 && output.stderr.lines().count() == 1, "{output:?}");
    assert!(output.stderr.contains("3 keys that mef does not need"), "{output:?}");
    let log = |net: &Net| [net.read("d.out"), net.read("daemon.log")].concat();
    assert!(!log(&net).contains("on the allow list"), "{}", log(&net));
    net.write("whitelist/a.conf", "198.51.100.7\n");
    wait_until("the list", || log(&net).contains("1 range on the allow list"));
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn without_a_daemon_lists_go_into_the_kernel_unless_the_configuration_is_bad() {
    let net = Net::new();
    net.configure("", &[]);
    net.write("blacklist/a.conf", "203.0.113.0/24\n");
    net.write("whitelist/a.conf", "198.51.100.7\n");
    let output = reload(&net);
    assert!(output.stdout.contains("no daemon runs"), "{output:?}");
    assert_eq!(output.status, 0);
    let listed = net.cmd("nft", &["list", "table", "inet", "mef_guard"]).ok();
    assert!(listed.contains("203.0.113.0") && listed.contains("198.51.100.7"), "{listed}");
    net.write("blacklist/a.conf", "203.0.113.0/24\n192.0.2.0/24\n");
    net.configure("state_sync=often", &[]);
    let output = reload(&net);
    assert!(output.status == 1 && output.stderr.contains("nothing was changed"), "{output:?}");
    let listed = net.cmd("nft", &["list", "table", "inet", "mef_guard"]).ok();
    assert!(!listed.contains("192.0.2.0"), "{listed}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_supervisor_is_told_the_verdict_and_each_change() {
    let mut net = Net::new();
    net.configure("", &["app.log"]);
    rule(&net, "3");
    net.append("app.log", "");
    for built_in in ["sshd", "sshd-keys", "dropbear"] {
        net.rule_for(built_in, "app.log", "enabled=false");
    }
    let path = net.path("notify");
    let supervisor = common::ns::open_socket(&path);
    supervisor.set_read_timeout(Some(common::LIMIT)).unwrap();
    let next = || {
        let mut room = [0; 1024];
        let n = supervisor.recv(&mut room).unwrap();
        String::from_utf8_lossy(&room[..n]).into_owned()
    };
    let config = net.path("mef.conf");
    let mut command = net.mef_command(&["daemon", "--foreground", "--config", config.to_str().unwrap()]);
    command.env("NOTIFY_SOCKET", &path);
    let daemon = net.start("d", command);
    assert_eq!(next(), "READY=1\nSTATUS=protected");
    rule(&net, "many");
    assert_eq!(reload(&net).status, 1);
    let reported = next();
    assert!(reported.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reported}");
    assert_eq!(next(), "READY=1\nSTATUS=protected");
    // A log that goes away is told without being asked for.
    rule(&net, "3");
    net.rule("gone", "programs=gone\nfiles=/nowhere/log\nfailregex=^bad <HOST>$");
    assert_eq!(reload(&net).status, 0);
    next();
    let reported = next();
    assert!(reported.starts_with("READY=1\nSTATUS=sees nothing for gone: "), "{reported}");
    // In the words of `mef status`.
    let verdict = reported.strip_prefix("READY=1\nSTATUS=").unwrap();
    assert_eq!(net.mef(&["status"]).shown().lines().next(), Some(verdict));
    net.signal(daemon, libc::SIGTERM);
    assert_eq!(next(), "STOPPING=1\nSTATUS=bans stay in force");
    assert_eq!(net.wait(daemon), 0);
    supervisor.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert!(supervisor.recv(&mut [0; 8]).is_err(), "and that is all");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn called_as_mefdaemon_it_stays_in_the_foreground() {
    let mut net = Net::new();
    net.configure("", &["app.log"]);
    net.append("app.log", "");
    let name = net.path("mefdaemon");
    std::os::unix::fs::symlink(common::mef_binary(), &name).unwrap();
    let config = net.path("mef.conf");
    let mut command = net.command(name.to_str().unwrap(), &["--config", config.to_str().unwrap()]);
    net.own(&mut command);
    command.stdin(std::process::Stdio::null());
    let daemon = net.start("d", command);
    net.wait_ready("d");
    // The process that was started is the daemon itself.
    net.stop(daemon);
}
