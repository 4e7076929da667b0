#![forbid(unsafe_code)]
//! Port scans, counted and banned inside the kernel: nothing of it needs a program. The packet that goes over
//! the limit puts its source into a set that is looked up by whatever begins something, so the next probe is
//! dropped.
//!
//! What packets write to has a size. For that the kernel makes room beforehand, 16 bytes for each element, so
//! the bans of scans have a small set of their own beside `ban4` and `ban6`, which hold any number. When a
//! set is full, nobody new is counted and nothing is dropped.

use super::bare::{ban_set, exempt_set, known_set, push_first_datagram, push_probe};
use super::feature::{Feature, Stale};
use super::layout;
use super::words::{PacketSource, key_type, push_key, push_source, sources};
use super::{Guard, TableState};
use crate::ban::{Alarm, Capability, Options, PORT_MEMORY, ScanOptions};
use crate::base::crc::crc32c;
use crate::base::name::{IfName, Name};
use crate::base::range::Family;
use crate::firewall::alarm::{ALARMS, SNAPLEN};
use crate::firewall::nft::elem::{Elem, Timeout};
use crate::firewall::nft::expr::{self, Cmp, NftVerdict, PayloadBase, REG, REG32};
use crate::firewall::nft::{Expr, Hook, NftRule, Optional, SetSpec};
use crate::sys::clock;

/// Packets that can be a probe leave this chain for `LOOK`.
const SCAN: Name = Name::of("scan");
const LOOK: Name = Name::of("scan_look");
/// Where packets go that a socket waits for: their port is noted.
const OPEN: Name = Name::of("scan_open");
const BAN: Name = Name::of("scan_ban");
/// The ports that a socket has listened on within [`PORT_MEMORY`].
pub(super) const PORTS: Name = Name::of("scan_ports");
/// Families whose packets do not count yet.
const CALM: Name = Name::of("scan_calm");

/// `NF_IP_PRI_MANGLE`. In input that is behind DNAT, so that published ports of containers never count, and
/// before rule sets drop.
pub(super) const PRIORITY_MANGLE: i32 = -150;
/// Type number of a port, as wide as `nft` has it.
const INET_SERVICE: u32 = 13;
/// Type number of a family, as wide as `nft` has it.
const NF_PROTO: (u32, u32) = (2, 1);
/// Bits by which types of a concatenation are shifted.
const CONCAT: u32 = 6;
/// NFT_SOCKET_TRANSPARENT: of all keys that which every socket has, one that waits for the end of TIME_WAIT,
/// too.
const SOCKET_TRANSPARENT: u32 = 0;
/// PACKET_HOST: to us, and not to all.
const TO_US: u8 = 0;
/// The ports that traceroute sends datagrams to.
const TRACEROUTE: (u16, u16) = (33_434, 33_534);
/// Sources that are counted, and closed ports of theirs, at most.
pub(in crate::firewall) const COUNTED: u32 = 8192;
/// Ports that are remembered as open at most: 64 kB of the kernel's memory.
const PORTS_MAX: u32 = 4096;

impl ScanOptions {
    /// Stands for what is counted, and how (the first number). Never 0.
    pub(in crate::firewall) fn digest(&self) -> u16 {
        stamp(&[2, self.limit, self.interval])
    }
}

/// Stands for numbers in the table's mark. Never 0.
pub(super) fn stamp(numbers: &[u32]) -> u16 {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    let [a, b, ..] = crc32c(&bytes).to_be_bytes();
    u16::from_be_bytes([a, b]) | 1
}

pub(super) const fn seen_set(family: Family) -> Name {
    match family {
        Family::V4 => Name::of("scan_seen4"),
        Family::V6 => Name::of("scan_seen6"),
    }
}

const fn rate_set(family: Family) -> Name {
    match family {
        Family::V4 => Name::of("scan_rate4"),
        Family::V6 => Name::of("scan_rate6"),
    }
}

/// The type of a source and a port together.
pub(super) fn pair_type(family: Family) -> (u32, u32) {
    let (kind, len) = key_type(family);
    (kind << CONCAT | INET_SERVICE, len + 4)
}

/// IPv6 takes twice as much memory, and is scanned less.
pub(super) fn share(family: Family, most: u32) -> u32 {
    match family {
        Family::V4 => most,
        Family::V6 => most / 2,
    }
}

/// Goes on with the first packets of a window only above `count`: a bucket that fills by less than one
/// while the window lasts.
fn over(count: u32) -> Expr {
    const DAY: u64 = 86_400;
    // Times the count, in nanoseconds, it has to fit 64 bits.
    let unit = if count <= 30_000 { 7 * DAY } else { DAY };
    expr::limit(1, unit, count, expr::LimitSide::Above)
}

/// Appends a comparison of a name as wide as the kernel has it.
pub(super) fn push_interface(rule: &mut NftRule, name: &IfName) {
    let mut padded = [0; 16];
    for (slot, byte) in padded.iter_mut().zip(name.as_str().bytes()) {
        *slot = byte;
    }
    rule.push(expr::meta(libc::NFT_META_IIFNAME, REG));
    rule.push(expr::cmp(Cmp::Eq, REG, &padded));
}

/// Loads the source's key, and the port that the packet goes to behind it.
pub(super) fn push_pair(rule: &mut NftRule, source: PacketSource) {
    push_key(rule, source);
    let behind = REG32 + key_type(source.family()).1 / 4;
    rule.push(expr::payload(PayloadBase::Transport, 2, 2, behind));
}

/// Bans of port scans inside the kernel.
pub struct Scan;

impl Feature for Scan {
    fn word(&self) -> &'static str {
        "scan"
    }

    fn part(&self) -> Capability {
        Capability::Scans
    }

    fn digest(&self, options: &Options) -> u16 {
        options.scan.as_ref().map_or(0, ScanOptions::digest)
    }

    fn bans(&self) -> bool {
        true
    }

    fn tracks(&self, options: &Options) -> bool {
        options.scan.as_ref().is_some_and(|scan| scan.udp)
    }

    fn chains(&self) -> &'static [Name] {
        &[SCAN, LOOK, OPEN, BAN]
    }

    fn write_sets(&self, guard: &mut Guard) {
        let dynamic = libc::NFT_SET_TIMEOUT | libc::NFT_SET_EVAL;
        for family in Family::ALL {
            let key = key_type(family);
            for (set, key, most) in
                [(seen_set(family), pair_type(family), COUNTED), (rate_set(family), key, COUNTED)]
            {
                let size = share(family, most);
                guard.txn.add_set(&SetSpec { size, ..SetSpec::new(set, dynamic, key) });
            }
            guard.txn.add_set(&SetSpec::new(known_set(family), libc::NFT_SET_TIMEOUT, key));
        }
        let ports = SetSpec::new(PORTS, dynamic, (INET_SERVICE, 2));
        guard.txn.add_set(&SetSpec { size: PORTS_MAX, ..ports });
        guard.txn.add_set(&SetSpec::new(CALM, libc::NFT_SET_TIMEOUT, NF_PROTO));
    }

    fn delete_sets(&self, guard: &mut Guard) {
        for set in Family::ALL.iter().flat_map(|&f| [seen_set(f), rate_set(f), known_set(f)]) {
            guard.txn.delete_set(&set);
        }
        guard.txn.delete_set(&PORTS);
        guard.txn.delete_set(&CALM);
    }

    fn write(&self, guard: &mut Guard, made: TableState) {
        guard.write_scan(made);
    }

    /// Forgets who has touched what. Buckets that are there keep the rate that they were made with, so
    /// others' are of no use.
    fn forget(&self, guard: &mut Guard, stale: Stale) {
        let families = if stale == Stale::Digest { &Family::ALL[..] } else { &[Family::V6] };
        for set in families.iter().flat_map(|&f| [seen_set(f), rate_set(f)]) {
            guard.txn.flush_set(&set);
        }
    }
}

impl Guard {
    /// The buckets of a family, if there are any.
    pub(super) fn scan_rate(&self, family: Family) -> Option<Name> {
        self.made.filter(|made| made.has(&Scan)).map(|_| rate_set(family))
    }

    fn write_scan(&mut self, made: TableState) {
        let Some(scan) = self.options.scan.clone() else { return };
        self.txn
            .add_chain(&SCAN, Some(Hook { priority: PRIORITY_MANGLE, ..Hook::new(libc::NF_INET_LOCAL_IN) }));
        [LOOK, OPEN, BAN].iter().for_each(|chain| self.txn.add_chain(chain, None));
        let watched: Vec<Option<&IfName>> = match &scan.interfaces {
            None => vec![None],
            Some(names) => names.iter().map(Some).collect(),
        };
        let udp = scan.udp && self.tracks(made);
        for interface in watched {
            for datagrams in [false, true].into_iter().take(1 + usize::from(udp)) {
                let mut rule = NftRule::new();
                if datagrams {
                    // What comes on an old flow was asked for, when the one who asked is gone, too: voice
                    // after hanging up.
                    push_first_datagram(&mut rule);
                    let (from, to) = TRACEROUTE;
                    rule.push(expr::payload(PayloadBase::Transport, 2, 2, REG));
                    rule.push(expr::range(Cmp::Neq, REG, &from.to_be_bytes(), &to.to_be_bytes()));
                } else {
                    push_probe(&mut rule);
                }
                if let Some(name) = interface {
                    push_interface(&mut rule, name);
                }
                rule.push(expr::verdict(NftVerdict::Goto(&LOOK)));
                self.scan_rule(
                    &SCAN,
                    &rule,
                    if datagrams {
                        Optional::Part(Capability::Floods)
                    } else {
                        Optional::Part(Capability::Scans)
                    },
                );
            }
        }
        // No chain is empty: one that is was flushed by others.
        let mut rule = NftRule::new();
        rule.push(expr::verdict(NftVerdict::Accept));
        self.scan_rule(&SCAN, &rule, Optional::Part(Capability::Scans));
        self.write_calm(&scan);
        self.write_look(&scan, made);
        self.write_scan_ban(&scan, made);
    }

    /// Nothing counts while services are being started: the kernel lets that end by itself.
    fn write_calm(&mut self, scan: &ScanOptions) {
        self.txn.flush_set(&CALM);
        let left = scan.calm_until.0.saturating_sub(clock::mono().0);
        for family in [libc::NFPROTO_IPV4, libc::NFPROTO_IPV6].into_iter().filter(|_| left > 0) {
            let key = [u8::try_from(family).unwrap_or(0)];
            self.txn.add_elem(&CALM, &Elem { key: &key, end: None, timeout: Timeout::Ms(left), comment: "" });
        }
    }

    fn scan_rule(&mut self, chain: &Name, rule: &NftRule, optional: Optional) {
        self.txn.add_rule(chain, rule, optional);
    }

    fn write_look(&mut self, scan: &ScanOptions, made: TableState) {
        let back = || expr::verdict(NftVerdict::Return);
        let mut rule = NftRule::new();
        rule.push(expr::meta(libc::NFT_META_PKTTYPE, REG));
        rule.push(expr::cmp(Cmp::Neq, REG, &[TO_US]));
        rule.push(back());
        self.scan_rule(&LOOK, &rule, Optional::Part(Capability::Scans));
        for name in scan.excluded.iter().filter(|_| scan.interfaces.is_none()) {
            let mut rule = NftRule::new();
            push_interface(&mut rule, name);
            rule.push(back());
            self.scan_rule(&LOOK, &rule, Optional::Part(Capability::Scans));
        }
        for (from, to) in &scan.ports {
            let mut rule = NftRule::new();
            rule.push(expr::payload(PayloadBase::Transport, 2, 2, REG));
            rule.push(expr::range(Cmp::Eq, REG, &from.to_be_bytes(), &to.to_be_bytes()));
            rule.push(back());
            self.scan_rule(&LOOK, &rule, Optional::Part(Capability::Scans));
        }
        if scan.listening && !made.missing.has(Capability::Sockets) {
            let mut rule = NftRule::new();
            rule.push(expr::socket(SOCKET_TRANSPARENT, REG));
            // Whatever it is: without a socket the rule ends before.
            rule.push(expr::cmp(Cmp::AtMost, REG, &[1]));
            rule.push(expr::verdict(NftVerdict::Goto(&OPEN)));
            self.scan_rule(&LOOK, &rule, Optional::Part(Capability::Sockets));
        }
        // In a chain of its own: a full set must not make an open port a closed one.
        let mut rule = NftRule::new();
        rule.push(expr::payload(PayloadBase::Transport, 2, 2, REG));
        rule.push(expr::dynset(&PORTS, 0, REG, PORT_MEMORY, expr::DynsetOp::Update, None));
        self.scan_rule(&OPEN, &rule, Optional::Part(Capability::Scans));
        let mut rule = NftRule::new();
        rule.push(expr::meta(libc::NFT_META_NFPROTO, REG));
        rule.push(expr::lookup(Cmp::Eq, &CALM, 0, REG));
        rule.push(back());
        self.scan_rule(&LOOK, &rule, Optional::Part(Capability::Scans));
        if scan.listening {
            let mut rule = NftRule::new();
            rule.push(expr::payload(PayloadBase::Transport, 2, 2, REG));
            rule.push(expr::lookup(Cmp::Eq, &PORTS, 0, REG));
            rule.push(back());
            self.scan_rule(&LOOK, &rule, Optional::Part(Capability::Scans));
        }
        self.write_count(scan, made);
    }

    /// Counts the closed ports of each source within a window that begins with the first one.
    fn write_count(&mut self, scan: &ScanOptions, made: TableState) {
        let window = u64::from(scan.interval) * 1000;
        for source in sources(made.ipv6_prefix) {
            let family = source.family();
            let mut rule = NftRule::new();
            push_pair(&mut rule, source);
            rule.push(expr::lookup(Cmp::Eq, &seen_set(family), 0, REG));
            rule.push(expr::verdict(NftVerdict::Return));
            self.scan_rule(&LOOK, &rule, Optional::Part(Capability::Scans));
            // In one rule, so that nothing is counted that could not be noted as seen. The count is added
            // to and not prolonged: it ends with its window, and a port counts once in it.
            let mut rule = NftRule::new();
            push_pair(&mut rule, source);
            rule.push(expr::dynset(&seen_set(family), 0, REG, window, expr::DynsetOp::Add, None));
            rule.push(expr::dynset(
                &rate_set(family),
                0,
                REG,
                window,
                expr::DynsetOp::Add,
                Some(over(scan.limit)),
            ));
            rule.push(expr::verdict(NftVerdict::Goto(&BAN)));
            self.scan_rule(&LOOK, &rule, Optional::Part(Capability::Scans));
        }
    }

    fn write_scan_ban(&mut self, scan: &ScanOptions, made: TableState) {
        for family in Family::ALL {
            for set in [layout::allow_set(family), layout::allow_timed_set(family), exempt_set(family)] {
                let mut rule = NftRule::new();
                push_source(&mut rule, family, 128);
                rule.push(expr::lookup(Cmp::Eq, &set, 0, REG));
                rule.push(expr::verdict(NftVerdict::Return));
                self.scan_rule(&BAN, &rule, Optional::Part(Capability::Scans));
            }
        }
        let tells = !made.missing.has(Capability::Reports);
        for source in sources(made.ipv6_prefix) {
            let family = source.family();
            let mut rule = NftRule::new();
            push_key(&mut rule, source);
            rule.push(expr::lookup(Cmp::Eq, &known_set(family), 0, REG));
            rule.push(expr::verdict(NftVerdict::Return));
            self.scan_rule(&BAN, &rule, Optional::Part(Capability::Scans));
            let mut rule = NftRule::new();
            push_key(&mut rule, source);
            let life = u64::from(scan.bantime) * 1000;
            rule.push(expr::dynset(&ban_set(family), 0, REG, life, expr::DynsetOp::Add, None));
            if tells {
                rule.push(expr::nflog(Alarm::Scan.prefix(), ALARMS, SNAPLEN));
            }
            rule.push(expr::counter());
            rule.push(expr::verdict(NftVerdict::Drop));
            self.scan_rule(
                &BAN,
                &rule,
                if tells { Optional::Part(Capability::Reports) } else { Optional::Part(Capability::Scans) },
            );
        }
    }
}
