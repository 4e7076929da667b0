#![forbid(unsafe_code)]
//! Rule sets on trial: how long they have, and their ends.

use super::super::guards::everybody;
use super::super::{elems, spec};
use super::{Rules, State, families, trial_set};
use crate::ban::Failure;
use crate::base::range::Family;
use crate::firewall::ipset::message::{Command, SetSpec, Type};

impl Rules {
    /// The milliseconds that a trial has left, if there is one; 0: the previous rules are in force.
    ///
    /// # Errors
    /// The kernel's.
    pub fn pending(&mut self) -> Result<Option<u64>, Failure> {
        if self.state()?.trial.is_none() {
            return Ok(None);
        }
        let left = std::cell::Cell::new(0);
        self.sets.elements(&trial_set(Family::V4), &mut || left.set(0), &mut |elem| {
            left.set(elem.left.unwrap_or(0));
        })?;
        Ok(Some(u64::from(left.get()) * 1000))
    }

    /// Has the trial's set match every packet for so long.
    pub(super) fn fill_trial(&mut self, seconds: u32) -> Result<(), Failure> {
        for family in families() {
            let name = trial_set(family);
            self.make(&SetSpec { timed: true, expected: 1, ..spec(&name, Type::Networks, family) })?;
            self.write(Command::Add, &name, &elems::net_elems(&[everybody(family)], Some(seconds), ""))?;
        }
        Ok(())
    }

    /// Makes the rules on trial the only ones; `false` if the trial is over.
    ///
    /// # Errors
    /// What was refused; then they are on trial as before.
    pub fn confirm(&mut self) -> Result<bool, Failure> {
        let state = self.state()?;
        if state.trial.is_none() || self.pending()?.unwrap_or(0) == 0 {
            return Ok(false);
        }
        let wanted = State { now: state.trial, trial: None, ..state };
        self.switch(&state, &wanted)?;
        self.note_state(wanted.now, None)?;
        self.drop_rules(&state, state.now)?;
        Ok(true)
    }

    /// Ends a trial: the previous rules are in force. Whether there was one. `nothing` is called before, if
    /// there were no previous rules.
    ///
    /// # Errors
    /// What was refused.
    pub fn withdraw(&mut self, nothing: &mut dyn FnMut()) -> Result<bool, Failure> {
        let state = self.state()?;
        if state.trial.is_none() {
            return Ok(false);
        }
        if state.now.is_none() {
            nothing();
            return self.unload().map(|()| true);
        }
        if !self.is_whole(&state)? {
            // Others have taken rules away: nobody knows what is left of the previous ones.
            return self.unload().map(|()| false);
        }
        let wanted = State { trial: None, ..state };
        self.switch(&state, &wanted)?;
        self.note_state(wanted.now, None)?;
        self.drop_rules(&state, state.trial)?;
        Ok(true)
    }
}
