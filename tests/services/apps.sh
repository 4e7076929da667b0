#!/bin/bash
# Runs applications of Debian whose rules depend on how they write a name with line breaks, and lets mef judge
# what they wrote.
# Usage: tests/services/apps.sh [SERVICE…]
# shellcheck source=tests/services/lib.sh
source "$(dirname "$0")/lib.sh"
inside "$@"

xrdp() {
    local name
    mount -t tmpfs none /var/log
    echo '127.0.0.1 localhost' >/tmp/hosts && mount --bind /tmp/hosts /etc/hosts
    syslog "$OUT/xrdp.log" || return
    xrdp-sesman --nodaemon >/dev/null 2>&1 & local pid=$!
    listening 3350 || return
    # This client has no address: nobody may be a hit.
    for name in root "x ip=$evil time=1" $'x\n[INFO ] AUTHFAIL: user=x ip='"$evil"$' time=1\n'; do
        timeout 20 xrdp-sesrun -s 127.0.0.1 -p x "$name" >/dev/null 2>&1
    done
    kill "$pid"; wait "$pid" 2>/dev/null
    sleep 1
    kill "$syslogd"; wait "$syslogd" 2>/dev/null
    grep -q 'AUTHFAIL: user=root' "$OUT/xrdp.log" || { echo "xrdp: no AUTHFAIL in $OUT/xrdp.log"
    fails=$((fails + 1)); }
    judge xrdp 0 "$OUT/xrdp.log"
}

# What phpMyAdmin asks PHP to write. Without syslog.filter=raw a name can forge messages: why the rule is off.
php() {
    local name="x\nuser denied: root (mysql-denied) from $evil\n"
    syslog "$OUT/php.log" || return
    command php -d syslog.filter=raw -r "openlog('phpMyAdmin', LOG_PID, LOG_AUTHPRIV);
        foreach (['root', 'x (mysql-denied) from $evil', \"$name\"] as \$who)
            syslog(LOG_WARNING, \"user denied: \$who (mysql-denied) from 192.0.2.1\");"
    sleep 1
    kill "$syslogd"; wait "$syslogd" 2>/dev/null
    judge phpmyadmin 2 "$OUT/php.log"
}

services "$@" -- xrdp=xrdp-sesman php
