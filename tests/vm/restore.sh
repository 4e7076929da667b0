# 10,000 bans come back at a boot, and when a daemon starts beside a kernel that has lost them, while somebody
# listens;
# with clear_bans_on_stop they go with the daemon.
# boots: 2
# timeout: 900
if [ "$boot" = 1 ]; then
    addresses 10000 >/tmp/list
    check "10,000 bans without a daemon" sh -c 'mef ban - --for 1d </tmp/list >/dev/null'
    sync
    power_off
fi
check "somebody listens to the ruleset" listen
within 8192 "the daemon puts them back" start_daemon
check "all are back" wait_for 60 has mef_guard ban4 10000
stop_daemon
check "the table is deleted" nft delete table inet mef_guard
printf '[global]\nclear_bans_on_stop=true\n' >/etc/mef/mef.conf
within 8192 "the next daemon puts them back" start_daemon
check "all are back again" wait_for 60 has mef_guard ban4 10000
within 8192 "they go with the daemon" stop_daemon
check "none is left" has mef_guard ban4 0
