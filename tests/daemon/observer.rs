//! The process that reads logs: what it has given up, that its end costs nothing but a moment, and that all
//! that is asked of the daemon is answered for it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use super::confine::value;
use super::judge::memory;
use common::bans::text;
use common::daemon::{LOG, host, observer, observers};
use common::ns::filter_of;
use common::{Net, wait_until};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

const READ: u64 = 1 << 2;

pub(super) fn kill(pid: u32, signal: i32) {
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid.cast_signed()),
        nix::sys::signal::Signal::try_from(signal).unwrap(),
    )
    .unwrap();
}

/// A wrong password, now: what is read again is timed by its stamp.
pub(super) fn failed(addr: &str) -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let stamp = mef::base::utc::Stamp(mef::base::clock::Wall(since.as_secs()));
    format!("{stamp} host sshd[130]: Failed password for root from {addr} port 58216 ssh2\n")
}

fn bans(net: &Net, addr: &str) {
    net.append(LOG, failed(addr));
    wait_until("a ban", || net.banned().contains(&addr.to_owned()));
}

/// What a process has open, one of each kind.
fn open(pid: u32) -> BTreeSet<String> {
    let all = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let all = all.filter_map(|entry| {
        let entry = entry.ok()?;
        Some(fs::read_link(entry.path()).unwrap().display().to_string())
    });
    all.map(|name| name.split(':').next().unwrap().to_owned()).collect()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn it_has_nothing_but_the_right_to_read() {
    let mut net = host("", "maxretry=1");
    let daemon = net.daemon("daemon");
    let (pid, enforcer) = (observer(net.pid(daemon)), net.pid(daemon));
    for (name, want) in
        [("CapEff", READ), ("CapPrm", READ), ("CapInh", 0), ("CapBnd", 0), ("NoNewPrivs", 1), ("Seccomp", 2)]
    {
        assert_eq!(value(pid, name), want, "{name}");
    }
    assert_eq!(value(pid, "Uid"), value(enforcer, "Uid"));
    assert_eq!(value(enforcer, "Seccomp_filters") + 1, value(pid, "Seccomp_filters"));
    // Its two ends, and what it reads; no stream of the daemon's, by which messages would be forged.
    let log = net.path(LOG).display().to_string();
    let open = open(pid);
    let known = |name: &String| ["socket", "anon_inode", "/dev/null", &log].contains(&name.as_str());
    for stream in 0..3 {
        assert_eq!(fs::read_link(format!("/proc/{pid}/fd/{stream}")).unwrap().to_str(), Some("/dev/null"));
    }
    assert_ne!(fs::read_link(format!("/proc/{enforcer}/fd/2")).unwrap().to_str(), Some("/dev/null"));
    assert!(open.iter().all(known) && open.contains(&log), "{open:?}");
    let sockets = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let sockets =
        sockets.filter(|fd| fs::read_link(fd.as_ref().unwrap().path()).unwrap().starts_with("socket:"));
    assert!(sockets.count() <= 5, "the two ends, one of them three times, and that of syslog daemons");
    // The other process reads no log.
    let links = fs::read_dir(format!("/proc/{enforcer}/fd")).unwrap();
    let links: Vec<_> = links.map(|entry| fs::read_link(entry.unwrap().path()).unwrap()).collect();
    assert!(!links.contains(&net.path(LOG)), "{links:?}");
    bans(&net, "203.0.113.1");
    net.stop(daemon);
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap(), "it ends with the daemon");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
#[cfg(target_arch = "x86_64")]
fn the_kernel_has_its_filter() {
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | 1;
    let mut net = host("", "maxretry=1");
    let daemon = net.daemon("daemon");
    let filter = filter_of(observer(net.pid(daemon)));
    for (number, arguments, want) in [
        (libc::SYS_openat, [0, 0, 0, 0], ALLOW),
        (libc::SYS_openat, [0, 0, 1, 0], EPERM),
        (libc::SYS_openat, [0, 0, 2, 0], EPERM),
        (libc::SYS_openat, [0, 0, 0o100, 0], EPERM),
        (libc::SYS_open, [0, 0o1000, 0, 0], EPERM),
        (libc::SYS_socket, [1, 2, 0, 0], EPERM),
        (libc::SYS_socketpair, [1, 5, 0, 0], EPERM),
        (libc::SYS_clone, [0x11, 0, 0, 0], EPERM),
        (libc::SYS_fork, [0; 4], EPERM),
        (libc::SYS_kill, [0; 4], EPERM),
        (libc::SYS_tgkill, [0; 4], EPERM),
        (libc::SYS_unlinkat, [0; 4], EPERM),
        (libc::SYS_connect, [0; 4], EPERM),
        (libc::SYS_bind, [0; 4], EPERM),
        (libc::SYS_ftruncate, [0; 4], EPERM),
        (libc::SYS_flock, [0; 4], EPERM),
        (libc::SYS_capset, [0; 4], EPERM),
        (libc::SYS_prctl, [22, 2, 0, 0], EPERM),
        (libc::SYS_mmap, [0, 4096, 7, 0], EPERM),
        (libc::SYS_fcntl, [0, libc::F_SETFD.cast_unsigned(), 1, 0], ALLOW),
        (libc::SYS_fcntl, [0, libc::F_SETOWN.cast_unsigned(), 1, 0], EPERM),
        (libc::SYS_fcntl, [0, libc::F_SETLK.cast_unsigned(), 0, 0], EPERM),
        (libc::SYS_fcntl, [0, libc::F_OFD_SETLK.cast_unsigned(), 0, 0], EPERM),
    ] {
        assert_eq!(super::confine::verdict(&filter, number, arguments), want, "{number} {arguments:x?}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn its_end_is_told_and_no_ban_is_lost() {
    let mut net = host("state_sync=5", "maxretry=1");
    let daemon = net.daemon("daemon");
    bans(&net, "203.0.113.1");
    let mut last = 0;
    for (round, pause) in [100, 200, 400].into_iter().enumerate() {
        let pid = observer(net.pid(daemon));
        assert_ne!(pid, last);
        last = pid;
        // What is written while it is stopped, while it is gone, and when it is back.
        kill(pid, libc::SIGSTOP);
        net.append(LOG, failed(&format!("198.51.100.{round}")));
        kill(pid, libc::SIGKILL);
        net.append(LOG, failed(&format!("198.51.101.{round}")));
        net.wait_said("daemon", &format!("ended with signal 9: it is started again after {pause} ms"));
        for addr in [format!("198.51.100.{round}"), format!("198.51.101.{round}")] {
            wait_until("the bans", || net.banned().contains(&addr));
        }
        bans(&net, &format!("203.0.113.1{round}"));
    }
    // Nobody is banned twice for what was read again.
    let said = net.said("daemon");
    assert_eq!(said.matches("ban 203.0.113.1 ").count(), 1, "{said}");
    let status = net.mef(&["status"]).shown();
    assert!(status.contains("logs read by a process of its own"), "{status}");
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn one_that_does_not_answer_or_is_gone_does_not_stop_commands() {
    let mut net = host("", "maxretry=1");
    let daemon = net.daemon("daemon");
    bans(&net, "203.0.113.1");
    let pid = observer(net.pid(daemon));
    kill(pid, libc::SIGKILL);
    let status = net.mef(&["status"]).shown();
    assert!(status.contains("confined"), "{status}");
    net.mef(&["ban", "192.0.2.9"]).ok();
    net.mef(&["unban", "203.0.113.1"]).ok();
    assert!(net.banned().contains(&"192.0.2.9".to_owned()));
    bans(&net, "203.0.113.2");
    // A reload takes another rule, whose counts begin there.
    net.rule_for("other", "other.log", "maxretry=2");
    net.append("other.log", failed("203.0.113.3").repeat(2));
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("daemon", "configuration read");
    net.append("other.log", failed("203.0.113.4").repeat(2));
    wait_until("a ban by the new rule", || net.banned().contains(&"203.0.113.4".to_owned()));
    assert!(!net.banned().contains(&"203.0.113.3".to_owned()));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn who_was_unbanned_while_it_was_gone_stays_so_though_lines_do_not_say_when_they_were_written() {
    let mut net = host("state_sync=never", "maxretry=1");
    net.append("bare.log", "");
    let bare = net.path("bare.log").display().to_string();
    net.rule("bare", &format!("files={bare}\nfailregex=^bad <HOST>$\nmaxretry=1"));
    let daemon = net.daemon("daemon");
    let bad = |net: &Net, addr: &str| {
        net.append("bare.log", format!("bad {addr}\n"));
        wait_until("a ban", || net.banned().contains(&addr.to_owned()));
    };
    // How far it has read is asked after the first ban, and not so soon again.
    bad(&net, "203.0.113.1");
    bad(&net, "203.0.113.2");
    bad(&net, "203.0.113.3");
    let pid = observer(net.pid(daemon));
    kill(pid, libc::SIGKILL);
    net.mef(&["unban", "203.0.113.2"]).ok();
    wait_until("another one", || observers(net.pid(daemon)).iter().any(|other| *other != pid));
    bad(&net, "203.0.113.4");
    assert!(!net.banned().contains(&"203.0.113.2".to_owned()), "{}", net.said("daemon"));
    assert!(net.banned().contains(&"203.0.113.3".to_owned()));
    // What is done then counts.
    bad(&net, "203.0.113.2");
    assert_eq!(net.said("daemon").matches("ban 203.0.113.3 ").count(), 1);
}

/// Bytes that a process has read.
fn has_read(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_is_under_way_at_a_reload_is_judged_by_the_rules_before() {
    let mut net = host("", "maxretry=1");
    let hours = [("one", "bantime=2h"), ("two", "bantime=3h"), ("zwei", "bantime=4h")];
    for (name, bantime) in hours {
        net.rule_for(name, &format!("{name}.log"), &format!("maxretry=1\n{bantime}"));
        net.append(&format!("{name}.log"), "");
    }
    let daemon = net.daemon("daemon");
    let pid = observer(net.pid(daemon));
    // It has read the lines, and nobody hears of them yet. Rules go by their number there, and the first one
    // goes: the second one is at its place then, and the last one at none.
    kill(net.pid(daemon), libc::SIGSTOP);
    let before = has_read(pid);
    for (name, addr) in [("two", "203.0.113.2"), ("zwei", "203.0.113.3")] {
        net.append(&format!("{name}.log"), failed(addr));
    }
    wait_until("its reading", || has_read(pid) > before + 60);
    net.write("rules.d/one.conf", "[rule]\nenabled=false\nprograms=x\nfailregex=<HOST>\n");
    net.signal(daemon, libc::SIGHUP);
    kill(net.pid(daemon), libc::SIGCONT);
    net.wait_said("daemon", "configuration read");
    for (addr, rule) in [("203.0.113.2", "two"), ("203.0.113.3", "zwei")] {
        wait_until("the bans", || net.banned().contains(&addr.to_owned()));
        assert_eq!(text(&net.ban_of(addr), "rule"), rule, "{addr}");
    }
    assert!(!net.said("daemon").contains("has ended"), "it goes on");
    // What comes then is judged by the rules since.
    net.append("two.log", failed("203.0.113.4"));
    wait_until("another ban", || net.banned().contains(&"203.0.113.4".to_owned()));
    assert_eq!(text(&net.ban_of("203.0.113.4"), "rule"), "two");
    net.append("one.log", failed("203.0.113.5"));
    bans(&net, "203.0.113.6");
    assert!(!net.banned().contains(&"203.0.113.5".to_owned()), "that rule is off");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn an_editor_that_saves_between_two_reads_does_not_make_two_configurations() {
    let mut net = host("", "maxretry=1");
    net.append("other.log", "");
    net.rule_for("other", "other.log", "maxretry=2");
    let daemon = net.daemon("daemon");
    let pid = observer(net.pid(daemon));
    kill(pid, libc::SIGSTOP);
    // A file that belongs to nothing is told of when the daemon has read all.
    net.rule_for("other", "other.log", "maxretry=2\nfindtime=900\nbantime=2h");
    net.write("rules.d/lonely.local", "[rule]\nmaxretry=1\n");
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("daemon", "it has no effect: no shipped rule");
    net.rule_for("other", "other.log", "maxretry=5\nbantime=4h");
    kill(pid, libc::SIGCONT);
    net.wait_said("daemon", "configuration read");
    net.append("other.log", failed("203.0.113.3").repeat(2));
    wait_until("a ban by what the daemon has read", || net.banned().contains(&"203.0.113.3".to_owned()));
    assert_ne!(observer(net.pid(daemon)), pid, "another one has taken its place");
    // With the next reload both have the same.
    let ends = || net.said("daemon").matches("has ended").count();
    let before = ends();
    net.mef(&["reload"]).ok();
    net.append("other.log", failed("203.0.113.4").repeat(4));
    bans(&net, "203.0.113.5");
    assert!(!net.banned().contains(&"203.0.113.4".to_owned()));
    assert_eq!(ends(), before);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn one_that_hangs_is_ended_when_something_is_asked_and_its_lines_are_read_by_the_next() {
    let mut net = host("state_sync=never", "maxretry=1");
    let daemon = net.daemon("daemon");
    bans(&net, "203.0.113.1");
    let pid = observer(net.pid(daemon));
    kill(pid, libc::SIGSTOP);
    net.append(LOG, failed("203.0.113.2"));
    let status = net.mef(&["status"]).shown();
    assert!(status.contains("confined"), "{status}");
    net.wait_said("daemon", "for it did not answer: it is started again after 100 ms");
    wait_until("a ban", || net.banned().contains(&"203.0.113.2".to_owned()));
    assert_ne!(observer(net.pid(daemon)), pid);
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_stop_while_it_is_gone_leaves_positions_as_they_were() {
    let mut net = host("state_sync=never", "maxretry=1");
    let daemon = net.daemon("first");
    bans(&net, "203.0.113.1");
    net.stop(daemon);
    let positions = |net: &Net| net.read("lib/mef/positions");
    let log = net.path(LOG).display().to_string();
    assert!(positions(&net).contains(&log), "{}", positions(&net));
    let daemon = net.daemon("second");
    kill(observer(net.pid(daemon)), libc::SIGKILL);
    net.append(LOG, failed("203.0.113.2"));
    net.stop(daemon);
    assert!(positions(&net).contains(&log), "{}", positions(&net));
    net.append(LOG, failed("203.0.113.3"));
    net.daemon("third");
    for addr in ["203.0.113.2", "203.0.113.3"] {
        wait_until("what was written meanwhile", || net.banned().contains(&addr.to_owned()));
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn datagrams_that_come_while_it_is_gone_are_read_by_the_next() {
    let mut net = host("", "maxretry=1");
    net.rule("sys", "source=syslog\nprograms=sys\nfailregex=^bad <HOST>$\nmaxretry=1");
    let daemon = net.daemon("daemon");
    let socket = net.path("run/mef/log");
    let send = |addr: &str| {
        let line = format!("<38>Nov 29 10:00:00 h sys[1]: bad {addr}");
        UnixDatagram::unbound().unwrap().send_to(line.as_bytes(), &socket).unwrap();
    };
    send("203.0.113.1");
    wait_until("a ban", || net.banned().contains(&"203.0.113.1".to_owned()));
    let pid = observer(net.pid(daemon));
    kill(pid, libc::SIGSTOP);
    send("203.0.113.2");
    kill(pid, libc::SIGKILL);
    send("203.0.113.3");
    for addr in ["203.0.113.2", "203.0.113.3"] {
        wait_until("the bans", || net.banned().contains(&addr.to_owned()));
    }
    net.stop(daemon);
    assert!(!socket.exists(), "nobody reads there");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_was_forwarded_is_read_before_a_stop_whoever_is_gone_or_late() {
    for signals in [&[][..], &[libc::SIGKILL], &[libc::SIGKILL, libc::SIGKILL], &[libc::SIGSTOP]] {
        let mut net = host("", "maxretry=1");
        net.rule("sys", "source=syslog\nprograms=sys\nfailregex=^bad <HOST>$\nmaxretry=1");
        let daemon = net.daemon("daemon");
        let enforcer = net.pid(daemon);
        for signal in signals {
            let pid = observer(enforcer);
            kill(pid, *signal);
            if *signal == libc::SIGKILL {
                wait_until("it is gone", || !observers(enforcer).contains(&pid));
            }
        }
        let socket = UnixDatagram::unbound().unwrap();
        for n in 1..=5 {
            let line = format!("<38>Nov 29 10:00:00 h sys[1]: bad 203.0.113.{n}");
            socket.send_to(line.as_bytes(), net.path("run/mef/log")).unwrap();
        }
        if signals == [libc::SIGSTOP] {
            // It is only slow, and goes on when it is asked to end.
            let pid = observer(enforcer);
            let goes_on = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(500));
                kill(pid, libc::SIGCONT);
            });
            net.stop(daemon);
            goes_on.join().unwrap();
        } else {
            net.stop(daemon);
        }
        let all: BTreeSet<String> = (1..=5).map(|n| format!("203.0.113.{n}")).collect();
        assert_eq!(net.banned().into_iter().collect::<BTreeSet<_>>(), all, "{signals:?}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn one_that_is_started_within_a_reload_keeps_nothing_of_the_configuration_that_was_read() {
    let mut net = host("", "maxretry=1");
    let daemon = net.daemon("daemon");
    let enforcer = net.pid(daemon);
    for _ in 0..3 {
        kill(observer(enforcer), libc::SIGKILL);
        assert_eq!(net.mef(&["reload"]).status, 0);
    }
    let private = memory(observer(enforcer), "Private_Dirty:");
    assert!(private < 1000, "{private} kB");
    bans(&net, "203.0.113.1");
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn questions_that_wait_for_it_do_not_shorten_its_time_for_an_unban() {
    let mut net = host("", "maxretry=1");
    let daemon = net.daemon("daemon");
    let pid = observer(net.pid(daemon));
    for n in 1..=4 {
        kill(pid, libc::SIGSTOP);
        let status = net.mef(&["status"]).shown();
        assert!(status.contains("confined"), "{status}");
        kill(pid, libc::SIGCONT);
        let addr = format!("203.0.113.{n}");
        bans(&net, &addr);
        net.mef(&["unban", &addr]).ok();
    }
    assert_eq!(observer(net.pid(daemon)), pid, "it was well all the time");
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_it_says_is_written_in_its_name() {
    let mut net = host("", "maxretry=1");
    let daemon = net.daemon("daemon");
    fs::remove_file(net.path(LOG)).unwrap();
    let about = |line: &str| line.contains("sees nothing for") && line.contains(LOG);
    wait_until("a word about that", || net.said("daemon").lines().any(about));
    let said = net.said("daemon");
    assert!(said.lines().filter(|line| about(line)).all(|line| line.contains("observer: ")), "{said}");
    net.stop(daemon);
}

/// Whether a process runs; one that has ended may wait for whoever asks how.
fn runs(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// The number of a program that was started.
fn program(net: &Net, line: usize) -> Option<u32> {
    net.read("pids").lines().nth(line)?.parse().ok()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn programs_whose_output_it_reads_are_run_for_it() {
    let mut net = host("", "maxretry=1");
    let text = "#!/bin/sh\necho $$ >> \"${0%/*}/pids\"\necho bad 203.0.113.$(wc -l < \"${0%/*}/pids\")\n\
                exec sleep 1000\n";
    let said = net.program("said", text);
    net.rule(
        "said",
        &format!("source=command\ncommand={}\nfailregex=^bad <HOST>$\nmaxretry=1", said.display()),
    );
    let daemon = net.daemon("daemon");
    wait_until("a ban", || net.banned().contains(&"203.0.113.1".to_owned()));
    // Its end is told to who reads it, which has it started again.
    kill(program(&net, 0).unwrap(), libc::SIGKILL);
    net.wait_said("daemon", "ended with signal 9; it is started again");
    wait_until("the next ban", || net.banned().contains(&"203.0.113.2".to_owned()));
    // It ends with who reads it.
    kill(observer(net.pid(daemon)), libc::SIGKILL);
    wait_until("its end", || !runs(program(&net, 1).unwrap()));
    wait_until("another ban", || net.banned().contains(&"203.0.113.3".to_owned()));
    net.stop(daemon);
    wait_until("the end of the last", || !runs(program(&net, 2).unwrap()));
}

/// Both read the configuration; then another observer takes the place of the one that did, and has the rules
/// together with the enforcer.
fn reload(net: &Net, enforcer: u32) {
    let before = observer(enforcer);
    net.mef(&["reload"]).ok();
    wait_until("another one", || observers(enforcer).iter().any(|pid| *pid != before));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn after_a_reload_another_one_goes_on_with_what_was_counted() {
    let mut net = host("", "maxretry=3");
    net.configure("", &[LOG, "six.log"]);
    net.append("six.log", "");
    net.rule_for("six", "six.log", "maxretry=3");
    let daemon = net.daemon("daemon");
    let enforcer = net.pid(daemon);
    let both = |addr: &str| {
        net.append(LOG, failed(addr));
        net.append("six.log", failed("2001:db8:5::7"));
    };
    for n in 0..2 {
        both("203.0.113.1");
        net.append(LOG, failed(&format!("203.0.113.{}", n + 10)));
        net.mark(LOG);
        net.mark("six.log");
        reload(&net, enforcer);
        assert_eq!(net.banned(), [""; 0], "{n}");
    }
    both("203.0.113.1");
    let bans = ["2001:db8:5::/64", "203.0.113.1"];
    wait_until("both bans", || bans.iter().all(|addr| net.banned().contains(&(*addr).to_owned())));
    assert_eq!(net.banned().len(), 2);
    assert!(!net.said("daemon").contains("has ended"), "{}", net.said("daemon"));
    net.stop(daemon);
}

/// A wrong password, by a clock that is years behind.
fn failed_long_ago(addr: &str) -> String {
    format!("2019-11-22T08:00:01Z host sshd[130]: Failed password for root from {addr} port 58216 ssh2\n")
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn stamps_count_for_what_was_written_while_there_was_no_daemon_and_for_nothing_else() {
    let mut net = host("state_sync=5", "maxretry=1");
    let daemon = net.daemon("first");
    bans(&net, "203.0.113.1");
    let enforcer = net.pid(daemon);
    // All the time until another one has the place of the first after a reload, and a while longer.
    let before = observer(enforcer);
    net.mef(&["reload"]).ok();
    let mut addrs = (0..1000).map(|n| format!("198.51.{}.{}", 100 + n / 250, n % 250));
    let mut written: Vec<String> = Vec::new();
    let mut write = |addr: String| {
        net.append(LOG, failed_long_ago(&addr));
        written.push(addr);
    };
    wait_until("another one", || {
        addrs.next().into_iter().for_each(&mut write);
        observers(enforcer).iter().any(|pid| *pid != before)
    });
    addrs.by_ref().take(5).for_each(&mut write);
    for addr in &written {
        wait_until(&format!("a ban of {addr}"), || net.banned().contains(addr));
    }
    // While one is stopped, and while it is gone.
    let pid = observer(enforcer);
    kill(pid, libc::SIGSTOP);
    net.append(LOG, failed_long_ago("192.0.2.1"));
    kill(pid, libc::SIGKILL);
    net.append(LOG, failed_long_ago("192.0.2.2"));
    for addr in ["192.0.2.1", "192.0.2.2"] {
        wait_until(addr, || net.banned().contains(&addr.to_owned()));
    }
    net.stop(daemon);
    net.append(LOG, failed_long_ago("192.0.2.3"));
    net.daemon("second");
    bans(&net, "192.0.2.4");
    net.append(LOG, failed_long_ago("192.0.2.5"));
    wait_until("a ban", || net.banned().contains(&"192.0.2.5".to_owned()));
    assert!(!net.banned().contains(&"192.0.2.3".to_owned()), "of a time when nobody read");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn reloads_make_two_processes_of_one_only_for_a_moment() {
    let mut net = host("", "maxretry=1");
    let daemon = net.daemon("daemon");
    let enforcer = net.pid(daemon);
    let shared = || memory(observer(enforcer), "Rss:") - memory(observer(enforcer), "Private_Dirty:");
    for _ in 0..3 {
        reload(&net, enforcer);
        wait_until("pages of both", || shared() > memory(observer(enforcer), "Private_Dirty:") / 4);
    }
    bans(&net, "203.0.113.1");
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn one_that_reads_the_output_of_programs_stays_after_a_reload() {
    let mut net = host("", "maxretry=1");
    let said = net.program("said", "#!/bin/sh\necho $$ >> \"${0%/*}/pids\"\nexec sleep 1000\n");
    net.rule("said", &format!("source=command\ncommand={}\nfailregex=^bad <HOST>$", said.display()));
    let daemon = net.daemon("daemon");
    wait_until("its program", || program(&net, 0).is_some());
    let pid = observer(net.pid(daemon));
    net.mef(&["reload"]).ok();
    bans(&net, "203.0.113.1");
    assert_eq!((observer(net.pid(daemon)), program(&net, 1)), (pid, None));
    net.stop(daemon);
}

/// What the status says of memory, in kB.
fn told_memory(net: &Net) -> u64 {
    let text = net.mef(&["status"]).shown();
    let line = text.lines().find_map(|line| line.strip_prefix("memory ")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn its_memory_is_told_with_that_of_the_daemon() {
    let mut net = host("", "maxretry=1");
    let daemon = net.daemon("daemon");
    let (enforcer, pid) = (net.pid(daemon), observer(net.pid(daemon)));
    wait_until("both", || told_memory(&net) * 4 > memory(enforcer, "Pss:") * 5);
    let both = || memory(enforcer, "Pss:") + memory(pid, "Pss:");
    wait_until("no page twice", || told_memory(&net) <= both() + 64);
    net.stop(daemon);
    net.configure("confine=basic", &[LOG]);
    let daemon = net.daemon("basic");
    wait_until("one process", || told_memory(&net).abs_diff(memory(net.pid(daemon), "Rss:")) <= 64);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn there_is_none_unless_all_is_given_up() {
    for level in ["basic", "off"] {
        let mut net = host(&format!("confine={level}"), "maxretry=1");
        let daemon = net.daemon(level);
        assert_eq!(observers(net.pid(daemon)), [], "{level}");
        bans(&net, "203.0.113.1");
        net.stop(daemon);
    }
}
