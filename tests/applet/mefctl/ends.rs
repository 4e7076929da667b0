//! Every word of the command language with each of its exit statuses: done, refused, a wrong word; without a
//! daemon, and without the rights. What each of them does has tests of its own.

use super::{RULES, command, host, mefctl};
use crate::common::{Net, Output, mef_binary};
use std::fs;
use std::os::unix::fs::symlink;

/// Words, and how they end for root and for somebody else, on a host without a daemon.
type Ends = (&'static str, i32, i32);

/// In this order: a line finds what those before it have made.
const WORDS: &[Ends] = &[
    ("", 2, 2),
    ("help", 0, 0),
    ("version", 0, 0),
    ("version now", 2, 2),
    ("--version", 0, 0),
    ("-v", 0, 0),
    ("update", 1, 1),
    ("update check", 0, 0),
    ("update --force --version 1.0.9", 1, 1),
    ("update now", 2, 2),
    ("rules", 2, 2),
    ("rules validate", 0, 0),
    ("rules validate /etc/mef/mef.rules", 0, 0),
    ("rules validate /etc/mef/bad.rules", 1, 1),
    ("rules validate /nowhere", 1, 1),
    ("rules validate --yes", 2, 2),
    ("rules fmt", 0, 0),
    ("rules fmt --out /etc/mef/new.rules", 0, 1),
    ("rules fmt --write", 0, 1),
    ("rules fmt /etc/mef/bad.rules", 1, 1),
    ("rules fmt --out", 2, 2),
    ("rules apply --yes", 0, 1),
    ("rules apply --yes /etc/mef/mef.rules", 0, 1),
    ("rules apply --yes /etc/mef/bad.rules", 1, 1),
    ("rules apply --timeout 1s", 1, 1),
    ("rules apply --timeout soon", 2, 2),
    ("rules apply --all", 2, 2),
    ("rules migrate", 0, 1),
    ("rules migrate --family ip6 --out /etc/mef/out.rules", 0, 1),
    ("rules migrate --write", 0, 1),
    ("rules migrate --family ipx", 2, 2),
    ("rules migrate --table none", 1, 1),
    ("rules clear", 0, 1),
    ("rules clear", 0, 1),
    ("rules clear --all", 1, 1),
    ("rules clear --all --force", 0, 1),
    ("rules clear now", 2, 2),
    ("bans", 2, 2),
    ("bans add 192.0.2.1", 0, 1),
    ("bans add 192.0.2.2 --timeout 1h --ports 22,25", 0, 1),
    ("bans add 192.0.2.3 --timeout 90s --ports all", 0, 1),
    ("bans add 198.51.100.0/24 --permanent", 0, 1),
    ("bans add 192.0.2.4 --permanent --ports 25", 0, 1),
    ("bans add 203.0.113.9", 1, 1),
    ("bans add 203.0.113.0/25 --permanent", 1, 1),
    ("bans add nobody", 1, 1),
    ("bans add", 2, 2),
    ("bans add 192.0.2.5 --timeout never", 2, 2),
    ("bans add 192.0.2.5 --ports ssh", 2, 2),
    ("bans add 192.0.2.5 --permanent --timeout 1h", 2, 2),
    ("bans list", 0, 1),
    ("bans list --permanent", 0, 1),
    ("bans list --ddos", 0, 1),
    ("bans list --all --verbose", 0, 1),
    ("bans list --fastpath", 0, 1),
    ("bans list --ips-only", 0, 1),
    ("bans list --format json", 0, 1),
    ("bans list --format xml", 2, 2),
    ("bans list --ddos --permanent", 2, 2),
    ("bans list 192.0.2.1", 2, 2),
    ("bans delete 192.0.2.1", 0, 1),
    ("bans delete 192.0.2.1", 1, 1),
    ("bans delete 192.0.2.2 --ports 22,25", 0, 1),
    ("bans unban 192.0.2.3", 0, 1),
    ("bans delete 192.0.2.4", 1, 1),
    ("bans delete 192.0.2.4 --permanent", 0, 1),
    ("bans delete 198.51.100.0/24 --all", 0, 1),
    ("bans delete 192.0.2.9 --ddos", 1, 1),
    ("bans delete", 2, 2),
    ("bans delete 192.0.2.1 --all --ddos", 2, 2),
    ("bans clear", 0, 1),
    ("bans clear --all", 0, 1),
    ("bans clear --ddos", 0, 1),
    ("bans clear --permanent", 2, 2),
    ("lists whitelist", 0, 0),
    ("lists blacklist", 0, 1),
    ("lists recidive", 0, 1),
    ("lists", 2, 2),
    ("lists whitelist all", 2, 2),
    ("config check", 0, 0),
    ("config check /etc/mef/bad.conf", 1, 1),
    ("config check /nowhere", 1, 1),
    ("config update --dry-run", 0, 0),
    ("config update", 0, 1),
    ("config update --force", 0, 0),
    ("config update --all", 2, 2),
    ("config show", 0, 0),
    ("config show /nowhere", 1, 1),
    ("config see", 2, 2),
    ("stats", 0, 0),
    ("stats --window 14d --top-ports 3 --top-sources 3 --format json", 0, 0),
    ("stats --scope boot", 0, 0),
    ("stats --scope lifetime", 0, 0),
    ("stats --scope daemon", 1, 1),
    ("stats --log-path /nowhere", 1, 1),
    ("stats --window 15d", 2, 2),
    ("stats --format xml", 2, 2),
    ("stats --top-ports none", 2, 2),
    ("status", 3, 1),
    ("status --verbose", 3, 1),
    ("status fastpath", 0, 1),
    ("status --verbose fastpath", 0, 1),
    ("status everything", 2, 2),
    ("fix check", 3, 1),
    ("fix all", 0, 0),
    ("fix", 2, 2),
    ("start mef", 1, 1),
    ("stop mef", 1, 1),
    ("restart mefdaemon", 1, 1),
    ("reload mefdaemon", 1, 1),
    ("enable", 1, 1),
    ("enable mef", 1, 1),
    ("disable mefdaemon", 1, 1),
    ("start", 2, 2),
    ("stop sshd", 2, 2),
    ("confirm", 1, 1),
    ("undo", 2, 2),
];

/// A host with a good and a bad file of each kind, and an allow list.
fn prepared() -> Net {
    let net = host("ban_log_enabled=false");
    let conf = net.read("etc-mef/mef.conf");
    net.write("etc/passwd", &net.read("passwd"));
    net.write("etc/mef/mef.conf", &conf);
    net.write("etc/mef/mef.rules", &[RULES, "rule dir=in proto=tcp dport=22 action=accept\n"].concat());
    net.write("etc/mef/bad.rules", "rule dir=in action=acept\n");
    net.write("etc/mef/bad.conf", "[global]\nps_limit=many\n");
    net.write("etc/mef/whitelist/office.conf", "203.0.113.0/24\n");
    fs::create_dir_all(net.path("etc/mef/blacklist")).unwrap();
    net.nft("table ip6 other { chain c { type filter hook input priority 0; tcp dport 25 accept; }; }");
    net
}

/// Runs words as somebody who has no rights.
fn as_nobody(net: &Net, words: &str) -> Output {
    let program = net.path("mefctl");
    if !program.exists() {
        symlink(mef_binary(), &program).unwrap();
    }
    let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups", program.to_str().unwrap()];
    let args: Vec<&str> = nobody.into_iter().chain(words.split_whitespace()).collect();
    let mut setpriv = net.command("setpriv", &args);
    net.own(&mut setpriv);
    net.run(setpriv)
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn every_word_ends_as_it_should() {
    let net = prepared();
    let mut wrong = String::new();
    for (words, want, without_rights) in WORDS {
        let nobody = as_nobody(&net, words);
        if nobody.status != *without_rights {
            wrong += &format!("as nobody, {without_rights}: mefctl {words}: {nobody:?}\n");
        }
        let out = mefctl(&net, words);
        if out.status != *want {
            wrong += &format!("{want}: mefctl {words}: {out:?}\n");
        }
        // Who is refused is told why, and who is wrong by what.
        let scolded = out.stdout.is_empty() && out.stderr.starts_with("mef: ");
        let silent = out.stderr.is_empty() && out.stdout.is_empty();
        if out.status == 2 && !scolded || out.status != 0 && silent {
            wrong += &format!("without a word: mefctl {words}: {out:?}\n");
        }
    }
    assert_eq!(wrong, "");
    // Nothing that failed has left anything, and nothing was done by who had no rights.
    assert_eq!(net.nft_list("table inet mef"), "");
    assert_eq!(mefctl(&net, "bans list --ips-only").ok(), "");
}

/// The log that `ban_log_enabled` switches on is rotated by whatever names it, and else by a file of ours.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_rotates_the_ban_log_is_told_and_mended() {
    let net = prepared();
    let said = |words: &str| mefctl(&net, words).stdout.lines().last().unwrap_or_default().to_owned();
    assert!(!said("status").contains("log rotation"), "there is no such log");
    let conf = net.read("etc/mef/mef.conf").replace("ban_log_enabled=false", "");
    let on = [&conf, "ban_log_enabled=true\nban_log_path=/var/log/bans.log\n"].concat();
    net.write("etc/mef/mef.conf", &on);
    let missing = "log rotation  missing: /var/log/bans.log grows (mefctl fix all)";
    assert_eq!((said("status").as_str(), said("fix check").as_str()), (missing, missing));
    let out = mefctl(&net, "fix all");
    assert!(out.status == 1 && out.stderr.contains("/etc/logrotate.d: no such directory"), "{out:?}");
    net.write("etc/logrotate.d/rsyslog", "/var/log/*.log\n{\n weekly\n}\n");
    assert_eq!(said("status"), "log rotation  ok: /var/log/bans.log by /etc/logrotate.d/rsyslog");
    net.write("etc/logrotate.d/rsyslog", "/var/log/syslog\n{\n weekly\n}\n");
    net.write("etc/logrotate.d/mef", "/var/log/mef.log {\n missingok\n}\n");
    assert_eq!(said("status"), missing);
    assert_eq!(mefctl(&net, "fix all").ok(), "/etc/logrotate.d/mef-bans rotates /var/log/bans.log\n");
    let text = net.read("etc/logrotate.d/mef-bans");
    assert!(text.contains("\n\"/var/log/bans.log\" {"), "{text}");
    assert_eq!(net.read("etc/logrotate.d/mef"), "/var/log/mef.log {\n missingok\n}\n");
    assert_eq!(mefctl(&net, "fix all").ok(), "", "once is enough");
    assert_eq!(said("fix check"), "log rotation  ok: /var/log/bans.log by /etc/logrotate.d/mef-bans");
    // logrotate takes the file as it is; nothing of a set-up came with it.
    net.write("log/bans.log", "x\n");
    let mut logrotate = net.command("logrotate", &["-f", "-s", "/run/state", "/etc/logrotate.d/mef-bans"]);
    net.own(&mut logrotate);
    net.run(logrotate).ok();
    assert_eq!((net.read("log/bans.log.1").as_str(), net.path("etc/systemd").exists()), ("x\n", false));
    assert!(!net.path("etc/mef/.setup").exists());
}

/// Hints name commands of ours; where the program is called `mefctl` alone, they are reached by that name.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn every_command_is_a_word_too() {
    let net = host("");
    assert!(mefctl(&net, "deny 198.51.100.7").ok().contains("denied 198.51.100.7"));
    assert_eq!(mefctl(&net, "bans list --permanent --ips-only").ok(), "198.51.100.7\n");
    assert!(mefctl(&net, "why 198.51.100.7").stdout.contains("deny list"));
    assert!(mefctl(&net, "ban --help").ok().contains("Usage: mef ban"), "it explains itself");
    let out = net.run(command(&net, &["status", "--json"]));
    assert!(
        out.status == 2 && out.stderr.contains("unknown option '--json'"),
        "words of MEF come first: {out:?}"
    );
}
