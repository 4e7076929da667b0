#!/usr/bin/env bash
# `make bench` works: its quick form runs to the end, and finds every figure of mef. What the figures are, it
# does not judge.
source "$(dirname "$0")/../cross/lib.sh"
source "$root/cross/toolchain.sh"

find_toolchain x86_64-unknown-linux-musl
find_linters
export CARGO_TARGET_DIR=$out/bench
"$linters/cargo-fmt" fmt --check --manifest-path "$root/tests/bench/Cargo.toml"
"$linters/cargo-clippy" clippy --locked --quiet --release --manifest-path "$root/tests/bench/Cargo.toml" -- \
    -D warnings
BENCH=quick bash "$root/tests/bench.sh"
