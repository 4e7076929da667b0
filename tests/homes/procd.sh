# shellcheck shell=sh disable=SC2034,SC2154
# No procd: a shim of it, since Debian has none. A script of that name as process 1 runs /etc/rc.d at boot and
# keeps alive what the shim of /etc/rc.common, procd's shell library, has noted; /var is in memory, as there.
mine=/etc/init.d/mef
prepare() {
    mkdir -p "$disk/etc/rc.d"
    : >"$disk/etc/volatile"
    cp "$root/tests/homes/procd" "$disk/sbin/procd"
    cp "$root/tests/homes/rc.common" "$disk/etc/rc.common"
    printf '#!/bin/sh /etc/rc.common\nSTART=20\nboot() { /homes/network; }\n' >"$disk/etc/init.d/network"
    chmod +x "$disk/sbin/procd" "$disk/etc/rc.common" "$disk/etc/init.d/network"
    ln -s ../init.d/network "$disk/etc/rc.d/S20network"
    first=/sbin/procd
}
