# The daemon owns the table of bans where the kernel can (6.9), and says once that it cannot where that is
# older: then everything goes on as without the option.
mkdir -p /etc/mef
printf '[global]\nguard_owner=true\n' >/etc/mef/mef.conf
check "a ban without a daemon" mef ban 198.51.100.1 --for 1d
check "the daemon starts" start_daemon
check "a ban with it" mef ban 198.51.100.2 --for 1d
addresses 2000 >/tmp/list
check "bans by the thousand" sh -c 'mef ban - </tmp/list'
check "one is lifted" mef unban 198.51.100.2
check "one is allowed" mef allow 198.51.100.3
check "one is denied" mef deny 198.51.100.4
here() { nft list set inet mef_guard ban4 | grep -q '198\.51\.100\.1'; }
case $(uname -r) in
6.1.*)
    owned() { nft list table inet mef_guard | grep -q "flags owner"; }
    if owned; then fail "nobody owns the table"; else pass "nobody owns the table"; fi
    check "it is said" grep -q 'Linux 6.9.*guard_owner has no effect' /var/log/daemon
    kill -HUP "$daemon"
    check "the daemon reads its configuration again" wait_for 60 grep -q 'configuration read' /var/log/daemon
    check "it is said once" test "$(grep -c 'guard_owner has no effect' /var/log/daemon)" = 1
    check "somebody deletes everything" nft flush ruleset
    check "another ban" mef ban 198.51.100.5 --for 1d
    check "all are back" wait_for 90 here
    ;;
*)
    check "the daemon owns the table" sh -c 'nft list table inet mef_guard | grep -q "flags owner"'
    refuse "nobody else deletes it" "not permitted" nft delete table inet mef_guard
    check "somebody deletes everything else" nft flush ruleset
    check "the bans stay" here
    kill -9 "$daemon"
    wait "$daemon"
    check "they stay when the daemon is killed" here
    check "a ban without it" mef ban 198.51.100.5 --for 1d
    check "the next daemon starts" start_daemon
    refuse "nobody else deletes it" "not permitted" nft delete table inet mef_guard
    check "the bans stay" here
    ;;
esac
check "the daemon lives" kill -0 "$daemon"
check "it ends" stop_daemon
