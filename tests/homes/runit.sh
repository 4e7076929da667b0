# shellcheck shell=sh disable=SC2034,SC2154
# runit, with the stages of Void: the first one runs /etc/runit/core-services.
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
