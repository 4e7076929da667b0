# shellcheck shell=sh disable=SC2034,SC2154
# s6-svscan as process 1, as s6-linux-init starts it: services are copied to below /run at boot. The script
# that brings the network up loads the rule set first, since services start all at once.
mine=/etc/s6/sv/mef/run
prepare() {
    mkdir -p "$disk/etc/s6-linux-init/current/run-image/service"
    cat >"$disk/etc/boot" <<'END'
#!/bin/sh
cp -a /etc/s6-linux-init/current/run-image/service /run/service
[ ! -e /etc/mef ] || /usr/local/sbin/mef load --boot
/homes/network
touch /run/booted
exec s6-svscan /run/service
END
    chmod +x "$disk/etc/boot"
    first=/etc/boot
}
