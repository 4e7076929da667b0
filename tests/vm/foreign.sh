# Others empty sets of 10,000 elements, their own and ours. The daemon must not be what makes that deadly: so
# nobody else listens here.
# timeout: 900
check "the daemon starts" start_daemon
addresses 10000 >/tmp/list
{
    echo 'table inet other { set s { type ipv4_addr; }; }'
    echo 'add element inet other s {'
    sed 's/$/,/' /tmp/list
    echo '}'
} >/tmp/other
check "somebody makes a set of 10,000" nft -f /tmp/other
within 8192 "somebody empties it" nft flush set inet other s
check "10,000 bans" sh -c 'mef ban - --for 1d </tmp/list >/dev/null'
within 8192 "somebody empties ours" nft flush set inet mef_guard ban4
# Whoever does that by hand wants it: elements that are deleted stay so while the set is there.
check "one more ban" mef ban 198.51.100.1 --for 1d
check "it is alone" has mef_guard ban4 1
within 8192 "somebody deletes everything" nft flush ruleset
# The daemon is woken by a ban, sees that the table is gone, and puts back what was lost.
check "another ban" mef ban 198.51.100.2 --for 1d
check "all are back" wait_for 90 has mef_guard ban4 10002
check "the daemon lives" kill -0 "$daemon"
