#!/usr/bin/env bash
# Instructions for each line of a log: two logs are read, of which one is twice as long, so that the start
# does not count. The programs that `make cross` has built for other processors run under qemu-user.
source "$(dirname "$0")/lib.sh"
source "$(dirname "$0")/../../cross/lib.sh"
few=20000
here=$work/callgrind

# instructions PROGRAM...: under $emulator, or callgrind if that is empty.
emulator=
instructions() {
    local under=(valgrind --tool=callgrind --callgrind-out-file=/dev/null "--log-file=$here/log")
    [ -z "$emulator" ] || under=("$emulator" -plugin "$here/count.so" -d plugin -D "$here/log")
    # Into a file: grep stops at the first match if its output is /dev/null.
    "${under[@]}" "$@" >"$here/found" 2>/dev/null
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

# others TITLE KIND ARGUMENTS...: the same by the programs for other processors. x86_64 is counted by qemu,
# too, for comparison.
others() {
    local title=$1 kind=$2 name gnu
    shift 2
    "$MEF_BENCH" log "$kind" $few >"$here/once"
    "$MEF_BENCH" log "$kind" $((2 * few)) >"$here/twice"
    emulator=qemu-x86_64
    figure "instructions a line, $title, under qemu" "" '' less "$(a_line "$MEF_BIN" test "$@")"
    while read -r name gnu; do
        emulator=qemu-${gnu%%-*}
        peer "$name" "$(a_line "$out/cross/$name/mef" test "$@")"
    done < <(built)
    emulator=
}

# built: the other targets whose programs are there, and what their compilers are called.
built() {
    awk '!/^#/ && $NF == "ship" && $4 != "-" { print $1, $4 }' "$root/cross/targets" |
        while read -r name gnu; do [ ! -e "$out/cross/$name/mef" ] || echo "$name" "$gnu"; done
}

if there qemu-x86_64 && [ -n "$(built)" ]; then
    gcc -shared -fPIC -O2 -o "$here/count.so" "$root/tests/bench/count.c"
    others "quiet log" quiet --hits --rules-dir "$rules" sshd
    others "attack log, with tracking" attack --rules-dir "$rules" sshd
    others "mixed log, all rules" mixed --hits --rules-dir "$rules" all
fi
