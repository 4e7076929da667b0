#![forbid(unsafe_code)]
//! What mef.conf says of the guard table and the journal.

use crate::base::clock::Wall;
use crate::config::{BanAction, ServiceRule, Settings};
use crate::firewall::guard::{DropLog, Options, Reach, Scope};
use crate::state::StateError;
use crate::state::journal::Journal;
use std::path::Path;
use std::time::Duration;

/// The guard table's options.
#[must_use]
pub fn options(settings: &Settings) -> Options {
    let log = DropLog {
        prefix: std::ffi::CString::new(settings.firewall_log_prefix.as_str()).unwrap_or_default(),
        level: settings.firewall_log_level as u32,
        rate: settings.firewall_log_rate.max(1),
        burst: settings.firewall_log_burst.max(1),
    };
    Options {
        ipv6_prefix: u8::try_from(settings.ipv6_prefix).unwrap_or(64),
        reject: settings.ban_action == BanAction::Reject,
        reach: match (settings.ban_host, settings.ban_forward) {
            (true, false) => Reach::Host,
            (false, true) => Reach::Forward,
            _ => Reach::HostAndForward,
        },
        log: settings.firewall_log_enabled.then_some(log),
        element_counters: settings.element_counters,
    }
}

/// The ports that a service rule's bans close.
#[must_use]
pub fn scope(rule: &ServiceRule) -> Scope {
    Scope::new(rule.ports.ranges().to_vec(), rule.tcp, rule.udp)
}

/// Opens the ban journal; the second value is to be told.
///
/// # Errors
/// There is none and none can be made.
pub fn journal(
    settings: &Settings,
    now: Wall,
    patience: Duration,
) -> Result<(Journal, Option<StateError>), StateError> {
    Journal::open(Path::new(&settings.state_dir), now, crate::sys::random::key(), patience)
}
