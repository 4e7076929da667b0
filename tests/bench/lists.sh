#!/usr/bin/env bash
# What a measurement prints is several words, and they are to be split.
# shellcheck disable=SC2086,SC2046
# Deny lists: a million addresses, half a million networks, and one ban beside them.
source "$(dirname "$0")/lib.sh"
here=$work/lists
addresses=$(quick_or 20000 1000000) networks=$(quick_or 10000 500000) many=$(quick_or 5 100)
configure "$here"
time_of() { "$MEF_BENCH" time --runs "$@"; }
# In a namespace of its own each time.
fresh() { rm -rf "${here:?}"/state/*; unshare --net "$@"; }
daemon=("$MEF_BIN" daemon --foreground --config "$here/mef.conf")

# compare NUMBER REACH PLAIN NFT IPSET: the daemon that loads a list, beside its peers.
compare() {
    rm -f "$here"/deny/*
    ln -s "$3" "$here/deny/list.conf"
    local mef nft ipset
    mef=$(fresh "$MEF_BENCH" loading -- "${daemon[@]}")
    nft=$(time_of 1 --fresh -- nft -f "$4")
    ipset=$(maybe time_of 1 --fresh --stdin "$5" -- ipset restore)
    figure "6 $1: time" "$2" us less "$(wall $mef)"
    peer "nft -f" "$(wall $nft)"
    peer "ipset restore" "$(wall $ipset)"
    figure "   peak memory" "1 MB" kB less "${mef##* }"
    peer "nft -f" "$(fresh "$MEF_BENCH" rss -- nft -f "$4")"
    peer "ipset restore" "$(maybe fresh "$MEF_BENCH" rss --stdin "$5" -- ipset restore)"
}

# forms WORD COUNT FLAGS TYPE: files plain, nft and ipset.
forms() {
    "$MEF_BENCH" "$1" plain "$2" >"$here/$1.plain"
    { echo "add table inet peer; add set inet peer deny { type ipv4_addr; $3 }"
      "$MEF_BENCH" "$1" nft "$2" 'inet peer deny'; } >"$here/$1.nft"
    { echo "create peer $4 maxelem 1048576"; "$MEF_BENCH" "$1" ipset "$2" peer; } >"$here/$1.ipset"
}

forms list "$addresses" "size 1048576;" hash:ip
compare "$(shown '' "$addresses") addresses" "1.5 s" "$here"/list.{plain,nft,ipset}
forms networks "$networks" "flags interval; auto-merge;" hash:net
compare "$(shown '' "$networks") networks" "3 s" "$here"/networks.{plain,nft,ipset}

# The list stays in this namespace; bans go into sets of their own.
"$MEF_BENCH" loading -- "${daemon[@]}" >/dev/null
nft -f "$here/networks.nft"
ban=("$MEF_BIN" ban --config "$here/mef.conf" 198.51.100.0/24)
# A ban that is there already would be prolonged, which is something else.
unban="'$MEF_BIN' unban --config '$here/mef.conf' 198.51.100.0/24 >/dev/null 2>&1 || :"
mef=$(time_of "$many" --before "$unban" -- "${ban[@]}")
figure "11b one ban beside $(shown '' "$networks") denied networks" "2 ms" us less "$(wall $mef)"
peer "nft add element into such a set" \
    "$(wall $(time_of 1 -- nft 'add element inet peer deny { 198.51.100.0/24 }'))"
