# Frames of connections between ports of a bridge: ct= and conns= of dir=bridge, where the kernel tracks what
# bridges forward; and what is said where it does not.
# timeout: 600
for side in left right; do
    ip netns add "$side"
    ip link add "to-$side" type veth peer name e0 netns "$side"
    ip -n "$side" link set e0 up
    ip -n "$side" link set lo up
done
ip link add br0 type bridge
ip link set to-left master br0
ip link set to-right master br0
for link in to-left to-right br0; do ip link set "$link" up; done
ip -n left addr add 10.1.0.2/24 dev e0
ip -n right addr add 10.1.0.3/24 dev e0

cat >/tmp/frames.rules <<'RULES'
policy dir=bridge action=drop
rule dir=bridge action=accept proto=all ether=arp
rule dir=bridge action=accept proto=all ct=established,related
rule dir=bridge action=drop proto=all ct=invalid
rule dir=bridge action=accept proto=tcp iif=to-left dport=80 ct=new
rule dir=bridge action=accept proto=tcp iif=to-right dport=81 ct=new conns=1/src
RULES

# answers SIDE PORT: somebody there sends a line to whoever connects, again and again.
answers() {
    (while ip netns exec "$1" nc -l -p "$2" -e echo here; do :; done) >/dev/null 2>&1 &
    wait_for 20 listens "$1" "$2"
}
listens() { ip netns exec "$1" grep -q ":$(printf %04X "$2") 0*:0000 0A" /proc/net/tcp; }
# asks SIDE ADDRESS PORT: the line comes.
asks() { ip netns exec "$1" timeout 5 nc "$2" "$3" </dev/null 2>/dev/null | grep -q here; }

answers right 80
answers left 80
check "without rules both sides reach each other" asks left 10.1.0.3 80
check "in both directions" asks right 10.1.0.2 80

if mef load /tmp/frames.rules 2>/tmp/refused; then
    pass "the kernel has loaded what tracks bridges by itself"
else
    check "a kernel that does not track bridges says which module does" \
        grep -q nf_conntrack_bridge /tmp/refused
    check "the module is there" modprobe nf_conntrack_bridge
    check "then the rules are loaded" mef load /tmp/frames.rules
fi
check "nothing differs" mef diff /tmp/frames.rules
check "nft lists the states" sh -c "nft list table bridge mef | grep -q 'ct state established,related'"
check "a connection from the left passes, and its answers do" asks left 10.1.0.3 80
check "the rule of answers has counted" sh -c \
    "nft list table bridge mef | grep -q 'established.* packets [1-9]'"
if asks right 10.1.0.2 80; then fail "one from the right passes"; else pass "one from the right does not"; fi
check "the bridge tracks them" grep -q 'src=10.1.0.2 dst=10.1.0.3' /proc/net/nf_conntrack

# A connection that stays open leaves no room for another one from there.
mkfifo /tmp/silence
exec 9<>/tmp/silence
ip netns exec left nc -l -p 81 <&9 >/dev/null &
wait_for 20 listens left 81
ip netns exec right nc 10.1.0.2 81 <&9 >/dev/null &
wait_for 20 grep -q 'ESTABLISHED src=10.1.0.3 dst=10.1.0.2 .*dport=81' /proc/net/nf_conntrack
pass "one connection from the right passes at port 81"
ip netns exec left nc -l -p 81 -e echo here >/dev/null 2>&1 &
wait_for 20 listens left 81
if asks right 10.1.0.2 81; then fail "a second one passes"; else pass "a second one does not"; fi

check "the rules go" mef unload
check "then everything passes" asks right 10.1.0.2 80
