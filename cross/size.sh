#!/usr/bin/env bash
# size.sh [show|keep|check|features] MAP FILE: what takes how many bytes of the program FILE, by the linker's
# map of its build, and how much that has grown since the figures in cross/size.txt. `keep` writes these anew,
# which belongs to a release; `check` fails where the program has grown by more than a hundredth and
# CHANGELOG.md does not name, under Unreleased, a size of "at most N kB" that it keeps. `features` builds the
# program once without each feature of Cargo.toml, and writes what each costs into the table of figures.md.
source "$(dirname "$0")/lib.sh"
do=show
case ${1:-} in show | keep | check | features) do=$1; shift ;; esac
usage='usage: size.sh [show|keep|check|features] MAP FILE'
map=${1:?$usage} file=${2:?$usage}
figures=$root/cross/size.txt
total=$(stat -c %s "$file")

# Each piece that is in the program: its bytes, its name, and the object it is from. Names that are long stand
# on a line of their own.
pieces() {
    awk 'function hex(text,   at, sum) {
            for (at = 3; at <= length(text); at++) {
                sum = sum * 16 + index("0123456789abcdef", substr(text, at, 1)) - 1
            }
            return sum
        }
        /^Linker script and memory map/ { on = 1 }
        !on { next }
        /^ \.(text|rodata|data)[^ ]*$/ && NF == 1 { name = $1; next }
        name != "" { $0 = " " name " " $0; name = "" }
        /^ \.(text|rodata|data)/ && NF >= 4 && $2 !~ /^0x0+$/ && $3 ~ /^0x/ {
            print hex($3), $1, $4
        }' "$map"
}

# By module: of mef the first two names of the path, of other crates the crate, of C the archive.
modules() {
    pieces | sed -E 's/ \.(text|rodata|data)(\.rel\.ro)?\.?/ /' | c++filt --format=rust |
        sed 's/\[[0-9a-f]*\]//g' | awk '
        {
            bytes = $1
            if (match($0, /mef::[a-z_0-9]+(::[a-z_0-9]+)?/)) key = substr($0, RSTART, RLENGTH)
            else if (match($0, /[a-z_0-9]+\.a[(:]/)) key = substr($0, RSTART, RLENGTH - 1)
            else if (match($0, /[a-z_0-9]+::/)) key = substr($0, RSTART, RLENGTH - 2)
            else key = "constants"
            sum[key] += bytes
        }
        END { for (key in sum) print sum[key], key }' | sort -k1,1nr -k2
}

# The features that the usual build has, but these.
features_without() {
    sed -n '/^default = \[/,/\]/p' "$root/Cargo.toml" | grep -o '"[a-z]*"' | tr -d '"' |
        grep -vxF -f <(printf '%s\n' "${@:-}") | paste -sd ,
}

# without NAME...: what the program takes without these features.
without() {
    local built=$out/size/mef
    MEF_FEATURES=$(features_without "$@") bash "$root/cross/build.sh" x86_64 "$built" >/dev/null
    stat -c %s "$built"
}

# The table of what each feature costs, as rows of figures.md. The operator's commands are nothing without the
# cloud: without that, they are out, too.
feature_rows() {
    local feature bytes
    for feature in $(features_without | tr , ' '); do
        case $feature in cloud) bytes=$(without cloud operator) ;; *) bytes=$(without "$feature") ;; esac
        echo "| $feature | $(thousands $((total - bytes))) |"
    done
    ROUTER=1 bash "$root/cross/build.sh" x86_64 >&2
    bytes=$(stat -c %s "$out/mef-router")
    echo "| all of them | $(thousands $((total - bytes))): a program of $(thousands "$bytes") is left |"
}

thousands() { sed -E ':a; s/([0-9])([0-9]{3})($|,)/\1,\2\3/; ta' <<<"$1"; }

before=$(awk '$2 == "total" { print $1 }' "$figures" 2>/dev/null || true)
case $do in
    features)
        rows=$(feature_rows)
        page=$root/rootfs/usr/share/doc/mef/figures.md
        {
            sed '/^## What each feature costs/,$d' "$page" | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}'
            printf '%s\n' '' '## What each feature costs' '' \
                'Bytes of the program for x86_64 without each feature of cargo, fewer than with all. What two' \
                "share counts for neither; \`make size FEATURES=1\` writes this." '' \
                '| feature | bytes |' '| --- | --- |' "$rows"
        } >"$page.new"
        mv "$page.new" "$page" ;;
    keep)
        { echo "# Bytes of the program for x86_64 and of its parts at the last release: cross/size.sh has it."
            echo "$total total"; modules; } >"$figures" ;;
    show)
        echo "$total bytes, $((total - ${before:-$total})) more than at the last release"
        modules | awk -v figures="$figures" '
            BEGIN {
                while ((getline line < figures) > 0) {
                    split(line, field, " ")
                    if (line !~ /^#/ && field[2] != "total") old[field[2]] = field[1]
                }
            }
            { printf "%9d %+9d  %s\n", $1, $1 - old[$2], $2; delete old[$2] }
            END { for (key in old) printf "%9d %+9d  %s\n", 0, -old[key], key }' ;;
    check)
        [ -n "$before" ] || die "cross/size.txt has no figures"
        # One program reads it to its end: whoever stops earlier ends the one before it with SIGPIPE.
        named=$(awk '/^## / { on = /Unreleased/ }
            on && !named && match($0, /at most [0-9,]+ kB for x86_64/) {
                named = substr($0, RSTART + 8, RLENGTH)
                sub(/ .*/, "", named)
                gsub(/,/, "", named)
            }
            END { print named }' "$root/CHANGELOG.md")
        if [ $((total * 100)) -gt $((before * 101)) ] && [ "$total" -gt $((${named:-0} * 1000)) ]; then
            die "the program has grown from $before to $total bytes, and CHANGELOG.md names no size of at most
$(((total + 999) / 1000)) kB for x86_64 under Unreleased (cross/size.sh shows what has grown)"
        fi ;;
esac
