# Each thing that mef does, once, on every machine: bans in all forms, a rule set with every key, a daemon,
# scans, floods, new sources, the fast path, lists.
# kernels: bullseye bookworm trixie sid arm64 armmp riscv64
# timeout: 1800

# from ADDRESS PORT...: somebody with that address knocks at each port of this host.
from() {
    addr=$1 host=192.0.2.1
    shift
    case $addr in
        *:*)
            host=2001:db8:1::1
            ip -n peer -6 addr add "$addr/128" dev lo nodad
            ip -n peer -6 route replace 2001:db8:1::1/128 dev eth0 src "$addr"
            ;;
        *)
            ip -n peer addr add "$addr/32" dev lo
            ip -n peer route replace 192.0.2.0/24 dev eth0 src "$addr"
            ;;
    esac
    for port in "$@"; do
        ip netns exec peer nc -w 1 "$host" "$port" </dev/null >/dev/null 2>&1
    done
}
six() {
    ip -6 addr add 2001:db8:1::1/64 dev eth0 nodad &&
        ip -n peer -6 addr add 2001:db8:1::2/64 dev eth0 nodad &&
        ip -6 route add default via 2001:db8:1::2
}
passes6() {
    ip -n peer -6 addr add "$1/128" dev lo nodad 2>/dev/null
    ip netns exec peer ping -q -c 1 -W 2 -I "$1" 2001:db8:1::1 >/dev/null 2>&1
}
denied6() { ! passes6 "$1"; }
has_ban() { mef bans | grep -q "$@"; }
lacks_ban() { ! mef bans | grep -q "$@"; }
piped() { addresses 100 | mef "$@"; }
banned_for() { nft list set inet mef_guard ban4 | tr , '\n' | grep "$1 " | grep -qE "expires $2"; }
conf() { printf '[global]\nlog=stderr\nps_enabled=false\n%s\n' "$@" >/etc/mef/mef.conf; }
restart() { stop_daemon; start_daemon; }

check "somebody is outside" make_peer
check "with IPv6, too" six

# By hand, with nothing loaded before.
conf
check "a ban" mef ban 20.0.0.1 --for 10m --reason "a reason"
check "it drops" denied 20.0.0.1
check "the kernel ends it" banned_for 20.0.0.1 '9m|10m'
check "it is prolonged" mef ban 20.0.0.1 --for 2h
check "in the kernel, too" banned_for 20.0.0.1 '1h|2h'
check "a network" mef ban 20.1.0.0/16 --for 1h
check "it drops" denied 20.1.2.3
check "an address in it is let go" mef unban 20.1.2.3
check "it passes" passes 20.1.2.3
check "its neighbour does not" denied 20.1.2.4
check "a range" mef ban 20.2.0.10-20.2.0.20
check "its end drops" denied 20.2.0.20
check "what is behind it does not" passes 20.2.0.21
check "some of the range are let go" mef unban 20.2.0.12-20.2.0.14
check "the first of them passes" passes 20.2.0.12
check "who is before them does not" denied 20.2.0.11
check "IPv6 passes" passes6 2001:db8:6::1
check "IPv6" mef ban 2001:db8:6::1 2001:db8:7::/48
check "an address drops with its prefix" denied6 2001:db8:6::2
check "a network drops" denied6 2001:db8:7:7::7
check "one address of IPv6" mef ban 2001:db8:9::1/128
check "it drops" denied6 2001:db8:9::1
check "its neighbour does not" passes6 2001:db8:9::2
check "for good" mef ban 20.0.0.2 --permanent
check "some ports" mef ban 20.0.0.3 --ports 22,8000-8010
check "which leave others open" passes 20.0.0.3
# shellcheck disable=SC2016
check "all are told" sh -c 'for a in 20.0.0.1 20.1.0.0 20.2.0.10 2001:db8:6: 2001:db8:7: 20.0.0.2 20.0.0.3; do
    mef bans | grep -q "$a" || exit 1; done'
check "why" sh -c 'mef why 20.0.0.1 | grep -q "a reason"'
check "one ends" mef unban 20.0.0.1
check "it passes" passes 20.0.0.1
check "all with an end" mef unban --all
check "the other stays" has_ban 20.0.0.2
check "and ends" mef unban 20.0.0.2
check "a network that is let go" sh -c 'mef ban 20.3.0.1 20.3.0.2 && mef unban 20.3.0.0/16'
check "lets all in it go" passes 20.3.0.2
check "many on a pipe" piped ban - --for 1h
check "are banned" has_ban 20.0.0.198
check "and end on a pipe" piped unban -
check "all of them" lacks_ban 20.0.0.198
check "another one for good" mef ban 20.0.0.2 --permanent
check "ends with all" mef unban --all --permanent
check "and passes" passes 20.0.0.2
refuse "this host is never banned" "own address" mef ban 192.0.2.1

# A rule set with every key.
cp /vm/every.rules /etc/mef/mef.rules
echo 20.9.8.0/24 >/etc/mef/every.list
same_count() { test "$(grep -c "^$1 " /tmp/exported.rules)" = "$(grep -c "^$1 " /etc/mef/mef.rules)"; }
check "a rule set with every key is loaded" mef load
check "it drops" denied 20.9.1.7
check "it drops what a file names" denied 20.9.8.7
check "it lets pass" passes 20.9.2.7
check "the kernel has what the file says" mef diff
check "it is exported" sh -c 'mef export >/tmp/exported.rules'
check "what is exported is a rule set" mef check /tmp/exported.rules
check "with all its rules" same_count rule
check "and all that translates" same_count nat
check "it is unloaded" mef unload
check "nothing drops" passes 20.9.1.7

# A daemon on a log.
rm -f /etc/mef/rules.d/*
printf '[rule]\nfiles=/var/log/app.log\nfailregex=^x <HOST>$\nmaxretry=2\n' >/etc/mef/rules.d/app.conf
: >/var/log/app.log
check "the daemon starts" start_daemon
# What is written before it has opened the file is none of its business.
check "it follows the log" wait_for 60 grep -q watches /var/log/daemon
printf 'x 20.0.0.11\nx 20.0.0.11\nx 20.0.0.12\n' >>/var/log/app.log
check "who is in the log is banned" wait_for 60 has_ban 20.0.0.11
check "and dropped" denied 20.0.0.11
check "who is in it once is not" lacks_ban 20.0.0.12
nft flush ruleset
check "somebody flushed the rules: the next ban" mef ban 20.0.0.13
check "brings back the others" wait_for 60 has_ban 20.0.0.11
check "in the kernel" wait_for 60 denied 20.0.0.11
check "the daemon is restarted" restart
check "the ban stays" denied 20.0.0.11
printf '20.5.0.0/16\n20.6.0.1\n2001:db8:66::/48\n' >/etc/mef/blacklist/list.conf
check "a deny list is read, and drops" wait_for 60 denied 20.5.6.7
check "and no other" passes 20.7.6.7
rm /etc/mef/blacklist/list.conf
check "it goes" wait_for 60 passes 20.5.6.7

# What the kernel sees by itself.
printf '[global]\nlog=stderr\nps_limit=10\nps_boot_grace=0\n' >/etc/mef/mef.conf
check "the daemon looks for port scans" restart
# shellcheck disable=SC2046
from 20.0.0.21 $(seq 1000 1015)
check "a scanner is banned" wait_for 60 has_ban '20.0.0.21.*portscan'
from 20.0.0.22 1000 1001 1002
check "who knocks at three ports is not" lacks_ban 20.0.0.22
# shellcheck disable=SC2046
from 2001:db8:21::1 $(seq 1000 1015)
check "a scanner by IPv6 is banned" wait_for 60 has_ban '2001:db8:21:.*portscan'
check "the daemon has reported it" wait_for 60 grep -q "20.0.0.21" /var/log/daemon

conf ddos_enabled=true ddos_syn_rate=1 ddos_syn_burst=3 ddos_escalation_hits=1
check "the daemon holds floods back" restart
from 20.0.0.31 80 80 80 80 80 80 80 80 80 80
check "a flood is banned" wait_for 60 has_ban '20.0.0.31.*flood'
from 20.0.0.32 80
check "a visitor is not" lacks_ban 20.0.0.32

conf rbl_enabled=true rbl_x_enabled=true rbl_x_zone=bl.example rbl_x_ports=25 dns_servers=192.0.2.2
check "the daemon looks up new sources" restart
mef watch >/tmp/watch 2>&1 &
watch=$!
sleep 1
from 20.0.0.41 25
check "a new source is told" wait_for 60 grep -q 'new 20.0.0.41' /tmp/watch
kill $watch

conf fastpath=ingress
check "the daemon drops in the ingress hook" restart
on_ingress() { nft list chain inet mef_guard gate | grep -q 'hook ingress device "eth0"'; }
check "the hook is there" wait_for 60 on_ingress
check "a ban" mef ban 20.0.0.51
check "it drops" denied 20.0.0.51
check "others pass" passes 20.0.0.52

# After the end of 32-bit time, in January 2038.
conf
now=$(date +%s)
date -s @2208988800 >/dev/null
check "the daemon starts in 2040" restart
check "a ban" mef ban 20.0.0.61 --for 10m
check "it drops" denied 20.0.0.61
check "its end is in 2040, too" sh -c 'mef bans --json | grep 20.0.0.61 | grep -v 1970'
printf 'x 20.0.0.62\nx 20.0.0.62\n' >>/var/log/app.log
check "who is in the log is banned" wait_for 60 has_ban 20.0.0.62
check "the daemon is restarted" restart
check "and knows the ban" has_ban 20.0.0.62
date -s "@$now" >/dev/null

# Landlock is there from Linux 5.13 on; what is not there is told, and the rest holds all the same.
has_filter() { grep -q "^Seccomp:.*2$" "/proc/$1/status"; }
only_reads() {
    pid=$(reader)
    [ -n "$pid" ] && has_filter "$pid"
}
confined() {
    mef status | grep "^confined" >/tmp/confined
    grep -q "full: .*system calls (seccomp), logs read by a process of its own" /tmp/confined || return 1
    case $(uname -r) in
        5.10.*) grep -q "without .*Landlock (not in this kernel)" /tmp/confined &&
            grep -q "confine=full: without .*Landlock (not in this kernel)" /var/log/daemon ;;
        *) grep -q "files (Landlock" /tmp/confined ;;
    esac
}
check "the daemon has given up what this kernel can take" confined
check "and has a filter of system calls" has_filter "$daemon"
check "who reads logs has one, too, and of all rights that to read" only_reads
check "the daemon lives" kill -0 "$daemon"
idle
mef version --verbose | sed 's/^/    /'
check "the daemon ends" stop_daemon
