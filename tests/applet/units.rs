//! The units of the existing product, by the lines that start things, under a real systemd: process 1 of
//! namespaces of its own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::mef_binary;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The rule set at boot.
const MEF: &str = "[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/mefctl rules apply --yes /etc/mef/mef.rules
ExecStop=/usr/local/sbin/mefctl rules clear
ExecReload=/usr/local/sbin/mefctl rules apply --yes /etc/mef/mef.rules
StandardOutput=journal
StandardError=journal
";

/// The daemon.
const MEFDAEMON: &str = "[Unit]
DefaultDependencies=no
[Service]
Type=simple
ExecStart=/usr/local/sbin/mefdaemon
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=1
NoNewPrivileges=true
PrivateTmp=true
[Install]
WantedBy=multi-user.target
";

const TARGET: &str = "[Unit]\nDefaultDependencies=no\nWants=drive.service\n";
const DRIVE: &str = "[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/sh /usr/local/sbin/drive
ExecStopPost=/bin/systemctl --force --force poweroff
";

/// What is done under systemd; each line that it says is what is found.
const STEPS: &str = r#"
exec >/run/said 2>&1
export PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
wait_for() { n=0; until "$@" >/dev/null 2>&1; do n=$((n + 1)); [ $n -lt 600 ] || return 1; sleep 0.1; done; }
main() { systemctl show -p MainPID --value mefdaemon; }
rules() { nft list table inet mef | grep -o 'dport 10[0-9]*'; }
check() { text=$1; shift; if "$@"; then echo "yes: $text"; else echo "NO: $text"; fi; }
ip link set lo up
check "the rule set is started" mefctl start mef
check "it is in force" test "$(rules)" = "dport 1000"
check "the daemon is started" mefctl start mefdaemon
check "it has its socket" wait_for test -S /run/mef/mef.sock
pid=$(main)
check "the process that systemd knows is the daemon" test "$(cat /proc/$pid/comm)" = mefdaemon
sleep 3
check "it stays the same process" test "$(main)" = "$pid"
check "it was not started again" test "$(systemctl show -p NRestarts --value mefdaemon)" = 0
check "somebody is banned" mefctl bans add 203.0.113.7
check "the daemon reloads" mefctl reload mefdaemon
sed -i 's/1000/1001/' /etc/mef/mef.rules
check "the rule set reloads" mefctl reload mef
check "the new one is in force" test "$(rules)" = "dport 1001"
echo 'rule dir=in action=nothing' > /etc/mef/mef.rules
if mefctl reload mef; then echo "NO: a bad one is refused"; else echo "yes: a bad one is refused"; fi
check "the one before stays" test "$(rules)" = "dport 1001"
check "the daemon is enabled" mefctl enable mefdaemon
check "systemd has it" test "$(systemctl is-enabled mefdaemon)" = enabled
check "the daemon is disabled" mefctl disable mefdaemon
kill -9 "$pid"
restarted() { now=$(main); [ "$now" != "$pid" ] && [ "$now" != 0 ] && systemctl is-active -q mefdaemon; }
check "killed it comes again" wait_for restarted
check "the ban is still there" test "$(mefctl bans list --ips-only)" = 203.0.113.7
check "the daemon is stopped" mefctl stop mefdaemon
check "it is gone" test "$(main)" = 0
check "the rule set is stopped" mefctl stop mef
if nft list table inet mef >/dev/null 2>&1; then echo "NO: it is gone"; else echo "yes: it is gone"; fi
check "the ban stays" test "$(mefctl bans list --ips-only)" = 203.0.113.7
echo end
"#;

/// Makes a root out of the host's, with directories of its own where anything is written, and systemd in it.
const BEGIN: &str = r#"
set -e
mount --make-rprivate /
mount --rbind / root
for dir in etc/mef etc/systemd/system usr/local/sbin var/lib var/log; do
    mkdir -p "root/$dir" "own/$dir"
    mount --bind "own/$dir" "root/$dir"
done
mount --bind own/run-host root/run
mount -t tmpfs tmpfs root/tmp
mount -t proc proc root/proc
mount -t cgroup2 cgroup2 root/sys/fs/cgroup
cd root
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    chroot . /lib/systemd/systemd --unit=drive.target --show-status=false
"#;

/// A directory, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn put(&self, path: &str, text: &str) {
        let path = self.0.join("own").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_units_of_the_existing_product_run_under_systemd() {
    assert!(Path::new("/lib/systemd/systemd").exists(), "this test needs the package systemd");
    let scratch = Scratch(std::env::temp_dir().join(format!("mef-units-{}", std::process::id())));
    let _ = fs::remove_dir_all(&scratch.0);
    for dir in ["root", "own/run-host", "own/var/lib", "own/var/log"] {
        fs::create_dir_all(scratch.0.join(dir)).unwrap();
    }
    for name in ["mefctl", "mefdaemon"] {
        scratch.put(&format!("usr/local/sbin/{name}"), "");
        common::install(&mef_binary(), &scratch.0.join("own/usr/local/sbin").join(name));
    }
    let units = [("mef.service", MEF), ("mefdaemon.service", MEFDAEMON), ("drive.service", DRIVE)];
    for (name, text) in units.into_iter().chain([("drive.target", TARGET)]) {
        scratch.put(&format!("etc/systemd/system/{name}"), text);
    }
    scratch.put("usr/local/sbin/drive", STEPS);
    scratch.put("etc/mef/mef.conf", "[global]\nps_enabled=false\nrules_dir=/etc/mef/none\n");
    let rules = "policy dir=in action=drop\nrule dir=in action=accept proto=tcp dport=1000\n";
    scratch.put("etc/mef/mef.rules", rules);
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", "240", "unshare", "--pid", "--mount", "--net", "--uts", "--ipc", "--cgroup"]);
    command.args(["--fork", "--kill-child", "sh", "-c", BEGIN]);
    let out = command.current_dir(&scratch.0).stdin(Stdio::null()).output().unwrap();
    let said = fs::read_to_string(scratch.0.join("own/run-host/said")).unwrap_or_default();
    let all = || format!("{said}\n{out:?}");
    assert!(said.ends_with("end\n") && !said.contains("NO: "), "{}", all());
    assert_eq!(said.matches("yes: ").count(), 23, "{}", all());
}
