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
        release=$(. /etc/os-release && echo "$VERSION_CODENAME")
        open_suite "$release" "$(dpkg --print-architecture)" "$sysvinit.apt"
        for package in sysvinit-core sysv-rc; do
            dpkg -x "$(fetch "$package")" "$sysvinit.new" || die "no $package"
        done
        rm -rf "$sysvinit.apt"
        mv "$sysvinit.new" "$sysvinit"
    fi
    cp "$(find "$sysvinit" -path '*sbin/init' -type f)" "$disk/sbin/init"
    for script in rc rcS; do
        cp "$(find "$sysvinit" -path "*lib/init/$script")" "$disk/etc/init.d/"
    done
    printf '%s\n' id:2:initdefault: si::sysinit:/etc/init.d/rcS l2:2:wait:/etc/init.d/rc\ 2 \
        bo:2:wait:/usr/bin/touch\ /run/booted >"$disk/etc/inittab"
    for level in 0 1 2 3 4 5 6 S; do mkdir -p "$disk/etc/rc$level.d"; done
    cp "$disk/homes/network" "$disk/etc/init.d/networking"
    ln -s ../init.d/networking "$disk/etc/rcS.d/S13networking"
    first=/sbin/init
}
