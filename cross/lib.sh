# What all the build scripts share. To be sourced by bash, not run.
set -euo pipefail
export LC_ALL=C

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

# Everything that the build makes lies below this directory, which `make clean` removes.
out=${MEF_TARGET_DIR:-$root/target}

say() { printf '==> %s\n' "$*" >&2; }
die() { printf 'mef build: %s\n' "$*" >&2; exit 1; }

# The Debian release whose static libraries we link, and the oldest compiler we build with.
readonly sysroot_suite=trixie
readonly oldest_rustc=1.85

# try COMMAND...: runs it up to three times, since a mirror may be away for a moment.
try() {
    local pause
    for pause in 5 15 -; do
        "$@" && return 0
        [ "$pause" = - ] || { say "failed, once more in $pause s: $*"; sleep "$pause"; }
    done
    return 1
}

# words FILE: its words, without the comments.
words() { sed 's/#.*//' "$1" | tr -s ' \t' '\n\n' | sed '/^$/d'; }

# missing PACKAGE...: those of the Debian packages that are not installed.
missing() {
    local package
    for package; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
    done
}

# have_packages WHY PACKAGE...: installs what is missing as root, or says what to install.
# Nothing is enabled and no service is started: policy-rc.d forbids that for the duration.
have_packages() {
    local why=$1 wanted
    shift
    command -v dpkg-query >/dev/null ||
        die "$why needs these programs, in Debian's words: $*. This is no Debian: install them by hand."
    mapfile -t wanted < <(missing "$@")
    [ ${#wanted[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || die "$why needs packages. Run as root: apt-get install ${wanted[*]}"
    say "installing ${wanted[*]}"
    have_package_lists "${wanted[@]}"
    local policy=/usr/sbin/policy-rc.d ours=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && ours=1
    fi
    local status=0
    DEBIAN_FRONTEND=noninteractive try apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 \
        install -y --no-install-recommends "${wanted[@]}" >"$(log apt)" || status=$?
    [ -z "$ours" ] || rm -f "$policy"
    [ "$status" = 0 ] || { tail -n 30 "$(log apt)" >&2; die "apt-get could not install ${wanted[*]}"; }
}

# have_package_lists PACKAGE...: runs apt-get update if apt does not know one of them.
have_package_lists() {
    local package
    for package; do
        [ -n "$(apt-cache madison "$package" 2>/dev/null)" ] ||
            { try apt-get -qq -o DPkg::Lock::Timeout=300 update >&2 || die "apt-get update failed"; return 0; }
    done
}

# log NAME: the file below target/ that takes the talk of a tool.
log() { mkdir -p "$out/log" && echo "$out/log/$1"; }

# target NAME: sets the columns of its line in cross/targets as variables.
target() {
    local line
    line=$(awk -v name="$1" '$1 == name' "$root/cross/targets")
    [ -n "$line" ] || die "no target '$1' in cross/targets"
    # shellcheck disable=SC2034
    read -r name triple debian_arch linker cc _ <<<"$line"
    sysroot=$out/sysroot/$triple
}
