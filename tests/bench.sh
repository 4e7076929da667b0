#!/usr/bin/env bash
# bench.sh: the figures of mef, each beside its peers, measured in the same run on the same input. Nothing is
# asserted:
# absolute times belong to the machine, the last column is what counts.
#
#   BENCH=full       (the default) installs the peers that are missing; about five minutes
#   BENCH=quick      few repetitions, and only the peers that are there; shows that all of it runs
#   BENCH=callgrind  instead: instructions for each line of a log, which no other load on the machine changes
#   SECTIONS=rules   only these of tests/bench/*.sh: command, answers, rules, log, daemon, lists, cloud,
#                    packets, counters, fallback
#
# Each section runs in network, process and mount namespaces of its own, which end with it and with all that
# it started.
source "$(dirname "$0")/../cross/lib.sh"
source "$root/cross/toolchain.sh"
export BENCH=${BENCH:-full}
export MEF_BIN=${MEF_BIN:-$out/mef}

read -ra sections <<<"${SECTIONS:-command answers rules log daemon lists cloud packets counters fallback}"
peers=$root/tests/bench/packages
case $BENCH in
    quick) peers=/dev/null ;;
    full) ;;
    callgrind) sections=(callgrind) ;;
    *) die "BENCH is one of full, quick, callgrind" ;;
esac

# shellcheck disable=SC2046
have_packages "the benchmark" $(words "$peers") $([ "$BENCH" != callgrind ] || echo valgrind)

find_toolchain x86_64-unknown-linux-musl
CARGO_TARGET_DIR=$out/bench "$cargo" build --quiet --locked --release --manifest-path \
    "$root/tests/bench/Cargo.toml"
export MEF_BENCH=$out/bench/release/mef-bench

work=$(mktemp -d "${TMPDIR:-/tmp}/mef-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
export work
source "$root/tests/bench/lib.sh"

printf '%s, %s CPUs, kernel %s\n' "$("$MEF_BIN" version | head -n 1)" "$(nproc)" "$(uname -r)"
heading
failed=0
for section in "${sections[@]}"; do
    mkdir "$work/$section"
    unshare --net --pid --fork --kill-child --mount-proc \
        bash "$root/tests/bench/$section.sh" || { say "the section $section failed"; failed=1; }
    rm -rf "${work:?}/$section"
done
if [ -e "$work/missing" ]; then
    say "could not be measured: $(paste -sd , "$work/missing")"
    failed=1
fi
exit "$failed"
