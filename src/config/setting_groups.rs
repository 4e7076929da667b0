#![forbid(unsafe_code)]
//! Settings that belong together: of a guard, of a DNSBL, of the community cloud.

use super::ports::{ExcludedPorts, PortRanges};
use super::settings::StageOne;
use super::value;
use crate::base::clock::Span;
use crate::base::diag::Checked;
use std::net::SocketAddr;

/// A set of interfaces by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InterfaceChoice {
    /// Those of the default routes.
    pub auto: bool,
    /// Further names; empty without `auto` means all.
    pub names: Vec<String>,
}

impl InterfaceChoice {
    /// `auto`, names, both; or `all`.
    pub(super) fn parse(text: &str) -> Checked<InterfaceChoice> {
        let mut names = value::names(text)?;
        let all = names.iter().any(|n| n == "all");
        let auto = !all && names.iter().any(|n| n == "auto");
        names.retain(|n| !all && n != "auto");
        Ok(InterfaceChoice { auto, names })
    }
}

/// The port scan guard (`ps_*`).
#[derive(Default)]
#[cfg_attr(test, derive(Debug, Clone, PartialEq, Eq))]
pub struct ScanSettings {
    /// Guard at all.
    pub enabled: bool,
    /// Distinct closed ports within `interval` that are still fine.
    pub limit: u32,
    /// Seconds.
    pub interval: u32,
    /// Seconds; never permanent, since a SYN has no proven sender.
    pub bantime: u32,
    /// Where scans are looked for.
    pub interface: InterfaceChoice,
    /// Where they are not.
    pub interface_exclude: Vec<String>,
    /// Ports that never count.
    pub exclude_ports: ExcludedPorts,
    /// Count UDP as well.
    pub udp: bool,
    /// Seconds after the boot in which nothing counts.
    pub boot_grace: u32,
    /// Ban repeated scanners for longer.
    pub escalation_enabled: bool,
    /// Seconds in which those bans must fall.
    pub escalation_window: u32,
    /// That many of them.
    pub permanent_threshold: u32,
}

/// Limits of the flood guard for one source address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FloodRates {
    /// SYN packets a second.
    pub syn_rate: u32,
    /// SYN packets at once.
    pub syn_burst: u32,
    /// New connections a second.
    pub newconn_rate: u32,
    /// New connections at once.
    pub newconn_burst: u32,
    /// Connections at the same time.
    pub connlimit: u32,
}

/// The flood guard (`ddos_*`).
#[cfg_attr(test, derive(Debug, Clone, PartialEq, Eq))]
pub struct FloodSettings {
    /// Guard at all.
    pub enabled: bool,
    /// Ports that are guarded.
    pub ports: PortRanges,
    /// Limits for all of them.
    pub limits: FloodRates,
    /// Ports with limits of their own.
    pub port_limits: Vec<(u16, FloodRates)>,
    /// What the throttle does.
    pub stage1_mode: StageOne,
    /// Seconds that a source stays in the throttle.
    pub stage1_timeout: u32,
    /// Ban after several episodes.
    pub escalation_enabled: bool,
    /// Seconds in which the episodes must fall.
    pub escalation_window: u32,
    /// That many of them.
    pub escalation_hits: u32,
    /// Of that ban.
    pub bantime: Span,
}

/// One DNSBL profile (`rbl_<key>_*`, and the community cloud's).
#[cfg_attr(test, derive(Debug, Clone, PartialEq, Eq))]
pub struct Zone {
    /// The profile's name.
    pub key: String,
    /// Ask it at all.
    pub enabled: bool,
    /// The domain below which addresses are looked up.
    pub zone: String,
    /// Globs over the answer that mean a listing.
    pub answer_match: Vec<String>,
    /// Ports that a listing closes.
    pub ports: PortRanges,
    /// Of such a ban.
    pub bantime: Span,
    /// Seconds to wait for an answer.
    pub timeout: u32,
    /// Seconds that a listing is remembered.
    pub positive_ttl: u32,
    /// Seconds that its absence is remembered.
    pub negative_ttl: u32,
    /// Seconds that a failure is remembered.
    pub error_ttl: u32,
    /// The zone lacks the test entries of RFC 5782.
    pub no_test_entry: bool,
    /// A list that has more than so many percent of those asked about is not believed.
    pub mass_limit: u32,
}

/// The community cloud (`community_*`).
#[cfg_attr(test, derive(Debug, Clone, PartialEq, Eq))]
pub struct Cloud {
    /// Tell the others about bans.
    pub report: bool,
    /// Those by hand, too.
    pub report_manual: bool,
    /// Seconds between reports.
    pub report_interval: u32,
    /// Our name below the zone.
    pub member: String,
    /// File with the TSIG key; empty for none.
    pub key_file: String,
    /// The zone that is shared.
    pub zone: String,
    /// The server that takes updates.
    pub server: Option<SocketAddr>,
    /// Looking others' bans up.
    pub lookup: Zone,
}
