#!/usr/bin/env bash
# fuzz.sh SECONDS [TARGET...]: runs each target of tests/fuzz, or those, for that long. A crash stops it with
# status 1 and leaves the input in tests/fuzz/artifacts.
source "$(dirname "$0")/lib.sh"
seconds=${1:?usage: fuzz.sh SECONDS [TARGET...]}
shift
fuzz=$root/tests/fuzz
[ -e "$fuzz/Cargo.toml" ] || die "there is no tests/fuzz"

# The sanitizers want rustup's nightly compiler, or any compiler that is told to act as one.
nightly() { command -v rustup && rustup run nightly rustc --version; } >/dev/null 2>&1
install_nightly() { command -v rustup >/dev/null && rustup toolchain install nightly --profile minimal; }
if nightly || { install_nightly && nightly; }; then toolchain=(rustup run nightly)
else
    source "$root/cross/toolchain.sh"
    find_toolchain x86_64-unknown-linux-musl
    say "fuzzing with $rustc, which is no nightly compiler"
    PATH=$(dirname "$cargo"):$PATH
    export PATH RUSTC_BOOTSTRAP=1
    toolchain=()
fi
command -v g++ >/dev/null || have_packages "fuzzing" g++
tools=$out/tools
[ -x "$tools/bin/cargo-fuzz" ] || "${toolchain[@]}" cargo install --quiet --locked --root "$tools" \
    cargo-fuzz ||
    die "cargo-fuzz could not be installed"
export PATH=$tools/bin:$PATH

# Debian's compiler comes without the archive of the address sanitizer: then only what panics is found.
sanitizer=address
libraries=$("${toolchain[@]}" rustc --print target-libdir --target x86_64-unknown-linux-gnu)
if ! compgen -G "$libraries/librustc*_rt.asan.a" >/dev/null; then
    sanitizer=none
    say "fuzzing without the address sanitizer: there is no librustc*_rt.asan.a in $libraries"
fi

bash "$root/cross/sysroot.sh" x86_64
target x86_64
export LIBMNL_LIB_DIR=$sysroot/lib LIBNFTNL_LIB_DIR=$sysroot/lib
cd "$root/tests"
if [ $# = 0 ]; then
    mapfile -t all < <("${toolchain[@]}" cargo fuzz list --fuzz-dir fuzz)
    set -- "${all[@]}"
fi
for name; do
    say "fuzzing $name for $seconds s"
    export MEF_FUZZ_SEEDS=$fuzz/corpus/$name
    "${toolchain[@]}" cargo fuzz run --sanitizer $sanitizer --fuzz-dir fuzz "$name" -- -max_total_time="$seconds" -timeout=10
done
