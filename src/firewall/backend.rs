#![forbid(unsafe_code)]
//! The seam between what is decided and what enforces it. A backend is a driver of a kernel's part that
//! drops packets; above it nobody knows which. What some cannot do has a default that does nothing, and
//! [`GuardState::lacks`] says so.
//!
//! Nobody gets a table of bans without its allow list: whoever may make one ([`Bans`]) was opened with it.

use crate::ban::{
    AllowEntry, Allowed, Ban, BanEntry, BanReport, Damage, Failure, GuardState, Health, ListForm, ListId,
    Options, Pardon, Repeat, Scanner, Scope, Shortage, Standing, Unseen, WhichBans,
};
use crate::base::clock::Wall;
use crate::base::range::{Family, Range};
use std::os::fd::BorrowedFd;
use std::path::Path;

pub use super::guard::{DenySet, Filling};

/// Asks what is in force. Makes nothing.
pub trait View {
    /// What there is for bans; `None` if nothing.
    ///
    /// # Errors
    /// The kernel's.
    fn state(&mut self) -> Result<Option<GuardState>, Failure>;

    /// What it is called in mef.conf.
    fn name(&self) -> &'static str {
        "nftables"
    }

    /// Where bans are kept, for people.
    fn place(&self) -> &'static str;

    /// Where packets are dropped, for people, if that is not told by the options.
    fn hook(&self) -> Option<&'static str> {
        None
    }

    /// What this kernel cannot do, for people, if packets of a family pass whoever is banned or denied.
    ///
    /// # Errors
    /// The kernel's.
    fn cannot_drop(&mut self, _family: Family) -> Result<Option<&'static str>, Failure> {
        Ok(None)
    }

    /// What this kernel cannot do of what is asked of it, for people.
    fn lacking(&mut self, state: GuardState) -> Vec<String>;

    /// Who alone may change what is in force, for people; `run_dir` is the daemon's. `None`: everybody who
    /// is root.
    ///
    /// # Errors
    /// The kernel's.
    fn owned_by(&mut self, run_dir: &Path) -> Result<Option<String>, Failure>;

    /// Whether a ban of these ports is in force for any part of the range.
    ///
    /// # Errors
    /// The kernel's.
    fn has_ban(&mut self, addr: &Range, scope: &Scope) -> Result<bool, Failure>;

    /// Calls `each` for every ban in force, once.
    ///
    /// # Errors
    /// The kernel's.
    fn list(&mut self, each: &mut dyn FnMut(&BanEntry<'_>)) -> Result<(), Failure>;

    /// Likewise, asking once and with little memory: some may come twice, and some not.
    ///
    /// # Errors
    /// The kernel's.
    fn glance(&mut self, each: &mut dyn FnMut(&BanEntry<'_>)) -> Result<(), Failure>;

    /// Calls `each` for the bans in force that meet a range: for one address quickly, however many others
    /// there are.
    ///
    /// # Errors
    /// The kernel's.
    fn bans_of(&mut self, range: &Range, each: &mut dyn FnMut(&BanEntry<'_>)) -> Result<(), Failure> {
        self.list(&mut |entry| {
            if entry.addr.meets(range) {
                each(entry);
            }
        })
    }

    /// Who of a range is never dropped, each until when; of one address quickly.
    ///
    /// # Errors
    /// The kernel's.
    fn allowed_of(&mut self, range: &Range) -> Result<Vec<AllowEntry>, Failure> {
        let mut all = self.allowed_until()?;
        all.retain(|(allowed, _)| allowed.meets(range));
        Ok(all)
    }

    /// Who is never dropped, each until when.
    ///
    /// # Errors
    /// The kernel's.
    fn allowed_until(&mut self) -> Result<Vec<AllowEntry>, Failure>;

    /// Likewise, whatever the time.
    ///
    /// # Errors
    /// The kernel's.
    fn allowed(&mut self) -> Result<Vec<Range>, Failure> {
        Ok(self.allowed_until()?.into_iter().map(|(range, _)| range).collect())
    }

    /// Sources that are held back for a flood.
    ///
    /// # Errors
    /// The kernel's.
    fn throttled(&mut self) -> Result<u64, Failure> {
        Ok(0)
    }

    /// Calls `each` with every source that is held back for a flood, and for how many seconds more.
    ///
    /// # Errors
    /// The kernel's.
    fn each_throttled(&mut self, _each: &mut dyn FnMut(Range, u64)) -> Result<(), Failure> {
        Ok(())
    }

    /// Packets that were dropped since counting began, where they are counted: with nftables it begins anew
    /// when the table is changed.
    ///
    /// # Errors
    /// The kernel's.
    fn dropped(&mut self) -> Result<Option<u64>, Failure> {
        Ok(None)
    }

    /// The names of the deny lists by which the first address of each range is dropped.
    ///
    /// # Errors
    /// The kernel's.
    fn denied(&mut self, ranges: &[Range]) -> Result<Vec<Vec<String>>, Failure>;
}

/// Deny lists of what is there: each is filled beside the previous one, and then takes its place. Makes no
/// table.
pub trait Lists: View {
    /// Has changes of what a daemon owns sent by the daemon.
    fn go_through(&mut self, run_dir: &Path);

    /// Holds sources back no longer, all if no range is given; how many there were.
    ///
    /// # Errors
    /// What the kernel refused.
    fn end_throttle(&mut self, _ranges: &[Range]) -> Result<usize, Failure> {
        Ok(0)
    }

    /// What there is of deny lists.
    ///
    /// # Errors
    /// The kernel's.
    fn deny_sets(&mut self) -> Result<Vec<DenySet>, Failure>;

    /// Which of the ranges begin with an address that a part of a list has.
    ///
    /// # Errors
    /// The kernel's.
    fn deny_has(&mut self, set: &DenySet, ranges: &[Range]) -> Result<Vec<usize>, Failure>;

    /// Begins a part of a list, for so many elements; `label` is for people.
    ///
    /// # Errors
    /// What the kernel refused.
    fn deny_open(&mut self, id: ListId, form: ListForm, size: u32, label: &str) -> Result<Filling, Failure>;

    /// Adds some of its ranges, by transactions of `room` bytes at most; they are there after `deny_close`.
    ///
    /// # Errors
    /// What the kernel refused; the part is then worth nothing.
    fn deny_add(&mut self, filling: &mut Filling, ranges: &[Range], room: usize) -> Result<(), Failure>;

    /// Has the kernel take what was added last.
    ///
    /// # Errors
    /// What the kernel refused.
    fn deny_close(&mut self) -> Result<(), Failure>;

    /// The room to try next after a failure, if a smaller one may help.
    fn deny_room(&self, e: &Failure, room: usize) -> Option<usize>;

    /// Puts the new parts of a list in force in place of the old ones, which are gone then.
    ///
    /// # Errors
    /// What the kernel refused; then nothing has changed.
    fn deny_swap(&mut self, all: &[DenySet], new: &[Filling], list: u64) -> Result<(), Failure>;

    /// Gives up a part that nobody has put in force.
    ///
    /// # Errors
    /// What the kernel refused.
    fn deny_forget(&mut self, filling: &Filling) -> Result<(), Failure>;

    /// Deletes a part that is not in force. It may be gone already.
    ///
    /// # Errors
    /// What the kernel refused.
    fn deny_drop(&mut self, set: &DenySet) -> Result<(), Failure>;

    /// What is missing for a list of so many addresses and networks.
    ///
    /// # Errors
    /// There is not enough memory for them.
    fn room_for_list(&self, hosts: u64, networks: u64) -> Result<(), Shortage>;
}

/// Bans. What they need is made where it is missing, with the allow list in it.
pub trait Bans: Lists {
    /// What there is for bans, made first if it is missing.
    ///
    /// # Errors
    /// What the kernel refused.
    fn ensure(&mut self) -> Result<GuardState, Failure>;

    /// Whether it had to be made since this was last asked: then all previous bans are gone.
    fn take_recreated(&mut self) -> bool;

    /// Bans each. `report` is called once for each, when the kernel has acknowledged or refused it.
    fn ban(&mut self, bans: &[Ban<'_>], repeat: Repeat, report: BanReport<'_>);

    /// Ends the bans of all addresses of each range; how many there were of each. `remembered` are offenders
    /// inside that a listing may leave out.
    ///
    /// # Errors
    /// What the kernel refused.
    fn unban(&mut self, ranges: &[Range], remembered: &[Range]) -> Result<Vec<usize>, Failure>;

    /// Ends all bans, or those that have an end.
    ///
    /// # Errors
    /// What the kernel refused.
    fn unban_all(&mut self, which: WhichBans) -> Result<(), Failure>;

    /// Replaces the allow list, also for what is made from now on.
    ///
    /// # Errors
    /// What the kernel refused. Nobody who was and is to be allowed fell off then.
    fn set_allowed(&mut self, allowed: &mut Allowed) -> Result<(), Failure>;

    /// What of a range would not pass by the list that was written last; all of it, where none is known.
    fn not_allowed(&self, range: &Range, now: Wall) -> Vec<Range>;

    /// Between many changes: waits until those who listen have read of them, if memory is short.
    fn wait_for_listeners(&mut self) {}

    /// Gives back memory that is not needed while nothing happens.
    fn shrink(&mut self) {}

    /// What is missing for the next bans, of a command that has made so many `before`.
    ///
    /// # Errors
    /// There is not enough memory for them.
    fn room_for_bans(&self, _bans: u64, _before: u64) -> Result<(), Shortage> {
        Ok(())
    }

    /// Likewise for the end of bans.
    ///
    /// # Errors
    /// There is not enough memory for it.
    fn room_for_liftings(&self, _bans: u64) -> Result<(), Shortage> {
        Ok(())
    }
}

/// What the kernel does by itself: port scans, floods, new sources. A backend may have nothing of it.
pub trait Guards {
    /// Says whom these never harm, and who has no limits.
    ///
    /// # Errors
    /// What the kernel refused.
    fn set_exempt(&mut self, _spared: &[Range], _proxies: &[Range]) -> Result<(), Failure> {
        Ok(())
    }

    /// Bans that packets have led to.
    ///
    /// # Errors
    /// The kernel's.
    fn packet_bans(&mut self) -> Result<Vec<(Range, Standing)>, Failure> {
        Ok(Vec::new())
    }

    /// Bans somebody for packets, or for longer.
    ///
    /// # Errors
    /// What the kernel refused.
    fn ban_for_packets(&mut self, _who: &Range, _secs: u64, _by: (&str, u32)) -> Result<(), Failure> {
        Ok(())
    }

    /// Ends such a ban; whether there was one.
    ///
    /// # Errors
    /// What the kernel refused.
    fn unban_packets(&mut self, _who: &Range, _pardon: Pardon) -> Result<bool, Failure> {
        Ok(false)
    }

    /// Finds which closed ports each has touched.
    ///
    /// # Errors
    /// The kernel's.
    fn scanned_ports(&mut self, _scanners: &mut [Scanner]) -> Result<(), Failure> {
        Ok(())
    }

    /// Has these reported again as new sources when they come again; `None` is everybody.
    ///
    /// # Errors
    /// What the kernel refused.
    fn report_again(&mut self, _whom: Option<&[Unseen]>) -> Result<(), Failure> {
        Ok(())
    }

    /// Whether the ports that sockets listen on have to be told.
    fn wants_open_ports(&self) -> bool {
        false
    }

    /// Whether ports that something listens on are remembered.
    fn remembers_ports(&self) -> bool {
        false
    }

    /// Ports that something has listened on, each for how many milliseconds more that is remembered.
    ///
    /// # Errors
    /// The kernel's.
    fn open_ports(&mut self) -> Result<Vec<(u16, u64)>, Failure> {
        Ok(Vec::new())
    }

    /// Has ports remembered as open for so many milliseconds from now.
    ///
    /// # Errors
    /// What the kernel refused; then none of them is.
    fn set_open_ports(&mut self, _ports: &[(u16, u64)]) -> Result<(), Failure> {
        Ok(())
    }
}

/// Keeps what is in force as it is to be.
pub trait Keeper {
    /// From the next `rebuild` on an eye is kept on it.
    fn watch(&mut self);

    /// Has it be the daemon's own, where the options say so; others change it through `run_dir`.
    fn own_through(&mut self, _run_dir: &Path) {}

    /// For polling: who wants to change what is owned.
    fn relay_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Why it cannot be owned; told once.
    fn take_owner_trouble(&mut self) -> Option<String> {
        None
    }

    /// Seconds between two such questions at most, where nothing else tells of changes.
    fn poll_interval(&self) -> Option<u32> {
        None
    }

    /// Whether anything was changed by others since this was last asked.
    ///
    /// # Errors
    /// The kernel's.
    fn has_moved(&mut self) -> Result<bool, Failure>;

    /// Finds out what others have done.
    ///
    /// # Errors
    /// The kernel's.
    fn check(&mut self) -> Result<Health, Failure>;

    /// Whether the last checks have found a set of such bans empty that had held some: perhaps by themselves.
    fn may_lack(&self, _addr: &Range, _scope: &Scope) -> bool {
        false
    }

    /// What is missing of them is there again.
    fn forget_lacks(&mut self) {}

    /// Puts everything in force anew, as the options say; bans and lists that are there stay. What is made
    /// has the allow list from its beginning.
    ///
    /// # Errors
    /// What the kernel refused.
    fn rebuild(&mut self) -> Result<GuardState, Failure>;

    /// Forgets what is known of it, and rebuilds it: others did this damage.
    ///
    /// # Errors
    /// What the kernel refused.
    fn repair(&mut self, damage: Damage) -> Result<GuardState, Failure>;

    /// What `rebuild` puts in force.
    fn options(&self) -> &Options;

    /// Takes other options, and gives the previous.
    fn set_options(&mut self, options: Options) -> Options;
}

/// All that the daemon asks of what enforces its decisions.
pub trait Backend: Bans + Guards + Keeper {}

impl<T: Bans + Guards + Keeper> Backend for T {}
