#!/usr/bin/env bash
# What `nft list ruleset` shows of loaded rule sets can be read back, by the nft of this machine and by that
# of Debian 13, whichever of them has listed it; and what then is there, each of them lists as it was.
# Needs root, and the mirror for the packages of the other nft. listings.sh [FILE...]: of these rule sets.
source "$(dirname "$0")/../cross/lib.sh"
source "$root/cross/apt.sh"
other=$out/nft-trixie
if [ "${1-}" != inside ]; then
    [ "$(id -u)" = 0 ] || die "listings are tried by root"
    if [ ! -e "$other/usr/sbin/nft" ]; then
        say "fetching nftables of Debian trixie"
        open_suite trixie "$(dpkg --print-architecture)" "$other.apt"
        apt-get -c "$apt/apt.conf" -qq -y -d -o APT::Install-Recommends=0 install nftables netbase >/dev/null
        rm -rf "$other" "$other.new"
        for deb in "$other.apt"/cache/archives/*.deb; do dpkg -x "$deb" "$other.new"; done
        rm -rf "$other.apt"
        for name in bin sbin lib lib64; do
            [ -e "$other.new/$name" ] || ln -s "usr/$name" "$other.new/$name"
        done
        mkdir -p "$other.new/tmp"
        mv "$other.new" "$other"
    fi
    exec unshare --net --mount --propagation private bash "$0" inside "$@"
fi
shift

mef=${MEF_BIN:-$out/mef}
mount -t tmpfs none /run
mount -t tmpfs none /var/lib
mkdir -p /run/mef
work=$other/tmp
# of WHICH ARGUMENTS...: one of the two programs; both see the directory "$work" as /tmp.
of() {
    local which=$1
    shift
    if [ "$which" = other ]; then chroot "$other" /usr/sbin/nft "$@"; else nft "${@/#\/tmp/$work}"; fi
}
listed() { of "$1" list ruleset | sed 's/packets [0-9]* bytes [0-9]*/packets 0 bytes 0/'; }

# Each rule of ours counts.
rules() { grep -c 'counter packets' "$1"; }

# read_back FILE LISTS READS: what one of them lists of a rule set, the other one reads, and no rule is lost.
read_back() {
    "$mef" load --force "$1" >/dev/null 2>"$work/said" || { cat "$work/said"; return 1; }
    listed "$2" >"$work/first"
    nft flush ruleset
    of "$3" -f /tmp/first || return 1
    listed "$3" >"$work/listed"
    [ "$(rules "$work/first")" = "$(rules "$work/listed")" ] || return 1
    nft flush ruleset
    of "$3" -f /tmp/listed || return 1
    listed "$3" >"$work/again"
    nft flush ruleset
    grep -q chain "$work/listed" && cmp "$work/listed" "$work/again"
}

[ $# -gt 0 ] || set -- "$root"/tests/ruleset/hosts/*.rules "$root/tests/ruleset/rules/everything.rules"
say "$(nft --version), $(of other --version)"
good=0 bad=0
for file; do
    for lists in own other; do
        for reads in own other; do
            if read_back "$file" $lists $reads; then good=$((good + 1)); else
                echo "$file, as the nft that is $lists lists it, is not read by the one that is $reads"
                bad=$((bad + 1))
            fi
        done
    done
done
echo "listings: $good read back, $bad not"
[ "$good" -gt 0 ] && [ "$bad" = 0 ]
