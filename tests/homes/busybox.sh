# shellcheck shell=sh disable=SC2034,SC2154
# init of busybox: /etc/inittab.
prepare() {
    ln -s /usr/bin/busybox "$disk/sbin/init"
    cat >"$disk/etc/inittab" <<'END'
::sysinit:/bin/mkdir -p /run/lock
::sysinit:/etc/init.d/rcS
::respawn:/usr/bin/busybox sleep 100000
END
    printf '#!/bin/sh\n/homes/network\n: >/run/booted\n' >"$disk/etc/init.d/rcS"
    chmod +x "$disk/etc/init.d/rcS"
    first=/sbin/init
}

