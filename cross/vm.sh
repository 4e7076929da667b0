#!/usr/bin/env bash
# vm.sh [short] [-k MACHINE] [SCENARIO...]: boots small virtual machines with the kernels of Debian and runs
# the scenarios of tests/vm in them: all of them, with "short" those that are marked so, or those that are
# named. A scenario that is named runs on each machine that -k names, also on one for which it is not marked.
# "vm.sh homes" boots init systems: vm-homes.sh.
#
# A machine is a line of tests/vm/machines: qemu without KVM, two processors and 128 MB, Debian's kernel, an
# ext4 disk as the root with busybox, mef as it is installed, nft and ip, and nothing else; no network but its
# own namespaces. tests/vm/init is the first process, tests/vm/lib.sh what scenarios share. What is not for
# this kind of processor needs the program of `make cross`.
#
# A new scenario is a file tests/vm/NAME.sh: a script for busybox's sh, run as root in the machine. It may say
# in its head, each on a line of its own:
#     # kernels: bookworm trixie    the machines it is for (these two if it does not say)
#     # memory: 128                 megabytes
#     # boots: 2                    so many boots on one disk; $boot is 1, 2, ...; a boot that is not the last
#                                   may end by `power_off`, as if the plug was pulled
#     # timeout: 300                seconds for each boot
#     # short: bookworm             it belongs to the short form, with these kernels
# It states what holds by `check TEXT COMMAND...` or `pass TEXT` and `fail TEXT` (lib.sh has more). What it
# prints is kept in target/vm/MACHINE-NAME.log. The scenario fails with a statement that fails, with the
# kernel's panic, an OOM kill, at the timeout, or when it ends without having come to its end.
source "$(dirname "$0")/lib.sh"
source "$root/cross/apt.sh"
readonly vm=$out/vm
machines=() wanted=() short=
homes_words=()
if [ "${1-}" = homes ]; then homes_words=("$@"); set --; fi
while [ $# -gt 0 ]; do
    case $1 in
        short) short=1 ;;
        -k) machines+=("${2:?-k needs a machine}"); shift ;;
        *) [ -e "$root/tests/vm/$1.sh" ] || die "there is no tests/vm/$1.sh"; wanted+=("$1") ;;
    esac
    shift
done

# shellcheck disable=SC2046
have_packages "virtual machines" $(words "$root/tests/vm/packages") musl-tools
mkdir -p "$vm"

# machine NAME: sets the columns of its line in tests/vm/machines as variables, and those of its program's
# target.
machine() {
    local kernel_line
    kernel_line=$(awk -v name="$1" '$1 == name' "$root/tests/vm/machines")
    [ -n "$kernel_line" ] || die "no machine '$1' in tests/vm/machines"
    read -r _ suite arch kernel mef board <<<"$kernel_line"
    target "$mef"
    at=$vm/$1 program=${MEF_BIN:-$out/mef}
    [ "$mef" = x86_64 ] || program=$out/cross/$mef/mef
    [ -e "$program" ] || die "there is no $program: make cross"
}

# get_kernel: target/vm/MACHINE/{vmlinuz,lib/modules} and, for another kind of processor, what runs on it, in
# target/vm/MACHINE/programs; fetched once.
get_kernel() {
    local package deb new=$at.new
    [ ! -e "$at/vmlinuz" ] || return 0
    say "fetching the kernel of Debian $suite for $arch"
    rm -rf "$new" "$at"
    open_suite "$suite" "$arch" "$new/apt"
    mkdir -p "$new/lib"
    if [ "$board" = small ]; then build_kernel "$1"; else packaged_kernel; fi
    keep_modules "$new"/lib/modules/*
    depmod -b "$new" "$(basename "$new"/lib/modules/*)"
    [ "$mef" = x86_64 ] || get_programs "$new/programs"
    rm -rf "$new/apt" "$new/unpacked" "$new/source"
    mv "$new" "$at"
}

# packaged_kernel: NEW/{vmlinuz,lib/modules} as they are in Debian's packages.
packaged_kernel() {
    package=$(depends "$kernel" | grep '^linux-image')
    # Since 2026 it is empty, and what was in it is in packages that it names.
    for package in $package $(depends "$package" | grep -E '^linux-(base|binary|modules)-'); do
        deb=$(fetch "$package") || die "cannot fetch $package of $suite"
        dpkg -x "$deb" "$new/unpacked"
    done
    find "$new/unpacked" -name 'vmlinu[xz]*' -exec cp {} "$new/vmlinuz" \;
    cp -r "$(find "$new/unpacked" -path '*lib/modules')" "$new/lib/modules"
}

# build_kernel MACHINE: the same of the kernel's source in Debian, as little as tests/vm/MACHINE.config says,
# and all of netfilter as modules. Some minutes.
build_kernel() {
    local tree=$new/source parts
    have_packages "a kernel" gcc flex bison bc libelf-dev
    deb=$(fetch "$kernel") || die "cannot fetch $kernel of $suite"
    dpkg -x "$deb" "$new/unpacked"
    mkdir "$tree"
    tar -xf "$new/unpacked/usr/src/$kernel.tar.xz" -C "$tree" --strip-components 1
    parts=("$tree"/net/{netfilter,ipv4/netfilter,ipv6/netfilter,bridge/netfilter,netfilter/ipset}/Kconfig)
    {
        cat "$root/tests/vm/$1.config"
        awk '$1 ~ /^(menu)?config$/ { name = $2 }
            name != "" && $1 ~ /^(tristate|bool)/ {
                print "CONFIG_" name "=" ($1 ~ /^b/ ? "y" : "m")
                name = ""
            }' "${parts[@]}" | grep -v DEBUG
    } >"$tree/some.config"
    {
        make -s -C "$tree" KCONFIG_ALLCONFIG=some.config tinyconfig
        nice make -s -C "$tree" -j"$(nproc)" bzImage modules
        make -s -C "$tree" INSTALL_MOD_PATH="$new" modules_install
    } >"$(log kernel)" 2>&1 || die "the kernel was not built: $(log kernel)"
    cp "$tree/arch/x86/boot/bzImage" "$new/vmlinuz"
}

# get_programs DIRECTORY: those of Debian for that processor, with all they depend on.
get_programs() {
    local deb
    apt-get -c "$apt/apt.conf" -qq -y -d -o APT::Install-Recommends=0 \
        install nftables iproute2 iptables busybox-static >/dev/null ||
        die "cannot fetch the programs of $suite for $arch"
    for deb in "$apt"/cache/archives/*.deb; do dpkg -x "$deb" "$1"; done
}

# keep_modules DIRECTORY: those of networks and of the disk; not compressed, so that any modprobe can read
# them.
keep_modules() {
    # One that was built for its machine has no others.
    find "$1/kernel" -name '*.ko*' | { grep -vE '/kernel/(net|lib|crypto|arch|fs/(ext4|jbd2|mbcache)'\
'|drivers/(virtio|pci/controller/pci-host|net/(veth|dummy)|block/virtio_blk))[/.-]' || true; } | xargs rm -f
    find "$1/kernel" -name '*.ko.xz' -exec xz -d {} +
}

# make_initramfs: no more than finds the disk.
make_initramfs() {
    local tree=$at/early modules version
    modules=$(echo "$at"/lib/modules/*)
    version=$(basename "$modules")
    rm -rf "$tree"
    mkdir -p "$tree"/{bin,dev,proc,root} "$tree/lib/modules/$version"
    cp "$(busybox)" "$tree/bin/busybox"
    # Nor has that any of these as modules.
    { grep -E '/(pci-host-generic|virtio_(pci|mmio|blk)|ext4|crc32c_generic)\.ko:' "$modules/modules.dep" ||
        true; } | tr -d : | tr ' ' '\n' | sort -u | sed '/^$/d' | while read -r module; do
        install -D "$modules/$module" "$tree/lib/modules/$version/$module"
    done
    depmod -b "$tree" "$version" 2>/dev/null
    cp "$root/tests/vm/initramfs" "$tree/init"
    (cd "$tree" && find . | cpio --quiet -o -H newc | gzip -1) >"$at/initramfs"
}

# busybox: the file of the one for the machine.
busybox() {
    if [ "$mef" = x86_64 ]; then type -P busybox; else find "$at/programs" -path '*bin/busybox'; fi
}

# make_root: the tree that the disk is filled with.
make_root() {
    local tree=$at/root tool
    rm -rf "$tree"
    mkdir -p "$tree"/{bin,dev,proc,sys,run,tmp,etc,lib64,usr/{bin,lib},var/{lib,log},vm}
    cp "$(busybox)" "$tree/bin/busybox"
    bash "$root/cross/install.sh" "$program" "$tree"
    ln -s usr/sbin "$tree/sbin"
    ln -s usr/lib "$tree/lib"
    ln -s /run "$tree/var/run"
    add_program nft "$tree"
    add_program ip "$tree"
    # Out of the way of scenarios that want to have nothing but nf_tables.
    add_program xtables-legacy-multi "$tree" lib/iptables
    for tool in iptables iptables-restore ip6tables ip6tables-restore; do
        ln -s /usr/lib/iptables/xtables-legacy-multi "$tree/usr/lib/iptables/$tool"
    done
    if [ "$mef" = x86_64 ]; then
        mkdir -p "$tree/usr/lib/x86_64-linux-gnu"
        cp -r /usr/lib/x86_64-linux-gnu/xtables "$tree/usr/lib/x86_64-linux-gnu/"
    fi
    cp -r "$at/lib/modules" "$tree/usr/lib/modules"
    cp "$root"/tests/vm/{init,*.sh,every.rules} "$tree/vm"
    for tool in peak listen; do
        # -s: for riscv64 the linker of Debian 12 crashes when it writes symbols.
        "$cc" -static -Os -s -o "$tree/usr/bin/$tool" "$root/tests/vm/$tool.c"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' >"$tree/etc/passwd"
}

prepare() { get_kernel "$1"; make_initramfs; make_root; }

# add_program NAME DIRECTORY [PLACE]: a program with the libraries it loads: all of them where this machine
# cannot say which. It comes into usr/bin or another place in usr.
add_program() {
    local file to=$2/usr/${3-bin}
    mkdir -p "$to"
    if [ "$mef" != x86_64 ]; then
        cp -L "$(find "$at/programs" -path "*bin/$1" | head -n 1)" "$to/$1"
        cp -rn "$at"/programs/usr/lib/{*-linux-gnu*,ld-linux*} "$2/usr/lib/"
        return
    fi
    file=$(PATH=/usr/sbin:/sbin:$PATH command -v "$1")
    cp -L "$file" "$to/$1"
    ldd "$file" | awk '{ for (i = 1; i <= NF; i++) if ($i ~ "^/") print $i }' | while read -r file; do
        case $file in */ld-linux*) cp -L "$file" "$2/lib64/" ;; *) cp -L "$file" "$2/usr/lib/" ;; esac
    done
}

# said FILE KEY [DEFAULT]: what the head of a scenario says for a key.
said() {
    local value
    value=$(sed -n "1,/^[^#]/s/^# $2: *//p" "$1" | head -n 1)
    echo "${value:-${3-}}"
}

# board: what of qemu's command line depends on the kind of machine, and in which order it names the console.
board() {
    case $board in
        pc | small) echo qemu-system-x86_64 -accel tcg,thread=multi -cpu max ttyS0 ;;
        arm64) echo qemu-system-aarch64 -accel tcg,thread=multi -M virt -cpu cortex-a57 ttyAMA0 ;;
        arm) echo qemu-system-arm -accel tcg,thread=multi -M virt,highmem=off -cpu cortex-a15 ttyAMA0 ;;
        riscv64) echo qemu-system-riscv64 -accel tcg,thread=multi -M virt ttyS0 ;;
    esac
}

# boot NAME NUMBER: one boot of a scenario, its console at the end of its log. An exit of qemu is a reset.
boot() {
    local name=$1 file=$root/tests/vm/$1.sh log=$at-$1.log status=0 console qemu
    local quiet="no_timer_check loglevel=4 panic=-1 oops=panic"
    read -r -a qemu <<<"$(board)"
    console=${qemu[-1]}
    unset 'qemu[-1]'
    nice timeout -k 5 "$(said "$file" timeout 900)" "${qemu[@]}" -smp 2 -m "$(memory "$file")" \
        -nodefaults -no-user-config -no-reboot -display none -monitor none -serial stdio -nic none \
        -kernel "$at/vmlinuz" -initrd "$at/initramfs" \
        -drive "file=$at.disk,format=raw,if=virtio,cache=unsafe" \
        -append "console=$console $quiet vm.scenario=$name vm.boot=$2" \
        </dev/null 2>&1 | sed -u 's,\r,,g' | tee -a "$log" | shown || status=$?
    [ "$status" = 0 ] || echo "FAIL: boot $2 did not end within its time" >>"$log"
}

# memory FILE: megabytes. The small machine has 64, whatever is tried on it. Debian's kernels for other
# processors than this one's are made for larger machines.
memory() {
    case $board in
        pc) said "$1" memory 128 ;;
        small) echo 64 ;;
        *) echo $(($(said "$1" memory 128) + 128)) ;;
    esac
}

# shown: of a console what people want to see at once.
shown() { grep --line-buffered -E '^(PASS|FAIL|NOTE): ' | sed -u 's/^/    /' || true; }

# run MACHINE NAME: all boots of a scenario; counts what it states.
run() {
    local name=$2 file=$root/tests/vm/$2.sh number boots log=$vm/$1-$2.log good bad
    boots=$(said "$file" boots 1)
    say "vm: $name, on $1 with $(memory "$file") MB"
    rm -f "$at.disk" "$log"
    mke2fs -q -t ext4 -m 0 -d "$at/root" "$at.disk" 256m >/dev/null
    for ((number = 1; number <= boots; number++)); do
        boot "$name" "$number"
    done
    rm -f "$at.disk"
    good=$(grep -c '^PASS: ' "$log" || true)
    bad=$(grep -c '^FAIL: ' "$log" || true)
    if grep -E 'Kernel panic|Out of memory|oom-kill|deadlocked on memory|^\[[ 0-9.]*\] (BUG|Oops)' \
        "$log"; then
        bad=$((bad + 1))
    elif ! grep -q '^END$' "$log"; then
        echo "    it never came to its end: the last of its console ($log):"
        tail -n 15 "$log"
        bad=$((bad + 1))
    fi
    passed=$((passed + good)) failed=$((failed + bad))
    [ "$bad" = 0 ] || failures+=" $1/$name"
}

# chosen NAME: the machines that scenario runs on.
chosen() {
    local file=$root/tests/vm/$1.sh all name
    all=$(said "$file" kernels "bookworm trixie")
    [ -z "$short" ] || all=$(said "$file" short)
    [ "$named" = 0 ] || [ ${#machines[@]} = 0 ] || all=${machines[*]}
    for name in $all; do
        [[ ${#machines[@]} = 0 || " ${machines[*]} " == *" $name "* ]] && echo "$name"
    done || true
}

if [ ${#homes_words[@]} -gt 0 ]; then
    set -- "${homes_words[@]:1}"
    source "$(dirname "$0")/vm-homes.sh"
    exit
fi
passed=0 failed=0 failures=
named=${#wanted[@]}
if [ "$named" = 0 ]; then
    for file in "$root"/tests/vm/*.sh; do
        [ "${file##*/}" = lib.sh ] || wanted+=("$(basename "$file" .sh)")
    done
fi
prepared=' '
for wanted_name in "${wanted[@]}"; do
    for on in $(chosen "$wanted_name"); do
        machine "$on"
        [[ $prepared == *" $on "* ]] || { prepare "$on"; prepared+="$on "; }
        run "$on" "$wanted_name"
    done
done
echo "vm: $passed passed, $failed failed${failures:+:}$failures"
[ "$failed" = 0 ]
