#![forbid(unsafe_code)]
//! Words of fail2ban, sshguard and CSF, and what the thing is called here. What protected somebody there must
//! not be passed over here: such words are errors, the others warnings.

use super::ini::IniEntry;
use crate::base::diag::{Problem, Severity};

/// A word, and what to do instead.
type ForeignWord = (&'static str, &'static str);

/// Without them a rule would do something else than it did there.
const IN_RULES_ERRORS: &[ForeignWord] = &[
    ("logpath", "it is files= here, with commas between the paths"),
    ("ignoreip", "addresses that are never banned belong in a file of whitelist_dir: mef allow ADDR"),
    ("filter", "it has no counterpart: failregex= is in the rule itself"),
    ("prefregex", "it has no counterpart: each failregex= says the whole line"),
    ("maxlines", "a pattern is about one line here"),
    ("journalmatch", "it is source=journal here, with programs="),
];
const IN_RULES: &[ForeignWord] = &[
    ("port", "it is ports= here"),
    ("protocol", "it is proto= here"),
    ("banaction", "it is ban_action= in mef.conf, for all rules"),
    ("banaction_allports", "ports=all closes all ports"),
    ("chain", "mef has tables of its own"),
    ("datepattern", "timestamps are found automatically"),
    ("usedns", "names in logs are never resolved"),
    ("logencoding", "lines are read as bytes"),
    ("maxmatches", "no lines are kept"),
    ("ignoreself", "the addresses of this host are never banned"),
    ("ignorecommand", "addresses that are never banned belong in a file of whitelist_dir"),
    ("bantime.increment", "it is bantime_increment= in mef.conf"),
    ("bantime.factor", "it is bantime_factor= in mef.conf"),
    ("bantime.maxtime", "it is bantime_max= in mef.conf"),
    ("bantime.multipliers", "bantime_factor= in mef.conf says how much longer each ban is"),
    ("bantime.formula", "bantime_factor= in mef.conf says how much longer each ban is"),
    ("bantime.rndtime", "bans expire by themselves"),
    ("bantime.overalljails", "bans of all rules count together"),
];
const IN_CONF: &[ForeignWord] = &[
    ("ignoreip", "addresses that are never banned belong in a file of whitelist_dir: mef allow ADDR"),
    ("banaction", "it is ban_action= here"),
    ("loglevel", "it is log_level= here"),
    ("logtarget", "it is log= here: syslog, stderr or both"),
    ("socket", "it is in run_dir="),
    ("pidfile", "it is in run_dir="),
    ("dbfile", "it is in state_dir="),
    ("dbpurgeage", "it is history_max= here"),
    ("bantime.increment", "it is bantime_increment= here"),
    ("bantime.factor", "it is bantime_factor= here"),
    ("bantime.maxtime", "it is bantime_max= here"),
    ("THRESHOLD", "it is maxretry= in section [defaults]"),
    ("BLOCK_TIME", "it is bantime= in section [defaults]"),
    ("DETECTION_TIME", "it is findtime= in section [defaults]"),
    ("WHITELIST_FILE", "it is whitelist_dir= here"),
    ("BLACKLIST_FILE", "it is blacklist_dir= here"),
    ("LOGREADER", "it is source= of a service rule"),
    ("TCP_IN", "open ports belong in mef.rules"),
    ("UDP_IN", "open ports belong in mef.rules"),
    ("LF_SSHD", "it is maxretry= in rules.d/sshd.conf"),
    ("PS_LIMIT", "it is ps_limit= here"),
    ("PS_INTERVAL", "it is ps_interval= here"),
];
/// Sections of service rules.
const SECTIONS: &[ForeignWord] = &[
    ("Definition", "fail2ban's [Definition] is [rule] here"),
    ("DEFAULT", "defaults for all rules belong in section [defaults] of mef.conf"),
    ("INCLUDES", "a rule is one file: patterns of other files have to be copied into it"),
    ("Init", "a rule has no variables"),
    ("global", "section [global] belongs to mef.conf"),
    ("defaults", "section [defaults] belongs to mef.conf"),
];

fn find(table: &[ForeignWord], word: &str) -> Option<&'static str> {
    table.iter().find(|(known, _)| *known == word).map(|(_, hint)| *hint)
}

fn problem(entry: &IniEntry<'_>, severity: Severity, hint: &str) -> Problem {
    let what = ["'", entry.key, "' is a key of another program"].concat();
    entry.key_problem(severity, what, hint.to_owned())
}

/// What is said about a key of a service rule that is none here.
pub(super) fn in_rule(entry: &IniEntry<'_>) -> Option<Problem> {
    if entry.key == "backend" && !["auto", "nftables", "iptables"].contains(&entry.value) {
        return Some(problem(entry, Severity::Warning, "where the lines come from is source= here"));
    }
    let error = find(IN_RULES_ERRORS, entry.key).map(|hint| problem(entry, Severity::Error, hint));
    error.or_else(|| find(IN_RULES, entry.key).map(|hint| problem(entry, Severity::Warning, hint)))
}

/// The same in mef.conf.
pub(super) fn in_conf(entry: &IniEntry<'_>) -> Option<Problem> {
    find(IN_CONF, entry.key).map(|hint| problem(entry, Severity::Warning, hint))
}

/// What to do instead of a section that nobody knows.
pub(super) fn section(name: &str) -> Option<&'static str> {
    find(SECTIONS, name)
}
