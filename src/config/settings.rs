#![forbid(unsafe_code)]
//! What mef.conf says, as plain data. Other parts never see text of the file.

pub use super::setting_groups::{Cloud, FloodRates, FloodSettings, InterfaceChoice, ScanSettings, Zone};

use super::keys::words;
use super::ports::PortRanges;
use crate::ban::BackendChoice;
use crate::base::clock::Span;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

words! {
    /// Where the daemon's own messages go.
    LogTo {
        /// The system's log.
        Syslog = "syslog",
        /// Standard error.
        Stderr = "stderr",
        /// Both of them.
        Both = "both",
    }
}
words! {
    /// The least important message that is logged.
    LogLevel {
        /// Failures only.
        Error = "error",
        /// And what may become one.
        Warn = "warn",
        /// And what happened.
        Info = "info",
        /// And how.
        Debug = "debug",
        | "warning" => Warn,
    }
}
words! {
    /// What a line of the ban log looks like.
    BanLogFormat {
        /// `2026-11-22T08:00:01Z ban 192.0.2.7 rule=sshd …`
        Plain = "plain",
        /// `2026-11-22T08:00:01Z RULE=SSHD | SOURCE=LOG | BAN | ip=192.0.2.7 | …`
        Mef = "mef",
    }
}
words! {
    /// How much the daemon gives up of what it may do.
    Confine {
        /// All that a kernel can take from a process.
        Full = "full",
        /// Capabilities, and what a program that it starts could gain.
        Basic = "basic",
        /// Nothing.
        Off = "off",
    }
}
words! {
    /// What happens to a banned packet.
    BanAction {
        /// Nothing is sent back.
        Drop = "drop",
        /// A reset or an ICMP error is sent back.
        Reject = "reject",
    }
}
words! {
    /// Where banned packets are dropped.
    Fastpath {
        /// In prerouting raw, the fastest that was measured.
        Auto = "auto",
        /// The same, without any other way being tried.
        Off = "off",
        /// In the ingress hook of the outside interfaces.
        Ingress = "ingress",
        /// In the driver.
        Xdp = "xdp",
        | "tc" => Ingress,
        | "disabled" => Off,
    }
}
words! {
    /// Which kernel interface is used.
    Backend {
        /// nftables if the kernel has it.
        Auto = "auto",
        /// nftables or nothing.
        Nftables = "nftables",
        /// iptables and ipset.
        Iptables = "iptables",
    }
}
impl From<Backend> for BackendChoice {
    fn from(backend: Backend) -> BackendChoice {
        match backend {
            Backend::Auto => BackendChoice::Auto,
            Backend::Nftables => BackendChoice::Nftables,
            Backend::Iptables => BackendChoice::Iptables,
        }
    }
}
words! {
    /// Importance of a kernel log line; the numbers are syslog's, 0 to 7.
    KernelLevel {
        /// The system cannot go on.
        Emerg = "emerg",
        /// Somebody must act now.
        Alert = "alert",
        /// Critical.
        Crit = "crit",
        /// An error.
        Err = "err",
        /// A warning.
        Warn = "warn",
        /// Normal, and worth a note.
        Notice = "notice",
        /// Information.
        Info = "info",
        /// For developers.
        Debug = "debug",
        | "error" => Err,
        | "warning" => Warn,
    }
}
words! {
    /// What happens to packets of a source in the flood throttle.
    StageOne {
        /// Those over the limit are dropped.
        Throttle = "throttle",
        /// All of them are dropped.
        Drop = "drop",
    }
}

/// Section [global]. Fields are named as the keys are.
#[cfg_attr(test, derive(Debug, Clone, PartialEq, Eq))]
#[allow(
    missing_docs,
    reason = "each field is the key of that name, which mef.conf documents; units are below"
)]
pub struct Settings {
    /// Directory of service rules.
    pub rules_dir: String,
    /// Directory of service rules that are of engine=webscan if they do not say it.
    pub webscan_dir: String,
    /// What holds for rules that do not say it themselves.
    pub rule_defaults: Vec<super::RuleDefault>,
    /// Directory of allow lists.
    pub whitelist_dir: String,
    /// Directory of deny lists.
    pub blacklist_dir: String,
    /// Seconds; 0 = only on SIGHUP, anything else = at once.
    pub whitelist_reload: u32,
    /// Seconds; 0 = only on SIGHUP, anything else = at once.
    pub blacklist_reload: u32,
    /// Directory of what outlives a reboot.
    pub state_dir: String,
    /// Seconds, 0 = at once, `None` = never.
    pub state_sync: Option<u32>,
    /// Events that the ban journal keeps for `mef history`.
    pub history_max: u32,
    /// Directory of the control socket and the pid file.
    pub run_dir: String,
    /// How much the daemon gives up of what it may do.
    pub confine: Confine,
    /// Where the daemon's own messages go.
    pub log: LogTo,
    /// The least important of them.
    pub log_level: LogLevel,
    /// Write one line for each ban event.
    pub ban_log_enabled: bool,
    /// The file for these lines.
    pub ban_log_path: String,
    pub ban_log_format: BanLogFormat,
    /// Remove all bans when the daemon stops.
    pub clear_bans_on_stop: bool,
    /// Bits, 32 to 128.
    pub ipv6_prefix: u32,
    /// Bits, each shorter than the one before; empty = off.
    pub ipv6_escalate: Vec<u8>,
    /// Addresses that speak for others and are never banned.
    pub trusted_proxies: Vec<IpNet>,
    /// Beyond it, new bans are short.
    pub max_bans_per_minute: u32,
    /// Offenders tracked at a time.
    pub track_max: u32,
    /// What becomes of a banned packet.
    pub ban_action: BanAction,
    /// Traffic to this host.
    pub ban_host: bool,
    /// Traffic that this host forwards.
    pub ban_forward: bool,
    /// Where banned packets are dropped.
    pub fastpath: Fastpath,
    /// A ban ends the connections that are there.
    pub kill_connections: bool,
    /// Count packets for each banned address.
    pub element_counters: bool,
    /// Seconds between two looks at the tables while nothing else happens; 0 = none then.
    pub heal_interval: u32,
    /// The table of bans is the daemon's own: nobody else changes it.
    pub guard_owner: bool,
    /// Put the rule set back as well when the ruleset was flushed.
    pub load_managed: bool,
    /// Each further ban of an address lasts longer.
    pub bantime_increment: bool,
    /// So many times as long.
    pub bantime_factor: u32,
    /// Seconds.
    pub bantime_max: u32,
    /// Program and arguments to run at a ban; empty = none.
    pub on_ban: Vec<String>,
    /// The same for the end of a ban.
    pub on_unban: Vec<String>,
    /// As whom they run.
    pub hook_user: String,
    /// Seconds before now.
    pub journal_since: u32,
    /// Every local user is trusted: what a syslog daemon wrote down is as good as any other evidence.
    pub syslog_trusted: bool,
    /// Where a syslog daemon may forward to beside the socket in run_dir.
    pub syslog_udp: Option<SocketAddr>,
    /// Most recent files that a glob stands for; 0 = all.
    pub file_recent_limit: u32,
    /// Seconds, 0 = any age.
    pub file_recent_window: u32,
    /// Which kernel interface is used.
    pub firewall_backend: Backend,
    /// Log banned packets.
    pub firewall_log_enabled: bool,
    /// How these lines begin.
    pub firewall_log_prefix: String,
    /// How important they are.
    pub firewall_log_level: KernelLevel,
    /// Messages a second.
    pub firewall_log_rate: u32,
    /// Messages at once.
    pub firewall_log_burst: u32,
    /// Empty = those of resolv.conf.
    pub dns_servers: Vec<IpAddr>,
    /// `ps_*`.
    pub scan: ScanSettings,
    /// `ddos_*`.
    pub flood: FloodSettings,
    /// Ask DNSBLs at all.
    pub rbl_enabled: bool,
    /// `rbl_<key>_*`, in the order of the file.
    pub zones: Vec<Zone>,
    /// `community_*`.
    pub cloud: Cloud,
}

impl Settings {
    /// The lists that are asked, that of the cloud behind the others.
    pub fn zones_on(&self) -> impl Iterator<Item = &Zone> {
        let zones = self.zones.iter().filter(|zone| self.rbl_enabled && zone.enabled);
        let cloud = Some(&self.cloud.lookup).filter(|zone| zone.enabled);
        zones.chain(cloud).filter(|zone| !zone.zone.is_empty())
    }
}

/// Settings before the defaults of the table are put in.
pub(super) fn blank() -> Settings {
    let flood = FloodSettings {
        enabled: false,
        ports: PortRanges::default(),
        limits: FloodRates::default(),
        port_limits: Vec::new(),
        stage1_mode: StageOne::default(),
        stage1_timeout: 0,
        escalation_enabled: false,
        escalation_window: 0,
        escalation_hits: 0,
        bantime: Span::Permanent,
    };
    let cloud = Cloud {
        report: false,
        report_manual: false,
        report_interval: 0,
        member: String::new(),
        key_file: String::new(),
        zone: String::new(),
        server: None,
        lookup: zone("community"),
    };
    Settings {
        rules_dir: String::new(),
        webscan_dir: String::new(),
        rule_defaults: Vec::new(),
        whitelist_dir: String::new(),
        blacklist_dir: String::new(),
        whitelist_reload: 0,
        blacklist_reload: 0,
        state_dir: String::new(),
        state_sync: None,
        history_max: 0,
        run_dir: String::new(),
        confine: Confine::default(),
        log: LogTo::default(),
        log_level: LogLevel::default(),
        ban_log_enabled: false,
        ban_log_path: String::new(),
        ban_log_format: BanLogFormat::default(),
        clear_bans_on_stop: false,
        ipv6_prefix: 0,
        ipv6_escalate: Vec::new(),
        trusted_proxies: Vec::new(),
        max_bans_per_minute: 0,
        track_max: 0,
        ban_action: BanAction::default(),
        ban_host: false,
        ban_forward: false,
        fastpath: Fastpath::default(),
        kill_connections: false,
        element_counters: false,
        heal_interval: 0,
        guard_owner: false,
        load_managed: false,
        bantime_increment: false,
        bantime_factor: 0,
        bantime_max: 0,
        on_ban: Vec::new(),
        on_unban: Vec::new(),
        hook_user: String::new(),
        journal_since: 0,
        syslog_trusted: false,
        syslog_udp: None,
        file_recent_limit: 0,
        file_recent_window: 0,
        firewall_backend: Backend::default(),
        firewall_log_enabled: false,
        firewall_log_prefix: String::new(),
        firewall_log_level: KernelLevel::default(),
        firewall_log_rate: 0,
        firewall_log_burst: 0,
        dns_servers: Vec::new(),
        scan: ScanSettings::default(),
        flood,
        rbl_enabled: false,
        zones: Vec::new(),
        cloud,
    }
}

/// A profile without its defaults.
pub(super) fn zone(key: &str) -> Zone {
    Zone {
        key: key.to_string(),
        enabled: false,
        zone: String::new(),
        answer_match: Vec::new(),
        ports: PortRanges::default(),
        bantime: Span::Permanent,
        timeout: 0,
        positive_ttl: 0,
        negative_ttl: 0,
        error_ttl: 0,
        no_test_entry: false,
        mass_limit: 50,
    }
}

/// Whether a directory of the configuration is for mef alone, by its name.
#[must_use]
pub fn is_ours(dir: &str) -> bool {
    dir.split('/')
        .any(|part| part.strip_prefix("mef").is_some_and(|r| r.is_empty() || r.starts_with(['-', '.'])))
}
