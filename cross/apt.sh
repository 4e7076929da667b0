# shellcheck shell=bash disable=SC2016,SC2154
# Packages of another Debian release or architecture, through an apt configuration of our own: the machine's
# mirror with another suite. apt verifies the signatures; the machine's package lists and state are not
# touched.
# To be sourced after lib.sh.

readonly keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# The mirror from which this machine takes the main section of its own release.
mirror() {
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Identifier: Packages' |
        awk -v release="$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" \
            '$2 == release && $3 == "main" { print $1; exit }'
}

# open_suite SUITE ARCH DIRECTORY: reads that suite's package lists into the directory, which the caller
# removes when it has fetched what it wants.
open_suite() {
    local suite=$1 arch=$2 uri
    apt=$3 apt_arch=$arch
    uri=$(mirror)
    if [ -z "$uri" ] && [ "$(id -u)" = 0 ]; then
        apt_update || die "apt-get update failed (see $(log apt-update))"
        uri=$(mirror)
    fi
    [ -n "$uri" ] || die "apt does not know a Debian mirror. Run as root: apt-get update"
    [ -e "$keyring" ] || have_packages "verifying Debian's signatures" debian-archive-keyring

    mkdir -p "$apt"/{lists/partial,cache/archives/partial,sources,debs}
    printf '%s\n' 'Types: deb' "URIs: $uri" "Suites: $suite" 'Components: main' \
        "Signed-By: $keyring" >"$apt/sources/main.sources"
    cat >"$apt/apt.conf" <<END
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::State "$apt";
Dir::State::lists "$apt/lists";
Dir::State::status "/dev/null";
Dir::Cache "$apt/cache";
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$apt/sources";
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
END
    try apt-get -c "$apt/apt.conf" -qq update >&2 || die "the mirror has no readable $suite for $arch"
}

# fetch PACKAGE: prints the path of its archive, taken from the suite that was opened.
fetch() {
    (cd "$apt/debs" && try apt-get -c "$apt/apt.conf" -qq download "$1" >&2) || return 1
    find "$apt/debs" -name "$1_*_$apt_arch.deb" -o -name "$1_*_all.deb"
}

# depends PACKAGE: the packages it names under Depends, without versions.
depends() {
    apt-cache -c "$apt/apt.conf" show --no-all-versions "$1" |
        sed -n 's/^Depends: //p' | tr ',' '\n' | sed 's/^ *\([a-z0-9.+-]*\).*/\1/'
}
