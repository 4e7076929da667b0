#!/usr/bin/env bash
# vm.sh [short] [-k SUITE] [SCENARIO...]: boots small virtual machines with the kernels of Debian and runs the
# scenarios of tests/vm in them: all of them, with "short" those that are marked so, or those that are named.
#
# A machine is qemu without KVM, two processors and 128 MB: Debian's cloud kernel, an ext4 disk as the root
# with busybox, mef as it is installed, nft and ip, and nothing else; no network but its own namespaces.
# tests/vm/init is the first process, tests/vm/lib.sh what scenarios share.
#
# A new scenario is a file tests/vm/NAME.sh: a script for busybox's sh, run as root in the machine. It may say
# in its head, each on a line of its own:
#     # kernels: bookworm trixie    the Debian releases whose kernels it is for (these two if it does not say)
#     # memory: 128                 megabytes
#     # boots: 2                    so many boots on one disk; $boot is 1, 2, ...; a boot that is not the last
#                                   may end by `power_off`, as if the plug was pulled
#     # timeout: 300                seconds for each boot
#     # short: bookworm             it belongs to the short form, with these kernels
# It states what holds by `check TEXT COMMAND...` or `pass TEXT` and `fail TEXT` (lib.sh has more). What it
# prints is kept in target/vm/SUITE-NAME.log. The scenario fails with a statement that fails, with the
# kernel's panic, an OOM kill, at the timeout, or when it ends without having come to its end.
source "$(dirname "$0")/lib.sh"
source "$root/cross/apt.sh"
readonly vm=$out/vm program=${MEF_BIN:-$out/mef}
suites=() wanted=() short=
while [ $# -gt 0 ]; do
    case $1 in
        short) short=1 ;;
        -k) suites+=("${2:?-k needs a suite}"); shift ;;
        *) [ -e "$root/tests/vm/$1.sh" ] || die "there is no tests/vm/$1.sh"; wanted+=("$1") ;;
    esac
    shift
done

# shellcheck disable=SC2046
have_packages "virtual machines" $(words "$root/tests/vm/packages") musl-tools
mkdir -p "$vm"

# get_kernel SUITE: target/vm/SUITE/{vmlinuz,modules}, fetched once.
get_kernel() {
    local suite=$1 to=$vm/$1 package deb new=$vm/$1.new
    [ ! -e "$to/vmlinuz" ] || return 0
    say "fetching the kernel of Debian $suite"
    rm -rf "$new" "$to"
    open_suite "$suite" amd64 "$new/apt"
    package=$(depends linux-image-cloud-amd64)
    deb=$(fetch "$package") || die "cannot fetch $package of $suite"
    dpkg -x "$deb" "$new/unpacked"
    mkdir -p "$new/lib"
    cp "$new"/unpacked/boot/vmlinuz-* "$new/vmlinuz"
    cp -r "$(find "$new/unpacked" -path '*lib/modules')" "$new/lib/modules"
    keep_modules "$new"/lib/modules/*
    depmod -b "$new" "$(basename "$new"/lib/modules/*)"
    rm -rf "$new/apt" "$new/unpacked"
    mv "$new" "$to"
}

# keep_modules DIRECTORY: those of networks and of the disk; not compressed, so that any modprobe can read
# them.
keep_modules() {
    find "$1/kernel" -name '*.ko*' | grep -vE \
        '/kernel/(net|lib|crypto|arch|drivers/(virtio|net/(veth|dummy)|block/virtio_blk))[/.]' | xargs rm -f
    find "$1/kernel" -name '*.ko.xz' -exec xz -d {} +
}

# make_initramfs SUITE: no more than finds the disk.
make_initramfs() {
    local suite=$1 tree=$vm/$1/early module
    rm -rf "$tree"
    mkdir -p "$tree"/{bin,dev,proc,root}
    cp "$(command -v busybox)" "$tree/bin/busybox"
    for module in virtio virtio_ring virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk; do
        find "$vm/$suite/lib/modules" -name "$module.ko" -exec cp -t "$tree" {} +
    done
    cp "$root/tests/vm/initramfs" "$tree/init"
    (cd "$tree" && find . | cpio --quiet -o -H newc | gzip -1) >"$vm/$suite/initramfs"
}

# make_root SUITE: the tree that the disk is filled with.
make_root() {
    local suite=$1 tree=$vm/$1/root tool
    rm -rf "$tree"
    mkdir -p "$tree"/{bin,dev,proc,sys,run,tmp,etc,lib64,usr/{bin,lib},var/{lib,log},vm}
    cp "$(command -v busybox)" "$tree/bin/busybox"
    bash "$root/cross/install.sh" "$program" "$tree"
    ln -s usr/sbin "$tree/sbin"
    ln -s usr/lib "$tree/lib"
    ln -s /run "$tree/var/run"
    add_program nft "$tree"
    add_program ip "$tree"
    cp -r "$vm/$suite/lib/modules" "$tree/usr/lib/modules"
    cp "$root"/tests/vm/{init,*.sh} "$tree/vm"
    for tool in peak listen; do
        musl-gcc -static -Os -o "$tree/usr/bin/$tool" "$root/tests/vm/$tool.c"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' >"$tree/etc/passwd"
}

prepare() { get_kernel "$1"; make_initramfs "$1"; make_root "$1"; }

# add_program NAME DIRECTORY: a program of this machine with the libraries it loads.
add_program() {
    local file
    file=$(PATH=/usr/sbin:/sbin:$PATH command -v "$1")
    cp -L "$file" "$2/usr/bin/$1"
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

# boot SUITE NAME NUMBER: one boot of a scenario, its console at the end of its log. An exit of qemu is a
# reset.
boot() {
    local suite=$1 name=$2 file=$root/tests/vm/$2.sh status=0
    nice timeout -k 5 "$(said "$file" timeout 900)" qemu-system-x86_64 \
        -accel tcg,thread=multi -cpu max -smp 2 -m "$(said "$file" memory 128)" \
        -nodefaults -no-user-config -no-reboot -display none -monitor none -serial stdio -nic none \
        -kernel "$vm/$suite/vmlinuz" -initrd "$vm/$suite/initramfs" \
        -drive "file=$vm/disk,format=raw,if=virtio,cache=unsafe" \
        -append "console=ttyS0 no_timer_check loglevel=4 panic=-1 oops=panic vm.scenario=$name vm.boot=$3" \
        </dev/null 2>&1 | tr -d '\r' | tee -a "$vm/$suite-$name.log" | shown || status=$?
    [ "$status" = 0 ] || echo "FAIL: boot $3 did not end within its time" >>"$vm/$suite-$name.log"
}

# shown: of a console what people want to see at once.
shown() { grep --line-buffered -E '^(PASS|FAIL|NOTE): ' | sed -u 's/^/    /' || true; }

# run SUITE NAME: all boots of a scenario; counts what it states.
run() {
    local suite=$1 name=$2 file=$root/tests/vm/$2.sh number boots log=$vm/$1-$2.log good bad
    boots=$(said "$file" boots 1)
    say "vm: $name, kernel of $suite, $(said "$file" memory 128) MB"
    rm -f "$vm/disk" "$log"
    mke2fs -q -t ext4 -m 0 -d "$vm/$suite/root" "$vm/disk" 256m >/dev/null
    for ((number = 1; number <= boots; number++)); do
        boot "$suite" "$name" "$number"
    done
    rm -f "$vm/disk"
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
    [ "$bad" = 0 ] || failures+=" $suite/$name"
}

# chosen NAME: the suites whose kernels that scenario runs on.
chosen() {
    local file=$root/tests/vm/$1.sh all suite
    all=$(said "$file" kernels "bookworm trixie")
    [ -z "$short" ] || all=$(said "$file" short)
    for suite in $all; do
        [[ ${#suites[@]} = 0 || " ${suites[*]} " == *" $suite "* ]] && echo "$suite"
    done || true
}

passed=0 failed=0 failures=
if [ ${#wanted[@]} = 0 ]; then
    for file in "$root"/tests/vm/*.sh; do
        [ "${file##*/}" = lib.sh ] || wanted+=("$(basename "$file" .sh)")
    done
fi
prepared=' '
for name in "${wanted[@]}"; do
    for suite in $(chosen "$name"); do
        [[ $prepared == *" $suite "* ]] || { prepare "$suite"; prepared+="$suite "; }
        run "$suite" "$name"
    done
done
echo "vm: $passed passed, $failed failed${failures:+:}$failures"
[ "$failed" = 0 ]
