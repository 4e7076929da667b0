# shellcheck shell=bash disable=SC2034,SC2154
# Finds a Rust toolchain that can build for a target. To be sourced after lib.sh.
#
# A toolchain is usable if it has the source of the standard library, which is then built for
# size together with the program, or if it has the target's standard library ready made.
# The first one in PATH (rustup's, usually) is looked at before the one in /usr/bin.
readonly debian_toolchain=(rustc-web cargo-web rust-web-src)

# at_least VERSION OLDEST: compares dotted numbers.
at_least() { [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

# how RUSTC TRIPLE: how that compiler gets at a standard library: source, ready, or nothing.
how() {
    local libraries
    libraries=$("$1" --print sysroot 2>/dev/null)/lib/rustlib
    if [ -e "$libraries/src/rust/library/std/Cargo.toml" ]; then echo source
    elif [ -d "$libraries/$2/lib" ]; then echo ready
    fi
}

# consider DIRECTORY TRIPLE: takes the toolchain in that directory if it will do.
consider() {
    local version
    { [ -x "$1/rustc" ] && [ -x "$1/cargo" ]; } || { why+="  $1: no rustc and cargo there"$'\n'; return 1; }
    version=$("$1/rustc" --version 2>/dev/null | cut -d ' ' -f 2) || version=
    [ -n "$version" ] || { why+="  $1/rustc does not run"$'\n'; return 1; }
    at_least "${version%%-*}" "$oldest_rustc" ||
        { why+="  $1/rustc is $version, at least $oldest_rustc is needed"$'\n'; return 1; }
    std=$(how "$1/rustc" "$2")
    [ -n "$std" ] ||
        { why+="  $1/rustc $version has neither the standard library's source nor $2"$'\n'; return 1; }
    rustc=$1/rustc cargo=$1/cargo rustc_version=$version
}

# find_toolchain TRIPLE: sets rustc, cargo, rustc_version, and std to "source" or "ready".
find_toolchain() {
    local first
    why=
    first=$(dirname "$(command -v rustc || echo /usr/bin/rustc)")
    ! consider "$first" "$1" || return 0
    if [ "$first" != /usr/bin ]; then ! consider /usr/bin "$1" || return 0; fi
    if [ "$(id -u)" = 0 ] && [ -n "$(command -v apt-get)" ]; then
        have_packages "the Rust toolchain" "${debian_toolchain[@]}"
        ! consider /usr/bin "$1" || return 0
    fi
    die "no usable Rust toolchain:
${why}One of these makes one:
  apt-get install ${debian_toolchain[*]}    (as root, on Debian 12 or 13)
  rustup component add rust-src
  rustup target add $1"
}

# find_linters: sets linters to the directory with cargo-clippy and cargo-fmt, and makes them
# work with the toolchain they belong to. That of the build comes first: after find_toolchain.
find_linters() {
    local directory
    for directory in "$(dirname "$cargo")" "$(dirname "$(command -v cargo-clippy || echo "$cargo")")"; do
        if "$directory/cargo-clippy" --version >/dev/null 2>&1 &&
            "$directory/cargo-fmt" --version >/dev/null 2>&1
        then linters=$directory; break; fi
    done
    if [ -z "${linters:-}" ]; then
        have_packages "checking the style" rustfmt-web rust-web-clippy
        linters=/usr/bin
    fi
    export PATH=$linters:$PATH CARGO=$linters/cargo RUSTC=$linters/rustc RUSTFMT=$linters/rustfmt
    cargo=$CARGO rustc=$RUSTC
}

# use_host_libraries TARGET: tests run on this machine's C library, but on the libmnl and
# libnftnl of the product.
use_host_libraries() {
    target "$1"
    export LIBMNL_LIB_DIR=$sysroot/lib LIBNFTNL_LIB_DIR=$sysroot/lib
}
