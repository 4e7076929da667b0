# Connections that are forwarded past the rules: by a router of two namespaces, in a trial, under a ban; and
# what nft reads of it.
# timeout: 900
ip netns add left
ip netns add right
for side in left right; do
    ip link add "to-$side" type veth peer name e0 netns "$side"
    ip link set "to-$side" up
    ip -n "$side" link set e0 up
    ip -n "$side" link set lo up
done
ip addr add 10.1.0.1/24 dev to-left
ip addr add 10.2.0.1/24 dev to-right
ip -n left addr add 10.1.0.2/24 dev e0
ip -n right addr add 10.2.0.2/24 dev e0
ip -n left route add default via 10.1.0.1
ip -n right route add default via 10.2.0.1
sysctl -w net.ipv4.ip_forward=1 >/dev/null

cat >/tmp/plain.rules <<'RULES'
policy dir=fwd action=drop
rule dir=fwd action=accept proto=all ct=established,related
rule dir=fwd action=accept proto=tcp dport=80 comment=new
RULES
{
    echo 'rule dir=fwd action=count proto=all offload=auto'
    cat /tmp/plain.rules
} >/tmp/short.rules

mkfifo /tmp/silence
exec 9<>/tmp/silence

# flow: a connection through the router that stays open, with a line each tenth of a second.
flow() {
    # Without an end of what it could say, which would be the connection's.
    ip netns exec right nc -l -p 80 <&9 >/tmp/came &
    listener=$!
    wait_for 20 listens
    (while echo x; do sleep 0.1; done) 2>/dev/null | ip netns exec left nc 10.2.0.2 80 >/dev/null &
    sender=$!
    wait_for 20 test -s /tmp/came
}
# listens: somebody waits at port 80 of the right side.
listens() { ip netns exec right grep -q ':0050 0*:0000 0A' /proc/net/tcp; }
# no_flow: it is over. What writes the lines ends when nobody takes them.
no_flow() {
    kill "$sender" "$listener" 2>/dev/null
    wait_for 20 is_quiet
    : >/tmp/came
}
is_quiet() { ! kill -0 "$sender" 2>/dev/null && ! kill -0 "$listener" 2>/dev/null; }
lines() { wc -l </tmp/came; }
# grows: more lines come.
grows() { before=$(lines); wait_for 20 more; }
more() { [ "$(lines)" -gt "$before" ]; }
# is_still: no line comes in the time in which many would.
is_still() { before=$(lines); sleep 2; [ "$(lines)" = "$before" ]; }
is_offloaded() { grep -q OFFLOAD /proc/net/nf_conntrack; }
# seen: packets that the established rule has counted.
seen() { nft list chain inet mef forward | sed -n 's/.*established.* packets \([0-9]*\).*/\1/p'; }

check "rules without it are loaded" mef load --force /tmp/plain.rules
check "a connection goes through" flow
check "lines come" grows
if is_offloaded; then fail "it is offloaded without a word"; else pass "it is not offloaded"; fi
no_flow

check "rules with it are loaded" mef load --force /tmp/short.rules
mef diff /tmp/short.rules >/tmp/differs
check "diff has nothing to say" [ ! -s /tmp/differs ]
check "export says it" sh -c 'mef export | grep -q offload=auto'
check "a connection goes through" flow
check "it is offloaded" wait_for 20 is_offloaded
was=$(seen)
check "lines come" grows
check "lines come again" grows
check "past the rules" [ "$(seen)" = "$was" ]
check "its source is banned" mef ban 10.1.0.2
check "which ends it" wait_for 60 is_still
mef unban 10.1.0.2 >/dev/null
no_flow

nft list table inet mef >/tmp/listed
check "the rules go" mef unload
check "nft reads what it listed" nft -f /tmp/listed
nft list table inet mef | sed 's/packets [0-9]* bytes [0-9]*//' >/tmp/again
sed 's/packets [0-9]* bytes [0-9]*//' /tmp/listed >/tmp/first
check "and lists the same" cmp /tmp/first /tmp/again

# A trial shares the flowtable of the rules before it, or takes its own away.
for from in plain short; do
    check "from $from: the rules" mef load --force "/tmp/$from.rules"
    nft list table inet mef | grep -c flowtable >/tmp/tables
    mef load --force --confirm 2s /tmp/short.rules </dev/null >/tmp/trial 2>&1
    mef diff "/tmp/$from.rules" >/tmp/differs
    check "from $from: the trial ends" [ ! -s /tmp/differs ]
    check "from $from: no flowtable is left" \
        [ "$(nft list table inet mef | grep -c flowtable)" = "$(cat /tmp/tables)" ]
done
