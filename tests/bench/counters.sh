#!/usr/bin/env bash
# What it costs that the kernel counts the dropped packets of each ban (element_counters): its memory, the
# time of a packet, and that of a ban. Both ways in turn, so that what else runs weighs on both.
source "$(dirname "$0")/lib.sh"
here=$work/counters
rounds=$(quick_or 1 5) runs=$(quick_or 20 600)
configure "$here"
make_sender
for file in /proc/sys/net/ipv4/conf/{all,outside}/rp_filter; do echo 0 >"$file"; done

# What the kernel allocates for this section is charged to a group of its own, where there are groups.
group=/sys/fs/cgroup/memory/mef-bench.$$
mkdir "$group" 2>>"$work/peers.log" || group=
leave() {
    alone
    kill "$sender"
    wait "$sender" || :
    [ -z "$group" ] || { echo 0 >/sys/fs/cgroup/memory/cgroup.procs; rmdir "$group"; }
}
trap leave EXIT
[ -z "$group" ] || echo 0 >"$group/cgroup.procs"
kernel_memory() { if [ -n "$group" ]; then cat "$group/memory.kmem.usage_in_bytes"; else echo 0; fi; }

# list FAMILY COUNT: of IPv6 networks, as the daemon bans them.
list() {
    "$MEF_BENCH" list plain "$2" | if [ "$1" = IPv4 ]; then cat; else
        awk -F . '{ printf "2001:%x:%x:%x::/64\n", $1, $2, $3 * 256 + $4 }'
    fi
}

# one_way COUNT true|false: bytes and microseconds of a ban, nanoseconds of a packet of a banned source.
one_way() {
    nft delete table inet mef_guard 2>>"$work/peers.log" || :
    rm -rf "$here"/state/*
    sed -i '/^element_counters/d' "$here/mef.conf"
    echo "element_counters=$2" >>"$here/mef.conf"
    "$MEF_BIN" ban --config "$here/mef.conf" 198.18.0.1 >"$here/out"
    local memory start took
    memory=$(kernel_memory) start=$(date +%s%N)
    "$MEF_BIN" ban --config "$here/mef.conf" - <"$here/bans" >"$here/out" 2>&1
    took=$(($(date +%s%N) - start)) memory=$(($(kernel_memory) - memory))
    echo $((memory / $1)) $((took / $1 / 1000)) \
        "$(within "$MEF_BENCH" packets syn "$banned" 192.0.2.1 --count 512 --runs "$runs")"
}

# middle FILE COLUMN: the figure in the middle.
middle() {
    awk -v at="$2" '{ print $at }' "$1" | sort -n |
        awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'
}

for family in IPv4 IPv6; do
    for count in $(quick_or '10 1000' '10 1000 64000'); do
        list "$family" "$count" >"$here/bans"
        # Packets are of IPv4; what is looked up and counted is the same.
        banned=198.18.0.1
        : >"$here/on"
        : >"$here/off"
        for ((round = 0; round < rounds; round++)); do
            one_way "$count" true >>"$here/on"
            one_way "$count" false >>"$here/off"
        done
        figure "drops counted per ban, $count $family: packet" "" ns less "$(middle "$here/on" 3)"
        peer "not counted" "$(middle "$here/off" 3)"
        figure "   a ban" "" us less "$(middle "$here/on" 2)"
        peer "not counted" "$(middle "$here/off" 2)"
        figure "   kernel memory of a ban" "" " B" less "$(middle "$here/on" 1)"
        peer "not counted" "$(middle "$here/off" 1)"
    done
done
