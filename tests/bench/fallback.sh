#!/usr/bin/env bash
# What a measurement prints is several words, and they are to be split.
# shellcheck disable=SC2086,SC2046
# Bans in iptables and ip_set, beside ipset and the ways of fail2ban.
source "$(dirname "$0")/lib.sh"
here=$work/fallback
many=$(quick_or 5 200) addresses=$(quick_or 2000 100000) listed=$(quick_or 20000 1000000)
rounds=$(quick_or 3 5) runs=$(quick_or 20 30)
read -ra counts <<<"$(quick_or '10 1000' '10 1000 64000')"
configure "$here"
echo firewall_backend=iptables >>"$here/mef.conf"
ban=("$MEF_BIN" ban --config "$here/mef.conf")
daemon=("$MEF_BIN" daemon --foreground --config "$here/mef.conf")
time_of() { "$MEF_BENCH" time --runs "$@"; }
fresh() { rm -rf "${here:?}"/state/*; unshare --net "$@"; }
forget=(--fresh --before "rm -rf $here/state/*")

"${ban[@]}" 192.0.2.1 >/dev/null
ipset create peer hash:ip timeout 3600
mef=$(time_of "$many" -- "${ban[@]}" {})
ipset=$(time_of "$many" -- ipset -exist add peer {})
figure "F1 one ban in ip_set, whole process" "1 ms" us less "$(wall $mef)"
peer "ipset add" "$(wall $ipset)"

"$MEF_BENCH" list plain "$addresses" >"$here/plain"
{ echo 'create peer hash:ip timeout 3600 maxelem 1048576'; "$MEF_BENCH" list ipset "$addresses" peer; } \
    >"$here/ipset"
mef=$(time_of "$(quick_or 1 3)" "${forget[@]}" --stdin "$here/plain" -- "${ban[@]}" -)
ipset=$(time_of "$(quick_or 1 3)" --fresh --stdin "$here/ipset" -- ipset restore)
figure "F2 $(shown '' "$addresses") bans from standard input: time" "2 s" us less "$(wall $mef)"
peer "ipset restore, without reasons and journal" "$(wall $ipset)"

"$MEF_BENCH" list plain "$listed" >"$here/deny/list.conf"
{ echo 'create peer hash:ip maxelem 1048576'; "$MEF_BENCH" list ipset "$listed" peer; } >"$here/list.ipset"
mef=$(fresh "$MEF_BENCH" loading -- "${daemon[@]}")
ipset=$(time_of 1 --fresh --stdin "$here/list.ipset" -- ipset restore)
figure "F3 list of $(shown '' "$listed") addresses: time" "1.5 s" us less "$(wall $mef)"
peer "ipset restore" "$(wall $ipset)"
figure "   peak memory" "1.5 MB" kB less "${mef##* }"
peer "ipset restore" "$(fresh "$MEF_BENCH" rss --stdin "$here/list.ipset" -- ipset restore)"
rm "$here/deny/list.conf"

# A sender in a namespace of its own.
make_sender
for file in /proc/sys/net/ipv4/conf/{all,outside}/rp_filter; do echo 0 >"$file"; done

# cost SENDER: nanoseconds for each SYN, over one that is dropped as early as can be.
cost() {
    local round floor
    for ((round = 0; round < rounds; round++)); do
        nft 'table netdev floor { chain c {
            type filter hook ingress device "outside" priority -500; drop; }; }'
        floor=$(within "$MEF_BENCH" packets syn "$1" 192.0.2.1 --runs "$runs")
        nft delete table netdev floor
        echo $(($(within "$MEF_BENCH" packets syn "$1" 192.0.2.1 --runs "$runs") - floor))
    done | sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'
}

for count in "${counts[@]}"; do
    "$MEF_BENCH" list plain "$count" >"$here/bans"
    last=$(tail -n 1 "$here/bans")
    "${ban[@]}" - <"$here/bans" >"$here/out" 2>&1
    mef=$(cost "$last")
    "$MEF_BIN" unload --all --config "$here/mef.conf" >"$here/out" 2>&1 ||
        { iptables-legacy -t raw -F; "$MEF_BIN" unban --all --config "$here/mef.conf" >"$here/out" 2>&1; }
    # As fail2ban's actions have it: all ports, in input.
    ipset create f2b hash:ip timeout 0 maxelem 1048576
    sed 's/^/add f2b /' "$here/bans" | ipset restore
    iptables-legacy -I INPUT -m set --match-set f2b src -j DROP
    set=$(cost "$last")
    iptables-legacy -F
    ipset destroy f2b
    { printf '*filter\n:f2b - [0:0]\n-A INPUT -j f2b\n'
      sed 's/.*/-I f2b 1 -s & -j DROP/' "$here/bans"; echo COMMIT; } | iptables-legacy-restore
    # The first ban is the last rule.
    rule=$(cost "$(head -n 1 "$here/bans")")
    iptables-legacy -F
    iptables-legacy -X
    figure "F4 packet of a banned source, $(shown '' "$count") bans" "" ns less "$mef"
    peer "fail2ban, ipset" "$set"
    peer "fail2ban, a rule for each" "$rule"
done
kill "$sender"
