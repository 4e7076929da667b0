# shellcheck shell=sh disable=SC2016,SC2154
# What is done on each host, by the name of its stage. Run by dash as root of the host, not as a service;
# $home is its init system, and tests/homes/$home.sh may say:
#     revives=      nothing starts a daemon that was killed
#     mine=FILE     a file that set-up writes for it, and that the administrator changes
#     own           what else is done, when it is set up
#     units         what the init system itself says of the files that set-up has written for it
#     run_sshd      starts sshd with these options
export TERM=dumb
revives=1 mine=''
own() { :; }
units() { :; }
run_sshd() { /usr/sbin/sshd "$@"; }
# shellcheck source=/dev/null
. "/homes/$home.sh"
attacker=203.0.113.66 friend=198.51.100.7

# check TEXT COMMAND...: states that it succeeds.
check() {
    text=$1
    shift
    if "$@" >/tmp/said 2>&1; then echo "yes: $text"; else
        echo "NO: $text ($?: $*)"
        cat /tmp/said
        mef status | head -n 5
        tail -n 20 /var/log/*.log /var/log/*/current 2>/dev/null
        [ "$home" != systemd ] || journalctl -n 60
        exit 1
    fi
}
fails() { ! "$@"; }
wait_for() {
    count=0
    until "$@" >/dev/null 2>&1; do
        count=$((count + 1))
        [ $count -lt 600 ] || return 1
        sleep 0.1
    done
}

# tell VERB: start, stop, restart or reload the daemon, as its page says.
tell() { eval "$(sed -n "s/^| $1 | \`\(.*\)\` |\$/\1/p" "/homes/$home.md" | grep . || echo false)"; }

pid() { mef status --json | sed -n 's/.*"pid":\([0-9]*\).*/\1/p' | grep .; }
runs() { pid >/dev/null; }
protects() { mef status | head -n 1 | grep -qx protected; }
another() { now=$(pid) && [ "$now" != "$old" ]; }
banned() { mef bans | grep -qF "$1" && nft list set inet mef_guard ban4 | grep -qF "$1"; }
says() { grep -qF -- "$1" /tmp/out; }
to_do() { grep -E '^  (write|update|link|remove|run|end) ' /tmp/out; }
floods() { mef status | grep -q "^floods  *$1"; }
rules_hold() { nft list table inet mef | grep -q "dport $1"; }

# neighbours: an attacker and a friend, each behind a link of its own.
neighbours() {
    for name in attacker friend; do
        eval "addr=\$$name"
        ip netns add $name
        ip link add $name type veth peer name eth0 netns $name
        ip addr add "${addr%.*}.1/24" dev $name
        ip link set $name up
        ip -n $name addr add "$addr/24" dev eth0
        ip -n $name link set lo up
        ip -n $name link set eth0 up
    done
}

start_sshd() {
    [ -S /dev/log ] || { busybox syslogd -n -O /var/log/auth.log & }
    mkdir -p /run/sshd
    printf '%s\n' 'Port 22' 'HostKey /etc/ssh/host_key' 'PidFile none' 'UsePAM no' 'UseDNS no' \
        'Subsystem sftp internal-sftp' \
        >/run/sshd_config
    set --
    ! /usr/sbin/sshd -t -f /run/sshd_config -o PerSourcePenalties=no || set -- -o PerSourcePenalties=no
    wait_for test -S /dev/log
    run_sshd -f /run/sshd_config "$@"
}

# knock NAME: one log-in with a wrong password, each as somebody else.
knock() {
    eval "addr=\$$1"
    printf '#!/bin/sh\necho wrong\n' >/run/askpass
    chmod 755 /run/askpass
    SSH_ASKPASS=/run/askpass SSH_ASKPASS_REQUIRE=force DISPLAY=:0 \
        ip netns exec "$1" ssh -F none -l "user$count" \
        -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o PubkeyAuthentication=no \
        -o PreferredAuthentications=password -o NumberOfPasswordPrompts=1 -o ConnectTimeout=30 \
        "${addr%.*}.1" true </dev/null >/dev/null 2>&1
    true
}
# answered NAME: whether sshd answers; it does at once or never.
answered() {
    eval "addr=\$$1"
    ip netns exec "$1" timeout 10 busybox nc -w 2 "${addr%.*}.1" 22 </dev/null 2>/dev/null | grep -q '^SSH-'
}

before() {
    neighbours
    start_sshd
    # As a former version of the same would be found: with files of nobody else.
    check "no daemon runs" fails runs
}

set_up() {
    mef setup --dry-run >/tmp/out
    check "the plan says what would be watched" grep -q '^would be watched: .*sshd (' /tmp/out
    check "it has changed nothing" fails test -e /etc/mef
    mef setup --allow $friend >/tmp/out 2>&1 || { cat /tmp/out; exit 1; }
    check "it knows the init system" says "init system: $home ("
    check "it says what is watched" grep -q '^watched: .*sshd (' /tmp/out
    check "it says how to take it back" says "mef setup --remove"
    check "the daemon runs" wait_for runs
    attacked
    files_changed
    as_whom
    ended
    own
    upgraded
}

# As much of it as a machine needs that is booted once more.
installed() {
    began=$(date +%s)
    mef setup --allow $friend >/tmp/out 2>&1 || { cat /tmp/out; exit 1; }
    check "it knows the init system" says "init system: $home ("
    check "the daemon runs" wait_for runs
    mef setup --dry-run >/tmp/out
    check "it says what is watched" grep -q '^would be watched: .*sshd (' /tmp/out
    check "the verdict is that it protects" wait_for protects
    echo "NOTE: protected $(($(date +%s) - began)) seconds after the one command"
    units
    attacked
    printf 'policy dir=in action=accept\nrule dir=in action=drop proto=tcp dport=4711\n' >/etc/mef/mef.rules
    check "a rule set is loaded" mef load
    check "it is in force" rules_hold 4711
    old=$(pid)
    mef setup >/tmp/out 2>&1 || { cat /tmp/out; exit 1; }
    check "set up again it keeps my rule set" says "keep     /etc/mef/mef.rules: you changed it"
    check "nothing else is to be done" fails to_do
    check "it is the same daemon" test "$(pid)" = "$old"
}

# newcomer: who has read no more than the first commands of the README, and gives them from elsewhere, as they
# stand there: by ssh to a host that knows his key.
newcomer() {
    mkdir -p /root/.ssh /tmp/newcomer/target
    ssh-keygen -q -t ed25519 -N '' -f /tmp/newcomer/key
    cp /tmp/newcomer/key.pub /root/.ssh/authorized_keys
    mv /usr/local/sbin/mef /tmp/newcomer/target/mef
    awk '/^```/ { if (on++) exit; next } on' /homes/README.md >/tmp/newcomer/commands
    printf '%s\n' '#!/bin/sh' "exec /usr/bin/\${0##*/} -F /tmp/newcomer/config \"\$@\"" >/tmp/newcomer/ssh
    cp /tmp/newcomer/ssh /tmp/newcomer/scp
    chmod +x /tmp/newcomer/ssh /tmp/newcomer/scp
    printf '%s\n' 'Host host.example' "HostName ${friend%.*}.1" 'IdentityFile /tmp/newcomer/key' \
        'StrictHostKeyChecking accept-new' UserKnownHostsFile=/tmp/newcomer/known 'LogLevel error' \
        >/tmp/newcomer/config
    echo "NOTE: he says: $(tr '\n' ';' </tmp/newcomer/commands)"
    began=$(date +%s)
    check "his commands succeed" ip netns exec friend \
        sh -ec 'cd /tmp/newcomer; PATH=/tmp/newcomer:$PATH; . ./commands >/tmp/out 2>&1'
    echo "NOTE: $(grep '^init system' /tmp/out), $(grep -cx protected /tmp/out) verdict that it protects," \
        "$(($(date +%s) - began)) seconds after he began"
    check "the last one says that it protects" grep -qx protected /tmp/out
    echo "NOTE: $(grep '^watched: ' /tmp/out)"
    check "he has been told what is watched" grep -q '^watched: .*sshd (' /tmp/out
    check "and what is not watched" grep -q '^not watched: ' /tmp/out
    check "and how to take it back" says "mef setup --remove"
    attacked
}

attacked() {
    count=0
    until banned $attacker || [ $count = 12 ]; do
        knock attacker
        count=$((count + 1))
        sleep 0.1
    done
    check "sshd was attacked, and the attacker is banned" wait_for banned $attacker
    check "the attacker gets no answer" fails answered attacker
    count=0
    while [ $count -lt 8 ]; do knock friend; count=$((count + 1)); done
    check "a friend who fails as often is answered" answered friend
}

files_changed() {
    printf 'policy dir=in action=accept\nrule dir=in action=drop proto=tcp dport=4711\n' >/etc/mef/mef.rules
    check "a rule set is loaded" mef load
    check "it is in force" rules_hold 4711
    cp /etc/mef/mef.conf /etc/mef/mef.conf.good
    old=$(pid)
    check "floods are off" floods off
    sed -i 's/^\[global\]/[global]\nddos_enabled=true/' /etc/mef/mef.conf
    check "it reloads a good file" tell reload
    check "the new setting holds" fails floods off
    echo 'bantime=for a while' >>/etc/mef/mef.conf
    check "reloading a bad file fails" fails tell reload
    check "what held before holds" fails floods off
    check "it is the same daemon" test "$(pid)" = "$old"
    mv /etc/mef/mef.conf.good /etc/mef/mef.conf
    check "it reloads the file it had" tell reload
    check "the setting is as it was" floods off
}

# runs_as USER: whose process the daemon is, and whose its state.
runs_as() {
    state=/var/lib/mef
    [ "$home" != procd ] || state=/etc/mef/state
    [ "$(stat -c %U "/proc/$(pid)")" = "$1" ] && [ "$(stat -c %U "$state/lock")" = "$1" ]
}
as_whom() {
    check "it is a user of its own" wait_for runs_as mef
    old=$(pid)
    sed -i /^mef:/d /etc/passwd
    if [ "$home" = systemd ]; then
        mkdir -p /etc/systemd/system/mef.service.d
        printf '[Service]\nUser=root\n' >/etc/systemd/system/mef.service.d/root.conf
        systemctl daemon-reload
    fi
    check "without that user it is restarted" tell restart
    check "it runs" wait_for another
    check "it is root then" wait_for runs_as root
    check "the ban is known" banned $attacker
    rm -rf /etc/systemd/system/mef.service.d
    mef setup >/tmp/out 2>&1 || { cat /tmp/out; exit 1; }
    check "set up again it is a user of its own" wait_for runs_as mef
}

ended() {
    old=$(pid)
    kill -9 "$old"
    if [ "$revives" = 1 ]; then
        check "killed it comes back" wait_for another
    else
        check "killed it is started" tell start
        check "it runs" wait_for another
    fi
    check "the ban is there" banned $attacker
    check "it is stopped" tell stop
    check "it has ended" wait_for fails runs
    check "the ban is in force without it" fails answered attacker
    sleep 1
    check "it stays away" fails runs
    check "it is started" tell start
    check "it runs" wait_for runs
    old=$(pid)
    check "it is restarted" tell restart
    check "another one runs" wait_for another
}

upgraded() {
    [ -z "$mine" ] || echo '# mine' >>"$mine"
    cp /usr/local/sbin/mef /usr/local/sbin/mef.new
    mv /usr/local/sbin/mef.new /usr/local/sbin/mef
    # One file is as a former version wrote it.
    page=/usr/share/man/man8/mef.8
    echo '.\" of a former version' >>$page
    old=$(pid)
    mef setup --upgrade >/tmp/out 2>&1 || { cat /tmp/out; exit 1; }
    check "another daemon runs" wait_for another
    check "it is that of the new program" test "$(readlink "/proc/$(pid)/exe")" = /usr/local/sbin/mef
    [ -z "$mine" ] || check "my file is kept" says "keep     $mine: you changed it"
    [ -z "$mine" ] || check "it is as I left it" grep -q '^# mine' "$mine"
    [ -z "$mine" ] || check "the new one is beside it" test -e "$mine.new"
    check "the ban is there" banned $attacker
    [ -z "$mine" ] || mv "$mine.new" "$mine"
    mv $page.new $page
}

again() {
    check "the network met the rule set" grep -q 'dport 4711' /run/met
    check "the network met the ban" grep -qF $attacker /run/met
    check "the daemon runs" wait_for runs
    neighbours
    start_sshd
    check "the ban is there" banned $attacker
    check "the attacker gets no answer" fails answered attacker
    check "a friend is answered" answered friend
    mef setup >/tmp/out 2>&1 || { cat /tmp/out; exit 1; }
    check "set up again, nothing is to be done" fails to_do
}

removed() {
    mef setup --remove >/tmp/out 2>&1 || { cat /tmp/out; exit 1; }
    check "the daemon has ended" fails runs
    check "the ban is in force" fails answered attacker
    check "the configuration is there" test -s /etc/mef/mef.conf
    sleep 1
    check "it stays away" fails runs
    mef setup >/tmp/out 2>&1 || { cat /tmp/out; exit 1; }
    check "set up again it runs" wait_for runs
    check "the ban is known" banned $attacker
    mef setup --remove --purge >/tmp/out 2>&1 || { cat /tmp/out; exit 1; }
    check "purged it has ended" fails runs
    check "there are no tables of it" fails sh -c 'nft list tables | grep mef'
    check "there is nothing in /run" fails test -e /run/mef
    check "there is no log" fails sh -c 'ls -d /var/log/mef*'
    check "the attacker is answered" answered attacker
}

"$1"
