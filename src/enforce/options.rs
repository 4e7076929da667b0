#![forbid(unsafe_code)]
//! What mef.conf says of the guard table and the journal.

use crate::ban::{
    Capabilities, DropLog, FloodLimits, FloodOptions, Options, Reach, ScanOptions, Scope, SeenOptions,
    Transports,
};
use crate::base::clock::{Mono, Wall};
use crate::base::line::quotable_plain;
use crate::base::name::IfName;
use crate::config::{BanAction, Fastpath, FloodSettings, ServiceRule, Settings, StageOne};
use crate::state::StateError;
use crate::state::journal::BanJournal;
use crate::sys::routes::default_interfaces;
use std::path::Path;
use std::time::Duration;

/// Outside interfaces at most.
const INTERFACES_MAX: usize = 32;

/// The guard table's options.
#[must_use]
pub fn options(settings: &Settings) -> Options {
    let prefix: String = settings.firewall_log_prefix.chars().map(quotable_plain).collect();
    let log = DropLog {
        prefix: std::ffi::CString::new(prefix).unwrap_or_default(),
        level: settings.firewall_log_level as u32,
        rate: settings.firewall_log_rate.max(1),
        burst: settings.firewall_log_burst.max(1),
    };
    Options {
        backend: settings.firewall_backend.into(),
        ipv6_prefix: u8::try_from(settings.ipv6_prefix).unwrap_or(64),
        reject: settings.ban_action == BanAction::Reject,
        reach: match (settings.ban_host, settings.ban_forward) {
            (true, false) => Reach::Host,
            (false, true) => Reach::Forward,
            _ => Reach::HostAndForward,
        },
        log: settings.firewall_log_enabled.then_some(log),
        element_counters: settings.element_counters,
        owner: settings.guard_owner,
        ingress: Vec::new(),
        scan: None,
        flood: None,
        seen: None,
        without: Capabilities::NONE,
    }
}

/// The same with all that the daemon sees to: commands make a table without, which costs them nothing.
#[must_use]
pub fn all_options(settings: &Settings) -> Options {
    let mut options = options(settings);
    let scan = &settings.scan;
    options.scan = scan.enabled.then(|| ScanOptions {
        limit: scan.limit,
        interval: scan.interval,
        bantime: scan.bantime,
        udp: scan.udp,
        interfaces: None,
        excluded: Vec::new(),
        listening: scan.exclude_ports.listening,
        ports: scan.exclude_ports.named.iter().flat_map(|ports| ports.ranges()).copied().collect(),
        // The clock begins with the boot.
        calm_until: Mono(u64::from(scan.boot_grace) * 1000),
    });
    options.flood = settings.flood.enabled.then(|| flood(&settings.flood));
    options.seen = seen(settings);
    Outside::of(settings).put(&mut options);
    options
}

/// Whose connections DNSBLs are to be asked about: those to the ports of any profile that is on.
fn seen(settings: &Settings) -> Option<SeenOptions> {
    // Whoever has the shortest memory asks again first.
    let timeout = settings.zones_on().map(|zone| zone.positive_ttl.min(zone.negative_ttl)).min()?;
    let asks_all = settings.zones_on().any(|zone| zone.ports.is_all());
    let ports = if asks_all { None } else { Some(settings.zones_on()) };
    let mut ports: Vec<_> =
        ports.into_iter().flatten().flat_map(|zone| zone.ports.ranges()).copied().collect();
    ports.sort_unstable();
    ports.dedup();
    Some(SeenOptions { ports, timeout })
}

/// What is held back; ports with limits of their own come first.
fn flood(flood: &FloodSettings) -> FloodOptions {
    let limits = |l: &crate::config::FloodRates| FloodLimits {
        syn: (l.syn_rate, l.syn_burst),
        new: (l.newconn_rate, l.newconn_burst),
        conns: l.connlimit,
    };
    let mut ports: Vec<_> = flood.port_limits.iter().map(|(port, l)| (*port, *port, limits(l))).collect();
    let all = [(1, u16::MAX)];
    let ranges = if flood.ports.is_all() { &all } else { flood.ports.ranges() };
    ports.extend(ranges.iter().map(|&(from, to)| (from, to, limits(&flood.limits))));
    FloodOptions { ports, drop: flood.stage1_mode == StageOne::Drop, timeout: flood.stage1_timeout }
}

/// What the options say of interfaces.
pub struct Outside {
    scan: Option<(Vec<IfName>, bool)>,
    excluded: Vec<IfName>,
    ingress: bool,
}

impl Outside {
    /// Of the configuration.
    #[must_use]
    pub fn of(settings: &Settings) -> Outside {
        let scan = &settings.scan;
        let named = |names: &[String]| names.iter().filter_map(|name| IfName::new(name)).collect::<Vec<_>>();
        let mut excluded = named(&scan.interface_exclude);
        excluded.extend(IfName::new("lo"));
        Outside {
            scan: scan.enabled.then(|| (named(&scan.interface.names), scan.interface.auto)),
            excluded,
            ingress: settings.fastpath == Fastpath::Ingress,
        }
    }

    /// Whether they depend on which interfaces default routes use.
    #[must_use]
    pub fn matters(&self) -> bool {
        self.ingress || self.scan.as_ref().is_some_and(|(_, auto)| *auto)
    }

    /// Writes the interfaces that there are now into the options.
    pub fn put(&self, options: &mut Options) {
        let mut outside = Vec::new();
        if self.matters() {
            outside = default_interfaces().unwrap_or_default();
            outside.truncate(INTERFACES_MAX);
        }
        if let Some(((names, auto), scan)) = self.scan.as_ref().zip(options.scan.as_mut()) {
            let mut interfaces = names.clone();
            interfaces.extend(outside.iter().filter(|_| *auto));
            // Without a default route, strangers may come from anywhere.
            scan.interfaces = (!interfaces.is_empty()).then(|| {
                interfaces.retain(|name| !self.excluded.contains(name));
                interfaces
            });
            scan.excluded.clone_from(&self.excluded);
        }
        if self.ingress {
            options.ingress = outside;
        }
    }
}

/// The ports that a service rule's bans close.
#[must_use]
pub fn scope(rule: &ServiceRule) -> Scope {
    let transports = match (rule.tcp, rule.udp) {
        (true, false) => Transports::Tcp,
        (false, true) => Transports::Udp,
        _ => Transports::Both,
    };
    Scope::new(rule.ports.ranges().to_vec(), transports)
}

/// Opens the ban journal; the second value is to be told.
///
/// # Errors
/// There is none and none can be made.
pub fn journal(
    settings: &Settings,
    now: Wall,
    patience: Duration,
) -> Result<(BanJournal, Option<StateError>), StateError> {
    BanJournal::open(Path::new(&settings.state_dir), now, crate::sys::random::key(), patience)
}
