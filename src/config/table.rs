#![forbid(unsafe_code)]
//! Section [global] of mef.conf: the tables of its keys with their defaults and limits.

use super::keys::{self, SettingKey, SettingSlot};
use super::settings::{FloodRates, Settings, Zone, blank};

const DAY: u32 = 86_400;
const YEAR: u32 = 366 * DAY;
const COUNT_MAX: u32 = 1_000_000;

const fn key<T>(
    name: &'static str,
    default: &'static str,
    slot: fn(&mut T) -> SettingSlot<'_>,
) -> SettingKey<T> {
    SettingKey { name, default, slot }
}

/// Every key of [global] that has a fixed name, in the order of the shipped mef.conf.
pub(super) const KEYS: &[SettingKey<Settings>] = &[
    key("rules_dir", "/etc/mef/rules.d", |s| SettingSlot::Path(&mut s.rules_dir)),
    key("webscan_dir", "/etc/mef/webscan.d", |s| SettingSlot::Path(&mut s.webscan_dir)),
    key("whitelist_dir", "/etc/mef/whitelist", |s| SettingSlot::Path(&mut s.whitelist_dir)),
    key("blacklist_dir", "/etc/mef/blacklist", |s| SettingSlot::Path(&mut s.blacklist_dir)),
    key("whitelist_reload", "1m", |s| SettingSlot::Reload(YEAR, &mut s.whitelist_reload)),
    key("blacklist_reload", "1m", |s| SettingSlot::Reload(YEAR, &mut s.blacklist_reload)),
    key("state_dir", "/var/lib/mef", |s| SettingSlot::Path(&mut s.state_dir)),
    key("state_sync", "5m", |s| SettingSlot::Never(&mut s.state_sync)),
    key("history_max", "10000", |s| SettingSlot::Count(0, COUNT_MAX, &mut s.history_max)),
    key("run_dir", "/run/mef", |s| SettingSlot::Path(&mut s.run_dir)),
    key("confine", "full", |s| SettingSlot::Word(&mut s.confine)),
    key("log", "syslog", |s| SettingSlot::Word(&mut s.log)),
    key("log_level", "info", |s| SettingSlot::Word(&mut s.log_level)),
    key("ban_log_enabled", "false", |s| SettingSlot::Flag(&mut s.ban_log_enabled)),
    key("ban_log_path", "/var/log/mef.log", |s| SettingSlot::Path(&mut s.ban_log_path)),
    key("ban_log_format", "plain", |s| SettingSlot::Word(&mut s.ban_log_format)),
    key("clear_bans_on_stop", "false", |s| SettingSlot::Flag(&mut s.clear_bans_on_stop)),
    key("ipv6_prefix", "64", |s| SettingSlot::Count(32, 128, &mut s.ipv6_prefix)),
    key("ipv6_escalate", "off", |s| SettingSlot::Prefixes(&mut s.ipv6_escalate)),
    key("trusted_proxies", "none", |s| SettingSlot::Nets(&mut s.trusted_proxies)),
    key("max_bans_per_minute", "1000", |s| SettingSlot::Count(1, COUNT_MAX, &mut s.max_bans_per_minute)),
    key("track_max", "4096", |s| SettingSlot::Count(64, 1 << 20, &mut s.track_max)),
    key("ban_action", "drop", |s| SettingSlot::Word(&mut s.ban_action)),
    key("ban_scope", "host,forward", |s| {
        SettingSlot::Both(["host", "forward"], [&mut s.ban_host, &mut s.ban_forward])
    }),
    key("fastpath", "auto", |s| SettingSlot::Word(&mut s.fastpath)),
    key("kill_connections", "true", |s| SettingSlot::Flag(&mut s.kill_connections)),
    key("element_counters", "false", |s| SettingSlot::Flag(&mut s.element_counters)),
    key("heal_interval", "60s", |s| SettingSlot::Secs(0, DAY, &mut s.heal_interval)),
    key("guard_owner", "false", |s| SettingSlot::Flag(&mut s.guard_owner)),
    key("load_managed", "false", |s| SettingSlot::Flag(&mut s.load_managed)),
    key("bantime_increment", "true", |s| SettingSlot::Flag(&mut s.bantime_increment)),
    key("bantime_factor", "4", |s| SettingSlot::Count(1, 100, &mut s.bantime_factor)),
    key("bantime_max", "1d", |s| SettingSlot::Secs(1, 10 * YEAR, &mut s.bantime_max)),
    key("on_ban", "none", |s| SettingSlot::Hook(&mut s.on_ban)),
    key("on_unban", "none", |s| SettingSlot::Hook(&mut s.on_unban)),
    key("hook_user", "root", |s| SettingSlot::Text(&mut s.hook_user)),
    key("journal_since", "2 min ago", |s| SettingSlot::Ago(&mut s.journal_since)),
    key("syslog_udp", "off", |s| SettingSlot::Loopback(&mut s.syslog_udp)),
    key("syslog_trusted", "false", |s| SettingSlot::Flag(&mut s.syslog_trusted)),
    key("file_recent_limit", "0", |s| SettingSlot::Count(0, 65_535, &mut s.file_recent_limit)),
    key("file_recent_window", "24h", |s| SettingSlot::Secs(0, YEAR, &mut s.file_recent_window)),
    key("firewall_backend", "auto", |s| SettingSlot::Word(&mut s.firewall_backend)),
    key("firewall_log_enabled", "true", |s| SettingSlot::Flag(&mut s.firewall_log_enabled)),
    key("firewall_log_prefix", "MEF_", |s| SettingSlot::Text(&mut s.firewall_log_prefix)),
    key("firewall_log_level", "warn", |s| SettingSlot::Word(&mut s.firewall_log_level)),
    key("firewall_log_rate", "1", |s| SettingSlot::Count(1, 10_000, &mut s.firewall_log_rate)),
    key("firewall_log_burst", "5", |s| SettingSlot::Count(1, 10_000, &mut s.firewall_log_burst)),
    key("ps_enabled", "true", |s| SettingSlot::Flag(&mut s.scan.enabled)),
    key("ps_limit", "75", |s| SettingSlot::Count(1, 65_535, &mut s.scan.limit)),
    key("ps_interval", "300", |s| SettingSlot::Secs(1, DAY, &mut s.scan.interval)),
    key("ps_bantime", "600", |s| SettingSlot::Secs(1, YEAR, &mut s.scan.bantime)),
    key("ps_interface", "auto", |s| SettingSlot::Interfaces(&mut s.scan.interface)),
    key("ps_interface_exclude", "lo", |s| SettingSlot::Names(&mut s.scan.interface_exclude)),
    key("ps_exclude_ports", "auto", |s| SettingSlot::ExcludedPorts(&mut s.scan.exclude_ports)),
    key("ps_boot_grace", "5m", |s| SettingSlot::Secs(0, YEAR, &mut s.scan.boot_grace)),
    key("ps_packet_udp", "false", |s| SettingSlot::Flag(&mut s.scan.udp)),
    key("ps_escalation_enabled", "false", |s| SettingSlot::Flag(&mut s.scan.escalation_enabled)),
    key("ps_escalation_window", "24h", |s| SettingSlot::Secs(1, YEAR, &mut s.scan.escalation_window)),
    key("ps_permanent_threshold", "3", |s| SettingSlot::Count(1, 1000, &mut s.scan.permanent_threshold)),
    key("ddos_enabled", "false", |s| SettingSlot::Flag(&mut s.flood.enabled)),
    key("ddos_ports", "80,443", |s| SettingSlot::Ports(&mut s.flood.ports)),
    key("ddos_syn_rate", "200", |s| SettingSlot::Count(1, COUNT_MAX, &mut s.flood.limits.syn_rate)),
    key("ddos_syn_burst", "1000", |s| SettingSlot::Count(1, COUNT_MAX, &mut s.flood.limits.syn_burst)),
    key("ddos_newconn_rate", "150", |s| SettingSlot::Count(1, COUNT_MAX, &mut s.flood.limits.newconn_rate)),
    key("ddos_newconn_burst", "750", |s| SettingSlot::Count(1, COUNT_MAX, &mut s.flood.limits.newconn_burst)),
    key("ddos_connlimit", "600", |s| SettingSlot::Count(1, COUNT_MAX, &mut s.flood.limits.connlimit)),
    key("ddos_stage1_mode", "throttle", |s| SettingSlot::Word(&mut s.flood.stage1_mode)),
    key("ddos_stage1_timeout", "10m", |s| SettingSlot::Secs(1, DAY, &mut s.flood.stage1_timeout)),
    key("ddos_escalation_enabled", "true", |s| SettingSlot::Flag(&mut s.flood.escalation_enabled)),
    key("ddos_escalation_window", "10m", |s| SettingSlot::Secs(1, YEAR, &mut s.flood.escalation_window)),
    key("ddos_escalation_hits", "3", |s| SettingSlot::Count(1, 1000, &mut s.flood.escalation_hits)),
    key("ddos_bantime", "1h", |s| SettingSlot::Span(&mut s.flood.bantime)),
    key("dns_servers", "auto", |s| SettingSlot::Addresses(&mut s.dns_servers)),
    key("rbl_enabled", "false", |s| SettingSlot::Flag(&mut s.rbl_enabled)),
    key("community_cloud_protection", "false", |s| SettingSlot::Flag(&mut s.cloud.lookup.enabled)),
    key("community_cloud_ports", "all", |s| SettingSlot::Ports(&mut s.cloud.lookup.ports)),
    key("community_cloud_bantime", "1h", |s| SettingSlot::Span(&mut s.cloud.lookup.bantime)),
    key("community_cloud_timeout", "2s", |s| SettingSlot::Secs(1, 60, &mut s.cloud.lookup.timeout)),
    key("community_cloud_positive_ttl", "1h", |s| {
        SettingSlot::Secs(1, YEAR, &mut s.cloud.lookup.positive_ttl)
    }),
    key("community_cloud_negative_ttl", "15m", |s| {
        SettingSlot::Secs(1, YEAR, &mut s.cloud.lookup.negative_ttl)
    }),
    key("community_cloud_error_ttl", "30s", |s| SettingSlot::Secs(1, YEAR, &mut s.cloud.lookup.error_ttl)),
    key("community_report", "false", |s| SettingSlot::Flag(&mut s.cloud.report)),
    key("community_report_manual", "false", |s| SettingSlot::Flag(&mut s.cloud.report_manual)),
    key("community_report_interval", "60s", |s| SettingSlot::Secs(1, DAY, &mut s.cloud.report_interval)),
    key("community_member", "", |s| SettingSlot::Text(&mut s.cloud.member)),
    key("community_key_file", "", |s| SettingSlot::OptionalPath(&mut s.cloud.key_file)),
    key("community_zone", "", |s| SettingSlot::Domain(&mut s.cloud.zone)),
    key("community_server", "", |s| SettingSlot::Server(&mut s.cloud.server)),
];

/// `rbl_<key>_<field>`.
pub(super) const ZONE_KEYS: &[SettingKey<Zone>] = &[
    key("enabled", "false", |z| SettingSlot::Flag(&mut z.enabled)),
    key("zone", "", |z| SettingSlot::Domain(&mut z.zone)),
    key("answer_match", "127.0.0.*", |z| SettingSlot::Names(&mut z.answer_match)),
    key("ports", "all", |z| SettingSlot::Ports(&mut z.ports)),
    key("bantime", "1h", |z| SettingSlot::Span(&mut z.bantime)),
    key("timeout", "2s", |z| SettingSlot::Secs(1, 60, &mut z.timeout)),
    key("positive_ttl", "1h", |z| SettingSlot::Secs(1, YEAR, &mut z.positive_ttl)),
    key("negative_ttl", "15m", |z| SettingSlot::Secs(1, YEAR, &mut z.negative_ttl)),
    key("error_ttl", "30s", |z| SettingSlot::Secs(1, YEAR, &mut z.error_ttl)),
    key("no_test_entry", "false", |z| SettingSlot::Flag(&mut z.no_test_entry)),
    key("mass_limit", "50", |z| SettingSlot::Count(1, 100, &mut z.mass_limit)),
];

/// `ddos_port_<port>_<field>`; what is not given is as for all ports.
pub(super) const FLOOD_KEYS: &[SettingKey<FloodRates>] = &[
    key("syn_rate", "", |l| SettingSlot::Count(1, COUNT_MAX, &mut l.syn_rate)),
    key("syn_burst", "", |l| SettingSlot::Count(1, COUNT_MAX, &mut l.syn_burst)),
    key("newconn_rate", "", |l| SettingSlot::Count(1, COUNT_MAX, &mut l.newconn_rate)),
    key("newconn_burst", "", |l| SettingSlot::Count(1, COUNT_MAX, &mut l.newconn_burst)),
    key("connlimit", "", |l| SettingSlot::Count(1, COUNT_MAX, &mut l.connlimit)),
];

/// The built-in settings: every key's default, read by the same code as a file.
impl Default for Settings {
    fn default() -> Settings {
        let mut settings = blank();
        keys::set_defaults(KEYS, &mut settings);
        settings.cloud.lookup.answer_match.push("127.0.0.2".to_string());
        settings
    }
}
