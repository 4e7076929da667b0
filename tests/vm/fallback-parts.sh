# What is said on a kernel without nf_tables that lacks a part of iptables or ip_set: it is named, and
# everything else goes on. Each row has a network namespace of its own, with whose end all that holds modules
# ends.
# timeout: 1800
cp /usr/lib/iptables/* /usr/sbin/
mkdir -p /etc/mef/whitelist /etc/mef/blacklist /var/log
cat >/etc/mef/mef.conf <<'CONF'
[global]
log=stderr
firewall_backend=iptables
ddos_enabled=true
ps_packet_udp=true
rbl_enabled=true
rbl_example_zone=dnsbl.example.org
CONF
rm -f /etc/mef/rules.d/*
printf '[rule]\nfiles=/var/log/app.log\nfailregex=^x <HOST>$\nmaxretry=2\n' >/etc/mef/rules.d/app.conf

inside() { /usr/bin/ip netns exec part "$@"; }
says() {
    words=$1
    shift
    inside "$@" >/tmp/all 2>&1
    grep -qF "$words" /tmp/all || { cat /tmp/all; return 1; }
}
holds() { inside mef bans | grep -q "$1"; }
runs() { inside mef status | grep -q '^daemon  *runs'; }

# begin_daemon: not by a function of the shell, so that its number is the daemon's own.
begin_daemon() {
    /usr/bin/ip netns exec part mef daemon --foreground 2>>/var/log/daemon &
    # shellcheck disable=SC2034 # stop_daemon has it
    daemon=$!
}

# asks: whether rules ask who is banned, and what is found is dropped.
asks() {
    for table in raw mangle; do inside iptables -t $table -S 2>/dev/null; done >/tmp/rules
    grep -q 'mef_ban4 src -j mef_hit' /tmp/rules && grep -q '^-A mef_hit -j DROP' /tmp/rules
}

# unload: everything of iptables and ip_set that nothing uses, as often as something could be.
unload() {
    for _ in 1 2 3 4 5 6 7 8; do
        before=$(wc -l </proc/modules)
        awk '$3 == 0 { print $1 }' /proc/modules | while read -r module; do
            case $module in
                ip_set*|xt_*|ipt_*|ip6t_*|iptable_*|ip6table_*|ip_tables|ip6_tables|x_tables|nf*|*_diag)
                    rmmod "$module" 2>/dev/null ;;
            esac
        done
        [ "$before" != "$(wc -l </proc/modules)" ] || return 0
    done
}

# begin MODULE...: a namespace of its own, on a kernel without these.
begin() {
    for module in nf_tables "$@"; do
        find "$modules" -name "$module.ko" -exec mv {} {}.off \;
    done
    unload
    for module in nf_tables "$@"; do
        ! grep -q "^$module " /proc/modules || fail "$module could be unloaded"
    done
    ip netns add part
    inside ip link set lo up
    rm -rf /run/mef /var/lib/mef
    : >/var/log/app.log
    : >/var/log/daemon
}

end() {
    ip netns del part
    # What it had goes a little later.
    wait_for 20 no_sets || fail "the sets went with the namespace"
    back
}
no_sets() { unload; ! grep -q '^ip_set ' /proc/modules; }

# lacks MODULES WORDS: the daemon runs, says these words in its log and in its status, and bans.
lacks() {
    # shellcheck disable=SC2086
    begin $1
    begin_daemon
    check "without $1 the daemon runs" wait_for 60 runs
    check "without $1 the daemon says so" wait_for 20 grep -qF "$2" /var/log/daemon
    check "without $1 status says so" says "$2" mef status
    printf 'x 203.0.113.9\nx 203.0.113.9\n' >>/var/log/app.log
    check "without $1 it bans all the same" wait_for 20 holds 203.0.113.9
    case $2 in *IPv6*)
        check "without $1 a ban of IPv6 is none" says 'lacks ip6_tables' mef ban 2001:db8::1
        check "without $1 a denial of IPv6 is none" says 'not listed' mef deny 2001:db8::1
        check "without $1 one of IPv4 is one" inside mef deny 203.0.113.77 ;;
    esac
    check "without $1 the rules are in force" asks
    stop_daemon
    end
}

# none MODULES WORDS COMMAND...: the command fails, says these words, and leaves nothing in force.
none() {
    # shellcheck disable=SC2086
    begin $1
    part=$1 said=$2
    shift 2
    check "without $part: $* says what is lacking" says "$said" "$@"
    if inside "$@" >/dev/null 2>&1; then fail "without $part: $* ends well"; fi
    if asks; then fail "without $part rules are in force"; else pass "without $part no rules are in force"; fi
    end
}

begin
begin_daemon
check "with all of them the daemon runs" wait_for 60 runs
check "and nothing is lacking" sh -c "! grep -F '(it lacks' /var/log/daemon"
stop_daemon
end

ban='mef ban 203.0.113.7'
# shellcheck disable=SC2086
{
none xt_set 'this kernel lacks xt_set' $ban
none ip_set_hash_ip 'load ip_set_hash_ip, ip_set_hash_net' $ban
none ip_set_hash_net 'load ip_set_hash_ip, ip_set_hash_net' $ban
none ip_set_list_set 'ip_set_list_set' $ban
none ip_set 'ip_set' $ban
}
begin iptable_raw
check "without iptable_raw the rules stand in the table mangle" inside mef ban 203.0.113.8
check "and are in force" asks
end
begin xt_multiport
check "without xt_multiport a ban of all ports is made" inside mef ban 203.0.113.8
check "without xt_multiport one of some ports names it" \
    says 'this kernel lacks xt_multiport' mef ban 203.0.113.7 --ports 22
end
lacks ip6_tables 'cannot drop packets of IPv6 (it lacks ip6_tables'
lacks 'ip6table_raw ip6table_mangle' 'cannot drop packets of IPv6 (it lacks ip6_tables'
lacks ip_set_hash_netport ip_set_hash_netport
lacks xt_pkttype 'cannot see port scans (it lacks xt_pkttype'
lacks xt_socket 'cannot look up sockets (it lacks xt_socket)'
lacks xt_hashlimit 'cannot hold floods back (it lacks xt_hashlimit'
lacks xt_conntrack 'cannot hold floods back (it lacks xt_hashlimit, xt_conntrack'
lacks xt_connlimit 'cannot count connections (it lacks xt_connlimit)'
lacks xt_limit 'cannot log dropped packets (it lacks xt_LOG, nf_log_syslog or xt_limit)'
lacks xt_NFLOG 'cannot report port scans, floods and new sources (it lacks xt_NFLOG'
lacks nfnetlink_log 'cannot report port scans, floods and new sources (it lacks xt_NFLOG or nfnetlink_log)'
lacks iptable_mangle 'the table mangle'
lacks xt_LOG 'cannot log dropped packets (it lacks xt_LOG'
lacks nf_log_syslog 'cannot log dropped packets (it lacks xt_LOG, nf_log_syslog'

# What IPv6 needs comes while the daemon runs, which looks for it every five minutes.
asks6() { inside ip6tables -t raw -S 2>/dev/null | grep -q 'mef_ban6 src -j mef_hit'; }
begin ip6_tables
printf '203.0.113.66\n2001:db8::66\n' >/etc/mef/blacklist/feed.conf
begin_daemon
check "without ip6_tables the daemon runs with a list" wait_for 60 runs
check "and says that those of IPv6 in it are not denied" \
    wait_for 20 grep -qF 'or its tables): those are not denied' /var/log/daemon
check "why knows that the one of IPv4 is" says 'on the deny list' mef why 203.0.113.66
check "why knows that the one of IPv6 is not" says 'neither banned nor denied' mef why 2001:db8::66
if asks6; then fail "rules ask about IPv6"; else pass "no rules ask about IPv6"; fi
file=$(find "$modules" -name ip6_tables.ko.off)
mv "$file" "${file%.off}"
check "ip6_tables comes, and rules ask about IPv6" wait_for 400 asks6
check "why knows that the one of IPv6 is denied now" says 'on the deny list' mef why 2001:db8::66
check "a ban of IPv6 is one" inside mef ban 2001:db8::1
check "why knows of it" says 'banned' mef why 2001:db8::1
inside mef status >/tmp/all
if grep -q 'lacks ip6_tables' /tmp/all; then fail "status misses it still"; fi
pass "status misses it no more"
stop_daemon
rm /etc/mef/blacklist/feed.conf
end
