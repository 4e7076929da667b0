#!/usr/bin/env bash
# What a measurement prints is several words, and they are to be split.
# shellcheck disable=SC2086,SC2046
# The program itself, and `mef ban` as a process.
source "$(dirname "$0")/lib.sh"
here=$work/command
many=$(quick_or 5 300) some=$(quick_or 2 40) addresses=$(quick_or 2000 100000)
configure "$here"
ban=("$MEF_BIN" ban --config "$here/mef.conf")

kind=static
! readelf --program-headers "$MEF_BIN" | grep -q INTERP || kind=dynamic
figure "1 binary, $kind" "400 kB" B less "$(stat -c %s "$MEF_BIN")"
sshguard=$(maybe cat /usr/libexec/sshguard/* | wc -c)
peer "sshguard's programs, without their libraries" "${sshguard#0}"

# In this namespace the tables exist.
"${ban[@]}" 192.0.2.1 >/dev/null
nft -s list table inet mef_guard >"$here/guard.nft"
nft -f - <<<'add table inet peer; add set inet peer bans { type ipv4_addr; flags timeout; }'
! there ipset || ipset create peer hash:ip timeout 3600
# time_of RUNS [OPTION]... -- PROGRAM...
time_of() { "$MEF_BENCH" time --runs "$@"; }
# What mef remembered of the run before would be put back.
forget=(--fresh --before "rm -rf $here/state/*")

mef=$(time_of "$many" -- "${ban[@]}" {})
nft=$(time_of "$many" -- nft 'add element inet peer bans { {} timeout 1h }')
ipset=$(maybe time_of "$many" -- ipset -exist add peer {})
figure "11 one ban, whole process" "1 ms" us less "$(wall $mef)"
peer "nft add element" "$(wall $nft)"
peer "ipset add" "$(wall $ipset)"
figure "   CPU time of it" "" us less "$(cpu $mef)"
peer "nft add element" "$(cpu $nft)"
peer "ipset add" "$(cpu $ipset)"

mef=$(time_of "$some" "${forget[@]}" -- "${ban[@]}" {})
nft=$(time_of "$some" --fresh -- nft -f "$here/guard.nft")
figure "   one ban on a fresh namespace" "20 ms" us less "$(wall $mef)"
peer "nft -f of the same table" "$(wall $nft)"

"$MEF_BENCH" list plain "$addresses" >"$here/plain"
{
    echo 'add table inet peer'
    echo 'add set inet peer bans { type ipv4_addr; flags timeout; timeout 1h; size 1048576; }'
    "$MEF_BENCH" list nft "$addresses" 'inet peer bans'
} >"$here/nft"
{
    echo 'create peer hash:ip timeout 3600 maxelem 1048576'
    "$MEF_BENCH" list ipset "$addresses" peer
} >"$here/ipset"
repeat=$(quick_or 1 5)
mef=$(time_of "$repeat" "${forget[@]}" --stdin "$here/plain" -- "${ban[@]}" -)
nft=$(time_of "$repeat" --fresh -- nft -f "$here/nft")
ipset=$(maybe time_of "$repeat" --fresh --stdin "$here/ipset" -- ipset restore)
figure "$(shown '' "$addresses") addresses from standard input: time" "1 s" us less "$(wall $mef)"
peer "nft -f" "$(wall $nft)"
peer "ipset restore" "$(wall $ipset)"
figure "   CPU time of it" "" us less "$(cpu $mef)"
peer "nft -f" "$(cpu $nft)"
peer "ipset restore" "$(cpu $ipset)"

fresh() { rm -rf "$here"/state/*; unshare --net "$@"; }
figure "   peak memory" "2 MB" kB less "$(fresh "$MEF_BENCH" rss --stdin "$here/plain" -- "${ban[@]}" -)"
peer "nft -f" "$(fresh "$MEF_BENCH" rss -- nft -f "$here/nft")"
peer "ipset restore" "$(maybe fresh "$MEF_BENCH" rss --stdin "$here/ipset" -- ipset restore)"
