#!/usr/bin/env bash
# demo.sh: what `make run` shows. A host with a real sshd, an attacker who tries passwords, and a
# friend who must not be disturbed, each in a network namespace; mef between them.
#
# Everything lives in namespaces for networks, mounts and processes, which end with this script
# however it ends: nothing on the real host is touched, and nothing stays behind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Whoever runs this by hand gets the packages checked, too.
[ -n "${MEF_BIN-}" ] || exec bash cross/with-packages.sh tests/demo-packages bash tests/demo.sh
if [ "${1-}" != inside ]; then
    [ -x "$MEF_BIN" ] || { echo "demo: $MEF_BIN is missing: run 'make' first" >&2; exit 1; }
    [ "$(id -u)" = 0 ] || { echo "demo: namespaces and nftables need root" >&2; exit 1; }
    # What is mounted in here must not be seen outside; the kernel can only promise that below a mount point.
    unshare --mount true 2>/dev/null || {
        echo "demo: no namespace of its own for mounts. In a chroot, its directory has to be a mount point:" \
            "'mount --bind DIR DIR' before 'chroot DIR'" >&2
        exit 1
    }
    exec unshare --net --mount --uts --pid --fork --kill-child --mount-proc bash tests/demo.sh inside
fi
trap 'exit 130' INT
trap 'exit 143' TERM

color=
if [ -t 1 ] && [ -z "${NO_COLOR-}" ]; then color=1; fi
paint() { if [ -n "$color" ]; then printf '\033[%sm%s\033[0m\n' "$1" "$2"; else printf '%s\n' "$2"; fi; }
title() { echo; paint '1;34' "== $*"; }
good() { paint '32' "   $*"; }
note() { echo "   $*"; }
fail() { paint '1;31' "   FAILED: $*"; failed=1; }
failed=0

# shown COMMAND...: runs it as one would by hand, its output set in.
shown() { paint 1 "   # $*"; "$@" 2>&1 | sed 's/^/   /'; }

# until_so WHAT COMMAND...: waits up to 10 s for something that takes milliseconds.
until_so() {
    local what=$1 i
    shift
    for ((i = 0; i < 500; i++)); do "$@" >/dev/null 2>&1 && return 0; sleep 0.02; done
    fail "$what did not happen within 10 s"
    for log in "$dir"/*.log; do echo "--- $log"; tail -n 20 "$log"; done
    exit 1
}

# A host of its own: /run, /var/lib, /var/log and /dev are only seen in here.
private_host() {
    mount -t tmpfs -o mode=755 demo /run
    dir=/run/demo
    mkdir -p "$dir"/{dev/pts,lib,log,rules.d} /run/sshd /run/netns
    for device in null zero full random urandom tty ptmx; do
        : >"$dir/dev/$device"
        mount --bind "/dev/$device" "$dir/dev/$device"
    done
    mount --rbind /dev/pts "$dir/dev/pts"
    ln -s /proc/self/fd "$dir/dev/fd"
    mount --bind "$dir/lib" /var/lib
    mount --bind "$dir/log" /var/log
    mount --rbind "$dir/dev" /dev
    export HOME=$dir
    unset SSH_CONNECTION SSH_CLIENT SSH_AUTH_SOCK
    echo host >/proc/sys/kernel/hostname
    ip link set lo up
}

# neighbour NAME ADDRESS: a namespace with one address (.N of a /24) and a link to the host, which is .1
# there.
neighbour() {
    local name=$1 address=$2
    ip netns add "$name"
    ip link add "$name" type veth peer name eth0 netns "$name"
    ip addr add "${address%.*}.1/24" dev "$name"
    ip link set "$name" up
    ip -n "$name" addr add "$address/24" dev eth0
    ip -n "$name" link set lo up
    ip -n "$name" link set eth0 up
}

start_sshd() {
    busybox syslogd -n -O "$dir/auth.log" &
    until_so "the syslog daemon's start" test -S /dev/log
    ssh-keygen -q -t ed25519 -N '' -f "$dir/host_key"
    cat >"$dir/sshd_config" <<END
Port 22
HostKey $dir/host_key
PidFile none
UsePAM no
UseDNS no
PasswordAuthentication yes
END
    # Since 9.8 sshd turns such visitors away itself. Here it is mef's turn.
    local options=()
    if /usr/sbin/sshd -t -f "$dir/sshd_config" -o PerSourcePenalties=no 2>"$dir/sshd-check"; then
        options=(-o PerSourcePenalties=no)
    fi
    /usr/sbin/sshd -D -f "$dir/sshd_config" "${options[@]}" &
    until_so "sshd's start" grep -q 'Server listening' "$dir/auth.log"
    printf '#!/bin/sh\necho not-the-password\n' >"$dir/askpass"
    chmod 755 "$dir/askpass"
}

start_mef() {
    sed "s|^source=.*|source=file|; s|^files=.*|files=$dir/auth.log|" \
        rootfs/etc/mef/rules.d/sshd.conf >"$dir/rules.d/sshd.conf"
    cat >"$dir/mef.conf" <<END
[global]
rules_dir=$dir/rules.d
whitelist_dir=$dir/whitelist
blacklist_dir=$dir/blacklist
state_dir=$dir/state
run_dir=$dir/run
log=stderr
END
    mkdir -p "$dir"/{whitelist,blacklist,state,run}
    "$MEF_BIN" daemon --config "$dir/mef.conf" --foreground 2>"$dir/mef.log" &
    daemon=$!
    until_so "the daemon's table" nft list table inet mef_guard
}

# knock NAME HOST USER: one log-in with a wrong password; says how it went.
knock() {
    local said
    said=$(SSH_ASKPASS=$dir/askpass SSH_ASKPASS_REQUIRE=force DISPLAY=:0 \
        nsenter --net="/run/netns/$1" ssh -F none -l "$3" \
        -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
        -o PubkeyAuthentication=no -o PreferredAuthentications=password \
        -o NumberOfPasswordPrompts=1 -o ConnectTimeout=2 "$2" true 2>&1 </dev/null || true)
    printf '%s\n' "$said" | tail -n 1 | tr -d '\r'
}

answers() { nsenter --net="/run/netns/$1" busybox nc -w 2 "$2" 22 </dev/null 2>/dev/null | grep -q '^SSH-'; }
banned() { "$MEF_BIN" bans --json 2>/dev/null | grep -qF "\"$1\""; }

private_host
readonly attacker=203.0.113.66 friend=198.51.100.7
neighbour attacker $attacker
neighbour friend $friend

title "A host with sshd, and mef beside it"
start_sshd
start_mef
note "the host is ${attacker%.*}.1 to the attacker ($attacker), ${friend%.*}.1 to a friend ($friend)"
note "mef: $(du -k "$MEF_BIN" | cut -f1) kB, one file;" \
    "$(awk '/^Rss/ { print $2 }' "/proc/$daemon/smaps_rollup") kB of memory as a daemon"

title "The attacker tries passwords"
tail -n 0 -f "$dir/auth.log" | sed -u 's/^/   log | /' &
viewer=$!
for user in root admin oracle test git pi ubuntu; do
    said=$(knock attacker "${attacker%.*}.1" "$user")
    sleep 0.1
    note "ssh $user@${attacker%.*}.1: $said"
    banned $attacker && break
done
kill "$viewer" 2>/dev/null
until_so "the ban of $attacker" banned $attacker

title "mef has banned the address"
sed 's/^/   mef | /' "$dir/mef.log"
shown "$MEF_BIN" bans

title "What the attacker sends now is dropped"
if answers attacker "${attacker%.*}.1"; then fail "the attacker still reaches sshd"; else good \
    "no answer: the connection times out"; fi
shown nft list chain inet mef_guard hit

title "The friend is not disturbed"
if answers friend "${friend%.*}.1"; then good "sshd answers $friend"; else fail \
    "sshd does not answer the friend"; fi

title "The ban is taken back by hand"
shown "$MEF_BIN" unban $attacker
if answers attacker "${attacker%.*}.1"; then good "sshd answers $attacker again"; else fail \
    "still no answer after unban"; fi

title "A ban by hand, with no daemon running"
kill "$daemon"
wait "$daemon" || fail "the daemon ended with status $?"
shown "$MEF_BIN" ban $attacker --for 1h
if answers attacker "${attacker%.*}.1"; then fail "the attacker still reaches sshd"; else good \
    "no answer: the kernel enforces, nobody has to run"; fi
shown "$MEF_BIN" bans

echo
if [ $failed = 0 ]; then good "Done. Nothing of this is left on your system."; else fail "see above"; fi
exit $failed
