#![forbid(unsafe_code)]
//! Writes what could not be written when it happened: the disk was full, or is to be spared. Meanwhile others
//! may have lifted a ban or made it again: of what is late, only what the kernel still agrees with is
//! written.

use super::{Enforcer, read_scope, scope_text};
use crate::ban::{self, Ban, Scope, Standing};
use crate::base::clock::Wall;
use crate::base::range::Range;
use crate::base::siphash::sip13;
use crate::firewall::backend::View;
use crate::state::StateError;
use crate::state::journal::BanJournal;
use crate::state::record::{BanRecord, JournalRecord};
use crate::sys::{clock, random};
use ipnet::IpNet;

/// Bans of a daemon that was killed which are kept in mind until their lines are read again: more than one
/// transaction makes.
const UNTOLD: usize = 1024;

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
        if self.late && !journal.is_refused() && self.guard.state().is_ok_and(|state| state.is_some()) {
            let (guard, missed) = (&mut self.guard, &mut self.missed);
            journal.retain(&mut |record| match record {
                JournalRecord::Ban(entry) => {
                    let scope = read_scope(entry.scope).unwrap_or_default();
                    guard.has_ban(&Range::from(entry.addr), &scope).unwrap_or(true)
                }
                // Whoever made the ban again has written that already.
                JournalRecord::Unban(net) => !guard.has_ban(&Range::from(*net), &Scope::ALL).unwrap_or(false),
                // What others have banned and written since then stands before it: that is written once more.
                JournalRecord::Clear | JournalRecord::ClearTimed => {
                    *missed = true;
                    true
                }
                JournalRecord::Note(..) | JournalRecord::Carried => true,
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
        let mut result = Ok(());
        let complete = unwritten(&mut *self.guard, journal, now, &mut |journal, ban, (addr, scope)| {
            if result.is_err() {
                return;
            }
            let since = Wall(now.0.saturating_sub(ban.age.unwrap_or(0)));
            let until = ban.left.map(|left| Wall(now.0.saturating_add(left)));
            let (rule, reason, hits) = (ban.rule, ban.reason, ban.hits);
            let entry =
                BanRecord { addr, scope, rule, reason, since, until, hits, bans: 0, starts: &[], line: "" };
            result = journal.put(&JournalRecord::Ban(entry));
        })?;
        result?;
        journal.flush()?;
        // What the kernel could not tell now is asked again.
        self.missed = !complete;
        Ok(())
    }

    /// Whether a ban that is there already was made by a previous daemon that was killed before it wrote it
    /// down, and so before it told anybody; true once for each.
    pub(super) fn is_unreported(&mut self, now: Wall, ban: &Ban<'_>, standing: &Standing) -> bool {
        if std::mem::take(&mut self.doubts) {
            // All that is so, whether its lines are read again or not.
            self.missed = true;
            let Enforcer { guard, journal: Some(journal), unreported, .. } = self else { return false };
            let collected = unwritten(&mut **guard, journal, now, &mut |_, _, (addr, scope)| {
                if unreported.len() < UNTOLD {
                    unreported.push((Range::from(addr), scope.to_owned()));
                }
            });
            // Where bans are not written before they are told, it was told already.
            if collected.is_err() || !self.prompt {
                self.unreported.clear();
            }
        }
        if self.unreported.is_empty() || standing.rule != ban.rule {
            return false;
        }
        let scope = scope_text(ban.scope);
        let at = self.unreported.iter().position(|(addr, of)| *addr == ban.addr && *of == scope);
        at.map(|at| self.unreported.swap_remove(at)).is_some()
    }
}

/// Hears of a ban that is not in the journal: the journal, the ban, whom and for which ports.
type Unwritten<'u> = &'u mut dyn FnMut(&mut BanJournal, &ban::BanEntry<'_>, (IpNet, &str));

/// Gives every ban of the kernel that the journal does not have to `each`; whether the kernel told all.
fn unwritten(
    guard: &mut dyn View,
    journal: &mut BanJournal,
    now: Wall,
    each: Unwritten<'_>,
) -> Result<bool, StateError> {
    let key = random::key();
    let mut known: Vec<u64> = Vec::new();
    journal.live(now, 0, &mut |entry| known.push(mark(key, entry.addr, entry.scope)))?;
    known.sort_unstable();
    let listed = guard.glance(&mut |ban| {
        // Those for packets are never the journal's.
        if ban.rule == ban::SCANS || ban.rule == ban::FLOODS {
            return;
        }
        let scope = scope_text(ban.scope);
        for addr in ban.addr.nets() {
            if known.binary_search(&mark(key, addr, &scope)).is_err() {
                each(journal, ban, (addr, &scope));
            }
        }
    });
    Ok(listed.is_ok())
}

/// What stands for whom a ban is about, and for which ports: there may be many, and little memory.
fn mark(key: [u64; 2], addr: IpNet, scope: &str) -> u64 {
    let bits = match addr {
        IpNet::V4(net) => net.addr().to_ipv6_mapped().octets(),
        IpNet::V6(net) => net.addr().octets(),
    };
    let own = sip13(key, &bits) ^ u64::from(addr.prefix_len());
    sip13([key[0], own], scope.as_bytes())
}
