# A deny list of 50,000 networks comes and goes while somebody listens to the ruleset; an allow list of 2,000,
# too.
# timeout: 900
check "somebody is outside" make_peer
check "the daemon starts" start_daemon
check "somebody listens to the ruleset" listen_only
networks 50000 >/etc/mef/blacklist/list.conf
within 8192 "50,000 networks are denied" wait_for 150 in_force list.conf 50000
check "the first of them is" denied 60.0.0.1
check "the last of them is" denied 60.6.26.121
check "what lies between them is not" passes 60.6.26.125
networks 49999 | sed s/^60/61/ >/etc/mef/blacklist/list.conf
# Until the new ones are complete the previous are in force: both are 13 MB on Linux 6.1, and more on newer
# ones (limits.md).
within 15360 "49,999 others in their place" wait_for 150 in_force list.conf 49999
check "the new ones are" denied 61.0.0.1
check "the previous are not" passes 60.0.0.1
rm /etc/mef/blacklist/list.conf
within 8192 "they go" wait_for 60 passes 61.0.0.1
networks 2000 | sed s/^60/62/ >/etc/mef/whitelist/list.conf
within 8192 "2,000 networks are allowed" wait_for 60 in_force list.conf 2000
check "the daemon lives" kill -0 "$daemon"
