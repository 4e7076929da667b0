#!/usr/bin/env bash
# dist.sh: what `make dist` packs, and the recipes for Alpine and OpenWrt. Twice the same bytes; nothing that
# lintian takes for an error; each file is what it says to be; the package protects bare Debian 12 and 13
# systems, and leaves nothing when it is purged.
# shellcheck disable=SC2154
source "$(dirname "$0")/../cross/lib.sh"
source "$root/cross/apt.sh"
have_packages "the test of packages" debootstrap lintian jq xz-utils
program=${MEF_BIN:-$out/mef}
work=$(mktemp -d "$out/dist-test.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT

fail() { echo "FAILED: $*" >&2; exit 1; }

install -D "$program" "$work/from/x86_64/mef"
bash "$root/cross/dist.sh" "$work/dist" "$work/from" >/dev/null
bash "$root/cross/dist.sh" "$work/again" "$work/from" >/dev/null
diff -r "$work/dist" "$work/again" || fail "two runs of cross/dist.sh differ"
(cd "$work/dist" && sha256sum --quiet --check SHA256SUMS)
[ "$(wc -l <"$work/dist/SHA256SUMS")" = 4 ] || fail "SHA256SUMS names $(cat "$work/dist/SHA256SUMS")"

deb=$(echo "$work"/dist/*.deb)
lintian --allow-root --fail-on error "$deb" || fail "lintian"

# The list names every crate that Cargo.lock has a checksum for and that is linked in, and the C libraries.
jq -e '.bomFormat == "CycloneDX"
    and ([.components[].name] | contains(["libnftnl", "libmnl", "musl", "nix"]))
    and all(.components[] | select(.purl // "" | startswith("pkg:cargo"));
        .hashes[0].content | length == 64)' \
    "$work"/dist/*.cdx.json >/dev/null || fail "the list of what is linked in"

# The image: every blob is named by its hash, and the program in the layer is the one that was packed.
mkdir "$work/oci" "$work/layer"
tar -C "$work/oci" -xf "$work"/dist/*.oci.tar
blobs=$work/oci/blobs/sha256
(cd "$blobs" && sha256sum -- * | awk '$1 != $2 { print; bad = 1 } END { exit bad }') || fail "a blob's name"
named() { jq -r "$1" "$2" | sed "s#sha256:#$blobs/#"; }
manifest=$(named '.manifests[0].digest' "$work/oci/index.json")
config=$(named .config.digest "$manifest")
layer=$(named '.layers[0].digest' "$manifest")
unpacked=$(gzip -dc "$layer" | sha256sum | cut -d ' ' -f 1)
[ "$(jq -r '.rootfs.diff_ids[0]' "$config")" = "sha256:$unpacked" ] ||
    fail "the layer is not the one that the configuration names"
tar -C "$work/layer" -xzf "$layer"
cmp "$work/layer/usr/sbin/mef" "$program" || fail "the program of the image"
# What it starts is there, and runs with nothing else.
entry=$(jq -r '.config.Entrypoint[0]' "$config")
chroot "$work/layer" "$entry" check >/dev/null || fail "check in the image"

# The recipes of others run in their own build systems, of which only the few words that the recipes use are
# here: what is installed is looked at, not how it is built.
mkdir -p "$work/alpine/build/target/release" "$work/openwrt/"{include,feeds/packages/lang/rust,bin}
cp -r "$root/rootfs" "$work/alpine/build/"
cp "$program" "$work/alpine/build/target/release/mef"
(
    # shellcheck source=/dev/null
    source "$root/cross/alpine/APKBUILD"
    [ "$pkgver" = "$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)" ] || fail "pkgver"
    # shellcheck disable=SC2034  # package uses it
    cd "$work/alpine/build" && pkgdir=$work/alpine/package && package
)
cat >"$work/openwrt/rules.mk" <<'END'
INCLUDE_DIR := $(TOPDIR)/include
PKG_BUILD_DIR := $(TOPDIR)/build
PKG_INSTALL_DIR := $(TOPDIR)
INSTALL_DIR := install -d
INSTALL_BIN := install -m 755
INSTALL_CONF := install -m 600
CP := cp -fpR
LN := ln -sf
define Build/Compile/Cargo
	echo $(2) >$(TOPDIR)/arguments
endef
define BuildPackage
all:
$(Build/Prepare)
$(Build/Compile)
$(call Package/mef/install,$(TOPDIR)/package)
endef
END
touch "$work/openwrt/include/package.mk" "$work/openwrt/feeds/packages/lang/rust/rust-package.mk"
cp "$program" "$work/openwrt/bin/mef"
make --silent -f "$root/cross/openwrt/mef/Makefile" TOPDIR="$work/openwrt" || fail "the recipe for OpenWrt"
# It is the smaller program: every feature of cargo can be left out.
[ "$(cat "$work/openwrt/arguments")" = --no-default-features ] || fail "the recipe for OpenWrt has all parts"
grep -q "^PKG_VERSION:=$(sed -n 's/^pkgver=//p' "$root/cross/alpine/APKBUILD")$" \
    "$root/cross/openwrt/mef/Makefile" || fail "PKG_VERSION"
for package in alpine openwrt; do
    for file in usr/sbin/mef usr/sbin/mefdaemon etc/init.d/mef; do
        [ -x "$work/$package/package/$file" ] || fail "$package: $file is not installed"
    done
    cmp "$work/$package/package/usr/sbin/mefdaemon" "$program" || fail "$package: the program"
    [ -s "$work/$package/package/etc/mef/mef.conf" ] || fail "$package: mef.conf is not installed"
done

# in_root SCRIPT: runs it in the bare system, as root of a network and processes of its own.
in_root() {
    # shellcheck disable=SC2016
    unshare --mount --net --pid --fork --ipc --uts bash -c '
        mount -t proc proc "$1/proc" && mount -t tmpfs none "$1/run" && mount --bind /dev "$1/dev"
        ip link set lo up
        chroot "$1" sh -euxc "$2" || exit
        # Nothing is left in the kernel.
        nft list tables
        test -z "$(nft list tables)"' - "$work/root" "$1" >"$work/log" 2>&1 ||
        { cat "$work/log" >&2; fail "$suite"; }
}

# bare_system: of the suite, in the directory root.
bare_system() {
    rm -rf --one-file-system "$work/root"
    debootstrap --variant=minbase "$suite" "$work/root" "$(mirror)" >"$work/debootstrap.log" 2>&1
}

# files: of the bare system, but for what is made anew at every boot.
files() (
    cd "$work/root" && find . -xdev \( -path ./proc -o -path ./dev -o -path ./run -o -path ./tmp \) -prune \
        -o -print | sort
)

for suite in bookworm trixie; do
    say "the package on a bare Debian $suite"
    try bare_system || { tail -n 5 "$work/debootstrap.log" >&2; fail "debootstrap $suite"; }
    cp "$deb" "$work/root/mef.deb"
    files >"$work/before"
    in_root '
        dpkg -i /mef.deb
        mef ban 192.0.2.7
        mef bans | grep -q 192.0.2.7
        mef check
        # Nothing starts by itself where no init runs.
        if pidof mef; then exit 1; fi
        /etc/init.d/mef start
        pidof mef
        echo "# mine" >>/etc/mef/mef.conf
        dpkg -i /mef.deb
        grep -q "^# mine" /etc/mef/mef.conf
        mef bans | grep -q 192.0.2.7
        dpkg -r mef
        if pidof mef; then exit 1; fi
        dpkg -i /mef.deb
        if mef bans | grep -q 192.0.2.7; then exit 1; fi
        dpkg -P mef
        if pidof mef; then exit 1; fi'
    files >"$work/after"
    # But for what dpkg itself keeps of any package that was there once, and the host's programs for users of
    # what was before.
    left=$({ diff "$work/before" "$work/after" || true; } | grep '^[<>]' |
        grep -v -e '/var/lib/dpkg/' -e '/var/log/' -e '/var/cache/' \
            -e '^> ./etc/\(passwd\|group\|shadow\|gshadow\)-$' || true)
    [ -z "$left" ] || fail "$suite: this is left, or gone: $left"
    rm -rf --one-file-system "$work/root"
done
echo "packages: bytes, contents, installation on Debian 12 and 13"
