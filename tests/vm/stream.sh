# More bans on a pipe than the machine's memory holds: what fits is banned, the rest is refused with a number
# before it is tried, and nothing is killed; then everything goes on.
# timeout: 1200
check "somebody is outside" make_peer
check "the daemon starts" start_daemon
check "somebody listens to the ruleset" listen_only
stream() {
    addresses 1000000 | mef ban - --for 1d >/tmp/told 2>/tmp/refused
    status=$?
    cat /tmp/told /tmp/refused
    [ $status = 1 ]
}
within 8192 "a million bans on a pipe are too many" stream
check "that is said with a number" grep -qE \
    'addresses and all that follow are not banned: the kernel needs [0-9]+ MB of memory .* [0-9]+ MB are free' \
    /tmp/refused
banned=$(sed -n 's/^banned \([0-9]*\) addresses.*/\1/p' /tmp/told)
note "$banned of 1,000,000 are banned: $(grep -E 'MemFree|MemAvailable' /proc/meminfo | tr -s ' \n' ' ')"
check "many are" [ "$banned" -gt 100000 ]
check "the first of them is" denied 20.0.0.2
check "the daemon lives" kill -0 "$daemon"
check "one of them is unbanned" mef unban 20.0.0.2
check "and free" passes 20.0.0.2
check "one is banned after that" mef ban 198.51.100.1
check "the daemon lives after that" kill -0 "$daemon"
