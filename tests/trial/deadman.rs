//! Rules on trial when every process of it is gone: the kernel brings the previous ones back by itself,
//! confirming works as long as the time lasts, and a reboot loads nothing that nobody confirmed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::world::Fate::{Lost, Passes};
use common::world::Kind::Udp;
use common::world::{Packet, RULES, Spot, World, packet};
use common::{Net, ns, wait_until};
use std::fs;
use std::process::{Child, Stdio};

/// Port 1000 passes with the previous rules, 1001 with the new ones.
const PREVIOUS: &str = "policy dir=in action=drop
set name=trial family=any type=addr elements=192.0.2.0/24,2001:db8::/64
set name=abcdefghijklm family=any type=addr elements=192.0.2.0/24,2001:db8::/64
rule dir=in action=accept proto=udp dport=1000 src=@trial,@abcdefghijklm limit=1000/s/src burst=500
";
const NEW: &str = "policy dir=in action=drop
set name=trial family=any type=addr elements=192.0.2.0/24,2001:db8::/64
set name=abcdefghijklm family=any type=addr elements=192.0.2.0/24,2001:db8::/64
rule dir=in action=accept proto=udp dport=1001 src=@trial,@abcdefghijklm,203.0.113.1,203.0.113.9 \
limit=1000/s/src burst=500
";
const OLD: Packet = packet(Udp, Spot::Friend);

/// Whether the previous rules decide, and not the new ones, for both families.
fn previous(world: &mut World) -> bool {
    let (old, new) = ([Passes, Passes, Lost, Lost], [Lost, Lost, Passes, Passes]);
    let packets = [OLD, OLD.in_v6(), OLD.port(1001), OLD.in_v6().port(1001)];
    let mut fates = packets.map(|packet| world.judge(packet));
    for _ in 0..4 {
        if fates == old || fates == new {
            break;
        }
        // The kernel may have changed over between two of the packets, and a busy machine may lose one.
        fates = packets.map(|packet| world.judge(packet));
    }
    assert!(fates == old || fates == new, "{fates:?}: neither the previous rules nor the new ones");
    fates == old
}

fn listed(net: &Net) -> String {
    net.rule_set()
}

/// A world with the previous rules; those of a trial are in a file.
fn world() -> (World, String) {
    let world = World::new();
    world.net.write("mef.rules", &[RULES, NEW].concat());
    world.load(PREVIOUS);
    let before = listed(&world.net);
    (world, before)
}

fn file(world: &World) -> String {
    world.net.path("mef.rules").to_str().unwrap().to_owned()
}

fn trial(world: &World, time: &str) -> Child {
    let mut command = world.net.mef_command(&["load", "--confirm", time, &file(world)]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the trial", || world.net.has_trial());
    child
}

/// The processes of a trial: they run in a directory tree of their own, which only this test has.
fn processes(net: &Net) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap();
    let pids = pids.filter_map(|e| e.unwrap().file_name().to_str()?.parse::<u32>().ok());
    let mine = |pid: &u32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains("--confirm\0") && line.contains(net.dir.to_str().unwrap())
    };
    pids.filter(mine).collect()
}

/// Kills every process of a trial with SIGKILL, and waits until they are gone.
fn kill_all(net: &Net, mut loader: Child) {
    // None of them is to see the end of another one.
    for signal in [libc::SIGSTOP, libc::SIGKILL] {
        processes(net).into_iter().for_each(|pid| ns::kill(pid, signal));
    }
    loader.wait().unwrap();
    wait_until("their end", || processes(net).is_empty());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn the_kernel_brings_the_previous_rules_back_by_itself() {
    let (mut world, before) = world();
    let child = trial(&world, "4s");
    kill_all(&world.net, child);
    fs::remove_dir_all(world.net.path("run/mef")).unwrap();
    wait_until("the previous rules", || previous(&mut world));
    // The next command tidies up.
    assert!(world.net.has_trial());
    let late = world.net.mef(&["confirm"]);
    assert!(late.status == 1 && late.stderr.contains("too late"), "{late:?}");
    assert_eq!(listed(&world.net), before);
    world.net.mef(&["load", &file(&world)]).ok();
    assert!(!previous(&mut world));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn without_a_watcher_the_rules_can_be_confirmed() {
    let (mut world, _) = world();
    let child = trial(&world, "1h");
    kill_all(&world.net, child);
    fs::remove_dir_all(world.net.path("run/mef")).unwrap();
    // What is on trial stays so while its time lasts, and is known without any file.
    let out = world.net.mef(&["load", &file(&world)]);
    assert!(out.status == 1 && out.stderr.contains("rules are pending confirmation"), "{out:?}");
    world.net.mef(&["confirm"]).ok();
    assert!(!previous(&mut world));
    let confirmed = listed(&world.net);
    assert!(
        !world.net.has_trial() && !confirmed.contains("dports 1000") && !confirmed.contains("dport 1000"),
        "{confirmed}"
    );
    // They are what `mef load` makes of them.
    world.net.mef(&["load", &file(&world)]).ok();
    assert_eq!(listed(&world.net), confirmed);
    let again = world.net.mef(&["confirm"]);
    assert!(again.status == 1 && again.stderr.contains("no rules are pending confirmation"), "{again:?}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn a_watcher_that_stands_still_holds_nothing_up() {
    let (mut world, before) = world();
    let child = trial(&world, "2s");
    processes(&world.net).into_iter().for_each(|pid| ns::kill(pid, libc::SIGSTOP));
    wait_until("the previous rules", || previous(&mut world));
    kill_all(&world.net, child);
    world.net.mef(&["confirm"]);
    assert_eq!(listed(&world.net), before);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn a_reboot_loads_nothing_that_nobody_confirmed() {
    let (mut world, _) = world();
    let reboot = |world: &World| {
        world.net.lose_rules();
        world.net.mef(&["load", "--boot", &file(world)])
    };
    // No trial: the file.
    world.net.write("mef.rules", &[RULES, PREVIOUS].concat());
    reboot(&world).ok();
    assert!(previous(&mut world));
    // A trial, cut short by the reboot; and the next reboot, too.
    world.net.write("mef.rules", &[RULES, NEW].concat());
    let child = trial(&world, "1h");
    kill_all(&world.net, child);
    for _ in 0..2 {
        let out = reboot(&world);
        assert!(out.status == 0 && out.stderr.contains("nobody has confirmed"), "{out:?}");
        assert!(previous(&mut world));
    }
    // A trial that ended without anybody's word is no more confirmed than that.
    assert_eq!(world.net.mef(&["load", "--confirm", "1s", &file(&world)]).status, 1);
    assert!(reboot(&world).stderr.contains("nobody has confirmed"));
    assert!(previous(&mut world));
    // Confirmed ones are loaded, and so is what somebody loads for good.
    let child = trial(&world, "1h");
    world.net.mef(&["confirm"]).ok();
    let _ = child.wait_with_output();
    let out = reboot(&world);
    assert!(out.status == 0 && !out.stderr.contains("confirmed"), "{out:?}");
    assert!(!previous(&mut world));
    assert_eq!(world.net.mef(&["load", "--confirm", "1s", &file(&world)]).status, 1);
    world.net.write("mef.rules", &[RULES, PREVIOUS].concat());
    world.net.mef(&["load", &file(&world)]).ok();
    let out = reboot(&world);
    assert!(out.status == 0 && !out.stderr.contains("confirmed"), "{out:?}");
    assert!(previous(&mut world));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn where_nothing_was_ever_confirmed_a_reboot_after_a_trial_loads_nothing() {
    let world = World::new();
    world.net.write("mef.rules", &[RULES, NEW].concat());
    let mut command = world.net.mef_command(&["load", "--confirm", "1h", &file(&world)]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the trial", || world.net.has_trial());
    kill_all(&world.net, child);
    world.net.lose_rules();
    let out = world.net.mef(&["load", "--boot", &file(&world)]);
    assert!(out.status == 1 && out.stderr.contains("never confirmed"), "{out:?}");
    assert_eq!(listed(&world.net), "");
}

/// Rules that an older program loaded were never kept as a file: they are read from the kernel when a trial
/// begins.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn rules_that_were_kept_nowhere_are_kept_when_a_trial_begins() {
    let (mut world, _) = world();
    fs::remove_dir_all(world.net.path("lib/mef")).unwrap();
    let child = trial(&world, "1h");
    kill_all(&world.net, child);
    world.net.lose_rules();
    world.net.mef(&["load", "--boot", &file(&world)]).ok();
    assert!(previous(&mut world));
}

/// What others do to the table during a trial does not keep the previous rules away.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn a_table_that_is_deleted_during_a_trial_is_loaded_again_at_its_end() {
    let (mut world, before) = world();
    // Long enough for the rules to be lost before it is over, on a slow machine too.
    let mut child = trial(&world, "10s");
    // In one go for those who watch.
    processes(&world.net).into_iter().for_each(|pid| ns::kill(pid, libc::SIGSTOP));
    world.net.lose_rules();
    processes(&world.net).into_iter().for_each(|pid| ns::kill(pid, libc::SIGCONT));
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(previous(&mut world));
    assert_eq!(listed(&world.net), before);
}

/// What is shown during a trial is the previous rules; includes are kept in their places.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn what_is_shown_and_kept() {
    let (world, before) = world();
    let export = world.net.mef(&["export"]).ok();
    let child = trial(&world, "1h");
    assert_eq!(world.net.mef(&["export"]).ok(), export);
    kill_all(&world.net, child);
    world.net.lose_rules();
    world.net.write("a.rules", "rule dir=in action=accept proto=tcp dport=2 # two");
    world.net.write("b.rules", "# nothing\r\n");
    world.net.write("list.txt", "192.0.2.9 # one\n198.51.100.0/24, 192.0.2.10\n\n");
    let text = "policy dir=in action=drop\ninclude file=[ab].rules\n include file=c*.rules # none\n\
                set name=some family=ip type=addr file=list.txt\n\
                rule dir=in action=accept proto=tcp dport=3 src=@some";
    world.net.write("mef.rules", text);
    world.net.mef(&["load", &file(&world)]).ok();
    assert_eq!(
        world.net.read("lib/mef/confirmed.rules"),
        "policy dir=in action=drop\nrule dir=in action=accept proto=tcp dport=2 # two\n# nothing\n\
         set name=some family=ip type=addr elements=192.0.2.9-192.0.2.10,198.51.100.0/24\n\
         rule dir=in action=accept proto=tcp dport=3 src=@some\n"
    );
    assert_ne!(listed(&world.net), before);
}
