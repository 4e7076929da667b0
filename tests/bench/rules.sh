#!/usr/bin/env bash
# What a measurement prints is several words, and they are to be split.
# shellcheck disable=SC2086,SC2046
# Rule sets: a small one and ten thousand rules, loaded as nft(8) loads what it lists of them.
source "$(dirname "$0")/lib.sh"
here=$work/rules
few=$(quick_or 5 200) many=$(quick_or 1 15) rules=$(quick_or 1000 10000)

cat >"$here/small.rules" <<'END'
policy dir=in action=drop
policy dir=out action=accept
policy dir=fwd action=drop
set name=office family=any type=addr elements=192.0.2.0/24,198.51.100.7,2001:db8::/48
set name=web family=any type=port elements=80,443
rule dir=in action=accept proto=all iif=lo
rule dir=in action=accept proto=all ct=established,related
rule dir=in action=drop proto=all ct=invalid
rule dir=in action=accept proto=icmp limit=20/s
rule dir=in action=accept proto=icmp6
rule dir=in action=accept proto=tcp dport=22 src=@office
rule dir=in action=accept proto=tcp dport=22 limit=10/m/src burst=20 comment="ssh from anywhere"
rule dir=in action=accept proto=tcp dport=@web
rule dir=in action=accept proto=udp dport=443
rule dir=in action=accept proto=tcp dport=25,465,587
rule dir=in action=accept proto=udp dport=53
rule dir=in action=accept proto=tcp dport=53
rule dir=in action=accept proto=udp sport=67 dport=68
rule dir=in action=accept proto=udp sport=547 dport=546 family=ip6
rule dir=in action=accept proto=udp dport=51820
rule dir=in action=accept proto=tcp dport=5432 src=192.0.2.10-192.0.2.19
rule dir=in action=reject proto=tcp dport=113
rule dir=in action=drop proto=udp dport=137-138,1900
rule dir=in action=drop proto=all log="prefix:dropped: " ratelimit=5/m
rule dir=out action=reject proto=tcp dport=25 dst=203.0.113.0/24
END
{
    echo 'policy dir=in action=drop'
    echo 'rule dir=in action=accept proto=all ct=established,related'
    echo 'rule dir=in action=accept proto=icmp6'
    for ((i = 2; i < rules; i++)); do
        echo "rule dir=in action=accept proto=tcp dport=$((i % 60000 + 1)) src=10.$((i / 256)).$((i % 256)).1"
    done
} >"$here/large.rules"

# apart COMMAND...: with a /run and a /var/lib of its own: `mef load` notes there what it did.
apart() { unshare --mount --net bash -c 'mount -t tmpfs none /run; mount -t tmpfs none /var/lib; exec "$@"' \
    - "$@"; }

user() { echo "${2:-}"; }
time_of() { apart "$MEF_BENCH" time --runs "$@"; }

# compare TITLE RUNS FILE REACH: loads the file, each time where nothing is yet. Both replace what is there.
compare() {
    local mef nft
    {
        printf '%s\n' 'add table inet mef' 'delete table inet mef'
        apart bash -c "'$MEF_BIN' load '$3.rules' >/dev/null && nft -s list table inet mef" 2>"$here/said"
    } >"$3.nft"
    mef=$(time_of "$2" --fresh -- "$MEF_BIN" load "$3.rules")
    nft=$(time_of "$2" --fresh -- nft -f "$3.nft")
    figure "9 load of $1: wall time" "" us less "$(wall $mef)"
    peer "nft -f of the same rules" "$(wall $nft)"
    figure "   CPU time of it" "as nft" us less "$(cpu $mef)"
    peer "nft -f" "$(cpu $nft)"
    figure "   user time of it" "a fifth" us less "$(user $mef)"
    peer "nft -f" "$(user $nft)"
    figure "   peak memory" "$4" kB less "$(apart "$MEF_BENCH" rss -- "$MEF_BIN" load "$3.rules")"
    peer "nft -f" "$(apart "$MEF_BENCH" rss -- nft -f "$3.nft")"
}

compare "20 rules" "$few" "$here/small" "1 MB"
compare "$(shown '' "$rules") rules" "$many" "$here/large" ""
mef=$(time_of "$many" --fresh -- "$MEF_BIN" check "$here/large.rules")
nft=$(time_of "$many" --fresh -- nft -c -f "$here/large.nft")
figure "   check of $(shown '' "$rules") rules: wall time" "100 ms" us less "$(wall $mef)"
peer "nft -c -f" "$(wall $nft)"
figure "   user time of it" "" us less "$(user $mef)"
peer "nft -c -f" "$(user $nft)"
figure "   peak memory" "" kB less "$(apart "$MEF_BENCH" rss -- "$MEF_BIN" check "$here/large.rules")"
peer "nft -c -f" "$(apart "$MEF_BENCH" rss -- nft -c -f "$here/large.nft")"
