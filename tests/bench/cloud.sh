#!/usr/bin/env bash
# What a measurement prints is several words, and they are to be split.
# shellcheck disable=SC2086,SC2046
# The community cloud: a member's zone of a million reports is read and weighed, beside kdig, which only
# prints it; and ten million reports of ten members.
source "$(dirname "$0")/lib.sh"
here=$work/cloud
count=$(quick_or 10000 1000000) runs=$(quick_or 1 3) members=10
configure "$here"
if ! there knotd || ! there kdig; then
    echo knot >>"$work/missing"
    exit 0
fi
ip link set lo up
cloud() { "$MEF_BIN" cloud "$@" --operator "$here/cloud.conf" --config "$here/mef.conf"; }

# part HEADLINE FILE: what stands below that headline of what mef cloud has printed.
part() { awk -v start="# ---- $1" '/^# ---- / { on = index($0, start) == 1; next } on' "$2"; }

# serve FILE: gives the server what was printed for it, with room for more than members have.
serve() {
    part "Knot DNS" "$1" | sed '/zone-max-size/d' >>"$here/knot.conf"
    part "the file " "$1" >"$here/$(sed -n 's/^# ---- the file \([^ ]*\) on the server.*/\1/p' "$1")"
}

cat >"$here/knot.conf" <<EOF
server:
  listen: 127.0.0.1@53
  rundir: $here
database:
  storage: $here
template:
  - id: default
    storage: $here
    journal-content: none
log:
  - target: stderr
    any: info
EOF
cloud init cloud.example --server 127.0.0.1 >"$here/init"
serve "$here/init"
for ((n = 1; n <= members; n++)); do
    cloud member add "m$n" --group "g$n" >"$here/m$n"
    serve "$here/m$n"
    # Each has seen a part of what the next one has seen.
    awk -v n="$n" -v count="$count" -v hour=$(($(date +%s) / 3600)) 'BEGIN {
        for (i = 0; i < count; i++) {
            a = (n * int(count / 3) + i) * 7919 % 100000000
            printf "%d.%d.%d.%d.m%d.r.cloud.example. 60 TXT \"s=sshd t=%d\"\n", a % 256, \
                int(a / 256) % 256, int(a / 65536) % 256, 11 + int(a / 16777216), n, hour - i % 100
        }
    }' >>"$here/m$n.r.cloud.example.zone"
done
knotd -c "$here/knot.conf" 2>"$here/knot.log" &
key=$(sed -n 's/^ *\(hmac-sha256:operator:.*\)/\1/p' "$here/cloud.key")
ask=(kdig -y "$key" @127.0.0.1 +tcp +timeout=60)
until "${ask[@]}" +short "m$members.r.cloud.example" SOA 2>/dev/null | grep -q .; do sleep 1; done

# One member alone, whose reports are not enough to list anybody.
sed '/^m1=/b; /^m[0-9]*=/d' "$here/cloud.conf" >"$here/one.conf"
one=("$MEF_BIN" cloud aggregate --dry-run --operator "$here/one.conf" --config "$here/mef.conf")
mef=$("$MEF_BENCH" time --runs "$runs" -- "${one[@]}")
kdig=$("$MEF_BENCH" time --runs "$runs" -- "${ask[@]}" m1.r.cloud.example AXFR)
figure "12 $(shown '' "$count") reports read and weighed" "10 s" us less "$(wall $mef)"
peer "kdig axfr" "$(wall $kdig)"

all=("$MEF_BIN" cloud aggregate --dry-run --operator "$here/cloud.conf" --config "$here/mef.conf")
figure "   $(shown '' $((members * count))) reports of $members members" "" us less \
    "$(wall $("$MEF_BENCH" time --runs 1 -- "${all[@]}"))"
figure "   peak memory" "64 MB" kB less "$("$MEF_BENCH" rss -- "${all[@]}")"
