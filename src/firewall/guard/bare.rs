#![forbid(unsafe_code)]
//! What the guards against bare packets share: whom these never harm, who is banned for them, and what such a
//! ban drops.
//!
//! The sender of a lone packet is not proven, so nothing that is proven suffers: such a ban drops what
//! begins something (TCP without ACK and RST, the first datagram of a flow), never a packet of a connection
//! that is there.

use super::layout;
use super::scan::{PRIORITY_MANGLE, share};
use super::scope::SetKind;
use super::words::{key_type, push_jump, push_key, push_meta, sources};
use super::{Guard, TableState};
use crate::ban::Pardon;
use crate::ban::{Capability, Failure, Reach, Scope, Standing};
use crate::base::name::Name;
use crate::base::net::{SINGLE, prefix};
use crate::base::range::{AddrKey, Family, Range, merge};
use crate::firewall::nft::elem::{Elem, Timeout};
use crate::firewall::nft::expr::{self, Cmp, PayloadBase, REG};
use crate::firewall::nft::{Hook, NftRule, Optional, SetSpec};

/// Drops first datagrams of those banned, after connection tracking.
pub(super) const BEGIN: Name = Name::of("begin");
/// Behind connection tracking (-200), before the guard of floods.
const PRIORITY_BEGIN: i32 = PRIORITY_MANGLE - 1;
/// RST and ACK in the flags byte of TCP: only what begins a connection, or probes, has neither.
const RST_ACK: u8 = 0x14;
/// Bans at most.
pub(in crate::firewall) const BANS: u32 = 4096;
/// Milliseconds for which a source is not banned after it was found to have a connection.
pub(in crate::firewall) const CONNECTED: u64 = 600_000;

/// Who is never banned for bare packets, which anybody can forge: this host, its gateway, its name servers,
/// proxies.
pub(super) const fn exempt_set(family: Family) -> Name {
    match family {
        Family::V4 => Name::of("exempt4"),
        Family::V6 => Name::of("exempt6"),
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
pub(super) const fn known_set(family: Family) -> Name {
    match family {
        Family::V4 => Name::of("scan_known4"),
        Family::V6 => Name::of("scan_known6"),
    }
}

/// Those banned for bare packets.
pub(super) fn ban_set(family: Family) -> Name {
    Scope::ALL.set(SetKind::Scans, family)
}

/// Goes on only with TCP packets that begin something, or are to look like nothing: SYN, FIN, none, all.
pub(super) fn push_probe(rule: &mut NftRule) {
    push_meta(rule, libc::NFT_META_L4PROTO, libc::IPPROTO_TCP);
    rule.push(expr::payload(PayloadBase::Transport, 13, 1, REG));
    rule.push(expr::mask(REG, &[RST_ACK]));
    rule.push(expr::cmp(Cmp::Eq, REG, &[0]));
}

/// Goes on only with first datagrams of flows.
pub(super) fn push_first_datagram(rule: &mut NftRule) {
    push_meta(rule, libc::NFT_META_L4PROTO, libc::IPPROTO_UDP);
    super::flood::push_new(rule, super::flood::Only::These);
}

impl Guard {
    /// Takes away the sets that all guards against bare packets share, whether they are there or not.
    pub(super) fn delete_packet_sets(&mut self) {
        self.write_packet_sets();
        for family in Family::ALL {
            let shared = [ban_set(family), exempt_set(family), proxy_set(family)];
            shared.iter().for_each(|set| self.txn.delete_set(set));
        }
    }

    /// The sets that all guards against bare packets share: whom those never harm, who is banned for them.
    pub(super) fn write_packet_sets(&mut self) {
        for family in Family::ALL {
            let key = key_type(family);
            let dynamic = libc::NFT_SET_TIMEOUT | libc::NFT_SET_EVAL;
            let size = share(family, BANS);
            self.txn.add_set(&SetSpec { size, ..SetSpec::new(ban_set(family), dynamic, key) });
            for set in [exempt_set(family), proxy_set(family)] {
                self.txn.add_set(&SetSpec::new(set, libc::NFT_SET_INTERVAL, key));
            }
        }
    }

    /// Has the gate drop what those begin who are banned for bare packets.
    pub(super) fn write_packet_bans(&mut self, made: TableState) {
        for source in sources(made.ipv6_prefix) {
            let mut rule = NftRule::new();
            push_probe(&mut rule);
            push_key(&mut rule, source);
            push_jump(&mut rule, &ban_set(source.family()), source.family());
            self.txn.add_rule(&layout::GATE, &rule, Optional::Part(Capability::Scans));
        }
    }

    /// Likewise for datagrams, which only connection tracking can tell first ones of; `None` takes it away.
    pub(super) fn write_begin(&mut self, made: Option<TableState>) {
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
            let mut rule = NftRule::new();
            push_first_datagram(&mut rule);
            push_key(&mut rule, source);
            push_jump(&mut rule, &ban_set(source.family()), source.family());
            self.txn.add_rule(&BEGIN, &rule, Optional::Part(Capability::Floods));
        }
    }

    /// Whether first datagrams are told from others: not for the sake of this alone would connections be
    /// tracked.
    pub(super) fn tracks(&self, made: TableState) -> bool {
        made.features.on().any(|feature| feature.tracks(&self.options))
            && !made.missing.has(Capability::Floods)
    }

    /// Replaces whom bare packets never have banned (`spared`), and who has no limits beside (`proxies`).
    /// In an IPv6 prefix that one of them is in, everybody counts alone.
    ///
    /// # Errors
    /// What the kernel refused; then the previous ones stay.
    pub fn set_exempt(&mut self, spared: &[Range], proxies: &[Range]) -> Result<(), Failure> {
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
            self.fill(exempt_set, all().collect());
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

    /// Ends the ban of a scanner that was none.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn unban_packets(&mut self, addr: &Range, pardon: Pardon) -> Result<bool, Failure> {
        let (family, key) = (addr.family(), addr.key());
        if pardon == Pardon::Connected && self.scan_rate(family).is_some() {
            let timeout = Timeout::Ms(CONNECTED);
            self.txn
                .add_elem(&known_set(family), &Elem { key: key.bytes(), end: None, timeout, comment: "" });
            self.txn.commit(&mut self.socket)?;
        }
        if let Some(rate) = self.scan_rate(family) {
            self.remove_key(&rate, AddrKey::bytes(&key))?;
        }
        self.remove_key(&ban_set(family), AddrKey::bytes(&key))
    }

    /// Who is banned for what bare packets did, and how that stands.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn packet_bans(&mut self) -> Result<Vec<(Range, Standing)>, Failure> {
        let mut all = Vec::new();
        let Some(made) = self.made.filter(|made| made.bare_packets()) else { return Ok(all) };
        for family in Family::ALL {
            let found = self.all_of(made, &ban_set(family), SetKind::Scans)?;
            all.extend(found.into_iter().map(|found| (found.addr, found.standing)));
        }
        Ok(all)
    }

    /// Bans for what bare packets did, as the kernel itself does: only what begins something is dropped,
    /// and no journal puts it back.
    ///
    /// # Errors
    /// What the kernel refused: all places are taken (ENFILE), or the table is not there.
    pub fn ban_for_packets(&mut self, addr: &Range, secs: u64, comment: &str) -> Result<(), Failure> {
        let timeout = Timeout::Ms(secs.saturating_mul(1000));
        let key = addr.key();
        let set = ban_set(addr.family());
        // What is there already is made anew, so that the time and the words are these.
        let elem = Elem { key: key.bytes(), end: None, timeout, comment };
        self.txn.add_elem(&set, &elem);
        self.txn.delete_elem(&set, &Elem { timeout: Timeout::None, comment: "", ..elem });
        self.txn.add_elem(&set, &elem);
        Ok(self.txn.commit(&mut self.socket)?)
    }
}
