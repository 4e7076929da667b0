# A host of the smallest kind with nothing installed: what mef needs is there, or comes by itself.
# timeout: 900
# short: bookworm
check "mef runs" mef version
check "the daemon starts" start_daemon
check "a ban needs nothing but the kernel" mef ban 203.0.113.7 --for 1h
check "nft shows it" sh -c 'nft list set inet mef_guard ban4 | grep -q 203.0.113.7'
# Nobody logs in there: it sees nothing for sshd, which is status 1.
check "the daemon says how it is" sh -c 'mef status | grep -q "^daemon  *runs for"'
check "the ban ends" mef unban 203.0.113.7
check "nft shows none" sh -c '! nft list set inet mef_guard ban4 | grep -q 203.0.113.7'
idle
stop_daemon
mef version --verbose | sed 's/^/    /'
