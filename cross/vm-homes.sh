#!/usr/bin/env bash
# vm-homes.sh [-k MACHINE] [HOME...]: mef at home under the real init programs of Debian, each as process 1 of
# a small virtual machine with a kernel of Debian (cross/vm.sh, tests/vm/machines): set up, sshd attacked, a
# rule set loaded; then the machine boots again, and rule set and bans have to be there before its network.
#
# A home is a file of tests/homes, which says how such a host boots. tests/homes/watch runs beside process 1
# and does what tests/homes/lib.sh has for each boot; what it says is kept in target/vm/MACHINE-home-HOME.log.
# The home "firmware" is an image of busybox and mef alone that `mef setup --root` made, in 64 MB: the kernel
# of Debian 11 (-k bullseye) fits in there, unpacked.
# To be sourced by vm.sh.
# shellcheck shell=bash disable=SC2034,SC2154
readonly home_packages=systemd,openrc,runit,s6,busybox-static,kmod,procps,iproute2,nftables,\
openssh-server,openssh-client
home_machine=bookworm homes=()

# base SUITE: target/vm/homes-SUITE, a bare Debian with all these programs.
base() {
    tree=$vm/homes-$1
    [ ! -e "$tree" ] || return 0
    say "making a bare Debian ($1)"
    rm -rf --one-file-system "$tree.new"
    mmdebstrap --quiet --variant=minbase --format=directory --include="$home_packages" "$1" "$tree.new" \
        >"$(log mmdebstrap)" 2>&1 || die "no bare Debian: see $(log mmdebstrap)"
    rm -rf "$tree.new"/usr/share/{doc,man,locale,i18n,perl} "$tree.new"/var/{cache,lib}/apt
    mkdir -p "$tree.new/usr/share/man"
    mv "$tree.new" "$tree"
}

# home_root HOME: fills $disk: that Debian, and what tests/homes/HOME.sh makes of it.
home_root() {
    local file
    disk=$vm/home-$1.root first=
    rm -rf --one-file-system "$disk"
    cp -a "$vm/homes-$suite" "$disk"
    rm -f "$disk"/usr/sbin/{init,telinit,reboot,halt,poweroff,shutdown,runlevel} "$disk"/etc/ssh/ssh_host_*
    rm -rf "$disk"/etc/systemd/system/*.wants "$disk"/etc/rc?.d/* "$disk"/etc/runlevels "$disk/etc/service"
    find "$disk/etc/init.d" -type f -delete
    rm -f "$disk/etc/inittab" "$disk/etc/runit"/[123]
    cp -r "$at/lib/modules" "$disk/usr/lib/modules"
    mkdir -p "$disk/homes"
    cp "$root"/tests/homes/{*.sh,network,watch,mounts} "$root"/rootfs/usr/share/doc/mef/*.md "$disk/homes/"
    ssh-keygen -q -t ed25519 -N '' -f "$disk/etc/ssh/host_key"
    install "$program" "$disk/usr/local/sbin/mef"
    # shellcheck source=/dev/null
    (source "$root/tests/homes/$1.sh" && prepare && echo "$first") >"$disk.first"
    first=$(tail -n 1 "$disk.first")
    # Where a real one has its own scripts for that.
    [ ! -e "$disk/etc/inittab" ] || sed -i '1i ::sysinit:/homes/mounts' "$disk/etc/inittab"
    case $1 in
        sysvinit) sed -i '1s/.*/m0::sysinit:\/homes\/mounts/' "$disk/etc/inittab" ;;
        runit) sed -i '1a /homes/mounts' "$disk/etc/runit/1" ;;
        s6) sed -i '1a /homes/mounts' "$disk/etc/boot" ;;
        systemd) ;;
    esac
}

# home_boot NAME NUMBER MEMORY WORD...: one boot; an exit of qemu is a reset.
home_boot() {
    local name=$1 number=$2 memory=$3 qemu console status=0
    shift 3
    read -r -a qemu <<<"$(board)"
    console=${qemu[-1]}
    unset 'qemu[-1]'
    timeout -k 5 1500 "${qemu[@]}" -smp 1 -m "$memory" -nodefaults -no-user-config -no-reboot \
        -display none -monitor none -serial stdio -nic none -kernel "$kernel" -initrd "$at/initramfs" \
        -drive "file=$vm/home-$name.disk,format=raw,if=virtio,cache=unsafe" \
        -append "console=$console no_timer_check loglevel=4 panic=-1 oops=panic vm.boot=$number $*" \
        </dev/null 2>&1 | sed -u 's,\r,,g' | tee -a "$log" |
        { grep --line-buffered -E '^(yes|NO|NOTE): ' || true; } | sed -u 's/^/    /' || status=$?
    [ "$status" = 0 ] || echo "NO: boot $number did not end within its time" >>"$log"
}

# firmware_root: fills $disk: busybox, mef, the kernel's modules, and what `mef setup --root` makes of it.
firmware_root() {
    disk=$vm/home-firmware.root first=/sbin/init
    rm -rf --one-file-system "$disk"
    mkdir -p "$disk"/{bin,sbin,dev,proc,sys,run,tmp,root,homes,etc/init.d,var/lib,usr/sbin,usr/lib/modules}
    ln -s /run "$disk/var/run"
    ln -s usr/lib "$disk/lib"
    cp "$(busybox)" "$disk/bin/busybox"
    chroot "$disk" /bin/busybox --install -s /bin
    ln -s /bin/busybox "$disk/sbin/init"
    ln -s /bin/busybox "$disk/sbin/modprobe"
    cp -r "$at"/lib/modules/* "$disk/usr/lib/modules/"
    cp "$root"/tests/homes/{image,mounts} "$disk/homes/"
    echo root:x:0:0:root:/root:/bin/sh >"$disk/etc/passwd"
    echo root:x:0: >"$disk/etc/group"
    printf '%s\n' ::sysinit:/homes/mounts ::sysinit:/etc/init.d/rcS ::once:/homes/image >"$disk/etc/inittab"
    printf '%s\n' '#!/bin/sh' 'PATH=/usr/sbin:/bin' '{ mef export; mef bans; } >/run/met 2>&1' \
        'ip link set lo up' 'syslogd -C64' >"$disk/etc/init.d/rcS"
    chmod +x "$disk/etc/init.d/rcS"
    install "$program" "$disk/usr/sbin/mef"
    # Of dropbear there are only the words.
    mkdir -p "$disk/etc/mef/rules.d"
    printf '[rule]\nenabled=true\n' >"$disk/etc/mef/rules.d/dropbear.conf"
    "$program" setup --root "$disk" --load --allow 192.0.2.0/28 | sed 's/^/    /'
}

# unpack_kernel: target/vm/MACHINE/vmlinux, what bzImage holds (boot protocol: Documentation/arch/x86/boot.rst
# of Linux): qemu starts it as it is, without the room that unpacking takes.
unpack_kernel() {
    local file=$at/vmlinuz start length
    [ ! -e "$at/vmlinux" ] || return 0
    field() { od -An -v -t "u$2" -j "$1" -N "$2" "$file" | tr -d ' '; }
    start=$((($(field 497 1) + 1) * 512 + $(field 584 4)))
    length=$(($(field 588 4) - 4))
    head -c $((start + length)) "$file" | tail -c "$length" | lz4 -dc >"$at/vmlinux.new" ||
        die "the kernel of $home_machine is not packed by lz4"
    mv "$at/vmlinux.new" "$at/vmlinux"
}

# run_home HOME: two boots.
run_home() {
    local memory=256 watch=vm.watch=$1 kernel=$at/vmlinuz
    log=$vm/$home_machine-home-$1.log
    say "vm: home $1 on $home_machine ($suite)"
    if [ "$1" = firmware ]; then
        memory=64 watch='' kernel=$at/vmlinux
        unpack_kernel
        firmware_root
    else
        home_root "$1"
    fi
    rm -f "$vm/home-$1.disk" "$log"
    mke2fs -q -t ext4 -m 0 -d "$disk" "$vm/home-$1.disk" 900m >/dev/null
    rm -rf --one-file-system "$disk" "$disk.first"
    for number in 1 2; do
        home_boot "$1" $number $memory "vm.init=$first" "$watch"
        grep -q "^END $number\$" "$log" || break
    done
    rm -f "$vm/home-$1.disk"
    if grep -q '^END 2$' "$log" && ! grep -qE '^NO: |Kernel panic|oom-kill' "$log"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1)) failures+=" $1"
        tail -n 15 "$log"
    fi
}

while [ $# -gt 0 ]; do
    case $1 in
        -k) home_machine=${2:?-k needs a machine}; shift ;;
        firmware) homes+=("$1") ;;
        *) [ -e "$root/tests/homes/$1.sh" ] || die "there is no tests/homes/$1.sh"; homes+=("$1") ;;
    esac
    shift
done
[ ${#homes[@]} -gt 0 ] || homes=(systemd busybox sysvinit openrc runit s6)
have_packages "bare Debians" mmdebstrap lz4
machine "$home_machine"
get_kernel
make_initramfs
[ "${homes[*]}" = firmware ] || base "$suite"
passed=0 failed=0 failures=
for home in "${homes[@]}"; do run_home "$home"; done
echo "vm: homes: $passed passed, $failed failed${failures:+:}$failures"
[ "$failed" = 0 ]
