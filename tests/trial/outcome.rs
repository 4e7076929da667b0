//! Rules on trial: whatever happens to who loads them, the host ends with the new rules confirmed or the
//! previous ones, and never with anything in between.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::backend::is_fallback;
use common::{Net, Output, ns, wait_for, wait_until};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Longer than any test lasts.
const LONG: &str = "1h";
const PREVIOUS: &str = "policy dir=in action=drop
set name=friends family=any type=addr elements=192.0.2.0/24,198.51.100.7-198.51.100.9,2001:db8::/32,10.0.0.1
set name=web family=any type=port elements=80,443,8000-8010
rule dir=in action=accept proto=all ct=established,related
rule dir=in action=accept proto=icmp6
rule dir=in action=accept proto=tcp dport=@web src=@friends,203.0.113.0/24 comment=\"friends of \\\"ours\\\"\"
rule dir=in action=accept proto=tcp dport=22 limit=10/m/src burst=7
rule dir=fwd action=reject proto=all iif=ppp*,wan log=prefix:fwd ratelimit=5/m
";
const NEW: &str = "policy dir=in action=accept\nrule dir=in action=drop proto=udp dport=9\n";

/// A host with `FORMER` loaded, and its listing.
fn host() -> (Net, String) {
    let net = Net::new();
    net.write("new.rules", NEW);
    net.mef_input(&["load", "-"], PREVIOUS.as_bytes()).ok();
    let previous = listed(&net);
    assert!(
        previous.contains("friends.4")
            && previous.contains(if is_fallback() { "log-prefix" } else { "log prefix" }),
        "{previous}"
    );
    (net, previous)
}

fn listed(net: &Net) -> String {
    if is_fallback() { net.rule_set() } else { net.nft_list("table inet mef") }
}

fn is_new(net: &Net) -> bool {
    let listed = listed(net);
    if is_fallback() {
        // Chains come before what leads to them, in both families.
        let in_force = |line: &&str| line.starts_with("-A mefr_in") && line.contains("mefr_t");
        let trial = listed.lines().filter(in_force).count();
        return listed.contains("--dports 9") && (trial == 2 || !net.has_trial());
    }
    listed.contains("udp dport 9")
}

fn trial(net: &Net, time: &str) -> Command {
    let mut command = net.mef_command(&["load", "--confirm", time, net.path("new.rules").to_str().unwrap()]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ended(mut child: Child) -> Output {
    let status = wait_for("the end of a trial", || child.try_wait().unwrap()).code().unwrap_or(-1);
    let mut text = [String::new(), String::new()];
    child.stdout.take().unwrap().read_to_string(&mut text[0]).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut text[1]).unwrap();
    let [stdout, stderr] = text;
    Output { status, stdout, stderr }
}

/// Begins a trial, and waits until its rules are in force.
fn begun(net: &Net, mut command: Command) -> Child {
    let child = command.spawn().unwrap();
    wait_until("the new rules", || is_new(net));
    child
}

/// The processes that load rules for this test: the loader and its watcher.
fn processes(net: &Net) -> Vec<u32> {
    let mine = net.path("new.rules");
    let pids = fs::read_dir("/proc").unwrap().filter_map(|e| e.unwrap().file_name().to_str()?.parse().ok());
    let loads = |pid: &u32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains("--confirm\0") && line.contains(mine.to_str().unwrap())
    };
    pids.filter(loads).collect()
}

/// The one that stays: a program that is being started looks like it until it is another one.
fn watcher(net: &Net, loader: &Child) -> u32 {
    wait_for("one watcher", || {
        let others: Vec<u32> = processes(net).into_iter().filter(|pid| *pid != loader.id()).collect();
        <[u32; 1]>::try_from(others).ok().map(|[pid]| pid)
    })
}

/// Nothing of a trial is left: neither process nor socket, and rules can be loaded.
#[track_caller]
fn over(net: &Net) {
    wait_until("the end of the watcher", || processes(net).is_empty());
    assert!(!net.path("run/mef/load.sock").exists());
    let late = net.mef(&["confirm"]);
    assert!(late.status == 1 && late.stderr.contains("no rules are pending confirmation"), "{late:?}");
    net.mef(&["load", net.path("new.rules").to_str().unwrap()]).ok();
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn what_nobody_confirms_goes() {
    let (net, previous) = host();
    let begun = std::time::Instant::now();
    let out = net.run(trial(&net, "1s"));
    assert!(out.status == 1 && out.stderr.contains("the previous rules are back"), "{out:?}");
    assert!(begun.elapsed().as_millis() >= 1000, "not before its time");
    assert_eq!(listed(&net), previous);
    wait_until("a message", || {
        net.read("daemon.log").contains("the previous ones are back: nobody confirmed")
    });
    over(&net);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn what_is_confirmed_stays() {
    let (net, _) = host();
    let child = begun(&net, trial(&net, LONG));
    net.mef(&["confirm"]).ok();
    let out = ended(child);
    assert!(out.status == 0 && out.stdout.contains("1 rule"), "{out:?}");
    assert!(is_new(&net));
    over(&net);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn where_no_rules_were_none_return() {
    let net = Net::new();
    net.write("new.rules", NEW);
    net.nft("table inet other { chain c { }; }");
    assert_eq!(net.run(trial(&net, "1s")).status, 1);
    assert_eq!(listed(&net), "");
    assert!(net.nft_list("table inet other").contains("chain c"));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn one_trial_at_a_time() {
    let (net, previous) = host();
    let child = begun(&net, trial(&net, LONG));
    let path = net.path("new.rules");
    for args in [
        vec!["load", path.to_str().unwrap()],
        vec!["load", "--confirm", "5s", path.to_str().unwrap()],
        vec!["unload"],
    ] {
        let out = net.mef(&args);
        assert!(
            out.status == 1 && out.stderr.contains("pending confirmation: `mef confirm` keeps them"),
            "{out:?}"
        );
    }
    net.mef(&["check", path.to_str().unwrap()]).ok();
    net.mef(&["ban", "203.0.113.5"]).ok();
    ns::kill(child.id(), libc::SIGTERM);
    wait_until("the previous rules", || listed(&net) == previous);
    ended(child);
    assert!(net.set_text("ban4").contains("203.0.113.5"), "bans are not touched");
    over(&net);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn loads_that_meet_go_one_after_the_other() {
    let (net, _) = host();
    let path = net.path("new.rules");
    let start = || {
        let mut command = net.mef_command(&["load", path.to_str().unwrap()]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let all: Vec<Child> = (0..8).map(|_| start()).collect();
    for child in all {
        ended(child).ok();
    }
    assert!(is_new(&net));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn whoever_is_killed_the_former_rules_return() {
    let (net, previous) = host();
    for signal in [libc::SIGKILL, libc::SIGHUP, libc::SIGINT] {
        let child = begun(&net, trial(&net, LONG));
        ns::kill(child.id(), signal);
        wait_until("the previous rules", || listed(&net) == previous);
        ended(child);
        // As long as there is a watcher, another trial is turned down.
        wait_until("the end of the watcher", || processes(&net).is_empty());
    }
    // The watcher itself: told to stop it does its work first, and when it is killed the loader does it.
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        let child = begun(&net, trial(&net, LONG));
        ns::kill(watcher(&net, &child), signal);
        let out = ended(child);
        assert!(out.status == 1 && out.stderr.contains("the previous rules are back"), "{out:?}");
        assert_eq!(listed(&net), previous);
    }
    over(&net);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn the_watcher_has_a_session_of_its_own() {
    let (net, _) = host();
    let child = begun(&net, trial(&net, LONG));
    let pid = watcher(&net, &child);
    let session = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(") ").next().unwrap().split(' ').nth(3).unwrap().to_owned()
    };
    assert_ne!(session(pid), session(child.id()));
    for fd in 0..3 {
        // Its path is another one below a changed root.
        let device = |path: &str| fs::metadata(path).unwrap().rdev();
        assert_eq!(device(&format!("/proc/{pid}/fd/{fd}")), device("/dev/null"));
    }
    // Whoever reads what the loader says sees its end when the loader ends.
    let link = |pid: u32, fd: &str| fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
    let streams = [link(child.id(), "1"), link(child.id(), "2")];
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let open = open.map(|e| link(pid, e.unwrap().file_name().to_str().unwrap()));
    let kept: Vec<_> = open.filter(|to| streams.contains(to)).collect();
    assert!(kept.is_empty(), "{kept:?}");
    net.mef(&["confirm"]).ok();
    ended(child).ok();
}

/// Runs a trial on a terminal of its own; `script` is the terminal.
fn at_a_terminal(net: &Net) -> Child {
    let child = begun(net, terminal_command(net));
    asked(net);
    child
}

/// Waits for the question: what is typed before it is no answer.
fn asked(net: &Net) {
    wait_until("the question", || net.read("terminal").contains("then type yes"));
}

fn terminal_command(net: &Net) -> Command {
    let path = net.path("new.rules");
    let mef = format!("{} load --confirm {LONG} {}", common::mef_binary().display(), path.display());
    let bind = |(from, to): (&str, &str)| format!("mount --bind {} {to}", net.path(from).display());
    let places = [("run", "/run"), ("lib", "/var/lib"), ("etc-mef", "/etc/mef"), ("sbin", "/usr/local/sbin")];
    let binds = places.map(bind).join(" && ");
    let line = format!("unshare -m sh -c '{binds} && exec {mef}'");
    let mut command = net.command("script", &["-qefc", &line, net.path("terminal").to_str().unwrap()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn words_at_the_terminal() {
    let (net, previous) = host();
    let mut child = at_a_terminal(&net);
    child.stdin.as_mut().unwrap().write_all(b"what?\nno\n").unwrap();
    let out = ended(child);
    assert_eq!(out.status, 1, "{out:?}");
    assert!(out.stdout.contains("type yes to keep the rules, no to go back now"), "{out:?}");
    assert_eq!(listed(&net), previous);

    let mut child = at_a_terminal(&net);
    child.stdin.as_mut().unwrap().write_all(b"yes\n").unwrap();
    let out = ended(child);
    assert_eq!(out.status, 0, "{out:?}");
    assert!(is_new(&net));
    over(&net);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn what_was_typed_before_the_question_is_no_answer() {
    let (net, previous) = host();
    let mut command = terminal_command(&net);
    let mut child = command.spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"yes\n").unwrap();
    asked(&net);
    child.stdin.as_mut().unwrap().write_all(b"no\n").unwrap();
    let out = ended(child);
    assert_eq!(out.status, 1, "{out:?}");
    assert_eq!(listed(&net), previous);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn a_loader_that_stands_still_is_not_needed() {
    let (net, previous) = host();
    // Its trial is confirmed, or its time is up; and others may load then.
    for confirmed in [true, false] {
        let child = begun(&net, trial(&net, if confirmed { LONG } else { "1s" }));
        ns::kill(child.id(), libc::SIGSTOP);
        if confirmed {
            net.mef(&["confirm"]).ok();
        } else {
            wait_until("the previous rules", || listed(&net) == previous);
            wait_until("the end of the watcher", || processes(&net) == [child.id()]);
        }
        net.mef_input(&["load", "-"], PREVIOUS.as_bytes()).ok();
        ns::kill(child.id(), libc::SIGCONT);
        assert_eq!(ended(child).status, i32::from(!confirmed));
        assert_eq!(listed(&net), previous);
    }
    over(&net);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn tables_of_others_may_change_all_the_time() {
    let (net, previous) = host();
    net.nft("table inet other { set s { type inet_service; }; }");
    let mut others = net.command(
        "sh",
        &["-c", "while nft 'add element inet other s { 1 }; delete element inet other s { 1 }'; do :; done"],
    );
    let mut others = others.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let out = net.run(trial(&net, "1s"));
    others.kill().unwrap();
    others.wait().unwrap();
    assert!(out.status == 1 && out.stderr.contains("the previous rules are back"), "{out:?}");
    assert_eq!(listed(&net), previous);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn a_terminal_that_hangs_up_brings_the_former_rules_back() {
    let (net, previous) = host();
    let mut child = at_a_terminal(&net);
    child.kill().unwrap();
    wait_until("the previous rules", || listed(&net) == previous);
    child.wait().unwrap();
    over(&net);
}

/// A table of somebody who still has his socket open: nobody else may change it.
fn owner(net: &Net) -> Child {
    let mut nft = net.command("nft", &["-i"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let text = b"delete table inet mef\nadd table inet mef { flags owner; }\n";
    nft.stdin.as_mut().unwrap().write_all(text).unwrap();
    wait_until("the owner", || listed(net).contains("owner"));
    nft
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn what_the_kernel_refuses_is_tried_again() {
    let (net, previous) = host();
    let child = begun(&net, trial(&net, "1s"));
    let mut owner = owner(&net);
    wait_until("a message", || net.read("daemon.log").contains("cannot be restored, trying again"));
    assert!(listed(&net).contains("owner"));
    owner.kill().unwrap();
    owner.wait().unwrap();
    let out = ended(child);
    assert!(out.status == 1 && out.stderr.contains("the previous rules are back"), "{out:?}");
    assert_eq!(listed(&net), previous);
    over(&net);
}

/// The watcher is killed, and the kernel refuses what the loader puts back in its place: that is told.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn a_watcher_that_is_killed_while_the_kernel_refuses() {
    let (net, _) = host();
    let child = begun(&net, trial(&net, LONG));
    let mut owner = owner(&net);
    ns::kill(watcher(&net, &child), libc::SIGKILL);
    let out = ended(child);
    assert!(out.status == 1 && out.stderr.contains("the kernel refuses the previous rules"), "{out:?}");
    owner.kill().unwrap();
    owner.wait().unwrap();
    over(&net);
}

/// Of trials that begin at the same moment one is told that it is on trial, and the others that there is one.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn trials_that_meet() {
    let (net, previous) = host();
    let mut all: Vec<Child> = (0..6).map(|_| trial(&net, LONG).spawn().unwrap()).collect();
    wait_until("the end of all but one", || {
        all.iter_mut().filter_map(|child| child.try_wait().unwrap()).count() == 5
    });
    wait_until("the new rules", || is_new(&net));
    let (mut pending_confirmation, mut turned_away) = (Vec::new(), 0);
    for mut child in all {
        match child.try_wait().unwrap() {
            None => pending_confirmation.push(child),
            Some(_) => {
                let out = ended(child);
                turned_away +=
                    u32::from(out.status == 1 && out.stderr.contains("rules are pending confirmation"));
            }
        }
    }
    assert_eq!((pending_confirmation.len(), turned_away), (1, 5));
    ns::kill(pending_confirmation[0].id(), libc::SIGKILL);
    wait_until("the previous rules", || listed(&net) == previous);
    pending_confirmation.into_iter().for_each(|child| drop(ended(child)));
    over(&net);
}

/// Neither a trial nor anything else, while another program holds the table for itself; and it is named.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn a_table_with_an_owner_is_named_as_that() {
    let (net, _) = host();
    let mut owner = owner(&net);
    let holder = format!("the table inet mef belongs to process {} (nft)", owner.id());
    let path = net.path("new.rules");
    for out in [net.run(trial(&net, "1s")), net.mef(&["load", path.to_str().unwrap()]), net.mef(&["unload"])]
    {
        assert!(
            out.status == 1 && out.stderr.contains(&holder) && !out.stderr.contains("as root"),
            "{out:?}"
        );
    }
    assert!(listed(&net).contains("owner"));
    owner.kill().unwrap();
    owner.wait().unwrap();
    wait_until("the end of its table", || listed(&net).is_empty());
    over(&net);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn no_trial_without_a_place_for_the_watcher() {
    let (net, previous) = host();
    fs::remove_dir_all(net.path("run/mef")).unwrap();
    net.write("run/mef", "no directory");
    let out = net.run(trial(&net, "1s"));
    assert!(out.status == 1 && out.stderr.contains("no trial without /run/mef"), "{out:?}");
    assert_eq!(listed(&net), previous);
    net.mef(&["load", net.path("new.rules").to_str().unwrap()]).ok();
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn a_bad_time_or_rule_set_begins_no_trial() {
    let (net, previous) = host();
    for time in ["0", "soon", "2d", "-1", ""] {
        assert_eq!(net.run(trial(&net, time)).status, 2, "{time}");
    }
    net.write("new.rules", "rule dir=in\n");
    assert_eq!(net.run(trial(&net, "1s")).status, 1);
    assert_eq!(listed(&net), previous);
    assert!(!net.path("run/mef/load.sock").exists());
}

/// What people add to the table by hand comes back as well.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn everything_that_a_table_can_hold_returns() {
    let (net, _) = host();
    net.nft(
        r#"table inet mef {
            comment "a table"
            counter hits { packets 7 bytes 99 comment "named" }
            quota much { over 25 mbytes used 3 bytes }
            limit slow { rate 5/second burst 6 packets }
            map verdicts { type inet_service : verdict; elements = { 22 : jump extra, 25-30 : drop };
                flags interval; }
            map names { type ipv4_addr : counter; elements = { 192.0.2.9 : "hits" } }
            set pairs { type ipv4_addr . inet_service; flags interval; comment "a set";
                elements = { 192.0.2.0/24 . 80, 10.0.0.1-10.0.0.9 . 1000-2000 } }
            set timed { type ipv4_addr; timeout 1h; size 100;
                elements = { 192.0.2.1 timeout 5d expires 4d comment "one" } }
            set counted { type ipv6_addr; flags dynamic; counter;
                elements = { 2001:db8::5 counter packets 5 bytes 6 } }
            set edge { type ipv4_addr; flags interval;
                elements = { 0.0.0.0/1, 128.0.0.0/9, 255.255.255.255 } }
            set every { type inet_service; flags interval; elements = { 0-65535 } }
            chain extra { comment "a chain"; tcp dport 1-5 counter name "hits" return; meta mark set 5; }
            chain early { type filter hook prerouting priority -5; policy accept;
                ct state vmap { new : goto extra, invalid : drop }; }
            chain address { type nat hook postrouting priority srcnat; ip saddr 10.0.0.0/8 masquerade; }
            chain input { tcp dport vmap @verdicts;
                ip saddr . tcp dport @pairs counter packets 11 bytes 1100 accept;
                add @counted { ip6 saddr counter }; quota name "much" drop; ip saddr @edge drop;
                    tcp sport != { 1-3, 9 } accept; }
        }"#,
    );
    // The time that an element had left when the trial began is what it gets back.
    let plain = |text: &str| {
        let words = text
            .split_inclusive(' ')
            .map(|w| if w.starts_with("4d") || w.starts_with("3d") { "T " } else { w });
        words.collect::<String>()
    };
    // With what has been counted.
    let listed = |net: &Net| net.nft_list("table inet mef");
    let before = plain(&listed(&net));
    for part in [
        "packets 11",
        "vmap @verdicts",
        "expires T",
        "srcnat",
        "used 3 bytes",
        "goto extra",
        "255.255.255.255",
    ] {
        assert!(before.contains(part), "{part}: {before}");
    }
    assert_eq!(net.run(trial(&net, "1s")).status, 1);
    assert_eq!(plain(&listed(&net)), before);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn ten_thousand_rules_return() {
    let net = Net::new();
    let line = |i: u32| {
        // The kernel reads through all sets for each new one: a list in every rule would take it ten seconds.
        let list = if i.is_multiple_of(10) { ",192.0.2.7" } else { "" };
        let (port, a, b) = (i + 1, i / 250, i % 250);
        format!("rule dir=in action=accept proto=tcp dport={port} src=10.{a}.{b}.0/24{list}\n")
    };
    let rules: String = (0..10_000).map(line).collect();
    net.write("new.rules", NEW);
    net.mef_input(&["load", "-"], rules.as_bytes()).ok();
    let before = listed(&net);
    assert_eq!(net.run(trial(&net, "1s")).status, 1);
    assert!(listed(&net) == before);
}

/// Ends the sampler also where the test fails: it would be waited for.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn nothing_is_seen_in_between() {
    let (net, previous) = host();
    // The table holds both, but for the time that is left.
    let timeless = |text: String| {
        text.lines().filter(|line| !line.contains("expires")).collect::<Vec<_>>().join("\n") + "\n"
    };
    let child = begun(&net, trial(&net, LONG));
    let during = timeless(listed(&net));
    for line in previous.lines() {
        assert!(during.contains(line), "{line}: {during}");
    }
    ns::kill(child.id(), libc::SIGKILL);
    wait_until("the end of the watcher", || processes(&net).is_empty());
    ended(child);
    let (stop, samples) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let home = ns::Ns::current();
        let (net, stop, samples, previous, during) = (&net, &stop, &samples, &previous, &during);
        let sampler = scope.spawn(move || {
            home.enter();
            let mut both = [false; 2];
            while !stop.load(Ordering::Relaxed) {
                let now = timeless(listed(net));
                assert!(now == *previous || now == *during, "{now}");
                both[usize::from(now == *during)] = true;
                samples.fetch_add(1, Ordering::Relaxed);
            }
            both
        });
        let end = End(stop);
        // One that began after this call has ended.
        let sampled = || {
            let enough = samples.load(Ordering::Relaxed) + 2;
            wait_until("a sample", || samples.load(Ordering::Relaxed) >= enough || sampler.is_finished());
        };
        for _ in 0..25 {
            let child = begun(net, trial(net, LONG));
            sampled();
            ns::kill(child.id(), libc::SIGKILL);
            wait_until("the previous rules", || listed(net) == *previous);
            sampled();
            // As long as there is a watcher, another trial is turned down.
            wait_until("the end of the watcher", || processes(net).is_empty());
            ended(child);
        }
        drop(end);
        assert_eq!(sampler.join().unwrap(), [true; 2]);
    });
}
