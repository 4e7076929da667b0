# shellcheck shell=sh disable=SC2034,SC2154
# OpenRC, started by init of busybox, as on Alpine. Services for disks and network are two lines here.
mine=/etc/init.d/mef
prepare() {
    ln -s /usr/bin/busybox "$disk/sbin/init"
    cat >"$disk/etc/inittab" <<'END'
::sysinit:/sbin/openrc sysinit
::sysinit:/sbin/openrc boot
::wait:/sbin/openrc default
::wait:/usr/bin/touch /run/booted
::respawn:/usr/bin/busybox sleep 100000
END
    mkdir -p "$disk/etc/conf.d" "$disk/etc/runlevels/boot"
    for level in sysinit default shutdown; do mkdir "$disk/etc/runlevels/$level"; done
    cp /etc/rc.conf /etc/insserv.conf "$disk/etc/"
    printf '#!/sbin/openrc-run\ndepend() { provide localmount; }\nstart() { :; }\n' >"$disk/etc/init.d/disks"
    printf '#!/sbin/openrc-run\ndepend() { provide net; }\nstart() { /homes/network; }\n' \
        >"$disk/etc/init.d/networking"
    chmod +x "$disk"/etc/init.d/*
    ln -s /etc/init.d/disks /etc/init.d/networking "$disk/etc/runlevels/boot/"
    first=/sbin/init
}
