# A kernel without nf_tables, with iptables and ip_set: firewall_backend=auto uses those, with nothing set.
# timeout: 900
# The programs of iptables are on the disk, but not where anybody looks for them.
cp /usr/lib/iptables/* /usr/sbin/
check "somebody is outside" make_peer
gone nf_tables
check "a ban is made without nf_tables" mef ban 20.0.0.1 --for 1h
check "it drops" denied 20.0.0.1
check "others pass" passes 20.0.0.2
check "it is told" sh -c 'mef bans | grep -q 20.0.0.1'
check "it is in iptables" sh -c 'iptables -t raw -S | grep -q mef_ban4'
check "nothing of nf_tables came by itself" sh -c '! grep -q ^nf_tables /proc/modules'
# rules N: rule set N drops who comes from 20.0.0.N, and has one of each kind of rule beside that.
rules() {
    cat >/etc/mef/mef.rules <<END
policy dir=in action=accept
set name=known family=any type=addr elements=20.0.0.$1,2001:db8::$1
group name=more
rule group=more action=drop proto=all
rule dir=in action=group:more proto=all src=@known
rule dir=in action=reject proto=tcp,udp dport=1,3,5-7,9 limit=10/m/src log=prefix:mef ratelimit=1/s
rule dir=in action=drop proto=tcp dport=11 conns=20/src ct=new
rule dir=fwd action=accept proto=tcp flags=syn/syn,rst mss=pmtu set-mark=0x10/0xf0
nat dir=post action=masquerade oif=eth0 src=10.9.0.0/16
END
}
# only N: rule set N is in force and not the other one; 0 = none.
only() {
    for number in 41 42; do
        if [ "$number" = "$1" ]; then denied "20.0.0.$number"; else passes "20.0.0.$number"; fi || return 1
    done
}
# shellcheck disable=SC2046
killed() { kill -9 $(pidof mef) && rm -rf /run/mef && ! pidof mef; }

mkdir -p /etc/mef /var/log
printf '[global]\nlog=stderr\nload_managed=true\n' >/etc/mef/mef.conf
rules 41
check "a rule set is loaded" mef load
check "it is in force" only 41
check "it is in iptables, for IPv6, too" sh -c 'ip6tables -S | grep -q mefr_'
rules 42
mef load --confirm 40s </dev/null >/tmp/trial 2>&1 &
sleep 10
check "another one is on trial" only 42
check "the loader and its watcher are killed, and run_dir is removed" killed
sleep 40
check "the kernel ends the trial by itself" only 41
mef load --confirm 10m </dev/null >/tmp/trial 2>&1 &
sleep 10
check "it is on trial once more" only 42
check "it is confirmed" mef confirm
check "it stays" only 42
printf 'rule dir=in action=drop proto=all rpf=fail\n' >/tmp/bad.rules
refuse "what iptables has no words for" "iptables cannot say this" mef load /tmp/bad.rules
check "and changes nothing" only 42
check "the rules are taken out" mef unload
check "nothing is left of them" sh -c '! iptables -S | grep -q mefr_'
check "nobody is dropped" only 0
check "they are loaded again" mef load
rm -f /etc/mef/rules.d/*
printf '[rule]\nfiles=/var/log/app.log\nfailregex=^x <HOST>$\nmaxretry=2\n' >/etc/mef/rules.d/app.conf
: >/var/log/app.log
check "the daemon starts" start_daemon
printf 'x 20.0.0.11\nx 20.0.0.11\n' >>/var/log/app.log
check "who is in the log is banned" wait_for 60 denied 20.0.0.11
check "status says where" sh -c 'mef status | grep -q iptables'
check "the ban ends" mef unban 20.0.0.1
check "it passes" passes 20.0.0.1
iptables -t raw -F
check "somebody flushed the rules: they come back" wait_for 60 denied 20.0.0.11
iptables -F
iptables -X
check "somebody flushed the rule set: it comes back" wait_for 60 only 42
check "the daemon lives" kill -0 "$daemon"
stop_daemon
back
