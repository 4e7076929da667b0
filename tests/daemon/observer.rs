//! The process that reads logs: what it has given up, that its end costs nothing but a moment, and that all
//! that is asked of the daemon is answered for it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use super::confine::value;
use super::judge::memory;
use common::daemon::{LOG, host, observer, observers};
use common::ns::filter_of;
use common::{Net, wait_until};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixDatagram;

const READ: u64 = 1 << 2;

fn kill(pid: u32, signal: i32) {
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid.cast_signed()),
        nix::sys::signal::Signal::try_from(signal).unwrap(),
    )
    .unwrap();
}

/// A wrong password, now: what is read again is timed by its stamp.
fn failed(addr: &str) -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let stamp = mef::base::utc::Stamp(mef::base::clock::Wall(since.as_secs()));
    format!("{stamp} host sshd[130]: Failed password for root from {addr} port 58216 ssh2\n")
}

fn bans(net: &Net, addr: &str) {
    net.append(LOG, failed(addr));
    wait_until("a ban", || net.banned().contains(&addr.to_owned()));
}

/// What a process has open beside its standard streams, one of each kind.
fn open(pid: u32) -> BTreeSet<String> {
    let all = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let all = all.filter_map(|entry| {
        let entry = entry.ok()?;
        let number: u32 = entry.file_name().to_str()?.parse().ok()?;
        (number > 2).then(|| fs::read_link(entry.path()).unwrap().display().to_string())
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
    // Its two ends, and what it reads.
    let log = net.path(LOG).display().to_string();
    let open = open(pid);
    let known = |name: &String| ["socket", "anon_inode"].contains(&name.as_str()) || *name == log;
    assert!(open.iter().all(known) && open.contains(&log), "{open:?}");
    let sockets = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let sockets =
        sockets.filter(|fd| fs::read_link(fd.as_ref().unwrap().path()).unwrap().starts_with("socket:"));
    assert!(sockets.count() <= 4, "the two ends, one of them twice, and that of syslog daemons");
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
    net.append("other.log", failed("203.0.113.3"));
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("daemon", "configuration read");
    net.append("other.log", failed("203.0.113.4").repeat(2));
    wait_until("a ban by the new rule", || net.banned().contains(&"203.0.113.4".to_owned()));
    assert!(!net.banned().contains(&"203.0.113.3".to_owned()));
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
