#!/usr/bin/env bash
# homes.sh [HOME...]: mef under the real init programs of Debian, each as process 1 of a host of its own:
# namespaces with a root that has Debian's /usr and directories of its own for all that is written. Those of
# OpenWrt are not in Debian: tests/homes/procd.sh is a shim of procd and of its shell library.
#
# tests/homes/HOME.sh says how that host boots and how its services are told what to do; lib.sh has what is
# done with each: set up, attacked, reloaded with a good and a bad file, killed, stopped, upgraded over a
# changed and an unchanged file, booted again, removed, purged with nothing left.
# shellcheck disable=SC2154
source "$(dirname "$0")/../cross/lib.sh"
source "$root/cross/apt.sh"
# shellcheck disable=SC2046
have_packages "the test of init systems" $(words "$root/tests/homes/packages")
program=${MEF_BIN:-$out/mef}
work=$(mktemp -d "$out/homes.XXXXXX")
boot=
trap '[ -z "$boot" ] || pull_plug; rm -rf --one-file-system "$work"' EXIT
readonly patience=60

fail() { echo "FAILED: $home: $*" >&2; exit 1; }

# make_disk: what a host keeps over a boot.
make_disk() {
    rm -rf --one-file-system "$disk"
    mkdir -p "$disk"/{etc/{ssh,init.d,mef,logrotate.d},var/{log,lib,empty},sbin,usr-local/sbin,man,homes,root}
    rmdir "$disk/etc/mef"
    ln -s /run "$disk/var/run"
    printf '%s\n' root:x:0:0:root:/root:/bin/sh sshd:x:100:65534::/run/sshd:/usr/sbin/nologin \
        nobody:x:65534:65534::/:/usr/sbin/nologin >"$disk/etc/passwd"
    printf '%s\n' root:x:0: adm:x:4: tty:x:5: utmp:x:43: nogroup:x:65534: >"$disk/etc/group"
    echo 'root:*:19000:0:99999:7:::' >"$disk/etc/shadow"
    cp /etc/ld.so.cache "$disk/etc/"
    cp -a /etc/alternatives "$disk/etc/"
    ln -s /usr/sbin/* "$disk/sbin/"
    # Of process 1 it is told which it is.
    rm -f "$disk"/sbin/{init,telinit,reboot,halt,poweroff,shutdown,runlevel}
    ssh-keygen -q -t ed25519 -N '' -f "$disk/etc/ssh/host_key"
    cp "$root"/tests/homes/{*.sh,network} "$root"/rootfs/usr/share/doc/mef/*.md \
        "$disk/homes/"
    install "$program" "$disk/usr-local/sbin/mef"
}

# private_root: run in namespaces of its own: makes the host out of the disk, and becomes its process 1 with
# these words.
# shellcheck disable=SC2016
private_root='
set -e
mount --make-rprivate /
if [ -z "$cgroup" ]; then
    # A control group of its own, in which nothing is left of the one before.
    mount -t cgroup2 cgroup2 cgroup
    if mkdir "cgroup/mef-homes.$id" 2>/dev/null; then echo 0 >"cgroup/mef-homes.$id/cgroup.procs"; fi
    cgroup=1 exec unshare --cgroup sh -c "$script" sh "$@"
fi
mount -t tmpfs tmpfs root
mkdir root/usr root/srv root/dev root/proc root/sys root/run root/tmp root/host
for dir in etc var sbin homes root; do mkdir "root/$dir"; mount --bind "disk/$dir" "root/$dir"; done
mount --rbind /usr root/usr
mount --bind disk/usr-local root/usr/local
mount --bind disk/man root/usr/share/man
ln -s usr/bin usr/lib usr/lib64 root/
if [ -e root/etc/volatile ]; then
    mount -t tmpfs tmpfs root/var
    mkdir root/var/log root/var/lib root/var/empty
    ln -s /run root/var/run
fi
mount -t tmpfs -o mode=755 tmpfs root/run
mount -t tmpfs -o mode=755 tmpfs root/dev
mount -t proc proc root/proc
mount -t sysfs sysfs root/sys
mkdir root/dev/pts root/dev/shm
for device in null zero full random urandom tty ptmx kmsg; do
    : >"root/dev/$device" && mount --bind "/dev/$device" "root/dev/$device"
done
mount --rbind /dev/pts root/dev/pts
ln -s /proc/self/fd root/dev/fd
mount -t cgroup2 cgroup2 root/sys/fs/cgroup
cd root
pivot_root . host
exec env -i container=test PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb \
    sh -c "umount -l /host && rmdir /host && exec \"\$@\"" sh "$@"
'

# boot: process 1 starts; waits until the host has come up.
boot() {
    local count=0
    mkdir -p "$work/root" "$work/cgroup"
    (cd "$work" && script=$private_root cgroup='' id=$$ exec unshare --pid --mount --net --uts --ipc --fork \
        --kill-child sh -c "$private_root" sh "$first" </dev/null >>"$work/console" 2>&1) &
    boot=$!
    until inside test -e /run/booted && inside test ! -e /host; do
        count=$((count + 1))
        if ! kill -0 "$boot" 2>/dev/null || [ $count -gt $((patience * 10)) ]; then
            cat "$work/console" >&2
            fail "it does not boot"
        fi
        sleep 0.1
    done
}

# inside COMMAND...: runs it on the host.
inside() {
    local pid
    pid=$(pgrep -P "$boot") || return 1
    nsenter -t "$pid" --mount --net --pid --uts --ipc --cgroup --root --wd \
        env -i PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root home="$home" "$@" 2>>"$work/err"
}

# end_cgroup: of the host, when its processes have ended.
# shellcheck disable=SC2016
end_cgroup() {
    unshare --mount sh -c 'mount --make-rprivate / && mount -t cgroup2 cgroup2 "$1" &&
        [ ! -e "$1/mef-homes.$2" ] || find "$1/mef-homes.$2" -depth -type d -exec rmdir {} +' \
        sh "$work/cgroup" $$
}

# pull_plug: what the host has in memory is lost.
pull_plug() {
    kill -9 "$(pgrep -P "$boot")"
    wait "$boot" 2>/dev/null || true
    boot=
    try_for "$patience" end_cgroup
}

# try_for SECONDS COMMAND...: until it succeeds.
try_for() {
    local tries=$(($1 * 10))
    shift
    until "$@" 2>/dev/null; do
        [ $((tries--)) -gt 0 ] || { fail "$*"; }
        sleep 0.1
    done
}

# files: what the disk holds, with what is in it. Logs and keys that others write are not told, nor what the
# host's programs for users keep of before.
files() {
    (cd "$disk" && find etc var sbin usr-local man -type f ! -path 'var/log/*' \
        ! -path 'etc/*-' ! -path etc/.pwd.lock ! -path 'etc/sub?id' \
        ! -path 'var/cache/*' ! -path 'var/lib/systemd/*' -exec sha256sum {} +
    find etc var/lib var/log usr-local -type l -printf '%p -> %l\n' -o -type d -print) | sort
}

run() {
    home=$1 disk=$work/disk
    say "home: $home"
    rm -f "$work/console" "$work/err"
    make_disk
    first=
    # shellcheck source=/dev/null
    source "$root/tests/homes/$home.sh"
    prepare
    boot
    stage before
    files >"$work/before"
    stage set_up
    pull_plug
    boot
    stage again
    stage removed
    files >"$work/after"
    diff "$work/before" "$work/after" >"$work/left" || { cat "$work/left" >&2; fail "this is left, or gone"; }
    pull_plug
}

# stage NAME: a part of lib.sh, on the host.
stage() {
    if ! inside sh /homes/lib.sh "$1" >"$work/said"; then
        tail -n 30 "$work/console" "$work/err" "$work/said" >&2
        grep -A 5 '^NO: ' "$work/said" >&2
        fail "$1"
    fi
    sed 's/^/    /' "$work/said"
}

homes=("$@")
[ $# -gt 0 ] || homes=(systemd openrc runit s6 sysvinit busybox procd)
if [ ${#homes[@]} = 1 ]; then
    run "${homes[0]}"
    exit
fi
# They wait for each other's processes no more than for their own: side by side.
names=() failed=
for name in "${homes[@]}"; do
    bash "$0" "$name" >"$work/$name.log" 2>&1 &
    names+=("$!:$name")
done
for name in "${names[@]}"; do
    wait "${name%%:*}" || { cat "$work/${name#*:}.log"; failed+=" ${name#*:}"; }
done
echo "init systems: ${homes[*]}${failed:+; failed:}$failed"
[ -z "$failed" ]
