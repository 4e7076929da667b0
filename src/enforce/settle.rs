#![forbid(unsafe_code)]
//! Writes what could not be written when it happened: the disk was full, or is to be spared. Meanwhile others
//! may have lifted a ban or made it again: of what is late, only what the kernel still agrees with is
//! written.

use super::{Enforcer, read_scope, scope_text};
use crate::base::clock::Wall;
use crate::base::range::Range;
use crate::firewall::guard::Scope;
use crate::state::StateError;
use crate::state::record::{Entry, Record};
use crate::sys::clock;

impl Enforcer {
    /// Hands what the journal has taken in to the system, in the order of the changes themselves.
    ///
    /// # Errors
    /// What cannot be written is kept for the next try.
    pub(super) fn write(&mut self) -> Result<(), StateError> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        if journal.pending() == 0 {
            return Ok(());
        }
        let _held = journal.hold()?;
        if self.late && !journal.is_refused() && self.guard.look().is_ok_and(|made| made.is_some()) {
            let (guard, missed) = (&mut self.guard, &mut self.missed);
            journal.retain(&mut |record| match record {
                Record::Ban(entry) => {
                    let scope = read_scope(entry.scope).unwrap_or_default();
                    guard.has_ban(&Range::from(entry.who), &scope).unwrap_or(true)
                }
                // Whoever made the ban again has written that already.
                Record::Unban(net) => !guard.has_ban(&Range::from(*net), &Scope::ALL).unwrap_or(false),
                // What others have banned and written since then stands before it: that is written once more.
                Record::Clear | Record::ClearTimed => {
                    *missed = true;
                    true
                }
            });
        }
        journal.flush()?;
        self.late = false;
        Ok(())
    }

    /// Writes the bans that the kernel has and the journal had no room for.
    pub(super) fn catch_up(&mut self) -> Result<(), StateError> {
        let Some(journal) = self.journal.as_mut().filter(|_| self.missed) else { return Ok(()) };
        let _held = journal.hold()?;
        let now = clock::wall();
        let mut known: Vec<(Range, String)> = Vec::new();
        journal.live(now, 0, &mut |entry| known.push((Range::from(entry.who), entry.scope.to_owned())))?;
        known.sort_unstable();
        let mut result = Ok(());
        let listed = self.guard.list(&mut |ban| {
            let scope = scope_text(ban.scope);
            for who in ban.who.nets() {
                // Those that the kernel makes for port scans are never the journal's.
                let skip = ban.rule == crate::firewall::guard::SCANS
                    || known
                        .binary_search_by(|(r, s)| (r, s.as_str()).cmp(&(&Range::from(who), &scope)))
                        .is_ok();
                if skip || result.is_err() {
                    continue;
                }
                let since = Wall(now.0.saturating_sub(ban.age.unwrap_or(0)));
                let until = ban.left.map(|left| Wall(now.0.saturating_add(left)));
                let (rule, reason, hits) = (ban.rule, ban.reason, ban.hits);
                let entry =
                    Entry { who, scope: &scope, rule, reason, since, until, hits, bans: 0, starts: &[] };
                result = journal.put(&Record::Ban(entry));
            }
        });
        result?;
        journal.flush()?;
        // What the kernel could not tell now is asked again.
        self.missed = listed.is_err();
        Ok(())
    }
}
