#![forbid(unsafe_code)]
//! What becomes of a rule's hits: thresholds, what its bans are to be, and what has been counted for it.

use crate::ban::{FLOODS, LISTED, Scope, Transports};
use crate::base::clock::{Mono, Span};
use crate::base::crc::crc32c;
use crate::base::range::Range;
use crate::config::{Action, FloodSettings, ServiceRule, Zone};
use crate::control::proto::KERNEL;
use crate::detect::DetectRule;
use crate::detect::escalate::{BanRequest, Spoofable};
use crate::detect::tracker::Limits;
use crate::enforce::scope_text;
use std::cell::{Cell, RefCell};

/// What becomes of a rule's hits.
pub(super) struct ServicePolicy {
    pub(super) name: Box<str>,
    pub(super) limits: Limits,
    /// What its bans are to be.
    pub(super) request: BanRequest,
    pub(super) scope: Scope,
    /// Only tell.
    pub(super) detect: bool,
    /// Others may hear of its bans.
    pub(super) share: bool,
    /// Take records from any sender.
    pub(super) trust_any: bool,
    /// It reads what a syslog daemon has written down, wherever that is not said by the source.
    pub(super) of_syslog: bool,
    /// When there was a hit of which nobody knows the sender.
    pub(super) hearsay: Cell<Option<Mono>>,
    /// Where it reads, for people.
    pub(super) source: &'static str,
    pub(super) tally: PolicyTally,
}

impl ServicePolicy {
    /// Whether something that counts now is only known from a log that any local process can write to.
    pub(super) fn is_hearsay(&self, now: Mono) -> bool {
        let window = u64::from(self.limits.findtime) * 1000;
        self.hearsay.get().is_some_and(|at| now.since(at) <= window)
    }
}

/// What was counted for a rule.
#[derive(Default)]
pub(super) struct PolicyTally {
    pub(super) hits: Cell<u64>,
    pub(super) bans: Cell<u64>,
    /// When something was read for it.
    pub(super) read: Cell<Option<Mono>>,
    pub(super) last: Cell<Option<Mono>>,
    /// Whom it banned last, and why.
    pub(super) last_ban: RefCell<String>,
}

impl PolicyTally {
    pub(super) fn hit(&self, now: Mono) {
        self.hits.set(self.hits.get() + 1);
        self.last.set(Some(now));
    }

    pub(super) fn ban(&self, addr: &Range, reason: &str) {
        self.bans.set(self.bans.get() + 1);
        if !reason.is_empty() {
            self.last_ban.replace([addr.to_string().as_str(), " ", reason].concat());
        }
    }

    pub(super) fn take_over(&self, old: &PolicyTally) {
        self.hits.set(old.hits.get());
        self.bans.set(old.bans.get());
        self.read.set(old.read.get());
        self.last.set(old.last.get());
        self.last_ban.swap(&old.last_ban);
    }
}

/// What becomes of the hits of a service rule.
pub(super) fn of(rule: &ServiceRule, compiled: &DetectRule) -> ServicePolicy {
    let scope = crate::enforce::scope(rule);
    // What counts requests is not the tracker.
    let limits = match &compiled.webscan {
        Some(web) => Limits::plain(web.longest(), 1),
        None => crate::services::limits(rule, compiled),
    };
    ServicePolicy {
        name: rule.name.as_str().into(),
        limits,
        request: request(rule, &scope),
        scope,
        detect: rule.action == Action::Detect,
        share: rule.share,
        trust_any: rule.trust_any,
        // A name in a line is only needed where many write.
        of_syslog: !rule.programs.is_empty()
            || rule.files.iter().any(|file| crate::services::of_syslog(file)),
        hearsay: Cell::new(None),
        source: rule.source.word(),
        tally: PolicyTally::default(),
    }
}

/// What becomes of those who flood again and again: each time that the kernel brings somebody into the
/// throttle is a hit.
pub(super) fn of_floods(flood: &FloodSettings) -> ServicePolicy {
    if flood.bantime == Span::Permanent {
        log::warn!("ddos_bantime=permanent: anybody can forge packets: its bans last bantime_max at most");
    }
    // Who is in the throttle cannot come into it: that time does not count.
    let inside = flood.stage1_timeout.saturating_mul(flood.escalation_hits.saturating_sub(1));
    ServicePolicy {
        name: FLOODS.into(),
        limits: Limits::plain(flood.escalation_window.saturating_add(inside), flood.escalation_hits),
        request: request_of(flood.bantime, None, Spoofable::ByAnybody, &Scope::ALL),
        scope: Scope::ALL,
        detect: !flood.escalation_enabled,
        share: false,
        trust_any: false,
        of_syslog: false,
        hearsay: Cell::new(None),
        source: KERNEL,
        tally: PolicyTally::default(),
    }
}

/// What becomes of those whom a DNSBL lists. Whoever begins a connection has not proven its address: such
/// bans never grow, and are never permanent.
pub(super) fn of_list(zone: &Zone) -> ServicePolicy {
    let scope = Scope::new(zone.ports.ranges().to_vec(), Transports::Both);
    ServicePolicy {
        name: [LISTED, &zone.key].concat().into(),
        limits: Limits::plain(1, 1),
        request: request_of(zone.bantime, None, Spoofable::ByAnybody, &scope),
        scope,
        detect: false,
        share: false,
        trust_any: false,
        of_syslog: false,
        hearsay: Cell::new(None),
        source: KERNEL,
        tally: PolicyTally::default(),
    }
}

/// What a service rule says of its bans.
fn request(rule: &ServiceRule, scope: &Scope) -> BanRequest {
    let permanent = rule.escalation_enabled.then_some((rule.escalation_window, rule.permanent_threshold));
    let spoofable = if rule.trust_any { Spoofable::ByAnybody } else { Spoofable::No };
    request_of(rule.bantime, permanent, spoofable, scope)
}

/// The same in parts.
fn request_of(
    bantime: Span,
    permanent: Option<(u32, u32)>,
    spoofable: Spoofable,
    scope: &Scope,
) -> BanRequest {
    BanRequest { bantime, permanent, spoofable, scope: scope_tag(&scope_text(scope)), flood: false }
}

/// What stands for the ports of a ban, given as in the journal.
pub(super) fn scope_tag(scope: &str) -> u16 {
    let [a, b, ..] = crc32c(scope.as_bytes()).to_le_bytes();
    u16::from_le_bytes([a, b])
}
