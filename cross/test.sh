#!/usr/bin/env bash
# test.sh [quick]: everything that has to hold. With `quick` without what takes half of the time and is
# seldom broken by a change: the program built in other ways, packed and installed, and booted with other
# kernels. Every step runs, whatever came of the one before it; the last line counts them all, and the exit
# status is 1 if one failed.
#
# What needs little of the machine and takes long is done behind the rest: the build while the source is
# looked at, the builds that are compared with it while the tests wait for something.
#
# A step is: the build, rustfmt, clippy, shellcheck, the width of lines, each test function of cargo test,
# each test script, the virtual machines.
# The test scripts are tests/*.sh but those named in not_tests; they find the program in MEF_BIN.
source "$(dirname "$0")/lib.sh"
source "$root/cross/toolchain.sh"
scope=${1:-all}
not_tests=' demo.sh bench.sh lib.sh '
case $scope in
    quick) not_tests+='reproducible.sh router.sh dist.sh ' ;;
    all) ;;
    *) die "usage: test.sh [quick]" ;;
esac
passed=0 failed=0
declare -A running=()

cd "$root"
# shellcheck disable=SC2046
have_packages "testing" $(words cross/packages) $(words tests/packages)

# step NAME COMMAND...: counts one step.
step() {
    local name=$1
    shift
    say "test: $name"
    if timed "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); say "FAILED: $name"; fi
}

# behind NAME COMMAND...: begins one more step, which gets what the others leave of the processors. It has a
# session of its own, so that it can be ended with all that it has begun.
behind() {
    local name=$1
    shift
    (timed setsid nice -n 19 "$@") >"$(log "behind-${name//\//-}")" 2>&1 &
    running[$name]=$!
}

# ended NAME: waits for it, shows what it said, and counts it.
ended() {
    say "test: $1, begun before"
    if wait "${running[$1]}"; then passed=$((passed + 1)); else failed=$((failed + 1)); say "FAILED: $1"; fi
    running[$1]=ended
    cat "$(log "behind-${1//\//-}")"
}

# timed COMMAND...: runs it, and says how long that took, and what of it was work of a processor.
timed() {
    local begun=$SECONDS self=$BASHPID before status=0
    before=$(worked "$self")
    "$@" || status=$?
    say "took $((SECONDS - begun)) s, $(($(worked "$self") - before)) s of a processor"
    return "$status"
}

# worked PID: the seconds of a processor that the children of this process took up to now.
worked() {
    awk -v ticks="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); print int(($14 + $15) / ticks) }' "/proc/$1/stat"
}

# rust_tests: counts what the test binaries say; one that does not even build or end counts, too.
rust_tests() {
    local log ok=1 p f
    log=$(log cargo-test)
    say "test: cargo test"
    # Most tests wait for something most of the time.
    export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc) + 1))}
    timed cargo_test "$log" || ok=0
    read -r p f < <(awk '/^test result:/ { p += $4; f += $6 } END { print p + 0, f + 0 }' "$log")
    [ "$ok" = 1 ] || [ "$f" -gt 0 ] || f=1
    passed=$((passed + p)) failed=$((failed + f))
}

cargo_test() { "$cargo" test --locked --no-fail-fast 2>&1 | tee "$1"; }

# leave: ends what runs behind, however the tests end.
leave() {
    local pid session
    for pid in "${running[@]}"; do
        [ "$pid" = ended ] || for session in $(pgrep -P "$pid"); do kill -- "-$session" || true; done
    done
    [ -z "$made" ] || rmdir "$made"
}

# host_files: what mef keeps on this host. A daemon that runs here may write into its files; tests make none.
host_files() { { find /etc/mef /run/mef /var/lib/mef 2>/dev/null || true; } | sort; }
# nameless: whether the program names no place in which it was built. That two builds are the same is shown by
# tests/reproducible.sh, which takes as long as the build.
nameless() { ! grep -aoF -e "$root/src/" -e "$out/build/" -e registry/src/ "$MEF_BIN"; }
untouched() { diff <(echo "$host_before") <(host_files); }
# Tests cover it with a directory of their own, for which it has to be there.
made=
[ -e /etc/mef ] || made=/etc/mef
mkdir -p /etc/mef
trap leave EXIT
host_before=$(host_files)

find_toolchain x86_64-unknown-linux-musl
(find_linters)
# The build says what is wrong with these.
bash cross/sysroot.sh x86_64 || true
"$cargo" fetch --locked --quiet || try "$cargo" fetch --locked || true
behind build bash cross/build.sh x86_64

find_linters
use_host_libraries x86_64
export MEF_BIN=$out/mef CARGO_TARGET_DIR=$out/host

step rustfmt "$linters/cargo-fmt" fmt --check
step clippy "$linters/cargo-clippy" clippy --locked --quiet --all-targets -- -D warnings
step shellcheck bash cross/style.sh shellcheck
step "the width of lines" bash cross/style.sh width
# What does not build is told of below.
"$cargo" test --locked --no-run --quiet 2>/dev/null || true
ended build
step "the layout of the program" bash cross/layout.sh "$out/layout.map"
step "the size of the program" bash cross/size.sh check "$out/layout.map" "$out/mef"
step "no place of this machine in the program" nameless

# together SCRIPT COMMAND...: does something while a script runs behind it.
together() {
    behind "$1" bash "$1"
    "${@:2}"
    ended "$1"
}

# scripts: those that did not run behind anything.
scripts() {
    local script
    for script in tests/*.sh; do
        [[ "$not_tests" == *" ${script##*/} "* ]] || [ -n "${running[$script]:-}" ] ||
            step "$script" bash "$script"
    done
}

if [ "$scope" = all ]; then
    together tests/reproducible.sh rust_tests
    together tests/router.sh scripts
    step "virtual machines, the short form" bash cross/vm.sh short
else
    rust_tests
    scripts
fi
step "this host's own files" untouched

echo
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
