#![forbid(unsafe_code)]
//! What `mef status` says of the rule set: whether the kernel has it, whether that is what the file says, and
//! whether the next boot loads it.

use crate::applet::load::{UNCONFIRMED, none_at_boot};
use crate::base::build_part::BuildPart;
use crate::base::json::Object;
use crate::config::Settings;
use crate::firewall::loader;
use crate::rulefile::{self, CheckDepth, DEFAULT_PATH};
use crate::ruleset::RuleSet;
use crate::setup::{Root, starts_at_boot};
use crate::trial::Saved;
use std::fmt;
use std::path::{Path, PathBuf};

/// What the kernel has, beside the file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RuleSetState {
    NotLoaded,
    Elsewhere,
    Same,
    Differs,
    Pending,
    Half,
    BadFile,
    NoFile,
    /// Rules are not read back here.
    Unread,
    /// The kernel did not say.
    Unknown,
}

/// Each state with its word for programs, and the words for people.
const STATES: [(RuleSetState, &str, &str); 10] = [
    (RuleSetState::NotLoaded, "not loaded", "not loaded"),
    (RuleSetState::Elsewhere, "elsewhere", loader::ELSEWHERE),
    (RuleSetState::Same, "loaded", "loaded, as /etc/mef/mef.rules says"),
    (RuleSetState::Differs, "differs", "loaded, but /etc/mef/mef.rules differs (see mef diff)"),
    (RuleSetState::Pending, "pending confirmation", "loaded for a time: `mef confirm` keeps it"),
    (RuleSetState::Half, "half loaded", loader::HALF),
    (RuleSetState::BadFile, "file has errors", "loaded, but /etc/mef/mef.rules has errors (see mef check)"),
    (RuleSetState::NoFile, "no file", "loaded, but there is no /etc/mef/mef.rules"),
    (RuleSetState::Unread, "not compared", "loaded; not compared with /etc/mef/mef.rules"),
    (RuleSetState::Unknown, "unknown", "the kernel does not say"),
];

/// The state, and what the next boot does.
pub(super) struct RuleSetStatus {
    pub(super) state: RuleSetState,
    /// `None`: nobody knows.
    at_boot: Option<bool>,
    /// Why not, if not.
    why_not: &'static str,
}

impl RuleSetStatus {
    pub(super) fn look(settings: &Settings) -> RuleSetStatus {
        let saved = Saved::new(Path::new(&settings.state_dir), Path::new(&settings.run_dir));
        let set = Path::new(DEFAULT_PATH).exists().then(|| rulefile::read(DEFAULT_PATH, CheckDepth::Quick));
        let is_bad = set.as_ref().is_some_and(RuleSet::failed);
        let is_tried = saved.pending().is_some();
        let (at_boot, why_not) = match (none_at_boot(&saved), starts_at_boot(&Root::new(Path::new("/")))) {
            (Some(why), _) => (Some(false), why),
            (None, _) if is_tried && saved.confirmed().is_none() => (Some(false), UNCONFIRMED),
            (None, _) if is_bad && !is_tried => (Some(false), "mef.rules has errors (see mef check)"),
            (None, Some(false)) => {
                (Some(false), "nothing starts it at boot (see mef setup, or `mefctl enable mef`)")
            }
            (None, at_boot) => (at_boot, "the init system of this host is unknown"),
        };
        RuleSetStatus { state: state(&saved, set), at_boot, why_not }
    }

    fn words(&self) -> (&'static str, &'static str) {
        STATES.iter().find(|(of, ..)| *of == self.state).map_or(("", ""), |(_, word, text)| (word, text))
    }

    pub(super) fn json(&self, object: Object) -> Object {
        let object = object.text("rule_set", self.words().0);
        match self.at_boot {
            Some(at_boot) => object.flag("rule_set_at_boot", at_boot),
            None => object.text("rule_set_at_boot", None),
        }
    }
}

impl fmt::Display for RuleSetStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule set    {}\nat boot     ", self.words().1)?;
        match self.at_boot {
            Some(true) => f.write_str("the rule set is loaded"),
            Some(false) => write!(f, "the rule set is not loaded: {}", self.why_not),
            None => write!(f, "perhaps: {}", self.why_not),
        }
    }
}

fn state(saved: &Saved, set: Option<RuleSet>) -> RuleSetState {
    if loader::is_half().unwrap_or(false) {
        return RuleSetState::Half;
    }
    match loader::is_loaded() {
        Ok(true) => {}
        Ok(false) if loader::is_elsewhere().unwrap_or(false) => return RuleSetState::Elsewhere,
        Ok(false) => return RuleSetState::NotLoaded,
        Err(_) => return RuleSetState::Unknown,
    }
    if loader::pending().is_ok_and(|found| found.is_some_and(|trial| trial.left_ms > 0)) {
        return RuleSetState::Pending;
    }
    let Some(set) = set else { return RuleSetState::NoFile };
    if !BuildPart::Export.is_in() && !set.failed() {
        return RuleSetState::Unread;
    }
    let Some(new) = rulefile::statements(&set).ok().filter(|_| !set.failed()) else {
        return RuleSetState::BadFile;
    };
    drop(set);
    let kept: Vec<PathBuf> = saved.confirmed().into_iter().chain([DEFAULT_PATH.into()]).collect();
    match rulefile::loaded(&kept) {
        Ok(old) if old == new => RuleSetState::Same,
        Ok(_) => RuleSetState::Differs,
        Err(_) => RuleSetState::Unread,
    }
}
