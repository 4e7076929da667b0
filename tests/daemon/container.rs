//! The daemon where it is not root of the whole machine: in a container with the profile of system calls that
//! containers have by default, and in a user namespace. It works there, and says what it has to do without.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use super::confine::value;
use common::daemon::{LOG, failed, host, observer};
use common::ns::{has_user, private_dirs};
use common::{Net, mef_binary, wait_for, wait_until};

/// Writes the configuration of a container (OCI) for the daemon: the capabilities that engines give by
/// default and CAP_NET_ADMIN, and of their default profile what holds for these. Its network is the test's.
const CONTAINER: &str = r#"
import json, sys
bundle, binary, home = sys.argv[1:]
caps = ["CAP_" + name for name in ("CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_BIND_SERVICE SETFCAP SETGID "
        "SETPCAP SETUID SYS_CHROOT NET_ADMIN").split()]
profile = json.load(open("/usr/share/containers/seccomp.json"))
def holds(rule):
    wanted, unwanted = rule.get("includes") or {}, rule.get("excludes") or {}
    return (set(wanted.get("caps") or []) <= set(caps) and not set(unwanted.get("caps") or []) & set(caps)
            and "amd64" in (wanted.get("arches") or ["amd64"])
            and "amd64" not in (unwanted.get("arches") or []))
def call(rule):
    made = {key: rule[key] for key in ("names", "action", "errnoRet") if rule.get(key) is not None}
    args = [{key: arg[key] for key in ("index", "value", "valueTwo", "op")} for arg in rule.get("args") or []]
    return made | ({"args": args} if args else {})
bind = lambda to, what: {"destination": to, "source": what, "type": "bind", "options": ["rbind", "rw"]}
json.dump({
    "ociVersion": "1.0.0",
    "process": {
        "user": {"uid": 0, "gid": 0}, "cwd": "/", "env": ["PATH=/"], "noNewPrivileges": True,
        "args": ["/mef", "daemon", "--foreground", "--config", home + "/mef.conf"],
        "capabilities": {kind: caps for kind in ("bounding", "effective", "permitted")},
    },
    "root": {"path": "rootfs"},
    "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
               {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
               bind("/mef", binary), bind("/var/lib", home + "/lib"), bind("/run", home + "/run"),
               bind("/etc/passwd", home + "/passwd"), bind(home, home)],
    "linux": {
        "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
        "seccomp": {"defaultAction": profile["defaultAction"], "architectures": ["SCMP_ARCH_X86_64"],
                    "syscalls": [call(rule) for rule in profile["syscalls"] if holds(rule)]},
    },
}, open(bundle + "/config.json", "w"))
"#;

/// Runs the container, whose control groups are those of the machine, whatever version of them that uses.
const RUN: &str = "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; \
                   exec crun --cgroup-manager=disabled --root \"$1/crun\" run --bundle \"$1/bundle\" \"$2\"";

/// What `mef status` says of the rights of the daemon.
fn confined(text: &str) -> &str {
    text.lines().find_map(|line| line.strip_prefix("confined    ")).unwrap()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
#[cfg(target_arch = "x86_64")]
fn a_container_with_the_default_profile_has_a_daemon_that_is_confined() {
    let mut net = host("", "maxretry=1");
    let home = net.dir.display().to_string();
    std::fs::create_dir_all(net.path("bundle/rootfs")).unwrap();
    let binary = mef_binary().display().to_string();
    let bundle = net.path("bundle").display().to_string();
    net.input("python3", &["-c", CONTAINER, &bundle, &binary, &home], b"").ok();
    // Names of containers are those of the machine.
    let name = format!("mef-test-{}", std::process::id());
    let mut command = net.command("sh", &["-c", RUN, "sh", &home, &name]);
    private_dirs(&mut command, &net.dir);
    let engine = net.start("daemon", command);
    net.wait_said("daemon", " watches ");
    net.append(LOG, failed("203.0.113.1"));
    wait_until("a ban", || net.banned().contains(&"203.0.113.1".to_owned()));
    // The filters of both, and that of the container.
    let daemon = child(net.pid(engine));
    let (own, observer) = (value(std::process::id(), "Seccomp_filters"), observer(daemon));
    assert_eq!([value(daemon, "Seccomp_filters"), value(observer, "Seccomp_filters")], [own + 2, own + 3]);
    assert_eq!(value(observer, "CapEff") & value(daemon, "CapEff"), value(observer, "CapEff"));
    let status = net.mef(&["status"]).shown();
    let said = confined(&status);
    assert!(said.contains("system calls (seccomp)") && said.contains("logs read by a process"), "{said}");
    net.stop(engine);
    assert!(net.banned().contains(&"203.0.113.1".to_owned()));
}

/// The process that was started by another one.
fn child(of: u32) -> u32 {
    let path = format!("/proc/{of}/task/{of}/children");
    wait_for("a child", || std::fs::read_to_string(&path).ok()?.split_whitespace().next()?.parse().ok())
}

/// Runs mef in the namespaces of a process.
fn mef_beside(net: &Net, pid: u32, args: &[&str]) -> String {
    let (pid, binary) = (pid.to_string(), mef_binary().display().to_string());
    let enter = ["--user", "--net", "--preserve-credentials", "--target", &pid, &binary];
    let mut command = net.command("nsenter", &[&enter, args].concat());
    net.own(&mut command);
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn root_of_a_user_namespace_has_a_daemon_that_says_what_it_cannot_do() {
    let mut net = host("", "maxretry=1");
    let (binary, conf) = (mef_binary().display().to_string(), net.path("mef.conf").display().to_string());
    let begin = ["--user", "--map-root-user", "--net", &binary, "daemon", "--foreground", "--config", &conf];
    let mut command = net.command("unshare", &begin);
    net.own(&mut command);
    let daemon = net.start("daemon", command);
    net.wait_said("daemon", " watches ");
    let pid = net.pid(daemon);
    net.append(LOG, failed("203.0.113.1"));
    wait_until("a ban", || mef_beside(&net, pid, &["bans"]).contains("203.0.113.1 "));
    assert!(!net.banned().contains(&"203.0.113.1".to_owned()), "the network of others");
    let status = mef_beside(&net, pid, &["status"]);
    let said = confined(&status);
    assert!(said.starts_with("full: capabilities net_admin dac_read_search, no new privileges"), "{said}");
    assert!(said.contains("system calls (seccomp)") && said.contains("logs read by a process"), "{said}");
    // Only root is known there.
    let lacks = "without user mef (Invalid argument";
    assert_eq!(said.contains(lacks), has_user(), "{said}");
    let told = net.said("daemon").matches(&format!("confine=full: {lacks}")).count();
    assert_eq!(told, usize::from(has_user()));
    assert_eq!(value(observer(pid), "CapEff"), 1 << 2);
    net.stop(daemon);
}
