# shellcheck shell=sh disable=SC2034,SC2154
# systemd, without the services of Debian that have nothing to do here.
mine=/etc/systemd/system/mef.service
prepare() {
    units=$disk/etc/systemd/system
    mkdir -p "$units"/multi-user.target.wants
    : >"$disk/etc/machine-id"
    ln -s /lib/systemd/systemd "$disk/sbin/init"
    for unit in dbus.service dbus.socket getty.target systemd-logind.service remote-fs.target \
        systemd-udevd.service systemd-udev-trigger.service systemd-update-utmp.service \
        systemd-update-utmp-runlevel.service e2scrub_reap.service timers.target; do
        ln -s /dev/null "$units/$unit"
    done
    ln -s /lib/systemd/system/multi-user.target "$units/default.target"
    printf '%s\n' '[Unit]' DefaultDependencies=no Wants=network-pre.target After=network-pre.target \
        Before=network.target '[Service]' Type=oneshot RemainAfterExit=yes ExecStart=/homes/network \
        >"$units/networking.service"
    printf '%s\n' '[Unit]' After=networking.service '[Service]' Type=oneshot RemainAfterExit=yes \
        'ExecStart=/usr/bin/touch /run/booted' \
        >"$units/booted.service"
    ln -s ../networking.service ../booted.service "$units/multi-user.target.wants/"
    first=/lib/systemd/systemd
}
tell() { systemctl "$1" mef.service; }
