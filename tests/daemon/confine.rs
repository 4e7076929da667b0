//! What the daemon has given up, and that it does its work nevertheless. Somebody who has his code run in it
//! is played by this program itself: it goes through the same sequence and then tries what it likes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use crate::common;

use common::daemon::{LOG, failed, host};
use common::ns::{USER, call, filter_of, has_user, private_dirs};
use common::{Net, wait_until};
use mef::config::load;
use mef::daemon::confine::{BackendPrograms, enter};
use mef::sys::socket::{listen_at, listen_on};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Error, Read as _};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

/// CAP_NET_ADMIN and CAP_DAC_READ_SEARCH; CAP_SYSLOG.
const KEPT: u64 = 1 << 12 | 1 << 2;
const SYSLOG: u64 = 1 << 34;

/// A value of /proc/PID/status.
pub(super) fn value(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap().trim();
    let radix = if name.starts_with("Cap") { 16 } else { 10 };
    u64::from_str_radix(value.split_whitespace().next().unwrap(), radix).unwrap()
}

fn status(net: &Net) -> String {
    let text = net.mef(&["status"]).shown();
    text.lines().find_map(|line| line.strip_prefix("confined    ")).unwrap().to_owned()
}

/// What the status says first: as whom the daemon runs.
fn user() -> &'static str {
    if has_user() { "user mef, " } else { "" }
}

fn bans(net: &Net, addr: &str) {
    net.append(LOG, failed(addr));
    wait_until("a ban", || net.banned().contains(&addr.to_owned()));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_daemon_keeps_two_rights_and_says_so() {
    let mut net = host("", "maxretry=1");
    let daemon = net.daemon("daemon");
    let pid = net.pid(daemon);
    for (name, want) in [
        ("CapEff", KEPT),
        ("CapPrm", KEPT),
        ("CapInh", 0),
        ("CapBnd", 0),
        ("CapAmb", 0),
        ("NoNewPrivs", 1),
        ("Seccomp", 2),
        ("Threads", 1),
    ] {
        assert_eq!(value(pid, name), want, "{name}");
    }
    let who = if has_user() { USER } else { 0 };
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for ids in ["Uid", "Gid"] {
        assert!(text.contains(&format!("{ids}:\t{who}\t{who}\t{who}\t{who}\n")), "{text}");
    }
    assert!(text.contains("Groups:\t \n") || !has_user(), "{text}");
    let said = status(&net);
    let begin = format!("full: {}capabilities net_admin dac_read_search, no new privileges", user());
    assert!(said.starts_with(&begin), "{said}");
    assert!(said.contains("system calls (seccomp)") && said.contains("files (Landlock "), "{said}");
    assert!(net.mef(&["status", "--json"]).shown().contains("\"confined\":\"full: "));
    assert!(!net.said("daemon").contains("confine="), "{}", net.said("daemon"));
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    assert_eq!(children.split_whitespace().count(), 1, "who reads logs; nobody runs programs: {children}");
    bans(&net, "203.0.113.1");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn less_is_given_up_where_the_configuration_says_so() {
    let own = std::process::id();
    let mut net = host("confine=basic", "maxretry=1");
    let daemon = net.daemon("basic");
    let pid = net.pid(daemon);
    let all = ["CapEff", "CapBnd", "NoNewPrivs", "Seccomp"].map(|name| value(pid, name));
    assert_eq!(all, [KEPT, 0, 1, value(own, "Seccomp")]);
    let want = format!("basic: {}capabilities net_admin dac_read_search, no new privileges", user());
    assert_eq!(status(&net), want);
    bans(&net, "203.0.113.1");
    net.configure("confine=off", &[LOG]);
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("basic", "confine=off takes effect after a restart");
    net.stop(daemon);
    let daemon = net.daemon("off");
    for name in ["CapEff", "CapBnd", "NoNewPrivs", "Seccomp"] {
        assert_eq!(value(net.pid(daemon), name), value(own, name), "{name}");
    }
    assert_eq!(status(&net), "off");
    bans(&net, "203.0.113.2");
    net.configure("confine=some", &[LOG]);
    let check = net.mef(&["check", "--config", net.path("mef.conf").to_str().unwrap()]);
    assert!((check.stdout + &check.stderr).contains("expected one of: full, basic, off"));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_feature_that_needs_a_right_has_it() {
    let mut net = host("", "");
    net.rule("kernel", "source=kmsg\nfailregex=^never <HOST>$");
    let daemon = net.daemon("daemon");
    assert_eq!(value(net.pid(daemon), "CapEff"), KEPT | SYSLOG);
    let begin = format!("full: {}capabilities net_admin dac_read_search syslog,", user());
    assert!(status(&net).starts_with(&begin));
    assert!(!net.said("daemon").contains("read nothing"), "{}", net.said("daemon"));
}

/// A hook that writes what it is to a file beside it.
fn hook(net: &Net) -> String {
    let text = "#!/bin/sh\n{ id -u; id -G; grep -E '^(CapEff|Seccomp|NoNewPrivs):' /proc/self/status; \
                env; echo end; } >> \"${0%/*}/out/facts\"\n";
    fs::create_dir(net.path("out")).unwrap();
    fs::set_permissions(net.path("out"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    net.program("hook", text).display().to_string()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn programs_have_all_rights_and_the_daemon_has_not() {
    let mut net = host("", "maxretry=1");
    let path = hook(&net);
    net.configure(&format!("on_ban={path}"), &[LOG]);
    let daemon = net.daemon("daemon");
    assert_eq!((value(net.pid(daemon), "CapEff"), value(net.pid(daemon), "Seccomp")), (KEPT, 2));
    bans(&net, "203.0.113.1");
    wait_until("the hook", || net.read("out/facts").ends_with("end\n"));
    let own = std::process::id();
    let facts = net.read("out/facts");
    let rights = format!(
        "CapEff:\t{:016x}\nNoNewPrivs:\t0\nSeccomp:\t{}\n",
        value(own, "CapEff"),
        value(own, "Seccomp")
    );
    assert!(facts.starts_with("0\n") && facts.contains(&rights), "{facts}");
    assert!(facts.contains("MEF_ADDR=203.0.113.1\n") && !facts.contains("\nHOME="), "{facts}");
    // Another program is taken at a reload, since there is who runs it.
    fs::copy(&path, net.path("other")).unwrap();
    net.configure(&format!("on_ban={} word\nhook_user=nobody", net.path("other").display()), &[LOG]);
    fs::remove_file(net.path("out/facts")).unwrap();
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("daemon", "configuration read");
    bans(&net, "203.0.113.2");
    wait_until("the other hook", || net.read("out/facts").ends_with("end\n"));
    let facts = net.read("out/facts");
    let user = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let ids = format!("{}\n{}\n", user.uid, user.gid);
    assert!(facts.starts_with(&ids) && facts.contains("CapEff:\t0000000000000000\n"), "{facts}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn hooks_of_a_user_that_there_is_not_are_not_run_as_root() {
    let mut net = host("", "maxretry=1");
    let path = hook(&net);
    for (name, confine) in [("full", "full"), ("off", "off")] {
        net.configure(&format!("on_ban={path}\nhook_user=no-such-user\nconfine={confine}"), &[LOG]);
        let daemon = net.daemon(name);
        net.wait_said(name, "hook_user=no-such-user: no such user: no hooks are run");
        let addr = format!("203.0.113.{}", name.len());
        bans(&net, &addr);
        net.stop(daemon);
    }
    assert!(!net.path("out/facts").exists());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_a_reload_cannot_have_is_told_in_words() {
    let mut net = host("", "maxretry=1");
    let daemon = net.daemon("daemon");
    let path = hook(&net);
    net.configure(&format!("on_ban={path}\nban_log_enabled=true\nban_log_path=/var/log/mef.log"), &[LOG]);
    net.rule("kernel", "source=kmsg\nfailregex=^never <HOST>$");
    net.rule("far", "programs=x\nsource=file\nfiles=/var/lib/far/x.log\nfailregex=^never <HOST>$");
    net.write("whitelist/host.conf", "admin.example\n");
    fs::create_dir_all(net.path("lib/far")).unwrap();
    net.rule(
        "near",
        &format!("programs=near\nfiles={}/*.log\nfailregex=^<HOST>$\nmaxretry=1", net.path("new").display()),
    );
    net.write("new/app.log", "");
    net.signal(daemon, libc::SIGHUP);
    for what in [
        "programs are run only after a restart (confine=full)",
        "the ban log is written only after a restart (confine=full)",
        "name servers are asked, the cloud is told and UDP is listened to only after a restart",
        "the kernel's log is read only after a restart (confine=full)",
        "/var/lib/far: is read only after a restart (confine=full)",
        "host names of allow lists are looked up only after a restart (confine=full)",
        "configuration read",
    ] {
        net.wait_said("daemon", what);
    }
    bans(&net, "203.0.113.1");
    net.wait_said("daemon", "it can be started only after a restart (confine)");
    // A log that is where logs are as a rule is read at once.
    net.append("new/app.log", "Nov 29 10:00:00 h near[1]: 203.0.113.9\n");
    wait_until("the ban by the new rule", || net.banned().contains(&"203.0.113.9".to_owned()));
    net.stop(daemon);
    let daemon = net.daemon("again");
    assert!(!net.said("again").contains("after a restart"), "{}", net.said("again"));
    bans(&net, "203.0.113.2");
    wait_until("the hook", || net.read("out/facts").contains("MEF_ADDR=203.0.113.2"));
    wait_until("the ban log", || net.read("log/mef.log").contains("ban 203.0.113.2 "));
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn programs_end_with_a_daemon_that_is_killed() {
    let mut net = host("", "maxretry=1");
    let hook = net.program("hook", "#!/bin/sh\nsleep 1000 &\necho $! > \"${0%/*}/pid\"\nwait\n");
    net.configure(&format!("on_ban={}", hook.display()), &[LOG]);
    let daemon = net.daemon("daemon");
    bans(&net, "203.0.113.1");
    wait_until("the program", || net.read("pid").ends_with('\n'));
    net.signal(daemon, libc::SIGKILL);
    net.wait(daemon);
    let stat = format!("/proc/{}/stat", net.read("pid").trim());
    wait_until("its end", || !fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")));
}

/// What the kernel does with a call: the verdict of the filter on its number and arguments.
pub(super) fn verdict(filter: &[libc::sock_filter], number: i64, arguments: [u32; 4]) -> u32 {
    let number = u32::try_from(number).unwrap();
    let (mut a, mut at) = (0, 0);
    loop {
        let step = filter[at];
        at += 1;
        let jump = |yes: bool| usize::from(if yes { step.jt } else { step.jf });
        match step.code {
            0x20 => {
                a = match step.k {
                    0 => number,
                    4 => 0xc000_003e,
                    k => arguments[usize::try_from((k - 16) / 8).unwrap()],
                }
            }
            0x15 => at += jump(a == step.k),
            0x35 => at += jump(a >= step.k),
            0x45 => at += jump(a & step.k != 0),
            0x54 => a &= step.k,
            0x06 => return step.k,
            code => panic!("an instruction that is not known: {code:#x}"),
        }
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
#[cfg(target_arch = "x86_64")]
fn the_kernel_has_the_filter_that_is_meant() {
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | 1;
    let mut net = host("", "maxretry=1");
    let daemon = net.daemon("daemon");
    let filter = filter_of(net.pid(daemon));
    let verdict = |number: i64, arguments| verdict(&filter, number, arguments);
    let (unix, inet, netlink) = (1, 2, 16);
    for (number, arguments, want) in [
        (libc::SYS_openat, [0; 4], ALLOW),
        (libc::SYS_execve, [0; 4], KILL),
        (libc::SYS_ptrace, [0; 4], KILL),
        (libc::SYS_setns, [0; 4], KILL),
        (libc::SYS_getpid | 0x4000_0000, [0; 4], KILL),
        (libc::SYS_mmap, [0, 4096, 3, 0], ALLOW),
        (libc::SYS_mmap, [0, 4096, 7, 0], EPERM),
        (libc::SYS_mprotect, [0, 4096, 4, 0], EPERM),
        (libc::SYS_socket, [unix, 2, 0, 0], ALLOW),
        (libc::SYS_socket, [unix, 0x8_0801, 0, 0], EPERM),
        (libc::SYS_socket, [inet, 2, 0, 0], EPERM),
        (libc::SYS_socket, [netlink, 3, 12, 0], ALLOW),
        (libc::SYS_socket, [netlink, 3, 9, 0], EPERM),
        (libc::SYS_ioctl, [0, 0x5421, 0, 0], ALLOW),
        // TIOCSTI and TIOCLINUX: to type for somebody else.
        (libc::SYS_ioctl, [0, 0x5412, 0, 0], EPERM),
        (libc::SYS_ioctl, [0, 0x541c, 0, 0], EPERM),
        (libc::SYS_ioctl, [0, FIOASYNC, 0, 0], EPERM),
        (libc::SYS_fcntl, [0, libc::F_GETFL.cast_unsigned(), 0, 0], ALLOW),
        (libc::SYS_fcntl, [0, libc::F_OFD_SETLK.cast_unsigned(), 0, 0], ALLOW),
        (libc::SYS_fcntl, [0, F_SETSIG.cast_unsigned(), 9, 0], EPERM),
        (libc::SYS_prctl, [1, 9, 0, 0], ALLOW),
        (libc::SYS_prctl, [22, 2, 0, 0], ALLOW),
        (libc::SYS_prctl, [4, 1, 0, 0], EPERM),
        (libc::SYS_clone, [0x11, 0, 0, 0], ALLOW),
        (libc::SYS_clone, [0x1000_0011, 0, 0, 0], EPERM),
        (libc::SYS_prlimit64, [1, 7, 0, 0], EPERM),
    ] {
        assert_eq!(verdict(number, arguments), want, "{number} {arguments:x?}");
    }
    for number in [
        libc::SYS_io_uring_setup,
        libc::SYS_userfaultfd,
        libc::SYS_pidfd_getfd,
        libc::SYS_open_by_handle_at,
        libc::SYS_symlinkat,
        libc::SYS_linkat,
        libc::SYS_mknodat,
        libc::SYS_fchown,
        libc::SYS_fchownat,
        libc::SYS_fchmod,
        libc::SYS_fchmodat,
        libc::SYS_setxattr,
        libc::SYS_setresuid,
        libc::SYS_setgroups,
        libc::SYS_seccomp,
        libc::SYS_perf_event_open,
        libc::SYS_keyctl,
        libc::SYS_shmat,
        libc::SYS_personality,
        libc::SYS_kexec_load,
    ] {
        assert_eq!(verdict(number, [0; 4]), EPERM, "{number}");
    }
    // As many calls as the list has, whatever else a kernel will have; and not one more.
    let listed = include_str!("../../src/sys/seccomp.rs");
    let list = |begin: &str| {
        let text = listed.split_once(begin).unwrap().1.split_once("];").unwrap().0;
        text.lines().map(|line| line.split("//").next().unwrap().matches("libc::SYS_").count()).sum::<usize>()
    };
    let open = (0..1024).filter(|number| verdict(*number, [u32::MAX; 4]) == ALLOW).count();
    assert_eq!(open, list("static ALLOWED:") + list("static ALLOWED_HERE:"));
}

/// The calls in a record of strace behind the one that installs the filter, by process: names and results.
fn calls(record: &str) -> Vec<(String, String)> {
    let mut confined = false;
    let mut calls = Vec::new();
    for line in record.lines() {
        // `PID NAME(ARGUMENTS) = RESULT`; what another process interrupts is resumed on a line of its own.
        let Some((_, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start().trim_start_matches("<... ");
        let name: String = call.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if confined && !name.is_empty() && !call.starts_with("---") && !call.starts_with("+++") {
            let result = call.rsplit_once(" = ").map_or("", |(_, result)| result);
            calls.push((name, result.to_owned()));
        }
        confined |= call.starts_with("prctl(PR_SET_SECCOMP");
    }
    calls
}

/// Everything that a daemon does, one after the other.
fn live(net: &mut Net, daemon: usize) {
    bans(net, "203.0.113.1");
    net.append(LOG, (0..20).map(|i| failed(&format!("198.51.100.{i}"))).collect::<String>());
    net.mark(LOG);
    // A rotation, another log, lists that change, commands of all kinds.
    fs::rename(net.path(LOG), net.path("app.log.1")).unwrap();
    bans(net, "203.0.113.2");
    net.write("new/app.log", "");
    net.write("blacklist/feed.conf", "20.30.40.0/25\n");
    wait_until("the deny list", || net.nft_list("table inet mef_guard").contains("20.30.40.0/25"));
    net.mef(&["ban", "192.0.2.200"]).ok();
    net.mef(&["unban", "203.0.113.1"]).ok();
    net.mef(&["status"]).shown();
    net.mef(&["top", "--once"]);
    let mut watch = net.mef_command(&["watch"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    let socket = net.path("run/mef/log");
    wait_until("the socket of syslog daemons", || socket.exists());
    let line = "<38>Nov 29 10:00:00 h sys[1]: bad 203.0.113.7";
    UnixDatagram::unbound().unwrap().send_to(line.as_bytes(), socket).unwrap();
    wait_until("the ban by a datagram", || net.banned().contains(&"203.0.113.7".to_owned()));
    wait_until("the ban by a program", || net.banned().contains(&"203.0.113.8".to_owned()));
    net.nft("flush ruleset");
    wait_until("the bans again", || net.banned().contains(&"203.0.113.2".to_owned()));
    net.signal(daemon, libc::SIGUSR1);
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("daemon", "configuration read");
    bans(net, "203.0.113.3");
    wait_until("the hooks", || net.read("out/facts").contains("MEF_ADDR=203.0.113.3"));
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_daemon_makes_no_call_but_those_of_the_list() {
    let mut net = host("", "maxretry=1");
    let peer = net.peer();
    let path = hook(&net);
    net.configure(
        &format!(
            "on_ban={path}\ndns_servers={}\nban_log_enabled=true\nban_log_path={}/log/mef.log",
            peer.v4,
            net.dir.display()
        ),
        &[LOG],
    );
    net.write("whitelist/host.conf", "admin.example\n");
    net.rule("kernel", "source=kmsg\nfailregex=^never <HOST>$");
    net.rule("sys", "source=syslog\nprograms=sys\nfailregex=^bad <HOST>$\nmaxretry=1");
    let said = net.program("said", "#!/bin/sh\necho bad 203.0.113.8\nexec sleep 1000\n");
    net.rule(
        "said",
        &format!("source=command\ncommand={}\nfailregex=^bad <HOST>$\nmaxretry=1", said.display()),
    );
    let record = net.path("strace");
    // The tracer is a process beside it, so that the daemon is our child.
    let binary = net.mef_command(&[]).get_program().to_owned();
    let mut traced = net.command("strace", &["-D", "-f", "-q", "-o", record.to_str().unwrap()]);
    traced.arg(binary).args(["daemon", "--foreground", "--config"]).arg(net.path("mef.conf"));
    private_dirs(&mut traced, &net.dir);
    let daemon = net.start("daemon", traced);
    net.wait_said("daemon", "mef 0.1.0 watches");
    live(&mut net, daemon);
    net.stop(daemon);
    wait_until("the record", || net.read("strace").contains("+++ exited with"));
    let listed = include_str!("../../src/sys/seccomp.rs");
    // Programs are not confined: theirs is the process that runs them.
    let all = net.read("strace");
    let pid = net.pid(daemon).to_string();
    let of =
        |pid: &str| -> Vec<&str> { all.lines().filter(|line| line.split(' ').next() == Some(pid)).collect() };
    let mut made = calls(&of(&pid).join("\n"));
    // Those that it forks itself are confined from their begin.
    let forked: Vec<_> = made.iter().filter(|(name, _)| ["fork", "clone"].contains(&name.as_str())).collect();
    assert!(!forked.is_empty());
    let begin = "0 prctl(PR_SET_SECCOMP)\n";
    let workers = forked.iter().flat_map(|(_, pid)| calls(&(begin.to_owned() + &of(pid).join("\n"))));
    made.extend(workers.collect::<Vec<_>>());
    assert!(made.len() > 500, "{}", made.len());
    for (name, result) in &made {
        assert!(!result.starts_with("-1 EPERM") && !result.starts_with("-1 ENOSYS"), "{name} = {result}");
        assert!(listed.contains(&format!("SYS_{name}")), "{name} is not in the list");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn commands_that_only_read_have_no_rights() {
    let net = host("", "maxretry=1");
    net.write("etc-mef/mef.rules", "policy dir=in action=accept\n");
    let conf = net.path("mef.conf");
    let conf = conf.to_str().unwrap();
    let rule = net.path("rules.d/app.conf");
    // Somebody else's log is read nevertheless.
    net.append(LOG, failed("203.0.113.1"));
    std::os::unix::fs::chown(net.path(LOG), Some(65_534), Some(65_534)).unwrap();
    fs::set_permissions(net.path(LOG), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let log = net.path(LOG);
    let none = "effective=0, permitted=0, inheritable=0";
    let reads = "effective=1<<CAP_DAC_READ_SEARCH, permitted=1<<CAP_DAC_READ_SEARCH, inheritable=0";
    for (args, kept) in [
        (vec!["test", rule.to_str().unwrap(), log.to_str().unwrap()], none),
        (vec!["check", "--config", conf], reads),
        (vec!["fmt"], none),
        (vec!["export"], "effective=1<<CAP_NET_ADMIN, permitted=1<<CAP_NET_ADMIN, inheritable=0"),
    ] {
        let record = net.path("strace");
        let mut traced = net.command("strace", &["-f", "-qq", "-e", "trace=capset,prctl", "-o"]);
        traced.arg(&record).arg(net.mef_command(&[]).get_program()).args(&args);
        private_dirs(&mut traced, &net.dir);
        let output = traced.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{args:?}: {output:?}");
        let record = net.read("strace");
        assert!(record.contains(kept) && record.contains("PR_SET_NO_NEW_PRIVS, 1"), "{args:?}: {record}");
        assert!(args[0] != "test" || said.contains("203.0.113.1"), "{said}");
    }
}

/// What somebody tries who has his code run in the daemon, and what becomes of it.
type Attempt = (&'static str, fn() -> io::Result<()>);

fn open(path: impl AsRef<Path>) -> io::Result<()> {
    File::open(path)?.read(&mut [0]).map(drop)
}

fn append(path: impl AsRef<Path>) -> io::Result<()> {
    OpenOptions::new().append(true).open(path).map(drop)
}

fn dir() -> PathBuf {
    std::env::var_os("MEF_ESCAPE_DIR").unwrap().into()
}

/// The sockets of syslog daemons, opened before anything was given up.
fn lent() -> &'static [OwnedFd; 2] {
    static LENT: OnceLock<[OwnedFd; 2]> = OnceLock::new();
    LENT.get_or_init(|| {
        let udp = listen_on("127.0.0.1:0".parse().unwrap());
        [listen_at(Path::new("/run/mef/log")).unwrap(), udp.unwrap()]
    })
}

/// Refused, and the process lives on.
const REFUSED: &[Attempt] = &[
    ("read the passwords", || open("/etc/shadow")),
    ("by another way", || open("/proc/self/root/etc/shadow")),
    ("by that of another process", || open("/proc/1/root/etc/shadow")),
    ("read what another process was started with", || open("/proc/1/environ")),
    ("read the kernel's log", || open("/dev/kmsg")),
    ("write to a log", || append(dir().join("app.log"))),
    ("write to the configuration", || append(dir().join("mef.conf"))),
    ("write to a list", || File::create(dir().join("whitelist/x.conf")).map(drop)),
    ("make a file in /tmp", || File::create(dir().join("made")).map(drop)),
    ("make a file in /etc", || File::create("/etc/mef-escape").map(drop)),
    ("switch something in the kernel", || append("/proc/sys/net/ipv4/ip_forward")),
    ("remove a log", || fs::remove_file(dir().join("app.log"))),
    ("rename a log", || fs::rename(dir().join("app.log"), dir().join("run/app.log"))),
    ("link to a log", || fs::hard_link(dir().join("app.log"), dir().join("run/app.log"))),
    ("change a mode", || {
        fs::set_permissions(dir().join("app.log"), std::os::unix::fs::PermissionsExt::from_mode(0o4755))
    }),
    ("change an owner", || std::os::unix::fs::chown(dir().join("app.log"), Some(1), None)),
    ("make a device", || {
        call(libc::SYS_mknodat, [-100, path_of(c"/tmp/mef-dev"), 0o60660, 0x801, 0]).map(drop)
    }),
    ("connect by TCP", || TcpStream::connect("127.0.0.1:9").map(drop)),
    ("send by UDP", || UdpSocket::bind("127.0.0.1:0").map(drop)),
    ("send from where syslog daemons send to", || {
        let [_, udp] = lent().each_ref().map(OwnedFd::try_clone);
        UdpSocket::from(udp?).send_to(b"x", "127.0.0.1:9").map(drop)
    }),
    ("write to the system's log from there", || {
        let [unix, _] = lent().each_ref().map(OwnedFd::try_clone);
        UnixDatagram::from(unix?).send_to(b"x", "/dev/log").map(drop)
    }),
    ("see all packets", || socket(libc::AF_PACKET, libc::SOCK_RAW, 0)),
    ("send any packet", || socket(libc::AF_INET, libc::SOCK_RAW, 1)),
    ("connect to another service", || UnixStream::connect("/nowhere").map(drop)),
    ("speak to the audit system", || socket(libc::AF_NETLINK, libc::SOCK_RAW, 9)),
    ("speak to the kernel's crypto", || socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0)),
    ("speak to a virtual machine's host", || socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)),
    ("make code", || call(libc::SYS_mmap, [0, 4096, 7, 0x22, -1]).map(drop)),
    ("become root again", || call(libc::SYS_setresuid, [0, 0, 0, 0, 0]).map(drop)),
    ("have more rights", || {
        let (header, all) = ([0x2008_0522_u32, 0], [u32::MAX; 6]);
        let at = |start: *const u32| start.addr().try_into().unwrap();
        call(libc::SYS_capset, [at(header.as_ptr()), at(all.as_ptr()), 0, 0, 0]).map(drop)
    }),
    ("be seen as another process", || call(libc::SYS_prctl, [15, 0, 0, 0, 0]).map(drop)),
    ("have rings", || call(libc::SYS_io_uring_setup, [1, 0, 0, 0, 0]).map(drop)),
    ("have keys", || call(libc::SYS_keyctl, [0, -3, 0, 0, 0]).map(drop)),
    ("handle page faults", || call(libc::SYS_userfaultfd, [1, 0, 0, 0, 0]).map(drop)),
    ("set the clock", || call(libc::SYS_settimeofday, [0, 0, 0, 0, 0]).map(drop)),
    ("limit another process", || call(libc::SYS_prlimit64, [1, 7, 0, 0, 0]).map(drop)),
    ("have namespaces", || call(libc::SYS_clone, [0x1000_0011, 0, 0, 0, 0]).map(drop)),
    ("kill another process", || call(libc::SYS_kill, [parent(), 0, 0, 0, 0]).map(drop)),
    ("have the kernel kill it", || ask(libc::F_SETOWN, parent())),
    ("by another number", || ask(F_SETOWN_EX, 0)),
    ("by a signal of one's choice", || ask(F_SETSIG, libc::SIGKILL.into())),
    ("when a file is opened", || ask(libc::F_SETLEASE, libc::F_RDLCK.into())),
    ("as soon as there is something to read", || {
        call(libc::SYS_ioctl, [0, FIOASYNC.into(), 0, 0, 0]).map(drop)
    }),
];

/// The end of the process.
const FATAL: &[Attempt] = &[
    ("run a program", || nix::unistd::execv(c"/bin/true", &[c"true"]).map(|_| ()).map_err(Error::from)),
    ("run it by a descriptor", || call(libc::SYS_execveat, [0, 0, 0, 0, 0x1000]).map(drop)),
    ("trace another process", || call(libc::SYS_ptrace, [16, parent(), 0, 0, 0]).map(drop)),
    ("read another process", || call(libc::SYS_process_vm_readv, [parent(), 0, 0, 0, 0]).map(drop)),
    ("write to another process", || call(libc::SYS_process_vm_writev, [parent(), 0, 0, 0, 0]).map(drop)),
    ("load a module", || call(libc::SYS_init_module, [0, 0, 0, 0, 0]).map(drop)),
    ("load a module from a file", || call(libc::SYS_finit_module, [0, 0, 0, 0, 0]).map(drop)),
    ("mount", || call(libc::SYS_mount, [0, 0, 0, 0, 0]).map(drop)),
    ("have another root", || call(libc::SYS_chroot, [0, 0, 0, 0, 0]).map(drop)),
    ("leave its namespaces", || call(libc::SYS_unshare, [0x2_0000, 0, 0, 0, 0]).map(drop)),
    ("enter those of others", || call(libc::SYS_setns, [0, 0, 0, 0, 0]).map(drop)),
    ("load BPF", || call(libc::SYS_bpf, [0, 0, 0, 0, 0]).map(drop)),
    #[cfg(target_arch = "x86_64")]
    ("call by the numbers of x32", || call(0x4000_0000 | libc::SYS_getpid, [0; 5]).map(drop)),
];

/// Refused to the process that reads logs, too: what works in the other one, and more.
const OBSERVER_REFUSED: &[Attempt] = &[
    ("write its state", || File::create("/var/lib/mef/x").map(drop)),
    ("write to run_dir", || File::create("/run/mef/x").map(drop)),
    ("write to nothing", || append("/dev/null")),
    ("speak to netfilter", || socket(libc::AF_NETLINK, libc::SOCK_RAW, 12)),
    ("write to the system's log", || UnixDatagram::unbound()?.connect("/dev/log")),
    ("be two", || call(libc::SYS_clone, [0x11, 0, 0, 0, 0]).map(drop)),
    ("end itself by a signal", || call(libc::SYS_tgkill, [0, 0, 0, 0, 0]).map(drop)),
    ("lock a file", || {
        let file = File::open(dir().join("app.log"))?;
        call(libc::SYS_flock, [std::os::fd::AsRawFd::as_raw_fd(&file).into(), 2, 0, 0, 0]).map(drop)
    }),
    ("lock a part of one", || ask(libc::F_OFD_SETLK, 0)),
    ("have more calls", || call(libc::SYS_prctl, [22, 2, 0, 0, 0]).map(drop)),
];

/// Works: otherwise nothing of the above says anything.
const WORKS: &[Attempt] = &[
    ("read a log", || open(dir().join("app.log"))),
    ("read the configuration", || open(dir().join("mef.conf"))),
    ("read a list", || fs::read_dir(dir().join("whitelist")).map(drop)),
    ("write its state", || File::create("/var/lib/mef/x").map(drop)),
    ("write to run_dir", || File::create("/run/mef/x").and_then(|_| fs::remove_file("/run/mef/x"))),
    ("speak to netfilter", || socket(libc::AF_NETLINK, libc::SOCK_RAW, 12)),
    ("write to the system's log", || UnixDatagram::unbound()?.connect("/dev/log")),
    ("have memory", || call(libc::SYS_mmap, [0, 4096, 3, 0x22, -1]).map(drop)),
];

const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;
const FIOASYNC: u32 = 0x5452;

/// Something of standard input, by fcntl(2).
fn ask(what: i32, value: i64) -> io::Result<()> {
    call(libc::SYS_fcntl, [0, what.into(), value, 0, 0]).map(drop)
}

fn parent() -> i64 {
    std::os::unix::process::parent_id().into()
}

fn path_of(text: &'static std::ffi::CStr) -> i64 {
    text.as_ptr().addr().try_into().unwrap()
}

fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<()> {
    call(libc::SYS_socket, [family.into(), kind.into(), protocol.into(), 0, 0]).map(drop)
}

/// Confined as a daemon, if this is a process that [`escape`] has started; else it is no test.
#[test]
fn inside() {
    let Ok(which) = std::env::var("MEF_ESCAPE") else { return };
    let conf = dir().join("mef.conf");
    let loaded = load(&conf, &mut |_, _| ());
    assert!(!loaded.failed());
    fs::create_dir_all("/var/lib/mef").unwrap();
    fs::create_dir_all("/run/mef").unwrap();
    lent();
    let confined = enter(&conf, &loaded, BackendPrograms::None);
    println!("level {}", confined.text());
    if std::env::var_os("MEF_ESCAPE_AS").is_some_and(|who| who == "observer") {
        println!("observer {}", confined.observe().text());
    }
    for (name, attempt) in [REFUSED, FATAL, WORKS, OBSERVER_REFUSED].into_iter().flatten() {
        if which.split(',').any(|one| one == *name) {
            println!("tried {name}: {}", attempt().map_or_else(|e| e.to_string(), |()| "done".to_owned()));
        }
    }
}

/// Which of the two processes is played.
#[derive(Clone, Copy)]
enum Played {
    Enforcer,
    Observer,
}

/// Has a process try these.
fn escape(net: &Net, which: &[&str], played: Played) -> Output {
    let who = match played {
        Played::Enforcer => "enforcer",
        Played::Observer => "observer",
    };
    let mut command = net.command(std::env::current_exe().unwrap().to_str().unwrap(), &[]);
    command.args(["daemon::confine::inside", "--exact", "--nocapture", "--test-threads=1"]);
    private_dirs(&mut command, &net.dir);
    command.env("MEF_ESCAPE_AS", who);
    command.env("MEF_ESCAPE", which.join(",")).env("MEF_ESCAPE_DIR", &net.dir).output().unwrap()
}

fn names(attempts: &[Attempt]) -> Vec<&'static str> {
    attempts.iter().map(|(name, _)| *name).collect()
}

/// Has them tried: some work, the others are refused or fatal.
fn gets_nowhere(net: &Net, played: Played, works: &[&str], refused: &[&str]) {
    let output = escape(net, works, played);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for name in works {
        assert!(said.contains(&format!("tried {name}: done\n")), "{name}: {said}");
    }
    let output = escape(net, refused, played);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for name in refused {
        let what = said.lines().find_map(|line| line.strip_prefix(&format!("tried {name}: "))).unwrap_or("?");
        assert!(
            what.contains("not permitted")
                || what.contains("ermission denied")
                || what.contains("cross-device")
                || what.contains("roken pipe"),
            "{name}: {what}"
        );
    }
    assert!(net.read(LOG).ends_with("x\n"), "nothing has happened to the log");
    for name in names(FATAL) {
        let output = escape(net, &[name], played);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{name}: {said}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn whoever_has_his_code_run_in_it_gets_nowhere() {
    let net = host("confine=full", "");
    fs::create_dir_all(net.path("whitelist")).unwrap();
    net.append(LOG, "x\n");
    gets_nowhere(&net, Played::Enforcer, &names(WORKS), &names(REFUSED));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn whoever_has_his_code_run_in_what_reads_logs_can_only_read() {
    let net = host("confine=full", "");
    fs::create_dir_all(net.path("whitelist")).unwrap();
    net.append(LOG, "x\n");
    let refused = [names(REFUSED), names(OBSERVER_REFUSED)].concat();
    let works: Vec<_> = names(WORKS).into_iter().filter(|name| !refused.contains(name)).collect();
    assert_eq!(works, ["read a log", "read the configuration", "read a list", "have memory"]);
    gets_nowhere(&net, Played::Observer, &works, &refused);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn without_confinement_the_same_attempts_succeed() {
    let net = host("confine=off", "");
    net.append(LOG, "x\n");
    let which = ["read the passwords", "write to a log", "make a file in /tmp", "send by UDP", "make code"];
    let output = escape(&net, &which, Played::Enforcer);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for name in which {
        assert!(said.contains(&format!("tried {name}: done\n")), "{name}: {said}");
    }
}
