#!/usr/bin/env bash
# dist.sh: packs what cross/all.sh built: target/dist/mef-VERSION-NAME.tar.gz, each with the tree
# that `make install` makes, and SHA256SUMS. The same input gives the same bytes.
source "$(dirname "$0")/lib.sh"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
dist=$out/dist

rm -rf "$dist"
mkdir -p "$dist"
for program in "$out"/cross/*/mef; do
    name=mef-$version-$(basename "$(dirname "$program")")
    bash "$root/cross/install.sh" "$program" "$dist/$name"
    for text in README.md ARCHITECTURE.md CONTRIBUTING.md SECURITY.md CHANGELOG.md LICENSE; do
        install -D -m 644 "$root/$text" "$dist/$name/usr/share/doc/mef/$text"
    done
    # They stand beside the pages there.
    sed -i 's#(rootfs/usr/share/doc/mef/#(#g' "$dist/$name/usr/share/doc/mef/"{README,SECURITY}.md
    tar -C "$dist" --sort=name --mtime="@${SOURCE_DATE_EPOCH:-0}" --owner=0 --group=0 --numeric-owner \
        --mode=u+rwX,go+rX,go-w -cf - "$name" | gzip -9n >"$dist/$name.tar.gz"
    rm -rf "${dist:?}/$name"
done
cd "$dist"
sha256sum ./*.tar.gz | sed 's#\./##' >SHA256SUMS
cat SHA256SUMS
