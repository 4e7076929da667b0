# 10,000 bans and their end, on a host where somebody listens to the ruleset: for such a listener the kernel
# keeps about 8 kB for each element of a transaction until it is committed, so that what is one transaction
# can be deadly.
# timeout: 900
# short: bookworm
check "the daemon starts" start_daemon
check "somebody listens to the ruleset" listen
addresses 10000 >/tmp/list
within 8192 "10,000 bans" sh -c 'mef ban - --for 1d </tmp/list >/dev/null'
check "they are in the kernel" has mef_guard ban4 10000
within 8192 "the end of all" sh -c 'mef unban --all >/dev/null'
check "none is left" has mef_guard ban4 0
check "10,000 bans once more" sh -c 'mef ban - --for 1d </tmp/list >/dev/null'
within 8192 "the end of each" sh -c 'mef unban - </tmp/list >/dev/null'
check "none is left after that" has mef_guard ban4 0
check "10,000 short bans" sh -c 'mef ban - --for 10s </tmp/list >/dev/null'
# Nobody asks meanwhile: what nft gives back when it ends looks like the kernel's for a moment.
within 8192 "their end by time" sleep 20
check "none is left after their time" has mef_guard ban4 0
networks 10000 >/tmp/list
check "10,000 networks are banned" sh -c 'mef ban - --for 1d </tmp/list >/dev/null'
within 8192 "the end of all networks" sh -c 'mef unban --all >/dev/null'
check "no network is left" has mef_guard bannet4 0
check "the daemon lives" kill -0 "$daemon"
