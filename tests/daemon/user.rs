//! The daemon as a user of its own: what is his, what stays root's, and that nothing that he puts into his
//! directories leads a command of root elsewhere or makes it believe him.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::daemon::{LOG, failed, host};
use common::ns::{USER, has_user};
use common::{Net, wait_until};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

const STATE: &str = "lib/mef";
const RUN: &str = "run/mef";

/// Every file, socket and directory at and below a path.
fn all(path: &Path, found: &mut Vec<PathBuf>) {
    found.push(path.to_owned());
    if fs::symlink_metadata(path).unwrap().is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| all(&entry.unwrap().path(), found));
    }
}

/// Waits until all of both directories is that user's, but for the rule sets.
#[track_caller]
fn is_of(net: &Net, user: u32) {
    for dir in [STATE, RUN] {
        let mut found = Vec::new();
        all(&net.path(dir), &mut found);
        for path in found.iter().filter(|path| path.extension().is_none_or(|end| end != "rules")) {
            assert_eq!(fs::symlink_metadata(path).unwrap().uid(), user, "{}", path.display());
        }
    }
}

/// Gives a path to the user.
fn to_user(path: &Path) {
    std::os::unix::fs::lchown(path, Some(USER), Some(USER)).unwrap();
}

fn bans(net: &Net, addr: &str) {
    net.append(LOG, failed(addr));
    wait_until("a ban", || net.banned().contains(&addr.to_owned()));
}

/// The users of the host, with the daemon's or without it.
fn users(net: &Net, with: bool) {
    let text = net.read("passwd");
    let others: String = text.lines().filter(|l| !l.starts_with("mef:")).flat_map(|l| [l, "\n"]).collect();
    let user = if with { format!("mef:x:{USER}:{USER}:mef daemon:/:/bin/false\n") } else { String::new() };
    net.write("passwd", &(others + &user));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_state_changes_hands_with_the_user_and_back() {
    let mut net = host("guard_owner=true", "maxretry=1");
    net.write("blacklist/feed.conf", "20.30.40.0/25\n");
    for (round, with) in [(1, false), (2, true), (3, true), (4, false), (5, true)] {
        users(&net, with);
        let daemon = net.daemon(&format!("round{round}"));
        let said = net.mef(&["status"]).shown();
        assert_eq!(said.contains("confined    full: user mef, "), with, "{said}");
        bans(&net, &format!("203.0.113.{round}"));
        wait_until("the deny list", || net.nft_list("table inet mef_guard").contains("20.30.40.0/25"));
        net.mef(&["ban", &format!("192.0.2.{round}")]).ok();
        net.mef(&["allow", &format!("198.51.100.{round}")]).ok();
        is_of(&net, if with { USER } else { 0 });
        net.stop(daemon);
        assert!(
            !net.said(&format!("round{round}")).contains("cannot"),
            "{}",
            net.said(&format!("round{round}"))
        );
        // What root makes without a daemon is the daemon's, too.
        for file in ["bans", "lock", "positions"] {
            fs::remove_file(net.path(STATE).join(file)).unwrap();
        }
        fs::remove_dir_all(net.path(STATE).join("lists")).unwrap();
        net.mef(&["ban", &format!("192.0.2.1{round}")]).ok();
        net.mef(&["reload"]);
        is_of(&net, if with { USER } else { 0 });
    }
    for file in ["bans", "lock", "lists/allow"] {
        assert!(net.path(STATE).join(file).exists(), "{file}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn with_confine_off_it_stays_root_and_what_it_makes_is_whose_the_directory_is() {
    let mut net = host("confine=off", "maxretry=1");
    users(&net, true);
    let daemon = net.daemon("off");
    assert_eq!(fs::metadata(format!("/proc/{}", net.pid(daemon))).unwrap().uid(), 0);
    is_of(&net, 0);
    net.stop(daemon);
    net.configure("confine=basic", &[LOG]);
    let daemon = net.daemon("basic");
    is_of(&net, USER);
    net.stop(daemon);
    net.configure("confine=off", &[LOG]);
    fs::remove_file(net.path(STATE).join("bans")).unwrap();
    let daemon = net.daemon("again");
    bans(&net, "203.0.113.1");
    assert_eq!(fs::metadata(net.path(STATE).join("bans")).unwrap().uid(), USER);
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_directory_that_holds_more_is_not_given_away() {
    let mut net = host("run_dir=/run", "maxretry=1");
    users(&net, true);
    net.write("run/other", "x");
    let daemon = net.daemon("daemon");
    net.wait_said("daemon", "without user mef (state_dir and run_dir must be directories for mef alone)");
    bans(&net, "203.0.113.1");
    for path in ["run", "run/other", "lib/mef"] {
        assert_eq!(fs::metadata(net.path(path)).unwrap().uid(), 0, "{path}");
    }
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_ban_log_is_written_after_a_rotation() {
    let mut net = host("ban_log_enabled=true\nban_log_path=/var/log/mef.log", "maxretry=1");
    users(&net, true);
    let daemon = net.daemon("daemon");
    let log = |addr: &str| {
        bans(&net, addr);
        wait_until("the ban log", || net.read("log/mef.log").contains(addr));
    };
    log("203.0.113.1");
    assert_eq!(fs::metadata(net.path("log")).unwrap().uid(), 0);
    for (n, rights) in [(2, None), (3, Some(0o640))] {
        fs::rename(net.path("log/mef.log"), net.path("log/mef.log.1")).unwrap();
        if let Some(mode) = rights {
            net.write("log/mef.log", "");
            fs::set_permissions(net.path("log/mef.log"), fs::Permissions::from_mode(mode)).unwrap();
        }
        let conf = net.path("mef.conf");
        net.mef(&["reload", "--config", conf.to_str().unwrap()]).ok();
        log(&format!("203.0.113.{n}"));
        assert_eq!(fs::metadata(net.path("log/mef.log")).unwrap().uid(), USER);
    }
    // Whoever may read it by its group may do so still.
    chown(net.path("log/mef.log"), Some(0), Some(4)).unwrap();
    let conf = net.path("mef.conf");
    net.mef(&["reload", "--config", conf.to_str().unwrap()]).ok();
    let facts = fs::metadata(net.path("log/mef.log")).unwrap();
    assert_eq!((facts.uid(), facts.gid()), (USER, 4));
    net.stop(daemon);
}

/// Commands of root that write to the directories.
fn commands(net: &Net) {
    net.write("blacklist/feed.conf", "20.30.40.0/25\n");
    for args in [
        &["ban", "192.0.2.1"][..],
        &["ban", "192.0.2.0/30", "--for", "1h"],
        &["unban", "192.0.2.1"],
        &["allow", "198.51.100.1"],
        &["deny", "192.0.2.77"],
        &["reload"],
        &["load"],
        &["load", "--boot"],
        &["status"],
        &["history"],
        &["unload"],
    ] {
        net.mef(args);
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn nothing_that_the_user_has_planted_leads_root_elsewhere() {
    let net = host("", "maxretry=1");
    users(&net, true);
    net.write("etc-mef/mef.rules", "policy dir=in action=accept\n");
    // Names that commands write, those of their temporary files included.
    commands(&net);
    let mut names = Vec::new();
    for dir in [STATE, RUN] {
        all(&net.path(dir), &mut names);
    }
    let base = net.path("");
    let mut names: Vec<PathBuf> = names.iter().map(|path| path.strip_prefix(&base).unwrap().into()).collect();
    for more in ["bans.tmp", "positions.tmp", "confirmed.rules.new", "pending.rules", "lists/allow/.new"] {
        names.push(Path::new(STATE).join(more));
    }
    names.retain(|name| ![Path::new(STATE), Path::new(RUN)].contains(&name.as_path()));
    assert!(names.len() > 10, "{names:?}");
    for name in &names {
        for hard in [false, true] {
            for dir in [STATE, RUN] {
                fs::remove_dir_all(net.path(dir)).unwrap();
                fs::create_dir_all(net.path(dir)).unwrap();
                to_user(&net.path(dir));
            }
            // A file and a directory of root, and how they are found again.
            let _ = fs::remove_dir_all(net.path("victim"));
            net.write("victim/file", "precious\n");
            let (at, is_dir) = (net.path(name.to_str().unwrap()), name.extension().is_none());
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            to_user(at.parent().unwrap());
            let target = if is_dir && name.ends_with("lists") || name.ends_with("allow") {
                net.path("victim")
            } else {
                net.path("victim/file")
            };
            if hard && target.is_file() {
                fs::hard_link(target, &at).unwrap();
            } else {
                symlink(target, &at).unwrap();
                to_user(&at);
            }
            commands(&net);
            let mut found = Vec::new();
            all(&net.path("victim"), &mut found);
            assert_eq!(found.len(), 2, "{}: {found:?}", name.display());
            assert_eq!(net.read("victim/file"), "precious\n", "{}", name.display());
            for path in found {
                assert_eq!(fs::metadata(&path).unwrap().uid(), 0, "{}: {}", name.display(), path.display());
            }
        }
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn root_loads_no_rule_set_of_the_user() {
    let net = host("", "");
    users(&net, true);
    net.write("secret", "root:hash:of:the:password\n");
    net.write(
        "etc-mef/mef.rules",
        "policy dir=in action=accept\nrule dir=in proto=tcp dport=4711 action=drop\n",
    );
    net.mef(&["load"]).ok();
    for name in ["confirmed.rules", "pending.rules"] {
        let planted = format!("include {}\n", net.path("secret").display());
        net.write(&format!("{STATE}/{name}"), &planted);
        to_user(&net.path(STATE).join(name));
    }
    let output = net.mef(&["load", "--boot"]);
    assert!(!(output.stdout.clone() + &output.stderr).contains("hash"), "{output:?}");
    assert!(net.nft_list("table inet mef").contains("4711"), "that of root is loaded: {output:?}");
    // The same of root's is what a boot loads.
    net.write(&format!("{STATE}/confirmed.rules"), "rule dir=in proto=tcp dport=4712 action=drop\n");
    net.write(&format!("{STATE}/pending.rules"), "policy dir=in action=accept\n");
    for name in ["confirmed.rules", "pending.rules"] {
        chown(net.path(STATE).join(name), Some(0), Some(0)).unwrap();
    }
    net.mef(&["load", "--boot"]).ok();
    assert!(net.nft_list("table inet mef").contains("4712"));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_rule_sets_stay_those_of_root() {
    let mut net = host("", "maxretry=1");
    net.write("etc-mef/mef.rules", "policy dir=in action=accept\n");
    net.mef(&["load"]).ok();
    let daemon = net.daemon("daemon");
    bans(&net, "203.0.113.1");
    net.write(
        "etc-mef/mef.rules",
        "policy dir=in action=accept\nrule dir=in proto=tcp dport=4711 action=drop\n",
    );
    net.mef(&["load"]).ok();
    let file = net.path(STATE).join("confirmed.rules");
    assert!(fs::read_to_string(&file).unwrap().contains("4711"));
    assert_eq!(fs::metadata(file).unwrap().uid(), 0);
    if has_user() {
        assert_eq!(fs::metadata(net.path(STATE)).unwrap().uid(), USER);
    }
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_daemon_of_somebody_else_says_nothing_to_the_terminal() {
    let net = host("", "");
    fs::create_dir_all(net.path(RUN)).unwrap();
    let listener = UnixListener::bind(net.path(RUN).join("mef.sock")).unwrap();
    let evil = std::thread::spawn(move || {
        for stream in listener.incoming().take(1) {
            let mut stream = stream.unwrap();
            assert!(std::io::Read::read(&mut stream, &mut [0; 64]).unwrap() > 0, "the question");
            stream.write_all(b"line \x1b]0;owned\x07\xc2\x9b31m\tword\nok done\x1b[2J\n").unwrap();
        }
    });
    let output = net.mef(&["reload"]);
    evil.join().unwrap();
    let all = output.stdout.clone() + &output.stderr;
    assert!(all.contains("\tword") && all.contains("done"), "{output:?}");
    assert!(!all.chars().any(|c| c.is_control() && !['\n', '\t'].contains(&c)), "{output:?}");
}
