//! What was in force of a list stays in force when its file is damaged, emptied, unreadable or cut off.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

use crate::common;

use super::files::is_denied;
use common::bans::{rows, text};
use common::daemon::{LOG, fails, host};
use common::ns::Disk;
use common::{Net, wait_until};
use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

/// `mef` with the configuration of the daemon.
fn mef(net: &Net, args: &[&str]) -> common::Output {
    let config = net.path("mef.conf");
    let mut all = args.to_vec();
    all.extend(["--config", config.to_str().unwrap()]);
    net.mef(&all)
}

fn is_allowed(net: &Net, addr: &str) -> bool {
    let addr: IpAddr = addr.parse().unwrap();
    net.in_set(if addr.is_ipv4() { "allow4" } else { "allow6" }, addr)
}

fn state(net: &Net, file: &str) -> String {
    let out = mef(net, &["lists", "--json"]);
    let all = rows(&out.stdout);
    all.iter().find(|row| text(row, "file").ends_with(file)).map(|row| text(row, "state")).unwrap_or_default()
}

const ALLOWED: &str = "203.0.113.77\n203.0.113.78\n198.51.100.0/24\n";

/// Ways in which a list is lost without anybody meaning it, and what is said of each.
type Damage = (&'static str, fn(&Path), &'static str);
const DAMAGES: &[Damage] = &[
    (
        "two of three lines got a stray word",
        |f| put(f, b"203.0.113.77 x\n203.0.113.78 x\n198.51.100.0/24\n"),
        "more than half of its lines are bad",
    ),
    (
        "one of three lines got a stray word",
        |f| put(f, b"203.0.113.77 x\n203.0.113.78\n198.51.100.0/24\n"),
        "'x' is not known after an address",
    ),
    ("truncated", |f| put(f, b""), "it is empty, and was not"),
    ("comments are left", |f| put(f, b"# mine\n\n"), "it is empty, and was not"),
    ("UTF-16", |f| put(f, b"\xff\xfe2\x000\x003\x00"), "it is UTF-16"),
    ("compressed", |f| put(f, b"\x1f\x8b\x08\x00"), "it is compressed"),
    ("a page of an error", |f| put(f, b"<html>502</html>"), "HTML"),
    ("NULs after a crash", |f| put(f, &[0; 64]), "NUL"),
    ("a dangling link", |f| other(f, |f| symlink("/nonexistent", f).unwrap()), "No such file"),
    ("a link to itself", |f| other(f, |f| symlink(f, f).unwrap()), "ymbolic link"),
    ("a directory", |f| other(f, |f| fs::create_dir(f).unwrap()), "not a regular file"),
    (
        "a FIFO",
        |f| other(f, |f| nix::unistd::mkfifo(f, nix::sys::stat::Mode::S_IRWXU).unwrap()),
        "not a regular file",
    ),
    ("a device", |f| other(f, |f| symlink("/dev/zero", f).unwrap()), "not a regular file"),
    ("renamed over by an empty one", |f| renamed(f, b""), "it is empty, and was not"),
    ("renamed over by UTF-16", |f| renamed(f, b"\xfe\xff\x002\x000"), "it is UTF-16"),
    (
        "a gigabyte",
        |f| fs::File::options().write(true).open(f).unwrap().set_len(1 << 30).unwrap(),
        "larger than",
    ),
];

fn put(file: &Path, bytes: &[u8]) {
    fs::write(file, bytes).unwrap();
}

/// Renames a file with these bytes over it.
fn renamed(file: &Path, bytes: &[u8]) {
    let other = file.with_extension("other");
    put(&other, bytes);
    fs::rename(other, file).unwrap();
}

/// Puts something else into a file's place.
fn other(file: &Path, make: fn(&Path)) {
    fs::remove_file(file).unwrap();
    make(file);
}

fn remove(file: &Path) {
    match fs::symlink_metadata(file) {
        Ok(there) if there.is_dir() => fs::remove_dir(file).unwrap(),
        Ok(_) => fs::remove_file(file).unwrap(),
        Err(_) => {}
    }
}

/// Everybody who was allowed still is, and nobody else.
#[track_caller]
fn all_allowed(net: &Net, what: &str) {
    for addr in ["203.0.113.77", "203.0.113.78", "198.51.100.9"] {
        assert!(is_allowed(net, addr), "{what}: {addr}");
    }
    assert!(!is_allowed(net, "203.0.113.79"), "{what}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn a_damaged_allow_list_leaves_its_entries_in_force() {
    let mut net = host("", "");
    net.write("whitelist/a.conf", ALLOWED);
    let mut daemon = net.daemon("d");
    let file = net.path("whitelist/a.conf");
    for (round, (what, damage, said)) in DAMAGES.iter().enumerate() {
        let before = net.said("d").len();
        damage(&file);
        wait_until(&format!("{what}: what is said of it"), || net.said("d")[before..].contains(said));
        net.mark(LOG);
        all_allowed(&net, what);
        // The daemon knows it as well, and so does who asks.
        net.append(LOG, fails("203.0.113.77", 9));
        net.mark(LOG);
        assert!(net.banned().iter().all(|b| !b.contains("203.0.113.77")), "{what}");
        assert_ne!(state(&net, "a.conf"), "in force", "{what}");
        // Over SIGHUP, a flush by others, and a restart with the table gone.
        match round % 3 {
            0 => {
                let before = net.said("d").matches("configuration read").count();
                net.signal(daemon, libc::SIGHUP);
                wait_until("reload", || net.said("d").matches("configuration read").count() > before);
            }
            1 => {
                net.lose_table();
                net.append(LOG, fails("192.0.2.99", 9));
                wait_until("the table", || is_allowed(&net, "203.0.113.77"));
            }
            _ => {
                net.stop(daemon);
                net.lose_table();
                daemon = net.daemon("d");
            }
        }
        all_allowed(&net, what);
        remove(&file);
        put(&file, ALLOWED.as_bytes());
        wait_until(&format!("{what}: good again"), || state(&net, "a.conf") == "in force");
    }
    // The opposite: what is taken off a good file is off.
    put(&file, b"203.0.113.78\n");
    wait_until("less", || !is_allowed(&net, "203.0.113.77") && is_allowed(&net, "203.0.113.78"));
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn a_directory_that_is_moved_away_takes_nobody_along() {
    let mut net = host("", "");
    net.write("whitelist/a.conf", ALLOWED);
    net.write("blacklist/b.conf", "192.0.2.7\n");
    let daemon = net.daemon("d");
    wait_until("the deny list", || is_denied(&net, "192.0.2.7"));
    for dir in ["whitelist", "blacklist"] {
        fs::rename(net.path(dir), net.path(&format!("{dir}.x"))).unwrap();
    }
    net.wait_said("d", "whitelist does not exist: the previous content of 1 list stays in force");
    net.wait_said("d", "blacklist does not exist: b.conf: its previous content stays in force");
    all_allowed(&net, "moved");
    assert!(is_denied(&net, "192.0.2.7"));
    assert_eq!(
        (state(&net, "a.conf"), state(&net, "b.conf")),
        ("gone, previous in force".into(), "gone, previous in force".into())
    );
    // Also when the machine restarts meanwhile.
    net.stop(daemon);
    net.lose_table();
    let daemon = net.daemon("e");
    wait_until("the deny list", || is_denied(&net, "192.0.2.7"));
    all_allowed(&net, "restarted");
    for dir in ["whitelist", "blacklist"] {
        fs::rename(net.path(&format!("{dir}.x")), net.path(dir)).unwrap();
    }
    wait_until("they are back", || {
        state(&net, "a.conf") == "in force" && state(&net, "b.conf") == "in force"
    });
    // A file that is deleted is meant.
    fs::remove_file(net.path("whitelist/a.conf")).unwrap();
    fs::remove_file(net.path("blacklist/b.conf")).unwrap();
    wait_until("they are off", || !is_allowed(&net, "203.0.113.77") && !is_denied(&net, "192.0.2.7"));
    net.wait_said("e", "whitelist/a.conf was deleted: 3 entries no longer allowed");
    net.wait_said("e", "blacklist/b.conf was deleted: its entries are no longer denied");
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn a_damaged_deny_list_leaves_its_entries_in_force() {
    let mut net = host("", "");
    net.write("blacklist/a.conf", "192.0.2.7\n10.1.0.0/16\n");
    let mut daemon = net.daemon("d");
    let file = net.path("blacklist/a.conf");
    wait_until("the list", || is_denied(&net, "192.0.2.7"));
    for (round, (what, damage, said)) in DAMAGES.iter().enumerate() {
        if what.starts_with("one of three")
            || what.starts_with("two of three")
            || what.starts_with("a gigabyte")
        {
            continue;
        }
        let before = net.said("d").len();
        damage(&file);
        wait_until(&format!("{what}: what is said of it"), || {
            net.said("d")[before..].contains(&format!("{said}: its previous content stays in force"))
                || net.said("d")[before..].lines().any(|l| l.contains(said) && l.ends_with("stays in force"))
        });
        assert!(is_denied(&net, "192.0.2.7") && is_denied(&net, "10.1.2.3"), "{what}");
        assert_eq!(state(&net, "a.conf"), "refused, previous in force", "{what}");
        if round % 3 == 0 {
            net.stop(daemon);
            net.lose_table();
            daemon = net.daemon("d");
            wait_until("it is back", || is_denied(&net, "192.0.2.7") && is_denied(&net, "10.1.2.3"));
        }
        remove(&file);
        put(&file, b"192.0.2.7\n10.1.0.0/16\n");
        wait_until(&format!("{what}: good again"), || state(&net, "a.conf") == "in force");
    }
    // Bad lines are passed over as long as most are good, and what is gone from the list is gone.
    put(&file, b"192.0.2.8\n10.1.0.0/16\n192.0.2.9 x\n");
    wait_until("the good lines", || is_denied(&net, "192.0.2.8") && !is_denied(&net, "192.0.2.7"));
    assert!(!is_denied(&net, "192.0.2.9"));
    net.stop(daemon);
}

/// The daemon has given up what lets root read everything, commands have not.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn a_list_that_may_not_be_read_leaves_its_entries_in_force() {
    let mut net = host("", "");
    let files = [net.write("whitelist/a.conf", ALLOWED), net.write("blacklist/b.conf", "192.0.2.7\n")];
    let mut daemon = net.daemon("d0");
    wait_until("the deny list", || is_denied(&net, "192.0.2.7"));
    for round in 1..4 {
        for file in &files {
            std::os::unix::fs::chown(file, Some(65_534), Some(65_534)).unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(if round == 2 { 0o600 } else { 0 }))
                .unwrap();
        }
        if round == 3 {
            net.lose_table();
        } else {
            net.stop(daemon);
            net.lose_table();
            daemon = net.daemon(&format!("d{round}"));
        }
        net.append(LOG, fails("192.0.2.99", 9));
        wait_until("both", || is_denied(&net, "192.0.2.7") && is_allowed(&net, "203.0.113.77"));
        net.mark(LOG);
        all_allowed(&net, "unreadable");
        let name = format!("d{}", round.min(2));
        let before = net.said(&name).matches("configuration read").count();
        net.signal(daemon, libc::SIGHUP);
        wait_until("reload", || net.said(&name).matches("configuration read").count() > before);
        net.mark(LOG);
        all_allowed(&net, "unreadable");
        assert!(is_denied(&net, "192.0.2.7"), "{round}");
    }
    net.stop(daemon);
}

/// A disk that is full cuts a list where it likes: whoever stood behind that stays. A list that its owner has
/// shortened is taken, whether its last line has an end or not.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn a_list_that_a_full_disk_has_cut_leaves_its_entries_in_force() {
    let mut net = host("", "");
    let _disks = ["whitelist", "blacklist"].map(|dir| Disk::new(&net.path(dir), "size=64k"));
    let list: String = (0..600).map(|n| format!("198.18.{}.{}\n", n / 200, n % 200 + 1)).collect();
    let last = "198.18.2.200";
    for (dir, is_in_force) in [("whitelist", is_allowed as fn(&Net, &str) -> bool), ("blacklist", is_denied)]
    {
        let file = net.write(&format!("{dir}/a.conf"), &list);
        let daemon = net.daemon("d");
        wait_until("the list", || is_in_force(&net, last));
        // All but one page is somebody else's, who writes while it is saved.
        let mut saved = fs::File::create(&file).unwrap();
        let other = net.path(&format!("{dir}/other"));
        put(&other, &[b'#'; 15 * 4096]);
        assert!(saved.write_all(list.as_bytes()).is_err() && list.as_bytes()[4095] != b'\n');
        drop(saved);
        assert_eq!(fs::metadata(&file).unwrap().len(), 4096);
        net.wait_said("d", "it ends in the middle of a line, and its file system is full");
        assert!(is_in_force(&net, last), "{dir}");
        assert_ne!(state(&net, "a.conf"), "in force", "{dir}");
        net.stop(daemon);
        net.lose_table();
        let daemon = net.daemon("e");
        wait_until("it is back", || is_in_force(&net, last));
        fs::remove_file(&other).unwrap();
        put(&file, b"198.18.0.1\n198.18.0.2");
        wait_until("what the owner has shortened", || {
            is_in_force(&net, "198.18.0.2") && !is_in_force(&net, last)
        });
        net.stop(daemon);
        remove(&file);
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub(super) fn what_a_list_left_in_force_is_dropped_on_demand() {
    let mut net = host("", "");
    net.write("whitelist/a.conf", ALLOWED);
    net.write("blacklist/b.conf", "192.0.2.7\n");
    let daemon = net.daemon("d");
    wait_until("the deny list", || is_denied(&net, "192.0.2.7"));
    let out = mef(&net, &["lists", "--drop", "a.conf"]);
    assert!(out.status == 1 && out.stderr.contains("is good, and in force"), "{}", out.stderr);
    assert_eq!(mef(&net, &["lists", "--drop", "nothing.conf"]).status, 1);
    put(&net.path("whitelist/a.conf"), b"");
    put(&net.path("blacklist/b.conf"), b"");
    net.wait_said("d", "b.conf: it is empty, and was not");
    net.wait_said("d", "a.conf: it is empty, and was not");
    let check = mef(&net, &["check"]);
    for want in [
        "a.conf: it is empty, and was not: 3 previous entries kept in force",
        "b.conf: it is empty, and was not: its previous content stays in force",
    ] {
        assert!(check.status == 1 && check.stdout.contains(want), "{}", check.stdout);
    }
    let path = net.path("whitelist/a.conf");
    mef(&net, &["lists", "--drop", path.to_str().unwrap()]).ok();
    assert!(!is_allowed(&net, "203.0.113.77") && is_denied(&net, "192.0.2.7"));
    mef(&net, &["lists", "--drop", "b.conf"]).ok();
    assert!(!is_denied(&net, "192.0.2.7"));
    // The daemon has heard of it.
    net.append(LOG, fails("203.0.113.77", 9));
    wait_until("a ban", || net.banned().iter().any(|b| b.contains("203.0.113.77")));
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn commands_and_a_damaged_local_conf() {
    let net = Net::new();
    net.mef(&["allow", "192.0.2.1", "192.0.2.2"]).ok();
    net.mef(&["deny", "198.51.100.1"]).ok();
    // Emptied by commands is meant.
    net.mef(&["undeny", "198.51.100.1"]).ok();
    assert!(!is_denied(&net, "198.51.100.1"));
    let local = net.path("etc-mef/whitelist/local.conf");
    fs::write(&local, "192.0.2.1 x\n192.0.2.2 x\n").unwrap();
    let out = net.mef(&["allow", "192.0.2.3"]);
    assert!(out.status == 0 && out.stdout == "allowed 192.0.2.3\n", "{}", out.stderr);
    for addr in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        assert!(is_allowed(&net, addr), "{addr}");
    }
    net.mef(&["disallow", "192.0.2.1"]).ok();
    assert!(!is_allowed(&net, "192.0.2.1") && is_allowed(&net, "192.0.2.2"));
    // One who has no copy, as after an upgrade: the kernel knows.
    fs::remove_dir_all(net.path("lib/mef/lists")).unwrap();
    net.mef(&["disallow", "192.0.2.3"]).ok();
    assert!(is_allowed(&net, "192.0.2.2") && !is_allowed(&net, "192.0.2.3"));
    fs::write(net.path("etc-mef/blacklist/local.conf"), "x\ny\n").unwrap();
    let out = net.mef(&["deny", "198.51.100.1"]);
    assert!(out.status == 1 && out.stderr.contains("fix it first; nothing was changed"), "{}", out.stderr);
    assert_eq!(net.read("etc-mef/blacklist/local.conf"), "x\ny\n");
}

/// What `nft monitor` has seen: whether a rule that drops was made before all of the allow list was there.
fn first_rule_has_list(net: &Net, name: &str, entries: usize) -> Option<bool> {
    let seen = net.said(name);
    let mut there = 0;
    // Each line "# new generation" ends a transaction.
    for transaction in seen.split("# new generation").take(seen.matches("# new generation").count()) {
        let added = transaction
            .lines()
            .filter(|l| l.contains(" element inet mef_guard allow4 ") && !l.starts_with("delete"));
        there += added.map(|l| 1 + l.matches(", ").count()).sum::<usize>();
        if transaction.contains("add rule inet mef_guard hit ") {
            return Some(there >= entries);
        }
    }
    None
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_table_has_its_allow_list_before_anything_is_dropped() {
    for entries in [3u32, 1500] {
        let list: String =
            (0..entries).map(|n| format!("{}\n", std::net::Ipv4Addr::from(0xc612_0000 + 2 * n))).collect();
        let mut net = host("", "");
        net.write("whitelist/a.conf", &list);
        let count = usize::try_from(entries).unwrap();
        let mut monitors = 0;
        let mut watched = |net: &mut Net, what: &str, make: &mut dyn FnMut(&mut Net)| {
            monitors += 1;
            let name = format!("m{entries}-{monitors}");
            let command = net.command("nft", &["monitor"]);
            let monitor = net.start(&name, command);
            // Until it listens.
            wait_until("the monitor", || {
                net.nft("table ip there { }; delete table ip there");
                net.said(&name).contains("add table ip there")
            });
            net.cmd("nft", &["flush", "ruleset"]).ok();
            make(net);
            wait_until(&format!("the table by {what}"), || first_rule_has_list(net, &name, count).is_some());
            assert_eq!(first_rule_has_list(net, &name, count), Some(true), "{what}, {entries}");
            net.signal(monitor, libc::SIGKILL);
            net.wait(monitor);
        };
        watched(&mut net, "mef ban", &mut |net| drop(mef(net, &["ban", "192.0.2.99"]).ok()));
        watched(&mut net, "mef deny", &mut |net| drop(mef(net, &["deny", "192.0.2.98"]).ok()));
        let mut daemon = None;
        watched(&mut net, "the daemon's start", &mut |net| daemon = Some(net.daemon("d")));
        watched(&mut net, "a repair", &mut |net| net.append(LOG, fails("192.0.2.97", 9)));
        for n in [0, entries - 1] {
            let addr = std::net::Ipv4Addr::from(0xc612_0000 + 2 * n).to_string();
            wait_until("the first and the last", || is_allowed(&net, &addr));
        }
        // A change of a long list cuts nobody off who is in both, and nothing is written twice.
        net.write("whitelist/a.conf", &list.replacen("198.18.0.0\n", "198.18.0.0/30\n", 1));
        wait_until("the change", || is_allowed(&net, "198.18.0.3"));
        assert!(is_allowed(&net, "198.18.0.4"));
        net.stop(daemon.unwrap());
    }
}
