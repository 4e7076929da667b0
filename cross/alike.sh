#!/usr/bin/env bash
# alike.sh PROGRAM WORD...: whether that program, started by these words ("qemu-arm FILE"), says the same as
# PROGRAM, the one for this machine, of the same files, byte by byte: rule sets, logs of all services, what
# systemd writes here as its journal, and what mef has written here about bans. As root, in namespaces of its
# own.
source "$(dirname "$0")/lib.sh"
if [ -z "${ALIKE_INSIDE-}" ]; then
    [ "$(id -u)" = 0 ] || { say "not compared with the program for this machine: that needs root"; exit 0; }
    have_packages "journals" systemd systemd-journal-remote
    ALIKE_INSIDE=1 exec unshare --net --mount bash "$0" "$@"
fi
ours=$1
shift
theirs=("$@")
work=$(mktemp -d "$out/alike.XXXXXX")
trap 'umount /var/log; rm -rf "$work"' EXIT
mount -t tmpfs logs /var/log
ip link set lo up
cd "$root"
printf '[global]\nlog=stderr\nrules_dir=%s\n' "$root/rootfs/etc/mef/rules.d" >"$work/mef.conf"
for what in state run whitelist blacklist; do
    mkdir "$work/$what"
    echo "${what}_dir=$work/$what" >>"$work/mef.conf"
done
compared=0 different=0

# same ARGUMENTS...: both say the same, with the same status.
same() {
    local one=0 other=0
    "$ours" "$@" >"$work/one" 2>&1 || one=$?
    "${theirs[@]}" "$@" >"$work/other" 2>&1 || other=$?
    compared=$((compared + 1))
    if [ "$one $(sha256sum <"$work/one")" != "$other $(sha256sum <"$work/other")" ]; then
        different=$((different + 1))
        echo "not alike: mef $* (status $one and $other)"
        diff "$work/one" "$work/other" | head -n 10 || true
    fi
}

# says WORDS: what both said last has these, so that there was something to compare.
says() { grep -q -- "$1" "$work/one" || { echo "not said: $1"; different=$((different + 1)); }; }

# journal LOG: lines of sshd as entries in systemd's export format.
journal() {
    local now
    now=$(date +%s)
    sed 's/^<[0-9]*>[A-Za-z]* *[0-9]* [0-9:]* sshd\[[0-9]*\]: //' "$1" | awk -v now="$now" -v id="$id" '{
        printf "__REALTIME_TIMESTAMP=%d%06d\n__MONOTONIC_TIMESTAMP=%d\n", now, NR, NR
        printf "_BOOT_ID=%s\n_MACHINE_ID=%s\nSYSLOG_IDENTIFIER=sshd\n_COMM=sshd\n_UID=0\n_PID=1\n", id, id
        # Every third one has a field that is so long that it is compressed.
        text = $0
        if (NR % 3 == 0) { printf "FILLED="; for (i = 0; i < 200; i++) printf "text%d ", i; print "" }
        printf "_SYSTEMD_UNIT=ssh.service\nMESSAGE=%s\n\n", text
    }'
}

for rules in tests/ruleset/rules/*.rules tests/ruleset/export/*.rules tests/vm/every.rules; do
    same check --config "$work/mef.conf" "$rules"
    same fmt "$rules"
done
for log in tests/logs/*.log tests/detect/honest/*/*.log; do
    same test --json --config "$work/mef.conf" all "$log"
done

id=$(cat /etc/machine-id)
for compact in 0 1; do
    rm -rf /var/log/journal
    mkdir -p "/var/log/journal/$id"
    journal tests/logs/openssh-9.2.log |
        SYSTEMD_JOURNAL_COMPACT=$compact /lib/systemd/systemd-journal-remote \
            --output="/var/log/journal/$id/system.journal" - >/dev/null 2>"$work/told" || cat "$work/told"
    same test --hits --journal --config "$work/mef.conf" sshd
    says 127.0.0.1
done

# What is in state_dir; bans are in the kernel of these namespaces.
bans() { "$ours" ban --config "$work/mef.conf" "$@" >/dev/null; }
bans 192.0.2.1 192.0.2.8-192.0.2.11 2001:db8:7::1 --for 10m --reason "a reason"
bans 198.51.100.0/24 --permanent
bans 203.0.113.1 --ports 22,8000-8010
"$ours" unban --config "$work/mef.conf" 192.0.2.1 >/dev/null
for words in "history" "history --json" "history --csv"; do
    # shellcheck disable=SC2086
    same $words --config "$work/mef.conf"
    says 198.51.100.0
done

say "$compared outputs compared with those of the program for this machine, $different not alike"
[ "$different" = 0 ]
