#![forbid(unsafe_code)]
//! New sources, told to the daemon: for the sake of DNSBLs, which are asked about strangers. Whoever begins a
//! connection to a port that a DNSBL closes, and has not been seen for a time, is noted as seen and reported
//! once.
//!
//! Nobody is harmed by this: when the set is full, or more strangers come than can be told, nothing is told
//! of them and nothing is dropped. Who was not told is not noted, so that the next try is.

use super::feature::{Feature, Stale};
use super::layout::{allow_set, allow_timed_set};
use super::scan::{PRIORITY_MANGLE, push_interface, share, stamp};
use super::words::{end, key_type, push_key, push_meta, push_source, sources};
use super::{Guard, TableState};
use crate::ban::{Alarm, BOGONS, Capabilities, Capability, Failure, Options, SeenOptions, Unseen};
use crate::base::name::{IfName, Name};
use crate::base::range::{Family, Range};
use crate::firewall::alarm::{NEWS, SNAPLEN};
use crate::firewall::nft::NftRule;
use crate::firewall::nft::elem::{Elem, Timeout};
use crate::firewall::nft::expr::{self, Cmp, NftVerdict, PayloadBase, REG};
use crate::firewall::nft::{Hook, Optional, SetSpec};
use ipnet::IpNet;

/// Packets that begin a connection to a port that counts leave this chain for `LOOK`.
const SEEN: Name = Name::of("seen");
const LOOK: Name = Name::of("seen_look");
/// Behind the guard of floods: who is held back is nobody new.
const PRIORITY: i32 = PRIORITY_MANGLE + 1;
/// Sources that are noted at most: 256 kB of the kernel's memory.
pub(in crate::firewall) const NOTED: u32 = 16_384;
/// Sources a second, and at once, that are told of each family.
pub(in crate::firewall) const RATE: (u64, u32) = (100, 200);
/// In the flags byte of TCP: FIN, SYN, RST and ACK, of which the first packet of a connection has SYN alone.
const FIN_SYN_RST_ACK: u8 = 0x17;
const SYN: u8 = 0x02;

impl SeenOptions {
    /// Stands for what was told of: what others have noted is of no use. Never 0.
    pub(in crate::firewall) fn digest(&self) -> u16 {
        let ports = self.ports.iter().flat_map(|&(from, to)| [u32::from(from), u32::from(to)]);
        stamp(&[self.timeout].into_iter().chain(ports).collect::<Vec<_>>())
    }
}

const fn seen_set(family: Family) -> Name {
    match family {
        Family::V4 => Name::of("seen4"),
        Family::V6 => Name::of("seen6"),
    }
}

const fn bogon_set(family: Family) -> Name {
    match family {
        Family::V4 => Name::of("bogons4"),
        Family::V6 => Name::of("bogons6"),
    }
}

/// Goes on only with the first packets of TCP connections.
fn push_first(rule: &mut NftRule) {
    push_meta(rule, libc::NFT_META_L4PROTO, libc::IPPROTO_TCP);
    rule.push(expr::payload(PayloadBase::Transport, 13, 1, REG));
    rule.push(expr::mask(REG, &[FIN_SYN_RST_ACK]));
    rule.push(expr::cmp(Cmp::Eq, REG, &[SYN]));
}

/// Reports of new sources.
pub struct NewSourceReports;

impl Feature for NewSourceReports {
    fn word(&self) -> &'static str {
        "seen"
    }

    fn part(&self) -> Capability {
        Capability::NewSources
    }

    /// Noting without telling is of no use.
    fn needs(&self) -> Capabilities {
        Capability::Reports.into()
    }

    fn digest(&self, options: &Options) -> u16 {
        options.seen.as_ref().map_or(0, SeenOptions::digest)
    }

    fn chains(&self) -> &'static [Name] {
        &[SEEN, LOOK]
    }

    fn write_sets(&self, guard: &mut Guard) {
        let noted = libc::NFT_SET_TIMEOUT | libc::NFT_SET_EVAL;
        for family in Family::ALL {
            let key = key_type(family);
            let size = share(family, NOTED);
            guard.txn.add_set(&SetSpec { size, ..SetSpec::new(seen_set(family), noted, key) });
            let bogons = bogon_set(family);
            guard.txn.add_set(&SetSpec::new(bogons, libc::NFT_SET_INTERVAL, key));
            // Others may have taken something out of it.
            guard.txn.flush_set(&bogons);
            let nets = BOGONS.iter().filter_map(|net| net.parse::<IpNet>().ok()).map(Range::from);
            for range in nets.filter(|range| range.family() == family) {
                guard.write_range(&bogons, &range, Timeout::None, "");
            }
        }
    }

    fn delete_sets(&self, guard: &mut Guard) {
        for family in Family::ALL {
            guard.txn.delete_set(&seen_set(family));
            guard.txn.delete_set(&bogon_set(family));
        }
    }

    fn write(&self, guard: &mut Guard, made: TableState) {
        guard.write_seen(made);
    }

    fn forget(&self, guard: &mut Guard, stale: Stale) {
        let families = if stale == Stale::Digest { &Family::ALL[..] } else { &[Family::V6] };
        families.iter().for_each(|&family| guard.txn.flush_set(&seen_set(family)));
    }
}

impl Guard {
    /// Has these reported again when they come again, each after its time; `None` is everybody.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn report_again(&mut self, whom: Option<&[Unseen]>) -> Result<(), Failure> {
        if !self.made.is_some_and(|made| made.has(&NewSourceReports)) {
            return Ok(());
        }
        let Some(whom) = whom else {
            Family::ALL.iter().for_each(|&family| self.txn.flush_set(&seen_set(family)));
            return Ok(self.txn.commit(&mut self.socket)?);
        };
        // What was noted keeps its time: what is added can be deleted without an error, and added anew.
        for adds in [true, false, true] {
            for Unseen { who, after } in whom {
                let (set, key) = (seen_set(who.family()), who.key());
                let timeout = if adds { Timeout::Ms(u64::from(*after).max(1) * 1000) } else { Timeout::None };
                let elem = Elem { key: key.bytes(), end: None, timeout, comment: "" };
                if adds { self.txn.add_elem(&set, &elem) } else { self.txn.delete_elem(&set, &elem) }
            }
        }
        Ok(self.txn.commit(&mut self.socket)?)
    }

    fn seen_rule(&mut self, chain: &Name, rule: &NftRule) {
        self.txn.add_rule(chain, rule, Optional::Part(Capability::NewSources));
    }

    fn write_seen(&mut self, made: TableState) {
        let Some(seen) = self.options.seen.clone() else { return };
        // Before DNAT, so that a published port is the one that was asked for.
        let pre = Hook { priority: PRIORITY, ..Hook::new(libc::NF_INET_PRE_ROUTING) };
        self.txn.add_chain(&SEEN, Some(pre));
        self.txn.add_chain(&LOOK, None);
        let mut rule = NftRule::new();
        if let Some(lo) = IfName::new("lo") {
            push_interface(&mut rule, &lo);
        }
        self.seen_rule(&SEEN, &end(rule, NftVerdict::Accept));
        let all = [(0, u16::MAX)];
        let ports = if seen.ports.is_empty() { &all[..] } else { &seen.ports };
        for (from, to) in ports {
            let mut rule = NftRule::new();
            push_first(&mut rule);
            if (*from, *to) != all[0] {
                rule.push(expr::payload(PayloadBase::Transport, 2, 2, REG));
                rule.push(expr::range(Cmp::Eq, REG, &from.to_be_bytes(), &to.to_be_bytes()));
            }
            self.seen_rule(&SEEN, &end(rule, NftVerdict::Goto(&LOOK)));
        }
        for source in sources(made.ipv6_prefix) {
            let mut rule = NftRule::new();
            push_key(&mut rule, source);
            rule.push(expr::lookup(Cmp::Eq, &seen_set(source.family()), 0, REG));
            self.seen_rule(&LOOK, &end(rule, NftVerdict::Accept));
        }
        for family in Family::ALL {
            for set in [bogon_set(family), allow_set(family), allow_timed_set(family)] {
                let mut rule = NftRule::new();
                push_source(&mut rule, family, 128);
                rule.push(expr::lookup(Cmp::Eq, &set, 0, REG));
                self.seen_rule(&LOOK, &end(rule, NftVerdict::Accept));
            }
        }
        for source in sources(made.ipv6_prefix) {
            // What the limit stops is not noted, and what does not fit into the set is not told: each ends
            // the rule.
            let mut rule = NftRule::new();
            push_key(&mut rule, source);
            rule.push(expr::limit(RATE.0, 1, RATE.1, expr::LimitSide::UpTo));
            let life = u64::from(seen.timeout) * 1000;
            rule.push(expr::dynset(&seen_set(source.family()), 0, REG, life, expr::DynsetOp::Add, None));
            rule.push(expr::nflog(Alarm::New.prefix(), NEWS, SNAPLEN));
            self.txn.add_rule(&LOOK, &rule, Optional::Part(Capability::Reports));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_that_are_not_asked_about_do_not_overlap() {
        let nets: Vec<Range> = BOGONS.iter().map(|net| Range::from(net.parse::<IpNet>().unwrap())).collect();
        let mut merged = nets.clone();
        crate::base::range::merge(&mut merged);
        for range in &nets {
            let overlaps = nets.iter().filter(|other| other.covers(range) || range.covers(other)).count();
            assert_eq!(overlaps, 1, "{range}");
        }
        for (text, asked) in [
            ("8.8.8.8", true),
            ("172.32.0.1", true),
            ("172.31.0.1", false),
            ("223.255.255.255", true),
            ("240.0.0.1", false),
            ("2001:4860::1", true),
            ("2001:db8:1::1", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("ff02::1", false),
            ("::1", false),
        ] {
            let addr = Range::from(text.parse::<std::net::IpAddr>().unwrap());
            assert_eq!(!merged.iter().any(|net| net.covers(&addr)), asked, "{text}");
        }
    }

    #[test]
    fn the_digest_tells_ports_and_time() {
        let options = |ports: &[(u16, u16)], timeout| SeenOptions { ports: ports.to_vec(), timeout }.digest();
        assert_ne!(options(&[], 60), options(&[], 61));
        assert_ne!(options(&[(22, 22)], 60), options(&[(22, 23)], 60));
        assert_ne!(options(&[], 60), 0);
    }
}
