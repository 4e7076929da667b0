#![forbid(unsafe_code)]
//! Port scans, counted and banned inside the kernel: nothing of it needs a program. The packet that goes over the limit
//! puts its source into a set that is looked up by whatever begins something, so the next probe is dropped.
//!
//! The sender of a lone packet is not proven, so nothing that is proven suffers: such a ban drops what
//! begins something (TCP without ACK and RST, the first datagram of a flow), never a packet of a connection
//! that is there.
//!
//! What packets write to has a size. For that the kernel makes room beforehand, 16 bytes for each element, so the bans
//! of scans have a small set of their own beside `ban4` and `ban6`, which hold any number. When a set is full, nobody
//! new is counted and nothing is dropped.

use super::layout::{self, Source, key_type, push_jump, push_key, push_meta, push_source, sources};
use super::list::host;
use super::scope::{Kind, Scope};
use super::{Failure, Guard, Made, Reach, TABLE, lack};
use crate::base::clock::Mono;
use crate::base::crc::crc32c;
use crate::base::name::{IfName, Name};
use crate::base::net::{SINGLE, prefix};
use crate::base::range::{Family, Key, Range, merge};
use crate::firewall::nflog::{Alarm, SNAPLEN};
use crate::firewall::nft::elem::{Elem, Timeout};
use crate::firewall::nft::expr::{self, Base, Cmp, REG, REG32, Verdict};
use crate::firewall::nft::{Expr, Rule, query};
use crate::firewall::nft::{Hook, Optional, SetSpec};
use crate::sys::clock;

/// Packets that can be a probe leave this chain for `LOOK`.
pub(super) const SCAN: Name = Name::of("scan");
const LOOK: Name = Name::of("scan_look");
/// Where packets go that a socket waits for: their port is noted.
const OPEN: Name = Name::of("scan_open");
const BAN: Name = Name::of("scan_ban");
/// Drops first datagrams of those banned, behind connection tracking.
pub(super) const BEGIN: Name = Name::of("begin");
/// The ports that a socket has listened on within [`PORT_MEMORY`].
const PORTS: Name = Name::of("scan_ports");
/// Families whose packets do not count yet.
const CALM: Name = Name::of("scan_calm");

/// `NF_IP_PRI_MANGLE`. In input that is behind DNAT, so that published ports of containers never count, and before rule
/// sets drop.
pub(super) const PRIORITY_MANGLE: i32 = -150;
/// Behind connection tracking (-200), before the guard of floods.
const PRIORITY_BEGIN: i32 = PRIORITY_MANGLE - 1;
/// Type number of a port, as wide as `nft` has it.
const INET_SERVICE: u32 = 13;
/// Type number of a family, as wide as `nft` has it.
const NF_PROTO: (u32, u32) = (2, 1);
/// Bits by which types of a concatenation are shifted.
const CONCAT: u32 = 6;
/// NFT_SOCKET_TRANSPARENT: of all keys that which every socket has, one that waits for the end of TIME_WAIT, too.
const SOCKET_TRANSPARENT: u32 = 0;
/// PACKET_HOST: to us, and not to all.
const TO_US: u8 = 0;
/// RST and ACK in the flags byte of TCP: only what begins a connection, or probes, has neither.
const RST_ACK: u8 = 0x14;
/// The ports that traceroute sends datagrams to.
const TRACEROUTE: (u16, u16) = (33_434, 33_534);
/// Sources that are counted, and closed ports of theirs, at most.
pub(super) const COUNTED: u32 = 8192;
/// Bans at most.
pub(super) const BANS: u32 = 4096;
/// Ports that are remembered as open at most: 64 kB of the kernel's memory.
const PORTS_MAX: u32 = 4096;
/// Ports that are told the kernel at once at most.
const PORTS_TOLD_MAX: usize = 2048;
/// Milliseconds that a port is remembered after something has listened on it: a service that restarts is no
/// closed port.
pub const PORT_MEMORY: u64 = 86_400_000;
/// Milliseconds for which a source is not banned after it was found to have a connection.
const CONNECTED: u64 = 600_000;
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
    /// Whether ports that a socket listens on, or did within a day, are known by that, not to count.
    pub listening: bool,
    /// Ports that do not count, ends included.
    pub ports: Vec<(u16, u16)>,
    /// Before this nothing counts: services are still being started.
    pub calm_until: Mono,
}

impl ScanOptions {
    /// Stands for what is counted, and how (the first number). Never 0.
    pub(super) fn digest(&self) -> u16 {
        stamp(&[2, self.limit, self.interval])
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

/// Who is never banned for bare packets, which anybody can forge: this host, its gateway, its name servers,
/// proxies.
pub(super) const fn spare_set(family: Family) -> Name {
    match family {
        Family::V4 => Name::of("spare4"),
        Family::V6 => Name::of("spare6"),
    }
}

/// Who speaks for others, and so has no limits.
pub(super) const fn proxy_set(family: Family) -> Name {
    match family {
        Family::V4 => Name::of("proxy4"),
        Family::V6 => Name::of("proxy6"),
    }
}

/// Who was seen to have a connection to this host.
const fn known_set(family: Family) -> Name {
    match family {
        Family::V4 => Name::of("scan_known4"),
        Family::V6 => Name::of("scan_known6"),
    }
}

/// Those banned for bare packets.
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

/// Goes on with the first packets of a window only above `count`: a bucket that fills by less than one
/// while the window lasts.
fn over(count: u32) -> Expr {
    const DAY: u64 = 86_400;
    // Times the count, in nanoseconds, it has to fit 64 bits.
    let unit = if count <= 30_000 { 7 * DAY } else { DAY };
    expr::limit(1, unit, count, true)
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

/// Loads the source's key, and the port that the packet goes to behind it.
pub(super) fn push_pair(rule: &mut Rule, source: Source) {
    push_key(rule, source);
    let behind = REG32 + key_type(source.family()).1 / 4;
    rule.push(expr::payload(Base::Transport, 2, 2, behind));
}

/// Goes on only with TCP packets that begin something, or are to look like nothing: SYN, FIN, none, all.
fn push_probe(rule: &mut Rule) {
    push_meta(rule, libc::NFT_META_L4PROTO, libc::IPPROTO_TCP);
    rule.push(expr::payload(Base::Transport, 13, 1, REG));
    rule.push(expr::mask(REG, &[RST_ACK]));
    rule.push(expr::cmp(Cmp::Eq, REG, &[0]));
}

/// Goes on only with first datagrams of flows.
fn push_first_datagram(rule: &mut Rule) {
    push_meta(rule, libc::NFT_META_L4PROTO, libc::IPPROTO_UDP);
    super::flood::push_new(rule, false);
}

impl Guard {
    /// Takes the chains away; what is not there is added first, so that it can be deleted.
    pub(super) fn unwrite_scan(&mut self) {
        let chains = [SCAN, LOOK, OPEN, BAN];
        for chain in &chains {
            self.txn.add_chain(chain, None);
            self.txn.flush_chain(chain);
        }
        chains.iter().for_each(|chain| self.txn.delete_chain(chain));
    }

    /// Takes the sets away.
    pub(super) fn unwrite_scan_sets(&mut self) {
        self.write_scan_sets();
        for set in Family::ALL.iter().flat_map(|&f| [seen_set(f), rate_set(f), known_set(f)]) {
            self.txn.delete_set(&set);
        }
        self.txn.delete_set(&PORTS);
        self.txn.delete_set(&CALM);
    }

    /// The sets that all guards against bare packets share, or (`gone`) none: whom those never harm, and
    /// who is banned for them.
    pub(super) fn write_packet_sets(&mut self, gone: bool) {
        for family in Family::ALL {
            let key = key_type(family);
            let dynamic = libc::NFT_SET_TIMEOUT | libc::NFT_SET_EVAL;
            let size = share(family, BANS);
            self.txn.add_set(&SetSpec { size, ..SetSpec::new(ban_set(family), dynamic, key) });
            for set in [spare_set(family), proxy_set(family)] {
                self.txn.add_set(&SetSpec::new(set, libc::NFT_SET_INTERVAL, key));
            }
            if gone {
                [ban_set(family), spare_set(family), proxy_set(family)]
                    .iter()
                    .for_each(|set| self.txn.delete_set(set));
            }
        }
    }

    pub(super) fn write_scan_sets(&mut self) {
        let dynamic = libc::NFT_SET_TIMEOUT | libc::NFT_SET_EVAL;
        for family in Family::ALL {
            let key = key_type(family);
            for (set, key, most) in
                [(seen_set(family), pair_type(family), COUNTED), (rate_set(family), key, COUNTED)]
            {
                let size = share(family, most);
                self.txn.add_set(&SetSpec { size, ..SetSpec::new(set, dynamic, key) });
            }
            self.txn.add_set(&SetSpec::new(known_set(family), libc::NFT_SET_TIMEOUT, key));
        }
        let ports = SetSpec::new(PORTS, dynamic, (INET_SERVICE, 2));
        self.txn.add_set(&SetSpec { size: PORTS_MAX, ..ports });
        self.txn.add_set(&SetSpec::new(CALM, libc::NFT_SET_TIMEOUT, NF_PROTO));
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
        for set in [seen_set(Family::V6), rate_set(Family::V6)] {
            self.txn.flush_set(&set);
        }
    }

    /// Has the gate drop what those begin who are banned for bare packets.
    pub(super) fn write_packet_bans(&mut self, made: Made) {
        for source in sources(made.ipv6_prefix) {
            let mut rule = Rule::new();
            push_probe(&mut rule);
            push_key(&mut rule, source);
            push_jump(&mut rule, &ban_set(source.family()), source.family());
            self.txn.add_rule(&layout::GATE, &rule, false, Optional::Scan);
        }
    }

    /// Likewise for datagrams, which only connection tracking can tell first ones of; `None` takes it away.
    pub(super) fn write_begin(&mut self, made: Option<Made>) {
        self.txn.add_chain(&BEGIN, None);
        self.txn.flush_chain(&BEGIN);
        self.txn.delete_chain(&BEGIN);
        let Some(made) = made else { return };
        let number = match self.options.reach {
            Reach::HostAndForward => libc::NF_INET_PRE_ROUTING,
            Reach::Host => libc::NF_INET_LOCAL_IN,
            Reach::Forward => libc::NF_INET_FORWARD,
        };
        self.txn.add_chain(&BEGIN, Some(Hook { priority: PRIORITY_BEGIN, ..Hook::new(number) }));
        for source in sources(made.ipv6_prefix) {
            let mut rule = Rule::new();
            push_first_datagram(&mut rule);
            push_key(&mut rule, source);
            push_jump(&mut rule, &ban_set(source.family()), source.family());
            self.txn.add_rule(&BEGIN, &rule, false, Optional::Flood);
        }
    }

    /// Whether first datagrams are told from others: not for the sake of this alone would connections be
    /// tracked.
    pub(super) fn tracks(&self, made: Made) -> bool {
        let udp = self.options.scan.as_ref().is_some_and(|scan| scan.udp) && made.scans != 0;
        (udp || made.floods != 0) && made.lacks & lack::FLOOD == 0
    }

    /// Writes the chains; the sets are there.
    pub(super) fn write_scan(&mut self, made: Made) {
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
                let mut rule = Rule::new();
                if datagrams {
                    // What comes on an old flow was asked for, when the one who asked is gone, too: voice
                    // after hanging up.
                    push_first_datagram(&mut rule);
                    let (from, to) = TRACEROUTE;
                    rule.push(expr::payload(Base::Transport, 2, 2, REG));
                    rule.push(expr::range(Cmp::Neq, REG, &from.to_be_bytes(), &to.to_be_bytes()));
                } else {
                    push_probe(&mut rule);
                }
                if let Some(name) = interface {
                    push_interface(&mut rule, name);
                }
                rule.push(expr::verdict(Verdict::Goto(&LOOK)));
                self.scan_rule(&SCAN, &rule, if datagrams { Optional::Flood } else { Optional::Scan });
            }
        }
        // No chain is empty: one that is was flushed by others.
        let mut rule = Rule::new();
        rule.push(expr::verdict(Verdict::Accept));
        self.scan_rule(&SCAN, &rule, Optional::Scan);
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
        if scan.listening && made.lacks & lack::SOCKET == 0 {
            let mut rule = Rule::new();
            rule.push(expr::socket(SOCKET_TRANSPARENT, REG));
            // Whatever it is: without a socket the rule ends before.
            rule.push(expr::cmp(Cmp::AtMost, REG, &[1]));
            rule.push(expr::verdict(Verdict::Goto(&OPEN)));
            self.scan_rule(&LOOK, &rule, Optional::Socket);
        }
        // In a chain of its own: a full set must not make an open port a closed one.
        let mut rule = Rule::new();
        rule.push(expr::payload(Base::Transport, 2, 2, REG));
        rule.push(expr::dynset(&PORTS, 0, REG, PORT_MEMORY, true, None));
        self.scan_rule(&OPEN, &rule, Optional::Scan);
        let mut rule = Rule::new();
        rule.push(expr::meta(libc::NFT_META_NFPROTO, REG));
        rule.push(expr::lookup(Cmp::Eq, &CALM, 0, REG));
        rule.push(back());
        self.scan_rule(&LOOK, &rule, Optional::Scan);
        if scan.listening {
            let mut rule = Rule::new();
            rule.push(expr::payload(Base::Transport, 2, 2, REG));
            rule.push(expr::lookup(Cmp::Eq, &PORTS, 0, REG));
            rule.push(back());
            self.scan_rule(&LOOK, &rule, Optional::Scan);
        }
        self.write_count(scan, made);
    }

    /// Counts the closed ports of each source within a window that begins with the first one.
    fn write_count(&mut self, scan: &ScanOptions, made: Made) {
        let window = u64::from(scan.interval) * 1000;
        for source in sources(made.ipv6_prefix) {
            let family = source.family();
            let mut rule = Rule::new();
            push_pair(&mut rule, source);
            rule.push(expr::lookup(Cmp::Eq, &seen_set(family), 0, REG));
            rule.push(expr::verdict(Verdict::Return));
            self.scan_rule(&LOOK, &rule, Optional::Scan);
            // In one rule, so that nothing is counted that could not be noted as seen. The count is added
            // to and not prolonged: it ends with its window, and a port counts once in it.
            let mut rule = Rule::new();
            push_pair(&mut rule, source);
            rule.push(expr::dynset(&seen_set(family), 0, REG, window, false, None));
            rule.push(expr::dynset(&rate_set(family), 0, REG, window, false, Some(over(scan.limit))));
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
        }
        let tells = made.lacks & lack::TELL == 0;
        for source in sources(made.ipv6_prefix) {
            let family = source.family();
            let mut rule = Rule::new();
            push_key(&mut rule, source);
            rule.push(expr::lookup(Cmp::Eq, &known_set(family), 0, REG));
            rule.push(expr::verdict(Verdict::Return));
            self.scan_rule(&BAN, &rule, Optional::Scan);
            let mut rule = Rule::new();
            push_key(&mut rule, source);
            let life = u64::from(scan.bantime) * 1000;
            rule.push(expr::dynset(&ban_set(family), 0, REG, life, false, None));
            if tells {
                rule.push(expr::nflog(Alarm::Scan.prefix(), crate::firewall::nflog::ALARMS, SNAPLEN));
            }
            rule.push(expr::counter());
            rule.push(expr::verdict(Verdict::Drop));
            self.scan_rule(&BAN, &rule, if tells { Optional::Tell } else { Optional::Scan });
        }
    }

    /// Replaces whom bare packets never have banned (`spared`), and who has no limits beside (`proxies`).
    /// In an IPv6 prefix that one of them is in, everybody counts alone.
    ///
    /// # Errors
    /// What the kernel refused; then the former ones stay.
    pub fn set_spared(&mut self, spared: &[Range], proxies: &[Range]) -> Result<(), Failure> {
        let Some(made) = self.made.filter(|made| made.keeps_singles()) else { return Ok(()) };
        let all = || spared.iter().chain(proxies).copied();
        let whole = |range: Range| {
            let [first, last] =
                [range.first(), range.last()].map(|addr| Range::from(prefix(addr, made.ipv6_prefix)));
            Range::new(first.first(), last.last()).unwrap_or(range)
        };
        let single = SINGLE.iter().map(|net| Range::from(ipnet::IpNet::V6(*net)));
        let mut single: Vec<Range> =
            single.chain(all().filter(|range| range.family() == Family::V6).map(whole)).collect();
        merge(&mut single);
        self.txn.flush_set(&layout::SINGLE6);
        single.iter().for_each(|range| self.write_range(&layout::SINGLE6, range, Timeout::None, ""));
        if made.bare_packets() {
            self.fill(spare_set, all().collect());
            self.fill(proxy_set, proxies.to_vec());
        }
        Ok(self.txn.commit(&mut self.socket)?)
    }

    /// Writes the content of an interval set of each family.
    fn fill(&mut self, set: fn(Family) -> Name, mut ranges: Vec<Range>) {
        merge(&mut ranges);
        Family::ALL.iter().for_each(|&family| self.txn.flush_set(&set(family)));
        for range in &ranges {
            self.write_range(&set(range.family()), range, Timeout::None, "");
        }
    }

    /// Whether the ports that sockets listen on have to be told to the kernel.
    #[must_use]
    pub fn wants_open_ports(&self) -> bool {
        self.remembers_ports() && self.made.is_some_and(|made| made.lacks & lack::SOCKET != 0)
    }

    /// Whether ports that something listens on are remembered.
    #[must_use]
    pub fn remembers_ports(&self) -> bool {
        let listening = self.options.scan.as_ref().is_some_and(|scan| scan.listening);
        listening && self.made.is_some_and(|made| made.scans != 0)
    }

    /// Ports that something has listened on, each for how many milliseconds more that is remembered.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn open_ports(&mut self) -> Result<Vec<(u16, u64)>, Failure> {
        let ports = std::cell::RefCell::new(Vec::new());
        if self.remembers_ports() {
            query::elements(
                &mut self.socket,
                &TABLE,
                &PORTS,
                &mut || ports.borrow_mut().clear(),
                &mut |e| {
                    if let Ok(port) = e.key.try_into() {
                        ports.borrow_mut().push((u16::from_be_bytes(port), e.left_ms));
                    }
                },
            )?;
        }
        Ok(ports.into_inner())
    }

    /// Has ports remembered as open for so many milliseconds from now.
    ///
    /// # Errors
    /// What the kernel refused; then none of them is.
    pub fn set_open_ports(&mut self, ports: &[(u16, u64)]) -> Result<(), Failure> {
        if !self.remembers_ports() {
            return Ok(());
        }
        // Old kernels keep the first time: what is added can be deleted without an error, and added anew.
        for adds in [true, false, true] {
            for (port, left) in ports.iter().take(PORTS_TOLD_MAX) {
                let key = &port.to_be_bytes();
                let timeout = if adds { Timeout::Ms((*left).max(1)) } else { Timeout::None };
                let elem = Elem { key, end: None, timeout, comment: "" };
                if adds { self.txn.add_elem(&PORTS, &elem) } else { self.txn.delete_elem(&PORTS, &elem) }
            }
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
                let Some(from) = host(source, made) else { return };
                let port = u16::from_be_bytes([a, b]);
                for s in scanners.iter_mut().filter(|s| s.who == from) {
                    if s.ports.len() < PORTS_TOLD && !s.ports.contains(&port) {
                        s.ports.push(port);
                    }
                }
            })?;
        }
        Ok(())
    }

    /// Ends the ban of a scanner that was none. `connected`: it is not banned for a time, since it has a
    /// connection.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn pardon(&mut self, who: &Range, connected: bool) -> Result<bool, Failure> {
        let (family, key) = (who.family(), who.key());
        if connected && self.scan_rate(family).is_some() {
            let timeout = Timeout::Ms(CONNECTED);
            self.txn
                .add_elem(&known_set(family), &Elem { key: key.bytes(), end: None, timeout, comment: "" });
            self.txn.commit(&mut self.socket)?;
        }
        if let Some(rate) = self.scan_rate(family) {
            self.remove_key(&rate, Key::bytes(&key))?;
        }
        self.remove_key(&ban_set(family), Key::bytes(&key))
    }

    /// Bans for what bare packets did, as the kernel itself does: only what begins something is dropped,
    /// and no journal puts it back.
    ///
    /// # Errors
    /// What the kernel refused: all places are taken (ENFILE), or the table is not there.
    pub fn ban_for_packets(&mut self, who: &Range, secs: u64, comment: &str) -> Result<(), Failure> {
        let timeout = Timeout::Ms(secs.saturating_mul(1000));
        let key = who.key();
        let set = ban_set(who.family());
        // What is there already is made anew, so that the time and the words are these.
        let elem = Elem { key: key.bytes(), end: None, timeout, comment };
        self.txn.add_elem(&set, &elem);
        self.txn.delete_elem(&set, &Elem { timeout: Timeout::None, comment: "", ..elem });
        self.txn.add_elem(&set, &elem);
        Ok(self.txn.commit(&mut self.socket)?)
    }
}
