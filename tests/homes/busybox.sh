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

# It has no commands: what it starts it starts again. Stopped is what is not in its file any more.
tell() {
    case $1 in
        reload) mef reload ;;
        # Where it is built so, init itself ends what its file has no more.
        stop) sed -i 's/^::respawn:.*mef daemon/#&/' /etc/inittab && kill -HUP 1 && { kill "$(pid)" || true; } ;;
        start) sed -i 's/^#\(::respawn:.*mef daemon\)/\1/' /etc/inittab && kill -HUP 1 ;;
    esac
}
