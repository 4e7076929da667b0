# What the sections of the benchmark share: the table, and a place to work. To be sourced by bash.
# shellcheck shell=bash
set -euo pipefail
export LC_ALL=C TZ=UTC

# quick_or FEW MANY: how often something is done.
quick_or() { if [ "$BENCH" = full ]; then echo "$2"; else echo "$1"; fi; }

there() { command -v "$1" >/dev/null; }

heading() { printf '\n%-47s %-9s %11s   %-40s %11s %7s\n' figure reach mef peer '' better; }

# shown UNIT VALUE: for people. Units: us, ns, kB, B, /s, or a word behind a plain number.
shown() {
    awk -v unit="$1" -v x="$2" '
        function thousands(n,   text) {
            text = sprintf("%.0f", n)
            while (text ~ /[0-9][0-9][0-9][0-9]/) sub(/[0-9][0-9][0-9]($|,)/, ",&", text)
            return text
        }
        BEGIN {
            if (x == "") print "-"
            else if (unit == "us") print x < 1000 ? x " us" : x < 1e6 ? sprintf("%.2f ms", x / 1e3) : \
                sprintf("%.2f s", x / 1e6)
            else if (unit == "ns") print x " ns"
            else if (unit == "kB") print x < 10000 ? x " kB" : sprintf("%.1f MB", x / 1e3)
            else if (unit == "B") printf "%.1f kB\n", x / 1e3
            else print thousands(x) unit
        }'
}

# figure NAME REACH UNIT less|more|neither VALUE: a line of the table, which appears with its first peer. The
# word says what is better.
# shellcheck disable=SC2154 # work: bench.sh has it
figure() {
    alone
    [ -n "$5" ] || echo "$1" >>"$work/missing"
    figure_unit=$3 figure_better=$4 figure_value=$5
    figure_start=$(printf '%-47s %-9s %11s' "$1" "$2" "$(shown "$3" "$5")")
    figure_open=1
}

# alone: shows the figure before, if nobody else has a value beside it.
figure_open=0
alone() {
    [ "$figure_open" = 0 ] || printf '%s\n' "$figure_start"
    figure_open=0
}

# peer NAME VALUE: somebody else's value of the figure before; nothing if it could not be measured.
peer() {
    local ratio
    ratio=$(awk -v mef="$figure_value" -v peer="$2" -v better="$figure_better" 'BEGIN {
        if (better == "neither" || mef == "" || peer == "" || mef + peer == 0) exit
        divisor = better == "less" ? mef : peer
        if (divisor == 0) { print "all"; exit }
        r = (better == "less" ? peer : mef) / divisor
        printf(r < 10 ? "%.2fx" : "%.0fx", r)
    }')
    [ "$figure_open" = 1 ] || figure_start=$(printf '%-69s' '')
    figure_open=0
    printf '%s   %-40s %11s %7s\n' "$figure_start" "$1" "$(shown "$figure_unit" "$2")" "$ratio"
}

# A section ends with its last figure; bench.sh itself has none.
[ "${0##*/}" = bench.sh ] || trap alone EXIT

# wall VALUES..., cpu VALUES...: of what mef-bench time printed.
wall() { echo "${1:-}"; }
cpu() { [ $# -lt 3 ] || echo $(($2 + $3)); }

# maybe COMMAND...: what it prints, or nothing if it fails: a peer that is not there, or breaks, leaves a gap.
maybe() { "$@" 2>>"$work/peers.log" || true; }

# configure DIRECTORY [LOG]: a mef.conf whose state, rules and lists lie below DIRECTORY; LOG is followed by
# the sshd rule.
configure() {
    # Those who are compared count each failure, whatever the name.
    mkdir -p "$1"/{state,run,rules.d,allow,deny}
    printf '%s\n' '[global]' log=stderr "state_dir=$1/state" "run_dir=$1/run" "rules_dir=$1/rules.d" \
        "whitelist_dir=$1/allow" "blacklist_dir=$1/deny" >"$1/mef.conf"
    [ -z "${2:-}" ] ||
        sed -e 's/^enabled=.*/enabled=true/' -e 's/^source=.*/source=file/' -e "s|^files=.*|files=$2|" \
            -e '/^\[rule\]/a same_user=0' "$rules/sshd.conf" >"$1/rules.d/sshd.conf"
}

# make_sender: who sends packets to this host, from a namespace of its own: the process $sender, and `within`
# to do something there. Both ends of the link have $mac.
# shellcheck disable=SC2154 # $here is the section's own
make_sender() {
    unshare --net sleep infinity &
    sender=$!
    until within ip link show lo >"$here/out" 2>&1 && [ "$(readlink "/proc/$sender/ns/net")" != \
        "$(readlink /proc/self/ns/net)" ]; do :; done
    ip link add outside type veth peer name outside netns "$sender"
    mac=02:00:00:00:00:01
    ip link set outside address "$mac" up
    ip addr add 192.0.2.1/24 dev outside
    ip route add default via 192.0.2.2
    within ip link set outside up
    within ip addr add 192.0.2.2/24 dev outside
    within ip neigh replace 192.0.2.1 lladdr "$mac" dev outside nud permanent
}
within() { nsenter --net="/proc/$sender/ns/net" "$@"; }
rules=$(dirname "${BASH_SOURCE[0]}")/../../rootfs/etc/mef/rules.d

# What somebody might search an sshd log for by hand. These only count lines: no address, no header, no
# memory.
# shellcheck disable=SC2034
five_patterns=(
    -e 'Failed password for .* from [0-9a-f.:]+ port [0-9]+ ssh2'
    -e 'Invalid user .* from [0-9a-f.:]+'
    -e '(Connection (closed|reset) by|Disconnected from) (invalid|authenticating) user .* \[preauth\]'
    -e 'maximum authentication attempts exceeded for .* from'
    -e 'User .* not allowed because'
)
