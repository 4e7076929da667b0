#!/usr/bin/env bash
# What a measurement prints is several words, and they are to be split.
# shellcheck disable=SC2086,SC2046
# Answers: why an address is dropped, what happened, and what a daemon has to hold for them.
source "$(dirname "$0")/lib.sh"
here=$work/answers
bans=$(quick_or 200 64000) denied=$(quick_or 5000 1000000) events=$(quick_or 100 10000)
many=$(quick_or 3 60)
configure "$here" "$here/lines"
: >"$here/lines"
mef() { "$MEF_BIN" "$1" --config "$here/mef.conf" "${@:2}"; }

# line NUMBER FILE: that line.
line() { sed -n "$1p" "$2"; }
# why STATUS ADDRESS: the time that it takes.
why() { "$MEF_BENCH" time --runs "$many" --status "$1" -- "$MEF_BIN" why --config "$here/mef.conf" "$2"; }

# Bans and entries of lists are different addresses; nobody has 203.0.113.7.
"$MEF_BENCH" list plain $((bans + denied)) >"$here/all"
head -n "$bans" "$here/all" >"$here/banned"
tail -n "$denied" "$here/all" >"$here/deny/list.conf"
awk -F . 'NR % 2 { print $1 "." $2 "." $3 ".0/28 # seen" }' "$here/deny/list.conf" | sort -u >"$here/networks"
mef reload >"$here/out" 2>&1
mef ban - <"$here/banned" >"$here/out" 2>&1
beside="beside $(shown '' "$bans") bans, $(shown '' "$denied") denied"
took=$(why 0 203.0.113.7)
figure "why of a free address, $beside" "2 ms" us less "$(wall $took)"
figure "      CPU time of it" "" us less "$(cpu $took)"
took=$(why 1 "$(line $((bans / 2)) "$here/banned")")
figure "   of a banned one" "2 ms" us less "$(wall $took)"
figure "      CPU time of it" "" us less "$(cpu $took)"
took=$(why 1 "$(line $((denied * 9 / 10)) "$here/deny/list.conf")")
figure "   of a denied one, its line included" "2 ms" us less "$(wall $took)"
peer "grep -n for that line" "$(wall $("$MEF_BENCH" time --runs "$many" -- \
    grep -nxF "$(line $((denied * 9 / 10)) "$here/deny/list.conf")" "$here/deny/list.conf"))"
peer "cat of that file" "$(wall $("$MEF_BENCH" time --runs "$many" -- cat "$here/deny/list.conf"))"
figure "      CPU time of it" "" us less "$(cpu $took)"
mv "$here/networks" "$here/deny/list.conf"
mef reload >"$here/out" 2>&1
network=$(line $(($(wc -l <"$here/deny/list.conf") / 2)) "$here/deny/list.conf")
took=$(why 1 "${network%%.0/*}.3")
networks=$(wc -l <"$here/deny/list.conf")
figure "   in $(shown '' "$networks") networks with comments" "" us less "$(wall $took)"
figure "      CPU time of it" "" us less "$(cpu $took)"

# The past: half of the events are unbans.
rm "$here"/deny/* && rm -rf "$here"/state/*
nft flush ruleset
printf '%s\n' "history_max=$events" >>"$here/mef.conf"
head -n $((events / 2)) "$here/all" >"$here/some"
mef ban - <"$here/some" >"$here/out" 2>&1
mef unban - <"$here/some" >"$here/out" 2>&1
history=("$MEF_BIN" history --config "$here/mef.conf")
took=$("$MEF_BENCH" time --runs "$many" -- "${history[@]}")
figure "history of $(shown '' "$events") events: time" "20 ms" us less "$(wall $took)"
figure "   CPU time of it" "" us less "$(cpu $took)"
figure "   peak memory of its own" "300 kB" kB less "$("$MEF_BENCH" rss --own -- "${history[@]}")"
figure "   with pages of the program's file" "" kB less "$("$MEF_BENCH" rss -- "${history[@]}")"
peer "mef version" "$("$MEF_BENCH" rss -- "$MEF_BIN" version)"

# own HISTORY COUNTERS: kB that belong to an idle daemon alone.
own() {
    sed -i -e '/^history_max/d' -e '/^element_counters/d' "$here/mef.conf"
    printf '%s\n' "history_max=$1" "element_counters=$2" >>"$here/mef.conf"
    rm -rf "$here"/state/*
    nft flush ruleset
    mef ban - <"$here/some" >"$here/out" 2>&1
    "$MEF_BIN" daemon --foreground --config "$here/mef.conf" >"$here/out" 2>&1 &
    local daemon=$! before='' now=-
    # Until it has given back what the start took.
    while [ "$now" != "$before" ]; do
        before=$now
        sleep 3
        now=$(awk '$1 == "Private_Dirty:" { print $2 }' "/proc/$daemon/smaps_rollup")
    done
    echo "$now"
    kill "$daemon"
    wait "$daemon" || :
}
figure "daemon, idle, own memory with history and counters" "" kB less "$(own "$events" true)"
peer "without" "$(own 0 false)"
