#!/usr/bin/env bash
# The daemons: memory, sleep, and how soon they ban. All of them run at the same time, each with a log of its
# own.
source "$(dirname "$0")/lib.sh"
here=$work/daemon
idle=$(quick_or 2 60) bans=$(quick_or 5 100)

# What is watched lies where nobody else makes files: the directories above a log are watched as well, and a
# busy /tmp is not idle. The state stays on a disk.
quiet=/mnt
mount -t tmpfs -o mode=0700 mef-bench "$quiet"
configure "$quiet/mef" "$quiet/mef.lines"
mkdir "$here/state"
printf '%s\n' "state_dir=$here/state" max_bans_per_minute=1000000 >>"$quiet/mef/mef.conf"
: >"$quiet/mef.lines"
mef=("$MEF_BIN" daemon --foreground --config "$quiet/mef/mef.conf")

# fail2ban with one jail and the backend that it chooses; its own database is left out.
fail2ban=(fail2ban-server -f -x -c "$here/fail2ban" -s "$here/fail2ban.sock" -p "$here/fail2ban.pid" start)
configure_fail2ban() {
    there fail2ban-server || return 1
    cp -r /etc/fail2ban "$here/fail2ban"
    rm -f "$here"/fail2ban/{jail,fail2ban}.d/*
    printf '%s\n' '[Definition]' "logtarget=$here/fail2ban.log" "socket=$here/fail2ban.sock" \
        "pidfile=$here/fail2ban.pid" 'dbfile=None' >"$here/fail2ban/fail2ban.local"
    printf '%s\n' '[DEFAULT]' 'banaction=nftables-allports' 'banaction_allports=nftables-allports' \
        'ignoreself=false' 'ignoreip=' 'usedns=no' 'maxretry=5' 'findtime=1h' 'bantime=1h' \
        '[sshd]' 'enabled=true' 'backend=auto' "logpath=$quiet/fail2ban.lines" >"$here/fail2ban/jail.local"
    : >"$quiet/fail2ban.lines"
}

# sshguard's pipeline, as its own script makes it.
sshguard=/usr/libexec/sshguard
run_sshguard() {
    : >"$quiet/sshguard.lines"
    "$sshguard/sshg-logtail" "$quiet/sshguard.lines" | "$sshguard/sshg-parser" |
        "$sshguard/sshg-blocker" -a 30 -p 3600 -s 3600 | "$sshguard/sshg-fw-nft-sets"
}

# switches PID...: context switches so far, of all their threads.
switches() {
    local pid files=()
    for pid; do files+=(/proc/"$pid"/task/*/status); done
    cat "${files[@]}" | awk '/ctxt_switches/ { n += $2 } END { print n }'
}

# memory Rss|Pss PID...: kB.
memory() {
    local field=$1 pid files=()
    shift
    for pid; do files+=(/proc/"$pid"/smaps_rollup); done
    cat "${files[@]}" | awk -v field="$field:" '$1 == field { kb += $2 } END { print kb }'
}

# Start of the daemon to a ban: they are attacked all the while.
figure "12 start of the daemon to its first ban" "5 ms" us less \
    "$("$MEF_BENCH" start "$quiet/mef.lines" --first 100000 -- "${mef[@]}")"
has_fail2ban=
if configure_fail2ban; then has_fail2ban=yes; fi
peer "fail2ban" \
    "$([ -z "$has_fail2ban" ] || maybe "$MEF_BENCH" start "$quiet/fail2ban.lines" --first 100000 -- "${fail2ban[@]}")"
rm -rf "$here"/state/*
: >"$quiet/mef.lines"
nft flush ruleset

"${mef[@]}" >"$here/mef.out" 2>&1 &
mef_pid=$!
fail2ban_pid='' sshguard_pids=()
if [ -n "$has_fail2ban" ]; then
    : >"$quiet/fail2ban.lines"
    "${fail2ban[@]}" >"$here/fail2ban.out" 2>&1 &
    fail2ban_pid=$!
fi
if [ -x "$sshguard/sshg-blocker" ]; then
    export -f run_sshguard
    export quiet sshguard
    setsid bash -c run_sshguard >"$here/sshguard.out" 2>&1 &
    sshguard_leader=$!
fi
sleep 3
# The one that reads for it is its child.
read -ra mef_pids <"/proc/$mef_pid/task/$mef_pid/children" || true
mef_pids+=("$mef_pid")
[ -z "${sshguard_leader:-}" ] || mapfile -t sshguard_pids < <(pgrep -g "$sshguard_leader")
backend=$([ -z "$has_fail2ban" ] || sed -n "s/.*Initiated '\(.*\)' backend.*/\1/p" "$here/fail2ban.log" |
    tail -n 1)

figure "3 daemon, idle: PSS of both processes" "320 kB" kB less "$(memory Pss "${mef_pids[@]}")"
peer "fail2ban" "$([ -z "$fail2ban_pid" ] || memory Rss "$fail2ban_pid")"
peer "sshguard (PSS of ${#sshguard_pids[@]} processes)" \
    "$([ ${#sshguard_pids[@]} = 0 ] || memory Pss "${sshguard_pids[@]}")"

before=("$(switches "${mef_pids[@]}")" "$(maybe switches $fail2ban_pid)" \
    "$(maybe switches "${sshguard_pids[@]}")")
sleep "$idle"
after=("$(switches "${mef_pids[@]}")" "$(maybe switches $fail2ban_pid)" \
    "$(maybe switches "${sshguard_pids[@]}")")
figure "7 idle for $idle s: context switches" "0" '' less $((after[0] - before[0]))
peer "fail2ban ($backend)" "$([ -z "$fail2ban_pid" ] || echo $((after[1] - before[1])))"
peer "sshguard" "$([ ${#sshguard_pids[@]} = 0 ] || echo $((after[2] - before[2])))"

# Deciding line to element. What is done behind the ban does not count. sshguard bans at the third line.
took=$(chrt -f 1 "$MEF_BENCH" latency "$quiet/mef.lines" --bans "$bans")
read -rd '' -a mef_took <<<"$took" || :
fail2ban_took=() sshguard_took=()
if [ -n "$fail2ban_pid" ]; then
    took=$(maybe chrt -f 1 "$MEF_BENCH" latency "$quiet/fail2ban.lines" --bans "$bans" --pause 1000)
    read -rd '' -a fail2ban_took <<<"$took" || :
fi
if [ ${#sshguard_pids[@]} != 0 ]; then
    took=$(maybe chrt -f 1 "$MEF_BENCH" latency "$quiet/sshguard.lines" --bans "$bans" --lines 3)
    read -rd '' -a sshguard_took <<<"$took" || :
fi
figure "5 deciding line to element: median of $bans" "0.15 ms" us less "${mef_took[0]:-}"
peer "fail2ban ($backend)" "${fail2ban_took[0]:-}"
peer "sshguard" "${sshguard_took[0]:-}"
figure "   95 %" "1 ms" us less "${mef_took[1]:-}"
peer "fail2ban ($backend)" "${fail2ban_took[1]:-}"
peer "sshguard" "${sshguard_took[1]:-}"

# Bans a second: a log in which every address fails often enough, written at once.
crowd=$(quick_or 500 20000) small_crowd=$(quick_or 10 300)
figure "10 bans/s from a log" "50,000" /s more \
    "$("$MEF_BENCH" rate "$quiet/mef.lines" --bans "$crowd" --first 20000)"
peer "fail2ban ($small_crowd bans)" \
    "$([ -z "$fail2ban_pid" ] || maybe "$MEF_BENCH" rate "$quiet/fail2ban.lines" --bans "$small_crowd" --first 20000)"
peer "sshguard ($small_crowd bans)" \
    "$([ ${#sshguard_pids[@]} = 0 ] || maybe "$MEF_BENCH" rate "$quiet/sshguard.lines" --bans "$small_crowd" --lines 3 --first 20000)"
figure "3 daemon, after $(shown '' "$crowd") bans: PSS" "600 kB" kB less "$(memory Pss "${mef_pids[@]}")"
peer "fail2ban, after $((bans + small_crowd)) bans" "$([ -z "$fail2ban_pid" ] || memory Rss "$fail2ban_pid")"
