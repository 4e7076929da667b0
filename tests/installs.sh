#!/usr/bin/env bash
# What gets installed. Of mef: `make install` and the tarballs have every page where it belongs, and their
# links lead somewhere. Of packages for tests: what cross/lib.sh installs is not started, neither now nor at
# the next boot, and what was there before stays as it was; tried with packages made here, in a copy of this
# system that ends with this script.
source "$(dirname "$0")/../cross/lib.sh"

# dead_links DIRECTORY: links between its pages that lead nowhere.
dead_links() {
    grep -Ho '](\([^)#:]*\)[)#]' "$1"/*.md | sed 's#^\(.*/\)[^/]*:](\(.*\)[)#]$#\1\2#' | sort -u |
        while read -r file; do [ -e "$file" ] || echo "$file"; done
}
pages() {
    local tree page dead failed=0
    tree=$(mktemp -d)
    mkdir -p "$tree/target/cross/x86_64"
    printf '#!/bin/sh\n' >"$tree/target/cross/x86_64/mef"
    bash "$root/cross/install.sh" "$tree/target/cross/x86_64/mef" "$tree/installed"
    bash "$root/cross/dist.sh" "$tree/target/dist" "$tree/target/cross" >/dev/null
    tar -C "$tree" --strip-components=1 --one-top-level=packed -xzf "$tree"/target/dist/*.tar.gz
    for page in "$root"/rootfs/usr/share/doc/mef/*.md "$root"/rootfs/usr/share/man/*/*; do
        for to in installed packed; do
            cmp -s "$page" "$tree/$to/${page#"$root"/rootfs/}" ||
                { echo "FAILED: $page is not $to"; failed=1; }
        done
    done
    dead=$(dead_links "$tree/packed/usr/share/doc/mef"; dead_links "$tree/installed/usr/share/doc/mef")
    [ -z "$dead" ] || { echo "FAILED: links to what is not installed: $dead"; failed=1; }
    rm -rf "$tree"
    [ "$failed" = 0 ] && echo "ok: every page is installed, and packed, and its links lead to installed files"
}
if [ "${1-}" != inside ]; then pages; fi

[ "$(id -u)" = 0 ] || die "installing packages needs root"
if [ "${1-}" != inside ]; then
    work=$(mktemp -d)
    trap 'rmdir "$work"' EXIT
    unshare --mount --pid --fork --kill-child bash "$0" inside "$work"
    exit
fi

work=$2
mount -t tmpfs tmpfs "$work"
mkdir "$work"/{upper,work,all,debs}
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/all"
mount -t proc proc "$work/all/proc"
mount --rbind /dev "$work/all/dev"

# package NAME VERSION: one that installs a service as debhelper's packages do.
package() {
    local tree=$work/tree
    rm -rf "$tree"
    mkdir -p "$tree"/{DEBIAN,lib/systemd/system,etc/{init.d,sv/"$1",runlevels/default,runit/runsvdir/default}}
    printf '%s\n' "Package: $1" "Version: $2" 'Architecture: all' 'Maintainer: nobody <nobody@localhost>' \
        'Description: a service that a test installs' >"$tree/DEBIAN/control"
    printf '%s\n' '[Service]' 'ExecStart=/bin/true' '[Install]' 'WantedBy=multi-user.target' \
        "Alias=$1-alias.service" \
        >"$tree/lib/systemd/system/$1.service"
    printf '%s\n' '#!/bin/sh' '### BEGIN INIT INFO' "# Provides: $1" '# Required-Start:' '# Required-Stop:' \
        '# Default-Start: 2 3 4 5' '# Default-Stop: 0 1 6' '### END INIT INFO' "touch /started-$1" \
            >"$tree/etc/init.d/$1"
    cat >"$tree/DEBIAN/postinst" <<END
#!/bin/sh
set -e
if deb-systemd-helper --quiet was-enabled $1.service; then deb-systemd-helper enable $1.service >/dev/null
else deb-systemd-helper update-state $1.service >/dev/null; fi
update-rc.d $1 defaults >/dev/null
# What runit's and OpenRC's tools do where they are installed.
[ -h /etc/runit/runsvdir/default/.$1 ] || ln -sf /etc/sv/$1 /etc/runit/runsvdir/default/$1
[ "\$2" ] || ln -sf /etc/init.d/$1 /etc/runlevels/default/$1
invoke-rc.d $1 start || exit \$?
END
    chmod 755 "$tree/DEBIAN/postinst" "$tree/etc/init.d/$1"
    dpkg-deb --root-owner-group -b "$tree" "$work/all/tmp/$1_$2.deb" >/dev/null
}

package mef-test-before 1
package mef-test-before 2
package mef-test-new 1
package mef-test-new 2
rm -f "$work/all/usr/sbin/policy-rc.d" "$work/all/etc/apt/apt.conf.d/"* "$work/all/usr/sbin/runlevel"
printf '#!/bin/sh\necho N 3\n' >"$work/all/usr/sbin/runlevel" # a machine that has booted
chmod 755 "$work/all/usr/sbin/runlevel"
# Where there is none Debian's tools start nothing.
[ -e "$work/all/usr/sbin/init" ] || ln -s /bin/true "$work/all/usr/sbin/init"

cat >"$work/all/tmp/script" <<'END'
out=/tmp/target
mkdir -p $out/log
touch $out/log/apt-update
failed=0
enabled() {
    [ -L "/etc/systemd/system/multi-user.target.wants/$1.service" ] && compgen -G "/etc/rc3.d/S*$1" >/dev/null &&
        [ -L "/etc/runit/runsvdir/default/$1" ] && [ -L "/etc/runlevels/default/$1" ]
}
anything() {
    find /etc/systemd/system /etc/runit/runsvdir /etc/runlevels -name "$1*" | grep . || compgen -G "/etc/rc?.d/S*$1"
}
states() { if "${@:2}" >/dev/null; then echo "ok: $1"; else echo "FAILED: $1"; failed=1; fi; }
not() { ! "$@"; }

dpkg -i /tmp/mef-test-before_1.deb >/tmp/said 2>&1
states "a package by hand is enabled" enabled mef-test-before
states "and started" test -e /started-mef-test-before
rm -f /started-*
install_packages /tmp/mef-test-new_1.deb /tmp/mef-test-before_2.deb 2>/tmp/said || { cat /tmp/said "$(log apt)"; exit 1; }
states "what is there is the new version" grep -q '^2$' <(dpkg-query -W -f '${Version}\n' mef-test-before)
states "nothing was started" not compgen -G '/started-*'
states "what came is not enabled" not anything mef-test-new
states "which is said" grep -q 'not started at boot: .*mef-test-new' /tmp/said
states "what was enabled still is" enabled mef-test-before
states "nobody is forbidden to start services any more" not test -e /usr/sbin/policy-rc.d
dpkg -i /tmp/mef-test-new_2.deb >/dev/null 2>&1
states "an upgrade by hand enables nothing" not anything mef-test-new
DPKG_MAINTSCRIPT_PACKAGE=mef-test-new deb-systemd-helper enable mef-test-new.service >/dev/null
update-rc.d mef-test-new enable >/dev/null
mv /etc/runit/runsvdir/default/{.,}mef-test-new
# With OpenRC installed, update-rc.d has done it.
ln -sf /etc/init.d/mef-test-new /etc/runlevels/default/
states "but who wants it enables it" enabled mef-test-new
exit $failed
END
sed -n '/^try() {/,/^}/p; /^say() {/p; /^die() {/p; /^install_packages() (/,/^log() {/p' \
    "$root/cross/lib.sh" >"$work/all/tmp/lib"
# Not chroot: Debian's tools know that, and start nothing there anyhow.
cd "$work/all"
mkdir previous
pivot_root . previous
exec bash -c 'set -euo pipefail; . /tmp/lib; . /tmp/script'
