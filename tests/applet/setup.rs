//! `mef setup` in trees that do not run: what it writes, what it leaves alone, and what is left when it is
//! taken away. `init.rs` has the init systems themselves.
#![allow(clippy::unwrap_used, reason = "tests")]

use crate::common;

use common::{Net, Output};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const INITS: [&str; 8] = ["systemd", "openrc", "runit", "s6", "procd", "sysvinit", "busybox", "none"];

/// A tree with a program of another processor in it, removed at the end.
pub(super) struct Tree(pub(super) PathBuf);

impl Tree {
    pub(super) fn new(name: &str) -> Tree {
        let at = std::env::temp_dir().join(format!("mef-setup-{name}-{}", std::process::id()));
        let tree = Tree(at);
        tree.empty();
        tree
    }

    /// As it was at the beginning.
    pub(super) fn empty(&self) {
        let _ = fs::remove_dir_all(&self.0);
        self.put("usr/sbin/mef", "\x7fELF of another processor");
        for dir in ["etc/init.d", "etc/logrotate.d", "usr/share/man", "sbin", "tmp"] {
            fs::create_dir_all(self.0.join(dir)).unwrap();
        }
        self.put("etc/inittab", "::sysinit:/bin/mount -a\n::sysinit:/etc/init.d/rcS\n::respawn:-/bin/sh\n");
        self.put("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
        self.put("etc/group", "root:x:0:\n");
    }

    pub(super) fn put(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn text(&self, path: &str) -> String {
        fs::read_to_string(self.0.join(path)).unwrap_or_default()
    }

    pub(super) fn setup(&self, args: &[&str]) -> Output {
        let mut command = Command::new(common::mef_binary());
        let out = command.args(["setup", "--root", self.0.to_str().unwrap()]).args(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Output { status: out.status.code().unwrap_or(-1), stdout: text(out.stdout), stderr: text(out.stderr) }
    }

    /// Every path below with what it is.
    pub(super) fn all(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        walk(&self.0, &self.0, &mut found);
        found
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// How the list of what was written names a content.
pub(super) fn number(text: &str) -> String {
    let key = [0x6d65_6620_7365_7475, 0x7020_6669_6c65_7321];
    format!("{:016x}", mef::base::siphash::sip13(key, text.as_bytes()))
}

fn walk(root: &Path, dir: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let facts = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        if facts.is_dir() {
            walk(root, &path, found);
        } else if facts.is_symlink() {
            found.insert(name, format!("-> {}", fs::read_link(&path).unwrap().display()));
        } else {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            found.insert(name, format!("{:o} {text}", facts.mode() & 0o7777));
        }
    }
}

#[test]
fn set_up_twice_is_set_up_once_and_purged_is_as_before() {
    for init in INITS {
        let tree = Tree::new(&format!("twice-{init}"));
        let before = tree.all();
        let plan = tree.setup(&["--init", init, "--dry-run"]).ok();
        assert!(
            plan.contains("write    /etc/mef/mef.conf") && plan.contains("nothing was changed"),
            "{plan}"
        );
        assert!(tree.all() == before, "{init}: --dry-run");
        let said = tree.setup(&["--init", init]).ok();
        assert!(said.contains("mef setup --remove"), "{said}");
        let after = tree.all();
        assert_ne!(after, before);
        assert!(!after.keys().any(|path| path.ends_with(".new")), "{after:?}");
        tree.setup(&["--init", init, "--upgrade"]).ok();
        assert!(tree.all() == after, "{init}: again");
        // Which init system it was is known.
        tree.setup(&["--remove"]).ok();
        let mut kept = tree.all();
        kept.retain(|path, _| !path.starts_with("etc/mef/"));
        // What there is of bans belongs to the user.
        for file in ["etc/passwd", "etc/group"] {
            assert_ne!(kept.get(file), before.get(file), "{init}");
            kept.insert(file.into(), before[file].clone());
        }
        assert!(kept == before, "{init}: removed");
        assert!(tree.text("etc/mef/mef.conf").contains("[global]"), "the configuration stays");
        tree.setup(&["--init", init]).ok();
        assert!(tree.all() == after, "{init}: set up again");
        tree.setup(&["--remove", "--purge"]).ok();
        assert!(tree.all() == before, "{init}: purged");
        assert_eq!(tree.setup(&["--remove", "--purge", "--init", init]).status, 0, "purged twice");
    }
}

#[test]
fn what_somebody_has_changed_is_never_overwritten_and_the_rest_is() {
    let tree = Tree::new("changed");
    tree.setup(&["--init", "systemd"]).ok();
    let unit = "etc/systemd/system/mef.service";
    // One is changed by the administrator, one is as a previous version wrote it.
    let mine = format!("{}# mine\n", tree.text(unit));
    tree.put(unit, &mine);
    fs::set_permissions(tree.0.join(unit), fs::Permissions::from_mode(0o600)).unwrap();
    let previous = tree.text("usr/share/man/man8/mef.8").replace("ban", "BAN");
    tree.put("usr/share/man/man8/mef.8", &previous);
    let number = number(&previous);
    let manifest: String = tree
        .text("etc/mef/.setup")
        .lines()
        .map(|line| {
            if line.ends_with("/mef.8") {
                format!("{number} /usr/share/man/man8/mef.8\n")
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    tree.put("etc/mef/.setup", &manifest);
    let said = tree.setup(&["--init", "systemd", "--upgrade"]).ok();
    assert_eq!(tree.text(unit), mine);
    assert!(tree.text(&format!("{unit}.new")).contains("Type=notify"), "the new version is beside");
    assert!(
        said.contains("you changed it; the new version is /etc/systemd/system/mef.service.new"),
        "{said}"
    );
    assert!(said.contains("update   /usr/share/man/man8/mef.8"), "{said}");
    assert_eq!(tree.text("usr/share/man/man8/mef.8"), include_str!("../../rootfs/usr/share/man/man8/mef.8"));
    // Without the list of what was written, a file that differs counts as changed.
    fs::remove_file(tree.0.join("etc/mef/.setup")).unwrap();
    tree.put("usr/share/man/man8/mef.8", &previous);
    tree.setup(&["--init", "systemd"]).ok();
    assert_eq!(tree.text("usr/share/man/man8/mef.8"), previous);
    // It stays when the rest is removed, and what is beside it goes.
    let said = tree.setup(&["--remove"]).ok();
    assert!(said.contains("keep     /etc/systemd/system/mef.service: you changed it"), "{said}");
    assert_eq!(tree.text(unit), mine);
    assert!(!tree.0.join(format!("{unit}.new")).exists());
}

#[test]
fn from_one_init_system_to_another_nothing_of_the_former_is_left() {
    let (next, after) = (INITS.iter().cycle().skip(1), INITS.iter().cycle().skip(3));
    let pairs = INITS.iter().zip(next).chain(INITS.iter().zip(after));
    for (former, init) in pairs.flat_map(|(a, b)| [(*a, *b), (*b, *a)]) {
        let tree = Tree::new(&format!("from-{former}-{init}"));
        tree.setup(&["--init", init]).ok();
        let alone = tree.all();
        tree.setup(&["--remove", "--purge"]).ok();
        tree.setup(&["--init", former]).ok();
        tree.setup(&["--init", init]).ok();
        let mut now = tree.all();
        // What is added to the configuration of a router stays: it is configuration.
        if former == "procd" || init == "procd" {
            now.insert("etc/mef/mef.conf".into(), alone["etc/mef/mef.conf"].clone());
            now.insert("etc/mef/.setup".into(), alone["etc/mef/.setup"].clone());
        }
        now.retain(|path, _| !path.ends_with("mef.conf.new"));
        assert!(now == alone, "from {former} to {init}: {:?}", now.keys());
    }
}

#[test]
fn what_is_put_beside_a_script_can_be_run() {
    let tree = Tree::new("beside");
    tree.setup(&["--init", "openrc"]).ok();
    let script = tree.0.join("etc/init.d/mef");
    fs::write(&script, "#!/bin/sh\n# mine\n").unwrap();
    fs::write(tree.0.join("usr/share/man/man8/mef.8"), "mine\n").unwrap();
    tree.setup(&["--init", "openrc"]).ok();
    let mode = |path: &str| fs::metadata(tree.0.join(path)).unwrap().mode() & 0o777;
    assert_eq!(
        (mode("etc/init.d/mef.new"), mode("usr/share/man/man8/mef.8.new")),
        (0o755, 0o644),
        "as the files themselves"
    );
}

#[test]
fn links_of_an_image_lead_into_it_and_are_never_written_through() {
    let tree = Tree::new("links");
    let outside = Tree::new("links-outside");
    // As in images: /etc/systemd on another part of it, by a path from its root.
    fs::create_dir_all(tree.0.join("data/systemd")).unwrap();
    symlink("/data/systemd", tree.0.join("etc/systemd")).unwrap();
    // A file that is a link stays one.
    fs::create_dir_all(tree.0.join("etc/mef")).unwrap();
    symlink(outside.0.join("target"), tree.0.join("etc/mef/mef.conf")).unwrap();
    symlink("../../../../../../tmp/up", tree.0.join("etc/mef/mef.rules")).unwrap();
    let said = tree.setup(&["--init", "systemd"]).ok();
    assert!(tree.text("data/systemd/system/mef.service").contains("Type=notify"), "{said}");
    assert!(said.contains("keep     /etc/mef/mef.conf: it is a link"), "{said}");
    assert!(!outside.0.join("target").exists());
    assert!(fs::symlink_metadata(tree.0.join("etc/mef/mef.rules")).unwrap().is_symlink());
    // What stands in the place of a temporary file, too.
    symlink(outside.0.join("target"), tree.0.join("data/systemd/system/.mef-setup.new")).unwrap();
    fs::remove_file(tree.0.join("data/systemd/system/mef.service")).unwrap();
    tree.setup(&["--init", "systemd"]).ok();
    assert!(tree.text("data/systemd/system/mef.service").contains("Type=notify"));
    assert!(!outside.0.join("target").exists());
    // A circle of links ends.
    fs::remove_file(tree.0.join("etc/systemd")).unwrap();
    symlink("systemd", tree.0.join("etc/systemd")).unwrap();
    let output = tree.setup(&["--init", "systemd"]);
    assert!(output.status == 1 && output.stderr.contains("too many links"), "{output:?}");
}

#[test]
fn the_init_system_is_found_in_a_tree_or_asked_for() {
    let cases: [(&str, &[(&str, &str)]); 7] = [
        ("systemd", &[("sbin/init", "-> /lib/systemd/systemd")]),
        ("busybox", &[("sbin/init", "-> ../bin/busybox")]),
        ("runit", &[("sbin/init", "-> runit-init")]),
        ("procd", &[("sbin/procd", ""), ("sbin/init", "-> procd")]),
        (
            "openrc",
            &[
                ("sbin/openrc-run", ""),
                ("sbin/init", "-> /bin/busybox"),
                ("etc/inittab", "::sysinit:/sbin/openrc sysinit\n"),
            ],
        ),
        ("sysvinit", &[("sbin/init", ""), ("etc/inittab", "id:2:initdefault:\n")]),
        ("s6", &[("sbin/init", "-> /etc/s6-linux-init/current/bin/s6-linux-init")]),
    ];
    for (init, files) in cases {
        let tree = Tree::new(&format!("find-{init}"));
        fs::remove_file(tree.0.join("etc/inittab")).unwrap();
        for (path, what) in files {
            match what.strip_prefix("-> ") {
                Some(target) => symlink(target, tree.0.join(path)).unwrap(),
                None => tree.put(path, what),
            }
        }
        let said = tree.setup(&["--dry-run"]).ok();
        assert!(said.starts_with(&format!("init system: {init} (")), "{init}: {said}");
    }
    let tree = Tree::new("find-none");
    let output = tree.setup(&[]);
    assert!(
        output.status == 1 && output.stderr.contains("name it with --init, one of systemd, openrc"),
        "{output:?}"
    );
    for (args, what) in [
        (["--init", "launchd"].as_slice(), "--init: expected auto, systemd"),
        (&["--purge"], "--purge goes with --remove"),
        (&["--remove", "--load"], "--remove goes with"),
        (&["--allow", "friend"], "--allow: 'friend' is not an address"),
    ] {
        let output = tree.setup(args);
        assert!(output.status == 2 && output.stderr.contains(what), "{output:?}");
    }
    assert_eq!(tree.all().keys().filter(|path| path.starts_with("etc/mef")).count(), 0);
    fs::remove_file(tree.0.join("usr/sbin/mef")).unwrap();
    let output = tree.setup(&["--init", "none"]);
    assert!(output.status == 1 && output.stderr.contains("copy the program"), "{output:?}");
}

#[test]
fn the_rule_set_lets_ssh_in_where_the_image_has_it() {
    let tree = Tree::new("ports");
    tree.put("etc/ssh/sshd_config", "#Port 22\nPort 2222\n");
    tree.put("etc/ssh/sshd_config.d/more.conf", "Port 2200\n");
    tree.put("usr/local/sbin/x", "");
    tree.setup(&["--init", "none", "--load", "--allow", "192.0.2.7"]).ok();
    assert!(tree.text("etc/mef/mef.rules").contains("dport=2200,2222 comment=\"ssh\""));
    assert_eq!(tree.text("var/lib/mef/confirmed.rules"), tree.text("etc/mef/mef.rules"));
    assert_eq!(tree.text("etc/mef/whitelist/local.conf"), "192.0.2.7\n");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_set_up_that_fails_in_the_middle_is_completed_by_the_next_one() {
    let net = Net::new();
    let disk = common::ns::Disk::new(&net.path("disk"), "size=56k");
    let tree = Tree(net.path("disk/tree"));
    tree.put("usr/sbin/mef", "");
    fs::create_dir_all(tree.0.join("usr/share/man")).unwrap();
    let output = tree.setup(&["--init", "systemd"]);
    assert_eq!(output.status, 1, "{output:?}");
    assert!(
        output.stderr.contains("not done: write    /usr/share/man/man8/mef.8: No space left"),
        "{output:?}"
    );
    assert!(output.stderr.contains("not done: link     /etc/systemd"), "{output:?}");
    assert!(output.stdout.contains("\ndone:\n  write    /etc/"), "{output:?}");
    // What there is is whole.
    let whole = |path: &str, text: &str| {
        let there = tree.text(path);
        assert!(there.is_empty() || there == text, "{path}: {there}");
    };
    whole("etc/mef/mef.conf", include_str!("../../rootfs/etc/mef/mef.conf"));
    whole("usr/share/man/man8/mef.8", include_str!("../../rootfs/usr/share/man/man8/mef.8"));
    assert!(!tree.all().keys().any(|path| path.contains(".mef-setup.new")));
    disk.read_only(true);
    let output = tree.setup(&["--init", "systemd"]);
    assert!(output.status == 1 && output.stderr.contains("Read-only file system"), "{output:?}");
    disk.read_only(false);
    let room = net.path("disk");
    net.cmd("mount", &["-o", "remount,size=1m", room.to_str().unwrap()]).ok();
    tree.setup(&["--init", "systemd"]).ok();
    assert_eq!(tree.text("usr/share/man/man8/mef.8"), include_str!("../../rootfs/usr/share/man/man8/mef.8"));
    assert!(tree.all().contains_key("etc/systemd/system/multi-user.target.wants/mef.service"));
    assert!(!tree.all().keys().any(|path| path.ends_with(".new")));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn nothing_is_written_where_others_can_write() {
    let tree = Tree::new("others");
    fs::create_dir_all(tree.0.join("etc/mef")).unwrap();
    std::os::unix::fs::chown(tree.0.join("etc/mef"), Some(1000), None).unwrap();
    let output = tree.setup(&["--init", "none"]);
    assert!(output.status == 1 && output.stderr.contains("users other than root can write"), "{output:?}");
    assert_eq!(tree.text("etc/mef/mef.conf"), "");
    // A file keeps its owner.
    std::os::unix::fs::chown(tree.0.join("etc/mef"), Some(0), None).unwrap();
    tree.setup(&["--init", "busybox"]).ok();
    std::os::unix::fs::chown(tree.0.join("etc/inittab"), Some(1000), Some(1000)).unwrap();
    tree.setup(&["--remove"]).ok();
    let facts = fs::metadata(tree.0.join("etc/inittab")).unwrap();
    assert_eq!((facts.uid(), facts.gid(), facts.mode() & 0o777), (1000, 1000, 0o644));
}

#[test]
fn runit_of_debian_loads_the_rule_set_by_a_script_of_system_v() {
    let tree = Tree::new("runit-debian");
    tree.put("lib/runit/run_sysv_scripts", "");
    tree.put("etc/runit/runsvdir/default/other", "");
    for dir in ["etc/rcS.d", "etc/rc2.d"] {
        fs::create_dir_all(tree.0.join(dir)).unwrap();
    }
    let before = tree.all();
    tree.setup(&["--init", "runit"]).ok();
    let after = tree.all();
    assert_eq!(after["etc/rcS.d/S12mef-rules"], "-> ../init.d/mef-rules");
    assert_eq!(after["etc/runit/runsvdir/default/mef"], "-> /etc/sv/mef");
    assert!(tree.text("etc/init.d/mef-rules").contains("load --boot"));
    assert!(!after.contains_key("etc/init.d/mef") && !after.contains_key("etc/rc2.d/S02mef"), "{after:?}");
    // With the number that somebody who orders these links has given it, it goes, too.
    fs::rename(tree.0.join("etc/rcS.d/S12mef-rules"), tree.0.join("etc/rcS.d/S07mef-rules")).unwrap();
    tree.setup(&["--remove", "--purge"]).ok();
    assert!(tree.all() == before, "{:?}", tree.all().keys());
}

#[test]
fn files_of_the_host_keep_what_is_no_utf8() {
    let tree = Tree::new("latin1");
    let files = [
        ("etc/passwd", &b"root:x:0:0:root:/root:/bin/sh\nren\xe9:x:1000:1000:Ren\xe9:/:/bin/sh\n"[..]),
        ("etc/inittab", b"# d\xe9marrage\n::sysinit:/etc/init.d/rcS\n"),
    ];
    files.iter().for_each(|(path, text)| fs::write(tree.0.join(path), text).unwrap());
    tree.setup(&["--init", "busybox"]).ok();
    for (path, text) in files {
        let now = fs::read(tree.0.join(path)).unwrap();
        assert!(now.starts_with(&text[..text.len() - 28]) && now.len() > text.len(), "{path}");
    }
    tree.setup(&["--remove", "--purge"]).ok();
    for (path, text) in files {
        assert_eq!(fs::read(tree.0.join(path)).unwrap(), text, "{path}");
    }
}

#[test]
fn the_plan_counts_what_is_right_already() {
    let tree = Tree::new("right");
    tree.put("etc/mef/mef.conf", include_str!("../../rootfs/etc/mef/mef.conf"));
    let plan = tree.setup(&["--init", "none", "--dry-run"]).ok();
    assert!(plan.contains("\n  1 file is as it should be\n"), "{plan}");
    tree.setup(&["--init", "none"]).ok();
    let plan = tree.setup(&["--init", "none", "--dry-run"]).ok();
    assert!(plan.contains(" files are as they should be\n"), "{plan}");
}
