#![forbid(unsafe_code)]
//! mef.conf and rules.d: text to plain settings. Knows no kernel, no source, no clock.
//!
//! A bad file never replaces a good state: readers return everything that is wrong, and the caller keeps what
//! it had when [`Loaded::failed`] says so.

mod builtin;
mod example;
mod foreign;
mod global;
mod ini;
mod keys;
mod listline;
mod lists;
mod load;
mod operator;
mod parts;
mod ports;
mod service;
mod service_reader;
mod setting_groups;
mod settings;
mod table;
mod value;
mod webscan;
mod zones;

pub use builtin::{builtin, builtin_text};
pub use example::{Example, examples};
pub use global::{missing_keys, parse_global};
pub use listline::{ListWord, list_word, too_wide};
pub use lists::{LIST_LINE_MAX, ListCounts, ListEntry, ListKind, ListLine, list_lines, read_list};
pub use load::{
    DEFAULT_PATH, FileProblem, Loaded, conf_files, in_force, load, load_rule, not_needed, rule_file,
};
pub use operator::{CloudMember, Operator, member_name, parse_operator};
pub use parts::{ConfigPart, RuleDefault};
pub use ports::{ExcludedPorts, PortRanges};
pub use service::{
    Action, Enabled, Engine, FailPattern, LogFormat, Mode, ServiceRule, Source, parse_service,
};
pub use settings::{
    Backend, BanAction, BanLogFormat, Cloud, Confine, Fastpath, FloodRates, FloodSettings, InterfaceChoice,
    KernelLevel, LogLevel, LogTo, ScanSettings, Settings, StageOne, Zone, is_ours,
};
pub use value::{ago, duration, net, span, written};

use crate::base::diag::{Problem, Severity};
use std::ops::Range;

/// Text of a file that somebody else judges, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned {
    /// As it stands in the file: in a quoted value `\"` is still two bytes.
    pub text: String,
    /// Line, counted from 1.
    pub line: u32,
    /// Column of the first character, counted from 1.
    pub col: u32,
    /// In which of the rule's texts.
    pub part: usize,
}

impl Spanned {
    /// An error that marks the bytes `at` of the text; places outside of it are moved to its end.
    #[must_use]
    pub fn problem(&self, at: Range<usize>, what: String, hint: String) -> Problem {
        let mut p = Problem::at(Severity::Error, self.line, &self.text, at, what, hint);
        p.col = p.col.saturating_add(self.col.saturating_sub(1));
        p.part = self.part;
        p
    }
}

#[cfg(test)]
mod tests;
