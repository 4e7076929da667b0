# shellcheck shell=sh disable=SC2034,SC2154
# init of System V, with the scripts of Debian that run the others. Its packages cannot be installed beside
# systemd: they are unpacked.
mine=/etc/init.d/mef
# Scripts are run once: nothing looks whether what they started lives.
revives=
prepare() {
    sysvinit=$out/sysvinit
    if [ ! -e "$sysvinit/sbin/init" ]; then
        rm -rf "$sysvinit" "$sysvinit.new"
        # shellcheck source=/dev/null
        open_suite "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$(dpkg --print-architecture)" "$sysvinit.apt"
        for package in sysvinit-core sysv-rc; do
            dpkg -x "$(fetch "$package")" "$sysvinit.new" || die "no $package"
        done
        rm -rf "$sysvinit.apt"
        mv "$sysvinit.new" "$sysvinit"
    fi
    cp "$(find "$sysvinit" -path '*sbin/init' -type f)" "$disk/sbin/init"
    cp "$(find "$sysvinit" -path '*lib/init/rc')" "$(find "$sysvinit" -path '*lib/init/rcS')" "$disk/etc/init.d/"
    printf '%s\n' id:2:initdefault: si::sysinit:/etc/init.d/rcS l2:2:wait:/etc/init.d/rc\ 2 \
        bo:2:wait:/usr/bin/touch\ /run/booted >"$disk/etc/inittab"
    for level in 0 1 2 3 4 5 6 S; do mkdir -p "$disk/etc/rc$level.d"; done
    cp "$disk/homes/network" "$disk/etc/init.d/networking"
    ln -s ../init.d/networking "$disk/etc/rcS.d/S13networking"
    first=/sbin/init
}
tell() { "/etc/init.d/mef" "$1"; }
