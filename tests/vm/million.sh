# A deny list that the machine's memory does not hold is refused with a number, before it is tried, and what
# was in force stays; one that it holds comes into force while somebody listens.
# timeout: 900
check "somebody is outside" make_peer
check "the daemon starts" start_daemon
check "somebody listens to the ruleset" listen_only
addresses 1000 >/etc/mef/blacklist/list.conf
check "1,000 addresses are denied" wait_for 60 in_force list.conf 1000
addresses 1000000 >/etc/mef/blacklist/list.conf
within 8192 "the daemon answers to a million" wait_for 120 grep -qE \
    'list.conf: 1000000 addresses .* needs [0-9]+ MB of memory .* [0-9]+ MB are free' /var/log/daemon
check "the previous list is in force" denied 20.0.7.206
check "the new one is not" passes 20.30.132.126
addresses 300000 >/etc/mef/blacklist/list.conf
within 8192 "300,000 are denied" wait_for 200 in_force list.conf 300000
check "the last of them is" denied 20.9.39.190
check "the daemon lives" kill -0 "$daemon"
grep -v 'does not exist' /var/log/daemon | tail -n 5
