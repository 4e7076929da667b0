#!/usr/bin/env bash
# all.sh [TARGET...]: builds the lines of cross/targets that ship, or those that are named, into
# target/cross/NAME/mef; then tries each, and the lines that are there for tests, as far as that goes without
# a machine of that kind (emulated.sh), and shows their sizes.
source "$(dirname "$0")/lib.sh"
used() { awk -v use="$1" '!/^#/ && $NF == use { print $1 }' "$root/cross/targets"; }
mapfile -t ship < <(used ship)
mapfile -t all < <(used ship; used test)
[ $# = 0 ] || { ship=("$@"); all=("$@"); }

for name in "${ship[@]}"; do
    bash "$root/cross/build.sh" "$name" "$out/cross/$name/mef"
done
failed=
for name in "${all[@]}"; do
    bash "$root/cross/emulated.sh" "$name" || failed+=" $name"
done

size() { stat -c %s "$out/cross/$1/mef"; }
first=$(size "${ship[0]}")
for name in "${ship[@]}"; do
    size "$name" | awk -v name="$name" -v first="$first" \
        '{ printf "%-8s %9d bytes, %.2f of the first\n", name, $1, $1 / first }'
done
[ -z "$failed" ] || die "did not pass:$failed"
