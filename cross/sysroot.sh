#!/usr/bin/env bash
# sysroot.sh TARGET: makes target/sysroot/TRIPLE/lib, with what is linked in beside Rust code:
# libmnl.a and libnftnl.a from Debian, trimmed and with shim.c in the latter, and a libunwind.a. For another
# architecture musl, too, and target/sysroot/TRIPLE/cc, which is what musl-gcc is for this one.
#
# The archives come from the Debian release named in lib.sh (see apt.sh). Once made, the directory needs no
# network.
source "$(dirname "$0")/lib.sh"
source "$root/cross/apt.sh"
target "${1:?usage: sysroot.sh TARGET}"
readonly lists=$out/sysroot/apt/$debian_arch

unpack_libraries() {
    local package deb packages=(libmnl-dev libnftnl-dev)
    [ "$gnu" = - ] || packages+=(musl-dev)
    say "fetching ${packages[*]} of Debian $sysroot_suite for $debian_arch"
    open_suite "$sysroot_suite" "$debian_arch" "$lists"
    for package in "${packages[@]}"; do
        deb=$(fetch "$package") || die "cannot fetch $package of $sysroot_suite for $debian_arch"
        dpkg -x "$deb" "$lists/unpacked"
        basename "$deb" >>"$new/lib/SOURCES"
    done
    [ "$gnu" = - ] || make_compiler
    find "$lists/unpacked" -name libmnl.a -exec cp -t "$new/lib" {} +
    # cargo names libmnl before libnftnl, which calls it: so libnftnl.a gets a copy of its objects.
    "${tools}ar" -M <<END
create $new/lib/libnftnl.a
addlib $(find "$lists/unpacked" -name libnftnl.a)
addlib $new/lib/libmnl.a
save
END
    rm -rf "$lists"
}

# musl below musl/, and a compiler that uses it in place of its own C library, as musl-gcc does.
make_compiler() {
    mkdir -p "$new/musl"
    cp -r "$lists"/unpacked/usr/lib/*-linux-musl* "$new/musl/lib"
    cp -r "$lists"/unpacked/usr/include/*-linux-musl* "$new/musl/include"
    cat >"$new/cc" <<END
#!/bin/sh
musl=\$(dirname "\$0")/musl
compile="$gnu-gcc $(flags "$c_flags")-nostdinc -isystem \$musl/include"
compile="\$compile -isystem $("$gnu-gcc" -print-file-name=include)"
case " \$* " in *' -c '*) exec \$compile "\$@" ;; esac
exec \$compile -static -no-pie -nostdlib "\$musl/lib/crt1.o" "\$musl/lib/crti.o" "\$@" \
    -L"\$musl/lib" -Wl,--start-group -lgcc -lc -Wl,--end-group "\$musl/lib/crtn.o"
END
    chmod 755 "$new/cc"
}

# flags COLUMN: the flags in it, each with a space behind it.
flags() { [ "$1" = - ] || printf '%s ' "${1//,/ }"; }

compile() {
    "$compiler" -Os -fno-asynchronous-unwind-tables -ffile-prefix-map="$root"=. -c "$@"
}

# Nothing unwinds through C: the tables for it go, 25 kB. What shim.c replaces goes as well, and
# the shim into libnftnl.a, so that whoever links that gets both.
trim_libraries() {
    compile -ffunction-sections -fno-stack-protector "$root/cross/shim.c" -o "$new/shim.o"
    "${tools}objcopy" -D -R .eh_frame "$new/lib/libmnl.a"
    "${tools}objcopy" -D -R .eh_frame --redefine-sym snprintf=silent_snprintf \
        --redefine-sym stderr=silent_stderr "$new/lib/libnftnl.a"
    "${tools}ar" dD "$new/lib/libnftnl.a" expr_ops.o
    "${tools}ar" rsDb "$("${tools}ar" t "$new/lib/libnftnl.a" | awk 'NR == 1')" "$new/lib/libnftnl.a" "$new/shim.o"
}

# The libunwind that std asks for where it is static: libgcc's unwinder under that name, with what
# it lacks without glibc. Since panics abort, hardly anything of it gets linked.
name_libunwind() {
    cp "$("$gcc" -print-file-name=libgcc_eh.a)" "$new/lib/libunwind.a"
    compile "$root/cross/unwind.c" -o "$new/unwind.o"
    "${tools}ar" rsD "$new/lib/libunwind.a" "$new/unwind.o"
}

gcc=musl-gcc
[ "$gnu" = - ] || gcc=$gnu-gcc
# Everything the result depends on; another text means another sysroot.
inputs=$(cat "$root"/cross/{shim,unwind}.c "$0"; echo "$line $sysroot_suite"; "$gcc" --version)
stamp=$(sha256sum <<<"$inputs")
[ "$(cat "$sysroot/stamp" 2>/dev/null)" != "$stamp" ] || exit 0

new=$sysroot.new compiler=$cc
[ "$gnu" = - ] || compiler=$new/cc
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
