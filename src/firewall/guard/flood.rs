#![forbid(unsafe_code)]
//! Floods of services, held back inside the kernel: each source has limits for each port. Who is over one
//! goes into the throttle for a time, and what is over it is dropped. Bans are not made here, and nothing
//! that is proven suffers: what belongs to a connection that is there passes, whatever others have sent in
//! its name.
//!
//! What packets write to has a size. When a set is full, nobody new is counted in it and nothing is dropped
//! for that.

use super::bare::{BANS, exempt_set, proxy_set};
use super::change::BATCH;
use super::feature::{Feature, Stale};
use super::layout;
use super::list::host;
use super::scan::{COUNTED, PRIORITY_MANGLE, pair_type, push_interface, push_pair, share, stamp};
use super::words::{PacketSource, end, key_type, push_key, push_meta, push_source, sources};
use super::{Guard, TABLE, TableState};
use crate::ban::{Alarm, Capability, Failure, FloodLimit, FloodLimits, FloodOptions, Options};
use crate::base::name::{IfName, Name};
use crate::base::range::{Family, Range};
use crate::firewall::alarm::{ALARMS, SNAPLEN};
use crate::firewall::nft::expr::{self, Cmp, NftVerdict, PayloadBase, REG};
use crate::firewall::nft::{Expr, Hook, NftRule, Optional, SetSpec, query};

/// Packets that can begin a connection to a guarded port leave this chain for `LOOK`.
const FLOOD: Name = Name::of("flood");
const LOOK: Name = Name::of("flood_look");
/// Where everything of a throttled source goes, if everything is to be dropped.
const HELD: Name = Name::of("flood_held");

/// `NF_CT_STATE_BIT` of IP_CT_NEW, IP_CT_ESTABLISHED and IP_CT_RELATED.
const CT_NEW: u32 = 8;
const CT_OLD: u32 = 2 | 4;
/// Flags byte of the TCP header, and in it SYN and ACK.
const TCP_FLAGS: u32 = 13;
const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;

impl FloodLimit {
    /// Where packets over it go, and what counts.
    const fn names(self) -> (Name, [Name; 2]) {
        match self {
            FloodLimit::Syn => (Name::of("flood_syn"), [Name::of("flood_syn4"), Name::of("flood_syn6")]),
            FloodLimit::New => (Name::of("flood_new"), [Name::of("flood_new4"), Name::of("flood_new6")]),
            FloodLimit::Conns => (Name::of("flood_conn"), [Name::of("flood_conn4"), Name::of("flood_conn6")]),
        }
    }

    const fn set(self, family: Family) -> Name {
        let (_, [v4, v6]) = self.names();
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }
}

/// Who is held back.
const fn throttle_set(family: Family) -> Name {
    match family {
        Family::V4 => Name::of("throttle4"),
        Family::V6 => Name::of("throttle6"),
    }
}

impl FloodOptions {
    /// Stands for the limits: what was counted by others is of no use. Never 0.
    pub(super) fn digest(&self) -> u16 {
        let mut numbers = Vec::new();
        for (from, to, limits) in &self.ports {
            let FloodLimits { syn, new, conns } = *limits;
            numbers.extend([(*from).into(), (*to).into(), syn.0, syn.1, new.0, new.1, conns]);
        }
        stamp(&numbers)
    }
}

/// Goes on only if the packet goes to a TCP port of the range.
fn push_port(rule: &mut NftRule, from: u16, to: u16) {
    push_meta(rule, libc::NFT_META_L4PROTO, libc::IPPROTO_TCP);
    let (from, to) = (from.to_be_bytes(), to.to_be_bytes());
    rule.push(expr::payload(PayloadBase::Transport, 2, 2, REG));
    rule.push(if from == to {
        expr::cmp(Cmp::Eq, REG, &from)
    } else {
        expr::range(Cmp::Eq, REG, &from, &to)
    });
}

/// Which packets a rule goes on with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Only {
    /// Those that are asked for.
    These,
    /// All others.
    Others,
}

/// Asks for a SYN that is no answer.
fn push_syn(rule: &mut NftRule, only: Only) {
    rule.push(expr::payload(PayloadBase::Transport, TCP_FLAGS, 1, REG));
    rule.push(expr::mask(REG, &[SYN_ACK]));
    rule.push(expr::cmp(if only == Only::These { Cmp::Eq } else { Cmp::Neq }, REG, &[SYN]));
}

/// Asks for the first packets of connections.
pub(super) fn push_new(rule: &mut NftRule, only: Only) {
    push_state(rule, CT_NEW, only);
}

/// Asks for packets of connections in one of these states.
fn push_state(rule: &mut NftRule, bits: u32, only: Only) {
    rule.push(expr::ct(libc::NFT_CT_STATE, REG));
    rule.push(expr::mask(REG, &bits.to_ne_bytes()));
    rule.push(expr::cmp(if only == Only::These { Cmp::Neq } else { Cmp::Eq }, REG, &[0; 4]));
}

/// Milliseconds after which an unused bucket is full again.
fn life((rate, burst): (u32, u32)) -> u64 {
    (u64::from(burst.div_ceil(rate.max(1))) + 1) * 1000
}

/// Limits for each source.
pub struct Flood;

impl Feature for Flood {
    fn word(&self) -> &'static str {
        "flood"
    }

    fn owns(&self, name: &str) -> bool {
        ["flood", "throttle"].iter().any(|own| name.starts_with(own))
    }

    fn part(&self) -> Capability {
        Capability::Floods
    }

    fn digest(&self, options: &Options) -> u16 {
        options.flood.as_ref().map_or(0, FloodOptions::digest)
    }

    fn bans(&self) -> bool {
        true
    }

    fn tracks(&self, _: &Options) -> bool {
        true
    }

    fn chains(&self) -> &'static [Name] {
        const ALL: [Name; 6] = [
            FLOOD,
            LOOK,
            HELD,
            FloodLimit::Syn.names().0,
            FloodLimit::New.names().0,
            FloodLimit::Conns.names().0,
        ];
        &ALL
    }

    fn write_sets(&self, guard: &mut Guard) {
        for family in Family::ALL {
            let pairs = pair_type(family);
            let timed = libc::NFT_SET_TIMEOUT | libc::NFT_SET_EVAL;
            for (set, flags, key, most) in [
                (FloodLimit::Syn.set(family), timed, pairs, COUNTED),
                (FloodLimit::New.set(family), timed, pairs, COUNTED),
                // Whoever has no connection any more is forgotten by the kernel.
                (FloodLimit::Conns.set(family), libc::NFT_SET_EVAL, pairs, COUNTED),
                (throttle_set(family), timed, key_type(family), BANS),
            ] {
                let size = share(family, most);
                guard.txn.add_set(&SetSpec { size, ..SetSpec::new(set, flags, key) });
            }
        }
    }

    fn delete_sets(&self, guard: &mut Guard) {
        delete_counts(guard);
        Family::ALL.iter().for_each(|&family| guard.txn.delete_set(&throttle_set(family)));
    }

    fn write(&self, guard: &mut Guard, made: TableState) {
        guard.write_flood(made);
    }

    fn forget(&self, guard: &mut Guard, stale: Stale) {
        if stale == Stale::Digest {
            // What counts connections holds them: only a new set forgets its limit.
            delete_counts(guard);
            return self.write_sets(guard);
        }
        FloodLimit::ALL.iter().for_each(|limit| guard.txn.flush_set(&limit.set(Family::V6)));
        guard.txn.flush_set(&throttle_set(Family::V6));
    }
}

fn delete_counts(guard: &mut Guard) {
    for family in Family::ALL {
        FloodLimit::ALL.iter().for_each(|limit| guard.txn.delete_set(&limit.set(family)));
    }
}

impl Guard {
    fn flood_rule(&mut self, chain: &Name, rule: &NftRule) {
        self.txn.add_rule(chain, rule, Optional::Part(Capability::Floods));
    }

    fn write_flood(&mut self, made: TableState) {
        let Some(flood) = self.options.flood.clone() else { return };
        // Behind connection tracking and before DNAT, so that a published port is the one that was asked for.
        let pre = Hook { priority: PRIORITY_MANGLE, ..Hook::new(libc::NF_INET_PRE_ROUTING) };
        self.txn.add_chain(&FLOOD, Some(pre));
        self.txn.add_chain(&LOOK, None);
        self.txn.add_chain(&HELD, None);
        FloodLimit::ALL.iter().for_each(|limit| self.txn.add_chain(&limit.names().0, None));
        let mut rule = NftRule::new();
        if let Some(lo) = IfName::new("lo") {
            push_interface(&mut rule, &lo);
        }
        self.flood_rule(&FLOOD, &end(rule, NftVerdict::Accept));
        if flood.drop {
            let mut rule = NftRule::new();
            push_state(&mut rule, CT_OLD, Only::These);
            self.flood_rule(&FLOOD, &end(rule, NftVerdict::Accept));
            for source in sources(made.ipv6_prefix) {
                self.flood_rule(&FLOOD, &end(throttled(source), NftVerdict::Goto(&HELD)));
            }
        }
        // Connections that are there pay for nothing but this.
        let mut rule = NftRule::new();
        push_meta(&mut rule, libc::NFT_META_L4PROTO, libc::IPPROTO_TCP);
        push_syn(&mut rule, Only::Others);
        push_new(&mut rule, Only::Others);
        self.flood_rule(&FLOOD, &end(rule, NftVerdict::Accept));
        for (from, to, limits) in &flood.ports {
            let mut rule = NftRule::new();
            push_port(&mut rule, *from, *to);
            self.flood_rule(&FLOOD, &end(rule, NftVerdict::Goto(&LOOK)));
            self.write_limits((*from, *to), *limits, made);
        }
        self.write_exempt(&HELD, exempt_set);
        let mut rule = NftRule::new();
        rule.push(expr::counter());
        self.flood_rule(&HELD, &end(rule, NftVerdict::Drop));
        FloodLimit::ALL.into_iter().for_each(|limit| self.write_over(limit, flood.timeout, made));
    }

    fn write_limits(&mut self, (from, to): (u16, u16), limits: FloodLimits, made: TableState) {
        let all = || sources(made.ipv6_prefix);
        for (limit, source) in FloodLimit::ALL.into_iter().flat_map(|limit| all().map(move |s| (limit, s))) {
            let family = source.family();
            if limit == FloodLimit::Conns && made.missing.has(Capability::Connections) {
                continue;
            }
            let mut rule = NftRule::new();
            push_port(&mut rule, from, to);
            if limit == FloodLimit::Syn {
                push_syn(&mut rule, Only::These)
            } else {
                push_new(&mut rule, Only::These)
            }
            push_pair(&mut rule, source);
            let (life, over) = match limit {
                FloodLimit::Syn => (life(limits.syn), bucket(limits.syn)),
                FloodLimit::New => (life(limits.new), bucket(limits.new)),
                FloodLimit::Conns => (0, expr::connlimit(limits.conns, expr::LimitSide::Above)),
            };
            // A rate is of use as long as packets come, a count as long as there are connections.
            let op = if life > 0 { expr::DynsetOp::Update } else { expr::DynsetOp::Add };
            rule.push(expr::dynset(&limit.set(family), 0, REG, life, op, Some(over)));
            let (chain, _) = limit.names();
            let rule = end(rule, NftVerdict::Goto(&chain));
            let optional = if limit == FloodLimit::Conns {
                Optional::Part(Capability::Connections)
            } else {
                Optional::Part(Capability::Floods)
            };
            self.txn.add_rule(&LOOK, &rule, optional);
        }
        let mut rule = NftRule::new();
        push_port(&mut rule, from, to);
        self.flood_rule(&LOOK, &end(rule, NftVerdict::Return));
    }

    /// Lets those pass who are on the allow list, or in the sets of `others`.
    fn write_exempt(&mut self, chain: &Name, others: fn(Family) -> Name) {
        for family in Family::ALL {
            for set in [layout::allow_set(family), layout::allow_timed_set(family), others(family)] {
                let mut rule = NftRule::new();
                push_source(&mut rule, family, 128);
                rule.push(expr::lookup(Cmp::Eq, &set, 0, REG));
                self.flood_rule(chain, &end(rule, NftVerdict::Accept));
            }
        }
    }

    /// What becomes of packets over a limit.
    fn write_over(&mut self, limit: FloodLimit, timeout: u32, made: TableState) {
        let (chain, _) = limit.names();
        // Not the gateway: a router that masquerades speaks for everybody behind it, and would be without
        // limits.
        self.write_exempt(&chain, proxy_set);
        let tells = !made.missing.has(Capability::Reports);
        for source in sources(made.ipv6_prefix) {
            let mut rule = throttled(source);
            rule.push(expr::counter());
            self.flood_rule(&chain, &end(rule, NftVerdict::Drop));
            // The packet that brings its source into the throttle is the one that is told of.
            let mut rule = NftRule::new();
            push_key(&mut rule, source);
            let life = u64::from(timeout) * 1000;
            rule.push(expr::dynset(&throttle_set(source.family()), 0, REG, life, expr::DynsetOp::Add, None));
            if tells {
                rule.push(expr::nflog(Alarm::Flood(limit).prefix(), ALARMS, SNAPLEN));
            }
            rule.push(expr::counter());
            let rule = end(rule, NftVerdict::Drop);
            self.txn.add_rule(
                &chain,
                &rule,
                if tells { Optional::Part(Capability::Reports) } else { Optional::Part(Capability::Floods) },
            );
        }
        // The throttle is full: it is over the limit all the same.
        let mut rule = NftRule::new();
        rule.push(expr::counter());
        self.flood_rule(&chain, &end(rule, NftVerdict::Drop));
    }

    /// Sources in the throttle now.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn throttled(&mut self) -> Result<u64, Failure> {
        let mut count = 0;
        for family in Family::ALL.into_iter().filter(|_| self.made.is_some_and(|made| made.has(&Flood))) {
            let set = throttle_set(family);
            query::elements(&mut self.socket, &TABLE, &set, &mut || (), &mut |_| count += 1)?;
        }
        Ok(count)
    }

    /// Calls `each` with every source in the throttle and the seconds that it stays there.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn each_throttled(&mut self, each: &mut dyn FnMut(Range, u64)) -> Result<(), Failure> {
        let Some(made) = self.probe()? else { return Ok(()) };
        for family in Family::ALL {
            let Some(set) = self.throttle(family) else { continue };
            let mut found = Vec::new();
            query::elements(&mut self.socket, &TABLE, &set, &mut || (), &mut |e| {
                found.extend(host(e.key, made).map(|addr| (addr, e.left_ms / 1000)));
            })?;
            // A dump may tell of one twice.
            found.sort_unstable();
            found.dedup_by_key(|(addr, _)| *addr);
            found.into_iter().for_each(|(addr, left)| each(addr, left));
        }
        Ok(())
    }

    /// Takes sources out of the throttle, all if no range is given; how many.
    ///
    /// # Errors
    /// The system call, or what the kernel refused.
    pub fn end_throttle(&mut self, ranges: &[Range]) -> Result<usize, Failure> {
        let mut found = Vec::new();
        let wanted = |addr: &Range| ranges.is_empty() || ranges.iter().any(|range| range.meets(addr));
        self.each_throttled(&mut |addr, _| found.extend(Some(addr).filter(wanted)))?;
        let mut ended = 0;
        for batch in found.chunk_by(|a, b| a.family() == b.family()).flat_map(|part| part.chunks(BATCH)) {
            let set = batch.first().and_then(|addr| self.throttle(addr.family()));
            if let Some(set) = set {
                ended += self.remove_keys(&set, batch)?.len();
            }
        }
        Ok(ended)
    }

    /// The throttle of a family, if there is one.
    pub(super) fn throttle(&self, family: Family) -> Option<Name> {
        self.made.filter(|made| made.has(&Flood)).map(|_| throttle_set(family))
    }
}

fn bucket((rate, burst): (u32, u32)) -> Expr {
    expr::limit(rate.into(), 1, burst, expr::LimitSide::Above)
}

/// Goes on only with packets of sources in the throttle.
fn throttled(source: PacketSource) -> NftRule {
    let mut rule = NftRule::new();
    push_key(&mut rule, source);
    rule.push(expr::lookup(Cmp::Eq, &throttle_set(source.family()), 0, REG));
    rule
}
