#!/usr/bin/env bash
# The build for a router: it is smaller than the usual one and no larger than building.md says, it does its
# two jobs, and it says of each part that was left out that it was.
source "$(dirname "$0")/../cross/lib.sh"
if [ "${1-}" != inside ]; then
    [ "$(id -u)" = 0 ] || die "the test of the router build needs root"
    ROUTER=1 bash "$root/cross/build.sh" x86_64
    exec unshare --net --mount --pid --fork --kill-child --mount-proc bash "$0" inside
fi

mef=$out/mef-router
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
# ok WHAT COMMAND...: counts what does not hold.
ok() {
    local what=$1
    shift
    if "$@"; then echo "ok: $what"; else echo "FAILED: $what"; failed=1; fi
}
# says STATUS TEXT COMMAND...: whether a command ends with a status, and its output has the text.
says() {
    local status=0 expected=$1 words=$2 answer
    shift 2
    answer=$("$@" 2>&1) || status=$?
    if [ "$status" != "$expected" ] || [[ "$answer" != *"$words"* ]]; then
        echo "status $status: $answer"
        return 1
    fi
}
silent_about() { ! "$mef" help | grep -qE "^  $1 "; }

size=$(stat -c %s "$mef")
named=$(sed -nE 's/.*router takes at most ([0-9,]+) kB.*/\1/p' "$root/rootfs/usr/share/doc/mef/building.md")
echo "$size bytes"
ok "it is as small as building.md says" [ "$size" -le $((${named//,/} * 1000)) ]
ok "it is smaller than the usual build" [ "$size" -lt "$(stat -c %s "$out/mef")" ]

while read -r command part; do
    ok "$command says that it was left out" says 1 "built without '$part'" "$mef" "$command"
    ok "help has no $command" silent_about "$command"
done <<'END'
why why
report report
top top
test test
export export
diff export
cloud cloud
migrate migrate
import-filter migrate
END
ok "so does a part of a command" says 1 "built without 'why'" "$mef" status 192.0.2.1
ok "and another name of the program" says 1 "built without 'mefctl'" bash -c "exec -a mefctl $mef status"
ok "version names what is missing" says 0 'built without cloud, operator' "$mef" version

# A host of its own.
mkdir -p "$work"/{etc,rules.d,allow,deny,state,run,tree/etc/rc.d,tree/usr/sbin}
for dir in /var/lib /run; do mount -t tmpfs none "$dir"; done
ip link set lo up
ip addr add 192.0.2.1/24 dev lo
log=$work/log
: >"$log"
conf=$work/etc/mef.conf
printf '%s\n' '[global]' "rules_dir=$work/rules.d" "whitelist_dir=$work/allow" "blacklist_dir=$work/deny" \
    "state_dir=$work/state" "run_dir=$work/run" log=stderr firewall_backend=nftables confine=off \
    ps_enabled=false >"$conf"
printf '%s\n' '[rule]' name=sshd enabled=true source=file "files=$log" programs=sshd maxretry=3 \
    'failregex=^Failed password for (?P<user>.*) from <HOST> port \d+ ssh\d$' >"$work/rules.d/sshd.conf"
printf '%s\n' '[rule]' enabled=false >"$work/rules.d/sshd-keys.conf"
ok "configuration and rules are right" says 0 '' "$mef" check --config "$conf"
sed 's/firewall_backend=nftables/firewall_backend=iptables/' "$conf" >"$work/etc/other.conf"
ok "iptables is refused" says 1 "built without 'fallback'" "$mef" check --config "$work/etc/other.conf"
echo community_report=true >>"$work/etc/other.conf"
ok "so is the cloud" says 1 "built without 'cloud'" "$mef" check --config "$work/etc/other.conf"

ok "an address is banned" "$mef" ban --config "$conf" 203.0.113.1
ok "and listed" says 0 203.0.113.1 "$mef" bans --config "$conf"
ok "and unbanned" "$mef" unban --config "$conf" 203.0.113.1
printf '%s\n' 'rule dir=in action=accept proto=all iif=lo' 'rule dir=in action=accept proto=tcp dport=22' \
    >"$work/mef.rules"
ok "a rule set is loaded" "$mef" load "$work/mef.rules"
ok "and unloaded" "$mef" unload

"$mef" daemon --foreground --config "$conf" 2>"$work/said" &
until grep -q ' watches ' "$work/said" || ! kill -0 $! 2>/dev/null; do sleep 0.1; done
for port in 1001 1002 1003 1004; do
    echo "$(date '+%b %e %T') host sshd[$port]: Failed password for u$port from 198.51.100.7 port 1 ssh2" \
        >>"$log"
done
until "$mef" bans --config "$conf" | grep -q 198.51.100.7 || ! kill -0 $! 2>/dev/null; do sleep 0.1; done
ok "the daemon bans from a log" says 0 198.51.100.7 "$mef" bans --config "$conf"
kill $!
wait $! || true
[ "$failed" = 0 ] || cat "$work/said"

cp "$mef" "$work/tree/usr/sbin/mef"
ok "procd is set up" says 0 'init system: procd' "$mef" setup --init procd --root "$work/tree"
ok "by its script" [ -x "$work/tree/etc/init.d/mef" ]
ok "systemd is refused" says 1 "built without 'homes'" "$mef" setup --init systemd --root "$work/tree"
exit "$failed"
