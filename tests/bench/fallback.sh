#!/usr/bin/env bash
# What a measurement prints is several words, and they are to be split.
# shellcheck disable=SC2086,SC2046
# Bans in iptables and ip_set, beside ipset and the ways of fail2ban.
source "$(dirname "$0")/lib.sh"
here=$work/fallback
many=$(quick_or 5 200) addresses=$(quick_or 2000 100000) listed=$(quick_or 20000 1000000)
rounds=$(quick_or 3 5) runs=$(quick_or 100 500)
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
figure "   CPU" "" us less "$(cpu $mef)"
peer "ipset add" "$(cpu $ipset)"

"$MEF_BENCH" list plain "$addresses" >"$here/plain"
{ echo 'create peer hash:ip timeout 3600 maxelem 1048576'; "$MEF_BENCH" list ipset "$addresses" peer; } \
    >"$here/ipset"
mef=$(time_of "$(quick_or 1 3)" "${forget[@]}" --stdin "$here/plain" -- "${ban[@]}" -)
ipset=$(time_of "$(quick_or 1 3)" --fresh --stdin "$here/ipset" -- ipset restore)
figure "   $(shown '' "$addresses") bans from standard input: time" "2 s" us less "$(wall $mef)"
peer "ipset restore, without reasons and journal" "$(wall $ipset)"

# Bans from a log in which every address fails often enough, written at once: until the last of them is in the
# set, by what the kernel says of it. It is asked 50 times a second.
crowd=$(quick_or 500 20000)
configure "$here/log" "$here/log/lines"
printf '%s\n' firewall_backend=iptables max_bans_per_minute=1000000 >>"$here/log/mef.conf"
"$MEF_BENCH" list plain "$crowd" | awk -v time="$(date '+%b %e %H:%M:%S')" '{
    for (n = 0; n < 5; n++) printf "%s host sshd[%d]: Failed password for root from %s port %d ssh2\n",
        time, 1000 + (NR * 8 + n) % 30000, $1, 30000 + n }' >"$here/lines"
cat >"$here/rate" <<'END'
: >"$1/lines"
"$3" daemon --foreground --config "$1/mef.conf" 2>"$1/said" &
until "$3" status --config "$1/mef.conf" 2>&1 | grep -q '^daemon  *runs'; do sleep 0.05; done
before=$(awk '{ print $14 + $15 }' "/proc/$!/stat")
start=$EPOCHREALTIME
cat "$2" >>"$1/lines"
until [ "$(ipset list -t mef_ban4 | sed -n 's/^Number of entries: //p')" = "$4" ]; do sleep 0.02; done
end=$EPOCHREALTIME
awk -v ticks="$(getconf CLK_TCK)" -v before="$before" -v taken="$((${end/./} - ${start/./}))" -v bans="$4" '{
    printf "%d %d\n", bans * 1e6 / taken, ($14 + $15 - before) * 1e6 / ticks }' "/proc/$!/stat"
kill $!
END
rate=$(fresh bash "$here/rate" "$here/log" "$here/lines" "$MEF_BIN" "$crowd")
figure "F2 bans/s from a log" "50,000" /s more "${rate% *}"
figure "   CPU of the daemon for $(shown '' "$crowd") bans" "" us less "${rate#* }"

"$MEF_BENCH" list plain "$listed" >"$here/deny/list.conf"
{ echo 'create peer hash:ip maxelem 1048576'; "$MEF_BENCH" list ipset "$listed" peer; } >"$here/list.ipset"
mef=$(fresh "$MEF_BENCH" loading -- "${daemon[@]}")
ipset=$(time_of 1 --fresh --stdin "$here/list.ipset" -- ipset restore)
figure "F3 list of $(shown '' "$listed") addresses: time" "1.5 s" us less "$(wall $mef)"
peer "ipset restore" "$(wall $ipset)"
figure "   CPU, start of the daemon included" "" us less "$(cpu $mef)"
peer "ipset restore" "$(cpu $ipset)"
figure "   peak memory" "1.5 MB" kB less "${mef##* }"
peer "ipset restore" "$(fresh "$MEF_BENCH" rss --stdin "$here/list.ipset" -- ipset restore)"
rm "$here/deny/list.conf"

# A sender in a namespace of its own.
make_sender
for file in /proc/sys/net/ipv4/conf/{all,outside}/rp_filter; do echo 0 >"$file"; done

# cost SENDER [PACKETS]: nanoseconds for each SYN, over one that is dropped as early as can be; of so many
# packets at once, few enough for one of the runs to have the processor for itself.
cost() {
    local round floor packets=${2:-512}
    for ((round = 0; round < rounds; round++)); do
        nft 'table netdev floor { chain c {
            type filter hook ingress device "outside" priority -500; drop; }; }'
        floor=$(within "$MEF_BENCH" packets syn "$1" 192.0.2.1 --runs "$runs" --count "$packets")
        nft delete table netdev floor
        echo $(($(within "$MEF_BENCH" packets syn "$1" 192.0.2.1 --runs "$runs" --count "$packets") - floor))
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
    # The first ban is the last rule. Where all of them are passed, few packets take long enough.
    rule=$(cost "$(head -n 1 "$here/bans")" $((count > 10000 ? 64 : 512)))
    iptables-legacy -F
    iptables-legacy -X
    figure "F4 packet of a banned source, $(shown '' "$count") bans" "" ns less "$mef"
    peer "fail2ban, ipset" "$set"
    peer "fail2ban, a rule for each" "$rule"
done
kill "$sender"
