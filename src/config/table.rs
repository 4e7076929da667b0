#![forbid(unsafe_code)]
//! Section [global] of mef.conf: the tables of its keys with their defaults and limits.

use super::keys::{self, Key, Slot};
use super::ports::Ports;
use super::settings::*;
use super::value::{self, Bad};

const DAY: u32 = 86_400;
const YEAR: u32 = 366 * DAY;
const MANY: u32 = 1_000_000;

const fn key<T>(name: &'static str, default: &'static str, slot: Slot<T>) -> Key<T> {
    Key { name, default, slot }
}

/// Every key of [global] that has a fixed name, in the order of the shipped mef.conf.
pub(super) const KEYS: &[Key<Settings>] = &[
    key("rules_dir", "/etc/mef/rules.d", Slot::Path(|s| &mut s.rules_dir)),
    key("whitelist_dir", "/etc/mef/whitelist", Slot::Path(|s| &mut s.whitelist_dir)),
    key("blacklist_dir", "/etc/mef/blacklist", Slot::Path(|s| &mut s.blacklist_dir)),
    key("whitelist_reload", "1m", Slot::Secs(0, YEAR, |s| &mut s.whitelist_reload)),
    key("blacklist_reload", "1m", Slot::Secs(0, YEAR, |s| &mut s.blacklist_reload)),
    key("state_dir", "/var/lib/mef", Slot::Path(|s| &mut s.state_dir)),
    key("state_sync", "5m", Slot::Own(state_sync)),
    key("run_dir", "/run/mef", Slot::Path(|s| &mut s.run_dir)),
    key("log", "syslog", Slot::Word(LogTo::WORDS, |s, i| s.log = LogTo::from_word(i))),
    key("log_level", "info", Slot::Word(LogLevel::WORDS, |s, i| s.log_level = LogLevel::from_word(i))),
    key("ban_log_enabled", "false", Slot::Flag(|s| &mut s.ban_log_enabled)),
    key("ban_log_path", "/var/log/mef.log", Slot::Path(|s| &mut s.ban_log_path)),
    key("clear_bans_on_stop", "false", Slot::Flag(|s| &mut s.clear_bans_on_stop)),
    key("ipv6_prefix", "64", Slot::Count(32, 128, |s| &mut s.ipv6_prefix)),
    key("ipv6_escalate", "off", Slot::Own(ipv6_escalate)),
    key("trusted_proxies", "none", Slot::Nets(|s| &mut s.trusted_proxies)),
    key("max_bans_per_minute", "1000", Slot::Count(1, MANY, |s| &mut s.max_bans_per_minute)),
    key("track_max", "4096", Slot::Count(64, 1 << 20, |s| &mut s.track_max)),
    key("ban_action", "drop", Slot::Word(BanAction::WORDS, |s, i| s.ban_action = BanAction::from_word(i))),
    key(
        "ban_scope",
        "host,forward",
        Slot::Words(&["host", "forward"], |s, bits| {
            (s.ban_host, s.ban_forward) = (bits & 1 != 0, bits & 2 != 0)
        }),
    ),
    key("fastpath", "auto", Slot::Word(Fastpath::WORDS, |s, i| s.fastpath = Fastpath::from_word(i))),
    key("kill_connections", "true", Slot::Flag(|s| &mut s.kill_connections)),
    key("element_counters", "false", Slot::Flag(|s| &mut s.element_counters)),
    key("load_managed", "false", Slot::Flag(|s| &mut s.load_managed)),
    key("bantime_increment", "true", Slot::Flag(|s| &mut s.bantime_increment)),
    key("bantime_factor", "2", Slot::Count(1, 100, |s| &mut s.bantime_factor)),
    key("bantime_max", "7d", Slot::Secs(1, 10 * YEAR, |s| &mut s.bantime_max)),
    key("on_ban", "none", Slot::Own(|s, text| hook(&mut s.on_ban, text))),
    key("on_unban", "none", Slot::Own(|s, text| hook(&mut s.on_unban, text))),
    key("journal_since", "2 min ago", Slot::Own(journal_since)),
    key("file_recent_limit", "200", Slot::Count(0, 65_535, |s| &mut s.file_recent_limit)),
    key("file_recent_window", "24h", Slot::Secs(0, YEAR, |s| &mut s.file_recent_window)),
    key(
        "firewall_backend",
        "auto",
        Slot::Word(Backend::WORDS, |s, i| s.firewall_backend = Backend::from_word(i)),
    ),
    key("firewall_log_enabled", "true", Slot::Flag(|s| &mut s.firewall_log_enabled)),
    key("firewall_log_prefix", "MEF_", Slot::Text(|s| &mut s.firewall_log_prefix)),
    key(
        "firewall_log_level",
        "warn",
        Slot::Word(KERNEL_LEVELS, |s, i| s.firewall_log_level = kernel_level(i)),
    ),
    key("firewall_log_rate", "1", Slot::Count(1, 10_000, |s| &mut s.firewall_log_rate)),
    key("firewall_log_burst", "5", Slot::Count(1, 10_000, |s| &mut s.firewall_log_burst)),
    key("ps_enabled", "true", Slot::Flag(|s| &mut s.scan.enabled)),
    key("ps_limit", "10", Slot::Count(1, 65_535, |s| &mut s.scan.limit)),
    key("ps_interval", "300", Slot::Secs(1, DAY, |s| &mut s.scan.interval)),
    key("ps_bantime", "600", Slot::Secs(1, YEAR, |s| &mut s.scan.bantime)),
    key("ps_interface", "auto", Slot::Own(ps_interface)),
    key("ps_interface_exclude", "lo", Slot::Names(|s| &mut s.scan.interface_exclude)),
    key("ps_exclude_ports", "auto", Slot::Own(ps_exclude_ports)),
    key("ps_packet_udp", "false", Slot::Flag(|s| &mut s.scan.udp)),
    key("ps_escalation_enabled", "false", Slot::Flag(|s| &mut s.scan.escalation_enabled)),
    key("ps_escalation_window", "24h", Slot::Secs(1, YEAR, |s| &mut s.scan.escalation_window)),
    key("ps_permanent_threshold", "3", Slot::Count(1, 1000, |s| &mut s.scan.permanent_threshold)),
    key("ddos_enabled", "false", Slot::Flag(|s| &mut s.flood.enabled)),
    key("ddos_ports", "80,443", Slot::Ports(|s| &mut s.flood.ports)),
    key("ddos_syn_rate", "100", Slot::Count(1, MANY, |s| &mut s.flood.limits.syn_rate)),
    key("ddos_syn_burst", "200", Slot::Count(1, MANY, |s| &mut s.flood.limits.syn_burst)),
    key("ddos_newconn_rate", "60", Slot::Count(1, MANY, |s| &mut s.flood.limits.newconn_rate)),
    key("ddos_newconn_burst", "120", Slot::Count(1, MANY, |s| &mut s.flood.limits.newconn_burst)),
    key("ddos_connlimit", "80", Slot::Count(1, MANY, |s| &mut s.flood.limits.connlimit)),
    key(
        "ddos_stage1_mode",
        "throttle",
        Slot::Word(StageOne::WORDS, |s, i| s.flood.stage1_mode = StageOne::from_word(i)),
    ),
    key("ddos_stage1_timeout", "10m", Slot::Secs(1, DAY, |s| &mut s.flood.stage1_timeout)),
    key("ddos_escalation_enabled", "true", Slot::Flag(|s| &mut s.flood.escalation_enabled)),
    key("ddos_escalation_window", "10m", Slot::Secs(1, YEAR, |s| &mut s.flood.escalation_window)),
    key("ddos_escalation_hits", "3", Slot::Count(1, 1000, |s| &mut s.flood.escalation_hits)),
    key("ddos_bantime", "1h", Slot::Span(|s| &mut s.flood.bantime)),
    key("dns_servers", "auto", Slot::Own(dns_servers)),
    key("rbl_enabled", "false", Slot::Flag(|s| &mut s.rbl_enabled)),
    key("community_cloud_protection", "false", Slot::Flag(|s| &mut s.cloud.lookup.enabled)),
    key("community_cloud_ports", "all", Slot::Ports(|s| &mut s.cloud.lookup.ports)),
    key("community_cloud_bantime", "1h", Slot::Span(|s| &mut s.cloud.lookup.bantime)),
    key("community_cloud_timeout", "2s", Slot::Secs(1, 60, |s| &mut s.cloud.lookup.timeout)),
    key("community_cloud_positive_ttl", "1h", Slot::Secs(1, YEAR, |s| &mut s.cloud.lookup.positive_ttl)),
    key("community_cloud_negative_ttl", "15m", Slot::Secs(1, YEAR, |s| &mut s.cloud.lookup.negative_ttl)),
    key("community_cloud_error_ttl", "30s", Slot::Secs(1, YEAR, |s| &mut s.cloud.lookup.error_ttl)),
    key("community_report", "false", Slot::Flag(|s| &mut s.cloud.report)),
    key("community_report_interval", "60s", Slot::Secs(1, DAY, |s| &mut s.cloud.report_interval)),
    key("community_member", "", Slot::Text(|s| &mut s.cloud.member)),
    key("community_key_file", "", Slot::Own(key_file)),
    key("community_zone", "", Slot::Text(|s| &mut s.cloud.zone)),
    key("community_server", "", Slot::Text(|s| &mut s.cloud.server)),
];

/// `rbl_<key>_<field>`.
pub(super) const ZONE_KEYS: &[Key<Zone>] = &[
    key("enabled", "false", Slot::Flag(|z| &mut z.enabled)),
    key("zone", "", Slot::Text(|z| &mut z.zone)),
    key("answer_match", "127.0.0.*", Slot::Names(|z| &mut z.answer_match)),
    key("ports", "all", Slot::Ports(|z| &mut z.ports)),
    key("bantime", "1h", Slot::Span(|z| &mut z.bantime)),
    key("timeout", "2s", Slot::Secs(1, 60, |z| &mut z.timeout)),
    key("positive_ttl", "1h", Slot::Secs(1, YEAR, |z| &mut z.positive_ttl)),
    key("negative_ttl", "15m", Slot::Secs(1, YEAR, |z| &mut z.negative_ttl)),
    key("error_ttl", "30s", Slot::Secs(1, YEAR, |z| &mut z.error_ttl)),
    key("no_test_entry", "false", Slot::Flag(|z| &mut z.no_test_entry)),
];

/// `ddos_port_<port>_<field>`; what is not given is as for all ports.
pub(super) const FLOOD_KEYS: &[Key<FloodLimits>] = &[
    key("syn_rate", "", Slot::Count(1, MANY, |l| &mut l.syn_rate)),
    key("syn_burst", "", Slot::Count(1, MANY, |l| &mut l.syn_burst)),
    key("newconn_rate", "", Slot::Count(1, MANY, |l| &mut l.newconn_rate)),
    key("newconn_burst", "", Slot::Count(1, MANY, |l| &mut l.newconn_burst)),
    key("connlimit", "", Slot::Count(1, MANY, |l| &mut l.connlimit)),
];

/// What a syslog level is called, by number; other names behind.
const KERNEL_LEVELS: &[&str] =
    &["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug", "error", "warning"];

fn kernel_level(word: usize) -> u8 {
    match word {
        8 => 3,
        9 => 4,
        n => u8::try_from(n).unwrap_or(4),
    }
}

/// The built-in settings: every key's default, read by the same code as a file.
impl Default for Settings {
    fn default() -> Settings {
        let mut settings = blank();
        keys::set_defaults(KEYS, &mut settings);
        settings.cloud.lookup.answer_match.push("127.0.0.2".to_string());
        settings
    }
}

fn state_sync(s: &mut Settings, text: &str) -> Result<(), Bad> {
    s.state_sync = if text == "never" { None } else { Some(value::secs(text, 0, YEAR)?) };
    Ok(())
}

fn journal_since(s: &mut Settings, text: &str) -> Result<(), Bad> {
    s.journal_since = value::ago(text)?;
    Ok(())
}

fn hook(command: &mut Vec<String>, text: &str) -> Result<(), Bad> {
    let words = value::command(text)?;
    if let Some(program) = words.first() {
        value::path(program)?;
    }
    *command = words;
    Ok(())
}

fn key_file(s: &mut Settings, text: &str) -> Result<(), Bad> {
    if !text.is_empty() {
        value::path(text)?;
    }
    s.cloud.key_file = text.to_string();
    Ok(())
}

fn ipv6_escalate(s: &mut Settings, text: &str) -> Result<(), Bad> {
    let mut lens: Vec<u8> = Vec::new();
    if text != "off" {
        value::items(text, &mut |at, item| {
            let len = value::count(item, 16, 127).map_err(|bad| bad.moved(at))?;
            let len = u8::try_from(len).unwrap_or(u8::MAX);
            if lens.last().is_some_and(|before| len >= *before) {
                return Err(Bad::word(
                    at,
                    item,
                    "is not wider than the one before",
                    "expected for example 56,48",
                ));
            }
            lens.push(len);
            Ok(())
        })?;
    }
    s.ipv6_escalate = lens;
    Ok(())
}

fn ps_interface(s: &mut Settings, text: &str) -> Result<(), Bad> {
    let mut names = value::names(text)?;
    let before = names.len();
    names.retain(|n| n != "auto");
    s.scan.interface.auto = names.len() != before;
    if names.iter().any(|n| n == "all") {
        names.clear();
        s.scan.interface.auto = false;
    }
    s.scan.interface.names = names;
    Ok(())
}

/// `auto`, ports, or both: the word stands among the ports.
fn ps_exclude_ports(s: &mut Settings, text: &str) -> Result<(), Bad> {
    let mut named = Vec::new();
    let mut listening = false;
    value::items(text, &mut |at, item| {
        if item == "auto" {
            listening = true;
        } else {
            Ports::parse(item).map_err(|bad| bad.moved(at))?;
            named.push(item.to_string());
        }
        Ok(())
    })?;
    let named = if named.is_empty() { None } else { Some(Ports::parse(&named.join(","))?) };
    s.scan.exclude_ports = ExcludedPorts { listening, named };
    Ok(())
}

fn dns_servers(s: &mut Settings, text: &str) -> Result<(), Bad> {
    let mut servers = Vec::new();
    if text != "auto" {
        value::items(text, &mut |at, item| {
            let wrong = || Bad::word(at, item, "is not an address", "expected auto, or addresses");
            servers.push(item.parse().map_err(|_| wrong())?);
            Ok(())
        })?;
    }
    s.dns_servers = servers;
    Ok(())
}
