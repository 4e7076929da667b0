# shellcheck shell=bash disable=SC2154
# write_sbom: what is linked into mef for the target that is set, as CycloneDX 1.5. To be sourced after lib.sh
# and toolchain.sh.

# crates: name, version and licence of every crate that the program consists of, a line each.
crates() {
    RUSTC=$rustc "$cargo" tree --manifest-path "$root/Cargo.toml" --locked --quiet --target "$triple" \
        --edges normal,no-proc-macro --prefix none --format '{p}	{l}' |
        sed -n 's/ (\*)$//; s/^\([^ ]*\) v\([^ \t]*\)[^\t]*\t\(.*\)/\1\t\2\t\3/p' | sort -u | grep -v '^mef	'
}

# libraries: the same for what is not Rust, with the package of Debian that it comes from.
libraries() {
    sed -n 's/^\(lib[a-z]*\)-dev_\([^_]*\)_.*/\1\t\2/p' "$sysroot/lib/SOURCES"
    printf 'musl\t%s\n' "$(dpkg-query -W -f '${Version}' musl-dev 2>/dev/null || echo unknown)"
    printf 'rust-std\t%s\n' "$rustc_version"
}

write_sbom() {
    find_toolchain "$triple" >&2
    {
        awk -F '"' '
            /^name = / { name = $2 }
            /^version = / { version = $2 }
            /^checksum = / { print "sum\t" name "\t" version "\t" $2 }' "$root/Cargo.lock"
        crates | sed 's/^/crate\t/'
        libraries | sed 's/^/library\t/'
    } | awk -F '\t' -v version="$version" -v arch="$debian_arch" '
        BEGIN {
            print "{"
            print "  \"bomFormat\": \"CycloneDX\","
            print "  \"specVersion\": \"1.5\","
            print "  \"version\": 1,"
            printf "  \"metadata\": {\"component\": {\"type\": \"application\", \"name\": \"mef\", "
            printf "\"version\": \"%s\", \"licenses\": [{\"expression\": \"GPL-2.0-or-later\"}]}},\n", version
            printf "  \"components\": ["
        }
        $1 == "sum" { sums[$2 " " $3] = $4; next }
        {
            printf "%s\n    {\"type\": \"library\", \"name\": \"%s\", \"version\": \"%s\"", comma, $2, $3
            comma = ","
        }
        $1 == "crate" {
            printf ", \"purl\": \"pkg:cargo/%s@%s\"", $2, $3
            # An older way to write "or".
            gsub(/\//, " OR ", $4)
            if ($4 != "") printf ", \"licenses\": [{\"expression\": \"%s\"}]", $4
            sum = sums[$2 " " $3]
            if (sum != "") printf ", \"hashes\": [{\"alg\": \"SHA-256\", \"content\": \"%s\"}]", sum
        }
        $1 == "library" && $2 != "rust-std" {
            printf ", \"purl\": \"pkg:deb/debian/%s@%s?arch=%s\"", $2, $3, arch
        }
        { printf "}" }
        END { print "\n  ]\n}" }'
}
