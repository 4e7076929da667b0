#![forbid(unsafe_code)]
//! Rules with `auto` follow the default routes: when these come, go or move, the rule set that is in force is
//! loaded again with the interfaces that they have now. Must not touch a rule set without `auto`, nor one on
//! trial.

use crate::base::build_part::BuildPart;
use crate::base::name::IfName;
use crate::config::Settings;
use crate::firewall::loader::Goal;
use crate::rulefile;
use crate::ruleset::RuleSet;
use crate::sys::routes;
use crate::trial::{self, Noted, Saved, TrialTurn};
use std::path::{Path, PathBuf};

/// What is known of the default routes, and where the rule set is kept.
pub(super) struct Follow {
    run_dir: PathBuf,
    saved: Saved,
    uplinks: Vec<IfName>,
}

/// When a rule set is not loaded again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unless {
    /// What it says is in force as it is.
    InForce,
    /// It is in any case.
    None,
}

impl Follow {
    /// Follows from now on. What moved before, while no daemon ran, is followed at once.
    pub(super) fn start(settings: &Settings) -> Follow {
        let (state, run) = (Path::new(&settings.state_dir), Path::new(&settings.run_dir));
        let mut this = Follow { run_dir: run.to_owned(), saved: Saved::new(state, run), uplinks: uplinks() };
        this.reload(Unless::InForce);
        this
    }

    /// Looks at the default routes, which may have moved.
    pub(super) fn check_uplinks(&mut self) {
        let now = uplinks();
        if now != self.uplinks {
            self.uplinks = now;
            self.reload(Unless::None);
        }
    }

    /// Loads the rule set again, if there is to be one and it has `auto`.
    fn reload(&mut self, unless: Unless) {
        if self.meant().is_none() {
            return;
        }
        let result = TrialTurn::take(&self.run_dir).and_then(|_turn| {
            // Whoever had the turn before may have loaded others, or taken them out.
            let Some(mut set) = self.meant() else { return Ok(false) };
            let kept: Vec<PathBuf> = self.saved.confirmed().into_iter().collect();
            let in_force = || rulefile::statements(&set).ok() == rulefile::loaded(&kept).ok();
            // A program that cannot tell loads them again.
            if unless == Unless::InForce && BuildPart::Export.is_in() && in_force() {
                return Ok(false);
            }
            if rulefile::is_foreign()? {
                return Err("the table mef (inet or bridge) holds chains or rules of another program".into());
            }
            let batch = rulefile::batch(&mut set, Goal::Replace)?;
            rulefile::load(&set, batch).map(|()| true).map_err(|(why, _)| why)
        });
        match result {
            Ok(false) => {}
            Ok(true) => log::info!("the default route has moved: rules with auto follow it"),
            Err(why) => {
                log::warn!("the default route has moved, but rules with auto do not follow it: {why}")
            }
        }
    }

    /// The rule set that is to be in force, if it has `auto`.
    fn meant(&self) -> Option<RuleSet> {
        let path = self.saved.confirmed().filter(|_| trial::noted(&self.run_dir) == Some(Noted::Rules))?;
        let set = rulefile::read(&path.to_string_lossy(), rulefile::CheckDepth::Quick);
        Some(set).filter(|set| !set.failed() && set.first_auto.is_some())
    }
}

fn uplinks() -> Vec<IfName> {
    let mut found = routes::default_interfaces().unwrap_or_default();
    found.sort_unstable();
    found
}
