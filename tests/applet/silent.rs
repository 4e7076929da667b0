//! What commands say of a daemon that stands still, or that they may not ask.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::daemon::host;
use common::wait_until;
use std::fs;
use std::process::Stdio;

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_daemon_that_stands_still_runs_and_does_not_answer() {
    let mut net = host("", "maxretry=3");
    let daemon = net.daemon("daemon");
    net.signal(daemon, libc::SIGSTOP);
    let people = net.mef(&["status"]);
    assert!(people.stdout.starts_with("the daemon does not answer: no answer within 5 s\n"), "{people:?}");
    assert!(people.stdout.contains("daemon      does not answer on ") && people.status == 1, "{people:?}");
    let json = net.mef(&["status", "--json"]);
    let object = json.stdout.lines().next().unwrap();
    assert!(object.starts_with("{\"daemon\":false,\"verdict\":\"does not answer\""), "{object}");
    assert_eq!(json.status, 1);
    let watch = net.mef(&["watch"]);
    assert!(watch.status == 1 && watch.stderr == "mef: the daemon: no answer within 5 s\n", "{watch:?}");
    // A reload is told that it waits, and ends when the daemon goes on.
    let said = net.path("reload.said");
    let mut reload = net.mef_command(&["reload"]);
    reload.stdout(Stdio::piped()).stderr(fs::File::create(&said).unwrap());
    let mut reload = reload.spawn().unwrap();
    wait_until("the note", || fs::read_to_string(&said).unwrap().contains("no answer within 5 s; waiting"));
    assert!(reload.try_wait().unwrap().is_none());
    net.signal(daemon, libc::SIGCONT);
    let output = reload.wait_with_output().unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b"configuration read"), "{output:?}");
    assert!(!net.mef(&["status"]).stdout.contains("does not answer"));
    net.stop(daemon);
    assert_eq!(net.mef(&["status"]).status, 3);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_needs_the_daemon_says_in_one_line_why_there_is_none() {
    let net = host("", "maxretry=3");
    let config = net.path("mef.conf").display().to_string();
    for command in ["top", "watch"] {
        let none = net.mef(&[command, "--config", &config]);
        assert_eq!((none.status, &*none.stderr), (1, "mef: no daemon runs (mef daemon starts it)\n"));
    }
    // A socket that nobody may ask.
    fs::create_dir_all(net.path("run/mef/mef.sock")).unwrap();
    for command in ["top", "watch"] {
        let none = net.mef(&[command, "--config", &config]);
        assert_eq!((none.status, none.stderr.lines().count()), (1, 1), "{none:?}");
        assert!(
            none.stderr.starts_with("mef: the daemon in ") || none.stderr.contains("no daemon"),
            "{none:?}"
        );
    }
}
