#![forbid(unsafe_code)]
//! One file of rules.d: what a service's log lines look like and what follows from them.
//! Patterns stay text with their place: they are compiled by the caller, who knows the engine.

pub use super::service_reader::parse_service;
pub(super) use super::service_reader::{PatternKey, parse_parts, read, section_of};

use super::Spanned;
use super::keys::{SettingKey, SettingSlot, words};
use super::ports::PortRanges;
use super::webscan::{self};
use crate::base::clock::Span;
use crate::base::webscan::WebscanSettings;

words! {
    /// Whether a rule is in force.
    Enabled {
        /// If its source exists on this host.
        Auto = "auto",
        /// Always.
        True = "true",
        /// Never.
        False = "false",
    }
}
words! {
    /// Where a rule's lines come from.
    Source {
        /// The journal if there is one, else the files, else the syslog ring.
        Auto = "auto",
        /// Files by path and glob.
        File = "file",
        /// systemd's journal.
        Journal = "journal",
        /// Datagrams that a syslog daemon forwards.
        Syslog = "syslog",
        /// The kernel's log.
        Kmsg = "kmsg",
        /// A program's output.
        Command = "command",
    }
}
words! {
    /// What the lines of a file are wrapped in.
    LogFormat {
        /// Nothing.
        Plain = "plain",
        /// What the engine of a container puts around what the service prints.
        Docker = "docker",
    }
}
words! {
    /// What an offender gets.
    Action {
        /// A ban.
        Ban = "ban",
        /// A line in the log.
        Detect = "detect",
    }
}
words! {
    /// How much a rule counts, where that is a matter of policy.
    Mode {
        /// What only an attacker does.
        Strict = "strict",
        /// What honest people seldom do, too.
        Normal = "normal",
        /// Whatever an attacker does.
        Aggressive = "aggressive",
    }
}
words! {
    /// How hits are judged.
    Engine {
        /// Each matching line is a hit.
        Pattern = "pattern",
        /// Access logs are aggregated by address.
        Webscan = "webscan",
    }
}

impl Mode {
    /// Whether a pattern counts in this mode that counts from `least` on.
    #[must_use]
    pub fn reaches(self, least: Mode) -> bool {
        self as u8 >= least as u8
    }
}

/// A pattern of hits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailPattern {
    /// As it stands in the file.
    pub text: Spanned,
    /// How many hits one match counts (0 to 255). A line of weight 0 accompanies others about the same
    /// attempt and counts only if it stands alone.
    pub weight: u8,
    /// The first mode in which it counts.
    pub least: Mode,
}

/// One service rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRule {
    /// Letters, digits, `-` and `_`, at most 32; the file's name if it gives none.
    pub name: String,
    /// The file, or the built-in's name in angle brackets.
    pub path: String,
    /// Whether it is in force.
    pub enabled: Enabled,
    /// Where its lines come from.
    pub source: Source,
    /// Take journal entries from any sender.
    pub trust_any: bool,
    /// Names and wildcards of the programs that write the lines; empty = any, and patterns see the whole
    /// line.
    pub programs: Vec<String>,
    /// Absolute paths and globs.
    pub files: Vec<String>,
    /// What their lines are wrapped in.
    pub format: LogFormat,
    /// Program and arguments, for `Source::Command`.
    pub command: Vec<String>,
    /// Which of its patterns count.
    pub mode: Mode,
    /// Patterns of hits, those of every mode.
    pub fail: Vec<FailPattern>,
    /// Patterns of lines that are no hits after all.
    pub ignore: Vec<Spanned>,
    /// Patterns of log-ins that succeeded.
    pub success: Vec<Spanned>,
    /// Seconds in which further hits of the same user name are spared; 0 = none.
    pub same_user: u32,
    /// That many in an hour; 0 = all.
    pub same_user_max: u32,
    /// Seconds in which the hits must fall.
    pub findtime: u32,
    /// Hits that lead to the action.
    pub maxretry: u32,
    /// Of a first ban.
    pub bantime: Span,
    /// Ports that the ban closes.
    pub ports: PortRanges,
    /// The ban closes TCP ports.
    pub tcp: bool,
    /// The ban closes UDP ports.
    pub udp: bool,
    /// Ban or only tell.
    pub action: Action,
    /// Its bans are reported to the community cloud, if any are.
    pub share: bool,
    /// Put recidives on the deny list.
    pub escalation_enabled: bool,
    /// Seconds in which the bans of a recidive fall.
    pub escalation_window: u32,
    /// That many bans.
    pub permanent_threshold: u32,
    /// How hits are judged.
    pub engine: Engine,
    /// For `Engine::WebscanSettings`.
    pub webscan: WebscanSettings,
}

const YEAR: u32 = 366 * 86_400;

const fn key(
    name: &'static str,
    default: &'static str,
    slot: fn(&mut ServiceRule) -> SettingSlot<'_>,
) -> SettingKey<ServiceRule> {
    SettingKey { name, default, slot }
}

/// Every key of [rule] but those that may repeat.
pub(super) const KEYS: &[SettingKey<ServiceRule>] = &[
    key("enabled", "true", |r| SettingSlot::Word(&mut r.enabled)),
    key("name", "", |r| SettingSlot::Name(&mut r.name)),
    key("source", "auto", |r| SettingSlot::Word(&mut r.source)),
    key("trust", "strict", |r| SettingSlot::Either(["any", "strict"], &mut r.trust_any)),
    key("programs", "", |r| SettingSlot::Names(&mut r.programs)),
    key("files", "", |r| SettingSlot::Paths(&mut r.files)),
    key("format", "plain", |r| SettingSlot::Word(&mut r.format)),
    key("command", "", |r| SettingSlot::Command(&mut r.command)),
    key("mode", "normal", |r| SettingSlot::Word(&mut r.mode)),
    key("findtime", "600", |r| SettingSlot::Secs(1, YEAR, &mut r.findtime)),
    key("maxretry", "5", |r| SettingSlot::Count(1, 100_000, &mut r.maxretry)),
    key("same_user", "10m", |r| SettingSlot::Secs(0, 86_400, &mut r.same_user)),
    key("same_user_max", "30", |r| SettingSlot::Count(0, 250, &mut r.same_user_max)),
    key("bantime", "600", |r| SettingSlot::Span(&mut r.bantime)),
    key("ports", "all", |r| SettingSlot::Ports(&mut r.ports)),
    key("proto", "tcp,udp", |r| SettingSlot::Both(["tcp", "udp"], [&mut r.tcp, &mut r.udp])),
    key("action", "ban", |r| SettingSlot::Word(&mut r.action)),
    key("share", "true", |r| SettingSlot::Flag(&mut r.share)),
    key("escalation_enabled", "false", |r| SettingSlot::Flag(&mut r.escalation_enabled)),
    key("escalation_window", "24h", |r| SettingSlot::Secs(1, YEAR, &mut r.escalation_window)),
    key("permanent_threshold", "5", |r| SettingSlot::Count(1, 1000, &mut r.permanent_threshold)),
    key("engine", "pattern", |r| SettingSlot::Word(&mut r.engine)),
];

/// Keys that may repeat.
pub(super) const PATTERN_KEYS: [&str; 3] = ["failregex", "ignoreregex", "successregex"];

/// A rule before the defaults of the table are put in.
pub(super) fn blank() -> ServiceRule {
    ServiceRule {
        name: String::new(),
        path: String::new(),
        enabled: Enabled::default(),
        source: Source::default(),
        trust_any: false,
        programs: Vec::new(),
        files: Vec::new(),
        format: LogFormat::default(),
        command: Vec::new(),
        mode: Mode::default(),
        fail: Vec::new(),
        ignore: Vec::new(),
        success: Vec::new(),
        same_user: 0,
        same_user_max: 0,
        findtime: 0,
        maxretry: 0,
        bantime: Span::Permanent,
        ports: PortRanges::default(),
        tcp: false,
        udp: false,
        action: Action::default(),
        share: false,
        escalation_enabled: false,
        escalation_window: 0,
        permanent_threshold: 0,
        engine: Engine::default(),
        webscan: webscan::blank(),
    }
}

impl ServiceRule {
    /// Whether all that it could count is for modes that count more than its own.
    #[must_use]
    pub fn is_of_other_modes(&self) -> bool {
        let reaches = |pattern: &FailPattern| self.mode.reaches(pattern.least);
        self.engine == Engine::Pattern && !self.fail.is_empty() && !self.fail.iter().any(reaches)
    }
}
