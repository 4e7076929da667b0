#![forbid(unsafe_code)]
//! Reads mef.conf: fixed keys by the table, keys that are made of parts, and what is said about all others.

use super::foreign;
use super::ini::{self, IniEntry};
use super::keys;
use super::parts::RuleDefault;
use super::service;
use super::settings::{Cloud, FloodRates, FloodSettings, Settings, zone};
use super::table::{FLOOD_KEYS, KEYS, ZONE_KEYS};
use super::zones;
use crate::base::build_part::BuildPart;
use crate::base::diag::decode;
use crate::base::diag::{Problem, Severity};

/// Profiles of DNSBLs, and ports with flood limits of their own, at most.
const ZONES_MAX: usize = 8;
const FLOOD_PORTS_MAX: usize = 32;

/// Other names of keys.
pub(super) const ALIASES: &[(&str, &str)] = &[("cache_dir", "state_dir"), ("blacklist_fastpath", "fastpath")];

const IN_KERNEL: &str = "scans are counted inside the kernel, no packet is copied to this program";
const OWN_TABLE: &str = "mef has tables of its own, inet mef and inet mef_guard";
const LEVEL: &str = "set log_level=debug";

/// Keys of the existing product that mean nothing here, and why.
pub(super) const LEGACY: &[(&str, &str)] = &[
    ("ps_source_order", IN_KERNEL),
    ("ps_packet_rx_mode", IN_KERNEL),
    ("ps_packet_fanout_sockets", IN_KERNEL),
    ("ps_packet_kernel_drop", IN_KERNEL),
    ("ps_conntrack_buffer_size", IN_KERNEL),
    ("ps_stats", "ask mef status"),
    ("ps_stats_interval", "ask mef status"),
    ("ps_exclude_ports_refresh", "the kernel knows at every packet which ports listen"),
    ("ddos_poll_interval", "the kernel reports each episode, nothing is polled"),
    ("ddos_signal_details_enabled", "the kernel's report carries the details"),
    ("debug", LEVEL),
    ("debug_log", LEVEL),
    ("journal_mode", "journal files are read directly"),
    ("blacklist_fastpath_xdp_mode", "the driver decides"),
    ("firewall_family", OWN_TABLE),
    ("firewall_table", OWN_TABLE),
    ("firewall_chain", OWN_TABLE),
    ("firewall_hook", OWN_TABLE),
    ("firewall_priority", OWN_TABLE),
];

const XDP: &str = "this version knows no xdp: it drops in prerouting raw";

/// Beginnings of keys whose part of the program does not exist yet: to accept them in silence would be a lie.
const LATER: &[(&str, &str)] = &[("fastpath", XDP), ("blacklist_fastpath", XDP)];

/// Reads mef.conf. The settings are complete in any case: a key with an error keeps its default.
#[must_use]
pub fn parse_global(text: &[u8]) -> (Settings, Vec<Problem>) {
    let mut settings = Settings::default();
    let mut problems = Vec::new();
    if let Some(text) = decode(text, &mut problems) {
        let mut reader = SettingsReader { settings: &mut settings, later: 0, zone_lines: Vec::new() };
        ini::read(text, &["global", "defaults"], &mut problems, &mut |entry, problems| match entry.section {
            "defaults" => reader.rule_default(entry, problems),
            _ => reader.entry(entry, problems),
        });
        let zone_lines = reader.zone_lines;
        for (zone, problem) in settings.zones.iter().zip(zone_lines) {
            if zone.enabled && zone.zone.is_empty() {
                problems.push(problem);
            }
        }
        inherit_limits(&mut settings.flood);
        let Cloud { zone, lookup, .. } = &mut settings.cloud;
        if !zone.is_empty() {
            lookup.zone = ["bl.", zone].concat();
            lookup.answer_match = vec!["127.0.0.2".to_owned()];
        }
        zones::warn(&settings, &mut problems);
    }
    (settings, problems)
}

/// Keys with a default that mef.conf does not name, by this name or another, with that default.
#[must_use]
pub fn missing_keys(text: &[u8]) -> Vec<(&'static str, &'static str)> {
    let keys = KEYS.iter().filter(|key| !key.default.is_empty());
    let mut missing: Vec<_> = keys.map(|key| (key.name, key.default)).collect();
    if let Some(text) = decode(text, &mut Vec::new()) {
        ini::read(text, &["global"], &mut Vec::new(), &mut |entry, _| {
            let alias = ALIASES.iter().find(|(alias, _)| *alias == entry.key);
            let name = alias.map_or(entry.key, |(_, name)| name);
            missing.retain(|(missing, _)| *missing != name);
        });
    }
    missing
}

/// What is remembered from line to line.
struct SettingsReader<'s> {
    settings: &'s mut Settings,
    /// Which rows of `LATER` were told.
    later: u32,
    /// What to say if the profile with the same index has no zone.
    zone_lines: Vec<Problem>,
}

/// A value that asks for a part that a build may leave out.
struct OfPart {
    key: &'static str,
    value: &'static str,
    part: BuildPart,
}

const LEFT_OUT: [OfPart; 2] = [
    OfPart { key: "firewall_backend", value: "iptables", part: BuildPart::Fallback },
    OfPart { key: "community_report", value: "true", part: BuildPart::Cloud },
];

impl SettingsReader<'_> {
    fn entry(&mut self, entry: &IniEntry<'_>, problems: &mut Vec<Problem>) {
        if let Some((_, why)) = LEGACY.iter().find(|(name, _)| *name == entry.key) {
            problems.push(keys::no_longer_needed(entry, why));
            return;
        }
        let name = ALIASES.iter().find(|(alias, _)| *alias == entry.key).map_or(entry.key, |(_, name)| name);
        let known = match keys::find(KEYS, name) {
            Some(key) => {
                keys::store((key.slot)(self.settings), key.default, entry, problems);
                if entry.value == key.default {
                    return;
                }
                true
            }
            None => self.zone_key(entry, problems) || self.flood_key(entry, problems),
        };
        if known {
            self.say_later(entry, problems);
            let missing = LEFT_OUT.iter().find(|row| (row.key, row.value) == (entry.key, entry.value));
            if let Some(row) = missing.filter(|row| !row.part.is_in()) {
                let hint = "make without ROUTER=1 builds all of it".to_owned();
                problems.push(entry.key_problem(Severity::Error, row.part.is_missing(), hint));
            }
        } else if let Some(problem) = foreign::in_conf(entry) {
            problems.push(problem);
        } else if is_of_rules(entry.key) {
            let what = ["'", entry.key, "' is a key of service rules"].concat();
            let hint = match is_default(entry.key) {
                true => "for all rules it belongs in section [defaults]",
                false => "it belongs in a file of rules_dir, in section [rule]",
            };
            problems.push(entry.key_problem(Severity::Error, what, hint.to_owned()));
        } else {
            let names = KEYS.iter().map(|k| k.name).chain(ALIASES.iter().map(|(alias, _)| *alias));
            problems.push(keys::unknown(entry, names));
        }
    }

    /// One line of [defaults].
    fn rule_default(&mut self, entry: &IniEntry<'_>, problems: &mut Vec<Problem>) {
        let Some(key) = keys::find(service::KEYS, entry.key).filter(|key| is_default(key.name)) else {
            let known = service::KEYS.iter().map(|key| key.name).filter(|name| is_default(name));
            problems.push(match (foreign::in_rule(entry), is_of_rules(entry.key)) {
                (Some(problem), _) => problem,
                (None, true) => {
                    let what = ["'", entry.key, "' belongs to one rule"].concat();
                    let hint = "it belongs in a file of rules_dir, in section [rule]";
                    entry.key_problem(Severity::Error, what, hint.to_owned())
                }
                (None, false) => keys::unknown(entry, known),
            });
            return;
        };
        let before = problems.len();
        let mut scratch = service::blank();
        keys::store((key.slot)(&mut scratch), key.default, entry, problems);
        if problems.len() == before {
            let value = entry.unquoted().into_owned();
            self.settings.rule_defaults.push(RuleDefault { key: key.name, value, line: entry.line });
        }
    }

    /// Warns once for each part that does not exist yet.
    fn say_later(&mut self, entry: &IniEntry<'_>, problems: &mut Vec<Problem>) {
        for (i, (prefix, what)) in LATER.iter().enumerate() {
            let there = *what == XDP && entry.value != "xdp";
            if entry.key.starts_with(prefix) && !there && self.later & 1 << i == 0 {
                self.later |= 1 << i;
                let hint = "the setting is checked and otherwise ignored".to_string();
                problems.push(entry.key_problem(Severity::Warning, what.to_string(), hint));
            }
        }
    }

    /// `rbl_<key>_<field>`; false when the key is none of these.
    fn zone_key(&mut self, entry: &IniEntry<'_>, problems: &mut Vec<Problem>) -> bool {
        let Some((name, field)) = entry.key.strip_prefix("rbl_").and_then(|k| k.split_once('_')) else {
            return false;
        };
        let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let Some(key) = keys::find(ZONE_KEYS, field).filter(|_| named) else { return false };
        let zones = &mut self.settings.zones;
        let at = zones.iter().position(|z| z.key == name).unwrap_or(zones.len());
        if at == zones.len() {
            if at == ZONES_MAX {
                let hint = "remove another profile first".to_string();
                let what = ["more than 8 DNSBL profiles: '", name, "'"].concat();
                problems.push(entry.key_problem(Severity::Error, what, hint));
                return true;
            }
            let mut zone = zone(name);
            keys::set_defaults(ZONE_KEYS, &mut zone);
            zones.push(zone);
            let what = ["the DNSBL profile '", name, "' has no zone"].concat();
            let hint = ["add rbl_", name, "_zone=…"].concat();
            self.zone_lines.push(entry.key_problem(Severity::Error, what, hint));
        }
        if let Some(zone) = zones.get_mut(at) {
            keys::store((key.slot)(zone), key.default, entry, problems);
        }
        true
    }

    /// `ddos_port_<port>_<field>`; false when the key is none of these.
    fn flood_key(&mut self, entry: &IniEntry<'_>, problems: &mut Vec<Problem>) -> bool {
        let parts = entry.key.strip_prefix("ddos_port_").and_then(|k| k.split_once('_'));
        let key = parts.and_then(|(port, field)| port.parse::<u16>().ok().zip(keys::find(FLOOD_KEYS, field)));
        let Some((port, key)) = key else { return false };
        let ports = &mut self.settings.flood.port_limits;
        let at = ports.iter().position(|(p, _)| *p == port).unwrap_or(ports.len());
        if at == ports.len() {
            if at == FLOOD_PORTS_MAX || port == 0 {
                let what = "no limits for this port".to_string();
                let hint = "ports are 1 to 65535, and at most 32 have limits of their own".to_string();
                problems.push(entry.key_problem(Severity::Error, what, hint));
                return true;
            }
            ports.push((port, FloodRates::default()));
        }
        if let Some((_, limits)) = ports.get_mut(at) {
            keys::store((key.slot)(limits), key.default, entry, problems);
        }
        true
    }
}

/// Keys of service rules that are about one rule.
const OF_ONE: [&str; 7] = ["name", "source", "trust", "programs", "files", "command", "engine"];

fn is_of_rules(key: &str) -> bool {
    keys::find(service::KEYS, key).is_some() || service::PATTERN_KEYS.contains(&key)
}

/// Whether a key of service rules can hold for all of them.
fn is_default(key: &str) -> bool {
    keys::find(service::KEYS, key).is_some() && !OF_ONE.contains(&key)
}

/// Fields that a port does not have are those of all ports; known only at the end of the file.
fn inherit_limits(flood: &mut FloodSettings) {
    let all = flood.limits;
    for (_, own) in &mut flood.port_limits {
        let pairs = [
            (&mut own.syn_rate, all.syn_rate),
            (&mut own.syn_burst, all.syn_burst),
            (&mut own.newconn_rate, all.newconn_rate),
            (&mut own.newconn_burst, all.newconn_burst),
            (&mut own.connlimit, all.connlimit),
        ];
        for (own, all) in pairs {
            if *own == 0 {
                *own = all;
            }
        }
    }
}
