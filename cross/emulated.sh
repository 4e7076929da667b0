#!/usr/bin/env bash
# emulated.sh TARGET [FILTER...]: what can be seen of the program in target/cross/TARGET/mef without a kernel
# of that machine, under qemu-user: `mef check`, the examples of all service rules, that it says of many files
# what the program for this machine says (cross/alike.sh), and the unit tests but those that ask the kernel by
# a netlink protocol of which qemu-user knows nothing.
source "$(dirname "$0")/lib.sh"
source "$root/cross/toolchain.sh"
target "${1:?usage: emulated.sh TARGET [FILTER...]}"
shift
program=$out/cross/$name/mef emulator=

# What asks the kernel of nftables, sockets or connections.
readonly of_kernel=()

if [ "$gnu" != - ]; then
    # shellcheck disable=SC2086
    have_packages "running what is for $name" qemu-user $packages
    emulator=qemu-${gnu%%-*}
fi
work=$(mktemp -d "$out/emulated.XXXXXX")
trap 'rm -rf "$work"' EXIT
printf '[global]\nrules_dir=%s\n' "$root/rootfs/etc/mef/rules.d" >"$work/mef.conf"

# shellcheck disable=SC2086
run() { $emulator "$program" "$@"; }

if [ $# = 0 ] && [ "$use" != test ]; then
    run version
    run check --config "$work/mef.conf" "$root/rootfs/etc/mef/mef.rules"
    # shellcheck disable=SC2266  # the word is not the shell's here
    run test --self --config "$work/mef.conf" | tail -n 1
    ours=$out/cross/x86_64/mef
    [ -e "$ours" ] || ours=$out/mef
    # shellcheck disable=SC2086
    [ "$gnu" = - ] || bash "$root/cross/alike.sh" "$ours" $emulator "$program"
fi

find_toolchain "$triple"
bash "$root/cross/sysroot.sh" "$name"
[ "$std" = source ] || die "the unit tests for $name need the source of the standard library"
export CARGO_TARGET_DIR=$out/emulated RUSTC=$rustc RUSTC_BOOTSTRAP=1 CARGO_INCREMENTAL=0
# Emulated code is slow as it is.
export CARGO_PROFILE_DEV_OPT_LEVEL=1
export LIBMNL_LIB_DIR=$sysroot/lib LIBNFTNL_LIB_DIR=$sysroot/lib
flags=(
    "-Clinker=$cc" -Clink-self-contained=no -Ctarget-feature=+crt-static -Crelocation-model=static
    "-Clink-arg=-L$sysroot/lib" "-Clink-arg=-Wl,-Bstatic,--start-group,-lnftnl,-lmnl,-lc,--end-group"
    --cfg=libc_unstable_musl_v1_2 -Cdebuginfo=0
)
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; echo "${flags[*]}")
export CARGO_ENCODED_RUSTFLAGS
runner=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$triple")_RUNNER
export "$runner=$emulator"
cd "$root"
"$cargo" test --locked --quiet --lib --target "$triple" -Zbuild-std=std,panic_unwind,test -- \
    "${of_kernel[@]/#/--skip=}" "$@"
