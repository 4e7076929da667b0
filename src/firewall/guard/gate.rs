#![forbid(unsafe_code)]
//! The rules that ask who is banned, and what becomes of packets of those.

use super::layout::{DENY, GATE, RulePosition, allow_set, allow_timed_set, hit};
use super::scope::SetKind;
use super::words::{key_type, push_jump, push_meta, push_source};
use super::{Guard, TableState};
use crate::ban::{Capability, Options, Scope};
use crate::base::name::Name;
use crate::base::range::Family;
use crate::firewall::nft::NftRule;
use crate::firewall::nft::expr::{self, Cmp, NftVerdict, PayloadBase, REG};
use crate::firewall::nft::{Optional, SetSpec};

/// Flags of a set of bans.
pub(super) const fn ban_flags(kind: SetKind) -> i32 {
    match kind {
        SetKind::Hosts | SetKind::Scans => libc::NFT_SET_TIMEOUT,
        SetKind::Networks => libc::NFT_SET_TIMEOUT | libc::NFT_SET_INTERVAL,
    }
}

impl Guard {
    pub(super) fn write_gate(&mut self, made: TableState) {
        for family in Family::ALL {
            let mut rule = NftRule::new();
            push_source(&mut rule, family, made.ipv6_prefix);
            push_jump(&mut rule, &Scope::ALL.set(SetKind::Hosts, family), family);
            self.txn.add_rule(&GATE, &rule, Optional::No);
        }
        if made.bare_packets() {
            self.write_packet_bans(made);
        }
        self.write_jump(&DENY[0]);
        let mut rule = NftRule::new();
        push_meta(&mut rule, libc::NFT_META_L4PROTO, libc::IPPROTO_TCP);
        // The flags byte of the TCP header; SYN without ACK begins a flow.
        rule.push(expr::payload(PayloadBase::Transport, 13, 1, REG));
        rule.push(expr::mask(REG, &[0x12]));
        rule.push(expr::cmp(Cmp::Neq, REG, &[0x02]));
        rule.push(expr::verdict(NftVerdict::Accept));
        self.txn.add_rule(&GATE, &rule, Optional::No);
        for family in Family::ALL {
            let mut rule = NftRule::new();
            push_source(&mut rule, family, 128);
            push_jump(&mut rule, &Scope::ALL.set(SetKind::Networks, family), family);
            self.txn.add_rule(&GATE, &rule, Optional::No);
        }
        self.write_jump(&DENY[1]);
    }

    /// Puts an empty set of bans in the place of one that may be there: no rule looks it up at this point.
    /// Keys of another length would never be found, and to delete them one by one takes memory for each.
    pub(super) fn renew_ban_set(&mut self, spec: &SetSpec<'_>) {
        self.txn.add_set(spec);
        self.txn.delete_set(&spec.name);
        self.txn.add_set(spec);
    }

    pub(super) fn write_jump(&mut self, chain: &Name) {
        let mut rule = NftRule::new();
        rule.push(expr::verdict(NftVerdict::Jump(chain)));
        self.txn.add_rule(&GATE, &rule, Optional::No);
    }

    pub(super) fn write_hit(&mut self, family: Family, made: TableState) {
        let chain = hit(family);
        for set in [allow_set(family), allow_timed_set(family)] {
            let mut rule = NftRule::new();
            push_source(&mut rule, family, 128);
            rule.push(expr::lookup(Cmp::Eq, &set, 0, REG));
            rule.push(expr::verdict(NftVerdict::Return));
            self.txn.add_rule(&chain, &rule, Optional::No);
        }
        let Options { log, reject, .. } = &self.options;
        if let Some(log) = log.as_ref().filter(|_| made.logs) {
            let mut rule = NftRule::new();
            rule.push(expr::limit(u64::from(log.rate), 1, log.burst, expr::LimitSide::UpTo));
            rule.push(expr::log(&log.prefix, log.level));
            self.txn.add_rule(&chain, &rule, Optional::Part(Capability::DropLog));
        }
        let mut last = NftRule::new();
        last.push(expr::counter());
        if *reject {
            let mut rule = NftRule::new();
            push_meta(&mut rule, libc::NFT_META_L4PROTO, libc::IPPROTO_TCP);
            rule.push(expr::counter());
            rule.push(expr::reject_tcp());
            self.txn.add_rule(&chain, &rule, Optional::No);
            last.push(expr::reject_icmpx());
        } else {
            last.push(expr::verdict(NftVerdict::Drop));
        }
        self.txn.add_rule(&chain, &last, Optional::No);
    }

    /// Adds the sets of a scope and the rules that look them up.
    pub(super) fn write_scope(&mut self, scope: &Scope, kind: SetKind, ipv6_prefix: u8, place: RulePosition) {
        let first = place == RulePosition::First;
        let comment = format!("ports {scope}");
        for family in Family::ALL {
            let set = scope.set(kind, family);
            let spec = SetSpec::new(set, ban_flags(kind), key_type(family));
            // Two processes that add a scope at once must not both add its rules.
            let spec = SetSpec { comment: &comment, must_be_new: first, ..spec };
            match (place, family) {
                (RulePosition::Anew, Family::V6) => self.renew_ban_set(&spec),
                _ => {
                    self.txn.add_set(&spec);
                }
            }
            let prefix = if kind == SetKind::Hosts { ipv6_prefix } else { 128 };
            let transports = scope.transports();
            let protocols =
                [(transports.has_tcp(), libc::IPPROTO_TCP), (transports.has_udp(), libc::IPPROTO_UDP)];
            for (wanted, protocol) in protocols {
                for (from, to) in scope.ports().iter().filter(|_| wanted) {
                    let mut rule = NftRule::new();
                    push_meta(&mut rule, libc::NFT_META_L4PROTO, protocol);
                    rule.push(expr::payload(PayloadBase::Transport, 2, 2, REG));
                    rule.push(if from == to {
                        expr::cmp(Cmp::Eq, REG, &from.to_be_bytes())
                    } else {
                        expr::range(Cmp::Eq, REG, &from.to_be_bytes(), &to.to_be_bytes())
                    });
                    push_source(&mut rule, family, prefix);
                    push_jump(&mut rule, &set, family);
                    if first {
                        self.txn.insert_rule(&GATE, &rule, Optional::No);
                    } else {
                        self.txn.add_rule(&GATE, &rule, Optional::No);
                    }
                }
            }
        }
    }
}
