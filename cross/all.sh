#!/usr/bin/env bash
# all.sh: builds every line of cross/targets into target/cross/NAME/mef.
source "$(dirname "$0")/lib.sh"
mapfile -t names < <(awk '!/^#/ && NF { print $1 }' "$root/cross/targets")
for name in "${names[@]}"; do
    bash "$root/cross/build.sh" "$name" "$out/cross/$name/mef"
done
