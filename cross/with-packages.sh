#!/usr/bin/env bash
# with-packages.sh LIST COMMAND...: runs it with MEF_BIN set and the packages of that list there.
source "$(dirname "$0")/lib.sh"
list=$root/${1:?usage: with-packages.sh LIST COMMAND...}
shift
# shellcheck disable=SC2046
have_packages "$*" $(words "$list")
cd "$root"
export MEF_BIN=$out/mef
exec "$@"
