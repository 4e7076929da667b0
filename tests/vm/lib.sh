# shellcheck shell=sh disable=SC2034,SC2154
# What the scenarios of tests/vm share. They run inside a machine, as root, by busybox's sh; see cross/vm.sh.
# $scenario is the name, $boot the number of this boot.

pass() { echo "PASS: $*$(age)"; }
fail() { echo "FAIL: $*$(age)"; }
note() { echo "NOTE: $*"; }

# age: the machine's, beside what is stated, so that one sees what takes long; on a machine of 64 MB also what
# the kernel and mef took at most since the last statement.
age() { awk -v memory="$(step)" '{ printf " [%d s%s]", $1, memory }' /proc/uptime; }

step() {
    [ -n "$steps" ] || return
    said=$(wc -l </tmp/steps)
    kill -USR1 "$steps"
    while [ "$(wc -l </tmp/steps)" = "$said" ]; do sleep 0.01; done
    tail -n 1 /tmp/steps | awk '{ printf ", kernel %d kB, mef %d kB", $1, $2 }'
}

steps=
if [ "$(awk '/^MemTotal/ { print $2 }' /proc/meminfo)" -lt 65536 ]; then
    peak steps >/tmp/steps &
    steps=$!
fi

# check TEXT COMMAND...: states that the command succeeds; what it says is shown when it does not.
check() {
    text=$1
    shift
    if "$@" >/tmp/said 2>&1; then pass "$text"; else fail "$text (status $?: $*)"; cat /tmp/said; fi
}

# refuse TEXT WORDS COMMAND...: states that the command fails and says these words.
refuse() {
    text=$1 words=$2
    shift 2
    if "$@" >/tmp/said 2>&1; then fail "$text (status 0)"; cat /tmp/said
    elif grep -q "$words" /tmp/said; then pass "$text"
    else fail "$text (not said: $words)"; cat /tmp/said; fi
}

# wait_for SECONDS COMMAND...: until it succeeds.
wait_for() {
    left=$(($1 * 10))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $left -gt 0 ] || return 1
        left=$((left - 1))
        sleep 0.1
    done
}

# answers: the daemon does. It has its socket before it has its sources; it answers when it reads them.
answers() { mef status | grep -q '^daemon  *runs'; }

# start_daemon: with the configuration that is in /etc/mef; its words go to /var/log/daemon.
start_daemon() {
    mkdir -p /etc/mef/whitelist /etc/mef/blacklist
    mef daemon --foreground 2>>/var/log/daemon &
    daemon=$!
    wait_for 60 answers
}

# idle: notes what the daemon's two processes have when nothing happens. Pages of the program's file are given
# back two seconds after whatever happened, so that only the least that is seen for some time tells.
idle() {
    for process in "the daemon" "the reader of logs"; do
        pid=$daemon
        [ "$process" = "the daemon" ] || pid=$(reader)
        least=
        for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
            now=$(awk '/^VmRSS/ { print $2 }' "/proc/$pid/status")
            [ -n "$least" ] && [ "$least" -le "$now" ] || least=$now
            sleep 1
        done
        note "$(uname -r) $(uname -m), idle, $process: $least kB"
    done
}

# reader: the process that reads logs.
reader() {
    for pid in $(pidof mef); do
        if grep -q "^PPid:.$daemon$" "/proc/$pid/status" &&
            grep -q "^CapEff:.0000000000000004$" "/proc/$pid/status"; then echo "$pid"; fi
    done
}

stop_daemon() {
    kill "$daemon"
    wait "$daemon"
}

# listen: somebody listens to what becomes of the ruleset, as firewalld does.
listen() {
    nft monitor >/dev/null &
    listener=$!
    wait_for 20 is_listening
}

# listen_only: likewise, and keeps nothing of what it hears: nft has a copy of each element.
listen_only() {
    /usr/bin/listen &
    listener=$!
    wait_for 20 is_listening
}

# A netlink socket of nfnetlink (12) that is in group 7, NFNLGRP_NFTABLES: bit 6 of its mask.
is_listening() { awk '$2 == 12 && substr($4, 7, 1) ~ /[4567cdef]/ { found = 1 } END { exit !found }' \
    /proc/net/netlink; }

# within KILOBYTES TEXT COMMAND...: states that the command succeeds, and that meanwhile the kernel never took
# so much more than before it or after it, whichever is the more.
within() {
    limit=$1 text=$2
    shift 2
    peak >/tmp/peak &
    sampler=$!
    wait_for 10 grep -q began /tmp/peak
    check "$text" "$@"
    kill $sampler
    wait $sampler
    read -r _ before top after </tmp/peak
    base=$before
    [ "$after" -le "$base" ] || base=$after
    over=$((top - base))
    note "$text: the kernel's memory in kB: before $before, after $after, at most $over over that"
    if [ $over -le "$limit" ]; then pass "$text: within $limit kB"; else fail \
        "$text: $over kB, not within $limit kB"; fi
}

# elements TABLE SET: how many elements nft shows.
elements() { nft list set inet "$1" "$2" | tr ',{' '\n' | grep -cE '^[[:space:]]*[0-9a-f]+[.:]'; }

# has TABLE SET COUNT: whether the set has that many elements.
has() { [ "$(elements "$1" "$2")" = "$3" ]; }

# addresses COUNT: that many different addresses, one a line, no two of them side by side.
addresses() {
    awk -v n="$1" 'BEGIN { for (i = 0; i < n; i++) {
        a = i * 2; printf "20.%d.%d.%d\n", a / 65536, a / 256 % 256, a % 256 } }'
}

# networks COUNT: that many networks of 2 to 4 addresses with room between them.
networks() {
    awk -v n="$1" 'BEGIN { for (i = 0; i < n; i++) {
        a = i * 8; printf "60.%d.%d.%d/%d\n", a / 65536, a / 256 % 256, a % 256, 30 + i % 2 } }'
}

# power_off: at once, and nothing that waits in memory reaches the disk.
power_off() {
    sleep 0.3 # what was stated reaches the console
    echo b >/proc/sysrq-trigger
    sleep 60
}

# in_force FILE COUNT: whether `mef lists` says that so many addresses or networks of that list are in force.
in_force() { mef lists | grep -qE " $2 .*[0-9]  +in force +$1"; }

# busybox has an applet of that name, which its shell prefers.
ip() { /usr/bin/ip "$@"; }

# make_peer: somebody outside, who has every address; make_peer is to be called once before `passes`.
make_peer() {
    ip netns add peer &&
        ip link add eth0 type veth peer name eth0 netns peer &&
        ip addr add 192.0.2.1/24 dev eth0 && ip link set eth0 up &&
        ip -n peer addr add 192.0.2.2/24 dev eth0 && ip -n peer link set eth0 up &&
            ip -n peer link set lo up &&
        ip route add default via 192.0.2.2 &&
        wait_for 10 passes 192.0.2.2
}

# passes ADDRESS: whether this host answers to that address.
passes() {
    ip -n peer addr add "$1/32" dev lo 2>/dev/null
    ip netns exec peer ping -q -c 1 -W 2 -I "$1" 192.0.2.1 >/dev/null 2>&1
}
denied() { ! passes "$1"; }

modules=/usr/lib/modules/$(uname -r)

# gone MODULE...: cannot be loaded any more, and is not there; back undoes the first.
gone() {
    for module in "$@"; do
        find "$modules" -name "$module.ko" -exec mv {} {}.off \;
    done
    # What uses them goes first: as often as something could be unloaded.
    for _ in 1 2 3 4 5 6; do
        awk '$3 == 0 { print $1 }' /proc/modules | while read -r module; do
            case $module in nf*|*_diag|x_tables|libcrc32c) rmmod "$module" 2>/dev/null ;; esac
        done
    done
    for module in "$@"; do
        ! grep -q "^$module " /proc/modules || fail "$module could be unloaded"
    done
}
back() { find "$modules" -name '*.off' | while read -r file; do mv "$file" "${file%.off}"; done; }
