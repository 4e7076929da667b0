#!/usr/bin/env bash
# demo.sh: what `make run` shows. A host with a real sshd and a real web server, attackers of several kinds,
# and a friend who must not be disturbed, each in a network namespace; mef between them.
# With RECORD set it leaves the explanations out: tests/recording.sh puts the rest into the README.
#
# Everything lives in namespaces for networks, mounts and processes, which end with this script
# however it ends: nothing on the real host is touched, and nothing stays behind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Whoever runs this by hand gets the packages checked, too.
[ -n "${MEF_BIN-}" ] || exec bash cross/with-packages.sh tests/demo-packages bash tests/demo.sh
if [ "${1-}" != inside ]; then
    [ -x "$MEF_BIN" ] || { echo "demo: $MEF_BIN is missing: run 'make' first" >&2; exit 1; }
    [ "$(id -u)" = 0 ] || { echo "demo: namespaces and nftables need root" >&2; exit 1; }
    # What is mounted in here must not be seen outside; the kernel can only promise that below a mount point.
    unshare --mount true 2>/dev/null || {
        echo "demo: no namespace of its own for mounts. In a chroot, its directory has to be a mount point:" \
            "'mount --bind DIR DIR' before 'chroot DIR'" >&2
        exit 1
    }
    exec unshare --net --mount --uts --pid --fork --kill-child --mount-proc bash tests/demo.sh inside
fi
trap 'exit 130' INT
trap 'exit 143' TERM

color=
if [ -t 1 ] && [ -z "${NO_COLOR-}" ]; then color=1; fi
paint() { if [ -n "$color" ]; then printf '\033[%sm%s\033[0m\n' "$1" "$2"; else printf '%s\n' "$2"; fi; }
title() { [ -n "${RECORD-}" ] || echo; paint '1;34' "== $*"; }
good() { paint '32' "   $*"; }
note() { [ -n "${RECORD-}" ] || echo "   $*"; }
fail() { paint '1;31' "   FAILED: $*"; failed=1; }
failed=0

# shown COMMAND...: runs it as one would by hand, its output set in. picked PATTERN COMMAND...: of the output
# the lines that fit.
shown() { paint 1 "   # $*"; "$@" 2>&1 | sed 's/^/   /'; }
picked() {
    local pattern=$1
    shift
    paint 1 "   # $*"
    { "$@" 2>&1 || true; } | awk -v fits="$pattern" '
        $0 ~ fits && !seen[$0]++ { print "   " (length($0) > 100 ? substr($0, 1, 97) "..." : $0) }'
}

# until_so WHAT COMMAND...: waits up to 10 s for something that takes milliseconds.
until_so() {
    local what=$1 i
    shift
    for ((i = 0; i < 500; i++)); do "$@" >/dev/null 2>&1 && return 0; sleep 0.02; done
    fail "$what did not happen within 10 s"
    for log in "$dir"/*.log "$dir"/log/*.log; do echo "--- $log"; tail -n 20 "$log"; done
    exit 1
}

# A host of its own: /run, /var/lib, /var/log, /dev, /etc and what set-up writes are only seen in here.
private_host() {
    mount -t tmpfs -o mode=755 demo /run
    dir=/run/demo
    mkdir -p "$dir"/{dev/pts,lib/nginx,log/nginx,sbin,man} /run/sshd /run/netns
    for device in null zero full random urandom tty ptmx; do
        : >"$dir/dev/$device"
        mount --bind "/dev/$device" "$dir/dev/$device"
    done
    mount --rbind /dev/pts "$dir/dev/pts"
    ln -s /proc/self/fd "$dir/dev/fd"
    cp -a /etc "$dir/etc"
    rm -rf "$dir/etc/mef"
    cp "$MEF_BIN" "$dir/sbin/mef"
    mount --bind "$dir/etc" /etc
    mount --bind "$dir/sbin" /usr/local/sbin
    mount --bind "$dir/man" /usr/share/man
    mount --bind "$dir/lib" /var/lib
    mount --bind "$dir/log" /var/log
    mount --rbind "$dir/dev" /dev
    export HOME=$dir PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
    unset SSH_CONNECTION SSH_CLIENT SSH_AUTH_SOCK
    hash -r
    echo host >/proc/sys/kernel/hostname
    ip link set lo up
}

# neighbour NAME ADDRESS: a namespace with one address (.N of a /24) and a link to the host, which is .1
# there. With an IPv6 address behind it, which ends with ::N, likewise.
neighbour() {
    local name=$1 address=$2 address6=${3-}
    ip netns add "$name"
    ip link add "$name" type veth peer name eth0 netns "$name"
    ip addr add "${address%.*}.1/24" dev "$name"
    [ -z "$address6" ] || ip addr add "${address6%::*}::1/64" dev "$name" nodad
    ip link set "$name" up
    ip -n "$name" addr add "$address/24" dev eth0
    [ -z "$address6" ] || ip -n "$name" addr add "$address6/64" dev eth0 nodad
    ip -n "$name" link set lo up
    ip -n "$name" link set eth0 up
}

start_servers() {
    busybox syslogd -n -O /var/log/auth.log &
    until_so "the syslog daemon's start" test -S /dev/log
    ssh-keygen -q -t ed25519 -N '' -f "$dir/host_key"
    cat >"$dir/sshd_config" <<END
Port 22
HostKey $dir/host_key
PidFile none
UsePAM no
UseDNS no
PasswordAuthentication yes
END
    # Since 9.8 sshd turns such visitors away itself. Here it is mef's turn.
    local options=()
    if /usr/sbin/sshd -t -f "$dir/sshd_config" -o PerSourcePenalties=no 2>"$dir/sshd-check"; then
        options=(-o PerSourcePenalties=no)
    fi
    /usr/sbin/sshd -D -f "$dir/sshd_config" "${options[@]}" &
    until_so "sshd's start" grep -q 'Server listening' /var/log/auth.log
    printf '#!/bin/sh\necho not-the-password\n' >"$dir/askpass"
    chmod 755 "$dir/askpass"
    cat >"$dir/nginx.conf" <<END
daemon off;
pid $dir/nginx.pid;
error_log /dev/null;
events {}
http {
    access_log /var/log/nginx/access.log;
    server { listen 80; listen [::]:80; location / { return 404; } }
}
END
    /usr/sbin/nginx -c "$dir/nginx.conf" &
    until_so "the web server's start" busybox nc -w 2 127.0.0.1 80 -e true
}

# start_mef: as a supervisor does.
start_mef() {
    mef daemon --foreground 2>>"$dir/mef.log" &
    daemon=$!
    until_so "the daemon's start" mef top --once
}

stop_mef() {
    kill "$daemon"
    wait "$daemon" || fail "the daemon ended with status $?"
}

# knock NAME HOST USER: one log-in with a wrong password; says how it went. Whoever is banned in the middle of
# it hears nothing more: ssh alone would wait for longer than the ban lasts.
knock() {
    local said
    said=$(SSH_ASKPASS=$dir/askpass SSH_ASKPASS_REQUIRE=force DISPLAY=:0 \
        nsenter --net="/run/netns/$1" timeout 5 ssh -F none -l "$3" \
        -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
        -o PubkeyAuthentication=no -o PreferredAuthentications=password \
        -o NumberOfPasswordPrompts=1 -o ConnectTimeout=2 "$2" true 2>&1 </dev/null || true)
    printf '%s\n' "$said" | tail -n 1 | tr -d '\r'
}

# guess NAME HOST ADDRESS: passwords, until the address is banned or the list of names ends.
guess() {
    local user
    for user in root admin oracle test git pi ubuntu postgres; do
        knock "$1" "$2" "$user" >/dev/null
        sleep 0.1
        ! banned "$3" || break
    done
}

# ask NAME HOST PATH: a web page, as a scanner asks for it. A ban that comes between the connection and the
# request leaves it without an answer.
ask() {
    printf 'GET %s HTTP/1.0\r\nUser-Agent: Mozilla/5.0\r\n\r\n' "$3" |
        nsenter --net="/run/netns/$1" timeout 3 busybox nc -w 2 "$2" 80 >/dev/null 2>&1 || true
}

# connect NAME HOST PORT...: opens a connection to each, and does not care what becomes of it.
connect() {
    # shellcheck disable=SC2016
    nsenter --net="/run/netns/$1" bash -c 'host=$1; shift
        for port; do (: >"/dev/tcp/$host/$port") 2>/dev/null & done; sleep 1; kill $(jobs -p)' - "${@:2}" \
        >/dev/null 2>&1 || true
}

answers() {
    nsenter --net="/run/netns/$1" timeout 10 busybox nc -w 2 "$2" 22 </dev/null 2>/dev/null | grep -q '^SSH-'
}
banned() { mef bans --json 2>/dev/null | grep -qF "\"$1"; }
# state TEXT NAME HOST: whether sshd answers is as it has to be.
cut_off() { if answers "$1" "$2"; then fail "$1 still reaches sshd"; else good "no answer for the $1"; fi; }
answered() { if answers "$1" "$2"; then good "sshd answers the $1"; else fail "no answer for the $1"; fi; }

private_host
neighbour guesser 203.0.113.66 2001:db8:66::66
neighbour scanner 192.0.2.33
neighbour flooder 198.18.0.9
neighbour friend 198.51.100.7
readonly guessed=203.0.113.1 friends=198.51.100.1
start_servers

title "Set-up"
note "One command writes configuration, rule set and manual pages, all from inside the program, and starts"
note "the daemon under the host's init system. There is none in here: the demonstration starts it itself."
picked '^  write .*mef\.(conf|rules)$' mef setup --init none --no-start --allow 198.51.100.7
keys='load_managed=true\nps_boot_grace=0\nddos_enabled=true\nddos_syn_rate=20\nddos_syn_burst=40'
sed -i "s/^\[global\]/&\n$keys/" /etc/mef/mef.conf
start_mef
picked '^protected' mef status

title "A rule set that takes itself back"
note "mef load --confirm puts the rules on trial. Nobody confirms these, since they lock SSH out: the"
note "kernel drops them when the time is over, whatever becomes of mef. The next ones are confirmed."
printf 'policy dir=in action=drop\nrule dir=in action=accept proto=tcp dport=80\n' >"$dir/bad.rules"
picked 'not confirmed' mef load --confirm 1s "$dir/bad.rules"
printf 'policy dir=in action=accept\nrule dir=in action=drop proto=tcp dport=3306\n' >/etc/mef/mef.rules
mef load --confirm 30s >"$dir/load" 2>&1 </dev/null &
loads=$!
until_so "the trial" mef confirm
if wait "$loads"; then good "the next ones were confirmed, and stay"; else fail "they were not kept"; fi

title "Passwords are guessed"
note "Somebody tries one name after the other at a real sshd. mef reads what sshd logs, and has the kernel"
note "drop everything from that address, established connections included, a moment after the fifth guess."
guess guesser $guessed 203.0.113.66
until_so "the ban of the guesser" banned 203.0.113.66
picked '203.0.113.66' mef bans
cut_off guesser $guessed

title "The same by IPv6"
note "The guesser comes back by the other protocol. With ipv6_prefix=64 a ban would take the whole network of"
note "that subscriber, who has as many addresses as anybody could want."
guess guesser 2001:db8:66::1 2001:db8:66:
until_so "the ban by IPv6" banned 2001:db8:66:
picked '2001:db8:66:' mef bans

title "A web server is scanned for holes"
note "Nobody who uses the site asks for these: passwords in .env, the log-in of WordPress, old backups. mef"
note "reads the access log of a real nginx."
# As many as lead to the ban: of more, the last lines might be read when it was lifted already.
asking=()
for path in /.env /wp-login.php /.git/config /backup.zip /.aws/credentials; do
    ask scanner 192.0.2.1 "$path" &
    asking+=($!)
done
wait "${asking[@]}"
until_so "the ban of the scanner" banned 192.0.2.33
picked '192.0.2.33' mef bans

title "Ports are scanned"
note "No log tells of that: the kernel itself counts the closed ports that a source tries, and cuts it off in"
note "the middle of the scan. mef only hears of it."
mef unban 192.0.2.33 >/dev/null
# shellcheck disable=SC2046
connect scanner 192.0.2.1 $(seq 2000 2120)
until_so "the ban of the scanner" banned 192.0.2.33
picked '192.0.2.33' mef bans

title "A flood is held back"
note "Hundreds of connections at once to the web server: above the rate the kernel drops what is too much"
note "from that source, and nothing from others."
# shellcheck disable=SC2046
connect flooder 198.18.0.1 $(yes 80 | head -n 300)
until_so "the flood to be seen" grep -q . <(nft list set inet mef_guard throttle4 | grep 198.18.0.9)
picked 'floods|198.18.0.9' mef status

title "A friend is never disturbed"
note "The friend is on the allow list and mistypes as often as the guesser guessed. The kernel lets such"
note "addresses pass before it looks at anything else."
guess friend $friends 198.51.100.7
answered friend $friends

title "Somebody flushes the ruleset"
note "nft flush ruleset, as other programs do when they start: every rule and every ban of this host is gone."
note "The next line in a log wakes mef, which puts them back with the time that they had left."
nft flush ruleset
knock guesser $guessed root >/dev/null
until_so "the bans to be back" banned 203.0.113.66
cut_off guesser $guessed

title "A restart"
note "The kernel enforces bans, and mef remembers them. While the daemon is down they hold, and what is"
note "logged meanwhile it reads when it is back."
stop_mef
cut_off guesser $guessed
start_mef
picked '^(protected|bans)' mef status

stop_mef

title "Why, and what happened"
note "mef why answers everything about an address on one screen, mef history tells the past, both from the"
note "kernel and the ban journal, with and without a daemon."
picked 'dropped|line|ends' mef why 203.0.113.66
picked ' ban ' mef history 203.0.113.66

if [ $failed = 0 ]; then
    [ -n "${RECORD-}" ] || {
        echo
        good "Done. Nothing of this is left on your system but packages and target/."
    }
else
    fail "see above"
fi
exit $failed
