# A deny list of a million addresses on a machine that holds it, while somebody listens.
# memory: 256
# timeout: 900
check "somebody is outside" make_peer
check "the daemon starts" start_daemon
check "somebody listens to the ruleset" listen_only
addresses 1000000 >/etc/mef/blacklist/list.conf
within 8192 "a million addresses are denied" wait_for 300 in_force list.conf 1000000
check "the last of them is" denied 20.30.132.126
check "the daemon lives" kill -0 "$daemon"
grep -v 'does not exist' /var/log/daemon | tail -n 5
