#!/usr/bin/env bash
# vm-homes.sh [-k MACHINE] [HOME...]: mef at home under the real init programs of Debian, each as process 1 of
# a small virtual machine with a kernel of Debian (cross/vm.sh, tests/vm/machines): set up, sshd attacked, a
# rule set loaded; then the machine boots again, and rule set and bans have to be there before its network.
#
# A home is a file of tests/homes, which says how such a host boots. tests/homes/watch runs beside process 1
# and does what tests/homes/lib.sh has for each boot; what it says is kept in target/vm/MACHINE-home-HOME.log.
# The home "firmware" is an image of busybox and mef alone that `mef setup --root` made, in 64 MB: the kernel
# of Debian 11 (-k bullseye) fits in there, unpacked.
# "newcomer" is who has read no more than the first commands of the README, and gives them to a machine with
# Debian 12, one with Debian 13, and one whose process 1 is busybox.
# To be sourced by vm.sh.
# shellcheck shell=bash disable=SC2034,SC2154
readonly home_packages=systemd,openrc,runit-init,s6,busybox-static,kmod,procps,iproute2,nftables,\
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
    rm -rf "$disk"/etc/ssh/ssh_host_* "$disk"/etc/systemd/system/*.wants "$disk/etc/runlevels"
    # With runit it boots as Debian does.
    if [ "$1" != runit ]; then
        rm -f "$disk"/usr/sbin/{init,telinit,reboot,halt,poweroff,shutdown,runlevel}
        rm -rf "$disk"/etc/rc?.d/* "$disk/etc/service" "$disk/etc/runit" "$disk/etc/inittab"
        find "$disk/etc/init.d" -type f -delete
    fi
    cp -r "$at/lib/modules" "$disk/usr/lib/modules"
    mkdir -p "$disk/homes"
    cp "$root"/tests/homes/{*.sh,network,watch,mounts} "$root"/rootfs/usr/share/doc/mef/*.md \
        "$root/README.md" "$disk/homes/"
    ssh-keygen -q -t ed25519 -N '' -f "$disk/etc/ssh/host_key"
    install "$program" "$disk/usr/local/sbin/mef"
    # shellcheck source=/dev/null
    (source "$root/tests/homes/$1.sh" && "$(type -t prepare_machine >/dev/null && echo prepare_machine ||
        echo prepare)" && echo "$first") >"$disk.first"
    first=$(tail -n 1 "$disk.first")
    # Where a real one has its own scripts for that.
    [ ! -e "$disk/etc/inittab" ] || sed -i '1i ::sysinit:/homes/mounts' "$disk/etc/inittab"
    case $1 in
        sysvinit) sed -i '1s/.*/m0::sysinit:\/homes\/mounts/' "$disk/etc/inittab" ;;
        s6) sed -i '1a /homes/mounts' "$disk/etc/boot" ;;
        systemd | runit) ;;
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

# run_home HOME [STAGE]: two boots; one, if there is a stage of tests/homes/lib.sh that is all to be done.
run_home() {
    local memory=256 watch=vm.watch=$1 stage=${2-} last=2 kernel=$at/vmlinuz
    log=$vm/$home_machine-home-$1${stage:+-$stage}.log
    say "vm: home $1 on $home_machine ($suite)${stage:+: $stage}"
    [ -z "$stage" ] || last=1
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
    for ((number = 1; number <= last; number++)); do
        home_boot "$1" $number $memory "vm.init=$first" "$watch" "vm.stage=$stage"
        grep -q "^END $number\$" "$log" || break
    done
    rm -f "$vm/home-$1.disk"
    if grep -q "^END $last\$" "$log" && ! grep -qE '^NO: |Kernel panic|oom-kill' "$log"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1)) failures+=" $home_machine/$1${stage:+/$stage}"
        tail -n 15 "$log"
    fi
}

while [ $# -gt 0 ]; do
    case $1 in
        -k) home_machine=${2:?-k needs a machine}; shift ;;
        firmware | newcomer) homes+=("$1") ;;
        *) [ -e "$root/tests/homes/$1.sh" ] || die "there is no tests/homes/$1.sh"; homes+=("$1") ;;
    esac
    shift
done
[ ${#homes[@]} -gt 0 ] || homes=(systemd busybox sysvinit openrc runit s6)
have_packages "bare Debians" mmdebstrap lz4
passed=0 failed=0 failures=

# at_home MACHINE HOME [STAGE]: on that machine.
at_home() {
    home_machine=$1
    machine "$1"
    get_kernel "$1"
    make_initramfs
    [ "$2" = firmware ] || base "$suite"
    run_home "${@:2}"
}

for home in "${homes[@]}"; do
    if [ "$home" = newcomer ]; then
        at_home bookworm systemd newcomer
        at_home trixie systemd newcomer
        at_home bookworm busybox newcomer
    else
        at_home "$home_machine" "$home"
    fi
done
echo "vm: homes: $passed passed, $failed failed${failures:+:}$failures"
[ "$failed" = 0 ]
