#!/usr/bin/env bash
# What a measurement prints is several words, and they are to be split.
# shellcheck disable=SC2086,SC2046
# `mef test` on logs that everybody reads: a quiet one, and one of an attack.
source "$(dirname "$0")/lib.sh"
log=$work/log/log found=$work/log/found
mkdir "$found"
small=$(quick_or 10000 200000) big=$(quick_or 100000 2000000)


# lines_in LINES RUNS PROGRAM...: lines a second, of $log. LINES is what the log has.
lines_in() {
    local lines=$1 runs=$2 wall
    shift 2
    wall=$(wall $("$MEF_BENCH" time --runs "$runs" "$@"))
    [ -z "$wall" ] || echo $((lines * 1000000 / wall))
}

mef=("$MEF_BIN" test --hits --rules-dir "$rules" sshd "$log")
filter=/etc/fail2ban/filter.d/sshd.conf
parser=/usr/libexec/sshguard/sshg-parser

measure() {
    local kind=$1 title=$2 reach=$3
    "$MEF_BENCH" log "$kind" "$small" >"$log"
    figure "$title, $(shown '' "$small") lines" "20x" /s more \
        "$(lines_in "$small" "$(quick_or 1 9)" -- "${mef[@]}")"
    peer "fail2ban-regex" \
        "$(maybe lines_in "$small" 1 --stdout "$found/fail2ban" -- fail2ban-regex "$log" "$filter")"
    peer "sshguard's parser" \
        "$(maybe lines_in "$small" 1 --stdin "$log" --stdout "$found/sshguard" -- "$parser")"
    figure "   hits in it" "" '' neither "$("${mef[@]}" 2>/dev/null | wc -l)"
    peer "fail2ban-regex" "$(maybe sed -n 's/^Lines:.* \([0-9]*\) matched.*/\1/p' "$found/fail2ban")"
    peer "sshguard's parser" "$(maybe grep -c . "$found/sshguard")"
    peer "rg -c, 5 patterns" "$(maybe rg -c "${five_patterns[@]}" "$log")"

    "$MEF_BENCH" log "$kind" "$big" >"$log"
    figure "$title, $(shown '' "$big") lines" "$reach" /s more \
        "$(lines_in "$big" "$(quick_or 1 5)" -- "${mef[@]}")"
    peer "rg -c, 5 patterns" \
        "$(maybe lines_in "$big" "$(quick_or 1 5)" -- rg -c "${five_patterns[@]}" "$log")"
    # grep stops at the first match if its output is /dev/null.
    peer "grep -cE, 5 patterns" \
        "$(maybe lines_in "$big" "$(quick_or 1 3)" --stdout "$found/grep" -- grep -cE "${five_patterns[@]}" "$log")"
}

# small_mixed: the same of a log that fail2ban reads before long.
small_mixed() {
    "$MEF_BENCH" log mixed "$small" >"$log.small"
    lines_in "$small" "$(quick_or 1 5)" -- "$MEF_BIN" test --hits --rules-dir "$rules" all "$log.small"
}

# Every rule that ships, all lines with a syslog header: as on a host whose services write to one place.
mixed() {
    "$MEF_BENCH" log mixed "$big" >"$log"
    local all=("$MEF_BIN" test --hits --rules-dir "$rules" all "$log")
    figure "2b mixed log, 30 % failures, all $(find "$rules" -name '*.conf' | wc -l) rules" "1,000,000" /s \
        more \
        "$(lines_in "$big" "$(quick_or 1 5)" -- "${all[@]}")"
    # The peers have no rules for most of it: they read it for what they know.
    peer "sshguard's parser, its own services" \
        "$(maybe lines_in "$big" 1 --stdin "$log" --stdout "$found/sshguard" -- "$parser")"
    peer "rg -c, 5 patterns" \
        "$(maybe lines_in "$big" "$(quick_or 1 5)" -- rg -c "${five_patterns[@]}" "$log")"
    peer "grep -cE, 5 patterns" \
        "$(maybe lines_in "$big" "$(quick_or 1 3)" --stdout "$found/grep" -- grep -cE "${five_patterns[@]}" "$log")"
    figure "2b the same, $(shown '' "$small") lines" "" /s more "$(small_mixed)"
    peer "fail2ban-regex, its sshd filter alone" \
        "$(maybe lines_in "$small" 1 --stdout "$found/fail2ban" -- fail2ban-regex "$log.small" "$filter")"
    figure "   hits in it" "" '' neither "$("${all[@]}" 2>/dev/null | wc -l)"
}

measure quiet "1 quiet log, 1 % failures" "as rg"
measure attack "2 attack log, 95 % failures" "3,000,000"
mixed
