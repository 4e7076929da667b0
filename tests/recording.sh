#!/usr/bin/env bash
# recording.sh [--update]: the README shows what the demonstration prints, without its explanations: this runs
# it and compares, times, ports, counters (with their plurals), what was scanned, and sizes aside. With
# --update it is written into the README.
source "$(dirname "$0")/../cross/lib.sh"
# shellcheck disable=SC2046
have_packages "the demonstration" $(words "$root/tests/demo-packages")
export MEF_BIN=${MEF_BIN:-$out/mef}
new=$(mktemp "$out/recording.XXXXXX")
trap 'rm -f "$new" "$new".*' EXIT

RECORD=1 bash "$root/tests/demo.sh" </dev/null >"$new" || { cat "$new"; exit 1; }
# recorded: the block of the README, without its fences.
# shellcheck disable=SC2016
recorded() { sed -n '/^```text demonstration$/,/^```$/{/^```/d;p}' "$root/README.md"; }
masked() {
    sed -E -e 's/[0-9]+(ms|[smhd])( [0-9]+[smhd])*/TIME/g' -e 's/ [0-9]+( |$)/ N\1/g' \
        -e 's/[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}/WHEN/g' \
        -e 's/[A-Z][a-z]{2} +[0-9N]+ [0-9]{2}:[0-9]{2}.*/LINE/' \
        -e 's/[0-9.]+ - - \[.*/LINE/' -e 's/( portscan ).*/\1SCAN/' \
        -e 's/ N ([a-z]+)s\b/ N \1/g' -e 's/  +/ /g' -e 's/ +$//'
}

if [ "${1-}" = --update ]; then
    # shellcheck disable=SC2016
    awk -v new="$new" '/^```text demonstration$/ {
            print
            while ((getline line <new) > 0) print line
            skip = 1
            next
        }
        /^```$/ { skip = 0 } !skip' "$root/README.md" >"$new.readme"
    cat "$new.readme" >"$root/README.md"
elif ! diff <(recorded | masked) <(masked <"$new"); then
    echo "README.md shows (<) what the demonstration does not print (>): bash tests/recording.sh --update"
    exit 1
fi
