#!/usr/bin/env bash
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
figure "11 one ban, whole process" "1 ms" us less "$(first $("$MEF_BENCH" time --runs "$many" -- "${ban[@]}" {}))"
peer "nft add element" "$(first $("$MEF_BENCH" time --runs "$many" -- nft 'add element inet peer bans { {} timeout 1h }'))"
peer "ipset add" "$(first $(maybe "$MEF_BENCH" time --runs "$many" -- ipset -exist add peer {}))"

figure "one ban on a fresh namespace" "20 ms" us less \
    "$(first $("$MEF_BENCH" time --runs "$some" --fresh --before "rm -rf $here/state/*" -- "${ban[@]}" {}))"
peer "nft -f of the same table" "$(first $("$MEF_BENCH" time --runs "$some" --fresh -- nft -f "$here/guard.nft"))"

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
fresh() { rm -rf "$here"/state/*; unshare --net "$@"; }
repeat=$(quick_or 1 5)
figure "$(shown '' "$addresses") addresses from standard input: time" "1 s" us less \
    "$(first $("$MEF_BENCH" time --runs "$repeat" --fresh --before "rm -rf $here/state/*" --stdin "$here/plain" -- "${ban[@]}" -))"
peer "nft -f" "$(first $("$MEF_BENCH" time --runs "$repeat" --fresh -- nft -f "$here/nft"))"
peer "ipset restore" "$(first $(maybe "$MEF_BENCH" time --runs "$repeat" --fresh --stdin "$here/ipset" -- ipset restore))"
figure "  peak memory" "2 MB" kB less "$(fresh "$MEF_BENCH" rss --stdin "$here/plain" -- "${ban[@]}" -)"
peer "nft -f" "$(fresh "$MEF_BENCH" rss -- nft -f "$here/nft")"
peer "ipset restore" "$(maybe fresh "$MEF_BENCH" rss --stdin "$here/ipset" -- ipset restore)"
