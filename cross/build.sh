#!/usr/bin/env bash
# build.sh TARGET [FILE]: builds mef for a line of cross/targets and puts it into FILE.
#
#   ROUTER=1              leaves out what a router does not need: all of [features] in Cargo.toml
#   MEF_FEATURES=A,B      has only these of them; `none` has none
#
# The result depends on the sources, Cargo.lock, the compiler and the sysroot; not on the
# directory, the user, the time or the host's name.
source "$(dirname "$0")/lib.sh"
source "$root/cross/toolchain.sh"
target "${1:?usage: build.sh TARGET [FILE]}"
kind=
[ -z "${ROUTER:-}" ] || { kind=-router MEF_FEATURES=none; }
file=${2:-$out/mef$kind}

# shellcheck disable=SC2046,SC2086
have_packages "the build" $(words "$root/cross/packages") $packages
find_toolchain "$triple"
bash "$root/cross/sysroot.sh" "$name"

export RUSTC=$rustc CARGO_TARGET_DIR=$out/build CARGO_INCREMENTAL=0
export LIBMNL_LIB_DIR=$sysroot/lib LIBNFTNL_LIB_DIR=$sysroot/lib
MEF_COMMIT=$(commit)
export MEF_COMMIT MEF_TRIPLE=$triple
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-0} RUSTC_BOOTSTRAP=1
unset RUSTFLAGS CARGO_BUILD_RUSTFLAGS CARGO_ENCODED_RUSTFLAGS MAKEFLAGS MFLAGS

cd "$root"
# The crates, before their directory is looked for below.
"$cargo" fetch --locked --quiet || try "$cargo" fetch --locked

# cargo does not look into the script: one that changed gets another name.
layout=$out/layout-$(sha256sum "$root/cross/link.ld" | cut -c 1-12).ld
mkdir -p "$out"
cp "$root/cross/link.ld" "$layout"

# The linker writes one map, whatever is built: another name would be another flag, by which all of the
# standard library is built anew.
map=$out/layout.map
[ "$name" = x86_64 ] || map=$out/layout-$name.map
own_map=$map
[ -z "$kind" ] || own_map=${map%.map}$kind.map
[ -z "${2:-}" ] || [ "$name" != x86_64 ] || own_map=$file.map
put_back() { [ ! -e "$map.kept" ] || mv "$map.kept" "$map"; }
if [ "$own_map" != "$map" ]; then
    [ ! -e "$map" ] || mv "$map" "$map.kept"
    trap put_back EXIT # also of a build that fails
fi

flags=(
    "-Clinker=$cc" -Clink-self-contained=no -Ctarget-feature=+crt-static -Crelocation-model=static
    # The archives call each other and libc: one group, at the end of the line.
    # The crates ask for shared libraries, which leaves the linker in that mode: -Bstatic.
    "-Clink-arg=-L$sysroot/lib" "-Clink-arg=-Wl,-Bstatic,--start-group,-lnftnl,-lmnl,-lc,--end-group"
    # musl does not apply RELRO to a static program: it would only cost a page.
    "-Clink-arg=-Wl,--gc-sections,--build-id=none,-z,norelro"
    "-Clink-arg=-Wl,--no-eh-frame-hdr,-T,$layout,-Map,$map"
    # What musl calls a time has 64 bits on every machine.
    --cfg=libc_unstable_musl_v1_2
    # A table of jumps takes 8 bytes for each value of what is matched: below eight comparing is smaller, and
    # as fast.
    -Cllvm-args=-min-jump-table-entries=8
    # No panic is told of, and nothing prints the insides of a value.
    -Zlocation-detail=none -Zfmt-debug=none
    "--remap-path-prefix=$root=/mef" "--remap-path-prefix=$out=/target"
    "--remap-path-prefix=$("$rustc" --print sysroot)=/rust"
)
# What functions have in common would become functions of their own on ARM and RISC-V, all of them far behind
# in the program: the daemon's way back to sleep would need 64 kB of pages for them. On x86 that is off.
[ "$gnu" = - ] || flags+=(-Cllvm-args=-enable-machine-outliner=never)
[ "$features" = - ] || flags+=("-Ctarget-feature=$features")
for crates in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do
    flags+=("--remap-path-prefix=${crates%/}=/crates")
done

options=(--locked --release --target "$triple" --bin mef)
case ${MEF_FEATURES:-} in
    '') ;;
    none) options+=(--no-default-features) ;;
    *) options+=(--no-default-features --features "$MEF_FEATURES") ;;
esac
if [ "$std" = source ]; then
    # A panic is a bug in mef: the process ends at once, without a text that costs 30 kB.
    std_features=optimize_for_size
    if "$rustc" -Zunstable-options -Cpanic=immediate-abort --print cfg >/dev/null 2>&1; then
        flags+=(-Zunstable-options -Cpanic=immediate-abort)
    else
        std_features+=,panic_immediate_abort # what it was called before
    fi
    options+=('-Zbuild-std=std,panic_abort' "-Zbuild-std-features=$std_features")
else
    say "this toolchain has no source of the standard library: the program gets 250 kB larger"
fi

# Encoded: the flags are separated by a byte that no path contains.
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; echo "${flags[*]}")
export CARGO_ENCODED_RUSTFLAGS
say "building for $triple with rustc $rustc_version (std: $std)"
"$cargo" build --quiet "${options[@]}"

if "${tools}readelf" -lW "$out/build/$triple/release/mef" | grep -q -e INTERP -e DYNAMIC; then
    die "the linker made a program that needs shared libraries"
fi
mkdir -p "$(dirname "$file")"
if [ "$own_map" != "$map" ]; then
    [ ! -e "$map" ] || mv "$map" "$own_map"
    put_back
fi
install -m 755 "$out/build/$triple/release/mef" "$file"
say "$file: $(stat -c %s "$file") bytes"
