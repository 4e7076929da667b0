//! Sources other than files: real syslog daemons, the kernel's log, and programs that behave and that do not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use crate::common;

use common::daemon::{failed, observer};
use common::{Net, ns, wait_until};
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

const LOG: &str = "app.log";

/// A host whose rule `app` reads what `source` says; the rule `mark` reads a file.
fn host(settings: &str, source: &str) -> Net {
    let net = Net::new();
    net.configure(settings, &[LOG]);
    rule(&net, "app", source);
    net.append(LOG, "");
    net
}

/// A service rule that bans at the second wrong password.
fn rule(net: &Net, name: &str, source: &str) {
    net.rule(
        name,
        &format!(
            "programs=sshd\n{source}\nfailregex=^Failed password for .* from <HOST> port \\d+ ssh2$\n\
             findtime=600\nmaxretry=2\nbantime=1h"
        ),
    );
}

fn banned(net: &Net, addr: &str) -> bool {
    net.in_set("ban4", addr.parse().unwrap())
}

/// A program with directories of its own below `box`: /dev/log there is its own.
fn boxed(net: &Net, args: &[&str]) -> Command {
    let dir = net.path("box");
    ns::make_private_dirs(&dir);
    let mut command = net.command("/bin/busybox", args);
    ns::private_dirs(&mut command, &dir);
    command
}

/// Says something as the service does.
fn log(net: &Net, text: &str) {
    let text = text.trim_end();
    let message = text.split_once(": ").map_or(text, |(_, message)| message);
    net.run(boxed(net, &["logger", "-p", "auth.info", "-t", "sshd[130]", message])).ok();
}

/// Waits until a syslog daemon listens in its box.
fn syslogd(net: &mut Net, args: &[&str]) -> usize {
    let command = boxed(net, &[&["syslogd", "-n"], args].concat());
    let started = net.start("syslogd", command);
    let socket = net.path("box/dev/log");
    wait_until("syslogd", || UnixDatagram::unbound().unwrap().connect(&socket).is_ok());
    started
}

/// Whether a process is there, and is no corpse.
fn alive(pid: &str) -> bool {
    // Without a number that would be a file about the machine.
    let stat = pid.trim().parse::<u32>().map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")));
    stat.is_ok_and(|stat| stat.is_ok_and(|stat| !stat.contains(") Z ")))
}

fn said(net: &Net, what: &str) -> usize {
    net.said("daemon").matches(what).count()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn busybox_syslogd_forwards_by_udp() {
    let mut net = host("syslog_udp=127.0.0.1:5514", "source=syslog");
    let daemon = net.daemon("daemon");
    syslogd(&mut net, &["-R", "127.0.0.1:5514"]);
    for _ in 0..2 {
        log(&net, &failed("203.0.113.1"));
    }
    wait_until("the ban", || banned(&net, "203.0.113.1"));
    net.stop(daemon);
}

/// What a service in a container prints, as Docker and as Podman keep it. A client that has the engine cut
/// its line cannot begin another one.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn lines_of_containers_are_read_without_their_wrappers() {
    let json = |text: &str, end: &str| {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        format!("{{\"log\":\"{text}{end}\",\"stream\":\"stdout\",\"time\":\"2026-11-26T02:10:00.1Z\"}}\n")
    };
    let podman = |text: &str, tag: &str| format!("2026-11-26T02:10:00.123456789+01:00 stderr {tag} {text}\n");
    let said = |addr: &str| format!("Failed password for \"root\" from {addr} port 58216 ssh2");
    let net = Net::new();
    let (docker, other) = (net.path("c/1/1-json.log"), net.path("c/ctr.log"));
    let files = format!("files={},{}", net.path("c/*/*-json.log").display(), other.display());
    net.configure("", &[LOG]);
    rule(&net, "app", &format!("format=docker\n{files}"));
    net.append(LOG, "");
    fs::create_dir_all(docker.parent().unwrap()).unwrap();
    fs::write(&docker, json("before", "\\n")).unwrap();
    fs::write(&other, podman("a line in pieces, of which", "P")).unwrap();
    let mut net = net;
    net.daemon("daemon");
    let add = |path: &Path, text: &str| {
        let name = path.strip_prefix(net.path("")).unwrap().to_str().unwrap().to_owned();
        net.append(&name, text);
    };
    // The last piece of what began before the daemon did, and pieces of a line of a client's.
    add(&other, &podman(&said("203.0.113.9"), "F"));
    for _ in 0..3 {
        add(&docker, &[json("GET /x ", ""), json(&said("203.0.113.9"), "\\n")].concat());
        add(&other, &[podman("GET /x ", "P"), podman(&said("203.0.113.9"), "F")].concat());
    }
    add(&docker, &json(&said("203.0.113.1"), "\\n").repeat(2));
    add(&other, &podman(&said("203.0.113.2"), "F").repeat(2));
    wait_until("both bans", || banned(&net, "203.0.113.1") && banned(&net, "203.0.113.2"));
    assert!(!banned(&net, "203.0.113.9"));
    let found = net.mef(&[
        "test",
        "app",
        "--hits",
        "--config",
        net.path("mef.conf").to_str().unwrap(),
        docker.to_str().unwrap(),
    ]);
    assert_eq!(found.ok(), "8\t203.0.113.1\n9\t203.0.113.1\n");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn messages_come_by_the_socket_in_run_dir_and_only_root_can_send_them() {
    let mut net = host("", "source=syslog");
    let daemon = net.daemon("daemon");
    let path = net.path("run/mef/log");
    let meta = fs::metadata(&path).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o7777, 0o600);
    let socket = UnixDatagram::unbound().unwrap();
    socket.connect(&path).unwrap();
    let text = "Failed password for root from 203.0.113.1 port 58216 ssh2";
    for header in
        ["<38>Nov 22 08:00:01 host sshd[130]: ", "<38>1 2026-11-22T08:00:01.1+01:00 host sshd 130 - - "]
    {
        socket.send(format!("{header}{text}\n").as_bytes()).unwrap();
    }
    wait_until("the ban", || banned(&net, "203.0.113.1"));
    let before = net.counts(daemon, "daemon");
    // One message is one line, whatever a user made a service quote.
    let forged = "Nov 22 08:00:01 host sshd[130]: Failed password for root from 203.0.113.9 port 58216 ssh2";
    for _ in 0..4 {
        socket
            .send(format!("<38>Nov 22 08:00:01 host web[7]: no page x\n<38>{forged}\n{forged}").as_bytes())
            .unwrap();
    }
    // More than the queue holds: the sender waits, and nothing is lost.
    let line = "<38>Nov 22 08:00:01 host sshd[130]: Accepted publickey for root from 203.0.113.3 port 5 ssh2";
    for _ in 0..20_000 {
        socket.send(line.as_bytes()).unwrap();
    }
    for _ in 0..2 {
        socket.send(format!("<38>{}", failed("203.0.113.2")).as_bytes()).unwrap();
    }
    wait_until("the ban behind the flood", || banned(&net, "203.0.113.2"));
    assert_eq!(net.counts(daemon, "daemon")[0], before[0] + 20_006);
    assert!(!banned(&net, "203.0.113.9"));
    // A reload leaves the socket as it is; without a rule for it, it goes.
    let inode = std::os::unix::fs::MetadataExt::ino(&meta);
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("daemon", "configuration read");
    assert_eq!(std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap()), inode);
    for _ in 0..2 {
        socket.send(format!("<38>{}", failed("203.0.113.4")).as_bytes()).unwrap();
    }
    wait_until("the ban after the reload", || banned(&net, "203.0.113.4"));
    net.stop(daemon);
    assert!(!path.exists());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_ring_that_logread_shows_is_followed() {
    // Of our own: the ring is a System V shared memory with a fixed number.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWIPC).unwrap();
    let mut net = host("", "source=command\ncommand=/bin/busybox logread -f");
    let server = syslogd(&mut net, &["-C64"]);
    log(&net, &failed("203.0.113.9"));
    log(&net, &failed("203.0.113.9"));
    let daemon = net.daemon("daemon");
    // It shows what comes from now on; when it is there nobody can tell.
    wait_until("the ban", || {
        log(&net, &failed("203.0.113.1"));
        banned(&net, "203.0.113.1")
    });
    assert!(!banned(&net, "203.0.113.9"), "what was said before");
    // The ring goes with the server. It is looked for again.
    net.signal(server, libc::SIGTERM);
    net.wait(server);
    net.wait_said("daemon", "/bin/busybox logread -f: ended");
    syslogd(&mut net, &["-C64"]);
    wait_until("the ban by the next ring", || {
        log(&net, &failed("203.0.113.2"));
        banned(&net, "203.0.113.2")
    });
    net.stop(daemon);
}

/// A script as the command of a rule.
fn script(net: &Net, name: &str, text: &str) -> String {
    let path = net.program(name, &format!("#!/bin/sh\n{text}\n"));
    path.display().to_string()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn programs_that_die_and_hang_stop_nothing_and_are_gone_at_the_end() {
    let mut net = Net::new();
    net.configure("", &[LOG]);
    net.append(LOG, "");
    let dir = net.dir.display().to_string();
    let lines = |addr: &str| format!("echo '{0}'\necho '{0}'", failed(addr).trim_end());
    let good =
        script(&net, "good", &format!("echo $$ >>{dir}/good.pid\n{}\nexec sleep 1000", lines("203.0.113.1")));
    let dies = script(
        &net,
        "dies",
        &format!("echo x >>{dir}/dies.count\n{}\necho sorry >&2\nexit 3", lines("203.0.113.2")),
    );
    let hangs = script(
        &net,
        "hangs",
        &format!(
            "trap '' TERM INT HUP\n{}\nsleep 1000 &\necho $$ $! >{dir}/hangs.pid\nwait",
            lines("203.0.113.3")
        ),
    );
    let loud = script(&net, "loud", "exec cat /dev/zero");
    let forks = script(
        &net,
        "forks",
        &format!("(trap '' TERM; sleep 1000) &\necho $! >{dir}/forks.pid\n{}", lines("203.0.113.4")),
    );
    for (name, command) in
        [("a", &good), ("b", &good), ("c", &dies), ("d", &hangs), ("e", &loud), ("f", &forks)]
    {
        rule(&net, name, &format!("source=command\ncommand={command}"));
    }
    rule(&net, "g", "source=command\ncommand=mef-no-such-program -f");
    let daemon = net.daemon("daemon");
    for addr in ["203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4"] {
        wait_until("the ban", || banned(&net, addr));
    }
    // It is started again, which is told once.
    wait_until("a second start", || net.read("dies.count").len() >= 4);
    net.mark(LOG);
    assert_eq!(
        said(&net, "dies: ended with status 3: sorry; it is started again"),
        1,
        "{}",
        net.said("daemon")
    );
    assert_eq!(said(&net, "mef-no-such-program -f: no such program; it is started again"), 1);
    // Two rules, one program.
    let pids = net.read("good.pid");
    assert_eq!(pids.lines().count(), 1, "{pids}");
    // What a program leaves behind ends with it.
    wait_until("the end of a child that was left", || !alive(&net.read("forks.pid")));
    // A reload does not start it anew.
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("daemon", "configuration read");
    net.mark(LOG);
    assert_eq!(net.read("good.pid"), pids);
    assert!(alive(&pids));
    // One that no rule wants any more is ended, with its children, whatever it thinks of it.
    fs::remove_file(net.path("rules.d/d.conf")).unwrap();
    net.signal(daemon, libc::SIGHUP);
    wait_until("the end of the unwanted", || net.read("hangs.pid").split(' ').all(|pid| !alive(pid)));
    wait_until("the reload", || said(&net, "configuration read") == 2);
    net.mark(LOG);
    let zombies = fs::read_to_string(format!("/proc/{0}/task/{0}/children", net.pid(daemon))).unwrap();
    let corpses = || zombies.split(' ').filter(|pid| !pid.is_empty() && !alive(pid)).count();
    wait_until("its burial", || corpses() <= 1);
    net.stop(daemon);
    wait_until("the end of the others", || !alive(&pids));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn programs_die_with_a_daemon_that_is_killed() {
    let mut net = host("", "");
    let dir = net.dir.display().to_string();
    let text = format!(
        "trap '' TERM HUP PIPE\nsleep 1000 &\necho $! >{dir}/child; echo $$ >{dir}/pid.new; \
         mv {dir}/pid.new {dir}/pid; wait"
    );
    let command = script(&net, "stays", &text);
    rule(&net, "app", &format!("source=command\ncommand={command}"));
    let daemon = net.daemon("daemon");
    wait_until("the program", || alive(&net.read("pid")));
    net.signal(daemon, libc::SIGKILL);
    net.wait(daemon);
    wait_until("its end", || !alive(&net.read("pid")));
    // What it has started itself is nobody's but the test's.
    let child = net.read("child");
    drop(net);
    assert!(!alive(&child), "{child}");
}

/// Lets namespaces log packets as the host does: where this test runs the kernel would not say so. Ends with
/// this value.
struct LogAll(&'static str, String);

impl LogAll {
    /// Before the thread goes into a namespace.
    fn new() -> LogAll {
        let path = "/proc/sys/net/netfilter/nf_log_all_netns";
        let before = fs::read_to_string(path).unwrap();
        fs::write(path, "1").unwrap();
        LogAll(path, before)
    }
}

impl Drop for LogAll {
    fn drop(&mut self) {
        let _ = fs::write(self.0, &self.1);
    }
}

/// A packet that the rule of the test logs.
fn probe(net: &Net, peer: &common::Peer) {
    net.within(&peer.ns, |_| {
        let socket = std::net::UdpSocket::bind((peer.v4, 0)).unwrap();
        let _ = socket.send_to(b"x", (peer.host4, 7));
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn lines_of_the_kernel_are_read_and_those_of_others_are_not() {
    let _all = LogAll::new();
    let mut net = host("", "");
    let text = "source=kmsg\nprograms=kernel\nfailregex=^mef-test: IN=\\S* OUT=.* SRC=<HOST> \nmaxretry=2";
    net.rule("app", text);
    let daemon = net.daemon("daemon");
    // Whatever a program writes there is not of the kernel.
    let forged = "<4>mef-test: IN=v0 OUT= MAC= SRC=203.0.113.9 DST=203.0.113.1 LEN=60\n";
    for _ in 0..3 {
        fs::write("/dev/kmsg", forged).unwrap();
    }
    let peer = net.peer();
    net.nft(
        "table inet watch { chain c { type filter hook input priority 0; udp dport 7 log prefix \
        \"mef-test: \"; }; }",
    );
    wait_until("the ban", || {
        probe(&net, &peer);
        net.in_set("ban4", peer.v4.into())
    });
    assert!(!banned(&net, "203.0.113.9"));
    // What was written between two runs is read by the next, and nothing twice.
    let seen = net.counts(daemon, "daemon")[2];
    net.stop(daemon);
    net.mef(&["unban", "--all"]).ok();
    probe(&net, &peer);
    probe(&net, &peer);
    let daemon = net.daemon("again");
    wait_until("the ban by the next daemon", || net.in_set("ban4", peer.v4.into()));
    assert_eq!(net.counts(daemon, "again")[2], 2, "{seen} before");
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_rule_without_a_source_waits_for_its_file() {
    let mut net = host("", "files=/var/log/auth.log");
    net.rule("dropbear", "enabled=false\nprograms=dropbear\nfailregex=<HOST>");
    let daemon = net.daemon("daemon");
    for (rule, more) in [("app", ""), ("sshd", " and 2 more")] {
        let why = format!("no journal, no log file and no logread (/var/log/auth.log{more})");
        net.wait_said("daemon", &format!("sees nothing for {rule}: {why}; waiting"));
    }
    net.append("log/auth.log", failed("203.0.113.1").repeat(2));
    wait_until("the ban", || banned(&net, "203.0.113.1"));
    assert_eq!((said(&net, "sees nothing for app"), said(&net, "sees app again: /var/log/auth.log")), (1, 1));
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn without_files_the_ring_is_read_until_a_file_comes() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWIPC).unwrap();
    let mut net = host("", "files=/var/log/messages");
    symlink("/bin/busybox", net.path("sbin/logread")).unwrap();
    let daemon = net.daemon("daemon");
    // No ring is there yet: syslogd comes up after us.
    net.wait_said("daemon", "logread -f: ended");
    syslogd(&mut net, &["-C64"]);
    wait_until("the ban", || {
        log(&net, &failed("203.0.113.1"));
        banned(&net, "203.0.113.1")
    });
    // The ring has spoken: a file that appears now, with the same lines, is not counted.
    net.append("log/messages", failed("203.0.113.2").repeat(2));
    wait_until("another ban by the ring", || {
        log(&net, &failed("203.0.113.3"));
        banned(&net, "203.0.113.3")
    });
    assert!(!banned(&net, "203.0.113.2"));
    // A reload looks anew: there is a file now.
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("daemon", "configuration read");
    wait_until("the ban by the file", || {
        net.append("log/messages", failed("203.0.113.4"));
        banned(&net, "203.0.113.4")
    });
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_logread_without_a_ring_is_given_up_when_a_file_comes() {
    let mut net = host("", "files=/var/log/messages");
    let logread = script(&net, "sbin/logread", "exec sleep 1000");
    assert!(Path::new(&logread).exists());
    let daemon = net.daemon("daemon");
    let children = format!("/proc/{0}/task/{0}/children", net.pid(daemon));
    let runs = || {
        let pids = fs::read_to_string(&children).unwrap();
        let name = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        pids.split(' ').any(|pid| name(pid) == "sleep\n")
    };
    wait_until("logread", runs);
    net.append("log/messages", failed("203.0.113.1").repeat(2));
    wait_until("the ban", || banned(&net, "203.0.113.1"));
    wait_until("the end of logread", || !runs());
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn names_that_lead_to_files_of_the_kernel_are_refused() {
    let mut net = Net::new();
    // However long this host is up: files of the kernel are as old as it is.
    net.configure("file_recent_window=365d", &[LOG]);
    net.append(LOG, "");
    fs::create_dir(net.path("home")).unwrap();
    rule(&net, "app", &format!("source=file\nfiles={}/*.log", net.path("home").display()));
    let links = [
        "/proc/kmsg",
        "/proc/self/mem",
        "/sys/kernel/uevent_seqnum",
        "/dev/zero",
        "/dev/kmsg",
        "/proc/self/environ",
    ];
    for (n, target) in links.iter().enumerate() {
        symlink(target, net.path(&format!("home/a{n}.log"))).unwrap();
    }
    let daemon = net.daemon("daemon");
    let open = |net: &Net| {
        let dir = format!("/proc/{}/fd", observer(net.pid(daemon)));
        let targets = fs::read_dir(dir).unwrap().filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        targets
            .filter(|to| ["/proc", "/sys", "/dev/zero", "/dev/kmsg"].iter().any(|dir| to.starts_with(dir)))
            .collect::<Vec<_>>()
    };
    assert!(open(&net).is_empty(), "{:?}", open(&net));
    assert_eq!(said(&net, "(proc, sysfs), not followed"), 4);
    // It becomes so later: a log is exchanged for a link, and back.
    let log = net.path("home/b.log");
    for round in 0..20 {
        fs::write(net.path("home/file"), "").unwrap();
        fs::rename(net.path("home/file"), &log).unwrap();
        symlink(links[round % 3], net.path("home/link")).unwrap();
        fs::rename(net.path("home/link"), &log).unwrap();
        net.mark(LOG);
        assert!(open(&net).is_empty(), "{:?}", open(&net));
    }
    fs::remove_file(&log).unwrap();
    net.append("home/b.log", failed("203.0.113.1").repeat(2));
    wait_until("the ban by the log that is one again", || banned(&net, "203.0.113.1"));
    net.stop(daemon);
}
