#!/usr/bin/env bash
# with-packages.sh COMMAND...: runs it with MEF_BIN set and the packages of tests/packages there.
source "$(dirname "$0")/lib.sh"
# shellcheck disable=SC2046
have_packages "$*" $(words "$root/tests/packages")
cd "$root"
export MEF_BIN=$out/mef
exec "$@"
