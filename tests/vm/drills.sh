# What a small host meets on a bad day: a full disk, a disk that went read-only, no inotify, no processes,
# little address space, a daemon that was stopped for seconds, a clock that jumps. Attackers are banned all
# the same, and what is the matter is said.
# timeout: 900
# short: bookworm

# attack ADDRESS: more failed log-ins than sshd's rule forgives, as sshd writes them.
attack() {
    for try in 1 2 3 4 5 6 7; do
        echo "$(date '+%b %e %H:%M:%S') machine sshd[$try]:" \
            "Failed password for invalid user u$try from $1 port 4000 ssh2"
    done >>/var/log/auth.log
}
banned() { nft get element inet mef_guard ban4 "{ $1 }" >/dev/null 2>&1; }
said() { grep -q "$1" /var/log/daemon; }
restart_daemon() { stop_daemon 2>/dev/null; : >/var/log/daemon; start_daemon; }

# drill ADDRESS: the attacker gets banned.
drill() {
    attack "$1"
    wait_for 30 banned "$1"
}

mount -t tmpfs -o size=4m logs /var/log
mkdir -p /etc/mef
printf '[global]\nlog=stderr\nstate_sync=0\n' >/etc/mef/mef.conf
: >/var/log/auth.log
check "the daemon starts" start_daemon
check "an attacker is banned" drill 198.51.100.1

kill -STOP "$daemon"
attack 198.51.100.2
sleep 5
check "a daemon that is stopped bans nobody" sh -c "! nft get element inet mef_guard ban4 '{ 198.51.100.2 }'"
kill -CONT "$daemon"
check "one that goes on bans" wait_for 30 banned 198.51.100.2

now=$(date +%s)
date -s "@$((now + 400 * 86400))" >/dev/null
check "a clock that jumped ahead lifts no ban" banned 198.51.100.2
check "and hinders none" drill 198.51.100.3
date -s "@$((now - 86400))" >/dev/null
check "nor does one that jumped back" drill 198.51.100.4
date -s "@$now" >/dev/null

mkdir -p /run/state
mount -t tmpfs -o size=32k state /run/state
printf '[global]\nlog=stderr\nstate_sync=0\nstate_dir=/run/state\n' >/etc/mef/mef.conf
check "the daemon starts with a state_dir of its own" restart_daemon
dd if=/dev/zero of=/run/state/full bs=4k 2>/dev/null
check "the disk is full: an attacker is banned" drill 198.51.100.5
check "which is said" wait_for 10 said 'No space left'
check "a command says so, too" sh -c 'mef ban 198.51.100.6 2>&1 | grep "No space left"'
check "and has banned" banned 198.51.100.6
rm /run/state/full
check "there is room again: an attacker is banned" drill 198.51.100.7
stop_daemon
nft delete table inet mef_guard
check "the daemon starts, with an empty kernel" start_daemon
check "the ban from the time of the full disk is back" wait_for 30 banned 198.51.100.5
check "the one after it, too" banned 198.51.100.7

printf '[global]\nlog=stderr\n' >/etc/mef/mef.conf
stop_daemon
mount -o remount,ro /
check "the daemon starts on a read-only root" restart_daemon
check "an attacker is banned there" drill 198.51.100.8
check "that nothing is remembered is said" said 'Read-only file system'
stop_daemon
mount -o remount,rw /

echo 0 >/proc/sys/fs/inotify/max_user_instances
check "the daemon starts without inotify" restart_daemon
check "an attacker is banned without inotify" drill 198.51.100.9
check "that there is none is said" said "no file events"
stop_daemon
echo 128 >/proc/sys/fs/inotify/max_user_instances

printf '[global]\nlog=stderr\non_ban=/bin/true\n' >/etc/mef/mef.conf
check "the daemon starts with a hook" restart_daemon
mount -t cgroup2 cgroup /sys/fs/cgroup 2>/dev/null
mkdir /sys/fs/cgroup/few
echo +pids >/sys/fs/cgroup/cgroup.subtree_control
# Programs are run by a second process.
for process in "$daemon" $(cat "/proc/$daemon/task/$daemon/children"); do
    echo "$process" >/sys/fs/cgroup/few/cgroup.procs
done
echo 1 >/sys/fs/cgroup/few/pids.max
check "no process can be made: an attacker is banned" drill 198.51.100.10
check "that the hook did not run is said" wait_for 10 said '/bin/true'
stop_daemon

# The program itself is mapped whole.
program=$(($(wc -c <"$(command -v mef)") / 1024))
# shellcheck disable=SC3045 # busybox has it
(ulimit -v $((program + 1400)); exec mef daemon --foreground) 2>>/var/log/daemon &
daemon=$!
check "the daemon starts with 1400 kB of address space beside the program" wait_for 30 answers
check "an attacker is banned by it" drill 198.51.100.11
check "a command does its work with 600 kB" sh -c "ulimit -v $((program + 600)); mef ban 198.51.100.12"
check "the daemon lives" kill -0 "$daemon"
