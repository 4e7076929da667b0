# shellcheck shell=bash disable=SC2034,SC2154
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
readonly oldest_rustc=1.88

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
words() { awk '{ sub(/#.*/, ""); for (i = 1; i <= NF; i++) print $i }' "$1"; }

# missing PACKAGE...: those of the Debian packages that are not installed.
missing() {
    local package
    for package; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
    done
}

# have_packages WHY PACKAGE...: installs what is missing as root, or says what to install.
have_packages() {
    local why=$1 wanted
    shift
    command -v dpkg-query >/dev/null ||
        die "$why needs these packages of Debian, and this is no Debian: $*. Install the like by hand."
    mapfile -t wanted < <(missing "$@")
    [ ${#wanted[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || die "$why needs packages. Run as root: apt-get install -y ${wanted[*]}"
    say "installing ${wanted[*]}"
    install_packages "${wanted[@]}" || die "apt-get could not install ${wanted[*]} (see $(log apt))"
}

# install_packages PACKAGE...: as root. Debian starts a service when its package is installed, and at every
# boot from then on. Ours are for tests, in namespaces of their own: for as long as this takes, policy-rc.d
# forbids to start any, and what came with them for the boot is taken back, however this ends.
install_packages() (
    policy=/usr/sbin/policy-rc.d
    [ ! -e "$policy" ] || policy=
    packages=$(installed) links=$(boot_links)
    trap '[ -z "$policy" ] || rm -f "$policy"; leave_disabled "$packages" "$links"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    if [ -n "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    # An image's package lists are missing, or name an old compiler. Once an hour is enough.
    if [ -z "$(find "$out/log/apt-update" -mmin -60 2>/dev/null)" ]; then
        apt_update || say "going on with the package lists that are there"
    fi
    try apt_install "$@"
)

# installed: the packages of this machine. boot_links: what its service managers start at a boot, a link each.
installed() {
    dpkg-query -W -f '${db:Status-Status} ${Package}\n' |
        sed -n '/^\(not-installed\|config-files\) /!s/.* //p' | sort
}
boot_links() {
    local managers=(/etc/systemd/{system,user} /etc/rc[0-9S].d /etc/runlevels /etc/runit/runsvdir)
    { find "${managers[@]}" -type l 2>/dev/null || true; } | sort
}

# leave_disabled PACKAGES LINKS: of the links that were not there before, those for services of packages that
# were not there either are taken back. To Debian's tools that means "disabled by hand", which upgrades
# respect.
leave_disabled() {
    local new link unit disabled=
    new=$(comm -13 <(echo "$1") <(installed))
    while read -r link; do
        unit=$(basename "$(readlink "$link")")
        dpkg-query -S "*/$unit" 2>/dev/null | sed 's/: .*//; s/, /\n/g; s/:[^\n]*//g' |
            grep -qxF -f <(echo "$new") || continue
        case $link in
            # Without any link update-rc.d would take the service for a new one at the next upgrade.
            /etc/rc*/S*) mv "$link" "${link%/*}/K01${link##*/S[0-9][0-9]}" ;;
            /etc/rc*) continue ;;
            # Likewise the helper of runit's packages, which looks for this name.
            /etc/runit/*) mv "$link" "${link%/*}/.${link##*/}" ;;
            *.wants/* | *.requires/*) rm "$link" && rmdir --ignore-fail-on-non-empty "${link%/*}" ;;
            *) rm "$link" ;;
        esac
        disabled+="$unit"$'\n'
    done < <(comm -13 <(echo "$2") <(boot_links) | sed '/^$/d')
    [ -z "$disabled" ] || say "not started at boot: $(sort -u <<<"$disabled" | tr '\n' ' ')"
}

apt_update() { try apt-get -qq -o DPkg::Lock::Timeout=300 update >"$(log apt-update)" 2>&1; }

apt_install() {
    apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 \
        install -y --no-install-recommends "$@" >"$(log apt)" 2>&1
}

# log NAME: the file below target/ that takes the talk of a tool.
log() { mkdir -p "$out/log" && echo "$out/log/$1"; }

# target NAME: sets the columns of its line in cross/targets as variables.
target() {
    line=$(awk -v name="$1" '$1 == name' "$root/cross/targets")
    [ -n "$line" ] || die "no target '$1' in cross/targets"
    read -r name triple debian_arch gnu c_flags features use _ <<<"$line"
    sysroot=$out/sysroot/$triple
    # The C compiler, which links as well, and what inspects what it makes.
    cc=musl-gcc tools='' packages=
    [ "$gnu" = - ] || cc=$sysroot/cc tools=$gnu- packages=gcc-$gnu
}

# commit: the one that is built, as `mef version` shows it. Empty outside a git repository.
commit() {
    if [ -n "${MEF_COMMIT+set}" ]; then echo "$MEF_COMMIT"
    elif [ -e "$root/.git" ] && command -v git >/dev/null; then
        git -C "$root" describe --always --dirty --abbrev=12 --match=none 2>/dev/null || true
    fi
}
