#!/usr/bin/env bash
# services.sh: runs every script of tests/services that says how it is used, with the packages it needs; see
# tests/services/lib.sh.
source "$(dirname "$0")/lib.sh"
# shellcheck disable=SC2046
have_packages "attacking services" $(words "$root/tests/services/packages")
export MEF_BIN=${MEF_BIN:-$out/mef}
failed=0
mapfile -t scripts < <(grep -l '^# Usage: tests/services/' "$root"/tests/services/*.sh)
for script in "${scripts[@]}"; do
    say "services: ${script##*/}"
    bash "$script" || failed=1
done
exit $failed
