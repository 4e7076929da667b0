#![forbid(unsafe_code)]
//! The fallback as a backend: what the seam calls its parts.

use super::{Fallback, PLACE, health, text};
use crate::ban::{
    AllowEntry, Allowed, Ban, BanEntry, BanReport, Capability, Damage, Failure, GuardState, Health, ListForm,
    ListId, Options, Repeat, Scanner, Scope, Shortage, Standing,
};
use crate::ban::{Pardon, Unseen, WhichBans};
use crate::base::clock::Wall;
use crate::base::range::{Family, Range};
use crate::firewall::backend::{Bans, DenySet, Filling, Guards, Keeper, Lists, View};
use crate::firewall::guard::{SetKind, room};
use std::path::Path;

/// What is said of what it lacks.
const WORDS: [(Capability, &str); 8] = [
    (Capability::DropLog, "cannot log dropped packets (it lacks xt_LOG, nf_log_syslog or xt_limit)"),
    (Capability::Ingress, "cannot drop in the ingress hook: nf_tables alone has that"),
    (
        Capability::Scans,
        "cannot see port scans (it lacks xt_pkttype, the table mangle, ip_set_hash_netport or counters of \
        xt_set)",
    ),
    (
        Capability::Sockets,
        "cannot look up sockets (it lacks xt_socket): the daemon says which ports are open",
    ),
    (
        Capability::Floods,
        "cannot hold floods back (it lacks xt_hashlimit, xt_conntrack, the table mangle or \
        ip_set_hash_netport)",
    ),
    (
        Capability::Connections,
        "cannot count connections (it lacks xt_connlimit): ddos_connlimit has no effect",
    ),
    (
        Capability::NewSources,
        "cannot report new sources (it lacks xt_limit or the table mangle): DNSBLs are not asked about them",
    ),
    (
        Capability::Reports,
        "cannot report port scans, floods and new sources (it lacks xt_NFLOG or nfnetlink_log)",
    ),
];

/// The same, of all rules of a family.
pub(super) const NO_IPV6: &str = "cannot drop packets of IPv6 (it lacks ip6_tables, or its tables)";

impl View for Fallback {
    fn state(&mut self) -> Result<Option<GuardState>, Failure> {
        Ok(self.look()?.map(GuardState::from))
    }

    fn name(&self) -> &'static str {
        "iptables"
    }

    fn place(&self) -> &'static str {
        PLACE
    }

    fn hook(&self) -> Option<&'static str> {
        self.mark.and_then(|mark| mark.of(Family::V4)).map(|(place, _)| text::words(place))
    }

    fn cannot_drop(&mut self, family: Family) -> Result<Option<&'static str>, Failure> {
        let is_open = self.registry()?.mark.is_some_and(|mark| mark.is_open(family));
        Ok(is_open.then_some(NO_IPV6))
    }

    fn lacking(&mut self, state: GuardState) -> Vec<String> {
        let found = format!("cannot keep bans in nf_tables ({}): iptables and ip_set do", self.why);
        let found = (!self.why.is_empty()).then_some(found);
        let open = self.mark.is_some_and(|mark| mark.is_open(Family::V6));
        let found = found.into_iter().chain(open.then(|| NO_IPV6.to_owned()));
        let words = WORDS.into_iter().filter(|(what, _)| state.lacks.has(*what));
        found.chain(words.map(|(_, text)| text.to_owned())).collect()
    }

    fn owned_by(&mut self, _: &Path) -> Result<Option<String>, Failure> {
        Ok(None)
    }

    fn has_ban(&mut self, addr: &Range, scope: &Scope) -> Result<bool, Failure> {
        self.is_banned(addr, scope)
    }

    fn list(&mut self, each: &mut dyn FnMut(&BanEntry<'_>)) -> Result<(), Failure> {
        self.list_all(each)
    }

    fn glance(&mut self, each: &mut dyn FnMut(&BanEntry<'_>)) -> Result<(), Failure> {
        self.glance_all(each)
    }

    fn allowed_until(&mut self) -> Result<Vec<AllowEntry>, Failure> {
        self.allowed_entries()
    }

    fn throttled(&mut self) -> Result<u64, Failure> {
        Ok(self.held_back()?.len().try_into().unwrap_or(u64::MAX))
    }

    fn each_throttled(&mut self, each: &mut dyn FnMut(Range, u64)) -> Result<(), Failure> {
        self.held_back()?.into_iter().for_each(|(addr, left)| each(addr, left));
        Ok(())
    }

    fn dropped(&mut self) -> Result<Option<u64>, Failure> {
        self.count_drops()
    }

    fn denied(&mut self, ranges: &[Range]) -> Result<Vec<Vec<String>>, Failure> {
        self.denied_by(ranges)
    }
}

impl Lists for Fallback {
    fn go_through(&mut self, _: &Path) {}

    fn end_throttle(&mut self, ranges: &[Range]) -> Result<usize, Failure> {
        self.release(ranges)
    }

    fn deny_sets(&mut self) -> Result<Vec<DenySet>, Failure> {
        self.lists()
    }

    fn deny_has(&mut self, set: &DenySet, ranges: &[Range]) -> Result<Vec<usize>, Failure> {
        self.having(set, ranges)
    }

    fn deny_open(&mut self, id: ListId, form: ListForm, size: u32, label: &str) -> Result<Filling, Failure> {
        self.open_list(id, form, size, label)
    }

    fn deny_add(&mut self, filling: &mut Filling, ranges: &[Range], _: usize) -> Result<(), Failure> {
        self.fill_list(filling, ranges)
    }

    fn deny_close(&mut self) -> Result<(), Failure> {
        self.close_list()
    }

    fn deny_room(&self, _: &Failure, _: usize) -> Option<usize> {
        None
    }

    fn deny_swap(&mut self, all: &[DenySet], new: &[Filling], list: u64) -> Result<(), Failure> {
        self.swap_list(all, new, list)
    }

    fn deny_forget(&mut self, filling: &Filling) -> Result<(), Failure> {
        self.drop_list(filling.name)
    }

    fn deny_drop(&mut self, set: &DenySet) -> Result<(), Failure> {
        self.drop_list(set.name)
    }

    fn room_for_list(&self, hosts: u64, networks: u64) -> Result<(), Shortage> {
        room::for_list(hosts, networks)
    }
}

impl Bans for Fallback {
    fn ensure(&mut self) -> Result<GuardState, Failure> {
        Fallback::ensure(self).map(GuardState::from)
    }

    fn take_recreated(&mut self) -> bool {
        std::mem::take(&mut self.recreated)
    }

    fn ban(&mut self, bans: &[Ban<'_>], repeat: Repeat, report: BanReport<'_>) {
        self.ban_all(bans, repeat, report);
    }

    fn unban(&mut self, ranges: &[Range], remembered: &[Range]) -> Result<Vec<usize>, Failure> {
        self.unban_ranges(ranges, remembered)
    }

    fn unban_all(&mut self, which: WhichBans) -> Result<(), Failure> {
        self.end_all(which)
    }

    fn set_allowed(&mut self, allowed: &mut Allowed) -> Result<(), Failure> {
        self.replace_allowed(allowed)
    }

    fn not_allowed(&self, range: &Range, now: Wall) -> Vec<Range> {
        self.allow.not_allowed(range, now)
    }

    fn shrink(&mut self) {
        self.sets.shrink();
    }

    fn room_for_bans(&self, bans: u64, before: u64) -> Result<(), Shortage> {
        room::for_bans(bans, before)
    }

    fn room_for_liftings(&self, bans: u64) -> Result<(), Shortage> {
        room::for_liftings(bans)
    }
}

impl Guards for Fallback {
    fn set_exempt(&mut self, spared: &[Range], proxies: &[Range]) -> Result<(), Failure> {
        self.exempt(spared, proxies)
    }

    fn packet_bans(&mut self) -> Result<Vec<(Range, Standing)>, Failure> {
        self.packet_standings()
    }

    fn ban_for_packets(&mut self, addr: &Range, secs: u64, (rule, hits): (&str, u32)) -> Result<(), Failure> {
        self.ban_packets(addr, secs, rule, hits)
    }

    fn unban_packets(&mut self, addr: &Range, pardon: Pardon) -> Result<bool, Failure> {
        self.end_packets(addr, pardon)
    }

    fn scanned_ports(&mut self, scanners: &mut [Scanner]) -> Result<(), Failure> {
        self.find_ports(scanners)
    }

    fn report_again(&mut self, whom: Option<&[Unseen]>) -> Result<(), Failure> {
        self.forget_seen(whom)
    }

    fn wants_open_ports(&self) -> bool {
        self.has_ports() && self.mark.is_some_and(|mark| mark.lacks.has(Capability::Sockets))
    }

    fn remembers_ports(&self) -> bool {
        self.has_ports()
    }

    fn open_ports(&mut self) -> Result<Vec<(u16, u64)>, Failure> {
        self.known_ports()
    }

    fn set_open_ports(&mut self, ports: &[(u16, u64)]) -> Result<(), Failure> {
        self.remember_ports(ports)
    }
}

impl Keeper for Fallback {
    fn watch(&mut self) {
        self.watch_it();
    }

    fn poll_interval(&self) -> Option<u32> {
        Some(health::POLL_INTERVAL)
    }

    fn has_moved(&mut self) -> Result<bool, Failure> {
        self.has_changed()
    }

    fn check(&mut self) -> Result<Health, Failure> {
        self.find_damage()
    }

    fn rebuild(&mut self) -> Result<GuardState, Failure> {
        Fallback::rebuild(self).map(GuardState::from)
    }

    fn may_lack(&self, addr: &Range, scope: &Scope) -> bool {
        SetKind::ALL.iter().any(|kind| self.contents.is_emptied(scope.set(*kind, addr.family())))
    }

    fn forget_lacks(&mut self) {
        self.contents.forget_emptied();
    }

    fn repair(&mut self, damage: Damage) -> Result<GuardState, Failure> {
        if damage <= Damage::Emptied {
            return Fallback::ensure(self).map(GuardState::from);
        }
        self.mark = None;
        Fallback::rebuild(self).map(GuardState::from)
    }

    fn options(&self) -> &Options {
        &self.options
    }

    fn set_options(&mut self, options: Options) -> Options {
        std::mem::replace(&mut self.options, options)
    }
}
