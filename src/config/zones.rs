#![forbid(unsafe_code)]
//! What DNSBLs are told that cannot be meant: nothing of it is wrong by itself.

use super::settings::{Settings, Zone};
use crate::base::clock::Span;
use crate::base::diag::{Problem, Severity};
use crate::base::program::glob;
use std::net::Ipv4Addr;

/// Servers of `dns_servers=` that are asked.
const SERVERS: usize = 4;
/// Those who run Spamhaus ZEN, and the codes of those who are at home: they may well be visitors.
const SPAMHAUS: [&str; 2] = ["spamhaus.org", "spamhaus.net"];
const AT_HOME: [&str; 2] = ["127.0.0.10", "127.0.0.11"];
/// The profile that the cloud is.
const CLOUD: &str = "community";

/// Warns of it. No line is shown: that of a profile may hold a key.
pub(super) fn warn(settings: &Settings, problems: &mut Vec<Problem>) {
    let mut say = |what: String, hint: &str| {
        problems.push(Problem::whole(Severity::Warning, what, hint.to_owned()));
    };
    let on = || settings.zones.iter().filter(|zone| zone.enabled);
    on().for_each(|zone| wrong(settings, zone, &mut say));
    let mut whole = |what: &str, hint: &str| say(what.to_owned(), hint);
    if settings.rbl_enabled && on().next().is_none() {
        whole("rbl_enabled=true asks nobody: no profile is on", "add rbl_NAME_enabled=true");
    }
    if settings.cloud.lookup.enabled && settings.cloud.zone.is_empty() {
        whole("community_cloud_protection=true asks nobody", "add community_zone=…");
    }
    if settings.dns_servers.len() > SERVERS {
        whole("dns_servers= names more than 4 servers: the others are not asked", "leave them out");
    }
}

/// What is wrong with a profile, and what may be done.
fn wrong(settings: &Settings, zone: &Zone, warn: &mut dyn FnMut(String, &str)) {
    let key = zone.key.as_str();
    let mut say = |what: &[&str], hint: &str| warn(what.concat(), hint);
    if !settings.rbl_enabled {
        say(&["the DNSBL profile '", key, "' is on, DNSBLs are not"], "rbl_enabled=true switches them on");
    }
    if key == CLOUD && settings.cloud.lookup.enabled {
        say(&["the DNSBL profile '", key, "' has the name of that of the cloud"], "give it another name");
    }
    if zone.bantime == Span::Permanent {
        say(&["rbl_", key, "_bantime=permanent: a list's bans last bantime_max at most"], "name a time");
    }
    let is_home = |code: &&str| zone.answer_match.iter().any(|one| glob(one.as_bytes(), code.as_bytes()));
    let name = zone.zone.trim_end_matches('.').to_ascii_lowercase();
    if SPAMHAUS.iter().any(|of| name.ends_with(of)) && AT_HOME.iter().any(is_home) {
        say(
            &["rbl_", key, "_answer_match= bans people at home (127.0.0.10 and .11)"],
            "127.0.0.2,127.0.0.3,127.0.0.4,127.0.0.9",
        );
    }
    let never = |one: &&String| one.parse::<Ipv4Addr>().is_ok_and(|code| !code.is_loopback());
    if let Some(code) = zone.answer_match.iter().find(never) {
        say(&["rbl_", key, "_answer_match=", code, " is never an answer"], "lists answer with 127.0.0.0/8");
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_global;

    #[test]
    fn what_cannot_be_meant_is_said() {
        let on = "rbl_enabled=true\nrbl_a_enabled=true\nrbl_a_zone=bl.example\n";
        let zen = "rbl_a_zone=k3y.zen.dq.spamhaus.net\n";
        for (lines, want) in [
            (on.to_owned(), ""),
            (String::new(), ""),
            ("rbl_a_zone=bl.example\n".to_owned(), ""),
            (format!("{on}{zen}rbl_a_answer_match=127.0.0.2,127.0.0.3"), ""),
            (format!("{on}{zen}"), "people at home"),
            (format!("{on}rbl_a_zone=zen.spamhaus.org.\nrbl_a_answer_match=127.0.0.1*"), "people at home"),
            (on.replace("rbl_enabled=true", "rbl_enabled=false"), "rbl_enabled=true switches them on"),
            ("rbl_enabled=true\nrbl_a_zone=bl.example\n".to_owned(), "no profile is on"),
            (format!("{on}rbl_a_answer_match=10.0.0.1"), "10.0.0.1 is never an answer"),
            (format!("{on}rbl_a_bantime=permanent"), "bantime_max at most"),
            ("community_cloud_protection=true\n".to_owned(), "community_zone"),
            ("community_cloud_protection=true\ncommunity_zone=c.example\n".to_owned(), ""),
            (
                format!(
                    "{}community_cloud_protection=true\ncommunity_zone=c.x\n",
                    on.replace("_a_", "_community_")
                ),
                "another name",
            ),
            ("dns_servers=192.0.2.1,192.0.2.2,192.0.2.3,192.0.2.4\n".to_owned(), ""),
            ("dns_servers=192.0.2.1,192.0.2.2,192.0.2.3,192.0.2.4,192.0.2.5\n".to_owned(), "more than 4"),
        ] {
            let text = format!("[global]\n{lines}");
            let (_, problems) = parse_global(text.as_bytes());
            let said: String = problems.iter().map(|p| p.render("mef.conf", &text)).collect();
            assert!(
                said.contains(want) && problems.len() == usize::from(!want.is_empty()),
                "{lines}: {said}"
            );
            assert!(!said.contains("k3y"), "{said}");
        }
    }
}
