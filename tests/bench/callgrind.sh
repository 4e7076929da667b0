#!/usr/bin/env bash
# Instructions for each line of a log: two logs are read, of which one is twice as long, so that the start
# does not count.
source "$(dirname "$0")/lib.sh"
few=20000
here=$work/callgrind

# instructions PROGRAM...
instructions() {
    # Into a file: grep stops at the first match if its output is /dev/null.
    valgrind --tool=callgrind --callgrind-out-file=/dev/null --log-file="$here/log" "$@" >"$here/found" \
        2>/dev/null
    sed -n 's/.*Collected : *\([0-9]*\).*/\1/p' "$here/log"
}

# a_line PROGRAM...: the log's name follows the words.
a_line() {
    local once twice
    once=$(instructions "$@" "$here/once") twice=$(instructions "$@" "$here/twice")
    [ -z "$once$twice" ] || echo $(((twice - once) / few))
}

# of TITLE KIND ARGUMENTS...: of `mef test` with these arguments.
of() {
    local title=$1 kind=$2
    shift 2
    "$MEF_BENCH" log "$kind" $few >"$here/once"
    "$MEF_BENCH" log "$kind" $((2 * few)) >"$here/twice"
    figure "instructions a line, $title" "" '' less "$(a_line "$MEF_BIN" test "$@")"
}

for kind in quiet attack; do
    of "$kind log" "$kind" --hits --rules-dir "$rules" sshd
    peer "rg -c, 5 patterns" "$(maybe a_line rg -j1 -c "${five_patterns[@]}")"
    peer "grep -cE, 5 patterns" "$(maybe a_line grep -cE "${five_patterns[@]}")"
done
# What the hits lead to as well: who has had enough is counted and decided on.
of "attack log, with tracking" attack --rules-dir "$rules" sshd
of "quiet log, all rules" quiet --hits --rules-dir "$rules" all
of "mixed log, all rules" mixed --hits --rules-dir "$rules" all
