#!/usr/bin/env bash
# dist.sh [TO [FROM]]: packs what cross/all.sh built into target/dist, for each target: a tarball with the
# tree that `make install` makes, a package for Debian, an image for containers (OCI) and a list of what is
# linked in (CycloneDX); and SHA256SUMS. The same input gives the same bytes.
# shellcheck disable=SC2154  # variables that lib.sh sets
source "$(dirname "$0")/lib.sh"
source "$root/cross/toolchain.sh"
source "$root/cross/sbom.sh"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
dist=${1:-$out/dist} from=${2:-$out/cross}
# The time that everything in it gets: that of the commit.
epoch=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || echo 1767225600)}

maintainer=${MEF_MAINTAINER:-mef maintainers <maintainers@mef.example>}

# tarred DIRECTORY NAME: the tree DIRECTORY/NAME as tar, with nothing in it of who packed it, where and when.
tarred() {
    tar -C "$1" --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner \
        --mode=u+rwX,go+rX,go-w --format=ustar -cf - "$2"
}

# pages DIRECTORY TEXT...: texts for people go there, beside the pages of rootfs/, to which their links lead.
pages() {
    local text to=$1
    shift
    for text; do
        install -D -m 644 "$root/$text" "$to/$text"
        sed -i 's#(rootfs/usr/share/doc/mef/#(#g' "$to/$text"
    done
}

pack_tarball() {
    bash "$root/cross/install.sh" "$program" "$work/$package"
    pages "$work/$package/usr/share/doc/mef" README.md ARCHITECTURE.md CONTRIBUTING.md SECURITY.md \
        CHANGELOG.md LICENSE
    tarred "$work" "$package" | gzip -9n >"$dist/$package.tar.gz"
}

# The parts of a package for Debian: what is installed, without the init files of others; then what dpkg
# wants to know.
pack_deb() {
    local tree=$work/deb file
    bash "$root/cross/install.sh" "$program" "$tree"
    local share=$tree/usr/share
    for file in systemd sysvinit; do
        cp -rT "$share/mef/init/$file" "$tree"
    done
    # What is the administrator's place is not a package's.
    install -d "$tree/usr/lib"
    mv "$tree/etc/systemd" "$tree/usr/lib/systemd"
    mv "$tree/etc/sysusers.d" "$tree/usr/lib/sysusers.d"
    rm -rf "$share/mef"
    install -d "$share/zsh"
    mv "$share/zsh/site-functions" "$share/zsh/vendor-completions"
    install -D -m 644 "$root/cross/deb/copyright" "$share/doc/mef/copyright"
    pages "$share/doc/mef" README.md
    gzip -9nc "$root/CHANGELOG.md" >"$share/doc/mef/CHANGELOG.md.gz"
    printf 'mef (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.gz.\n\n -- %s  %s\n' "$version" \
        "$maintainer" "$(date -u -R -d "@$epoch")" | gzip -9n >"$share/doc/mef/changelog.gz"
    find "$share/man" -type f -exec gzip -9n {} +
    for file in mefctl mefdaemon; do
        ln -s mef.8.gz "$share/man/man8/$file.8.gz"
    done
    install -D -m 644 "$root/cross/deb/lintian-overrides" "$share/lintian/overrides/mef"
    install -d -m 755 "$tree/DEBIAN"
    for file in postinst prerm postrm; do
        install -m 755 "$root/cross/deb/$file" "$tree/DEBIAN/$file"
    done
    (cd "$tree" && find etc -type f | sort | sed 's#^#/#') >"$tree/DEBIAN/conffiles"
    (cd "$tree" && find usr -type f | sort | xargs md5sum) >"$tree/DEBIAN/md5sums"
    sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$debian_arch/" \
        -e "s/@MAINTAINER@/$maintainer/" \
        -e "s/@SIZE@/$(du -k --apparent-size -s "$tree" | cut -f 1)/" \
        "$root/cross/deb/control" >"$tree/DEBIAN/control"
    chmod -R u+rwX,go+rX,go-w "$tree"
    SOURCE_DATE_EPOCH=$epoch dpkg-deb --root-owner-group -Zxz --build "$tree" \
        "$dist/mef_${version}_$debian_arch.deb" >/dev/null
}

# blob FILE: goes below its hash into the image; prints the JSON that points to it, without its braces.
blob() {
    local hash
    hash=$(sha256sum "$1" | cut -d ' ' -f 1)
    install -D -m 644 "$1" "$work/oci/blobs/sha256/$hash"
    printf '"digest":"sha256:%s","size":%d' "$hash" "$(stat -c %s "$1")"
}

# An image from scratch: one layer, for a container that shares the network of its host and has CAP_NET_ADMIN.
pack_oci() {
    local media=application/vnd.oci.image arch created layer config manifest
    case $debian_arch in armhf) arch='arm","variant":"v7' ;; *) arch=$debian_arch ;; esac
    created=$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)
    bash "$root/cross/install.sh" "$program" "$work/layer"
    rm -rf "$work/layer/usr/share"
    mkdir -p "$work/layer/"{run/mef,var/lib/mef,tmp}
    tarred "$work/layer" . >"$work/layer.tar"
    printf '{"created":"%s","architecture":"%s","os":"linux","config":{"Entrypoint":["/usr/sbin/mef"],%s},' \
        "$created" "$arch" '"Cmd":["daemon","--foreground"],"Env":["PATH=/usr/sbin"]' >"$work/config"
    printf '"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{"created":"%s"}]}' \
        "$(sha256sum "$work/layer.tar" | cut -d ' ' -f 1)" "$created" >>"$work/config"
    gzip -9nc "$work/layer.tar" >"$work/layer.tar.gz"
    layer=$(blob "$work/layer.tar.gz")
    config=$(blob "$work/config")
    {
        printf '{"schemaVersion":2,"mediaType":"%s",' "$media.manifest.v1+json"
        printf '"config":{"mediaType":"%s",%s},' "$media.config.v1+json" "$config"
        printf '"layers":[{"mediaType":"%s",%s}]}' "$media.layer.v1.tar+gzip" "$layer"
    } >"$work/manifest"
    manifest=$(blob "$work/manifest")
    printf '{"imageLayoutVersion":"1.0.0"}' >"$work/oci/oci-layout"
    printf '{"schemaVersion":2,"manifests":[{"mediaType":"%s",%s,"annotations":{"%s":"%s"}}]}' \
        "$media.manifest.v1+json" "$manifest" org.opencontainers.image.ref.name "$version" \
        >"$work/oci/index.json"
    tarred "$work/oci" . >"$dist/$package.oci.tar"
}

# shellcheck disable=SC2046
have_packages "packing" $(words "$root/cross/packages") xz-utils
rm -rf "$dist"
mkdir -p "$dist"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for program in "$from"/*/mef; do
    target "$(basename "$(dirname "$program")")"
    package=mef-$version-$name
    rm -rf "${work:?}"/*
    pack_tarball
    pack_deb
    pack_oci
    write_sbom >"$dist/$package.cdx.json"
done
cd "$dist" || exit
sha256sum -- * | grep -v SHA256SUMS >SHA256SUMS.new
mv SHA256SUMS.new SHA256SUMS
cat SHA256SUMS
