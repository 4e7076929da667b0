# shellcheck shell=sh
# Loads the rule set and puts the bans back before the network is up.
/usr/sbin/mef load --boot
mkdir -p /run/mef/rules-loaded
