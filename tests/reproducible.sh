#!/usr/bin/env bash
# The same source gives the same bytes: builds a copy of the source in another directory, with
# nothing shared but the downloaded crates and archives, and compares it with target/mef.
source "$(dirname "$0")/../cross/lib.sh"
target x86_64
copy=$out/reproducible/a-directory-whose-name-has-another-length
first=$out/mef
trap 'rm -rf "$out/reproducible"' EXIT

rm -rf "$out/reproducible"
mkdir -p "$copy/target/sysroot"
tar -C "$root" --exclude=./target --exclude=./.git -cf - . | tar -C "$copy" -xf -
cp -r "$sysroot" "$copy/target/sysroot/"

[ -e "$first" ] || bash "$root/cross/build.sh" x86_64
MEF_COMMIT=$(commit) MEF_TARGET_DIR=$copy/target bash "$copy/cross/build.sh" x86_64
if ! cmp "$first" "$copy/target/mef"; then
    echo "two builds of one source differ" >&2
    exit 1
fi
echo "two builds in two directories: $(sha256sum <"$first" | cut -c 1-64)"
