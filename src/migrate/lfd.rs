#![forbid(unsafe_code)]
//! What lfd does beside the packet filter: triggers, bans in force, lists that are fetched, and what has no
//! counterpart.

use super::csf::{CsfConf, each_line, path_of};
use super::packets::ports;
use super::{MigratedBan, Migration, RULES_DIR, plain};
use crate::config::written;
use crate::setup::Root;

const STATE: &str = "/var/lib/csf/";

/// Triggers of lfd, and the service rules that watch the same.
const TRIGGERS: [(&str, &[&str]); 11] = [
    ("SSHD", &["sshd"]),
    ("FTPD", &["pure-ftpd", "proftpd", "vsftpd"]),
    ("SMTPAUTH", &["exim", "postfix", "sendmail"]),
    ("EXIMSYNTAX", &["exim"]),
    ("POP3D", &["dovecot", "courier", "cyrus"]),
    ("IMAPD", &["dovecot", "courier", "cyrus"]),
    ("HTACCESS", &["apache-auth", "nginx-auth"]),
    ("MODSEC", &["apache-modsecurity"]),
    ("BIND", &["named"]),
    ("CPANEL", &["cpanel"]),
    ("DIRECTADMIN", &["directadmin"]),
];

/// What else of csf.conf protects somebody, when it is on as a rule, and what does that here.
const OTHERS: [(&str, &str, &str); 18] = [
    (
        "CC_DENY",
        "",
        "countries have no counterpart: put the networks of a country into a file of /etc/mef/blacklist",
    ),
    (
        "CC_ALLOW",
        "",
        "countries have no counterpart: a set with file= in mef.rules, and a rule that accepts it",
    ),
    (
        "CC_ALLOW_FILTER",
        "",
        "countries have no counterpart: a set with file= in mef.rules, and a rule that drops the others",
    ),
    (
        "CC_ALLOW_PORTS",
        "",
        "countries have no counterpart: a set with file= in mef.rules, and a rule with its ports",
    ),
    (
        "CC_DENY_PORTS",
        "",
        "countries have no counterpart: a set with file= in mef.rules, and a rule with its ports",
    ),
    ("GLOBAL_ALLOW", "", "fetch the URL into a file of /etc/mef/whitelist, from cron"),
    ("GLOBAL_DENY", "", "fetch the URL into a file of /etc/mef/blacklist, from cron"),
    ("GLOBAL_IGNORE", "", "fetch the URL into a file of /etc/mef/whitelist, from cron"),
    ("GLOBAL_DYNDNS", "", "put the names into a file of /etc/mef/whitelist: the daemon looks them up"),
    ("CLUSTER_SENDTO", "", "mef cloud shares bans between hosts"),
    ("LF_DISTATTACK", "0", "guesses of one account from many addresses are not counted together"),
    ("LF_SCRIPT_ALERT", "0", "mail that scripts send is not watched"),
    ("LF_DIRWATCH", "0", "files are not watched"),
    ("LF_INTEGRITY", "0", "files are not watched"),
    ("LF_EXPLOIT", "0", "the system is not searched for signs of an intrusion"),
    ("PT_LIMIT", "0", "processes are not watched"),
    ("UID_INTERVAL", "0", "what users send is not counted: a rule with uid= in mef.rules can refuse it"),
    ("RECAPTCHA_SITEKEY", "", "nobody can lift a ban by himself"),
];

/// Names what is on of it.
pub(super) fn others(conf: &CsfConf<'_>, to: &mut Migration) {
    for (key, off, what) in OTHERS {
        let value = conf.value(key);
        if !value.is_empty() && value != off {
            to.note(&["csf.conf: ", key, "=", &plain(value), ": ", what]);
        }
    }
}

/// LF_*: as many failures as there; what is off there is off.
pub(super) fn triggers(conf: &CsfConf<'_>, to: &mut Migration) {
    let findtime = conf.number("LF_INTERVAL");
    let mut rules = Vec::<(&str, u32)>::new();
    let (mut any, mut permanent) = (false, false);
    for (name, ours) in TRIGGERS {
        let key = ["LF_", name].concat();
        let Ok(count) = conf.value(&key).parse::<u32>() else { continue };
        any = true;
        permanent |= conf.value(&[&key, "_PERM"].concat()) == "1";
        for rule in ours {
            // Several triggers may be about one service: the strictest that is on.
            match rules.iter_mut().find(|(known, _)| known == rule) {
                Some((_, known)) if *known == 0 || count == 0 => *known = count.max(*known),
                Some((_, known)) => *known = count.min(*known),
                None => rules.push((rule, count)),
            }
        }
    }
    for (rule, count) in rules {
        let mut text = String::from("# From csf.conf\n[rule]\n");
        if count == 0 {
            text += "enabled=false\n";
        } else {
            text += &["maxretry=", &count.to_string(), "\n"].concat();
            if findtime > 0 {
                text += &["findtime=", &written(findtime), "\n"].concat();
            }
        }
        to.file(RULES_DIR, &[rule, ".local"].concat(), text);
    }
    if any && permanent {
        to.note(&[
            "csf.conf: LF_*_PERM=1: bans are not permanent here; each further one of an address is longer \
                   (bantime_factor= in mef.conf), and bantime=permanent in a rule is what CSF did",
        ]);
    }
}

/// What stands in mef.conf.
pub(super) fn settings(conf: &CsfConf<'_>, to: &mut Migration) {
    let mut set = |key: &str, value: &str| to.settings.push([key, "=", value].concat());
    if conf.is_on("SYNFLOOD") || conf.is_on("CT_LIMIT") {
        set("ddos_enabled", "true");
        if conf.is_on("CT_LIMIT") {
            set("ddos_connlimit", &conf.number("CT_LIMIT").clamp(1, 65_535).to_string());
        }
    }
    if conf.is_on("PS_INTERVAL") {
        set("ps_enabled", "true");
    }
    if conf.is_on("TESTING") {
        to.note(&[
            "csf.conf: TESTING=1: CSF clears its rules every few minutes; mef load --confirm is for that",
        ]);
    }
    if conf.is_on("LF_PERMBLOCK") || conf.is_on("LF_NETBLOCK") {
        to.note(&[
            "csf.conf: LF_PERMBLOCK, LF_NETBLOCK: each further ban of an address is longer by itself; \
                   ipv6_escalate= in mef.conf bans networks",
        ]);
    }
}

/// csf.blocklists: `NAME|INTERVAL|MAX|URL`, those that are on.
pub(super) fn feeds(root: &Root, to: &mut Migration) {
    let text = root.text("/etc/csf/csf.blocklists");
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let parts: Vec<&str> = line.split('|').map(str::trim).collect();
        if let [name, interval, _, url] = parts.as_slice() {
            let name = plain(name).replace('/', "_");
            to.note(&[
                "csf.blocklists: ",
                &name,
                ": fetch it every ",
                interval,
                " s, from cron: curl -fsS -o \
                /etc/mef/blacklist/.",
                &name,
                " '",
                &plain(url),
                "' && mv /etc/mef/blacklist/.",
                &name,
                " /etc/mef/blacklist/",
                &name,
                ".conf",
            ]);
        }
    }
}

/// csf.tempban: `TIME|IP|PORTS|in, out or inout|SECONDS|MESSAGE`.
pub(super) fn bans(root: &Root, now: u64, to: &mut Migration) {
    for (name, is_ban) in [("csf.tempban", true), ("csf.tempallow", false)] {
        for line in root.text(&[STATE, name].concat()).lines() {
            let parts: Vec<&str> = line.splitn(6, '|').map(str::trim).collect();
            let [start, who, dports, _, seconds, message] = parts.as_slice() else { continue };
            let (Ok(start), Ok(seconds)) = (start.parse::<u64>(), seconds.parse::<u64>()) else { continue };
            let left = start.saturating_add(seconds).saturating_sub(now);
            if left == 0 {
                continue;
            }
            if is_ban {
                let dports = if *dports == "*" { String::new() } else { ports(dports) };
                let ban = MigratedBan { who: (*who).into(), left, ports: dports, reason: plain(message) };
                to.bans.push(ban);
            } else {
                to.note(&["csf.tempallow: ", who, ": mef allow ", who, " --for ", &left.to_string()]);
            }
        }
    }
}

/// What only a person can take over.
pub(super) fn scripts(root: &Root, to: &mut Migration) {
    let places = [
        "/etc/csf/csfpre.sh",
        "/etc/csf/csfpost.sh",
        "/usr/local/csf/bin/csfpre.sh",
        "/usr/local/csf/bin/csfpost.sh",
    ];
    for path in places.into_iter().filter(|path| root.has(path)) {
        to.note(&[path, ": a script: what it adds with iptables belongs into mef.rules"]);
    }
    for name in [
        "csf.pignore",
        "csf.rignore",
        "csf.signore",
        "csf.suignore",
        "csf.sips",
        "csf.smtpauth",
        "csf.cloudflare",
    ] {
        let mut count = 0u32;
        // These come with what the panel itself needs.
        each_line(root, &path_of(name), 0, &mut |_, _, _, _| count += 1);
        if count > 0 && !matches!(name, "csf.pignore" | "csf.signore" | "csf.suignore") {
            to.note(&["/etc/csf/", name, ": ", &count.to_string(), " lines have no counterpart"]);
        }
    }
}
