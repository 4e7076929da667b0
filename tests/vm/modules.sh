# What is said on a kernel that lacks a part: it is named, and everything else goes on.
# timeout: 600
says() {
    words=$1
    shift
    "$@" 2>&1 | tee /tmp/all | grep -qF "$words" || { cat /tmp/all; return 1; }
}
daemon_says() { wait_for 20 grep -qF "$1" /var/log/daemon || { cat /var/log/daemon; return 1; }; }

mkdir -p /var/log
: >/var/log/app.log
cat >/etc/mef/mef.conf <<'CONF'
[global]
log=stderr
ddos_enabled=true
CONF
rm -f /etc/mef/rules.d/*
printf '[rule]\nfiles=/var/log/app.log\nfailregex=^x <HOST>$\nmaxretry=2\n' >/etc/mef/rules.d/app.conf
cat >/etc/mef/mef.rules <<'RULES'
policy dir=in action=accept
rule dir=in action=accept proto=all ct=established,related
RULES
mef check >/tmp/check 2>&1 || cat /tmp/check

# Nothing of nf_tables.
gone nf_tables
lacks='this kernel lacks nf_tables'
for command in 'ban 203.0.113.7' 'unban 203.0.113.7' bans load unload export 'daemon --foreground'; do
    # shellcheck disable=SC2086
    check "without nf_tables: mef $command names it" says "$lacks" mef $command
    # shellcheck disable=SC2086
    if mef $command >/dev/null 2>&1; then fail "mef $command ends well without nf_tables"; fi
done
check "status says that nothing can be banned" says "$lacks" mef status
check "version says it, too" says "nf_tables                    missing" mef version --verbose
for command in check 'fmt /etc/mef/mef.rules' version 'test app /var/log/app.log' 'load --check'; do
    # shellcheck disable=SC2086
    check "without nf_tables: mef $command works" mef $command
done
back
check "with nf_tables a ban is made" mef ban 203.0.113.7
check "and nothing is missing" sh -c '! mef version --verbose | grep missing'

# without MODULE NAMED CONSEQUENCE: one part alone.
without() {
    module=$1 named=$2 consequence=$3
    nft flush ruleset
    gone "$module"
    : >/var/log/daemon
    start_daemon
    check "without $module the daemon says so" daemon_says "$consequence (it lacks $named)"
    check "without $module status says so" says "$consequence (it lacks $named)" mef status
    check "without $module version says so" sh -c "mef version --verbose | grep -F '$named' | grep -q missing"
    printf 'x 203.0.113.9\nx 203.0.113.9\n' >>/var/log/app.log
    check "without $module it bans all the same" wait_for 20 sh -c 'mef bans | grep -q 203.0.113.9'
    mef unban 203.0.113.9 >/dev/null
    stop_daemon
    nft flush ruleset
    back
}
without nft_limit nft_limit 'cannot see port scans'
without nf_log_syslog nf_log_syslog 'cannot log dropped packets'
without nfnetlink_log nfnetlink_log 'cannot report port scans, floods and new sources'
without nft_log nft_log 'cannot log dropped packets'
without nft_socket nft_socket 'cannot look up sockets: it is given the ports that listen'
without nft_ct 'nft_ct (with nf_conntrack)' 'cannot hold floods back'
without nf_conntrack 'nft_ct (with nf_conntrack)' 'cannot hold floods back'
without nft_connlimit nft_connlimit 'cannot count connections: ddos_connlimit has no effect'

# A rule of the rule set.
gone nft_ct
check "a rule that is refused names its part" says 'this kernel lacks nft_ct (with nf_conntrack)' mef load
back
check "with it the rules are loaded" mef load
mef unload
echo 'rule dir=in action=reject proto=tcp dport=7' >>/etc/mef/mef.rules
gone nft_reject_inet nft_reject
check "a rule that refuses names its part" says 'this kernel lacks nft_reject' mef load
back
check "with it the rules are loaded" mef load
mef unload

# What ends connections.
nft add table inet t '{ chain c { type filter hook input priority 0; ct state new accept; }; }'
ip link add one type dummy
gone nf_conntrack_netlink
wget -q -T 1 -O /dev/null http://127.0.0.1:1/ 2>/dev/null
ping -c 1 127.0.0.1 >/dev/null
check "without nf_conntrack_netlink a ban says so" says 'lacks nf_conntrack_netlink' mef ban 203.0.113.8
check "and is made" sh -c 'mef bans | grep -q 203.0.113.8'
back
for parts in tcp_diag "inet_diag tcp_diag"; do
    # shellcheck disable=SC2086
    gone $parts
    check "without $parts a ban says so" says 'lacks inet_diag and tcp_diag' mef ban 203.0.113.10
    check "and is made" sh -c 'mef bans | grep -q 203.0.113.10'
    mef unban 203.0.113.10 >/dev/null
    back
done
check "with both nothing is said" sh -c '! mef ban 203.0.113.11 2>&1 | grep lacks'
