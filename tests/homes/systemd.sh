# shellcheck shell=sh disable=SC2016,SC2034,SC2154
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

# The journal says of which service a line is.
run_sshd() {
    printf '%s\n' '[Service]' "ExecStart=/usr/sbin/sshd -D $*" >/run/systemd/system/ssh.service
    systemctl daemon-reload && systemctl start ssh.service
}

# block NAME [PAGE]: of the page for systemd or another one.
block() { sed -n "/^\`\`\`text $1\$/,/^\`\`\`\$/{/^\`\`\`/d;p}" "/homes/${2-systemd}.md"; }
allow() {
    mkdir -p /etc/systemd/system/mef.service.d
    block "$@" >"/etc/systemd/system/mef.service.d/$1"
    systemctl daemon-reload && systemctl restart mef.service
}
# hook LINES: a program of on_ban, and a ban by hand.
hook() {
    printf '%s\n' '#!/bin/sh' "$@" >/usr/local/bin/hook
    chmod +x /usr/local/bin/hook
    mef ban "$peer" --for 1h
}

reads_kmsg() { mef status | grep -q '^homes  *kmsg .*/dev/kmsg'; }

units() {
    for unit in mef.service mef-rules.service; do
        check "$unit is without a fault" fails sh -c "systemd-analyze verify --man=no $unit 2>&1 | grep ."
        check "$unit is exposed to 2.0 at most" systemd-analyze security --offline=true --threshold=20 \
            "/etc/systemd/system/$unit"
    done
}

own() {
    units
    check "the rule set is loaded by its unit" systemctl restart mef-rules.service
    check "it is in force" rules_hold 4711
    cp /etc/mef/mef.conf /root/mef.conf
    mkdir -p /etc/mef/rules.d /srv/bans /usr/local/bin
    sed -i 's/^\[global\]/&\non_ban=\/usr\/local\/bin\/hook\nban_log_enabled=true/' /etc/mef/mef.conf
    # The first program and the log of bans are what the daemon has given up.
    systemctl restart mef.service
    check "it runs with a program" wait_for runs
    check "Landlock holds, too" fails sh -c 'mef status | grep "without Landlock"'
    peer=192.0.2.1
    hook 'echo "$MEF_ADDR" >/var/lib/mef/hooked'
    check "a program runs at a ban" wait_for grep -q 192.0.2.1 /var/lib/mef/hooked
    check "the log of bans is written" wait_for grep -q 192.0.2.1 /var/log/mef.log
    check "systemd knows the verdict" sh -c 'systemctl show -p StatusText mef | grep -q protected'

    printf '[rule]\nsource=kmsg\nenabled=true\nfailregex=^homes: <HOST> was here\nmaxretry=2\n' \
        >/etc/mef/rules.d/homes.conf
    systemctl reload mef.service
    check "the kernel's log may not be read" fails reads_kmsg
    allow kmsg.conf
    check "it runs with more rights" wait_for runs
    check "the kernel's log is read" wait_for reads_kmsg

    busybox nc -l -p 8080 >/run/heard &
    peer=192.0.2.2
    hook 'echo "$MEF_ADDR" | busybox nc -w 30 203.0.113.1 8080 || echo no >/var/lib/mef/refused'
    check "a program may not talk to the network" wait_for test -e /var/lib/mef/refused
    allow network.conf
    check "it runs with more rights" wait_for runs
    peer=192.0.2.3
    hook 'echo "$MEF_ADDR" | busybox nc -w 30 203.0.113.1 8080'
    check "a program talks to the network" wait_for grep -q 192.0.2.3 /run/heard

    peer=192.0.2.4
    hook 'echo "$MEF_ADDR" >/srv/bans/all || echo no >/var/lib/mef/denied'
    check "a program may not write elsewhere" wait_for test -e /var/lib/mef/denied
    allow write.conf
    check "it runs with more rights" wait_for runs
    peer=192.0.2.5
    hook 'echo "$MEF_ADDR" >>/srv/bans/all'
    check "a program writes elsewhere" wait_for grep -q 192.0.2.5 /srv/bans/all

    # The program of the page on notifications, with no more rights than that page gives it.
    rm -r /etc/systemd/system/mef.service.d
    mkdir -m 700 /var/lib/mef-notify
    block ntfy.conf notifications | sed 's,https://[^/]*,http://203.0.113.1:8080,' >/etc/mef/notify.conf
    allow notify-unit.conf notifications
    check "it runs with the rights that notifications need" wait_for runs
    printf 'HTTP/1.0 200 OK\r\n\r\n' | busybox nc -l -p 8080 >/run/heard &
    peer=192.0.2.6
    hook "$(block mef-notify notifications)"
    check "people are told of a ban" wait_for grep -q 'ban 192.0.2.6 by manual' /run/heard
    check "nothing is left to be told" wait_for fails test -e /var/lib/mef-notify/message
    rm -r /var/lib/mef-notify /etc/mef/notify.conf
    mv /root/mef.conf /etc/mef/mef.conf
    rm -r /etc/systemd/system/mef.service.d /etc/mef/rules.d/homes.conf /usr/local/bin /srv/bans
    mef unban 192.0.2.1-192.0.2.6
    systemctl daemon-reload && systemctl restart mef.service
}
