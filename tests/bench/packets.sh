#!/usr/bin/env bash
# What a packet costs: one of a banned source and one of an honest one, over one that an unconditional rule
# drops at the earliest place that there is. One CPU sends and receives.
source "$(dirname "$0")/lib.sh"
here=$work/packets
bans=$(quick_or 2000 64000) networks=$(quick_or 5000 500000) rounds=$(quick_or 3 7) runs=$(quick_or 20 40)
configure "$here"
daemon=("$MEF_BIN" daemon --foreground --config "$here/mef.conf")

# The sender has a namespace of its own.
make_sender
for file in /proc/sys/net/ipv4/conf/{all,outside}/rp_filter; do echo 0 >"$file"; done

"$MEF_BENCH" list plain "$bans" >"$here/bans"
banned=$(head -n 1 "$here/bans")
honest=203.0.113.7

# cost KIND SENDER: nanoseconds for each packet, over one that is dropped as early as can be. Each of the two
# follows on the other, and the difference in the middle counts: what else runs on the machine weighs on both.
cost() {
    local round floor
    for ((round = 0; round < rounds; round++)); do
        nft 'table netdev floor { chain c {
            type filter hook ingress device "outside" priority -500; drop; }; }'
        floor=$(within "$MEF_BENCH" packets "$1" "$2" 192.0.2.1 --runs "$runs")
        nft delete table netdev floor
        echo $(($(within "$MEF_BENCH" packets "$1" "$2" 192.0.2.1 --runs "$runs") - floor))
    done | sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'
}

# Honest packets end here, behind the gate.
nft 'table inet sink { chain c { type filter hook prerouting priority -299; counter drop; }; }'
sink() { nft -j list chain inet sink c | sed 's/.*"packets": \([0-9]*\).*/\1/'; }
ack_sink=$(cost ack "$honest")
syn_sink=$(cost syn "$honest")

"$MEF_BENCH" networks plain "$networks" >"$here/deny/list.conf"
"${daemon[@]}" >"$here/daemon.log" 2>&1 &
pid=$!
until grep -q denied "$here/daemon.log"; do kill -0 "$pid"; sleep 0.1; done
"$MEF_BIN" ban --config "$here/mef.conf" - <"$here/bans" >"$here/out" 2>&1
ticks() { awk '{ print $14 + $15 }' "/proc/$pid/stat"; }

before=$(sink)
mef_banned=$(cost syn "$banned")
# The kernel speaks to the link now and then by itself.
[ $(($(sink) - before)) -lt 1000 ] || { echo "packets of a banned source have passed" >&2; exit 1; }
# Nothing but packets: it hears of changes of tables.
sleep 0.1
busy=$(ticks)
within "$MEF_BENCH" packets syn "$banned" 192.0.2.1 --runs "$runs" >"$here/out"
busy=$(($(ticks) - busy))
mef_ack=$(cost ack "$honest")
mef_syn=$(cost syn "$honest")
[ $(($(sink) - before)) -gt $((rounds * runs * 8000)) ] || { echo "honest packets have not passed" >&2
exit 1; }

# The same table in the ingress hook.
echo fastpath=ingress >>"$here/mef.conf"
kill -HUP "$pid"
until nft list chain inet mef_guard gate | grep -q 'hook ingress'; do kill -0 "$pid"; sleep 0.1; done
ingress=$(cost syn "$banned")
ingress_ack=$(cost ack "$honest")
kill "$pid"
wait "$pid" || :
nft 'delete table inet mef_guard; delete table inet sink'

# What fail2ban and CSF do.
nft 'table inet peer { set ban { type ipv4_addr; flags timeout; }
    chain c { type filter hook input priority 0; ct state established,related accept;
        ip saddr @ban counter drop; }; }'
"$MEF_BENCH" list nft "$bans" 'inet peer ban' | nft -f -
peer_banned=$(cost syn "$banned")

figure "8 packet of a banned source, $(shown '' "$bans") bans" "130 ns" ns less "$mef_banned"
peer "input, after connection tracking" "$peer_banned"
peer "mef with fastpath=ingress" "$ingress"
figure "   CPU of the daemon meanwhile" "0" us less "$((busy * 10000))"
peer "" ""
figure "   honest packet, $(shown '' "$networks") networks denied, too" "130 ns" ns less "$mef_ack"
peer "the same way without mef" "$ack_sink"
peer "mef with fastpath=ingress" "$ingress_ack"
figure "   honest SYN" "" ns neither "$mef_syn"
peer "the same way without mef" "$syn_sink"
