#![forbid(unsafe_code)]
//! Port scans, counted and banned inside the kernel: nothing of it needs a program. The packet that goes over the limit
//! puts its source into a set that the gate looks up, so the next one is dropped.
//!
//! What packets write to has a size. For that the kernel makes room beforehand, 16 bytes for each element, so the bans
//! of scans have a small set of their own beside `ban4` and `ban6`, which hold any number. When a set is full, nobody
//! new is counted and nothing is dropped.

use super::layout::{self, key_type, push_meta, push_source};
use super::scope::{Kind, Scope};
use super::{Failure, Guard, Made, TABLE, lack};
use crate::base::crc::crc32c;
use crate::base::name::{IfName, Name};
use crate::base::net::{offender, prefix};
use crate::base::range::{Family, Key, Range, merge};
use crate::firewall::nflog::{Alarm, SNAPLEN};
use crate::firewall::nft::elem::{Elem, Timeout};
use crate::firewall::nft::expr::{self, Base, Cmp, REG, REG32, Verdict};
use crate::firewall::nft::{Hook, Optional, SetSpec};
use crate::firewall::nft::{Rule, query};

/// Packets that can be a probe leave this chain for `LOOK`.
pub(super) const SCAN: Name = Name::of("scan");
const LOOK: Name = Name::of("scan_look");
const BAN: Name = Name::of("scan_ban");
/// The ports that sockets listen on, where the kernel cannot look that up itself.
const OPEN: Name = Name::of("scan_open");

/// `NF_IP_PRI_MANGLE`. In input that is behind DNAT, so that published ports of containers never count, and before rule
/// sets drop.
pub(super) const PRIORITY_MANGLE: i32 = -150;
/// Type number of a port, as wide as `nft` has it.
const INET_SERVICE: u32 = 13;
/// Bits by which types of a concatenation are shifted.
const CONCAT: u32 = 6;
/// NFT_SOCKET_TRANSPARENT: of all keys that which every socket has, one that waits for the end of TIME_WAIT, too.
const SOCKET_TRANSPARENT: u32 = 0;
/// PACKET_HOST: to us, and not to all.
const TO_US: u8 = 0;
/// Sources that are counted, and closed ports of theirs, at most.
pub(super) const COUNTED: u32 = 8192;
/// Bans at most.
pub(super) const BANS: u32 = 4096;
/// Ports that are told of a scan at most.
pub const PORTS_TOLD: usize = 32;

/// What is a scan, and what becomes of its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanOptions {
    /// Distinct closed ports within the interval that are still fine.
    pub limit: u32,
    /// Seconds.
    pub interval: u32,
    /// Seconds.
    pub bantime: u32,
    /// Whether datagrams count.
    pub udp: bool,
    /// Where scans are looked for; `None` = everywhere but there where they are not.
    pub interfaces: Option<Vec<IfName>>,
    /// Where they are not, in that case.
    pub excluded: Vec<IfName>,
    /// Whether ports that a socket listens on are known by that, not to count.
    pub listening: bool,
    /// Ports that do not count, ends included.
    pub ports: Vec<(u16, u16)>,
}

impl ScanOptions {
    /// Stands for what is counted. Never 0.
    pub(super) fn digest(&self) -> u16 {
        stamp(&[self.limit, self.interval])
    }
}

/// Stands for numbers in the table's mark. Never 0.
pub(super) fn stamp(numbers: &[u32]) -> u16 {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    let [a, b, ..] = crc32c(&bytes).to_be_bytes();
    u16::from_be_bytes([a, b]) | 1
}

/// A scanner, and what it was seen to touch.
pub struct Scanner {
    /// An address, or an IPv6 prefix of the table's length.
    pub who: Range,
    /// Closed ports, in no order.
    pub ports: Vec<u16>,
}

const fn seen_set(family: Family) -> Name {
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

/// Who is never banned for bare packets, which anybody can forge: this host, its gateway, its name servers.
pub(super) const fn spare_set(family: Family) -> Name {
    match family {
        Family::V4 => Name::of("spare4"),
        Family::V6 => Name::of("spare6"),
    }
}

pub(super) fn ban_set(family: Family) -> Name {
    Scope::ALL.set(Kind::Scans, family)
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

/// A token bucket in words that `nft` can print: of the units that divide the rate, the first.
pub(super) fn bucket(count: u32, secs: u32) -> (u64, u64) {
    const WEEK: u64 = 604_800;
    let (count, secs) = (u64::from(count), u64::from(secs.max(1)));
    let whole = [1, 60, 3600, 86_400, WEEK].into_iter().find(|unit| (count * unit) % secs == 0);
    let unit = whole.unwrap_or(WEEK);
    ((count * unit / secs).max(1), unit)
}

/// Appends a comparison of a name as wide as the kernel has it.
pub(super) fn push_interface(rule: &mut Rule, name: &IfName) {
    let mut padded = [0; 16];
    for (slot, byte) in padded.iter_mut().zip(name.as_str().bytes()) {
        *slot = byte;
    }
    rule.push(expr::meta(libc::NFT_META_IIFNAME, REG));
    rule.push(expr::cmp(Cmp::Eq, REG, &padded));
}

/// Loads the source, masked, and the port that the packet goes to behind it.
pub(super) fn push_pair(rule: &mut Rule, family: Family, ipv6_prefix: u8) {
    push_source(rule, family, ipv6_prefix);
    let behind = REG32 + key_type(family).1 / 4;
    rule.push(expr::payload(Base::Transport, 2, 2, behind));
}

impl Guard {
    /// Takes the chains away; what is not there is added first, so that it can be deleted.
    pub(super) fn unwrite_scan(&mut self) {
        let chains = [SCAN, LOOK, BAN];
        for chain in &chains {
            self.txn.add_chain(chain, None);
            self.txn.flush_chain(chain);
        }
        chains.iter().for_each(|chain| self.txn.delete_chain(chain));
    }

    /// Takes the sets away.
    pub(super) fn unwrite_scan_sets(&mut self) {
        self.write_scan_sets();
        for set in Family::ALL.iter().flat_map(|&f| [seen_set(f), rate_set(f), ban_set(f)]) {
            self.txn.delete_set(&set);
        }
        self.txn.delete_set(&OPEN);
    }

    /// The sets of whom bare packets never harm, or (`gone`) none.
    pub(super) fn write_spare_sets(&mut self, gone: bool) {
        for family in Family::ALL {
            self.txn.add_set(&SetSpec::new(spare_set(family), libc::NFT_SET_INTERVAL, key_type(family)));
            if gone {
                self.txn.delete_set(&spare_set(family));
            }
        }
    }

    pub(super) fn write_scan_sets(&mut self) {
        let dynamic = libc::NFT_SET_TIMEOUT | libc::NFT_SET_EVAL;
        for family in Family::ALL {
            let key = key_type(family);
            for (set, key, most) in [
                (seen_set(family), pair_type(family), COUNTED),
                (rate_set(family), key, COUNTED),
                (ban_set(family), key, BANS),
            ] {
                let size = share(family, most);
                self.txn.add_set(&SetSpec { size, ..SetSpec::new(set, dynamic, key) });
            }
        }
        self.txn.add_set(&SetSpec::new(OPEN, 0, (INET_SERVICE, 2)));
    }

    /// Forgets who has touched what. Buckets that are there keep the rate that they were made with, so others' are of no use.
    pub(super) fn flush_counts(&mut self) {
        for set in Family::ALL.iter().flat_map(|&f| [seen_set(f), rate_set(f)]) {
            self.txn.flush_set(&set);
        }
    }

    /// The buckets of a family, if there are any.
    pub(super) fn scan_rate(&self, family: Family) -> Option<Name> {
        self.made.filter(|made| made.scans != 0).map(|_| rate_set(family))
    }

    /// Forgets what was counted of IPv6 prefixes of another length.
    pub(super) fn flush_scan(&mut self) {
        for set in [seen_set(Family::V6), rate_set(Family::V6), ban_set(Family::V6)] {
            self.txn.flush_set(&set);
        }
    }

    /// Writes the chains; the sets are there.
    pub(super) fn write_scan(&mut self, made: Made) {
        let Some(scan) = self.options.scan.clone() else { return };
        self.txn
            .add_chain(&SCAN, Some(Hook { priority: PRIORITY_MANGLE, ..Hook::new(libc::NF_INET_LOCAL_IN) }));
        self.txn.add_chain(&LOOK, None);
        self.txn.add_chain(&BAN, None);
        let watched: Vec<Option<&IfName>> = match &scan.interfaces {
            None => vec![None],
            Some(names) => names.iter().map(Some).collect(),
        };
        for interface in watched {
            for protocol in [libc::IPPROTO_TCP, libc::IPPROTO_UDP].into_iter().take(1 + usize::from(scan.udp))
            {
                let mut rule = Rule::new();
                push_meta(&mut rule, libc::NFT_META_L4PROTO, protocol);
                if protocol == libc::IPPROTO_TCP {
                    // Of a connection, only the first packet has neither ACK nor RST. Probes have: SYN, FIN, none, all.
                    rule.push(expr::payload(Base::Transport, 13, 1, REG));
                    rule.push(expr::mask(REG, &[0x14]));
                    rule.push(expr::cmp(Cmp::Eq, REG, &[0]));
                }
                if let Some(name) = interface {
                    push_interface(&mut rule, name);
                }
                rule.push(expr::verdict(Verdict::Goto(&LOOK)));
                self.scan_rule(&SCAN, &rule, Optional::Scan);
            }
        }
        // No chain is empty: one that is was flushed by others.
        let mut rule = Rule::new();
        rule.push(expr::verdict(Verdict::Accept));
        self.scan_rule(&SCAN, &rule, Optional::Scan);
        self.write_look(&scan, made);
        self.write_scan_ban(&scan, made);
    }

    fn scan_rule(&mut self, chain: &Name, rule: &Rule, optional: Optional) {
        self.txn.add_rule(chain, rule, false, optional);
    }

    fn write_look(&mut self, scan: &ScanOptions, made: Made) {
        let back = || expr::verdict(Verdict::Return);
        let mut rule = Rule::new();
        rule.push(expr::meta(libc::NFT_META_PKTTYPE, REG));
        rule.push(expr::cmp(Cmp::Neq, REG, &[TO_US]));
        rule.push(back());
        self.scan_rule(&LOOK, &rule, Optional::Scan);
        for name in scan.excluded.iter().filter(|_| scan.interfaces.is_none()) {
            let mut rule = Rule::new();
            push_interface(&mut rule, name);
            rule.push(back());
            self.scan_rule(&LOOK, &rule, Optional::Scan);
        }
        for (from, to) in &scan.ports {
            let mut rule = Rule::new();
            rule.push(expr::payload(Base::Transport, 2, 2, REG));
            rule.push(expr::range(Cmp::Eq, REG, &from.to_be_bytes(), &to.to_be_bytes()));
            rule.push(back());
            self.scan_rule(&LOOK, &rule, Optional::Scan);
        }
        if scan.listening {
            let mut rule = Rule::new();
            let by_socket = made.lacks & lack::SOCKET == 0;
            if by_socket {
                rule.push(expr::socket(SOCKET_TRANSPARENT, REG));
                // Whatever it is: without a socket the rule ends before.
                rule.push(expr::cmp(Cmp::AtMost, REG, &[1]));
            } else {
                rule.push(expr::payload(Base::Transport, 2, 2, REG));
                rule.push(expr::lookup(Cmp::Eq, &OPEN, 0, REG));
            }
            rule.push(back());
            self.scan_rule(&LOOK, &rule, if by_socket { Optional::Socket } else { Optional::Scan });
        }
        let life = u64::from(scan.interval) * 1000;
        let (rate, unit) = bucket(scan.limit, scan.interval);
        for family in Family::ALL {
            let mut rule = Rule::new();
            push_pair(&mut rule, family, made.ipv6_prefix);
            rule.push(expr::lookup(Cmp::Eq, &seen_set(family), 0, REG));
            rule.push(back());
            self.scan_rule(&LOOK, &rule, Optional::Scan);
            // In one rule, so that nothing is counted that could not be noted as seen.
            let mut rule = Rule::new();
            push_pair(&mut rule, family, made.ipv6_prefix);
            rule.push(expr::dynset(&seen_set(family), 0, REG, life, false, None));
            let over = expr::limit(rate, unit, scan.limit, true);
            rule.push(expr::dynset(&rate_set(family), 0, REG, life, true, Some(over)));
            rule.push(expr::verdict(Verdict::Goto(&BAN)));
            self.scan_rule(&LOOK, &rule, Optional::Scan);
        }
    }

    fn write_scan_ban(&mut self, scan: &ScanOptions, made: Made) {
        for family in Family::ALL {
            for set in [layout::allow_set(family), layout::allow_timed_set(family), spare_set(family)] {
                let mut rule = Rule::new();
                push_source(&mut rule, family, 128);
                rule.push(expr::lookup(Cmp::Eq, &set, 0, REG));
                rule.push(expr::verdict(Verdict::Return));
                self.scan_rule(&BAN, &rule, Optional::Scan);
            }
            let mut rule = Rule::new();
            push_source(&mut rule, family, made.ipv6_prefix);
            let life = u64::from(scan.bantime) * 1000;
            rule.push(expr::dynset(&ban_set(family), 0, REG, life, false, None));
            let tells = made.lacks & lack::LOG == 0;
            if tells {
                rule.push(expr::nflog(Alarm::Scan.prefix(), crate::firewall::nflog::ALARMS, SNAPLEN));
            }
            rule.push(expr::counter());
            rule.push(expr::verdict(Verdict::Drop));
            self.scan_rule(&BAN, &rule, if tells { Optional::Log } else { Optional::Scan });
        }
    }

    /// Replaces whom bare packets never have banned or held back. An IPv6 address protects all of the prefix that would be banned for it.
    ///
    /// # Errors
    /// What the kernel refused; then the former ones stay.
    pub fn set_spared(&mut self, mut spared: Vec<Range>) -> Result<(), Failure> {
        let Some(made) = self.made.filter(|made| made.bare_packets()) else { return Ok(()) };
        let whole = |addr| Range::from(prefix(addr, made.ipv6_prefix));
        for range in spared.iter_mut().filter(|range| range.family() == Family::V6) {
            let ends = (whole(range.first()), whole(range.last()));
            *range = Range::new(ends.0.first(), ends.1.last()).unwrap_or(*range);
        }
        merge(&mut spared);
        Family::ALL.iter().for_each(|&family| self.txn.flush_set(&spare_set(family)));
        for range in &spared {
            self.write_range(&spare_set(range.family()), range, Timeout::None, "");
        }
        Ok(self.txn.commit(&mut self.socket)?)
    }

    /// Whether the ports that sockets listen on have to be told to the kernel.
    #[must_use]
    pub fn wants_open_ports(&self) -> bool {
        let listening = self.options.scan.as_ref().is_some_and(|scan| scan.listening);
        listening && self.made.is_some_and(|made| made.scans != 0 && made.lacks & lack::SOCKET != 0)
    }

    /// Replaces the ports that sockets listen on.
    ///
    /// # Errors
    /// What the kernel refused; then the former ones stay.
    pub fn set_open_ports(&mut self, ports: &[u16]) -> Result<(), Failure> {
        self.txn.flush_set(&OPEN);
        for port in ports {
            let elem = Elem { key: &port.to_be_bytes(), end: None, timeout: Timeout::None, comment: "" };
            self.txn.add_elem(&OPEN, &elem);
        }
        Ok(self.txn.commit(&mut self.socket)?)
    }

    /// Finds which closed ports each has touched; what cannot be found is left out.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn scanned_ports(&mut self, scanners: &mut [Scanner]) -> Result<(), Failure> {
        let Some(made) = self.made else { return Ok(()) };
        for family in Family::ALL {
            if scanners.iter().all(|s| s.who.family() != family) {
                continue;
            }
            let len = key_type(family).1 as usize;
            query::elements(&mut self.socket, &TABLE, &seen_set(family), &mut || (), &mut |e| {
                let Some((source, &[a, b, ..])) = e.key.split_at_checked(len) else { return };
                let Some(from) = Range::from_key(source) else { return };
                let from = offender(from.first(), made.ipv6_prefix);
                let port = u16::from_be_bytes([a, b]);
                for s in scanners.iter_mut().filter(|s| s.who == Range::from(from)) {
                    if s.ports.len() < PORTS_TOLD && !s.ports.contains(&port) {
                        s.ports.push(port);
                    }
                }
            })?;
        }
        Ok(())
    }

    /// Ends the ban of a scanner that was none.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn pardon(&mut self, who: &Range) -> Result<bool, Failure> {
        self.remove_key(&rate_set(who.family()), Key::bytes(&who.key()))?;
        self.remove_key(&ban_set(who.family()), Key::bytes(&who.key()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_as_the_limit_says_and_can_be_printed() {
        let cases =
            [((10, 300), (2, 60)), ((5, 5), (1, 1)), ((7, 300), (84, 3600)), ((1, 86_400), (1, 86_400))];
        for ((count, secs), want) in cases {
            assert_eq!(bucket(count, secs), want);
        }
        for count in 1..40 {
            for secs in [1, 7, 59, 300, 1000, 86_399] {
                let (rate, unit) = bucket(count, secs);
                assert!(rate * u64::from(secs) <= u64::from(count) * unit || rate == 1, "{count}/{secs}");
                assert!([1, 60, 3600, 86_400, 604_800].contains(&unit));
            }
        }
    }
}
