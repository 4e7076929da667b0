#![forbid(unsafe_code)]
//! The guard as a backend: what the seam calls its parts.

use super::{DenySet, Filling, Flood, Guard, NewSourceReports, Scan, SetKind, TableState, room};
use crate::ban::{
    AllowEntry, Allowed, Ban, BanEntry, BanReport, Capabilities, Capability, Damage, Failure, GuardState,
    Health, ListForm, ListId, Options, Repeat, Scanner, Scope, Shortage, Standing,
};
use crate::ban::{Pardon, Unseen, WhichBans};
use crate::base::clock::Wall;
use crate::base::range::Range;
use crate::firewall::backend::{Bans, Guards, Keeper, Lists, View};
use crate::firewall::tables;
use std::os::fd::BorrowedFd;
use std::path::Path;

impl From<TableState> for GuardState {
    fn from(made: TableState) -> GuardState {
        let parts = [
            (made.ingress, Capability::Ingress),
            (made.has(&Scan), Capability::Scans),
            (made.has(&Flood), Capability::Floods),
            (made.has(&NewSourceReports), Capability::NewSources),
        ];
        let on = parts.into_iter().filter(|(on, _)| *on);
        GuardState {
            ipv6_prefix: made.ipv6_prefix,
            logs: made.logs,
            watches: on.fold(Capabilities::NONE, |all, (_, one)| all.and(one)),
            lacks: made.missing,
        }
    }
}

impl View for Guard {
    fn state(&mut self) -> Result<Option<GuardState>, Failure> {
        Ok(self.probe()?.map(GuardState::from))
    }

    fn place(&self) -> &'static str {
        tables::GUARD_PLACE
    }

    fn lacking(&mut self, state: GuardState) -> Vec<String> {
        let missing = self.missing(state.lacks);
        super::missing_features(state.lacks, missing).collect()
    }

    fn owned_by(&mut self, run_dir: &Path) -> Result<Option<String>, Failure> {
        Guard::owned_by(self, run_dir)
    }

    fn has_ban(&mut self, addr: &Range, scope: &Scope) -> Result<bool, Failure> {
        Guard::has_ban(self, addr, scope)
    }

    fn list(&mut self, each: &mut dyn FnMut(&BanEntry<'_>)) -> Result<(), Failure> {
        Guard::list(self, each)
    }

    fn glance(&mut self, each: &mut dyn FnMut(&BanEntry<'_>)) -> Result<(), Failure> {
        Guard::glance(self, each)
    }

    fn bans_of(&mut self, range: &Range, each: &mut dyn FnMut(&BanEntry<'_>)) -> Result<(), Failure> {
        Guard::bans_of(self, range, each)
    }

    fn allowed_of(&mut self, range: &Range) -> Result<Vec<AllowEntry>, Failure> {
        Guard::allowed_of(self, range)
    }

    fn allowed_until(&mut self) -> Result<Vec<AllowEntry>, Failure> {
        Guard::allowed_until(self)
    }

    fn throttled(&mut self) -> Result<u64, Failure> {
        Guard::throttled(self)
    }

    fn each_throttled(&mut self, each: &mut dyn FnMut(Range, u64)) -> Result<(), Failure> {
        Guard::each_throttled(self, each)
    }

    fn dropped(&mut self) -> Result<Option<u64>, Failure> {
        Guard::dropped(self).map(Some)
    }

    fn denied(&mut self, ranges: &[Range]) -> Result<Vec<Vec<String>>, Failure> {
        Guard::denied(self, ranges)
    }
}

impl Lists for Guard {
    fn go_through(&mut self, run_dir: &Path) {
        Guard::go_through(self, run_dir);
    }

    fn end_throttle(&mut self, ranges: &[Range]) -> Result<usize, Failure> {
        Guard::end_throttle(self, ranges)
    }

    fn deny_sets(&mut self) -> Result<Vec<DenySet>, Failure> {
        Guard::deny_sets(self)
    }

    fn deny_has(&mut self, set: &DenySet, ranges: &[Range]) -> Result<Vec<usize>, Failure> {
        self.having(&set.name, set.family(), ranges)
    }

    fn deny_open(&mut self, id: ListId, form: ListForm, size: u32, label: &str) -> Result<Filling, Failure> {
        Guard::deny_open(self, id, form, size, label)
    }

    fn deny_add(&mut self, filling: &mut Filling, ranges: &[Range], room: usize) -> Result<(), Failure> {
        ranges.iter().try_for_each(|range| Guard::deny_add(self, filling, range, room))
    }

    fn deny_close(&mut self) -> Result<(), Failure> {
        Guard::deny_close(self)
    }

    fn deny_room(&self, e: &Failure, room: usize) -> Option<usize> {
        Guard::deny_room(e, room)
    }

    fn deny_swap(&mut self, all: &[DenySet], new: &[Filling], list: u64) -> Result<(), Failure> {
        Guard::deny_swap(self, all, new, list)
    }

    fn deny_forget(&mut self, filling: &Filling) -> Result<(), Failure> {
        Guard::deny_drop(self, &filling.name)
    }

    fn deny_drop(&mut self, set: &DenySet) -> Result<(), Failure> {
        Guard::deny_drop(self, &set.name)
    }

    fn room_for_list(&self, hosts: u64, networks: u64) -> Result<(), Shortage> {
        room::for_list(hosts, networks)
    }
}

impl Bans for Guard {
    fn ensure(&mut self) -> Result<GuardState, Failure> {
        Guard::ensure(self).map(GuardState::from)
    }

    fn take_recreated(&mut self) -> bool {
        Guard::take_recreated(self)
    }

    fn ban(&mut self, bans: &[Ban<'_>], repeat: Repeat, report: BanReport<'_>) {
        Guard::ban(self, bans, repeat, report);
    }

    fn unban(&mut self, ranges: &[Range], remembered: &[Range]) -> Result<Vec<usize>, Failure> {
        Guard::unban(self, ranges, remembered)
    }

    fn unban_all(&mut self, which: WhichBans) -> Result<(), Failure> {
        Guard::unban_all(self, which)
    }

    fn set_allowed(&mut self, allowed: &mut Allowed) -> Result<(), Failure> {
        Guard::set_allowed(self, allowed)
    }

    fn not_allowed(&self, range: &Range, now: Wall) -> Vec<Range> {
        Guard::not_allowed(self, range, now)
    }

    fn wait_for_listeners(&mut self) {
        Guard::wait_for_listeners(self);
    }

    fn shrink(&mut self) {
        Guard::shrink(self);
    }

    fn room_for_bans(&self, bans: u64, before: u64) -> Result<(), Shortage> {
        room::for_bans(bans, before)
    }

    fn room_for_liftings(&self, bans: u64) -> Result<(), Shortage> {
        room::for_liftings(bans)
    }
}

impl Guards for Guard {
    fn set_exempt(&mut self, spared: &[Range], proxies: &[Range]) -> Result<(), Failure> {
        Guard::set_exempt(self, spared, proxies)
    }

    fn packet_bans(&mut self) -> Result<Vec<(Range, Standing)>, Failure> {
        Guard::packet_bans(self)
    }

    fn ban_for_packets(&mut self, addr: &Range, secs: u64, (rule, hits): (&str, u32)) -> Result<(), Failure> {
        // As bans by service rules are commented.
        Guard::ban_for_packets(self, addr, secs, &format!("{rule} hits={hits}"))
    }

    fn unban_packets(&mut self, addr: &Range, pardon: Pardon) -> Result<bool, Failure> {
        Guard::unban_packets(self, addr, pardon)
    }

    fn scanned_ports(&mut self, scanners: &mut [Scanner]) -> Result<(), Failure> {
        Guard::scanned_ports(self, scanners)
    }

    fn report_again(&mut self, whom: Option<&[Unseen]>) -> Result<(), Failure> {
        Guard::report_again(self, whom)
    }

    fn wants_open_ports(&self) -> bool {
        Guard::wants_open_ports(self)
    }

    fn remembers_ports(&self) -> bool {
        Guard::remembers_ports(self)
    }

    fn open_ports(&mut self) -> Result<Vec<(u16, u64)>, Failure> {
        Guard::open_ports(self)
    }

    fn set_open_ports(&mut self, ports: &[(u16, u64)]) -> Result<(), Failure> {
        Guard::set_open_ports(self, ports)
    }
}

impl Keeper for Guard {
    fn watch(&mut self) {
        Guard::watch(self);
    }

    fn own_through(&mut self, run_dir: &Path) {
        Guard::own_through(self, run_dir);
    }

    fn relay_fd(&self) -> Option<BorrowedFd<'_>> {
        Guard::relay_fd(self)
    }

    fn take_owner_trouble(&mut self) -> Option<String> {
        Guard::take_owner_trouble(self)
    }

    fn has_moved(&mut self) -> Result<bool, Failure> {
        Guard::has_moved(self)
    }

    fn check(&mut self) -> Result<Health, Failure> {
        Guard::check(self)
    }

    fn may_lack(&self, addr: &Range, scope: &Scope) -> bool {
        SetKind::ALL.iter().any(|kind| self.contents.is_emptied(scope.set(*kind, addr.family())))
    }

    fn forget_lacks(&mut self) {
        self.contents.forget_emptied();
    }

    fn rebuild(&mut self) -> Result<GuardState, Failure> {
        Guard::rebuild(self).map(GuardState::from)
    }

    fn repair(&mut self, damage: Damage) -> Result<GuardState, Failure> {
        if damage <= Damage::Emptied {
            return Guard::ensure(self).map(GuardState::from);
        }
        self.invalidate();
        Guard::rebuild(self).map(GuardState::from)
    }

    fn options(&self) -> &Options {
        Guard::options(self)
    }

    fn set_options(&mut self, options: Options) -> Options {
        Guard::set_options(self, options)
    }
}
