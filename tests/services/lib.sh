# shellcheck shell=bash disable=SC2034
# Shared by the scripts of this directory, which source it; see the head of any of them.
#
# A script runs real services in namespaces of its own, has one address attack them and another one be named
# wherever an attacker writes text, and lets `mef test` judge what the services wrote. It
#   - begins with a comment that has a line "# Usage: tests/services/NAME.sh [SERVICE…]": `make services` runs
# all that do;
#   - sources lib.sh and calls `inside "$@"`, which starts it again in new namespaces;
#   - has a function for each service that starts it, waits for its port, attacks, stops it, and calls
# `judge`;
#   - ends with `services "$@" -- NAME…`, the names in the order of a full run, as function or
# function=program.
# What a service needs from Debian is in tests/services/packages; a service that is not installed is left out,
# and that is said.
#
# 192.0.2.1 and 2001:db8::1 attack, 192.0.2.100 and 2001:db8::100 serve, 198.51.100.9 ($evil) has done
# nothing.
# Logs stay in target/services ($OUT).
set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export MEF=${MEF_BIN:-$root/target/mef} RULES=$root/rootfs/etc/mef/rules.d OUT=$root/target/services
export PATH=$PATH:/usr/sbin:/sbin
evil=198.51.100.9
fails=0

# inside ARGUMENTS…: starts the script again in new namespaces with directories of its own; once there, sets
# them up.
inside() {
    if [ "${SERVICES_INSIDE:-}" != yes ]; then
        mkdir -p "$OUT"
        SERVICES_INSIDE=yes exec unshare --mount --net --pid --fork --mount-proc -- bash "$0" "$@"
    fi
    mount -t tmpfs -o mode=755 none /run && mkdir -p /run/lock
    mount -t tmpfs -o mode=1777 none /tmp
    # A /dev of its own: the syslog daemon's socket must not take the place of the host's.
    mkdir /tmp/dev && mount -t tmpfs -o mode=755 none /tmp/dev &&
        cp -a /dev/{null,zero,full,random,urandom,tty,fd,stdin,stdout,stderr} /tmp/dev
    mkdir /tmp/dev/{net,shm,pts} && chmod 1777 /tmp/dev/shm && mount --move /tmp/dev /dev
    ip link set lo up
    local addr
    for addr in 192.0.2.1/32 192.0.2.100/32 2001:db8::1/128 2001:db8::100/128; do ip addr add $addr dev lo; \
        done
    # Who does not choose an address is the attacker.
    ip route replace local 192.0.2.100 dev lo src 192.0.2.1 table local
    ip -6 route replace local 2001:db8::100 dev lo src 2001:db8::1 table local
}

# listening PORT [u]: waits until something listens on a TCP or UDP port.
listening() {
    for _ in $(seq 400); do
        ss -Hln"${2:-t}" "sport = :$1" | grep -q . && return 0
        sleep 0.1
    done
    echo "nothing listens on port $1" >&2
    fails=$((fails + 1))
    return 1
}

# free PORT…: waits until nothing listens there any more.
free() {
    local port
    for port; do
        for _ in $(seq 100); do
            ss -Hlntu "sport = :$port" | grep -q . || break
            sleep 0.1
        done
    done
}

# get ADDRESS ARGUMENTS…: curl from an address.
get() {
    local from=$1; shift
    curl -g -s -o /dev/null -m 5 -k --interface "$from" "$@"
}

# syslog FILE: a syslog daemon that writes there; its process is $syslogd.
syslog() {
    rm -f "$1"
    busybox syslogd -n -O "$1" & syslogd=$!
    for _ in $(seq 50); do [ -S /dev/log ] && return; sleep 0.1; done
}

# judge RULE LEAST LOG: at least so many hits, and none for anybody but the attackers.
judge() {
    local hits good bad
    hits=$("$MEF" test --hits "$RULES/$1.conf" "$3") || { echo "$1: mef test failed"; fails=$((fails + 1))
    return; }
    good=$(grep -cE '192\.0\.2\.1|2001:db8:' <<<"$hits")
    bad=$(grep -vE '192\.0\.2\.1|2001:db8:' <<<"$hits" | grep -c .)
    if [ "$good" -ge "$2" ] && [ "$bad" = 0 ]; then
        echo "$1: $good hits, as it should be (${3##*/})"
    else
        echo "$1: $good hits, at least $2 expected; $bad for somebody else: $3"
        fails=$((fails + 1))
    fi
}

# none RULE LOG: something was written, and nothing of it is a hit.
none() {
    local hits
    hits=$("$MEF" test --hits "$RULES/$1.conf" "$2") || { echo "$1: mef test failed"; fails=$((fails + 1))
    return; }
    if [ -s "$2" ] && ! grep -q . <<<"$hits"; then
        echo "$1: no hits, as it should be (${2##*/})"
    else
        echo "$1: hits of what is harmless, or nothing was written: $2"
        fails=$((fails + 1))
    fi
}

# stop_logging: ends the syslog daemon.
stop_logging() {
    kill "$syslogd"; wait "$syslogd" 2>/dev/null
}

# unpack DIR PACKAGE…: fetches packages that Debian does not install beside others, and unpacks them.
unpack() {
    local package dir=$1
    shift
    mkdir -p "$dir" && pushd "$dir" >/dev/null || return
    for package; do
        compgen -G "${package}_*.deb" >/dev/null || apt-get download "$package" >/dev/null 2>&1 ||
            echo "cannot get $package"
        compgen -G "${package}_*.deb" >/dev/null && dpkg -x "${package}"_*.deb .
    done
    popd >/dev/null || return
}

# lay DIR:DIR… PLACE: shows the directories as one, at a place of the namespace.
lay() { mount -t overlay -o "lowerdir=$1" none "$2"; }

# talk FROM SERVER PORT LINE…: see talk.py.
talk() { python3 "$root/tests/services/talk.py" "$@"; }

# b64 FORMAT ARGUMENTS…: what printf prints, in base64.
# shellcheck disable=SC2059
b64() { printf "$@" | base64 -w 0; }

# certificate FILE: a key and its certificate, which nobody else has signed.
certificate() { openssl req -x509 -newkey rsa:2048 -nodes -keyout "$1" -out "$1" -subj /CN=x -days 9 \
    2>/dev/null; }

# services [SERVICE…] -- NAME[=PROGRAM]…: runs those that were asked for, or all.
services() {
    local asked=() entry name program
    while [ "$1" != -- ]; do asked+=("$1"); shift; done
    shift
    for entry; do
        name=${entry%%=*} program=${entry##*=}
        [ ${#asked[@]} = 0 ] || [[ " ${asked[*]} " == *" $name "* ]] || continue
        if type -P "$program" >/dev/null; then "$name"; else echo "$name: not installed, left out"; fi
    done
    exit $((fails > 0))
}
