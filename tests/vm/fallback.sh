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
mkdir -p /etc/mef /var/log
printf '[global]\nlog=stderr\n' >/etc/mef/mef.conf
rm -f /etc/mef/rules.d/*
printf '[rule]\nfiles=/var/log/app.log\nfailregex=^x <HOST>$\nmaxretry=2\n' >/etc/mef/rules.d/app.conf
: >/var/log/app.log
check "the daemon starts" start_daemon
printf 'x 20.0.0.11\nx 20.0.0.11\n' >>/var/log/app.log
check "who is in the log is banned" wait_for 60 denied 20.0.0.11
check "status says where" sh -c 'mef status | grep -q iptables'
refuse "a rule set wants nf_tables" "nf_tables" mef load
check "the ban ends" mef unban 20.0.0.1
check "it passes" passes 20.0.0.1
iptables -t raw -F
check "somebody flushed the rules: they come back" wait_for 60 denied 20.0.0.11
check "the daemon lives" kill -0 "$daemon"
stop_daemon
back
