#!/usr/bin/env bash
# sysroot.sh TARGET: makes target/sysroot/TRIPLE/lib, with what is linked in beside Rust code:
# libmnl.a and libnftnl.a from Debian, trimmed and with shim.c in the latter, and a libunwind.a.
#
# The archives come from the Debian release named in lib.sh (see apt.sh). Once made, the directory needs no
# network.
source "$(dirname "$0")/lib.sh"
source "$root/cross/apt.sh"
target "${1:?usage: sysroot.sh TARGET}"
readonly lists=$out/sysroot/apt/$debian_arch

unpack_libraries() {
    local package deb
    say "fetching libmnl and libnftnl of Debian $sysroot_suite for $debian_arch"
    open_suite "$sysroot_suite" "$debian_arch" "$lists"
    for package in libmnl-dev libnftnl-dev; do
        deb=$(fetch "$package") || die "cannot fetch $package of $sysroot_suite for $debian_arch"
        dpkg -x "$deb" "$lists/unpacked"
        basename "$deb" >>"$new/lib/SOURCES"
    done
    find "$lists/unpacked" -name libmnl.a -exec cp -t "$new/lib" {} +
    # cargo names libmnl before libnftnl, which calls it: so libnftnl.a gets a copy of its objects.
    ar -M <<END
create $new/lib/libnftnl.a
addlib $(find "$lists/unpacked" -name libnftnl.a)
addlib $new/lib/libmnl.a
save
END
    rm -rf "$lists"
}

# Nothing unwinds through C: the tables for it go, 25 kB. What shim.c replaces goes as well, and
# the shim into libnftnl.a, so that whoever links that gets both.
trim_libraries() {
    local objcopy
    objcopy=$("$cc" -print-prog-name=objcopy)
    "$cc" -Os -ffunction-sections -fno-stack-protector -fno-asynchronous-unwind-tables \
        -ffile-prefix-map="$root"=. -c "$root/cross/shim.c" -o "$new/shim.o"
    "$objcopy" -D -R .eh_frame "$new/lib/libmnl.a"
    "$objcopy" -D -R .eh_frame --redefine-sym snprintf=silent_snprintf \
        --redefine-sym stderr=silent_stderr "$new/lib/libnftnl.a"
    ar dD "$new/lib/libnftnl.a" expr_ops.o
    ar rsDb "$(ar t "$new/lib/libnftnl.a" | awk 'NR == 1')" "$new/lib/libnftnl.a" "$new/shim.o"
}

# The libunwind that std asks for where it is static: libgcc's unwinder under that name, with what
# it lacks without glibc. Since panics abort, hardly anything of it gets linked.
name_libunwind() {
    cp "$("$cc" -print-file-name=libgcc_eh.a)" "$new/lib/libunwind.a"
    "$cc" -Os -fno-asynchronous-unwind-tables -ffile-prefix-map="$root"=. -c "$root/cross/unwind.c" \
        -o "$new/unwind.o"
    ar rsD "$new/lib/libunwind.a" "$new/unwind.o"
}

# Everything the result depends on; another text means another sysroot.
inputs=$(cat "$root"/cross/{shim,unwind}.c "$0" "$root/cross/targets"; echo "$sysroot_suite"; "$cc" --version)
stamp=$(sha256sum <<<"$inputs")
[ "$(cat "$sysroot/stamp" 2>/dev/null)" != "$stamp" ] || exit 0

new=$sysroot.new
rm -rf "$new" "$lists"
mkdir -p "$new/lib"
unpack_libraries
trim_libraries
name_libunwind
for archive in libmnl.a libnftnl.a libunwind.a; do
    [ -s "$new/lib/$archive" ] || die "$archive is missing from the sysroot"
done
echo "$stamp" >"$new/stamp"
rm -rf "$sysroot" "$new"/*.o
mv "$new" "$sysroot"
