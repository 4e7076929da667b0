# fish completion for mef. Made by cross/completions.sh from mef's own help: do not edit.

function __mef_rules
    mef rules --json 2>/dev/null | string replace -rf '^\{"rule":"([^"]*)".*' '$1'
end

function __mef_banned
    mef bans --json 2>/dev/null | string replace -rf '^\{"address":"([^"]*)".*' '$1'
end

complete -c mef -f
complete -c mef -n '__fish_is_first_arg' -a help -d 'what a command does'
complete -c mef -n '__fish_is_first_arg' -a ban -d 'ban addresses, networks or ranges'
complete -c mef -n '__fish_seen_subcommand_from help' -a ban
complete -c mef -n '__fish_is_first_arg' -a unban -d 'end bans'
complete -c mef -n '__fish_seen_subcommand_from help' -a unban
complete -c mef -n '__fish_is_first_arg' -a bans -d 'list the bans in force'
complete -c mef -n '__fish_seen_subcommand_from help' -a bans
complete -c mef -n '__fish_is_first_arg' -a why -d 'say what becomes of an address, and why'
complete -c mef -n '__fish_seen_subcommand_from help' -a why
complete -c mef -n '__fish_is_first_arg' -a history -d 'list the bans and unbans of the past'
complete -c mef -n '__fish_seen_subcommand_from help' -a history
complete -c mef -n '__fish_is_first_arg' -a report -d 'count the bans of the past: by day, rule, network and address'
complete -c mef -n '__fish_seen_subcommand_from help' -a report
complete -c mef -n '__fish_is_first_arg' -a allow -d 'put addresses on the allow list'
complete -c mef -n '__fish_seen_subcommand_from help' -a allow
complete -c mef -n '__fish_is_first_arg' -a disallow -d 'take addresses off the allow list'
complete -c mef -n '__fish_seen_subcommand_from help' -a disallow
complete -c mef -n '__fish_is_first_arg' -a deny -d 'put addresses on the deny list'
complete -c mef -n '__fish_seen_subcommand_from help' -a deny
complete -c mef -n '__fish_is_first_arg' -a undeny -d 'take addresses off the deny list'
complete -c mef -n '__fish_seen_subcommand_from help' -a undeny
complete -c mef -n '__fish_is_first_arg' -a lists -d 'show what is in the allow and deny lists'
complete -c mef -n '__fish_seen_subcommand_from help' -a lists
complete -c mef -n '__fish_is_first_arg' -a daemon -d 'watch the logs and ban abusers'
complete -c mef -n '__fish_seen_subcommand_from help' -a daemon
complete -c mef -n '__fish_is_first_arg' -a reload -d 'make the daemon read its configuration again'
complete -c mef -n '__fish_seen_subcommand_from help' -a reload
complete -c mef -n '__fish_is_first_arg' -a status -d 'show what runs, what was counted and what is in force'
complete -c mef -n '__fish_seen_subcommand_from help' -a status
complete -c mef -n '__fish_is_first_arg' -a top -d 'watch offenders and rules, live'
complete -c mef -n '__fish_seen_subcommand_from help' -a top
complete -c mef -n '__fish_is_first_arg' -a watch -d 'follow the daemon\'s events: hits, bans, unbans'
complete -c mef -n '__fish_seen_subcommand_from help' -a watch
complete -c mef -n '__fish_is_first_arg' -a lookup -d 'ask DNSBLs about an address'
complete -c mef -n '__fish_seen_subcommand_from help' -a lookup
complete -c mef -n '__fish_is_first_arg' -a rules -d 'list the service rules, or show one as it is in force'
complete -c mef -n '__fish_seen_subcommand_from help' -a rules
complete -c mef -n '__fish_is_first_arg' -a test -d 'run a service rule over a log and show what it would do'
complete -c mef -n '__fish_seen_subcommand_from help' -a test
complete -c mef -n '__fish_is_first_arg' -a load -d 'put the rule set into the kernel'
complete -c mef -n '__fish_seen_subcommand_from help' -a load
complete -c mef -n '__fish_is_first_arg' -a confirm -d 'keep the rules that load --confirm has loaded'
complete -c mef -n '__fish_seen_subcommand_from help' -a confirm
complete -c mef -n '__fish_is_first_arg' -a unload -d 'take the rule set out of the kernel'
complete -c mef -n '__fish_seen_subcommand_from help' -a unload
complete -c mef -n '__fish_is_first_arg' -a check -d 'check rule set, configuration and service rules'
complete -c mef -n '__fish_seen_subcommand_from help' -a check
complete -c mef -n '__fish_is_first_arg' -a fmt -d 'show a rule set in canonical form'
complete -c mef -n '__fish_seen_subcommand_from help' -a fmt
complete -c mef -n '__fish_is_first_arg' -a diff -d 'show what loading the rule set would change'
complete -c mef -n '__fish_seen_subcommand_from help' -a diff
complete -c mef -n '__fish_is_first_arg' -a export -d 'show any program\'s rules as a rule set'
complete -c mef -n '__fish_seen_subcommand_from help' -a export
complete -c mef -n '__fish_is_first_arg' -a cloud -d 'share bans with others, or run the list of a community'
complete -c mef -n '__fish_seen_subcommand_from help' -a cloud
complete -c mef -n '__fish_is_first_arg' -a setup -d 'install mef on this host, or remove it'
complete -c mef -n '__fish_seen_subcommand_from help' -a setup
complete -c mef -n '__fish_is_first_arg' -a migrate -d 'take over the configuration of fail2ban, CSF or ufw'
complete -c mef -n '__fish_seen_subcommand_from help' -a migrate
complete -c mef -n '__fish_is_first_arg' -a import-filter -d 'make a service rule of a filter of fail2ban'
complete -c mef -n '__fish_seen_subcommand_from help' -a import-filter
complete -c mef -n '__fish_is_first_arg' -a version -d 'show version and licence'
complete -c mef -n '__fish_seen_subcommand_from help' -a version
complete -c mef -n '__fish_seen_subcommand_from ban' -l for -x -a '10m 1h 1d 7d 30d' -d 'how long: 90, 90s, 10m, 1h, 7d (default 1h)'
complete -c mef -n '__fish_seen_subcommand_from ban' -l permanent -d 'until it is lifted by hand'
complete -c mef -n '__fish_seen_subcommand_from ban' -l ports -x -d 'only these ports, tcp and udp: 22,25,1000-2000'
complete -c mef -n '__fish_seen_subcommand_from ban' -l reason -x -d 'shown by `mef bans`'
complete -c mef -n '__fish_seen_subcommand_from ban' -l force -d 'ban even protected addresses'
complete -c mef -n '__fish_seen_subcommand_from ban' -l json -d 'one JSON object per line'
complete -c mef -n '__fish_seen_subcommand_from ban' -l config -r -F -d 'path to mef.conf'
complete -c mef -n '__fish_seen_subcommand_from ban' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from unban' -a '(__mef_banned)'
complete -c mef -n '__fish_seen_subcommand_from unban' -l all -d 'end all bans that have an end'
complete -c mef -n '__fish_seen_subcommand_from unban' -l permanent -d 'with --all: end the permanent ones too'
complete -c mef -n '__fish_seen_subcommand_from unban' -l json -d 'one JSON object per line'
complete -c mef -n '__fish_seen_subcommand_from unban' -l config -r -F -d 'path to mef.conf'
complete -c mef -n '__fish_seen_subcommand_from unban' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from bans' -a '(__mef_banned)'
complete -c mef -n '__fish_seen_subcommand_from bans' -l json -d 'one JSON object per line'
complete -c mef -n '__fish_seen_subcommand_from bans' -l rule -x -a '(__mef_rules)' -d 'only those that this service rule made; manual for those by hand'
complete -c mef -n '__fish_seen_subcommand_from bans' -l permanent -d 'only those without an end'
complete -c mef -n '__fish_seen_subcommand_from bans' -l config -r -F -d 'path to mef.conf'
complete -c mef -n '__fish_seen_subcommand_from bans' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from why' -a '(__mef_banned)'
complete -c mef -n '__fish_seen_subcommand_from why' -l json -d 'one JSON object for each verdict, and one for each thing that it follows from'
complete -c mef -n '__fish_seen_subcommand_from why' -l config -r -F -d 'path to mef.conf'
complete -c mef -n '__fish_seen_subcommand_from why' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from history' -a '(__mef_banned)'
complete -c mef -n '__fish_seen_subcommand_from history' -l since -x -a '10m 1h 1d 7d 30d' -d 'only the last 30m, 12h, 7d, today (24h) or yesterday (48h)'
complete -c mef -n '__fish_seen_subcommand_from history' -l rule -x -a '(__mef_rules)' -d 'only bans by this service rule; manual for those by hand'
complete -c mef -n '__fish_seen_subcommand_from history' -l json -d 'one JSON object per line'
complete -c mef -n '__fish_seen_subcommand_from history' -l csv -d 'comma-separated values, with a first line of names'
complete -c mef -n '__fish_seen_subcommand_from history' -l config -r -F -d 'path to mef.conf'
complete -c mef -n '__fish_seen_subcommand_from history' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from report' -l since -x -a '10m 1h 1d 7d 30d' -d 'only the last 12h, 7d (the default), or today'
complete -c mef -n '__fish_seen_subcommand_from report' -l scope -x -a 'boot daemon lifetime' -d 'boot, daemon (since it was started) or lifetime (everything)'
complete -c mef -n '__fish_seen_subcommand_from report' -l top-ports -x -d 'how many ports to show (10)'
complete -c mef -n '__fish_seen_subcommand_from report' -l top-sources -x -d 'how many addresses and networks to show (10)'
complete -c mef -n '__fish_seen_subcommand_from report' -l json -d 'one JSON object'
complete -c mef -n '__fish_seen_subcommand_from report' -l html -r -F -d 'write one page that needs nothing else; - is standard output'
complete -c mef -n '__fish_seen_subcommand_from report' -l log -r -F -d 'read this ban log, and those rotated from it, alone'
complete -c mef -n '__fish_seen_subcommand_from report' -l config -r -F -d 'path to mef.conf'
complete -c mef -n '__fish_seen_subcommand_from report' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from allow' -l for -x -a '10m 1h 1d 7d 30d' -d 'only for allow: how long: 90s, 10m, 1h, 7d (default: for good)'
complete -c mef -n '__fish_seen_subcommand_from allow' -l force -d 'deny: also protected or allowed addresses, and large networks; allow: a host name may lead to private addresses'
complete -c mef -n '__fish_seen_subcommand_from allow' -l json -d 'one JSON object per line'
complete -c mef -n '__fish_seen_subcommand_from allow' -l config -r -F -d 'path to mef.conf'
complete -c mef -n '__fish_seen_subcommand_from allow' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from disallow' -l json -d 'one JSON object per line'
complete -c mef -n '__fish_seen_subcommand_from disallow' -l config -r -F -d 'path to mef.conf'
complete -c mef -n '__fish_seen_subcommand_from disallow' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from deny' -l for -x -a '10m 1h 1d 7d 30d' -d 'only for allow: how long: 90s, 10m, 1h, 7d (default: for good)'
complete -c mef -n '__fish_seen_subcommand_from deny' -l force -d 'deny: also protected or allowed addresses, and large networks; allow: a host name may lead to private addresses'
complete -c mef -n '__fish_seen_subcommand_from deny' -l json -d 'one JSON object per line'
complete -c mef -n '__fish_seen_subcommand_from deny' -l config -r -F -d 'path to mef.conf'
complete -c mef -n '__fish_seen_subcommand_from deny' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from undeny' -l json -d 'one JSON object per line'
complete -c mef -n '__fish_seen_subcommand_from undeny' -l config -r -F -d 'path to mef.conf'
complete -c mef -n '__fish_seen_subcommand_from undeny' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from lists' -l drop -r -F -d 'end what this list, by name or path, left in force when it was refused or cut off'
complete -c mef -n '__fish_seen_subcommand_from lists' -l json -d 'one JSON object per line'
complete -c mef -n '__fish_seen_subcommand_from lists' -l config -r -F -d 'path to mef.conf'
complete -c mef -n '__fish_seen_subcommand_from lists' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from daemon' -l config -r -F -d 'path to mef.conf'
complete -c mef -n '__fish_seen_subcommand_from daemon' -l foreground -d 'stay in the foreground, for a supervisor'
complete -c mef -n '__fish_seen_subcommand_from daemon' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from reload' -l json -d 'print a JSON object'
complete -c mef -n '__fish_seen_subcommand_from reload' -l config -r -F -d 'path to mef.conf'
complete -c mef -n '__fish_seen_subcommand_from reload' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from status' -l json -d 'one JSON object, then one for each rule'
complete -c mef -n '__fish_seen_subcommand_from status' -l prometheus -d 'the text format of Prometheus'
complete -c mef -n '__fish_seen_subcommand_from status' -l all -d 'also counters that are zero, and service rules that are off'
complete -c mef -n '__fish_seen_subcommand_from status' -l config -r -F -d 'path to mef.conf'
complete -c mef -n '__fish_seen_subcommand_from status' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from top' -l once -d 'show it once and end'
complete -c mef -n '__fish_seen_subcommand_from top' -l json -d 'print offenders, one JSON object per line, and end'
complete -c mef -n '__fish_seen_subcommand_from top' -l config -r -F -d 'path to mef.conf'
complete -c mef -n '__fish_seen_subcommand_from top' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from watch' -l rule -x -a '(__mef_rules)' -d 'only events of this service rule, manual for bans by hand; those of no rule, as unban, are left out'
complete -c mef -n '__fish_seen_subcommand_from watch' -l kind -x -d 'only these kinds of events'
complete -c mef -n '__fish_seen_subcommand_from watch' -l json -d 'one JSON object per line'
complete -c mef -n '__fish_seen_subcommand_from watch' -l config -r -F -d 'path to mef.conf'
complete -c mef -n '__fish_seen_subcommand_from watch' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from lookup' -l force -d 'also ask about addresses that are never banned'
complete -c mef -n '__fish_seen_subcommand_from lookup' -l json -d 'one JSON object for each list'
complete -c mef -n '__fish_seen_subcommand_from lookup' -l config -r -F -d 'path to mef.conf'
complete -c mef -n '__fish_seen_subcommand_from lookup' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from rules' -a '(__mef_rules)'
complete -c mef -n '__fish_seen_subcommand_from rules' -l json -d 'one JSON object per line'
complete -c mef -n '__fish_seen_subcommand_from rules' -l config -r -F -d 'path to mef.conf'
complete -c mef -n '__fish_seen_subcommand_from rules' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from test' -a '(__mef_rules)' -F
complete -c mef -n '__fish_seen_subcommand_from test' -l hits -d 'print the number and the address of every line that hits'
complete -c mef -n '__fish_seen_subcommand_from test' -l json -d 'one JSON object per line: each ban, then the summary'
complete -c mef -n '__fish_seen_subcommand_from test' -l journal -d 'read this machine\'s journal instead of files'
complete -c mef -n '__fish_seen_subcommand_from test' -l since -x -a '10m 1h 1d 7d 30d' -d 'how far back in the journal (default: 1d)'
complete -c mef -n '__fish_seen_subcommand_from test' -l self -d 'run the examples inside every service rule'
complete -c mef -n '__fish_seen_subcommand_from test' -l rules-dir -r -F -d 'where the rules are (default: rules_dir of mef.conf)'
complete -c mef -n '__fish_seen_subcommand_from test' -l config -r -F -d 'path to mef.conf'
complete -c mef -n '__fish_seen_subcommand_from test' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from load' -F
complete -c mef -n '__fish_seen_subcommand_from load' -l check -d 'only say what is wrong with it'
complete -c mef -n '__fish_seen_subcommand_from load' -l json -d 'print a JSON object'
complete -c mef -n '__fish_seen_subcommand_from load' -l confirm -x -a '10m 1h 1d 7d 30d' -d 'how long the rules are pending confirmation, such as 30s: then the previous ones return, unless you type yes or `mef confirm` is run'
complete -c mef -n '__fish_seen_subcommand_from load' -l force -d 'load a rule set that is known to cut off the SSH session that this command runs in'
complete -c mef -n '__fish_seen_subcommand_from load' -l boot -d 'at boot: put the bans back, too; and if nobody has confirmed the rules of the last trial, load those that were confirmed last instead'
complete -c mef -n '__fish_seen_subcommand_from load' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from confirm' -l json -d 'print a JSON object'
complete -c mef -n '__fish_seen_subcommand_from confirm' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from unload' -l all -d 'also the table of bans, with the deny lists and guards in it; a daemon that runs makes it again'
complete -c mef -n '__fish_seen_subcommand_from unload' -l json -d 'print a JSON object'
complete -c mef -n '__fish_seen_subcommand_from unload' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from check' -F
complete -c mef -n '__fish_seen_subcommand_from check' -l json -d 'one JSON object for each problem, and one for each thing that was checked'
complete -c mef -n '__fish_seen_subcommand_from check' -l config -r -F -d 'path to mef.conf'
complete -c mef -n '__fish_seen_subcommand_from check' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from fmt' -F
complete -c mef -n '__fish_seen_subcommand_from fmt' -l write -d 'write it back into the file'
complete -c mef -n '__fish_seen_subcommand_from fmt' -l v1 -d 'without keys that MEF does not know, so that it can still read the file'
complete -c mef -n '__fish_seen_subcommand_from fmt' -l json -d 'print a JSON object'
complete -c mef -n '__fish_seen_subcommand_from fmt' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from diff' -F
complete -c mef -n '__fish_seen_subcommand_from diff' -l json -d 'one JSON object per line'
complete -c mef -n '__fish_seen_subcommand_from diff' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from export' -l family -x -a 'inet ip ip6 arp bridge netdev' -d 'only tables of this family: inet, ip, ip6, arp, bridge or netdev'
complete -c mef -n '__fish_seen_subcommand_from export' -l table -x -d 'only tables of this name'
complete -c mef -n '__fish_seen_subcommand_from export' -l json -d 'one JSON object per line'
complete -c mef -n '__fish_seen_subcommand_from export' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from cloud' -l group -x -d 'who runs a new member: members of one group count as one'
complete -c mef -n '__fish_seen_subcommand_from cloud' -l own -x -d 'a new member\'s own address or network, never listed; may be repeated'
complete -c mef -n '__fish_seen_subcommand_from cloud' -l server -x -d 'the server of a new cloud: an address, with a port if it is not 53'
complete -c mef -n '__fish_seen_subcommand_from cloud' -l dry-run -d 'only show what would be changed, and why'
complete -c mef -n '__fish_seen_subcommand_from cloud' -l json -d 'JSON objects'
complete -c mef -n '__fish_seen_subcommand_from cloud' -l operator -r -F -d 'path to cloud.conf'
complete -c mef -n '__fish_seen_subcommand_from cloud' -l config -r -F -d 'path to mef.conf'
complete -c mef -n '__fish_seen_subcommand_from cloud' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from setup' -l init -x -a 'auto systemd openrc runit s6 procd sysvinit busybox none' -d 'the init system: auto, systemd, openrc, runit, s6, procd, sysvinit, busybox, none'
complete -c mef -n '__fish_seen_subcommand_from setup' -l root -r -F -d 'set up a tree that does not run, such as an image'
complete -c mef -n '__fish_seen_subcommand_from setup' -l dry-run -d 'only say what would be done'
complete -c mef -n '__fish_seen_subcommand_from setup' -l no-start -d 'do not start the daemon'
complete -c mef -n '__fish_seen_subcommand_from setup' -l allow -x -d 'put an address or network on the allow list; may be repeated'
complete -c mef -n '__fish_seen_subcommand_from setup' -l load -d 'load the rule set and wait 60s for its confirmation; in an image, at its first boot'
complete -c mef -n '__fish_seen_subcommand_from setup' -l upgrade -d 'write the files of a new version, and restart the daemon'
complete -c mef -n '__fish_seen_subcommand_from setup' -l remove -d 'remove what starts it; configuration and bans stay'
complete -c mef -n '__fish_seen_subcommand_from setup' -l json -d 'one JSON object per line'
complete -c mef -n '__fish_seen_subcommand_from setup' -l purge -d 'with --remove: also configuration, bans, lists and rule set'
complete -c mef -n '__fish_seen_subcommand_from setup' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from migrate' -l root -r -F -d 'read from a tree that does not run, and write into it'
complete -c mef -n '__fish_seen_subcommand_from migrate' -l write -d 'write the files, and make the bans'
complete -c mef -n '__fish_seen_subcommand_from migrate' -l json -d 'JSON objects'
complete -c mef -n '__fish_seen_subcommand_from migrate' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from import-filter' -F
complete -c mef -n '__fish_seen_subcommand_from import-filter' -l jail -r -F -d 'a file with a jail: its limits, ports and files'
complete -c mef -n '__fish_seen_subcommand_from import-filter' -l json -d 'one JSON object for each filter'
complete -c mef -n '__fish_seen_subcommand_from import-filter' -l help -d 'display usage information'
complete -c mef -n '__fish_seen_subcommand_from version' -l verbose -d 'also what this kernel can do'
complete -c mef -n '__fish_seen_subcommand_from version' -l json -d 'one JSON object per line'
complete -c mef -n '__fish_seen_subcommand_from version' -l help -d 'display usage information'
