//! What `mefctl help` says.

pub(super) const HELP: &str = "\
mefctl: the command language of MEF, carried out by mef

Usage: mefctl WORD …

  rules apply [--timeout 30s] [--yes] [FILE]   load the rule set; without --yes it goes again by
                                               itself unless you type yes in time   (mef load)
  rules validate [FILE]                        say what is wrong with it    (mef load --check)
  rules fmt [--write] [--out FILE] [FILE]      its canonical form                    (mef fmt)
  rules clear [--all [--force]]                take it out of the kernel; with --all end the
                                               bans, too                          (mef unload)
  rules migrate [--write] [--out FILE] [--family F] [--table T]
                                               rules of the kernel as a rule set  (mef export)
  bans list [--permanent] [--ddos] [--all] [--fastpath] [--ips-only] [--verbose]
        [--format text|json]
  bans add IP[/LEN] [--timeout 1h] [--ports 22,25] [--permanent] [--force]   (mef ban, deny)
  bans delete IP[/LEN] [--ports 22,25] [--permanent] [--ddos] [--all]    (mef unban, undeny)
  bans clear [--ddos] [--all]                  those with an end; the flood throttle with --ddos
                                               alone, with --all both      (mef unban --all)
  lists whitelist|blacklist|recidive           entries of the lists; who was banned how often
  config check [FILE]                          what mef.conf says                  (mef check)
  config update [--dry-run] [FILE]             write out the defaults of missing keys
  config show [FILE]                           every key with its value
  stats [--window 24h] [--scope boot|daemon|lifetime] [--top-ports N] [--top-sources N]
        [--format text|json] [--log-path FILE]  attacks of the past                (mef report)
  status [--verbose] [fastpath]                what runs and what is in force     (mef status)
  fix check|all                                say what is wrong; bring the set-up up to date, and
                                               have the ban log rotated
  start|stop|restart|reload mef|mefdaemon      by the init system that runs
  enable|disable [mef|mefdaemon]               likewise; both if none is named
  update [check]                               how this installation is updated
  version

Every command of mef is one of mefctl, too: mefctl confirm. mef is the rule set, loaded at boot;
mefdaemon bans. FILE is /etc/mef/mef.rules, or /etc/mef/mef.conf behind config.
Example: mefctl bans add 192.0.2.7 --timeout 1h
Exit status: 0 done, 1 failed or something was found wrong, 2 wrong usage.
";
