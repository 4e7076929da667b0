#![forbid(unsafe_code)]
//! The sets that packets add to, and what becomes of whom they have in them.

use super::elems::{Held, host_key, plain};
use super::packets::{self, Class, FLOOD, NEW, Parts, SCAN};
use super::{Fallback, Mark, OURS, OURS_LIST, elems, rules, spec};
use crate::ban::Pardon;
use crate::ban::{BOGONS, Ban, Capabilities, Capability, Failure, PORT_MEMORY, Scanner, Standing, Unseen};
use crate::base::clock::Span;
use crate::base::net::{SINGLE, prefix};
use crate::base::range::{Family, Range, merge};
use crate::firewall::guard::{BANS, CONNECTED, COUNTED, NOTED, PORTS_TOLD, PORTS_TOLD_MAX, SetKind};
use crate::firewall::ipset::DoneBefore;
use crate::firewall::ipset::message::{Command, Elem, Found, Key, SetSpec, Type};
use crate::sys::clock;
use ipnet::IpNet;
use nix::errno::Errno;
use std::cell::RefCell;
use std::net::IpAddr;

/// Elements of sets that packets do not add to.
const ANY: u32 = OURS - OURS_LIST;
/// The sets: name (`@` for each kind of source, `#` for the family), what they hold, how many, and which
/// parts need them.
const SETS: [(&str, Type, u32, Parts); 15] = [
    ("hooks#", Type::Hosts, 0, SCAN | FLOOD | NEW),
    ("single#", Type::Networks, ANY, SCAN | FLOOD | NEW),
    ("exempt#", Type::Networks, ANY, SCAN | FLOOD),
    ("proxy#", Type::Networks, ANY, SCAN | FLOOD),
    ("scan_ban@", Type::Hosts, BANS, SCAN | FLOOD),
    ("scan_known@", Type::Hosts, BANS, SCAN),
    ("scan_rate@", Type::Hosts, COUNTED, SCAN),
    ("scan_seen@", Type::NetPorts, COUNTED, SCAN),
    ("scan_ports#", Type::NetPorts, COUNTED, SCAN),
    ("scan_calm#", Type::Networks, ANY, SCAN),
    ("throttle@", Type::Hosts, BANS, FLOOD),
    ("flood_syn@", Type::NetPorts, COUNTED, FLOOD),
    ("flood_new@", Type::NetPorts, COUNTED, FLOOD),
    ("seen@", Type::Hosts, NOTED, NEW),
    ("bogons#", Type::Networks, ANY, NEW),
];
/// TCP and UDP, by number.
const PROTOCOLS: [u8; 2] = [6, 17];

/// What becomes of sources in the throttle when bans end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Throttled {
    Released,
    Stay,
}

pub(super) fn everybody(family: Family) -> Range {
    if family == Family::V4 { Range::EVERYBODY_V4 } else { Range::EVERYBODY_V6 }
}

fn name(base: &str, class: Class) -> String {
    ["mef_", base].concat() + class.encode_utf8(&mut [0; 4])
}

impl Fallback {
    fn classes(&self, family: Family) -> &'static [Class] {
        self.mark.map_or(&[], |mark| packets::classes(family, mark.ipv6_prefix))
    }

    /// The kind that a source is of, and what stands for it in sets.
    fn class_of(&self, addr: &Range) -> Class {
        match (addr.family(), self.mark) {
            (Family::V4, _) => '4',
            (Family::V6, Some(mark)) if addr.first() == addr.last() && mark.ipv6_prefix < 128 => 's',
            (Family::V6, _) => '6',
        }
    }

    /// Makes the sets of what is on; what the kernel has no sets for is missing.
    pub(super) fn make_packet_sets(
        &mut self,
        lacks: Capabilities,
        bits: u8,
    ) -> Result<Capabilities, Failure> {
        let mut missing = Capabilities::NONE;
        let parts = packets::parts(&self.options, lacks);
        for (base, kind, size, of) in SETS.into_iter().filter(|(.., of)| of & parts != 0) {
            for family in Family::ALL {
                match self.make_packet_set((base, kind, size), family, bits) {
                    Err(e) if e.errno() == Errno::EOPNOTSUPP => {
                        for (part, what) in [
                            (SCAN, Capability::Scans),
                            (FLOOD, Capability::Floods),
                            (NEW, Capability::NewSources),
                        ] {
                            missing = if of & part != 0 { missing.and(what) } else { missing };
                        }
                    }
                    result => result?,
                }
            }
        }
        Ok(missing)
    }

    fn make_packet_set(
        &mut self,
        (base, kind, size): (&str, Type, u32),
        family: Family,
        bits: u8,
    ) -> Result<(), Failure> {
        let digit = if family == Family::V4 { '4' } else { '6' };
        let stem = base.trim_end_matches(['@', '#']);
        let classes = if base.ends_with('@') { packets::classes(family, bits) } else { &[digit] };
        for class in classes {
            let set = name(stem, *class);
            let netmask =
                if *class == '6' && kind == Type::Hosts && base.ends_with('@') { bits % 128 } else { 0 };
            // IPv6 takes twice as much memory, and is scanned less.
            let size = if digit == '6' && size != ANY { size / 2 } else { size };
            let counters = stem == "scan_rate";
            let wanted = SetSpec {
                netmask,
                counters,
                size: size + OURS_LIST,
                timed: true,
                ..spec(&set, kind, family)
            };
            let new = self.make_exact(&wanted)?;
            if kind == Type::NetPorts {
                // Packets add networks of the length that the set has already.
                let length = if stem == "scan_ports" { 1 } else { bits };
                if length < 128 && (*class == '6' || stem == "scan_ports") {
                    let net =
                        prefix(if digit == '4' { [0; 4].into() } else { IpAddr::from([0; 16]) }, length);
                    self.add(
                        &set,
                        &[Elem { timeout: Some(0), ..plain(Key::NetPort(net.addr(), length, (6, 0))) }],
                    )?;
                }
            }
            if new && stem == "single" {
                self.fill_networks(&set, &single(&[], bits), family)?;
            } else if stem == "bogons" {
                let nets: Vec<Range> =
                    BOGONS.iter().filter_map(|net| net.parse::<IpNet>().ok()).map(Range::from).collect();
                self.fill_networks(&set, &nets, family)?;
            }
        }
        Ok(())
    }

    /// Forgets what packets have added, where that was by other limits, or IPv6 prefixes.
    pub(super) fn forget_counts(&mut self, former: Mark, ipv6_prefix: u8) -> Result<(), Failure> {
        let ([scan, new], [now_scan, now_new]) = (former.digests, rules::digests(&self.options));
        let other = former.ipv6_prefix != ipv6_prefix;
        for (base, by_limit) in [
            ("scan_rate", scan != now_scan),
            ("scan_seen", scan != now_scan),
            ("seen", new != now_new),
            ("flood_syn", false),
            ("flood_new", false),
        ] {
            for class in ['4', '6', 's'].into_iter().filter(|class| by_limit || other && *class == '6') {
                self.about_ours(Command::Flush, &name(base, class))?;
            }
        }
        Ok(())
    }

    /// Has these reported again as new sources, or everybody.
    pub(super) fn forget_seen(&mut self, whom: Option<&[Unseen]>) -> Result<(), Failure> {
        if self.mark.is_none_or(|mark| packets::parts(&self.options, mark.lacks) & NEW == 0) {
            return Ok(());
        }
        for class in ['4', '6', 's'] {
            let set = name("seen", class);
            let Some(whom) = whom else {
                self.about_ours(Command::Flush, &set)?;
                continue;
            };
            let mine = whom.iter().filter(|one| self.class_of(&one.who) == class);
            let elem = |one: &Unseen| Elem { timeout: Some(one.after.max(1)), ..plain(host_key(&one.who)) };
            let elems: Vec<Elem<'_>> = mine.map(elem).collect();
            if !elems.is_empty() {
                self.add_all(&set, &elems)?;
            }
        }
        Ok(())
    }

    /// Deletes the sets of what is off; no rule asks them.
    pub(super) fn drop_packet_sets(&mut self, lacks: Capabilities) -> Result<(), Failure> {
        let parts = packets::parts(&self.options, lacks);
        for (base, ..) in SETS.into_iter().filter(|(.., of)| of & parts == 0) {
            let classes = if base.ends_with('@') { &['4', '6', 's'][..] } else { &['4', '6'] };
            for class in classes {
                self.about_ours(Command::Destroy, &name(base.trim_end_matches(['@', '#']), *class))?;
            }
        }
        Ok(())
    }

    /// Has nothing count while services are being started.
    pub(super) fn calm(&mut self) -> Result<(), Failure> {
        let Some(scan) = &self.options.scan else { return Ok(()) };
        let left = scan.calm_until.0.saturating_sub(clock::mono().0).div_ceil(1000);
        for (family, class) in [(Family::V4, '4'), (Family::V6, '6')] {
            let set = name("scan_calm", class);
            self.about_ours(Command::Flush, &set)?;
            let timeout = Some(elems::timeout(Span::Secs(left)));
            let all = elems::net_elems(&[everybody(family)], timeout, "");
            if left > 0 {
                self.add(&set, &all)?;
            }
        }
        Ok(())
    }

    fn fill_networks(&mut self, set: &str, ranges: &[Range], family: Family) -> Result<(), Failure> {
        let mine: Vec<Range> = ranges.iter().filter(|range| range.family() == family).copied().collect();
        let elems = elems::net_elems(&mine, Some(0), "");
        let spec = SetSpec { timed: true, size: ANY + OURS_LIST, ..spec(set, Type::Networks, family) };
        self.replace(&spec, &elems)
    }

    /// Says whom bare packets never have banned, and who has no limits.
    pub(super) fn exempt(&mut self, spared: &[Range], proxies: &[Range]) -> Result<(), Failure> {
        let Some(mark) = self.mark else { return Ok(()) };
        let parts = packets::parts(&self.options, mark.lacks);
        let mut all: Vec<Range> = spared.iter().chain(proxies).copied().collect();
        merge(&mut all);
        let mut limitless = proxies.to_vec();
        merge(&mut limitless);
        if parts != 0 {
            self.fill_networks("mef_single6", &single(&all, mark.ipv6_prefix), Family::V6)?;
        }
        for (family, class) in
            [(Family::V4, '4'), (Family::V6, '6')].into_iter().filter(|_| parts & !NEW != 0)
        {
            self.fill_networks(&name("exempt", class), &all, family)?;
            self.fill_networks(&name("proxy", class), &limitless, family)?;
        }
        Ok(())
    }

    /// What a set has of all kinds of sources.
    fn sources(&mut self, base: &str) -> Result<Vec<Held>, Failure> {
        let mut all = Vec::new();
        let classes = Family::ALL.map(|family| self.classes(family));
        for class in classes.into_iter().flatten() {
            let bits = self.mark.filter(|_| *class == '6').map_or(128, |mark| mark.ipv6_prefix);
            all.extend(self.all_held(&name(base, *class), SetKind::Scans, bits)?);
        }
        // What a listing tells twice.
        elems::sort_and_dedup(&mut all);
        Ok(all)
    }

    /// Who is banned for bare packets.
    pub(super) fn scan_bans(&mut self) -> Result<Vec<Held>, Failure> {
        self.sources("scan_ban")
    }

    pub(super) fn packet_standings(&mut self) -> Result<Vec<(Range, Standing)>, Failure> {
        Ok(self.scan_bans()?.into_iter().map(|held| (held.range, held.standing)).collect())
    }

    /// Bans for what bare packets did, as the kernel itself does.
    pub(super) fn ban_packets(
        &mut self,
        addr: &Range,
        secs: u64,
        rule: &str,
        hits: u32,
    ) -> Result<(), Failure> {
        let time = Span::Secs(secs);
        let ban = Ban::for_packets(*addr, time, rule, hits);
        let comment = elems::comment(&ban, clock::wall());
        let elem = Elem { key: host_key(addr), timeout: Some(elems::timeout(time)), comment: &comment };
        self.add(&name("scan_ban", self.class_of(addr)), &[elem])
    }

    /// Ends such a ban; whether there was one.
    pub(super) fn end_packets(&mut self, addr: &Range, pardon: Pardon) -> Result<bool, Failure> {
        let class = self.class_of(addr);
        let key = plain(host_key(addr));
        if pardon == Pardon::Connected {
            let secs = u32::try_from(CONNECTED / 1000).unwrap_or(u32::MAX);
            // There is none where nothing but floods is looked for.
            let _ = self.add(&name("scan_known", class), &[Elem { timeout: Some(secs), ..key }]);
        }
        self.delete(&name("scan_rate", class), &[key])?;
        Ok(!self.delete(&name("scan_ban", class), &[key])?.is_empty())
    }

    /// Ends those of all sources that meet one of the ranges, releases them from the throttle if that is
    /// wanted, and counts from the beginning; how many were shut out of each.
    pub(super) fn end_packet_bans(
        &mut self,
        ranges: &[Range],
        throttled: Throttled,
    ) -> Result<Vec<usize>, Failure> {
        let mut counts = vec![0; ranges.len()];
        if self.mark.is_none_or(|mark| mark.parts & (SCAN | FLOOD) == 0) {
            return Ok(counts);
        }
        for (base, shuts_out) in [("scan_ban", true), ("throttle", true), ("scan_rate", false)] {
            if throttled == Throttled::Stay && base == "throttle" {
                continue;
            }
            for held in self.sources(base)? {
                let mut met = ranges.iter().zip(&mut counts).filter(|(range, _)| range.meets(&held.range));
                if let Some((_, count)) = met.next() {
                    let set = name(base, self.class_of(&held.range));
                    let gone = self.delete(&set, &[plain(host_key(&held.range))])?.len();
                    *count += if shuts_out { gone } else { 0 };
                }
            }
        }
        Ok(counts)
    }

    /// Sources in the throttle, each for how many seconds more.
    pub(super) fn held_back(&mut self) -> Result<Vec<(Range, u64)>, Failure> {
        if self.look()?.is_none_or(|mark| mark.parts & FLOOD == 0) {
            return Ok(Vec::new());
        }
        let all = self.sources("throttle")?;
        Ok(all.into_iter().map(|held| (held.range, held.standing.left.unwrap_or(0))).collect())
    }

    pub(super) fn release(&mut self, ranges: &[Range]) -> Result<usize, Failure> {
        let mut ended = 0;
        for (addr, _) in self.held_back()? {
            if ranges.is_empty() || ranges.iter().any(|range| range.meets(&addr)) {
                let set = name("throttle", self.class_of(&addr));
                ended += self.delete(&set, &[plain(host_key(&addr))])?.len();
            }
        }
        Ok(ended)
    }

    /// Finds which closed ports each has touched.
    pub(super) fn find_ports(&mut self, scanners: &mut [Scanner]) -> Result<(), Failure> {
        for class in ['4', '6', 's'] {
            if scanners.iter().all(|s| self.class_of(&s.addr) != class) {
                continue;
            }
            self.sets.elements(&name("scan_seen", class), &mut || (), &mut |found| {
                let Some(from) = found.range else { return };
                for s in scanners.iter_mut().filter(|s| s.addr == from) {
                    let port = found.port.0;
                    if port > 0 && s.ports.len() < PORTS_TOLD && !s.ports.contains(&port) {
                        s.ports.push(port);
                    }
                }
            })?;
        }
        Ok(())
    }

    /// Whether ports that something listens on are remembered.
    pub(super) fn has_ports(&self) -> bool {
        let on = self.mark.is_some_and(|mark| packets::parts(&self.options, mark.lacks) & SCAN != 0);
        on && self.options.scan.as_ref().is_some_and(|scan| scan.listening)
    }

    /// Ports that something has listened on, each for how many milliseconds more that is remembered.
    pub(super) fn known_ports(&mut self) -> Result<Vec<(u16, u64)>, Failure> {
        let all: RefCell<Vec<(u16, u64)>> = RefCell::default();
        let on = self.has_ports();
        for class in ['4', '6'].into_iter().filter(|_| on) {
            let each = &mut |found: Found<'_>| {
                let left = found.left.map(|left| u64::from(left) * 1000);
                all.borrow_mut().extend(left.map(|left| (found.port.0, left)));
            };
            self.sets.elements(&name("scan_ports", class), &mut || (), each)?;
        }
        let mut all = all.into_inner();
        // Of each the longest.
        all.sort_unstable_by(|a, b| b.cmp(a));
        all.dedup_by_key(|(port, _)| *port);
        Ok(all)
    }

    /// Has ports remembered as open for so many milliseconds from now.
    pub(super) fn remember_ports(&mut self, ports: &[(u16, u64)]) -> Result<(), Failure> {
        let on = self.has_ports();
        for (family, class) in [(Family::V4, '4'), (Family::V6, '6')].into_iter().filter(|_| on) {
            let mut elems = Vec::new();
            for (port, left) in ports.iter().take(PORTS_TOLD_MAX) {
                let timeout = Some(elems::timeout(Span::Secs((*left).min(PORT_MEMORY).div_ceil(1000))));
                for net in elems::nets(everybody(family)) {
                    let key = |protocol| Key::NetPort(net.addr(), net.prefix_len(), (protocol, *port));
                    elems.extend(PROTOCOLS.map(|protocol| Elem { timeout, ..plain(key(protocol)) }));
                }
            }
            // A set that is full is that of what packets have found.
            self.add_all(&name("scan_ports", class), &elems)?;
        }
        Ok(())
    }

    /// Adds elements, those that there is room for.
    fn add_all(&mut self, set: &str, elems: &[Elem<'_>]) -> Result<(), Failure> {
        self.sets.write(Command::Add, DoneBefore::Taken, set, elems, &mut |_, _| ())
    }
}

/// Where single addresses of IPv6 count alone: the prefixes that these are in, too.
fn single(all: &[Range], bits: u8) -> Vec<Range> {
    let mut single: Vec<Range> = SINGLE.iter().map(|net| Range::from(IpNet::V6(*net))).collect();
    for range in all.iter().filter(|range| range.family() == Family::V6) {
        let [first, last] = [range.first(), range.last()].map(|addr| Range::from(prefix(addr, bits)));
        single.push(Range::new(first.first(), last.last()).unwrap_or(*range));
    }
    merge(&mut single);
    single
}
