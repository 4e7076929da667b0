# shellcheck shell=sh
# Loads the rule set before the network is up.
if [ -e /etc/mef/mef.rules ]; then
    /usr/sbin/mef load --boot
    mkdir -p /run/mef && : >/run/mef/rules-loaded
fi
