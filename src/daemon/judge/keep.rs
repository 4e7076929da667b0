#![forbid(unsafe_code)]
//! What has to outlive the daemon: the journal is written, kept small, and read back.

use super::Judge;
use crate::ban::WhichBans;
use crate::base::clock::{Now, Wall};
use crate::base::count::count;
use crate::base::range::Range;
use crate::daemon::notes::Topic;
use crate::enforce::{Enforcer, Memory, SavedUntil};
use crate::state::StateError;

impl Judge {
    /// Hands what the journal has taken in to the system.
    pub(in crate::daemon) fn flush(&mut self) {
        if self.enforcer.pending() > 0 {
            self.write(SavedUntil::System);
        }
    }

    /// Likewise, and writes the bans that it had no room for; whether it is worth another try later.
    pub(in crate::daemon) fn settle(&mut self) -> bool {
        if self.enforcer.owes() {
            self.write(SavedUntil::System);
        }
        self.enforcer.owes() && self.enforcer.may_write()
    }

    /// Keeps in mind a lifting by a command, which could write it or not.
    pub(in crate::daemon) fn remember_unban(
        &mut self,
        now: Wall,
        whom: (Option<&Range>, WhichBans),
        written: bool,
    ) {
        self.enforcer.remember_unban(now, whom, written, &mut |_| ());
        // The journal does not tell yet that a set is rightly empty.
        if !written {
            self.enforcer.guard().forget_lacks();
        }
    }

    /// Writes the journal, and waits for the disk.
    pub(in crate::daemon) fn save(&mut self) {
        self.write(SavedUntil::Disk);
    }

    fn write(&mut self, until: SavedUntil) {
        let result = self.enforcer.save(until);
        self.once(Topic::Journal, result.err().as_ref().map(|e| e as _));
    }

    /// Does a part of what keeps the journal small, a fraction of a millisecond long; whether there is more
    /// to do.
    pub(in crate::daemon) fn compact(&mut self, now: Now) -> bool {
        let Judge { enforcer, decider, .. } = self;
        let ban_policy = &decider.ban_policy;
        let memory = Memory { keep: ban_policy.memory(), worth: &|entry| ban_policy.worth(now.mono, entry) };
        let result = if enforcer.compacts() {
            enforcer.compact(now.wall, memory)
        } else {
            enforcer.begin_compaction(now.wall, memory)
        };
        if result.is_err() || self.enforcer.compacts() {
            self.once(Topic::Compaction, result.err().as_ref().map(|e| e as _));
        }
        self.enforcer.compacts()
    }
}

/// Puts back all bans of the journal.
pub(in crate::daemon) fn restore(enforcer: &mut Enforcer, now: Wall) {
    log_restored(enforcer.restore(now, &mut crate::sys::syslog::warn));
}

/// Puts the bans back of sets that were emptied, unless they have ended by themselves; how many.
pub(in crate::daemon) fn restore_lacking(enforcer: &mut Enforcer, now: Wall) -> usize {
    let result = enforcer.restore_lacking(now, &mut crate::sys::syslog::warn);
    let missing = *result.as_ref().unwrap_or(&0);
    if missing > 0 {
        log::warn!("sets of the guard table were emptied: they are filled again");
    }
    log_restored(result);
    missing
}

/// Tells what became of putting the bans back.
pub(in crate::daemon) fn log_restored(result: Result<usize, StateError>) {
    match result {
        Ok(0) => {}
        Ok(n) => log::info!("{} restored from the journal", count(n, "ban")),
        Err(e) => log::warn!("{e}"),
    }
}
