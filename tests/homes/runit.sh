# shellcheck shell=sh disable=SC2034,SC2154
# runit, with the stages of Void: the first one runs /etc/runit/core-services. As process 1 of a machine, that
# of Debian: its first stage runs the scripts of /etc/rcS.d, and the second one looks for services in a set of
# /etc/runit/runsvdir.
mine=/etc/sv/mef/run
prepare() {
    mkdir -p "$disk"/etc/runit/core-services "$disk"/etc/sv "$disk"/etc/service
    : >"$disk/etc/runit/core-services/00-disks.sh"
    mkdir "$disk/etc/sv/other"
    ln -s runit-init "$disk/sbin/init"
    cat >"$disk/etc/runit/1" <<'END'
#!/bin/sh
for script in /etc/runit/core-services/*.sh; do [ ! -e "$script" ] || . "$script"; done
/homes/network
touch /run/booted
END
    printf '#!/bin/sh\nexec runsvdir -P /etc/service\n' >"$disk/etc/runit/2"
    printf '#!/bin/sh\n' >"$disk/etc/runit/3"
    chmod +x "$disk"/etc/runit/[123]
    first=/sbin/runit
}
prepare_machine() {
    # Nothing is to be checked or read from a keyboard there.
    for name in check hwclock console keyboard; do rm -f "$disk"/etc/rcS.d/*$name*; done
    cp "$disk/homes/network" "$disk/etc/init.d/networking"
    ln -sf ../init.d/networking "$disk/etc/rcS.d/S13networking"
    mkdir -p "$disk/etc/sv/booted"
    printf '#!/bin/sh\ntouch /run/booted\nexec sleep infinity\n' >"$disk/etc/sv/booted/run"
    chmod +x "$disk/etc/sv/booted/run"
    ln -s /etc/sv/booted "$disk/etc/runit/runsvdir/default/booted"
    first=/sbin/init
}
