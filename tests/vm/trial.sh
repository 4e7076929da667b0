# The plug is pulled while rules are pending confirmation, and everything is killed that knows of the trial:
# what was confirmed last is in force afterwards, and nothing that nobody confirmed. Rule set N drops who
# comes from 20.0.0.N.
# boots: 5
# timeout: 600

# rules N: is the rule set of this host from now on, also on its disk.
rules() {
    printf 'policy dir=in action=accept\nrule dir=in action=drop proto=all src=20.0.0.%s\n' "$1" \
        >/etc/mef/mef.rules
    sync
}

# only N: rule set N is in force and no other one; 0 = none.
only() {
    for number in 1 2 3 4; do
        if [ "$number" = "$1" ]; then denied "20.0.0.$number"; else passes "20.0.0.$number"; fi || return 1
    done
}

# on_trial TIME N: rule set N comes into force, unconfirmed.
on_trial() {
    rules "$2"
    mef load --confirm "$1" </dev/null >/tmp/trial 2>&1 &
    wait_for 20 denied "20.0.0.$2"
}

# killed: whoever knows of the trial is gone, and what they have left in run_dir.
# shellcheck disable=SC2046
killed() { kill -9 $(pidof mef) && rm -rf /run/mef && ! pidof mef; }

check "somebody is outside" make_peer
case $boot in
    1)
        check "rules are pending confirmation, and none was ever confirmed" on_trial 10m 1
        power_off
        ;;
    2)
        refuse "at the boot nothing is loaded" "confirmed" mef load --boot
        check "nobody is dropped" only 0
        rules 2
        check "rules are loaded without a trial" mef load
        check "others are pending confirmation" on_trial 10m 3
        power_off
        ;;
    3)
        check "at the boot those are loaded that were confirmed last" mef load --boot
        check "they alone are in force" only 2
        check "the others are pending confirmation once more" on_trial 10m 3
        check "and are confirmed" mef confirm
        power_off
        ;;
    4)
        check "at the boot something is loaded" mef load --boot
        check "what was confirmed is in force" only 3
        check "others are pending confirmation" on_trial 20s 4
        check "the loader and its watcher are killed, and run_dir is removed" killed
        check "their rules are still pending confirmation" only 4
        sleep 20
        check "the kernel ends the trial by itself" only 3
        check "they are pending confirmation once more" on_trial 10m 4
        check "all is killed again" killed
        power_off
        ;;
    5)
        check "at the boot something is loaded after that, too" mef load --boot
        check "what was confirmed is in force as before" only 3
        check "the file is loaded when somebody wants it" mef load
        check "it is in force then" only 4
        ;;
esac
