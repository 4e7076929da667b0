#![forbid(unsafe_code)]
//! fail2ban: its jails as changes of service rules, `ignoreip` as an allow list, and the bans in force.
//!
//! What `jail.conf` says as it ships is not taken over: the limits of our rules have reasons of their own.
//! What other files say is what somebody wanted.

use super::filter::{self, FilterSource, ImportedFilter};
use super::foreign_ini::ForeignIni;
use super::packets::ports;
use super::{ALLOWED, AskProgram, MigratedBan, Migration, RULES_DIR, plain};
use crate::base::count::count;
use crate::base::utc;
use crate::config::{builtin_text, written};
use crate::setup::Root;

const DIR: &str = "/etc/fail2ban/";
/// Addresses that are never banned here.
const OWN: [&str; 4] = ["127.0.0.1", "127.0.0.1/8", "127.0.0.0/8", "::1"];
/// A file of ours is named so.
const FILE: &str = "fail2ban.conf";
/// A ban without an end.
const FOREVER: u64 = u64::MAX;

/// Filters, and the service rule that watches the same; those with the same name are not here.
const FILTERS: [(&str, &str); 40] = [
    ("apache-badbots", "web-probes"),
    ("apache-botsearch", "apache-probes"),
    ("apache-fakegooglebot", ""),
    ("apache-nohome", "apache-probes"),
    ("apache-noscript", "apache-probes"),
    ("apache-overflows", "apache-probes"),
    ("apache-shellshock", "web-probes"),
    ("php-url-fopen", "web-probes"),
    ("nginx-http-auth", "nginx-auth"),
    ("nginx-limit-req", "nginx-limit"),
    ("nginx-botsearch", "web-probes"),
    ("nginx-bad-request", "web-probes"),
    ("lighttpd-auth", "lighttpd"),
    ("haproxy-http-auth", "haproxy"),
    ("traefik-auth", "traefik"),
    ("roundcube-auth", "roundcube"),
    ("sogo-auth", "sogo"),
    ("drupal-auth", "drupal"),
    ("froxlor-auth", "froxlor"),
    ("phpmyadmin-syslog", "phpmyadmin"),
    ("webmin-auth", "webmin"),
    ("gssftpd", ""),
    ("postfix-rbl", "postfix"),
    ("postfix-sasl", "postfix"),
    ("sendmail-auth", "sendmail"),
    ("sendmail-reject", "sendmail-abuse"),
    ("courier-auth", "courier"),
    ("courier-smtp", "courier"),
    ("cyrus-imap", "cyrus"),
    ("sieve", "dovecot"),
    ("named-refused", "named"),
    ("mysqld-auth", "mariadb"),
    ("mongodb-auth", "mongodb"),
    ("mssql-auth", "mssql"),
    ("ejabberd-auth", "ejabberd"),
    ("murmur", "mumble"),
    ("znc-adminlog", "znc"),
    ("softethervpn", "softether"),
    ("pam-generic", "pam"),
    ("exim-spam", "exim"),
];

pub(super) fn read(root: &Root, now: (u64, i32), ask: AskProgram<'_>) -> Result<Migration, String> {
    let mut to = Migration {
        stop: "systemctl disable --now fail2ban",
        back: "systemctl enable --now fail2ban",
        ..Migration::default()
    };
    if !root.has("/etc/fail2ban/jail.conf") && !root.has("/etc/fail2ban/jail.local") {
        return Err("no /etc/fail2ban/jail.conf: fail2ban is not installed here".into());
    }
    for path in ["/etc/fail2ban/jail.conf", "/etc/fail2ban/jail.local"] {
        // An empty one says nothing, one that cannot be read may say anything.
        root.look(path).map_err(|e| [path, ": ", &e.to_string()].concat())?;
    }
    let jails = JailFiles::read(root);
    let enabled: Vec<&String> = jails.ini.order.iter().filter(|name| jails.is_on(name)).collect();
    to.found.push(format!("{} on", count(enabled.len(), "jail")));
    allowed(&jails, &enabled, &mut to);
    let services = root.text("/etc/services");
    let mut rules = Vec::<(String, String)>::new();
    for jail in &enabled {
        if let Some((rule, keys)) = self::jail(&jails, jail, &services, &mut to) {
            match rules.iter_mut().find(|(name, _)| *name == rule) {
                Some((_, known)) if *known != keys => to.note(&[
                    "jail ",
                    jail,
                    ": rule ",
                    &rule,
                    " watches it, whose limits are those of another jail; here they would be: ",
                    &keys.replace('\n', " "),
                ]),
                Some(_) => {}
                None => rules.push((rule, keys)),
            }
        }
        bans(&jails, jail, &services, (now, ask), &mut to);
    }
    for (rule, keys) in rules {
        to.file(
            RULES_DIR,
            &[&rule, ".local"].concat(),
            ["# From fail2ban\n[rule]\nenabled=true\n", &keys].concat(),
        );
    }
    general(&jails, &mut to);
    Ok(to)
}

/// The jails as fail2ban reads them.
struct JailFiles<'r> {
    root: &'r Root,
    ini: ForeignIni,
    /// The last of the files that came with it.
    stock: usize,
}

impl<'r> JailFiles<'r> {
    fn read(root: &'r Root) -> JailFiles<'r> {
        let mut ini = ForeignIni::default();
        let in_dir = |suffix: &str| {
            let names = root.names("/etc/fail2ban/jail.d").into_iter().filter(|name| name.ends_with(suffix));
            names.map(|name| [DIR, "jail.d/", &name].concat()).collect::<Vec<_>>()
        };
        ini.read(root, &[DIR, "jail.conf"].concat());
        let stock = ini.files.len();
        in_dir(".conf").iter().for_each(|path| ini.read(root, path));
        ini.read(root, &[DIR, "jail.local"].concat());
        in_dir(".local").iter().for_each(|path| ini.read(root, path));
        JailFiles { root, ini, stock }
    }

    fn is_on(&self, jail: &str) -> bool {
        let on = |word: String| matches!(word.to_lowercase().as_str(), "true" | "yes" | "on" | "1");
        !matches!(jail, "DEFAULT" | "INCLUDES") && self.ini.value(jail, "enabled").is_some_and(on)
    }

    /// A value that somebody wanted: one that is not as it ships.
    fn wanted(&self, jail: &str, key: &str) -> Option<String> {
        let (_, file) = self.ini.own(jail, key).or_else(|| self.ini.raw(jail, key))?;
        if file < self.stock { None } else { self.ini.value(jail, key) }
    }

    /// The filter of a jail, without its parameters; and these.
    fn filter(&self, jail: &str) -> (String, String) {
        let text = self.ini.value(jail, "filter").unwrap_or_else(|| jail.to_owned());
        let (name, parameters) = text.split_once('[').unwrap_or((&text, ""));
        (name.trim().to_owned(), parameters.to_owned())
    }
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ',', '\n', '\t']).filter(|item| !item.is_empty())
}

/// `ignoreip` of all jails.
fn allowed(jails: &JailFiles<'_>, enabled: &[&String], to: &mut Migration) {
    let general = jails.ini.value("DEFAULT", "ignoreip").unwrap_or_default();
    let mut all: Vec<String> = items(&general).map(str::to_owned).collect();
    for jail in enabled {
        if let Some((text, _)) = jails.ini.own(jail, "ignoreip") {
            let more = jails.ini.filled(jail, text, 8);
            let more: Vec<String> = items(&more)
                .filter(|item| !all.iter().any(|known| known == item))
                .map(str::to_owned)
                .collect();
            if more.iter().any(|item| !OWN.contains(&item.as_str())) {
                to.note(&[
                    "jail ",
                    jail,
                    ": its ignoreip is never banned by any rule here: ",
                    &more.join(" "),
                ]);
            }
            all.extend(more);
        }
        if jails.wanted(jail, "ignorecommand").is_some_and(|text| !text.is_empty()) {
            to.note(&[
                "jail ",
                jail,
                ": ignorecommand has no counterpart: a file in /etc/mef/whitelist that it writes",
            ]);
        }
    }
    all.retain(|item| !OWN.contains(&item.as_str()));
    if !all.is_empty() {
        to.found.push(format!("{} in ignoreip", count(all.len(), "entry")));
        to.file(ALLOWED, FILE, ["# ignoreip of fail2ban\n", &all.join("\n"), "\n"].concat());
    }
}

/// Makes a service rule of a filter, with what a file of jails says of it. `samples` are lines of logs as
/// fail2ban's tests have them.
///
/// # Errors
/// Why there is none, for people.
pub fn import_filter(path: &str, jail_file: Option<&str>, samples: &str) -> Result<ImportedFilter, String> {
    let root = Root::new(std::path::Path::new("/"));
    let (mut keys, mut parameters) = (String::new(), String::new());
    if let Some(file) = jail_file {
        let mut jails = JailFiles { root: &root, ini: ForeignIni::default(), stock: 0 };
        jails.ini.read(&root, file);
        let stem = path.rsplit('/').next().unwrap_or("").trim_end_matches(".conf");
        if let Some(jail) = jails.ini.order.iter().find(|jail| jails.filter(jail).0 == stem) {
            let mut to = Migration::default();
            keys = self::keys(&jails, jail, &root.text("/etc/services"), &mut to);
            parameters = jails.filter(jail).1;
        }
    }
    filter::import(&FilterSource { root: &root, path, parameters: &parameters, keys: &keys, samples })
}

/// The rule of ours that watches what a filter of fail2ban does.
#[must_use]
pub fn own_rule(filter: &str) -> Option<&str> {
    let ours = FILTERS.iter().find(|(name, _)| *name == filter).map_or(filter, |(_, ours)| ours);
    builtin_text(ours).map(|_| ours)
}

/// The rule that does what a jail does, and its keys.
fn jail(jails: &JailFiles<'_>, jail: &str, services: &str, to: &mut Migration) -> Option<(String, String)> {
    let (filter, parameters) = jails.filter(jail);
    match filter.as_str() {
        "recidive" => {
            to.note(&[
                "jail ",
                jail,
                ": each further ban of an address is longer by itself: bantime_factor= in mef.conf",
            ]);
            return None;
        }
        "portsentry" | "scanlogd" => {
            to.note(&["jail ", jail, ": port scans are counted in the kernel: ps_enabled=true in mef.conf"]);
            return None;
        }
        _ => {}
    }
    let mut keys = keys(jails, jail, services, to);
    let Some(ours) = own_rule(&filter) else {
        imported(jails.root, jail, (&filter, &parameters), &keys, to);
        return None;
    };
    // What a jail tells its filter itself decides there.
    let in_filter = filter::parameters(&parameters).find(|(name, _)| *name == "mode").map(|(_, mode)| mode);
    let wanted = jails.wanted(jail, "mode");
    match in_filter.or(wanted.as_deref()).map(|mode| mode.trim().trim_matches(['"', '\''])) {
        None | Some("normal") => {}
        Some("ddos" | "extra" | "aggressive") if has_aggressive(ours) => keys += "mode=aggressive\n",
        Some(mode) => {
            to.note(&["jail ", jail, ": mode=", mode, ": mef rules ", ours, " shows what counts here"])
        }
    }
    Some((ours.to_owned(), keys))
}

/// Whether a rule counts more when it is told to.
fn has_aggressive(rule: &str) -> bool {
    builtin_text(rule).is_some_and(|text| text.contains("\nfailregex[aggressive]"))
}

/// A filter that no rule of ours stands for becomes one.
fn imported(root: &Root, jail: &str, (filter, parameters): (&str, &str), keys: &str, to: &mut Migration) {
    let path = [DIR, "filter.d/", filter, ".conf"].concat();
    let source = FilterSource { root, path: &path, parameters, keys, samples: "" };
    match filter::import(&source) {
        Ok(made) => {
            for why in &made.refused {
                to.note(&["jail ", jail, ": a pattern of filter ", filter, " is left out: ", why]);
            }
            to.file(RULES_DIR, &[jail, ".conf"].concat(), made.text);
        }
        Err(why) => to.note(&["jail ", jail, ": nothing of mef watches it: filter ", filter, ": ", &why]),
    }
}

/// What somebody wanted of a jail, as lines of a rule.
fn keys(jails: &JailFiles<'_>, jail: &str, services: &str, to: &mut Migration) -> String {
    let mut keys = String::new();
    let mut put = |key: &str, value: &str| keys += &[key, "=", value, "\n"].concat();
    if let Some(count) = jails.wanted(jail, "maxretry").and_then(|text| text.trim().parse::<u32>().ok()) {
        put("maxretry", &count.max(1).to_string());
    }
    for key in ["findtime", "bantime"] {
        match jails.wanted(jail, key).map(|text| (seconds(&text), text)) {
            Some((Some(FOREVER), _)) if key == "bantime" => put(key, "permanent"),
            Some((Some(secs), _)) => put(key, &written(u32::try_from(secs).unwrap_or(u32::MAX))),
            Some((None, text)) => to.note(&["jail ", jail, ": ", key, "=", &plain(&text), " is no duration"]),
            None => {}
        }
    }
    if let Some(text) = jails.wanted(jail, "port") {
        match port_list(&text, services) {
            Ok(list) if list.is_empty() => put("ports", "all"),
            Ok(list) => put("ports", &list),
            Err(name) => to.note(&["jail ", jail, ": unknown port '", &name, "'"]),
        }
    }
    if let Some(text) = jails.wanted(jail, "logpath") {
        let files: Vec<&str> = text.split_whitespace().filter(|word| word.starts_with('/')).collect();
        if !files.is_empty() {
            put("source", "file");
            put("files", &files.join(","));
        }
    }
    for key in ["action", "banaction", "ignoreregex", "failregex"] {
        if let Some((text, file)) = jails.ini.own(jail, key)
            && file >= jails.stock
        {
            let what = match key {
                "action" | "banaction" => {
                    "mef bans by itself; programs that are told of bans: on_ban= in mef.conf"
                }
                _ => "write it into the rule",
            };
            to.note(&["jail ", jail, ": ", key, "=", &plain(text), ": ", what]);
        }
    }
    keys
}

/// Seconds of `10m`, `1d 12h`, `600`, `-1`.
fn seconds(text: &str) -> Option<u64> {
    let text = text.trim();
    if text.starts_with('-') {
        return Some(FOREVER);
    }
    let (mut all, mut rest) = (0u64, text);
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (count, behind) = rest.split_at_checked(digits)?;
        let letters = behind.trim_start();
        let end = letters.len() - letters.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, behind) = letters.split_at_checked(end)?;
        let unit = match unit {
            "" | "s" | "ss" | "sec" | "secs" | "second" | "seconds" => 1,
            "m" | "mm" | "min" | "mins" | "minute" | "minutes" => 60,
            "h" | "hh" | "hour" | "hours" => 3600,
            "d" | "dd" | "day" | "days" => 86_400,
            "w" | "ww" | "week" | "weeks" => 604_800,
            "mo" | "mon" | "mons" | "month" | "months" => 2_629_800,
            "y" | "yea" | "year" | "years" => 31_557_600,
            _ => return None,
        };
        all = all.checked_add(count.parse::<u64>().ok()?.checked_mul(unit)?)?;
        rest = behind.trim_start();
    }
    Some(all)
}

/// Ports by number or name, as `ports=` has them; empty: all.
fn port_list(text: &str, services: &str) -> Result<String, String> {
    let mut all = Vec::new();
    for item in items(text) {
        let item = ports(item);
        if item == "0-65535" || item == "1-65535" || item == "all" {
            return Ok(String::new());
        }
        if item.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
            all.push(item);
            continue;
        }
        let known = services.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            let (name, port) = (words.next()?, words.next()?.split('/').next()?);
            (name == item || words.take_while(|word| !word.starts_with('#')).any(|alias| alias == item))
                .then_some(port)
        });
        all.push(known.ok_or(item)?.to_owned());
    }
    all.dedup();
    Ok(all.join(","))
}

/// The bans of a jail that are in force, as fail2ban tells them.
fn bans(
    jails: &JailFiles<'_>,
    jail: &str,
    services: &str,
    ((now, local), ask): ((u64, i32), AskProgram<'_>),
    to: &mut Migration,
) {
    let Some(text) = ask(&["fail2ban-client", "get", jail, "banip", "--with-time"]) else { return };
    let on_all = jails.ini.value(jail, "banaction").is_some_and(|name| name.contains("allports"));
    let ports = jails.ini.value(jail, "port").filter(|_| !on_all);
    let ports = ports.and_then(|text| port_list(&text, services).ok()).unwrap_or_default();
    for line in text.lines() {
        let (Some(who), Some((_, end))) = (line.split_whitespace().next(), line.split_once('=')) else {
            continue;
        };
        let end = end.trim().replacen(' ', "T", 1) + "Z";
        let Some(end) = utc::parse(&end) else { continue };
        // Its times are local.
        let end = end.0.saturating_add_signed(-i64::from(local));
        let left = if line.contains("+ -1") { FOREVER } else { end.saturating_sub(now) };
        if left > 0 {
            let reason = ["from fail2ban, jail ", jail].concat();
            to.bans.push(MigratedBan { who: who.into(), left, ports: ports.clone(), reason });
        }
    }
}

/// What is about all jails.
fn general(jails: &JailFiles<'_>, to: &mut Migration) {
    let value = |key: &str| jails.wanted("DEFAULT", key);
    if let Some(max) = value("bantime.maxtime").and_then(|text| seconds(&text)) {
        to.settings.push(["bantime_max=", &written(u32::try_from(max).unwrap_or(u32::MAX))].concat());
    }
    match value("bantime.increment").as_deref() {
        Some("true") => {}
        Some(_) => to.settings.push("bantime_increment=false".into()),
        None => to.note(&["bantime.increment is not set: each further ban of an address is longer here; \
             bantime_increment=false in mef.conf for equal ones"]),
    }
    for key in ["action", "banaction", "destemail", "bantime.formula", "bantime.multipliers"] {
        if let Some(text) = value(key) {
            let what = match key {
                "action" | "destemail" => "programs that are told of bans: on_ban= in mef.conf",
                "banaction" => "mef bans by itself, in nftables or iptables",
                _ => "bantime_factor= in mef.conf says how much longer each further ban is",
            };
            to.note(&["[DEFAULT] ", key, "=", &plain(&text), ": ", what]);
        }
    }
}

#[cfg(test)]
#[path = "fail2ban_tests.rs"]
mod tests;
